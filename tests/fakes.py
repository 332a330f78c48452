"""Hand-written stand-ins for the ports of services, small enough to be right at a glance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

import numpy as np

from services.gateway.draft import Likeness, Person, Scores, Taste
from services.gateway.ports import (
    CatalogueChanges,
    Hits,
    Refusal,
    Retrieved,
    ScoreAlso,
    Search,
    VectorSearch,
)
from shared.context.labels import signed_labels
from shared.domain import (
    AdaptedUser,
    Event,
    FloatArray,
    HeldModel,
    History,
    Item,
    ModelRef,
    NeighbourLike,
    RequestContext,
    TaskInfo,
    Trail,
    Uncertainty,
    UserContext,
)
from shared.errors import ModelNotHeld, WarmstartError

Rows = Mapping[str, Sequence[float]]


class FakeFeatures:
    """The gateway's `Features`, in memory. Set `down` to an error to take it away."""

    def __init__(self, items: Sequence[Item] = ()) -> None:
        self.catalogue = {item.item_id: item for item in items}
        self.histories: dict[str, list[Event]] = {}
        self.neighbour_likes: dict[str, tuple[NeighbourLike, ...]] = {}
        self.trending_items: list[tuple[str, float]] = []
        self.recorded: dict[str, Event] = {}
        self.record_calls = 0
        self.down: WarmstartError | None = None
        self.changes: asyncio.Queue[CatalogueChanges | WarmstartError] = asyncio.Queue()
        self.watched_from: list[str] = []

    def _check(self) -> None:
        if self.down is not None:
            raise self.down

    async def person(
        self, domain: str, user_id: str, events: Sequence[Event], request: RequestContext
    ) -> Person:
        self._check()
        known = [*self.histories.get(user_id, []), *events]
        nothing = np.zeros(4, np.float32)
        context = UserContext(user_id, History.of(known), nothing, nothing, request=request)
        seen = frozenset(e.item_id for e in known)
        return Person(context, seen, self.neighbour_likes.get(user_id, ()))

    async def trending(self, domain: str, limit: int) -> Sequence[tuple[str, float]]:
        self._check()
        return self.trending_items[:limit]

    async def record(self, domain: str, events: Sequence[Event]) -> Sequence[Refusal]:
        self.record_calls += 1
        self._check()
        for event in events:
            self.recorded.setdefault(event.event_id, event)
        return []

    async def items(self, domain: str, item_ids: Sequence[str]) -> Sequence[Item]:
        self._check()
        return [self.catalogue[i] for i in item_ids if i in self.catalogue]

    async def watch(self, domain: str, cursor: str) -> AsyncGenerator[CatalogueChanges, None]:
        self.watched_from.append(cursor)
        self._check()
        if not cursor:
            yield CatalogueChanges(tuple(self.catalogue.values()), cursor="0", complete=True)
        while True:
            change = await self.changes.get()
            if isinstance(change, WarmstartError):
                raise change
            yield change


class FakeAdaptation:
    """The gateway's `Adaptation`: the query is the label-weighted sum of the history's rows."""

    def __init__(self, rows: Rows, *, versions: Sequence[str] = ("v1",)) -> None:
        self.rows = rows
        self.versions = list(versions)
        self.tasks = (TaskInfo("next"),)
        self.uncertainty: Uncertainty | None = None
        self.trail: Trail | None = None
        self.asked: list[str] = []
        self.down: WarmstartError | None = None

    async def adapt(self, domain: str, context: UserContext, *, version: str, disabled: bool) -> AdaptedUser:
        self.asked.append(version)
        if self.down is not None:
            raise self.down
        version = version or self.versions[0]
        if version not in self.versions:
            raise ModelNotHeld(domain, version, self.versions)
        query = np.zeros(len(next(iter(self.rows.values()))), np.float32)
        history = context.history
        labels = signed_labels(history.actions, history.values).tolist()
        shots = 0
        for item_id, label in zip(history.item_ids, labels, strict=True):
            if item_id in self.rows:
                shots += 1
                query += np.float32(label) * np.array(self.rows[item_id], np.float32)
        queries = np.stack([query] * len(self.tasks))
        names = tuple(task.name for task in self.tasks)
        uncertainty = None if disabled else self.uncertainty
        shots = 0 if disabled else shots
        ref = ModelRef(domain, version)
        return AdaptedUser(ref, names, queries, shots, uncertainty, self.trail)

    async def serving(self, domain: str) -> Sequence[HeldModel]:
        if self.down is not None:
            raise self.down
        return [HeldModel(ModelRef(domain, v), self.tasks, len(self.rows)) for v in self.versions]


