"""An artifact as the servers run it: its SavedModel, live item rows, `build_inputs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from services.training.parts import people_at_once
from services.training.settings import MIX
from services.training.trends import Recent
from shared.artifacts import Artifact, Registry
from shared.calibration import shares, task_values
from shared.context.batch import build_inputs
from shared.context.trail import trail_of
from shared.domain import FloatArray, IntArray, ModelRef, TaskInfo, Trail, UserContext
from shared.errors import InvalidInput
from shared.inference.model import ADAPT_BATCHES, ServedModel
from shared.items import ItemRows, LiveItems
from shared.neighbours import Neighbours
from shared.transitions import Transitions

# People adapted in one call: the largest batch that servers use.
_BATCH = ADAPT_BATCHES[-1]


@dataclass(frozen=True, slots=True, eq=False)
class ServedRows:
    """Items to be scored: output [N, output_dim] float32, NaN for items without rows; trained [N] int32,
    their rows in the artifact, −1 where they have none; alike [N, n] int32, the artifact's rows that such
    ones are most like."""

    output: FloatArray
    trained: IntArray
    alike: IntArray

    def __getitem__(self, places: IntArray) -> ServedRows:
        return ServedRows(self.output[places], self.trained[places], self.alike[places])

    def following(self, transitions: Transitions, items: IntArray, values: FloatArray) -> FloatArray:
        """What follows a person's events into each, from what `Transitions.following` found. [N]."""
        dense = np.zeros(len(transitions.items) + 1, np.float32)  # the last of items without
        dense[items] = values
        found: FloatArray = dense[self.trained]
        new = np.flatnonzero(self.trained < 0)
        if len(new):
            found[new] = transitions.into_others(items, values, self.alike[new])
        return found

    def __len__(self) -> int:
        return len(self.output)


@dataclass(frozen=True, slots=True, eq=False)
class ServedArtifact:
    """A loaded artifact and the rows of the catalogue, items that it never saw included.

    follows, trends: whether scores count what follows a person's events, and what is chosen now, as servers
    do.
    """

    artifact: Artifact
    model: ServedModel
    items: LiveItems
    follows: bool = True
    trends: bool = True

    @classmethod
    def load(cls, artifact: Artifact, *, threads: int = 1) -> ServedArtifact:
        """Raises ArtifactError where the artifact does not fit its manifest."""
        model = ServedModel.load(artifact, intra_op_threads=threads)
        return cls(artifact, model, LiveItems(artifact, model, _all_columns, Neighbours.of(artifact)))

    def add_items(self, item_ids: Sequence[str], content: FloatArray) -> None:
        """Makes rows from content for items that the artifact does not have. content: [n, content_dim]."""
        known = self.items.view.index
        new = {i: c.astype(np.float16) for i, c in zip(item_ids, content, strict=True) if i not in known}
        self.items.apply(new)

    def scores(
        self, contexts: Sequence[UserContext], rows: ServedRows, *, task: str, recent: Recent | None = None
    ) -> FloatArray:
        """What lists of each person are ranked by, see `ranking`. [B, N] float32, NaN where a row is.

        recent: what was chosen when, of the very items that the rows are of; without it, trends count
        nothing.
        """
        result = np.zeros((len(contexts), len(rows)), np.float32)
        for place, (raw, shots) in enumerate(self._raw(contexts, rows, True, recent)):
            result[place] = ranking(raw, self.artifact.manifest.tasks, shots, task)
        return result

    def values(
        self,
        contexts: Sequence[UserContext],
        rows: ServedRows | Sequence[ServedRows],
        *,
        adapt: bool = True,
        recent: Recent | None = None,
    ) -> Iterator[FloatArray]:
        """Every task's values, probabilities or stars, of the same rows for all or of each person's own.

        recent: as in `scores`, of rows that are the same for all. Yields [N, T] float32 for each person.
        """
        for raw, shots in self._raw(contexts, rows, adapt, recent):
            yield task_values(raw, self.artifact.manifest.tasks, shots)

    def _raw(
        self,
        contexts: Sequence[UserContext],
        rows: ServedRows | Sequence[ServedRows],
        adapt: bool,
        recent: Recent | None,
    ) -> Iterator[tuple[FloatArray, int]]:
        """Each person's raw scores of the rows [N, T], and number of shots."""
        counted = self.trends and self.artifact.manifest.trends.prior > 0
        dims, transitions = self.artifact.manifest.dims, self.artifact.transitions
        view, buckets = self.items.view, self.artifact.manifest.buckets
        tasks = len(self.artifact.manifest.tasks)
        size = people_at_once(tasks * len(rows), _BATCH) if isinstance(rows, ServedRows) else _BATCH
        for start in range(0, len(contexts), size):
            part = contexts[start : start + size]
            inputs = build_inputs(part, view, buckets)
            adapted = self.model.encode_adapt(inputs, np.full(len(part), float(adapt), np.float32))
            raws: Sequence[FloatArray]
            if isinstance(rows, ServedRows):  # one pass over a large catalogue for all of them
                of_each: Sequence[ServedRows] = [rows] * len(part)
                raws = list(np.tensordot(adapted.queries, rows.output, axes=(2, 1)).transpose(0, 2, 1))
                if recent is not None and counted:
                    lifts = self._lifts(rows, recent, [context.request.time_ms for context in part])
                    for raw, query, lift in zip(raws, adapted.queries, lifts, strict=True):
                        raw += lift[:, None] * query[:, dims.trend]
            else:
                of_each = rows[start : start + size]
                raws = [own.output @ q.T for own, q in zip(of_each, adapted.queries, strict=True)]
            for place, (own, raw) in enumerate(zip(of_each, raws, strict=True)):
                trail = trail_of(inputs.item_ids[place], adapted.trail[place])
                if trail is not None and self.follows:
                    following = own.following(transitions, *self.following(trail))
                    raw += following[:, None] * adapted.queries[place, :, dims.transition]
                yield raw, int(inputs.shots[place])

    def following(self, trail: Trail) -> tuple[IntArray, FloatArray]:
        """The artifact's rows that follow a person's events, and how much; see `Transitions.following`."""
        return self.artifact.transitions.following(self.items.trained_rows(trail.item_ids), trail.weights)

    def _lifts(self, rows: ServedRows, recent: Recent, moments_ms: Sequence[int]) -> Iterator[FloatArray]:
        """What was chosen more than in the long run at each moment. Yields [N] for each."""
        times = np.array(moments_ms, np.int64)
        for weights in recent.before(times, self.artifact.manifest.trends.half_life_s):
            more, of_all = self.artifact.trends.lifts(rows.trained, weights)
            yield more + np.float32(of_all)

    def rows(self, item_ids: Sequence[str]) -> ServedRows:
        """What `scores` and `values` want to have of items."""
        view = self.items.view
        slots = view.slots_of(item_ids)
        rows = view.columns["output"][slots]
        rows[slots < 0] = np.nan
        return ServedRows(rows, self.items.trained_rows(item_ids), view.alike[slots])

    def task_number(self, task: str) -> int:
        """Its place among the tasks. Raises InvalidInput where the model has none of that name."""
        return _number(self.artifact.manifest.tasks, task)


