"""Erasing somebody while servers die, while they are written to, and down to the store's files."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from valkey.exceptions import ResponseError
from warmstart.common.v1 import user_pb2

from services.features.domain import DomainFeatures
from services.features.store import erased_bytes, relations
from services.features.store.connection import Store
from services.features.store.copying import Copier
from services.features.store.erased_bytes import ErasedBytes
from services.features.store.events import AppendStatus
from services.features.store.export import EventSpan
from services.features.store.held import HeldPerson, HeldReader
from services.features.store.lifecycle import Lifecycle
from services.features.store.packing import Packer
from services.features.store.people import PersonStatus
from services.features.store.trending import choices
from shared.domain import Action, Event, Relation, User
from shared.errors import Contended, WrongState
from tests.integration.features.alone import a_domain, rewritten
from tests.integration.features.client import (
    NOW_MS,
    RECORDED,
    REJECTED,
    Features,
    event,
    item,
    relation,
    until,
)
from tests.integration.features.conftest import Serve, serving
from tests.integration.features.deaths import Died, Strikes, dies
from tests.integration.features.test_person_export import a_full_life
from tests.integration.features.test_process import started_process
from tests.traces import files_with_bytes_of, keys_with_bytes_of, traces
from tests.valkey import RunningValkey

_ANN = "ann-the-traveller"
_SETTLED_MS = 1001


def _of(domain: str) -> str:
    return f"{{{domain}:*"


async def trending(features: Features) -> dict[str, float]:
    """Weights by item, that of the first as of now times the others' shares."""
    found = await features.ask("ListTrendingItems")
    return {i.item_id: round(i.weight, 3) for i in found.items}


