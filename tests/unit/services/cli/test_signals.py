"""Being stopped by a signal as by Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from services.cli.signals import interrupted_by


@contextmanager
def handled(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("sigint", [signal.SIG_IGN, signal.default_int_handler])
def test_a_signal_raises_keyboard_interrupt_also_where_the_shell_had_ctrl_c_ignored(number, sigint):
    with handled(signal.SIGINT, sigint), pytest.raises(KeyboardInterrupt), interrupted_by(signal.SIGTERM):
        signal.raise_signal(number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("sigint", [signal.SIG_IGN, signal.default_int_handler])
def test_within_asyncio_a_signal_cancels_what_runs_and_waits_for_it(number, sigint):
    """It was raised in the midst of whatever ran: of gRPC's start of a thread, it aborted the process."""
    ended = []

    async def work() -> None:
        try:
            signal.raise_signal(number)  # no exception here
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ended.append("in order")
            raise

    with handled(signal.SIGINT, sigint), pytest.raises(KeyboardInterrupt), interrupted_by(signal.SIGTERM):
        asyncio.run(work())
    assert ended == ["in order"]


def test_afterwards_the_handlers_are_those_of_before():
    with handled(signal.SIGINT, signal.SIG_IGN), handled(signal.SIGTERM, signal.SIG_DFL):
        with interrupted_by(signal.SIGTERM):
            pass
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
