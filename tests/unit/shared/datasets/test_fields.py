"""One cell → one value, worked by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from shared.datasets import fields
from shared.datasets.fields import TimeUnit
from shared.datasets.rows import BadRow
from shared.domain import Action

NOW_MS = 1_700_000_000_000  # 2023-11-14


def test_ids_are_text_whole_numbers_or_whole_floats():
    assert [fields.identifier("user", c) for c in ("u1", " 7 ", 7, 7.0)] == ["u1", "7", "7", "7"]


@pytest.mark.parametrize("cell", ["", "  ", None, float("nan")])
def test_an_empty_id_is_refused(cell):
    with pytest.raises(BadRow, match=r"user must be 1..256 bytes, got ''"):
        fields.identifier("user", cell)


@pytest.mark.parametrize(
    ("cell", "rule"),
    [
        ("a\x00b", "must not hold control characters"),
        ("x" * 257, "must be 1..256 bytes"),
        ("bad\udcff", "must be UTF-8"),
        (["a"], "must be text or a number"),
        (True, "must be text or a number"),
        (float("inf"), "must be finite"),
    ],
)
def test_other_bad_ids_are_refused(cell, rule):
    with pytest.raises(BadRow, match=rule):
        fields.identifier("item", cell)


@pytest.mark.parametrize("cell", ["nan", "inf", float("nan"), float("-inf")])
def test_a_non_finite_value_is_refused(cell):
    with pytest.raises(BadRow, match="value must be finite"):
        fields.number("value", cell)


@pytest.mark.parametrize("cell", ["four", "", None, True, object()])
def test_what_is_no_number_is_refused(cell):
    with pytest.raises(BadRow, match="value must be a number"):
        fields.number("value", cell)


def test_actions_go_by_name_in_any_case():
    assert [fields.action("action", n) for n in ("like", "DISLIKE", "ACTION_SKIP")] == [
        Action.LIKE,
        Action.DISLIKE,
        Action.SKIP,
    ]


def test_an_unknown_action_is_refused_naming_the_known_ones():
    with pytest.raises(BadRow, match=r"action must be one of impression, view, click, .*, got 'love'"):
        fields.action("action", "love")


@pytest.mark.parametrize(
    ("cell", "unit"),
    [
        (881250949, TimeUnit.SECONDS),
        ("881250949", TimeUnit.SECONDS),
        (881250949.0, TimeUnit.SECONDS),
        (881250949000, TimeUnit.MILLISECONDS),
        (881250949000000, TimeUnit.MICROSECONDS),
        (881250949000000000, TimeUnit.NANOSECONDS),
        ("1997-12-04T15:55:49+00:00", TimeUnit.ISO),
        ("1997-12-04 15:55:49", TimeUnit.ISO),  # no zone: UTC
        (datetime(1997, 12, 4, 15, 55, 49, tzinfo=UTC), TimeUnit.SECONDS),
    ],
)
def test_one_moment_in_every_unit(cell, unit):
    assert fields.time_ms("time", cell, unit, NOW_MS) == 881250949000


def test_a_date_is_its_midnight_in_utc():
    assert fields.time_ms("time", date(1970, 1, 2), TimeUnit.ISO, NOW_MS) == 86_400_000


def test_a_time_is_in_the_future_after_five_minutes():
    at_limit = NOW_MS + 5 * 60 * 1000
    assert fields.time_ms("time", at_limit, TimeUnit.MILLISECONDS, NOW_MS) == at_limit
    with pytest.raises(BadRow, match="time must not be in the future"):
        fields.time_ms("time", at_limit + 1, TimeUnit.MILLISECONDS, NOW_MS)


def test_a_time_in_seconds_among_milliseconds_is_refused_not_dated_1970():
    with pytest.raises(BadRow, match=r"time must be in ms, as the file's times are: .*, got 881250949"):
        fields.time_ms("time", 881250949, TimeUnit.MILLISECONDS, NOW_MS)


@pytest.mark.parametrize("cell", [0, -5, "1969-12-31"])
def test_a_time_before_the_epoch_is_refused(cell):
    unit = TimeUnit.ISO if isinstance(cell, str) else TimeUnit.SECONDS
    with pytest.raises(BadRow, match="time must be after 1970-01-01"):
        fields.time_ms("time", cell, unit, NOW_MS)


@pytest.mark.parametrize(
    ("cells", "unit"),
    [
        (["881250949", "891717742"], TimeUnit.SECONDS),
        ([1700000000000], TimeUnit.MILLISECONDS),
        ([1700000000000000], TimeUnit.MICROSECONDS),
        ([1700000000000000000], TimeUnit.NANOSECONDS),
        (["2020-01-01", "2020-01-02"], TimeUnit.ISO),
        ([datetime(2020, 1, 1)], TimeUnit.ISO),
        (["?", "881250949"], TimeUnit.SECONDS),  # one bad cell does not change the unit
        ([0, "0", "?"], TimeUnit.MILLISECONDS),  # none of them tells a unit
        ([], TimeUnit.MILLISECONDS),
    ],
)
def test_the_unit_is_told_by_the_size_of_the_first_times(cells, unit):
    assert fields.detect_unit(cells) is unit


@pytest.mark.parametrize(
    ("cells", "unit"),
    [
        (["1700000000000", "1600000000", "1600000001"], TimeUnit.SECONDS),
        (["1600000000", "1700000000000", "1700000000001"], TimeUnit.MILLISECONDS),
        (["1600000000", "2020-01-01", "2020-01-02"], TimeUnit.ISO),
        (["2020-01-01", "1600000000", "1600000001"], TimeUnit.SECONDS),
        (["1600000000", "1700000000000"], TimeUnit.SECONDS),  # one vote each: the first seen
        (["1700000000000", "1600000000"], TimeUnit.MILLISECONDS),
    ],
)
def test_the_unit_is_that_of_most_times_and_of_the_first_where_they_are_as_many(cells, unit):
    assert fields.detect_unit(cells) is unit


def test_lists_come_as_lists_or_as_separated_text_without_blanks_and_repeats():
    assert fields.names("categories", "Drama|Comedy||Drama") == ("Drama", "Comedy")
    assert fields.names("categories", ["Drama", None, " Comedy "]) == ("Drama", "Comedy")
    assert fields.names("categories", None) == ()
