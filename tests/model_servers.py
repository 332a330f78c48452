"""What the tests of servers that hold models share: published models, contexts, waiting."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np

from shared.artifacts import Registry
from shared.domain import Action, History, ModelRef, RequestContext, UserContext
from tests.artifacts import content_of, publish_model

NOW_MS = 1_700_000_000_000


class Models:
    """Models published once; each test gets a registry of its own with copies of those it wants."""

    def __init__(self, root: Path) -> None:
        self._registry = Registry(root)
        self._refs: dict[str, ModelRef] = {}

    def ref(self, name: str, **settings: Any) -> ModelRef:
        """The model of this name, published the first time it is asked for; see `publish_model`."""
        if name not in self._refs:
            self._refs[name] = publish_model(self._registry, **settings)
        return self._refs[name]

    def copy_to(self, registry: Registry, *refs: ModelRef) -> None:
        for ref in refs:
            version = Path(ref.domain) / ref.version
            shutil.copytree(self._registry.root / version, registry.root / version)


def context_of(user_id: str, *liked: str, **changes: Any) -> UserContext:
    """A person who liked these items, one a minute, the last one a minute ago."""
    n = len(liked)
    history = History(
        liked,
        np.full(n, int(Action.LIKE), np.int32),
        np.zeros(n, np.float32),
        NOW_MS - 60_000 * np.arange(n, 0, -1, dtype=np.int64),
    )
    fields: dict[str, Any] = {
        "content_profile": content_of(f"profile of {user_id}"),
        "social_profile": np.zeros(512, np.float32),
        "attributes": {"country": "NL"},
        "total_events": n,
        "request": RequestContext("phone", "home", NOW_MS),
    }
    return UserContext(user_id, history, **(fields | changes))


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> float:
    """Waits until the condition holds; the seconds it took. AssertionError where it does not in time."""
    started = time.monotonic()
    while not await holds():
        assert time.monotonic() - started < within_s, f"did not come true within {within_s:g} s"
        await asyncio.sleep(0.01)
    return time.monotonic() - started
