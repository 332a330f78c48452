"""Lists for somebody of whom nothing is read or kept: the whole ladder, by what the request brings."""

from __future__ import annotations

from uuid import UUID

import numpy as np
import pytest

from services.gateway.draft import Rung
from shared.domain import Action, Event, Uncertainty
from shared.errors import Unavailable
from tests.traces import remembered
from tests.unit.services.gateway.world import World, event, ids_of, world

_ANYBODY = "ephemeral"


def brought(*items: str, action: Action = Action.LIKE) -> tuple[Event, ...]:
    return tuple(event(item, action, user_id=_ANYBODY, minute=n) for n, item in enumerate(items))


async def ephemeral(w: World, **fields: object) -> list[str]:
    return await w.ids(user_id="", ephemeral=True, **fields)


async def test_the_same_events_give_the_same_list_as_of_somebody_who_did_them() -> None:
    async with world(exploration_rate=0.0) as w:
        events = [event("a3"), event("b2", Action.DISLIKE, minute=1)]
        w.acts(*events)
        stored = await w.recommend(page_size=12)
        own = tuple(event(e.item_id, e.action, user_id=_ANYBODY, minute=n) for n, e in enumerate(events))
        alone = await w.recommend(page_size=12, user_id="", ephemeral=True, events=own)
        assert [(i.item_id, i.score, i.propensity) for i in alone.items] == [
            (i.item_id, i.score, i.propensity) for i in stored.items
        ]
        assert (alone.shots, alone.rung) == (2, Rung.ADAPTED)
        assert {"a3", "b2"}.isdisjoint(i.item_id for i in alone.items)


async def test_nothing_is_logged_or_remembered_of_it() -> None:
    async with world() as w:
        answer = await w.recommend(user_id="", ephemeral=True, events=brought("a3"), experiment_key="of-ann")
        assert answer.items
        assert len(w.rooms.last_good) == 0
        assert len(w.rooms.impressions) == 0
        await w.rooms.impressions.stop()
        assert w.features.recorded == {}
        for trace in (answer.list_id, "of-ann"):
            assert remembered(w.rooms, trace) == []


async def test_no_stored_person_is_read_whatever_their_id() -> None:
    async with world() as w:
        for somebody in ("", _ANYBODY):
            w.features.histories[somebody] = [event("a1", user_id=somebody), event("a2", user_id=somebody)]
        listed = await ephemeral(w, page_size=12)
        assert {"a1", "a2"} <= set(listed), "seen by somebody, not by whoever asks"


async def test_without_features_the_list_is_adapted_all_the_same() -> None:
    async with world() as w:
        w.features.down = Unavailable("connection refused")
        answer = await w.recommend(page_size=3, user_id="", ephemeral=True, events=brought("a3"))
        assert (answer.rung, answer.shots) == (Rung.ADAPTED, 1)
        assert [i.item_id for i in answer.items] == ["a1", "a2", "a4"]
        stranger = await w.recommend(page_size=3, user_id="", ephemeral=True)
        assert stranger.rung is Rung.ADAPTED


async def test_without_adaptation_it_goes_by_what_was_brought_then_by_what_trends() -> None:
    async with world() as w:
        w.adaptation.down = Unavailable("connection refused")
        answer = await w.recommend(page_size=2, user_id="", ephemeral=True, events=brought("a3"))
        assert (answer.rung, [i.item_id for i in answer.items]) == (Rung.RECENT_ITEMS, ["a1", "a2"])
        w.scoring.down = Unavailable("connection refused")
        answer = await w.recommend(page_size=2, user_id="", ephemeral=True, events=brought("a3"))
        assert (answer.rung, [i.item_id for i in answer.items]) == (Rung.TRENDING, ["b1", "b2"])


async def test_pages_repeat_no_item_and_need_nothing_kept() -> None:
    async with world() as w:
        pages = await w.pages(page_size=4, user_id="", ephemeral=True, events=brought("a3"), digest="same")
        listed = ids_of(pages)
        assert len(pages) > 2
        assert len(listed) == len(set(listed)) == 11
        assert len({page.list_id for page in pages}) == 1


async def test_exploration_and_its_propensities_are_those_of_somebody_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Chance is fixed by the list's id: with the same one, both lists draw the same from the posterior."""
    monkeypatch.setattr("services.gateway.pipeline.uuid.uuid4", lambda: UUID(int=7))
    async with world(exploration_rate=0.5) as w:
        w.adaptation.uncertainty = Uncertainty(np.eye(2, dtype=np.float32), 1.0, 0)
        w.acts(event("a3"))
        stored = await w.recommend(page_size=8)
        alone = await w.recommend(page_size=8, user_id="", ephemeral=True, events=brought("a3"))
        shown = [(i.item_id, i.source, i.propensity) for i in alone.items]
        assert shown == [(i.item_id, i.source, i.propensity) for i in stored.items]
        assert "exploration" in {source for _, source, _ in shown}
        assert len({propensity for _, _, propensity in shown}) > 1
