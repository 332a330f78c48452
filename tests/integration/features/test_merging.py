"""What a merge must not lose, double or leave behind, whoever dies, erases or sends again meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from services.features.domain import DomainFeatures
from services.features.store import locks
from services.features.store.copying import Copier
from services.features.store.erasures import erasures_of, replay
from services.features.store.events import AppendStatus
from services.features.store.export import EventSpan
from services.features.store.held import HeldReader
from services.features.store.lifecycle import Lifecycle
from services.features.store.people import PersonStatus
from shared.domain import Action, Event, Relation, User
from shared.errors import Contended, WrongState
from tests.integration.features.alone import a_domain
from tests.integration.features.client import until
from tests.integration.features.deaths import Died, Muddle, Strikes, dies
from tests.traces import traces
from tests.valkey import RunningValkey, running_valkey

_VISITOR, _ANN = "visitor-7", "ann-the-traveller"
_SECRET = "a secret of sixteen characters"
_DAY_MS = 24 * 3600 * 1000
_NEW = [AppendStatus.RECORDED]
_KNOWN = [AppendStatus.DUPLICATE]
_REFUSED = [AppendStatus.ERASED_PERSON]


class Clock:
    """Milliseconds since the epoch, as the test moves them."""

    def __init__(self) -> None:
        self.now = time.time_ns() // 1_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def features(session_valkey: RunningValkey, domain: str, clock: Clock) -> AsyncIterator[DomainFeatures]:
    async with a_domain(session_valkey, domain, clock) as features:
        yield features


def _likes(user_id: str, item_id: str, time_ms: int, event_id: str) -> Event:
    return Event(user_id, item_id, Action.LIKE, 0.0, time_ms, event_id)


async def _chosen(features: DomainFeatures, user_id: str) -> list[tuple[str, str]]:
    """(item, event id), as they arrived."""
    held = await HeldReader(features.store, features.keys).read(user_id)
    return [(event.item_id, event.event_id) for event in held.events]


async def _logged(features: DomainFeatures) -> list[tuple[str, str]]:
    return sorted(
        [
            (event.user_id, event.item_id)
            async for batch in features.export_events(EventSpan())
            for event in batch
        ]
    )


async def test_what_was_acknowledged_before_a_merge_and_comes_again_is_known(
    features: DomainFeatures, clock: Clock
) -> None:
    """The answer was lost, the visitor signed in, and the shop sends the event again."""
    order = _likes(_VISITOR, "shoe", clock.now - 5, "order-17")
    assert await features.record([order]) == _NEW
    assert await features.fold(_VISITOR, _ANN) == 1
    assert await features.record([order]) == _KNOWN
    assert await _logged(features) == [(_ANN, "shoe")]

    # The browser keeps its id: what is new of it begins anew, and is known after the next merge, too.
    later = _likes(_VISITOR, "hat", clock.now, "order-18")
    assert await features.record([later]) == _NEW
    assert await features.fold(_VISITOR, _ANN) == 1
    assert await features.record([order, later]) == _KNOWN * 2
    assert await _logged(features) == [(_ANN, "hat"), (_ANN, "shoe")]


async def test_of_merged_people_the_latest_ids_are_known_as_of_everybody(
    session_valkey: RunningValkey, domain: str, clock: Clock
) -> None:
    async with a_domain(session_valkey, domain, clock, dedupe_events=2) as features:
        events = [_likes(_VISITOR, f"i{n}", clock.now - 9 + n, f"e{n}") for n in range(4)]
        await features.record(events[:2])
        await features.fold(_VISITOR, _ANN)
        await features.record(events[2:])
        await features.fold(_VISITOR, _ANN)
        assert await features.record(events[2:]) == _KNOWN * 2
        assert await features.record(events[:1]) == _NEW


async def test_two_events_of_one_id_are_both_kept(features: DomainFeatures, clock: Clock) -> None:
    """Ids are a person's own: counted up in each browser, say."""
    await features.record(
        [_likes(_VISITOR, "hat", clock.now - 5, "1"), _likes(_ANN, "shoe", clock.now - 5, "1")]
    )
    await features.trending.flush()
    assert await features.fold(_VISITOR, _ANN) == 1
    assert [item_id for item_id, _ in await _chosen(features, _ANN)] == ["shoe", "hat"]
    assert await features.record([_likes(_VISITOR, "hat", clock.now - 5, "1")]) == _KNOWN
    clock.now += 10_000
    await features.lifecycle.repair(now_ms=clock.now)
    ranked, _ = await features.trending.top(10, now_ms=clock.now)
    assert sorted(item_id for item_id, _ in ranked) == ["hat", "shoe"], "each was chosen, by one person"


