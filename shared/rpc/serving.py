"""The request being served: its id, deadline and caller, seen by everything that runs for it.

Python does not pass deadlines on by itself. The server's interceptor notes what a request has left;
`remaining_s` and the client interceptors give it on to the calls made for that request.
"""

from __future__ import annotations

import time
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, replace

from shared.auth.callers import Caller


@dataclass(frozen=True, slots=True)
class ServedCall:
    """One request in work. `deadline` is on the clock of `time.monotonic`; None = no deadline. `caller`: None
    where the server takes every call."""

    request_id: str
    deadline: float | None = None
    caller: Caller | None = None


# A context variable has to live in a module; each request's task has its own value.
_SERVED: ContextVar[ServedCall | None] = ContextVar("warmstart_served_call", default=None)


def served_call() -> ServedCall | None:
    """The request being served by this task, None outside of one."""
    return _SERVED.get()


def begin(call: ServedCall) -> None:
    """Marks this task, and all that it starts, as serving `call`. Each RPC runs in a task of its own."""
    _SERVED.set(call)


def remaining_s(default: float) -> float:
    """Seconds a call made now may take: `default`, or what the request being served has left if less; ≥ 0."""
    call = _SERVED.get()
    if call is None or call.deadline is None:
        return default
    return max(0.0, min(default, call.deadline - time.monotonic()))


def background_context() -> Context:
    """For work that outlives the request: keeps its id, forgets its deadline.

    asyncio.create_task(log_impressions(), context=background_context())
    """
    context = copy_context()
    call = _SERVED.get()
    if call is not None:
        context.run(_SERVED.set, replace(call, deadline=None))
    return context
