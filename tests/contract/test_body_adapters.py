"""One table for all adapters of the whole body: a new one joins by a row.

They are held against a small model that starts from the item-item SVD of people with clear tastes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.adapters import ADAPTERS, BODY_ADAPTERS, make_adapter, make_body_adapter
from shared.domain import Action
from shared.errors import InvalidInput
from tests.unit.services.training import synthetic

tf = pytest.importorskip("tensorflow")
from services.training.body import Body  # noqa: E402 (needs TensorFlow)

# (name, settings); rates at which one person's events move a model that has learned little.
TABLE: list[tuple[str, Mapping[str, Any]]] = [
    ("finetune", {"steps": 3, "rate": 0.1}),
    ("finetune", {"steps": 1, "rate": 0.1, "rows": True}),
    ("reptile", {"steps": 3, "rate": 0.1}),
    ("gradient", {"scope": "body", "steps": 3, "rate": 0.1}),
    ("gradient", {"scope": "body", "steps": 1, "rate": 0.1, "first_order": True, "learned_rates": True}),
]
KIND, KINDS, LENGTH = 1, len(synthetic.KINDS), 8
adapters = pytest.mark.parametrize(("name", "settings"), TABLE)


@pytest.fixture(scope="module")
def model() -> Any:
    from services.training.assemble import assemble
    from services.training.presets import preset
    from services.training.pretrain import new_model
    from services.training.roles import RoleSettings

    data = assemble(synthetic.tables(people=40), RoleSettings(0.0, 0.2))
    config = replace(preset("tiny").model, content_dim=data.content.shape[1], adapter="none")
    return new_model(config, data, seed=0)


def person(model: Any, shots: int) -> dict[str, Any]:
    """Who liked so many items of one kind, newest a second ago."""
    mask = (np.arange(LENGTH) >= LENGTH - shots).astype(np.float32)[None]
    items = (KIND + KINDS * np.arange(LENGTH, dtype=np.int32))[None] * mask.astype(np.int32)
    likes = np.full((1, LENGTH), int(Action.LIKE), np.int32) * mask.astype(np.int32)
    ages = np.arange(LENGTH, 0, -1, dtype=np.float32)[None] * mask
    dims = model.encoder.start_dims(model.config)
    nothing = {name: np.zeros((1, size), np.float32) for name, size in dims.items()}
    events = {"items": items, "actions": likes, "values": 0.0 * mask, "labels": mask, "ages_s": ages}
    return {name: tf.constant(column) for name, column in {**events, "mask": mask, **nothing}.items()}


def adapted(model: Any, name: str, settings: Mapping[str, Any], shots: int) -> tuple[Any, Any]:
    """The person's own scores [T, N], and those of the model as it is."""
    adapter = make_body_adapter(name, **settings)
    body = Body(model, rows=adapter.rows)
    who, table, start = person(model, shots), body.catalogue(), body.start()
    pace = adapter.pace(body.num_weights)
    own = adapter.adapt(lambda weights: body.support_loss(weights, who, table), start, pace)
    return body.scores(own, who, table).numpy(), body.scores(start, who, table).numpy()


def of_the_kind(scores: Any) -> float:
    """How far unseen items of the kind stand above all others."""
    numbers = np.arange(scores.shape[1])
    kind = numbers % KINDS == KIND
    unseen = numbers >= KINDS * LENGTH
    return float(scores[0, kind & unseen].mean() - scores[0, ~kind].mean())


def test_every_adapter_of_the_body_has_a_row() -> None:
    assert {name for name, _ in TABLE} == set(BODY_ADAPTERS)


@adapters
def test_liked_events_of_a_kind_raise_that_kind(model: Any, name: str, settings: Mapping[str, Any]) -> None:
    own, before = adapted(model, name, settings, 5)
    assert np.isfinite(own).all()
    assert of_the_kind(own) > of_the_kind(before) + 0.01


@adapters
def test_more_of_them_raise_it_more(model: Any, name: str, settings: Mapping[str, Any]) -> None:
    few, many = (adapted(model, name, settings, shots)[0] for shots in (1, 8))
    assert of_the_kind(many) > of_the_kind(few)


@adapters
def test_the_body_is_untouched_and_the_next_person_gets_the_same(
    model: Any, name: str, settings: Mapping[str, Any]
) -> None:
    before = model.state_arrays()
    first, _ = adapted(model, name, settings, 3)
    second, _ = adapted(model, name, settings, 3)
    np.testing.assert_array_equal(first, second)
    for path, array in model.state_arrays().items():
        np.testing.assert_array_equal(array, before[path], err_msg=path)


@adapters
def test_without_events_nothing_changes(model: Any, name: str, settings: Mapping[str, Any]) -> None:
    own, before = adapted(model, name, settings, 0)
    np.testing.assert_array_equal(own, before)


@adapters
def test_it_refuses_to_be_exported(model: Any, name: str, settings: Mapping[str, Any]) -> None:
    """By name, with the reason and what to use instead: no model to export can be made with it."""
    from shared.modeling.model import WarmstartModel

    config = replace(model.config, adapter=name, adapter_settings=settings)
    with pytest.raises(InvalidInput) as refused:
        WarmstartModel(config, model.catalogue_content.numpy())
    said = str(refused.value)
    if name in ADAPTERS:
        assert said.startswith("adapter_settings['scope'] must be head for an adapter that can be exported")
    else:
        assert said.startswith("adapter must be one that can be exported (amortised, gradient, none, ridge)")
    assert f"{'body' if name in ADAPTERS else name} gives each person" in said
    assert "one signature" in said
    assert "`warmstart evaluate`" in said


def test_unknown_scopes_and_settings_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"adapter_settings\['scope'\] must be head for adapter ridge"):
        make_adapter("ridge", adapt_dim=2, rank=1, scope="body")
    with pytest.raises(InvalidInput, match=r"must be head or body for adapter gradient, got 'all'"):
        make_body_adapter("gradient", scope="all")
    with pytest.raises(
        InvalidInput, match=r"adapter must be one of the whole body \(finetune, gradient, rep"
    ):
        make_body_adapter("gradient")
    with pytest.raises(InvalidInput, match="adapter_settings must fit adapter reptile"):
        make_body_adapter("reptile", noise=1.0)


def test_scope_head_is_the_adapter_that_is_exported() -> None:
    made = make_adapter("gradient", adapt_dim=2, rank=1, scope="head", steps=3)
    assert type(made) is ADAPTERS["gradient"]
