"""Diversity, quotas, exploration: the arithmetic, by hand, against plain twins and by simulation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from services.gateway.selectors.diversity import mmr, relevance
from services.gateway.selectors.exploration import draw_places
from services.gateway.selectors.quotas import with_quotas
from shared.domain import FloatArray


def plain_mmr(scores: FloatArray, sketches: FloatArray, count: int, strength: float) -> list[int]:
    """As the paper says it."""
    picked: list[int] = []
    left = list(range(len(scores)))
    while left and len(picked) < count:

        def value(i: int) -> float:
            if not picked:
                return float(scores[i])
            closest = max(float(sketches[i] @ sketches[j]) for j in picked)
            return (1 - strength) * float(scores[i]) - strength * closest

        best = max(left, key=lambda i: (value(i), -i))
        picked.append(best)
        left.remove(best)
    return picked


def test_a_near_copy_gives_way_to_something_else() -> None:
    scores = np.array([1.0, 0.9, 0.5], np.float32)
    sketches = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    # After item 0: item 1 is worth .5·.9 − .5·1 = −.05, item 2 is worth .5·.5 − .5·0 = .25.
    assert mmr(scores, sketches, 3, 0.5).tolist() == [0, 2, 1]
    # With strength .1: item 1 .9·.9 − .1·1 = .71, item 2 .9·.5 = .45.
    assert mmr(scores, sketches, 3, 0.1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("strength", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_mmr_is_what_the_paper_says(strength: float) -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 17):
        scores = rng.random(n).astype(np.float32)
        sketches = rng.normal(size=(n, 4)).astype(np.float32)
        sketches /= np.linalg.norm(sketches, axis=1, keepdims=True)
        for count in (1, 5, 30):
            assert mmr(scores, sketches, count, strength).tolist() == plain_mmr(
                scores, sketches, count, strength
            )


def test_relevance_is_scaled_to_one() -> None:
    assert relevance(np.array([3.0, 1.0, 2.0], np.float32)).tolist() == [1.0, 0.0, 0.5]
    assert relevance(np.array([2.0, 2.0], np.float32)).tolist() == [1.0, 1.0]
    assert relevance(np.zeros(0, np.float32)).tolist() == []


def test_a_source_that_is_short_gets_its_best_into_the_last_places() -> None:
    # Six candidates; 4 and 5 are fresh; the page has three places, one of them for fresh.
    assert with_quotas([0, 1, 2, 3, 4, 5], 3, {"fresh": 1}, {"fresh": {4, 5}}) == [0, 1, 4, 2, 3, 5]


def test_what_stands_there_by_itself_counts() -> None:
    assert with_quotas([0, 4, 2, 3, 5], 3, {"fresh": 1}, {"fresh": {4, 5}}) == [0, 4, 2, 3, 5]


def test_one_quota_does_not_take_from_another() -> None:
    wanted = {"friends": 1, "fresh": 1}
    # 2 is a friend's: it stays, 1 goes.
    assert with_quotas([0, 1, 2, 3], 3, wanted, {"friends": {2}, "fresh": {3}}) == [0, 2, 3, 1]


def test_a_source_without_candidates_gets_nothing() -> None:
    assert with_quotas([0, 1, 2], 2, {"fresh": 2}, {}) == [0, 1, 2]
    assert with_quotas([], 2, {"fresh": 2}, {"fresh": set()}) == []


SOURCES = {"a": "model", "b": "model", "c": "model"}


def test_propensities_by_hand() -> None:
    # One place, best item a, pool of b and x: a with .8, b and x with .1 each.
    seen: Counter[str] = Counter()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        (place,) = draw_places(["a", "b", "c"], ["b", "x"], SOURCES, 1, 0.2, rng)
        expected = {"a": 0.8, "b": 0.1, "x": 0.1}
        assert place.propensity == pytest.approx(expected[place.item_id])
        assert place.source == ("model" if place.item_id == "a" else "exploration")
        seen[place.item_id] += 1
    assert set(seen) == {"a", "b", "x"}


def test_without_a_pool_or_rate_nothing_is_left_to_chance() -> None:
    for pool, rate in (((), 0.5), (("x", "y"), 0.0), (("a",), 0.5)):
        places = draw_places(["a", "b"], pool, SOURCES, 1, rate, np.random.default_rng(1))
        assert [(p.item_id, p.propensity) for p in places] == [("a", 1.0)]


def test_when_the_best_run_out_the_pool_fills_the_page() -> None:
    places = draw_places(["a"], ["x", "y"], SOURCES, 5, 0.1, np.random.default_rng(0))
    assert sorted(p.item_id for p in places) == ["a", "x", "y"]
    after_a = places[[p.item_id for p in places].index("a") + 1 :]
    assert [p.propensity for p in after_a] == [1 / len(after_a[n:]) for n in range(len(after_a))]


def test_no_item_comes_twice() -> None:
    for seed in range(50):
        places = draw_places(
            list("abcdef"),
            list("defxyz"),
            dict.fromkeys("abcdef", "model"),
            8,
            0.5,
            np.random.default_rng(seed),
        )
        ids = [p.item_id for p in places]
        assert len(ids) == len(set(ids)) == 8


def test_lists_come_as_often_as_their_propensities_say() -> None:
    """Chi-square over whole lists of three places, each with the product of its propensities."""
    exploit, pool, rate, draws = ["a", "b", "c"], ["b", "x", "y"], 0.4, 10_000
    rng = np.random.default_rng(11)
    counts: Counter[tuple[str, ...]] = Counter()
    probability: dict[tuple[str, ...], float] = {}
    for _ in range(draws):
        places = draw_places(exploit, pool, SOURCES, 3, rate, rng)
        ids = tuple(p.item_id for p in places)
        counts[ids] += 1
        product = float(np.prod([p.propensity for p in places]))
        assert probability.setdefault(ids, product) == pytest.approx(product)  # the same list, the same odds
    assert sum(probability.values()) == pytest.approx(1.0)  # every possible list came up
    chi_square = sum((counts[ids] - draws * p) ** 2 / (draws * p) for ids, p in probability.items())
    degrees = len(probability) - 1
    # Mean `degrees`, variance 2 · `degrees`: four standard deviations above it is far out.
    assert chi_square < degrees + 4 * np.sqrt(2 * degrees)
