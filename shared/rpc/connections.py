"""The gRPC channel to a target, opened anew when its certificates change.

Python's gRPC takes a channel's certificates once. So a channel with the new ones is opened beside the old,
and takes the calls once it is connected; those in work finish where they began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import grpc

from shared.telemetry.logs import logger
from shared.tls import TlsPem, TlsSource

LOOK_EVERY_S = 1.0
# Servers may take up the new authorities later than we: until they do, the old channel goes on.
_READY_WITHIN_S = 5.0
_LOG = logger("tls")


class Connection:
    """One gRPC channel and the calls in work on it; once replaced, it closes with the last of them."""

    __slots__ = ("_closing", "_in_work", "_replaced", "channel")

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self._in_work = 0
        self._replaced = False
        self._closing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """A call begins; `end` it in any case."""
        self._in_work += 1

    def end(self, _: object = None) -> None:
        self._in_work -= 1
        self._close_if_done()

    def replace(self) -> None:
        """No more calls begin here."""
        self._replaced = True
        self._close_if_done()

    async def close(self, grace_s: float | None = None) -> None:
        if self._closing is not None:
            await self._closing
        await self.channel.close(grace_s)

    @property
    def closed(self) -> bool:
        return self._closing is not None and self._closing.done()

    def _close_if_done(self) -> None:
        if self._replaced and not self._in_work and self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self.channel.close())


class Connections:
    """The connection of now and those before it that still have calls in work.

    opened: makes a channel with these certificates (None = without TLS). Files are looked at every second in
    which there are calls, off the event loop.
    """

    def __init__(
        self, opened: Callable[[TlsPem | None], grpc.aio.Channel], tls: TlsSource | None = None
    ) -> None:
        self._open = opened
        self._tls = tls
        self._pem = tls.pem if tls else None
        self._now = Connection(opened(self._pem))
        self._before: list[Connection] = []
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self._renewing: asyncio.Task[None] | None = None

    def current(self) -> Connection:
        """Where a call that begins now belongs."""
        if self._tls is not None and time.monotonic() >= self._look_at and self._renewing is None:
            self._renewing = asyncio.get_running_loop().create_task(self._renew(self._tls))
        return self._now

    async def close(self, grace_s: float | None = None) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await asyncio.gather(*(c.close(grace_s) for c in (self._now, *self._before)))

    async def _renew(self, tls: TlsSource) -> None:
        try:
            found = await asyncio.to_thread(tls.look)
            if found is self._pem:
                return
            channel = self._open(found)
            if await _is_ready(channel):
                self._before = [c for c in (*self._before, self._now) if not c.closed]
                before, self._now, self._pem = self._now, Connection(channel), found
                before.replace()
        finally:
            self._look_at = time.monotonic() + LOOK_EVERY_S
            self._renewing = None


async def _is_ready(channel: grpc.aio.Channel) -> bool:
    """Whether it connects in time; closed where it does not."""
    try:
        async with asyncio.timeout(_READY_WITHIN_S):
            await channel.channel_ready()
    except TimeoutError:
        await channel.close()
        _LOG.warning("no server can be reached with the new certificates yet, the old connection stays")
        return False
    except BaseException:
        await channel.close()
        raise
    return True
