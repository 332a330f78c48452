"""Dense arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from warmstart.common.v1 import tensor_pb2 as pb

from shared.domain import FloatArray
from shared.errors import InvalidInput

_DTYPES: dict[int, np.dtype[Any]] = {
    pb.D_TYPE_FLOAT32: np.dtype("<f4"),
    pb.D_TYPE_FLOAT16: np.dtype("<f2"),
    pb.D_TYPE_INT32: np.dtype("<i4"),
    pb.D_TYPE_INT64: np.dtype("<i8"),
}
_NUMBERS: dict[np.dtype[Any], pb.DType.ValueType] = {
    dtype: pb.DType.ValueType(number) for number, dtype in _DTYPES.items()
}
_MAX_DIMS = 4
_MAX_EMPTY = 2**31  # numpy makes no array, an empty one either, whose other lengths are too many to count

Shape = tuple[int | None, ...]


def encode_tensor(array: NDArray[Any]) -> pb.Tensor:
    """float32, float16, int32 or int64 of up to 4 dimensions. TypeError for other types."""
    number = _NUMBERS.get(array.dtype.newbyteorder("<"))
    if number is None:
        raise TypeError(f"tensors are float32, float16, int32 or int64, got {array.dtype}")
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return pb.Tensor(dtype=number, shape=array.shape, data=little.tobytes())


def decode_tensor(message: pb.Tensor, *, field: str, shape: Shape | None = None) -> NDArray[Any]:
    """A read-only array over the message's bytes.

    shape: what it must be, None in a place where any length will do; None = any shape of up to 4 dimensions.
    """
    dtype = _DTYPES.get(message.dtype)
    if dtype is None:
        raise InvalidInput.of(f"{field}.dtype", "must be one of 1..4 (see DType)", message.dtype)
    got = tuple(message.shape)
    if len(got) > _MAX_DIMS or any(n < 0 for n in got):
        raise InvalidInput.of(f"{field}.shape", f"must be up to {_MAX_DIMS} lengths of at least 0", got)
    if shape is not None and not _fits(got, shape):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise InvalidInput.of(f"{field}.shape", f"must be ({wanted})", got)
    size = math.prod(got) * dtype.itemsize
    if size != len(message.data):
        rule = f"must be product(shape) × size(dtype) = {size} bytes"
        raise InvalidInput.of(f"{field}.data", rule, len(message.data))
    if not size and math.prod(n for n in got if n) >= _MAX_EMPTY:
        rule = f"must be lengths of which those that are not 0 multiply to less than {_MAX_EMPTY}"
        raise InvalidInput.of(f"{field}.shape", rule, got)
    return np.frombuffer(message.data, dtype).reshape(got)


def decode_floats(
    message: pb.Tensor, *, field: str, shape: Shape | None = None, largest: float = math.inf
) -> FloatArray:
    """A tensor of finite float32 (float16 is widened), none larger in size than `largest`."""
    array = decode_tensor(message, field=field, shape=shape)
    if array.dtype.kind != "f":
        raise InvalidInput.of(f"{field}.dtype", "must be float32 or float16", message.dtype)
    floats: FloatArray = array.astype(np.float32, copy=False)
    # Summing is the fastest test (one pass, no mask); it may overflow, hence the second look.
    with np.errstate(over="ignore", invalid="ignore"):
        suspicious = not math.isfinite(float(floats.sum()))
    if suspicious and not np.isfinite(floats).all():
        place = int(np.flatnonzero(~np.isfinite(floats))[0])
        raise InvalidInput.of(f"{field}.data", f"must be finite at {place}", float(floats.flat[place]))
    if largest < math.inf and floats.size and max(float(floats.max()), -float(floats.min())) > largest:
        place = int(np.flatnonzero(np.abs(floats) > largest)[0])
        rule = f"must be -{largest:g}..{largest:g} at {place}"
        raise InvalidInput.of(f"{field}.data", rule, float(floats.flat[place]))
    return floats


def _fits(got: tuple[int, ...], wanted: Shape) -> bool:
    return len(got) == len(wanted) and all(w is None or g == w for g, w in zip(got, wanted, strict=True))
