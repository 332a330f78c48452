"""The training server as a process: killed in the middle of a training, and started anew."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from warmstart.training.v1 import training_service_pb2 as pb

from shared.artifacts import Registry
from shared.processes.family import has_ended
from tests.integration.training.service_client import Client, server_process
from tests.integration.training.test_service import aliases, state_of
from tests.model_servers import until
from tests.unit.services.training import synthetic

pytestmark = pytest.mark.timeout(240)


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


async def settled(client: Client, training_id: str) -> pb.Training:
    """As it is once what an earlier server left over has ended."""
    return (await client.to_its_end(training_id))[-1].training


async def test_a_training_of_a_killed_server_is_interrupted_and_resumed(tmp_path: Path) -> None:
    async with server_process(tmp_path, "wait") as server, Client.connected(server.target) as client:
        training_id = await client.start(request_key="k")
        await client.until(training_id, "pretrain", 3)
        children = family(server.process.pid)
        assert children
        await server.kill()
    async with server_process(tmp_path, "wait") as server, Client.connected(server.target) as client:
        interrupted = await settled(client, training_id)
        assert state_of(interrupted) == "INTERRUPTED"
        assert all(has_ended(child) for child in children)
        assert interrupted.stages[-1].stage == "pretrain"
        assert await client.start(request_key="k") == training_id  # starts nothing
        assert state_of((await client.listed())[0]) == "INTERRUPTED"
        assert await client.start(resume=training_id) == training_id
        assert state_of((await client.to_its_end(training_id))[-1].training) == "SUCCEEDED"


async def test_sigterm_ends_server_and_training_in_order(tmp_path: Path) -> None:
    async with server_process(tmp_path, "wait") as server, Client.connected(server.target) as client:
        training_id = await client.start()
        await client.until(training_id, "pretrain", 3)
        children = family(server.process.pid)
        server.process.terminate()
        assert await server.process.wait() == 0
        assert all(has_ended(child) for child in children)
        assert '"state": 6' in (tmp_path / "runs" / training_id / "training.json").read_text()


def movielens_like(directory: Path) -> pb.Dataset:
    """The synthetic world in the files of MovieLens-1M, which the service knows by name."""
    directory.mkdir()
    ratings = [
        f"{user[1:]}::{item[1:]}::{value:g}::{time_ms // 1000}"
        for user, item, _, value, time_ms in synthetic.rows(people=100, events=34, items=100)
    ]
    films = [f"{n:03d}::{synthetic.title(n)} (1995)::{synthetic.KINDS[n % 4]}" for n in range(100)]
    (directory / "ratings.dat").write_text("\n".join(ratings) + "\n")
    (directory / "movies.dat").write_text("\n".join(films) + "\n")
    (directory / "users.dat").write_text("".join(f"{n:03d}::M::25::4::1000\n" for n in range(100)))
    return pb.Dataset(name="movielens-1m", path=str(directory))


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_a_real_training_survives_its_server_and_is_published(tmp_path: Path) -> None:
    """Killed with -9 in pre-training, resumed by the next server, published, promoted, rolled back."""
    options = pb.TrainingOptions(
        dataset=movielens_like(tmp_path / "films"), preset="tiny", pretrain_steps=60, meta_steps=40
    )
    registry = Registry(tmp_path / "registry")
    async with server_process(tmp_path) as server, Client.connected(server.target) as client:
        training_id = await client.start(options=options)
        await client.until(training_id, "pretrain", 20)
        children = family(server.process.pid)
        await server.kill()
    async with server_process(tmp_path) as server, Client.connected(server.target) as client:
        interrupted = await settled(client, training_id)
        assert state_of(interrupted) == "INTERRUPTED"

        async def all_ended() -> bool:
            return all(has_ended(child) for child in children)

        await until(all_ended, within_s=300)
        await client.start(resume=training_id)
        told = await client.to_its_end(training_id)
        ended = told[-1].training
        assert state_of(ended) == "SUCCEEDED", ended.error
        steps = [u.progress.step for u in told if u.progress.stage == "pretrain" and u.progress.step]
        assert steps[0] > 7, "it began anew"
        stages = [stage.stage for stage in ended.stages]
        assert stages == ["prepare", "pretrain", "meta-train", "adapt-on", "evaluate", "publish"]
        first = ended.result.version
        assert registry.versions("shop") == [first]
        assert ended.result.promoted
        assert "shots" in ended.result.report
        assert ended.result.metrics["adaptation on"] > ended.result.metrics["popularity"]

        again = pb.TrainingOptions(promote=pb.PROMOTE_POLICY_ALWAYS, seed=1)
        again.MergeFrom(options)
        second = (await client.to_its_end(await client.start(options=again)))[-1].training.result.version
        assert aliases(await client.ask("ListModels")) == {second: ["champion"], first: ["previous"]}
        await client.ask("RollBackModel")
        assert aliases(await client.ask("ListModels")) == {second: [], first: ["champion"]}
        assert (await client.ask("ListModels")).models[0].preset == "tiny"
