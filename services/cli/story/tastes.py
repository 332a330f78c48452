"""One new item, added by text alone, ranked by a person whose taste it fits and by one whose it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from warmstart.common.v1 import item_pb2

from services.cli.clients import GatewayClient
from services.cli.failures import CommandError
from services.cli.story.claims import Claim
from services.cli.story.newcomers import add_items
from services.cli.story.people import HeldOutPerson, positive_items
from services.cli.story.ranking import Asker, rank_catalogue
from shared.domain import Item, User

# Likes among the first events from which a person's taste can be read.
_LEAST_LIKES = 8


@dataclass(frozen=True, slots=True)
class PersonRank:
    """share: of the person's early likes that are of the item's kind, in [0, 1]."""

    user_id: str
    share: float
    rank: int
    ranked: int
    percentile: float


@dataclass(frozen=True, slots=True)
class TasteCheck:
    item: Item
    category: str
    fitting: PersonRank
    other: PersonRank
    taken_up_ms: float

    def claims(self) -> list[Claim]:
        return [
            Claim(
                "a new item ranks higher for someone whose taste it fits",
                self.fitting.percentile < self.other.percentile,
                f"{self.fitting.percentile:.1%} from the top against {self.other.percentile:.1%}",
            )
        ]


async def check_taste(
    client: GatewayClient,
    people: Sequence[HeldOutPerson],
    catalogue: Mapping[str, item_pb2.Item],
    run: str,
) -> TasteCheck:
    """The item's kind is the one over which the people differ most; it is deleted again."""
    category, fitting, other = _opposites(people, catalogue)
    item = _invent(category, catalogue, f"{run}-new")
    try:
        taken_up_ms = await add_items(client, [item], f"{run}-prober")
        everything = [*catalogue, item.item_id]
        ranks = [
            await _rank(client, person, share, item.item_id, everything, f"{run}-taste-{n}")
            for n, (person, share) in enumerate((fitting, other))
        ]
    finally:
        await client.delete_items([item.item_id])
    return TasteCheck(item, category, ranks[0], ranks[1], taken_up_ms)


def _opposites(
    people: Sequence[HeldOutPerson], catalogue: Mapping[str, item_pb2.Item]
) -> tuple[str, tuple[HeldOutPerson, float], tuple[HeldOutPerson, float]]:
    """The category over which two people's early likes differ most, the one who likes it, the one who does
    not. Ties by name, so that the story is the same each time."""
    shares = {person.user.user_id: _shares(person, catalogue) for person in people}
    by_id = {person.user.user_id: person for person in people if shares[person.user.user_id]}
    if len(by_id) < 2:
        raise CommandError(f"the story needs two held-out people with {_LEAST_LIKES} early likes")
    names = sorted({name for share in shares.values() for name in share})

    def spread(name: str) -> float:
        values = [shares[user_id].get(name, 0.0) for user_id in by_id]
        return max(values) - min(values)

    category = max(names, key=spread)
    ordered = sorted(by_id, key=lambda user_id: (shares[user_id].get(category, 0.0), user_id))
    high, low = by_id[ordered[-1]], by_id[ordered[0]]
    return (
        category,
        (high, shares[ordered[-1]].get(category, 0.0)),
        (low, shares[ordered[0]].get(category, 0.0)),
    )


def _shares(person: HeldOutPerson, catalogue: Mapping[str, item_pb2.Item]) -> dict[str, float]:
    """Share of the person's early likes that are of each category; {} where they liked too little."""
    liked = positive_items(person.support) & catalogue.keys()
    if len(liked) < _LEAST_LIKES:
        return {}
    counts = Counter(name for item_id in liked for name in catalogue[item_id].categories)
    return {name: count / len(liked) for name, count in counts.items()}


def _invent(category: str, catalogue: Mapping[str, item_pb2.Item], item_id: str) -> Item:
    """A title that no item has, of the category and the one it most often comes with."""
    company = Counter(
        other for item in catalogue.values() if category in item.categories for other in item.categories
    )
    company.pop(category, None)
    beside = [name for name, _ in company.most_common(1)]
    return Item(
        item_id,
        title=f"An Untold {category} Tale",
        categories=(category, *beside),
    )


async def _rank(
    client: GatewayClient,
    person: HeldOutPerson,
    share: float,
    item_id: str,
    item_ids: Sequence[str],
    stand_in: str,
) -> PersonRank:
    try:
        await client.upsert_users([User(stand_in, person.user.attributes)])
        ranking = await rank_catalogue(client, Asker(stand_in, person.carried(), person.asked_ms), item_ids)
    finally:
        await client.delete_user(stand_in)
    return PersonRank(
        person.user.user_id,
        share,
        ranking.ranks[item_id],
        len(ranking.ranks),
        ranking.percentile(item_id),
    )
