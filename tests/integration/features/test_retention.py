"""What is kept for some days goes after them, on a clock that is moved; the store alone and as a cluster."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.features.domain import DomainFeatures
from services.features.store.events import AppendStatus
from services.features.store.export import EventSpan
from services.features.store.person_export import START
from shared.domain import Action, Event, Relation, RequestContext, User
from shared.errors import NotFound
from tests.integration.features.alone import a_domain, rewritten
from tests.traces import keys_with_bytes_of, traces
from tests.valkey import RunningValkey

DAY_MS = 24 * 3600 * 1000
_ANN = "ann-the-traveller"


class Clock:
    """Starts now, as the store stamps what arrives by its own clock."""

    def __init__(self) -> None:
        self.now_ms = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.now_ms

    def pass_days(self, days: float) -> None:
        self.now_ms += int(days * DAY_MS)


def did(
    clock: Clock, user_id: str, item_id: str, *, days_ago: float = 0.0, action: Action = Action.LIKE
) -> Event:
    time_ms = clock() - int(days_ago * DAY_MS)
    return Event(user_id, item_id, action, 0.0, time_ms, f"{user_id} {item_id} {action} {time_ms}")


async def seen_and_history(domain: DomainFeatures, user_id: str) -> tuple[list[str], list[str]]:
    found = await domain.context(user_id, (), RequestContext(time_ms=domain.clock()))
    return sorted(found.seen_item_ids), list(found.context.history.item_ids)


async def logged(domain: DomainFeatures) -> list[tuple[str, str]]:
    """(person, item) of the event log with impressions, sorted."""
    span = EventSpan(include_impressions=True)
    batches = [batch async for batch in domain.export_events(span)]
    return sorted((e.user_id, e.item_id) for batch in batches for e in batch)


def removed(domain: DomainFeatures) -> dict[str, float]:
    """The metric, by kind."""
    samples = [s for m in domain.retention._removed.collect() for s in m.samples if s.name.endswith("_total")]
    return {s.labels["kind"]: s.value for s in samples}


@pytest.fixture(params=["single", "cluster"])
def store(request: pytest.FixtureRequest, session_valkey: RunningValkey) -> RunningValkey:
    if request.param == "single":
        return session_valkey
    cluster: RunningValkey = request.getfixturevalue("cluster_valkey")
    return cluster


async def test_events_go_everywhere_after_their_days_and_no_sooner(store: RunningValkey, domain: str) -> None:
    """History, seen items and log agree; trends keep their sum; what is too old is not taken in again."""
    clock = Clock()
    days = {"event_retention_days": f"7,{domain}=30"}
    async with a_domain(store, domain, clock, **days) as features:
        old, young = did(clock, _ANN, "old", days_ago=20), did(clock, _ANN, "young", days_ago=1)
        again = [did(clock, _ANN, "again", days_ago=20), did(clock, _ANN, "again")]
        shown = did(clock, _ANN, "shown", days_ago=20, action=Action.IMPRESSION)
        await features.record([old, young, *again, shown])
        await features.maintain()
        assert (await seen_and_history(features, _ANN))[0] == ["again", "old", "young"]

        clock.pass_days(11)  # old and the first of again are 31 days old
        await features.maintain()
        assert await seen_and_history(features, _ANN) == (["again", "young"], ["young", "again"])
        assert await logged(features) == [(_ANN, "again"), (_ANN, "shown"), (_ANN, "young")]
        page = await features.export_person(_ANN, START, 100)
        assert [(e.item_id, e.action.name) for e in page.events] == [
            ("shown", "IMPRESSION"), ("young", "LIKE"), ("again", "LIKE"),
        ]  # fmt: skip
        assert removed(features) == {"log": 2, "history": 2, "seen": 1}
        ranked, _ = await features.trending.top(10, now_ms=clock())
        assert {item_id for item_id, _ in ranked} == {"old", "young", "again"}

        (status,) = await features.record([old])
        assert status is AppendStatus.TOO_OLD
        (status,) = await features.record([shown])
        assert status is AppendStatus.DUPLICATE
        assert not await features.erased_bytes.rewrite_if_due(now_ms=clock() + DAY_MS // 2)
        await rewritten(features, now_ms=clock() + DAY_MS)
        assert not await features.erased_bytes.rewrite_if_due(now_ms=clock() + 2 * DAY_MS), "nothing is left"
        pattern = f"{{{domain}:s*}}:log"
        assert keys_with_bytes_of(store, old.event_id, match=pattern) == []


async def test_impressions_have_days_of_their_own(store: RunningValkey, domain: str) -> None:
    clock = Clock()
    async with a_domain(store, domain, clock, impression_retention_days="2") as features:
        await features.record([did(clock, "u", "a"), did(clock, "u", "b", action=Action.IMPRESSION)])
        clock.pass_days(3)
        await features.maintain()
        assert await logged(features) == [("u", "a")]
        assert await seen_and_history(features, "u") == (["a"], ["a"])
        assert removed(features) == {"impressions": 1}


async def test_who_does_nothing_for_their_days_is_erased_and_may_come_back(
    store: RunningValkey, domain: str
) -> None:
    """Whoever was only shown something, or has a profile alone, counts from then; who others are
    related to does not."""
    clock = Clock()
    async with a_domain(store, domain, clock, idle_retention_days="90") as features:
        await features.record([
            did(clock, _ANN, "a", days_ago=4000),  # imported now: days count from its arrival
            did(clock, "bea", "a"),
            did(clock, "shown-only", "a", action=Action.IMPRESSION),
        ])  # fmt: skip
        await features.describe([User(_ANN, {"age": "34"}), User("profile-only", {"age": "35"})])
        await features.relate([Relation(_ANN, "bea"), Relation("bea", _ANN), Relation("bea", "followed")])
        clock.pass_days(89)
        await features.maintain()
        assert len(await logged(features)) == 3

        clock.pass_days(2)
        await features.maintain()
        assert traces(store, _ANN, match=f"{{{domain}:*") == []
        assert await logged(features) == []
        assert removed(features) == {"people": 4}
        assert [u.user_id for users, _ in [p async for p in features.exporter.people()] for u in users] == []
        (refused, taken) = await features.record([did(clock, _ANN, "a", days_ago=5), _later(clock, _ANN)])
        assert (refused, taken) == (AppendStatus.ERASED_PERSON, AppendStatus.RECORDED)


def _later(clock: Clock, user_id: str) -> Event:
    return Event(user_id, "b", Action.LIKE, 0.0, clock() + 1, "later")


async def test_who_acts_while_they_are_found_idle_is_kept(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    async with a_domain(session_valkey, domain, clock, idle_retention_days="1") as features:
        await features.record([did(clock, _ANN, "a")])
        clock.pass_days(2)
        erase = type(features.lifecycle).erase

        async def after_an_event(self: Any, user_id: str, **rest: Any) -> bool:
            await features.record([did(clock, user_id, "b")])
            return await erase(self, user_id, **rest)

        monkeypatch.setattr(type(features.lifecycle), "erase", after_an_event)
        await features.maintain()
        assert await seen_and_history(features, _ANN) == (["a", "b"], ["a", "b"])


@pytest.mark.parametrize("what", ["profile", "relation"])
async def test_who_has_a_new_profile_or_relation_is_not_idle(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The store stamps arrivals by its own clock, so the events are made old instead: first before the look,
    then between the look and the erasure, last without anything new."""
    clock = Clock()
    async with a_domain(session_valkey, domain, clock, idle_retention_days="1") as features:
        await features.record([did(clock, _ANN, "a")])
        person = features.keys.shard(_ANN).person(_ANN)
        long_ago = clock() - 9 * DAY_MS
        with session_valkey.client() as client:
            client.hset(person, "l1", f"{long_ago}-0")
            await _new(features, what, "one")
            await features.maintain()
            assert (await seen_and_history(features, _ANN))[0] == ["a"], "new before the look"

            client.hset(person, "t", long_ago)
            erase = type(features.lifecycle).erase

            async def after_a_change(self: Any, user_id: str, **rest: Any) -> bool:
                await _new(features, what, "two")
                return await erase(self, user_id, **rest)

            with monkeypatch.context() as patch:
                patch.setattr(type(features.lifecycle), "erase", after_a_change)
                clock.pass_days(0.5)
                await features.maintain()
            assert int(client.hget(person, "t")) > long_ago, "it was asked for"
            assert (await seen_and_history(features, _ANN))[0] == ["a"], "new after the look"

            client.hset(person, "t", long_ago)
            clock.pass_days(0.25)
            await features.maintain()
            assert not client.exists(person)


