"""Meta-training: episodes teach, the best weights are kept, adapters are left alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from services.training import metatrain, windows
from services.training.assemble import assemble
from services.training.calibrate import SHOTS, binned, calibrate, platt
from services.training.data import TrainingData
from services.training.episode_batch import episode_batch, like_loss, score_episodes
from services.training.episodes import (
    PROTOCOL_QUERY,
    EpisodeShape,
    draw_episodes,
    events_so_far,
    excluded,
    protocol_episodes,
    query_sets,
)
from services.training.loop import Hooks
from services.training.metatrain import meta_train
from services.training.presets import preset
from services.training.pretrain import new_model
from services.training.roles import RoleSettings
from services.training.scores import episode_scores
from services.training.validate import ndcg_at_10
from services.training.windows import LIKED_LABEL
from shared.calibration import task_values
from shared.holdout import Role
from shared.modeling.config import task_infos
from tests.unit.services.training import synthetic

pytest.importorskip("tensorflow")
TINY = preset("tiny")
CONFIG = replace(TINY.meta, steps=10, validate_every=5)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=60, events=34, items=80), RoleSettings(0.0, 0.2))


def model_of(data: TrainingData) -> Any:
    config = replace(TINY.model, content_dim=data.content.shape[1], adapter="none")
    return new_model(config, data, seed=0)


def served_ndcg(model: Any, data: TrainingData) -> float:
    """Mean NDCG@10 of validation people with the model as it is."""
    found = []
    for shots in (1, 5):
        cuts = protocol_episodes(data, data.users_of(Role.VALIDATION), shots)
        scores = episode_scores(model, data, cuts)[:, 0]
        scores[excluded(events_so_far(data, cuts), data.num_items) > 0] = -np.inf
        targets, there, _ = query_sets(data, cuts, PROTOCOL_QUERY)
        found.append(ndcg_at_10(scores, targets, there).mean())
    return float(np.mean(found))


def trained_from(model: Any, data: TrainingData, *, steps: int = 120) -> tuple[float, dict[str, float]]:
    """Trains for some steps; validation NDCG before, and what the training says at its end."""
    before = served_ndcg(model, data)
    config = replace(CONFIG, steps=steps, validate_every=30, validation_shots=(1, 5))
    final = meta_train(model, data, config, seed=0)
    assert final["validation_ndcg"] == pytest.approx(served_ndcg(model, data))
    return before, final


@pytest.fixture(scope="module")
def trained(data: TrainingData) -> tuple[Any, float, dict[str, float]]:
    """A model from the usual start (an SVD of what people did), its NDCG before, what training says."""
    model = model_of(data)
    return model, *trained_from(model, data)


def test_training_keeps_what_the_start_knows(trained: tuple[Any, float, dict[str, float]]) -> None:
    """The SVD knows this small world already; the best validated weights lose next to nothing of it."""
    _, before, final = trained
    assert final["validation_ndcg"] >= before - 0.02


def test_it_learns_to_predict_validation_people_and_leaves_the_adapters_rows_alone(
    data: TrainingData,
) -> None:
    """From rows of noise, so that all it knows it has learned from episodes."""
    model = model_of(data)
    rng = np.random.default_rng(0)
    model.tables["v"].assign(rng.normal(0.0, 0.05, model.tables["v"].shape).astype(np.float32))
    start = model.state_arrays()
    before, final = trained_from(model, data, steps=300)
    assert final["validation_ndcg"] > before + 0.05
    assert np.isfinite(final["loss"])
    moved = {name for name, array in model.state_arrays().items() if not np.array_equal(array, start[name])}
    assert "warmstart/table_v" in moved
    assert moved.isdisjoint({"warmstart/table_phi", "warmstart/table_psi"})


def test_a_taste_shows_after_one_event(
    trained: tuple[Any, float, dict[str, float]], data: TrainingData
) -> None:
    """Items are of four kinds and people like one: their own kind scores above the others."""
    model, _, _ = trained
    cuts = protocol_episodes(data, data.users_of(Role.VALIDATION), 1)
    scores = episode_scores(model, data, cuts)[:, 0]
    kinds = np.arange(data.num_items) % 4
    tastes = np.array([int(data.user_ids[u][1:]) % 4 for u in cuts.users])
    gaps = [s[kinds == t].mean() - s[kinds != t].mean() for s, t in zip(scores, tastes, strict=True)]
    assert np.mean(np.array(gaps) > 0) > 0.7


@pytest.mark.slow
def test_a_body_rate_of_0_leaves_the_body_as_it_is(data: TrainingData) -> None:
    model = model_of(data)
    before = {path: array.copy() for path, array in model.state_arrays().items()}
    meta_train(model, data, replace(CONFIG, steps=5, body_rate=0.0), seed=0)
    changed = {
        path for path, array in model.state_arrays().items() if not np.array_equal(array, before[path])
    }
    assert {path.rsplit("/", 1)[-1] for path in changed} <= {"table_b", "kernel", "log_tau", "offsets"}
    assert {path.split("/")[-2] for path in changed if path.endswith("kernel")} == {"maps"}


@pytest.mark.slow
def test_who_is_blind_to_labels_learns_no_reactions(
    trained: tuple[Any, float, dict[str, float]], data: TrainingData
) -> None:
    _, _, said = trained
    untold = meta_train(model_of(data), replace(data, blind=True), replace(CONFIG, steps=1), seed=0)
    assert set(said) - set(untold) == {"reaction_miss", "reaction_right"}


def test_likes_are_as_probable_as_they_are_many_from_the_first_step_on(data: TrainingData) -> None:
    """Σ sigmoid(score + offset) over what may be shown is the number of likes."""
    model = model_of(data)
    people, shape = data.users_of(Role.VALIDATION), EpisodeShape(max_shots=8)
    metatrain._start_offset(model, data, people, shape, windows.generator(0, 2, 7))
    rng = windows.generator(0, 2, 7)
    batch = episode_batch(data, draw_episodes(data, people, 64, shape, rng), shape, rng)
    logits = score_episodes(model, batch).logits[1].numpy() + model.offsets()["like"]
    assert expit(logits[batch["excluded"] == 0]).sum() == pytest.approx(batch["like_weight"].sum(), rel=1e-3)


def test_the_loss_of_likes_is_of_both_kinds(data: TrainingData) -> None:
    """A share of binary cross-entropy; what may not be shown costs nothing in either."""
    model, shape, rng = model_of(data), EpisodeShape(max_shots=8), windows.generator(0, 2, 0)
    batch = episode_batch(data, draw_episodes(data, data.users_of(Role.TRAIN), 16, shape, rng), shape, rng)
    scored = score_episodes(model, batch)
    logits, shown = scored.logits[1].numpy(), batch["excluded"] == 0
    liked = np.zeros(logits.shape, bool)
    rows, columns = np.nonzero(batch["like_weight"])
    liked[rows, batch["targets"][rows, columns]] = True
    p, y = expit(logits[shown]), liked[shown]
    entropy = -(np.log(p[y]).sum() + np.log1p(-p[~y]).sum()) / liked.sum()
    softmax = float(like_loss(model, batch, scored, 0.0))
    assert float(like_loss(model, batch, scored, 1.0)) == pytest.approx(entropy, rel=1e-4)
    assert float(like_loss(model, batch, scored, 0.25)) == pytest.approx(
        0.25 * entropy + 0.75 * softmax, rel=1e-4
    )


@pytest.mark.parametrize("shots", SHOTS)
def test_scores_become_probabilities_at_every_number_of_shots(
    trained: tuple[Any, float, dict[str, float]], data: TrainingData, shots: int
) -> None:
    """Of the items not had yet as many as foretold are done next, and as many as foretold liked."""
    model, _, _ = trained
    tasks = task_infos(calibrate(model, data), model.offsets())
    cuts = protocol_episodes(data, data.users_of(Role.VALIDATION), shots)
    unseen = excluded(events_so_far(data, cuts), data.num_items) == 0
    raw = episode_scores(model, data, cuts).transpose(0, 2, 1)[unseen]
    foretold = task_values(raw, tasks, shots).sum(axis=0)[:2]
    _, there, labels = query_sets(data, cuts, PROTOCOL_QUERY)
    came = (there.sum(), (there * (labels >= LIKED_LABEL)).sum())
    assert foretold == pytest.approx(came, rel=1e-3)
    assert foretold[1] < foretold[0]


def test_long_histories_are_calibrated_for_themselves() -> None:
    """The protocol ends at 20 shots; people of 90 events say what 40 mean, and the most a model takes."""
    long = assemble(synthetic.tables(people=60, events=90, items=110), RoleSettings(0.0, 0.4))
    config = replace(TINY.model, content_dim=long.content.shape[1], buckets=(16, 64))
    found = calibrate(new_model(config, long, seed=0), long)
    assert [c.shots for c in found["next"]] == [*SHOTS, 40, 64]
    assert all(c.scale > 0.0 for c in found["next"])


def test_a_large_catalogue_is_gone_through_in_parts_with_the_same_result(
    data: TrainingData, trained: tuple[Any, float, dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people at a time, as if scores of three did not fit into memory."""
    from services.training import parts as memory
    from services.training import scores, validate

    model, _, _ = trained
    people = data.users_of(Role.VALIDATION)
    whole = calibrate(model, data)
    seen = validate.choose_gamma(model, data, people, (1, 5))
    monkeypatch.setattr(memory, "MOST_SCORES", 2 * data.num_items * len(model.config.tasks) + 1)
    cuts = protocol_episodes(data, people, 5)
    parts = list(scores.in_parts(cuts, num_items=data.num_items, num_tasks=len(model.config.tasks)))
    assert [len(part) for part in parts[:-1]] == [2] * (len(parts) - 1)
    np.testing.assert_array_equal(np.concatenate([part.users for part in parts]), cuts.users)
    for task, fits in calibrate(model, data).items():
        for fit, other in zip(fits, whole[task], strict=True):
            assert (fit.scale, fit.offset) == pytest.approx((other.scale, other.offset), rel=1e-2)
    assert validate.choose_gamma(model, data, people, (1, 5)).ndcg == pytest.approx(seen.ndcg, abs=1e-6)


