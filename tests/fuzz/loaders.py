"""The targets that read bytes, each under atheris in a process of its own, a few side by side."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz.tally import Finding, Tally
from tests.fuzz.targets.base import clean_up_after

# How libFuzzer ends a process.
_TIMED_OUT, _TOO_MUCH_MEMORY = 70, 71
_ARTIFACTS = ("crash-*", "timeout-*", "oom-*", "slow-unit-*")
_POLL_S = 0.1
_STARTS = 20
# Beyond the time for its cases, to import and to end.
_SLACK_S = 120.0


@dataclass(slots=True, eq=False)
class _Child:
    """One target's process, started again where a case ended it."""

    tally: Tally
    cases: int
    seconds: float
    seed: int
    out: Path
    process: subprocess.Popen[bytes] | None = None
    before: Tally = field(init=False)
    starts: int = 0
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        self.before = Tally(self.tally.target, is_rpc=False)

    def start(self) -> None:
        self.starts += 1
        self.began = time.monotonic()
        (self.out / "figures.json").unlink(missing_ok=True)
        command = [
            sys.executable, "-m", "tests.fuzz.guided", self.tally.target,
            "--cases", str(self.cases - self.before.cases), "--seconds", str(self.seconds),
            "--seed", str(self.seed + self.starts), "--out", str(self.out),
        ]  # fmt: skip
        with (self.out / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            )

    def kill(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        clean_up_after(self.process.pid)

    def look(self) -> bool:
        """Takes its figures over; False once it is done."""
        assert self.process is not None
        code = self.process.poll()
        self._take(self._figures())
        stuck = time.monotonic() - self.began > self.seconds + _SLACK_S if self.seconds else False
        if code is None and not stuck:
            return True
        self.kill()
        if code == 0:
            return False
        self._note_end(code)
        self.before = _sum(self.tally)
        if self.starts >= _STARTS or self.before.cases >= self.cases or self.seconds:
            return False
        self.start()
        return True

    def findings(self) -> None:
        """Those that it noted itself."""
        for path in sorted(self.out.glob("finding-*.bin")):
            problem = path.with_suffix(".txt").read_text()
            finding = Finding(self.tally.target, problem, path.read_bytes())
            self.tally.findings.setdefault(finding.kind, finding)

    def _figures(self) -> dict[str, Any]:
        try:
            figures: dict[str, Any] = json.loads((self.out / "figures.json").read_text())
            return figures
        except FileNotFoundError:
            return {}

    def _take(self, figures: dict[str, Any]) -> None:
        if not figures:
            return
        tally, before = self.tally, self.before
        tally.cases = before.cases + figures["cases"]
        tally.accepted = before.accepted + figures["accepted"]
        tally.seconds = before.seconds + figures["seconds"]
        tally.crashes = before.crashes + figures["crashes"]
        tally.slowest_s = max(before.slowest_s, figures["slowest_s"])
        tally.peak_mb = max(before.peak_mb, figures["peak_mb"])
        tally.refused = before.refused.copy()
        tally.refused.update(figures["refused"])

    def _note_end(self, code: int | None) -> None:
        """By libFuzzer, or by a signal; the case lies where libFuzzer put it."""
        left = [path for pattern in _ARTIFACTS for path in self.out.glob(pattern)]
        case = left[0].read_bytes() if left else b""
        for path in left:
            path.unlink()
        why = {_TIMED_OUT: "took too long", _TOO_MUCH_MEMORY: "took too much memory", None: "did not end"}
        tail = (self.out / "log.txt").read_text(errors="replace")[-1500:]
        problem = f"{why.get(code, f'ended the process with {code}')}\n{tail}"
        self.tally.found(Finding(self.tally.target, problem, case, is_hang=code in (_TIMED_OUT, None)))


def fuzz_loaders(
    shares: dict[str, int],
    out: Path,
    *,
    seed: int,
    seconds: float = 0.0,
    side_by_side: int = 2,
    told: Callable[[int], None] = lambda done: None,
) -> Sequence[Tally]:
    """So many cases of each target. seconds: for each, 0 = as long as it takes. told: cases so far."""
    tallies = {name: Tally(name, is_rpc=False) for name in shares}
    waiting = [_Child(tallies[n], cases, seconds, seed, out / n) for n, cases in shares.items() if cases > 0]
    # The longest first, so that none is left over at the end.
    waiting.sort(key=lambda child: child.cases)
    running: list[_Child] = []
    try:
        while waiting or running:
            while waiting and len(running) < side_by_side:
                running.append(waiting.pop())
                running[-1].start()
            time.sleep(_POLL_S)
            for child in list(running):
                if not child.look():
                    running.remove(child)
                    child.findings()
            told(sum(tally.cases for tally in tallies.values()))
    finally:
        for child in running:
            child.kill()
    return list(tallies.values())


def _sum(tally: Tally) -> Tally:
    """As it is now, to add to."""
    return Tally(
        tally.target, False, tally.cases, tally.seconds, tally.accepted, tally.refused.copy(),
        tally.slowest_s, tally.peak_mb, tally.crashes, tally.hangs,
    )  # fmt: skip
