"""The k-shot table: people never trained on, NDCG@10 and HR@10 by number of support events and arm."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from services.training.data import TrainingData
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
from services.training.evaluation.protocol import Questions, contexts, support_items
from services.training.evaluation.spread import Call, Progress, Spread, one_by_one
from services.training.trends import Recent
from shared.domain import FloatArray, IntArray, UserContext

POPULARITY, KNN, OFF, ON = "popularity", "item-kNN", "adaptation off", "adaptation on"
# The table of transitions by itself; and adaptation without it.
RULES, FAST_WEIGHTS = "sequential rules", "fast weights alone"
# What is chosen now by itself; and adaptation without it.
LATE, TIMELESS = "popular of late", "on, without trends"
# The new history read by a model that was pre-trained only, as sequence models are used; and a mix with
# item-kNN: what meta-learning must beat.
RE_ENCODING, MIXED = "re-encoding", "re-encoding + 0.3 kNN"
# Trained as "off" is, but never told what people said of what they chose.
BLIND = "blind to labels"
# What a private version itself says of popularity.
OWN_POPULARITY = "its own popularity"
_KNN_SHARE = 0.3
_PLACES = 10
# The first ten items of the questions' people by number of shots, [B, 10] each.
Ranked = Mapping[int, IntArray]


class Ranker(Protocol):
    """What makes an arm's lists: an artifact as servers run it, or a body that is adapted whole. It can be
    pickled, as arms may be run in other processes."""

    def rows(self, item_ids: Sequence[str]) -> Any:
        """What `scores` wants to have of the items."""
        ...

    def scores(
        self, contexts: Sequence[UserContext], rows: Any, *, task: str, recent: Recent | None = None
    ) -> FloatArray:
        """What lists of each person are ranked by. [B, N] float32. recent: what was chosen when, of the very
        items that the rows are of."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class ArmScores:
    """One arm at one number of shots: per-person figures, the mean over seeds. [people] float64."""

    ndcg: Float64Array
    hr: Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class FewShot:
    """The whole table. arms[name][k]; tuned: the item-kNN chosen at each k."""

    questions: Questions
    arms: Mapping[str, Mapping[int, ArmScores]]
    tuned: Mapping[int, baselines.Knn]
    seeds: int

    @property
    def shots(self) -> tuple[int, ...]:
        return self.questions.protocol.shots

    def ndcg(self, arm: str, shots: int) -> float:
        return _mean(self.arms[arm][shots].ndcg)

    def hr(self, arm: str, shots: int) -> float:
        return _mean(self.arms[arm][shots].hr)

    def mean_ndcg(self, arm: str) -> float:
        """Mean over the numbers of shots from 1 on."""
        return float(np.mean([self.ndcg(arm, k) for k in self.shots if k > 0]))

    def per_person(self, arm: str) -> Float64Array:
        """NDCG of each person, mean over the numbers of shots from 1 on. [people]."""
        means: Float64Array = np.mean([self.arms[arm][k].ndcg for k in self.shots if k > 0], axis=0)
        return means

    def difference(self, arm: str, other: str, shots: int | None = None) -> Interval:
        """Paired 95% interval over people of NDCG(arm) − NDCG(other); over all k ≥ 1 where none is given."""
        if shots is None:
            return paired_bootstrap(self.per_person(arm) - self.per_person(other))
        return paired_bootstrap(self.arms[arm][shots].ndcg - self.arms[other][shots].ndcg)

    def share_worse(self, arm: str, other: str, shots: int | None = None) -> float:
        """Share of people whose NDCG is lower with `arm` than with `other`; the mean over k ≥ 1 where none is
        given."""
        if shots is None:
            return share_below(self.per_person(arm), self.per_person(other))
        return share_below(self.arms[arm][shots].ndcg, self.arms[other][shots].ndcg)


def few_shot(
    data: TrainingData,
    questions: Questions,
    models: Mapping[str, Sequence[Ranker]],
    *,
    task: str,
    spread: Spread = one_by_one,
    progress: Progress = lambda done, total: None,
) -> FewShot:
    """The table with models' lists ranked by one task; see `few_shot_by_task`."""
    return few_shot_by_task(data, questions, models, tasks=(task,), spread=spread, progress=progress)[task]


