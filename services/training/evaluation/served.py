"""An artifact as the servers run it: its SavedModel, live item rows, `build_inputs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.training.settings import MIX
from shared.artifacts import Artifact
from shared.calibration import task_values
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
        manifest, view = self.artifact.manifest, self.items.view
        result = np.zeros((len(contexts), len(rows)), np.float32)
        for start in range(0, len(contexts), _BATCH):
            part = contexts[start : start + _BATCH]
            inputs = build_inputs(part, view, manifest.buckets)
            adapted = self.model.encode_adapt(inputs, np.full(len(part), float(adapt), np.float32))
            for place, (queries, shots) in enumerate(
                zip(adapted.queries, inputs.shots.tolist(), strict=True)
            ):
                result[start + place] = ranking(rows @ queries.T, manifest.tasks, shots, task)
        return result

    def rows(self, item_ids: Sequence[str]) -> FloatArray:
        """Output rows; NaN for items without rows. [N, output_dim] float32."""
        view = self.items.view
        slots = view.slots_of(item_ids)
        rows = view.columns["output"][slots]
        rows[slots < 0] = np.nan
        return rows


def ranking(raw: FloatArray, tasks: Sequence[TaskInfo], shots: int, task: str) -> FloatArray:
    """What a list is ranked by: the raw score of one task (its value has the same order), or for MIX the
    weighted sum of the tasks' values. raw [N, T] → [N]."""
    names = [t.name for t in tasks]
    if task not in (*names, MIX):
        raise InvalidInput.of("task", f"must be one of {', '.join((*names, MIX))}", task)
    if task != MIX:
        return raw[:, names.index(task)]
    weights = np.array([t.default_weight for t in tasks], np.float32)
    mixed: FloatArray = task_values(raw, tasks, shots) @ weights
    return mixed


def _all_columns(rows: ItemRows) -> Mapping[str, FloatArray]:
    return {"input": rows.input, "support": rows.support, "output": rows.output}
