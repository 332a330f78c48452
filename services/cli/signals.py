"""Signals that act like Ctrl-C, so that every way of being stopped cleans up alike."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """These signals, and SIGINT, do what Ctrl-C does while the block runs.

    That is to raise KeyboardInterrupt; within `asyncio.run`, which then takes SIGINT for itself, to cancel
    what runs first: an exception in the midst of gRPC's own code leaves its threads half made, and they
    abort or hang the process at its end.
    SIGINT too: shells start what runs in the background of a script with SIGINT ignored, and then
    `asyncio.run` would not take it.
    """

    def like_ctrl_c(number: int, frame: FrameType | None) -> None:
        handler = signal.getsignal(signal.SIGINT)
        assert callable(handler)  # noqa: S101 - set below, or by asyncio
        handler(signal.SIGINT, frame)

    handlers = dict.fromkeys(signals, like_ctrl_c) | {signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
