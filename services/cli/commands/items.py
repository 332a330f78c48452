"""`warmstart items list|get|add|delete`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from warmstart.common.v1 import item_pb2
from warmstart.gateway.v1 import catalog_service_pb2 as pb

from services.cli import options, output
from services.cli.clients import open_gateway
from services.cli.failures import CommandError
from services.cli.target import gateway_target
from shared.domain import Item

LIST_EXAMPLES = options.examples("warmstart items list", "warmstart items list -n 1000 --json")
GET_EXAMPLES = options.examples("warmstart items get 50 181")
ADD_EXAMPLES = options.examples(
    "warmstart items add film-1 'The Lighthouse Keeper' --category Drama --description 'A man alone at sea'"
)
DELETE_EXAMPLES = options.examples("warmstart items delete film-1")
_DEFAULT_PAGE = 50

ItemIds = Annotated[list[str], typer.Argument(help="Item ids.")]


def list_(
    page_size: Annotated[int, typer.Option("-n", "--page-size", help="How many.", min=1)] = _DEFAULT_PAGE,
    page_token: Annotated[str, typer.Option(help="The next page of an earlier answer.")] = "",
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """The catalogue by item id, page by page."""

    async def run() -> pb.ListItemsResponse:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            return await client.list_items(page_size, page_token)

    response = asyncio.run(run())
    if as_json:
        output.print_json(response)
        return
    console = output.stdout()
    console.print(_table(f"{len(response.items)} of {response.total_items:,} items", response.items))
    if response.next_page_token:
        console.print(f"next page: --page-token {response.next_page_token}", soft_wrap=True)


def get(
    item_ids: ItemIds,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Items by id. Fails where one is unknown."""

    async def run() -> pb.GetItemsResponse:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            return await client.get_items(item_ids)

    response = asyncio.run(run())
    if as_json:
        output.print_json(response)
    else:
        output.stdout().print(_table("", response.items))
    if response.missing_item_ids:
        raise CommandError(f"unknown items: {', '.join(response.missing_item_ids)}")


def add(
    item_id: Annotated[str, typer.Argument(help="Its id; a known one is replaced.")],
    title: Annotated[str, typer.Argument(help="Shown to people, and embedded.")],
    description: Annotated[str, typer.Option(help="Further text that says what it is.")] = "",
    category: Annotated[list[str] | None, typer.Option(help="A category (repeat).")] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An attribute (repeat).")
    ] = None,
    unavailable: Annotated[bool, typer.Option("--unavailable", help="Keep it out of every list.")] = False,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Store an item. Within a second it can be recommended, from its text alone."""
    if not title.strip():
        raise typer.BadParameter("must not be empty: it is what people see", param_hint="TITLE")
    item = Item(
        item_id,
        title=title,
        description=description,
        categories=tuple(category or ()),
        attributes=_attributes(attribute or []),
        available=not unavailable,
    )

    async def run() -> Sequence[item_pb2.ItemResult]:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            return await client.upsert_items([item])

    _report(asyncio.run(run()), as_json)


def delete(
    item_ids: ItemIds,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Delete items. Fails where one is unknown (the others are deleted)."""

    async def run() -> Sequence[item_pb2.ItemResult]:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            return await client.delete_items(item_ids)

    _report(asyncio.run(run()), as_json)


def _attributes(pairs: Sequence[str]) -> dict[str, str]:
    attributes = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"--attribute must be NAME=VALUE, got {pair!r}")
        attributes[name] = value
    return attributes


def _report(results: Sequence[item_pb2.ItemResult], as_json: bool) -> None:
    """What became of each; raises CommandError where one was refused or unknown."""
    words = [item_pb2.ItemStatus.Name(r.status).removeprefix("ITEM_STATUS_").lower() for r in results]
    if as_json:
        output.print_json(list(results))
    else:
        rows = [(r.item_id, word, r.reason) for r, word in zip(results, words, strict=True)]
        output.stdout().print(output.table("", ("item", "result", "reason"), rows))
    failed = [f"{r.item_id}: {r.reason or w}" for r, w in zip(results, words, strict=True) if w in _FAILED]
    if failed:
        raise CommandError("; ".join(failed))


_FAILED = ("rejected", "not_found", "unspecified")


def _table(title: str, items: Iterable[Any]) -> Table:
    rows = [
        (
            i.item_id,
            i.title,
            ", ".join(i.categories),
            ", ".join(f"{k}={v}" for k, v in sorted(i.attributes.items())),
            "yes" if i.available or not i.HasField("available") else "no",
        )
        for i in items
    ]
    return output.table(title, ("item", "title", "categories", "attributes", "available"), rows)
