"""What is said of a scenario, worked by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import pytest

from tests.chaos import claims
from tests.chaos.backend import Kept, Seen
from tests.chaos.load import OK, Answered
from tests.chaos.outcome import Outcome, Phases, outcome
from tests.chaos.scenarios import SCENARIOS

PHASES = Phases(began=0.0, fault=10.0, over=20.0, ended=30.0)
WELL = Seen(rung="RUNG_ADAPTED")
FALLEN = Seen(rung="RUNG_TRENDING", degraded=True)


def a_list(due: float, seen: Seen = WELL, *, seconds: float = 0.5, code: str = OK) -> Answered:
    return Answered("list", due, seconds, code, "" if code == OK else "why", seen)


ONE_EVENT = Kept(1, 0, 0)


def of(answers: Sequence[Answered], kept: Kept = ONE_EVENT) -> Outcome:
    return outcome("some", answers, PHASES, kept)


def test_latency_is_that_of_answered_lists_before_and_during_the_fault() -> None:
    found = of(
        [
            a_list(1.0, seconds=0.1),
            a_list(2.0, seconds=0.3),
            a_list(11.0, seconds=1.0),
            a_list(12.0, seconds=9.0, code="UNAVAILABLE"),
            a_list(25.0, seconds=7.0),
        ]
    )
    assert found.before.p50_ms == pytest.approx(200.0)
    assert found.during.p50_ms == pytest.approx(1000.0)
    assert found.codes == {"list: UNAVAILABLE": 1}
    assert found.reasons == {"why": 1}


def test_figures_can_be_written_as_json() -> None:
    found = json.loads(json.dumps(asdict(of([a_list(1.0), a_list(11.0), a_list(12.0, code="UNAVAILABLE")]))))
    assert (found["requests"], found["failed"]) == ({"list": 3}, {"list": 1})


def test_rungs_are_those_of_the_fault() -> None:
    found = of([a_list(1.0), a_list(11.0, FALLEN), a_list(12.0, FALLEN), a_list(13.0), a_list(21.0, FALLEN)])
    assert found.rungs == {"trending": 2, "adapted": 1}


def test_recovery_lasts_until_the_last_list_that_was_not_well() -> None:
    assert of([a_list(11.0, FALLEN), a_list(21.0)]).recovery_s == 0.0
    assert (
        of([a_list(20.5, FALLEN), a_list(21.0), a_list(22.0, code="UNAVAILABLE"), a_list(23.0)]).recovery_s
        == 2.5
    )
    assert math.isnan(of([a_list(29.0, FALLEN)]).recovery_s)  # to the end: nobody knows for how long
    assert not claims.recovered(of([a_list(29.0, FALLEN)])).holds
    assert claims.recovered(of([a_list(21.0, FALLEN)])).holds
    assert not claims.recovered(of([a_list(22.0, FALLEN)])).holds


def test_a_read_of_several_calls_counts_as_many() -> None:
    found = of([a_list(1.0), Answered("read", 1.0, 0.1, OK, "", Seen(3))])
    assert found.requests == {"list": 1, "read": 3}
    assert found.all_requests == 4


def test_feedback_that_is_sent_again_is_no_failed_read() -> None:
    found = of([a_list(1.0), Answered("feedback", 1.0, 0.1, "UNAVAILABLE", "why", Seen())])
    assert found.failed_reads == 0
    assert claims.none_failed(found).holds
    assert not claims.nothing_failed(found).holds
    assert not claims.none_failed(found, at_least=3).holds  # too few to tell


def test_trouble_lasts_until_the_last_repeatable_call_that_failed() -> None:
    late = Answered("feedback", 18.0, 0.1, "UNAVAILABLE", "why", Seen())
    found = of([a_list(1.0), a_list(14.0, code="DEADLINE_EXCEEDED"), a_list(15.0), late])
    assert found.trouble_s == pytest.approx(4.0)
    assert claims.got_over(found).holds
    assert not claims.got_over(found, 3.5).holds
    assert of([a_list(1.0)]).trouble_s == 0.0


def test_lists_are_answered_where_so_many_are() -> None:
    found = of([a_list(1.0)] * 999 + [a_list(2.0, code="DEADLINE_EXCEEDED")])
    assert claims.answered(found, 0.999).holds
    assert not claims.answered(found, 1.0).holds


@pytest.mark.parametrize("kept", [Kept(5, 1, 0), Kept(5, 0, 1), Kept(0, 0, 0)])
def test_an_event_lost_or_twice_or_none_at_all_is_told(kept: Kept) -> None:
    assert not claims.kept(of([a_list(1.0)], kept))[0].holds


def test_a_list_that_must_not_be_like_that_is_told() -> None:
    broken = claims.kept(of([a_list(1.0, Seen(rung="RUNG_ADAPTED", broken="9 of 10 items"))]))[1]
    assert not broken.holds
    assert broken.figure == "9 of 10 items"


def test_every_scenario_says_what_is_done() -> None:
    assert all(scenario.about and scenario.name == name for name, scenario in SCENARIOS.items())
