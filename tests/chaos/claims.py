"""What must hold of a scenario, each with the figure that was seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.chaos.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Claim:
    text: str
    holds: bool
    figure: str


def kept(found: Outcome) -> list[Claim]:
    """Of every scenario: nothing acknowledged is lost or there twice, no list is what it must not be."""
    events, broken = found.kept, found.broken
    return [
        Claim(
            "acknowledged events: none lost, none twice",
            events.acknowledged > 0 and not events.lost and not events.twice,
            f"{events.acknowledged}, {events.lost} lost, {events.twice} twice",
        ),
        Claim("answers are whole", not broken, "; ".join(broken[:3]) or "all"),
    ]


def none_failed(found: Outcome, at_least: int = 0) -> Claim:
    """Of calls that may be repeated."""
    failed, calls = found.failed_reads, found.all_requests
    text = "calls that may be repeated: none failed"
    return Claim(
        text, not failed and calls >= at_least, f"{failed} failed{_how(found)}, {calls} calls in all"
    )


def nothing_failed(found: Outcome, at_least: int = 0) -> Claim:
    failed, calls = sum(found.failed.values()), found.all_requests
    figure = f"{failed} of {calls} failed{_how(found)}"
    return Claim("calls: none failed", not failed and calls >= at_least, figure)


def _how(found: Outcome) -> str:
    return f" ({', '.join(f'{what}: {count}' for what, count in found.codes.items())})" if found.codes else ""


def answered(found: Outcome, share: float = 0.999) -> Claim:
    return Claim(
        f"lists: at least {share:.1%} answered, with their rung",
        found.share_answered >= share,
        f"{found.share_answered:.2%} of {found.requests.get('list', 0)}",
    )


def got_over(found: Outcome, within_s: float = 5.0) -> Claim:
    """For faults that last: callers find the way round them."""
    return Claim(
        f"calls that may be repeated: none made later than {within_s:g} s after the fault failed",
        found.trouble_s <= within_s,
        f"{found.failed_reads} failed, the last one made after {found.trouble_s:.1f} s",
    )


def recovered(found: Outcome, within_s: float = 2.0) -> Claim:
    return Claim(
        f"lists as before within {within_s:g} s",
        not math.isnan(found.recovery_s) and found.recovery_s <= within_s,
        f"{found.recovery_s:.2f} s",
    )
