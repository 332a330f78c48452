"""Ports, lock, state file, environment: the parts of the local cluster, each alone."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from deploy.local import check_settings
from services.cli.app import main
from services.cli.cluster.health import HEALTHY, PartHealth, Refusals
from services.cli.cluster.layout import PROGRAMS, config_file, environment
from services.cli.cluster.local import LocalCluster
from services.cli.cluster.lock import data_dir_lock, lock_holder, wait_for_programs
from services.cli.cluster.ports import Ports, base_ports, draw_ports, free_ports
from services.cli.cluster.state import read_state, remove_state, write_state
from services.cli.cluster.supervisor import ProgramState, socket_path
from services.cli.commands import cluster as commands
from services.cli.commands import demo
from services.cli.failures import CommandError
from services.cli.target import DEFAULT_GATEWAY, gateway_target, service_target
from shared.processes import leash


def test_ports_count_on_from_the_base():
    ports = Ports.from_base(20051)
    assert ports.by_name() == {
        "gateway": 20051,
        "features": 20052,
        "adaptation": 20053,
        "scoring": 20054,
        "training": 20055,
        "valkey": 20060,
    }


def test_a_taken_port_is_named_with_its_service_and_holder():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(CommandError) as failed:
            base_ports(port - 3)  # scoring's
    said = str(failed.value)
    assert f"port {port} for scoring is taken by process {os.getpid()}" in said
    assert "--base-port" in said


@pytest.mark.parametrize("base", [0, 65530, -1])
def test_a_base_port_out_of_range_is_refused(base):
    with pytest.raises(CommandError, match=r"--base-port must be 1\.\.65526"):
        base_ports(base)


def test_free_ports_are_six_different_ones_that_no_outgoing_connection_is_given():
    ports = set(free_ports().by_name().values())
    assert len(ports) == 6
    assert max(ports) < 32_768  # where Linux begins by default


def test_a_taken_port_is_never_drawn():
    with socket.socket() as held:
        [port] = draw_ports(1)
        held.bind(("127.0.0.1", port))
        with pytest.raises(CommandError, match=rf"fewer than 1 ports of {port}\.\.{port} are free on 127"):
            draw_ports(1, range(port, port + 1))


def test_who_seeds_pythons_generator_does_not_draw_the_ports_of_others_with_that_seed():
    drawn = []
    for _ in range(2):
        random.seed(0)
        drawn.append(draw_ports(3))
    assert drawn[0] != drawn[1]


def test_a_data_directory_has_one_holder(tmp_path):
    with data_dir_lock(tmp_path), pytest.raises(CommandError, match=f"process {os.getpid()}"):
        data_dir_lock(tmp_path).__enter__()
    with data_dir_lock(tmp_path):
        pass


def test_a_data_directory_is_not_given_away_while_programs_of_a_dead_holder_live(tmp_path, capsys):
    work = [
        sys.executable,
        leash.__file__,
        sys.executable,
        "-c",
        "print(flush=True); import time; time.sleep(60)",
    ]
    with data_dir_lock(tmp_path) as held:
        program = subprocess.Popen(work, env={**os.environ, **held}, stdout=subprocess.PIPE)
        assert program.stdout is not None
        program.stdout.readline()
    try:
        with pytest.raises(CommandError, match=rf"still worked in by process {program.pid} "):
            data_dir_lock(tmp_path, left_s=0.0).__enter__()
        with pytest.raises(CommandError, match="left by a command that was killed"):
            wait_for_programs(tmp_path, left_s=0.0)
        assert capsys.readouterr().err == "waits for the programs of a command that was killed to end …\n" * 2
        threading.Timer(0.2, program.kill).start()
        assert wait_for_programs(tmp_path)
        assert not wait_for_programs(tmp_path)
        with data_dir_lock(tmp_path):
            # forked by the dead holder's supervisor just before that one was killed as well
            straggler = subprocess.run(
                work, env={**os.environ, **held}, capture_output=True, text=True, check=False
            )
        assert (straggler.returncode, straggler.stderr) == (
            1,
            "another cluster has the data directory by now\n",
        )
    finally:
        program.kill()
        program.communicate()


def test_down_without_a_cluster_names_the_way_to_start_one_there(tmp_path, capsys):
    shop = tmp_path / "my shop"
    assert main(["down", "--data-dir", str(shop)]) == 1
    assert f"`warmstart up --data-dir '{shop}'` starts one" in " ".join(capsys.readouterr().err.split())


def test_two_detached_starts_do_not_share_a_log(tmp_path):
    with commands._up_log(tmp_path) as log:
        log.write(b"of the first\n")
        log.flush()
        with pytest.raises(CommandError, match="in use by another `warmstart up --detach`"):
            commands._up_log(tmp_path).__enter__()
    assert (tmp_path / "up.log").read_text() == "of the first\n"
    with commands._up_log(tmp_path):
        assert (tmp_path / "up.log").read_text() == ""


def test_why_a_detached_start_failed_is_told_from_its_first_line(tmp_path):
    log = tmp_path / "up.log"
    log.write_text("a table\nerror: gateway keeps failing; the end of its log:\n" + "a line\n" * 20)
    assert commands._why_it_ended(log) == "gateway keeps failing; the end of its log:" + "\na line" * 20
    log.write_text("Killed\n")
    assert commands._why_it_ended(log) == "Killed"


def test_a_program_that_was_given_up_is_started_again_and_said(tmp_path, monkeypatch, capsys):
    """As a store is whose disk was full for longer than the supervisor tries."""
    states = iter(["RUNNING", "FATAL", "FATAL", "RUNNING"])
    again: list[ProgramState] = []

    class Supervisor:
        log = tmp_path / "supervisord.log"
        state = ""

        @property
        def running(self) -> bool:
            self.state = next(states, "")
            return bool(self.state)

        def states(self):
            return {"valkey": ProgramState("valkey", self.state, 0, 0.0, "valkey")}

        def start_again(self, program):
            again.append(program)

    monkeypatch.setattr(commands, "_POLL_S", 0.0)
    cluster = LocalCluster(tmp_path, Ports.from_base(6000), Supervisor())  # type: ignore[arg-type]
    with pytest.raises(CommandError, match=r"the supervisor died; see .*supervisord\.log"):
        commands.hold(cluster)
    assert [p.name for p in again] == ["valkey"]  # once in five seconds
    said = capsys.readouterr().err
    assert said.index("valkey keeps failing, and is started again") < said.index("valkey runs again")


def test_a_supervisor_that_dies_at_once_is_told_with_what_it_printed(tmp_path, capsys):
    words = tmp_path / "supervisord.out"
    words.write_text("Error: no such file\n")
    supervisor = SimpleNamespace(running=False, states=dict, log=words)
    cluster = LocalCluster(tmp_path, Ports(*draw_ports(6)), supervisor)  # type: ignore[arg-type]
    with pytest.raises(CommandError, match=r"(?s)supervisord died after \d\.\d s; .*Error: no such file"):
        cluster.wait_until_healthy(120.0, commands.output.stderr())


def test_a_model_server_that_stays_alive_without_its_champion_is_as_healthy_as_it_can_be():
    loads = PartHealth("scoring", "h:1", healthy=False, note="loads its model", pid=1)
    works = PartHealth("gateway", "h:2", healthy=True, note=HEALTHY, pid=2)
    refusals = Refusals()
    assert refusals.judge([loads, works], 10.0) == [loads, works]
    assert refusals.judge([loads, works], 11.9) == [loads, works]
    told = refusals.judge([loads, works], 12.0)
    assert [(p.healthy, p.note) for p in told] == [(True, "without a model: see its log"), (True, HEALTHY)]
    assert refusals.judge([works], 13.0) == [works]  # it was started again
    assert refusals.judge([loads], 14.0) == [loads]


def test_a_data_directory_is_passed_over_by_git_where_the_cluster_made_it(tmp_path):
    with data_dir_lock(tmp_path / "shop" / "data"):
        pass
    assert (tmp_path / "shop/data/.gitignore").read_text().splitlines()[-1] == "*"
    (tmp_path / "mine").mkdir()
    with data_dir_lock(tmp_path / "mine"):
        pass
    assert not (tmp_path / "mine/.gitignore").exists()


def test_a_demo_that_stayed_says_last_that_all_is_stopped(tmp_path, monkeypatch, capsys):
    order: list[str] = []

    @contextmanager
    def cluster(*_):
        yield SimpleNamespace(
            ports=SimpleNamespace(target=lambda name: name), wait_until_healthy=lambda *_, **__: None
        )
        order.append(capsys.readouterr().err)

    async def told(*_):
        return []

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "local_cluster", cluster)
    monkeypatch.setattr(demo, "hold", interrupted)
    monkeypatch.setattr(demo.storytelling, "run_story", told)
    monkeypatch.setattr(demo.storytelling, "judge", lambda _: None)
    for step in ("_import_once", "_train_once", "announce"):
        monkeypatch.setattr(demo, step, lambda *_: None)
    assert main(["demo", "--stay", "--data-dir", str(tmp_path)]) == 0
    assert (order, capsys.readouterr().err) == (["stopping …\n"], "stopped\n")


def test_a_dead_holders_process_id_names_nobody(tmp_path):
    """Whoever has the id now has not opened the lock."""
    assert lock_holder(tmp_path) is None
    with data_dir_lock(tmp_path):
        assert lock_holder(tmp_path) == psutil.Process()
    assert (tmp_path / "up.lock").read_text() == f"{os.getpid()} {socket.gethostname()}\n"
    assert lock_holder(tmp_path) is None


def test_down_ends_a_cluster_that_has_not_said_yet_where_it_is(tmp_path, capsys):
    """It holds its directory, and there is no cluster.json."""
    holder = (
        "import pathlib,time; from services.cli.cluster.lock import data_dir_lock\n"
        f"with data_dir_lock(pathlib.Path({str(tmp_path)!r})): print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            assert read_state(tmp_path) is None
            assert main(["down", "--data-dir", str(tmp_path)]) == 0
            assert capsys.readouterr().out.strip() == "stopped"
            assert process.wait(10) == -signal.SIGTERM
        finally:
            process.kill()


def test_a_restore_that_was_killed_between_two_stores_does_not_end_in_an_empty_one(tmp_path, capsys):
    (tmp_path / "valkey.replaced").mkdir()
    assert main(["up", "--free-ports", "--data-dir", str(tmp_path)]) == 1
    assert "was interrupted at its end: run it again" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "valkey").exists()


def test_the_state_file_says_where_the_gateway_is(tmp_path):
    assert gateway_target("", tmp_path) == DEFAULT_GATEWAY
    state = write_state(tmp_path, Ports.from_base(6000))
    assert read_state(tmp_path) == state
    assert gateway_target("", tmp_path) == "127.0.0.1:6000"
    assert gateway_target("far:1", tmp_path) == "far:1"
    assert service_target("", tmp_path) == service_target("local", tmp_path) == "127.0.0.1:6004"
    assert service_target("far:1", tmp_path) == "far:1"
    remove_state(tmp_path)
    assert read_state(tmp_path) is None


def test_the_state_of_a_dead_process_is_no_state(tmp_path):
    write_state(tmp_path, Ports.from_base(6000))
    file = tmp_path / "cluster.json"
    stale = json.loads(file.read_text())
    file.write_text(json.dumps({**stale, "started": stale["started"] - 1000}))
    assert read_state(tmp_path) is None
    file.write_text("{")
    assert read_state(tmp_path) is None


def test_the_environment_tells_every_program_its_place(tmp_path):
    env = environment(
        {
            "WARMSTART_GATEWAY_PORT": "1",
            "WARMSTART_GATEWAY_LOG_LEVEL": "debug",
            "WARMSTART_GATEWAY_AUTH": "keys",
            "WARMSTART_FEATURES_DOMAINS": "c",
        },
        data_dir=tmp_path,
        ports=Ports.from_base(6000),
        domains="a,b",
        socket=tmp_path / "s",
        held={"WARMSTART_UP_CLUSTER": "m"},
        log_secret="said once",
        certificates=tmp_path / "tls",
    )
    assert env["WARMSTART_GATEWAY_PORT"] == "6000"  # places are the launcher's
    assert env["WARMSTART_SCORING_LOG_SECRET"] == "said once"
    assert env["WARMSTART_SCORING_REFLECTION"] == "true"
    assert env["WARMSTART_SCORING_TLS_KEY"] == str(tmp_path / "tls" / "scoring-key.pem")
    assert env["WARMSTART_SCORING_TLS_CLIENT_NAMES"] == "gateway"
    assert env["WARMSTART_GATEWAY_LOG_LEVEL"] == "debug"  # the rest is the user's
    assert env["WARMSTART_GATEWAY_AUTH"] == "keys"
    assert env["WARMSTART_FEATURES_STORE_URL"] == "valkey://127.0.0.1:6009/0"
    assert env["WARMSTART_SCORING_FEATURES_TARGET"] == "127.0.0.1:6001"
    assert env["WARMSTART_FEATURES_DOMAINS"] == "a,b"  # the command line's
    assert env["WARMSTART_TRAINING_PORT"] == "6004"
    assert env["WARMSTART_TRAINING_FEATURES_TARGET"] == "127.0.0.1:6001"
    assert env["WARMSTART_TRAINING_REGISTRY"] == env["WARMSTART_SCORING_REGISTRY"]
    assert env["WARMSTART_GATEWAY_AUTH_KEYS"] == str(tmp_path / "keys.json")  # where `warmstart keys` writes
    assert env["WARMSTART_TRAINING_AUTH_KEYS"] == str(tmp_path / "keys.json")


def test_the_supervisor_runs_every_program_under_a_leash():
    text = config_file().read_text()
    for program in PROGRAMS:
        section = text.split(f"[program:{program}]")[1].split("[program:")[0]
        assert "WARMSTART_UP_LEASH" in section
        assert "autorestart=true" in section


def test_the_socket_lies_in_the_data_directory_unless_the_path_is_too_long(tmp_path):
    assert socket_path(Path("/srv/warmstart/var")) == Path("/srv/warmstart/var/up.sock")
    elsewhere = socket_path(tmp_path / ("long" * 30))
    try:
        assert len(str(elsewhere)) < 100
        assert elsewhere.parent.is_dir()
    finally:
        elsewhere.parent.rmdir()


def test_bad_settings_of_all_services_are_told_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WARMSTART_GATEWAY_DRAIN_S", "soon")
    monkeypatch.setenv("WARMSTART_SCORING_LOG_LEVEL", "loud")
    monkeypatch.setenv("WARMSTART_TRAINING_MAX_RUNNING", "0")
    assert main(["up", "--free-ports", "--data-dir", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "WARMSTART_GATEWAY_DRAIN_S: " in told
    assert "got 'soon'" in told
    assert "WARMSTART_SCORING_LOG_LEVEL: " in told
    assert "got 'loud'" in told
    assert "WARMSTART_TRAINING_MAX_RUNNING: " in told
    assert not list((tmp_path / "logs").iterdir())


def test_variables_that_change_nothing_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WARMSTART_GATEWAY_PORT", "7000")
    monkeypatch.setenv("WARMSTART_FEATURES_EVENT_RETENTON_DAYS", "30")
    monkeypatch.setenv("WARMSTART_SCORING_LOG_LEVEL", "loud")  # so that nothing starts
    assert main(["up", "--free-ports", "--data-dir", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert "not used here, as the command says where everything is: WARMSTART_GATEWAY_PORT\n" in told
    assert (
        "WARMSTART_FEATURES_EVENT_RETENTON_DAYS is no setting and changes nothing: "
        "is WARMSTART_FEATURES_EVENT_RETENTION_DAYS meant?"
    ) in told


def test_a_bad_domain_is_told_once(tmp_path, capsys):
    assert main(["up", "--free-ports", "--domains", "default,Shop", "--data-dir", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.count("Shop") == 1
    assert "--domains must " in told


def test_the_bad_settings_of_all_services_are_told_under_one_header(monkeypatch, capsys):
    monkeypatch.setenv("WARMSTART_FEATURES_PORT", "a")
    monkeypatch.setenv("WARMSTART_GATEWAY_SOURCE_QUOTAS", "friends=lots")
    assert check_settings.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        "bad settings:",
        "  WARMSTART_FEATURES_PORT: must be a valid integer, got 'a'",
        "  WARMSTART_GATEWAY_SOURCE_QUOTAS: friends must be a valid number, got 'friends=lots'",
    ]
