"""Retrieval and scoring against the live rows, on the worker thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from services.scoring.columns import ScoringColumns
from services.scoring.index import ExactIndex, Gains, Hits, ItemIndex, Slots
from services.scoring.trending import LiveGains, Trending
from shared.artifacts import Artifact
from shared.domain import FloatArray, HeldModel, ModelRef, TaskInfo, Trail
from shared.errors import WarmstartError
from shared.inference.model import ServedModel
from shared.items import ItemView, LiveItems
from shared.neighbours import Neighbours
from shared.transitions import Transitions
from shared.vectors import unit_rows

SIMILAR_TASK = "similar"
MAX_BATCH = 32


IndexOf = Callable[[ItemView, str], ItemIndex]


def exact_index(view: ItemView, column: str) -> ItemIndex:
    """An index over one column of the items as they are now."""
    return ExactIndex(view.ids, view.columns[column], view.alive)


@dataclass(frozen=True, slots=True, eq=False)
class Added:
    """Gains, and the dimension of a query that says how much each counts."""

    parts: tuple[tuple[int, Gains], ...]

    def to(self, query: FloatArray) -> list[Gains]:
        """What one query's products are higher by."""
        return [gains.times(float(query[place])) for place, gains in self.parts if query[place]]

    def at(self, slots: Slots, queries: FloatArray) -> FloatArray:
        """[n], [T, D] → [n, T]: what the scores of these slots are higher by."""
        found = np.zeros((len(slots), len(queries)), np.float32)
        for place, gains in self.parts:
            if queries[:, place].any():
                found += gains.at(slots)[:, None] * queries[:, place]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class ScoringVersion:
    """A version that is loaded and warm.

    taste: width of an output row without its biases. index_of: how its rows are searched. transitions: what
    follows what, by the artifact's rows; transition: their dimension in a query, None where there are none.
    gains: by what is trending; trend: their dimension in a query. Both None where trends do not count.
    """

    ref: ModelRef
    tasks: tuple[TaskInfo, ...]
    output_dim: int
    taste: int
    items: LiveItems
    transitions: Transitions
    transition: int | None = None
    gains: LiveGains | None = None
    trend: int | None = None
    index_of: IndexOf = exact_index

    @classmethod
    def load(
        cls, artifact: Artifact, *, trending: Mapping[str, Trending] | None = None, intra_op_threads: int = 1
    ) -> ScoringVersion:
        """Loads and warms; takes seconds. Raises ArtifactError where it does not work.

        trending: of a `TrendFollower`; without it trends do not count.
        """
        model = ServedModel.load(artifact, intra_op_threads=intra_op_threads)
        model.warm_item_rows(artifact)
        model.check_adaptation(artifact)
        dims = artifact.manifest.dims
        columns = ScoringColumns.fitted(artifact.rows.output, dims.taste)
        items = LiveItems(artifact, model, columns, Neighbours.of(artifact))
        place = dims.transition if dims.successors else None
        tasks, transitions = artifact.manifest.tasks, artifact.transitions
        gains, trend, trained = None, None, artifact.manifest.trends
        if trending is not None and trained.prior > 0:
            gains = LiveGains(artifact.trends, trained.half_life_s, items, trending, artifact.ref.domain)
            trend = dims.trend
        return cls(artifact.ref, tasks, dims.output, dims.taste, items, transitions, place, gains, trend)

    def describe(self) -> HeldModel:
        return HeldModel(self.ref, self.tasks, len(self.items.view))

    def added(self, view: ItemView, trail: Trail | None) -> Added:
        """What scores gain beside the products of rows and queries."""
        parts = []
        if self.transition is not None:
            parts.append((self.transition, self.following(view, trail)))
        if self.gains is not None and self.trend is not None:
            parts.append((self.trend, self.gains.of(view)))
        return Added(tuple(parts))

    def following(self, view: ItemView, trail: Trail | None) -> Gains:
        """What follows a person's events, of the items there are; of new ones, as of what they are like."""
        if trail is None:
            return Gains.nothing()
        rows, values = self.transitions.following(self.items.trained_rows(trail.item_ids), trail.weights)
        slots = view.trained[rows]
        held = slots >= 0
        slots, found = slots[held], values[held]
        if len(view.new):
            into_new = self.transitions.into_others(rows, values, view.alike[view.new])
            slots = np.concatenate([slots, view.new[into_new > 0]])
            found = np.concatenate([found, into_new[into_new > 0]])
        order = np.argsort(slots)
        return Gains(slots[order], found[order])


@dataclass(frozen=True, slots=True, eq=False)
class ItemsQuery:
    """The mean output row of these items. weights: [n] float32, or None for equal ones."""

    item_ids: tuple[str, ...]
    weights: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalQuery:
    """query: a vector [output_dim] float32, or items to be like."""

    query: FloatArray | ItemsQuery
    limit: int


