"""Commands against a training service whose trainings say their lines and train nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.cli.app import main
from shared.artifacts import Registry
from shared.rpc.health import wait_until_serving
from tests.artifacts import publish_plain
from tests.cluster import clean_environment
from tests.integration.training.service_client import FAKED_SERVER, settings_of
from tests.ports import free_port
from tests.training_program import VERSION

pytestmark = pytest.mark.timeout(240)


@contextmanager
def service(directory: Path, how: str) -> Iterator[list[str]]:
    """A server; yields the options that mean it."""
    port = free_port()
    told = settings_of(directory, port=port, log_level="warning")
    environment = {f"WARMSTART_TRAINING_{name.upper()}": str(value) for name, value in told.items()}
    process = subprocess.Popen([sys.executable, *FAKED_SERVER, how], env=os.environ | environment)
    try:
        asyncio.run(wait_until_serving(f"127.0.0.1:{port}", 60))
        yield ["--service", f"127.0.0.1:{port}", "--domain", "shop"]
    finally:
        process.terminate()
        process.wait(60)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_a_training_in_the_service_prints_what_one_of_ones_own_does(tmp_path: Path, capsys):
    with service(tmp_path, "succeed") as there:
        given = ["train", *there, "--preset", "tiny", "--adapter-settings", '{"noise": 2.0}']
        assert main(given) == 0
        told = capsys.readouterr()
        assert "Few shots" in told.out
        assert "gate: NDCG@10 .2 beats popularity's .1" in told.out
        assert f"{VERSION} is champion now (1.5 s)" in told.out
        assert "pretrain" in told.err
        assert "loss 2.5" in told.err
        result = answer(capsys, "train", *there)
        assert (result["version"], result["promoted"], result["people"]) == (VERSION, True, 7)
        assert result["metrics"] == {"adaptation on": 0.2, "popularity": 0.1}
        assert Path(result["report"]["markdown"]).is_file()
        assert answer(capsys, "trainings", "watch", *there) == result  # the newest, ended
        listed = answer(capsys, "trainings", "list", *there)["trainings"]
        assert [t["state"] for t in listed] == ["TRAINING_STATE_SUCCEEDED"] * 2
        assert listed[1]["options"]["preset"] == "tiny"
        assert listed[1]["options"]["adapter_settings"] == {"noise": 2.0}
        assert main(["trainings", "list", *there, "-n", "1"]) == 0
        told = capsys.readouterr()
        assert result["training_id"] in told.out.replace("\n", "")
        assert "next page: --page-token" in told.out


def test_a_training_that_fails_says_why_and_how_to_go_on(tmp_path: Path, capsys):
    with service(tmp_path, "refuse") as there:
        assert main(["train", *there]) == 1
        said = capsys.readouterr().err
        assert "error: events must not be empty: import some first, got 0" in said
        assert "go on with: warmstart train --resume 2" in said
        assert f"--service {there[1]} --domain shop" in said
        assert main(["trainings", "watch", "t1", *there]) == 1
        assert "domain 'shop' has no training 't1'" in capsys.readouterr().err


def test_a_training_whose_settings_are_refused_is_not_to_be_resumed(tmp_path: Path, capsys):
    with service(tmp_path, "misfit") as there:
        assert main(["train", *there]) == 1
        said = capsys.readouterr().err
        assert "error: adapter_settings['steps'] must be at least 1, got 0" in said
        assert "go on with" not in said
        for options in (["--adapter", "reptile"], ["--adapter", "none", "--adapter-settings", '{"a": 1}']):
            assert main(["train", *there, *options]) == 1
            assert "INVALID_INPUT: options.adapter" in capsys.readouterr().err
        assert len(answer(capsys, "trainings", "list", *there)["trainings"]) == 1


def test_an_interrupt_leaves_the_training_running(tmp_path: Path, capsys):
    with service(tmp_path, "wait") as there:
        assert main(["trainings", "watch", *there]) == 1
        assert "has no training" in capsys.readouterr().err
        command = [sys.executable, "-m", "services.cli", "train", *there]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean_environment()) as process:
            assert process.stderr is not None
            said = ""
            while "process" not in said:  # of the training's lines the last before it waits
                said += process.stderr.readline()
            process.send_signal(signal.SIGINT)
            said += process.stderr.read()
        assert process.returncode == 130
        (running,) = answer(capsys, "trainings", "list", *there)["trainings"]
        name = running["training_id"]
        assert running["state"] == "TRAINING_STATE_RUNNING"
        assert f"goes on; watch it with: warmstart trainings watch {name} --service {there[1]}" in said
        assert f"stop it with: warmstart trainings stop {name}" in said
        assert main(["train", *there]) == 1
        assert "trains already" in capsys.readouterr().err
        assert main(["trainings", "stop", name, *there]) == 0
        # whichever it is by the time of the answer
        assert capsys.readouterr().out in (f"{name} is stopping\n", f"{name} is stopped\n")
        assert main(["trainings", "watch", *there]) == 1
        assert f"training {name} was stopped\ngo on with: warmstart train --resume {name}" in (
            capsys.readouterr().err
        )
        assert answer(capsys, "train", *there, "--resume", name)["training_id"] == name


def test_models_of_a_service_are_those_of_its_registry(tmp_path: Path, capsys):
    registry = Registry(tmp_path / "registry")
    old, new = (publish_plain(registry, "shop", model={"preset": "tiny"}).version for _ in range(2))
    with service(tmp_path, "succeed") as there:
        for version in (old, new):
            assert answer(capsys, "models", "promote", version, *there)["champion"] == version
        here = ["--registry", str(tmp_path / "registry"), "--domain", "shop"]
        listed = answer(capsys, "models", "list", *there)
        assert listed == answer(capsys, "models", "list", *here)
        assert [(m["version"], m["alias"], m["preset"]) for m in listed] == [
            (old, "previous", "tiny"),
            (new, "champion", "tiny"),
        ]
        assert answer(capsys, "models", "rollback", *there) == {"domain": "shop", "champion": old}
        assert main(["models", "rollback", *there]) == 1
        assert "no earlier champion" in capsys.readouterr().err
        assert main(["models", "promote", "v9", *there]) == 1
        said = capsys.readouterr().err
        assert "version must be a published one of domain 'shop'" in said
        assert f"got 'v9': `warmstart models list {' '.join(there)}` shows them" in said
