"""All chapters, in order. What the story adds, it removes."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

from rich.console import Console
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.clients import GatewayClient
from services.cli.failures import CommandError
from services.cli.story import printing
from services.cli.story.claims import Claim
from services.cli.story.newcomers import NewcomerCheck, check_newcomers
from services.cli.story.people import held_out_people
from services.cli.story.stranger import LIST_SIZE, StrangerStory, meet_a_stranger
from services.cli.story.tastes import TasteCheck, check_taste
from shared.datasets import Dataset

_LONG_LIST = 3 * LIST_SIZE


@dataclass(frozen=True, slots=True)
class Story:
    stranger: StrangerStory
    taste: TasteCheck
    newcomers: NewcomerCheck

    def claims(self) -> list[Claim]:
        return [*self.stranger.claims(), *self.taste.claims(), *self.newcomers.claims()]


async def tell(
    client: GatewayClient, dataset: Dataset, console: Console, *, new_items: int, seed: int
) -> Story:
    """Runs and prints every chapter. Raises CommandError where the cluster has no catalogue or no model."""
    run = f"story-{uuid.uuid4().hex[:8]}"
    catalogue = {item.item_id: item for item in await client.all_items()}
    if not catalogue:
        raise CommandError(
            "the catalogue is empty: import one first, for example `warmstart import --dataset …`"
        )
    people = await asyncio.to_thread(held_out_people, dataset)
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
    newcomers = await check_newcomers(client, people, catalogue, run, count=new_items, seed=seed)
    printing.print_newcomers(newcomers, console)
    story = Story(lists, taste, newcomers)
    printing.print_claims(story.claims(), console)
    return story
