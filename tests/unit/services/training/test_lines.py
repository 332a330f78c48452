"""The process speaks JSON lines and nothing else on standard output."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from services.training.lines import Lines, noise_to


def test_each_line_is_one_json_object() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.stage("pretrain")
    lines.progress("pretrain", 3, 10, {"loss": float(np.float32(0.5))})
    lines.log("two\nlines")
    lines.result({"version": "v", "metrics": {"a": float("nan")}, "path": Path("/x"), "n": np.int64(3)})
    lines.error("no")
    said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert said == [
        {"event": "stage", "name": "pretrain"},
        {"event": "progress", "stage": "pretrain", "step": 3, "total": 10, "metrics": {"loss": 0.5}},
        {"event": "log", "message": "two\nlines"},
        {"event": "result", "version": "v", "metrics": {"a": None}, "path": "/x", "n": 3},
        {"event": "error", "message": "no"},
    ]


def test_what_children_and_libraries_print_lands_in_the_log_not_on_stdout(tmp_path: Path) -> None:
    program = f"""
import os, subprocess, sys
from pathlib import Path
from services.training.lines import Lines, noise_to, only_lines_on_stdout
with only_lines_on_stdout() as stdout:
    lines = Lines(stdout)
    with noise_to(Path({str(tmp_path / "log")!r})):
        print("python noise")
        os.write(1, b"descriptor noise\\n")
        subprocess.run([sys.executable, "-c", "print('child noise')"], check=True)
        lines.log("word")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == '{"event": "log", "message": "word"}\n'
    assert done.stderr == ""
    log = (tmp_path / "log").read_text()
    assert {"python noise", "descriptor noise", "child noise"} <= set(log.splitlines())


def test_output_is_whole_again_after_the_noise(tmp_path: Path) -> None:
    before = os.fstat(1).st_ino
    with noise_to(tmp_path / "log"):
        assert os.fstat(1).st_ino != before
    assert os.fstat(1).st_ino == before
