"""What the training server is told: `WARMSTART_TRAINING_*`."""

from __future__ import annotations

from pydantic import Field

from services.training.service.training import Places
from shared.artifacts import Registry, Signer, TrustedKeys
from shared.auth.settings import DoorSettings
from shared.processes.trainer import STOP_S
from shared.settings import default_data_dir, settings_config


class TrainingServiceSettings(DoorSettings):
    """Settings of `python -m services.training.service`."""

    model_config = settings_config("TRAINING")

    port: int = Field(20055, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    registry: str = Field(
        default_factory=lambda: str(default_data_dir() / "registry"),
        description="Directory of the published models; default `./var/registry`.",
    )
    registry_signing_key: str = Field(
        "",
        description="PEM file of the Ed25519 private key that signs what is published, without password; "
        "empty signs nothing. Trainings of `warmstart train` read it too.",
    )
    registry_public_keys: str = Field(
        "",
        description="PEM file of Ed25519 public keys: only versions that one of them signed are promoted, or "
        "compared with; empty takes any that is whole.",
    )
    runs: str = Field(
        default_factory=lambda: str(default_data_dir() / "runs"),
        description="Directory of the trainings, a folder each; one server at a time; default `./var/runs`.",
    )
    features_target: str = Field(
        "127.0.0.1:20052",
        description="Feature service that trainings read from; empty allows known data sets only.",
    )
    ray_address: str = Field("", description="Ray cluster that trains; empty starts a local Ray a training.")
    max_running: int = Field(2, ge=1, le=64, description="Trainings at once, one a domain; more are refused.")
    stop_s: float = Field(
        STOP_S,
        ge=0,
        description="Seconds that a training gets to keep a checkpoint and stop, then it is killed.",
    )

    snapshot_days: int = Field(
        0,
        ge=0,
        description="Days after which the copies of events in a run that nothing is written to any more are "
        "deleted; 0 keeps them.",
    )
    run_days: int = Field(
        0, ge=0, description="Days after which such a run is deleted as a whole; 0 keeps it."
    )

    def open_registry(self, directory: str = "") -> Registry:
        """That of the settings, or another by the same keys. Raises SettingsError where a key is not good."""
        return Registry(
            directory or self.registry,
            signer=Signer.of_file("WARMSTART_TRAINING_REGISTRY_SIGNING_KEY", self.registry_signing_key),
            trusted=TrustedKeys.of_file("WARMSTART_TRAINING_REGISTRY_PUBLIC_KEYS", self.registry_public_keys),
        )

    @property
    def places(self) -> Places:
        """What a training's options do not say."""
        return Places(self.registry, self.features_target, self.ray_address)
