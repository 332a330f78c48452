"""Logs tell neither who people are nor secrets, and what operators need all the same."""

from __future__ import annotations

import io
import json

import pytest

from shared.errors import InvalidInput, NotFound, violation
from shared.telemetry import logs
from shared.telemetry.hiding import Hiding, people_served
from tests.unit.shared.telemetry.test_logs import _as_before

__all__ = ["_as_before"]

HIDING = Hiding.by("the key of the tests")
ADA = HIDING.pseudonym("ada@example.org")


def test_a_pseudonym_is_the_same_for_the_same_key_and_says_nothing_without_it() -> None:
    assert Hiding.by("the key of the tests").pseudonym("ada@example.org") == ADA
    assert Hiding.by("another key").pseudonym("ada@example.org") != ADA
    assert Hiding.by("").pseudonym("ada") != Hiding.by("").pseudonym("ada")
    assert ADA.startswith("person:")
    assert len(ADA) == len("person:") + 12


@pytest.mark.parametrize(
    ("said", "logged"),
    [
        ("user_id must be 1..128 bytes, got 'ada@example.org'", f"user_id must be 1..128 bytes, got {ADA}"),
        (
            "events[3].user_id must be the request's, got 'ada@example.org'; page_size must be 1..500, got 0",
            f"events[3].user_id must be the request's, got {ADA}; page_size must be 1..500, got 0",
        ),
        ("domain must be one of default, got 'shop'", "domain must be one of default, got 'shop'"),
        ("events[0].item_id must be known, got 'i-7'; x must be, got 'ada@example.org'",
         f"events[0].item_id must be known, got 'i-7'; x must be, got {ADA}"),
        ("WARMSTART_X_TLS_KEY must be a file, got '/a/b'", "WARMSTART_X_TLS_KEY must be a file, got '/a/b'"),
        ("manifest.json: dims must be 3, got '4'", "manifest.json: dims must be 3, got '4'"),
        ("weights must be finite, got nan", "weights must be finite, got nan"),
        ("scope must be admin, got 'feedback'", "scope must be admin, got 'feedback'"),
        ("item_ids: a shop has none of them, got 'i-7'", "item_ids: a shop has none of them, got 'i-7'"),
    ],
)  # fmt: skip
def test_values_of_fields_are_hidden_unless_they_are_nobodys(said: str, logged: str) -> None:
    assert HIDING.text(said) == logged


def test_how_often_a_secret_was_refused_is_no_secret() -> None:
    refused = {
        "event": "calls refused",
        "reasons": {"CREDENTIAL_INVALID": 3, "DOMAIN_DENIED": 1},
        "token": "x",
    }
    told = HIDING(None, "warning", refused)
    assert told["reasons"] == {"CREDENTIAL_INVALID": 3, "DOMAIN_DENIED": 1}
    assert told["token"] == "[hidden]"


@pytest.mark.parametrize(
    "value",
    [
        "ann",
        "it's; domain must be, got 'x",
        'a"b',
        "a\\'b",
        "ann" * 60,
        "a'" * 70,
        b"\x0a\x03ann",
        "line\nann",
        "…ann",
    ],
)
def test_no_value_finds_a_way_around(value: object) -> None:
    """Quotes, what looks like the next sentence, what is cut short, bytes, two violations together."""
    both = InvalidInput(
        [violation("user_id", "must be short", value), violation("a.token", "must fit", value)]
    )
    for text in (str(both), str(both)[:60] + "…", f"UNKNOWN: {both}"):
        said = HIDING.text(text)
        assert "ann" not in said
        assert "'x" not in said
        assert "a'" not in said


def test_people_whom_a_request_names_are_hidden_in_whatever_is_logged_for_it() -> None:
    out = io.StringIO()
    logs.configure("gateway", level="debug", format="json", secret="the key of the tests", out=out)
    log = logs.logger("x")
    with people_served(lambda: ["ada@example.org", "bo"]):
        log.info("no profile of 'ada@example.org' and \"bo\", both or bored")
        try:
            raise KeyError("h:ada@example.org")
        except KeyError:
            log.exception("a bug")
        log.info("x", user_id="ada@example.org", reasons=[str(NotFound("'bo' is not here"))])
    log.info("afterwards", about="'bo'")
    bo = HIDING.pseudonym("bo")
    said = [json.loads(line) for line in out.getvalue().splitlines()]
    assert said[0]["event"] == f"no profile of '{ADA}' and \"{bo}\", both or bored"
    assert said[1]["exception"][0]["exc_value"] == f"'h:{ADA}'"
    assert (said[2]["user_id"], said[2]["reasons"]) == (ADA, [f"'{bo}' is not here"])
    assert said[3]["about"] == "'bo'"


def test_what_looks_like_a_secret_is_hidden() -> None:
    out = io.StringIO()
    logs.configure("gateway", format="json", out=out)
    web_token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
    logs.logger("x").info(
        f"got {web_token}",
        api_key="s3cret",
        headers={"Authorization": "s3cret", "x": "Bearer s3cret.abc"},
        url="valkeys://user:s3cret@host:1/0",
        pem="-----BEGIN EC PRIVATE KEY-----\ns3cret\n-----END EC PRIVATE KEY-----\nand more",
    )
    said = out.getvalue()
    assert "s3cret" not in said
    assert "eyJ" not in said
    assert "valkeys://[hidden]@host:1/0" in said
    assert "and more" in said


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_shows_neither_local_values_nor_people(format: str) -> None:
    out = io.StringIO()
    logs.configure("gateway", format=format, out=out)
    with people_served(lambda: ["ada@example.org"]):
        try:
            held = "what a person did"
            raise KeyError("ada@example.org", len(held))
        except KeyError:
            logs.logger("x").exception("call failed")
    assert "KeyError" in out.getvalue()
    assert "ada@example.org" not in out.getvalue().replace('raise KeyError("ada@example.org", len(held))', "")
    assert "what a person did" not in out.getvalue().replace('held = "what a person did"', "")
