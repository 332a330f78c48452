"""How processors are shared is told to the system, and what it says against it is told on."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.processes.scheduling import schedule

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="this system has no such policies")


def alone(policy: str) -> tuple[str, int, int]:
    """In a thread of its own: what `schedule` says, its policy then, and that of a thread that it starts."""

    def run() -> tuple[str, int, int]:
        said = schedule(policy)
        inner: list[int] = []
        started = threading.Thread(target=lambda: inner.append(os.sched_getscheduler(0)))
        started.start()
        started.join()
        return said, os.sched_getscheduler(0), inner[0]

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def test_threads_that_are_started_from_then_on_share_as_told() -> None:
    assert alone("batch") == ("", os.SCHED_BATCH, os.SCHED_BATCH)
    assert alone("other") == ("", os.SCHED_OTHER, os.SCHED_OTHER)


def test_where_the_system_refuses_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    assert schedule("batch") == "[Errno 1] Operation not permitted"