@dataclass(frozen=True, slots=True, eq=False)
class RetrieveJob:
    """score_also: scores what is retrieved, too, and its own items. trail: of the person whose queries these
    are, those of `score_also` included."""

    version: ScoringVersion
    queries: tuple[RetrievalQuery, ...]
    excluded: tuple[str, ...] = ()
    score_also: ScoreJob | None = None
    trail: Trail | None = None

    def run(self) -> Retrieved:
        """See `Retrieved`; raises what `ScoreJob.run` raises."""
        view = self.version.items.view
        added = self.version.added(view, self.trail)
        hits = self._search(view, added)
        if self.score_also is None:
            return Retrieved(hits)
        retrieved = chain.from_iterable(one.item_ids for one in hits)
        item_ids = tuple(dict.fromkeys(chain(retrieved, self.score_also.item_ids)))
        return Retrieved(hits, self.score_also.scores(view, added, item_ids))

    def _search(self, view: ItemView, added: Added) -> list[Hits]:
        slots = view.slots_of(self.excluded)
        excluded = slots[slots >= 0]
        hits: dict[int, Hits] = {}
        for column, places, queries in self._by_column(view):
            index = self.version.index_of(view, column)
            limits = [self.queries[p].limit for p in places]
            gains = [added.to(query) for query in queries] if column == "output" else ()
            hits.update(zip(places, index.search(queries, limits, excluded, gains), strict=True))
        nothing = Hits((), np.zeros(0, np.float32))
        return [hits.get(place, nothing) for place in range(len(self.queries))]

    def _by_column(self, view: ItemView) -> list[tuple[str, list[int], FloatArray]]:
        """Queries that search the same rows go together: (column, places of the queries, [Q, width])."""
        groups: dict[str, list[tuple[int, FloatArray]]] = {"output": [], "direction": []}
        for place, wanted in enumerate(self.queries):
            if not isinstance(wanted.query, ItemsQuery):
                groups["output"].append((place, wanted.query))
            elif (direction := mean_direction(view, wanted.query, self.version.taste)) is not None:
                groups["direction"].append((place, direction))
        return [
            (column, [p for p, _ in group], np.stack([q for _, q in group]))
            for column, group in groups.items()
            if group
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """scores: [items, tasks] float32, raw; sketches: [items, sketch_dim] float32, unit length."""

    item_ids: tuple[str, ...]
    missing: tuple[str, ...]
    tasks: tuple[str, ...]
    scores: FloatArray
    sketches: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """One result a query, in order; an ItemsQuery none of whose items has a row finds nothing."""

    hits: list[Hits]
    scores: Scores | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ScoreJob:
    """queries: [tasks, output_dim] float32. similar_to adds the column SIMILAR_TASK. trail: as of a
    `RetrieveJob`."""

    version: ScoringVersion
    item_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    queries: FloatArray
    similar_to: ItemsQuery | None = None
    trail: Trail | None = None

    def run(self) -> Scores:
        """Items without rows are in `missing`; raises WarmstartError where a score is not finite."""
        view = self.version.items.view
        return self.scores(view, self.version.added(view, self.trail), self.item_ids)

    def scores(self, view: ItemView, added: Added, item_ids: tuple[str, ...]) -> Scores:
        """The same of any items. added: of the view's slots."""
        slots = view.slots_of(item_ids)
        known = slots >= 0
        found = slots[known]
        scores = view.columns["output"][found] @ self.queries.T + added.at(found, self.queries)
        tasks = self.tasks
        if self.similar_to is not None:
            scores = np.column_stack([scores, self._likeness(view, found, self.similar_to)])
            tasks = (*tasks, SIMILAR_TASK)
        if not np.isfinite(scores).all():
            place = int(np.argwhere(~np.isfinite(scores))[0, 0])
            raise WarmstartError(f"score of item {view.ids[found[place]]!r} is not finite")
        return Scores(
            tuple(i for i, k in zip(item_ids, known.tolist(), strict=True) if k),
            tuple(i for i, k in zip(item_ids, known.tolist(), strict=True) if not k),
            tasks,
            scores,
            view.columns["sketch"][found],
        )

    def _likeness(self, view: ItemView, slots: Slots, query: ItemsQuery) -> FloatArray:
        """Cosines; zeros where none of the query's items has a row."""
        direction = mean_direction(view, query, self.version.taste)
        if direction is None:
            return np.zeros(len(slots), np.float32)
        cosines: FloatArray = view.columns["direction"][slots] @ direction
        return cosines


ScoringJob = RetrieveJob | ScoreJob
ScoringResult = Retrieved | Scores


def run_jobs(jobs: Sequence[ScoringJob]) -> list[ScoringResult | Exception]:
    """Each job by itself: a failure is that job's alone."""
    return [_attempt(job) for job in jobs]


def mean_direction(view: ItemView, query: ItemsQuery, taste: int) -> FloatArray | None:
    """The (weighted) mean of the items' [v ; φ] to unit length, [taste]; None where no item has a row."""
    slots = view.slots_of(query.item_ids)
    known = slots >= 0
    if not known.any():
        return None
    rows = view.columns["output"][slots[known], :taste]
    mean = rows.mean(axis=0) if query.weights is None else query.weights[known] @ rows
    direction: FloatArray = unit_rows(mean[None].astype(np.float32))[0]
    return direction


def _attempt(job: ScoringJob) -> ScoringResult | Exception:
    try:
        return job.run()
    except Exception as error:  # handed to the one who asked
        return error
