"""Is every part of the local cluster healthy?"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.cli.cluster.layout import PROGRAMS, SERVICES
from services.cli.cluster.ports import HOST, Ports
from services.cli.cluster.supervisor import ProgramState
from shared.artifacts import Registry
from shared.rpc.health import check

_MODEL_SERVICES = ("adaptation", "scoring")
_TIMEOUT_S = 1.0


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
    ports: Ports, programs: Mapping[str, ProgramState], registry: Path, domains: tuple[str, ...]
) -> list[PartHealth]:
    """All parts, in the order they start.

    A service that runs the model is as healthy as it can be while no domain has one: it says
    NOT_SERVING until the first model is published.
    """
    answers = await asyncio.gather(
        _ping(ports.valkey), *(check(ports.target(name), timeout_s=_TIMEOUT_S) for name in SERVICES)
    )
    no_model = not await asyncio.to_thread(_has_model, registry, domains)
    return [
        _part(name, ports.target(name), answer, programs.get(name), no_model and name in _MODEL_SERVICES)
        for name, answer in zip(PROGRAMS, answers, strict=True)
    ]


def _part(
    name: str, target: str, answer: str, program: ProgramState | None, waits_for_model: bool
) -> PartHealth:
    if program is None:
        return PartHealth(name, target, False, "not started")
    if program.state == "FATAL":
        return PartHealth(name, target, False, "keeps failing", program.pid, failed=True)
    if program.state not in ("RUNNING", "STARTING"):
        return PartHealth(name, target, False, program.state.lower(), program.pid)
    if answer == "SERVING":
        return PartHealth(name, target, True, "healthy", program.pid)
    if answer == "NOT_SERVING" and waits_for_model:
        return PartHealth(name, target, True, "waits for a first model", program.pid)
    return PartHealth(name, target, False, "starting", program.pid)


async def _ping(port: int) -> str:
    """SERVING where the store answers PING (the store loads its file first)."""
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
        return "UNAVAILABLE"
    return "SERVING" if answer.startswith(b"+PONG") else "NOT_SERVING"


def _has_model(registry: Path, domains: tuple[str, ...]) -> bool:
    return any(Registry(registry).champion(domain) is not None for domain in domains)
