"""What can go wrong, as exceptions that know their gRPC status.

    WarmstartError                 INTERNAL
    ├── InvalidInput               INVALID_ARGUMENT     a field breaks a rule (one or more Violations)
    ├── TooLarge                   RESOURCE_EXHAUSTED   a size or count is over its limit
    ├── NotFound                   NOT_FOUND
    ├── StaleCursor                OUT_OF_RANGE         a stream no longer reaches back so far
    ├── EmptyCatalogue             FAILED_PRECONDITION  there is nothing to recommend yet
    ├── ModelNotHeld               FAILED_PRECONDITION  another version is asked for than is held
    ├── WrongState                 FAILED_PRECONDITION  it cannot be done as things are now
    ├── Contended                  ABORTED              others change the same at once; later it will be taken
    ├── Unavailable                UNAVAILABLE          a dependency is away; trying again may help
    │   └── NoModel                UNAVAILABLE          no model is loaded yet
    ├── Overloaded                 RESOURCE_EXHAUSTED   a queue is full
    ├── QuotaExceeded              RESOURCE_EXHAUSTED   this caller has used up what it may ask for
    ├── Unauthenticated            UNAUTHENTICATED      the credential is not one that is accepted
    │   ├── CredentialMissing      UNAUTHENTICATED      there is none
    │   └── CredentialExpired      UNAUTHENTICATED      it was good once
    ├── PermissionDenied           PERMISSION_DENIED    the caller may not do this
    │   ├── ScopeMissing           PERMISSION_DENIED    its credential does not name the scope
    │   └── DomainDenied           PERMISSION_DENIED    … the domain
    ├── DeadlinePassed             DEADLINE_EXCEEDED    the caller has stopped waiting
    ├── ArtifactError              FAILED_PRECONDITION  an artifact is damaged or does not fit
    └── SettingsError              (start-up only)      bad values in the environment

Raised deep, translated once at the edge by `shared.rpc.interceptors`. Every message states
rule, field and value: ``page_size must be 1..500, got 0``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

_SHOWN_VALUE_CHARS = 80
RETRY_KEY = "retry_ms"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: `field` is the path in the request, `description` the whole sentence."""

    field: str
    description: str


def violation(field: str, rule: str, value: object) -> Violation:
    """``violation("page_size", "must be 1..500", 0)`` says ``page_size must be 1..500, got 0``."""
    try:
        shown = repr(value)
    except RecursionError:
        shown = f"a deeply nested {type(value).__name__}"
    if len(shown) > _SHOWN_VALUE_CHARS:
        size = len(value) if isinstance(value, str) else len(shown)  # without the quotes and escapes
        shown = f"{shown[:_SHOWN_VALUE_CHARS]}… ({size} characters)"
    return Violation(field, f"{field} {rule}, got {shown}")


def _arrived(cls: type[WarmstartError], args: tuple[object, ...]) -> WarmstartError:
    """An error without its `__init__`; unpickling adds its attributes."""
    error = cls.__new__(cls)
    error.args = args
    return error


class WarmstartError(Exception):
    """Base of every error we raise on purpose. `code` is the name of its gRPC status."""

    code = "INTERNAL"
    reason = "INTERNAL"
    default_metadata: ClassVar[Mapping[str, str]] = {}

    def __init__(self, message: str, *, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.metadata = {**self.default_metadata, **(metadata or {})}

    def __reduce__(self) -> tuple[object, ...]:
        """Training's workers are processes of their own: what they raise arrives whole, however a subclass is
        made."""
        return _arrived, (type(self), self.args), self.__dict__


class InvalidInput(WarmstartError):
    """One or more fields break their rules."""

    code = "INVALID_ARGUMENT"
    reason = "INVALID_INPUT"

    def __init__(self, violations: Iterable[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(v.description for v in self.violations))

    @classmethod
    def of(cls, field: str, rule: str, value: object) -> InvalidInput:
        return cls([violation(field, rule, value)])


class TooLarge(InvalidInput):
    """A count or size is over its limit."""

    code = "RESOURCE_EXHAUSTED"
    reason = "TOO_LARGE"


class NotFound(WarmstartError):
    code = "NOT_FOUND"
    reason = "NOT_FOUND"


class StaleCursor(WarmstartError):
    code = "OUT_OF_RANGE"
    reason = "STALE_CURSOR"


class EmptyCatalogue(WarmstartError):
    code = "FAILED_PRECONDITION"
    reason = "EMPTY_CATALOGUE"


class ModelNotHeld(WarmstartError):
    """The asked version is not held; `held` names those that are, newest first."""

    code = "FAILED_PRECONDITION"
    reason = "MODEL_NOT_HELD"

    def __init__(self, domain: str, version: str, held: Iterable[str]) -> None:
        self.held = tuple(held)
        names = ", ".join(self.held) or "none"
        super().__init__(
            f"model_version {version!r} of domain {domain!r} is not held here; held: {names}",
            metadata={"domain": domain, "version": version, "held": ",".join(self.held)},
        )


class WrongState(WarmstartError):
    """The request is good, but cannot be met as things are now; the message says why."""

    code = "FAILED_PRECONDITION"
    reason = "WRONG_STATE"


class Contended(WarmstartError):
    """No loss of the server, and of no use to try again at once. `RETRY_KEY` as of Overloaded."""

    code = "ABORTED"
    reason = "CONTENDED"

    @classmethod
    def for_now(cls, message: str) -> Contended:
        """Worth trying again in a second."""
        return cls(message, metadata={RETRY_KEY: "1000"})


class Unavailable(WarmstartError):
    code = "UNAVAILABLE"
    reason = "DEPENDENCY_UNAVAILABLE"


class NoModel(Unavailable):
    reason = "NO_MODEL"


class Overloaded(WarmstartError):
    """Metadata say under `RETRY_KEY` after how many milliseconds it is worth trying again."""

    code = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"
    default_metadata: ClassVar[Mapping[str, str]] = {RETRY_KEY: "1000"}


class QuotaExceeded(WarmstartError):
    """The caller's own doing, not the server's: others are served. `RETRY_KEY` as of Overloaded."""

    code = "RESOURCE_EXHAUSTED"
    reason = "QUOTA_EXCEEDED"


class Unauthenticated(WarmstartError):
    """Never shows the credential, nor whether a part of it was right."""

    code = "UNAUTHENTICATED"
    reason = "CREDENTIAL_INVALID"


class CredentialMissing(Unauthenticated):
    reason = "CREDENTIAL_MISSING"


class CredentialExpired(Unauthenticated):
    reason = "CREDENTIAL_EXPIRED"


class PermissionDenied(WarmstartError):
    code = "PERMISSION_DENIED"
    reason = "PERMISSION_DENIED"


class ScopeMissing(PermissionDenied):
    reason = "SCOPE_MISSING"


class DomainDenied(PermissionDenied):
    reason = "DOMAIN_DENIED"


class DeadlinePassed(WarmstartError):
    code = "DEADLINE_EXCEEDED"
    reason = "DEADLINE_PASSED"


class ArtifactError(WarmstartError):
    code = "FAILED_PRECONDITION"
    reason = "BAD_ARTIFACT"


class SettingsError(WarmstartError):
    """Every bad value of the environment at once, one a line."""

    code = "FAILED_PRECONDITION"
    reason = "BAD_SETTINGS"
