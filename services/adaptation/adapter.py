"""One person's context → their queries: the artifact's `encode_adapt`, in batches on the worker thread."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.artifacts import Artifact
from shared.context.batch import bucket_for, build_inputs
from shared.context.trail import trail_of
from shared.domain import AdaptedUser, HeldModel, ModelRef, Uncertainty, UserContext
from shared.errors import WarmstartError
from shared.inference.model import ADAPT_BATCHES, Adaptation, ServedModel
from shared.items import LiveItems

MAX_BATCH = ADAPT_BATCHES[-1]


@dataclass(frozen=True, slots=True, eq=False)
class AdaptationVersion:
    """A version that is loaded and warm."""

    model: ServedModel
    items: LiveItems

    @classmethod
    def load(cls, artifact: Artifact, *, intra_op_threads: int = 1) -> AdaptationVersion:
        """Loads and warms; takes seconds. Raises ArtifactError where it does not work."""
        model = ServedModel.load(artifact, intra_op_threads=intra_op_threads)
        model.warm_item_rows(artifact)
        model.warm_adaptation(artifact)
        return cls(model, LiveItems(artifact, model))

    @property
    def ref(self) -> ModelRef:
        return self.model.ref

    @property
    def content_dim(self) -> int:
        return self.model.manifest.dims.content

    def describe(self) -> HeldModel:
        return HeldModel(self.ref, self.model.manifest.tasks, len(self.items.view))


@dataclass(frozen=True, slots=True, eq=False)
class AdaptJob:
    """One person to adapt to. adapt: False leaves the fast weights out."""

    version: AdaptationVersion
    context: UserContext
    adapt: bool = True


def run_jobs(jobs: Sequence[AdaptJob]) -> list[AdaptedUser | Exception]:
    """Adapts to up to MAX_BATCH people, one call of the model for each version and length bucket."""
    groups: dict[tuple[ModelRef, int], list[int]] = defaultdict(list)
    for place, job in enumerate(jobs):
        length = bucket_for(len(job.context.history), job.version.model.manifest.buckets)
        groups[job.version.ref, length].append(place)
    results: dict[int, AdaptedUser | Exception] = {}
    for places in groups.values():
        group = [jobs[p] for p in places]
        results.update(zip(places, _run_group(group[0].version, group), strict=True))
    return [results[place] for place in range(len(jobs))]


def _run_group(version: AdaptationVersion, jobs: Sequence[AdaptJob]) -> list[AdaptedUser | Exception]:
    inputs = build_inputs([j.context for j in jobs], version.items.view, version.model.manifest.buckets)
    adapt = np.array([j.adapt for j in jobs], np.float32)
    out = version.model.encode_adapt(inputs, adapt)
    shots = inputs.shots.tolist()
    return [_adapted(version, jobs[b], out, b, inputs.item_ids[b], shots[b]) for b in range(len(jobs))]


def _adapted(
    version: AdaptationVersion, job: AdaptJob, out: Adaptation, b: int, item_ids: tuple[str, ...], shots: int
) -> AdaptedUser | Exception:
    """Person b's result; an error for them alone where the model gave no numbers."""
    queries, factor, scale, trail = out.queries[b], out.factor[b], float(out.scale[b]), out.trail[b]
    if not all(np.isfinite(numbers).all() for numbers in (queries, factor, scale, trail)):
        name = f"{version.ref.domain}/{version.ref.version}"
        return WarmstartError(f"model {name} gave non-finite values for one of the people asked for")
    manifest = version.model.manifest
    uncertainty = None
    if job.adapt and scale > 0.0 and factor.size:
        # Rows of zeros, for shots that there were not, say nothing and stay here, all but one.
        said = factor[factor.any(axis=1)]
        uncertainty = Uncertainty(said if len(said) else factor[:1], scale, manifest.dims.adapt_offset)
    return AdaptedUser(
        version.ref,
        tuple(t.name for t in manifest.tasks),
        queries,
        shots,
        uncertainty,
        trail_of(item_ids, trail) if manifest.dims.trail else None,
    )
