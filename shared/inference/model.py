"""A published model, loaded and checked: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.artifacts import Artifact, Dims, Manifest
from shared.context.batch import ModelInputs
from shared.context.labels import signed_labels
from shared.context.vectors import PROFILE_DIM, REQUEST_DIM
from shared.domain import Action, FloatArray, ModelRef
from shared.errors import ArtifactError
from shared.inference.packed import PackedSignature, Shape
from shared.inference.runtime import tensorflow
from shared.items import ItemRows

# Batches are padded to one of these, so that TensorFlow sees few shapes and all of them warm.
ADAPT_BATCHES = (1, 2, 4, 8, 16, 32)
ROW_BATCHES = (1, 16, 256)


@dataclass(frozen=True, slots=True, eq=False)
class Adaptation:
    """What `encode_adapt` gives for B people.

    queries: [B, T, output_dim]; factor: [B, R, adapt_dim]; scale: [B]; trail: [B, dims.trail], what the
    latest events count to go out from, the newest last. float32.
    """

    queries: FloatArray
    factor: FloatArray
    scale: FloatArray
    trail: FloatArray


# Far from 1 and prime: neighbouring events are of items far apart.
_SPREAD = 7919


class ServedModel:
    """The two signatures of one artifact. Thread-safe: a call keeps no state."""

    def __init__(self, ref: ModelRef, manifest: Manifest, loaded: Any, tf: Any) -> None:
        self.ref = ref
        self.manifest = manifest
        self._loaded = loaded  # owns the variables: a signature alone does not keep them alive
        self._tf = tf
        self._item_rows = loaded.signatures["item_rows"]

    @classmethod
    def load(cls, artifact: Artifact, *, intra_op_threads: int = 1) -> ServedModel:
        """Loads the SavedModel. Raises ArtifactError where a signature is not what the manifest states."""
        tf = tensorflow(intra_op_threads=intra_op_threads)
        try:
            with artifact.own_saved_model() as directory:
                loaded = tf.saved_model.load(str(directory))
        except ArtifactError:
            raise
        except Exception as error:  # TensorFlow raises a dozen kinds for a graph it cannot read
            raise ArtifactError(f"{artifact.saved_model}: must be a SavedModel: {error}") from error
        for name, (inputs, outputs) in _signatures(artifact.manifest).items():
            if name not in loaded.signatures:
                got = ", ".join(sorted(loaded.signatures)) or "none"
                raise ArtifactError(f"{artifact.saved_model}: must have a signature {name!r}, got {got}")
            where = f"{artifact.saved_model}: signature {name}"
            _check_specs(f"{where} inputs", loaded.signatures[name].structured_input_signature[1], inputs)
            _check_specs(f"{where} outputs", loaded.signatures[name].structured_outputs, outputs)
        return cls(artifact.ref, artifact.manifest, loaded, tf)

    def encode_adapt(self, inputs: ModelInputs, adapt: FloatArray) -> Adaptation:
        """Queries and posterior of B people; adapt: [B] float32, 1 = fast weights on, 0 = off.

        Pads the batch to one of ADAPT_BATCHES; B must be at most the largest of them.
        """
        count = len(adapt)
        fed = {**inputs.as_dict(), "adapt": adapt}
        out = self._encode_adapt(_padded(fed, padded_size(count, ADAPT_BATCHES)))
        none = np.zeros((count, 0), np.float32)
        return Adaptation(
            out["queries"][:count],
            out["uncertainty_factor"][:count],
            out["uncertainty_scale"][:count],
            out["trail"][:count] if "trail" in out else none,
        )

    @cached_property
    def _encode_adapt(self) -> PackedSignature:
        """Made where it is used: scoring makes rows alone."""
        inputs, outputs = _signatures(self.manifest)["encode_adapt"]
        return PackedSignature(
            self._tf,
            self._loaded.signatures["encode_adapt"],
            {name: (dtype, shape[1:]) for name, (dtype, shape) in inputs.items()},
            {name: tuple(n or 0 for n in shape[1:]) for name, (_, shape) in outputs.items()},
        )

    def item_rows(self, id_rows: FloatArray, id_present: FloatArray, content: FloatArray) -> ItemRows:
        """Rows of N items, made in batches.

        id_rows: [N, id_dim], zeros where there is no id; id_present: [N], 1 or 0; content: [N, content_dim].
        """
        parts = []
        for start in range(0, len(id_present), ROW_BATCHES[-1]):
            part = slice(start, start + ROW_BATCHES[-1])
            fed = {"id_rows": id_rows[part], "id_present": id_present[part], "content": content[part]}
            count = len(fed["id_present"])
            padded = _padded(fed, padded_size(count, ROW_BATCHES))
            out = self._item_rows(**{name: self._tf.constant(array) for name, array in padded.items()})
            parts.append([out[f"{kind}_rows"].numpy()[:count] for kind in ("input", "support", "output")])
        if not parts:
            return ItemRows.empty(self.manifest.dims)
        return ItemRows(*(np.concatenate(kind) for kind in zip(*parts, strict=True)))

    def warm_adaptation(self, artifact: Artifact) -> None:
        """Runs `encode_adapt` in every shape it will see; raises ArtifactError where it gives no numbers."""
        for length in self.manifest.buckets:
            for count in ADAPT_BATCHES:
                self._try_adaptation(artifact, count, length)

    def check_adaptation(self, artifact: Artifact) -> None:
        """As `warm_adaptation`, in one shape: for servers that do not adapt, so that all refuse the same
        versions. By the signature itself: to pack its inputs, nothing is traced that nobody uses."""
        people = _made_up_people(artifact, 1, self.manifest.buckets[-1])
        fed = {**people.as_dict(), "adapt": np.ones(1, np.float32)}
        signature = self._loaded.signatures["encode_adapt"]
        out = signature(**{name: self._tf.constant(array) for name, array in fed.items()})
        self._require_finite("encode_adapt", *(array.numpy() for array in out.values()))

    def _try_adaptation(self, artifact: Artifact, count: int, length: int) -> None:
        out = self.encode_adapt(_made_up_people(artifact, count, length), np.ones(count, np.float32))
        self._require_finite("encode_adapt", out.queries, out.factor, out.scale, out.trail)

    def warm_item_rows(self, artifact: Artifact) -> None:
        """Runs `item_rows` in every shape on the artifact's own items, with and without their ids.

        Raises ArtifactError where the result is not finite.
        """
        for count in ROW_BATCHES:
            take = (
                np.arange(count) % max(len(artifact.item_ids), 1) if artifact.item_ids else np.zeros(0, int)
            )
            for present in (1.0, 0.0):
                ids = np.asarray(artifact.rows.id[take]) * np.float32(present)
                flags = np.full(len(take), present, np.float32)
                rows = self.item_rows(ids, flags, artifact.rows.content[take].astype(np.float32))
                self._require_finite("item_rows", rows.input, rows.support, rows.output)

    def _require_finite(self, signature: str, *outputs: FloatArray) -> None:
        for output in outputs:
            if not np.isfinite(output).all():
                bad = output[~np.isfinite(output)][0]
                name = f"{self.ref.domain}/{self.ref.version}"
                raise ArtifactError(f"{name}: {signature} must give finite values, got {bad}")


def padded_size(count: int, sizes: Sequence[int]) -> int:
    """The smallest of `sizes` (ascending) that holds `count`."""
    return next(size for size in sizes if size >= count)


def _padded(arrays: Mapping[str, NDArray[Any]], size: int) -> dict[str, NDArray[Any]]:
    """Zeros up to `size` along the first axis."""
    return {
        name: a if len(a) == size else np.concatenate([a, np.zeros((size - len(a), *a.shape[1:]), a.dtype)])
        for name, a in arrays.items()
    }


def _made_up_people(artifact: Artifact, count: int, length: int) -> ModelInputs:
    """People with as many events as there are places, half as many, …, none, over all actions and items.

    A model may give numbers for somebody of whom nothing is known and none for one who liked something.
    """
    arrays: dict[str, Any] = {
        name: np.zeros((count, *(length if n is None else n for n in shape[1:])), dtype)
        for name, (dtype, shape) in _input_specs(artifact.manifest.dims).items()
    }
    people, places = np.indices((count, length))
    if artifact.item_ids:
        number = people * length + places
        actions = np.array([a for a in Action if a is not Action.IMPRESSION], np.int32)
        events = places >= length - length // 2**people
        items = (number * _SPREAD) % len(artifact.item_ids)
        arrays["mask"] = events.astype(np.float32)
        arrays["actions"] = actions[number % len(actions)] * events
        arrays["values"] = np.where(arrays["actions"] == Action.RATING, 1.0 + number % 5, 0.0).astype(
            np.float32
        )
        arrays["labels"] = signed_labels(arrays["actions"], arrays["values"])
        arrays["ages_s"] = (60.0 * (length - places) * events).astype(np.float32)
        arrays["input_rows"] = artifact.rows.input[items] * arrays["mask"][..., None]
        arrays["support_rows"] = artifact.rows.support[items] * arrays["mask"][..., None]
    return ModelInputs(**arrays)


def _input_specs(dims: Dims) -> dict[str, tuple[str, Shape]]:
    """dtype and shape of each of `ModelInputs`; None = any."""
    event: Shape = (None, None)
    return {
        "input_rows": ("float32", (None, None, dims.input)),
        "support_rows": ("float32", (None, None, dims.support)),
        "actions": ("int32", event),
        "values": ("float32", event),
        "labels": ("float32", event),
        "ages_s": ("float32", event),
        "mask": ("float32", event),
        "attributes": ("float32", (None, PROFILE_DIM)),
        "content_profile": ("float32", (None, dims.content)),
        "social_profile": ("float32", (None, dims.content)),
        "request": ("float32", (None, REQUEST_DIM)),
    }


def _signatures(m: Manifest) -> dict[str, tuple[dict[str, tuple[str, Shape]], dict[str, tuple[str, Shape]]]]:
    """Signature → (inputs, outputs) → name → (dtype, shape)."""
    d = m.dims
    return {
        "encode_adapt": (
            {**_input_specs(d), "adapt": ("float32", (None,))},
            {
                "queries": ("float32", (None, len(m.tasks), d.output)),
                "uncertainty_factor": ("float32", (None, m.uncertainty_rank, d.adapt)),
                "uncertainty_scale": ("float32", (None,)),
                **({"trail": ("float32", (None, d.trail))} if d.trail else {}),
            },
        ),
        "item_rows": (
            {
                "id_rows": ("float32", (None, d.id)),
                "id_present": ("float32", (None,)),
                "content": ("float32", (None, d.content)),
            },
            {
                "input_rows": ("float32", (None, d.input)),
                "support_rows": ("float32", (None, d.support)),
                "output_rows": ("float32", (None, d.output)),
            },
        ),
    }


def _check_specs(where: str, found: Mapping[str, Any], wanted: Mapping[str, tuple[str, Shape]]) -> None:
    """Names equal; dtype equal; shapes agree wherever both state a number, and the first axis is free."""
    if set(found) != set(wanted):
        raise ArtifactError(f"{where}: must be {', '.join(sorted(wanted))}, got {', '.join(sorted(found))}")
    for name, (dtype, shape) in wanted.items():
        spec = found[name]
        got: Shape | None = tuple(spec.shape) if spec.shape.rank is not None else None
        fits = got is None or (
            len(got) == len(shape)
            and all(g is None or w is None or g == w for g, w in zip(got, shape, strict=True))
        )
        if spec.dtype.name != dtype or not fits or (got and got[0] is not None):
            raise ArtifactError(f"{where}: {name} must be {dtype} {shape}, got {spec.dtype.name} {got}")
