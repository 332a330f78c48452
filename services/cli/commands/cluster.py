"""`warmstart up` and `warmstart down`."""

from __future__ import annotations

import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Annotated

import psutil
import typer

from services.cli import options, output
from services.cli.certificates import OPERATOR, files_of
from services.cli.cluster.local import LocalCluster, local_cluster, log_tail
from services.cli.cluster.lock import data_dir_lock, holder_elsewhere, lock_holder, wait_for_programs
from services.cli.cluster.ports import DEFAULT_BASE_PORT, Ports, base_ports, free_ports
from services.cli.cluster.state import ClusterState, read_state
from services.cli.failures import CommandError
from services.cli.signals import interrupted_by
from shared.auth.settings import OFF
from shared.limits import domain_rule
from shared.processes.family import has_ended

UP_EXAMPLES = options.examples(
    "warmstart up",
    "warmstart up --base-port 6000",
    "warmstart up --free-ports --detach",
    "warmstart up --tls tls",
)
DOWN_EXAMPLES = options.examples("warmstart down")
_POLL_S = 0.2
_AGAIN_S = 5.0
_STOP_S = 165.0
_LOG = "up.log"
_START_TIMEOUT_S = 120.0

BasePort = Annotated[
    int,
    typer.Option(
        help="Ports N (gateway), N+1 features, N+2 adaptation, N+3 scoring, N+4 training, N+9 valkey.",
        metavar="N",
    ),
]
Tls = Annotated[
    Path | None,
    typer.Option(
        "--tls",
        metavar="DIR",
        help="Serve and call with mutual TLS only, by what `warmstart certificates DIR` wrote.",
        file_okay=False,
        resolve_path=True,
    ),
]
FreePorts = Annotated[bool, typer.Option("--free-ports", help="Take any ports that are free.")]


def up(
    base_port: BasePort = DEFAULT_BASE_PORT,
    free: FreePorts = False,
    domains: Annotated[str, typer.Option(help="Domains served, separated by commas.")] = "",
    timeout: Annotated[
        float, typer.Option(help="Seconds until all must be healthy.", min=1.0)
    ] = _START_TIMEOUT_S,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return once all are healthy; stop with `warmstart down`.")
    ] = False,
    tls: Tls = None,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Run the whole cluster on this machine until Ctrl-C.

    That is valkey, features, adaptation, scoring, gateway and training. A program that dies is started again
    at once. Logs are in the data directory.
    """
    if tls is not None and not Path(files_of(tls, OPERATOR).ca).is_file():
        raise CommandError(
            f"no certificates are in {tls}: `warmstart certificates {shlex.quote(str(tls))}` makes them"
        )
    for domain in map(str.strip, domains.split(",") if domains else ()):
        if broken := domain_rule(domain):
            raise CommandError(f"--domains {broken}, got {domain!r}")
    if detach:
        state = start_detached(
            data_dir, base_port=base_port, free=free, domains=domains, timeout_s=timeout, tls=tls
        )
        output.stdout().print(
            f"gateway: {state.gateway} (process {state.pid};"
            f" stop it with `warmstart down{options.same_place(data_dir)}`)",
            soft_wrap=True,
        )
        return
    console = output.stderr()
    with local_cluster(data_dir, port_choice(base_port, free), domains, tls) as cluster:
        try:
            cluster.wait_until_healthy(timeout, console)
            announce(cluster)
            hold(cluster)
        except KeyboardInterrupt:
            console.print("stopping …")
    console.print("stopped")


def down(data_dir: options.DataDir = options.DATA_DIR) -> None:
    """Stop the cluster that runs, or is still starting, on this data directory.

    One whose `warmstart up` was killed ends by itself: waits for it.
    """
    process = lock_holder(data_dir)
    if process is None:
        elsewhere = holder_elsewhere(data_dir)
        if elsewhere:
            raise CommandError(f"{data_dir} is in use by {elsewhere}: stop it there")
        if wait_for_programs(data_dir):
            output.stdout().print("stopped")
            return
        raise CommandError(
            f"no cluster runs on {data_dir}; `warmstart up{options.same_place(data_dir)}` starts one"
        )
    with suppress(psutil.NoSuchProcess):  # it may end by itself just now
        process.terminate()
    deadline = time.monotonic() + _STOP_S
    while not has_ended(process):
        if time.monotonic() > deadline:
            raise CommandError(f"process {process.pid} is still stopping after {_STOP_S:g} s")
        time.sleep(_POLL_S)
    output.stdout().print("stopped")


def port_choice(base_port: int, free: bool) -> Callable[[], Ports]:
    return free_ports if free else lambda: base_ports(base_port)


def announce(cluster: LocalCluster) -> None:
    """Where to call, on stdout."""
    gateway = cluster.ports.target("gateway")
    console = output.stdout()
    console.print(f"gateway: {gateway}")
    console.print(f"logs:    {cluster.data_dir / 'logs'}")
    where = options.same_place(cluster.data_dir)
    console.print(f"Try `warmstart recommend somebody{where}`, or with any gRPC client:", soft_wrap=True)
    how = "-plaintext" if cluster.certificates is None else grpcurl_options(cluster.certificates)
    if os.environ.get("WARMSTART_GATEWAY_AUTH", OFF) != OFF:
        how += " -H 'authorization: Bearer KEY'"
    console.print(
        f'  grpcurl {how} -d \'{{"user_id": "somebody"}}\' {gateway} '
        "warmstart.gateway.v1.RecommendationService/Recommend",
        soft_wrap=True,
    )
    console.print("Ctrl-C stops everything.")


def grpcurl_options(certificates: Path) -> str:
    """What grpcurl wants of an operator's certificate."""
    files = files_of(certificates, OPERATOR)
    return " ".join(
        f"-{name} {shlex.quote(path)}"
        for name, path in (("cacert", files.ca), ("cert", files.cert), ("key", files.key))
    )


