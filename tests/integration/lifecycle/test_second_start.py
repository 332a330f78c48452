"""A second start on a port or directory in use fails and says who has it; the first one goes on unharmed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shared.processes.lock import FileLock
from shared.rpc.health import check, wait_until_serving
from tests.cluster import clean_environment
from tests.integration.lifecycle.process import started
from tests.ports import free_port
from tests.valkey import running_valkey

pytestmark = pytest.mark.timeout(180)

HOLD = (
    "import pathlib, sys, time; from shared.processes.lock import FileLock\n"
    "lock = FileLock(pathlib.Path(sys.argv[1])); print(lock.take(), flush=True); time.sleep(60)"
)


@pytest.mark.parametrize("service", ["features", "adaptation", "scoring", "gateway", "training"])
async def test_a_taken_port_is_named_with_its_holder_and_setting(service: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with started(tmp_path, service, port=port) as second:
            assert await second.ends() == 1
            assert f"{service} cannot listen on 127.0.0.1:{port}: Address already in use" in second.said
            assert f"by process {os.getpid()}" in second.said
            assert f"WARMSTART_{service.upper()}_PORT" in second.said


async def test_the_first_of_two_servers_on_a_port_serves_on(tmp_path: Path) -> None:
    port = free_port()
    with running_valkey() as store:
        async with started(tmp_path, "features", port=port, store_url=store.url) as first:
            await wait_until_serving(f"127.0.0.1:{port}", 60)
            async with started(tmp_path, "features", port=port, store_url=store.url) as second:
                assert await second.ends() == 1
                assert f"by process {first.process.pid}" in second.said
            assert await check(f"127.0.0.1:{port}") == "SERVING"


def valkey(directory: Path, port: int) -> subprocess.Popen[str]:
    places = {"WARMSTART_VALKEY_DIR": str(directory), "WARMSTART_VALKEY_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.local.run_valkey"],
        env=clean_environment() | places,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def reads_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), f"{words!r} was not said"


def test_two_stores_never_share_a_directory_and_a_killed_one_leaves_it_free(tmp_path: Path) -> None:
    first = valkey(tmp_path, free_port())
    try:
        reads_until(first, "Ready to accept connections")
        second = valkey(tmp_path, free_port())
        said, _ = second.communicate(timeout=30)
        assert second.returncode == 1
        assert f"is another store's (process {first.pid} of machine {socket.gethostname()})" in said
        assert first.poll() is None
        first.kill()
        first.communicate()
        first = valkey(tmp_path, free_port())
        reads_until(first, "Ready to accept connections")
    finally:
        first.kill()
        first.communicate()


def test_a_lock_is_the_kernels_and_not_what_stands_in_the_file(tmp_path: Path) -> None:
    """A holder that was killed holds nothing, whatever it wrote; of another machine's, its name is told."""
    path = tmp_path / "lock"
    path.write_text(f"{os.getpid()} {socket.gethostname()}\n")  # as a dead process left it
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "\n"
        assert FileLock(path).take() == f"process {holder.pid}"
        path.write_text("7 another-machine\n")
        assert FileLock(path).take() == "process 7 of machine another-machine"
    finally:
        holder.kill()
        holder.communicate()
    lock = FileLock(path)
    assert lock.take() == ""
    lock.let_go()


def test_a_data_directory_that_another_machine_uses_is_named_with_it(tmp_path: Path) -> None:
    """Containers on one volume: the same process ids mean other processes."""
    lock = FileLock(tmp_path / "up.lock")
    assert lock.take() == ""
    lock.path.write_text("1 another-machine\n")
    try:
        for command in ("up", "down"):
            done = subprocess.run(
                [sys.executable, "-m", "services.cli", command, "--data-dir", str(tmp_path)],
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 1
            assert "process 1 of machine another-machine" in " ".join(done.stderr.split())
    finally:
        lock.let_go()


def test_a_run_that_a_process_works_in_is_refused_to_another(tmp_path: Path) -> None:
    """The second one leaves the run as it is: no word in its log, no result."""
    run = tmp_path / "run"
    data = ["--events", str(tmp_path / "events.csv")]
    (tmp_path / "events.csv").write_text("user,item,action,time\n")
    command = [sys.executable, "-m", "services.training", "train"]
    run.mkdir()
    begun = subprocess.Popen([sys.executable, "-c", HOLD, run / ".lock"], stdout=subprocess.PIPE, text=True)
    try:
        assert begun.stdout is not None
        assert begun.stdout.readline() == "\n"
        done = subprocess.run(
            [*command, *data, "--run-dir", str(run), "--registry", str(tmp_path / "registry")],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 2, done.stdout + done.stderr
        last = json.loads(done.stdout.splitlines()[-1])
        assert f"must be a run that nobody works in (process {begun.pid} does)" in str(last)
        assert not (run / "result.json").exists()
        assert begun.poll() is None
    finally:
        begun.kill()
        begun.communicate()
