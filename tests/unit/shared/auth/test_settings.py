"""A door that others can reach says whom it lets in, or does not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.auth.guard import Guard
from shared.auth.settings import DoorSettings, is_loopback
from shared.errors import SettingsError
from shared.settings import load, settings_config
from tests.unit.shared.auth.signing import SECRET


class ShopDoor(DoorSettings):
    model_config = settings_config("SHOP")


def refused(**values: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load(ShopDoor, **values)
    return str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_this_machine_every_call_is_taken_unless_told_otherwise(host: str) -> None:
    assert is_loopback(host)
    assert Guard.of(load(ShopDoor, host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "shop.example"])  # noqa: S104 - read, not bound
def test_elsewhere_it_must_be_said_who_may_call(host: str) -> None:
    assert not is_loopback(host)
    said = refused(host=host)
    assert f"WARMSTART_SHOP_AUTH: must be set where the server listens on {host}" in said
    assert "keys, jwt or keys,jwt; off where" in said
    assert Guard.of(load(ShopDoor, host=host, auth="off")) is None


def test_every_setting_that_is_missing_is_told_at_once() -> None:
    said = refused(auth="jwt")
    wanted = "must be set with jwt, or a file of public keys in its place (AUTH_JWT_KEYS), got none"
    assert f"WARMSTART_SHOP_AUTH_JWT_SECRET: {wanted}" in said
    assert "WARMSTART_SHOP_AUTH_JWT_AUDIENCE: must be set with jwt" in said


def test_a_secret_is_long_and_never_shown() -> None:
    said = refused(auth="jwt", auth_jwt_audience="a", auth_jwt_secret="short and known")
    assert "AUTH_JWT_SECRET: must be at least 32 bytes, got a secret" in said
    assert "short and known" not in said
    good = load(ShopDoor, auth="jwt", auth_jwt_audience="a", auth_jwt_secret=SECRET)
    assert SECRET not in repr(good)


@pytest.mark.parametrize("auth", ["yes", "jwt,jwt", "none", "keys,off"])
def test_other_words_are_refused(auth: str) -> None:
    assert "WARMSTART_SHOP_AUTH: must be one of 'off', 'keys', 'jwt', 'keys,jwt', " in refused(auth=auth)


def test_a_quota_without_callers_is_refused() -> None:
    assert "must be 0 while auth is off" in refused(quota_rate=5)
    assert "must be 0 while auth is off" in refused(auth="off", quota_rate=5)


def test_a_burst_is_a_seconds_calls_unless_told() -> None:
    assert load(ShopDoor, auth="keys", quota_rate=5).quota.burst == 5
    assert load(ShopDoor, auth="keys", quota_rate=5, quota_burst=9).quota.burst == 9


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"auth": "keys"}, "WARMSTART_SHOP_AUTH_KEYS: must be a file of keys (`warmstart keys create`"),
        (
            {"auth": "jwt", "auth_jwt_audience": "a", "auth_jwt_keys": "no such"},
            "WARMSTART_SHOP_AUTH_JWT_KEYS: must be a file of public keys: No such file or directory",
        ),
    ],
)
def test_a_file_that_is_missing_ends_the_start(values: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        Guard.of(load(ShopDoor, **{"auth_keys": str(tmp_path / "keys.json"), **values}))
    assert said in str(caught.value)
