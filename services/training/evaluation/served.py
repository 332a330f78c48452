"""An artifact as the servers run it: its SavedModel, live item rows, `build_inputs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.training.data import TrainingData
from services.training.settings import MIX
from shared.artifacts import Artifact
from shared.context.batch import build_inputs
from shared.domain import FloatArray, UserContext
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

    def queries(self, contexts: Sequence[UserContext], *, task: str, adapt: bool = True) -> FloatArray:
        """Query of a task (or MIX) for each person. [B, output_dim] float32."""
        weights = self._weights(task)
        manifest, view = self.artifact.manifest, self.items.view
        found = []
        for start in range(0, len(contexts), _BATCH):
            part = contexts[start : start + _BATCH]
            inputs = build_inputs(part, view, manifest.buckets)
            adapted = self.model.encode_adapt(inputs, np.full(len(part), float(adapt), np.float32))
            found.append(np.einsum("btd,t->bd", adapted.queries, weights))
        width = manifest.dims.output
        return np.concatenate(found) if found else np.zeros((0, width), np.float32)

    def rows(self, item_ids: Sequence[str]) -> FloatArray:
        """Output rows; NaN for items without rows. [N, output_dim] float32."""
        view = self.items.view
        slots = view.slots_of(item_ids)
        rows = view.columns["output"][slots]
        rows[slots < 0] = np.nan
        return rows

    def _weights(self, task: str) -> FloatArray:
        tasks = self.artifact.manifest.tasks
        if task == MIX:
            return np.array([t.default_weight for t in tasks], np.float32)
        names = [t.name for t in tasks]
        if task not in names:
            raise InvalidInput.of("task", f"must be one of {', '.join((*names, MIX))}", task)
        return np.array([float(name == task) for name in names], np.float32)


def scores(
    served: ServedArtifact,
    data: TrainingData,
    contexts: Sequence[UserContext],
    *,
    task: str,
    adapt: bool = True,
) -> FloatArray:
    """Raw scores of the data's whole catalogue; NaN for items without rows. [B, N] float32."""
    rows = served.rows(data.item_ids)
    result: FloatArray = served.queries(contexts, task=task, adapt=adapt) @ rows.T
    return result


def _all_columns(rows: ItemRows) -> Mapping[str, FloatArray]:
    return {"input": rows.input, "support": rows.support, "output": rows.output}
