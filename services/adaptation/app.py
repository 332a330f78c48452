"""Puts the adaptation server together."""

from __future__ import annotations

from functools import partial

from services.adaptation.adapter import MAX_BATCH, AdaptationVersion, run_jobs
from services.adaptation.servicer import AdaptationServicer
from services.adaptation.settings import AdaptationSettings
from shared.inference.hosting import ModelComponent, ModelHost


def build(settings: AdaptationSettings) -> ModelComponent:
    """Call it on the event loop that serves. Raises ArtifactError where the registry is no directory."""
    load = partial(AdaptationVersion.load, intra_op_threads=settings.intra_op_threads)
    host = ModelHost(settings, load, run_jobs, max_batch=MAX_BATCH)
    return ModelComponent(host, AdaptationServicer(host).register)
