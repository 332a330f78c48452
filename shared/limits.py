"""The limits and text rules of the contract (see the comments in protos/), in one place.

Rules return the broken rule as words ("must be …"), or "" where the value is good.
"""

from __future__ import annotations

import re

MAX_ID_BYTES = 256
MAX_EVENT_ID_BYTES = 128
MAX_DOMAIN_BYTES = 64
MAX_TITLE_BYTES = 1024
MAX_DESCRIPTION_BYTES = 32 * 1024
MAX_CATEGORIES = 64
MAX_CATEGORY_SHARES = 32
MAX_CATEGORY_BYTES = 128
MAX_ATTRIBUTES = 64
MAX_ATTRIBUTE_NAME_BYTES = 128
MAX_ATTRIBUTE_VALUE_BYTES = 1024
MAX_KIND_BYTES = 64
MAX_CONTEXT_BYTES = 64
MAX_EVENTS_A_CALL = 5000
MAX_FEEDBACK_EVENTS = 1000
MAX_CARRIED_EVENTS = 500
MAX_ITEMS_A_CALL = 1000
MAX_USERS_A_CALL = 1000
MAX_RELATIONS_A_CALL = 5000
MAX_ERASURES_A_CALL = 10_000
# Of a person's export; so many of the longest ids are below the 4 MiB of a message.
MAX_EXPORT_ROWS = 2000
MAX_PAGE_SIZE = 500
DEFAULT_PAGE_SIZE = 10
MAX_CANDIDATES = 1000
MAX_EXCLUDED = 5000
MAX_BOOSTS = 100
MAX_PINS = 50
MAX_BOOST_FACTOR = 1000.0
MAX_PIN_POSITION = 9_999
MAX_EXPLORATION_RATE = 0.5
MAX_TASK_WEIGHTS = 64
MAX_TASK_WEIGHT = 1e6
MAX_EXPERIMENT_KEY_BYTES = 128
MAX_SIMILAR_TO = 100
MAX_FUTURE_MS = 5 * 60 * 1000
MAX_TIME_MS = 253402300799999  # the year 9999
MIN_RATING, MAX_RATING = 1.0, 5.0
MAX_DWELL_S = 7 * 24 * 3600.0

_DOMAIN = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def text_rule(value: str, max_bytes: int, *, min_bytes: int = 0) -> str:
    """UTF-8 length and no control characters."""
    size = len(value.encode("utf-8", "surrogatepass"))
    if not min_bytes <= size <= max_bytes:
        return (
            f"must be {min_bytes}..{max_bytes} bytes" if min_bytes else f"must be at most {max_bytes} bytes"
        )
    if _CONTROL.search(value):
        return "must not hold control characters"
    return ""


def id_rule(value: str) -> str:
    """Ids of people and items."""
    return text_rule(value, MAX_ID_BYTES, min_bytes=1)


def domain_rule(value: str) -> str:
    """Domains become part of keys and paths, so they are plain."""
    return "" if _DOMAIN.fullmatch(value) else "must be 1..64 of a-z 0-9 _ -, starting with a letter or digit"
