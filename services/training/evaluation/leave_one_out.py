"""Leave one out: everybody's last event is asked for, the one before is for choosing, all else is trained on.

The protocol of SASRec (Kang and McAuley, 2018) over the whole catalogue: no sampled negatives, items of the
history masked. People are known to the model, so it measures the sequence model, not adaptation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.training.data import Int64Array, TrainingData, offsets_of
from services.training.evaluation import baselines
from services.training.evaluation.metrics import (
    Float64Array,
    Interval,
    hr_at,
    in_parts,
    ndcg_at,
    paired_bootstrap,
    share_below,
    top_items,
)
from services.training.evaluation.served import Saved, ServedArtifact
from services.training.evaluation.spread import Call, Progress, Spread, one_by_one
from shared.domain import FloatArray, History, IntArray, RequestContext, UserContext
from shared.holdout import Role
from shared.modeling.config import NEXT_TASK
from shared.transitions import KAPPAS

POPULARITY, KNN, ALS, SVD, RULES = "popularity", "item-kNN", "ALS", "PureSVD", "sequential rules"
# By itself, and with κ times what follows the history (`shared.transitions`), as artifacts of people it has
# just met have it.
MODEL, FOLLOWING = "sequence model", "sequence model with transitions"
Model = Saved | ServedArtifact
_PLACES = 10
_LEFT_OUT = 2
# One to read, and the two that are left out.
FEWEST_EVENTS = 1 + _LEFT_OUT


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """One event asked of each of B people.

    users [B] int32; ends [B] int64: the event's place in the data's columns. The history is all before it.
    """

    users: IntArray
    ends: Int64Array

    def __len__(self) -> int:
        return len(self.users)

    def histories(self, data: TrainingData) -> list[IntArray]:
        """Item numbers of each person's history, oldest first."""
        starts = data.offsets[self.users]
        return [data.items[a:b] for a, b in zip(starts, self.ends, strict=True)]

    def relevant(self, data: TrainingData) -> list[IntArray]:
        """The one item wanted of each person; none where it was in the history already, and so is masked."""
        wanted = data.items[self.ends]
        return [
            np.setdiff1d(wanted[row : row + 1], history) for row, history in enumerate(self.histories(data))
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """train: all but two events of each, role TRAIN; validation: the last but one; test: the last."""

    train: TrainingData
    validation: Targets
    test: Targets


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Figures of each person, the mean over seeds. [B] float64."""

    hr: Float64Array
    ndcg: Float64Array

    def minus(self, other: Scores) -> Interval:
        """Paired 95% interval over people of the difference in NDCG."""
        return paired_bootstrap(self.ndcg - other.ndcg)

    def share_worse(self, other: Scores) -> float:
        """Share of people whose NDCG is lower than with the other."""
        return share_below(self.ndcg, other.ndcg)


@dataclass(frozen=True, slots=True, eq=False)
class LeaveOneOut:
    """validation, test: arm → scores; tuned: what validation chose of each baseline."""

    people: int
    seeds: int
    validation: Mapping[str, Scores]
    test: Mapping[str, Scores]
    tuned: Mapping[str, str]


def split(data: TrainingData) -> Split:
    """Of people with at least three events; the others are trained on whole."""
    asked = np.flatnonzero(data.lengths >= FEWEST_EVENTS).astype(np.int32)
    last = data.offsets[asked + 1] - 1
    kept = np.ones(data.num_events, np.bool_)
    for back in range(_LEFT_OUT):
        kept[last - back] = False
    lengths = data.lengths.copy()
    lengths[asked] -= _LEFT_OUT
    train = replace(
        data,
        offsets=offsets_of(lengths),
        items=data.items[kept],
        actions=data.actions[kept],
        values=data.values[kept],
        time_ms=data.time_ms[kept],
        roles=np.full(data.num_users, int(Role.TRAIN), np.int8),
    )
    return Split(train, Targets(asked, last - 1), Targets(asked, last))


def leave_one_out(
    data: TrainingData,
    parts: Split,
    models: Sequence[Model],
    *,
    spread: Spread = one_by_one,
    progress: Progress = lambda done, total: None,
) -> LeaveOneOut:
    """Every arm on both events. models: one a seed, trained on `parts.train`. Baselines are tuned on the
    validation event and, for the test, know it as part of the history, as the model does; so is κ."""
    asked_of_models = [(model, targets) for model in models for targets in (parts.validation, parts.test)]
    calls = [Call(_baseline, (name,)) for name in _GRIDS]
    calls += [Call(_by_model, (model, targets)) for model, targets in asked_of_models]
    results = spread((data, parts), calls, progress)
    validation, test, tuned = {}, {}, {}
    for name, found in zip(_GRIDS, results, strict=False):
        tuned[name], validation[name], test[name] = found
    of_models = results[len(_GRIDS) :]
    ranked = list(zip(of_models[::2], of_models[1::2], strict=True))
    if ranked:
        asked = tuple(enumerate((parts.validation, parts.test)))
        at_once = {
            kappa: [_scored(data, targets, [r[n][kappa] for r in ranked]) for n, targets in asked]
            for kappa in KAPPAS
        }
        best = max(KAPPAS, key=lambda kappa: float(at_once[kappa][0].ndcg.mean()))
        tuned[FOLLOWING] = f"κ = {best:g}"
        for name, kappa in ((MODEL, 0.0), (FOLLOWING, best)):
            validation[name], test[name] = at_once[kappa]
    return LeaveOneOut(len(parts.test), len(models), validation, test, tuned)


def rank(
    data: TrainingData, targets: Targets, served: Model, following: baselines.Following
) -> dict[float, IntArray]:
    """The model's first ten items of each person, history masked, by κ. [B, ≤ 10] int32 each."""
    rows = served.rows(data.item_ids)
    histories = targets.histories(data)
    # People with histories of like length together: a batch is padded to its longest.
    order = np.argsort([len(h) for h in histories], kind="stable")
    shape = (len(targets), min(_PLACES, data.num_items))
    ranked = {kappa: np.zeros(shape, np.int32) for kappa in KAPPAS}
    for part in in_parts(order.tolist(), data.num_items):
        people = [_context(data, int(targets.users[b]), int(targets.ends[b])) for b in part]
        masked = [histories[b] for b in part]
        scores = served.scores(people, rows, task=NEXT_TASK)
        more = following(masked)
        for kappa, lists in ranked.items():
            lists[list(part)] = top_items(scores + np.float32(kappa) * more, masked, _PLACES)
    return ranked


def _context(data: TrainingData, user: int, end: int) -> UserContext:
    """A person with all events before one; nothing of the moment of the event itself, which protocols like
    this do not tell, and no profiles, which windows from a person's first event on do not have."""
    start = int(data.offsets[user])
    part = slice(start, end)
    nothing = np.zeros(data.content.shape[1], np.float32)
    return UserContext(
        user_id=data.user_ids[user],
        history=History(
            tuple(data.item_ids[i] for i in data.items[part]),
            data.actions[part],
            data.values[part],
            data.time_ms[part],
        ),
        content_profile=nothing,
        social_profile=nothing,
        attributes=data.profiles[user],
        total_events=end - start,
        request=RequestContext(),
    )


# Baselines by name, each in the settings to choose from.
_GRIDS: Mapping[str, Callable[[TrainingData], Mapping[Any, baselines.Recommend]]] = {
    POPULARITY: lambda train: {"": baselines.popularity(train)},
    KNN: baselines.fitted_grid,
    ALS: baselines.als_grid,
    SVD: baselines.pure_svd_grid,
    RULES: lambda train: {"": baselines.sequential_rules(baselines.following_scores(train), train.num_items)},
}


def _baseline(data: TrainingData, parts: Split, name: str) -> tuple[str, Scores, Scores]:
    """What validation chose, and its scores on both events."""
    grid = {str(setting): fitted for setting, fitted in _GRIDS[name](parts.train).items()}
    best, validation = _best(data, parts.validation, grid)
    return best, validation, _scored(data, parts.test, [_recommended(data, parts.test, grid[best])])


def _by_model(data: TrainingData, parts: Split, model: Model, targets: Targets) -> dict[float, IntArray]:
    return rank(data, targets, model, baselines.following_scores(parts.train))


def _best(
    data: TrainingData, targets: Targets, grid: Mapping[str, baselines.Recommend]
) -> tuple[str, Scores]:
    found = {
        setting: _scored(data, targets, [_recommended(data, targets, recommend)])
        for setting, recommend in grid.items()
    }
    best = max(found, key=lambda setting: float(found[setting].ndcg.mean()))
    return best, found[best]


def _recommended(data: TrainingData, targets: Targets, recommend: baselines.Recommend) -> IntArray:
    histories = targets.histories(data)
    return recommend(histories, histories, _PLACES)


def _scored(data: TrainingData, targets: Targets, ranked: Sequence[IntArray]) -> Scores:
    relevant = targets.relevant(data)

    def mean(of: Callable[..., FloatArray | Float64Array]) -> Float64Array:
        figures: Float64Array = np.mean([of(r, relevant, _PLACES) for r in ranked], axis=0)
        return figures

    return Scores(mean(hr_at), mean(ndcg_at))
