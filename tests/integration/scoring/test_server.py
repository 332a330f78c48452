"""The scoring server over gRPC, on real models."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from warmstart.common.v1 import model_pb2
from warmstart.scoring.v1 import scoring_service_pb2 as pb
from warmstart.scoring.v1 import scoring_service_pb2_grpc as rpc

from services.scoring.app import build
from services.scoring.settings import ScoringSettings
from services.training.evaluation.served import ServedArtifact
from shared.artifacts import Artifact, Registry
from shared.domain import FloatArray, Trail
from shared.errors import InvalidInput, ModelNotHeld, NoModel, TooLarge
from shared.neighbours import NEIGHBOURS
from shared.rpc.channels import call, connect
from shared.rpc.codec import decode_floats, encode_tensor, encode_trail
from shared.rpc.server import running
from shared.transitions import CHANCE, Transitions
from shared.trends import Trends
from shared.vectors import unit_rows
from tests.artifacts import content_of, item_ids
from tests.item_stream import ItemStream
from tests.model_servers import Models, until


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


class Client:
    """Calls the server as others do."""

    def __init__(self, channel: Any) -> None:
        self.stub: rpc.ScoringServiceAsyncStub = rpc.ScoringServiceStub(channel)

    async def retrieve(self, *queries: pb.RetrievalQuery, **fields: Any) -> list[list[tuple[str, float]]]:
        request = pb.RetrieveItemsRequest(queries=queries, **fields)
        response = await call(self.stub.RetrieveItems, request, timeout_s=10)
        return [list(zip(r.item_ids, r.scores, strict=True)) for r in response.results]

    async def score(self, ids: Sequence[str], **fields: Any) -> pb.ScoreItemsResponse:
        return await call(self.stub.ScoreItems, pb.ScoreItemsRequest(item_ids=ids, **fields), timeout_s=10)

    async def held(self) -> list[tuple[str, int]]:
        response = await call(self.stub.GetServingModel, pb.GetServingModelRequest(), timeout_s=10)
        return [(m.model.version, m.num_items) for m in response.models]

    async def champion(self) -> str:
        held = await self.held()
        return held[0][0] if held else ""


@asynccontextmanager
async def served(registry: Registry, features: str = "", **more: Any) -> AsyncIterator[Client]:
    settings = ScoringSettings(
        registry=str(registry.root), features_target=features, port=0, registry_interval_s=0.02, **more
    )
    async with running(build(settings), settings) as target, connect(target) as channel:
        yield Client(channel)


@pytest.fixture
def artifact(models: Models, registry: Registry) -> Artifact:
    """The champion of `registry`."""
    ref = models.ref("first")
    models.copy_to(registry, ref)
    registry.promote("default", ref.version)
    return registry.open(ref)


def vector_query(vector: FloatArray, limit: int) -> pb.RetrievalQuery:
    return pb.RetrievalQuery(vector=encode_tensor(vector), limit=limit)


def items_query(*ids: str, weights: Sequence[float] = (), limit: int = 5) -> pb.RetrievalQuery:
    return pb.RetrievalQuery(items=pb.ItemsQuery(item_ids=ids, weights=weights), limit=limit)


def some_query(artifact: Artifact, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).normal(size=artifact.manifest.dims.output).astype(np.float32)


def best(scores: FloatArray, artifact: Artifact, limit: int) -> list[str]:
    """The plain way: sort everything."""
    ranked = sorted(zip(-scores, artifact.item_ids, strict=True))
    return [item_id for _, item_id in ranked[:limit]]


def directions(artifact: Artifact) -> FloatArray:
    rows = np.array(artifact.rows.output[:, : artifact.manifest.dims.taste])
    unit: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


async def test_the_best_items_for_vectors_and_for_items(artifact: Artifact, registry: Registry) -> None:
    query = some_query(artifact)
    scores = artifact.rows.output @ query
    mean = artifact.rows.output[[3, 7], : artifact.manifest.dims.taste]
    wanted = mean.mean(axis=0) / np.linalg.norm(mean.mean(axis=0))
    cosines = directions(artifact) @ wanted
    async with served(registry) as client:
        by_vector, by_items, by_unknown = await client.retrieve(
            vector_query(query, 7), items_query("item-0003", "item-0007"), items_query("never heard of")
        )
        assert [i for i, _ in by_vector] == best(scores, artifact, 7)
        np.testing.assert_allclose([s for _, s in by_vector], np.sort(scores)[::-1][:7], atol=1e-5)
        assert [i for i, _ in by_items] == best(cosines, artifact, 5)
        np.testing.assert_allclose([s for _, s in by_items], np.sort(cosines)[::-1][:5], atol=1e-5)
        assert by_unknown == []

        (rest,) = await client.retrieve(
            vector_query(query, 5000), exclude_item_ids=[*best(scores, artifact, 7), "never heard of"]
        )
        assert [i for i, _ in rest] == best(scores, artifact, 40)[7:]

        (weighted,) = await client.retrieve(items_query("item-0003", "item-0007", weights=[1.0, 0.0]))
        assert weighted[0][0] == "item-0003"
        assert weighted[0][1] == pytest.approx(1.0, abs=1e-5)


def chained(model: Any) -> None:
    """Each item is followed by the next one, and a little by the one after that."""
    rows = np.arange(model.num_items)
    items = np.stack([rows + 1, rows + 2], axis=1).astype(np.int32)
    items[items >= model.num_items] = -1
    model.transitions = Transitions(items, np.where(items < 0, 0.0, [0.5, 0.1]).astype(np.float32))


async def test_what_follows_a_persons_events_scores_higher(models: Models, registry: Registry) -> None:
    ref = models.ref("chained", prepare=chained, successors=2)
    models.copy_to(registry, ref)
    registry.promote("default", ref.version)
    artifact = registry.open(ref)
    query = some_query(artifact)
    place = artifact.manifest.dims.transition
    query[place] = 0.5
    trail = model_pb2.Trail(item_ids=["item-0003", "never heard of"], weights=[0.8, 0.2])
    scores = artifact.rows.output @ query
    wanted = scores.copy()
    wanted[[4, 5]] += 0.5 * np.log(1.0 + 0.8 * np.array([0.5, 0.1]) / CHANCE).astype(np.float32)
    async with served(registry) as client:
        (plain,) = await client.retrieve(vector_query(query, 40))
        assert [i for i, _ in plain] == best(scores, artifact, 40)
        task = model_pb2.TaskQuery(task="next", vector=encode_tensor(query))
        response = await call(
            client.stub.RetrieveItems,
            pb.RetrieveItemsRequest(
                queries=[vector_query(query, 3)],
                trail=trail,
                score_also=pb.ScoreAlso(queries=[task], item_ids=["item-0005", "item-0009"]),
            ),
            timeout_s=10,
        )
        (hits,) = response.results
        assert list(hits.item_ids) == best(wanted, artifact, 3)
        np.testing.assert_allclose(hits.scores, np.sort(wanted)[::-1][:3], atol=1e-5)
        values = decode_floats(response.scored.scores, field="scores", shape=(None, 1))
        found = dict(zip(response.scored.item_ids, values[:, 0], strict=True))
        assert found["item-0005"] == pytest.approx(wanted[5], abs=1e-5)
        assert found["item-0009"] == pytest.approx(wanted[9], abs=1e-5)
        scored = await client.score(["item-0004", "item-0009"], queries=[task], trail=trail)
        values = decode_floats(scored.scores, field="scores", shape=(2, 1))
        np.testing.assert_allclose(values[:, 0], wanted[[4, 9]], atol=1e-5)
        with pytest.raises(InvalidInput, match=r"trail\.weights must have the length of item_ids, 1"):
            await client.retrieve(vector_query(query, 3), trail=model_pb2.Trail(item_ids=["a"]))


async def test_into_a_new_item_follows_what_does_into_its_like(models: Models, registry: Registry) -> None:
    """The same in serving and in evaluation, and the mean over the nearest of the artifact's items."""
    ref = models.ref("chained", prepare=chained, successors=2)
    models.copy_to(registry, ref)
    registry.promote("default", ref.version)
    artifact = registry.open(ref)
    dims = artifact.manifest.dims
    query = np.zeros(dims.output, np.float32)
    query[dims.transition] = 0.5
    ids = item_ids(40)
    trail = Trail(tuple(ids[4:34]), np.full(30, 1.0 / 30.0, np.float32))
    evaluated = ServedArtifact.load(artifact)
    evaluated.add_items(["newer"], content_of("newer")[None])
    rows = evaluated.rows([*ids, "newer"])
    wanted = 0.5 * rows.following(artifact.transitions, *evaluated.following(trail))
    unit = unit_rows(rows.output[:, : dims.taste])
    # Nothing leads to the first item of the chain.
    nearest = np.argsort(-(unit[1:40] @ unit[40]))[:NEIGHBOURS] + 1
    assert wanted[40] == pytest.approx(wanted[nearest].mean(), abs=1e-5)
    assert wanted[40] > 0.0
    stream = ItemStream({i: content_of(i) for i in [*ids, "newer"]})
    async with running(stream, ScoringSettings(port=0)) as features, served(registry, features) as client:
        await until(lambda: _held_ids(client, "newer", "older"))
        task = model_pb2.TaskQuery(task="next", vector=encode_tensor(query))
        scored = await client.score([*ids, "newer"], queries=[task], trail=encode_trail(trail))
        values = decode_floats(scored.scores, field="scores", shape=(41, 1))
        np.testing.assert_allclose(values[:, 0], wanted, atol=1e-5)


