"""Hashed attributes and request context."""

from __future__ import annotations

import numpy as np
import pytest

from shared.context.vectors import PROFILE_DIM, REQUEST_DIM, attribute_vector, request_vector
from shared.domain import RequestContext

HOUR_MS = 3600 * 1000


def test_an_attribute_has_one_place_of_size_one() -> None:
    got = attribute_vector({"age": "25-34"})
    assert (got.shape, got.dtype) == ((PROFILE_DIM,), np.float32)
    assert np.count_nonzero(got) == 1
    assert abs(got).max() == 1.0


def test_the_places_never_change() -> None:
    """Artifacts depend on them: a change of the hash would silently scramble every trained model."""
    got = attribute_vector({"age": "25", "occupation": "nurse", "country": "NO"})
    places = {int(i): round(float(got[i]), 4) for i in np.flatnonzero(got)}
    assert places == {5: 0.5774, 45: -0.5774, 54: 0.5774}


def test_attributes_add_up_to_unit_length_in_any_order() -> None:
    one = attribute_vector({"age": "25", "gender": "F", "job": "nurse"})
    other = attribute_vector({"job": "nurse", "gender": "F", "age": "25"})
    np.testing.assert_array_equal(one, other)
    assert np.linalg.norm(one) == pytest.approx(1.0)


def test_no_attributes_or_empty_ones_are_zeros() -> None:
    np.testing.assert_array_equal(attribute_vector({}), np.zeros(PROFILE_DIM))
    np.testing.assert_array_equal(attribute_vector({"age": ""}), np.zeros(PROFILE_DIM))


def test_the_time_of_day_and_week_stand_on_circles() -> None:
    """1970-01-01 06:00 UTC: a quarter of the day (sin 1, cos 0), 6/168 of the week (from Thursday)."""
    got = request_vector(RequestContext(time_ms=6 * HOUR_MS))
    angle = 2 * np.pi * 6 / 168
    np.testing.assert_allclose(got[-4:], [1.0, 0.0, np.sin(angle), np.cos(angle)], atol=1e-6)
    np.testing.assert_array_equal(got[:-4], np.zeros(REQUEST_DIM - 4))


def test_a_week_later_is_the_same_time() -> None:
    first = request_vector(RequestContext("phone", "home", 5 * HOUR_MS))
    later = request_vector(RequestContext("phone", "home", (5 + 168) * HOUR_MS))
    np.testing.assert_allclose(first, later, atol=1e-5)


def test_a_request_without_a_time_has_none() -> None:
    got = request_vector(RequestContext("phone", "home"))
    np.testing.assert_array_equal(got[-4:], np.zeros(4))
    assert np.linalg.norm(got) == pytest.approx(1.0)


def test_device_and_surface_of_one_name_are_told_apart() -> None:
    device, surface = request_vector(RequestContext("tv", "")), request_vector(RequestContext("", "tv"))
    assert not np.array_equal(device, surface)
