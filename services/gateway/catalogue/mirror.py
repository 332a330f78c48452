"""The catalogue in memory, with an inverted index, so that narrow filters find their items at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

from services.gateway.query import NO_FILTER
from shared.domain import Item, ItemFilter

_Term = tuple[str, str]  # ("", category) or (attribute name, value)


class Mirror:
    """One domain's items. Descriptions are not kept: nothing here needs them.

    `complete` once a whole snapshot has been seen: only then does an item's absence mean anything.
    """

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._available: set[str] = set()
        # Asked for every candidate of every list: the set's own method, without a call of ours around it.
        self.is_available: Callable[[str], bool] = self._available.__contains__
        self._postings: dict[_Term, set[str]] = {}
        # (−created_ms, id): newest first.
        self._by_age: list[tuple[int, str]] = []
        self.complete = False

    def __len__(self) -> int:
        return len(self._items)

    @classmethod
    def of(cls, items: Iterable[Item]) -> Mirror:
        """A complete mirror of these items."""
        mirror = cls()
        mirror.load(items)
        mirror.complete = True
        return mirror

    @property
    def num_available(self) -> int:
        return len(self._available)

    def get(self, item_id: str) -> Item | None:
        return self._items.get(item_id)

    def title(self, item_id: str) -> str:
        """For people to read: the title, or the id where there is none."""
        item = self._items.get(item_id)
        return item.title if item is not None and item.title else item_id

    def load(self, items: Iterable[Item]) -> None:
        """Adds many items at once: sorted once instead of inserted one by one."""
        for item in items:
            self._forget(item.item_id)
            self._store(item)
        self._by_age = sorted((-item.created_ms, item.item_id) for item in self._items.values())

    def upsert(self, item: Item) -> None:
        self.delete(item.item_id)
        self._store(item)
        insort(self._by_age, (-item.created_ms, item.item_id))

    def delete(self, item_id: str) -> None:
        item = self._forget(item_id)
        if item is not None:
            at = bisect_left(self._by_age, (-item.created_ms, item_id))
            del self._by_age[at]

    def newest(self, limit: int, since_ms: int = 0) -> tuple[str, ...]:
        """Ids of available items created at `since_ms` or later, newest first, ties by id."""
        found: list[str] = []
        for negative_ms, item_id in self._by_age:
            if len(found) == limit or -negative_ms < since_ms:
                break
            if self._items[item_id].available:
                found.append(item_id)
        return tuple(found)

    @property
    def median_created_ms(self) -> int:
        """When the item in the middle was created; 0 where there are none."""
        return -self._by_age[len(self._by_age) // 2][0] if self._by_age else 0

    def select(self, rules: ItemFilter, limit: int) -> tuple[str, ...] | None:
        """All available items that keep the rules, newest first where they are `limit` or fewer; else None.

        None also where finding out would mean looking at most of a large catalogue.
        """
        if rules == NO_FILTER:
            return None
        pool = self._narrowest(rules, 20 * limit)
        if pool is None:
            return None
        keeps = (
            (-item.created_ms, item_id)
            for item_id in pool
            if (item := self._items[item_id]).available and rules.admits(item)
        )
        found = list(islice(keeps, limit + 1))
        return tuple(i for _, i in sorted(found)) if len(found) <= limit else None

    def _narrowest(self, rules: ItemFilter, at_most: int) -> Iterable[str] | None:
        """The smallest set of ids that surely holds all matches, None where it has more than `at_most`."""
        pools: list[set[str]] = [self._posting("", c) for c in rules.all_categories]
        if rules.any_categories:
            pools.append(set().union(*(self._posting("", c) for c in rules.any_categories)))
        pools.extend(
            set().union(*(self._posting(condition.name, value) for value in condition.values))
            for condition in rules.attributes
            if not condition.negate
        )
        if pools:
            smallest = min(pools, key=len)
            return smallest if len(smallest) <= at_most else None
        if rules.created_from_ms:
            until = bisect_left(self._by_age, (-rules.created_from_ms + 1, ""))
            if until <= at_most:
                return [item_id for _, item_id in self._by_age[:until]]
        if len(self._items) <= at_most:
            return self._items
        barred = set().union(*(self._posting("", c) for c in rules.no_categories))
        return self._items.keys() - barred if len(self._items) - len(barred) <= at_most else None

    def _posting(self, name: str, value: str) -> set[str]:
        return self._postings.get((name, value), set())

    def _store(self, item: Item) -> None:
        kept = replace(item, description="")
        self._items[item.item_id] = kept
        if kept.available:
            self._available.add(item.item_id)
        for term in _terms(kept):
            self._postings.setdefault(term, set()).add(item.item_id)

    def _forget(self, item_id: str) -> Item | None:
        item = self._items.pop(item_id, None)
        if item is None:
            return None
        self._available.discard(item_id)
        for term in _terms(item):
            posting = self._postings[term]
            posting.discard(item_id)
            if not posting:
                del self._postings[term]
        return item


def _terms(item: Item) -> set[_Term]:
    return {("", c) for c in item.categories} | {(n, v) for n, v in item.attributes.items() if n}
