"""A private training as a run begins it, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from services.training.data import TrainingData
from services.training.jobs import Job, PrivateTraining
from services.training.prepare import count_people
from services.training.private.people import of_catalogue
from services.training.private.secret import draw_secret
from services.training.runs import Run
from shared.errors import InvalidInput

SECRET_FILE = "secret"  # noqa: S105 - a file's name


def private_job(job: Job, epsilon: float, delta: float, *, body: bool = True) -> Job:
    """The job, to be trained privately; one that nothing was done of yet gets a secret of its own."""
    secret = job.directory / SECRET_FILE
    if not job.directory.exists():
        draw_secret(secret)
    return replace(job, private=PrivateTraining(epsilon, delta, secret, body))


def forget_secret(job: Job) -> None:
    """Of a job that is exported: nobody needs it any more, and who had it could take the noise off."""
    if job.private is not None:
        job.private.secret.unlink(missing_ok=True)


def known_items(data: TrainingData, source: Run) -> TrainingData:
    """The data with the items of the snapshot's table alone; see `people.of_catalogue`.

    source: the run whose snapshot is read. Raises InvalidInput also where not all people are in memory: who
    of them would be depends on who else there is.
    """
    if count_people(source.prepared) > data.num_users:
        rule = (
            f"must be at least the people there are, {count_people(source.prepared):,}, in a private training"
        )
        raise InvalidInput.of("--people-in-memory", rule, data.num_users)
    return of_catalogue(data, catalogue_of(source.snapshot))


def catalogue_of(snapshot: Path) -> list[str]:
    """Ids of the snapshot's table of items."""
    ids: list[str] = pq.read_table(snapshot / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    return ids
