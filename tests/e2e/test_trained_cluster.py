"""A real cluster with a tiny model, trained once for all of these: the README is true to the letter (its
commands run, as printed), the story is told, and what commands print, return and refuse."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from services.cli.cluster.state import read_state
from tests.cluster import PEOPLE, UpProcess, clean_environment

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


def _block(language: str, code: str) -> ParameterSet:
    # A second cluster; test_tls_cluster keeps the short form of it.
    marks = pytest.mark.slow if "warmstart up" in code else ()
    return pytest.param(language, code, id=code.splitlines()[0][:40], marks=marks)


@pytest.mark.parametrize(("language", "code"), [_block(*block) for block in _OURS])
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


def test_importing_the_same_files_again_changes_nothing(trained: UpProcess):
    mapping = ["--map", "items.attribute.year=year"]
    again = trained.run("import", "--events", "events.csv", "--items", "items.csv", *mapping, "--json")
    assert again.code == 0, again.err
    kinds = again.json()["kinds"]
    assert kinds["events"]["duplicate"] == kinds["events"]["read"] > 1000
    assert kinds["items"] == {"read": 1682, "recorded": 0, "updated": 0, "duplicate": 1682, "rejected": 0}


def test_a_file_without_rows_is_refused(trained: UpProcess):
    (trained.directory / "header.csv").write_text("user,item,action,value,time\n")
    empty = trained.run("import", "--events", "header.csv", "--json")
    assert empty.code == 1
    assert "header.csv must hold rows, got none" in empty.err


def test_bad_rows_fail_the_import_unless_allowed_and_are_all_written(trained: UpProcess):
    path = trained.directory / "bad.csv"
    path.write_text(
        "user,item,action,value,time\n"
        "import-bad,1,like,,1600000000\n"
        "import-bad,1,adore,,1600000000\n"
        ",1,like,,1600000000\n"
    )
    failed = trained.run("import", "--events", "bad.csv")
    assert failed.code == 1
    assert "66.7% of the events could not be stored (allowed: 1.0%)" in failed.err
    assert "Traceback" not in failed.err
    (rejects,) = (trained.data_dir / "rejects").glob("default-bad.csv-*.jsonl")
    rows = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(r["row"], r["raw"]) for r in rows] == [
        (2, "import-bad,1,adore,,1600000000"),
        (3, ",1,like,,1600000000"),
    ]
    allowed = trained.run("import", "--events", "bad.csv", "--allow-bad-rows", "--json")
    assert allowed.code == 0
    assert allowed.json()["kinds"]["events"] == {
        "read": 3,
        "recorded": 0,
        "updated": 0,
        "duplicate": 1,
        "rejected": 2,
    }
    assert trained.run("users", "delete", "import-bad", "--yes").code == 0


def test_a_like_is_in_the_next_list(trained: UpProcess):
    before = trained.run("recommend", "cli-person", "-n", "5", "--json").json()
    liked = before["items"][0]["item_id"]
    assert trained.run("feedback", "cli-person", liked, "like", "--event-id", "one").code == 0
    after = trained.run("recommend", "cli-person", "-n", "5", "--json").json()
    assert (after["rung"], after["shots_used"]) == ("RUNG_ADAPTED", 1)
    assert liked not in [i["item_id"] for i in after["items"]]
    again = trained.run("feedback", "cli-person", liked, "like", "--event-id", "one")
    assert again.out.strip() == "stored before: one"
    shown = trained.run("users", "export", "cli-person", "--json").json()
    assert [e["event_id"] for e in shown["events"] if e["action"] == "ACTION_LIKE"] == ["one"]
    assert trained.run("users", "delete", "cli-person", "--yes").out.strip() == "erased"
    assert trained.run("users", "export", "cli-person").code == 1


def test_lists_are_tables_for_people(trained: UpProcess):
    shown = trained.run("recommend", "1", "-n", "3")
    assert shown.code == 0, shown.err
    assert "For 1" in shown.out
    assert "rung adapted" in shown.out
    alike = trained.run("similar", "50", "-n", "3")
    assert "Alike to 50" in alike.out
    assert len(trained.run("similar", "50", "-n", "3", "--json").json()["items"]) == 3


def test_items_are_added_found_and_deleted(trained: UpProcess):
    added = trained.run(
        "items", "add", "cli-item", "The [odd] one", "--category", "Drama", "--attribute", "a=b"
    )
    assert (added.code, "created" in added.out) == (0, True)
    found = trained.run("items", "get", "cli-item", "--json").json()["items"][0]
    assert (found["title"], found["categories"], found["attributes"]) == (
        "The [odd] one",
        ["Drama"],
        {"a": "b"},
    )
    assert "The [odd] one" in trained.run("items", "get", "cli-item").out
    missing = trained.run("items", "get", "cli-item", "no-such")
    assert (missing.code, "unknown items: no-such" in missing.err) == (1, True)
    assert trained.run("items", "delete", "cli-item").code == 0
    assert trained.run("items", "delete", "cli-item").code == 1


def test_people_are_related_and_merged(trained: UpProcess):
    assert trained.run("users", "relate", "cli-a", "cli-b", "--kind", "friend").out.strip() == "stored"
    assert trained.run("users", "relate", "cli-a", "cli-a").code == 1
    assert trained.run("feedback", "cli-visitor", "50", "like").code == 0
    merged = trained.run("users", "merge", "cli-visitor", "cli-a", "--yes", "--json")
    assert merged.json() == {"moved_events": 1}
    for user in ("cli-a", "cli-b"):
        assert trained.run("users", "delete", user, "--yes").code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recommend", ""], "user_id must be 1..256 bytes, got ''"),
        (["recommend", "u", "-n", "1000000"], "page_size must be 1..500, got 1000000"),
        (["recommend", "u", "--diversity", "nan"], "diversity"),
        (["recommend", "u", "--domain", "elsewhere"], "domain"),
        (["feedback", "u", "50", "rating", "--value", "9"], "value"),
    ],
)
def test_bad_input_is_said_by_field_and_rule_without_a_traceback(trained: UpProcess, arguments, said):
    failed = trained.run(*arguments)
    assert failed.code == 1
    assert said in failed.err
    assert "Traceback" not in failed.err


def test_models_are_listed_shown_promoted_and_rolled_back(trained: UpProcess):
    models = trained.run("models", "list", "--json").json()
    assert [m["alias"] for m in models] == ["champion"]
    version = models[0]["version"]
    assert trained.run("models", "show", "--json").json()["version"] == version
    assert version in trained.run("models", "list").out
    assert trained.run("models", "promote", version, "--json").json()["champion"] == version
    unknown = trained.run("models", "promote", "no-such")
    assert (unknown.code, "`warmstart models list` shows them" in unknown.err) == (1, True)
    nothing = trained.run("models", "rollback")
    assert (nothing.code, "no earlier champion" in nothing.err) == (1, True)


def test_bench_measures_finds_nothing_stale_and_leaves_nobody_behind(trained: UpProcess):
    done = trained.run("bench", "--seconds", "0.5", "--callers", "4", "--checks", "40", "--json")
    assert done.code == 0, done.err
    report = done.json()
    assert report["staleness"]["checks"] == 40
    assert report["staleness"]["stale"] == 0
    alone, together = report["latency"]
    assert (alone["callers"], together["callers"]) == (1, 4)
    assert 0 < alone["p50_ms"] <= alone["p95_ms"] <= alone["p99_ms"]
    assert alone["errors"] == together["errors"] == 0
    assert [empty["callers"] for empty in report["empty"]] == [1, 4]
    assert 0 < report["empty"][0]["p50_ms"] < alone["p50_ms"]  # a list takes three such calls and its work


def test_training_that_cannot_work_says_why(trained: UpProcess):
    failed = trained.run("train", "--resume", "no-such-run")
    assert failed.code == 1
    assert "--resume must be a run's directory" in failed.err
    assert "Traceback" not in failed.err


def test_the_imported_people_have_their_attributes(trained: UpProcess):
    shown = trained.run("users", "export", str(PEOPLE), "--json").json()
    assert shown["user"]["attributes"]["gender"] in {"M", "F"}


def test_a_history_is_taken_home_and_brought_along(trained: UpProcess):
    """What was exported gives the list of what is stored; a profile's attributes stay at home."""
    exported = trained.run("users", "export", "7", "--output", "7.json")
    assert exported.code == 0, exported.err
    held = json.loads((trained.directory / "7.json").read_text())
    done = [e for e in held["events"] if e["action"] != "ACTION_IMPRESSION"]
    assert len(done) == int(held["total_events"]) > 100
    stored = trained.run("recommend", "7", "--exploration", "0", "-n", "20", "--json").json()
    brought = trained.run(
        "recommend", "--events", "7.json", "--exploration", "0", "-n", "20", "--json"
    ).json()
    assert (brought["rung"], brought["shots_used"]) == ("RUNG_ADAPTED", stored["shots_used"])
    ids = [{item["item_id"] for item in answer["items"]} for answer in (stored, brought)]
    assert len(ids[0] & ids[1]) >= 10
    titled = trained.run("recommend", "--events", "7.json", "-n", "3")
    assert "For somebody of whom nothing is kept" in titled.out
