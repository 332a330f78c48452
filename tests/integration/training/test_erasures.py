"""Runs that were begun before somebody was erased: their snapshots are not learnt from as they are."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from services.features.app import build
from services.features.settings import FeatureSettings
from services.training import erasures, pipeline
from services.training.cluster import ClusterSettings
from services.training.lines import Lines
from services.training.options import parse
from services.training.runs import Run, new_run, note_result
from services.training.settings import SourceSettings, TrainSettings
from services.training.snapshot import snapshot_counts
from shared.domain import Action, Event, Item, Relation, User
from shared.errors import InvalidInput, Unavailable
from shared.rpc.codec import encode_event, encode_item, encode_relation, encode_user
from shared.rpc.server import running
from tests.certificates import Pki
from tests.integration.features.client import Features
from tests.integration.features.conftest import serving, shared_encoder
from tests.ports import free_port
from tests.valkey import RunningValkey, running_valkey

_ANN, _BACK = "ann-the-traveller", "back-again"


@pytest.fixture(scope="module")
def valkey() -> Iterator[RunningValkey]:
    with running_valkey() as server:
        yield server


async def people(features: Features) -> None:
    """Ann, bea and one who has been erased before and is back, with profiles and ties to one another."""
    await features.put(encode_item(Item("a", "Apollo 13")), encode_item(Item("b")))
    everybody = (_ANN, "bea", _BACK)
    await features.record(*(encode_event(Event(_BACK, "a", Action.LIKE, 0.0, 5_000, "old")),))
    await features.ask("DeleteUser", user_id=_BACK)
    likes = [
        Event(u, i, Action.LIKE, 0.0, 5_000 if u != _BACK else 0, f"{u} {i}") for u in everybody for i in "ab"
    ]
    await features.record(*(encode_event(e) for e in likes))
    await features.ask("UpsertUsers", users=[encode_user(User(u, {"age": "34"})) for u in everybody])
    await features.relate(
        encode_relation(Relation(_ANN, "bea")), encode_relation(Relation("bea", _ANN)),
        encode_relation(Relation("bea", _BACK)),
    )  # fmt: skip


async def copied(settings: TrainSettings, run: Run) -> str:
    """Has the run take or check its snapshot, as `train` and `evaluate` do first; what the lines said."""
    said = io.StringIO()
    await asyncio.to_thread(pipeline.snapshot, settings, run, ClusterSettings(), Lines(said))
    return said.getvalue()


def text_of(directory: Path) -> str:
    return "\n".join(str(pq.read_table(file).to_pylist()) for file in sorted(directory.rglob("*.parquet")))


def derived(run: Run) -> list[Path]:
    """What `prepare` and training leave, here empty."""
    made = [run.prepared / "people", run.jobs / "model"]
    for directory in made:
        directory.mkdir(parents=True)
    return made


def told(features: Features, domain: str, **more: Any) -> TrainSettings:
    return TrainSettings(SourceSettings(features_target=features.address), domain=domain, **more)


async def test_a_run_that_goes_on_leaves_out_who_was_erased_since(
    valkey: RunningValkey, tmp_path: Path
) -> None:
    async with serving(valkey, "resumed") as features:
        await people(features)
        settings = told(features, "resumed")
        run = new_run(tmp_path / "run", {"command": "train", **settings.as_dict()})
        await copied(settings, run)
        assert snapshot_counts(run.snapshot) == {"events": 6, "items": 2, "users": 3, "relations": 3}
        kept = derived(run)
        before = text_of(run.snapshot)
        assert await copied(settings, run) == ""
        assert text_of(run.snapshot) == before, "who has begun anew after an erasure stays"
        assert all(directory.is_dir() for directory in kept)

        await features.ask("DeleteUser", user_id=_ANN)
        assert "erased since the snapshot was taken: 1 people" in await copied(settings, run)
        assert _ANN in before
        assert _ANN not in text_of(run.snapshot)
        assert snapshot_counts(run.snapshot) == {"events": 4, "items": 2, "users": 2, "relations": 1}
        assert not any(directory.exists() for directory in kept), "learnt from her, so begun anew"
        assert await copied(settings, run) == ""


async def test_an_earlier_runs_data_are_used_without_who_was_erased_since(
    valkey: RunningValkey, tmp_path: Path
) -> None:
    async with serving(valkey, "earlier") as features:
        await people(features)
        settings = told(features, "earlier")
        earlier = new_run(tmp_path / "earlier", {"command": "train", **settings.as_dict()})
        await copied(settings, earlier)
        derived(earlier)
        note_result(earlier, {})
        await features.ask("DeleteUser", user_id=_ANN)
        # The earlier run noted an address that is no longer the service's.
        noted = {"command": "train", **settings.as_dict()}
        noted["source"]["features_target"] = f"127.0.0.1:{free_port()}"
        (earlier.directory / "run.json").write_text(json.dumps(noted))
        again = told(features, "earlier", data_run=str(earlier.directory), protocol="few-shot")
        run = Run(tmp_path / "evaluation")
        assert "erased since" in await copied(again, run)
        assert _ANN not in text_of(earlier.snapshot)
        assert not earlier.prepared.exists()
        assert earlier.jobs.exists(), "a finished run's models stay: they hold nobody"


async def test_over_tls_a_run_goes_on_as_the_training_service_calls(
    valkey: RunningValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pki = Pki(tmp_path / "tls")
    pki.issue("features", "localhost")
    pki.issue("training")
    for name, file in (("CA", pki.ca_file), ("CERT", pki.cert("training")), ("KEY", pki.key("training"))):
        monkeypatch.setenv(f"WARMSTART_TRAINING_TLS_{name}", str(file))
    values = {"port": 0, "store_url": valkey.url, "domains": "tls", "shards": 8, **pki.server("features")}
    closed = FeatureSettings(**values)
    component = build(closed, encoder=shared_encoder())
    async with (
        serving(valkey, "tls") as features,
        running(component, closed, name="features") as address,
    ):
        await people(features)
        target = address.replace("127.0.0.1", "localhost")
        settings = TrainSettings(SourceSettings(features_target=target), domain="tls")
        run = new_run(tmp_path / "run", {"command": "train", **settings.as_dict()})
        await copied(settings, run)
        await features.ask("DeleteUser", user_id=_ANN)
        assert "erased since" in await copied(settings, run)
        assert _ANN not in text_of(run.snapshot)


@pytest.mark.parametrize("interrupted", [False, True])
async def test_every_run_that_learnt_from_an_erased_person_begins_anew(
    interrupted: bool, valkey: RunningValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that use the data of a first one: whichever finds the erasure, the other learnt from her too.
    interrupted: the one that finds it dies once the data are written anew."""
    domain = f"third-{interrupted}".lower()
    async with serving(valkey, domain) as features:
        await people(features)
        settings = told(features, domain)
        first = new_run(tmp_path / "first", {"command": "train", **settings.as_dict()})
        await copied(settings, first)
        again = told(features, domain, data_run=str(first.directory))
        others = [new_run(tmp_path / name, {"command": "train", **again.as_dict()}) for name in "bc"]
        for run in others:
            assert await copied(again, run) == ""
            (run.jobs / "model").mkdir(parents=True)
            assert await copied(again, run) == ""
            assert (run.jobs / "model").exists(), "nobody was erased"

        await features.ask("DeleteUser", user_id=_ANN)
        if interrupted:
            with monkeypatch.context() as patch, pytest.raises(Interrupted):
                patch.setattr(pipeline, "drop_learnt_from_others", interrupt)
                await copied(again, others[0])
            assert _ANN not in text_of(first.snapshot)
        for run in others:
            assert "learning begins anew" in await copied(again, run)
            assert not (run.jobs / "model").exists()
            (run.jobs / "model").mkdir(parents=True)
            assert await copied(again, run) == ""
            assert (run.jobs / "model").exists(), "learnt without her"


