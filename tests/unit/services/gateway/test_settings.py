from __future__ import annotations

import pytest

from services.gateway.settings import GatewaySettings
from shared.errors import SettingsError
from shared.settings import load


def test_quotas_are_read_from_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_GATEWAY_SOURCE_QUOTAS", "fresh=0.2, friends=0.1")
    assert load(GatewaySettings).source_quotas == {"fresh": 0.2, "friends": 0.1}
    monkeypatch.setenv("WARMSTART_GATEWAY_SOURCE_QUOTAS", "")
    assert load(GatewaySettings).source_quotas == {}


@pytest.mark.parametrize("value", ["fresh=0.9", "fresh=-0.1", "fresh=lots", "fresh", "fresh=0.3,friends=0.3"])
def test_bad_quotas_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WARMSTART_GATEWAY_SOURCE_QUOTAS", value)
    with pytest.raises(SettingsError, match="WARMSTART_GATEWAY_SOURCE_QUOTAS"):
        load(GatewaySettings)


def test_quotas_without_shares_are_told_how_they_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_GATEWAY_SOURCE_QUOTAS", "friends:0.3")
    with pytest.raises(
        SettingsError, match=r"must be pairs such as fresh=0.1,friends=0.2, got 'friends:0.3'"
    ):
        load(GatewaySettings)


def test_every_setting_says_what_it_is() -> None:
    assert all(f.description for f in GatewaySettings.model_fields.values())


def test_the_secret_is_not_shown() -> None:
    assert "hush" not in repr(GatewaySettings(token_secret="hush"))  # type: ignore[arg-type]
