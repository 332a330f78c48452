"""Ray's directories are gone with their process, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.processes import scratch
from shared.processes.scratch import ray_directory, sweep_ray_directories

_HOLDER = """
from pathlib import Path
import sys
from shared.processes import scratch
scratch._parent = lambda: Path(sys.argv[1])
with scratch.ray_directory() as directory:
    print(directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from what other processes of this machine have."""
    monkeypatch.setattr(scratch, "_parent", lambda: tmp_path)


def test_a_directory_lasts_as_long_as_its_use(tmp_path: Path) -> None:
    with ray_directory() as directory:
        (directory / "session").mkdir()
        sweep_ray_directories()
        assert (directory / "session").is_dir()
        assert directory.parent == tmp_path
    assert not directory.exists()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_that_of_a_killed_process_is_removed_by_the_next(tmp_path: Path, how: signal.Signals) -> None:
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        directory = Path(holder.stdout.readline().strip())
        assert directory.is_dir()
        sweep_ray_directories()
        assert directory.is_dir()  # its process lives
        holder.send_signal(how)
        holder.wait()
    assert directory.is_dir()
    sweep_ray_directories()
    assert not directory.exists()


def test_one_that_is_just_made_is_left_to_its_maker(tmp_path: Path) -> None:
    """Between making it and locking it. One with files and no lock may be of a living process of a version
    that did not lock."""
    fresh, empty, unlocked = (tmp_path / f"ws-ray-{name}" for name in ("fresh", "empty", "unlocked"))
    for directory in (fresh, empty, unlocked):
        directory.mkdir()
    (unlocked / "session").mkdir()
    os.utime(empty, (0, 0))
    os.utime(unlocked, (0, 0))
    sweep_ray_directories()
    assert (fresh.is_dir(), empty.exists(), (unlocked / "session").is_dir()) == (True, False, True)
