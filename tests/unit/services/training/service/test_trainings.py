"""Trainings and their processes: a small real program stands where the training does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.training.service.store import TrainingStore
from services.training.service.tidying import KeptDays, Tidying, tidied_counter
from services.training.service.training import LogLine, Places, Stage, State, Training, Update
from services.training.service.trainings import Limits, Trainings
from services.training.settings import SourceSettings, TrainSettings
from shared.errors import InvalidInput, NotFound, Overloaded, SettingsError, Unavailable, WrongState
from shared.processes.family import has_ended
from tests.training_program import VERSION, program

HERE = Places("/registry", "127.0.0.1:1", "")
_TICKS = iter(range(1_000, 1_000_000))


@asynccontextmanager
async def opened(
    root: Path, how: str, *, stop_s: float = 20.0, max_running: int = 2
) -> AsyncIterator[Trainings]:
    limits = Limits(max_running, stop_s, hold_s=0.0)
    trainings = Trainings(TrainingStore(root), HERE, limits, lambda: next(_TICKS), program(how))
    await trainings.open()
    try:
        yield trainings
    finally:
        await trainings.close()


def settings(domain: str = "shop", **changes: Any) -> TrainSettings:
    return HERE.applied(TrainSettings(SourceSettings(features_target="any"), domain=domain, **changes))


def record_of(training: Training) -> bytes:
    return Path(training.run_directory, "training.json").read_bytes()


def is_there(training: Training) -> bool:
    return Path(training.run_directory).is_dir()


def put_record(training: Training, record: bytes) -> None:
    """As a server that died has left it."""
    Path(training.run_directory, "training.json").write_bytes(record)


def open_gate(training: Training) -> None:
    Path(training.run_directory, "go").touch()


async def to_its_end(trainings: Trainings, training: Training) -> tuple[list[Update], Training]:
    """All that a watcher is told, and the training as it ended."""
    async with asyncio.timeout(60):
        async with aclosing(trainings.watch(training.domain, training.training_id)) as updates:
            told = [update async for update in updates]
    assert isinstance(told[-1], Training)
    return told, told[-1]


async def until_it_says(trainings: Trainings, training: Training, word: str) -> str:
    """Watches until it says a line that begins with the word; the rest of the line."""
    async with asyncio.timeout(60):
        async with aclosing(trainings.watch(training.domain, training.training_id)) as updates:
            async for update in updates:
                lines = [update.message] if isinstance(update, LogLine) else []
                lines += update.log if isinstance(update, Training) else []
                for line in lines:
                    if line.startswith(word):
                        return line.removeprefix(word).strip()
    raise AssertionError(f"it ended without a word of {word!r}")


async def test_a_training_is_told_from_its_start_to_its_result(tmp_path: Path) -> None:
    async with opened(tmp_path, "succeed") as trainings:
        begun = await trainings.start(settings())
        assert (begun.state, begun.domain, begun.settings) == (State.RUNNING, "shop", settings())
        told, ended = await to_its_end(trainings, begun)
        assert isinstance(told[0], Training)
        assert Stage("pretrain", 3, 10, {"loss": 2.5}) in ended.stages
        assert ended.state is State.SUCCEEDED
        assert ended.result is not None
        assert (ended.result.version, ended.result.report) == (VERSION, "## Few shots\n")
        assert ended.ended_ms > ended.started_ms == ended.created_ms
        assert (ended.process, ended.error) == (None, "")
        assert (await to_its_end(trainings, begun))[0] == [ended]  # who comes late is told the end alone
        with pytest.raises(WrongState, match="has succeeded: there is nothing to resume"):
            await trainings.resume("shop", begun.training_id)


async def test_any_number_of_watchers_are_told_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path, "gate") as trainings:
        begun = await trainings.start(settings())
        await until_it_says(trainings, begun, "process")
        watching = [asyncio.create_task(to_its_end(trainings, begun)) for _ in range(20)]
        await asyncio.sleep(0)  # each has come before the next line is said
        open_gate(begun)
        ends = [end for _, end in await asyncio.gather(*watching)]
        assert {end.state for end in ends} == {State.SUCCEEDED}
        told = (await watching[0])[0]
        assert Stage("pretrain", 3, 10, {"loss": 2.5}) in told[0].stages  # type: ignore[union-attr]
        assert told[1] == Stage("evaluate")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("refuse", "events must not be empty: import some first, got 0"),
        ("die", "the training process was killed by SIGKILL\nlog: "),
        ("babble", "its process said what is not understood: the training process wrote a line that is not"),
    ],
)
async def test_a_training_that_fails_says_why(tmp_path: Path, how: str, said: str) -> None:
    async with opened(tmp_path, how) as trainings:
        _, ended = await to_its_end(trainings, await trainings.start(settings()))
        assert ended.state is State.FAILED
        assert ended.error.startswith(said)
        assert trainings.counts() == {("shop", State.FAILED): 1}


@pytest.mark.parametrize(("how", "refused"), [("misfit", True), ("refuse", False), ("die", False)])
async def test_a_training_whose_own_settings_are_refused_says_so(
    tmp_path: Path, how: str, refused: bool
) -> None:
    """Resumed, it would be refused alike; one without events is mended by importing some."""
    async with opened(tmp_path, how) as trainings:
        _, ended = await to_its_end(trainings, await trainings.start(settings()))
        assert (ended.state, ended.settings_refused) == (State.FAILED, refused)
    async with opened(tmp_path, "succeed") as trainings:
        (noted,) = trainings.newest("shop", 1)
        assert noted.settings_refused is refused
        _, again = await to_its_end(trainings, await trainings.resume("shop", noted.training_id))
        assert (again.state, again.settings_refused) == (State.SUCCEEDED, False)


async def test_one_training_of_a_domain_runs_at_a_time_and_a_few_over_all(tmp_path: Path) -> None:
    async with opened(tmp_path, "wait") as trainings:
        first = await trainings.start(settings())
        with pytest.raises(WrongState, match=f"'shop' trains already: {first.training_id}") as refused:
            await trainings.start(settings(seed=1))
        assert refused.value.metadata == {"training_id": first.training_id}
        await trainings.start(settings("films"))
        with pytest.raises(Overloaded, match="must be at most 2"):
            await trainings.start(settings("books"))
        assert len(trainings.newest("shop", 10)) == 1


async def test_starts_that_come_together_start_one_training(tmp_path: Path) -> None:
    async with opened(tmp_path, "wait") as trainings:
        starts = [trainings.start(settings(), "key") for _ in range(5)]
        begun = await asyncio.gather(*starts)
        assert len({training.training_id for training in begun}) == 1
        outcomes = await asyncio.gather(
            *(trainings.start(settings("films", seed=n)) for n in range(3)), return_exceptions=True
        )
        assert sum(isinstance(outcome, Training) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, WrongState) for outcome in outcomes) == 2


async def test_a_request_key_starts_once_also_with_the_next_server(tmp_path: Path) -> None:
    async with opened(tmp_path, "succeed") as trainings:
        first = await trainings.start(settings(), "key")
        await to_its_end(trainings, first)
        assert (await trainings.start(settings(), "key")).training_id == first.training_id
        assert (await trainings.start(settings("films"), "key")).training_id != first.training_id
    async with opened(tmp_path, "succeed") as trainings:
        assert (await trainings.start(settings(), "key")).training_id == first.training_id
        with pytest.raises(InvalidInput, match="request_key must be new: it was used for something else"):
            await trainings.start(settings(seed=1), "key")
        with pytest.raises(InvalidInput, match="request_key must be new"):
            await trainings.resume("shop", first.training_id, "key")
        assert len(trainings.newest("shop", 10)) == 1


async def test_a_stopped_training_is_resumed_where_it_stopped(tmp_path: Path) -> None:
    async with opened(tmp_path, "wait") as trainings:
        begun = await trainings.start(settings())
        await until_it_says(trainings, begun, "process")
        watching = asyncio.create_task(to_its_end(trainings, begun))
        await asyncio.sleep(0)
        asked = await trainings.stop("shop", begun.training_id)
        assert asked.state in {State.STOPPING, State.STOPPED}  # the process may be faster than the answer
        told, stopped = await watching
        assert [u.state for u in told if isinstance(u, Training)] == [
            State.RUNNING,
            State.STOPPING,
            State.STOPPED,
        ]
        assert stopped.error == ""
        assert (await trainings.stop("shop", begun.training_id)) == stopped  # changes nothing
        again = await trainings.resume("shop", begun.training_id, "again")
        assert (again.training_id, again.state, again.stages) == (begun.training_id, State.RUNNING, ())
        assert again.started_ms > again.created_ms == begun.created_ms
        _, ended = await to_its_end(trainings, begun)
        assert ended.state is State.SUCCEEDED
        assert (await trainings.resume("shop", begun.training_id, "again")).state is State.SUCCEEDED


async def test_a_process_that_does_not_listen_is_killed_with_its_children(tmp_path: Path) -> None:
    async with opened(tmp_path, "stubborn", stop_s=0.2) as trainings:
        begun = await trainings.start(settings())
        child = psutil.Process(int(await until_it_says(trainings, begun, "child")))
        await trainings.stop("shop", begun.training_id)
        _, ended = await to_its_end(trainings, begun)
        assert ended.state is State.STOPPED
        async with asyncio.timeout(20):
            while not has_ended(child):
                await asyncio.sleep(0.01)


async def test_a_server_that_stops_leaves_an_interrupted_training_to_the_next(tmp_path: Path) -> None:
    async with opened(tmp_path, "wait") as trainings:
        begun = await trainings.start(settings())
        pid = int(await until_it_says(trainings, begun, "process"))
    assert not psutil.pid_exists(pid)
    with pytest.raises(Unavailable, match="stopping"):
        await trainings.start(settings())
    async with opened(tmp_path, "wait") as trainings:
        (interrupted,) = trainings.newest("shop", 10)
        assert interrupted.state is State.INTERRUPTED
        assert Stage("pretrain", 3, 10, {"loss": 2.5}) in interrupted.stages
        await trainings.resume("shop", begun.training_id)
        assert (await to_its_end(trainings, begun))[1].state is State.SUCCEEDED


async def test_what_ran_when_a_server_died_is_over_once_its_process_is(tmp_path: Path) -> None:
    """The record says that it runs, as a dead server's does; its process may need a moment to end."""
    async with opened(tmp_path, "wait") as trainings:
        begun = await trainings.start(settings())
        await until_it_says(trainings, begun, "process")
        running = trainings.newest("shop", 1)[0]
        assert running.process is not None
        noted = record_of(begun)
        await trainings.stop("shop", begun.training_id)
        await to_its_end(trainings, begun)
    put_record(begun, noted)
    async with opened(tmp_path, "wait") as trainings:
        assert trainings.newest("shop", 1)[0].state is State.INTERRUPTED
    sleeper = await asyncio.create_subprocess_exec("sleep", "120")
    try:
        left = psutil.Process(sleeper.pid)
        mark = replace(running.process, pid=sleeper.pid, started_s=left.create_time())
        TrainingStore(tmp_path).write(replace(running, process=mark))
        async with opened(tmp_path, "wait") as trainings:
            assert trainings.newest("shop", 1)[0].state is State.STOPPING
            _, ended = await to_its_end(trainings, begun)
            assert ended.state is State.INTERRUPTED
            assert await sleeper.wait() < 0
    finally:
        if sleeper.returncode is None:
            sleeper.kill()
            await sleeper.wait()


