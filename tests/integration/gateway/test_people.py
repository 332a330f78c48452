"""What is left of somebody: nothing of who was erased, and nothing of who brings their history along. Store,
files, memories, answers, logs and training data of the whole cluster are searched for them."""

from __future__ import annotations

import asyncio
import base64
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import structlog
from warmstart.common.v1 import event_pb2, user_pb2
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb
from warmstart.gateway.v1 import user_service_pb2 as user_service_pb

from services.features.domain import DomainFeatures
from services.training.clients import snapshot_of_service
from services.training.snapshot import SnapshotWriter
from shared.errors import NotFound
from shared.rpc.channels import call, stream
from shared.telemetry.hiding import Hiding
from tests.artifacts import item_ids
from tests.integration.features.alone import rewritten
from tests.integration.gateway.cluster import Caller, Cluster
from tests.model_servers import until
from tests.traces import everything, files_with_bytes_of, keys_with_bytes_of, remembered, traces
from tests.valkey import RunningValkey

pytestmark = pytest.mark.asyncio(loop_scope="package")
HOUR_MS = 3600 * 1000
_ANN, _VISITOR = "ann-the-traveller", "visitor-of-the-night"
_ITEMS = item_ids(20)
_ACTIONS = [a for a in event_pb2.Action.values() if a]
_VALUES = {event_pb2.ACTION_RATING: 4.0, event_pb2.ACTION_DWELL: 30.0}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def everything_one_can_do(user_id: str, at_ms: int) -> list[event_pb2.Event]:
    """An event of every action, each on an item of its own."""
    return [
        event_pb2.Event(
            user_id=user_id,
            item_id=_ITEMS[n],
            action=action,
            value=_VALUES.get(action, 0.0),
            time_ms=at_ms + n,
        )
        for n, action in enumerate(_ACTIONS)
    ]


async def ask_users(caller: Caller, name: str, **fields: Any) -> Any:
    request = getattr(user_service_pb, f"{name}Request")(**fields)
    return await call(getattr(caller.users, name), request, timeout_s=20)


async def live(caller: Caller, user_id: str) -> str:
    """Leaves every kind of trace that callers can; a token of a next page."""
    await caller.feedback(*everything_one_can_do(user_id, now_ms() - HOUR_MS))
    user = user_pb2.User(user_id=user_id, attributes={"age": "34", "mail": f"{user_id}@example.org"})
    await ask_users(caller, "UpsertUsers", users=[user])
    ties = [(user_id, "bob"), ("carl", user_id), (user_id, "dora")]
    relations = [user_pb2.Relation(user_id=a, other_user_id=b, time_ms=now_ms()) for a, b in ties]
    removed = user_pb2.Relation(user_id=user_id, other_user_id="dora", time_ms=now_ms(), removed=True)
    await ask_users(caller, "UpsertRelations", relations=[*relations, removed])
    answer = await caller.recommend(user_id, page_size=5)

    async def logged() -> bool:
        return len(await caller.logged(answer.list_id)) == 5

    await until(logged)
    return answer.next_page_token


async def snapshot_of(cluster: Cluster, directory: Path) -> str:
    """What the next training would read, as text."""
    with SnapshotWriter(directory, 2) as writer:
        await snapshot_of_service(
            cluster.target("features"), "default", writer, lambda done, total: None, tls=None
        )
    return as_text(directory)


def as_text(directory: Path) -> str:
    return "\n".join(str(pq.read_table(file).to_pylist()) for file in directory.rglob("*.parquet"))


async def exported(caller: Caller) -> str:
    """Both exports, as text."""
    parts = [
        str(part)
        async for part in stream(
            caller._features.ExportEvents,
            features_pb.ExportEventsRequest(include_impressions=True),
            timeout_s=30,
        )
    ]
    people = stream(caller._features.ExportUsers, features_pb.ExportUsersRequest(), timeout_s=30)
    return "\n".join([*parts, *[str(part) async for part in people]])


def layers(token: str) -> Iterator[bytes]:
    """A page token, as it is and as what it is made of."""
    body = token.partition(".")[0]
    packed = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    yield from (token.encode(), packed, zlib.decompress(packed))


def domain_of(cluster: Cluster) -> DomainFeatures:
    found: DomainFeatures = cluster.components["features"]._domains["default"]
    return found


