"""Settings of the feature service: `WARMSTART_FEATURES_*`."""

from __future__ import annotations

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from services.features.retention_days import days_by_domain
from services.features.store.durability import Durability
from shared.settings import ServerSettings, TlsFiles, settings_config
from shared.trends import HALF_LIFE_S

_TLS_SCHEMES = ("valkeys://", "rediss://")
_SCHEMES = ("valkey://", "valkeys://", "redis://", "rediss://", "unix://")
_MIN_SECRET_CHARS = 16


class FeatureSettings(ServerSettings):
    """What the feature service is told."""

    model_config = settings_config("FEATURES")

    port: int = Field(20052, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    store_url: str = Field(
        "valkey://127.0.0.1:20060/0",
        description="Valkey or Redis: valkey://, valkeys:// (TLS), redis://, rediss:// or unix://.",
    )
    store_ca: str = Field(
        "",
        description="PEM file of authorities, besides the machine's own: a store with TLS must show a "
        "certificate for its host that one of them signed.",
    )
    store_cert: str = Field(
        "", description="PEM file of the certificate shown to the store; empty shows none."
    )
    store_key: str = Field("", validate_default=True, description="PEM file of its private key.")
    store_cluster: bool = Field(False, description="The store is a cluster (cluster mode enabled).")
    store_timeout_s: float = Field(5.0, gt=0, description="Seconds a command may take.")
    store_connect_timeout_s: float = Field(2.0, gt=0, description="Seconds a connection may take.")
    store_connections: int = Field(64, ge=1, description="Connections to each server of the store.")
    durability: Durability = Field(
        Durability.LOCAL,
        description="What acknowledged means: local (on the store's disk, needs appendfsync always), "
        "replicated (also on replicas' disks), relaxed (in its memory, on disk within about a second).",
    )
    replicas: int = Field(1, ge=1, description="Replicas that must have a write on disk (replicated).")
    replica_timeout_s: float = Field(
        2.5,
        gt=0,
        description="Seconds to wait for them, then UNAVAILABLE.",
    )
    verify_durability: bool = Field(
        True, description="Check at start that the store is configured for the durability."
    )
    shards: int = Field(64, ge=1, le=999, description="Logical shards of a domain; fixed once it is opened.")
    deletion_secret: SecretStr = Field(
        SecretStr(""),
        description="Keys the hashes that remain of erased people (16 characters or more); fixed once a "
        "domain is opened. Empty: a random one, kept in the store itself.",
    )
    history_events: int = Field(500, ge=1, description="Latest events kept in a person's history.")
    seen_items: int = Field(5000, ge=1, description="Latest items kept in a person's seen set.")
    dedupe_events: int = Field(
        10_000, ge=1, description="Latest event ids of a person that are recognised when they come again."
    )
    log_events: int = Field(10_000_000, ge=1, description="Hard cap of a domain's event log.")
    impression_events: int = Field(
        5_000_000, ge=1, description="Latest impressions kept of a domain, apart from the event log."
    )
    log_retention_days: int = Field(
        0,
        ge=0,
        description="Days after which exported events leave the log; 0 keeps them until the hard cap. "
        "Impressions have days of their own.",
    )
    event_retention_days: str = Field(
        "0",
        description="Days after which events leave histories, seen items and the log, exported or not; 0 "
        "keeps them. By domain: `400,news=30`.",
    )
    impression_retention_days: str = Field(
        "0", description="Days after which impressions go; 0 keeps them. By domain as above."
    )
    idle_retention_days: str = Field(
        "0",
        description="Days without any event, profile or relation of a person after which they are erased as "
        "by DeleteUser; 0 keeps them. By domain as above.",
    )
    rewrite_hours: float = Field(
        24.0,
        ge=0,
        description="Hours after an erasure within which the store is asked to rewrite its append-only file, "
        "which holds the erased bytes until then; 0 leaves it to the store.",
    )
    item_changes: int = Field(100_000, ge=1, description="Item changes kept for followers to resume.")
    max_relations: int = Field(5000, ge=1, description="Relations of one person, removed ones included.")
    neighbours: int = Field(20, ge=0, description="Strongest relations looked at for the social view.")
    neighbour_events: int = Field(50, ge=1, description="Latest events of each of them.")
    trending_half_life_hours: float = Field(
        HALF_LIFE_S / 3600, ge=0.1, description="Hours after which an event counts half for trending."
    )
    trending_items: int = Field(10_000, ge=1, description="Items whose trending weight is kept.")
    repair_every_s: float = Field(
        30.0, gt=0, description="Seconds between looks for work that a crash left unfinished."
    )
    encoder_threads: int = Field(1, ge=1, description="Threads of the text encoder.")

    @field_validator("store_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if not value.startswith(_SCHEMES):
            raise ValueError(f"must start with {', '.join(_SCHEMES)}")
        return value

    @field_validator("event_retention_days", "impression_retention_days", "idle_retention_days")
    @classmethod
    def _days(cls, value: str) -> str:
        days_by_domain(value)
        return value

    @field_validator("store_ca", "store_cert")
    @classmethod
    def _with_tls(cls, value: str, info: ValidationInfo) -> str:
        if value and not info.data.get("store_url", _TLS_SCHEMES[0]).startswith(_TLS_SCHEMES):
            raise ValueError(f"must be empty where store_url does not start with {' or '.join(_TLS_SCHEMES)}")
        return value

    @field_validator("store_key")
    @classmethod
    def _with_cert(cls, value: str, info: ValidationInfo) -> str:
        cert = info.data.get("store_cert")
        if cert is not None and bool(cert) != bool(value):
            raise ValueError("must be set where store_cert is, and only there")
        return value

    @property
    def store_tls(self) -> TlsFiles | None:
        """None where the store's URL says no TLS."""
        names = tuple(f"WARMSTART_FEATURES_STORE_{part}" for part in ("CERT", "KEY", "CA"))
        files = TlsFiles(self.store_cert, self.store_key, self.store_ca, (names[0], names[1], names[2]))
        return files if self.store_url.startswith(_TLS_SCHEMES) else None

    @field_validator("deletion_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < _MIN_SECRET_CHARS:
            raise ValueError(f"must be empty or at least {_MIN_SECRET_CHARS} characters")
        return value
