"""A stranger's lists: before anything is known, after three likes, after a dislike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.clients import GatewayClient
from services.cli.failures import CommandError
from services.cli.story.claims import Claim
from services.cli.story.ranking import Asker, adapted_list, rank_catalogue
from shared.domain import Action, Event

LIST_SIZE = 10
_LIKES = 3
_NEIGHBOURS = 20


@dataclass(frozen=True, slots=True)
class Step:
    """What the person did, and the list right after it.

    changed_ms: milliseconds from sending the feedback to holding the next list.
    """

    did: tuple[pb.RecommendedItem, ...]
    shown: pb.RecommendResponse
    changed_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class StrangerStory:
    first: Step
    liked: Step
    disliked: Step
    neighbours: tuple[pb.SimilarItem, ...]
    neighbours_before: float
    neighbours_after: float

    def claims(self) -> list[Claim]:
        first, second, third = (_ids(step.shown) for step in (self.first, self.liked, self.disliked))
        return [
            Claim(
                "the list changes with three likes",
                first != second,
                f"{len(set(second) - set(first))} of {len(second)} items are new",
            ),
            Claim(
                "the list changes with a dislike",
                second != third,
                f"{len(set(third) - set(second))} of {len(third)} items are new",
            ),
            Claim(
                f"the disliked item's {_NEIGHBOURS} nearest items fall",
                self.neighbours_after > self.neighbours_before,
                f"mean rank {self.neighbours_before:.0f} → {self.neighbours_after:.0f}",
            ),
            Claim(
                "each list counts the feedback before it",
                (self.liked.shown.shots_used, self.disliked.shown.shots_used) == (_LIKES, _LIKES + 1),
                f"adapted on {self.liked.shown.shots_used}, then {self.disliked.shown.shots_used} events",
            ),
        ]


async def meet_a_stranger(client: GatewayClient, user_id: str, item_ids: Sequence[str]) -> StrangerStory:
    """The first chapter. The person is to be erased by the caller."""
    first = Step((), await _ask(client, user_id))
    liked = _alike(first.shown.items, _LIKES)
    second = await _act(client, user_id, liked, Action.LIKE)
    disliked = second.shown.items[0]
    neighbours = (
        await client.similar(
            pb.ListSimilarItemsRequest(item_ids=[disliked.item_id], page_size=_NEIGHBOURS, include_items=True)
        )
    ).items
    near = [n.item_id for n in neighbours]
    asker = Asker(user_id)
    before = (await rank_catalogue(client, asker, item_ids)).mean_rank(near)
    # As it happens: one has a look, and then says no.
    third = await _act(client, user_id, [disliked], Action.CLICK, Action.DISLIKE)
    after = (await rank_catalogue(client, asker, item_ids)).mean_rank(near)
    return StrangerStory(first, second, third, tuple(neighbours), before, after)


async def _act(
    client: GatewayClient, user_id: str, items: Sequence[pb.RecommendedItem], *actions: Action
) -> Step:
    """Sends the feedback, the actions on each item in order, then asks for the next list, on the clock."""
    sent = time.perf_counter()
    events = [
        Event(user_id, item.item_id, action, 0.0, 0, f"{action.name}-{item.item_id}")
        for item in items
        for action in actions
    ]
    for result in await client.record(events):
        if result.status != pb.FEEDBACK_STATUS_RECORDED:
            raise CommandError(f"feedback was not stored: {result.reason or result}")
    shown = await _ask(client, user_id)
    return Step(tuple(items), shown, (time.perf_counter() - sent) * 1000.0)


async def _ask(client: GatewayClient, user_id: str) -> pb.RecommendResponse:
    # Without exploration: what changes, changes because of what the person did.
    request = pb.RecommendRequest(
        user_id=user_id, page_size=LIST_SIZE, include_items=True, exploration_rate=0.0
    )
    response = await adapted_list(client, request)
    if len(response.items) < LIST_SIZE:
        raise CommandError(f"the catalogue is too small for a story: {len(response.items)} items in the list")
    return response


def _alike(items: Sequence[pb.RecommendedItem], count: int) -> list[pb.RecommendedItem]:
    """The first item and those that share most categories with it: a taste, not three accidents."""
    first, *others = items
    wanted = set(first.item.categories)
    by_likeness = sorted(others, key=lambda item: -len(wanted & set(item.item.categories)))
    return [first, *by_likeness[: count - 1]]


def _ids(response: pb.RecommendResponse) -> list[str]:
    return [item.item_id for item in response.items]