def hold(cluster: LocalCluster) -> None:
    """Until Ctrl-C. Has a program that the supervisor gave up started again, as what it lacks (room on the
    disk) may be back; says so. Raises CommandError where the supervisor dies."""
    failing: dict[str, float] = {}  # when each is started again
    while cluster.supervisor.running:
        for state in cluster.supervisor.states().values():
            if state.state == "RUNNING" and state.name in failing:
                del failing[state.name]
                _say(f"{state.name} runs again")
            if state.state != "FATAL":
                continue
            if state.name not in failing:
                log = cluster.data_dir / "logs" / f"{state.name}.log"
                _say(
                    f"{state.name} keeps failing, and is started again every few seconds; the end of {log}:\n"
                    f"{log_tail(log)}"
                )
                failing[state.name] = time.monotonic()
            if time.monotonic() >= failing[state.name]:
                cluster.supervisor.start_again(state)
                failing[state.name] = time.monotonic() + _AGAIN_S
        time.sleep(_POLL_S)
    raise CommandError(f"the supervisor died; see {cluster.supervisor.log}")


def _say(text: str) -> None:
    """The cluster goes on where this cannot be said: a detached one's output may be on a full disk."""
    with suppress(OSError):
        output.stderr().print(output.escaped(text), soft_wrap=True)


def start_detached(
    data_dir: Path, *, base_port: int, free: bool, domains: str, timeout_s: float, tls: Path | None = None
) -> ClusterState:
    """Runs `warmstart up` in a session of its own; returns once it has written its state.

    Where the caller is interrupted meanwhile, the start is too.
    """
    with data_dir_lock(data_dir):  # the log is that of who holds it
        pass
    ports = ["--free-ports"] if free else ["--base-port", str(base_port)]
    command = [sys.executable, "-m", "services.cli", "up", *ports, "--data-dir", str(data_dir)]
    command += ["--domains", domains, "--timeout", str(timeout_s), *(["--tls", str(tls)] if tls else [])]
    with interrupted_by(signal.SIGTERM, signal.SIGHUP):
        with _up_log(data_dir) as file:
            process = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        try:
            while process.poll() is None:
                state = read_state(data_dir)
                if state and state.pid == process.pid:
                    return state
                time.sleep(_POLL_S)
        except KeyboardInterrupt:
            process.terminate()
            process.wait(_STOP_S)
            raise
    raise CommandError(f"the cluster did not start:\n{_why_it_ended(data_dir / _LOG)}")


@contextmanager
def _up_log(data_dir: Path) -> Iterator[IO[bytes]]:
    """A detached cluster's output, emptied. Who is given it as output holds it until the end, so that two
    that start at once do not write into one another's."""
    with (data_dir / _LOG).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"{data_dir} is in use by another `warmstart up --detach`") from None
        file.truncate(0)
        yield file


def _why_it_ended(log: Path) -> str:
    """Its error whole, of however many lines; the log's end where it has none."""
    said = log.read_text(errors="replace")
    _, found, error = f"\n{said}".rpartition("\nerror: ")
    return (error.rstrip() if found else log_tail(log)) or f"nothing was written to {log}: is its disk full?"
