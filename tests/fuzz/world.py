"""The real servers, one of each, with a small real model and something known in them; and a canary.

The canary is a person and some items that no case can name. What is told of them is the same before and
after: whatever was sent meanwhile has not spoiled the servers' state.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.protobuf.message import Message
from warmstart.adaptation.v1 import adaptation_service_pb2 as adaptation
from warmstart.adaptation.v1.adaptation_service_pb2_grpc import AdaptationServiceStub
from warmstart.common.v1 import event_pb2, item_pb2
from warmstart.gateway.v1 import catalog_service_pb2 as catalog
from warmstart.gateway.v1 import recommendation_service_pb2 as lists
from warmstart.gateway.v1 import user_service_pb2 as users
from warmstart.gateway.v1.catalog_service_pb2_grpc import CatalogServiceStub
from warmstart.gateway.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from warmstart.gateway.v1.user_service_pb2_grpc import UserServiceStub
from warmstart.scoring.v1 import scoring_service_pb2 as scoring
from warmstart.scoring.v1.scoring_service_pb2_grpc import ScoringServiceStub

from shared.artifacts import Registry
from shared.rpc.codec import encode_context
from tests.artifacts import publish_model
from tests.chaos.servers import Server, Servers
from tests.fuzz.seeds import BARE, DOMAIN, ITEMS, PEOPLE, event
from tests.fuzz.values import NOW_MS, Known
from tests.integration.training.service_client import FAKED_SERVER
from tests.model_servers import context_of, until
from tests.ports import free_port

_WELL_TIMEOUT_S = 60.0
_CALL_TIMEOUT_S = 20.0
_SAID = re.compile(
    # A person may be erased between a list and its impressions.
    r"Traceback|\[error *\] (?!impressions refused)|Fatal Python error|Segmentation fault"
)
# Growth beyond this, over all that was sent after the first round, is a leak.
GROWTH_MB = 256.0


@dataclass(slots=True)
class Memory:
    """Resident megabytes of a server: at the start, after the first round, at the most, and now."""

    start: float
    warm: float = 0.0
    peak: float = 0.0
    now: float = 0.0


@dataclass(slots=True, eq=False)
class World:
    servers: Servers
    channels: Mapping[str, grpc.aio.Channel]
    canary: Canary
    output_dim: int
    versions: tuple[str, ...]
    memory: dict[str, Memory]
    _read: dict[str, int] = field(default_factory=dict)

    def know(self, known: Known) -> None:
        """Adds the versions that there are."""
        for name in ("version", "model_version"):
            known.add(name, *self.versions)

    async def problems(self) -> list[str]:
        """What is wrong with the servers now: one has ended, said something, grown, or forgotten."""
        found = self._ended() or [*self._said(), *self._grown()]
        if not any("ended" in one for one in found):
            found += await self.canary.problems()
        return found

    def _ended(self) -> list[str]:
        ended = []
        for name, server in self.servers.all.items():
            code = None if server.process is None else server.process.poll()
            if code is not None:
                ended.append(f"{name} ended with {code}: {server.log.read_text(errors='replace')[-1500:]}")
        return ended

    def _said(self) -> list[str]:
        """What servers log only where something is wrong with them."""
        found = []
        for name, server in self.servers.all.items():
            with server.log.open("rb") as log:
                log.seek(self._read.get(name, 0))
                text = log.read().decode(errors="replace")
                self._read[name] = log.tell()
            said = _SAID.search(text)
            if said is not None:
                found.append(f"{name} says: {text[max(0, said.start() - 300) : said.start() + 1700]}")
        return found

    def _grown(self) -> list[str]:
        found = []
        for name, memory in self.memory.items():
            memory.now = resident_mb(self.servers[name])
            memory.peak = max(memory.peak, memory.now)
            memory.warm = memory.warm or memory.now
            if memory.now - memory.warm > GROWTH_MB:
                found.append(f"{name} grew from {memory.warm:.0f} to {memory.now:.0f} MB")
        return found


@dataclass(slots=True, eq=False)
class Canary:
    """Known answers. person: and his items, which only this object knows."""

    stubs: Mapping[str, Any]
    person: str
    items: tuple[str, ...]
    expected: dict[str, bytes] = field(default_factory=dict)
    version: str = ""

    async def settle(self) -> None:
        """Stores the items and what the person did, and notes what is told of them once all is well."""
        told = [
            item_pb2.Item(item_id=i, title=f"Canary {i}", categories=["canary"], created_ms=NOW_MS - 10_000)
            for i in self.items
        ]
        await self._ask("catalog", "UpsertItems", catalog.UpsertItemsRequest(items=told))
        liked = [
            event(n, event_id=f"canary-{n}", user_id=self.person, item_id=i, action=event_pb2.ACTION_LIKE)
            for n, i in enumerate(self.items[:3])
        ]
        await self._ask("lists", "RecordFeedback", lists.RecordFeedbackRequest(events=liked))
        await until(self.well)
        self.expected = await self._told()

    async def well(self) -> bool:
        """Whether lists come from the model, with nothing missing."""
        try:
            answer = await self._list()
        except grpc.aio.AioRpcError:
            return False
        return (
            answer.rung == lists.RUNG_ADAPTED
            and not answer.degradations
            and len(answer.items) == len(self.items)
        )

    async def problems(self) -> list[str]:
        """What is told otherwise than at the beginning."""
        try:
            told = await self._told()
            await until(self.well, within_s=_WELL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return [f"a good request fails: {error.code().name} {error.details()}"]
        except AssertionError:
            return [f"a good list is no good list: {str(await self._list())[:1500]}"]
        return [
            f"{name} of the canary has changed"
            for name, value in told.items()
            if value != self.expected[name]
        ]

    async def _told(self) -> dict[str, bytes]:
        """Deterministic answers, serialised."""
        person = users.ExportUserRequest(user_id=self.person)
        exported = await self._ask("users", "ExportUser", person)
        # The impressions of its lists come and go with the log, and are counted; what it did stays.
        kept = [e for e in exported.events if e.action != event_pb2.ACTION_IMPRESSION]
        del exported.events[:]
        exported.events.extend(kept)
        exported.ClearField("recognised_events")
        exported.ClearField("next_page_token")
        got = await self._ask("catalog", "GetItems", catalog.GetItemsRequest(item_ids=self.items))
        context = context_of(self.person, *self.items[:3])
        adapted = await self._ask(
            "adaptation",
            "AdaptUser",
            adaptation.AdaptUserRequest(context=encode_context(context), model_version=self.version),
        )
        vectors = [query.vector.data for query in adapted.user.queries]
        scored = await self._ask(
            "scoring",
            "ScoreItems",
            scoring.ScoreItemsRequest(
                item_ids=self.items,
                model_version=self.version,
                similar_to=scoring.ItemsQuery(item_ids=self.items[:1]),
            ),
        )
        return {
            "ExportUser": exported.SerializeToString(deterministic=True),
            "GetItems": got.SerializeToString(deterministic=True),
            "AdaptUser": b"".join(vectors),
            "ScoreItems": _rounded(scored.scores.data),
        }

    async def _list(self) -> lists.RecommendResponse:
        asked = lists.RecommendRequest(
            user_id=self.person, candidate_item_ids=self.items, page_size=20, include_seen=True
        )
        answer: lists.RecommendResponse = await self._ask("lists", "Recommend", asked)
        return answer

    async def _ask(self, stub: str, method: str, request: Message) -> Any:
        return await getattr(self.stubs[stub], method)(request, timeout=_CALL_TIMEOUT_S)


def _rounded(data: bytes) -> bytes:
    """Float32 scores to five digits: sums in another order differ in the last."""
    import numpy as np

    return np.round(np.frombuffer(data, "<f4"), 4).tobytes()


def resident_mb(server: Server) -> float:
    """Of the process and those it started (each server runs below its leash)."""
    process = psutil.Process(server.pid)
    family = [process, *process.children(recursive=True)]
    total = 0
    for one in family:
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


@asynccontextmanager
async def open_world(directory: Path) -> AsyncIterator[World]:
    """Started, with a catalogue, people and a canary; gone at the end."""
    root = directory / "registry"
    servers = Servers(directory, root, two=())
    _tell(servers, root, directory)
    # They start while there is nothing to serve yet, as they may.
    published = asyncio.ensure_future(asyncio.to_thread(_publish, Registry(root)))
    names = ["features-0", "adaptation-0", "scoring-0", "gateway-0", "training"]
    try:
        await asyncio.gather(servers.start("valkey", *names), published)
        versions, output_dim = published.result()
        channels = {name.partition("-")[0]: _channel(servers[name].target) for name in names}
        stubs = {
            "lists": RecommendationServiceStub(channels["gateway"]),
            "catalog": CatalogServiceStub(channels["gateway"]),
            "users": UserServiceStub(channels["gateway"]),
            "adaptation": AdaptationServiceStub(channels["adaptation"]),
            "scoring": ScoringServiceStub(channels["scoring"]),
        }
        mark = secrets.token_hex(8)
        canary = Canary(
            stubs, f"canary-{mark}", tuple(f"canary-{mark}-{n}" for n in range(8)), version=versions[0]
        )
        await restock(channels["gateway"])
        await canary.settle()
        memory = {name: Memory(resident_mb(servers[name])) for name in ("valkey", *names)}
        yield World(servers, channels, canary, output_dim, versions, memory)
        await asyncio.gather(*(channel.close() for channel in channels.values()))
    finally:
        await servers.kill(*(s.name for s in servers.all.values() if s.process is not None))


async def restock(gateway: grpc.aio.Channel) -> None:
    """The items and people that most cases name: cases also delete them."""
    items = [
        item_pb2.Item(
            item_id=i, title=f"Title of {i}", categories=["drama" if n % 2 else "war"],
            attributes={"brand": "acme"}, created_ms=NOW_MS - 1000 * n,
        )
        for n, i in enumerate(ITEMS)
    ]  # fmt: skip
    await CatalogServiceStub(gateway).UpsertItems(
        catalog.UpsertItemsRequest(items=items), timeout=_CALL_TIMEOUT_S
    )
    # Without an id: a person who was erased begins anew only with what is dated later.
    events = [event(n, event_id="", time_ms=0) for n in range(2 * len(PEOPLE))]
    await RecommendationServiceStub(gateway).RecordFeedback(
        lists.RecordFeedbackRequest(events=events), timeout=_CALL_TIMEOUT_S
    )


def _publish(registry: Registry) -> tuple[tuple[str, ...], int]:
    """A champion and one more; the width of its queries."""
    refs = [publish_model(registry, DOMAIN, ids=ITEMS, seed=seed) for seed in (0, 1)]
    registry.promote(DOMAIN, refs[0].version)
    return tuple(ref.version for ref in refs), registry.manifest(refs[0]).dims.output


def _tell(servers: Servers, registry: Path, directory: Path) -> None:
    """What these servers are told beside what chaos tells them, and a training server that trains nothing."""
    import sys

    port = free_port()
    common = dict(servers["gateway-0"].environment)
    servers.all["training"] = Server(
        "training",
        [sys.executable, *FAKED_SERVER, "wait"],
        {**common, "WARMSTART_TRAINING_PORT": str(port), "WARMSTART_TRAINING_RUNS": str(directory / "runs"),
         "WARMSTART_TRAINING_REGISTRY": str(registry), "WARMSTART_TRAINING_MAX_RUNNING": "1"},
        f"127.0.0.1:{port}",
        directory / "training.log",
    )  # fmt: skip
    for server in servers.all.values():
        service = server.name.partition("-")[0].upper()
        server.environment = {
            **server.environment,
            f"WARMSTART_{service}_DOMAINS": f"{DOMAIN},{BARE}",
            f"WARMSTART_{service}_LOG_LEVEL": "warning",
            # What is kept for ever is no leak: it is kept small here.
            "WARMSTART_FEATURES_LOG_EVENTS": "20000",
            "WARMSTART_FEATURES_IMPRESSION_EVENTS": "20000",
        }


def _channel(target: str) -> grpc.aio.Channel:
    """One connection of its own; answers of any size."""
    options: Sequence[tuple[str, int]] = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    return grpc.aio.insecure_channel(target, options)
