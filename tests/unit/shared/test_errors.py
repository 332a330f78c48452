"""Errors state rule, field and value, and know their status."""

from __future__ import annotations

import inspect
import pickle

import grpc
import pytest

from shared import errors
from shared.errors import InvalidInput, ModelNotHeld, TooLarge, Violation, violation

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.WarmstartError)]


def test_a_violation_says_field_rule_and_value() -> None:
    assert violation("page_size", "must be 1..500", 0) == Violation(
        "page_size", "page_size must be 1..500, got 0"
    )
    assert (
        violation("user_id", "must be 1..256 bytes", "").description == "user_id must be 1..256 bytes, got ''"
    )


def test_a_long_value_is_shortened() -> None:
    """repr adds a quote before the 79 that are shown; quotes and escapes do not count."""
    said = violation("title", "must be short", "x" * 999 + "\n").description
    assert said == f"title must be short, got '{'x' * 79}… (1000 characters)"


def test_several_violations_are_told_in_one_sentence() -> None:
    error = InvalidInput([violation("a", "must be 1", 2), violation("b", "must be 3", 4)])
    assert str(error) == "a must be 1, got 2; b must be 3, got 4"
    assert [v.field for v in error.violations] == ["a", "b"]


def test_too_large_is_invalid_input_of_another_status() -> None:
    error = TooLarge.of("events", "must hold at most 5000", 5001)
    assert isinstance(error, InvalidInput)
    assert type(error) is TooLarge
    assert error.code == "RESOURCE_EXHAUSTED"


def test_a_model_that_is_not_held_names_those_that_are() -> None:
    error = ModelNotHeld("default", "v3", ["v2", "v1"])
    assert str(error) == "model_version 'v3' of domain 'default' is not held here; held: v2, v1"
    assert error.metadata == {"domain": "default", "version": "v3", "held": "v2,v1"}
    assert "held: none" in str(ModelNotHeld("default", "v3", []))


def test_errors_travel_between_processes_whole() -> None:
    for error in (InvalidInput.of("a", "must be 1", 2), TooLarge.of("b", "must be 3", 4)):
        arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert (type(arrived), str(arrived), arrived.violations) == (
            type(error),
            str(error),
            error.violations,
        )
    arrived = pickle.loads(pickle.dumps(ModelNotHeld("shop", "v3", ["v2"])))  # noqa: S301
    assert (str(arrived), arrived.held) == (str(ModelNotHeld("shop", "v3", ["v2"])), ("v2",))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_each_class_has_a_grpc_status_a_reason_of_its_own_and_a_place_in_the_drawing(
    cls: type[errors.WarmstartError],
) -> None:
    assert cls.code in grpc.StatusCode.__members__
    assert [c for c in CLASSES if c.reason == cls.reason] == [cls]
    assert cls.__name__ in (errors.__doc__ or "")


def test_whoever_meets_a_full_queue_is_told_when_to_come_again() -> None:
    assert errors.Overloaded("full").metadata == {errors.RETRY_KEY: "1000"}
    assert errors.Overloaded("full", metadata={errors.RETRY_KEY: "50"}).metadata == {errors.RETRY_KEY: "50"}
