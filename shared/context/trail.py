"""What `encode_adapt` says of a person's latest events → the items that transitions go out from."""

from __future__ import annotations

from collections.abc import Sequence

from shared.domain import FloatArray, Trail


def trail_of(item_ids: Sequence[str], weights: FloatArray) -> Trail | None:
    """item_ids: of a person's events, the latest last; weights: [dims.trail], of the latest of them, the
    newest last. Items that count nothing are left out; None where all do."""
    latest = min(len(item_ids), len(weights))
    ids, own = item_ids[len(item_ids) - latest :], weights[len(weights) - latest :]
    said = own > 0.0
    if not said.any():
        return None
    return Trail(tuple(i for i, some in zip(ids, said.tolist(), strict=True) if some), own[said])
