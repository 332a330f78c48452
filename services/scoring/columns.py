"""What scoring keeps of each item: its output row, its direction of taste, and a short sketch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from shared.domain import FloatArray
from shared.items import ItemRows
from shared.vectors import unit_rows

SKETCH_DIM = 32


@dataclass(frozen=True, slots=True, eq=False)
class ScoringColumns:
    """Output rows → the columns of scoring; fixed for a version, so that old and new items compare.

    output     [N, output_dim]    the row itself
    direction  [N, taste]         [v ; φ] to unit length, the biases left out: cosines are products
    sketch     [N, SKETCH_DIM]    direction, centred, on the artifact's first principal axes, to unit length

    Centring takes out what all items share, so that cosines of sketches spread over [-1, 1].
    taste: width of [v ; φ]. centre: [taste]. axes: [taste, sketch_dim].
    """

    taste: int
    centre: FloatArray
    axes: FloatArray

    @classmethod
    def fitted(cls, output: FloatArray, taste: int) -> ScoringColumns:
        """Principal axes of the artifact's own rows. output: [N, output_dim]."""
        directions = unit_rows(np.asarray(output[:, :taste], np.float32))
        centre = directions.mean(axis=0) if len(directions) else np.zeros(taste, np.float32)
        centred = (directions - centre).astype(np.float64)
        _, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :SKETCH_DIM]  # eigh sorts upwards
        # An axis has no sign of its own: its largest entry is made positive.
        largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=0)[None], axis=0)
        return cls(taste, centre.astype(np.float32), (axes * np.sign(largest)).astype(np.float32))

    def __call__(self, rows: ItemRows) -> Mapping[str, FloatArray]:
        directions = unit_rows(rows.output[:, : self.taste])
        projected = ((directions - self.centre) @ self.axes).astype(np.float32, copy=False)
        sketches = unit_rows(projected)
        return {"output": rows.output, "direction": directions, "sketch": sketches}
