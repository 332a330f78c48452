"""Batches of people: grouped by version and length, one bad result fails its person alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from services.adaptation.adapter import AdaptationVersion, AdaptJob, run_jobs
from shared.artifacts import Artifact, Registry
from shared.context.batch import ModelInputs
from shared.domain import AdaptedUser, FloatArray
from shared.errors import WarmstartError
from shared.inference.model import Adaptation
from shared.items import LiveItems
from tests.artifacts import DIMS, DRAFT, item_ids, plain_build, rows_of
from tests.model_servers import context_of


@dataclass
class CountingModel:
    """Queries say how many shots each person has; NaN for those with exactly three."""

    artifact: Artifact
    shapes: list[tuple[int, int]] = field(default_factory=list)

    @property
    def ref(self) -> Any:
        return self.artifact.ref

    @property
    def manifest(self) -> Any:
        return self.artifact.manifest

    def encode_adapt(self, inputs: ModelInputs, adapt: FloatArray) -> Adaptation:
        batch, length = inputs.mask.shape
        self.shapes.append((batch, length))
        shots = inputs.mask.sum(axis=1)
        queries = np.broadcast_to(shots[:, None, None], (batch, 2, DIMS.output)).astype(np.float32)
        queries = np.where(queries == 3, np.float32("nan"), queries)
        trail = np.tile(np.array([0.25, 0.0, 0.75], np.float32), (batch, 1))
        return Adaptation(queries, np.ones((batch, 3, DIMS.adapt), np.float32), 0.5 * adapt, trail)


@pytest.fixture
def version(tmp_path: Path) -> AdaptationVersion:
    return version_in(tmp_path)


def version_in(root: Path) -> AdaptationVersion:
    registry = Registry(root)
    ids = item_ids(20)
    artifact = registry.open(registry.publish("default", plain_build(ids, rows_of(ids)), DRAFT))
    model = cast(Any, CountingModel(artifact))
    return AdaptationVersion(model, LiveItems(artifact, model))


def test_each_gets_their_own_result_whatever_the_grouping(version: AdaptationVersion) -> None:
    counts = [0, 7, 2, 16, 1, 4, 5]
    results = run_jobs([AdaptJob(version, context_of(f"u{n}", *item_ids(n))) for n in counts])
    assert all(isinstance(r, AdaptedUser) for r in results)
    people = cast(list[AdaptedUser], results)
    assert [p.shots for p in people] == counts
    assert [float(p.query("like")[0]) for p in people] == counts
    # Buckets are 4 and 16: the short histories went together, and so did the long ones.
    assert sorted(cast(Any, version.model).shapes) == [(3, 16), (4, 4)]


def test_one_persons_nan_fails_that_person_alone(version: AdaptationVersion) -> None:
    results = run_jobs([AdaptJob(version, context_of(f"u{n}", *item_ids(n))) for n in (2, 3, 1)])
    assert isinstance(results[0], AdaptedUser)
    assert isinstance(results[1], WarmstartError)
    assert "gave non-finite values for one of the people" in str(results[1])
    assert isinstance(results[2], AdaptedUser)


def test_people_of_two_versions_are_kept_apart(tmp_path: Path) -> None:
    old, new = version_in(tmp_path / "a"), version_in(tmp_path / "b")
    jobs = [AdaptJob(v, context_of("u", "item-0000")) for v in (old, new, old)]
    results = cast(list[AdaptedUser], run_jobs(jobs))
    assert [r.model for r in results] == [old.ref, new.ref, old.ref]


def test_a_trail_names_the_items_that_count(tmp_path: Path) -> None:
    """The model says .25, 0 and .75 of the three latest events; the manifest has to state a trail."""
    silent, telling = version_in(tmp_path / "a"), version_in(tmp_path / "b")
    manifest = telling.model.manifest
    dims = replace(manifest.dims, trail=3, successors=2, output=manifest.dims.output + 1)
    cast(Any, telling.model).artifact = replace(
        cast(Any, telling.model).artifact, manifest=replace(manifest, dims=dims)
    )
    people = [context_of(f"u{n}", *item_ids(n)) for n in (0, 1, 4)]
    found = cast(list[AdaptedUser], run_jobs([AdaptJob(telling, person) for person in people]))
    assert found[0].trail is None
    assert [(t.item_ids, t.weights.tolist()) for t in (found[1].trail, found[2].trail) if t] == [
        (("item-0000",), [0.75]),
        (("item-0001", "item-0003"), [0.25, 0.75]),
    ]
    assert cast(AdaptedUser, run_jobs([AdaptJob(silent, people[1])])[0]).trail is None


def test_without_fast_weights_there_is_no_uncertainty(version: AdaptationVersion) -> None:
    context = context_of("u", "item-0000")
    on, off = cast(
        list[AdaptedUser], run_jobs([AdaptJob(version, context), AdaptJob(version, context, adapt=False)])
    )
    assert on.uncertainty is not None
    assert on.uncertainty.scale == 0.5
    assert on.uncertainty.offset == DIMS.adapt_offset
    assert off.uncertainty is None
