"""Two training workers on a real local Ray: killed, failing, stopped. `pytest -m slow` runs these, since each
start of workers is two of TensorFlow. Their short forms: the unit tests of `failures`, `fit`, `agreement`."""

from __future__ import annotations

import io
import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from services.training.assemble import assemble
from services.training.cluster import ClusterSettings, ray_session
from services.training.data import TrainingData
from services.training.fit import Stopped, TrainingFailed, fit
from services.training.jobs import NO_ADAPTER, Arm, Job, Plan
from services.training.lines import Lines
from services.training.loop import TrainState
from services.training.private.people import private_people
from services.training.private.run import SECRET_FILE, private_job
from services.training.private.secret import SECRET_BYTES
from services.training.roles import RoleSettings
from services.training.runs import Run
from services.training.worker import is_exported
from tests.unit.services.training import synthetic

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
_TWO = ClusterSettings(workers=2, cpus=2)
_OFF = Arm("off", NO_ADAPTER)
_STEPS = 120
_CHECKPOINT_EVERY = 15

Line = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with ray_session(_TWO, tmp_path_factory.mktemp("ray")):
        yield


@pytest.fixture(scope="module")
def data() -> TrainingData:
    whole = assemble(synthetic.tables(people=100, events=34, items=100), RoleSettings(0.2, 0.2))
    return whole.without_held_out()


@dataclass(frozen=True)
class Training:
    """One job of a run with two workers, and what the driver was told of it."""

    run: Run
    job: Job
    said: list[Line]

    def progress(self, stage: str) -> list[int]:
        return [line["step"] for line in self.said if line["event"] == "progress" and line["stage"] == stage]

    @property
    def logged(self) -> list[str]:
        return [line["message"] for line in self.said if line["event"] == "log"]

    @property
    def checkpoint(self) -> Path:
        return self.job.checkpoint("pretrain")

    def weights(self, stage: str) -> Mapping[str, np.ndarray]:
        return TrainState.load(self.job.done(stage)).arrays


class Heard(io.StringIO):
    """The driver's lines, as they come."""

    def __init__(self, said: list[Line], on_line: Callable[[Line], None]) -> None:
        super().__init__()
        self._said, self._on_line = said, on_line

    def write(self, text: str) -> int:
        self._said.append(json.loads(text))
        self._on_line(self._said[-1])
        return len(text)


def training(directory: Path) -> Training:
    run = Run(directory)
    steps = {"pretrain_steps": _STEPS, "meta_steps": 20}
    return Training(run, Job("model", run.jobs / "model", 0, "tiny", (_OFF,), **steps), [])


def do(
    work: Training,
    data: TrainingData,
    on_line: Callable[[Line], None] = lambda _: None,
    cluster: ClusterSettings = _TWO,
    stop: threading.Event | None = None,
) -> None:
    plan = Plan((work.job,), work.run.progress, work.run.stop, work.run.tensorboard, threads=1)
    lines = Lines(Heard(work.said, on_line))
    fit([plan], [data], cluster, work.run, lines, stop or threading.Event())


def workers(work: Training) -> list[psutil.Process]:
    """The processes of the two workers, the first one first: it alone writes the progress file."""
    family = psutil.Process().children(recursive=True)
    found = [process for process in family if process.name().startswith("ray::RayTrainWo")]
    return sorted(
        found, key=lambda process: str(work.run.progress) not in {f.path for f in process.open_files()}
    )


class KillOnce:
    """Kills a worker as soon as pre-training has kept a checkpoint."""

    def __init__(self, work: Training, which: int) -> None:
        self._work, self._which = work, which
        self.killed: list[psutil.Process] = []

    def __call__(self, line: Line) -> None:
        if line.get("stage") == "pretrain" and self._work.checkpoint.is_file() and not self.killed:
            worker = workers(self._work)[self._which]
            self.killed.append(worker)
            worker.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> Training:
    work = training(tmp_path_factory.mktemp("undisturbed"))
    do(work, data)
    assert work.logged == []
    return work


@pytest.mark.parametrize("which", [0, 1])
def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint_to_the_same_weights(
    tmp_path: Path, data: TrainingData, undisturbed: Training, which: int
) -> None:
    """Bit by bit: batches and noise are functions of the step, and of two numbers there is one sum."""
    work = training(tmp_path)
    kill = KillOnce(work, which)
    do(work, data, kill)

    assert len(kill.killed) == 1
    (told,) = work.logged
    assert told.startswith(f"worker {which} died (")
    assert told.endswith("all workers start again, from the newest checkpoint (restart 1 of 3)")
    steps = work.progress("pretrain")
    (again,) = [after for before, after in pairwise(steps) if after <= before] or [steps[-1]]
    assert again > _CHECKPOINT_EVERY, "it began anew"
    assert is_exported(work.job, _OFF)
    for stage in ("pretrain", "meta-train"):
        expected = undisturbed.weights(stage)
        for name, found in work.weights(stage).items():
            np.testing.assert_array_equal(found, expected[name], err_msg=f"{stage} {name}")


