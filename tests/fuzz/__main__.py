"""`make fuzz`: cases for every RPC and everything that reads bytes; exit code 1 where something is wrong."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from services.cli import output
from services.cli.options import examples
from tests.fuzz.loaders import fuzz_loaders
from tests.fuzz.printing import as_json, print_findings, print_tallies
from tests.fuzz.quiet import quieten
from tests.fuzz.rpcs import open_fuzzer
from tests.fuzz.schema import Rpc, all_rpcs
from tests.fuzz.tally import Finding, Tally
from tests.fuzz.targets import TARGET_NAMES, target_of
from tests.fuzz.targets.base import clean_up, fails
from tests.fuzz.world import Memory

# Of all cases where both kinds are fuzzed: a call costs what some readings do.
_RPC_SHARE = 0.12
# The others read in less than a millisecond.
_SLOW = {
    "artifact": 0.1, "artifact-rows": 0.1, "artifact-items": 0.1, "checkpoint": 0.3, "settings": 0.1,
    "parquet-tables": 0.05, "parquet-bytes": 0.3, "public-datasets": 0.3, "csv": 0.5, "training-json": 0.3,
}  # fmt: skip
_EPILOG = examples(
    "python -m tests.fuzz",
    "python -m tests.fuzz gateway/Recommend csv --cases 5000",
    "python -m tests.fuzz --cases 1000000 --json soak.json",
)


def main(
    targets: Annotated[
        list[str] | None, typer.Argument(help="RPCs and readers; also `rpcs` and `readers`; all where none.")
    ] = None,
    cases: Annotated[int, typer.Option(min=1, help="Cases in all.")] = 60_000,
    seconds: Annotated[float, typer.Option(min=0.0, help="End after so long, too; 0 = only by cases.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Another one makes other cases.")] = 1,
    replay: Annotated[Path | None, typer.Option(help="Send just this case to the one target.")] = None,
    out: Annotated[Path, typer.Option(help="Where cases that went wrong are written.")] = Path("var/fuzz"),
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Say which targets there are.")] = False,
) -> None:
    """Send rubbish on purpose, and look whether anything gives way."""
    console = output.stdout()
    if list_:
        console.print("\n".join((*(rpc.name for rpc in all_rpcs()), *TARGET_NAMES)))
        return
    quieten()
    rpcs, readers = _chosen(targets or ["rpcs", "readers"])
    out.mkdir(parents=True, exist_ok=True)
    tallies, memory = (
        (_replayed(rpcs, readers, replay.read_bytes()), {})
        if replay is not None
        else _fuzzed(console, rpcs, readers, cases, seconds, seed)
    )
    print_tallies(console, tallies, memory)
    print_findings(console, tallies, out)
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(tallies, memory), indent=2) + "\n")
    raise typer.Exit(1 if any(tally.findings for tally in tallies) else 0)


def _chosen(names: Sequence[str]) -> tuple[list[Rpc], list[str]]:
    by_name = {rpc.name: rpc for rpc in all_rpcs()}
    unknown = [n for n in names if n not in by_name and n not in (*TARGET_NAMES, "rpcs", "readers")]
    if unknown:
        raise typer.BadParameter(f"must be targets (see --list), got {', '.join(unknown)}")
    rpcs = [rpc for name, rpc in by_name.items() if name in names or "rpcs" in names]
    return rpcs, [name for name in TARGET_NAMES if name in names or "readers" in names]


def _fuzzed(
    console: Console, rpcs: Sequence[Rpc], readers: Sequence[str], cases: int, seconds: float, seed: int
) -> tuple[list[Tally], dict[str, Memory]]:
    calls = 0 if not rpcs else cases if not readers else int(_RPC_SHARE * cases)
    shares = _shares(readers, cases - calls)
    tallies: list[Tally] = []
    memory: dict[str, Memory] = {}
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory, _bar(console) as bar:
        if readers:
            task = bar.add_task("readers", total=cases - calls)
            # Two side by side, one after the other: each has its part of the time.
            each_s = 2.0 * _part(seconds, bool(rpcs)) / len(readers) if seconds else 0.0
            told: Callable[[int], None] = lambda done: bar.update(task, completed=done)  # noqa: E731
            tallies += fuzz_loaders(shares, Path(directory) / "readers", seed=seed, seconds=each_s, told=told)
        if rpcs:
            task = bar.add_task("RPCs", total=calls)
            sent: Callable[[int], None] = lambda done: bar.update(task, completed=done)  # noqa: E731
            until = time.monotonic() + _part(seconds, bool(readers)) if seconds else None
            found, memory = asyncio.run(_called(rpcs, calls, until, seed, Path(directory), sent))
            tallies = [*found, *tallies]
    return tallies, memory


def _part(seconds: float, both: bool) -> float:
    return seconds / 2.0 if both else seconds


async def _called(
    rpcs: Sequence[Rpc],
    cases: int,
    until: float | None,
    seed: int,
    directory: Path,
    told: Callable[[int], None],
) -> tuple[list[Tally], dict[str, Memory]]:
    async with open_fuzzer(directory, seed, told) as fuzzer:
        await fuzzer.run(rpcs, cases, until)
        return [*(fuzzer.tallies[rpc.name] for rpc in rpcs), fuzzer.state], fuzzer.memory


def _shares(readers: Sequence[str], cases: int) -> dict[str, int]:
    weights = {name: _SLOW.get(name, 1.0) for name in readers}
    shares = {name: int(cases * weight / sum(weights.values())) for name, weight in weights.items()}
    if shares:
        shares[next(iter(shares))] += cases - sum(shares.values())
    return shares


def _replayed(rpcs: Sequence[Rpc], readers: Sequence[str], case: bytes) -> list[Tally]:
    if len(rpcs) + len(readers) != 1:
        raise typer.BadParameter("--replay must come with one target")
    if readers:
        tally = Tally(readers[0], is_rpc=False, cases=1)
        problem = fails(target_of(readers[0]), case)
        clean_up()
    else:
        tally = Tally(rpcs[0].name, is_rpc=True, cases=1)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
            problem = asyncio.run(_sent(rpcs[0], case, Path(directory)))
    if problem:
        tally.found(Finding(tally.target, problem, case))
    return [tally]


async def _sent(rpc: Rpc, case: bytes, directory: Path) -> str:
    async with open_fuzzer(directory, seed=1) as fuzzer:
        return await fuzzer.send(rpc, case) or "; ".join(await fuzzer.look())


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console, disable=not sys.stdout.isatty(),
    )  # fmt: skip


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")
app.command(epilog=_EPILOG)(main)

if __name__ == "__main__":
    app(prog_name="python -m tests.fuzz")
