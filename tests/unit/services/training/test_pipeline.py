"""Before any training: can it be done, and judged?"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from services.training import pipeline
from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.lines import Lines
from services.training.pipeline import TooFewPeople, check_held_out, prepared_data
from services.training.roles import RoleSettings
from services.training.runs import Run
from services.training.settings import SourceSettings, TrainSettings
from shared.errors import InvalidInput
from tests.unit.services.training import synthetic

_SETTINGS = TrainSettings(SourceSettings(dataset="movielens-100k"))


def people(events: int, held_out: set[str]) -> TrainingData:
    """u000 and u001 with so many events each."""
    return assemble(
        synthetic.tables(people=2, events=events, items=8), RoleSettings(0.5, 0.0, frozenset(held_out))
    )


def prepared(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingData:
    """What `train` and `evaluate` get of these data before they train."""
    monkeypatch.setattr(pipeline, "is_prepared", lambda directory: True)
    monkeypatch.setattr(pipeline, "load_prepared", lambda snapshot, directory, roles, most: data)
    return prepared_data(_SETTINGS, Run(tmp_path), Lines(io.StringIO()))


def test_one_held_out_person_and_one_other_with_two_events_are_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = people(2, {"u001"})
    assert prepared(data, tmp_path, monkeypatch) is data


@pytest.mark.parametrize(
    ("events", "held_out", "said", "remedy"),
    [
        (2, {"u000", "u001"}, "people to train on must be at least 1 .* got 0 .of 0; 2 people", "lower"),
        (1, {"u001"}, "people to train on must be at least 1 with 2 or more events, got 0 .of 1;", "lower"),
        (2, set[str](), "held-out people to judge the model by must be at least 1 .* got 0 .of 0;", "raise"),
    ],
)
def test_too_few_people_are_said_with_what_to_do_before_any_training(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: int,
    held_out: set[str],
    said: str,
    remedy: str,
) -> None:
    with pytest.raises(TooFewPeople, match=said) as refused:
        prepared(people(events, held_out), tmp_path, monkeypatch)
    assert f"import more events, {remedy} --held-out-share, or name" in str(refused.value)
    assert "--held-out-users" in str(refused.value)


def test_a_held_out_person_with_a_single_event_judges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the README's own example: ann did two things, bob, who is held out, one."""
    tables = synthetic.tables(people=2, events=2, items=8)
    three = replace(tables, events=tables.events.slice(0, 3))
    data = assemble(three, RoleSettings(0.5, 0.0, frozenset({"u001"})))
    with pytest.raises(TooFewPeople, match=r"with 2 or more events, got 0 \(of 1; 2 people in all\)"):
        prepared(data, tmp_path, monkeypatch)


def test_ids_of_nobody_are_counted_and_refused_where_all_are() -> None:
    lines = io.StringIO()
    check_held_out("ids.txt", {"a", "ghost", "b"}, ("a", "b", "c"), Lines(lines))
    assert "1 of 3 ids are of nobody among the 3 people (the first: 'ghost')" in lines.getvalue()
    with pytest.raises(InvalidInput, match=r"must name people of the data, but 2 of 2 ids .* got 'ids\.txt'"):
        check_held_out("ids.txt", {"x", "y"}, ("a",), Lines(lines))
    said = lines.getvalue()
    check_held_out("ids.txt", {"a"}, ("a", "b"), Lines(lines))
    assert lines.getvalue() == said  # nothing to say
