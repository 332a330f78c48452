"""What every server that holds models is told."""

from __future__ import annotations

from pydantic import Field

from shared.artifacts import TrustedKeys
from shared.settings import ServerSettings, default_data_dir


class ModelServerSettings(ServerSettings):
    """Settings of a server that holds models."""

    registry: str = Field(
        default_factory=lambda: str(default_data_dir() / "registry"),
        description="Directory of the published models; default `./var/registry`.",
    )
    registry_public_keys: str = Field(
        "",
        description="PEM file of Ed25519 public keys: only versions that one of them signed are loaded; "
        "empty loads any that is whole.",
    )
    registry_interval_s: float = Field(
        0.5, gt=0, le=3600, description="Seconds between two looks for a new champion."
    )
    features_target: str = Field(
        "127.0.0.1:20052",
        description="Feature service whose item stream is followed; empty serves the model's own items only.",
    )
    catalogue_wait_s: float = Field(
        10.0, ge=0, description="Seconds the first model waits for the item stream before it serves without."
    )
    max_queued: int = Field(512, ge=1, description="Calls that may wait for the model; more are refused.")
    intra_op_threads: int = Field(1, ge=1, le=256, description="TensorFlow threads inside one operation.")

    def trusted_keys(self) -> TrustedKeys | None:
        """None = every version is taken. Raises SettingsError where the file is not good."""
        prefix = self.model_config.get("env_prefix", "")
        return TrustedKeys.of_file(f"{prefix}REGISTRY_PUBLIC_KEYS", self.registry_public_keys)
