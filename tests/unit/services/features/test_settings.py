"""Settings of the feature service."""

from __future__ import annotations

import pytest

from services.features.retention_days import days_of
from services.features.settings import FeatureSettings
from services.features.store.durability import Durability
from shared.errors import SettingsError
from shared.settings import load


def test_defaults_are_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WARMSTART_FEATURES_DURABILITY", raising=False)
    settings = load(FeatureSettings)
    assert settings.durability is Durability.LOCAL
    assert settings.verify_durability
    assert (settings.history_events, settings.seen_items) == (500, 5000)


def test_every_bad_value_is_named_and_no_secret_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WARMSTART_FEATURES_STORE_URL", "http://nowhere")
    monkeypatch.setenv("WARMSTART_FEATURES_SHARDS", "0")
    monkeypatch.setenv("WARMSTART_FEATURES_DELETION_SECRET", "too short")
    with pytest.raises(SettingsError) as caught:
        load(FeatureSettings)
    said = str(caught.value)
    for name in ("STORE_URL", "SHARDS", "DELETION_SECRET"):
        assert f"WARMSTART_FEATURES_{name}" in said
    assert "too short" not in said


def test_days_are_one_number_or_others_by_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    text = load(FeatureSettings, event_retention_days="400, news=30").event_retention_days
    assert (days_of(text, "shop"), days_of(text, "news"), days_of("news=30", "shop")) == (400, 30, 0)
    for bad in ("soon", "-1", "news=", "=3", "1,2", "news=1,news=2", "40000"):
        monkeypatch.setenv("WARMSTART_FEATURES_IDLE_RETENTION_DAYS", bad)
        with pytest.raises(SettingsError, match=r"WARMSTART_FEATURES_IDLE_RETENTION_DAYS: .* got"):
            load(FeatureSettings)
