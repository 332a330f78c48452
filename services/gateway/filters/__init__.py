"""Which candidates may appear? Filters run in order; each says which items it keeps, or is skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from services.gateway.draft import Draft


class Filter(Protocol):
    @property
    def name(self) -> str: ...

    def keep(self, draft: Draft, item_ids: Sequence[str]) -> tuple[str, ...]:
        """The items that may stay, in the same order."""
        ...


def without(item_ids: Sequence[str], barred: frozenset[str]) -> tuple[str, ...]:
    """The items that are not barred. Mostly none is, and telling so is one pass in C."""
    if barred.isdisjoint(item_ids):
        return tuple(item_ids)
    return tuple(i for i in item_ids if i not in barred)


def keep_all(
    filters: Sequence[Filter],
    draft: Draft,
    item_ids: Sequence[str],
    failed: Callable[[str, Exception], None],
) -> tuple[str, ...]:
    """What all filters keep. One that fails is skipped, and `failed` told its name and error."""
    kept = tuple(item_ids)
    for each in filters:
        try:
            kept = each.keep(draft, kept)
        except Exception as error:
            failed(each.name, error)
    return kept