async def test_whose_friend_is_merged_has_done_nothing_by_it(
    session_valkey: RunningValkey, domain: str
) -> None:
    clock = Clock()
    async with a_domain(session_valkey, domain, clock, idle_retention_days="1") as features:
        await features.relate([Relation(_ANN, "visitor")])
        with session_valkey.client() as client:
            person = features.keys.shard(_ANN).person(_ANN)
            client.hset(person, "t", 7)
            await features.fold("visitor", "bea")
            assert client.hget(person, "t") == b"7"
        relations = (await features.people.read(_ANN, max_seen=1)).relations
        assert [r.other_user_id for r in relations] == ["bea"]


async def _new(features: DomainFeatures, what: str, value: str) -> None:
    if what == "profile":
        await features.describe([User(_ANN, {"age": value})])
    else:
        await features.relate([Relation(_ANN, value)])


async def test_a_pass_goes_on_over_rounds_and_the_next_is_an_hour_later(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round ends once its time is up, here at once; what it has left, the next one does."""
    monkeypatch.setattr("services.features.store.retention._ROUND_S", -1.0)
    monkeypatch.setattr("services.features.store.retention._ENTRIES_A_LOOK", 5)
    clock = Clock()
    async with a_domain(session_valkey, domain, clock, event_retention_days="1", shards=1) as features:
        await features.record([did(clock, f"u{n}", "a") for n in range(20)])
        clock.pass_days(2)
        left = [await _round(features) for _ in range(20)]
        assert left[:4] == [15, 10, 5, 0]
        assert left == sorted(left, reverse=True)
        assert left[-1] == 0
        await features.writer.append([did(clock, "late", "a", days_ago=3)])  # as a fold may bring it
        assert await _round(features) == 1, "the pass is over"
        clock.pass_days(1 / 24)
        assert [await _round(features) for _ in range(20)][-1] == 0


async def _round(features: DomainFeatures) -> int:
    await features.retention.sweep(now_ms=features.clock())
    return len(await logged(features))


async def test_one_server_at_a_time_makes_a_pass(session_valkey: RunningValkey, domain: str) -> None:
    clock = Clock()
    async with a_domain(session_valkey, domain, clock, event_retention_days="1") as features:
        await features.record([did(clock, "u", "a")])
        clock.pass_days(2)
        lease = features.keys.lease("retention")
        with session_valkey.client() as client:
            client.set(lease, "another server")
            assert await _round(features) == 1
            client.delete(lease)
            assert await _round(features) == 0
            assert client.get(lease) is None


async def test_nothing_goes_where_nothing_is_said(session_valkey: RunningValkey, domain: str) -> None:
    clock = Clock()
    async with a_domain(session_valkey, domain, clock) as features:
        await features.record([did(clock, "u", "a", days_ago=9000)])
        clock.pass_days(9000)
        await features.maintain()
        assert await logged(features) == [("u", "a")]
        with pytest.raises(NotFound):
            await features.export_person("nobody", START, 10)
