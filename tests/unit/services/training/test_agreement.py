"""Workers decide by what the first one finds on disk."""

from __future__ import annotations

import pytest

from services.training import agreement
from services.training.agreement import Unshared, agreed, alone


def test_a_single_worker_believes_what_it_reads() -> None:
    assert agreed(lambda: 7, str, alone) == 7


def test_a_worker_that_is_shown_an_older_state_waits_for_the_first_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(agreement, "_LOOK_EVERY_S", 0.0)
    shown = iter([5, 5, 10])
    assert agreed(lambda: next(shown), str, lambda mine: "10") == 10


def test_a_directory_that_is_not_shared_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agreement, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(agreement, "_LOOK_EVERY_S", 0.0)
    with pytest.raises(Unshared, match="first one finds '10' there, another one '5'"):
        agreed(lambda: 5, str, lambda mine: "10")
