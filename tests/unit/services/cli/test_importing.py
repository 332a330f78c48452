"""Lanes keep order, counts add up, rejects are written, an away cluster loses nothing."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from rich.console import Console
from warmstart.common.v1 import item_pb2
from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb
from warmstart.gateway.v1 import user_service_pb2 as user_pb

from services.cli.commands.importing import check_bad_share, report
from services.cli.failures import CommandError
from services.cli.importing.counts import REJECTED, Counts
from services.cli.importing.lanes import send_in_lanes
from services.cli.importing.rejects import RejectsFile, rejects_name
from services.cli.importing.run import ImportOptions, import_dataset
from services.cli.importing.unknown_items import MOST_ASKED, NamedItems, UnknownItems, ask_for
from shared.datasets import Dataset, DatasetError, Reject, Row
from shared.domain import Action, Event, Item, User
from shared.errors import RETRY_KEY, Overloaded, QuotaExceeded, Unavailable


@dataclass
class FakeGateway:
    """Stores what it is sent; fails with `error` for the first `away` calls; refuses items of `refused`."""

    away: int = 0
    error: Exception = field(default_factory=lambda: Unavailable("connection refused"))
    refused: frozenset[str] = frozenset()
    target: str = "fake:1"
    events: dict[str, Event] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    calls: int = 0

    async def record(self, events: Sequence[Event], *, timeout_s: float) -> list[pb.FeedbackResult]:
        await asyncio.sleep(0)
        self.calls += 1
        if self.away > 0:
            self.away -= 1
            raise self.error
        return [self._one(e) for e in events]

    def _one(self, event: Event) -> pb.FeedbackResult:
        if event.item_id in self.refused:
            return pb.FeedbackResult(status=pb.FEEDBACK_STATUS_REJECTED, reason="item_id is refused")
        if event.event_id in self.events:
            return pb.FeedbackResult(status=pb.FEEDBACK_STATUS_DUPLICATE)
        self.events[event.event_id] = event
        self.order.append(event.event_id)
        return pb.FeedbackResult(status=pb.FEEDBACK_STATUS_RECORDED)

    async def upsert_items(self, items: Sequence[Item], *, timeout_s: float) -> list[item_pb2.ItemResult]:
        return [item_pb2.ItemResult(item_id=i.item_id, status=item_pb2.ITEM_STATUS_CREATED) for i in items]

    async def upsert_users(self, users: Sequence[User], *, timeout_s: float) -> list[user_pb.RecordResult]:
        return [user_pb.RecordResult(stored=True) for _ in users]


def events(count: int, people: int = 7) -> list[Row[Event]]:
    return [
        Row(n, Event(f"u{n % people}", f"i{n}", Action.LIKE, 0.0, 1000 + n // 50, f"e{n}"), "log.csv")
        for n in range(1, count + 1)
    ]


def dataset(rows: Sequence[Row[Event] | Reject]) -> Dataset:
    return Dataset("test", events=lambda: iter(rows), sizes={"events": lambda: len(rows)})


async def run(gateway, data, tmp_path, options=None, screen=None):
    with RejectsFile(tmp_path / "rejects.jsonl") as rejects:
        console = Console(file=screen or io.StringIO(), width=200)
        return await import_dataset(gateway, data, options or ImportOptions(), rejects, console)


async def test_everything_arrives_once_and_each_persons_events_in_order(tmp_path):
    gateway = FakeGateway()
    counts = await run(gateway, dataset(events(2000)), tmp_path)
    assert counts["events"].as_dict() == {
        "read": 2000,
        "recorded": 2000,
        "updated": 0,
        "duplicate": 0,
        "rejected": 0,
    }
    for person in {e.user_id for e in gateway.events.values()}:
        numbers = [int(i[1:]) for i in gateway.order if gateway.events[i].user_id == person]
        assert numbers == sorted(numbers)
    assert not (tmp_path / "rejects.jsonl").exists()


async def test_a_second_import_changes_nothing(tmp_path):
    gateway = FakeGateway()
    await run(gateway, dataset(events(100)), tmp_path)
    counts = await run(gateway, dataset(events(100)), tmp_path)
    assert counts["events"].outcomes == {"duplicate": 100}
    assert len(gateway.events) == 100


async def test_bad_rows_and_refused_ones_are_written_with_number_and_reason(tmp_path):
    rows = [*events(3), Reject("log.csv", 4, "action must be …", "u,i,adore")]
    counts = await run(FakeGateway(refused=frozenset({"i2"})), dataset(rows), tmp_path)
    assert counts["events"].as_dict() == {
        "read": 4,
        "recorded": 2,
        "updated": 0,
        "duplicate": 0,
        "rejected": 2,
    }
    assert (tmp_path / "rejects.jsonl").stat().st_mode & 0o077 == 0, "rows are people's data"
    lines = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert sorted((line["row"], line["file"], line["reason"]) for line in lines) == [
        (2, "log.csv", "item_id is refused"),
        (4, "log.csv", "action must be …"),
    ]
    assert {line["raw"] for line in lines if line["row"] == 4} == {"u,i,adore"}


def test_files_of_other_endings_or_places_have_other_rejects_and_the_same_file_its_own(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    files = [Path("ev.jsonl"), Path("ev.tsv"), Path("other/ev.tsv")]
    names = [rejects_name([file]) for file in files]
    assert len(set(names)) == 3
    assert names[1].startswith("ev.tsv-")
    assert rejects_name([tmp_path / "other" / ".." / "ev.tsv"]) == names[1]
    assert rejects_name([Path("items.csv"), Path("ev.tsv")]).startswith("items.csv-ev.tsv-")


def test_the_name_of_rejects_fits_a_file_name_however_long_the_files_are():
    assert len(rejects_name([Path("\U0001f600" * 60 + ".csv")] * 4).encode()) < 180


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unavailable("connection refused"), "does not answer (connection refused)"),
        (Overloaded("queue is full"), "has too much to do (queue is full)"),
        (
            QuotaExceeded("used up", metadata={RETRY_KEY: "1"}),
            "takes no more of this key for now (used up)",
        ),
    ],
)
async def test_a_cluster_that_comes_back_loses_nothing(tmp_path, error, told):
    gateway = FakeGateway(away=3, error=error)
    screen = io.StringIO()
    counts = await run(gateway, dataset(events(600)), tmp_path, screen=screen)
    assert counts["events"].outcomes == {"recorded": 600}
    assert gateway.calls > 3
    said = screen.getvalue()
    assert said.count(f"the gateway at fake:1 {told}; trying again for 120 s") == 1
    assert said.count("the gateway at fake:1 takes batches again") == 1


async def test_a_batch_waits_as_long_as_its_quota_asks(tmp_path):
    gateway = FakeGateway(away=1, error=QuotaExceeded("used up", metadata={RETRY_KEY: "600"}))
    started = time.monotonic()
    counts = await run(gateway, dataset(events(10)), tmp_path)
    assert counts["events"].outcomes == {"recorded": 10}
    assert time.monotonic() - started >= 0.6


async def test_a_cluster_that_stays_away_ends_with_what_to_do(tmp_path):
    gateway = FakeGateway(away=10**9)
    with pytest.raises(CommandError, match="Run the same import again: what is stored is recognised"):
        await run(gateway, dataset(events(10)), tmp_path, ImportOptions(give_up_s=0.1))


async def test_a_file_that_breaks_off_ends_with_how_many_rows_are_done(tmp_path):
    def broken():
        yield from events(3)
        raise DatasetError("log.csv.gz is not a whole one")

    data = replace(dataset([]), events=broken, items=lambda: iter([Row(1, Item("i1")), Row(2, Item("i2"))]))
    with pytest.raises(
        CommandError, match=r"log\.csv\.gz is not a whole one\. Of this import 2 rows are done"
    ):
        await run(FakeGateway(), data, tmp_path)


async def test_an_import_that_is_interrupted_says_how_many_rows_are_done(tmp_path):
    class Stalling(FakeGateway):
        async def record(self, events, *, timeout_s):
            if self.calls == 1:
                importing.cancel()
                await asyncio.Event().wait()
            return await super().record(events, timeout_s=timeout_s)

    screen = io.StringIO()
    rows, one_lane = events(1000), ImportOptions(lanes=1)
    importing = asyncio.create_task(run(Stalling(), dataset(rows), tmp_path, one_lane, screen))
    with pytest.raises(asyncio.CancelledError):
        await importing
    assert "stopped: 500 rows are done. Run the same import again for the rest" in screen.getvalue()


async def test_items_and_people_go_before_events(tmp_path):
    data = replace(
        dataset(events(1)),
        items=lambda: iter([Row(1, Item("i1"))]),
        users=lambda: iter([Row(1, User("u1"))]),
    )
    counts = await run(FakeGateway(), data, tmp_path)
    assert list(counts) == ["items", "users", "events"]


async def test_lanes_close_a_batch_by_rows_and_by_bytes():
    sent: list[list[int]] = []

    async def send(batch: Sequence[int]) -> None:
        sent.append(list(batch))

    await send_in_lanes(
        [1, 1, 1, 9, 1, 1],
        lanes=1,
        batch_rows=3,
        batch_bytes=10,
        lane_key=lambda _: "",
        size_of=lambda n: n,
        send=send,
    )
    # Three rows fill the first batch; 9 + 1 bytes the second.
    assert sent == [[1, 1, 1], [9, 1], [1]]


async def test_the_first_error_of_a_lane_ends_them_all():
    async def send(batch: Sequence[int]) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await send_in_lanes(
            range(10_000),
            lanes=4,
            batch_rows=10,
            batch_bytes=1000,
            lane_key=str,
            size_of=lambda _: 1,
            send=send,
        )


def test_more_than_the_allowed_share_of_bad_rows_fails(tmp_path):
    counts = {"events": Counts(read=100)}
    counts["events"].outcomes[REJECTED] = 1
    check_bad_share(counts, 0.01, tmp_path / "r")
    counts["events"].outcomes[REJECTED] = 2
    with pytest.raises(CommandError, match=r"2\.0% of the events could not be stored \(allowed: 1\.0%\)"):
        check_bad_share(counts, 0.01, tmp_path / "r")
    check_bad_share(counts, 1.0, tmp_path / "r")


@dataclass
class FakeCatalogue:
    """Has items of even numbers; each call's ids are noted."""

    calls: list[Sequence[str]] = field(default_factory=list)
    error: Exception | None = None

    async def get_items(self, item_ids: Sequence[str]) -> catalog_pb.GetItemsResponse:
        self.calls.append(item_ids)
        if self.error:
            raise self.error
        return catalog_pb.GetItemsResponse(missing_item_ids=[i for i in item_ids if int(i[1:]) % 2])