class FakeScoring:
    """The gateway's `Scoring`: exact products with the rows. Sketches are the rows at unit length."""

    def __init__(self, rows: Rows, *, versions: Sequence[str] = ("v1",)) -> None:
        self.rows = {item_id: np.array(row, np.float32) for item_id, row in rows.items()}
        self.versions = list(versions)
        self.tasks = (TaskInfo("next"),)
        self.retrievals: list[tuple[tuple[Search, ...], tuple[str, ...]]] = []
        self.trails: list[Trail | None] = []  # that came with the retrievals
        self.scored: list[tuple[str, ...]] = []
        self.down: WarmstartError | None = None
        self.spoiled: set[str] = set()  # items whose scores are NaN

    def _check(self, domain: str, version: str) -> ModelRef:
        if self.down is not None:
            raise self.down
        if version and version not in self.versions:
            raise ModelNotHeld(domain, version, self.versions)
        return ModelRef(domain, version or self.versions[0])

    def _cosines(self, like: Likeness, ids: Sequence[str]) -> list[float]:
        known = [(i, w) for i, w in zip(like.item_ids, like.weights, strict=True) if i in self.rows]
        mean = unit(sum((w * unit(self.rows[i]) for i, w in known), np.zeros_like(self._any_row())))
        return [float(unit(self.rows[i]) @ mean) for i in ids]

    def _any_row(self) -> FloatArray:
        return next(iter(self.rows.values()))

    async def retrieve(
        self,
        domain: str,
        searches: Sequence[Search],
        *,
        version: str,
        exclude: Sequence[str],
        also: ScoreAlso | None = None,
        trail: Trail | None = None,
    ) -> Retrieved:
        self.retrievals.append((tuple(searches), tuple(exclude)))
        self.trails.append(trail)
        model = self._check(domain, version)
        ids = [i for i in self.rows if i not in set(exclude)]
        hits = []
        for search in searches:
            if isinstance(search, VectorSearch):
                scores = [float(self.rows[i] @ search.vector) for i in ids]
            else:
                scores = self._cosines(search.like, ids)
            best = sorted(zip(ids, scores, strict=True), key=lambda p: (-p[1], p[0]))[: search.limit]
            hits.append(Hits(tuple(i for i, _ in best), np.array([s for _, s in best], np.float32)))
        if also is None:
            return Retrieved(tuple(hits), model)
        wanted = dict.fromkeys((*(i for one in hits for i in one.item_ids), *also.item_ids))
        return Retrieved(tuple(hits), model, self._scores(tuple(wanted), model, also.taste))

    async def score(self, domain: str, item_ids: Sequence[str], *, version: str, taste: Taste) -> Scores:
        self.scored.append(tuple(item_ids))
        return self._scores(item_ids, self._check(domain, version), taste)

    def _scores(self, item_ids: Sequence[str], model: ModelRef, taste: Taste) -> Scores:
        ids = tuple(i for i in item_ids if i in self.rows)
        tasks: tuple[str, ...] = ("similar",)
        if isinstance(taste, Likeness):
            columns = [self._cosines(taste, ids)]
        else:
            tasks = taste.user.tasks
            columns = [[float(self.rows[i] @ q) for i in ids] for q in taste.user.queries]
        raw = np.array(columns, np.float32).T.reshape(len(ids), len(tasks))
        raw[[i in self.spoiled for i in ids]] = np.nan
        sketches = np.array([unit(self.rows[i]) for i in ids], np.float32).reshape(len(ids), -1)
        return Scores(ids, tasks, raw, sketches, model, tuple(i for i in item_ids if i not in self.rows))

    async def serving(self, domain: str) -> Sequence[HeldModel]:
        if self.down is not None:
            raise self.down
        return [HeldModel(ModelRef(domain, v), self.tasks, len(self.rows)) for v in self.versions]


def unit(row: FloatArray) -> FloatArray:
    norm = float(np.linalg.norm(row))
    scaled: FloatArray = (row / norm if norm else row).astype(np.float32)
    return scaled