def test_two_workers_of_a_private_training_add_the_noise_once(tmp_path: Path, data: TrainingData) -> None:
    """Of one secret, two workers come to the weights that one comes to."""
    people, arm = private_people(data, 1e-6), Arm("on", "ridge")
    ends = []
    for workers in (1, 2):
        run = Run(tmp_path / str(workers))
        job = Job("model", run.jobs / "model", 0, "tiny", (arm,), pretrain_steps=6)
        job = private_job(job, 8.0, 1e-6)
        (job.directory / SECRET_FILE).write_bytes(b"w" * SECRET_BYTES)
        work = Training(run, job, [])
        run.directory.mkdir(parents=True, exist_ok=True)
        do(work, people, cluster=replace(_TWO, workers=workers))
        assert is_exported(job, arm)
        ends.append(work.weights("private"))
    for name, expected in ends[0].items():
        np.testing.assert_allclose(ends[1][name], expected, rtol=1e-3, atol=1e-4, err_msg=name)


def pretrain_alone(config: dict[str, Any]) -> None:
    """What a worker does with settings that no preset has: pre-trains, and keeps the weights."""
    import ray
    import ray.train

    from services.training.pretrain import new_model, pretrain
    from services.training.worker import _strategy

    context = ray.train.get_context()
    strategy = _strategy(context.get_world_size(), threads=1)
    model = new_model(config["model"], config["data"], seed=0, strategy=strategy)
    np.savez(config["weights"] / "before.npz", **model.state_arrays())
    pretrain(model, config["data"], config["pretrain"], seed=0, strategy=strategy)
    if context.get_world_rank() == 0:
        np.savez(config["weights"] / "after.npz", **model.state_arrays())


def pretrained(directory: Path, workers: int, **config: Any) -> dict[str, np.ndarray]:
    """By so many workers. Weights before and after."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    from services.training.backend import TensorflowBackendConfig

    directory.mkdir()
    TensorflowTrainer(
        pretrain_alone,
        train_loop_config={**config, "weights": directory},
        tensorflow_config=TensorflowBackendConfig(),
        scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name="ray-train", storage_path=str(directory)),
    ).fit()
    with np.load(directory / "before.npz") as before, np.load(directory / "after.npz") as after:
        return {
            f"{when} {name}": file[name]
            for when, file in (("before", before), ("after", after))
            for name in file
        }


def test_two_workers_learn_the_weights_of_one_from_the_same_batches(tmp_path: Path) -> None:
    """Without noise, and with data that make the mean over a batch that of its halves: everybody has ten
    events, all liked, and each window of eight has nine targets, the next event of each place. So what two
    workers average is the gradient of one, up to the order in which 72 float32 numbers are added."""
    from services.training.loop import Rates
    from services.training.pretrain_batch import PretrainConfig
    from shared.modeling.config import ModelConfig

    tables = synthetic.tables(people=16, events=10, items=24)
    liked = tables.events.set_column(3, "value", pa.array([5.0] * tables.events.num_rows))
    data = assemble(replace(tables, events=liked), RoleSettings(0.0, 0.0))
    silence = {"dropout": 0.0, "row_dropout": 0.0, "adapt_dropout": 0.0, "feature_dropout": 0.0}
    sizes = {"dim": 16, "blocks": 1, "feed_forward": 32, "adapt_dim": 16, "content_hidden": 16}
    config = {
        "data": data,
        "model": ModelConfig(**sizes, **silence, content_dim=synthetic.CONTENT_DIM, adapter=NO_ADAPTER),
        "pretrain": PretrainConfig(
            steps=12,
            batch_windows=8,
            window=8,
            horizon=1,
            positions=(72, 72, 72),
            id_dropout=0.0,
            action_share=0.0,
            rates=Rates(warmup=1, clip_norm=1e9),
        ),
    }
    one, two = (pretrained(tmp_path / str(n), n, **config) for n in (1, 2))
    moved = 0.0
    for name in (n.removeprefix("after ") for n in one if n.startswith("after ")):
        before, after = one[f"before {name}"], one[f"after {name}"]
        moved = max(moved, float(np.abs(after - before).max()))
        np.testing.assert_array_equal(two[f"before {name}"], before, err_msg=name)
        # Keys' biases have no gradient but rounding, of which Adam makes steps.
        np.testing.assert_allclose(two[f"after {name}"], after, atol=2e-5, err_msg=name)
    assert moved > 5e-3, "nothing was learned"


def test_without_restarts_left_a_death_ends_the_training_and_is_told(
    tmp_path: Path, data: TrainingData
) -> None:
    work = training(tmp_path)
    with pytest.raises(TrainingFailed, match="no restarts are left"):
        do(work, data, KillOnce(work, 1), replace(_TWO, restarts=0))
    assert work.checkpoint.is_file()


def test_an_error_of_training_itself_is_not_tried_again(tmp_path: Path, data: TrainingData) -> None:
    """Everybody's history is of items that are in no table: that comes again with every start."""
    broken = replace(data, items=data.items + data.num_items)
    work = training(tmp_path)
    with pytest.raises(TrainingFailed, match="exceeds matrix dimension"):
        do(work, broken)
    assert work.run.lost.read_text() == ""
    assert work.logged == []


def test_a_stop_ends_a_training_at_once_and_is_no_loss(tmp_path: Path, data: TrainingData) -> None:
    work, stop = training(tmp_path), threading.Event()
    with pytest.raises(Stopped, match="--resume"):
        do(work, data, lambda line: stop.set() if line.get("stage") == "pretrain" else None, stop=stop)
    assert work.run.lost.read_text() == ""
    assert work.progress("meta-train") == []
