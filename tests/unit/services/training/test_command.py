"""One run from the outside: its lines, its exit code, what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def refused(directory: Path, *source: str) -> str:
    """Runs a training whose data are refused; returns what it says. Its directory is `directory`/run."""
    command = [sys.executable, "-m", "services.training", "train", *source, "--run-dir", "run"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2), done.stderr
    return str(json.loads(done.stdout.splitlines()[-1])["message"])


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (["--dataset", "nope"], "nope"),
        (["--dataset", "lastfm"], "needs --path DIR"),
        (["--events", "header.csv"], "header.csv must hold rows, got none"),
        (["--events", "none.csv"], "--events must be a file that exists, got 'none.csv'"),
        (
            ["--dataset", "movielens-100k", "--adapter", "finetune"],
            "--adapter must be one that can be exported",
        ),
        (
            ["--dataset", "movielens-100k", "--adapter", "gradient", "--adapter-settings", '{"steps": 0}'],
            "adapter_settings['steps'] must be at least 1 and at most 50, got 0",
        ),
    ],
)
def test_a_run_whose_data_are_refused_leaves_no_directory(
    tmp_path: Path, source: list[str], said: str
) -> None:
    (tmp_path / "header.csv").write_text("user,item,action,time\n")
    assert said in refused(tmp_path, *source)
    assert [path.name for path in tmp_path.iterdir()] == ["header.csv"]


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--dataset", "movielens-100k", "--workers", "0"], True),
        (["--events", "header.csv"], False),
    ],
)
def test_an_error_line_says_whether_the_settings_are_what_is_wrong(
    tmp_path: Path, arguments: list[str], settings: bool
) -> None:
    """Resuming keeps them; data can be mended."""
    (tmp_path / "header.csv").write_text("user,item,action,time\n")
    command = [sys.executable, "-m", "services.training", "train", *arguments, "--run-dir", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout.splitlines()[-1]).get("settings", False) is settings


def test_a_directory_that_was_there_before_keeps_what_it_holds(tmp_path: Path) -> None:
    mine = tmp_path / "run" / "logs" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.touch()
    refused(tmp_path, "--dataset", "nope")
    assert mine.exists()
