"""What the gateway is told."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from shared.auth.settings import DoorSettings
from shared.settings import settings_config


class GatewaySettings(DoorSettings):
    model_config = settings_config("GATEWAY")

    port: int = Field(20051, ge=0, le=65535, description="gRPC port; 0 takes a free one.")

    features_target: str = Field("127.0.0.1:20052", description="Address of the feature service.")
    adaptation_target: str = Field("127.0.0.1:20053", description="Address of the adaptation service.")
    scoring_target: str = Field("127.0.0.1:20054", description="Address of the scoring service.")
    features_timeout_s: float = Field(
        1.0, gt=0, description="Longest wait for a person's features in a Recommend call."
    )
    adaptation_timeout_s: float = Field(
        1.0, gt=0, description="Longest wait for adaptation in a Recommend call."
    )
    scoring_timeout_s: float = Field(
        1.0, gt=0, description="Longest wait for one call of scoring in a Recommend call."
    )
    write_timeout_s: float = Field(
        60.0, gt=0, description="Longest wait for feedback, catalogue and people calls."
    )
    breaker_failures: int = Field(
        2, ge=1, description="Failures in a row after which a service counts as away."
    )
    breaker_open_s: float = Field(
        0.5, gt=0, description="Seconds for which a service that is away is not asked."
    )
    model_poll_s: float = Field(
        0.5, gt=0, description="Seconds between looks at which models adaptation and scoring hold."
    )

    candidates: int = Field(120, ge=10, le=5000, description="Items the model retrieves for one list.")
    trending_items: int = Field(
        500, ge=10, le=1000, description="Trending items kept in memory, for the ladder's last rung."
    )
    trending_candidates: int = Field(
        30, ge=0, le=1000, description="Trending items that become candidates of a list."
    )
    trending_refresh_s: float = Field(1.0, gt=0, description="Seconds between looks at what is trending.")
    fresh_candidates: int = Field(
        50, ge=0, le=1000, description="Newest items that become candidates of a list."
    )
    fresh_window_s: float = Field(14 * 24 * 3600.0, gt=0, description="Age up to which an item is fresh.")
    friends_candidates: int = Field(
        50, ge=0, le=200, description="Items liked by related people that become candidates of a list."
    )
    narrow_filter_items: int = Field(
        1000,
        ge=10,
        le=4000,
        description="Up to this many matches of a filter are all ranked; more are retrieved.",
    )
    diversity: float = Field(
        0.1, ge=0, le=1, description="Strength of diversity where the request names none."
    )
    exploration_rate: float = Field(
        0.05, ge=0, le=0.5, description="Share of places given to exploration where the request names none."
    )
    explore_pool: int = Field(
        50, ge=0, le=1000, description="Items drawn from the posterior for the exploration pool."
    )
    source_quotas: Annotated[dict[str, float], NoDecode] = Field(
        {"friends": 0.1, "fresh": 0.1, "trending": 0.1},
        description="Least share of places for a source that has candidates: `fresh=0.1,friends=0.1`.",
    )

    last_good_lists: int = Field(10_000, ge=0, description="People whose last good list is kept in memory.")
    last_good_items: int = Field(100, ge=1, le=1000, description="Items kept of a last good list.")
    last_good_age_s: float = Field(3600.0, gt=0, description="Age up to which a last good list is used.")

    token_secret: SecretStr = Field(
        SecretStr(""),
        description="Signs page tokens; the same on all replicas. Empty: a random one, new at each start.",
    )
    token_age_s: int = Field(3600, ge=1, description="Seconds for which a page token is good.")
    max_list_items: int = Field(2000, ge=1, le=4000, description="Longest list, over all of its pages.")

    impression_queue: int = Field(
        50_000, ge=1, description="Impressions waiting to be logged; more are dropped and counted."
    )
    impression_linger_s: float = Field(
        0.1, ge=0, description="Seconds for which impressions wait for others to be logged with."
    )
    impression_batch: int = Field(500, ge=1, le=5000, description="Impressions logged in one call.")
    flush_timeout_s: float = Field(
        5.0, ge=0, description="Seconds given to logging the waiting impressions at the stop."
    )

    @field_validator("source_quotas", mode="before")
    @classmethod
    def _parse_quotas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if not all(equals for _, equals, _ in pairs):
            raise ValueError("must be pairs such as fresh=0.1,friends=0.2")
        return {name.strip(): share.strip() for name, _, share in pairs}

    @field_validator("source_quotas")
    @classmethod
    def _check_quotas(cls, value: dict[str, float]) -> dict[str, float]:
        if not all(0.0 <= share <= 1.0 for share in value.values()) or sum(value.values()) > 0.5:
            raise ValueError("shares must be in [0, 1] and sum to at most 0.5")
        return value
