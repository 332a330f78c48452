"""Servers as an operator starts them, one by one, with what they say on standard error."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.cluster import clean_environment

LIMIT_S = 90.0
_POLL_S = 0.02
MODULES = {
    "features": "services.features",
    "adaptation": "services.adaptation",
    "scoring": "services.scoring",
    "gateway": "services.gateway",
    "training": "services.training.service",
}


class Started:
    """One process and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    async def says(self, words: str, *, within_s: float = LIMIT_S) -> str:
        """The first line of the log with these words; AssertionError where the process ends without it."""
        return (await self.lines(words, within_s=within_s))[0]

    async def lines(self, words: str, *, within_s: float = LIMIT_S) -> list[str]:
        until = time.monotonic() + within_s
        while True:
            ended = self.process.poll() is not None
            found = [line for line in self.said.splitlines() if words in line]
            if found:
                return found
            assert not ended, f"ended without {words!r}: {self.said[-2000:]}"
            assert time.monotonic() < until, f"not within {within_s:g} s: {words!r} in {self.said[-2000:]}"
            await asyncio.sleep(_POLL_S)

    async def ends(self, *, within_s: float = LIMIT_S) -> int:
        """Its exit code."""
        until = time.monotonic() + within_s
        while (code := self.process.poll()) is None:
            assert time.monotonic() < until, f"still runs after {within_s:g} s: {self.said[-2000:]}"
            await asyncio.sleep(_POLL_S)
        return code

    async def ended_by(self, number: signal.Signals, *, within_s: float = LIMIT_S) -> int:
        self.process.send_signal(number)
        return await self.ends(within_s=within_s)


@asynccontextmanager
async def started(directory: Path, service: str, **settings: object) -> AsyncIterator[Started]:
    """`python -m` of a service; settings by their names without prefix. Killed at the end where it runs."""
    environment = clean_environment() | named(service, settings) | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    log = directory / f"{service}-{time.monotonic_ns()}.log"
    process = _begin(service, environment, log)
    try:
        yield Started(process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def _begin(service: str, environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", MODULES[service]],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )


def named(service: str, settings: Mapping[str, object]) -> dict[str, str]:
    return {f"WARMSTART_{service.upper()}_{name.upper()}": str(value) for name, value in settings.items()}
