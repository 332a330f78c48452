"""What the adaptation server is told: `WARMSTART_ADAPTATION_*`."""

from __future__ import annotations

from pydantic import Field

from shared.inference.settings import ModelServerSettings
from shared.settings import settings_config


class AdaptationSettings(ModelServerSettings):
    """Settings of `python -m services.adaptation`."""

    model_config = settings_config("ADAPTATION")

    port: int = Field(20053, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    max_message_bytes: int = Field(
        64 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Largest message accepted; 1,024 people take about 20 MB.",
    )