def few_shot_by_task(
    data: TrainingData,
    questions: Questions,
    models: Mapping[str, Sequence[Ranker]],
    *,
    tasks: Collection[str],
    spread: Spread = one_by_one,
    progress: Progress = lambda done, total: None,
) -> dict[str, FewShot]:
    """Runs every arm: the baselines once, the models for each task (or the mix) that ranks their lists.

    spread: how arms, seeds and tasks are run; progress: told how many of them are done. models: arm → one
    model a seed. data: with the held-out people; baselines are fitted on training people and tuned on
    validation people by the same protocol.
    """
    wanted = [(task, name, ranker) for task in tasks for name, seeds in models.items() for ranker in seeds]
    mixed = [(task, ranker) for task in tasks for ranker in models.get(RE_ENCODING, ())]
    baseline_calls = [Call(_item_knn), Call(_popularity), Call(_popular_of_late), Call(_sequential_rules)]
    calls = [*baseline_calls, *(Call(_by_model, (ranker, task)) for task, _, ranker in wanted)]
    total = len(calls) + len(mixed)

    (knn, tuned), popular, late, ruled, *ranked = spread(
        (data, questions), calls, lambda done, _: progress(done, total)
    )
    # these want to know what item-kNN was tuned to
    calls = [Call(_by_mix, (ranker, task, tuned)) for task, ranker in mixed]
    mixes = spread((data, questions), calls, lambda done, _: progress(total - len(calls) + done, total))

    most_seeds = max((len(s) for s in models.values()), default=0)
    tables = {}
    for task in tasks:
        of_task: dict[str, list[Ranked]] = {POPULARITY: [popular], LATE: [late], KNN: [knn], RULES: [ruled]}
        of_task |= {name: [] for name in models}
        for (of, name, _), lists in zip(wanted, ranked, strict=True):
            if of == task:
                of_task[name].append(lists)
        if mixed:
            of_task[MIXED] = [lists for (of, _), lists in zip(mixed, mixes, strict=True) if of == task]
        arms = {name: _scored(questions, seeds) for name, seeds in of_task.items()}
        tables[task] = FewShot(questions, arms, tuned, most_seeds)
    return tables


def _scored(questions: Questions, seeds: Sequence[Ranked]) -> dict[int, ArmScores]:
    """One arm at each number of shots that it was asked at."""
    return {
        shots: ArmScores(
            np.mean([ndcg_at(ranked[shots], questions.relevant, _PLACES) for ranked in seeds], axis=0),
            np.mean([hr_at(ranked[shots], questions.relevant, _PLACES) for ranked in seeds], axis=0),
        )
        for shots in (seeds[0] if seeds else ())
    }


def _popularity(data: TrainingData, questions: Questions) -> Ranked:
    recommend = baselines.popularity(data)
    return {k: _by_baseline(data, questions, recommend, k) for k in questions.protocol.shots}


def _popular_of_late(data: TrainingData, questions: Questions) -> Ranked:
    """Its half-life tuned on validation people."""
    recent = Recent.of(data)
    days = baselines.best_half_life(recent, baselines.validation_questions(data, questions))
    found = baselines.popular_of_late(recent, questions, days)
    return dict.fromkeys(questions.protocol.shots, found)


def _sequential_rules(data: TrainingData, questions: Questions) -> Ranked:
    recommend = baselines.sequential_rules(baselines.following_scores(data), data.num_items)
    return {k: _by_baseline(data, questions, recommend, k) for k in questions.protocol.shots if k > 0}


def _item_knn(data: TrainingData, questions: Questions) -> tuple[Ranked, dict[int, baselines.Knn]]:
    """Tuned anew at each k (from 1 on), on validation people; and what was chosen."""
    judges = baselines.validation_questions(data, questions)
    grid = baselines.fitted_grid(data)
    ranked, tuned = {}, {}
    for shots in questions.protocol.shots:
        if shots > 0:
            tuned[shots] = baselines.best_item_knn(grid, data, judges, shots)
            ranked[shots] = _by_baseline(data, questions, grid[tuned[shots]], shots)
    return ranked, tuned


def _by_baseline(
    data: TrainingData, questions: Questions, recommend: baselines.Recommend, shots: int
) -> IntArray:
    return recommend(support_items(data, questions, shots), questions.masked, _PLACES)


def _by_model(data: TrainingData, questions: Questions, ranker: Ranker, task: str) -> Ranked:
    recent = Recent.of(data)
    return {k: _ranked(data, questions, ranker, task, k, recent) for k in questions.protocol.shots}


def _by_mix(
    data: TrainingData, questions: Questions, ranker: Ranker, task: str, tuned: Mapping[int, baselines.Knn]
) -> Ranked:
    """The model's scores and 0.3 of the tuned item-kNN's, each in units of its spread over the catalogue."""
    ranked, recent = {}, Recent.of(data)
    for shots, knn in tuned.items():
        similar = baselines.knn_scores(data, knn)
        ranked[shots] = _ranked(data, questions, ranker, task, shots, recent, similar)
    return ranked


def _standardised(scores: FloatArray) -> FloatArray:
    """Each row with mean 0 and variance 1. [B, N]."""
    centred = scores - np.nanmean(scores, axis=1, keepdims=True)
    spread = np.nanstd(centred, axis=1, keepdims=True)
    standardised: FloatArray = centred / np.maximum(spread, 1e-9)
    return standardised


def _ranked(
    data: TrainingData,
    questions: Questions,
    ranker: Ranker,
    task: str,
    shots: int,
    recent: Recent,
    similar: baselines.Similar | None = None,
) -> IntArray:
    """The first ten items of each person. similar: where given, 0.3 of what it says of the support is added,
    both standardised. [B, 10] int32."""
    people = list(enumerate(contexts(data, questions, shots)))
    support = support_items(data, questions, shots)
    parts, rows = [], ranker.rows(data.item_ids)
    for part in in_parts(people, data.num_items):
        places = [place for place, _ in part]
        found = ranker.scores([context for _, context in part], rows, task=task, recent=recent)
        if similar is not None:
            added = similar([support[place] for place in places])
            found = _standardised(found) + _KNN_SHARE * _standardised(added)
        parts.append(top_items(found, [questions.masked[place] for place in places], _PLACES))
    return np.concatenate(parts) if parts else np.zeros((0, _PLACES), np.int32)


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
