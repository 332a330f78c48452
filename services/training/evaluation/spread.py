"""The arms of an evaluation, one after the other or side by side as Ray tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
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

    run = ray.remote(num_cpus=1, max_retries=3)(_made)
    sent = [ray.put(each) for each in shared]
    made = [run.remote(call, *sent) for call in calls]
    # futures of Python, since Ray's own waiting keeps what a signal raises until a task ends
    places = {each.future(): place for place, each in enumerate(made)}
    results: list[Any] = [None] * len(calls)
    progress(0, len(calls))
    try:
        for done, future in enumerate(as_completed(places), start=1):
            results[places[future]] = future.result()
            progress(done, len(calls))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None  # without the traceback that Ray makes its words of
    finally:
        for future, place in places.items():
            if not future.done():
                ray.cancel(made[place], force=True)
    return results


def _made(call: Call, *shared: Any) -> Any:
    return call.work(*shared, *call.own)
