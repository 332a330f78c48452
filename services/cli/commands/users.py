"""`warmstart users export|pseudonym|delete|merge|relate`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from warmstart.common.v1 import event_pb2
from warmstart.gateway.v1 import user_service_pb2 as pb

from services.cli import options, output
from services.cli.clients import open_gateway
from services.cli.cluster.log_secret import log_secret
from services.cli.failures import CommandError
from services.cli.importing.rejects import naming
from services.cli.target import gateway_target
from shared.domain import Relation
from shared.telemetry.hiding import Hiding

EXPORT_EXAMPLES = options.examples(
    "warmstart users export 42",
    "warmstart users export 42 --output 42.json",
    "warmstart users export 42 --json > 42.json",
)
PSEUDONYM_EXAMPLES = options.examples("warmstart users pseudonym 42")
DELETE_EXAMPLES = options.examples("warmstart users delete 42 --yes")
MERGE_EXAMPLES = options.examples(
    "warmstart users merge visitor-7 42", "warmstart users merge visitor-7 42 --yes"
)
RELATE_EXAMPLES = options.examples(
    "warmstart users relate 42 43 --kind friend", "warmstart users relate 42 43 --remove"
)
_SHOWN_EVENTS = 20


def export(
    user_id: Annotated[str, typer.Argument(help="Whose data.")],
    file: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write all of it as JSON to this file.", dir_okay=False),
    ] = None,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """All that is held of one person, which is all that `users delete` erases. Fails where that is nothing.

    Profile, events and impressions, seen items, relations of both sides, counts: as JSON in the fields of
    ExportUserResponse. The relations of others to this person name those others.
    """

    async def run() -> pb.ExportUserResponse:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            return await client.export_user(user_id)

    response = asyncio.run(run())
    if file is not None:
        write_private(file, output.json_text(response))
        output.stderr().print(output.escaped(f"written: {file} ({len(response.events):,} events)"))
    if as_json:
        output.print_json(response)
    if file is not None or as_json:
        return
    console = output.stdout()
    attributes = ", ".join(f"{k}={v}" for k, v in sorted(response.user.attributes.items())) or "none"
    console.print(output.escaped(f"attributes: {attributes}"))
    kept = sum(not relation.removed for relation in response.relations)
    console.print(
        f"relations: {kept} (and {len(response.relations) - kept} removed), of others to them: "
        f"{len(response.relations_from_others)}, seen items: {len(response.seen_item_ids)}"
    )
    latest = response.events[-_SHOWN_EVENTS:]
    rows = [(_when(e.time_ms), _action(e), e.item_id, f"{e.value:g}") for e in reversed(latest)]
    title = f"The latest {len(latest)} of {len(response.events):,} events (all of them: --json)"
    columns = ("time (UTC)", "action", "item", output.Column("value", numeric=True))
    console.print(output.table(title, columns, rows))


def pseudonym(
    user_id: Annotated[str, typer.Argument(help="Whose.")],
    secret: Annotated[
        str,
        typer.Option(
            "--log-secret",
            envvar="WARMSTART_LOG_SECRET",
            help="The servers' WARMSTART_<SERVICE>_LOG_SECRET; by default that of the local cluster on this "
            "data directory.",
            show_default=False,
        ),
    ] = "",
    as_json: options.Json = False,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """The name under which logs speak of a person, to follow them there."""
    known = secret or log_secret(data_dir)
    if not known:
        raise CommandError(
            f"no cluster ran on {data_dir} yet: say --log-secret, or where one did with --data-dir"
        )
    name = Hiding.by(known).pseudonym(user_id)
    if as_json:
        output.print_json({"user_id": user_id, "pseudonym": name})
    else:
        output.stdout().print(name)


def delete(
    user_id: Annotated[str, typer.Argument(help="Whose data.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Erase everything of one person, for good; a keyed hash remains, by which their past is refused.

    Copies that earlier trainings took (`runs` in the data directory) leave them out before they are used
    again, and go after WARMSTART_TRAINING_SNAPSHOT_DAYS. Your own files and the rejects of imports are yours
    to change: rejects files that name them are listed.
    """
    target = gateway_target(gateway, data_dir)
    if not yes:
        output.confirm(f"Erase everything of {user_id!r} for good?")

    async def run() -> bool:
        async with open_gateway(target, domain) as client:
            return await client.delete_user(user_id)

    existed = asyncio.run(run())
    if as_json:
        output.print_json({"existed": existed})
    else:
        output.stdout().print("erased" if existed else "nothing was held of them")
    for rejects in naming(data_dir / "rejects", user_id):
        output.stderr().print(output.escaped(f"note: {rejects} holds rows that name them: delete it"))


def merge(
    from_user_id: Annotated[str, typer.Argument(help="The anonymous person; gone afterwards.")],
    into_user_id: Annotated[str, typer.Argument(help="The signed-in person.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Fold an anonymous person into a signed-in one, for good."""
    target = gateway_target(gateway, data_dir)
    if not yes:
        question = f"Make {from_user_id!r} a part of {into_user_id!r} for good? They cannot be parted again."
        output.confirm(question)

    async def run() -> int:
        async with open_gateway(target, domain) as client:
            return await client.merge_users(from_user_id, into_user_id)

    moved = asyncio.run(run())
    if as_json:
        output.print_json({"moved_events": moved})
        return
    output.stdout().print(f"{moved:,} events moved")
    if not moved:
        warning = f"no events are known of {from_user_id!r}: was it mistyped?"
        output.stderr().print(output.escaped(warning), soft_wrap=True)


def relate(
    user_id: Annotated[str, typer.Argument(help="Whose relation it is.")],
    other_user_id: Annotated[str, typer.Argument(help="To whom.")],
    kind: Annotated[str, typer.Option(help="Name of the kind.")] = "follows",
    weight: Annotated[float, typer.Option(help="Strength in (0, 1].")] = 1.0,
    remove: Annotated[bool, typer.Option("--remove", help="Take the relation away.")] = False,
    as_json: options.Json = False,
    gateway: options.Gateway = "",
    domain: options.Domain = options.DOMAIN,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Store or remove a tie between two people."""
    relation = Relation(user_id, other_user_id, kind, weight, removed=remove)

    async def run() -> Sequence[pb.RecordResult]:
        async with open_gateway(gateway_target(gateway, data_dir), domain) as client:
            return await client.upsert_relations([relation])

    result = asyncio.run(run())[0]
    if as_json:
        output.print_json(result)
    if not result.stored:
        raise CommandError(f"not stored: {result.reason}")
    if not as_json:
        output.stdout().print("removed" if remove else "stored")


def _when(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _action(event: event_pb2.Event) -> str:
    return event_pb2.Action.Name(event.action).removeprefix("ACTION_").lower()


def write_private(file: Path, text: str) -> None:
    """Whole or not at all, for the caller's eyes only. Raises OSError of this file."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            out.write(text + "\n")
        fresh.replace(file)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink()
        raise OSError(error.errno, error.strerror, str(file)) from error