@pytest.mark.slow
def test_a_catalogue_smaller_than_a_neighbourhood_is_trained_on() -> None:
    few = assemble(synthetic.tables(people=20, events=8, items=12), RoleSettings(0.0, 0.2))
    final = meta_train(model_of(few), few, replace(CONFIG, steps=2), seed=0)
    assert np.isfinite(final["loss"])


def test_without_people_of_enough_events_nothing_is_calibrated(
    trained: tuple[Any, float, dict[str, float]],
) -> None:
    model, _, _ = trained
    short = assemble(synthetic.tables(people=20, events=7, items=80), RoleSettings(0.0, 0.2))
    assert calibrate(model, short) == {"next": (), "like": ()}


def test_short_histories_are_calibrated_by_as_many_shots_as_they_have(
    trained: tuple[Any, float, dict[str, float]],
) -> None:
    """14 events: asked after 3 and 6 for the next 5 (12 + 5 > 14), so with 0, 1, 2 and 5 shots, not 10."""
    model, _, _ = trained
    short = assemble(synthetic.tables(people=20, events=14, items=80), RoleSettings(0.0, 0.2))
    assert [fit.shots for fit in calibrate(model, short)["next"]] == [0, 1, 2, 5]


def test_platt_scaling_by_hand() -> None:
    """Two groups: of 2,000 at score 1 half are done, of 2,000 at 0 a tenth: offset log(1/9), scale log 9."""
    scores = np.repeat(np.array([1.0, 0.0], np.float32), 2000)
    done = np.concatenate([np.arange(2000) < 1000, np.arange(2000) < 200])
    scale, offset = platt([binned(scores, done)])
    assert (scale, offset) == pytest.approx((np.log(9.0), -np.log(9.0)), abs=0.01)


