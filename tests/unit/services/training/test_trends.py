"""What was chosen of late: counted by hand, its weight found where weeks differ, and the same in training, in
evaluation and as served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from services.training.assemble import Tables, assemble
from services.training.data import TrainingData
from services.training.roles import RoleSettings
from services.training.trends import PRIORS, Recent, find_trends
from shared.domain import Action
from shared.holdout import Role
from shared.trends import HALF_LIFE_S
from tests.unit.services.training import synthetic

pytest.importorskip("tensorflow")

_WEEK_MS = HALF_LIFE_S * 1000
_ITEMS, _IN_FASHION = 40, 10


def data_of(rows: list[tuple[str, str, Action, int]], roles: RoleSettings) -> TrainingData:
    """(person, item, action, time) on the items of `synthetic`."""
    users, items, actions, times = (list(column) for column in zip(*rows, strict=True))
    events = {
        "user_id": users,
        "item_id": items,
        "action": [int(a) for a in actions],
        "value": [0.0] * len(rows),
    }
    world = synthetic.tables(people=1, events=1, items=_ITEMS)
    return assemble(Tables(pa.table({**events, "time_ms": times}), world.items), roles)


def test_an_event_counts_half_for_each_week_that_has_passed_and_not_before_it_came() -> None:
    """A like counts 1, a view less, a dislike nothing; what comes at the very moment is not before it."""
    rows = [
        ("u1", "i000", Action.LIKE, 10 * _WEEK_MS),
        ("u2", "i000", Action.LIKE, 11 * _WEEK_MS),
        ("u2", "i001", Action.VIEW, 12 * _WEEK_MS),
        ("u3", "i002", Action.DISLIKE, 11 * _WEEK_MS),
        ("u3", "i003", Action.LIKE, 13 * _WEEK_MS),
    ]
    data = data_of(rows, RoleSettings(0.0, 0.0))
    recent = Recent.of(data)
    found = recent.before(np.array([13 * _WEEK_MS, 11 * _WEEK_MS, 5]))
    view = recent.counts[1]
    assert 0.0 < view < 1.0
    np.testing.assert_allclose(found[0, :5], [2**-3 + 2**-2, view / 2, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(found[1, :5], [0.5, 0.0, 0.0, 0.0, 0.0])
    assert not found[2].any()
    (sooner,) = recent.before(np.array([13 * _WEEK_MS]), HALF_LIFE_S / 7)
    assert sooner[0] == pytest.approx(2**-14, rel=1e-6)  # of days: what is older than twenty is left out
    assert sooner[1] == pytest.approx(view * 2**-7)
    np.testing.assert_allclose(recent.counts[:4], [2.0, view, 0.0, 1.0])


def test_a_person_counts_once_for_an_item_by_their_first_event_as_in_the_feature_service() -> None:
    rows = [
        ("u1", "i000", Action.LIKE, 12 * _WEEK_MS),
        ("u1", "i000", Action.LIKE, 10 * _WEEK_MS),
        ("u1", "i000", Action.LIKE, 13 * _WEEK_MS),
        ("u2", "i000", Action.LIKE, 11 * _WEEK_MS),
        ("u2", "i001", Action.DISLIKE, 11 * _WEEK_MS),
        ("u2", "i001", Action.LIKE, 12 * _WEEK_MS),
    ]
    recent = Recent.of(data_of(rows, RoleSettings(0.0, 0.0)))
    np.testing.assert_array_equal(recent.time_ms, [10 * _WEEK_MS, 11 * _WEEK_MS])
    np.testing.assert_allclose(recent.counts[:2], [2.0, 0.0])


def test_many_moments_at_once_are_counted_as_each_by_itself() -> None:
    recent = Recent.of(changing())
    rng = np.random.default_rng(2)
    moments = rng.integers(recent.time_ms[0] - 5, recent.time_ms[-1] + 5 * _WEEK_MS, 50)
    moments[:3] = recent.time_ms[[0, 0, -1]]
    found = recent.before(moments)
    for moment, own in zip(moments, found, strict=True):
        past = recent.time_ms < moment
        weights = recent.weights[past] * 2.0 ** ((recent.time_ms[past] - moment) / _WEEK_MS)
        wanted = np.bincount(recent.items[past], weights, minlength=recent.num_items)
        np.testing.assert_allclose(own, wanted, rtol=1e-4, atol=1e-5)
    assert recent.before(moments[:0]).shape == (0, recent.num_items)


def changing(people: int = 240) -> TrainingData:
    """Every four weeks other items are in fashion, and everybody, who comes once, takes all of them in an
    order of their own: what came before says nothing of what is to come."""
    rng = np.random.default_rng(0)
    fashions = [rng.permutation(_ITEMS)[:_IN_FASHION] for _ in range(12)]
    rows = []
    for person in range(people):
        number = person % len(fashions)
        for place, item in enumerate(rng.permutation(fashions[number])):
            when = number * 4 * _WEEK_MS + person * 1_000_000 + place
            rows.append((f"u{person:03d}", f"i{item:03d}", Action.LIKE, when))
    return data_of(rows, RoleSettings(0.2, 0.3))


def test_only_training_people_are_counted() -> None:
    data = changing()
    here = int(np.isin(data.roles[data.owners], [int(Role.TRAIN)]).sum())
    assert len(Recent.of(data).items) == here < data.num_events
    nobody = Recent.of(replace(data, roles=np.full_like(data.roles, int(Role.VALIDATION))))
    assert find_trends(nobody, seed=0).prior == 0.0
    assert not find_trends(nobody, seed=0).counts.any()


def test_the_long_run_counts_little_where_fashions_change_and_much_where_they_do_not() -> None:
    assert find_trends(Recent.of(changing()), seed=0).prior == PRIORS[0]
    rng = np.random.default_rng(1)
    rows = [
        (f"u{n % 300:03d}", f"i{rng.integers(_ITEMS):03d}", Action.LIKE, n * _WEEK_MS // 400)
        for n in range(6000)
    ]
    steady = find_trends(Recent.of(data_of(rows, RoleSettings(0.0, 0.0))), seed=0)
    assert steady.prior == PRIORS[-1]


def in_fashion(data: TrainingData) -> Any:
    """A model that knows nothing but trends."""
    from services.training.follow import follow_trends
    from services.training.presets import preset
    from services.training.pretrain import new_model

    model = new_model(replace(preset("tiny").model, content_dim=data.content.shape[1]), data, seed=0)
    follow_trends(model, data, (0, 1, 5), seed=0)
    return model


def test_where_fashions_change_omega_is_high_and_lists_get_better() -> None:
    from services.training.episodes import protocol_episodes
    from services.training.scores import episode_scores

    data = changing()
    model = in_fashion(data)
    assert model.heads.omega.numpy().min() > 0.0
    cuts = protocol_episodes(data, data.users_of(Role.HELD_OUT), 0, (3,), 5)
    recent = Recent.of(data)
    start = data.offsets[cuts.users] + cuts.starts
    found = []
    for scores in (episode_scores(model, data, cuts), episode_scores(model, data, cuts, None, recent)):
        best = np.argsort(-scores[:, 0], axis=1)[:, :_IN_FASHION]
        wanted = [set(data.items[s : s + 5].tolist()) for s in start]
        found.append(np.mean([len(w & set(b.tolist())) / 5 for w, b in zip(wanted, best, strict=True)]))
    assert found[0] < 0.5
    assert found[1] > 0.9


def test_of_priors_the_one_with_the_best_lists_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from services.training import follow

    likeliest = find_trends(Recent.of(changing()), seed=0).prior
    for best in (1.0, 0.3, 0.1):
        tried = []

        def choose(model: Any, *_: Any, best: float = best, tried: list[float] = tried) -> Any:
            tried.append(model.trends.prior)
            right = model.trends.prior == pytest.approx(best * likeliest)
            return np.full(model.heads.omega.shape, best if right else 9.0), 0.2 if right else 0.1

        monkeypatch.setattr(follow, "choose_omega", choose)
        model = in_fashion(changing())
        assert tried == pytest.approx([likeliest, 0.3 * likeliest, 0.1 * likeliest])
        assert model.trends.prior == pytest.approx(best * likeliest)
        np.testing.assert_allclose(model.heads.omega.numpy(), best, rtol=1e-6)


def test_where_nobody_can_be_asked_or_there_are_no_trends_omega_stays() -> None:
    from services.training.follow import follow_trends
    from services.training.presets import preset
    from services.training.pretrain import new_model

    nobody = changing()
    nobody = replace(nobody, roles=np.full_like(nobody.roles, int(Role.TRAIN)))
    model = in_fashion(nobody)
    assert not model.heads.omega.numpy().any()
    assert model.trends.prior == find_trends(Recent.of(nobody), seed=0).prior
    data = changing()
    sizes = replace(preset("tiny").model, content_dim=data.content.shape[1], trends=False)
    model = new_model(sizes, data, seed=0)
    follow_trends(model, data, (0, 1, 5), seed=0)
    assert not model.heads.omega.numpy().any()
    assert not model.trends.prior


def test_probabilities_are_of_scores_with_trends() -> None:
    """Where nothing but trends says what comes, a probability that goes by the score follows it steeply."""
    from services.training.calibrate import calibrate

    data = changing()
    model = in_fashion(data)
    found = calibrate(model, data)["next"][0]
    model.heads.omega.assign(np.zeros_like(model.heads.omega.numpy()))
    without = calibrate(model, data)["next"][0]
    assert found.shots == without.shots == 0
    assert found.scale > 2.0 * without.scale


def test_an_export_scores_as_the_model_did(tmp_path: Path) -> None:
    from services.training.episodes import protocol_episodes
    from services.training.evaluation.protocol import Protocol, ask, contexts
    from services.training.evaluation.served import Saved
    from services.training.jobs import NO_ADAPTER, Arm, Job
    from services.training.publish import publish
    from services.training.scores import episode_scores
    from services.training.worker import export
    from shared.artifacts import Registry

    data = changing()
    model, arm = in_fashion(data), Arm("on", NO_ADAPTER)
    job = Job("model", tmp_path / "job", 0, "tiny", (arm,))
    job.directory.mkdir()
    export(job, arm, model, data, {})
    registry = Registry(tmp_path / "registry")
    ref = publish(registry, "default", job.export(arm))
    artifact = registry.open(ref)
    assert artifact.manifest.trends.prior == model.trends.prior == artifact.trends.prior
    np.testing.assert_array_equal(artifact.trends.counts, Recent.of(data).counts)

    people, recent = data.users_of(Role.HELD_OUT), Recent.of(data)
    questions = ask(data, people, Protocol(3, 5))
    for shots in (0, 2):
        wanted = episode_scores(
            model, data, protocol_episodes(data, questions.users, shots, (3,), 5), None, recent
        )
        asked = contexts(data, questions, shots)
        for trends in (True, False):
            saved = Saved(registry.root, ref, trends=trends)
            found = saved.scores(asked, saved.rows(data.item_ids), task="next", recent=recent)
            if trends:
                np.testing.assert_allclose(found, wanted[:, 0], atol=1e-4)
            else:
                assert np.abs(found - wanted[:, 0]).max() > 0.5
