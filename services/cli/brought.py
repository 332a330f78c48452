"""Events that a person brings along: a file of what they did, kept on their own device.

As `warmstart users export --output FILE` writes it, a JSON array of events, or JSON Lines, one event a line.
An event has the fields of `warmstart.common.v1.Event`; its action may be short, "like".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from warmstart.common.v1 import event_pb2

from services.cli.failures import CommandError
from shared.limits import MAX_CARRIED_EVENTS


def read_brought(path: Path) -> list[event_pb2.Event]:
    """The latest events that a request may carry, oldest first; whose they are is left out, and what was
    merely shown. Raises CommandError that names the file, the event and the rule."""
    events = [_event(path, n, row) for n, row in enumerate(_rows(path), 1)]
    acted = [event for event in events if event.action != event_pb2.ACTION_IMPRESSION]
    if not acted:
        raise CommandError(f"{path} must hold events, got none of something done")
    return sorted(acted, key=lambda event: event.time_ms)[-MAX_CARRIED_EVENTS:]


def _rows(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CommandError(f"{path} must be UTF-8 text") from None
    try:
        whole = json.loads(text)
    except ValueError:
        return _lines(path, text)
    if isinstance(whole, list):
        return whole
    if isinstance(whole, dict) and isinstance(whole.get("events"), list):
        return list(whole["events"])
    return [whole]


def _lines(path: Path, text: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise CommandError(f"{path} line {number} must be JSON ({error}), got {line[:80]!r}") from None
    return rows


def _event(path: Path, number: int, row: Any) -> event_pb2.Event:
    where = f"{path} event {number}"
    if not isinstance(row, Mapping):
        raise CommandError(f"{where} must be a JSON object, got {str(row)[:80]!r}")
    fields = dict(row)
    action = fields.get("action")
    if isinstance(action, str) and not action.startswith("ACTION_"):
        fields["action"] = f"ACTION_{action.upper()}"
    try:
        event = ParseDict(fields, event_pb2.Event())
    except ParseError as error:
        raise CommandError(f"{where} must have the fields of an event: {error}") from None
    event.user_id = ""
    event.ClearField("exposure")
    return event
