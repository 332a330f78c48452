"""An artifact as the servers run it: its SavedModel, live item rows, `build_inputs`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from services.training.settings import MIX
from shared.artifacts import Artifact
from shared.calibration import shares, task_values
from shared.context.batch import build_inputs
from shared.domain import FloatArray, TaskInfo, UserContext
from shared.errors import InvalidInput
from shared.inference.model import ADAPT_BATCHES, ServedModel
from shared.items import ItemRows, LiveItems

# People adapted in one call: the largest batch that servers use.
_BATCH = ADAPT_BATCHES[-1]


@dataclass(frozen=True, slots=True, eq=False)
class ServedArtifact:
    """A loaded artifact and the rows of the catalogue, items that it never saw included."""

    artifact: Artifact
    model: ServedModel
    items: LiveItems

    @classmethod
    def load(cls, artifact: Artifact, *, threads: int = 1) -> ServedArtifact:
        """Raises ArtifactError where the artifact does not fit its manifest."""
        model = ServedModel.load(artifact, intra_op_threads=threads)
        return cls(artifact, model, LiveItems(artifact, model, _all_columns))

    def add_items(self, item_ids: Sequence[str], content: FloatArray) -> None:
        """Makes rows from content for items that the artifact does not have. content: [n, content_dim]."""
        known = self.items.view.index
        new = {i: c.astype(np.float16) for i, c in zip(item_ids, content, strict=True) if i not in known}
        self.items.apply(new)

    def scores(
        self, contexts: Sequence[UserContext], rows: FloatArray, *, task: str, adapt: bool = True
    ) -> FloatArray:
        """What lists of each person are ranked by, see `ranking`. rows: [N, output_dim]. [B, N] float32, NaN
        where a row is."""
        result = np.zeros((len(contexts), len(rows)), np.float32)
        for place, (queries, shots) in enumerate(self._adapted(contexts, adapt)):
            result[place] = ranking(rows @ queries.T, self.artifact.manifest.tasks, shots, task)
        return result

    def values(
        self, contexts: Sequence[UserContext], rows: FloatArray | Sequence[FloatArray], *, adapt: bool = True
    ) -> Iterator[FloatArray]:
        """Every task's values, probabilities or stars, of the same rows for all or of each person's own.

        rows: [N, output_dim], or one such array for each person. Yields [N, T] float32 for each person.
        """
        of_each = repeat(rows) if isinstance(rows, np.ndarray) else rows
        for own, (queries, shots) in zip(of_each, self._adapted(contexts, adapt), strict=False):
            yield task_values(own @ queries.T, self.artifact.manifest.tasks, shots)

    def _adapted(self, contexts: Sequence[UserContext], adapt: bool) -> Iterator[tuple[FloatArray, int]]:
        """Each person's queries [T, output_dim] and number of shots."""
        view, buckets = self.items.view, self.artifact.manifest.buckets
        for start in range(0, len(contexts), _BATCH):
            part = contexts[start : start + _BATCH]
            inputs = build_inputs(part, view, buckets)
            adapted = self.model.encode_adapt(inputs, np.full(len(part), float(adapt), np.float32))
            yield from zip(adapted.queries, inputs.shots.tolist(), strict=True)

    def rows(self, item_ids: Sequence[str]) -> FloatArray:
        """Output rows; NaN for items without rows. [N, output_dim] float32."""
        view = self.items.view
        slots = view.slots_of(item_ids)
        rows = view.columns["output"][slots]
        rows[slots < 0] = np.nan
        return rows

    def task_number(self, task: str) -> int:
        """Its place among the tasks. Raises InvalidInput where the model has none of that name."""
        return _number(self.artifact.manifest.tasks, task)


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
