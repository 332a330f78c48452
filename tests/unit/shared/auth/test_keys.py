"""Static keys: made, kept as a hash, looked up, written to a file that is never half."""

from __future__ import annotations

import json
import re
import stat
import threading
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from shared.auth.callers import Quota, Scope
from shared.auth.key_file import change_keys, encode_keys, parse_keys, read_keys
from shared.auth.keys import KeyRing, StaticKey, new_key, revoked
from shared.errors import CredentialExpired, SettingsError, Unauthenticated

MADE = datetime(2026, 1, 1, tzinfo=UTC)


def key(expires: datetime | None = None, quota: Quota | None = None) -> tuple[StaticKey, str]:
    return new_key(
        scopes=[Scope.RECOMMEND], domains=["shop"], created=MADE, expires=expires, quota=quota, note="ours"
    )


def test_a_key_has_256_random_bits_and_is_kept_as_their_hash() -> None:
    kept, text = key()
    prefix, key_id, secret = text.split("_", 2)
    assert (prefix, key_id) == ("wsk", kept.key_id)
    assert len(secret) == 43  # 32 bytes by six bits a letter
    assert kept.sha256 == sha256(secret.encode()).digest()
    assert secret.encode() not in encode_keys([kept])
    assert key()[1] != text


def test_a_key_names_its_caller() -> None:
    kept, text = key(quota=Quota(10, 20))
    caller = KeyRing([kept]).caller(text)
    assert (caller.name, caller.label) == (f"key:{kept.key_id}", kept.key_id)
    assert (caller.scopes, caller.domains, caller.quota) == ({Scope.RECOMMEND}, {"shop"}, Quota(10, 20))


def test_an_unknown_id_a_wrong_secret_and_a_revoked_key_are_refused_alike() -> None:
    (kept, text), (_, stranger) = key(), key()
    secret = text.split("_", 2)[2]
    wrong = [
        stranger, f"wsk_{kept.key_id}_", f"wsk_{kept.key_id}", "wsk_", f"{text}x", text[:-1], text.upper(),
        f"wsk_{kept.key_id}_{stranger.rpartition('_')[2]}", f"wsk_{kept.key_id}_\ud800",
    ]  # fmt: skip
    said = set()
    for credential in wrong:
        with pytest.raises(Unauthenticated) as refused:
            KeyRing([kept]).caller(credential)
        said.add(str(refused.value))
    with pytest.raises(Unauthenticated) as refused:
        KeyRing([revoked(kept, MADE)]).caller(text)
    said.add(str(refused.value))
    assert len(said) == 1
    assert secret not in said.pop()


def test_a_key_expires_on_the_second() -> None:
    kept, text = key(expires=MADE + timedelta(days=90))
    now = [kept.expires.timestamp() - 0.001 if kept.expires else 0.0]
    ring = KeyRing([kept], clock=lambda: now[0])
    assert ring.caller(text).domains == {"shop"}
    now[0] += 0.001
    with pytest.raises(CredentialExpired, match="it did on 2026-04-01 00:00:00 UTC"):
        ring.caller(text)


def test_a_key_is_revoked_once() -> None:
    kept, _ = key()
    first = revoked(kept, MADE)
    assert revoked(first, MADE + timedelta(days=1)) is first
    assert [k.state(MADE) for k in (kept, first)] == ["good", "revoked"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys = (key()[0], key(MADE + timedelta(days=1), Quota(0.5, 3))[0], revoked(key()[0], MADE))
    change_keys(path, lambda before: (*before, *keys))
    assert read_keys(path) == keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    change_keys(path, lambda before: before[1:])
    assert read_keys(path) == keys[1:]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_change_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    change_keys(path, lambda _: [key()[0]])
    before = path.read_bytes()

    def fail(_: object) -> list[StaticKey]:
        raise SettingsError("no more keys")

    with pytest.raises(SettingsError, match="no more keys"):
        change_keys(path, fail)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [".keys.json.lock", "keys.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "keys.json"
    link.symlink_to(tmp_path / "real" / "keys.json")
    change_keys(link, lambda _: [key()[0]])
    assert link.is_symlink()
    assert len(read_keys(link)) == 1


def test_keys_made_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    makers = [
        threading.Thread(target=lambda: change_keys(path, lambda before: (*before, key()[0])))
        for _ in range(8)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(read_keys(path)) == 8


GOOD = json.loads(encode_keys([key()[0]]))["keys"][0]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"id": "short"}, "keys.0.id: String should match pattern"),
        ({"sha256": "00"}, "keys.0.sha256"),
        ({"scopes": []}, "keys.0.scopes: List should have at least 1 item"),
        ({"scopes": ["root"]}, "keys.0.scopes.0: Input should be 'recommend', 'feedback'"),
        ({"domains": []}, "keys.0.domains"),
        ({"domains": ["Shop!"]}, "keys.0.domains.0: Value error, must be 1..64 of a-z"),
        ({"quota": {"rate": -1, "burst": 1}}, "keys.0.quota.rate"),
        ({"quota": {"rate": 1}}, "keys.0.quota.burst: Field required"),
        ({"expires": "tomorrow"}, "keys.0.expires"),
        ({"expires": "2026-01-01T00:00:00"}, "keys.0.expires: Input should have timezone info"),
        ({"note": "a\nb"}, "keys.0.note: Value error, must not hold control characters"),
        ({"secret": "wsk_not_here"}, "keys.0.secret: Extra inputs are not permitted"),
    ],
)
def test_a_broken_key_is_named_by_field_and_rule_without_its_value(
    change: dict[str, object], rule: str
) -> None:
    content = json.dumps({"version": 1, "keys": [GOOD | change]}).encode()
    with pytest.raises(ValueError, match=re.escape(rule)) as refused:
        parse_keys(content)
    assert "wsk_not_here" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "the file: Invalid JSON"),
        (b"[]", "the file: Input should be an object"),
        (b'{"version": 2, "keys": []}', "version: Input should be 1"),
        (json.dumps({"version": 1, "keys": [GOOD, GOOD]}).encode(), "ids must differ"),
    ],
)
def test_a_broken_file_is_refused(content: bytes, rule: str) -> None:
    with pytest.raises(ValueError, match=re.escape(rule)):
        parse_keys(content)
