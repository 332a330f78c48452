"""What data hold is shown, never obeyed by the terminal."""

from __future__ import annotations

import json

import pytest

from services.cli import output
from services.cli.app import main

_HOSTILE = "a\x1b[31mRED\x07\r\x9b\udccb\u202eb"
_SHOWN = r"a\x1b[31mRED\x07\x0d\x9b\xcb\u202eb"


def test_control_characters_are_shown_as_their_codes():
    assert output.visible(_HOSTILE) == _SHOWN
    assert output.visible("naïve 靴 👩‍🚀\tand\nmore") == "naïve 靴 👩‍🚀\tand\nmore"


@pytest.mark.parametrize("place", ["stdout", "stderr"])
def test_a_console_shows_them_wherever_they_come_from(place, capsys):
    console = getattr(output, place)()
    console.print(output.table("", ["item"], [["a\x1bb"]]))
    console.print("in \x1b[31mRED", markup=False)
    console.print(f"[bold]error:[/] {output.escaped(_HOSTILE)}", soft_wrap=True)
    told = getattr(capsys.readouterr(), place.removeprefix("std"))
    assert "\x1b" not in told
    assert r"a\x1bb" in told
    assert r"in \x1b[31mRED" in told
    assert f"error: {_SHOWN}" in told


def test_colours_and_bars_stay():
    console = output._PlainConsole(force_terminal=True, color_system="standard")
    with console.capture() as shown:
        console.print("[red]x[/]")
    assert shown.get() == "\x1b[31mx\x1b[0m\n"


def test_json_holds_them_escaped(capsys):
    output.print_json({"title": _HOSTILE})
    told = capsys.readouterr().out
    assert told.replace("\n", "").isprintable()
    assert json.loads(told) == {"title": _HOSTILE}


def test_a_hostile_file_is_refused_and_tells_the_terminal_nothing(tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text(json.dumps({"\x1b[31mRED": 1, "user": "u"}) + "\n")
    (tmp_path / "log.csv").write_text("user,item,\x1b[31mRED\n")
    for name in ("log.jsonl", "log.csv"):
        assert main(["import", "--events", str(tmp_path / name), "--gateway", "127.0.0.1:1"]) == 1
        told = capsys.readouterr()
        assert (told.out, told.err.replace("\n", "").isprintable()) == ("", True)
        assert name in told.err.replace("\n", "")
