"""What the store holds of a person, kind by kind: the one table by which people are erased and exported.

A kind that is erased and not exported, or the other way round, is a row that is missing here; tests hold
the table against the keys that a person leaves, and against the answer of ExportUser.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.features.store.keys import ShardKeys


@dataclass(frozen=True, slots=True)
class Holding:
    """One kind of data.

    key: of the person alone, None where theirs lies among that of others; exported_as: the fields of
    ExportUserResponse that say all of it.
    """

    name: str
    key: Callable[[ShardKeys, str], str] | None
    exported_as: tuple[str, ...]


# The own keys in the order that `forget.lua` takes them.
HOLDINGS = (
    Holding("attributes and counts", ShardKeys.person, ("user", "total_events")),
    Holding("history", ShardKeys.history, ("events",)),
    Holding("seen items", ShardKeys.seen, ("seen_item_ids", "seen_time_ms")),
    Holding("marks of known events", ShardKeys.dedupe, ("recognised_events",)),
    Holding("relations", ShardKeys.forward, ("relations",)),
    Holding("relations of others", ShardKeys.back, ("relations_from_others",)),
    Holding("marks of people merged into this one", ShardKeys.merged_from, ("merged_people",)),
    Holding("event log", None, ("events",)),
    Holding("impressions", None, ("events",)),
    Holding("place among the shard's people", None, ("user",)),
)


def own_keys(keys: ShardKeys, user_id: str) -> list[str]:
    """The keys that hold one person and nobody else."""
    return [holding.key(keys, user_id) for holding in HOLDINGS if holding.key is not None]
