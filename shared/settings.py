"""Typed settings from the environment: `WARMSTART_<SERVICE>_<NAME>`, every bad value reported at once.

Each server subclasses `ServerSettings` in its own `settings.py`:

    class GatewaySettings(ServerSettings):
        model_config = settings_config("GATEWAY")
        port: int = Field(20051, ge=0, le=65535, description="…")

and starts with `load(GatewaySettings)`. The field descriptions are the README's settings table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.domain import DEFAULT_DOMAIN
from shared.errors import SettingsError
from shared.limits import domain_rule

BAD_SETTINGS = "bad settings:"
S = TypeVar("S", bound=BaseSettings)


def settings_config(service: str) -> SettingsConfigDict:
    """Reads `WARMSTART_<service>_*`; refuses nothing else in the environment."""
    return SettingsConfigDict(env_prefix=f"WARMSTART_{service}_", frozen=True, extra="ignore")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one end of connections; "" where it has none, certificate and key together or neither.

    cert: the chain that is shown, its own certificate first; key: its private key; ca: whom to believe about
    the other end. names: what an operator calls the three, for errors.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""
    names: tuple[str, str, str] = ("tls_cert", "tls_key", "tls_ca")


class ServerSettings(BaseSettings):
    """What every server is told."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 or [::] in a container.")
    port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 takes a free one.")
    metrics_port: int = Field(-1, ge=-1, le=65535, description="Prometheus port; -1 turns it off.")
    domains: Annotated[tuple[str, ...], NoDecode] = Field(
        (DEFAULT_DOMAIN,), min_length=1, description="Domains served, separated by commas."
    )
    max_message_bytes: int = Field(4 << 20, ge=1 << 16, le=1 << 30, description="Largest message accepted.")
    max_concurrent_rpcs: int = Field(
        256,
        ge=1,
        description="Calls in work at once, of which writes get three quarters at most, and others as many; "
        "more are refused.",
    )
    max_streams: int = Field(1024, ge=1, description="Streams open at once; more are refused.")
    drain_s: float = Field(1.0, ge=0, description="Seconds between NOT_SERVING and the stop on SIGTERM.")
    grace_s: float = Field(5.0, ge=0, description="Seconds that calls in flight get to finish on SIGTERM.")
    start_timeout_s: float = Field(60.0, gt=0, description="Seconds to wait for dependencies at start.")
    reflection: bool = Field(
        False, description="Serve gRPC reflection, which tells any caller the contract; `warmstart up` does."
    )
    tls_cert: str = Field(
        "",
        description="PEM file of this service's certificate chain, shown to its callers and to the servers "
        "that it calls; empty serves without TLS.",
    )
    tls_key: str = Field(
        "", validate_default=True, description="PEM file of the certificate's private key, without password."
    )
    tls_client_ca: str = Field(
        "",
        validate_default=True,
        description="PEM file of authorities: callers must show a certificate that one of them signed; empty "
        "asks for none.",
    )
    tls_client_names: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        validate_default=True,
        description="Subject alternative names, separated by commas: a caller's certificate must hold one; "
        "empty takes any that is signed.",
    )
    tls_ca: str = Field(
        "",
        description="PEM file of authorities: servers that this one calls must show a certificate that one "
        "of them signed, for the name called; empty calls without TLS.",
    )
    scheduling: Literal["batch", "other"] = Field(
        "batch",
        description="How Linux shares processors: batch lets whoever computes finish its turn, which makes a "
        "tenth to a fifth more lists where processors are the limit; other is the system's default.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["console", "json"] = Field("console", description="How logs are written.")
    log_secret: SecretStr = Field(
        SecretStr(""),
        description="Keys the pseudonyms that stand for people in logs; the same on all servers, so that a "
        "person can be followed. Empty: a random one, new at each start.",
    )

    @field_validator("domains", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(v.strip() for v in value.split(",")) if isinstance(value, str) else value

    @field_validator("tls_client_names", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("tls_key", "tls_client_ca", "tls_client_names")
    @classmethod
    def _fits_the_others(cls, value: str | tuple[str, ...], info: ValidationInfo) -> str | tuple[str, ...]:
        wanted = "tls_client_ca" if info.field_name == "tls_client_names" else "tls_cert"
        other = info.data.get(wanted)
        if value and other == "":
            raise ValueError(f"must be empty where {wanted} is")
        if info.field_name == "tls_key" and other and not value:
            raise ValueError(f"must be set where {wanted} is")
        return value

    @field_validator("domains")
    @classmethod
    def _well_formed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for domain in value:
            broken = domain_rule(domain)
            if broken:
                raise ValueError(f"domain {broken}, got {domain!r}")
        return value

    @property
    def serving_tls(self) -> TlsFiles | None:
        """What callers are met with; None = without TLS."""
        files = TlsFiles(self.tls_cert, self.tls_key, self.tls_client_ca, self._names("client_ca"))
        return files if self.tls_cert else None

    @property
    def calling_tls(self) -> TlsFiles | None:
        """What servers are called with; None = without TLS."""
        files = TlsFiles(self.tls_cert, self.tls_key, self.tls_ca, self._names("ca"))
        return files if self.tls_ca else None

    def _names(self, ca: str) -> tuple[str, str, str]:
        prefix = f"{self.model_config.get('env_prefix', '')}TLS_"
        return f"{prefix}CERT", f"{prefix}KEY", f"{prefix}{ca.upper()}"


def load(cls: type[S], **overrides: Any) -> S:
    """Reads the environment. Raises SettingsError naming every bad variable, its rule and its value."""
    try:
        return cls(**overrides)
    except ValidationError as error:
        lines = [_told(cls, overrides, broken) for broken in error.errors()]
        raise SettingsError(f"{BAD_SETTINGS}\n  " + "\n  ".join(lines)) from error


def unread(cls: type[BaseSettings]) -> dict[str, str]:
    """Variables of this service that are no setting, each with the setting that is most like it, or "".

    A misspelt one changes nothing; who set it is to be told.
    """
    prefix = str(cls.model_config.get("env_prefix", ""))
    known = [name.upper() for name in cls.model_fields]
    given = sorted(
        name.removeprefix(prefix) for name in map(str.upper, os.environ) if name.startswith(prefix)
    )
    alike = {name: get_close_matches(name, known, 1) for name in given if name not in known}
    return {prefix + name: prefix + found[0] if found else "" for name, found in alike.items()}


def _told(cls: type[BaseSettings], overrides: Mapping[str, Any], broken: Mapping[str, Any]) -> str:
    """One bad setting: the variable, which part of it if one is meant, the rule and the value."""
    name, *within = map(str, broken["loc"] or ("",))
    variable = f"{cls.model_config.get('env_prefix', '')}{name}".upper()
    value, rule = broken["input"], _rule(cls, name, broken)
    if within:
        given = {key.upper(): text for key, text in os.environ.items()}
        value, rule = overrides.get(name, given.get(variable, value)), f"{'.'.join(within)} {rule}"
    return f"{variable}: {rule}, got {_shown(cls, name, value)}"


def _rule(cls: type[BaseSettings], name: str, broken: Mapping[str, Any]) -> str:
    """In our words: ``Input should be a valid integer, unable to …`` → ``must be a valid integer``."""
    field = cls.model_fields.get(name)
    if broken["type"] == "literal_error" and field is not None and get_origin(field.annotation) is Literal:
        return _choice(get_args(field.annotation))
    said = broken["msg"].removeprefix("Value error, ").partition(", unable to ")[0]
    return re.sub("^(Input|String|Value|Tuple|Dictionary) should ", "must ", said)


def _choice(known: Sequence[str]) -> str:
    """Quoted where some are lists themselves."""
    show = repr if any("," in value for value in known) else str
    return f"must be one of {', '.join(show(v) for v in known if v)}{'' if all(known) else ', or empty'}"


def _shown(cls: type[BaseSettings], name: str, value: object) -> str:
    """The refused value of a field; a secret is not shown."""
    field = cls.model_fields.get(name)
    if field is None or field.annotation is not SecretStr:
        return repr(value)
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return "a secret" if text else "none"


def default_data_dir() -> Path:
    """Where the local cluster keeps its data: `./var` under the current directory."""
    return Path("var").resolve()
