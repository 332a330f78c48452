from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from itsdangerous import timed

from services.gateway.draft import Page
from services.gateway.query import ListQuery
from services.gateway.tokens import MAX_TOKEN_BYTES, PageTokens, item_mark
from shared.errors import InvalidInput

QUERY = ListQuery("default", "ann", digest="d1")


def opened(tokens: PageTokens, token: str, query: ListQuery = QUERY) -> Page:
    return tokens.open(replace(query, page_token=token))


@pytest.fixture
def tokens() -> PageTokens:
    return PageTokens("secret", age_s=60)


def test_a_token_brings_back_list_position_and_what_was_shown(tokens: PageTokens) -> None:
    first = tokens.issue(QUERY, Page("list-1"), ["a", "b"])
    page = opened(tokens, first)
    assert page == Page("list-1", 2, frozenset({item_mark("a"), item_mark("b")}))
    third = opened(tokens, tokens.issue(QUERY, page, ["c"]))
    assert third == Page("list-1", 3, frozenset(map(item_mark, "abc")))


def test_another_replica_with_the_same_secret_understands_it(tokens: PageTokens) -> None:
    assert opened(PageTokens("secret", age_s=60), tokens.issue(QUERY, Page("list-1"), ["a"])).start == 1


def test_without_a_secret_each_start_has_its_own() -> None:
    token = PageTokens("", age_s=60).issue(QUERY, Page("list-1"), ["a"])
    with pytest.raises(
        InvalidInput, match="page_token must be the next_page_token of a list of this gateway"
    ):
        opened(PageTokens("", age_s=60), token)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"domain": "news"}, "must be of domain 'news', not another's"),
        ({"user_id": "bob"}, "must be of a list of this user_id, not another's"),
        ({"digest": "d2"}, "must come with the other fields as they were"),
    ],
)
def test_a_token_is_good_for_its_own_list_only(
    tokens: PageTokens, changed: dict[str, str], reason: str
) -> None:
    token = tokens.issue(QUERY, Page("list-1"), ["a"])
    with pytest.raises(InvalidInput, match=reason) as raised:
        opened(tokens, token, replace(QUERY, **changed))  # type: ignore[arg-type]
    assert raised.value.violations[0].field == "page_token"


def tampered(token: str) -> Iterator[str]:
    yield ("x" if token[0] != "x" else "y") + token[1:]
    # Not the last character, some of whose bits base64 leaves unused.
    yield token[:-5] + ("A" if token[-5] != "A" else "B") + token[-4:]
    yield token[: len(token) // 2]
    yield token + "x"
    yield "nonsense"
    yield "…"
    yield "."
    yield "x" * (MAX_TOKEN_BYTES + 1)


def test_a_changed_token_is_refused(tokens: PageTokens) -> None:
    for token in tampered(tokens.issue(QUERY, Page("list-1"), ["a"])):
        with pytest.raises(InvalidInput) as raised:
            opened(tokens, token)
        assert raised.value.violations[0].field == "page_token"


def test_an_old_token_is_refused(tokens: PageTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    token = tokens.issue(QUERY, Page("list-1"), ["a"])
    now = timed.time.time()
    monkeypatch.setattr(timed.time, "time", lambda: now + 61)
    with pytest.raises(InvalidInput, match="must be at most 60 s old"):
        opened(tokens, token)


def test_a_token_says_nothing_of_the_person(tokens: PageTokens) -> None:
    import base64
    import zlib

    query = replace(QUERY, user_id="ann@example.org")
    body = tokens.issue(query, Page("list-1"), ["a"]).split(".")[0]
    assert b"ann" not in zlib.decompress(base64.urlsafe_b64decode(body + "==="))


def test_the_token_of_the_longest_list_is_within_bounds(tokens: PageTokens) -> None:
    items = [f"item-{n}" for n in range(4500)]
    token = tokens.issue(QUERY, Page("list-1"), items)
    assert len(token) <= MAX_TOKEN_BYTES
    assert len(opened(tokens, token).shown) == 4500
