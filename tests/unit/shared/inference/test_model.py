"""A SavedModel must be what its manifest states; batches are padded and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.artifacts import Artifact, Registry
from shared.artifacts.artifact import files_of, sha256_of
from shared.context.batch import ModelInputs
from shared.context.vectors import PROFILE_DIM, REQUEST_DIM
from shared.domain import Action, FloatArray
from shared.errors import ArtifactError
from shared.inference.model import ServedModel, _made_up_people, padded_size
from tests.artifacts import item_ids, publish_model, publish_plain


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    registry = Registry(tmp_path_factory.mktemp("registry"))
    return registry.open(publish_model(registry, ids=item_ids(30)))


@pytest.fixture(scope="module")
def model(artifact: Artifact) -> ServedModel:
    return ServedModel.load(artifact)


def stating(artifact: Artifact, **changes: Any) -> Artifact:
    """The same files under a manifest that states something else."""
    dims = replace(artifact.manifest.dims, **changes.pop("dims", {}))
    return replace(artifact, manifest=replace(artifact.manifest, dims=dims, **changes))


def test_it_makes_the_artifacts_own_rows_from_ids_and_content(artifact: Artifact, model: ServedModel) -> None:
    rows, count = artifact.rows, len(artifact.item_ids)
    made = model.item_rows(rows.id, np.ones(count, np.float32), rows.content.astype(np.float32))
    # The artifact's rows come of float32 content; it keeps content as float16.
    np.testing.assert_allclose(made.input, rows.input, atol=1e-3)
    np.testing.assert_allclose(made.support, rows.support, atol=1e-3)
    np.testing.assert_allclose(made.output, rows.output, atol=1e-3)


def test_how_rows_are_batched_does_not_matter(artifact: Artifact, model: ServedModel) -> None:
    content = np.resize(artifact.rows.content.astype(np.float32), (600, 512))
    ids, present = np.zeros((600, artifact.manifest.dims.id), np.float32), np.zeros(600, np.float32)
    whole = model.item_rows(ids, present, content)
    assert whole.output.shape == (600, artifact.manifest.dims.output)
    alone = model.item_rows(ids[577:578], present[577:578], content[577:578])
    np.testing.assert_allclose(alone.output[0], whole.output[577], atol=1e-5)
    assert model.item_rows(ids[:0], present[:0], content[:0]).output.shape == (
        0,
        artifact.manifest.dims.output,
    )


def test_batches_are_padded_to_a_few_sizes() -> None:
    assert [padded_size(n, (1, 2, 4, 8)) for n in (1, 2, 3, 5, 8)] == [1, 2, 4, 8, 8]


@pytest.mark.parametrize("count", [1, 3])
def test_packing_changes_nothing(artifact: Artifact, model: ServedModel, count: int) -> None:
    """The plain twin: the signature itself, with a tensor for each of its inputs."""
    import tensorflow as tf

    rng, d, length = np.random.default_rng(0), artifact.manifest.dims, artifact.manifest.buckets[-1]

    def noise(*shape: int) -> FloatArray:
        return rng.normal(size=(count, *shape)).astype(np.float32)

    events = noise(length) > 0.0
    inputs = ModelInputs(
        input_rows=noise(length, d.input),
        support_rows=noise(length, d.support),
        actions=(rng.integers(1, 9, (count, length)) * events).astype(np.int32),
        values=noise(length),
        labels=noise(length),
        ages_s=np.abs(noise(length)) * 1e6,
        mask=events.astype(np.float32),
        attributes=noise(PROFILE_DIM),
        content_profile=noise(d.content),
        social_profile=noise(d.content),
        request=noise(REQUEST_DIM),
    )
    adapt = np.ones(count, np.float32)
    signature = tf.saved_model.load(str(artifact.saved_model)).signatures["encode_adapt"]
    plain = signature(**{k: tf.constant(v) for k, v in {**inputs.as_dict(), "adapt": adapt}.items()})
    found = model.encode_adapt(inputs, adapt)
    np.testing.assert_allclose(found.queries, plain["queries"], atol=1e-4)
    np.testing.assert_allclose(found.factor, plain["uncertainty_factor"], atol=1e-4)
    np.testing.assert_allclose(found.scale, plain["uncertainty_scale"], atol=1e-4)


def test_warming_runs_every_shape(artifact: Artifact, model: ServedModel) -> None:
    model.warm_item_rows(artifact)
    model.warm_adaptation(artifact)


def test_a_model_that_gives_no_numbers_to_people_with_events_is_refused(tmp_path: Path) -> None:
    """It gives some to people of whom nothing is known, so only made-up events show it."""

    def no_numbers(model: Any) -> None:
        actions = model.encoder.actions.numpy()
        actions[Action.SKIP] = np.nan
        model.encoder.actions.assign(actions)

    registry = Registry(tmp_path)
    artifact = registry.open(publish_model(registry, spoil=no_numbers))
    model = ServedModel.load(artifact)
    for check in (model.warm_adaptation, model.check_adaptation):
        with pytest.raises(ArtifactError, match="encode_adapt must give finite values, got nan"):
            check(artifact)


def test_made_up_people_of_an_empty_catalogue_have_no_events(tmp_path: Path) -> None:
    artifact = Registry(tmp_path).open(publish_plain(Registry(tmp_path), items=3))
    assert not _made_up_people(replace(artifact, item_ids=()), 2, 4).mask.any()
    people = _made_up_people(artifact, 4, 4)
    np.testing.assert_array_equal(people.mask.sum(axis=1), [4, 2, 1, 0])
    assert not people.actions[people.mask == 0].any()
    assert people.input_rows[0].any(axis=1).all()
    assert not people.input_rows[3].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": {"input": 15}}, r"encode_adapt inputs: input_rows must be float32 \(None, None, 15\)"),
        ({"dims": {"output": 27}}, r"encode_adapt outputs: queries must be float32 \(None, 3, 27\)"),
        ({"dims": {"id": 9}}, r"item_rows inputs: id_rows must be float32 \(None, 9\)"),
        ({"uncertainty_rank": 5}, r"encode_adapt outputs: uncertainty_factor must be float32 \(None, 5, 8\)"),
    ],
)
def test_a_model_that_is_not_what_the_manifest_states_is_refused(
    artifact: Artifact, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArtifactError, match=message):
        ServedModel.load(stating(artifact, **changes))


def at(directory: Path, artifact: Artifact) -> Artifact:
    """The artifact with the SavedModel of this directory, as its manifest would then state it."""
    files = {name: sha256_of(directory / name) for name in files_of(directory)}
    return replace(artifact, path=directory, manifest=replace(artifact.manifest, files=files))


def test_a_directory_that_holds_no_model_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(ArtifactError, match="must be a SavedModel"):
        ServedModel.load(at(tmp_path, artifact))


def test_a_model_without_a_signature_is_refused(artifact: Artifact, tmp_path: Path) -> None:
    import tensorflow as tf

    module = tf.Module()
    module.double = tf.function(
        lambda x: {"y": 2 * x}, input_signature=[tf.TensorSpec([None], tf.float32, "x")]
    )
    tf.saved_model.save(module, str(tmp_path / "saved_model"), signatures={"encode_adapt": module.double})
    with pytest.raises(ArtifactError, match=r"encode_adapt inputs: must be actions, adapt, .*, got x"):
        ServedModel.load(at(tmp_path, artifact))
    tf.saved_model.save(module, str(tmp_path / "saved_model"), signatures={"other": module.double})
    with pytest.raises(ArtifactError, match="must have a signature 'encode_adapt', got other"):
        ServedModel.load(at(tmp_path, artifact))
