"""Page tokens: all that the next page needs, signed, so that the gateway keeps nothing.

A token holds domain, a keyed hash of the person, list id, the digest of the request's other fields, the
next position, and six bytes for each item shown so far. Two items sharing their six bytes would hide one
of them: with 4,000 shown and a million items that is one chance in 70,000 for a whole list.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
import zlib
from collections.abc import Iterable
from hashlib import blake2b

from itsdangerous import BadSignature, SignatureExpired, TimestampSigner

from services.gateway.draft import Page
from services.gateway.query import ListQuery
from shared.errors import InvalidInput
from shared.telemetry.logs import logger

MARK_BYTES = 6
MAX_TOKEN_BYTES = 64 * 1024
_LOG = logger("gateway.tokens")
_SALT = "warmstart.page-token.v1"


def item_mark(item_id: str) -> int:
    """An item as six bytes of its hash."""
    return int.from_bytes(blake2b(item_id.encode(), digest_size=MARK_BYTES).digest(), "little")


class PageTokens:
    """Signs and checks page tokens. An empty secret means a random one."""

    def __init__(self, secret: str, *, age_s: int) -> None:
        if not secret:
            _LOG.warning(
                "page tokens are signed with a random secret: they do not survive a restart and are not"
                " understood by other replicas; set WARMSTART_GATEWAY_TOKEN_SECRET"
            )
            secret = secrets.token_urlsafe(32)
        self._key = blake2b(secret.encode(), digest_size=32).digest()
        self._signer = TimestampSigner(self._key, salt=_SALT)
        self._age_s = age_s

    def issue(self, query: ListQuery, page: Page, placed: Iterable[str]) -> str:
        """The token of the page after this one; `placed`: the items on this one, in order."""
        placed = tuple(placed)
        header = {
            "d": query.domain,
            "u": self._person(query.user_id),
            "l": page.list_id,
            "q": query.digest,
            "n": page.start + len(placed),
        }
        shown = sorted(page.shown | {item_mark(item_id) for item_id in placed})
        marks = b"".join(mark.to_bytes(MARK_BYTES, "little") for mark in shown)
        body = zlib.compress(json.dumps(header, separators=(",", ":")).encode() + b"\0" + marks)
        return self._signer.sign(base64.urlsafe_b64encode(body).rstrip(b"=")).decode()

    def open(self, query: ListQuery) -> Page:
        """The page that `query.page_token` asks for. InvalidInput names `page_token` and the reason."""
        token = query.page_token
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidInput.of("page_token", f"must be at most {MAX_TOKEN_BYTES} bytes", token)
        try:
            signed = self._signer.unsign(token, max_age=self._age_s)
            body = zlib.decompress(base64.urlsafe_b64decode(signed + b"=" * (-len(signed) % 4)))
        except SignatureExpired:
            raise InvalidInput.of(
                "page_token", f"must be at most {self._age_s} s old; ask for the first page again", token
            ) from None
        except (BadSignature, binascii.Error, zlib.error, UnicodeError):
            raise InvalidInput.of(
                "page_token", "must be the next_page_token of a list of this gateway, unchanged", token
            ) from None
        text, _, marks = body.partition(b"\0")
        header = json.loads(text)
        self._check(query, header)
        shown = frozenset(
            int.from_bytes(marks[i : i + MARK_BYTES], "little") for i in range(0, len(marks), MARK_BYTES)
        )
        return Page(header["l"], header["n"], shown)

    def _check(self, query: ListQuery, header: dict[str, object]) -> None:
        token = query.page_token
        if header["d"] != query.domain:
            raise InvalidInput.of("page_token", f"must be of domain {query.domain!r}, not another's", token)
        if header["u"] != self._person(query.user_id):
            raise InvalidInput.of("page_token", "must be of a list of this user_id, not another's", token)
        if header["q"] != query.digest:
            raise InvalidInput.of(
                "page_token", "must come with the other fields as they were for the page before", token
            )

    def _person(self, user_id: str) -> str:
        return blake2b(user_id.encode(), digest_size=12, key=self._key).hexdigest()
