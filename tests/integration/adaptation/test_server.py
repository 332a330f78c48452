"""The adaptation server over gRPC, on real models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from warmstart.adaptation.v1 import adaptation_service_pb2 as pb
from warmstart.adaptation.v1 import adaptation_service_pb2_grpc as rpc

from services.adaptation.app import build
from services.adaptation.settings import AdaptationSettings
from shared.artifacts import Registry
from shared.context.batch import build_inputs
from shared.domain import AdaptedUser, UserContext
from shared.errors import InvalidInput, ModelNotHeld, NoModel, TooLarge
from shared.inference.model import ServedModel
from shared.items import LiveItems
from shared.rpc.channels import call, connect
from shared.rpc.codec import decode_adapted_user, encode_context
from shared.rpc.server import running
from tests.artifacts import content_of, item_ids
from tests.item_stream import ItemStream
from tests.model_servers import Models, context_of, until

SERVICE = "warmstart.adaptation.v1.AdaptationService"


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


class Client:
    """Calls the server as others do."""

    def __init__(self, channel: Any) -> None:
        self.stub: rpc.AdaptationServiceAsyncStub = rpc.AdaptationServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)

    async def adapt(self, context: UserContext, *, version: str = "", on: bool = True) -> AdaptedUser:
        request = pb.AdaptUserRequest(
            context=encode_context(context), model_version=version, disable_adaptation=not on
        )
        return decode_adapted_user(
            (await call(self.stub.AdaptUser, request, timeout_s=10)).user, field="user"
        )

    async def adapt_all(self, contexts: list[UserContext]) -> list[AdaptedUser]:
        request = pb.BatchAdaptUsersRequest(contexts=[encode_context(c) for c in contexts])
        response = await call(self.stub.BatchAdaptUsers, request, timeout_s=30)
        return [decode_adapted_user(u, field="user") for u in response.users]

    async def held(self) -> list[tuple[str, int]]:
        """(version, items) of each model held."""
        response = await call(self.stub.GetServingModel, pb.GetServingModelRequest(), timeout_s=10)
        return [(m.model.version, m.num_items) for m in response.models]

    async def champion(self) -> str:
        held = await self.held()
        return held[0][0] if held else ""

    async def ready(self, service: str = SERVICE) -> bool:
        answer = await self.health.Check(health_pb2.HealthCheckRequest(service=service))
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@asynccontextmanager
async def served(registry: Registry, features: str = "") -> AsyncIterator[Client]:
    settings = AdaptationSettings(
        registry=str(registry.root), features_target=features, port=0, registry_interval_s=0.02
    )
    async with running(build(settings), settings) as target, connect(target) as channel:
        yield Client(channel)


async def test_queries_over_grpc_equal_the_signatures(models: Models, registry: Registry) -> None:
    ref = models.ref("first")
    models.copy_to(registry, ref)
    registry.promote("default", ref.version)
    artifact = registry.open(ref)
    model = ServedModel.load(artifact)
    people = [
        context_of("nobody"),
        context_of("short", "item-0003"),
        context_of("long", *item_ids(30)),
        context_of("odd", "item-0001", "never heard of", "item-0002", "item-0005"),
    ]
    async with served(registry) as client:
        for on in (True, False):
            answers = await asyncio.gather(*(client.adapt(p, on=on) for p in people))
            for person, adapted in zip(people, answers, strict=True):
                inputs = build_inputs([person], LiveItems(artifact, model).view, artifact.manifest.buckets)
                wanted = model.encode_adapt(inputs, np.array([float(on)], np.float32))
                np.testing.assert_allclose(adapted.queries, wanted.queries[0], rtol=0, atol=1e-5)
                assert adapted.model == ref
                assert adapted.tasks == ("next", "like", "rating")
                assert (adapted.uncertainty is not None) == on
                if adapted.uncertainty is not None:
                    found = np.zeros_like(wanted.factor[0])
                    found[: len(adapted.uncertainty.factor)] = adapted.uncertainty.factor
                    np.testing.assert_allclose(found, wanted.factor[0], atol=1e-5)
                    assert len(adapted.uncertainty.factor) == min(max(adapted.shots, 1), len(found))
                    assert adapted.uncertainty.offset == artifact.manifest.dims.adapt_offset
            assert [a.shots for a in answers] == [0, 1, 16, 3]
        together = await client.adapt_all(people * 10)
        assert len(together) == 40
        for person, adapted in zip(people, together[36:], strict=True):
            np.testing.assert_allclose(adapted.queries, (await client.adapt(person)).queries, atol=1e-5)


async def test_without_a_model_the_server_is_alive_but_not_ready(models: Models, registry: Registry) -> None:
    ref = models.ref("first")
    async with served(registry) as client:
        assert await client.ready("")
        assert not await client.ready()
        assert await client.held() == []
        with pytest.raises(NoModel, match="no model of domain 'default' is held yet"):
            await client.adapt(context_of("someone"))

        models.copy_to(registry, ref)
        registry.promote("default", ref.version)
        await until(client.ready)

        assert await client.held() == [(ref.version, 40)]
        assert (await client.adapt(context_of("someone", "item-0000"))).shots == 1


async def test_a_new_champion_is_swapped_in_under_load_without_a_failed_call(
    models: Models, registry: Registry
) -> None:
    refs = [models.ref("first"), models.ref("second", seed=1), models.ref("third", seed=2)]
    models.copy_to(registry, *refs)
    registry.promote("default", refs[0].version)
    people = [context_of(f"user {n}", *item_ids(n)) for n in range(8)]
    stop = asyncio.Event()
    answered: list[tuple[str, str]] = []

    async def keep_asking(client: Client, person: UserContext) -> None:
        while not stop.is_set():
            adapted = await client.adapt(person)
            assert np.isfinite(adapted.queries).all()
            answered.append((person.user_id, adapted.model.version))

    async with served(registry) as client:
        async with asyncio.TaskGroup() as tasks:
            for person in people:
                tasks.create_task(keep_asking(client, person))
            for ref in (refs[1], refs[2], refs[1]):
                registry.promote("default", ref.version)
                await until(lambda v=ref.version: _serves(client, v))  # type: ignore[misc]
                before = len(answered)
                await until(lambda b=before: _grown(answered, b + 40))  # type: ignore[misc]
                assert {version for _, version in answered[before + 20 :]} == {ref.version}
            stop.set()
        assert {version for _, version in answered} == {r.version for r in refs}
        assert [v for v, _ in await client.held()] == [refs[1].version, refs[2].version]

        pinned = await client.adapt(people[3], version=refs[2].version)
        assert pinned.model == refs[2]
        with pytest.raises(ModelNotHeld) as caught:
            await client.adapt(people[3], version=refs[0].version)
        assert caught.value.held == (refs[1].version, refs[2].version)


async def _serves(client: Client, version: str) -> bool:
    return await client.champion() == version


async def _grown(answered: list[Any], length: int) -> bool:
    return len(answered) >= length


async def test_models_that_do_not_work_are_refused_and_the_old_one_serves_on(
    models: Models, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    good, better = models.ref("first"), models.ref("second", seed=1)
    not_a_number = models.ref("not a number", spoil=_spoil)
    models.copy_to(registry, good, better, not_a_number)
    registry.promote("default", good.version)
    async with served(registry) as client:
        registry.promote("default", not_a_number.version)
        await until(lambda: _said(capsys, "encode_adapt must give finite values, got nan"))
        assert [v for v, _ in await client.held()] == [good.version]

        registry.promote("default", better.version)
        await until(lambda: _serves(client, better.version))
        (registry.root / "default" / good.version / "saved_model" / "saved_model.pb").write_bytes(b"x")
        (registry.root / "default" / "champion.json").write_text('{"version": "nowhere", "history": []}')
        await until(lambda: _said(capsys, "nowhere: must be a published version"))
        assert (await client.adapt(context_of("someone"))).model == better


def _spoil(model: Any) -> None:
    first = next(v for v in model.encoder.variables if isinstance(v, keras.Variable))
    first.assign(np.full(first.shape, np.nan, np.float32))


async def _said(capsys: pytest.CaptureFixture[str], words: str) -> bool:
    out = capsys.readouterr()
    return words in out.out + out.err


async def test_a_new_item_counts_as_a_shot_within_a_second(models: Models, registry: Registry) -> None:
    ref = models.ref("first")
    models.copy_to(registry, ref)
    registry.promote("default", ref.version)
    stream = ItemStream({i: content_of(i) for i in item_ids(39)})  # the 40th was deleted long ago
    person = context_of("fan", "item-0001", "brand new", "item-0039")
    settings = AdaptationSettings(port=0)
    async with running(stream, settings) as features, served(registry, features) as client:
        assert await client.held() == [(ref.version, 39)]
        assert (await client.adapt(person)).shots == 1

        await stream.upsert({"brand new": content_of("space opera")})
        assert await until(lambda: _shots(client, person, 2)) < 1.0

        await stream.delete("item-0001")
        assert await until(lambda: _shots(client, person, 1)) < 1.0
        assert await client.held() == [(ref.version, 39)]


async def _shots(client: Client, person: UserContext, shots: int) -> bool:
    return (await client.adapt(person)).shots == shots


def broken_requests() -> dict[str, pb.AdaptUserRequest]:
    """What is said of a request → the request."""

    def request(*liked: str, **fields: Any) -> pb.AdaptUserRequest:
        return pb.AdaptUserRequest(context=encode_context(context_of("someone", *liked, **fields)))

    two = ("item-0000", "item-0001")
    unknown_domain = request()
    unknown_domain.domain = "shop"
    nobody = request()
    nobody.context.user_id = ""
    longer, infinite = request(*two), request(*two)
    longer.context.history.actions.append(2)
    infinite.context.history.values[1] = float("nan")
    narrow = request(content_profile=np.ones(7, np.float32))
    no_number = request(social_profile=np.full(512, np.inf, np.float32))
    return {
        "domain must be one of default, got 'shop'": unknown_domain,
        "context must be set": pb.AdaptUserRequest(),
        r"context\.user_id must be 1\.\.256 bytes, got ''": nobody,
        r"context\.history\.actions must have the length of item_ids, 2, got 3": longer,
        r"context\.history\.values\[1\] must be finite, got nan": infinite,
        r"context\.content_profile\.shape must be \(512\), got \(7,\)": narrow,
        r"context\.social_profile\.data must be finite at 0, got inf": no_number,
    }


async def test_bad_input_is_refused_by_its_field(models: Models, registry: Registry) -> None:
    ref = models.ref("first")
    models.copy_to(registry, ref)
    registry.promote("default", ref.version)
    many = pb.BatchAdaptUsersRequest(contexts=[encode_context(context_of("someone"))] * 1025)
    async with served(registry) as client:
        for message, request in broken_requests().items():
            with pytest.raises(InvalidInput, match=message):
                await call(client.stub.AdaptUser, request, timeout_s=10)
        with pytest.raises(TooLarge, match="contexts must hold at most 1024, got 1025"):
            await call(client.stub.BatchAdaptUsers, many, timeout_s=10)
        assert (await client.adapt(context_of("another"))).shots == 0
