"""Long steps go one a round of the event loop, in the order in which they came."""

from __future__ import annotations

import asyncio

from shared.rpc.turns import Turns


async def rounds(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_of_steps_that_could_begin_together_one_begins_in_each_round() -> None:
    turns, now, begun = Turns(), 0, list[tuple[int, str]]()

    async def step(name: str) -> None:
        await turns.next()
        begun.append((now, name))

    steps = [asyncio.ensure_future(step(name)) for name in "abcd"]
    for tick in range(8):
        now = tick
        await asyncio.sleep(0)
    assert [name for _, name in begun] == list("abcd")
    assert len({when for when, _ in begun}) == 4
    await asyncio.gather(*steps)


async def test_nobody_waits_where_nobody_else_has_begun() -> None:
    turns = Turns()
    await turns.next()
    await rounds(2)
    alone = turns.next()
    try:
        alone.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


async def test_a_caller_who_goes_while_waiting_costs_the_others_no_round() -> None:
    turns, begun = Turns(), list[str]()

    async def step(name: str) -> None:
        await turns.next()
        begun.append(name)

    first, leaves, last = (asyncio.ensure_future(step(name)) for name in "abc")
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.gather(first, leaves, last, return_exceptions=True)
    assert begun == ["a", "c"]
    await rounds(2)
    await asyncio.wait_for(turns.next(), 10)