async def test_items_that_the_catalogue_does_not_have_are_counted_without_another_pass(tmp_path):
    """1,000 events of 400 items, every second of which is not there."""
    reads: list[int] = []
    rows = [replace(row, value=replace(row.value, item_id=f"i{row.number % 400}")) for row in events(1000)]

    def reading():
        reads.append(1)
        return iter([*rows, Reject("log.csv", 1001, "bad", "raw")])

    named, catalogue = NamedItems(), FakeCatalogue()
    await run(FakeGateway(), named.noting(Dataset("test", events=reading)), tmp_path)
    assert await ask_for(named, catalogue) == UnknownItems(asked=400, missing=200, all_asked=True)
    assert (len(reads), [len(ids) for ids in catalogue.calls]) == (1, [250, 150])


async def test_of_very_many_items_a_part_is_looked_for():
    named = NamedItems()
    assert len(list(named.noting(dataset(events(MOST_ASKED + 1))).events())) == MOST_ASKED + 1
    found = await ask_for(named, FakeCatalogue())
    assert found == UnknownItems(asked=5000, missing=2500, all_asked=False)
    assert found.note() == (
        "2,500 of the first 5,000 items that the events name are not in the catalogue (others were not "
        "looked for): lists never show such items; import them with `warmstart import --items FILE`"
    )


async def test_a_catalogue_that_does_not_answer_fails_no_import():
    named = NamedItems({"i1": None})
    assert await ask_for(named, FakeCatalogue(error=Unavailable("away"))) is None
    assert await ask_for(NamedItems(), FakeCatalogue(error=AssertionError("nothing to ask"))) is None


@pytest.mark.parametrize(("missing", "noted"), [(0, False), (3, True)])
def test_the_summary_has_a_note_of_items_that_are_not_there(missing, noted, tmp_path, capsys):
    unknown = UnknownItems(9, missing, all_asked=True)
    report({"events": Counts(read=9)}, unknown, 1.0, tmp_path / "r", as_json=False)
    said = "note: 3 of the 9 items that the events name are not in the catalogue: lists never show such items"
    assert (said in capsys.readouterr().out) is noted
    report({"events": Counts(read=9)}, unknown, 1.0, tmp_path / "r", as_json=True)
    told = json.loads(capsys.readouterr().out)["items_not_in_catalogue"]
    assert told == {"asked": 9, "missing": missing, "all_asked": True}