class Interrupted(Exception):
    """The process died there."""


def interrupt(*_: object) -> None:
    raise Interrupted


async def test_a_death_while_the_data_are_written_anew_leaves_nothing_that_is_trusted(
    valkey: RunningValkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(valkey, "halfway") as features:
        await people(features)
        settings = told(features, "halfway")
        run = new_run(tmp_path / "first", {"command": "train", **settings.as_dict()})
        await copied(settings, run)
        again = told(features, "halfway", data_run=str(run.directory))
        other = new_run(tmp_path / "other", {"command": "train", **again.as_dict()})
        await copied(again, other)
        derived(other)
        await features.ask("DeleteUser", user_id=_ANN)
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            # All rows of hers are gone, and the counts are not noted yet.
            patch.setattr(erasures, "snapshot_counts", Nth(2, snapshot_counts))
            await copied(settings, run)
        assert _ANN not in text_of(run.snapshot)
        assert "learning begins anew" in await copied(again, other)
        assert not (other.jobs / "model").exists()


class Nth:
    """A function that is interrupted when it is called for the nth time."""

    def __init__(self, nth: int, function: Callable[[Path], Any]) -> None:
        self._left, self._function = nth, function

    def __call__(self, path: Path) -> Any:
        self._left -= 1
        if not self._left:
            raise Interrupted
        return self._function(path)


async def test_data_of_an_earlier_version_are_gone_on_with_until_somebody_is_erased(
    valkey: RunningValkey, tmp_path: Path
) -> None:
    """It noted no generations, neither of the data nor of what learnt from them."""
    async with serving(valkey, "older") as features:
        await people(features)
        settings = told(features, "older")
        first = new_run(tmp_path / "first", {"command": "train", **settings.as_dict()})
        await copied(settings, first)
        (first.snapshot / "snapshot.json").write_text(json.dumps(snapshot_counts(first.snapshot)))
        again = told(features, "older", data_run=str(first.directory))
        others = [new_run(tmp_path / name, {"command": "train", **again.as_dict()}) for name in "bc"]
        for run in others:
            (run.jobs / "model").mkdir(parents=True)
        assert await copied(again, others[0]) == ""
        assert (others[0].jobs / "model").exists()
        await features.ask("DeleteUser", user_id=_ANN)
        for run in others:
            assert "learning begins anew" in await copied(again, run)
            assert not (run.jobs / "model").exists()


async def test_an_earlier_run_whose_data_were_deleted_is_refused(tmp_path: Path) -> None:
    settings = TrainSettings(SourceSettings(features_target="127.0.0.1:1"))
    earlier = new_run(tmp_path / "earlier", {"command": "train", **settings.as_dict()})
    again = replace(settings, data_run=str(earlier.directory))
    with pytest.raises(InvalidInput, match=r"--data-run must be a run whose snapshot is whole .*earlier"):
        await copied(again, Run(tmp_path / "run"))


async def test_a_run_does_not_go_on_where_nobody_can_say_who_was_erased(
    valkey: RunningValkey, tmp_path: Path
) -> None:
    async with serving(valkey, "unreachable") as features:
        await people(features)
        settings = told(features, "unreachable")
        run = new_run(tmp_path / "run", {"command": "train", **settings.as_dict()})
        await copied(settings, run)
    with pytest.raises(Unavailable, match=r"who has been erased since .* by --features-target"):
        await copied(settings, run)
    async with serving(valkey, "unreachable") as features:
        command = parse(["train", "--resume", str(run.directory), "--features-target", features.address])
        assert await copied(command.settings, command.run) == ""


async def test_data_of_files_know_no_erasures(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user,item,action,time\nann,a,like,5\n")
    settings = TrainSettings(SourceSettings(events=str(tmp_path / "events.csv")))
    run = new_run(tmp_path / "run", {"command": "train", **settings.as_dict()})
    await copied(settings, run)
    assert await copied(settings, run) == ""
    assert "'ann'" in text_of(run.snapshot)
