"""`warmstart recommend`, `similar` and `feedback`."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from warmstart.common.v1 import event_pb2, item_pb2, user_pb2
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli import options, output
from services.cli.brought import read_brought
from services.cli.categories import why_no_item
from services.cli.clients import GatewayClient, open_gateway
from services.cli.failures import CommandError
from services.cli.target import gateway_target
from shared.domain import Action, Event, Exposure
from shared.errors import DeadlinePassed, Unavailable, WarmstartError
from shared.limits import DEFAULT_PAGE_SIZE, MAX_CARRIED_EVENTS

RECOMMEND_EXAMPLES = options.examples(
    "warmstart recommend 42",
    "warmstart recommend 42 -n 20 --category Comedy --like 50 --dislike 294",
    "warmstart recommend somebody --no-adaptation --json",
    "warmstart recommend --events 42.json",
)
SIMILAR_EXAMPLES = options.examples("warmstart similar 50", "warmstart similar 50 181 -n 5 --json")
FEEDBACK_EXAMPLES = options.examples(
    "warmstart feedback 42 50 like", "warmstart feedback 42 294 rating --value 2"
)

PageSize = Annotated[int, typer.Option("-n", "--page-size", help="How many.")]
ActionName = Annotated[str, typer.Argument(help=f"One of {', '.join(a.name.lower() for a in Action)}.")]


def recommend(
    user_id: Annotated[
        str | None,
        typer.Argument(
            help="For whom; need not be known. Left out, the list goes by --events, --like and --dislike "
            "alone, and nothing of the person is read or kept.",
            show_default=False,
        ),
    ] = None,
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    events: Annotated[
        Path | None,
        typer.Option(
            help="A history kept elsewhere, which counts for this list and is not stored: what `users export "
            "-o` wrote, or JSON Lines of item_id, action, value, time_ms.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    page_token: Annotated[str, typer.Option(help="The next page of an earlier list.")] = "",
    candidates: Annotated[
        list[str] | None,
        typer.Option("--candidate", help="Rank these items alone (repeat); seen and unknown ones drop out."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Never this item (repeat).")] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Items of one of these categories (repeat).")
    ] = None,
    like: Annotated[
        list[str] | None, typer.Option(help="As if the person liked this item; not stored (repeat).")
    ] = None,
    dislike: Annotated[
        list[str] | None, typer.Option(help="As if the person disliked this item; not stored (repeat).")
    ] = None,
    device: Annotated[str, typer.Option(help="Device class, for example phone.")] = "",
    surface: Annotated[str, typer.Option(help="Place in the product, for example home.")] = "",
    diversity: Annotated[float | None, typer.Option(help="0 (none) to 1.")] = None,
    exploration: Annotated[
        float | None, typer.Option(help="Share of places for exploration, 0 to 0.5.")
    ] = None,
    no_adaptation: Annotated[bool, typer.Option("--no-adaptation", help="Without fast weights.")] = False,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also items the person has acted on.")
    ] = False,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """The best list for a person, now."""
    brought = read_brought(events) if events is not None else []
    brought += [
        event_pb2.Event(item_id=item_id, action=action)
        for ids, action in ((like, event_pb2.ACTION_LIKE), (dislike, event_pb2.ACTION_DISLIKE))
        for item_id in ids or ()
    ]
    if user_id is None and not brought:
        raise typer.BadParameter("say for whom, or what they did: USER_ID, --events, --like or --dislike")
    request = pb.RecommendRequest(
        user_id=user_id or "",
        ephemeral=user_id is None,  # an empty one is a mistake, which the gateway names
        page_size=page_size,
        page_token=page_token,
        candidate_item_ids=candidates or [],
        exclude_item_ids=exclude or [],
        filter=item_pb2.ItemFilter(any_categories=category or []),
        context=user_pb2.RequestContext(device=device, surface=surface),
        events=brought[-MAX_CARRIED_EVENTS:],
        disable_adaptation=no_adaptation,
        include_seen=include_seen,
        include_items=True,
    )
    if diversity is not None:
        request.diversity = diversity
    if exploration is not None:
        request.exploration_rate = exploration

    async def run() -> tuple[pb.RecommendResponse, str]:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            response = await client.recommend(request)
            unexplained = category and not response.items and not as_json
            return response, await why_no_item(client, category) if category and unexplained else ""

    response, why = asyncio.run(run())
    if as_json:
        output.print_json(response)
    else:
        whose = f"For {user_id}" if user_id is not None else "For somebody of whom nothing is kept"
        print_list(response, whose, output.stdout(), why)


def similar(
    item_ids: Annotated[list[str], typer.Argument(help="Alike to these.")],
    page_size: PageSize = DEFAULT_PAGE_SIZE,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """The items most alike to given ones."""
    request = pb.ListSimilarItemsRequest(item_ids=item_ids, page_size=page_size, include_items=True)

    async def run() -> pb.ListSimilarItemsResponse:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            return await client.similar(request)

    response = asyncio.run(run())
    if as_json:
        output.print_json(response)
        return
    rows = [(s.item_id, title_of(s.item), f"{s.score:.3f}") for s in response.items]
    columns = ("item", "title", output.Column("likeness", numeric=True))
    output.stdout().print(output.table(f"Alike to {', '.join(item_ids)}", columns, rows))


def feedback(
    user_id: Annotated[str, typer.Argument(help="Who.")],
    item_id: Annotated[str, typer.Argument(help="What.")],
    action: ActionName,
    value: Annotated[float, typer.Option(help="Rating (1 to 5) or seconds of dwell.")] = 0.0,
    event_id: Annotated[
        str, typer.Option(help="Makes the call idempotent; by default a new one.", show_default=False)
    ] = "",
    list_id: Annotated[str, typer.Option(help="The list that showed the item.")] = "",
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Store what a person did; the very next list reflects it."""
    exposure = Exposure(list_id=list_id) if list_id else None
    event_id = event_id or uuid.uuid4().hex
    event = Event(user_id, item_id, parse_action(action), value, 0, event_id, exposure)

    async def run() -> tuple[pb.FeedbackResult, bool]:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            (result,) = await client.record([event])
            stored = result.status != pb.FEEDBACK_STATUS_REJECTED
            return result, stored and await _is_missing(client, item_id)

    try:
        result, missing = asyncio.run(run())
    except (DeadlinePassed, Unavailable):
        output.stderr().print(
            f"whether it was stored is not known: to try again, add --event-id {output.escaped(event_id)}",
            soft_wrap=True,
        )
        raise
    if missing:
        output.stderr().print(
            f"note: item {output.escaped(repr(item_id))} is not in the catalogue: lists never show it; was "
            "it mistyped? Add it with `warmstart items add` or `warmstart import --items FILE`",
            soft_wrap=True,
        )
    if as_json:
        output.print_json(result)
    if result.status == pb.FEEDBACK_STATUS_REJECTED:
        raise CommandError(f"not stored: {result.reason}")
    if not as_json:
        word = "stored before" if result.status == pb.FEEDBACK_STATUS_DUPLICATE else "stored"
        output.stdout().print(f"{word}: {output.escaped(result.event_id)}")


