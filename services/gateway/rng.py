"""Chance, fixed by the list: asking for a page again draws the same."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b

import numpy as np

from services.gateway.draft import Draft

# A stream of chance for a draft and a purpose.
Rng = Callable[[Draft, str], np.random.Generator]


def list_rng(draft: Draft, purpose: str) -> np.random.Generator:
    """Seeded by list, page and purpose. List ids are random, so lists are independent of one another."""
    seed = blake2b(f"{draft.page.list_id}:{draft.page.start}:{purpose}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(seed, "little"))