async def test_one_event_that_both_have_is_kept_once(features: DomainFeatures, clock: Clock) -> None:
    for user_id in (_VISITOR, _ANN):
        await features.record([_likes(user_id, "hat", clock.now - 5, "1")])
    assert await features.fold(_VISITOR, _ANN) == 0
    assert await _chosen(features, _ANN) == [("hat", "1")]


async def test_whatever_call_to_the_store_was_the_last_a_merge_is_ended_or_was_not_begun(
    features: DomainFeatures, clock: Clock, session_valkey: RunningValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A death before the merge's first round trip, after one, after two … until it needs no more. Then
    another server looks, the visitor's last event comes again, and whoever is left is erased."""
    deaths, noted = Strikes(monkeypatch), 5  # two locks, a look for other merges, two notes
    for number in deaths:
        clock.now += 10_000
        visitor, ann = f"{_VISITOR}-{number}", f"{_ANN}-{number}"
        own = [_likes(visitor, "hat", clock.now - 5, "1"), _likes(visitor, "tie", clock.now - 5, "2")]
        await features.record([*own, _likes(ann, "shoe", clock.now - 5, "1")])
        await features.relate([Relation(visitor, "bob", time_ms=clock.now - 5)])
        await deaths.strike(number, features.fold(visitor, ann))
        _locks_go(session_valkey)
        await features.lifecycle.repair(now_ms=clock.now)
        assert await features.record(own) == _KNOWN * 2
        items = {u: sorted(i for i, _ in await _chosen(features, u)) for u in (visitor, ann)}
        if number < noted:
            assert items == {visitor: ["hat", "tie"], ann: ["shoe"]}
        else:
            assert items == {visitor: [], ann: ["hat", "shoe", "tie"]}
        clock.now += 1
        for user_id in (ann, visitor):
            await features.erase(user_id)
        assert [user_id for user_id, _ in await features.erased([visitor, ann])] == [visitor, ann]
        assert await features.record(own) == _REFUSED * 2
        for _ in range(3):
            clock.now += 2_000
            await features.lifecycle.repair(now_ms=clock.now)
        for user_id in (visitor, ann):
            assert traces(session_valkey, user_id, match=f"{{{features.name}:*") == []
    assert number >= 10


async def test_who_is_erased_while_they_are_merged_is_merged_first(
    features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was copied would outlive them, and nobody would know whose it was."""
    await features.record([_likes(_VISITOR, "hat", clock.now - 5, "1")])
    copy, erasing = Copier.events, list[asyncio.Task[bool]]()

    async def erased_meanwhile(self: Copier, *rest: Any) -> int:
        moved = await copy(self, *rest)
        erasing.append(asyncio.create_task(features.erase(_VISITOR)))
        await asyncio.wait(erasing, timeout=0.1)
        return moved

    monkeypatch.setattr(Copier, "events", erased_meanwhile)
    await features.fold(_VISITOR, _ANN)
    assert [await task for task in erasing] == [False], "by now there is nothing under this id"
    assert await _chosen(features, _ANN) == [("hat", "1")]
    assert await _chosen(features, _VISITOR) == []
    assert await features.erase(_ANN)
    assert await _logged(features) == []


async def test_a_merge_that_can_no_longer_be_ended_does_not_keep_its_person_from_being_erased(
    features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server died, and then the target was erased."""
    await features.record(
        [_likes(_VISITOR, "hat", clock.now - 5, "1"), _likes(_ANN, "hat", clock.now - 5, "2")]
    )
    with monkeypatch.context() as patch:
        patch.setattr(Copier, "seen", dies)
        with pytest.raises(Died):
            await features.fold(_VISITOR, _ANN)
    await features.erase(_ANN)
    assert await features.erase(_VISITOR)
    assert await _logged(features) == []
    with pytest.raises(WrongState):
        await features.record([_likes("bea", "hat", clock.now - 5, "3")])
        await features.fold("bea", _ANN)
    assert await _chosen(features, "bea") == [("hat", "3")]
    assert await features.lifecycle.repair(now_ms=clock.now) <= 2  # trends of the two, and no merge


async def test_people_who_are_merged_to_and_fro_at_once_lose_nothing(
    session_valkey: RunningValkey, features: DomainFeatures, clock: Clock
) -> None:
    """By two servers, in circles of two and three; ids are counted alike."""
    async with a_domain(session_valkey, features.name, clock) as other:
        for ring in (("a", "b"), ("a", "b", "c")) * 5:
            clock.now += 10_000
            people = [f"{user_id} {clock.now}" for user_id in ring]
            deeds = [_likes(u, f"{u}'s {n}", clock.now - 5, str(n)) for u in people for n in range(3)]
            assert await features.record(deeds) == _NEW * len(deeds)
            pairs = list(zip(people, [*people[1:], people[0]], strict=True))
            merges = [server.fold(*pair) for pair in pairs for server in (features, other)]
            done = await asyncio.gather(*merges, return_exceptions=True)
            assert {type(one) for one in done} == {int}, done
            held = [await _chosen(features, user_id) for user_id in people]
            assert sorted(item for one in held for item, _ in one) == sorted(deed.item_id for deed in deeds)
            # Of three, one may have been merged on before another came.
            assert len(ring) == 3 or sorted(map(len, held)) == [0, len(deeds)], "both are one person"


async def test_a_merge_that_was_cut_off_comes_before_one_the_other_way(
    features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch, session_valkey: RunningValkey
) -> None:
    """Also where ids are counted alike: nobody's event is copied back under another id."""
    await features.record([_likes(u, f"{u}'s", clock.now - 5, "1") for u in (_VISITOR, _ANN)])
    with monkeypatch.context() as patch:
        patch.setattr(Copier, "seen", dies)
        with pytest.raises(Died):
            await features.fold(_VISITOR, _ANN)
    _locks_go(session_valkey)
    assert await features.fold(_ANN, _VISITOR) == 2
    await features.lifecycle.repair(now_ms=clock.now)
    found = {
        user_id: sorted(item for item, _ in await _chosen(features, user_id)) for user_id in (_VISITOR, _ANN)
    }
    assert found == {_VISITOR: sorted([f"{_VISITOR}'s", f"{_ANN}'s"]), _ANN: []}


@pytest.mark.parametrize("first", [(_VISITOR, _ANN), (_ANN, _VISITOR)], ids=["on", "beside"])
async def test_somebody_whose_visitor_is_not_all_there_yet_is_not_merged_on_before(
    features: DomainFeatures,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    session_valkey: RunningValkey,
    first: tuple[str, str],
) -> None:
    """The visitor's events would go on with ann, and come again as the visitor's."""
    await features.record([_likes(u, f"{u}'s", clock.now - 5, u) for u in (_VISITOR, _ANN, "bea")])
    with monkeypatch.context() as patch:
        patch.setattr(Copier, "seen", dies)
        with pytest.raises(Died):
            await features.fold(*first)
    _locks_go(session_valkey)
    assert await features.fold(_ANN, "bea") == (2 if first[0] == _VISITOR else 0)
    while await features.lifecycle.repair(now_ms=clock.now):
        clock.now += 1001
    everywhere = [await _chosen(features, user_id) for user_id in (_VISITOR, _ANN, "bea")]
    assert sorted(e for held in everywhere for e in held) == sorted(
        (f"{u}'s", u) for u in (_VISITOR, _ANN, "bea")
    )


async def test_a_note_of_a_merge_at_its_target_alone_goes(
    features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch, session_valkey: RunningValkey
) -> None:
    """Its server died before it noted more: by upkeep, or by the next merge."""
    for ends_it in (features.lifecycle.repair(now_ms=clock.now), features.fold("bea", _ANN)):
        await features.record([_likes(_VISITOR, "hat", clock.now - 5, "1")])
        strikes = Strikes(monkeypatch)
        await strikes.strike(4, features.fold(_VISITOR, _ANN))  # two locks, a look, this note
        with session_valkey.client() as client:
            (jobs,) = client.scan_iter(match=f"{{{features.name}:s*}}:jobs")
            assert client.hgetall(jobs) == {f"i:{_ANN}".encode(): _VISITOR.encode()}
            _locks_go(session_valkey)
            await ends_it
            assert list(client.scan_iter(match=f"{{{features.name}:s*}}:jobs")) == []
    assert await _chosen(features, _VISITOR) == [("hat", "1")]


@pytest.mark.parametrize("own", [True, False], ids=["of theirs", "to them"])
async def test_a_relation_that_is_removed_while_its_person_is_merged_is_removed(
    features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """After it was copied, before they are out: the later statement counts."""
    ann, pair = _ANN, (_VISITOR, "bob") if own else ("bob", _VISITOR)
    await features.record([_likes(_VISITOR, "hat", clock.now - 5, "1")])
    await features.relate([Relation(*pair, time_ms=clock.now - 5)])
    copy, removed = Copier.link, iter([Relation(*pair, time_ms=clock.now, removed=True)])

    async def removed_meanwhile(self: Copier, *rest: Any) -> None:
        await copy(self, *rest)
        for relation in removed:
            assert await features.relate([relation]) == [PersonStatus.STORED]

    monkeypatch.setattr(Copier, "link", removed_meanwhile)
    await features.fold(_VISITOR, ann)
    reader = HeldReader(features.store, features.keys)
    (relation,) = (await reader.read(ann if own else "bob")).relations
    assert (relation.other_user_id, relation.removed) == ("bob" if own else ann, True)


@pytest.mark.parametrize("kept", ["of the target", "of the source"])
async def test_of_what_both_say_of_one_person_the_later_counts(
    features: DomainFeatures, clock: Clock, kept: str
) -> None:
    later, earlier = (_ANN, _VISITOR) if kept == "of the target" else (_VISITOR, _ANN)
    said = [
        Relation(earlier, "bob", weight=0.5, time_ms=clock.now - 5),
        Relation(later, "bob", weight=2.0, time_ms=clock.now - 4),
    ]
    await features.relate(said)
    await features.fold(_VISITOR, _ANN)
    (relation,) = (await HeldReader(features.store, features.keys).read(_ANN)).relations
    assert (relation.weight, relation.time_ms) == (2.0, clock.now - 4)


async def test_whoever_stalled_for_longer_than_their_lock_writes_nothing_more(
    session_valkey: RunningValkey, features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another ends the merge meanwhile, ann takes back a relation of the visitor's, and is merged on."""

    async def others_go_on() -> None:
        _locks_go(session_valkey)
        await features.fold(visitor, ann)
        clock.now += 10
        await features.relate([Relation(ann, "bob", time_ms=clock.now, removed=True)])
        await features.fold(ann, bea)

    strikes = Strikes(monkeypatch, others_go_on)
    for number in strikes:
        visitor, ann, bea = (f"{name} {number}" for name in ("visitor", "ann", "bea"))
        clock.now += 10_000
        await features.record([_likes(u, f"{u}'s", clock.now - 5, "1") for u in (visitor, ann)])
        await features.relate([Relation(visitor, "bob", time_ms=clock.now - 5)])
        with suppress(Contended):
            await strikes.strike(number, features.fold(visitor, ann))
        if strikes.is_survived:
            break
        while await features.lifecycle.repair(now_ms=clock.now):
            clock.now += 1001
        where = f"stalled after {number}"
        reader = HeldReader(features.store, features.keys)
        assert (await reader.read(visitor)).is_nothing, where
        assert (await reader.read(ann)).is_nothing, where
        held = await reader.read(bea)
        assert sorted(event.item_id for event in held.events) == sorted([f"{visitor}'s", f"{ann}'s"]), where
        assert [relation.removed for relation in held.relations] == [], where
    assert number >= 15


async def test_whoever_stalled_while_they_noted_a_merge_leaves_other_notes_alone(
    session_valkey: RunningValkey, features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bea's merge was begun meanwhile, and cut off: ann, who is merged on, waits for it."""

    async def others_go_on() -> None:
        _locks_go(session_valkey)
        with monkeypatch.context() as patch:
            patch.setattr(Copier, "seen", dies)
            with suppress(Died):
                await features.fold(bea, ann)
        _locks_go(session_valkey)

    for number in range(2, 6):
        people = visitor, bea, ann, carl = [f"{name} {number}" for name in ("visitor", "bea", "ann", "carl")]
        await features.record([_likes(u, f"{u}'s", clock.now - 5, "1") for u in people])
        with suppress(Contended):
            await Strikes(monkeypatch, others_go_on).strike(number, features.fold(visitor, ann))
        _locks_go(session_valkey)
        await features.fold(ann, carl)
        while await features.lifecycle.repair(now_ms=clock.now):
            clock.now += 1001
        everywhere = [item for user_id in people for item, _ in await _chosen(features, user_id)]
        assert sorted(everywhere) == sorted(f"{u}'s" for u in people), f"stalled after {number}"


async def test_a_merge_that_cannot_be_made_any_more_leaves_the_note_of_another_alone(
    session_valkey: RunningValkey, features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ann was erased, and the visitor is being merged into bea by a server that died: an erasure finds it."""

    async def others_go_on() -> None:
        _locks_go(session_valkey)
        await features.erase(ann)
        with monkeypatch.context() as patch:
            patch.setattr(Copier, "seen", dies)
            with suppress(Died):
                await features.fold(visitor, bea)
        _locks_go(session_valkey)

    strikes = Strikes(monkeypatch, others_go_on)
    for number in range(5, 13):
        visitor, ann, bea = (f"{name} {number}" for name in ("visitor", "ann", "bea"))
        clock.now += 10_000
        await features.record([_likes(u, f"{u}'s", clock.now - 5, "1") for u in (visitor, ann, bea)])
        with suppress(Contended, WrongState):
            await strikes.strike(number, features.fold(visitor, ann))
        assert not strikes.is_survived
        _locks_go(session_valkey)
        await features.erase(visitor)
        assert await _chosen(features, visitor) == []
        chosen = [item for item, _ in await _chosen(features, bea)]
        assert chosen in ([f"{bea}'s"], [f"{bea}'s", f"{visitor}'s"]), f"stalled after {number}"
        assert await features.lifecycle.repair(now_ms=clock.now + 10_000) < 9
        await features.erase(bea)
        assert await _logged(features) == []


@pytest.mark.parametrize(
    "rounds", [20, pytest.param(1500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
async def test_whatever_three_servers_do_at_once_and_whichever_dies_an_acknowledged_event_is_there_once(
    session_valkey: RunningValkey, domain: str, clock: Clock, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    monkeypatch.setattr(locks, "_KEPT_MS", 400)
    seed = random.randrange(10**6)
    chance = random.Random(seed)
    muddle, sent, acknowledged = Muddle(monkeypatch, chance), list[Event](), set[Event]()

    async with (
        a_domain(session_valkey, domain, clock) as first,
        a_domain(session_valkey, domain, clock) as second,
        a_domain(session_valkey, domain, clock) as third,
    ):

        async def record(server: DomainFeatures, event: Event) -> None:
            assert await server.record([event]) in (_NEW, _KNOWN)
            acknowledged.add(event)

        async def merge(server: DomainFeatures, pair: list[str]) -> None:
            with suppress(Contended):
                await server.fold(*pair)

        def deed(people: list[str]) -> Callable[[], Coroutine[Any, Any, None]]:
            server, pair = chance.choice((first, second, third)), chance.sample(people, 2)
            match chance.choice((*("record",) * 4, "again", "again", "repair", "repair", "merge", "merge")):
                case "repair":
                    return partial(server.lifecycle.repair, now_ms=clock.now)
                case "merge":
                    return partial(merge, server, pair)
                case what:
                    if what == "record" or not sent:
                        clock.now += 1
                        name = f"{clock.now}"
                        sent.append(_likes(pair[0], f"i {name}", clock.now, f"e {name}"))
                        return partial(record, server, sent[-1])
                    return partial(record, server, chance.choice(sent))

        async def is_at_rest() -> bool:
            clock.now += 1001
            return await first.lifecycle.repair(now_ms=clock.now) == 0

        for number in range(rounds):
            people = [f"{name} {number}" for name in ("ann", "bea", "carl")]
            sent.clear()
            acknowledged.clear()
            await muddle.of([deed(people) for _ in range(chance.randint(4, 10))])
            await until(is_at_rest, says="that nothing is left to do")
            held = [item for user_id in people for item, _ in await _chosen(first, user_id)]
            where = f"{seed=}, round {number}"
            assert len(held) == len(set(held)), where
            assert {event.item_id for event in acknowledged} <= set(held), where
            for event in acknowledged:
                assert await second.record([event]) == _KNOWN, where


async def test_a_server_that_lost_its_lock_takes_nobody_out(
    features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch, session_valkey: RunningValkey
) -> None:
    """It stood still; another ended the merge, and somebody with as many events began anew under the id."""
    await features.record([_likes(_VISITOR, "hat", clock.now - 5, "1")])
    last, stalled = Lifecycle._forget, iter([True])

    async def after_a_long_stall(self: Lifecycle, *rest: Any, **more: Any) -> Any:
        if next(stalled, False):
            _locks_go(session_valkey)
            await features.lifecycle.repair(now_ms=clock.now)
            assert await features.record([_likes(_VISITOR, "tie", clock.now, "2")]) == _NEW
        return await last(self, *rest, **more)

    monkeypatch.setattr(Lifecycle, "_forget", after_a_long_stall)
    with pytest.raises(Contended):
        await features.fold(_VISITOR, _ANN)
    assert await _logged(features) == [(_ANN, "hat"), (_VISITOR, "tie")]


@pytest.mark.parametrize("described", [True, False])
async def test_a_profile_alone_brings_no_erased_person_back(
    features: DomainFeatures, clock: Clock, session_valkey: RunningValkey, described: bool
) -> None:
    await features.record([_likes(_ANN, "hat", clock.now - 5, "1")])
    await features.erase(_ANN)
    if described:
        await features.describe([User(_VISITOR, {"age": "34"})])
    await features.fold(_VISITOR, _ANN)
    assert traces(session_valkey, _ANN, match=f"{{{features.name}:*") == []
    assert await features.describe([User(_ANN, {"age": "35"})]) == [PersonStatus.ERASED_PERSON]


async def test_more_events_than_ids_are_known_of_are_copied_once(
    session_valkey: RunningValkey, domain: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the merge has to begin again, as something of the source came meanwhile."""
    async with a_domain(session_valkey, domain, clock, dedupe_events=2) as features:
        await features.record([_likes(_VISITOR, f"i{n}", clock.now - 9 + n, f"e{n}") for n in range(4)])
        copy, meanwhile = Copier.seen, iter(["late"])

        async def acted_meanwhile(self: Copier, *rest: Any) -> None:
            await copy(self, *rest)
            for item_id in meanwhile:
                await features.record([_likes(_VISITOR, item_id, clock.now, item_id)])

        monkeypatch.setattr(Copier, "seen", acted_meanwhile)
        assert await features.fold(_VISITOR, _ANN) == 5
        assert [item for item, _ in await _chosen(features, _ANN)] == ["i0", "i1", "i2", "i3", "late"]


async def test_somebody_who_is_being_merged_into_one_person_goes_there_first(
    features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await features.record([_likes(_VISITOR, "hat", clock.now - 5, "1")])
    with monkeypatch.context() as patch:
        patch.setattr(Copier, "seen", dies)
        with pytest.raises(Died):
            await features.fold(_VISITOR, _ANN)
    assert await features.fold(_VISITOR, "bea") == 0
    assert await _logged(features) == [(_ANN, "hat")]


@pytest.mark.parametrize(
    "through", [(), ("desktop",), ("desktop", "tablet")], ids=lambda them: f"{len(them)} between"
)
async def test_whoever_was_merged_into_somebody_counts_as_erased_with_them(
    features: DomainFeatures, clock: Clock, through: tuple[str, ...], session_valkey: RunningValkey
) -> None:
    """Copies that know them by the old id, earlier trainings and backups, leave them out by that."""
    event = _likes(_VISITOR, "hat", clock.now - 5, "1")
    await features.record([event])
    chain = [_VISITOR, *through, _ANN]
    for source, target in itertools.pairwise(chain):
        await features.fold(source, target)
    merged_ms, clock.now = clock.now, clock.now + 10
    assert await features.erased(chain) == []
    await features.record([_likes(_VISITOR, "tie", clock.now, "2")])  # somebody begins anew under the id
    clock.now += 10
    assert await features.erase(_ANN)
    earlier = [(user_id, merged_ms) for user_id in chain[:-1]]
    assert await features.erased(chain) == [*earlier, (_ANN, clock.now)]
    assert await features.record([event]) == _REFUSED
    assert await _logged(features) == [(_VISITOR, "tie")]
    with session_valkey.client() as client:
        left = [key.decode() for key in client.scan_iter(match=f"{{{features.name}:s*")]
    assert not [key for key in left if key.split("}:")[1].split(":")[0] in ("md", "mf", "xm", "merges")]


@pytest.mark.parametrize("step", ["_forget", "_forget_with"])
async def test_a_target_that_is_erased_while_its_visitor_goes_takes_them_along(
    features: DomainFeatures, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Right before the visitor's id is empty, or right after."""
    await features.record([_likes(_VISITOR, "hat", clock.now - 5, "1")])
    last, erasures = getattr(Lifecycle, step), iter([_ANN])

    async def erased_meanwhile(self: Lifecycle, *rest: Any, **more: Any) -> Any:
        for user_id in erasures:
            assert await features.erase(user_id)
        return await last(self, *rest, **more)

    monkeypatch.setattr(Lifecycle, step, erased_meanwhile)
    await features.fold(_VISITOR, _ANN)
    assert await _logged(features) == []
    assert [user_id for user_id, _ in await features.erased([_VISITOR, _ANN])] == [_VISITOR, _ANN]


async def test_a_restore_brings_back_nobody_who_was_merged_and_then_erased(clock: Clock) -> None:
    """Nor does it erase who began anew under the id before the backup."""
    settings = {"deletion_secret": _SECRET}
    with running_valkey() as present, running_valkey() as backup:
        async with (
            a_domain(present, "shop", clock, **settings) as now,
            a_domain(backup, "shop", clock, **settings) as then,
        ):
            both = (now, then)
            for features in both:
                await features.record([_likes("before", "hat", clock.now - 5, "1")])
                await features.record([_likes("after", "tie", clock.now - 5, "1")])
                await features.fold("before", _ANN)
            clock.now += 10
            for features in both:
                await features.record([_likes("before", "cap", clock.now, "2")])  # another in this browser
            clock.now += 10  # the backup is made here
            await now.fold("after", _ANN)
            clock.now += 10
            assert await now.erase(_ANN)
            lists = await erasures_of(now.store, _SECRET)
            done = await replay(then.store, lists, _SECRET, half_life_s=3600, max_trending=100)
            assert (done.erased, done.marks) == (2, 3)
            assert await _logged(then) == [("before", "cap")]
            assert await then.erased(["before", "after", _ANN]) == await now.erased(["before", "after", _ANN])


async def test_days_without_anything_new_count_from_a_merge(
    session_valkey: RunningValkey, domain: str, clock: Clock
) -> None:
    async with a_domain(session_valkey, domain, clock, idle_retention_days="1") as features:
        await features.relate([Relation(_VISITOR, "bob", time_ms=clock.now)])
        await features.fold(_VISITOR, _ANN)
        await features.retention.sweep(now_ms=clock.now + _DAY_MS // 2)
        assert traces(session_valkey, _ANN, match=f"{{{domain}:*")
        clock.now += 3 * _DAY_MS
        await features.retention.sweep(now_ms=clock.now)
        assert traces(session_valkey, _ANN, match=f"{{{domain}:*") == []


def _locks_go(valkey: RunningValkey) -> None:
    """As those of a server that was not heard of for some seconds."""
    with valkey.client() as client:
        for key in client.scan_iter(match="{*:s*}:k:*"):
            client.unlink(key)
