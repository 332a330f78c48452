"""Puts the scoring server together."""

from __future__ import annotations

from functools import partial

from services.scoring.scorer import MAX_BATCH, ScoringVersion, run_jobs
from services.scoring.servicer import ScoringHost, ScoringServicer
from services.scoring.settings import ScoringSettings
from shared.inference.hosting import ModelComponent, ModelHost


def build(settings: ScoringSettings) -> ModelComponent:
    """Call it on the event loop that serves. Raises ArtifactError where the registry is no directory."""
    load = partial(ScoringVersion.load, intra_op_threads=settings.intra_op_threads)
    host: ScoringHost = ModelHost(settings, load, run_jobs, max_batch=MAX_BATCH)
    return ModelComponent(host, ScoringServicer(host).register)
