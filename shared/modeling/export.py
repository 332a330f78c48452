"""The part of an artifact that comes out of the model: the SavedModel and the item rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from shared.context.vectors import PROFILE_DIM, REQUEST_DIM
from shared.modeling.config import CHOICES, ModelConfig
from shared.modeling.encoder import COUNT_KNOTS
from shared.modeling.model import WarmstartModel

Tensor = Any


def input_specs(config: ModelConfig) -> dict[str, tf.TensorSpec]:
    """Inputs of `encode_adapt`: `ModelInputs` and `adapt` [B]. Batch and length are dynamic."""
    events, people = [None, None], [None]
    return {
        "input_rows": tf.TensorSpec([*events, config.input_dim], tf.float32, "input_rows"),
        "support_rows": tf.TensorSpec([*events, config.support_dim], tf.float32, "support_rows"),
        "actions": tf.TensorSpec(events, tf.int32, "actions"),
        "values": tf.TensorSpec(events, tf.float32, "values"),
        "labels": tf.TensorSpec(events, tf.float32, "labels"),
        "ages_s": tf.TensorSpec(events, tf.float32, "ages_s"),
        "mask": tf.TensorSpec(events, tf.float32, "mask"),
        "attributes": tf.TensorSpec([None, PROFILE_DIM], tf.float32, "attributes"),
        "content_profile": tf.TensorSpec([None, config.content_dim], tf.float32, "content_profile"),
        "social_profile": tf.TensorSpec([None, config.content_dim], tf.float32, "social_profile"),
        "request": tf.TensorSpec([None, REQUEST_DIM], tf.float32, "request"),
        "adapt": tf.TensorSpec(people, tf.float32, "adapt"),
    }


class ServingModel(tf.Module):  # type: ignore[misc]
    """What the artifact computes; item tables stay outside, as rows."""

    def __init__(self, model: WarmstartModel) -> None:
        super().__init__(name="serving")
        config = model.config
        self.parts = [model.encoder, model.heads, model.adapter, model.tower]

        @tf.function(input_signature=list(input_specs(config).values()), autograph=False)
        def encode_adapt(*values: Tensor) -> dict[str, Tensor]:
            inputs = dict(zip(input_specs(config), values, strict=True))
            adapt = inputs.pop("adapt")
            found = model.encode_adapt(inputs, adapt)
            trail = {"trail": found.trail} if config.successors else {}
            return {
                "queries": found.queries,
                "uncertainty_factor": found.factor,
                "uncertainty_scale": found.scale,
                **trail,
            }

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, config.id_dim], tf.float32, "id_rows"),
                tf.TensorSpec([None], tf.float32, "id_present"),
                tf.TensorSpec([None, config.content_dim], tf.float32, "content"),
            ],
            autograph=False,
        )
        def item_rows(id_rows: Tensor, id_present: Tensor, content: Tensor) -> dict[str, Tensor]:
            rows = model.tower(id_rows, id_present, content)
            return {"input_rows": rows.input, "support_rows": rows.support, "output_rows": rows.output}

        self.encode_adapt = encode_adapt
        self.item_rows = item_rows


def export_saved_model(model: WarmstartModel, directory: str | Path) -> None:
    """Writes the SavedModel with signatures `encode_adapt` and `item_rows` (contract: the manifest)."""
    serving = ServingModel(model)
    signatures = {"encode_adapt": serving.encode_adapt, "item_rows": serving.item_rows}
    tf.saved_model.save(serving, str(directory), signatures=signatures)


def row_arrays(model: WarmstartModel) -> dict[str, np.ndarray[Any, Any]]:
    """The catalogue's rows by file name: id, input, support, output (float32), content (float16), and of its
    transitions successors (int32) and follows (float32), of its trends counts (float32)."""
    rows = model.item_rows()
    return {
        "id": model.id_rows(model.content_rows()).numpy(),
        "input": rows.input.numpy(),
        "support": rows.support.numpy(),
        "output": rows.output.numpy(),
        "content": model.catalogue_content.numpy().astype(np.float16),
        "successors": model.transitions.items,
        "follows": model.transitions.weights,
        **({"counts": model.trends.counts[:, None]} if model.config.trends else {}),
    }


def export_rows(model: WarmstartModel, directory: str | Path) -> None:
    """Writes `<name>.npy` for each of `row_arrays`. The directory must exist."""
    for name, array in row_arrays(model).items():
        np.save(Path(directory) / f"{name}.npy", array, allow_pickle=False)


def manifest_dims(config: ModelConfig) -> dict[str, int]:
    """The manifest's `dims`."""
    return {
        "id": config.id_dim,
        "content": config.content_dim,
        "input": config.input_dim,
        "support": config.support_dim,
        "output": config.output_dim,
        "adapt": config.adapt_dim,
        "adapt_offset": config.adapt_offset,
        "rating": config.rating_width,
        "trail": config.trail,
        "successors": config.successors,
        "trends": config.trend_width,
    }


def manifest_scales(model: WarmstartModel) -> dict[str, Any]:
    """How much transitions (κ) and trends (ω) count in a list, for those who look at a version: what serves
    is in the SavedModel.

    `shots`: numbers of a person's events; then for each of `transitions` and `trends` that the model has, by
    task as many numbers. Empty where it has neither.
    """
    found: dict[str, Any] = {}
    if model.config.successors:
        found["transitions"] = np.pad(model.heads.kappa.numpy(), [(1, 0), (0, 0)])
    if model.config.trends:
        found["trends"] = model.heads.omega.numpy()
    scales = {
        name: {task: [round(float(one), 4) for one in table[:, t]] for t, task in enumerate(CHOICES)}
        for name, table in found.items()
    }
    return {"shots": [int(knot) for knot in COUNT_KNOTS], **scales} if scales else {}
