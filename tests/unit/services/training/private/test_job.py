"""A private job: the artifact serves, keeps its promise in writing, and holds nothing else of people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.jobs import Arm, Job, Plan, StopRequested
from services.training.private.body import trained_scales, trained_weights
from services.training.private.people import private_people
from services.training.private.run import SECRET_FILE, forget_secret, private_job
from services.training.private.secret import SecretLost
from services.training.publish import publish
from services.training.roles import RoleSettings
from services.training.worker import Reporter, do_job, is_exported
from shared.artifacts import Registry
from shared.domain import History, UserContext
from tests.unit.services.training import synthetic

pytest.importorskip("tensorflow")
ON = Arm("on", "ridge")
STEPS = 6


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return private_people(
        assemble(synthetic.tables(people=60, events=30, items=50), RoleSettings(0.2, 0.2)), 1e-6
    )


def run(directory: Path, data: TrainingData, stop_after: int = 0, arm: Arm = ON) -> Job:
    """Does a private job in this process; where asked, is told to stop after a step."""
    job = Job("model", directory / "job", 0, "tiny", (arm,), pretrain_steps=STEPS)
    job = private_job(job, 10.0, 1e-6)
    plan = Plan((job,), directory / "progress.jsonl", directory / "stop", directory / "board", 1)
    plan.stop.unlink(missing_ok=True)

    class Stops(Reporter):
        def progress(self, job: Job, stage: str, step: int, total: int, metrics: object) -> None:
            super().progress(job, stage, step, total, metrics)  # type: ignore[arg-type]
            if stop_after and step >= stop_after:
                plan.stop.touch()

    with Stops(plan, writes=True) as reporter:
        do_job(job, data, None, reporter)
    return job


def rows(job: Job) -> dict[str, np.ndarray]:
    return {p.stem: np.load(p) for p in (job.export(ON) / "rows").glob("*.npy")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: TrainingData) -> tuple[Path, Job]:
    directory = tmp_path_factory.mktemp("whole")
    return directory, run(directory, data)


def test_a_version_promises_in_writing_and_tells_nothing_else_of_people(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    _, job = whole
    registry = Registry(tmp_path)
    artifact = registry.open(publish(registry, "shop", job.export(ON), {"ndcg10": 0.5}))
    manifest = artifact.manifest
    assert manifest.privacy is not None
    assert 9.7 < manifest.privacy.epsilon <= 10.0
    assert manifest.privacy.delta == 1e-6
    assert [(m.name, m.steps) for m in manifest.privacy.mechanisms] == [
        ("popularity", 1),
        ("chosen together", 1),
        ("gradients", STEPS),
    ]
    # Tables and figures of an ordinary training, and what is counted exactly.
    assert not {"successors", "follows", "counts"} & set(rows(job))
    assert (manifest.dims.successors, manifest.dims.trends, manifest.dims.rating) == (0, 0, 0)
    assert [t.name for t in manifest.tasks] == ["next", "like"]
    assert manifest.metrics == {}
    told = manifest.data
    assert (told.events, told.from_ms, told.until_ms, told.items) == (0, 0, 0, data.num_items)
    secret = (job.directory / SECRET_FILE).read_bytes()
    for file in filter(Path.is_file, artifact.path.rglob("*")):
        assert secret not in file.read_bytes()


def test_what_watchers_are_told_of_a_step_is_the_noisy_sum_alone(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    """No loss of anybody's, and no sum without noise: that of n clipped gradients is never longer than n."""
    directory, job = whole
    registry = Registry(tmp_path)
    manifest = registry.manifest(publish(registry, "shop", job.export(ON)))
    assert manifest.privacy is not None
    told = [json.loads(line)["metrics"] for line in (directory / "progress.jsonl").read_text().splitlines()]
    assert told
    for metrics in told:
        assert set(metrics) == {"noisy_gradient"}
        length = metrics["noisy_gradient"] * manifest.privacy.mechanisms[-1].sampling * manifest.data.users
        assert length > data.num_users


