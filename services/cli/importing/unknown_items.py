"""Items that events name and the catalogue does not have: no list would ever show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb

from shared.datasets import Dataset, Reject, Row
from shared.domain import Event
from shared.errors import WarmstartError

# So many are asked for, some of them a call: answers hold whole items.
MOST_ASKED = 5000
_A_CALL = 250


class Catalogue(Protocol):
    """What is asked of a gateway."""

    async def get_items(self, item_ids: Sequence[str]) -> catalog_pb.GetItemsResponse: ...


@dataclass(slots=True)
class NamedItems:
    """The first distinct items of the events that pass by; `more`: whether there were others."""

    ids: dict[str, None] = field(default_factory=dict)
    more: bool = False

    def noting(self, dataset: Dataset) -> Dataset:
        """The same data, whose events are noted as they are read."""
        return replace(dataset, events=lambda: self._noted(dataset.events()))

    def _noted(self, rows: Iterator[Row[Event] | Reject]) -> Iterator[Row[Event] | Reject]:
        for row in rows:
            if isinstance(row, Row) and row.value.item_id not in self.ids:
                if len(self.ids) < MOST_ASKED:
                    self.ids[row.value.item_id] = None
                else:
                    self.more = True
            yield row


@dataclass(frozen=True, slots=True)
class UnknownItems:
    """missing: how many of those `asked` for the catalogue does not have; `all_asked`: whether these are all
    that the events name."""

    asked: int
    missing: int
    all_asked: bool

    def note(self) -> str:
        """ "" where nothing is missing."""
        if not self.missing:
            return ""
        looked = "the" if self.all_asked else "the first"
        items = "item" if self.asked == 1 else "items"
        part = "" if self.all_asked else " (others were not looked for)"
        verb = "is" if self.missing == 1 else "are"
        return (
            f"{self.missing:,} of {looked} {self.asked:,} {items} that the events name {verb} not in the "
            f"catalogue{part}: lists never show such items; import them with `warmstart import --items FILE`"
        )

    def as_dict(self) -> dict[str, int | bool]:
        return {"asked": self.asked, "missing": self.missing, "all_asked": self.all_asked}


async def ask_for(named: NamedItems, catalogue: Catalogue) -> UnknownItems | None:
    """None where events name no items, or the catalogue does not answer: the import is done all the same."""
    if not named.ids:
        return None
    ids, missing = list(named.ids), 0
    try:
        for start in range(0, len(ids), _A_CALL):
            answer = await catalogue.get_items(ids[start : start + _A_CALL])
            missing += len(answer.missing_item_ids)
    except WarmstartError:
        return None
    return UnknownItems(len(ids), missing, not named.more)
