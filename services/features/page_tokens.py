"""Page tokens: the last row given, bound to its list.

Not signed: a place in an order gives nobody anything. The check catches tokens of other domains, people and
lists, which would else silently skip rows; who makes one up is refused where it is no place.
"""

from __future__ import annotations

import base64
import binascii
import json
from hashlib import blake2b

from services.features.store.person_export import START, Place
from shared.errors import InvalidInput
from shared.limits import id_rule

_CHECK_BYTES = 6


def issue_page_token(domain: str, after: str) -> str:
    """The token of the page that begins after an item; "" after "", which is the end."""
    return _issue(domain, after) if after else ""


def open_page_token(domain: str, token: str) -> str:
    """The item that the page begins after; "" without a token. InvalidInput names `page_token`."""
    if not token:
        return ""
    after = _open(domain, token)
    if id_rule(after):
        rule = f"must be the next_page_token of a list of items of domain {domain!r}, unchanged"
        raise InvalidInput.of("page_token", rule, token)
    return after


def issue_export_token(domain: str, user_id: str, after: Place | None) -> str:
    """The token of the page of a person's export that begins after a row; "" at the end."""
    return "" if after is None else _issue(_export(domain, user_id), json.dumps(after))


def open_export_token(domain: str, user_id: str, token: str) -> Place:
    """The row that the page begins after; START without a token. InvalidInput names `page_token`."""
    if not token:
        return START
    after = _place(_open(_export(domain, user_id), token))
    if after is None:
        raise InvalidInput.of("page_token", "must be the next_page_token of this person's export", token)
    return after


def _place(text: str) -> Place | None:
    try:
        place = json.loads(text)
    except (ValueError, RecursionError):
        return None
    match place:
        case [0 | 1 as number, str(order), str(tie)]:
            return number, order, tie
        case [2 | 3 as number, int(order), str(tie)]:
            return number, order, tie
    return None


def _export(domain: str, user_id: str) -> str:
    return f"{domain} export {user_id}"


def _issue(of: str, after: str) -> str:
    return base64.urlsafe_b64encode(_check(of, after.encode()) + after.encode()).rstrip(b"=").decode()


def _open(of: str, token: str) -> str:
    """ "" where the token is not one of `of`."""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        after = data[_CHECK_BYTES:].decode()
    except (binascii.Error, ValueError):
        return ""
    return after if data[:_CHECK_BYTES] == _check(of, after.encode()) else ""


def _check(of: str, after: bytes) -> bytes:
    return blake2b(after, digest_size=_CHECK_BYTES, key=blake2b(of.encode()).digest()).digest()
