"""One target under atheris, in a process of its own: which cases are worth keeping, its coverage says.

    python -m tests.fuzz.guided TARGET --cases N --seed N --out DIR

libFuzzer ends the process where a case takes too long or too much memory, or brings Python itself down; what
else is wrong with a case is noted in DIR, and the next one follows. Only our modules are instrumented.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["services", "shared"]):
    from tests.fuzz.targets import target_of
    from tests.fuzz.targets.base import TIMEOUT_S, Target, clean_up, outcome_of
from tests.fuzz.corpus import corpus_of
from tests.fuzz.quiet import quieten
from tests.fuzz.tally import ACCEPTED, Finding

RSS_LIMIT_MB = 2048
_TELL_EVERY_S = 0.5
_OWN_SHARE = 0.7


class Run:
    """Counts, notes what is wrong, ends the process when all is done."""

    def __init__(self, target: Target, cases: int, until: float | None, out: Path) -> None:
        self._target, self._cases, self._until, self._out = target, cases, until, out
        self._done = 0
        self._outcomes: Counter[str] = Counter()
        self._slowest = 0.0
        self._findings: dict[str, Finding] = {}
        self._found = 0
        self._began = self._told = time.monotonic()

    def one(self, case: bytes) -> None:
        began = time.monotonic()
        outcome, problem = outcome_of(self._target, case)
        now = time.monotonic()
        self._done += 1
        self._outcomes[outcome] += 1
        self._slowest = max(self._slowest, now - began)
        if problem:
            self._note(Finding(self._target.name, problem, case))
        over = self._done >= self._cases or (self._until is not None and now > self._until)
        if over or now - self._told > _TELL_EVERY_S:
            self._told = now
            self._tell()
        if over:
            clean_up()
            os._exit(0)  # libFuzzer would go on

    def _note(self, finding: Finding) -> None:
        self._found += 1
        known = self._findings.get(finding.kind)
        if known is None or len(finding.case) < len(known.case):
            self._findings[finding.kind] = finding
            number = list(self._findings).index(finding.kind)
            (self._out / f"finding-{os.getpid()}-{number}.bin").write_bytes(finding.case)
            (self._out / f"finding-{os.getpid()}-{number}.txt").write_text(finding.problem)

    def _tell(self) -> None:
        figures = {
            "cases": self._done,
            "accepted": self._outcomes[ACCEPTED],
            "refused": {n: c for n, c in self._outcomes.items() if n not in (ACCEPTED, "crash")},
            "crashes": self._found,
            "slowest_s": self._slowest,
            "seconds": time.monotonic() - self._began,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
        fresh = self._out / "figures.fresh"
        fresh.write_text(json.dumps(figures))
        fresh.replace(self._out / "figures.json")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--cases", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args()
    quieten()
    with atheris.instrument_imports(include=["services", "shared"]):
        target = target_of(told.target)
    kept, begun = told.out / "corpus", told.out / "begun"
    for directory in (kept, begun):
        directory.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate((*target.seeds(), *corpus_of(target.name).values())):
        (begun / f"{number:04d}").write_bytes(case)
    until = time.monotonic() + told.seconds if told.seconds else None
    run = Run(target, told.cases, until, told.out)

    def mutate(case: bytes, max_size: int, seed: int) -> bytes:
        rng = Random(seed)
        assert target.mutate is not None
        made = target.mutate(case, rng) if rng.random() < _OWN_SHARE else atheris.Mutate(case, max_size)
        return made[:max_size]

    flags = [
        f"-seed={told.seed}", f"-max_len={target.max_bytes}", f"-timeout={TIMEOUT_S:g}", "-verbosity=0",
        f"-rss_limit_mb={RSS_LIMIT_MB}", "-mutate_depth=1",
        f"-artifact_prefix={told.out}/",
    ]  # fmt: skip
    more = {} if target.mutate is None else {"custom_mutator": mutate}
    atheris.Setup([sys.argv[0], *flags, str(kept), str(begun)], run.one, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
