"""What a target is, and how one of its cases is judged."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from shared.errors import InvalidInput, WarmstartError
from tests.fuzz.tally import ACCEPTED

# A case that takes longer hangs.
TIMEOUT_S = 10.0
# The clock of everything that asks for one: cases do the same on every day.
NOW_MS = 1_800_000_000_000

Mutation = Callable[[bytes, Random], bytes]


class Wrong(AssertionError):
    """Something came out that never may."""


@dataclass(frozen=True, slots=True)
class Target:
    """read: takes a case; what it raises of our errors is a refusal, all else is a finding. seeds: cases
    to begin from, beside the corpus; mutate: changes a case knowing what it is, None where bytes are bytes.
    """

    name: str
    read: Callable[[bytes], object]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutation | None = None
    max_bytes: int = 4096


def outcome_of(target: Target, case: bytes) -> tuple[str, str]:
    """(ACCEPTED or the refusal's name, what is wrong or "")."""
    began = time.perf_counter()
    try:
        target.read(case)
        outcome, problem = ACCEPTED, ""
    except WarmstartError as error:
        outcome, problem = type(error).__name__, _says_little(error)
    except Exception as error:
        outcome, problem = "crash", f"{type(error).__name__}: {str(error)[:500]}{_place(error)}"
    seconds = time.perf_counter() - began
    if not problem and seconds > TIMEOUT_S:
        problem = f"took {seconds:.1f} s"
    return outcome, problem


def fails(target: Target, case: bytes) -> str:
    """What is wrong with what comes of a case, "" where nothing is."""
    return outcome_of(target, case)[1]


@cache
def scratch() -> Path:
    """A directory of this process, in memory where there is such a file system; removed at its end."""
    made = tempfile.mkdtemp(prefix=_prefix(os.getpid()), dir=_memory())
    _made.append(made)
    return Path(made)


def clean_up_after(pid: int) -> None:
    """Removes the directory of a process that was killed."""
    for left in _memory().glob(f"{_prefix(pid)}*"):
        shutil.rmtree(left, ignore_errors=True)


def _memory() -> Path:
    memory = Path("/dev/shm")  # noqa: S108
    return memory if memory.is_dir() else Path(tempfile.gettempdir())


def _prefix(pid: int) -> str:
    return f"fuzz-{pid}-"


_made: list[str] = []


def clean_up() -> None:
    """Removes this process's directory."""
    while _made:
        shutil.rmtree(_made.pop(), ignore_errors=True)
    scratch.cache_clear()


def chosen(case: bytes, count: int) -> tuple[int, bytes]:
    """Many targets hold several readers: the first byte chooses one."""
    return (case[0] % count, case[1:]) if case else (0, b"")


def _says_little(error: WarmstartError) -> str:
    """A refusal names the field (or file), the rule and the value."""
    if not str(error):
        return f"{type(error).__name__} says nothing"
    if isinstance(error, InvalidInput):
        for broken in error.violations:
            if not broken.field or not broken.description.startswith(broken.field):
                return f"a refusal does not name its field: {broken.description[:200]!r}"
    return ""


def _place(error: BaseException) -> str:
    """Where it was raised, in our code."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/shared/" in file or "/services/" in file:
            place = f" ({Path(file).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return place
