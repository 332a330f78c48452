"""The k-shot table: people never trained on, NDCG@10 and HR@10 by number of support events and arm."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
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
    top_items,
)
from services.training.evaluation.protocol import Questions, contexts, support_items
from shared.domain import FloatArray, IntArray, UserContext

POPULARITY, KNN, OFF, ON = "popularity", "item-kNN", "adaptation off", "adaptation on"
# The table of transitions by itself; and adaptation without it.
RULES, FAST_WEIGHTS = "sequential rules", "fast weights alone"
# The new history read by a model that was pre-trained only, as sequence models are used; and a mix with
# item-kNN: what meta-learning must beat.
RE_ENCODING, MIXED = "re-encoding", "re-encoding + 0.3 kNN"
# Trained as "off" is, but never told what people said of what they chose.
BLIND = "blind to labels"
_KNN_SHARE = 0.3
_PLACES = 10
# [B, ≥ 10] item numbers of the questions' people after so many shots.
Rank = Callable[[int], IntArray]


class Ranker(Protocol):
    """What makes an arm's lists: an artifact as servers run it, or a body that is adapted whole."""

    def rows(self, item_ids: Sequence[str]) -> Any:
        """What `scores` wants to have of the items."""
        ...

    def scores(self, contexts: Sequence[UserContext], rows: Any, *, task: str) -> FloatArray:
        """What lists of each person are ranked by. [B, N] float32."""
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

    def share_worse(self, arm: str, other: str, shots: int) -> float:
        """Share of people whose NDCG is lower with `arm` than with `other`."""
        return _mean((self.arms[arm][shots].ndcg < self.arms[other][shots].ndcg).astype(np.float64))


def few_shot(
    data: TrainingData,
    questions: Questions,
    models: Mapping[str, Sequence[Ranker]],
    *,
    task: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FewShot:
    """The table with models' lists ranked by one task; see `few_shot_by_task`."""
    return few_shot_by_task(data, questions, models, tasks=(task,), progress=progress)[task]


def few_shot_by_task(
    data: TrainingData,
    questions: Questions,
    models: Mapping[str, Sequence[Ranker]],
    *,
    tasks: Collection[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, FewShot]:
    """Runs every arm: the baselines once, the models for each task (or the mix) that ranks their lists.

    progress: told how many of all arms and seeds are done. models: arm → one model a seed. data: with the
    held-out people; baselines are fitted on training people and tuned on validation people by the same
    protocol.
    """
    tuned: dict[int, baselines.Knn] = {}
    rules = baselines.sequential_rules(baselines.following_scores(data))
    baseline_arms: dict[str, dict[int, ArmScores]] = {
        POPULARITY: _by_shots(questions, [_baseline(data, questions, baselines.popularity(data))]),
        KNN: _knn_arm(data, questions, tuned),
        RULES: _by_shots(questions, [_baseline(data, questions, rules)], first=1),
    }
    done = len(baseline_arms)
    mixed = len(models.get(RE_ENCODING, ()))
    total = done + len(tasks) * (mixed + sum(len(seeds) for seeds in models.values()))
    progress(done, total)
    most_seeds = max((len(s) for s in models.values()), default=0)
    tables = {}
    for task in tasks:
        arms = dict(baseline_arms)
        for name, seeds in models.items():
            ranked = []
            for ranker in seeds:
                ranked.append(
                    {k: _ranked(data, questions, ranker, task, k) for k in questions.protocol.shots}
                )
                done += 1
                progress(done, total)
            arms[name] = {k: _scored(questions, [r[k] for r in ranked]) for k in questions.protocol.shots}
        if mixed:
            arms[MIXED] = _mixed_arm(data, questions, models[RE_ENCODING], task, tuned)
            done += mixed
            progress(done, total)
        tables[task] = FewShot(questions, arms, tuned, most_seeds)
    return tables


def _by_shots(questions: Questions, seeds: Sequence[Rank], first: int = 0) -> dict[int, ArmScores]:
    shots = [k for k in questions.protocol.shots if k >= first]
    return {k: _scored(questions, [rank(k) for rank in seeds]) for k in shots}


def _scored(questions: Questions, ranked: Sequence[IntArray]) -> ArmScores:
    return ArmScores(
        np.mean([ndcg_at(r, questions.relevant, _PLACES) for r in ranked], axis=0),
        np.mean([hr_at(r, questions.relevant, _PLACES) for r in ranked], axis=0),
    )


def _baseline(data: TrainingData, questions: Questions, recommend: baselines.Recommend) -> Rank:
    def rank(shots: int) -> IntArray:
        return recommend(support_items(data, questions, shots), questions.masked, _PLACES)

    return rank


def _knn_arm(
    data: TrainingData, questions: Questions, tuned: dict[int, baselines.Knn]
) -> dict[int, ArmScores]:
    """Tuned anew at each k (from 1 on), on validation people; notes the choice in `tuned`."""
    judges = baselines.validation_questions(data, questions)
    grid = baselines.fitted_grid(data)
    arm = {}
    for shots in questions.protocol.shots:
        if shots == 0:
            continue
        tuned[shots] = baselines.best_item_knn(grid, data, judges, shots)
        arm[shots] = _scored(questions, [_baseline(data, questions, grid[tuned[shots]])(shots)])
    return arm


def _mixed_arm(
    data: TrainingData,
    questions: Questions,
    seeds: Sequence[Ranker],
    task: str,
    tuned: Mapping[int, baselines.Knn],
) -> dict[int, ArmScores]:
    """The models' scores and 0.3 of the tuned item-kNN's, each in units of its spread over the catalogue."""
    arm = {}
    for shots, knn in tuned.items():
        similar = baselines.knn_scores(data, knn)(support_items(data, questions, shots))
        added = _KNN_SHARE * _standardised(similar)
        arm[shots] = _scored(questions, [_ranked(data, questions, s, task, shots, added) for s in seeds])
    return arm


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
    added: FloatArray | None = None,
) -> IntArray:
    """The first ten items of each person. added: [B, N], where given, what the standardised scores of the
    model are added to. [B, 10] int32."""
    people = list(enumerate(contexts(data, questions, shots)))
    parts, rows = [], ranker.rows(data.item_ids)
    for part in in_parts(people):
        places = [place for place, _ in part]
        found = ranker.scores([context for _, context in part], rows, task=task)
        if added is not None:
            found = _standardised(found) + added[places]
        parts.append(top_items(found, [questions.masked[place] for place in places], _PLACES))
    return np.concatenate(parts) if parts else np.zeros((0, _PLACES), np.int32)


def _mean(values: Float64Array) -> float:
    return float(values.mean()) if len(values) else float("nan")