async def _is_missing(client: GatewayClient, item_id: str) -> bool:
    """Whether the catalogue lacks the item; False where it does not answer: what was stored is stored."""
    try:
        return bool((await client.get_items([item_id])).missing_item_ids)
    except WarmstartError:
        return False


def parse_action(name: str) -> Action:
    try:
        return Action[name.upper()]
    except KeyError:
        known = ", ".join(a.name.lower() for a in Action)
        raise typer.BadParameter(f"action must be one of {known}, got {name!r}") from None


def print_list(response: pb.RecommendResponse, title: str, console: Console, why_empty: str = "") -> None:
    """The list, then how it came about. why_empty: what is known of it, if it is."""
    rows = [
        (
            i.position + 1,
            i.item_id,
            title_of(i.item),
            f"{i.score:.3f}",
            i.source,
            f"{i.propensity:.3f}",
            i.reason,
        )
        for i in response.items
    ]
    columns = (
        output.Column("#", numeric=True),
        "item",
        "title",
        output.Column("score", numeric=True),
        "source",
        output.Column("propensity", numeric=True),
        "why",
    )
    console.print(output.table(title, columns, rows))
    if not rows:
        why = why_empty or "every item is seen, excluded, filtered out or not known (yet)"
        console.print(f"nothing to show: {output.escaped(why)}", soft_wrap=True)
    rung = pb.Rung.Name(response.rung).removeprefix("RUNG_").lower()
    model = response.model.version or "none"
    console.print(
        f"model {model}, adapted on {response.shots_used} events, rung {rung}, list {response.list_id}"
    )
    for degradation in response.degradations:
        console.print(output.escaped(f"degraded: {degradation.stage}: {degradation.reason}"))
    if response.next_page_token:
        console.print(f"next page: --page-token {response.next_page_token}", soft_wrap=True)


def title_of(item: item_pb2.Item) -> str:
    """The title, or what else tells people what it is."""
    return item.title or ", ".join(item.categories) or item.item_id
