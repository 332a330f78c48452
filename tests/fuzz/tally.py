"""What came of a target's cases."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

ACCEPTED = "accepted"
_NUMBERS = re.compile(r"\d+|'[^']*'|\"[^\"]*\"")


@dataclass(frozen=True, slots=True)
class Finding:
    """A case and what is wrong with what came of it."""

    target: str
    problem: str
    case: bytes
    is_hang: bool = False

    @property
    def kind(self) -> str:
        """Those of one cause look alike."""
        return f"{self.target}: {_NUMBERS.sub('#', self.problem)[:100]}"


@dataclass(slots=True)
class Tally:
    """Of one target. refused: cases by status code, or by the error's name; peak_mb: resident memory."""

    target: str
    is_rpc: bool
    cases: int = 0
    seconds: float = 0.0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    peak_mb: float = 0.0
    crashes: int = 0
    hangs: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)

    def note(self, outcome: str, seconds: float) -> None:
        """outcome: ACCEPTED, or why it was refused."""
        self.cases += 1
        self.slowest_s = max(self.slowest_s, seconds)
        if outcome == ACCEPTED:
            self.accepted += 1
        else:
            self.refused[outcome] += 1

    def found(self, finding: Finding) -> None:
        """Keeps the first, and the shortest, of those that look alike."""
        self.hangs += finding.is_hang
        self.crashes += not finding.is_hang
        known = self.findings.get(finding.kind)
        if known is None or len(finding.case) < len(known.case):
            self.findings[finding.kind] = finding
