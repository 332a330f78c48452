"""Amazon Video Games 2018, 5-core: interactions.parquet (user_id, item_id, timestamp) and items.parquet
(item_id, title, HTML-escaped). The data hold who reviewed what and when but no ratings: a review of a
product is taken as a `purchase`.

J. Ni, J. Li, J. McAuley, "Justifying recommendations using distantly-labeled reviews", EMNLP 2019.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path

from shared.datasets import fields, records
from shared.datasets.records import EventRules
from shared.datasets.rows import Dataset, Reject, Row, parse
from shared.datasets.sources import Parquet
from shared.domain import Action, Event, Item

_NOTE = "the data hold no ratings: each review is taken as a purchase"


def amazon_games(now_ms: int, folder: Path) -> Dataset:
    """50,597 people, 16,874 items, 453,637 events."""

    reviews, products = Parquet(folder / "interactions.parquet"), Parquet(folder / "items.parquet")

    def events() -> Iterator[Row[Event] | Reject]:
        build = records.event_builder(EventRules(now_ms))
        raw = reviews.read(("user_id", "item_id", "timestamp"))
        return parse(raw, lambda c: build(c[0], c[1], Action.PURCHASE, None, c[2]))

    def items() -> Iterator[Row[Item] | Reject]:
        raw = products.read(("item_id", "title"))
        # created_ms 1: of an unknown time; 0 would make the whole catalogue fresh.
        return parse(
            raw,
            lambda c: records.item(c[0], title=html.unescape(fields.text("title", c[1])), created_ms=1),
        )

    sizes = {"events": reviews.count, "items": products.count}
    return Dataset("amazon-games", events=events, items=items, notes=(_NOTE,), sizes=sizes)
