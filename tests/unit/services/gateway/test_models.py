from __future__ import annotations

import pytest

from services.gateway.models import ServingModels
from shared.errors import Unavailable
from tests.fakes import FakeAdaptation, FakeScoring
from tests.unit.services.gateway.world import ROWS


def models(adaptation: list[str], scoring: list[str]) -> tuple[ServingModels, FakeAdaptation, FakeScoring]:
    first, second = FakeAdaptation(ROWS, versions=adaptation), FakeScoring(ROWS, versions=scoring)
    return ServingModels(first, second, ["default"], interval_s=60), first, second


@pytest.mark.parametrize(
    ("adaptation", "scoring", "chosen"),
    [
        (["v2", "v1"], ["v2", "v1"], "v2"),
        (["v2", "v1"], ["v1"], "v1"),  # scoring is still loading
        (["v1"], ["v2", "v1"], "v1"),
        (["v1", "v2"], ["v2", "v1"], "v1"),  # rolled back: the champion comes first
        (["v2"], ["v1"], None),
        ([], ["v1"], None),
    ],
)
async def test_the_first_version_that_both_hold_is_chosen(
    adaptation: list[str], scoring: list[str], chosen: str | None
) -> None:
    serving, _, _ = models(adaptation, scoring)
    await serving.look()
    model = serving.choose("default")
    assert (model.version if model else None) == chosen


async def test_a_version_is_taken_up_once_the_last_reports_all_have_it() -> None:
    # Each report comes from one replica: the next one may not have loaded it yet.
    serving, adaptation, scoring = models(["v1"], ["v1"])
    for _ in range(3):
        await serving.look()
    adaptation.versions = scoring.versions = ["v2", "v1"]
    chosen = []
    for _ in range(3):
        await serving.look()
        model = serving.choose("default")
        chosen.append(model.version if model else "")
    assert chosen == ["v1", "v1", "v2"]


async def test_the_first_model_is_taken_up_at_once() -> None:
    serving, adaptation, scoring = models([], [])
    for _ in range(3):
        await serving.look()
    assert serving.choose("default") is None
    adaptation.versions = scoring.versions = ["v1"]
    await serving.look()
    model = serving.choose("default")
    assert model is not None
    assert model.version == "v1"


async def test_a_service_that_is_away_leaves_what_it_held_last() -> None:
    serving, adaptation, scoring = models(["v1"], ["v1"])
    await serving.look()
    scoring.down = adaptation.down = Unavailable("away")
    await serving.look()
    model = serving.choose("default")
    assert model is not None
    assert model.version == "v1"
    assert serving.tasks("default", "v1") == adaptation.tasks
    assert serving.tasks("default", "v9") is None


async def test_only_versions_asked_for_are_chosen() -> None:
    serving, _, _ = models(["v2", "v1"], ["v2", "v1"])
    await serving.look()
    model = serving.choose("default", ["v1"])
    assert model is not None
    assert model.version == "v1"
    assert serving.choose("default", ["v0"]) is None


async def test_looking_goes_on_in_the_background() -> None:
    from tests.model_servers import until

    adaptation, scoring = FakeAdaptation(ROWS), FakeScoring(ROWS)
    serving = ServingModels(adaptation, scoring, ["default"], interval_s=0.01)
    serving.start()

    async def known() -> bool:
        return serving.choose("default") is not None

    await until(known)
    await serving.stop()
