"""Files with people's data: those that they bring, those that are written for them, those that name them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from warmstart.common.v1 import event_pb2
from warmstart.gateway.v1 import user_service_pb2 as pb

from services.cli import output
from services.cli.app import main
from services.cli.brought import read_brought
from services.cli.commands.users import write_private
from services.cli.failures import CommandError
from services.cli.importing.rejects import drop_old, naming
from shared.limits import MAX_CARRIED_EVENTS

LIKE, VIEW, IMPRESSION = event_pb2.ACTION_LIKE, event_pb2.ACTION_VIEW, event_pb2.ACTION_IMPRESSION


def file_of(directory: Path, text: str) -> Path:
    file = directory / "history.json"
    file.write_text(text, encoding="utf-8")
    return file


def test_what_was_exported_can_be_brought_without_whose_it_was(tmp_path: Path) -> None:
    exposure = event_pb2.Exposure(list_id="list", propensity=0.5)
    events = [
        event_pb2.Event(user_id="ann", item_id="b", action=LIKE, time_ms=2, event_id="2", exposure=exposure),
        event_pb2.Event(user_id="ann", item_id="a", action=VIEW, time_ms=1, event_id="1"),
        event_pb2.Event(user_id="ann", item_id="c", action=IMPRESSION, time_ms=3, exposure=exposure),
    ]
    file = file_of(tmp_path, output.json_text(pb.ExportUserResponse(events=events)))
    assert read_brought(file) == [
        event_pb2.Event(item_id="a", action=VIEW, time_ms=1, event_id="1"),
        event_pb2.Event(item_id="b", action=LIKE, time_ms=2, event_id="2"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[{"item_id": "a", "action": "like"}, {"item_id": "b", "action": "ACTION_LIKE"}]',
        '{"item_id": "a", "action": "like"}\n\n{"item_id": "b", "action": "Like"}\n',
    ],
)
def test_arrays_and_lines_of_events_can_be_brought(tmp_path: Path, text: str) -> None:
    assert [(e.item_id, e.action) for e in read_brought(file_of(tmp_path, text))] == [
        ("a", LIKE),
        ("b", LIKE),
    ]


def test_of_more_than_a_request_may_carry_the_latest_are_brought(tmp_path: Path) -> None:
    rows = [{"item_id": f"i{n}", "action": "like", "time_ms": n} for n in range(MAX_CARRIED_EVENTS + 7)]
    brought = read_brought(file_of(tmp_path, json.dumps(rows)))
    assert (len(brought), brought[0].item_id) == (MAX_CARRIED_EVENTS, "i7")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"item_id": "a"}\nno json', "line 2 must be JSON"),
        ('[{"item_id": "a", "action": "adore"}]', "event 1 must have the fields of an event"),
        ('[{"item_id": "a", "action": "like"}, 7]', "event 2 must be a JSON object, got '7'"),
        ('[{"item": "a"}]', "event 1 must have the fields of an event"),
        ("[]", "must hold events"),
        ('[{"item_id": "a", "action": "impression"}]', "must hold events"),
    ],
)
def test_a_file_that_brings_no_events_is_refused_by_its_place_and_rule(
    tmp_path: Path, text: str, said: str
) -> None:
    with pytest.raises(CommandError, match=said):
        read_brought(file_of(tmp_path, text))


def test_a_list_is_for_somebody_or_by_something(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend"]) == 2
    assert "say for whom, or what they did" in " ".join(capsys.readouterr().err.split())


def test_what_is_exported_to_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "42.json"
    file.write_text("before")
    write_private(file, "{}")
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("{}\n", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_named_as_it_was_asked_for(tmp_path: Path) -> None:
    for file in (tmp_path / "no" / "42.json", tmp_path):
        with pytest.raises(OSError, match=f"'{file}'$"):
            write_private(file, "{}")
    assert list(tmp_path.iterdir()) == []


def test_a_pseudonym_is_told_to_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["users", "pseudonym", "42", "--log-secret", "a secret of the tests"]
    assert main(command) == 0
    name = capsys.readouterr().out.strip()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"user_id": "42", "pseudonym": name}


def test_rejects_that_name_somebody_are_found_by_the_whole_id(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"raw": "42,50,adore"}\n')
    (tmp_path / "b.jsonl").write_text('{"raw": "142,420,adore"}\n')
    assert naming(tmp_path, "42") == [tmp_path / "a.jsonl"]
    assert naming(tmp_path / "none", "42") == []


def test_rejects_go_after_their_days(tmp_path: Path) -> None:
    for name, age_days in (("old", 8), ("young", 6)):
        (tmp_path / f"{name}.jsonl").touch()
        os.utime(tmp_path / f"{name}.jsonl", (1e9 - age_days * 86_400,) * 2)
    assert drop_old(tmp_path, 0, 1e9) == 0
    assert drop_old(tmp_path, 7, 1e9) == 1
    assert [f.name for f in tmp_path.iterdir()] == ["young.jsonl"]
    assert drop_old(tmp_path / "none", 7, 1e9) == 0
