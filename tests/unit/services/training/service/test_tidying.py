"""Copies of events go after their days; what trains, and what was published, stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client import Counter

from services.training.runs import Run, new_run, note_result
from services.training.service.tidying import KeptDays, Tidying, tidied_counter

DAY_S = 24 * 3600
NOW_S = 1_800_000_000.0


def a_run(root: Path, name: str, *, days_old: float, finished: bool = True) -> Run:
    """With a snapshot, prepared sequences and a checkpoint; everything last written so long ago."""
    run = new_run(root / name, {"command": "train"})
    for file in (
        run.snapshot / "events" / "shard-0000.parquet",
        run.prepared / "items.parquet",
        run.jobs / "w.npz",
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("bytes")
    if finished:
        note_result(run, {})
    for path in (run.directory, *run.directory.rglob("*")):
        os.utime(path, (NOW_S - days_old * DAY_S,) * 2)
    return run


def tidied(
    root: Path, *, spared: set[str] = frozenset(), counter: Counter | None = None, **days: int
) -> list[str]:  # type: ignore[assignment]
    return Tidying(root, KeptDays(**days), counter or tidied_counter()).tidy(NOW_S, spared)


def test_snapshots_go_after_their_days_and_the_rest_of_a_finished_run_stays(tmp_path: Path) -> None:
    old, young = a_run(tmp_path, "old", days_old=31), a_run(tmp_path, "young", days_old=29)
    counter = tidied_counter()
    assert tidied(tmp_path, snapshots=30, counter=counter) == []
    assert (old.snapshot.exists(), old.prepared.exists(), old.jobs.exists()) == (False, False, True)
    assert (young.snapshot.exists(), young.prepared.exists()) == (True, True)
    assert counter.labels("snapshot")._value.get() == 1
    tidied(tmp_path, snapshots=30, counter=counter)
    assert counter.labels("snapshot")._value.get() == 1, "there is nothing left to remove"


def test_of_an_unfinished_run_checkpoints_go_too_as_they_fit_no_other_data(tmp_path: Path) -> None:
    run = a_run(tmp_path, "interrupted", days_old=31, finished=False)
    tidied(tmp_path, snapshots=30)
    assert not run.jobs.exists()
    assert (run.directory / "run.json").exists(), "it can be resumed, from the start"


def test_runs_go_as_a_whole_after_theirs(tmp_path: Path) -> None:
    a_run(tmp_path, "old", days_old=91)
    a_run(tmp_path, "young", days_old=89)
    (tmp_path / "no run").mkdir()
    os.utime(tmp_path / "no run", (0, 0))
    assert tidied(tmp_path, runs=90) == ["old"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["no run", "young"]


@pytest.mark.parametrize("days", [{"snapshots": 1}, {"runs": 1}])
def test_what_trains_stays_however_old(tmp_path: Path, days: dict[str, int]) -> None:
    """Here, or by a command line that writes into its run."""
    spared, elsewhere = a_run(tmp_path, "spared", days_old=9), a_run(tmp_path, "elsewhere", days_old=9)
    elsewhere.progress.write_text("{}")
    os.utime(elsewhere.progress, (NOW_S - 60, NOW_S - 60))
    assert tidied(tmp_path, spared={"spared"}, **days) == []
    assert spared.snapshot.exists()
    assert elsewhere.snapshot.exists()


def test_a_directory_that_is_linked_to_is_not_emptied(tmp_path: Path) -> None:
    elsewhere = a_run(tmp_path / "elsewhere", "kept", days_old=100)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(elsewhere.directory, target_is_directory=True)
    assert tidied(tmp_path / "runs", runs=1, snapshots=1) == []
    assert elsewhere.snapshot.exists()
