"""What the story claims, and whether it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """`figures` says what was seen, for people."""

    text: str
    holds: bool
    figures: str


def failures(claims: Sequence[Claim]) -> list[str]:
    """Claims that do not hold, a sentence each."""
    return [f"{claim.text}: {claim.figures}" for claim in claims if not claim.holds]
