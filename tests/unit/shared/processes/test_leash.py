"""A program on a leash ends with the one that started it."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest

from shared.processes import leash
from shared.processes.family import has_ended

_DEADLINE_S = 20.0


def until(condition) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_leashed_program_dies_with_its_parent(tmp_path):
    """Killed with -9, the parent has no chance to stop it."""
    note = tmp_path / "pid"
    sleeper = (
        f"import os,pathlib,time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    script = (
        "import subprocess,sys; "
        f"subprocess.run([sys.executable, {leash.__file__!r}, sys.executable, '-c', {sleeper!r}])"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        until(lambda: note.exists() and note.read_text())
        child = psutil.Process(int(note.read_text()))
    finally:
        parent.kill()
        parent.wait()
    until(lambda: has_ended(child))


def test_the_leash_becomes_the_program():
    program = [sys.executable, "-c", "import sys; sys.exit(7)"]
    done = subprocess.run([sys.executable, leash.__file__, "--term", *program], check=False)
    assert done.returncode == 7
