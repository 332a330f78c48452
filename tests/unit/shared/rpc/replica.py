"""A real server process: `python -m tests.unit.shared.rpc.replica`, told by WARMSTART_REPLICA_*."""

from __future__ import annotations

import asyncio
import os
import sys

from warmstart.features.v1 import feature_service_pb2 as pb

from shared.rpc.server import main
from shared.settings import ServerSettings, settings_config
from tests.unit.shared.rpc.servers import TestedComponent


class ReplicaSettings(ServerSettings):
    model_config = settings_config("REPLICA")
    work_s: float = 0.02
    start_s: float = 0.0


def build(settings: ReplicaSettings) -> TestedComponent:
    async def answer(_: pb.GetUserContextRequest) -> pb.GetUserContextResponse:
        await asyncio.sleep(settings.work_s)
        return pb.GetUserContextResponse(seen_item_ids=[str(os.getpid())])

    async def start() -> None:
        await asyncio.sleep(settings.start_s)

    return TestedComponent(answer, on_start=start)


if __name__ == "__main__":
    sys.exit(main("replica", ReplicaSettings, build))
