"""Attributes and request context as fixed-length vectors.

Feature hashing (Weinberger et al., 2009, "Feature Hashing for Large Scale Multitask Learning"):
no vocabulary to keep, any attribute name and value has a place, and training and serving agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b

import numpy as np

from shared.domain import FloatArray, RequestContext

PROFILE_DIM = 64
REQUEST_DIM = 16
_HASHED_REQUEST_DIM = REQUEST_DIM - 4
_DAY_MS = 24 * 3600 * 1000
_WEEK_MS = 7 * _DAY_MS


def attribute_vector(attributes: Mapping[str, str]) -> FloatArray:
    """Signed hashing of `name=value` pairs to unit length. [PROFILE_DIM] float32; zeros where empty."""
    return _hashed((f"{n}={v}" for n, v in attributes.items() if v), PROFILE_DIM)


def request_vector(request: RequestContext) -> FloatArray:
    """Device and surface hashed, then hour of day and day of week as sine and cosine (UTC).

    [REQUEST_DIM] float32. A request without a time (0) has zeros in the last four places.
    """
    vector = np.zeros(REQUEST_DIM, np.float32)
    words = [f"{n}={v}" for n, v in (("device", request.device), ("surface", request.surface)) if v]
    vector[:_HASHED_REQUEST_DIM] = _hashed(words, _HASHED_REQUEST_DIM)
    if request.time_ms > 0:
        for at, period in ((_HASHED_REQUEST_DIM, _DAY_MS), (_HASHED_REQUEST_DIM + 2, _WEEK_MS)):
            angle = 2.0 * np.pi * (request.time_ms % period) / period
            vector[at : at + 2] = np.sin(angle), np.cos(angle)
    return vector


def _hashed(words: Iterable[str], dim: int) -> FloatArray:
    vector = np.zeros(dim, np.float32)
    for word in words:
        digest = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little")
        vector[(digest >> 1) % dim] += 1.0 if digest & 1 else -1.0
    norm = float(np.linalg.norm(vector))
    return vector / np.float32(norm) if norm > 0.0 else vector
