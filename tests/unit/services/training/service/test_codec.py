"""Messages ↔ values: every bad field is named by its path in the request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from warmstart.training.v1 import training_service_pb2 as pb

from services.training.service import codec
from services.training.service.training import LogLine, Places, ProcessMark, Result, Stage, State
from services.training.settings import SourceSettings, TrainSettings
from shared.errors import InvalidInput
from tests.unit.services.training.service.test_training import HERE, training


def start(**options: Any) -> pb.StartTrainingRequest:
    return ParseDict({"options": options} if options else {}, pb.StartTrainingRequest())


def decoded(**options: Any) -> TrainSettings:
    return codec.decode_start(start(**options), "shop", HERE)


def test_settings_of_an_adapter_that_are_no_numbers_are_refused() -> None:
    request = pb.StartTrainingRequest()
    request.options.adapter_settings.update({"noise": float("nan")})
    with pytest.raises(InvalidInput, match=r"^options.adapter_settings must hold finite numbers"):
        codec.decode_start(request, "shop", HERE)


def test_a_bare_request_trains_as_the_command_line_does_by_default_on_the_feature_service() -> None:
    source = SourceSettings(features_target="127.0.0.1:1")
    assert decoded() == TrainSettings(source, domain="shop", registry="/registry")


def test_options_arrive_and_come_back_as_they_were_given() -> None:
    options: dict[str, Any] = {
        "dataset": {"name": "movielens-1m", "path": "/ml"}, "preset": "tiny", "adapter": "gradient",
        "adapter_settings": {"steps": 3, "noise": 0.5, "learned_rates": True}, "seed": 7,
        "pretrain_steps": 20, "meta_steps": 30, "workers": 2, "cpus": 4, "promote": "PROMOTE_POLICY_NEVER",
        "held_out_share": 0.3, "people_in_memory": 1000, "restarts": 0,
    }  # fmt: skip
    settings = decoded(**options)
    assert settings.source == SourceSettings(dataset="movielens-1m", dataset_path="/ml")
    assert settings.adapter_settings == {"steps": 3, "noise": 0.5, "learned_rates": True}
    assert isinstance(settings.adapter_settings["steps"], int)
    assert settings.promote == "never"
    encoded = codec.encode_training(training(settings=settings)).options
    assert encoded == start(**options).options


def test_a_private_training_is_asked_for_and_told_as_it_was() -> None:
    options: dict[str, Any] = {"private_epsilon": 4.0, "private_delta": 1e-7}
    settings = decoded(**options)
    assert (settings.private_epsilon, settings.private_delta) == (4.0, 1e-7)
    told = codec.encode_training(training(settings=settings)).options
    assert (told.private_epsilon, told.private_delta) == (4.0, 1e-7)
    ordinary = codec.encode_training(training(settings=decoded())).options
    assert not ordinary.HasField("private_epsilon")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "huge"}, "options.preset must be one of tiny, small, base, large, got 'huge'"),
        ({"adapter": "magic"}, "options.adapter must be one of ridge"),
        ({"seed": -1}, "options.seed must be at least 0, got -1"),
        ({"pretrain_steps": -1}, "options.pretrain_steps must be at least 0, got -1"),
        ({"workers": -2}, "options.workers must be at least 1, got -2"),
        ({"people_in_memory": -1}, "options.people_in_memory must be at least 1, got -1"),
        ({"restarts": -1}, "options.restarts must be at least 0, got -1"),
        ({"held_out_share": 0.0}, "options.held_out_share must be between 0 and 1, got 0.0"),
        ({"private_epsilon": 0.0}, "options.private_epsilon must be 0.01..20, got 0.0"),
        ({"private_delta": 1e-5}, "options.private_delta must come with --private-epsilon"),
        (
            {"private_epsilon": 4.0, "preset": "large"},
            "options.preset must be one of tiny, small, base with --private-epsilon, got 'large'",
        ),
        ({"promote": 9}, "options.promote must be one of auto, never, always, got '9'"),
        ({"dataset": {"name": "nope"}}, "options.dataset.name must be one of movielens-100k"),
        ({"dataset": {"path": "/ml"}}, "options.dataset.name must be one of movielens-100k"),
        ({"dataset": {"name": "lastfm"}}, "options.dataset.path must be a folder with user_artists.dat"),
        (
            {"adapter": "reptile"},
            "options.adapter must be one that can be exported (ridge, gradient, amortised",
        ),
        (
            {"adapter": "finetune"},
            "options.adapter must be one that can be exported (ridge, gradient, amortised",
        ),
        (
            {"adapter": "gradient", "adapter_settings": {"scope": "body"}},
            "options.adapter_settings['scope'] must be head for a model that is served: body gives",
        ),
        (
            {"adapter": "none", "adapter_settings": {"a": 1}},
            "options.adapter_settings must fit adapter none, whose settings are none, got {'a': 1}",
        ),
        ({"adapter_settings": {"a": "x" * (16 << 10)}}, "options.adapter_settings must be at most 16384"),
    ],
)
def test_a_bad_option_is_named_by_its_field(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decoded(**options)
    (broken,) = refused.value.violations
    assert broken.description.startswith(said)
    assert broken.description.startswith(f"{broken.field} ")


def test_all_bad_options_are_named_at_once() -> None:
    with pytest.raises(InvalidInput) as refused:
        decoded(workers=-1, seed=-1, preset="huge")
    fields = {v.field for v in refused.value.violations}
    assert fields == {"options.workers", "options.seed", "options.preset"}


def test_without_a_feature_service_a_data_set_must_be_named() -> None:
    with pytest.raises(InvalidInput, match=r"options\.dataset must be set"):
        codec.decode_start(start(), "shop", Places("/registry", "", ""))


def test_a_resumed_training_keeps_its_own_options() -> None:
    assert codec.decode_resume(pb.StartTrainingRequest(resume="t1")) == "t1"
    assert codec.decode_resume(start(seed=3)) == ""
    both = pb.StartTrainingRequest(resume="t1", options=pb.TrainingOptions(seed=3))
    with pytest.raises(InvalidInput, match="options must be unset where `resume` is set"):
        codec.decode_resume(both)


@pytest.mark.parametrize("key", ["x" * 129, "a\nb"])
def test_a_request_key_is_short_and_plain(key: str) -> None:
    with pytest.raises(InvalidInput, match="request_key must"):
        codec.decode_request_key(pb.StartTrainingRequest(request_key=key))


def test_states_and_policies_are_those_of_the_contract() -> None:
    states = {n.removeprefix("TRAINING_STATE_"): v for n, v in pb.TrainingState.items() if v}
    assert states == {state.name: state.value for state in State}
    assert set(codec._PROMOTE) == {number for _, number in pb.PromotePolicy.items()}


def test_a_list_leaves_out_what_is_long() -> None:
    result = Result(version="v1", promoted=True, metrics={"adaptation on": 0.5}, report="# Report")
    one = training(result=result, log=("hello",), stages=(Stage("publish", 1, 2, {"loss": 0.5}),))
    whole, short = codec.encode_training(one), codec.encode_training(one, short=True)
    assert (whole.result.report, list(whole.log)) == ("# Report", ["hello"])
    assert (short.result.report, list(short.log)) == ("", [])
    assert short.result.version == "v1"
    assert short.stages[0].metrics["loss"] == 0.5
    assert not codec.encode_training(replace(one, result=None)).HasField("result")


def test_updates_are_told_apart() -> None:
    kinds = [
        codec.encode_update(update).WhichOneof("update")
        for update in (training(process=ProcessMark(1, 2.0)), Stage("publish"), LogLine("hello"))
    ]
    assert kinds == ["training", "progress", "log"]


def test_pages() -> None:
    assert [codec.decode_page_size(size, 50) for size in (0, 1, 500)] == [50, 1, 500]
    with pytest.raises(InvalidInput, match=r"page_size must be 1\.\.500, or 0 for 50, got 501"):
        codec.decode_page_size(501, 50)
    with pytest.raises(InvalidInput, match="page_token must not hold control characters"):
        codec.decode_page_token("a\nb")
