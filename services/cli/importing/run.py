"""The whole import: items, people, relations, then events; rejects to their file; nothing dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from services.cli.clients import GatewayClient
from services.cli.failures import CommandError
from services.cli.importing import kinds
from services.cli.importing.counts import REJECTED, Counts
from services.cli.importing.kinds import Answer, Kind
from services.cli.importing.lanes import send_in_lanes
from services.cli.importing.rejects import RejectsFile
from shared.datasets import Dataset, DatasetError, Reject, Row
from shared.errors import RETRY_KEY, Contended, DeadlinePassed, Overloaded, QuotaExceeded, Unavailable

T = TypeVar("T")
# Well below the gateway's 4 MiB a message.
_BATCH_BYTES = 1 << 20
_MAX_RAW_CHARS = 500
# What goes by if one waits.
_PASSING = (Unavailable, Overloaded, QuotaExceeded, DeadlinePassed, Contended)
_BACK_OFF = wait_random_exponential(multiplier=0.2, max=5.0)


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """lanes: batches on their way at once; give_up_s: how long a batch is tried while the cluster is away."""

    lanes: int = 4
    give_up_s: float = 120.0


class _Rate(ProgressColumn):
    """Rows a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "…", style="progress.data.speed")


async def import_dataset(
    gateway: GatewayClient, dataset: Dataset, options: ImportOptions, rejects: RejectsFile, console: Console
) -> dict[str, Counts]:
    """Sends everything and returns the counts per kind. Raises CommandError where the cluster stays away or a
    file breaks off; then what was sent is stored, and the same import run again goes on from there."""
    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    counts: dict[str, Counts] = {}
    with Progress(*columns, console=console) as progress:
        absence = _Absence(progress.console, gateway.target, options.give_up_s)
        sender = _Sender(gateway, options, rejects, progress, counts, absence)
        try:
            await sender.send_kind(kinds.ITEMS, dataset.items(), dataset)
            await sender.send_kind(kinds.USERS, dataset.users(), dataset)
            await sender.send_kind(kinds.RELATIONS, dataset.relations(), dataset)
            await sender.send_kind(kinds.EVENTS, dataset.events(), dataset)
        except asyncio.CancelledError:
            progress.console.print(
                f"stopped: {_settled(counts):,} rows are done. Run the same import again for the rest: "
                "what is stored is recognised",
                markup=False,
            )
            raise
        except DatasetError as error:
            raise CommandError(
                f"{error}. Of this import {_settled(counts):,} rows are done. "
                "Mend the file and run the same import again: what is stored is recognised"
            ) from error
    return counts


@dataclass(slots=True)
class _Absence:
    """Tells once that the gateway takes no batches, and once that it does; batches notice it side by side."""

    console: Console
    target: str
    give_up_s: float
    told: bool = False

    def notice(self, state: RetryCallState) -> None:
        """Before a batch is tried again."""
        if self.told or state.outcome is None:
            return
        self.told = True
        error = state.outcome.exception()
        if isinstance(error, Overloaded):
            state_of_it, hint = "has too much to do", ""
        elif isinstance(error, Contended):
            state_of_it, hint = "is just erasing or merging somebody of them", ""
        elif isinstance(error, QuotaExceeded):
            state_of_it, hint = "takes no more of this key for now", ""
        else:
            state_of_it, hint = "does not answer", " Is the cluster running? warmstart up"
        self.console.print(
            f"the gateway at {self.target} {state_of_it} ({error}); "
            f"trying again for {self.give_up_s:g} s.{hint}",
            style="yellow",
            markup=False,
        )

    def over(self) -> None:
        if self.told:
            self.told = False
            self.console.print(f"the gateway at {self.target} takes batches again", markup=False)


@dataclass(frozen=True, slots=True)
class _Sender:
    gateway: GatewayClient
    options: ImportOptions
    rejects: RejectsFile
    progress: Progress
    counts: dict[str, Counts]
    absence: _Absence

    async def send_kind(self, kind: Kind[T], rows: Iterator[Row[T] | Reject], dataset: Dataset) -> None:
        if kind.name not in dataset.sizes:
            first = next(rows, None)  # a derived kind, whose size is not known beforehand
            if first is None:
                return
            rows = _chain(first, rows)
        size = dataset.sizes.get(kind.name)
        task = self.progress.add_task(kind.name, total=size() if size else None)
        counts = self.counts[kind.name] = Counts()

        async def send(batch: Sequence[Row[T]]) -> None:
            answers = await self._send_batch(kind, [row.value for row in batch])
            self._settle(kind, batch, answers)
            self.progress.update(task, advance=len(batch))

        await send_in_lanes(
            self._good_rows(kind, rows, counts, task),
            lanes=self.options.lanes,
            batch_rows=kind.batch_rows,
            batch_bytes=_BATCH_BYTES,
            lane_key=lambda row: kind.lane_key(row.value),
            size_of=lambda row: kind.size_of(row.value),
            send=send,
        )
        self.progress.update(task, total=counts.read, completed=counts.read)

    def _good_rows(
        self, kind: Kind[T], rows: Iterator[Row[T] | Reject], counts: Counts, task: TaskID
    ) -> Iterator[Row[T]]:
        for row in rows:
            counts.read += 1
            if isinstance(row, Row):
                yield row
                continue
            counts.outcomes[REJECTED] += 1
            self.rejects.write(kind.name, row)
            self.progress.update(task, advance=1)

    async def _send_batch(self, kind: Kind[T], values: Sequence[T]) -> Sequence[Answer]:
        """Tried again while the cluster is away: every call is idempotent, so a lost answer costs nothing."""
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(_PASSING),
            wait=_wait_s,
            stop=stop_after_delay(self.options.give_up_s),
            before_sleep=self.absence.notice,
            reraise=True,
        )
        try:
            async for attempt in attempts:
                with attempt:
                    answers = await kind.send(self.gateway, values)
        except _PASSING as error:
            raise CommandError(
                f"the gateway at {self.gateway.target} took nothing for {self.options.give_up_s:g} s "
                f"({error}); {_settled(self.counts):,} rows are done. "
                "Run the same import again: what is stored is recognised"
            ) from error
        self.absence.over()
        if len(answers) != len(values):
            raise CommandError(f"the gateway answered {len(answers)} results for {len(values)} {kind.name}")
        return answers

    def _settle(self, kind: Kind[T], batch: Sequence[Row[T]], answers: Sequence[Answer]) -> None:
        counts = self.counts[kind.name]
        for row, answer in zip(batch, answers, strict=True):
            counts.outcomes[answer.outcome] += 1
            if answer.outcome == REJECTED:
                raw = repr(row.value)[:_MAX_RAW_CHARS]
                self.rejects.write(kind.name, Reject(row.file, row.number, answer.reason, raw))


def _wait_s(state: RetryCallState) -> float:
    """As the server says where the key's quota is used up; else longer each time, at random."""
    error = state.outcome.exception() if state.outcome else None
    pause_s = _BACK_OFF(state)
    return (
        max(pause_s, int(error.metadata[RETRY_KEY]) / 1000) if isinstance(error, QuotaExceeded) else pause_s
    )


def _settled(counts: Mapping[str, Counts]) -> int:
    return sum(c.settled for c in counts.values())


def _chain(first: T, rest: Iterator[T]) -> Iterator[T]:
    yield first
    yield from rest
