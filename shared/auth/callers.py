"""A caller, as its credential makes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared.limits import domain_rule

# In place of names: every domain that the server has.
ALL_DOMAINS = "*"
MAX_DOMAINS = 1000


class Scope(StrEnum):
    """What a caller may do; each RPC asks for exactly one (`scopes.py`)."""

    RECOMMEND = "recommend"
    FEEDBACK = "feedback"
    CATALOGUE = "catalogue"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Quota:
    """A token bucket: `rate` tokens a second, `burst` saved up. A rate of 0 = no limit."""

    rate: float
    burst: float

    @property
    def unlimited(self) -> bool:
        return self.rate == 0.0

    @property
    def at_once(self) -> float:
        """Tokens that a full bucket holds: one call is let through, however low the rate."""
        return max(1.0, self.burst)


@dataclass(frozen=True, slots=True)
class Caller:
    """name: tells its bucket from others'; label: names it in logs and metrics, where a token's subject must
    not stand and would have no bound. quota: None = the server's default."""

    name: str
    label: str
    scopes: frozenset[Scope]
    domains: frozenset[str]
    quota: Quota | None = None

    @property
    def has_all_domains(self) -> bool:
        return ALL_DOMAINS in self.domains

    def may_use(self, domain: str) -> bool:
        return domain in self.domains or ALL_DOMAINS in self.domains

    def seen_of(self, domains: Iterable[str]) -> list[str]:
        """Those that the caller may know of, by name."""
        return sorted(domain for domain in domains if self.may_use(domain))


def credential_domain_rule(domain: str) -> str:
    """A domain as a credential names it."""
    rule = domain_rule(domain)
    return "" if domain == ALL_DOMAINS or not rule else f"{rule}, or {ALL_DOMAINS} for all"
