"""Small real artifacts for tests: published through the registry, opened and served like any other."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.artifacts import (
    AdapterInfo,
    DataInfo,
    Dims,
    ManifestDraft,
    Registry,
    TrendInfo,
    VocabularyItem,
    write_items,
    write_rows,
)
from shared.domain import FloatArray, ModelRef, TaskInfo

CONTENT_DIM = 512
DIMS = Dims(id=8, content=CONTENT_DIM, input=12, support=6, output=17, adapt=6, adapt_offset=9)
TASKS = (TaskInfo("next"), TaskInfo("like", default_weight=0.5))
OFFSETS = {"next": 0.0, "like": 0.0, "rating": 3.0}
DRAFT = ManifestDraft(
    dims=DIMS,
    buckets=(4, 16),
    tasks=TASKS,
    adapter=AdapterInfo("ridge", {"ridge": 1.0}),
    uncertainty_rank=3,
    data=DataInfo(events=10, users=2, items=5, from_ms=1, until_ms=2),
)


def item_ids(count: int) -> list[str]:
    """`item-0000`, `item-0001`, …"""
    return [f"item-{n:04d}" for n in range(count)]


def content_of(text: str, dim: int = CONTENT_DIM) -> FloatArray:
    """A unit vector that depends on the text alone; [dim] float32."""
    seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    vector = np.random.default_rng(seed).normal(size=dim).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def rows_of(ids: Sequence[str], dims: Dims = DIMS, *, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Made-up rows of every kind but content's, which is `content_of` each id."""
    rng = np.random.default_rng(seed)
    rows: dict[str, NDArray[Any]] = {
        kind: rng.normal(size=(len(ids), getattr(dims, kind))).astype(np.float32)
        for kind in ("id", "input", "support", "output")
    }
    rows["content"] = np.stack([content_of(i, dims.content) for i in ids]).astype(np.float16)
    return rows


def plain_build(ids: Sequence[str], rows: Mapping[str, NDArray[Any]]) -> Callable[[Path], None]:
    """Builds a version whose SavedModel is no model: enough for the registry, which does not run it."""

    def build(directory: Path) -> None:
        (directory / "saved_model" / "variables").mkdir(parents=True)
        (directory / "saved_model" / "saved_model.pb").write_bytes(b"graph")
        (directory / "saved_model" / "variables" / "variables.index").write_bytes(b"index")
        write_items(directory, [VocabularyItem(i, f"Title of {i}", ("drama", "war")) for i in ids])
        write_rows(directory, rows)

    return build


def publish_plain(registry: Registry, domain: str = "default", *, items: int = 5, **changes: Any) -> ModelRef:
    """Publishes a version without a model; `changes` go into the manifest."""
    ids = item_ids(items)
    draft = replace(DRAFT, **changes)
    return registry.publish(domain, plain_build(ids, rows_of(ids, draft.dims)), draft)


def model_config(**changes: Any) -> Any:
    """A real model, as small as it gets."""
    from shared.modeling.config import ModelConfig

    sizes: dict[str, Any] = {
        "dim": 16, "blocks": 1, "heads": 2, "feed_forward": 16, "adapt_dim": 8, "rating_dim": 3,
        "content_dim": CONTENT_DIM,
        "content_hidden": 16, "buckets": (4, 16), "uncertainty_rank": 3,
    }  # fmt: skip
    return ModelConfig(**(sizes | changes))


def model_draft(config: Any, prior: float = 0.0) -> ManifestDraft:
    """The manifest of a model that was never trained. prior: of its trends."""
    from shared.modeling.config import task_infos
    from shared.modeling.export import manifest_dims

    return ManifestDraft(
        dims=Dims(**manifest_dims(config)),
        buckets=config.buckets,
        tasks=task_infos({}, {task: OFFSETS[task] for task in config.tasks}),
        adapter=AdapterInfo(config.adapter, dict(config.adapter_settings)),
        uncertainty_rank=config.uncertainty_rank,
        trends=TrendInfo(prior),
        model=config.as_dict(),
    )


def publish_model(
    registry: Registry,
    domain: str = "default",
    *,
    ids: Sequence[str] = tuple(item_ids(40)),
    content: Callable[[str], FloatArray] = content_of,
    seed: int = 0,
    prepare: Callable[[Any], None] = lambda model: None,
    spoil: Callable[[Any], None] | None = None,
    **config_changes: Any,
) -> ModelRef:
    """Publishes an untrained model over `ids`.

    content: item id → content embedding [content_dim]. prepare: changes the model before anything is made of
    it; spoil: when its rows are made.
    """
    from shared.modeling.export import export_saved_model, row_arrays
    from shared.modeling.model import WarmstartModel

    config = model_config(**config_changes)
    model = WarmstartModel(config, np.stack([content(i) for i in ids]), seed=seed)
    model.heads.offsets.assign([OFFSETS[task] for task in config.tasks])
    prepare(model)
    rows = row_arrays(model)
    if spoil is not None:
        spoil(model)

    def build(directory: Path) -> None:
        export_saved_model(model, directory / "saved_model")
        write_items(directory, [VocabularyItem(i, f"Title of {i}") for i in ids])
        write_rows(directory, rows)

    return registry.publish(domain, build, model_draft(config, model.trends.prior))
