"""What holds for every stage of the pipeline: a new one joins by its row in `app.stages`."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path

import pytest

import services.gateway
from services.gateway.app import Ports, Rooms, stages
from services.gateway.draft import Draft, Page, Person
from services.gateway.pipeline import Pipeline, Stages
from services.gateway.query import ListQuery
from tests.fakes import FakeAdaptation, FakeFeatures, FakeScoring
from tests.unit.services.gateway.world import NOW_MS, ROWS, an_item, plain_settings, world

METHODS = {
    "hydrators": "hydrate",
    "sources": "find",
    "filters": "keep",
    "scorers": "score",
    "fallbacks": "fall",
    "selectors": "select",
}
IDS = ("a1", "a2", "b1")


def all_stages() -> Stages:
    settings = plain_settings()
    ports = Ports(FakeFeatures(), FakeAdaptation(ROWS), FakeScoring(ROWS))
    return stages(settings, ports, Rooms.of(settings, ports))


TABLE = [(kind, n) for kind in METHODS for n in range(len(getattr(all_stages(), kind)))]


def described(case: tuple[str, int]) -> str:
    kind, n = case
    return f"{kind}/{getattr(all_stages(), kind)[n].name}"


def bare_draft(**fields: object) -> Draft:
    query = ListQuery("default", "ann", **fields)  # type: ignore[arg-type]
    return Draft(query, Page("list"), Person.from_request(query, "list"), NOW_MS)


@pytest.mark.parametrize("case", TABLE, ids=described)
def test_a_stage_has_a_name_its_method_and_says_what_it_does(case: tuple[str, int]) -> None:
    kind, n = case
    stage = getattr(all_stages(), kind)[n]
    assert re.fullmatch(r"[a-z_]+", stage.name)
    assert callable(getattr(stage, METHODS[kind]))
    assert inspect.getdoc(type(stage))
    assert type(stage).__module__.startswith(f"services.gateway.{kind}.")


def test_names_are_unique_within_a_kind() -> None:
    for kind in METHODS:
        names = [stage.name for stage in getattr(all_stages(), kind)]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", TABLE, ids=described)
async def test_a_stage_copes_with_a_person_of_whom_nothing_is_known(case: tuple[str, int]) -> None:
    kind, n = case
    async with world() as w:
        stage = getattr(w.pipeline.stages, kind)[n]
        draft = bare_draft()
        result = getattr(stage, METHODS[kind])(*((draft, IDS) if kind == "filters" else (draft,)))
        result = await result if inspect.isawaitable(result) else result
        assert isinstance(result, {"filters": tuple, "sources": list}.get(kind, Draft))


@pytest.mark.parametrize("n", range(len(all_stages().filters)), ids=lambda n: all_stages().filters[n].name)
async def test_a_filter_keeps_a_part_in_the_same_order(n: int) -> None:
    async with world() as w:
        item_filter = w.pipeline.stages.filters[n]
        draft = bare_draft(exclude_item_ids=frozenset({"a2"}))
        kept = item_filter.keep(draft, ("b1", "nobody knows it", "a2", "a1"))
        assert kept == tuple(i for i in ("b1", "nobody knows it", "a2", "a1") if i in kept)
        assert {"a1", "b1"} <= set(kept)
        assert item_filter.keep(draft, ()) == ()


@pytest.mark.parametrize("n", range(len(all_stages().sources)), ids=lambda n: all_stages().sources[n].name)
async def test_only_the_request_speaks_where_it_names_candidates(n: int) -> None:
    async with world() as w:
        source = w.pipeline.stages.sources[n]
        draft = replace(bare_draft(candidate_item_ids=("a1",)), person_known=True).with_hidden()
        found = [i for part in await source.find(draft) for i in part.item_ids]
        assert found == (["a1"] if source.name == "request" else [])


async def test_a_source_leaves_out_what_is_seen_excluded_or_pinned() -> None:
    async with world(items=[an_item(i, created_ms=NOW_MS * 2) for i in ROWS]) as w:
        query = ListQuery("default", "ann", exclude_item_ids=frozenset({"b2"}))
        draft = Draft(
            query,
            Page("list"),
            replace(Person.from_request(query, "list"), seen=frozenset({"b1", "a1"})),
            NOW_MS,
            person_known=True,
        ).with_hidden()
        draft = await w.pipeline.adapted.hydrate(draft)
        for source in w.pipeline.stages.sources:
            found = {i for part in await source.find(draft) for i in part.item_ids}
            assert not found & {"b1", "a1", "b2"}, source.name


def test_the_whole_request_is_one_method_of_under_50_lines() -> None:
    assert len(inspect.getsource(Pipeline.recommend).splitlines()) < 50


def test_every_folder_of_stages_is_in_the_table() -> None:
    root = Path(services.gateway.__file__).parent
    modules = {
        f"services.gateway.{kind}.{path.stem}"
        for kind in METHODS
        for path in (root / kind).glob("*.py")
        if path.stem != "__init__"
    }
    used = {type(s).__module__ for kind in METHODS for s in getattr(all_stages(), kind)}
    assert modules == used