async def test_what_finished_while_no_server_looked_has_succeeded(tmp_path: Path) -> None:
    async with opened(tmp_path, "succeed") as trainings:
        begun = await trainings.start(settings())
        noted = record_of(begun)
        await to_its_end(trainings, begun)
    put_record(begun, noted)
    async with opened(tmp_path, "succeed") as trainings:
        (ended,) = trainings.newest("shop", 1)
        assert ended.state is State.SUCCEEDED
        assert ended.result is not None


async def test_unknown_trainings_are_not_found_in_other_domains_either(tmp_path: Path) -> None:
    async with opened(tmp_path, "succeed") as trainings:
        begun = await trainings.start(settings())
        await to_its_end(trainings, begun)
        for domain, name in (("shop", "nope"), ("films", begun.training_id)):
            with pytest.raises(NotFound, match=f"domain '{domain}' has no training '{name}'"):
                await trainings.stop(domain, name)
            with pytest.raises(NotFound):
                await trainings.resume(domain, name)
            with pytest.raises(NotFound):
                await anext(trainings.watch(domain, name))


async def test_trainings_are_listed_newest_first(tmp_path: Path) -> None:
    async with opened(tmp_path, "refuse") as trainings:
        ids = []
        for _ in range(3):
            begun = await trainings.start(settings())
            await to_its_end(trainings, begun)
            ids.insert(0, begun.training_id)
        assert [t.training_id for t in trainings.newest("shop", 2)] == ids[:2]
        assert [t.training_id for t in trainings.newest("shop", 2, before=ids[1])] == ids[2:]
        assert trainings.newest("films", 2) == []


