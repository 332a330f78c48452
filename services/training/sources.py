"""From where the options point to, into the run's snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from services.training.clients import snapshot_of_service
from services.training.lines import Lines
from services.training.service.settings import TrainingServiceSettings
from services.training.settings import SourceSettings
from services.training.snapshot import SnapshotWriter, snapshot_counts, snapshot_of_dataset
from shared.content import TextEncoder
from shared.datasets import Columns, Dataset, load, load_files
from shared.domain import FloatArray, Item
from shared.errors import InvalidInput
from shared.settings import load as load_settings
from shared.tls import TlsSource, source_of

_STAGE = "snapshot"
_SHOWN_REJECTS = 5


def take_snapshot(
    source: SourceSettings, domain: str, directory: Path, num_shards: int, lines: Lines
) -> dict[str, int]:
    """Writes the snapshot; returns its counts. Rows of files that cannot be used are said and left out."""

    def progress(done: int, total: int) -> None:
        lines.progress(_STAGE, done, total)

    with SnapshotWriter(directory, num_shards) as writer:
        if source.features_target:
            copied = snapshot_of_service(source.features_target, domain, writer, progress, tls=calling_tls())
            asyncio.run(copied)
        else:
            dataset = open_source(source)
            for note in dataset.notes:
                lines.log(note)
            rejects = snapshot_of_dataset(dataset, writer, embed_items(), progress)
            for reject in rejects[:_SHOWN_REJECTS]:
                lines.log(f"{reject.file} row {reject.number}: {reject.reason}")
            if rejects:
                lines.log(f"{len(rejects)} rows could not be used")
        if not writer.counts["events"]:  # inside, so that the snapshot never counts as whole
            if source.events:
                raise InvalidInput.of("--events", "must hold an event that can be used", source.events)
            raise InvalidInput.of("events", "must not be empty: import some first", 0)
    return snapshot_counts(directory)


def calling_tls() -> TlsSource | None:
    """With what the feature service is called: the training service's (`WARMSTART_TRAINING_TLS_*`)."""
    return source_of(load_settings(TrainingServiceSettings).calling_tls)


def open_source(source: SourceSettings) -> Dataset:
    """A known data set, or files."""
    if source.dataset:
        return load(source.dataset, Path(source.dataset_path) if source.dataset_path else None)
    kinds = {n: getattr(source, n) for n in ("events", "items", "users", "relations")}
    paths = {kind: Path(path) for kind, path in kinds.items() if path}
    return load_files(paths, Columns.parse(source.columns), source.reading())


def embed_items() -> _Embedding:
    """Embeds items' text as the feature service does."""
    return _Embedding(TextEncoder())


class _Embedding:
    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder

    def __call__(self, items: Sequence[Item]) -> FloatArray:
        return self._encoder.encode_items(items)
