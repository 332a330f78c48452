"""A data directory with a real store in it, as `warmstart up` lays it out, and the commands on it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.valkey import LocalValkey
from tests.cluster import Done, clean_environment
from tests.ports import free_port
from tests.valkey import RunningValkey


class DataDir:
    """store: runs, and can be killed and started again on what is in the directory then."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = RunningValkey(LocalValkey(root / "valkey", port=free_port()))
        self.store.start()

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "deploy.local.backup", *map(str, arguments)]

    def run(self, *arguments: object) -> Done:
        done = subprocess.run(
            self.command(*arguments),
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def backup(self, file: Path) -> Done:
        """While it serves."""
        return self.run("save", file, "--store-url", self.store.url)

    def restore(self, file: Path, *options: object) -> Done:
        """The store stops for it, and is started again after it."""
        self.store.stop()
        done = self.run("restore", file, "--data-dir", self.root, *options)
        self.store.start()
        return done


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[DataDir]:
    directory = DataDir(tmp_path / "var")
    yield directory
    directory.store.kill()
