"""All chapters, in order. What the story adds, it removes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.clients import GatewayClient
from services.cli.failures import CommandError
from services.cli.story import printing
from services.cli.story.claims import Claim
from services.cli.story.newcomers import NEW_ITEMS, NewcomerCheck, check_newcomers
from services.cli.story.people import HeldOutPerson, held_out_people
from services.cli.story.stranger import LIST_SIZE, StrangerStory, meet_a_stranger
from services.cli.story.tastes import TasteCheck, check_taste
from shared.datasets import Dataset

_LONG_LIST = 3 * LIST_SIZE


@dataclass(frozen=True, slots=True)
class StoryOptions:
    """new_items are added by text alone and ranked by `people` held-out people (0 = all)."""

    new_items: int = NEW_ITEMS
    people: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Story:
    stranger: StrangerStory
    taste: TasteCheck
    newcomers: NewcomerCheck

    def claims(self) -> list[Claim]:
        return [*self.stranger.claims(), *self.taste.claims(), *self.newcomers.claims()]


async def tell(client: GatewayClient, dataset: Dataset, console: Console, how: StoryOptions) -> Story:
    """Runs and prints every chapter. Raises CommandError where the cluster has no catalogue or no model."""
    run = f"story-{uuid.uuid4().hex[:8]}"
    catalogue = {item.item_id: item for item in await client.all_items()}
    if not catalogue:
        raise CommandError(
            "the catalogue is empty: import one first, for example `warmstart import --dataset …`"
        )
    people = _some(await asyncio.to_thread(held_out_people, dataset), how)
    stranger = f"{run}-stranger"
    try:
        lists = await meet_a_stranger(client, stranger, list(catalogue))
        printing.print_stranger(lists, console)
        request = pb.RecommendRequest(user_id=stranger, page_size=_LONG_LIST, include_items=True)
        printing.print_sources(await client.recommend(request), console)
    finally:
        await client.delete_user(stranger)
    taste = await check_taste(client, people, catalogue, run)
    printing.print_taste(taste, console)
    newcomers = await check_newcomers(client, people, catalogue, run, count=how.new_items, seed=how.seed)
    printing.print_newcomers(newcomers, console)
    story = Story(lists, taste, newcomers)
    printing.print_claims(story.claims(), console)
    return story


def _some(people: Sequence[HeldOutPerson], how: StoryOptions) -> Sequence[HeldOutPerson]:
    """As many as asked for, drawn by the seed."""
    if not how.people or how.people >= len(people):
        return people
    chosen = np.random.default_rng(how.seed).choice(len(people), size=how.people, replace=False)
    return [people[n] for n in sorted(chosen)]
