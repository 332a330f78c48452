"""Settings come from the environment; every bad value is told at once."""

from __future__ import annotations

import pytest
from pydantic import Field, ValidationError

from shared.errors import SettingsError
from shared.settings import ServerSettings, load, settings_config, unread


class ShopSettings(ServerSettings):
    model_config = settings_config("SHOP")
    max_items: int = Field(10, ge=1, description="Items.")
    shares: dict[str, float] = Field({}, description="Shares.")


def test_values_come_from_the_services_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_SHOP_MAX_ITEMS", "3")
    monkeypatch.setenv("WARMSTART_OTHER_MAX_ITEMS", "4")
    monkeypatch.setenv("WARMSTART_SHOP_PORT", "20051")
    settings = load(ShopSettings)
    assert (settings.max_items, settings.port) == (3, 20051)


def test_every_bad_value_is_named_with_rule_and_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_SHOP_MAX_ITEMS", "0")
    monkeypatch.setenv("WARMSTART_SHOP_PORT", "99999")
    monkeypatch.setenv("WARMSTART_SHOP_LOG_LEVEL", "loud")
    with pytest.raises(SettingsError) as caught:
        load(ShopSettings)
    lines = str(caught.value).splitlines()
    assert lines[0] == "bad settings:"
    said = sorted(line.strip() for line in lines[1:])
    assert said == [
        "WARMSTART_SHOP_LOG_LEVEL: must be one of debug, info, warning, error, got 'loud'",
        "WARMSTART_SHOP_MAX_ITEMS: must be greater than or equal to 1, got '0'",
        "WARMSTART_SHOP_PORT: must be less than or equal to 65535, got '99999'",
    ]


def test_a_part_of_a_value_is_named_beside_the_variable_that_it_stands_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WARMSTART_SHOP_SHARES", '{"friends": 0.1, "fresh": "much"}')
    with pytest.raises(SettingsError) as caught:
        load(ShopSettings)
    assert str(caught.value).splitlines()[1:] == [
        '  WARMSTART_SHOP_SHARES: fresh must be a valid number, got \'{"friends": 0.1, "fresh": "much"}\''
    ]


def test_a_variable_that_is_no_setting_is_told_with_the_one_most_like_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SHOP_MAX_ITEM", "SHOP_XYZZY", "SHOP_PORT", "SHOPS_PORT"):
        monkeypatch.setenv(f"WARMSTART_{name}", "1")
    monkeypatch.setenv("warmstart_shop_host", "127.0.0.1")
    assert unread(ShopSettings) == {
        "WARMSTART_SHOP_MAX_ITEM": "WARMSTART_SHOP_MAX_ITEMS",
        "WARMSTART_SHOP_XYZZY": "",
    }


def test_domains_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_SHOP_DOMAINS", "default, shop,news")
    assert load(ShopSettings).domains == ("default", "shop", "news")


def test_a_domain_that_cannot_be_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_SHOP_DOMAINS", "default,../etc")
    with pytest.raises(SettingsError, match=r"WARMSTART_SHOP_DOMAINS: .*domain must be 1..64 .*got '../etc'"):
        load(ShopSettings)


def test_overrides_win_and_settings_do_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_SHOP_PORT", "20051")
    settings = load(ShopSettings, port=0)
    assert settings.port == 0
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


def test_a_server_listens_on_this_machine_only_unless_told() -> None:
    assert ServerSettings().host == "127.0.0.1"
