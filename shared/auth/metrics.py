"""What Prometheus is told of callers. Its labels are bounded: key ids by their file, and tokens share one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class AuthMetrics:
    """Register `collectors` with the server's registry."""

    calls: Counter = field(
        default_factory=lambda: Counter(
            "warmstart_caller_calls",
            "RPCs of callers whose credential is good: a key's id, or jwt.",
            ("caller", "code"),
            registry=None,
        )
    )
    refusals: Counter = field(
        default_factory=lambda: Counter(
            "warmstart_auth_refusals",
            "RPCs refused for their credential, scope, domain or quota, by the error's reason.",
            ("reason",),
            registry=None,
        )
    )
    broken_files: Gauge = field(
        default_factory=lambda: Gauge(
            "warmstart_auth_file_broken",
            "1 while the newest content of a file of keys could not be taken up.",
            ("file",),
            registry=None,
        )
    )

    @property
    def collectors(self) -> Iterable[Collector]:
        return self.calls, self.refusals, self.broken_files
