"""Watchers: each gets everything from when it came, and a slow one holds nobody up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from services.training.service.training import LogLine, Stage, State, Update
from services.training.service.watching import Watchers
from tests.unit.services.training.service.test_training import training


async def rest(updates: AsyncGenerator[Update, None]) -> list[Update]:
    return [update async for update in updates]


async def test_every_watcher_gets_what_is_told_after_it_came() -> None:
    watchers = Watchers()
    early, late = watchers.updates(LogLine("first")), watchers.updates(LogLine("second"))
    assert await anext(early) == LogLine("first")
    watchers.tell(Stage("prepare"))
    assert await anext(late) == LogLine("second")
    watchers.tell(LogLine("hello"))
    watchers.end()
    assert await rest(early) == [Stage("prepare"), LogLine("hello")]
    assert await rest(late) == [LogLine("hello")]


async def test_a_slow_watcher_gets_the_newest_step_of_a_stage() -> None:
    watchers = Watchers()
    async with aclosing(watchers.updates(LogLine("now"))) as updates:
        await anext(updates)
        for step in range(1, 1001):
            watchers.tell(Stage("pretrain", step, 1000))
        watchers.tell(Stage("evaluate", 1, 2))
        watchers.end()
        assert await rest(updates) == [Stage("pretrain", 1000, 1000), Stage("evaluate", 1, 2)]


async def test_a_watcher_that_never_reads_costs_a_bounded_number_of_lines_and_no_state() -> None:
    watchers = Watchers()
    async with aclosing(watchers.updates(LogLine("now"))) as updates:
        await anext(updates)
        stopping = training(state=State.STOPPING)
        watchers.tell(stopping)
        for number in range(1500):
            watchers.tell(LogLine(str(number)))
        watchers.end()
        pending = await rest(updates)
    assert pending[0] == stopping
    assert pending[-1] == LogLine("1499")
    assert len(pending) == 999  # 1,000 with the end
