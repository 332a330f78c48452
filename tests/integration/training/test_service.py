"""The training service over gRPC: a real server, real processes that say what a training says."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest
from warmstart.training.v1 import training_service_pb2 as pb

from shared.artifacts import Registry
from shared.errors import ArtifactError, InvalidInput, NotFound, Overloaded, Unavailable, WrongState
from tests.artifacts import publish_plain
from tests.integration.training.service_client import Client, served, serving
from tests.training_program import VERSION

MOVIES = pb.TrainingOptions(dataset=pb.Dataset(name="movielens-100k"), preset="tiny", seed=3)


def state_of(training: pb.Training) -> str:
    return pb.TrainingState.Name(training.state).removeprefix("TRAINING_STATE_")


async def test_a_training_is_started_watched_and_listed(tmp_path: Path) -> None:
    async with served(tmp_path, "succeed") as client:
        training_id = await client.start(options=MOVIES)
        told = await client.to_its_end(training_id)
        ended = told[-1].training
        assert state_of(ended) == "SUCCEEDED"
        assert ended.result.version == VERSION
        assert ended.result.promoted
        assert ended.result.metrics["adaptation on"] == pytest.approx(0.2)
        assert ended.result.report == "## Few shots\n"
        assert ended.result.report_files["markdown"] == f"{ended.run_directory}/report.md"
        assert ended.options.dataset.name == "movielens-100k"
        assert (ended.options.preset, ended.options.adapter, ended.options.seed) == ("tiny", "ridge", 3)
        assert [stage.stage for stage in ended.stages] == ["pretrain", "evaluate"]
        assert Path(ended.run_directory) == tmp_path / "runs" / training_id
        (listed,) = await client.listed()
        assert (listed.training_id, listed.result.version) == (training_id, VERSION)
        assert not listed.log
        assert await client.listed(domain="films") == []


async def test_a_watcher_is_told_what_was_so_far_then_what_happens_then_the_end(tmp_path: Path) -> None:
    async with served(tmp_path, "gate") as client:
        training_id = await client.start()
        await client.until(training_id, "pretrain", 3)
        async with aclosing(client.watch(training_id)) as late:
            first = (await anext(late)).training
            assert state_of(first) == "RUNNING"
            assert (first.stages[-1].stage, first.stages[-1].step, first.stages[-1].total) == (
                "pretrain",
                3,
                10,
            )
            assert dict(first.stages[-1].metrics) == {"loss": 2.5}
            assert not first.options.HasField("dataset")  # the feature service's data
            (tmp_path / "runs" / training_id / "go").touch()
            rest = [update async for update in late]
        assert "evaluate" in [update.progress.stage for update in rest]
        assert state_of(rest[-1].training) == "SUCCEEDED"


async def test_a_training_that_fails_tells_the_error(tmp_path: Path) -> None:
    async with served(tmp_path, "refuse") as client:
        ended = (await client.to_its_end(await client.start()))[-1].training
        assert state_of(ended) == "FAILED"
        assert ended.error == "events must not be empty: import some first, got 0"
        assert not ended.HasField("result")


async def test_a_second_start_of_a_domain_is_refused_with_the_id_of_the_first(tmp_path: Path) -> None:
    async with served(tmp_path, "wait", max_running=2) as client:
        first = await client.start(request_key="k")
        assert await client.start(request_key="k") == first
        with pytest.raises(WrongState, match=f"'shop' trains already: {first} is running") as refused:
            await client.start()
        assert refused.value.metadata == {"training_id": first}
        await client.start(domain="films")
        with pytest.raises(Overloaded, match="trainings running must be at most 2"):
            await client.start(domain="books")


async def test_a_stopped_training_can_be_resumed(tmp_path: Path) -> None:
    async with served(tmp_path, "wait") as client:
        training_id = await client.start()
        await client.until(training_id, "pretrain", 3)
        stopping = (await client.ask("StopTraining", training_id=training_id)).training
        assert state_of(stopping) in ("STOPPING", "STOPPED")  # as it is when the answer leaves
        assert state_of((await client.to_its_end(training_id))[-1].training) == "STOPPED"
        assert await client.start(resume=training_id) == training_id
        assert state_of((await client.to_its_end(training_id))[-1].training) == "SUCCEEDED"
        with pytest.raises(WrongState, match="nothing to resume"):
            await client.start(resume=training_id)


@pytest.mark.parametrize(
    ("name", "fields", "field"),
    [
        ("StartTraining", {"options": pb.TrainingOptions(workers=-1)}, "options.workers"),
        ("StartTraining", {"options": pb.TrainingOptions(preset="huge")}, "options.preset"),
        ("StartTraining", {"options": pb.TrainingOptions(dataset=pb.Dataset())}, "options.dataset.name"),
        ("StartTraining", {"resume": "t", "options": pb.TrainingOptions(seed=1)}, "options"),
        ("StartTraining", {"request_key": "x" * 129}, "request_key"),
        ("StartTraining", {"domain": "elsewhere"}, "domain"),
        ("WatchTraining", {"training_id": ""}, "training_id"),
        ("StopTraining", {"training_id": "a\nb"}, "training_id"),
        ("ListTrainings", {"page_size": 501}, "page_size"),
        ("ListModels", {"page_size": -1}, "page_size"),
        ("PromoteModel", {"version": ""}, "version"),
    ],
)
async def test_a_bad_field_is_named(tmp_path: Path, name: str, fields: dict[str, Any], field: str) -> None:
    async with served(tmp_path, "succeed") as client:
        with pytest.raises(InvalidInput) as refused:
            if name == "WatchTraining":
                await anext(client.watch(fields["training_id"]))
            else:
                await client.ask(name, **fields)
        assert [violation.field for violation in refused.value.violations] == [field]
        assert await client.listed() == []


async def test_unknown_trainings_are_not_found(tmp_path: Path) -> None:
    async with served(tmp_path, "succeed") as client:
        for ask in (
            client.ask("StopTraining", training_id="t1"),
            client.ask("StartTraining", resume="t1"),
            anext(client.watch("t1")),
        ):
            with pytest.raises(NotFound, match="domain 'shop' has no training 't1'"):
                await ask


async def test_trainings_are_listed_page_by_page(tmp_path: Path) -> None:
    async with served(tmp_path, "refuse") as client:
        ids = []
        for _ in range(3):
            ids.insert(0, await client.start())
            await client.to_its_end(ids[0])
        first = await client.ask("ListTrainings", page_size=2)
        second = await client.ask("ListTrainings", page_size=2, page_token=first.next_page_token)
        assert [t.training_id for t in (*first.trainings, *second.trainings)] == ids
        assert second.next_page_token == ""


async def test_a_server_that_stops_ends_its_watches_and_interrupts_its_trainings(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        async with serving(tmp_path, "wait") as target:
            client = await stack.enter_async_context(Client.connected(target))
            training_id = await client.start()
            await client.until(training_id, "pretrain", 3)
            watching = asyncio.create_task(client.to_its_end(training_id))
            await client.listed()  # answered after the watch has begun
        with pytest.raises(Unavailable, match="stopping"):
            await watching
    async with served(tmp_path, "wait") as client:
        (interrupted,) = await client.listed()
        assert state_of(interrupted) == "INTERRUPTED"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


def aliases(page: pb.ListModelsResponse) -> dict[str, list[str]]:
    return {model.version: list(model.aliases) for model in page.models}


async def test_models_are_listed_promoted_and_rolled_back(tmp_path: Path, registry: Registry) -> None:
    old, new = (
        publish_plain(registry, "shop", model={"preset": "tiny"}, metrics={"ndcg10": n / 10}).version
        for n in (1, 2)
    )
    async with served(tmp_path, "succeed") as client:
        with pytest.raises(WrongState, match="no champion to roll back"):
            await client.ask("RollBackModel")
        assert (await client.ask("PromoteModel", version=old)).champion.version == old
        with pytest.raises(WrongState, match="no earlier champion"):
            await client.ask("RollBackModel")
        await client.ask("PromoteModel", version=new)
        page = await client.ask("ListModels")
        assert aliases(page) == {new: ["champion"], old: ["previous"]}
        newest = page.models[0]
        assert (newest.version, newest.preset, newest.adapter, newest.items) == (new, "tiny", "ridge", 5)
        assert newest.metrics["ndcg10"] == pytest.approx(0.2)
        assert newest.created_ms > 0
        assert (await client.ask("RollBackModel")).champion.version == old
        assert aliases(await client.ask("ListModels")) == {new: [], old: ["champion"]}
        assert registry.champion("shop").version == old  # type: ignore[union-attr]
        with pytest.raises(NotFound, match="no published version 'v9'"):
            await client.ask("PromoteModel", version="v9")
        assert list((await client.ask("ListModels", domain="films")).models) == []


async def test_models_are_listed_page_by_page(tmp_path: Path, registry: Registry) -> None:
    versions = [publish_plain(registry, "shop").version for _ in range(3)]
    async with served(tmp_path, "succeed") as client:
        first = await client.ask("ListModels", page_size=2)
        second = await client.ask("ListModels", page_size=2, page_token=first.next_page_token)
        assert [m.version for m in (*first.models, *second.models)] == versions[::-1]
        assert second.next_page_token == ""


async def test_what_is_damaged_hides_nothing_else(tmp_path: Path, registry: Registry) -> None:
    bad, good = (publish_plain(registry, "shop").version for _ in range(2))
    registry.promote("shop", bad)
    (tmp_path / "registry/shop/champion.json").write_text("{")
    (tmp_path / "registry/shop" / bad / "manifest.json").write_text("{")
    async with served(tmp_path, "succeed") as client:
        page = await client.ask("ListModels")
        assert [m.version for m in page.models] == [good, bad]
        assert "manifest.json" in page.models[1].problem
        assert "champion.json" in page.aliases_problem
        with pytest.raises(ArtifactError):
            await client.ask("PromoteModel", version=bad)
        await client.ask("PromoteModel", version=good)  # mends the alias
        assert aliases(await client.ask("ListModels"))[good] == ["champion"]
