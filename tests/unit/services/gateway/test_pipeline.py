"""The whole request, over fakes of the other services."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from services.gateway.draft import Draft, Rung
from services.gateway.query import Boost, ListQuery, Pin
from shared.domain import Action, ItemFilter, NeighbourLike, Trail, Uncertainty
from shared.errors import EmptyCatalogue, InvalidInput, NoModel, Unavailable
from tests.unit.services.gateway.world import NOW_MS, an_item, event, ids_of, rows_of, world


async def test_a_stranger_gets_a_full_list() -> None:
    async with world() as w:
        answer = await w.recommend(page_size=5)
        assert len(answer.items) == 5
        assert answer.rung is Rung.ADAPTED
        assert answer.shots == 0
        assert answer.degradations == ()


async def test_a_like_brings_items_of_its_taste_and_says_so() -> None:
    async with world() as w:
        w.acts(event("a3"))
        answer = await w.recommend(page_size=5)
        # The query is (1, 0) · 1.0; a3 itself has been seen.
        assert [i.item_id for i in answer.items] == ["a1", "a2", "a4", "a5", "a6"]
        assert answer.items[0].score == pytest.approx(1.2 * 1.0)
        assert answer.items[0].task_values == pytest.approx({"next": 1.2})
        assert answer.items[0].reason == "Because you liked Title a3"
        assert answer.items[0].source == "model"
        assert answer.shots == 1
        assert answer.model is not None
        assert answer.model.version == "v1"


async def test_a_dislike_lowers_its_taste() -> None:
    async with world() as w:
        w.acts(event("a3"), event("b3", minute=1), event("b1", Action.DISLIKE, minute=2))
        # Query = a3 + b3 − b1 = (1.0, 1.0 − 1.2): all a before all b.
        ids = await w.ids(page_size=20)
        assert ids == ["a1", "a2", "a4", "a5", "a6", "b6", "b5", "b4", "b2"]


async def test_carried_events_count_for_this_list_only() -> None:
    async with world() as w:
        assert (await w.ids(page_size=2, events=(event("b3"),))) == ["b1", "b2"]
        assert w.features.histories == {}
        assert (await w.recommend(page_size=2)).shots == 0


async def test_seen_items_come_back_only_where_asked_for_and_disliked_ones_not_even_then() -> None:
    async with world() as w:
        w.acts(event("a3"), event("a1", Action.DISLIKE, minute=1), event("b1", Action.VIEW, minute=2))
        assert not {"a1", "a3", "b1"} & set(await w.ids(page_size=20))
        again = set(await w.ids(page_size=20, include_seen=True))
        assert {"a3", "b1"} <= again
        assert "a1" not in again


async def test_candidates_are_ranked_instead_of_retrieved() -> None:
    async with world() as w:
        w.acts(event("a3"))
        answer = await w.recommend(candidate_item_ids=("b1", "a5", "unknown", "a3", "a2"))
        assert [i.item_id for i in answer.items] == ["a2", "a5", "b1"]
        assert {i.source for i in answer.items} == {"request"}
        assert w.scoring.retrievals == []
        # Whoever names candidates and includes seen ones gets those back as well.
        assert "a3" in await w.ids(candidate_item_ids=("a3", "b1"), include_seen=True)


async def test_a_narrow_filter_ranks_all_its_matches_without_retrieval() -> None:
    async with world() as w:
        w.acts(event("a3"))
        rules = ItemFilter(any_categories=frozenset({"b"}))
        assert await w.ids(page_size=20, filter=rules) == rows_of("b")
        assert w.scoring.retrievals == []


async def test_a_wide_filter_is_met_by_fetching_wider() -> None:
    rules = ItemFilter(no_categories=frozenset({"a"}))
    async with world(candidates=10) as w:
        w.acts(event("a3"))
        source = next(s for s in w.pipeline.stages.sources if s.name == "model")
        source._narrow = 2  # type: ignore[attr-defined]  # 6 matches are now too many to rank them all
        source._candidates = 3  # type: ignore[attr-defined]
        assert (await w.ids(page_size=3, filter=rules))[:3] == ["b1", "b2", "b3"]
        limits = [searches[0].limit for searches, _ in w.scoring.retrievals]
        assert limits == [9, 36]


async def test_one_call_retrieves_and_scores() -> None:
    async with world() as w:
        w.acts(event("a3"))
        answer = await w.recommend(page_size=12)
        assert {item.source for item in answer.items} == {"model"}
        assert len(w.scoring.retrievals) == 1
        assert not w.scoring.scored


async def test_the_trail_goes_from_adaptation_to_scoring() -> None:
    async with world() as w:
        w.acts(event("a3"))
        w.adaptation.trail = Trail(("a3",), np.ones(1, np.float32))
        await w.recommend()
        w.adaptation.down = Unavailable("adaptation is away")
        await w.recommend()
        assert w.scoring.trails == [w.adaptation.trail, None]


async def test_what_did_not_come_with_the_retrieval_is_scored_after_it() -> None:
    async with world() as w:
        w.acts(event("a3"))
        assert await w.ids(candidate_item_ids=("b1", "a2")) == ["a2", "b1"]
        assert [set(ids) for ids in w.scoring.scored] == [{"b1", "a2", "a3"}]


async def test_boosts_multiply_odds() -> None:
    async with world() as w:
        w.acts(event("a3"))
        # b4 scores 0, a1 scores 1.2: odds × e^1.3 lift b4 just above it.
        boosts = (Boost(float(np.exp(1.3)), item_id="b4"), Boost(0.1, attribute=("number", "2")))
        answer = await w.recommend(page_size=20, boosts=boosts)
        ids = [i.item_id for i in answer.items]
        assert ids[:2] == ["b4", "a1"]
        assert ids.index("a2") > ids.index("a6")
        assert answer.items[0].score == pytest.approx(1.3)
        assert answer.items[0].task_values == pytest.approx({"next": 0.0})


async def test_pins_stand_at_their_places_across_pages() -> None:
    async with world() as w:
        w.acts(event("a3"))
        gone = an_item("b6", available=False)
        w.rooms.catalogue.of("default").upsert(gone)
        pins = (Pin("b5", 0), Pin("a6", 4), Pin("b6", 1), Pin("a3", 7))
        answers = await w.pages(page_size=3, pins=pins)
        ids = ids_of(answers)
        assert ids[0] == "b5"
        assert ids[4] == "a6"
        assert ids[7] == "a3"  # seen before, but pinned
        assert "b6" not in ids
        assert len(set(ids)) == len(ids) == 11
        assert [i.position for a in answers for i in a.items] == list(range(11))
        assert answers[0].items[0].source == "pin"
        assert answers[0].items[0].propensity == 1.0


async def test_pins_beyond_the_end_end_the_list() -> None:
    async with world() as w:
        answer = await w.recommend(candidate_item_ids=("b1",), pins=(Pin("a1", 7), Pin("a2", 5)))
        assert [i.item_id for i in answer.items] == ["b1", "a2", "a1"]
        assert answer.next_page_token == ""


@pytest.mark.parametrize("page_size", [1, 2, 5, 7])
async def test_pages_repeat_nothing_and_show_everything(page_size: int) -> None:
    async with world(exploration_rate=0.4, diversity=0.5) as w:
        w.acts(event("a3"), event("b2"))
        answers = await w.pages(page_size=page_size)
        ids = ids_of(answers)
        assert len(ids) == len(set(ids)) == 10
        assert len({a.list_id for a in answers}) == 1
        assert [i.position for a in answers for i in a.items] == list(range(10))


async def test_what_happens_between_pages_does_not_bring_items_back() -> None:
    async with world() as w:
        w.acts(event("a3"))
        first = await w.recommend(page_size=3)
        w.acts(event("b1", minute=5))
        w.scoring.down = Unavailable("away")
        second = await w.recommend(page_size=10, page_token=first.next_page_token, digest="")
        assert not {i.item_id for i in first.items} & {i.item_id for i in second.items}


async def test_a_list_ends_at_its_longest() -> None:
    async with world(max_list_items=4) as w:
        answers = await w.pages(page_size=2)
        assert len(ids_of(answers)) == 4


async def test_adaptation_away_ranks_by_recent_items() -> None:
    async with world() as w:
        w.acts(event("a3"), event("b1", Action.DISLIKE))
        w.adaptation.down = Unavailable("connection refused")
        answer = await w.recommend(page_size=3)
        assert answer.rung is Rung.RECENT_ITEMS
        assert {i.item_id[0] for i in answer.items} == {"a"}
        assert {i.source for i in answer.items} == {"recent_items"}
        assert set(answer.items[0].task_values) == {"similar"}
        assert [(d.stage, d.reason) for d in answer.degradations] == [
            ("adaptation", "UNAVAILABLE: connection refused")
        ]
        w.adaptation.down = None
        assert (await w.recommend()).rung is Rung.ADAPTED


async def test_adaptation_away_and_nothing_liked_shows_what_is_trending() -> None:
    async with world() as w:
        w.adaptation.down = NoModel("no model yet")
        answer = await w.recommend(page_size=3)
        assert answer.rung is Rung.TRENDING
        assert [i.item_id for i in answer.items] == ["b1", "b2", "a1"]
        assert answer.items[0].reason == "Popular now"
        assert answer.model is None


@pytest.mark.parametrize(
    ("holding_none", "rung"),
    [(("adaptation",), Rung.RECENT_ITEMS), (("adaptation", "scoring"), Rung.TRENDING)],
)
async def test_who_says_that_they_hold_no_model_are_not_asked_for_lists(
    holding_none: tuple[str, ...], rung: Rung
) -> None:
    async with world() as w:
        w.acts(event("a3"))
        for name in holding_none:
            getattr(w, name).versions = []
        for _ in range(3):  # replica after replica
            await w.rooms.models.look()
        answer = await w.recommend()
        assert answer.rung is rung
        assert ("adaptation", "UNAVAILABLE: no model of domain 'default' is held yet") in [
            (d.stage, d.reason) for d in answer.degradations
        ]
        assert w.adaptation.asked == []
        assert bool(w.scoring.retrievals) is (rung is Rung.RECENT_ITEMS)
        w.adaptation.versions = w.scoring.versions = ["v1"]
        await w.rooms.models.look()
        assert (await w.recommend()).rung is Rung.ADAPTED


async def test_scoring_away_gives_the_last_good_list_without_what_was_seen_since() -> None:
    async with world() as w:
        w.acts(event("a3"))
        before = await w.ids(page_size=2)
        assert before == ["a1", "a2"]
        w.acts(event("a1", Action.VIEW, minute=1))
        w.scoring.down = Unavailable("connection refused")
        answer = await w.recommend(page_size=3)
        assert answer.rung is Rung.LAST_GOOD_LIST
        assert [i.item_id for i in answer.items] == ["a2", "a4", "a5"]
        assert {i.source for i in answer.items} == {"last_good_list"}
        assert {d.stage for d in answer.degradations} == {"model", "scoring"}
        w.scoring.down = None
        assert (await w.recommend()).rung is Rung.ADAPTED


async def test_scoring_away_for_one_who_never_had_a_list_shows_what_is_trending() -> None:
    async with world() as w:
        w.scoring.down = Unavailable("connection refused")
        answer = await w.recommend(page_size=20)
        assert answer.rung is Rung.TRENDING
        # Below what is trending, the rest of the catalogue, newest first.
        assert [i.item_id for i in answer.items][:4] == ["b1", "b2", "a1", "a2"]
        assert len(answer.items) == 12


async def test_rules_hold_on_every_rung() -> None:
    async with world() as w:
        w.scoring.down = Unavailable("connection refused")
        rules = ItemFilter(all_categories=frozenset({"a"}))
        ids = await w.ids(page_size=20, filter=rules, exclude_item_ids=frozenset({"a1"}))
        assert ids[0] == "a2"
        assert sorted(ids) == ["a2", "a3", "a4", "a5", "a6"]


async def test_candidates_all_come_back_without_scoring() -> None:
    async with world() as w:
        w.scoring.down = Unavailable("connection refused")
        assert await w.ids(candidate_item_ids=("a5", "b2", "b6", "b1")) == ["b1", "b2", "a5", "b6"]


async def test_features_away_shows_what_was_trending_before() -> None:
    async with world() as w:
        w.acts(event("a3"))
        await w.recommend()
        w.features.down = Unavailable("connection refused")
        await w.rooms.trending.look()
        answer = await w.recommend(page_size=2)
        assert answer.rung is Rung.TRENDING
        assert [i.item_id for i in answer.items] == ["b1", "b2"]
        assert [d.stage for d in answer.degradations] == ["features"]
        assert w.adaptation.asked == [answer.model or "v1"]  # not asked again: nothing to adapt on


async def test_features_away_adapts_on_the_events_that_the_request_brings() -> None:
    async with world() as w:
        w.features.down = Unavailable("connection refused")
        answer = await w.recommend(page_size=3, events=(event("a3"),))
        assert answer.rung is Rung.ADAPTED
        assert [i.item_id for i in answer.items] == ["a1", "a2", "a4"]
        assert answer.shots == 1
        assert [d.stage for d in answer.degradations] == ["features"]


async def test_everything_away_still_gives_a_list() -> None:
    async with world() as w:
        for port in (w.features, w.adaptation, w.scoring):
            port.down = Unavailable("connection refused")
        answer = await w.recommend(page_size=3, include_items=True)
        assert [i.item_id for i in answer.items] == ["b1", "b2", "a1"]
        # From the mirror, which has no descriptions.
        assert answer.items[0].item is not None
        assert answer.items[0].item.title == "Title b1"
        assert answer.items[0].item.description == ""


async def test_whole_items_come_with_the_list_where_asked_for() -> None:
    async with world() as w:
        answer = await w.recommend(page_size=1, include_items=True)
        assert answer.items[0].item == w.features.catalogue[answer.items[0].item_id]


async def test_feedback_during_a_list_keeps_it_from_being_remembered() -> None:
    async with world() as w:
        w.acts(event("a3"))
        moment = w.rooms.last_good.moment
        w.rooms.last_good.forget("default", "ann")
        ranking = (await _draft_of(w)).ranking
        assert ranking is not None
        w.rooms.last_good.keep("default", "ann", ranking, since=moment)
        assert w.rooms.last_good.get("default", "ann") is None


async def _draft_of(w) -> Draft:  # type: ignore[no-untyped-def]
    from services.gateway.notes import Notes
    from services.gateway.query import ListQuery

    draft = replace(
        w.pipeline._begin(ListQuery("default", "ann")), candidates=("a1", "a2"), person_known=True
    )
    draft = await w.pipeline.adapted.hydrate(draft)
    return await w.pipeline._score(draft, Notes())


async def test_a_version_no_longer_held_is_answered_by_adapting_again() -> None:
    async with world() as w:
        w.acts(event("a3"))
        w.adaptation.versions = ["v2", "v1"]
        w.scoring.versions = ["v2"]
        answer = await w.recommend(page_size=2)
        assert w.adaptation.asked == ["v1", "v2"]
        assert answer.model is not None
        assert answer.model.version == "v2"
        assert answer.rung is Rung.ADAPTED
        assert answer.degradations == ()


async def test_a_version_that_nobody_shares_is_a_failure_like_any_other() -> None:
    async with world() as w:
        w.acts(event("a3"))
        w.adaptation.versions, w.scoring.versions = ["v3"], ["v2"]
        answer = await w.recommend(page_size=2)
        assert len(answer.items) == 2
        assert answer.rung in (Rung.RECENT_ITEMS, Rung.TRENDING)
        assert "adaptation" in {d.stage for d in answer.degradations}


async def test_a_score_that_is_no_number_sorts_last() -> None:
    async with world() as w:
        w.acts(event("a3"))
        w.scoring.spoiled = {"a1"}
        answer = await w.recommend(page_size=20)
        assert answer.items[-1].item_id == "a1"
        assert answer.items[-1].task_values == {}
        assert all(np.isfinite(i.score) for i in answer.items)


async def test_a_failing_stage_is_skipped_and_named() -> None:
    class Broken:
        name = "broken"

        def keep(self, draft: Draft, item_ids: object) -> tuple[str, ...]:
            raise ZeroDivisionError("a bug")

    async with world() as w:
        w.acts(event("a3"))
        stages = replace(w.pipeline.stages, filters=[Broken(), *w.pipeline.stages.filters])
        pipeline = replace(w.pipeline, stages=stages)
        answer = await replace_pipeline(w, pipeline).recommend(page_size=2)
        assert [i.item_id for i in answer.items] == ["a1", "a2"]
        assert [(d.stage, d.reason) for d in answer.degradations] == [
            ("broken", "INTERNAL: ZeroDivisionError")
        ]


def replace_pipeline(w, pipeline):  # type: ignore[no-untyped-def]
    w.pipeline = pipeline
    return w


async def test_an_empty_catalogue_is_an_error() -> None:
    async with world(items=[]) as w:
        with pytest.raises(EmptyCatalogue, match="has no available items"):
            await w.recommend()


async def test_a_person_who_has_seen_everything_gets_an_empty_list() -> None:
    async with world(items=[an_item("a1"), an_item("a2")]) as w:
        w.acts(event("a1"), event("a2"))
        answer = await w.recommend()
        assert answer.items == ()
        assert answer.next_page_token == ""
        assert answer.rung is Rung.ADAPTED


async def test_task_weights_must_name_tasks_of_the_model() -> None:
    async with world() as w:
        with pytest.raises(InvalidInput, match=r"task_weights\['clicks'\] must be of a task: next, got 1.0"):
            await w.recommend(task_weights={"clicks": 1.0})
        w.acts(event("a3"))
        # A negative weight turns the ranking round.
        assert (await w.ids(page_size=20, task_weights={"next": -1.0}))[-1] == "a1"


async def test_what_related_people_like_is_a_source_with_its_own_reason() -> None:
    async with world(candidates=10, source_quotas={"friends": 0.5}) as w:
        w.features.neighbour_likes["ann"] = (NeighbourLike("b6", 0.9, 2), NeighbourLike("b5", 0.5, 1))
        w.acts(event("a3"))
        answer = await w.recommend(page_size=4)
        # Half of the four places are theirs, the last ones, best fit first.
        assert [i.item_id for i in answer.items] == ["a1", "a2", "b5", "b6"]
        assert [i.reason for i in answer.items[2:]] == [
            "Liked by 1 person you follow",
            "Liked by 2 people you follow",
        ]


async def test_the_newest_items_are_a_source() -> None:
    fresh = [an_item("a6", created_ms=NOW_MS * 2), *(an_item(i) for i in ("a1", "a2", "a3"))]
    async with world(items=fresh, candidates=10) as w:
        w.scoring.rows.pop("a6")
        answer = await w.recommend(page_size=4)
        # Not yet known to scoring, it comes last, but it does come.
        assert (answer.items[-1].item_id, answer.items[-1].source) == ("a6", "fresh")
        assert answer.items[-1].reason == "New"


async def test_impressions_and_the_last_good_list_wait_until_the_answer_is_out() -> None:
    async with world() as w:
        w.acts(event("a3"))
        answer = await w.pipeline.recommend(ListQuery("default", "ann", page_size=3))
        assert len(answer.items) == 3
        assert len(w.rooms.impressions) == len(w.rooms.last_good) == 0
        await asyncio.sleep(0)
        assert len(w.rooms.impressions) == 3
        assert len(w.rooms.last_good) == 1


async def test_impressions_are_logged_once_with_place_and_propensity() -> None:
    async with world() as w:
        w.acts(event("a3"))
        answer = await w.recommend(page_size=2, experiment_key="arm-b")
        await w.rooms.impressions.stop()
        logged = [w.features.recorded[f"{answer.list_id}:{n}"] for n in range(2)]
        assert [e.item_id for e in logged] == ["a1", "a2"]
        assert {e.action for e in logged} == {Action.IMPRESSION}
        shown = logged[1].exposure
        assert shown is not None
        assert (shown.list_id, shown.position, shown.propensity) == (answer.list_id, 1, 1.0)
        assert (shown.source, shown.model_version, shown.experiment_key) == ("model", "v1", "arm-b")


async def test_every_stage_says_how_long_it_took() -> None:
    async with world() as w:
        names = {t.stage for t in (await w.recommend()).timings}
        assert {"features", "adaptation", "model", "filters", "scoring", "diversity", "pins"} <= names


async def test_metrics_count_lists_by_rung_and_places_by_source() -> None:
    async with world() as w:
        w.acts(event("a3"))
        await w.recommend(page_size=3)
        w.scoring.down = Unavailable("away")
        await w.recommend(page_size=2)
        metrics = w.rooms.metrics
        count = {
            (s.name, *s.labels.values()): s.value
            for collector in metrics.collectors
            for m in collector.collect()
            for s in m.samples
        }
        assert count["warmstart_gateway_lists_total", "default", "ADAPTED"] == 1
        assert count["warmstart_gateway_lists_total", "default", "LAST_GOOD_LIST"] == 1
        assert count["warmstart_gateway_places_total", "model"] == 3
        assert count["warmstart_gateway_places_total", "last_good_list"] == 2
        assert count["warmstart_gateway_degradations_total", "scoring"] == 1
        assert count["warmstart_gateway_stage_seconds_count", "pins"] == 2


async def test_exploration_shows_what_the_posterior_draws_and_nothing_that_filters_bar() -> None:
    # Nothing is known along the second axis (F = e₁), so draws of the query reach the b's.
    uncertainty = Uncertainty(np.array([[1.0, 0.0]], np.float32), 5.0, 0)
    async with world(explore_pool=4) as w:
        w.adaptation.uncertainty = uncertainty
        w.acts(event("a3"), event("b1", Action.DISLIKE, minute=1))
        explored: list[str] = []
        for _ in range(60):
            answer = await w.recommend(page_size=2, exploration_rate=0.5, exclude_item_ids=frozenset({"b2"}))
            for item in answer.items:
                assert item.propensity == (
                    0.5 if item.source != "exploration" else pytest.approx(item.propensity)
                )
                explored += [item.item_id] if item.source == "exploration" else []
        assert {len(searches) for searches, _ in w.scoring.retrievals} == {2}
        assert {"b3", "b4"} <= set(explored)
        assert not {"b1", "b2", "a3"} & set(explored)
        await w.recommend(exploration_rate=0.0)
        assert len(w.scoring.retrievals[-1][0]) == 1  # no pool is fetched where nothing is explored


async def test_items_stored_all_at_once_are_not_new() -> None:
    items = [an_item(i, created_ms=NOW_MS * 2) for i in ("a1", "a2", "a3")]
    async with world(items=items, candidates=10) as w:
        assert {i.source for i in (await w.recommend()).items} == {"model"}
        w.rooms.catalogue.of("default").upsert(an_item("b6", created_ms=NOW_MS * 2 + 120_000))
        w.scoring.rows.pop("b6")
        answer = await w.recommend()
        assert (answer.items[-1].item_id, answer.items[-1].reason) == ("b6", "New")