def test_the_version_serves_and_adapts(whole: tuple[Path, Job], tmp_path: Path, data: TrainingData) -> None:
    from services.training.evaluation.served import ServedArtifact

    registry = Registry(tmp_path)
    served = ServedArtifact.load(registry.open(publish(registry, "shop", whole[1].export(ON))))
    served.add_items(["new"], data.content[:1])
    items = served.rows((*data.item_ids, "new"))
    # Twelve likes of one of the four kinds of items.
    liked = History(
        tuple(f"i{n:03d}" for n in range(0, 48, 4)),
        np.full(12, 4, np.int32),
        np.zeros(12, np.float32),
        np.arange(12, dtype=np.int64) * 1000,
    )
    zeros = np.zeros(data.content.shape[1], np.float32)
    contexts = [UserContext("somebody", history, zeros, zeros) for history in (History.empty(), liked)]
    before, after = served.scores(contexts, items, task="next")
    assert np.isfinite(before).all()
    assert np.isfinite(after).all()
    gain = after[: data.num_items] - before[: data.num_items]
    kind = np.arange(data.num_items) % 4 == 0
    assert gain[kind].mean() > gain[~kind].mean()
    values = next(served.values(contexts[:1], items))
    assert ((values > 0.0) & (values < 1.0)).all()
    # Next ten events: the probabilities of all items add up to about ten.
    assert 3.0 < values[: data.num_items, 0].sum() < 12.0


def test_a_resumed_run_repeats_its_noise_and_spends_no_more(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    first = whole[1].directory / SECRET_FILE
    again = tmp_path / "job" / SECRET_FILE
    again.parent.mkdir()
    again.write_bytes(first.read_bytes())
    with pytest.raises(StopRequested):
        run(tmp_path, data, stop_after=3)
    job = run(tmp_path, data)
    with np.load(job.done("private")) as ends, np.load(whole[1].done("private")) as expected:
        assert set(ends.files) == set(expected.files)
        for name in (n for n in expected.files if not n.startswith("__")):
            np.testing.assert_allclose(ends[name], expected[name], atol=1e-6, err_msg=name)


def test_another_run_of_the_same_seed_has_other_noise(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    """Who knows the seed does not know the noise."""
    other = run(tmp_path, data)
    assert np.abs(rows(other)["output"] - rows(whole[1])["output"]).max() > 0.01


def test_a_secret_is_forgotten_and_without_it_nothing_goes_on(
    whole: tuple[Path, Job], tmp_path: Path, data: TrainingData
) -> None:
    with pytest.raises(StopRequested):
        run(tmp_path, data, stop_after=3)
    job = private_job(Job("model", tmp_path / "job", 0, "tiny", (ON,), pretrain_steps=STEPS), 10.0, 1e-6)
    forget_secret(job)
    with pytest.raises(SecretLost, match="secret must hold the 32 bytes"):
        run(tmp_path, data)
    assert not is_exported(job, ON)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["gradient", "none"])
def test_other_adapters_are_trained_privately_too(adapter: str, tmp_path: Path, data: TrainingData) -> None:
    arm = Arm("on", adapter)
    job = run(tmp_path, data, arm=arm)
    registry = Registry(tmp_path / "registry")
    manifest = registry.open(publish(registry, "shop", job.export(arm))).manifest
    assert manifest.adapter.name == adapter
    assert manifest.privacy is not None


def test_a_preset_without_a_private_training_is_refused(data: TrainingData, tmp_path: Path) -> None:
    from services.training.private.job import private_config
    from shared.errors import InvalidInput

    with pytest.raises(InvalidInput, match="preset must be one that can be trained privately, got 'large'"):
        private_config(Job("model", tmp_path, 0, "large", (ON,)))


def test_profiles_and_what_is_exported_exactly_take_no_part_in_gradients(data: TrainingData) -> None:
    from services.training.presets import preset
    from shared.modeling.model import WarmstartModel

    config = preset("tiny").private
    assert config is not None
    model = WarmstartModel(config.sizes(preset("tiny").model, data.content.shape[1]), data.content)
    trained = {v.path for v in (*trained_scales(model), *trained_weights(model))}
    assert not [path for path in trained if "start_" in path and "token" not in path]
    assert not [path for path in trained if "table_" in path or "item_tower" in path]
    assert len(trained) == len(trained_scales(model)) + len(trained_weights(model))
