"""One caller cannot take all of the streams: over its share it is refused, and others still watch."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
from warmstart.training.v1 import training_service_pb2 as pb
from warmstart.training.v1 import training_service_pb2_grpc as rpc

from shared.errors import Overloaded
from shared.rpc.channels import connect
from tests.integration.auth.doors import KeyFile
from tests.integration.training.service_client import Client, serving

MOVIES = pb.TrainingOptions(dataset=pb.Dataset(name="movielens-100k"), preset="tiny", seed=3)


async def test_watchers_of_a_caller_are_limited_and_one_that_leaves_makes_room(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    ann, bob = keys.add(), keys.add()
    door = {"auth": "keys", "auth_keys": str(keys.path), "max_streams_a_caller": 2, "stop_s": 0.5}
    async with serving(tmp_path, "wait", **door) as target, AsyncExitStack() as around:

        async def client_of(key: str) -> Client:
            channel = await around.enter_async_context(connect(target, credential=key))
            return Client(rpc.TrainingServiceStub(channel))

        anns, bobs = await client_of(ann), await client_of(bob)
        training_id = await anns.start(options=MOVIES)
        watching = [anns.watch(training_id) for _ in range(2)]
        for watch in watching:
            assert (await anext(watch)).training.training_id == training_id
        async with aclosing(anns.watch(training_id)) as third:
            with pytest.raises(Overloaded, match="streams of one caller must be at most 2, got one more"):
                await anext(third)
        async with aclosing(bobs.watch(training_id)) as others:
            assert (await anext(others)).training.training_id == training_id
        await watching[0].aclose()
        async with asyncio.timeout(10.0):
            while True:
                async with aclosing(anns.watch(training_id)) as again:
                    try:
                        assert (await anext(again)).training.training_id == training_id
                        break
                    except Overloaded:  # the server has not heard yet that one has left
                        await asyncio.sleep(0.01)
        await watching[1].aclose()
