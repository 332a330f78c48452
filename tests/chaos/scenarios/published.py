"""Models that must not serve become champion while lists are asked for."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from shared.artifacts.aliases import CHAMPION, Alias, read_alias, write_alias
from shared.domain import DEFAULT_DOMAIN
from tests.chaos import claims
from tests.chaos.claims import Claim
from tests.chaos.load import Load
from tests.chaos.outcome import Outcome
from tests.chaos.world import World
from tests.model_servers import until

_MODEL_SERVICES = ("adaptation", "scoring")


async def bad_models(world: World, name: str) -> tuple[Outcome, list[Claim]]:
    """Each is put where servers look without any check, as a broken publisher would; each must be refused by
    every server, while the champion of before serves on."""
    refused: dict[str, bool] = {}
    servers = [server for service in _MODEL_SERVICES for server in world.names(service)]
    domain_dir = world.registry.root / DEFAULT_DOMAIN
    good = read_alias(domain_dir, CHAMPION)
    assert good is not None

    async def fault(load: Load) -> None:
        for what, ref in world.bad.refs.items():
            source = world.bad.stock.root / ref.domain / ref.version
            await asyncio.to_thread(shutil.copytree, source, domain_dir / ref.version)
            write_alias(domain_dir, CHAMPION, Alias(ref.version, (good.version,)))

            async def said(version: str = ref.version) -> bool:
                return world.logs_say(version, servers)

            await until(said)
            await asyncio.sleep(world.effort.steady_s)
            refused[what] = all(_refused(world.servers[server].log, ref.version) for server in servers)
            write_alias(domain_dir, CHAMPION, good)
            await asyncio.sleep(1.0)

    found = await world.measured(name, fault)
    lists, least = sum(found.rungs.values()), world.effort.adapted
    return found, [
        claims.nothing_failed(found),
        Claim("each is refused by every server", all(refused.values()), str(refused)),
        Claim(
            f"lists are adapted throughout: at least {least:.0%}",
            found.rungs.get("adapted", 0) >= least * lists > 0,
            f"{dict(found.rungs)}",
        ),
        *claims.kept(found),
    ]


def _refused(log: Path, version: str) -> bool:
    lines = [line for line in log.read_text(errors="replace").splitlines() if version in line]
    return any("model_refused" in line for line in lines) and not any(
        "model_serving" in line for line in lines
    )