def counted(model: Any) -> None:
    """Every item was chosen three times."""
    model.trends = Trends(np.full(model.num_items, 3.0, np.float32), prior=20.0)


async def test_what_is_trending_scores_higher_and_goes_on_doing_so_without_features(
    models: Models, registry: Registry
) -> None:
    ref = models.ref("counted", prepare=counted)
    models.copy_to(registry, ref)
    registry.promote("default", ref.version)
    artifact = registry.open(ref)
    ids, place = item_ids(40), artifact.manifest.dims.trend
    query = some_query(artifact)
    query[place] = 0.0
    asking = query.copy()
    asking[place] = 0.5
    tasks = [
        model_pb2.TaskQuery(task=task, vector=encode_tensor(vector))
        for task, vector in {"next": asking, "like": query}.items()
    ]
    stream = ItemStream({i: content_of(i) for i in [*ids, "newer"]})
    stream.trending = {"item-0007": 6.0, "newer": 3.0, "nobody's": 1.0}
    stream.more_trending = 5.0
    rows = np.array([7, -1, -1], np.int32)
    more, of_all = artifact.trends.lifts(rows, np.array([6.0, 3.0, 1.0], np.float32), 15.0)
    asked = [*ids, "newer"]

    async def gained(client: Client) -> FloatArray:
        scored = await client.score(asked, queries=tasks)
        found = decode_floats(scored.scores, field="scores", shape=(41, 2))
        return found[:, 0] - found[:, 1]

    wanted = np.full(41, 0.5 * of_all)
    wanted[[7, 40]] += 0.5 * more[:2]
    async with contextlib.AsyncExitStack() as stack:
        features = await stack.enter_async_context(running(stream, ScoringSettings(port=0)))
        async with served(registry, features, trends_interval_s=0.02) as client:
            await until(lambda: _held_ids(client, "newer", "older"))

            async def counts() -> bool:
                return bool(np.allclose(await gained(client), wanted, atol=1e-5))

            await until(counts)
            plain, hits = await client.retrieve(vector_query(query, 41), vector_query(asking, 41))
            before, now = dict(plain), dict(hits)
            found = np.array([now[i] - before[i] for i in asked])
            np.testing.assert_allclose(found, wanted, atol=1e-5)
            await stack.aclose()
            assert await counts()
            assert dict((await client.retrieve(vector_query(asking, 41)))[0]) == pytest.approx(now)


