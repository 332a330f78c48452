"""Logs: one event a line, for programs or people."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared.telemetry import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Logging is of the whole process: put it back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_json_lines_carry_service_level_part_and_request() -> None:
    out = io.StringIO()
    logs.configure("gateway", level="info", format="json", out=out)
    log = logs.logger("pipeline")
    with structlog.contextvars.bound_contextvars(request_id="abc-1"):
        log.info("ranked", items=10)
    log.debug("too quiet to be heard")
    (line,) = lines(out)
    timestamp = line.pop("timestamp")
    assert line == {
        "event": "ranked",
        "items": 10,
        "level": "info",
        "part": "pipeline",
        "request_id": "abc-1",
        "service": "gateway",
    }
    assert str(timestamp).endswith("Z")


def test_libraries_warnings_come_out_in_the_same_shape() -> None:
    out = io.StringIO()
    logs.configure("gateway", level="info", format="json", out=out)
    logging.getLogger("grpc").warning("channel %s lost", 7)
    logging.getLogger("grpc").info("chatter is left out")
    (line,) = lines(out)
    assert (line["event"], line["level"], line["service"]) == ("channel 7 lost", "warning", "gateway")


def test_a_traceback_stays_on_its_json_line() -> None:
    out = io.StringIO()
    logs.configure("gateway", format="json", out=out)
    try:
        raise KeyError("cause")
    except KeyError as error:
        logs.logger("x").error("call failed", exc_info=error)
    (line,) = lines(out)
    assert "KeyError" in json.dumps(line)
    assert "test_logs.py" in json.dumps(line)


def test_people_get_plain_lines_without_colours_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    logs.configure("gateway", format="console", out=out)
    logs.logger("x").info("listening", port=20051)
    text = out.getvalue()
    assert "listening" in text
    assert "port=20051" in text
    assert "\x1b" not in text


def test_a_traceback_for_people_shows_no_local_values() -> None:
    out = io.StringIO()
    logs.configure("gateway", format="console", out=out)
    try:
        secret = "what a person did"
        raise KeyError(len(secret))
    except KeyError as error:
        logs.logger("x").error("call failed", exc_info=error)
    assert "KeyError" in out.getvalue()
    assert "what a person did" not in out.getvalue().replace('secret = "what a person did"', "")
