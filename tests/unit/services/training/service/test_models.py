"""The training service and trainings make no version champion that their trusted keys did not sign."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.training.pipeline import registry_of
from services.training.service.models import Models
from services.training.service.settings import TrainingServiceSettings
from services.training.settings import SourceSettings, TrainSettings
from shared.artifacts import Registry, Signer
from shared.errors import ArtifactError
from shared.settings import load
from tests.artifacts import publish_plain
from tests.unit.shared.test_signatures import write_keys


async def test_promotions_and_rollbacks_take_signed_versions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = write_keys(tmp_path, "ours")
    anybody = Registry(tmp_path / "registry")
    unsigned = publish_plain(anybody).version
    signed = publish_plain(Registry(anybody.root, signer=Signer.read("KEY", str(private)))).version
    for version in (unsigned, signed):
        anybody.promote("default", version)
    monkeypatch.setenv("WARMSTART_TRAINING_REGISTRY_PUBLIC_KEYS", str(public))
    models = Models(load(TrainingServiceSettings, registry=str(anybody.root)).open_registry())
    with pytest.raises(ArtifactError, match="only signed versions are taken"):
        await models.promote("default", unsigned)
    with pytest.raises(ArtifactError, match="only signed versions are taken"):
        await models.roll_back("default")
    settings = TrainSettings(source=SourceSettings(dataset="movielens-100k"), registry=str(anybody.root))
    with pytest.raises(ArtifactError, match="only signed versions are taken"):
        registry_of(settings).promote("default", unsigned)
    assert (await models.promote("default", signed)).version == signed
