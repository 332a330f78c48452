"""The local cluster's supervisor lives through a full disk, here by a limit on the size of files."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from supervisor.loggers import LogRecord

from deploy.local.run_supervisor import LossyLog

_ROOM = 4096
_TALK = "i=0\nimport time\nwhile True: print('line', i, 'x' * 900, flush=True); i += 1; time.sleep(0.005)"
_CONFIG = """\
[supervisord]
logfile=%(here)s/supervisord.log
pidfile=%(here)s/supervisord.pid
[program:talker]
command=%(ENV_PYTHON)s %(here)s/talk.py
stdout_logfile=%(here)s/talker.log
stdout_logfile_maxbytes=10000
stdout_logfile_backups=1
"""


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of other processes are Linux's")
def test_logs_of_a_full_disk_lose_lines_and_go_on_within_their_bounds_once_there_is_room(tmp_path: Path):
    (tmp_path / "talk.py").write_text(_TALK)
    config = tmp_path / "supervisord.conf"
    config.write_text(_CONFIG)
    words, log = tmp_path / "words", tmp_path / "talker.log"
    words.write_bytes(b"." * _ROOM)
    command = [
        sys.executable,
        "-m",
        "deploy.local.run_supervisor",
        "--nodaemon",
        "--silent",
        "-c",
        str(config),
    ]
    told = {**os.environ, "PYTHON": sys.executable}
    with words.open("ab") as out, subprocess.Popen(command, env=told, stdout=out, stderr=out) as supervisor:
        try:
            process = psutil.Process(supervisor.pid)
            process.rlimit(resource.RLIMIT_FSIZE, (_ROOM, resource.RLIM_INFINITY))
            until(lambda: log.exists() and log.stat().st_size == _ROOM)
            [talker] = process.children()
            # more than a buffer's worth of lines that find no room, with the rotation that is due in it
            read = talker.io_counters().write_chars
            until(lambda: talker.io_counters().write_chars > read + 50_000)
            assert log.stat().st_size <= _ROOM
            process.rlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            until(lambda: (tmp_path / "talker.log.1").exists())
            assert [talker] == process.children()
            assert log.stat().st_size < 20_000
        finally:
            supervisor.terminate()
            supervisor.wait(20)


def test_a_rotation_that_fails_is_tried_again_with_the_next_line(tmp_path: Path):
    log = tmp_path / "log"
    log.symlink_to("/dev/full")  # each rotation flushes what found no room, and fails
    handler = LossyLog(str(log), maxBytes=10, backupCount=1)
    handler.emit(LogRecord(20, "a line that is too long"))
    handler.emit(LogRecord(20, "another one of those"))
    log.unlink()
    for line in ("the last one that is lost\n", "one that is written\n", "and this\n"):
        handler.emit(LogRecord(20, line))
    handler.close()
    assert (tmp_path / "log.1").read_text() == "one that is written\n"
    assert log.read_text() == "and this\n"