@dataclass(frozen=True, slots=True)
class Saved:
    """An artifact by its place: so it travels to other processes, and is loaded where it is used.

    registry: its directory; follows, trends: as in `ServedArtifact`.
    """

    registry: Path
    ref: ModelRef
    follows: bool = True
    trends: bool = True

    def load(self, *, threads: int = 1) -> ServedArtifact:
        """Raises ArtifactError where the artifact does not fit its manifest."""
        loaded = ServedArtifact.load(Registry(self.registry).open(self.ref), threads=threads)
        return replace(loaded, follows=self.follows, trends=self.trends)

    @property
    def artifact(self) -> Artifact:
        return _kept(self).artifact

    def rows(self, item_ids: Sequence[str]) -> ServedRows:
        """As `ServedArtifact.rows`; of items that it was trained on."""
        return _kept(self).rows(item_ids)

    def scores(
        self, contexts: Sequence[UserContext], rows: ServedRows, *, task: str, recent: Recent | None = None
    ) -> FloatArray:
        """As `ServedArtifact.scores`."""
        return _kept(self).scores(contexts, rows, task=task, recent=recent)

    def values(
        self, contexts: Sequence[UserContext], rows: ServedRows, *, recent: Recent | None = None
    ) -> Iterator[FloatArray]:
        """As `ServedArtifact.values`."""
        return _kept(self).values(contexts, rows, recent=recent)


@lru_cache(1)
def _kept(saved: Saved) -> ServedArtifact:
    """Loaded once for all calls of an arm."""
    return saved.load()


def ranking(raw: FloatArray, tasks: Sequence[TaskInfo], shots: int, task: str) -> FloatArray:
    """What a list is ranked by: the raw score of one task (its value has the same order), or for MIX the
    weighted sum of what the tasks' values count. raw [N, T] → [N]."""
    if task != MIX:
        return raw[:, _number(tasks, task)]
    weights = np.array([t.default_weight for t in tasks], np.float32)
    mixed: FloatArray = shares(task_values(raw, tasks, shots), tasks) @ weights
    return mixed


def _number(tasks: Sequence[TaskInfo], task: str) -> int:
    names = [t.name for t in tasks]
    if task not in names:
        raise InvalidInput.of("task", f"must be one of {', '.join((*names, MIX))}", task)
    return names.index(task)


def _all_columns(rows: ItemRows) -> Mapping[str, FloatArray]:
    return {"input": rows.input, "support": rows.support, "output": rows.output}
