"""What the public doors are told of their callers, besides what every server is told."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from shared.auth.callers import Quota
from shared.auth.jwt_keys import secret_key
from shared.settings import ServerSettings, default_data_dir

OFF, KEYS, JWT = "off", "keys", "jwt"


class DoorSettings(ServerSettings):
    """Settings of a server that callers from outside reach."""

    auth: Literal["", "off", "keys", "jwt", "keys,jwt", "jwt,keys"] = Field(
        "",
        description="Credentials accepted: keys, jwt, or keys,jwt; off takes every call. Empty is off on a"
        " loopback address; on others it must be set.",
    )
    auth_keys: str = Field(
        default_factory=lambda: str(default_data_dir() / "keys.json"),
        description="File of keys that `warmstart keys` writes; followed when it changes. Default"
        " `./var/keys.json`.",
    )
    auth_jwt_keys: str = Field(
        "", description="File of public keys that sign tokens, a JWK set or PEM; followed when it changes."
    )
    auth_jwt_secret: SecretStr = Field(
        SecretStr(""), description="Secret that signs tokens by HS256 (32 bytes or more), beside or instead."
    )
    auth_jwt_audience: str = Field(
        "", max_length=256, description="Audience that a token must name (`aud`); required with jwt."
    )
    auth_jwt_issuer: str = Field(
        "", max_length=256, description="Issuer that a token must name (`iss`); empty takes any."
    )
    quota_rate: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="Calls a second of a caller that has no quota of its own; 0 = no limit.",
    )
    quota_burst: float = Field(
        0.0, ge=0, le=1e6, description="Calls that such a caller may save up; 0 = those of one second."
    )
    quota_replicas: int = Field(
        1, ge=1, le=1000, description="Replicas that share a caller's calls: each grants its part of a quota."
    )
    max_streams_a_caller: int = Field(
        16, ge=1, description="Streams that one caller may have open at once; more are refused."
    )

    @property
    def accepts(self) -> frozenset[str]:
        """Kinds of credentials; none where every call is taken."""
        return frozenset(self.auth.split(",")) & {KEYS, JWT}

    @property
    def quota(self) -> Quota:
        return Quota(self.quota_rate, self.quota_burst or self.quota_rate)

    @field_validator("auth")
    @classmethod
    def _said_outside(cls, value: str, info: ValidationInfo) -> str:
        host = info.data.get("host")
        if not value and host is not None and not is_loopback(host):
            raise ValueError(
                f"must be set where the server listens on {host}, which others can reach: keys, jwt or"
                " keys,jwt; off where something in front of it, such as a mesh, checks who calls"
            )
        return value

    @field_validator("auth_jwt_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        secret = value.get_secret_value()
        if secret:
            secret_key(secret)
        if JWT in info.data.get("auth", "") and not secret and not info.data.get("auth_jwt_keys"):
            raise ValueError("must be set with jwt, or a file of public keys in its place (AUTH_JWT_KEYS)")
        return value

    @field_validator("auth_jwt_audience")
    @classmethod
    def _named(cls, value: str, info: ValidationInfo) -> str:
        if JWT in info.data.get("auth", "") and not value:
            raise ValueError("must be set with jwt: a token for another service must not open this one")
        return value

    @field_validator("quota_rate")
    @classmethod
    def _has_callers(cls, value: float, info: ValidationInfo) -> float:
        if value and info.data.get("auth", KEYS) in ("", OFF):
            raise ValueError("must be 0 while auth is off: a quota is a caller's, and nobody says who calls")
        return value


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address. A name other than localhost may mean any."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
