"""The cluster's life: up, restarted programs, down; nothing stays behind whatever ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from services.cli.cluster.lock import lock_holder
from services.cli.cluster.state import read_state
from shared.artifacts.aliases import CHAMPION, Alias, write_alias
from tests.cluster import UpProcess, clean_environment, gone, until, warmstart

pytestmark = pytest.mark.timeout(600)
_PROGRAMS = ("valkey", "features", "adaptation", "scoring", "gateway", "training")


def test_up_answers_before_a_first_model_exists(cluster: UpProcess):
    state = read_state(cluster.data_dir)
    assert state is not None
    assert cluster.run("items", "list", "--json").code == 0
    said = cluster.log.read_text()
    assert f"gateway: {state.gateway}" in said
    assert all(cluster.program(name) for name in _PROGRAMS)


def test_a_second_up_on_the_same_data_is_refused(cluster: UpProcess):
    log = cluster.data_dir / "up.log"
    log.write_text("of the one that runs\n")
    for how in ((), ("--detach",)):
        refused = cluster.run("up", "--free-ports", *how)
        assert refused.code == 1
        assert f"is in use by another `warmstart up` (process {cluster.process.pid})" in refused.err
        assert "Traceback" not in refused.err
    assert log.read_text() == "of the one that runs\n"


def test_taken_ports_are_named(cluster: UpProcess, tmp_path: Path):
    state = read_state(cluster.data_dir)
    assert state is not None
    refused = warmstart("up", "--base-port", str(state.ports.features - 1), cwd=tmp_path)
    assert refused.code == 1
    assert f"port {state.ports.features} for features is taken" in refused.err


def test_a_running_cluster_is_backed_up_while_it_serves(cluster: UpProcess):
    assert cluster.run("items", "add", "backed-up", "A title", "--json").code == 0
    done = cluster.run("store", "backup", "backup.tar", "--json")
    assert done.code == 0, done.err
    assert done.json()["domains"][0]["items"] >= 1
    listed = cluster.run("store", "erasures", "erasures.json", "--json")
    assert listed.code == 0, listed.err
    refused = cluster.run("store", "restore", "backup.tar", "--replace")
    assert refused.code == 1
    assert "is in use by another `warmstart up`" in refused.err


@pytest.mark.parametrize("name", ["features", "gateway", "valkey", "training"])
def test_a_killed_program_is_back_at_once(cluster: UpProcess, name: str):
    before = cluster.program(name)
    assert before is not None
    before.kill()
    after = until(lambda: (p := cluster.program(name)) and p.pid != before.pid and p, 20.0)
    assert after.is_running()
    until(lambda: cluster.run("items", "list", "--json").code == 0)
    stored = cluster.run("items", "add", f"after-{name}", "A title", "--json")
    assert stored.code == 0, stored.err


@pytest.mark.parametrize(
    # Every cluster of these tests is stopped by SIGTERM.
    "how",
    [*(pytest.param(s, marks=pytest.mark.slow) for s in (signal.SIGTERM, signal.SIGINT)), signal.SIGKILL],
)
def test_nothing_stays_behind(tmp_path: Path, how: signal.Signals):
    """Asked to stop, interrupted, or killed with -9, here while it is still starting. After a kill `down`
    waits for the programs that the kernel stops."""
    up = UpProcess(tmp_path)
    try:
        until(lambda: all(up.program(name) for name in _PROGRAMS))
        family = up.family()
        store = up.program("valkey")
        assert store is not None
        if how is signal.SIGKILL:
            store.suspend()  # so that it is still there
        up.process.send_signal(how)
        code = up.process.wait(60)
        if how is signal.SIGKILL:
            command = [sys.executable, "-m", "services.cli", "down"]
            pipe = subprocess.PIPE
            with subprocess.Popen(
                command, cwd=tmp_path, env=clean_environment(), stdout=pipe, stderr=pipe, text=True
            ) as down:
                assert down.stderr is not None
                assert "waits for the programs" in down.stderr.readline()
                store.resume()
                assert down.communicate(timeout=60) == ("stopped\n", "")
        until(lambda: gone(family), 60.0)
    finally:
        up.stop()
    assert code == (-signal.SIGKILL if how is signal.SIGKILL else 0), up.log.read_text()
    assert read_state(up.data_dir) is None


def test_a_detached_cluster_is_stopped_by_down(tmp_path: Path):
    """Also in a place whose name supervisord would fill in, and with a champion that cannot be served."""
    shop = tmp_path / "50%(off)s"
    domain = shop / "var/registry/default"
    domain.mkdir(parents=True)
    write_alias(domain, CHAMPION, Alias("v-that-is-lost"))
    started = warmstart("up", "--free-ports", "--detach", cwd=shop)
    assert started.code == 0, started.err
    said = (shop / "var/up.log").read_text()
    assert said.count("without a model: see its log") == 2
    assert f"the champion is refused, or loads for very long: see {shop}/var/logs/adaptation.log" in said
    state = read_state(shop / "var")
    assert state is not None
    family = psutil.Process(state.pid).children(recursive=True)
    stopped = warmstart("down", cwd=shop)
    assert (stopped.code, stopped.out.strip()) == (0, "stopped")
    assert gone(family)
    assert warmstart("down", cwd=shop).code == 1


@pytest.mark.parametrize(
    "programs", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, len(_PROGRAMS)))]
)
def test_down_ends_a_cluster_that_is_still_starting(tmp_path: Path, programs: int):
    """Before its first program, between two, and while they load."""
    up = UpProcess(tmp_path)
    try:
        until(lambda: lock_holder(up.data_dir))
        until(lambda: sum(up.program(name) is not None for name in _PROGRAMS) >= programs)
        family = up.family()
        stopped = warmstart("down", cwd=tmp_path)
        assert (stopped.code, stopped.out.strip()) == (0, "stopped"), stopped.err
        assert up.process.wait(10) in (0, 130), up.log.read_text()
        assert gone(family)
        supervisor = up.data_dir / "logs/supervisord.log"
        if supervisor.exists():  # a program that was just forked hears it, too
            assert "with SIGKILL" not in supervisor.read_text()
    finally:
        up.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_detached_start_outlives_its_callers_death_but_neither_down_nor_an_interrupt(
    tmp_path: Path, how: signal.Signals
):
    command = [sys.executable, "-m", "services.cli", "up", "--free-ports", "--detach"]
    caller = subprocess.Popen(command, cwd=tmp_path, env=clean_environment())
    started = until(lambda: lock_holder(tmp_path / "var"))
    caller.send_signal(how)
    caller.wait(60)
    if how is signal.SIGKILL:
        family = started.children(recursive=True)
        assert warmstart("down", cwd=tmp_path).code == 0
        assert gone(family)
    assert gone([started])
