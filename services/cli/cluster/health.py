"""Is every part of the local cluster healthy?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from services.cli.cluster.layout import PROGRAMS, SERVICES
from services.cli.cluster.ports import HOST, Ports
from services.cli.cluster.supervisor import ProgramState
from shared.artifacts import Registry
from shared.errors import WarmstartError
from shared.rpc.health import check
from shared.tls import TlsPem

_TIMEOUT_S = 1.0
HEALTHY = "healthy"
_LOADS = "loads its model"
# A model server says that it is alive once its champion is held or refused; its service follows at once.
_SETTLES_S = 2.0
REFUSED = "without a model: see its log"
# The service whose readiness is asked, by program: a server is alive before its services can work.
_SERVICE_NAMES = {
    "features": "warmstart.features.v1.FeatureService",
    "adaptation": "warmstart.adaptation.v1.AdaptationService",
    "scoring": "warmstart.scoring.v1.ScoringService",
    "gateway": "warmstart.gateway.v1.RecommendationService",
    "training": "warmstart.training.v1.TrainingService",
}
_READY, _ALIVE, _AWAY = "ready", "alive", "away"


@dataclass(frozen=True, slots=True)
class PartHealth:
    """One line of the status table. `note` is for people."""

    name: str
    target: str
    healthy: bool
    note: str
    pid: int = 0
    failed: bool = False


async def cluster_health(
    ports: Ports,
    programs: Mapping[str, ProgramState],
    registry: Path,
    domains: tuple[str, ...],
    pem: TlsPem | None = None,
) -> list[PartHealth]:
    """All parts, in the order they start. pem: what servers with TLS are asked with.

    A service that runs the model is as healthy as it can be where it is alive and no model has been
    published yet; where one was, see `Refusals`.
    """
    answers = await asyncio.gather(
        _ping(ports.valkey), *(_probe(ports.target(name), _SERVICE_NAMES[name], pem) for name in SERVICES)
    )
    no_model = not await asyncio.to_thread(_has_model, registry, domains)
    return [
        _part(name, ports.target(name), answer, programs.get(name), no_model)
        for name, answer in zip(PROGRAMS, answers, strict=True)
    ]


class Refusals:
    """Tells model servers that have no model to serve from those that are about to have one."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def judge(self, parts: Sequence[PartHealth], now_s: float) -> list[PartHealth]:
        """Who has been alive without its model for `_SETTLES_S` is as healthy as it can be: its champion is
        refused, or loads for longer than its server's START_TIMEOUT_S."""
        self._since = {p.name: self._since.get(p.name, now_s) for p in parts if p.note == _LOADS}
        return [
            replace(p, healthy=True, note=REFUSED)
            if p.name in self._since and now_s - self._since[p.name] >= _SETTLES_S
            else p
            for p in parts
        ]


def _part(name: str, target: str, answer: str, program: ProgramState | None, no_model: bool) -> PartHealth:
    if program is None:
        return PartHealth(name, target, False, "not started")
    if program.state == "FATAL":
        return PartHealth(name, target, False, "keeps failing", program.pid, failed=True)
    if program.state not in ("RUNNING", "STARTING"):
        return PartHealth(name, target, False, program.state.lower(), program.pid)
    if answer == _READY:
        return PartHealth(name, target, True, HEALTHY, program.pid)
    if answer == _ALIVE and no_model:
        return PartHealth(name, target, True, "waits for a first model", program.pid)
    note = _LOADS if answer == _ALIVE else "starting"
    return PartHealth(name, target, False, note, program.pid)


async def _probe(target: str, service: str, pem: TlsPem | None) -> str:
    """Ready where the service says SERVING, alive where only its server does."""
    for name, word in ((service, _READY), ("", _ALIVE)):
        if await check(target, name, pem=pem, timeout_s=_TIMEOUT_S) == "SERVING":
            return word
    return _AWAY


async def _ping(port: int) -> str:
    """Ready where the store answers PING (the store loads its file first)."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(b"PING\r\n")
                answer = await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()
    except OSError:
        return _AWAY
    return _READY if answer.startswith(b"+PONG") else _AWAY


def _has_model(registry: Path, domains: tuple[str, ...]) -> bool:
    return any(_has_champion(registry, domain) for domain in domains)


def _has_champion(registry: Path, domain: str) -> bool:
    try:
        return Registry(registry).champion(domain) is not None
    except WarmstartError:  # a damaged alias: a champion was promoted, and cannot be served
        return True
