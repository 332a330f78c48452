"""Who has been erased since a snapshot was taken is left out of it before it is used again.

A snapshot is a copy: what is erased in the feature service is still in it. So whoever goes on with a run, or
uses the data of one, first asks the service; where somebody has been erased, the snapshot is written anew
without them, and what was derived from it goes: sequences, and checkpoints of models that are not finished.
Other runs may have learnt from the same data: they find out by its generation when they go on.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from services.training.clients import find_erased
from services.training.lines import Lines
from services.training.runs import Run, is_finished, write_atomically
from services.training.settings import SourceSettings
from services.training.snapshot import (
    RELATIONS,
    USERS,
    event_shards,
    generation_of,
    note_whole,
    snapshot_counts,
)
from services.training.sources import calling_tls
from shared.errors import Unavailable

_LEARNT_FROM = "generation"


def leave_out_erased(run: Run, source: SourceSettings, domain: str, lines: Lines) -> None:
    """Takes them out of the run's snapshot. Data of files know no erasures.

    Raises Unavailable where the feature service cannot be asked: who was erased must not be learnt from.
    """
    if not source.features_target:
        return
    people = sorted(set(_people(run.snapshot)))
    try:
        found = asyncio.run(find_erased(source.features_target, domain, people, tls=calling_tls()))
    except Unavailable as error:
        raise Unavailable(
            f"who has been erased since the snapshot of {run.directory} was taken cannot be asked: {error}; "
            "start the feature service, or say where it is by --features-target"
        ) from error
    erased = _copied_before(run.snapshot, found)
    if not erased:
        return
    # First, so that nothing derived outlives what it was derived from, whenever this is interrupted.
    note_whole(run.snapshot, snapshot_counts(run.snapshot))
    for derived in (run.prepared, *(() if is_finished(run) else (run.jobs,))):
        if derived.exists():
            shutil.rmtree(derived)
    _rewrite(run.snapshot, erased)
    lines.log(f"erased since the snapshot was taken: {len(erased)} people; learning begins without them")


def drop_learnt_from_others(run: Run, snapshot: Path, lines: Lines) -> None:
    """Deletes checkpoints and models of the run that learnt from another generation of the snapshot it reads,
    which may be another run's, and notes the one that is learnt from now.

    Of runs of earlier versions nothing is noted: theirs are trusted where their snapshot has no generation.
    """
    noted, generation = run.jobs / _LEARNT_FROM, generation_of(snapshot).encode()
    if run.jobs.exists() and (noted.read_bytes() if noted.exists() else b"") != generation:
        shutil.rmtree(run.jobs)
        lines.log("people have been taken out of the data since this run began: learning begins anew")
    run.jobs.mkdir(parents=True, exist_ok=True)
    write_atomically(noted, generation)


def _people(snapshot: Path) -> Iterator[str]:
    """Everybody who is named, some more than once."""
    for shard in event_shards(snapshot):
        yield from pc.unique(pq.read_table(shard, columns=["user_id"])["user_id"]).to_pylist()
    yield from pq.read_table(snapshot / USERS)["user_id"].to_pylist()
    relations = pq.read_table(snapshot / RELATIONS)
    for column in ("user_id", "other_user_id"):
        yield from relations[column].to_pylist()


def _copied_before(snapshot: Path, erased: Mapping[str, int]) -> set[str]:
    """Those of whom something from before their erasure is in the snapshot: who has begun anew since, and was
    copied then, stays."""
    if not erased:
        return set()
    ids = pa.array(list(erased), pa.string())
    oldest: dict[str, int] = {}
    for shard in event_shards(snapshot):
        table = pq.read_table(shard, columns=["user_id", "time_ms"])
        table = table.filter(pc.is_in(table["user_id"], ids))
        first = table.group_by("user_id").aggregate([("time_ms", "min")])
        oldest.update(zip(first["user_id"].to_pylist(), first["time_ms_min"].to_pylist(), strict=True))
    return {user_id for user_id, at in erased.items() if oldest.get(user_id, at) <= at}


def _rewrite(snapshot: Path, erased: set[str]) -> None:
    ids = pa.array(sorted(erased), pa.string())
    counts = {"events": 0}
    for shard in event_shards(snapshot):
        counts["events"] += _without(shard, ids, "user_id")
    counts["users"] = _without(snapshot / USERS, ids, "user_id")
    counts["relations"] = _without(snapshot / RELATIONS, ids, "user_id", "other_user_id")
    # Once more: whoever read it meanwhile may have read rows that are gone.
    note_whole(snapshot, snapshot_counts(snapshot) | counts)


def _without(file: Path, ids: pa.Array, *columns: str) -> int:
    """The file without rows that name one of them, whole or not at all; how many are left."""
    table = pq.read_table(file)
    for column in columns:
        table = table.filter(pc.invert(pc.is_in(table[column], ids)))
    fresh = file.with_name(f".{file.name}")
    pq.write_table(table, fresh)
    fresh.replace(file)
    return int(table.num_rows)
