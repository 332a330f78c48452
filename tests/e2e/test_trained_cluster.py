"""A real cluster with a tiny model, trained once for all of these: the README is true to the letter (its
commands run, as printed), and the story is told."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.cluster.state import read_state
from tests.cluster import UpProcess, clean_environment

pytestmark = pytest.mark.timeout(600)

_TEXT = (Path(__file__).parents[2] / "README.md").read_text()
_BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", _TEXT, re.MULTILINE | re.DOTALL)
# `make` targets are CI's to run (.ci/run), all in one place.
_OURS = [(language, code) for language, code in _BLOCKS if not code.startswith("make ")]
_OF_CI = [line for _, code in _BLOCKS if code.startswith("make ") for line in code.splitlines()]
# A model of 20 steps knows little of text and taste; these claims hold for any that adapts.
_OF_ANY_MODEL = {
    "the list changes with three likes",
    "the list changes with a dislike",
    "each list counts the feedback before it",
}


@pytest.mark.parametrize(("language", "code"), _OURS, ids=[code.splitlines()[0][:40] for _, code in _OURS])
def test_a_block_of_the_readme_runs(trained: UpProcess, tmp_path: Path, language: str, code: str):
    """Only the address and the place of the example files differ from what is printed."""
    state = read_state(trained.data_dir)
    assert state is not None
    code = code.replace("127.0.0.1:20051", state.gateway).replace("/tmp/", f"{tmp_path}/")  # noqa: S108
    code = code.replace("127.0.0.1:20055", state.ports.target("training"))
    programs = Path(sys.executable).parent
    command = {"bash": ["bash", "-euo", "pipefail", "-c", code], "python": [sys.executable, "-c", code]}
    done = subprocess.run(
        command[language],
        cwd=trained.directory,
        env={**clean_environment(), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.strip()


def test_the_story_is_told_and_leaves_nothing_behind(trained: UpProcess):
    """Every chapter, and what it added is gone."""
    before = trained.run("items", "list", "-n", "1", "--json").json()["total_items"]
    told = trained.run("story", "--new-items", "5", "--people", "12", "--json")
    claims = {claim["text"]: claim for claim in told.json()["claims"]}
    assert len(claims) == 7
    assert all(claims[text]["holds"] for text in _OF_ANY_MODEL)
    # The exit code is that of the claims, each broken one named.
    broken = [text for text, claim in claims.items() if not claim["holds"]]
    assert told.code == (1 if broken else 0)
    assert all(text in told.err for text in broken)
    for title in ("A stranger", "Who fed the list", "A new item, from its text alone", "5 new items"):
        assert title in told.err
    assert trained.run("items", "list", "-n", "1", "--json").json()["total_items"] == before


def test_ci_runs_the_make_targets_of_the_readme():
    ci = (Path(__file__).parents[2] / ".ci/run").read_text()
    steps = re.search(r"for step in (.*?); do", ci)
    assert steps is not None
    # `make run` is `make demo` that stays up.
    wanted = {line.split()[1].replace("run", "demo") for line in _OF_CI if line.strip()}
    assert wanted <= set(steps.group(1).split())
