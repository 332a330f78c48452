"""Keys are made, shown once, listed without what opens a door, and revoked; commands send one."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.cli.app import main
from services.cli.credentials import credential_for
from services.cli.failures import CommandError, explain
from shared.auth.callers import Quota, Scope
from shared.auth.key_file import read_keys
from shared.auth.keys import KeyRing
from shared.errors import CredentialMissing, DomainDenied, QuotaExceeded, ScopeMissing

KEY = re.compile(r"wsk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WARMSTART_KEY", raising=False)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert main(arguments) == code
    told = capsys.readouterr()
    return told.out, " ".join(told.err.split())


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(run(capsys, *arguments, "--json")[0])


def test_a_key_is_printed_alone_and_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = run(capsys, "keys", "create", "--scope", "recommend", "--scope", "feedback", "--note", "shop")
    key = out.strip()
    assert KEY.fullmatch(key)
    assert key not in err
    (kept,) = read_keys(here / "var" / "keys.json")
    assert KeyRing([kept]).caller(key).scopes == {Scope.RECOMMEND, Scope.FEEDBACK}
    assert (kept.domains, kept.expires, kept.quota, kept.note) == ({"default"}, None, None, "shop")
    assert key.split("_", 2)[2] not in (here / "var" / "keys.json").read_text()
    assert key not in run(capsys, "keys", "list")[0]


def test_a_key_has_domains_an_end_and_a_quota(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--domain", "shop", "--domain", "films", "--expires", "90d", "--rate", "100", "--burst", "200"]
    made = as_json(capsys, "keys", "create", "--scope", "admin", *options)
    assert KEY.fullmatch(made["key"])
    assert (made["state"], made["domains"]) == ("good", ["films", "shop"])
    (kept,) = read_keys(here / "var" / "keys.json")
    assert kept.quota == Quota(100, 200)
    assert kept.expires == kept.created + timedelta(days=90)
    assert abs(datetime.now(UTC) - kept.created) < timedelta(minutes=1)


def test_of_a_rate_below_one_a_second_one_call_is_let_through(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "keys", "create", "--scope", "admin", "--rate", "0.5")
    assert "0.5, 1 at once" in run(capsys, "keys", "list")[0]


def test_a_key_is_revoked_and_stays_listed(capsys: pytest.CaptureFixture[str]) -> None:
    first = as_json(capsys, "keys", "create", "--scope", "recommend")
    second = as_json(capsys, "keys", "create", "--scope", "recommend")
    assert run(capsys, "keys", "revoke", first["id"])[0] == f"revoked: {first['id']}\n"
    listed = as_json(capsys, "keys", "list")
    assert [(k["id"], k["state"]) for k in listed] == [(first["id"], "revoked"), (second["id"], "good")]
    assert all("sha256" not in k and "key" not in k for k in listed)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create"], "Missing option '--scope'"),
        (["create", "--scope", "root"], "'root' is not one of 'recommend', 'feedback', 'catalogue', 'admin'"),
        (["create", "--scope", "admin", "--domain", "Shop!"], "--domain must be 1..64 of a-z 0-9 _ -"),
        (["create", "--scope", "admin", "--expires", "soon"], "must be like 12h, 90d or 52w, or never, got"),
        (["create", "--scope", "admin", "--burst", "5"], "--burst must stand beside --rate, got 5 alone"),
        (
            ["create", "--scope", "admin", "--rate", "nan"],
            "--rate must be a number of 0 to 1,000,000, got nan",
        ),
        (["create", "--scope", "admin", "--rate", "1", "--burst", "0.5"], "--burst must be a number of 1 to"),
        (["create", "--scope", "admin", "--note", "x" * 257], "--note must be at most 256 bytes"),
    ],
)
def test_a_bad_option_is_refused_and_no_key_is_made(
    arguments: list[str], said: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, err = run(capsys, "keys", *arguments, code=2)
    told = " ".join(err.replace("│", " ").split())
    assert said in told
    assert "Value error" not in told
    assert not (here / "var" / "keys.json").exists()


def test_a_key_that_is_not_there_cannot_be_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    assert "make a key with `warmstart keys create`" in run(capsys, "keys", "revoke", "abc", code=1)[1]
    run(capsys, "keys", "create", "--scope", "admin")
    assert "key_id must be one of var/keys.json, got 'abc'" in run(capsys, "keys", "revoke", "abc", code=1)[1]


def test_a_broken_file_is_not_written_over(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "keys.json").write_text("{")
    _, err = run(capsys, "keys", "create", "--scope", "admin", "--file", "keys.json", code=1)
    assert "must be a file of keys: the file: Invalid JSON" in err
    assert (here / "keys.json").read_text() == "{"


def test_the_environment_says_the_key_and_the_option_goes_before_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent: list[str] = []

    def note(target: str, domain: str) -> Any:
        sent.append(credential_for(target))
        raise CommandError("far enough")

    monkeypatch.setattr("services.cli.commands.lists.open_gateway", note)
    call = ["recommend", "ann", "--gateway", "127.0.0.1:1"]
    run(capsys, *call, code=1)
    monkeypatch.setenv("WARMSTART_KEY", " wsk_of_environment\n")
    run(capsys, *call, code=1)
    run(capsys, *call, "--key", "wsk_of_option", code=1)
    run(capsys, *call, code=1)
    assert sent == ["", "wsk_of_environment", "wsk_of_option", "wsk_of_environment"]


@pytest.mark.parametrize(
    ("target", "warned"),
    [
        ("127.0.0.1:20051", False), ("localhost:20051", False), ("[::1]:20051", False),
        ("ipv4:127.0.0.1:1,127.0.0.1:2", False), ("unix:/tmp/gateway", False),
        ("10.0.0.1:20051", True), ("gateway:20051", True), ("dns:///gateway:20051", True),
        ("127.0.0.1:1,10.0.0.1:1", True), ("[2001:db8::1]:20051", True),
    ],
)  # fmt: skip
def test_a_key_that_leaves_the_machine_unencrypted_is_told_of(
    target: str, warned: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert credential_for(target) == ""
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("WARMSTART_KEY", "wsk_secret")
    assert credential_for(target) == "wsk_secret"
    said = capsys.readouterr().err
    assert ("unencrypted: whoever sees the traffic can use it" in said) is warned
    assert "wsk_secret" not in said


def test_what_cannot_be_a_key_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("two words", "wsk_ä", "a\nb: c"):
        monkeypatch.setenv("WARMSTART_KEY", bad)
        with pytest.raises(CommandError, match="--key or WARMSTART_KEY must be a key or a token") as refused:
            credential_for("127.0.0.1:1")
        assert bad not in str(refused.value)


def test_a_refusal_says_what_to_do_next() -> None:
    assert "CREDENTIAL_MISSING: none" in explain(CredentialMissing("none"))
    assert "set WARMSTART_KEY to a key that is good there" in explain(CredentialMissing("none"))
    for error in (ScopeMissing("no scope"), DomainDenied("no domain")):
        assert "take a key made with that --scope and --domain" in explain(error)
    assert "ask for less" in explain(QuotaExceeded("too much"))
