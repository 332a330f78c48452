"""The story on a real cluster with a tiny model: every chapter is told, and what it added is gone."""

from __future__ import annotations

import pytest

from tests.cluster import UpProcess

pytestmark = pytest.mark.timeout(600)
# A model of 20 steps knows little of text and taste; these claims hold for any that adapts.
_OF_ANY_MODEL = {
    "the list changes with three likes",
    "the list changes with a dislike",
    "each list counts the feedback before it",
}


def test_the_story_is_told_and_leaves_nothing_behind(trained: UpProcess):
    before = trained.run("items", "list", "-n", "1", "--json").json()["total_items"]
    told = trained.run("story", "--new-items", "5", "--people", "12", "--json")
    claims = {claim["text"]: claim for claim in told.json()["claims"]}
    assert len(claims) == 7
    assert all(claims[text]["holds"] for text in _OF_ANY_MODEL)
    # The exit code is that of the claims, each broken one named.
    broken = [text for text, claim in claims.items() if not claim["holds"]]
    assert told.code == (1 if broken else 0)
    assert all(text in told.err for text in broken)
    for title in ("A stranger", "Who fed the list", "A new item, from its text alone", "5 new items"):
        assert title in told.err
    assert trained.run("items", "list", "-n", "1", "--json").json()["total_items"] == before
