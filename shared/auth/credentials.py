"""From a call's metadata to its caller: `authorization: Bearer <key or token>`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.auth.callers import Caller
from shared.auth.followed import FollowedFile
from shared.auth.jwt_keys import VerifyingKey, VerifyingKeys, parse_public_keys, secret_key
from shared.auth.key_file import parse_keys
from shared.auth.keys import PREFIX, KeyRing
from shared.auth.settings import JWT, KEYS, DoorSettings
from shared.auth.tokens import TokenRules, Tokens
from shared.errors import CredentialMissing, SettingsError, Unauthenticated

METADATA_KEY = "authorization"
_SCHEME = "bearer"
_NAMES = {KEYS: f"a key ({PREFIX}…)", JWT: "a signed JWT"}

Metadata = Iterable[tuple[str, str | bytes]]


class Authenticator(Protocol):
    """What knows credentials of one kind."""

    def caller(self, credential: str) -> Caller:
        """Raises Unauthenticated."""
        ...


@dataclass(frozen=True, slots=True)
class _Newest:
    """Whatever the file holds now."""

    file: FollowedFile[Authenticator]

    def caller(self, credential: str) -> Caller:
        return self.file.value.caller(credential)


@dataclass(frozen=True, slots=True)
class Credentials:
    """kinds: what knows them, by kind; files: those to follow."""

    kinds: dict[str, Authenticator]
    files: tuple[FollowedFile[Authenticator], ...] = ()

    @classmethod
    def of(cls, settings: DoorSettings) -> Credentials:
        """Raises SettingsError where a file cannot be read or is broken."""
        kinds: dict[str, Authenticator] = {}
        files = []
        if KEYS in settings.accepts:
            files.append(_followed(settings, "auth_keys", _key_ring, "keys"))
            kinds[KEYS] = _Newest(files[-1])
        if JWT in settings.accepts:
            signed = _Signed.of(settings)
            if settings.auth_jwt_keys:
                files.append(_followed(settings, "auth_jwt_keys", signed.by_file, "public keys"))
                kinds[JWT] = _Newest(files[-1])
            else:
                kinds[JWT] = signed.by_secret()
        return cls(kinds, tuple(files))

    def caller(self, metadata: Metadata) -> Caller:
        """Raises Unauthenticated (CredentialMissing, CredentialExpired)."""
        given = [value for key, value in metadata if key == METADATA_KEY]
        if not given:
            raise CredentialMissing(f"metadata must have {METADATA_KEY}: Bearer and {self._wanted}")
        if len(given) > 1 or not isinstance(given[0], str):
            raise Unauthenticated(f"metadata must have {METADATA_KEY} once, as text")
        scheme, _, credential = given[0].partition(" ")
        if scheme.lower() != _SCHEME or not credential:
            raise Unauthenticated(f"{METADATA_KEY} must be Bearer and {self._wanted}")
        known = self.kinds.get(KEYS if credential.startswith(PREFIX) else JWT)
        if known is None:
            raise Unauthenticated(f"the credential must be {self._wanted}")
        return known.caller(credential)

    @property
    def _wanted(self) -> str:
        return " or ".join(_NAMES[kind] for kind in self.kinds)


@dataclass(frozen=True, slots=True)
class _Signed:
    """How tokens are checked, whatever the file of public keys holds."""

    rules: TokenRules
    secrets: tuple[VerifyingKey, ...]

    @classmethod
    def of(cls, settings: DoorSettings) -> _Signed:
        secret = settings.auth_jwt_secret.get_secret_value()
        rules = TokenRules(settings.auth_jwt_audience, settings.auth_jwt_issuer)
        return cls(rules, (secret_key(secret),) if secret else ())

    def by_file(self, content: bytes) -> Tokens:
        """Anew, with nothing remembered: what a key that is gone has signed is good no longer."""
        return Tokens(VerifyingKeys([*self.secrets, *parse_public_keys(content)]), self.rules)

    def by_secret(self) -> Tokens:
        return Tokens(VerifyingKeys(self.secrets), self.rules)


def _followed(
    settings: DoorSettings, name: str, parse: Callable[[bytes], Authenticator], what: str
) -> FollowedFile[Authenticator]:
    path = getattr(settings, name)
    try:
        return FollowedFile(Path(path), parse, what)
    except (OSError, ValueError) as error:
        variable = f"{settings.model_config.get('env_prefix', '')}{name.upper()}"
        why = error.strerror if isinstance(error, OSError) else error
        hint = " (`warmstart keys create` makes one)" if name == "auth_keys" else ""
        raise SettingsError(
            f"bad settings:\n  {variable}: must be a file of {what}{hint}: {why}, got {path!r}"
        ) from error


def _key_ring(content: bytes) -> KeyRing:
    return KeyRing(parse_keys(content))
