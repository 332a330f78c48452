"""`make breaking` finds what would break callers, and says when it has nothing to compare with."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.contract.source import ROOT
from tests.contract.test_protos import BUF

USER_SERVICE = "protos/warmstart/gateway/v1/user_service.proto"


def git(repository: Path, *args: str) -> None:
    identity = {
        f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", *args], cwd=repository, env=clean | identity, check=True, capture_output=True)


def breaking(repository: Path, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [".ci/breaking", str(BUF)],
        cwd=repository,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with our protos in its only commit, on main."""
    shutil.copytree(
        ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("*.py", "*.pyi", "__pycache__")
    )
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    git(tmp_path, "init", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "contract")
    return tmp_path


def edit(repository: Path, old: str, new: str) -> None:
    file = repository / USER_SERVICE
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_first_commit_has_nothing_to_break(repository: Path) -> None:
    code, said = breaking(repository)
    assert (code, said) == (
        0,
        "breaking: skipped: there is no earlier commit here (first commit or shallow clone)\n",
    )


def test_a_renumbered_field_on_a_branch_is_refused(repository: Path) -> None:
    git(repository, "checkout", "-b", "feature")
    edit(repository, "bool existed = 1;", "bool existed = 2;")
    git(repository, "commit", "-am", "renumber")
    code, said = breaking(repository)
    assert code != 0
    assert 'Previously present field "1" with name "existed"' in said


def test_a_new_field_on_main_is_compatible(repository: Path) -> None:
    edit(repository, "bool existed = 1;", "bool existed = 1;\n  string note = 2;")
    git(repository, "commit", "-am", "add")
    code, said = breaking(repository)
    assert code == 0
    assert "protos/ is compatible with commit" in said


def test_an_unknown_commit_to_compare_with_is_an_error(repository: Path) -> None:
    code, said = breaking(repository, AGAINST="no-such-ref")
    assert code == 1
    assert "AGAINST must name a commit, got 'no-such-ref'" in said
