"""What came of a scenario, and whether it is what must be."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tests.chaos.backend import Kept
from tests.chaos.load import OK, Answered


@dataclass(slots=True)
class Phases:
    """When the fault was made and when it was over, on the clock of `time.monotonic`.

    began: of the steady load before it; fault, over: of the fault; ended: of the load.
    """

    began: float = field(default_factory=time.monotonic)
    fault: float = float("inf")
    over: float = float("inf")
    ended: float = float("inf")

    @contextmanager
    def during(self) -> Iterator[None]:
        """The block is the fault, from making it to undoing it."""
        self.fault = time.monotonic()
        yield
        self.over = time.monotonic()


@dataclass(frozen=True, slots=True)
class Latency:
    """Of lists that were answered, in milliseconds; NaN where there are none."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, answers: Sequence[Answered]) -> Latency:
        if not answers:
            return cls(float("nan"), float("nan"))
        p50, p99 = np.percentile([1000.0 * a.seconds for a in answers], [50, 99])
        return cls(float(p50), float(p99))


@dataclass(frozen=True, slots=True)
class Outcome:
    """requests, failed: by kind, of the whole scenario; codes: of failed calls; rungs: of lists made during
    the fault; trouble_s: from the fault's beginning to when the last call of those that may be repeated was
    due that failed; recovery_s: from the fault's end to the last list that was not well, NaN where lists were
    not well to the end.
    """

    scenario: str
    requests: Mapping[str, int]
    failed: Mapping[str, int]
    codes: Mapping[str, int]
    rungs: Mapping[str, int]
    broken: Sequence[str]
    before: Latency
    during: Latency
    fault_s: float
    trouble_s: float
    recovery_s: float
    kept: Kept
    reasons: Mapping[str, int]

    @property
    def all_requests(self) -> int:
        return sum(self.requests.values())

    @property
    def share_answered(self) -> float:
        """Of lists."""
        return 1.0 - self.failed.get("list", 0) / max(1, self.requests.get("list", 0))

    @property
    def failed_reads(self) -> int:
        """Calls that may be repeated and were given up all the same; feedback is sent until it is taken."""
        return sum(count for kind, count in self.failed.items() if kind != FEEDBACK)


# Calls of this kind that fail are sent again by the caller.
FEEDBACK = "feedback"
# So long must lists be well at the end for the recovery to be over.
_CALM_S = 1.0


def outcome(scenario: str, answers: Sequence[Answered], phases: Phases, kept: Kept) -> Outcome:
    failed = [a for a in answers if a.code != OK]
    lists = [a for a in answers if a.kind == "list"]
    answered = [a for a in lists if a.code == OK]
    during = [a for a in answered if phases.fault <= a.due < phases.over]
    return Outcome(
        scenario,
        _summed((a.kind, a.seen.calls) for a in answers),
        # Plain ones: `asdict` would count a Counter's pairs.
        dict(Counter(a.kind for a in failed)),
        dict(Counter(f"{a.kind}: {a.code}" for a in failed)),
        dict(Counter(a.seen.rung.removeprefix("RUNG_").lower() for a in during)),
        sorted({a.seen.broken for a in answers if a.seen.broken}),
        Latency.of([a for a in answered if phases.began <= a.due < phases.fault]),
        Latency.of(during),
        phases.over - phases.fault,
        max((a.due - phases.fault for a in failed if a.kind != FEEDBACK), default=0.0),
        _recovery_s([a for a in lists if a.due >= phases.over], phases),
        kept,
        dict(Counter(a.reason for a in failed)),
    )


def _summed(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for name, count in counts:
        total[name] += count
    return dict(total)


def _recovery_s(lists: Sequence[Answered], phases: Phases) -> float:
    """0 where every list that was due after the fault was well."""
    late = [a.due + a.seconds - phases.over for a in lists if not a.well]
    if not late:
        return 0.0
    return max(late) if phases.over + max(late) < phases.ended - _CALM_S else float("nan")
