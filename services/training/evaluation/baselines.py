"""What models must beat: popularity, over all time and of late, item-kNN and ALS (of `implicit`) and
PureSVD (of scikit-learn), tuned on validation data, and sequential rules."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from services.training.data import TrainingData, offsets_of
from services.training.evaluation.metrics import in_parts, ndcg_at, top_items
from services.training.evaluation.protocol import Questions, ask, support_items
from services.training.transitions import transitions
from services.training.trends import Recent
from shared.domain import FloatArray, IntArray
from shared.holdout import Role
from shared.transitions import FADING

# Support of each person, items to mask, length → [B, length] item numbers, −1 where nothing is left.
Recommend = Callable[[Sequence[IntArray], Sequence[IntArray], int], IntArray]
# What is like each person's support: histories → [B, N] float32.
Similar = Callable[[Sequence[IntArray]], FloatArray]
# How much the whole catalogue follows each person's latest events: histories → [B, N] float32.
Following = Callable[[Sequence[IntArray]], FloatArray]

# Days after which an event counts half for what is popular of late.
_HALF_LIVES = (1.0, 3.0, 7.0, 30.0, 90.0, 365.0)
_WEIGHTINGS = ("cosine", "tf-idf", "bm25")
_NEIGHBOURS = (20, 50, 100, 200, 400)
_FACTORS = (64, 128)
_CONFIDENCES = (1.0, 10.0)
_REGULARISATION = 0.1
_DIMENSIONS = (16, 32, 64, 128, 256)
_SUCCESSORS = 500
# Of older events next to nothing would be left.
_LATEST = 20


def popularity(data: TrainingData) -> Recommend:
    """The same list for everybody: items by events of training people."""
    counts = data.popularity(Role.TRAIN)

    def recommend(support: Sequence[IntArray], masked: Sequence[IntArray], length: int) -> IntArray:
        parts = [
            top_items(np.broadcast_to(counts, (len(part), len(counts))), part, length)
            for part in in_parts(masked, data.num_items)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, length), np.int32)

    return recommend


def popular_of_late(recent: Recent, questions: Questions, half_life_days: float) -> IntArray:
    """The ten items that training people's events before each question speak for most, an event counting half
    after so long. [B, 10]."""
    parts = []
    for part in in_parts(list(range(len(questions))), recent.num_items):
        scores = recent.before(questions.moments[part], half_life_days * 86_400.0)
        parts.append(top_items(scores, [questions.masked[place] for place in part], 10))
    return np.concatenate(parts) if parts else np.zeros((0, 10), np.int32)


def best_half_life(recent: Recent, judges: Questions) -> float:
    """In days: that with the best NDCG@10 on the judges, the first of equals."""

    def score(days: float) -> float:
        return float(ndcg_at(popular_of_late(recent, judges, days), judges.relevant, 10).sum())

    return max(_HALF_LIVES, key=score)


def _together(
    support: Sequence[IntArray], masked: Sequence[IntArray], num_items: int
) -> Iterator[tuple[Sequence[IntArray], Sequence[IntArray]]]:
    return zip(in_parts(support, num_items), in_parts(masked, num_items), strict=True)


def sequential_rules(following: Following, num_items: int) -> Recommend:
    """What follows the support, by the table of transitions that models have, and nothing else (Ludewig and
    Jannach, 2018). following: from `following_scores`."""

    def recommend(support: Sequence[IntArray], masked: Sequence[IntArray], length: int) -> IntArray:
        parts = []
        for owns, hidden in _together(support, masked, num_items):
            scores = following(owns)
            found = top_items(scores, hidden, length)
            parts.append(np.where(np.take_along_axis(scores, found, axis=1) > 0.0, found, -1))
        return np.concatenate(parts) if parts else np.zeros((0, length), np.int32)

    return recommend


def following_scores(data: TrainingData) -> Following:
    """By training people's events."""
    table = transitions(data, _SUCCESSORS)

    def scores(histories: Sequence[IntArray]) -> FloatArray:
        rows = np.full((len(histories), _LATEST), -1, np.int32)
        weights = np.zeros(rows.shape, np.float32)
        for row, history in enumerate(histories):
            latest = history[-_LATEST:]
            said = np.exp(-FADING * np.arange(len(latest))[::-1])
            rows[row, : len(latest)], weights[row, : len(latest)] = latest, said / max(said.sum(), 1.0)
        return table.following_all(rows, weights)

    return scores


@dataclass(frozen=True, slots=True)
class Knn:
    """One setting of item-kNN: how events are weighted, and how many neighbours an item keeps."""

    weighting: str
    neighbours: int


def knn_scores(data: TrainingData, knn: Knn) -> Similar:
    """What item-kNN ranks by: support of each person → scores of the whole catalogue, [B, N] float32."""
    model = _fitted(data, knn)

    def scores(support: Sequence[IntArray]) -> FloatArray:
        found: FloatArray = (_rows(support, data.num_items) @ model.similarity).toarray().astype(np.float32)
        return found

    return scores


@dataclass(frozen=True, slots=True)
class Als:
    """One setting of alternating least squares: its factors, and how much more an event weighs than none."""

    factors: int
    confidence: float


def item_knn(data: TrainingData, knn: Knn) -> Recommend:
    """Item-kNN fitted on training people's events; a person's support is their `user_items`."""
    return _recommending(_fitted(data, knn), data.num_items)


