"""The event loop of servers: uvloop's, which also empties the socket by which gRPC wakes it.

gRPC's thread writes a byte for each event to a socket; the loop is told of all events there are, and reads
one byte. Where events come faster than rounds of the loop, unread bytes fill the socket, and from then on
gRPC's thread waits for room in it: one event a round, and a call has at least four. Behind that, calls wait
unseen for seconds.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvloop
from grpc._cython import cygrpc

_MANY_BYTES = 1 << 16


class EventLoop(uvloop.Loop):
    """uvloop is safe with grpc.aio as long as a process has one loop (grpc issue 25364 needs several)."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Where gRPC asks to be told of its socket, what is in it is read before gRPC is told."""
        if isinstance(fd, socket.socket) and _is_of_grpc(callback):
            callback = functools.partial(_emptied, fd, callback)
        super().add_reader(fd, callback, *args)


def _is_of_grpc(callback: Callable[..., Any]) -> bool:
    inner = callback.func if isinstance(callback, functools.partial) else callback
    return isinstance(getattr(inner, "__self__", None), cygrpc.PollerCompletionQueue)


def _emptied(wakes: socket.socket, handle_events: Callable[[], None]) -> None:
    with suppress(BlockingIOError):
        wakes.recv(_MANY_BYTES)
    handle_events()
