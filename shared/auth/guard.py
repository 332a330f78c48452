"""What a door asks of each call: whose it is, whether its caller may, and what is left of the quota."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from shared.auth.callers import Caller
from shared.auth.credentials import Authenticator, Credentials, Metadata
from shared.auth.followed import INTERVAL_S, FollowedFile
from shared.auth.metrics import AuthMetrics
from shared.auth.quotas import Quotas, cost_of
from shared.auth.scopes import scope_of
from shared.auth.settings import DoorSettings
from shared.domain import DEFAULT_DOMAIN
from shared.errors import (
    DomainDenied,
    PermissionDenied,
    QuotaExceeded,
    ScopeMissing,
    Unauthenticated,
    WarmstartError,
)
from shared.telemetry.logs import logger

# Not a line a refusal: strangers could fill the disk.
_TELL_EVERY_S = 10.0
_REFUSALS = (Unauthenticated, PermissionDenied, QuotaExceeded)
_SHOWN_DOMAINS = 20
_LOG = logger("auth")


@dataclass(slots=True, eq=False)
class Guard:
    """Of one door, for use on its event loop."""

    credentials: Credentials
    quotas: Quotas
    metrics: AuthMetrics = field(default_factory=AuthMetrics)
    clock: Callable[[], float] = time.monotonic
    _untold: Counter[str] = field(default_factory=Counter)
    _told_at: float = float("-inf")

    @classmethod
    def of(cls, settings: DoorSettings) -> Guard | None:
        """None where every call is taken. Raises SettingsError as `Credentials.of`."""
        if not settings.accepts:
            return None
        quotas = Quotas(settings.quota, replicas=settings.quota_replicas)
        return cls(Credentials.of(settings), quotas)

    def caller(self, metadata: Metadata) -> Caller:
        """Whose call it is. Raises Unauthenticated."""
        return self.credentials.caller(metadata)

    def check_method(self, caller: Caller, method: str) -> None:
        """Before the request is looked at. Raises ScopeMissing."""
        scope = scope_of(method)
        if scope not in caller.scopes:
            has = ", ".join(sorted(caller.scopes)) or "none"
            raise ScopeMissing(
                f"scope must be {scope} for {method.rpartition('/')[2]}, got {has}",
                metadata={"scope": scope.value},
            )

    def check_request(self, caller: Caller, request: Any) -> None:
        """Raises DomainDenied, the same whether or not there is such a domain; QuotaExceeded."""
        domain = request.domain or DEFAULT_DOMAIN
        if not caller.may_use(domain):
            has = ", ".join(sorted(caller.domains)[:_SHOWN_DOMAINS])
            raise DomainDenied(f"domain must be one that the credential names ({has}), got {domain[:64]!r}")
        self.quotas.charge(caller, cost_of(request))

    def note(self, caller: Caller | None, code: str, error: WarmstartError | None) -> None:
        """A call that has ended. caller: None = not known; error: why it was refused or failed."""
        if caller is not None:
            self.metrics.calls.labels(caller.label, code).inc()
        if isinstance(error, _REFUSALS):
            self.metrics.refusals.labels(error.reason).inc()
            self._tell(error.reason)

    @asynccontextmanager
    async def following(self, interval_s: float = INTERVAL_S) -> AsyncIterator[None]:
        """Takes up meanwhile what changes in the files of keys."""
        tasks = [asyncio.ensure_future(self._follow(file, interval_s)) for file in self.credentials.files]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, file: FollowedFile[Authenticator], interval_s: float) -> None:
        while True:
            try:
                await file.look()
            except Exception:  # else nothing would be taken up any more
                _LOG.exception("looking at a file failed", what=file.what)
            self.metrics.broken_files.labels(file.what).set(bool(file.problem))
            await asyncio.sleep(interval_s)

    def _tell(self, reason: str) -> None:
        self._untold[reason] += 1
        now = self.clock()
        if now - self._told_at >= _TELL_EVERY_S:
            _LOG.warning("calls refused", reasons=dict(self._untold))
            self._told_at = now
            self._untold.clear()
