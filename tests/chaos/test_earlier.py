"""Which commit a rollout comes from, and what is said where there is none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.chaos.earlier import NoHistory, earlier_commit

_IDENTITY = {
    f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
}


def git(repository: Path, *arguments: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments], cwd=repository, env=clean | _IDENTITY, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(repository: Path, words: str) -> str:
    git(repository, "commit", "--allow-empty", "-m", words)
    return git(repository, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--initial-branch=main")
    return tmp_path


def test_a_branch_is_compared_with_where_it_left_main(repository: Path) -> None:
    left = commit(repository, "one")
    git(repository, "checkout", "-b", "feature")
    commit(repository, "two")
    commit(repository, "three")
    assert earlier_commit("", repository) == left


def test_main_is_compared_with_its_last_tag_else_with_the_commit_before(repository: Path) -> None:
    first = commit(repository, "one")
    second = commit(repository, "two")
    commit(repository, "three")
    assert earlier_commit("", repository) == second
    git(repository, "tag", "v1", first)
    assert earlier_commit("", repository) == first
    assert earlier_commit("main~1", repository) == second


def test_without_history_it_says_so_and_an_unknown_commit_is_refused(repository: Path) -> None:
    with pytest.raises(NoHistory, match="there is no commit yet"):
        earlier_commit("", repository)
    commit(repository, "one")
    with pytest.raises(NoHistory, match=r"no earlier commit here \(first commit or shallow clone\)"):
        earlier_commit("", repository)
    with pytest.raises(ValueError, match="--against must name a commit, got 'nowhere'"):
        earlier_commit("nowhere", repository)
