"""Items added by text alone, and who ranks them high.

The check: 100 new items, each with the text of an item that held-out people came to like after their first
20 events (its genres and year, an invented title). Their ids are new, so that only their text speaks. Each
held-out person, known by their first 20 events alone, ranks the whole catalogue; the new item should
rank high for the people who came to like the item it resembles, and not for others.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from warmstart.common.v1 import item_pb2

from services.cli.clients import GatewayClient
from services.cli.concurrency import all_or_none
from services.cli.failures import CommandError
from services.cli.story.claims import Claim
from services.cli.story.people import HeldOutPerson
from services.cli.story.ranking import Asker, Ranking, rank_catalogue
from shared.domain import Item, User

NEW_ITEMS = 100
_TOP_SHARE = 0.2
_END_OF_TITLE = re.compile(r"((?: \(\d{4}\))?)$")
_TAKEN_UP_S = 15.0
_POLL_S = 0.05
# People whose rankings are asked for at once.
_RANKERS = 2


@dataclass(frozen=True, slots=True)
class NewcomerCheck:
    """Rank percentiles (0 = first) of the new items, over pairs of new item and person."""

    items: int
    people: int
    fitting_pairs: int
    fitting_median: float
    other_pairs: int
    other_median: float
    taken_up_ms: float

    def claims(self) -> list[Claim]:
        return [
            Claim(
                f"{self.items} items added by text alone rank in the top 20% for people who like their kind",
                self.fitting_median <= _TOP_SHARE,
                f"median rank percentile {self.fitting_median:.1%} over {self.fitting_pairs} pairs",
            ),
            Claim(
                "and not for other people",
                self.other_median > _TOP_SHARE,
                f"median rank percentile {self.other_median:.1%} over {self.other_pairs} pairs",
            ),
        ]


def choose_models(
    people: Sequence[HeldOutPerson], catalogue: Mapping[str, item_pb2.Item], count: int, seed: int
) -> list[item_pb2.Item]:
    """Items that somebody came to like, drawn evenly (not by how many people like them)."""
    liked = sorted({item_id for person in people for item_id in person.likes} & catalogue.keys())
    if len(liked) < count:
        raise CommandError(f"the story needs {count} items that held-out people like, found {len(liked)}")
    chosen = np.random.default_rng(seed).choice(len(liked), size=count, replace=False)
    return [catalogue[liked[i]] for i in sorted(chosen)]


def sequel_of(item: item_pb2.Item, new_id: str) -> Item:
    """A new item of the same kind under an invented title."""
    return Item(
        new_id,
        # "Alien (1979)" → "Alien II (1979)"
        title=_END_OF_TITLE.sub(r" II\1", item.title, count=1) if item.title else "",
        description=item.description,
        categories=tuple(item.categories),
        attributes=dict(item.attributes),
        created_ms=item.created_ms,
    )


async def check_newcomers(
    client: GatewayClient,
    people: Sequence[HeldOutPerson],
    catalogue: Mapping[str, item_pb2.Item],
    run: str,
    *,
    count: int = NEW_ITEMS,
    seed: int = 0,
) -> NewcomerCheck:
    """Adds the items, asks, and deletes them again, whatever happens."""
    models = choose_models(people, catalogue, count, seed)
    by_new_id = {f"{run}-sequel-{n}": model.item_id for n, model in enumerate(models)}
    sequels = [sequel_of(m, new_id) for m, new_id in zip(models, by_new_id, strict=True)]
    try:
        taken_up_ms = await add_items(client, sequels, f"{run}-prober")
        everything = [*catalogue, *by_new_id]
        rankings = await _rankings(client, people, everything, run)
    finally:
        await client.delete_items(list(by_new_id))
    fitting, others = _percentiles(people, rankings, by_new_id)
    return NewcomerCheck(
        items=count,
        people=len(people),
        fitting_pairs=len(fitting),
        fitting_median=float(np.median(fitting)),
        other_pairs=len(others),
        other_median=float(np.median(others)),
        taken_up_ms=taken_up_ms,
    )


async def add_items(client: GatewayClient, items: Sequence[Item], prober: str) -> float:
    """Stores items and waits until all of them can be ranked; milliseconds from sending to that.

    prober: a throw-away person who asks; erased at the end.
    """
    wanted = {item.item_id for item in items}
    sent = time.perf_counter()
    refused = [r for r in await client.upsert_items(items) if r.status == item_pb2.ITEM_STATUS_REJECTED]
    if refused:
        raise CommandError(f"a new item was not stored: {refused[0].reason}")
    deadline = time.monotonic() + _TAKEN_UP_S
    try:
        while True:
            ranking = await rank_catalogue(client, Asker(prober), sorted(wanted))
            if wanted <= ranking.ranks.keys():
                return (time.perf_counter() - sent) * 1000.0
            if time.monotonic() > deadline:
                missing = len(wanted - ranking.ranks.keys())
                raise CommandError(
                    f"{missing} new items cannot be ranked {_TAKEN_UP_S:g} s after being stored"
                )
            await asyncio.sleep(_POLL_S)
    finally:
        await client.delete_user(prober)


async def _rankings(
    client: GatewayClient, people: Sequence[HeldOutPerson], item_ids: Sequence[str], run: str
) -> list[Ranking]:
    """Each person's ranking, asked for under a throw-away id with the same attributes: the real one's later
    events are in the store, and must not speak here."""
    rankings: list[Ranking] = [Ranking({})] * len(people)
    waiting = list(enumerate(people))

    async def rank() -> None:
        while waiting:
            number, person = waiting.pop()
            stand_in = f"{run}-stand-in-{number}"
            try:
                await client.upsert_users([User(stand_in, person.user.attributes)])
                asker = Asker(stand_in, person.carried(), person.asked_ms)
                rankings[number] = await rank_catalogue(client, asker, item_ids)
            finally:
                await client.delete_user(stand_in)

    await all_or_none(rank() for _ in range(_RANKERS))
    return rankings


def _percentiles(
    people: Sequence[HeldOutPerson], rankings: Sequence[Ranking], by_new_id: Mapping[str, str]
) -> tuple[list[float], list[float]]:
    """For the people who came to like the model of a new item, and for those who never touched it or did
    not like it. People who knew the model by their first events count as neither."""
    fitting: list[float] = []
    others: list[float] = []
    for person, ranking in zip(people, rankings, strict=True):
        early = {event.item_id for event in person.support}
        for new_id, model_id in by_new_id.items():
            if model_id in person.likes:
                fitting.append(ranking.percentile(new_id))
            elif model_id not in early:
                others.append(ranking.percentile(new_id))
    return fitting, others
