"""What the scoring server is told: `WARMSTART_SCORING_*`."""

from __future__ import annotations

from pydantic import Field

from shared.inference.settings import ModelServerSettings
from shared.settings import settings_config


class ScoringSettings(ModelServerSettings):
    """Settings of `python -m services.scoring`."""

    model_config = settings_config("SCORING")

    port: int = Field(20054, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    trends_interval_s: float = Field(
        5.0, gt=0, le=3600, description="Seconds between two looks at what is trending."
    )
    trending_items: int = Field(
        2000, ge=0, le=10_000, description="Trending items that scores count; 0 counts none."
    )
    max_message_bytes: int = Field(
        16 << 20,
        ge=1 << 16,
        le=1 << 30,
        description="Largest message accepted; 20,000 excluded ids take 5 MB.",
    )
