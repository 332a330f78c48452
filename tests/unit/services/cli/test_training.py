"""The training process, followed: a small program in its place says what the real one would."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console
from warmstart.training.v1 import training_service_pb2 as pb

from services.cli.failures import CommandError
from services.cli.training.child import resume_command, run_directory, run_training
from services.cli.training.clients import TrainingClient
from services.cli.training.following import _follow, result_of
from services.cli.training.printing import fitting, print_report, where_published
from services.cli.training.progress import StageBars
from services.training import command
from services.training.runs import Run
from shared.errors import Unavailable, WarmstartError
from shared.processes import trainer

REPORTS = sorted(Path("reports").glob("*/*/report.md"))


def saying(*lines: dict[str, Any], then: str = "") -> tuple[str, ...]:
    """A program that prints lines, then does something."""
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return ("-c", f"import sys,time\nsys.stdout.write({text!r})\nsys.stdout.flush()\n{then}")


def test_the_result_line_comes_back_and_the_others_are_handed_on():
    seen: list[dict[str, Any]] = []
    lines = [{"event": "stage", "name": "pretrain"}, {"event": "log", "message": "run /somewhere"}]
    result = run_training([], seen.append, saying(*lines, {"event": "result", "version": "v1"}))
    assert seen == lines
    assert result["version"] == "v1"
    assert run_directory(lines[1]) == Path("/somewhere")
    assert run_directory(lines[0]) is None


def test_an_error_line_is_the_message():
    program = saying({"event": "error", "message": "too few people"}, then="sys.exit(1)")
    with pytest.raises(CommandError, match=r"^too few people$"):
        run_training([], lambda _: None, program)


def test_a_death_without_a_word_shows_the_last_words():
    program = saying(then="sys.stderr.write('out of memory'); sys.exit(9)")
    with pytest.raises(
        CommandError, match=r"ended with code 9 and no result; its last words:\nout of memory"
    ):
        run_training([], lambda _: None, program)


def test_a_killed_process_is_said_with_its_log_and_how_to_go_on(tmp_path):
    """Killed with -9 it has no last words; its log may say what it did."""
    began = {"event": "log", "message": f"run {tmp_path}"}
    program = saying(began, then="import os,signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(CommandError) as failed:
        run_training(["train"], lambda _: None, program)
    assert str(failed.value).splitlines() == [
        "the training process was killed by SIGKILL",
        f"log: {tmp_path}/logs/training.log",
        f"go on with: warmstart train --resume {tmp_path}",
    ]
    assert trainer.LOG.name == command.LOG
    assert Run(tmp_path).logs == tmp_path / trainer.LOG.parent


def test_a_run_on_a_cluster_is_gone_on_with_there():
    run = Path("/shared/runs/x")
    assert resume_command(["train", "--workers", "2"], run) == "warmstart train --resume /shared/runs/x"
    assert (
        resume_command(["train", "--address=http://head:8265"], run)
        == "warmstart train --address http://head:8265 --resume /shared/runs/x"
    )
    assert resume_command(["train", "--address=auto"], run) == "warmstart train --resume /shared/runs/x"


def test_a_line_that_is_no_json_is_refused():
    with pytest.raises(CommandError, match="a line that is not JSON: 'hello"):
        run_training([], lambda _: None, ("-c", "print('hello')"))


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_interrupt_stops_the_process_and_its_children(tmp_path, monkeypatch, stubborn):
    """First by SIGINT; one that does not listen is killed with its family."""
    monkeypatch.setattr("services.cli.training.child.STOP_S", 1.0 if stubborn else 30.0)
    note = tmp_path / "stopped"
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN)" if stubborn else "pass"
    then = (
        "import json,os,pathlib,signal,subprocess\n"
        f"{ignore}\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "said = json.dumps({'event': 'log', 'message': f'{os.getpid()} {child.pid}'})\n"
        "try:\n    print(said, flush=True)\n    time.sleep(60)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(note)!r}).touch()\n"
    )
    family: list[psutil.Process] = []

    def interrupt(line: dict[str, Any]) -> None:
        family.extend(psutil.Process(int(pid)) for pid in line["message"].split())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training([], interrupt, saying(then=then))
    _, alive = psutil.wait_procs(family, timeout=20)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
    assert note.exists() is not stubborn


@pytest.mark.parametrize(
    ("result", "where"),
    [
        ({"domain": "default", "registry": "var/registry"}, ""),
        ({"domain": "default"}, ""),
        (
            {"domain": "shop", "registry": "/data/shop/registry"},
            " --registry /data/shop/registry --domain shop",
        ),
    ],
)
def test_a_hint_means_the_registry_that_was_published_into(result, where):
    """A resumed run has noted its own, whatever --data-dir is now."""
    assert where_published(result, Path("var")) == where
    here = {"domain": "default", "registry": str(Path("my data/registry").resolve())}
    assert where_published(here, Path("my data")) == " --data-dir 'my data'"


def failed(**fields: Any) -> pb.Training:
    return pb.Training(training_id="t1", state=pb.TRAINING_STATE_FAILED, error="no events", **fields)


def test_a_training_of_the_service_that_failed_says_how_to_go_on_where_that_can_help():
    with pytest.raises(CommandError) as ended:
        result_of(failed(), " --service here:1")
    assert str(ended.value) == "no events\ngo on with: warmstart train --resume t1 --service here:1"
    with pytest.raises(CommandError, match=r"^no events$"):
        result_of(failed(settings_refused=True), " --service here:1")


@dataclass(frozen=True, slots=True)
class Leaves(TrainingClient):
    """A service that goes away, after some updates of a training."""

    updates: tuple[pb.WatchTrainingResponse, ...] = ()

    async def watch(self, training_id: str) -> AsyncGenerator[pb.WatchTrainingResponse, None]:
        for update in self.updates:
            yield update
        raise Unavailable("connection reset")


@pytest.mark.parametrize("was_there", [True, False])
def test_a_service_that_goes_away_under_a_training_is_said_with_how_to_go_on(was_there):
    running = pb.WatchTrainingResponse(training=pb.Training(training_id="t1"))
    client = Leaves("here:1", "shop", None, (running,) if was_there else ())
    with StageBars(Console(file=io.StringIO())) as bars, pytest.raises(WarmstartError) as gone:
        asyncio.run(_follow(client, "t1", bars))
    said = str(gone.value)
    assert ("warmstart trainings watch t1 --service here:1 --domain shop" in said) is was_there
    assert (
        said.endswith("go on with: warmstart train --resume t1 --service here:1 --domain shop") is was_there
    )


def test_stages_beside_each_other_keep_their_bars():
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    with StageBars(console) as bars:
        for name in ("pretrain a", "pretrain b"):
            bars.show({"event": "stage", "name": name, "beside": True})
        for step in (1, 2):
            for name in ("pretrain a", "pretrain b"):
                bars.show({"event": "progress", "stage": name, "step": step, "total": 4})
        assert {task.description: task.completed for task in bars._progress.tasks} == {
            "pretrain a": 2,
            "pretrain b": 2,
        }
        bars.show({"event": "stage", "name": "evaluate"})
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("4/4") == 2


def test_where_there_is_no_terminal_a_stage_is_told_as_it_begins():
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    with StageBars(console) as bars:
        for name in ("pretrain", "meta-train"):
            bars.show({"event": "stage", "name": name})
            bars.show({"event": "progress", "stage": name, "step": 1, "total": 4})
        assert console.file.getvalue() == "pretrain …\nmeta-train …\n"  # type: ignore[attr-defined]


def test_each_stage_has_its_bar_with_its_metrics():
    console = Console(file=io.StringIO(), width=160, force_terminal=False)
    with StageBars(console) as bars:
        bars.show({"event": "stage", "name": "pretrain"})
        bars.show(
            {
                "event": "progress",
                "stage": "pretrain",
                "step": 3,
                "total": 4,
                "metrics": {"loss": 2.5, "x": None},
            }
        )
        bars.show({"event": "log", "message": "a [bracket]"})
        bars.show({"event": "stage", "name": "evaluate"})
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "a [bracket]" in shown
    assert "pretrain" in shown
    assert "loss 2.5" in shown
    assert "4/4" in shown  # done with the next stage


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize(
    "path", sorted(Path("reports").glob("*/*/report.md")), ids=lambda path: path.parent.name
)
def test_a_printed_report_cuts_no_cell_off(path: Path, width: int) -> None:
    """Tables are printed in parts where the terminal is too narrow; none of their numbers is lost."""
    text = path.read_text()
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    print_report(text, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown.replace("[…, …]", "")
    tables = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    for number in set(re.findall(r"[-+]?\d+\.\d+", tables)):
        assert number in shown


def test_a_wide_table_is_printed_in_parts_that_begin_with_its_first_column() -> None:
    """Of 30 cells' width: `k` and a column of 12 leave room for one more of 12, not for two."""
    lines = ["| k | aaaaaaaaaaaa | bbbbbbbbbbbb | c |", "|---|---|---|---|", "| 1 | 2 | 3 | 4 |", "words"]
    narrow = ["| k | aaaaaaaaaaaa |", "| --- | --- |", "| 1 | 2 |", "", "| k | bbbbbbbbbbbb | c |"]
    assert list(fitting(lines, 30)) == [*narrow, "| --- | --- | --- |", "| 1 | 3 | 4 |", "words"]
    assert next(fitting(lines, 40)) == lines[0]
