"""The exported artifact computes what the model computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.context.batch import ModelInputs
from tests.unit.shared.modeling import twin
from tests.unit.shared.modeling.conftest import shaken

tf = pytest.importorskip("tensorflow")
from shared.adapters import ADAPTERS  # noqa: E402 (needs TensorFlow)

CONFIG = twin.CONFIG


@pytest.fixture(scope="module")
def exported(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from shared.modeling.export import export_saved_model

    directory: Path = tmp_path_factory.mktemp("saved_model")
    export_saved_model(model, directory)
    return tf.saved_model.load(str(directory))


OUTPUTS = ("queries", "uncertainty_factor", "uncertainty_scale", "trail")


def run(exported: Any, name: str, inputs: dict[str, Any]) -> dict[str, Any]:
    found = exported.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
    return {k: v.numpy() for k, v in found.items()}


def test_its_inputs_are_those_that_serving_builds(exported: Any) -> None:
    _, names = exported.signatures["encode_adapt"].structured_input_signature
    assert set(names) == {*ModelInputs.__dataclass_fields__, "adapt"} - {"item_ids"}
    _, names = exported.signatures["item_rows"].structured_input_signature
    assert set(names) == {"id_rows", "id_present", "content"}


@pytest.mark.parametrize("length", CONFIG.buckets)
@pytest.mark.parametrize("counts", [[0], [0, 2, 4]])
def test_queries_are_the_models_at_every_bucket_and_batch(
    model: Any, exported: Any, length: int, counts: list[int]
) -> None:
    inputs = twin.inputs_of(counts, length)
    adapt = np.ones(len(counts), np.float32)
    found = run(exported, "encode_adapt", {**inputs, "adapt": adapt})
    expected = model.encode_adapt(inputs, tf.constant(adapt))
    for name, value in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5)
    assert found["uncertainty_factor"].shape == (len(counts), CONFIG.uncertainty_rank, CONFIG.adapt_dim)


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_every_adapter_travels_in_the_same_signature(adapter: str, tmp_path: Path) -> None:
    from shared.modeling.export import export_saved_model

    model = shaken(replace(CONFIG, adapter=adapter))
    export_saved_model(model, tmp_path)
    inputs, adapt = twin.inputs_of([0, 2, 4], CONFIG.buckets[0]), np.array([1.0, 1.0, 0.0], np.float32)
    found = run(tf.saved_model.load(str(tmp_path)), "encode_adapt", {**inputs, "adapt": adapt})
    expected = model.encode_adapt(inputs, tf.constant(adapt))
    for name, value in zip(OUTPUTS, expected, strict=True):
        np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5)


def test_rows_are_the_models(model: Any, exported: Any) -> None:
    from shared.modeling.export import manifest_dims, row_arrays

    arrays, dims = row_arrays(model), manifest_dims(CONFIG)
    content = model.catalogue_content.numpy()
    inputs = {"id_rows": arrays["id"], "id_present": np.ones(len(content), np.float32), "content": content}
    found = run(exported, "item_rows", inputs)
    for kind in ("input", "support", "output"):
        np.testing.assert_allclose(found[f"{kind}_rows"], arrays[kind], atol=1e-5)
        assert arrays[kind].shape[1] == dims[kind]
    assert arrays["id"].shape[1] == dims["id"]
    assert arrays["content"].dtype == np.float16
    assert arrays["successors"].shape == arrays["follows"].shape == (len(content), dims["successors"])


def test_what_it_weighs_is_noted_for_people_by_task_and_number_of_events() -> None:
    from shared.modeling.encoder import COUNT_KNOTS
    from shared.modeling.export import manifest_scales

    model = shaken(CONFIG)
    numbers = np.arange(2.0 * len(COUNT_KNOTS)).reshape(-1, 2) / 10
    model.heads.omega.assign(numbers)
    model.heads.kappa.assign(numbers[1:])
    noted: Any = manifest_scales(model)
    assert noted["shots"][:4] == [0, 1, 2, 3]
    assert noted["trends"]["next"][:3] == [0.0, 0.2, 0.4]
    assert noted["trends"]["like"][:3] == [0.1, 0.3, 0.5]
    assert noted["transitions"]["like"][:3] == [0.0, 0.3, 0.5]  # nothing follows nothing
    assert manifest_scales(shaken(replace(CONFIG, successors=0, trends=0))) == {}


def test_a_model_without_transitions_says_nothing_of_them(tmp_path: Path) -> None:
    from shared.modeling.export import export_saved_model, manifest_dims

    config = replace(CONFIG, successors=0)
    export_saved_model(shaken(config), tmp_path)
    exported = tf.saved_model.load(str(tmp_path))
    assert set(exported.signatures["encode_adapt"].structured_outputs) == set(OUTPUTS[:3])
    dims = manifest_dims(config)
    assert (dims["trail"], dims["successors"], dims["output"]) == (0, 0, CONFIG.output_dim - 1)


def test_a_new_item_is_an_ordinary_row(exported: Any) -> None:
    inputs = {
        "id_rows": np.zeros((1, CONFIG.id_dim), np.float32),
        "id_present": np.zeros(1, np.float32),
        "content": np.ones((1, CONFIG.content_dim), np.float32),
    }
    assert all(np.isfinite(rows).all() for rows in run(exported, "item_rows", inputs).values())