async def test_without_trending_items_or_trends_in_the_model_nothing_is_gained(
    models: Models, registry: Registry, artifact: Artifact
) -> None:
    """A model without a prior, and one with it whose server is told to count no item."""
    stream = ItemStream({i: content_of(i) for i in item_ids(40)})
    stream.trending = {"item-0007": 6.0}
    query = some_query(artifact)
    query[artifact.manifest.dims.trend] = 0.5
    task = model_pb2.TaskQuery(task="next", vector=encode_tensor(query))
    ref = models.ref("counted", prepare=counted)
    models.copy_to(registry, ref)
    async with running(stream, ScoringSettings(port=0)) as features:
        for version, items in ((artifact.ref, 100), (ref, 0)):
            registry.promote("default", version.version)
            rows = registry.open(version).rows.output
            async with served(registry, features, trending_items=items, trends_interval_s=0.02) as client:
                scored = await client.score(item_ids(40), queries=[task])
                found = decode_floats(scored.scores, field="scores", shape=(40, 1))
                np.testing.assert_allclose(found[:, 0], rows @ query, atol=1e-5)


async def test_scores_and_sketches_of_given_items(artifact: Artifact, registry: Registry) -> None:
    queries = {"next": some_query(artifact), "like": some_query(artifact, 1)}
    asked = ["item-0005", "never heard of", "item-0001", "item-0005"]
    async with served(registry) as client:
        response = await client.score(
            asked,
            queries=[model_pb2.TaskQuery(task=t, vector=encode_tensor(q)) for t, q in queries.items()],
            similar_to=pb.ItemsQuery(item_ids=["item-0001"]),
        )
        similar_only = await client.score(item_ids(40), similar_to=pb.ItemsQuery(item_ids=["unknown"]))
    assert list(response.item_ids) == ["item-0005", "item-0001", "item-0005"]
    assert list(response.missing_item_ids) == ["never heard of"]
    assert list(response.tasks) == ["next", "like", "similar"]
    rows = artifact.rows.output[[5, 1, 5]]
    likeness = directions(artifact)[[5, 1, 5]] @ directions(artifact)[1]
    scores = decode_floats(response.scores, field="scores", shape=(3, 3))
    np.testing.assert_allclose(
        scores, np.column_stack([rows @ queries["next"], rows @ queries["like"], likeness]), atol=1e-5
    )
    sketches = decode_floats(response.sketches, field="sketches", shape=(3, None))
    np.testing.assert_allclose(np.linalg.norm(sketches, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(sketches[0], sketches[2])
    assert response.model.version == artifact.ref.version
    assert list(similar_only.tasks) == ["similar"]
    assert not decode_floats(similar_only.scores, field="scores").any()


async def test_a_retrieval_brings_the_scores_that_a_second_call_would(
    artifact: Artifact, registry: Registry
) -> None:
    """Of what it retrieved, each item once, and of the items asked for besides."""
    queries = [
        model_pb2.TaskQuery(task=task, vector=encode_tensor(some_query(artifact, seed)))
        for seed, task in enumerate(("next", "like"))
    ]
    like = pb.ItemsQuery(item_ids=["item-0001"])
    others = ["item-0005", "never heard of", "item-0001"]
    request = pb.RetrieveItemsRequest(
        queries=[vector_query(some_query(artifact), 7), items_query("item-0003", "item-0007")],
        score_also=pb.ScoreAlso(queries=queries, item_ids=others, similar_to=like),
    )
    async with served(registry) as client:
        response = await call(client.stub.RetrieveItems, request, timeout_s=10)
        found = dict.fromkeys(i for result in response.results for i in result.item_ids)
        wanted = await client.score(list(dict.fromkeys((*found, *others))), queries=queries, similar_to=like)
    assert list(wanted.missing_item_ids) == ["never heard of"]
    assert response.scored == wanted


async def test_a_new_item_by_text_is_retrievable_within_a_second(
    artifact: Artifact, registry: Registry
) -> None:
    stream = ItemStream({i: content_of(i) for i in item_ids(40)})
    settings = ScoringSettings(port=0)

    async def found(client: Client, item_id: str) -> bool:
        (hits,) = await client.retrieve(vector_query(some_query(artifact), 5000))
        return item_id in [i for i, _ in hits]

    async def gone(client: Client, item_id: str) -> bool:
        return not await found(client, item_id)

    async with running(stream, settings) as features, served(registry, features) as client:
        assert not await found(client, "brand new")
        await stream.upsert({"brand new": content_of("item-0008")})  # the same text as an item's
        assert await until(lambda: found(client, "brand new")) < 1.0
        (alike,) = await client.retrieve(items_query("brand new", limit=1), exclude_item_ids=["brand new"])
        assert alike[0][0] in item_ids(40)

        await stream.delete("brand new", "item-0004")
        assert await until(lambda: gone(client, "brand new")) < 1.0
        assert await gone(client, "item-0004")
        assert await client.held() == [(artifact.ref.version, 39)]


async def test_rows_follow_a_feature_service_that_comes_back(artifact: Artifact, registry: Registry) -> None:
    """What was deleted while it was away, past what its stream still holds, is gone as well."""
    settings = ScoringSettings(port=0)
    stream = ItemStream({i: content_of(i) for i in item_ids(40)})
    async with running(stream, settings) as features, served(registry, features) as client:
        assert await client.held() == [(artifact.ref.version, 40)]
        del stream.items["item-0001"]
        stream.items["newer"] = content_of("newer")
        await stream.cut(forget=True)
        await until(lambda: _held_ids(client, "newer", "item-0001"))
        assert await client.held() == [(artifact.ref.version, 40)]

        await stream.cut(forget=False)
        await stream.delete("newer")
        await until(lambda: _held_ids(client, "item-0002", "newer"))


async def _held_ids(client: Client, there: str, gone: str) -> bool:
    response = await client.score([there, gone], similar_to=pb.ItemsQuery(item_ids=[there]))
    return list(response.item_ids) == [there] and list(response.missing_item_ids) == [gone]


async def test_a_new_champion_is_swapped_in_under_load_without_a_failed_call(
    models: Models, artifact: Artifact, registry: Registry
) -> None:
    second = models.ref("second", seed=1)
    models.copy_to(registry, second)
    stop = asyncio.Event()
    answered: list[str] = []

    async def keep_asking(client: Client, seed: int) -> None:
        request = pb.RetrieveItemsRequest(queries=[vector_query(some_query(artifact, seed), 10)])
        while not stop.is_set():
            response = await call(client.stub.RetrieveItems, request, timeout_s=10)
            assert len(response.results[0].item_ids) == 10
            answered.append(response.model.version)

    async def serves(client: Client, version: str) -> bool:
        return await client.champion() == version

    async with served(registry) as client:
        async with asyncio.TaskGroup() as tasks:
            for seed in range(8):
                tasks.create_task(keep_asking(client, seed))
            registry.promote("default", second.version)
            await until(lambda: serves(client, second.version))
            registry.roll_back("default")
            await until(lambda: serves(client, artifact.ref.version))
            stop.set()
        assert set(answered) == {artifact.ref.version, second.version}
        (pinned,) = await client.retrieve(vector_query(some_query(artifact), 3), model_version=second.version)
        assert len(pinned) == 3
        with pytest.raises(ModelNotHeld, match=r"model_version 'v0' of domain 'default' is not held here"):
            await client.retrieve(vector_query(some_query(artifact), 3), model_version="v0")


async def test_without_a_model_calls_are_unavailable(registry: Registry) -> None:
    async with served(registry) as client:
        with pytest.raises(NoModel):
            await client.retrieve(items_query("item-0000"))
        with pytest.raises(NoModel):
            await client.score(["item-0000"], similar_to=pb.ItemsQuery(item_ids=["item-0000"]))


GOOD = np.ones(33, np.float32)


BAD_RETRIEVALS: tuple[tuple[pb.RetrieveItemsRequest, type[Exception], str], ...] = (
    (pb.RetrieveItemsRequest(), InvalidInput, "queries must hold at least 1, got 0"),
    (
        pb.RetrieveItemsRequest(queries=[items_query("a")] * 17),
        TooLarge,
        "queries must hold at most 16, got 17",
    ),
    (
        pb.RetrieveItemsRequest(
            queries=[vector_query(GOOD, 4999)],
            score_also=pb.ScoreAlso(
                queries=[model_pb2.TaskQuery(task="t", vector=encode_tensor(GOOD))], item_ids=["a", "b"]
            ),
        ),
        TooLarge,
        r"score_also\.item_ids must hold at most 1, got 2",
    ),
    (
        pb.RetrieveItemsRequest(queries=[vector_query(GOOD, 3)], score_also=pb.ScoreAlso(item_ids=["a"])),
        InvalidInput,
        r"score_also\.queries must hold at least 1",
    ),
    (
        pb.RetrieveItemsRequest(queries=[pb.RetrievalQuery(limit=3)]),
        InvalidInput,
        r"queries\[0\]\.query must be set",
    ),
    (
        pb.RetrieveItemsRequest(queries=[items_query("a", limit=0)]),
        InvalidInput,
        r"queries\[0\]\.limit must be 1\.\.5000, got 0",
    ),
    (
        pb.RetrieveItemsRequest(queries=[items_query("a"), vector_query(GOOD[:5], 3)]),
        InvalidInput,
        r"queries\[1\]\.vector must have the version's output_dim, 33, entries, got 5",
    ),
    (
        pb.RetrieveItemsRequest(queries=[vector_query(GOOD * np.float32("nan"), 3)]),
        InvalidInput,
        r"queries\[0\]\.vector\.data must be finite at 0, got nan",
    ),
    (
        pb.RetrieveItemsRequest(queries=[items_query("a", weights=[1.0, 2.0])]),
        InvalidInput,
        r"queries\[0\]\.items\.weights must have the length of item_ids, 1, or be empty, got 2",
    ),
    (
        pb.RetrieveItemsRequest(queries=[items_query("a", weights=[float("inf")])]),
        InvalidInput,
        r"queries\[0\]\.items\.weights\[0\] must be -1e\+06\.\.1e\+06, got inf",
    ),
    (
        pb.RetrieveItemsRequest(queries=[items_query("a")], exclude_item_ids=["x"] * 20_001),
        TooLarge,
        "exclude_item_ids must hold at most 20000, got 20001",
    ),
    (
        pb.RetrieveItemsRequest(queries=[items_query("a")], domain="shop"),
        InvalidInput,
        "domain must be one of default, got 'shop'",
    ),
)


async def test_bad_retrieval_is_refused_by_its_field(artifact: Artifact, registry: Registry) -> None:
    async with served(registry) as client:
        for request, error, message in BAD_RETRIEVALS:
            with pytest.raises(error, match=message):
                await call(client.stub.RetrieveItems, request, timeout_s=10)


async def test_bad_scoring_is_refused_by_its_field(artifact: Artifact, registry: Registry) -> None:
    good = model_pb2.TaskQuery(task="next", vector=encode_tensor(GOOD))
    named_similar = model_pb2.TaskQuery(task="similar", vector=encode_tensor(GOOD))
    narrow = model_pb2.TaskQuery(task="next", vector=encode_tensor(GOOD[:4]))
    async with served(registry) as client:
        for ids, fields, error, message in (
            (["a"], {}, InvalidInput, "queries must hold at least 1"),
            (["a", ""], {"queries": [good]}, InvalidInput, r"item_ids\[1\] must be 1\.\.256 bytes"),
            (["a"] * 5001, {"queries": [good]}, TooLarge, "item_ids must hold at most 5000, got 5001"),
            (["a"], {"queries": [narrow]}, InvalidInput, r"queries\[0\]\.vector must have .* 33, entries"),
            (
                ["a"],
                {"queries": [named_similar], "similar_to": pb.ItemsQuery(item_ids=["a"])},
                InvalidInput,
                r"queries\[0\]\.task must not be the name of similar_to's column",
            ),
        ):
            with pytest.raises(error, match=message):
                await client.score(ids, **fields)
