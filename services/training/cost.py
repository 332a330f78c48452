"""What training costs: time and memory, over all starts of an interrupted run."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping

SECONDS, PEAK_MEMORY_MB = "seconds", "peak_memory_mb"


class Cost:
    """Of one stage, from now on. before: what a checkpoint says that it had cost."""

    def __init__(self, before: Mapping[str, float]) -> None:
        self._began_s = time.monotonic() - before.get(SECONDS, 0.0)
        self._peak_mb = before.get(PEAK_MEMORY_MB, 0.0)

    def figures(self) -> dict[str, float]:
        """seconds; peak_memory_mb: the most memory that a worker has held, in 2^20 bytes."""
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0  # kilobytes on Linux
        return {
            SECONDS: time.monotonic() - self._began_s,
            PEAK_MEMORY_MB: max(self._peak_mb, resident),
        }


def together(stages: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Figures of all stages, named by them; of memory the most."""
    found = {
        f"{stage}_{name}": value
        for stage, figures in stages.items()
        for name, value in figures.items()
        if name != PEAK_MEMORY_MB
    }
    peaks = [figures[PEAK_MEMORY_MB] for figures in stages.values() if PEAK_MEMORY_MB in figures]
    return {**found, PEAK_MEMORY_MB: max(peaks)} if peaks else found