def test_platt_scaling_of_bins_is_that_of_every_score() -> None:
    """The likelihood's gradient over all scores is 0 but for the prior; as many hits are foretold as came."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0.0, 3.0, 50_000).astype(np.float32)
    done = rng.random(len(scores)) < expit(0.7 * scores - 3.0)
    means, copies, hits = binned(scores, done)
    np.testing.assert_array_equal(hits, scores[done])
    assert len(means) < len(scores) / 2
    assert (copies.sum(), copies @ means) == pytest.approx((len(scores), scores.sum(dtype=float)))
    scale, offset = platt([binned(scores, done)])
    errors = expit(scale * scores.astype(float) + offset) - done
    assert abs(errors.sum()) < 0.01
    assert abs(errors @ scores + scale - 1.0) < 2.0  # of a curvature in the tens of thousands
    in_two = platt([binned(scores[:20_000], done[:20_000]), binned(scores[20_000:], done[20_000:])])
    assert in_two == pytest.approx((scale, offset), rel=1e-3)
    alike = binned(np.full(7, 2.5, np.float32), np.arange(7) < 1)
    assert [kind.tolist() for kind in alike] == [[2.5], [7.0], [2.5]]


@pytest.mark.parametrize("done", [[False, False, False], [True, False, False], [True, True, True]])
def test_platt_scaling_of_next_to_nothing_is_finite_and_keeps_the_order(done: list[bool]) -> None:
    scale, offset = platt([binned(np.array([-3.0, 0.0, 3.0], np.float32), np.array(done))])
    assert scale > 0.0
    assert np.isfinite([scale, offset]).all()


def test_ndcg_by_hand() -> None:
    """Hits at places 1 and 3 of two relevant: (1 + 1/2) / (1 + 1/log2 3)."""
    scores = np.array([[4.0, 3.0, 2.0, 1.0]], np.float32)
    found = ndcg_at_10(scores, np.array([[0, 2]], np.int32), np.ones((1, 2), np.float32))
    assert found[0] == pytest.approx(1.5 / (1 + 1 / np.log2(3)))


@pytest.mark.slow  # test_pretrain keeps the short form of it
def test_a_resumed_run_is_the_run_that_never_stopped(data: TrainingData) -> None:
    whole, kept = model_of(data), []
    hooks = Hooks(on_checkpoint=kept.append, checkpoint_every=6)
    one = meta_train(whole, data, CONFIG, seed=1, hooks=hooks)
    resumed = model_of(data)
    other = meta_train(resumed, data, CONFIG, seed=1, hooks=Hooks(resume=kept[0]))
    assert one == other
    pairs = zip(whole.state_arrays().values(), resumed.state_arrays().values(), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.slow  # test_pretrain keeps the short form of it
def test_a_large_catalogue_trains_on_a_sample(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "FULL_SOFTMAX_ITEMS", 10)
    config = replace(CONFIG, steps=2, shape=EpisodeShape(max_shots=5, query=4, pool_items=75))
    assert np.isfinite(meta_train(model_of(data), data, config, seed=0)["loss"])
