"""`warmstart store backup|restore|erasures|show`: the local cluster's store in a file and back.

The work is `deploy.local.backup`'s, in a process of its own: the command line holds no store's code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import typer

from services.cli import options, output
from services.cli.cluster.lock import data_dir_lock
from services.cli.cluster.ports import HOST
from services.cli.cluster.state import read_state
from services.cli.failures import CommandError
from services.cli.signals import interrupted_by
from shared.processes import leash

BACKUP_EXAMPLES = options.examples("warmstart store backup /backups/2026-01-31.tar")
RESTORE_EXAMPLES = options.examples(
    "warmstart store restore /backups/2026-01-31.tar --replace",
    "warmstart store restore /backups/2026-01-31.tar --data-dir shop --erasures /backups/erasures.json",
)
ERASURES_EXAMPLES = options.examples("warmstart store erasures /backups/erasures.json")
SHOW_EXAMPLES = options.examples("warmstart store show /backups/2026-01-31.tar")

_END_S = 20.0
Backup = Annotated[Path, typer.Argument(help="The backup's file.", dir_okay=False, metavar="FILE")]


def backup(
    file: Backup,
    as_json: options.Json = False,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Write all that the store holds into one file, while the cluster serves or while it is down.

    What was acknowledged before the command is in it. The file appears once it was loaded and counted by a
    store of its own, and is never overwritten. It holds people's data. Models are not in it: copy the
    registry's directory beside it.
    """
    _print_about(_on_store("save", file, data_dir), as_json)


def restore(
    file: Backup,
    replace: Annotated[
        bool, typer.Option("--replace", help="Where data are there: set them aside and take the backup.")
    ] = False,
    erasures: Annotated[
        Path | None,
        typer.Option(help="List of `warmstart store erasures`, made after the backup.", dir_okay=False),
    ] = None,
    nobody_erased: Annotated[
        bool, typer.Option("--nobody-erased", help="Nobody else was erased since the backup.")
    ] = False,
    as_json: options.Json = False,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Make a backup the store of a data directory whose cluster is down.

    Who was erased since the backup is erased in it again, by the present store and by the list of
    --erasures. What was recorded since is not in it: send it again where you still have it.
    """
    more = ["--replace"] * replace + ["--nobody-erased"] * nobody_erased
    if erasures is not None:
        more += ["--erasures", str(erasures)]
    if not file.is_file():
        raise CommandError(f"{file} must be a file of `warmstart store backup`, got none")
    with data_dir_lock(data_dir) as held:
        done = _run("restore", file, "--data-dir", str(data_dir.resolve()), *more, held=held)
    if as_json:
        output.print_json(done)
        return
    _print_about(done["backup"], False)
    console = output.stdout()
    console.print(
        f"erased again: {done['replayed']['erased']} people of {done['replayed']['marks']} erasures"
    )
    if done["set_aside"]:
        console.print(
            f"the store of before is in {done['set_aside']}: it holds people's data, so remove it once you "
            "are sure",
            soft_wrap=True,
        )


def erasures(
    file: Annotated[
        Path,
        typer.Argument(
            help="Written anew each time, unless it names erasures that the store no longer knows.",
            dir_okay=False,
            metavar="FILE",
        ),
    ],
    as_json: options.Json = False,
    data_dir: options.DataDir = options.DATA_DIR,
) -> None:
    """Write the list of erased people (keyed hashes, no ids) that a restore needs where the store is lost.

    Keep it apart from the store, and make it as often as people are erased.
    """
    done = _on_store("erasures", file, data_dir)
    if as_json:
        output.print_json(done)
    else:
        output.stdout().print(output.table("", ("domain", "erased"), list(done["erased"].items())))


def show(file: Backup, as_json: options.Json = False) -> None:
    """What is in a backup, which is read whole: one that is cut short or altered is refused."""
    if not file.is_file():
        raise CommandError(f"{file} must be a file of `warmstart store backup`, got none")
    _print_about(_run("show", file), as_json)


def _on_store(command: str, file: Path, data_dir: Path) -> dict[str, Any]:
    """With the running cluster's store; with the directory's own where no cluster runs."""
    state = read_state(data_dir)
    if state is not None:
        return _run(command, file, "--store-url", f"valkey://{HOST}:{state.ports.valkey}/0")
    if not (data_dir / "valkey").is_dir():
        raise CommandError(f"{data_dir} holds no store: say where it is with --data-dir")
    with data_dir_lock(data_dir) as held:
        return _run(command, file, "--data-dir", str(data_dir.resolve()), held=held)


def _run(
    command: str, file: Path, *more: str, held: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """What it answers. held: of `data_dir_lock`, where it works in the directory. Raises CommandError with
    its words."""
    program = [sys.executable, "-m", "deploy.local.backup", command, str(file.resolve()), *more]
    with ExitStack() as stack:
        stack.enter_context(interrupted_by(signal.SIGTERM, signal.SIGHUP))
        process = stack.enter_context(
            subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, str(leash.__file__), "--term", *program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **held},
                start_new_session=True,  # Ctrl-C reaches us alone, and we end it in order
            )
        )
        try:
            out, said = process.communicate()
        except KeyboardInterrupt:
            process.terminate()
            process.wait(_END_S)
            raise
    if process.returncode != 0:
        raise CommandError(said.strip() or f"it ended with code {process.returncode} and said nothing")
    answer: dict[str, Any] = json.loads(out)
    return answer


def _print_about(about: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(about)
        return
    made = datetime.fromtimestamp(about["made_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    names = ("events", "impressions", "people", "items", "erased")
    columns: tuple[output.Column | str, ...] = (
        "domain",
        *(output.Column(name, numeric=True) for name in names),
        "last event",
        "arrived (UTC)",
    )
    rows = [
        (d["domain"], *(f"{d[name]:,}" for name in names), *_last(d["last_event"])) for d in about["domains"]
    ]
    title = f"Backup of {made} UTC: {about['keys']:,} keys, {about['bytes'] / 1e6:,.1f} MB"
    output.stdout().print(output.table(title, columns, rows))


def _last(event: dict[str, Any] | None) -> tuple[str, str]:
    if event is None:
        return "", ""
    arrived = datetime.fromtimestamp(event["arrived_ms"] / 1000, UTC)
    return event["event_id"], arrived.strftime("%Y-%m-%d %H:%M:%S")