def als(data: TrainingData, setting: Als) -> Recommend:
    """Implicit-feedback matrix factorisation (Hu, Koren and Volinsky, 2008) fitted on training people's
    events; a person's factors are folded in from their support."""
    from implicit.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):  # the library spreads people over threads itself
        model = AlternatingLeastSquares(
            factors=setting.factors,
            regularization=_REGULARISATION,
            alpha=setting.confidence,
            random_state=0,
        )
        model.fit(_events(data), show_progress=False)
    return _recommending(model, data.num_items, recalculate_user=True)


@dataclass(frozen=True, slots=True)
class PureSvd:
    """One setting of PureSVD: how many of the largest singular vectors."""

    dimensions: int


def pure_svd(data: TrainingData, setting: PureSvd) -> Recommend:
    """PureSVD (Cremonesi, Koren and Turrin, 2010): a person's row of events, 0 where there is none, projected
    on the largest right singular vectors of training people's; folding in a person is that projection."""
    from sklearn.decomposition import TruncatedSVD

    most = max(1, min(setting.dimensions, data.num_items - 1))
    with np.errstate(invalid="ignore"):  # the library also divides by a variance that may be 0
        vectors = TruncatedSVD(most, random_state=0).fit(_events(data)).components_.astype(np.float32)

    def recommend(support: Sequence[IntArray], masked: Sequence[IntArray], length: int) -> IntArray:
        parts = [
            top_items(_rows(owns, data.num_items) @ vectors.T @ vectors, hidden, length)
            for owns, hidden in _together(support, masked, data.num_items)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, length), np.int32)

    return recommend


def pure_svd_grid(data: TrainingData) -> Mapping[PureSvd, Recommend]:
    """PureSVD in every setting that tuning chooses from."""
    return {setting: pure_svd(data, setting) for setting in map(PureSvd, _DIMENSIONS)}


def _recommending(model: Any, num_items: int, **options: Any) -> Recommend:
    """options: of the library's `recommend`."""

    def recommend(support: Sequence[IntArray], masked: Sequence[IntArray], length: int) -> IntArray:
        rows = _rows(support, num_items)
        longest = max((len(m) for m in masked), default=0)
        found, scores = model.recommend(
            np.arange(len(support)), rows, N=min(length + longest, num_items),
            filter_already_liked_items=False, **options,
        )  # fmt: skip
        return _without_masked(found, scores, masked, length)

    return recommend


def _rows(support: Sequence[IntArray], num_items: int) -> csr_matrix:
    """1 where an item is in a person's support. [B, N]."""
    counts = [len(s) for s in support]
    columns = np.concatenate(support) if sum(counts) else np.zeros(0, np.int32)
    rows = csr_matrix(
        (np.ones(len(columns), np.float32), columns, offsets_of(np.array(counts))),
        shape=(len(support), num_items),
    )
    rows.sum_duplicates()
    rows.data[:] = 1.0
    return rows


def als_grid(data: TrainingData) -> Mapping[Als, Recommend]:
    """Matrix factorisation in every setting that tuning chooses from."""
    settings = [Als(factors, confidence) for factors in _FACTORS for confidence in _CONFIDENCES]
    return {setting: als(data, setting) for setting in settings}


def fitted_grid(data: TrainingData) -> Mapping[Knn, Recommend]:
    """Item-kNN in every setting that tuning chooses from."""
    settings = [Knn(weighting, neighbours) for weighting in _WEIGHTINGS for neighbours in _NEIGHBOURS]
    return {knn: item_knn(data, knn) for knn in settings}


def best_item_knn(grid: Mapping[Knn, Recommend], data: TrainingData, questions: Questions, shots: int) -> Knn:
    """The setting with the best NDCG@10 for so many shots on the questions' people; the first of equals."""
    support = support_items(data, questions, shots)

    def score(knn: Knn) -> float:
        ranked = grid[knn](support, questions.masked, 10)
        return float(ndcg_at(ranked, questions.relevant, 10).sum())

    return max(grid, key=score)


def validation_questions(data: TrainingData, questions: Questions) -> Questions:
    """The same protocol, asked of validation people."""
    return ask(data, data.users_of(Role.VALIDATION), questions.protocol)


def _fitted(data: TrainingData, knn: Knn) -> Any:
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
    from implicit.utils import ParameterWarning

    kinds = {"cosine": CosineRecommender, "tf-idf": TFIDFRecommender, "bm25": BM25Recommender}
    model = kinds[knn.weighting](K=knn.neighbours, num_threads=1)
    with warnings.catch_warnings():
        # The library weights into COO itself and then warns that it converts that to CSR.
        warnings.simplefilter("ignore", ParameterWarning)
        model.fit(_events(data), show_progress=False)
    return model


def _events(data: TrainingData) -> csr_matrix:
    """1 where a training person had an item. [U, N]."""
    among = np.isin(data.roles, [int(Role.TRAIN)])[data.owners]
    user_items = csr_matrix(
        (np.ones(int(among.sum()), np.float32), (data.owners[among], data.items[among])),
        shape=(data.num_users, data.num_items),
    )
    user_items.data[:] = 1.0
    return user_items


def _without_masked(found: IntArray, scores: FloatArray, masked: Sequence[IntArray], length: int) -> IntArray:
    """Drops masked items and places without a score, keeps the order."""
    result = np.full((len(found), length), -1, np.int32)
    for row, (items, values, hidden) in enumerate(zip(found, scores, masked, strict=True)):
        kept = items[(values > 0) & ~np.isin(items, hidden)][:length]
        result[row, : len(kept)] = kept
    return result
