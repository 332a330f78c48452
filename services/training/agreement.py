"""What is on disk, for all workers alike.

Workers decide by files of the run's directory what is done already and where to go on. They must decide
alike, or some would wait for ever in an all-reduce that the others do not take part in; and a network file
system may show another machine an older state for up to a minute. So the first worker's view counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# Longer than NFS keeps attributes (acdirmax, a minute).
_PATIENCE_S = 120.0
_LOOK_EVERY_S = 0.5

# A word of the first worker, told to all: each calls it with its own, and all of them in the same order.
FirstSays = Callable[[str], str]


class Unshared(Exception):
    """A worker does not find what the first one has found."""


def alone(word: str) -> str:
    """Of a single worker."""
    return word


def agreed(read: Callable[[], T], name: Callable[[T], str], first_says: FirstSays) -> T:
    """What `read` gives, once it is what it gave to the first worker.

    name: a word that differs where what was read does. Raises Unshared where it never comes to that.
    """
    found = read()
    expected = first_says(name(found))
    deadline_s = time.monotonic() + _PATIENCE_S
    while name(found) != expected:
        if time.monotonic() > deadline_s:
            raise Unshared(
                "the run's directory must be on a file system that all workers share: the first one finds "
                f"{expected!r} there, another one {name(found)!r} for {_PATIENCE_S:g} s"
            )
        time.sleep(_LOOK_EVERY_S)
        found = read()
    return found
