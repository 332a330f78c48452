"""A caller of the training service, and servers for it: in this process, or in one of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from warmstart.training.v1 import training_service_pb2 as pb
from warmstart.training.v1 import training_service_pb2_grpc as rpc

from services.training.service.app import build
from services.training.service.settings import TrainingServiceSettings
from shared.rpc.channels import call, connect, stream
from shared.rpc.health import wait_until_serving
from shared.rpc.server import running
from tests.ports import free_port
from tests.training_program import program

TIMEOUT_S = 60.0
_FAKED = (
    "import functools, sys; from services.training.service.app import build;"
    "from services.training.service.settings import TrainingServiceSettings;"
    "from shared.rpc.server import main; from tests.training_program import program;"
    "build = functools.partial(build, program=program(sys.argv[1]));"
    "sys.exit(main('training', TrainingServiceSettings, build))"
)
# Arguments of Python; what its trainings do follows, see `tests.training_program`.
FAKED_SERVER = ("-c", _FAKED)


@dataclass(frozen=True)
class Client:
    """One server's stub; every call means the domain `shop` unless it says another."""

    stub: rpc.TrainingServiceAsyncStub

    @classmethod
    @asynccontextmanager
    async def connected(cls, target: str) -> AsyncIterator[Client]:
        async with connect(target) as channel:
            yield cls(rpc.TrainingServiceStub(channel))

    async def ask(self, name: str, **fields: Any) -> Any:
        """`ask("StopTraining", training_id=…)`."""
        request = getattr(pb, f"{name}Request")(**{"domain": "shop", **fields})
        return await call(getattr(self.stub, name), request, timeout_s=TIMEOUT_S)

    async def start(self, **fields: Any) -> str:
        return str((await self.ask("StartTraining", **fields)).training_id)

    async def watch(self, training_id: str, domain: str = "shop") -> AsyncGenerator[Any, None]:
        request = pb.WatchTrainingRequest(domain=domain, training_id=training_id)
        async with aclosing(stream(self.stub.WatchTraining, request)) as responses:
            async for response in responses:
                yield response

    async def to_its_end(self, training_id: str) -> list[pb.WatchTrainingResponse]:
        return [update async for update in self.watch(training_id)]

    async def until(self, training_id: str, stage: str, step: int) -> None:
        """Returns once the stage is so far."""
        async with aclosing(self.watch(training_id)) as updates:
            async for update in updates:
                told = [*update.training.stages, update.progress]
                if any(one.stage == stage and one.step >= step for one in told):
                    return
        raise AssertionError(f"it ended before step {step} of {stage}: {update}")

    async def listed(self, **fields: Any) -> list[pb.Training]:
        return list((await self.ask("ListTrainings", **fields)).trainings)


def settings_of(directory: Path, **changes: Any) -> dict[str, Any]:
    return {
        "port": 0, "registry": str(directory / "registry"), "runs": str(directory / "runs"),
        "domains": "shop,films,books", "grace_s": 0.2, "drain_s": 0.0, **changes,
    }  # fmt: skip


@asynccontextmanager
async def serving(directory: Path, how: str, **changes: Any) -> AsyncIterator[str]:
    """A server in this process, whose trainings are `tests.training_program`; its "host:port"."""
    settings = TrainingServiceSettings(**settings_of(directory, **changes))
    async with running(build(settings, program=program(how)), settings, name="training") as target:
        yield target


@asynccontextmanager
async def served(directory: Path, how: str, **changes: Any) -> AsyncIterator[Client]:
    """The same, and a client of it."""
    async with serving(directory, how, **changes) as target, Client.connected(target) as client:
        yield client


@dataclass(frozen=True)
class ServerProcess:
    """A server in a process of its own."""

    process: asyncio.subprocess.Process
    target: str

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def server_process(directory: Path, how: str = "", **changes: Any) -> AsyncIterator[ServerProcess]:
    """Serving; killed at the end where it still runs. how: as `served`, "" trains in earnest."""
    port = free_port()
    told = settings_of(directory, port=port, log_level="warning", **changes)
    environment = {f"WARMSTART_TRAINING_{name.upper()}": str(value) for name, value in told.items()}
    module = [*FAKED_SERVER, how] if how else ["-m", "services.training.service"]
    process = await asyncio.create_subprocess_exec(sys.executable, *module, env=os.environ | environment)
    server = ServerProcess(process, f"127.0.0.1:{port}")
    try:
        await wait_until_serving(server.target, TIMEOUT_S)
        yield server
    finally:
        if process.returncode is None:
            await server.kill()
