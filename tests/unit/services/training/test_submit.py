"""A submitted job, followed: Ray's client, which the tests play, gives the log in pieces as they come."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from services.training import submit
from services.training.lines import Lines
from services.training.submit import Follower
from shared.errors import Unavailable

_RESULT = {"event": "result", "version": "v1"}


def log(*lines: object) -> str:
    return "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)


@dataclass(frozen=True)
class Status:
    over: bool

    def is_terminal(self) -> bool:
        return self.over


@dataclass
class FakeJobs:
    """One job. connections: the pieces of its log that each connection gives; all but the last break off."""

    connections: list[Sequence[str]]
    exit_code: int = 0
    message: str = "Job entrypoint command failed with exit code 1"
    status: str = "FAILED"
    made: int = field(default=0, init=False)

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        pieces = self.connections[self.made]
        self.made += 1
        for piece in pieces:
            yield piece
        if self.made < len(self.connections):
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def get_job_status(self, job: str) -> Status:
        return Status(self.made == len(self.connections))

    def get_job_info(self, job: str) -> Any:
        return type("JobDetails", (), {"driver_exit_code": self.exit_code, "message": self.message})


def followed(jobs: FakeJobs) -> tuple[int, list[dict[str, Any]]]:
    out = io.StringIO()
    follower = Follower(jobs, "job-1", Lines(out))
    follower.follow()
    return follower.outcome(), [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "_TRY_EVERY_S", 0.0)


def test_lines_are_passed_on_and_what_ray_says_between_them_is_not() -> None:
    stage = {"event": "stage", "name": "pretrain"}
    text = log("Runtime env is setting up.", stage, '{"not": "ours"}', _RESULT)
    assert followed(FakeJobs([[text[:40], text[40:]]])) == (0, [stage, _RESULT])


def test_a_connection_that_breaks_is_made_anew_and_no_line_comes_twice() -> None:
    """It gives the log from its beginning; here it broke in the midst of the second line."""
    lines = [{"event": "log", "message": str(n)} for n in range(3)]
    text = log(*lines, _RESULT)
    middle = len(log(lines[0])) + 5
    assert followed(FakeJobs([[text[:middle]], [text[:9], text[9:]]])) == (0, [*lines, _RESULT])


def test_a_job_that_refuses_its_options_ends_as_it_did() -> None:
    error = {"event": "error", "message": "--workers must be at least 1, got 0"}
    assert followed(FakeJobs([[log(error)]], exit_code=2)) == (2, [error])


def test_a_job_that_dies_without_a_word_is_told_with_its_last_ones() -> None:
    code, said = followed(FakeJobs([[log("python: command not found")]], exit_code=127))
    assert code == 1
    assert said == [
        {
            "event": "error",
            "message": "job job-1 ended without a result: Job entrypoint command failed with exit code 1\n"
            "python: command not found",
        }
    ]


def test_a_cluster_out_of_reach_is_said_and_the_job_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "_TRIES", 2)
    with pytest.raises(Unavailable, match="job-1 cannot be followed, it may go on: WebSocket"):
        followed(FakeJobs([[]] * 9))
