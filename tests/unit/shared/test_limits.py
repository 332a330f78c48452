"""Text rules at their edges."""

from __future__ import annotations

import pytest

from shared.limits import domain_rule, id_rule, text_rule


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        ("", "must be 1..256 bytes"),
        ("a", ""),
        ("x" * 256, ""),
        ("x" * 257, "must be 1..256 bytes"),
        ("é" * 128, ""),  # two bytes each
        ("é" * 129, "must be 1..256 bytes"),
        ("a b", ""),
        ("a\nb", "must not hold control characters"),
        ("a\x7f", "must not hold control characters"),
        ("用户:1/β", ""),
    ],
)
def test_ids(value: str, rule: str) -> None:
    assert id_rule(value) == rule


def test_a_text_without_a_least_length_may_be_empty() -> None:
    assert text_rule("", 3) == ""
    assert text_rule("abcd", 3) == "must be at most 3 bytes"


def test_a_lone_surrogate_is_measured_not_raised() -> None:
    assert text_rule("\ud800", 3) == ""


@pytest.mark.parametrize("good", ["default", "a", "9", "shop-1", "shop_2", "a" * 64])
def test_good_domains(good: str) -> None:
    assert domain_rule(good) == ""


@pytest.mark.parametrize("bad", ["", "Shop", "-a", "_a", "a b", "a/b", "a:b", "a" * 65, "shop\n", "é"])
def test_bad_domains(bad: str) -> None:
    assert domain_rule(bad).startswith("must be 1..64 of a-z 0-9 _ -")
