"""A signature of many small tensors, called with two and giving one.

Each tensor handed to TensorFlow or back costs some 50 µs where caches are cold, as between the requests of
one caller; splitting them inside the graph costs next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.domain import FloatArray

# Axes after the batch; None = the number of events.
Shape = tuple[int | None, ...]


class PackedSignature:
    """Calls `signature` for B people with their events side by side in one array, all else in another.

    inputs: name → (dtype, axes after the batch), those of events beginning with None; integers must be below
    2²⁴, exact in float32. outputs: name → axes after the batch; float32.
    """

    def __init__(
        self,
        tf: Any,
        signature: Any,
        inputs: Mapping[str, tuple[str, Shape]],
        outputs: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._events = {name: spec for name, spec in inputs.items() if spec[1][:1] == (None,)}
        self._people = {name: spec for name, spec in inputs.items() if name not in self._events}
        self._outputs = outputs
        self._constant = tf.constant  # converts faster than the call itself or convert_to_tensor would

        def unpacked(packed: Any, specs: Mapping[str, tuple[str, Shape]], axis: int) -> dict[str, Any]:
            parts = tf.split(packed, [_width(shape) for _, shape in specs.values()], axis=axis)
            return {
                name: tf.cast(part if len(shape) == axis else part[..., 0], dtype)
                for part, (name, (dtype, shape)) in zip(parts, specs.items(), strict=True)
            }

        def packed(events: Any, people: Any) -> Any:
            fed = {**unpacked(events, self._events, 2), **unpacked(people, self._people, 1)}
            found, count = signature(**fed), tf.shape(people)[0]
            flat = [tf.reshape(found[name], [count, math.prod(axes)]) for name, axes in outputs.items()]
            return tf.concat(flat, axis=1)

        widths = [sum(_width(shape) for _, shape in part.values()) for part in (self._events, self._people)]
        specs = [tf.TensorSpec([None, None, widths[0]]), tf.TensorSpec([None, widths[1]])]
        function = tf.function(packed, input_signature=specs, autograph=False)
        self._call = function.get_concrete_function()

    def __call__(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, FloatArray]:
        """arrays by input name, [B, …]. Outputs by name, [B, …] float32."""
        events = _side_by_side([arrays[name] for name in self._events], axes=3)
        people = _side_by_side([arrays[name] for name in self._people], axes=2)
        found: FloatArray = self._call(self._constant(events), self._constant(people)).numpy()
        result, first = {}, 0
        for name, axes in self._outputs.items():
            width = math.prod(axes)
            result[name] = found[:, first : first + width].reshape(len(found), *axes)
            first += width
        return result


def _width(shape: Shape) -> int:
    return math.prod(n for n in shape if n is not None)


def _side_by_side(arrays: list[NDArray[Any]], *, axes: int) -> FloatArray:
    """Along the last of so many axes; arrays that have one less get it."""
    return np.concatenate([a if a.ndim == axes else a[..., None] for a in arrays], axis=-1, dtype=np.float32)
