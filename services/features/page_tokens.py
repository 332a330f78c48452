"""Page tokens of item lists: the last item given, bound to its domain.

Not signed: a place in the order of ids gives nobody anything. The check catches tokens of other domains and
other lists, which would else silently skip items.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b

from shared.errors import InvalidInput
from shared.limits import id_rule

_CHECK_BYTES = 6


def issue_page_token(domain: str, after: str) -> str:
    """The token of the page that begins after an item; "" after "", which is the end."""
    if not after:
        return ""
    return base64.urlsafe_b64encode(_check(domain, after.encode()) + after.encode()).rstrip(b"=").decode()


def open_page_token(domain: str, token: str) -> str:
    """The item that the page begins after; "" without a token. InvalidInput names `page_token`."""
    if not token:
        return ""
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        after = data[_CHECK_BYTES:].decode()
    except (binascii.Error, ValueError):
        data, after = b"", ""
    if id_rule(after) or data[:_CHECK_BYTES] != _check(domain, after.encode()):
        rule = f"must be the next_page_token of a list of items of domain {domain!r}, unchanged"
        raise InvalidInput.of("page_token", rule, token)
    return after


def _check(domain: str, after: bytes) -> bytes:
    return blake2b(after, digest_size=_CHECK_BYTES, key=blake2b(domain.encode()).digest()).digest()
