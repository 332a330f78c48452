"""Page tokens, cut and spliced, of other lists, other people and other servers."""

from __future__ import annotations

import base64
from functools import cache

from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.features.page_tokens import issue_page_token, open_page_token
from services.gateway.codec import decode_list_query
from services.gateway.draft import Page
from services.gateway.query import ListQuery
from services.gateway.tokens import PageTokens, item_mark
from services.training.service.codec import decode_page_token
from tests.fuzz.targets.base import NOW_MS, Target, Wrong, chosen

_PLACED = tuple(f"item-{n}" for n in range(5))


@cache
def _tokens(secret: str = "fuzzing") -> PageTokens:  # noqa: S107
    return PageTokens(secret, age_s=10**9)


def _query(token: str) -> ListQuery:
    return decode_list_query(pb.RecommendRequest(user_id="ann", page_token=token), ("default",), NOW_MS)


def _issued(secret: str = "fuzzing", start: int = 0) -> bytes:  # noqa: S107
    page = Page("list", start, frozenset(item_mark(f"shown-{n}") for n in range(start)))
    return _tokens(secret).issue(_query(""), page, _PLACED).encode()


def _read(case: bytes) -> object:
    number, data = chosen(case, 3)
    token = data.decode("utf-8", "replace")  # a request's text is valid UTF-8
    if number == 0:
        page = _tokens().open(_query(token))
        if page.list_id != "list":
            raise Wrong(f"a token that nobody issued was taken: {token!r}")
        return page
    if number == 1:
        after = open_page_token("default", token)
        # Unused bits of the last letter of base64 may differ; what it says may not.
        if after and _plain(issue_page_token("default", after)) != _plain(token):
            raise Wrong(f"{token!r} means {after!r}, whose token is another")
        return after
    return decode_page_token(token)


def _plain(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def _seeds() -> list[bytes]:
    lists = [b"\0" + _issued(start=n) for n in (0, 3)] + [b"\0" + _issued("another")]
    items = [b"\1" + issue_page_token(domain, "item-1").encode() for domain in ("default", "other")]
    return [*lists, *items, b"\x0220260101T000000.000Z"]


TARGETS = (Target("page-tokens", _read, _seeds),)
