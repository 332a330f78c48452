"""The arms of an evaluation, one after the other or side by side as Ray tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One arm, seed and task: work(*shared, *own). To go to another process, work must be a function of a
    module and `own` what can be pickled."""

    work: Callable[..., Any]
    own: tuple[Any, ...] = ()


class Spread(Protocol):
    """How calls are made."""

    def __call__(self, shared: Sequence[Any], calls: Sequence[Call], progress: Progress) -> list[Any]:
        """Results in the order of the calls. progress: told how many of them are done, from 0 on."""
        ...


def one_by_one(shared: Sequence[Any], calls: Sequence[Call], progress: Progress) -> list[Any]:
    """In this process."""
    progress(0, len(calls))
    results = []
    for done, call in enumerate(calls, start=1):
        results.append(call.work(*shared, *call.own))
        progress(done, len(calls))
    return results


def over_ray(shared: Sequence[Any], calls: Sequence[Call], progress: Progress) -> list[Any]:
    """As many at a time as Ray's session has cores, each with one of them; what is shared is sent once.

    What a call raises is raised here and ends the others; one whose process dies is made again, three times.
    """
    import ray

    # what Ray raises is of the call's own class too
    run = ray.remote(num_cpus=1, max_retries=3)(_made)
    sent = [ray.put(each) for each in shared]
    places = {run.remote(call, *sent): place for place, call in enumerate(calls)}
    results: list[Any] = [None] * len(calls)
    left = list(places)
    progress(0, len(calls))
    try:
        while left:
            (done,), left = ray.wait(left)
            results[places[done]] = ray.get(done)
            progress(len(calls) - len(left), len(calls))
    finally:
        for call in left:
            ray.cancel(call, force=True)
    return results


def _made(call: Call, *shared: Any) -> Any:
    return call.work(*shared, *call.own)
