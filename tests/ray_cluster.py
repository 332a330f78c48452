"""A real Ray cluster of two nodes on this machine, with a dashboard: started as an operator starts one.

Each node has an address of its own in the loopback network (127.0.0.2 and 127.0.0.3, which Linux has without
asking), so that workers on different nodes meet as they do on different machines. Ports are free ones, files
lie in a directory with a short path (Unix sockets), the token is the cluster's own. Only what was started
here is stopped: `ray stop` would end everybody's.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.ports import free_port

HEAD, NODE = "127.0.0.2", "127.0.0.3"
_STARTED = "Ray runtime started."
_STOP_S = 40.0  # a node drains for up to 30 s


@dataclass(frozen=True)
class RayCluster:
    """Two nodes of one core each. environment: of whoever talks to it."""

    dashboard: str
    environment: Mapping[str, str]


@contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    if sys.platform != "linux":
        pytest.skip("needs a loopback network with more than one address, as Linux has it")
    gcs, dashboard, client = free_port(), free_port(), free_port()
    environment = {
        **os.environ,
        # Jobs run `python`, as on a machine where the training requirements are that of the system.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "240",  # the machine may be busy with something else
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    ports = ["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]
    head = [f"--port={gcs}", f"--dashboard-host={HEAD}", f"--dashboard-port={dashboard}"]
    with ExitStack() as stack:
        temp = tempfile.mkdtemp(prefix="wsr", dir="/tmp")
        stack.callback(shutil.rmtree, temp, ignore_errors=True)
        for name, address, more in (
            ("h", HEAD, ["--head", f"--ray-client-server-port={client}", *head]),
            ("n", NODE, [f"--address={HEAD}:{gcs}"]),
        ):
            where = [f"--node-ip-address={address}", f"--temp-dir={temp}/{name}", "--num-cpus=1"]
            stack.enter_context(_node([*where, *ports, *more], environment))
        yield RayCluster(f"http://{HEAD}:{dashboard}", environment)


@contextmanager
def _node(options: list[str], environment: Mapping[str, str]) -> Iterator[None]:
    """`ray start --block`, which stops its daemons when it is told to stop."""
    command = [
        str(Path(sys.executable).with_name("ray")),
        "start",
        "--block",
        "--object-store-memory=200000000",
    ]
    with subprocess.Popen(
        [*command, *options],
        cwd="/",  # nothing of the checkout is found by chance
        env=dict(environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _await_start(process)
            yield
        finally:
            _stop(psutil.Process(process.pid))


def _await_start(process: subprocess.Popen[str]) -> None:
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if _STARTED in line:
            return
    pytest.fail("a Ray node did not start:\n" + "".join(said))


def _stop(node: psutil.Process) -> None:
    family = [node, *node.children(recursive=True)]
    node.terminate()
    _, alive = psutil.wait_procs(family, timeout=_STOP_S)
    for process in alive:
        process.kill()  # psutil refuses a process id that was used again
    psutil.wait_procs(alive, timeout=_STOP_S)