@pytest.fixture
def logged(capsys: pytest.CaptureFixture[str]) -> Iterator[pytest.CaptureFixture[str]]:
    """What servers log, with what they hide of it."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            Hiding.by("a secret of the tests"),
            structlog.dev.ConsoleRenderer(colors=False),
        ]
    )
    yield capsys
    structlog.reset_defaults()


async def test_nothing_of_an_erased_person_is_left_anywhere(
    cluster: Cluster, caller: Caller, store: RunningValkey, tmp_path: Path, logged: pytest.CaptureFixture[str]
) -> None:
    with store.client() as client:
        client.config_set("rdbcompression", "no")  # so that bytes can be found in files
    # Out of: what she did is somebody else's now. Into: a visitor's past is hers.
    await live(caller, _ANN)
    await ask_users(caller, "MergeUsers", from_user_id=_ANN, into_user_id="eve")
    token = await live(caller, _ANN)
    await live(caller, _VISITOR)
    await ask_users(caller, "MergeUsers", from_user_id=_VISITOR, into_user_id=_ANN)
    await caller.recommend(_ANN, page_size=5)  # remembered as her last good list

    trends = domain_of(cluster).trending
    await trends.flush()
    before, _ = await trends.top(100, now_ms=now_ms())
    assert len(traces(store, _ANN)) > 25
    assert _ANN in await exported(caller)
    assert _ANN in await snapshot_of(cluster, tmp_path / "before")
    assert cluster.gateway is not None
    lists = len(cluster.gateway.rooms.last_good)
    held = await ask_users(caller, "ExportUser", user_id=_ANN)
    assert {e.action for e in held.events} == set(_ACTIONS)

    assert (await ask_users(caller, "DeleteUser", user_id=_ANN)).existed
    assert len(cluster.gateway.rooms.last_good) == lists - 1

    with pytest.raises(NotFound):
        await ask_users(caller, "ExportUser", user_id=_ANN)
    after = await snapshot_of(cluster, tmp_path / "after")
    for person in (_ANN, _VISITOR):
        assert traces(store, person) == []
        assert person not in await exported(caller)
        assert person not in after
    mark = domain_of(cluster).schema.keyed_hash(_ANN)
    with store.client() as client:
        assert sum(mark in value for value in everything(client)) == 1, "the keyed hash, once"
    assert [layer for layer in layers(token) if _ANN.encode() in layer] == []

    async def forgotten() -> bool:
        """What is counted a few times a second has been, and what she weighed has gone."""
        ranked, _ = await trends.top(100, now_ms=now_ms())
        weights = dict(ranked)
        lighter = all(weights.get(i, -99.0) < w - 0.01 for i, w in before if i in _CHOSEN)
        return lighter and not any(remembered(c, _ANN) for c in cluster.components.values())

    await until(forgotten)

    # The store's files hold it until they are rewritten, here because a day has passed.
    assert files_with_bytes_of(store.config.data_dir, _ANN)
    await rewritten(domain_of(cluster), now_ms=now_ms() + 25 * HOUR_MS)

    async def deleted() -> bool:
        """Old files are, a moment after the new ones are there."""
        return not files_with_bytes_of(store.config.data_dir, _ANN)

    await until(deleted)
    for person in (_ANN, _VISITOR):
        assert keys_with_bytes_of(store, person) == []
        assert files_with_bytes_of(store.config.data_dir, person) == []

    # An importer comes late with what she did before.
    results = await caller.feedback(*everything_one_can_do(_ANN, now_ms() - HOUR_MS))
    assert {r.status for r in results} == {pb.FEEDBACK_STATUS_REJECTED}
    assert traces(store, _ANN) == []
    said = logged.readouterr()
    assert _ANN not in said.out + said.err, "no log names her"


# Likes, purchases and the like: what counts for trends.
_CHOSEN = {
    item
    for item, action in zip(_ITEMS, _ACTIONS, strict=False)
    if action not in (event_pb2.ACTION_IMPRESSION, event_pb2.ACTION_DISLIKE, event_pb2.ACTION_SKIP)
}


async def test_a_list_that_is_being_made_while_its_person_is_erased_brings_nobody_back(
    cluster: Cluster, caller: Caller, store: RunningValkey
) -> None:
    person = "gone-while-they-looked"
    await caller.like(_ITEMS[0], user_id=person)
    lists = [asyncio.create_task(caller.recommend(person, page_size=5)) for _ in range(20)]
    erasures = [asyncio.create_task(ask_users(caller, "DeleteUser", user_id=person)) for _ in range(2)]
    await asyncio.gather(*lists, *erasures)
    await ask_users(caller, "DeleteUser", user_id=person)

    async def idle() -> bool:
        assert cluster.gateway is not None
        return len(cluster.gateway.rooms.impressions) == 0

    await until(idle)
    assert traces(store, person) == []


async def test_an_ephemeral_list_leaves_store_and_memories_as_they_were(
    cluster: Cluster, caller: Caller, store: RunningValkey, logged: pytest.CaptureFixture[str]
) -> None:
    """Byte for byte: three pages, with exploration, an experiment and events that carry a mark."""
    assert cluster.gateway is not None
    rooms = cluster.gateway.rooms

    async def idle() -> bool:
        """Nothing waits to be logged, and nothing to be withdrawn of who was erased before."""
        later = now_ms() + HOUR_MS
        return len(rooms.impressions) == 0 and await domain_of(cluster).lifecycle.repair(now_ms=later) == 0

    await until(idle)
    await domain_of(cluster).trending.flush()
    stored, remembered_lists = dump(store), len(rooms.last_good)
    events = [
        event_pb2.Event(
            item_id=i, action=event_pb2.ACTION_LIKE, event_id=f"mark-of-hers-{i}", time_ms=now_ms()
        )
        for i in _ITEMS[:4]
    ]
    asked = {"ephemeral": True, "events": events, "exploration_rate": 0.3, "experiment_key": "mark-of-hers"}
    pages = [await caller.recommend("", page_size=8, **asked)]
    while len(pages) < 3:
        pages.append(await caller.recommend("", page_size=8, page_token=pages[-1].next_page_token, **asked))
    listed = [i.item_id for page in pages for i in page.items]
    assert len(listed) == len(set(listed)) == 24
    assert set(_ITEMS[:4]).isdisjoint(listed)
    assert {(p.shots_used, p.rung, len(p.degradations)) for p in pages} == {(4, pb.RUNG_ADAPTED, 0)}
    await asyncio.sleep(0.3)  # longer than impressions wait to be logged
    assert dump(store) == stored
    assert len(rooms.last_good) == remembered_lists
    for mark in ("mark-of-hers", pages[0].list_id):
        assert [p for c in cluster.components.values() for p in remembered(c, mark)] == []
    said = logged.readouterr()
    assert "mark-of-hers" not in said.out + said.err


def dump(store: RunningValkey) -> dict[bytes, bytes | None]:
    with store.client() as client:
        return {key: client.dump(key) for key in client.scan_iter()}


async def test_brought_events_give_the_queries_and_the_list_of_stored_ones(caller: Caller) -> None:
    """The same history, kept by us or on the device: the same context, shots, items and scores."""
    person, moment = "with-a-history", now_ms()
    did = [
        e for e in everything_one_can_do(person, moment - HOUR_MS) if e.action != event_pb2.ACTION_IMPRESSION
    ]
    await caller.feedback(*did)
    own = []
    for event in did:
        copy = event_pb2.Event()
        copy.CopyFrom(event)
        copy.user_id = ""
        own.append(copy)
    when = user_pb2.RequestContext(device="phone", time_ms=moment)
    ask = caller._features.GetUserContext
    stored, brought = [
        (await call(ask, features_pb.GetUserContextRequest(user_id=u, events=e, request=when), timeout_s=10))
        for u, e in ((person, []), ("nobody-at-all", own))
    ]
    assert brought.context.history == stored.context.history
    assert brought.context.content_profile == stored.context.content_profile
    assert sorted(brought.seen_item_ids) == sorted(stored.seen_item_ids)

    fields = {"page_size": 40, "exploration_rate": 0.0, "context": when}
    kept = await caller.recommend(person, **fields)
    alone = await caller.recommend("", ephemeral=True, events=own, **fields)
    assert [i.item_id for i in alone.items] == [i.item_id for i in kept.items]
    assert [i.score for i in alone.items] == pytest.approx([i.score for i in kept.items], rel=1e-5)
    assert [dict(i.task_scores) for i in alone.items] == [
        pytest.approx(dict(i.task_scores), rel=1e-5) for i in kept.items
    ]
    assert (alone.shots_used, alone.rung) == (kept.shots_used, kept.rung) == (len(did), pb.RUNG_ADAPTED)


async def test_an_ephemeral_list_is_adapted_without_features(cluster: Cluster, caller: Caller) -> None:
    """The rungs below are in `tests/unit/services/gateway/test_ephemeral.py`."""
    events = [event_pb2.Event(item_id=i, action=event_pb2.ACTION_LIKE) for i in _ITEMS[:3]]
    await cluster.stop("features")
    try:
        answer = await caller.recommend("", ephemeral=True, events=events)
        assert (answer.rung, answer.shots_used, len(answer.items)) == (pb.RUNG_ADAPTED, 3, 10)
        assert [d.stage for d in answer.degradations] == ["features"]
    finally:
        await cluster.start("features")
