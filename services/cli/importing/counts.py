"""What became of the rows, per kind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

RECORDED, UPDATED, DUPLICATE, REJECTED = "recorded", "updated", "duplicate", "rejected"
OUTCOMES = (RECORDED, UPDATED, DUPLICATE, REJECTED)


@dataclass(slots=True)
class Counts:
    """Rows read and their outcomes. Every row read ends in exactly one outcome.

    recorded: stored for the first time; updated: the same id with other content; duplicate: stored
    before, nothing changed; rejected: not stored, in the rejects file with its reason.
    """

    read: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def settled(self) -> int:
        return sum(self.outcomes.values())

    @property
    def rejected(self) -> int:
        return self.outcomes[REJECTED]

    @property
    def bad_share(self) -> float:
        """Rejected rows' share of the rows read, in [0, 1]."""
        return self.rejected / self.read if self.read else 0.0

    def as_dict(self) -> dict[str, int]:
        return {"read": self.read, **{name: self.outcomes[name] for name in OUTCOMES}}
