"""The whole real cluster for tests: `warmstart up` on free ports in a temporary directory, one a session.

`cluster` has no data; `trained` is the same one with a part of MovieLens-100K and a tiny model in it.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from services.cli.cluster.layout import CLUSTER_MARK
from services.cli.cluster.state import ClusterState, read_state
from shared.datasets import accepted, load

# Generous: the machine may be busy with something else.
DEADLINE_S = 240.0
PEOPLE = 150
_POLL_S = 0.05


def until(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Polls; returns the first true value."""
    deadline = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(_POLL_S)
    return value


@dataclass(frozen=True, slots=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def warmstart(*arguments: str, cwd: Path, timeout_s: float = DEADLINE_S) -> Done:
    """Runs one command to its end, as a person does; WARMSTART_* of the caller's environment stay out."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WARMSTART_")}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200"}


class UpProcess:
    """`warmstart up` in a directory of its own (its data are in `var` below it)."""

    def __init__(self, directory: Path, *options: str, **told: str) -> None:
        """told: variables of the environment."""
        self.directory = directory
        self.log = directory / "up.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.cli", "up", "--free-ports", *options],
                cwd=directory,
                env=clean_environment() | told,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def data_dir(self) -> Path:
        return self.directory / "var"

    def wait_until_up(self) -> ClusterState:
        def state() -> ClusterState | None:
            assert self.process.poll() is None, self.log.read_text()
            return read_state(self.data_dir)

        found: ClusterState = until(state)
        return found

    def run(self, *arguments: str) -> Done:
        """A command against this cluster, found by its state file."""
        return warmstart(*arguments, cwd=self.directory)

    def family(self) -> list[psutil.Process]:
        """Every process of the cluster but `up` itself."""
        me = psutil.Process(self.process.pid)
        return me.children(recursive=True)

    def program(self, name: str) -> psutil.Process | None:
        """The process of a service (or valkey), by its command line."""
        wanted = "valkey-server" if name == "valkey" else f"services.{name}"
        for process in self.family():
            try:
                if any(wanted in part for part in process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def stop(self) -> int:
        """SIGTERM, as a process manager would; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)


def gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether all have ended (a zombie has)."""
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """Running and healthy, without data."""
    up = UpProcess(tmp_path_factory.mktemp("cluster"))
    try:
        up.wait_until_up()
        yield up
    finally:
        family = up.family() if up.process.poll() is None else []
        up.stop()
        until(lambda: gone(family))


@pytest.fixture(scope="session")
def trained(cluster: UpProcess) -> UpProcess:
    """With the first people's MovieLens events imported by file, and a tiny model trained and serving."""
    files = write_subset(cluster.directory, PEOPLE)
    imported = cluster.run("import", *files, "--json")
    assert imported.code == 0, imported.err
    steps = ["--pretrain-steps", "20", "--meta-steps", "20"]
    # In the training service, so that all of that way is walked; `make demo` walks the other.
    where = ["--service", "local", "--promote", "always"]
    trained = cluster.run("train", "--preset", "tiny", *steps, *where, "--json")
    assert trained.code == 0, trained.err

    def adapted() -> bool:
        answer = cluster.run("recommend", "somebody", "--json")
        return answer.code == 0 and answer.json()["rung"] == "RUNG_ADAPTED"

    until(adapted)
    return cluster


def write_subset(directory: Path, people: int) -> list[str]:
    """Events, items and users of the first people as CSV files; the import's options."""
    data = load("movielens-100k")
    users = [user for user in accepted(data.users()) if int(user.user_id) <= people]
    chosen = {user.user_id for user in users}
    events = [e for e in accepted(data.events()) if e.user_id in chosen]
    items = list(accepted(data.items()))
    _write(
        directory / "events.csv",
        ("user", "item", "action", "value", "time"),
        [(e.user_id, e.item_id, "rating", e.value, e.time_ms) for e in events],
    )
    _write(
        directory / "items.csv",
        ("item", "title", "categories", "year"),
        [(i.item_id, i.title, "|".join(i.categories), i.attributes.get("year", "")) for i in items],
    )
    names = sorted({name for user in users for name in user.attributes})
    _write(
        directory / "users.csv",
        ("user", *names),
        [(u.user_id, *(u.attributes.get(n, "") for n in names)) for u in users],
    )
    attributes = [f"users.attribute.{n}={n}" for n in names]
    mapping = ",".join(["items.attribute.year=year", *attributes])
    return ["--events", "events.csv", "--items", "items.csv", "--users", "users.csv", "--map", mapping]


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)


__all__ = ["CLUSTER_MARK", "Done", "UpProcess", "cluster", "gone", "trained", "until", "warmstart"]