async def test_a_directory_that_another_server_holds_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path, "succeed"):
        with pytest.raises(SettingsError, match=r"runs must be this server's alone, got .*, which process"):
            async with opened(tmp_path, "succeed"):
                pass


async def test_a_training_that_cannot_be_noted_is_not_started(tmp_path: Path) -> None:
    async with opened(tmp_path, "succeed") as trainings:
        trainings._store.create = _full_disk  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="cannot be noted: no space"):
            await trainings.start(settings())
        assert trainings.newest("shop", 1) == []


def _full_disk(_: Training) -> None:
    raise OSError("no space")


async def test_trainings_whose_days_are_over_are_forgotten_and_those_that_run_are_not(tmp_path: Path) -> None:
    """The clock of these tests stands at the start of 1970, so everything is from its future: days of −1."""
    async with opened(tmp_path, "gate", max_running=2) as trainings:
        ended = await trainings.start(settings())
        open_gate(ended)
        await to_its_end(trainings, ended)
        running = await trainings.start(settings("films"))
        await trainings.tidy(Tidying(tmp_path, KeptDays(runs=-30_000), tidied_counter()))
        assert trainings.newest("shop", 10) == []
        assert not is_there(ended)
        assert [t.training_id for t in trainings.newest("films", 10)] == [running.training_id]
        assert is_there(running)