async def test_whatever_call_to_the_store_was_the_last_another_server_ends_the_erasure(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A death before the erasure's first round trip, after one, after two … until it needs no more."""
    now, deaths = time.time_ns() // 1_000_000, Strikes(monkeypatch)
    async with a_domain(session_valkey, domain, lambda: now) as features:
        for number in deaths:
            now += 10_000
            await _acts(features, now)
            await deaths.strike(number, features.erase(_ANN))
            if number == 0:
                assert traces(session_valkey, _ANN, match=_of(domain))
                await features.erase(_ANN)  # nothing was done: the caller, who got an error, asks again
            for _ in range(3):  # what she weighed may still have to be read; a moment later it goes
                await features.lifecycle.repair(now_ms=now)
                now += _SETTLED_MS
            assert await features.lifecycle.repair(now_ms=now) == 0
            assert traces(session_valkey, _ANN, match=_of(domain)) == []
            ranked, _ = await features.trending.top(10, now_ms=now)
            assert [item_id for item_id, _ in ranked] == ["a"], "what bea chose, alone"
    assert number >= 8


async def _acts(features: DomainFeatures, now: int) -> None:
    """Ann likes a and b, bea likes a; ann has a profile and relations on both sides."""
    chosen = [(_ANN, "a"), (_ANN, "b"), ("bea", "a")]
    likes = [Event(u, i, Action.LIKE, 0.0, now - 5000, f"{u} {i} {now}") for u, i in chosen]
    assert {status.is_new for status in await features.record(likes)} == {True}
    await features.describe([User(_ANN, {"age": "34"})])
    related = [Relation(_ANN, "bob", time_ms=now - 1), Relation("carl", _ANN, time_ms=now - 1)]
    await features.relate(related)
    await features.trending.flush()


@pytest.mark.slow  # the test above dies at this moment too, without a process
async def test_a_server_killed_right_after_an_erasure_leaves_nothing_in_trends(
    session_valkey: RunningValkey, domain: str
) -> None:
    """kill -9 before the moment at which what she weighed would have been taken out."""
    process, address = await started_process(session_valkey, domain)
    try:
        async with Features.connected(address, domain) as features:
            await features.put(item("a"), item("b"))
            await features.record(event(_ANN, "a"), event(_ANN, "b"), event("bea", "b"))
            key = f"{{{domain}:trend}}:{7 * 24 * 3600}"

            async def counted() -> bool:
                with session_valkey.client() as client:
                    return bool(client.zcard(key) == 3)  # a, b, all

            await until(counted, says="what was chosen")
            assert (await features.ask("DeleteUser", user_id=_ANN)).existed
            process.kill()
            process.wait()
    finally:
        process.kill()
        process.communicate()
    async with serving(session_valkey, domain, repair_every_s=0.05) as features:

        async def withdrawn() -> bool:
            return await trending(features) == {"b": 1.0}

        await until(withdrawn, says="what bea chose alone")


async def test_what_is_withdrawn_twice_goes_once(session_valkey: RunningValkey, domain: str) -> None:
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        likes = [Event(f"u{n}", "a", Action.LIKE, 0.0, now, f"e{n}") for n in range(4)]
        await features.record(likes)
        await features.trending.flush()
        for _ in range(3):
            await features.trending.withdraw("token", choices(likes[:1]))
        ((_, weight),), _ = await features.trending.top(1, now_ms=now)
        assert round(2.0**weight, 6) == 3.0


async def test_callers_who_do_not_wait_take_nobody_elses_part_in_trends_away_by_being_erased(
    session_valkey: RunningValkey, domain: str
) -> None:
    """Their events are on the way to the store as they go."""
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await features.record([_likes(f"u{n}", "a", now) for n in range(3)])
        await features.writer.close()  # no flush is under way
        hasty = [f"hasty{n}" for n in range(3)]
        for user_id in hasty:
            call = asyncio.create_task(features.record([_likes(user_id, "a", now)]))
            while not features.writer._flushes or features.writer._waiting:
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            await features.writer.close()
            assert [e.item_id for e in (await _held(features, user_id)).events] == ["a"]
        await features.trending.flush()
        for user_id in hasty:
            await features.erase(user_id)
        now += _SETTLED_MS
        await features.lifecycle.repair(now_ms=now)
        ((item_id, weight),), _ = await features.trending.top(10, now_ms=now)
        assert (item_id, round(2.0**weight, 3)) == ("a", 3.0)


async def test_a_visitor_folded_into_somebody_who_chose_the_same_counts_once_and_goes_with_them(
    features: Features,
) -> None:
    await features.put(item("a"), item("b"), item("c"))
    await features.record(event("visitor", "a"), event("visitor", "b"), event(_ANN, "a"), event("bea", "c"))

    async def as_two() -> bool:
        return await trending(features) == {"a": 1.0, "b": 0.5, "c": 0.5}

    await until(as_two, says="a twice")
    await features.ask("MergeUsers", from_user_id="visitor", into_user_id=_ANN)

    async def once() -> bool:
        return await trending(features) == {"a": 1.0, "b": 1.0, "c": 1.0}

    await until(once, says="each once")
    await features.ask("DeleteUser", user_id=_ANN)

    async def gone() -> bool:
        return await trending(features) == {"c": 1.0}

    await until(gone, says="c alone")


@pytest.mark.parametrize("later", [False, True], ids=["all before", "some after"])
async def test_nobody_is_folded_into_somebody_who_was_erased_after_they_acted(
    session_valkey: RunningValkey, domain: str, later: bool
) -> None:
    """Refused whole: nothing of the visitor goes, and no key of the erased person comes back."""
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await features.record([_likes("visitor", "a", now - 5)])
        await features.relate([Relation("visitor", "bob", time_ms=now - 5)])
        assert not await features.erase(_ANN)
        now += 10
        if later:
            await features.record([_likes("visitor", "b", now)])
        whole = await _held(features, "visitor")
        for _ in range(2):
            with pytest.raises(WrongState, match="merge it into an id that was not erased, or delete it"):
                await features.fold("visitor", _ANN)
        assert await _held(features, "visitor") == whole
        assert traces(session_valkey, _ANN, match=_of(domain)) == []
        assert await features.fold("visitor", "bea") == (2 if later else 1)


async def test_who_acted_only_after_the_erasure_is_folded_into_the_new_person_of_the_id(
    session_valkey: RunningValkey, domain: str
) -> None:
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await features.erase(_ANN)
        now += 10
        await features.record([_likes("visitor", "a", now)])
        assert await features.fold("visitor", _ANN) == 1
        assert await features.fold("visitor", _ANN) == 0, "nobody is left to be refused"
        assert (await _held(features, _ANN)).seen == [("a", now)]
        assert (await _held(features, "visitor")).is_nothing


async def test_relations_alone_are_not_lost_to_an_erased_target_but_one_to_somebody_erased_goes(
    session_valkey: RunningValkey, domain: str
) -> None:
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await features.relate([Relation("visitor", "bob", time_ms=now - 5)])
        await features.relate([Relation("carl", "follower-only", time_ms=now - 5)])
        await features.erase(_ANN)
        for source in ("visitor", "follower-only"):
            whole = await _held(features, source)
            with pytest.raises(WrongState):
                await features.fold(source, _ANN)
            assert await _held(features, source) == whole
        assert traces(session_valkey, _ANN, match=_of(domain)) == []
        await features.erase("bob")
        await features.fold("visitor", "bea")
        assert (await _held(features, "visitor")).is_nothing


@pytest.mark.parametrize("before", ["events", "seen", "relations"])
async def test_a_target_that_is_erased_while_somebody_is_folded_into_it_does_not_come_back(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await features.record([_likes("visitor", "a", now - 5), _likes(_ANN, "x", now - 5)])
        await features.relate([Relation("visitor", "bob", time_ms=now - 5)])
        whole, step = await _held(features, "visitor"), getattr(Copier, before)

        async def after_an_erasure(self: Copier, *rest: Any) -> Any:
            assert await features.erase(_ANN)
            return await step(self, *rest)

        monkeypatch.setattr(Copier, before, after_an_erasure)
        with pytest.raises(WrongState):
            await features.fold("visitor", _ANN)
        assert await _held(features, "visitor") == whole
        assert traces(session_valkey, _ANN, match=_of(domain)) == []


async def test_an_impression_on_its_way_does_not_bring_a_merged_visitor_back(
    session_valkey: RunningValkey, domain: str
) -> None:
    """Another gateway may still hold some of their lists. What they do later, and what they did, is taken."""
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await features.record([Event("visitor", "a", Action.LIKE, 0.0, now - 5, "of a")])
        during = time.time_ns() // 1_000_000
        await features.fold("visitor", _ANN)
        refused = await features.record([_shown("visitor", "b", now), _shown("visitor", "c", now - 5)])
        assert refused == [AppendStatus.MERGED_PERSON] * 2
        assert traces(session_valkey, "visitor", match=_of(domain)) == []
        # A list that was made while the merge was under way.
        assert await features.record([_shown("visitor", "e", during)]) == [AppendStatus.MERGED_PERSON]
        later = now + 60_000
        taken = [_shown(_ANN, "b", now), _shown("visitor", "b", later), _likes("visitor", "d", now - 4)]
        assert await features.record(taken) == [AppendStatus.RECORDED] * 3
        with session_valkey.client() as client:
            (mark,) = client.scan_iter(match=f"{{{domain}:s*}}:m:*")
            assert 0 < client.pttl(mark) <= 3600 * 1000


async def test_a_visitor_of_whom_nothing_has_come_yet_is_marked_as_merged_too(
    session_valkey: RunningValkey, domain: str
) -> None:
    """Their first lists may all wait in another gateway."""
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        assert await features.fold("visitor", _ANN) == 0
        assert await features.record([_shown("visitor", "b", now)]) == [AppendStatus.MERGED_PERSON]
        assert traces(session_valkey, "visitor", match=_of(domain)) == []


async def test_a_merge_that_is_repeated_forgets_no_later_one(
    session_valkey: RunningValkey, domain: str
) -> None:
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await features.record([_likes("a", "x", now - 5)])
        assert [await features.fold(*pair) for pair in (("a", "b"), ("b", "c"), ("a", "b"))] == [1, 1, 0]
        assert await features.record([_shown("b", "y", now)]) == [AppendStatus.MERGED_PERSON]


async def test_a_merge_ends_although_its_person_is_related_without_a_pause(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By others on another server, both ways, amid every attempt: they wait in the end, and nothing
    of theirs is lost."""
    now = time.time_ns() // 1_000_000
    async with (
        a_domain(session_valkey, domain, lambda: now) as features,
        a_domain(session_valkey, domain, lambda: now) as other,
    ):
        await features.record([_likes("visitor", "a", now - 5)])
        copy, attempts, relating = Copier.relations, 0, []

        async def related_meanwhile(self: Copier, *rest: Any) -> None:
            nonlocal attempts
            attempts += 1
            await copy(self, *rest)
            for owner, one in (("visitor", f"to-{attempts}"), (f"from-{attempts}", "visitor")):
                relating.append(asyncio.create_task(other.relate([Relation(owner, one, time_ms=now)])))
            # At once; later not before this ends.
            await asyncio.wait(relating[-2:], timeout=None if attempts <= 2 else 0.3)

        monkeypatch.setattr(Copier, "relations", related_meanwhile)
        assert await features.fold("visitor", _ANN) == 1
        assert 2 < attempts < 20
        assert [status for task in relating for status in await task] == [PersonStatus.STORED] * 2 * attempts
        people = [await _held(features, user_id) for user_id in (_ANN, "visitor")]
        numbers = range(1, attempts + 1)
        assert sorted(r.other_user_id for p in people for r in p.relations) == sorted(
            f"to-{n}" for n in numbers
        )
        assert sorted(o for p in people for _, o in p.followers) == sorted(f"from-{n}" for n in numbers)
        with session_valkey.client() as client:
            assert list(client.scan_iter(match=f"{{{domain}:s*}}:c:*")) == []


async def test_who_was_merged_and_is_merged_into_keeps_all_impressions(
    session_valkey: RunningValkey, domain: str
) -> None:
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await features.record([_likes("visitor", "a", now - 5), _shown("visitor", "b", now - 5)])
        await features.fold("visitor", _ANN)
        assert await features.fold(_ANN, "visitor") == 2
        assert sorted(e.item_id for e in (await _held(features, "visitor")).events) == ["a", "b"]
        assert await features.record([_shown("visitor", "c", now - 3)]) == [AppendStatus.RECORDED]


async def test_a_server_that_ends_an_erasure_late_does_not_end_the_next_one(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One server stalls at its last step; another ends it, ann comes back and is erased again, and that one
    dies before it has cleaned anything: what is left to do must survive the last step of the first."""
    now = time.time_ns() // 1_000_000
    async with (
        a_domain(session_valkey, domain, lambda: now) as slow,
        a_domain(session_valkey, domain, lambda: now) as other,
    ):
        await _acts(slow, now)
        note, notes = slow.erased_bytes.note, 0

        async def stalling(at_ms: int) -> None:
            nonlocal now, notes
            notes += 1
            await note(at_ms)
            if notes > 1:
                return
            await other.lifecycle.repair(now_ms=now)
            now += 10
            await other.record([_likes(_ANN, "z", now)])
            await other.relate([Relation(_ANN, "dora", time_ms=now)])
            now += 10
            with monkeypatch.context() as patch:
                patch.setattr(Lifecycle, "_clean", dies)
                with pytest.raises(Died):
                    await other.erase(_ANN)

        monkeypatch.setattr(ErasedBytes, "note", lambda self, at_ms: stalling(at_ms))
        assert await slow.erase(_ANN)
        assert notes >= 2, "the stalled step was reached"
        assert traces(session_valkey, _ANN, match=_of(domain)), "of the second time, still to be cleaned"
        for _ in range(3):
            await other.lifecycle.repair(now_ms=now)
            now += _SETTLED_MS
        assert traces(session_valkey, _ANN, match=_of(domain)) == []


@pytest.mark.parametrize("merged", [False, True], ids=["erased", "merged"])
@pytest.mark.parametrize("owner", [_ANN, "bob"])
async def test_who_is_related_anew_while_they_are_erased_has_both_sides_of_it_or_none(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch, owner: str, merged: bool
) -> None:
    """Their server has died before it cleaned up: until another has, whoever relates them has to come again,
    and one that is cleaning meanwhile is waited for."""
    now = time.time_ns() // 1_000_000
    monkeypatch.setattr(relations, "_PAUSES_S", (0.02, 0.1, 0.5))
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await _acts(features, now)
        await features.relate([Relation("bob", _ANN, time_ms=now - 1)])
        with monkeypatch.context() as patch:
            patch.setattr(Lifecycle, "_clean", dies)
            with pytest.raises(Died):
                await (features.fold(_ANN, "dora") if merged else features.erase(_ANN))
        now += 10
        anew = Relation(owner, "bob" if owner == _ANN else _ANN, time_ms=now)
        with pytest.raises(Contended, match="just being erased or merged; try again later"):
            await features.relate([anew])
        related = asyncio.create_task(features.relate([anew]))
        await features.lifecycle.repair(now_ms=now)
        assert await related == [PersonStatus.STORED]
        for _ in range(3):
            now += _SETTLED_MS
            await features.lifecycle.repair(now_ms=now)
        held = await _held(features, _ANN)
        assert [r.other_user_id for r in held.relations] == (["bob"] if owner == _ANN else [])
        assert [other for _, other in held.followers] == ([] if owner == _ANN else ["bob"])
        await features.erase("bob")
        assert (await _held(features, _ANN)).is_nothing


def _shown(user_id: str, item_id: str, time_ms: int) -> Event:
    return Event(user_id, item_id, Action.IMPRESSION, 0.0, time_ms, f"{user_id} {item_id} {time_ms} shown")


async def _held(features: DomainFeatures, user_id: str) -> HeldPerson:
    return await HeldReader(features.store, features.keys).read(user_id)


def _likes(user_id: str, item_id: str, time_ms: int) -> Event:
    return Event(user_id, item_id, Action.LIKE, 0.0, time_ms, f"{user_id} {item_id} {time_ms}")


async def test_somebody_never_seen_and_somebody_gone_are_erased_without_a_word(
    session_valkey: RunningValkey, features: Features
) -> None:
    """Nothing to erase is no error; the id is marked all the same, so that a late importer is refused."""
    for _ in range(2):
        assert not (await features.ask("DeleteUser", user_id="never-seen")).existed
    assert await features.record(event("never-seen", "a")) == [REJECTED]
    await a_full_life(features, _ANN)
    erased = [(await features.ask("DeleteUser", user_id=_ANN)).existed for _ in range(3)]
    assert erased == [True, False, False]
    for person in (_ANN, "never-seen"):
        assert traces(session_valkey, person, match=_of(features.domain)) == []
    found = (await features.ask("FindErasedUsers", user_ids=["bob", _ANN, "never-seen"])).erasures
    assert [e.user_id for e in found] == [_ANN, "never-seen"]
    assert all(abs(e.erased_ms - time.time_ns() // 1_000_000) < 60_000 for e in found)


async def test_what_is_written_while_somebody_is_erased_does_not_bring_them_back(
    session_valkey: RunningValkey, serve: Serve, domain: str
) -> None:
    """Two servers, writers of all kinds that do not stop: what is dated before the erasure stays out."""
    async with serve() as one, serve() as other:
        stop = False

        async def writer(features: Features, name: str) -> list[int]:
            statuses: list[int] = []
            while not stop:
                n = len(statuses)
                statuses += await features.record(
                    event(_ANN, f"i{n}", event_id=f"{name}-{n}", time_ms=NOW_MS + n),
                    event(_ANN, f"i{n}", 1, event_id=f"{name}-shown-{n}", time_ms=NOW_MS + n),
                )
                await features.relate(relation(_ANN, f"{name}-{n % 5}"), relation(f"{name}-{n % 5}", _ANN))
                await features.ask("UpsertUsers", users=[user_pb2.User(user_id=_ANN)])
            return statuses

        writers = [asyncio.create_task(writer(f, f"w{n}")) for n, f in enumerate((one, other, one, other))]

        async def busy() -> bool:
            return len(traces(session_valkey, _ANN, match=_of(domain))) > 100

        await until(busy, says="many traces")
        erased = await asyncio.gather(*(f.ask("DeleteUser", user_id=_ANN) for f in (one, other, one)))
        assert [e.existed for e in erased].count(True) >= 1
        stop = True
        statuses = await asyncio.gather(*writers)
        assert all({RECORDED, REJECTED} >= set(found) for found in statuses)
        assert traces(session_valkey, _ANN, match=_of(domain)) == []
        assert _ANN not in {e.user_id for e in await one.exported(include_impressions=True)}
        users, relations = await other.exported_users()
        named = (
            {u.user_id for u in users} | {r.user_id for r in relations} | {r.other_user_id for r in relations}
        )
        assert _ANN not in named


async def test_erased_bytes_leave_the_stores_memory_and_files(own_valkey: RunningValkey, domain: str) -> None:
    """A stream keeps what is deleted from it until a whole block is empty, and the append-only file what was
    ever written: both are made anew."""
    with own_valkey.client() as client:
        client.config_set("rdbcompression", "no")  # so that bytes can be found
    everybody = [event(f"other{n}", "i1", event_id=f"o{n}", time_ms=NOW_MS + n) for n in range(900)]
    async with serving(own_valkey, domain, rewrite_hours=1.0) as features:
        await a_full_life(features, _ANN)
        await features.record(*everybody[:450])
        await features.ask("DeleteUser", user_id=_ANN)
        assert traces(own_valkey, _ANN) == []
        assert keys_with_bytes_of(own_valkey, _ANN), "no command shows them, but they are there"
        assert files_with_bytes_of(own_valkey.config.data_dir, _ANN)
    async with serving(own_valkey, domain, rewrite_hours=1e-6, repair_every_s=0.02) as features:
        for at in range(450, 900, 10):  # appends go on meanwhile
            assert set(await features.record(*everybody[at : at + 10])) == {RECORDED}

        async def gone() -> bool:
            return not files_with_bytes_of(own_valkey.config.data_dir, _ANN)

        await until(gone, within_s=20, says="no file with her id")
        assert keys_with_bytes_of(own_valkey, _ANN) == []
        assert {e.event_id for e in everybody} <= {e.event_id for e in await features.exported()}
        assert [copy for log in (":log:", ":imp:") for copy in traces(own_valkey, log)] == []
    own_valkey.kill()
    own_valkey.start()
    async with serving(own_valkey, domain) as features:
        assert {e.event_id for e in everybody} <= {e.event_id for e in await features.exported()}
        assert await features.record(event(_ANN, "i1")) == [REJECTED], "the keyed hash is still there"


async def test_a_log_that_is_cut_while_it_is_packed_is_packed_the_next_time(
    session_valkey: RunningValkey, domain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time_ns() // 1_000_000
    async with a_domain(session_valkey, domain, lambda: now) as features:
        people = [f"{_ANN}-{n}" for n in range(2)]
        bystanders = [f"other{n}" for n in range(40)]
        likes = [Event(u, "a", Action.LIKE, 0.0, now - 1, f"e {u}") for u in (*people, *bystanders)]
        await features.record(likes)
        await features.erase(people[0])
        packer, scripts = Packer(features.store, features.keys), Store.script

        async def erasing_meanwhile(self: Store, script: Any, *rest: Any, **more: Any) -> Any:
            if script.name == "pack_swap":
                monkeypatch.setattr(Store, "script", scripts)
                await features.erase(people[1])
            return await scripts(self, script, *rest, **more)

        monkeypatch.setattr(Store, "script", erasing_meanwhile)
        same_shard = features.keys.shard_number(people[0]) == features.keys.shard_number(people[1])
        assert await packer.pack() is not same_shard
        assert await packer.pack()
        assert keys_with_bytes_of(session_valkey, _ANN, match=_of(domain)) == []
        exported = [e async for batch in features.export_events(EventSpan()) for e in batch]
        assert sorted(e.user_id for e in exported) == sorted(bystanders)


@pytest.mark.parametrize("dies", [False, True], ids=["ends", "store dies"])
async def test_a_rewrite_that_takes_long_is_begun_once_and_settled_by_whoever_finds_it_ended(
    own_valkey: RunningValkey,
    domain: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    dies: bool,
) -> None:
    """Two servers look again and again; if the store dies in the midst of it, it is begun once more."""
    now = time.time_ns() // 1_000_000
    monkeypatch.setattr(erased_bytes, "_SLOW_S", 0)
    async with (
        a_domain(own_valkey, domain, lambda: now) as one,
        a_domain(own_valkey, domain, lambda: now) as other,
    ):
        await one.record([_likes(f"u{n}", "a", now) for n in range(100)])
        await one.erase("u1")
        now += 25 * 3600 * 1000
        with own_valkey.client() as client:
            client.config_set("rdb-key-save-delay", 1000)  # of some 400 keys
            for features in (one, other) * 3:
                assert not await features.erased_bytes.rewrite_if_due(now_ms=now)
            said = client.info("persistence")
            assert (said["aof_rewrite_in_progress"], said["aof_rewrites"]) == (1, 1)
            assert client.hget(one.keys.erasures, "first") is not None
        if dies:
            own_valkey.kill()
            own_valkey.start()
        await rewritten(other, now_ms=now)
        with own_valkey.client() as client:
            assert client.info("persistence")["aof_rewrites"] == 1
            assert client.hkeys(one.keys.erasures) == [b"count"]
    if not dies:
        assert capsys.readouterr().out.count("store_rewrite_slow") == 2, "each server says so once"


async def test_a_store_that_refuses_to_rewrite_its_file_is_told_of_and_the_age_grows(
    session_valkey: RunningValkey,
    domain: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As managed services may: what was erased stays gone for every command."""
    now = time.time_ns() // 1_000_000
    asked = Store.on_each_server

    async def refusing(self: Store, *command: str) -> dict[str, Any]:
        if command[0] == "BGREWRITEAOF":
            raise ResponseError("NOPERM this user has no permissions to run the 'bgrewriteaof' command")
        return await asked(self, *command)

    monkeypatch.setattr(Store, "on_each_server", refusing)
    async with a_domain(session_valkey, domain, lambda: now) as features:
        await _acts(features, now)
        assert await features.erase(_ANN)
        now += 2 * 24 * 3600 * 1000
        for _ in range(3):
            await features.rewrite_files()
        (age,) = (s.value for m in features.erased_bytes._age.collect() for s in m.samples)
        assert age == pytest.approx(2 * 24 * 3600, abs=10)
        assert capsys.readouterr().out.count("store_rewrite_refused") == 1
        assert keys_with_bytes_of(session_valkey, _ANN, match=_of(domain)) == [], "packed all the same"
