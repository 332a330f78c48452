"""A training submitted to a Ray cluster of two nodes, as a user does it. `pytest -m slow` runs it: the
cluster, each job and its workers are a dozen processes. Its short form: `test_cluster`, `test_submit` and
`test_options` of `tests/unit/services/training`."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.training.runs import Run
from shared.artifacts import Registry
from tests.contract.source import ROOT
from tests.ray_cluster import HEAD, NODE, RayCluster, ray_cluster
from tests.unit.services.training import synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
_MODEL = ("--preset", "tiny", "--pretrain-steps", "80", "--meta-steps", "20", "--promote", "always")

Line = dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as running:
        yield running


@dataclass(frozen=True)
class Shared:
    """The directory that all nodes see."""

    directory: Path

    @property
    def run(self) -> Run:
        return Run(self.directory / "run")

    @property
    def registry(self) -> Registry:
        return Registry(self.directory / "registry")

    @property
    def options(self) -> list[str]:
        files = synthetic.write_files(self.directory, people=100, events=34, items=100)
        source = ["--events", str(files["events"]), "--items", str(files["items"])]
        where = ["--run-dir", str(self.run.directory), "--registry", str(self.directory / "registry")]
        return [*source, *_MODEL, *where, "--workers", "2"]


def submit(
    cluster: RayCluster, *options: str, on_line: Callable[[Line, subprocess.Popen[str]], None] | None = None
) -> tuple[int, list[Line]]:
    """Exit code and lines of the command that submits; on_line hears each of them as it comes."""
    command = [sys.executable, "-m", "services.training", "train", "--address", cluster.dashboard, *options]
    said: list[Line] = []
    with subprocess.Popen(
        command, env=dict(cluster.environment), stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            said.append(json.loads(text))
            if on_line:
                on_line(said[-1], process)
    return process.returncode, said


def messages(said: list[Line]) -> list[str]:
    return [line["message"] for line in said if "message" in line]


def test_a_submitted_training_is_stopped_and_goes_on_and_publishes(
    cluster: RayCluster, tmp_path: Path
) -> None:
    """Two workers on two nodes of one core each; the code travels, checkpoints live where the next job finds
    them."""
    shared = Shared(tmp_path)
    checkpoint = shared.run.jobs / "model" / "checkpoints" / "pretrain.npz"

    def interrupt(line: Line, process: subprocess.Popen[str]) -> None:
        if line["event"] == "progress" and line["stage"] == "pretrain" and checkpoint.is_file():
            process.send_signal(signal.SIGINT)

    # So many that the stop, which travels over the dashboard, finds the training at work.
    code, said = submit(cluster, *shared.options, "--pretrain-steps", "600", on_line=interrupt)
    assert code == 130, said[-1]
    assert f"run {shared.run.directory}" in messages(said)
    assert not shared.registry.versions("default")

    code, said = submit(cluster, "--resume", str(shared.run.directory))
    assert code == 0, said[-1]
    steps = [line["step"] for line in said if line.get("stage") == "pretrain" and line["event"] == "progress"]
    assert steps[0] > 10, "it began anew"
    assert steps[-1] == 600
    champion = shared.registry.champion("default")
    assert champion is not None
    assert champion.version == said[-1]["version"]
    assert shared.registry.open(champion).manifest.data.users > 0  # opening verifies every file
    (places,) = [message for message in messages(said) if message.startswith("workers on ")]
    assert set(places.removeprefix("workers on ").split(", ")) == {HEAD, NODE}


def test_a_path_that_one_machine_alone_sees_is_refused_at_once(cluster: RayCluster, tmp_path: Path) -> None:
    where = ["--data-dir", "var", "--dataset", "movielens-100k"]
    command = [sys.executable, "-m", "services.cli", "train", "--address", cluster.dashboard, *where]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--data-dir must be an absolute path" in " ".join(done.stderr.split())


def test_the_readmes_own_ray_command_trains(cluster: RayCluster, tmp_path: Path) -> None:
    """But for the address, the paths and the data."""
    block = re.search(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    assert block is not None
    _, _, printed = block[1].replace("\\\n", "").partition("\n\n")
    words = shlex.split(
        printed.replace("http://head:8265", cluster.dashboard).replace("/shared/shop", str(tmp_path))
    )
    at = words.index("--features-target")
    files = synthetic.write_files(tmp_path, people=100, events=34, items=100)
    words[at : at + 2] = ["--events", str(files["events"]), "--items", str(files["items"])]
    steps = ["--preset", "tiny", "--pretrain-steps", "10", "--meta-steps", "10", "--promote", "always"]
    words[0] = str(Path(sys.executable).with_name("ray"))
    done = subprocess.run(
        [*words, *steps], cwd=ROOT, env=dict(cluster.environment), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert Registry(tmp_path / "registry").champion("default") is not None
    assert Run(tmp_path / "runs" / "first").evaluation.is_dir()
