"""Options: every bad one is named with its rule and value, before anything heavy starts."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.training.options import Submission, command_line, parse, submission
from services.training.pipeline import source_of
from services.training.settings import PRESET_NAMES, PRIVATE_PRESETS, SourceSettings, TrainSettings
from shared.datasets import FileOptions
from shared.domain import Action
from shared.errors import InvalidInput
from shared.holdout import Role, role_of


def train(tmp_path: Path, *more: str) -> list[str]:
    return ["train", "--dataset", "movielens-100k", "--run-dir", str(tmp_path / "run"), *more]


def test_options_are_noted_so_that_a_run_can_be_resumed_as_it_was(tmp_path: Path) -> None:
    files = ["--events", "log.csv", "--map", "user=uid", "--action", "click", "--separator", ";"]
    model = ["--seed", "7", "--adapter-settings", '{"noise": 2.0}']
    command = parse(["train", *files, *model, "--run-dir", str(tmp_path / "run")])
    resumed = parse(["train", "--resume", str(tmp_path / "run")])
    assert resumed == command
    assert resumed.settings.seed == 7
    assert resumed.settings.source.columns == ("user=uid",)
    assert resumed.settings.source.reading() == FileOptions(action=Action.CLICK, separator=";")
    assert resumed.settings.adapter_settings == {"noise": 2.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "--workers must be at least 1, got 0"),
        (["--restarts", "-1"], "--restarts must be at least 0, got -1"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--held-out-share", "1"], "--held-out-share must be between 0 and 1, got 1.0"),
        (["--domain", "Shop!"], "--domain must be 1..64 of a-z 0-9"),
        (["--preset", "huge"], "--preset must be one of tiny, small, base, large, got 'huge'"),
        (
            ["--adapter", "magic"],
            "--adapter must be one of ridge, gradient, amortised, none, finetune, reptile, got 'magic'",
        ),
        (["--task", "sales"], "--task must be one of next, like, rating, mix, got 'sales'"),
        (["--promote", "maybe"], "--promote must be one of auto, never, always, got 'maybe'"),
        (["--held-out-users", "/no/such/file"], "--held-out-users must be a file of ids, one a line"),
        (["--data-run", "/no/such/run"], "--data-run must be a run's directory (with run.json)"),
        (["--events", "x.csv"], "source must be one of --features-target, --dataset, --events"),
        (["--items", "x.csv"], "--items must come with --events"),
        (["--action", "click"], "--action must come with --events"),
        (["--map", "user=uid"], "--map must come with --events"),
        (["--action", "adore"], "--action must be one of "),
        (["--time-unit", "h"], "--time-unit must be one of s, ms, us, ns, iso, got 'h'"),
        (["--rating-scale", "9:1"], "--rating-scale must be LOW:HIGH with LOW < HIGH, got '9:1'"),
        (["--adapter-settings", "nojson"], "--adapter-settings must be JSON (Expecting value"),
        (["--adapter-settings", "nojson"], "got 'nojson'"),
        (
            ["--adapter", "none", "--adapter-settings", '{"a": 1}'],
            "--adapter-settings must fit adapter none, whose settings are none, got {'a': 1}",
        ),
        (
            ["--adapter", "gradient", "--adapter-settings", '{"stepz": 3}'],
            "whose settings are chosen, first_order, learned_rates, noise, scope, steps, got {'stepz': 3}",
        ),
        (
            ["--adapter-settings", '{"scope": "body"}'],
            "--adapter-settings['scope'] must be head for adapter ridge, got 'body'",
        ),
        (["--adapter-settings", "[3]"], "--adapter-settings must be a JSON object, got [3]"),
        (["--private-epsilon", "0"], "--private-epsilon must be 0.01..20, got 0.0"),
        (["--private-epsilon", "-1"], "--private-epsilon must be 0.01..20, got -1.0"),
        (["--private-epsilon", "nan"], "--private-epsilon must be 0.01..20, got nan"),
        (["--private-epsilon", "inf"], "--private-epsilon must be 0.01..20, got inf"),
        (["--private-epsilon", "4", "--private-delta", "0"], "--private-delta must be above 0 and below 1"),
        (
            ["--private-delta", "1e-5"],
            "--private-delta must come with --private-epsilon or --protocol private",
        ),
        (
            ["--private-epsilon", "4", "--preset", "large"],
            "--preset must be one of tiny, small, base with --private-epsilon, got 'large'",
        ),
        (
            ["--private-epsilon", "4", "--adapter", "amortised"],
            "--adapter must be one of ridge, gradient, none with --private-epsilon, got 'amortised'",
        ),
        (["--private-epsilon", "4", "--meta-steps", "9"], "--meta-steps must be 0 with --private-epsilon"),
        (["--workers", "two"], "invalid int value: 'two'"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_a_bad_option_is_named(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(train(tmp_path, *options))
    assert message in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("protocol", ["rating", "adaptation", "leave-one-out", "new-items", "feedback"])
def test_the_last_events_are_asked_of_strangers_few_shots_alone(tmp_path: Path, protocol: str) -> None:
    with pytest.raises(InvalidInput, match="--query-last must come with --protocol few-shot or all: others"):
        parse(["evaluate", *train(tmp_path, "--protocol", protocol, "--query-last", "5")[1:]])
    assert parse(["evaluate", *train(tmp_path, "--query-last", "5")[1:]]).settings.query_last == 5


@pytest.mark.parametrize(
    "option",
    [
        ["--adapter", "none"],
        ["--adapter-settings", '{"noise": 2}'],
        ["--meta-steps", "5"],
        ["--held-out-share", "0.4"],
        ["--task", "like"],
    ],
)
def test_leaving_one_out_takes_nothing_that_is_for_strangers(tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(InvalidInput, match=f"{option[0]} must not come with --protocol leave-one-out"):
        parse(["evaluate", *train(tmp_path, "--protocol", "leave-one-out", *option)[1:]])
    assert parse(["evaluate", *train(tmp_path, "--protocol", "leave-one-out")[1:]]).settings.adapter


@pytest.mark.parametrize(
    ("protocol", "option"),
    [
        ("rating", ["--task", "like"]),
        ("new-items", ["--seeds", "7"]),
        ("feedback", ["--seeds", "2"]),
        ("few-shot", ["--new-items", "5"]),
    ],
)
def test_what_a_protocol_would_pass_over_is_refused(tmp_path: Path, protocol: str, option: list[str]) -> None:
    with pytest.raises(InvalidInput, match=f"{option[0]} must"):
        parse(["evaluate", *train(tmp_path, "--protocol", protocol, *option)[1:]])
    assert parse(["evaluate", *train(tmp_path, "--protocol", "new-items", "--seeds", "1")[1:]])


@pytest.mark.parametrize("option", [["--adapter", "gradient"], ["--adapter-settings", '{"noise": 2}']])
def test_comparing_all_adapters_takes_none(tmp_path: Path, option: list[str]) -> None:
    rule = f"{option[0]} must not come with --protocol adapters, which compares all that can be served"
    with pytest.raises(InvalidInput, match=rule):
        parse(["evaluate", *train(tmp_path, "--protocol", "adapters", *option)[1:]])
    assert parse(["evaluate", *train(tmp_path, "--protocol", "adapters")[1:]]).settings.seeds == 3


@pytest.mark.parametrize(
    "others", [["--protocol", "rating"], ["--query-last", "5"], ["--adapter", "reptile"]]
)
def test_models_blind_to_labels_are_for_the_next_liked_items(tmp_path: Path, others: list[str]) -> None:
    with pytest.raises(InvalidInput, match="--blind must come with --protocol few-shot or all, without"):
        parse(["evaluate", *train(tmp_path, "--blind", *others)[1:]])
    assert parse(["evaluate", *train(tmp_path, "--blind")[1:]]).settings.blind


_BY_NAME = (
    "--adapter must be one that can be exported (ridge, gradient, amortised or none): {} of the whole body"
)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--adapter", "finetune"], _BY_NAME.format("finetune")),
        (["--adapter", "reptile"], _BY_NAME.format("reptile")),
        (
            ["--adapter", "gradient", "--adapter-settings", '{"scope": "body"}'],
            "--adapter-settings['scope'] must be head for a model that is served: body",
        ),
    ],
)
def test_an_adapter_of_the_whole_body_is_evaluated_but_not_trained_for_serving(
    tmp_path: Path, options: list[str], said: str
) -> None:
    """Said before TensorFlow is there; the reason and the way out are named."""
    with pytest.raises(InvalidInput) as refused:
        parse(train(tmp_path, *options))
    assert str(refused.value).startswith(f"{said} gives each person weights of their own")
    assert "`warmstart evaluate` compares it" in str(refused.value)
    assert not (tmp_path / "run").exists()
    assert parse(["evaluate", *train(tmp_path, *options)[1:]]).settings.adapts_body


@pytest.mark.parametrize("protocol", ["adaptation", "new-items", "feedback", "all"])
def test_what_no_artifact_is_made_of_is_measured_by_few_shots_alone(tmp_path: Path, protocol: str) -> None:
    options = ["evaluate", *train(tmp_path, "--adapter", "reptile", "--protocol", protocol)[1:]]
    with pytest.raises(
        InvalidInput, match=f"--protocol must be few-shot with adapter reptile: .*'{protocol}'"
    ):
        parse(options)


def test_on_a_cluster_a_run_and_its_models_have_paths_that_mean_the_same_everywhere(tmp_path: Path) -> None:
    """A submitted job runs in a temporary directory of some machine."""
    with pytest.raises(InvalidInput) as refused:
        parse(["train", "--dataset", "movielens-100k", "--address", "auto", "--run-dir", "runs/a"])
    assert {v.field for v in refused.value.violations} == {"--run-dir", "--registry"}
    assert (
        "must be an absolute path, on a file system that all machines of the cluster share, got 'runs/a'"
        in str(refused.value)
    )
    places = ["--address", "auto", "--registry", str(tmp_path / "registry")]
    assert parse(train(tmp_path, *places)).settings.address == "auto"


@pytest.mark.parametrize("address", ["nonsense", "head", "ftp://head:21", "head:6379/x", "auto:"])
def test_an_address_that_is_none_is_refused_with_the_forms_that_are_taken(
    tmp_path: Path, address: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(train(tmp_path, "--address", address))
    rule = "must be http(s)://HOST:PORT of a cluster's dashboard, HOST:PORT, ray://HOST:PORT or auto"
    assert str(refused.value) == f"--address {rule}, got {address!r}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["head:6379", "ray://10.0.0.1:10001", "[::1]:6379"])
def test_addresses_of_clusters_are_taken(tmp_path: Path, address: str) -> None:
    places = ["--address", address, "--registry", str(tmp_path / "registry")]
    assert parse(train(tmp_path, *places)).settings.address == address


def test_an_address_of_a_dashboard_submits_the_command_as_it_is() -> None:
    given = (
        "train",
        "--dataset=lastfm",
        "--path=/data",
        "--run-dir=/shared/run",
        "--registry=/shared/models",
    )
    assert submission(given) is None
    there = (*given, "--address=http://head:8265")
    assert submission(there) == Submission("http://head:8265", (*there, "--address=auto"))
    again = ("train", "--resume", "/shared/run", "--address", "https://head")
    assert submission(again) == Submission("https://head", (*again, "--address=auto"))


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (["--resume", "var/runs/x"], {"--resume"}),
        (
            ["--events", "e.csv", "--held-out-users", "ids"],
            {"--events", "--held-out-users", "--run-dir", "--registry"},
        ),
        (["--dataset", "lastfm", "--path", "~/fm", "--run-dir", "/r", "--registry", "/m"], {"--path"}),
    ],
)
def test_files_of_a_submitted_command_are_named_as_the_cluster_sees_them(
    options: list[str], fields: set[str]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        submission(["train", "--address", "http://head:8265", *options])
    assert {v.field for v in refused.value.violations} == fields


def test_all_bad_options_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(["train", "--workers", "0", "--seed", "-2", "--run-dir", str(tmp_path)])
    assert {v.field for v in refused.value.violations} == {"source", "--workers", "--seed"}


def test_a_run_on_another_ones_data_asks_the_service_where_it_is_now(tmp_path: Path) -> None:
    """Who was erased since; it noted no address of its own."""
    parse(["train", "--features-target", "gone:1", "--run-dir", str(tmp_path / "data")])
    parse(["evaluate", "--data-run", str(tmp_path / "data"), "--run-dir", str(tmp_path / "run")])
    resumed = parse(["evaluate", "--resume", str(tmp_path / "run"), "--features-target", "here:1"])
    assert source_of(resumed.settings).features_target == "here:1"


def test_a_directory_with_a_run_is_not_written_over_and_one_without_not_resumed(tmp_path: Path) -> None:
    parse(train(tmp_path))
    with pytest.raises(InvalidInput, match="run_dir must not hold a run"):
        parse(train(tmp_path))
    with pytest.raises(InvalidInput, match=r"--resume must be a run's directory .*by default var/runs, got"):
        parse(["train", "--resume", str(tmp_path)])


def test_a_run_is_gone_on_with_by_its_own_command_which_is_named(tmp_path: Path) -> None:
    parse(train(tmp_path))
    with pytest.raises(InvalidInput, match=r"must be a run of evaluate: .* `warmstart train --resume`, got"):
        parse(["evaluate", "--resume", str(tmp_path / "run")])
    parse(["evaluate", *train(tmp_path / "other")[1:]])
    with pytest.raises(InvalidInput, match=r"must be a run of train: .* `warmstart evaluate --resume`, got"):
        parse(["train", "--resume", str(tmp_path / "other" / "run")])


REMOVED = object()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": "x"}, "source must be an object, got 'x'"),
        ({"source": REMOVED}, "source must be there, got nothing"),
        ({"source": {"columns": 3}}, "source.columns must be a valid array, got 3"),
        ({"command": REMOVED}, "command must be train or evaluate, got None"),
        ({"command": ["train"]}, "command must be train or evaluate, got ['train']"),
        ({"workers": "two"}, "workers must be a valid integer, got 'two'"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"seed": None}, "seed must be a valid integer, got None"),
        ({"held_out_share": "a"}, "held_out_share must be a valid number, got 'a'"),
        ({"adapter_settings": {"a": 1}, "adapter": "none"}, "--adapter-settings must fit adapter none"),
        ({"later": 1}, "its names must be settings of this version (adapter, "),
        ({"later": 1}, "got ['later']"),
    ],
)
def test_a_damaged_note_of_options_is_named_with_field_rule_value_and_what_to_do(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    parse(train(tmp_path))
    file = tmp_path / "run" / "run.json"
    changed = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in changed.items() if v is not REMOVED}))
    with pytest.raises(InvalidInput) as refused:
        parse(["train", "--resume", str(tmp_path / "run")])
    assert said in str(refused.value)
    if not said.startswith("--"):
        assert str(refused.value).startswith(f"{file}: ")
        assert str(refused.value).endswith(": mend the file, or begin a new run")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "it must be a JSON object, got []"),
        (b'"x"', "it must be a JSON object, got 'x'"),
        (b'{"command', "it must be JSON (Unterminated string"),
        (b"\xff\xfe", "it must be text that can be read, got"),
    ],
)
def test_a_note_of_options_that_is_none_is_named_as_the_file_it_is(
    tmp_path: Path, content: bytes, said: str
) -> None:
    parse(train(tmp_path))
    (tmp_path / "run" / "run.json").write_bytes(content)
    for arguments in (["train", "--resume"], ["evaluate", "--data-run"]):
        with pytest.raises(InvalidInput) as refused:
            parse([*arguments, str(tmp_path / "run")])
        assert str(refused.value).startswith(f"{tmp_path / 'run' / 'run.json'}: {said}")
        assert str(refused.value).endswith(": mend the file, or begin a new run")


def test_a_list_of_held_out_people_decides_alone(tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("u1\n\n u2 \n")
    settings = parse(train(tmp_path, "--held-out-users", str(tmp_path / "ids"))).settings
    assert settings.roles().held_out_ids == {"u1", "u2"}
    assert role_of("u1", 0.0) != Role.HELD_OUT


@pytest.mark.parametrize(
    ("text", "why"), [("", "it is empty"), (" \n", "it is empty"), ("{broken", "Expecting")]
)
def test_a_list_of_nobody_is_refused(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "ids").write_text(text)
    with pytest.raises(InvalidInput, match=f"--held-out-users must be a file of ids, .*{why}"):
        parse(train(tmp_path, "--held-out-users", str(tmp_path / "ids")))


def test_bad_options_end_with_2_and_one_error_line_without_tensorflow_or_ray(tmp_path: Path) -> None:
    program = (
        "import sys; from services.training.command import main; code = main(['train', '--workers', '0']);"
        "assert not {'tensorflow', 'ray'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stdout.splitlines()
    said = json.loads(line)
    assert said["event"] == "error"
    assert "--workers must be at least 1, got 0" in said["message"]


def test_the_names_offered_are_those_that_exist() -> None:
    pytest.importorskip("tensorflow")
    from services.training.presets import PRESETS

    assert set(PRESET_NAMES) == set(PRESETS)
    assert set(PRIVATE_PRESETS) == {name for name, chosen in PRESETS.items() if chosen.private}


def test_a_private_training_needs_a_table_of_items(tmp_path: Path) -> None:
    """Else the catalogue would be what people did."""
    files = ["train", "--events", "log.csv", "--private-epsilon", "4", "--run-dir", str(tmp_path / "run")]
    with pytest.raises(InvalidInput, match="--items must come with --events and --private-epsilon: items"):
        parse(files)
    settings = parse([*files, "--items", "items.csv", "--private-delta", "1e-5"]).settings
    assert (settings.private_epsilon, settings.private_delta) == (4.0, 1e-5)
    resumed = parse(["train", "--resume", str(tmp_path / "run")])
    assert resumed.settings == settings
    assert "--private-epsilon 4.0 --private-delta 1e-05" in command_line("train", settings)


def test_a_command_is_told_so_that_it_can_be_given_anywhere(tmp_path: Path) -> None:
    """What differs from the defaults; no place of this machine."""
    held = tmp_path / "held out.txt"
    held.write_text("ann\n")
    arguments = ["evaluate", "--protocol", "rating", "--dataset", "movielens-1m", "--path", str(tmp_path)]
    arguments += [
        "--preset",
        "base",
        "--seeds",
        "2",
        "--held-out-users",
        str(held),
        "--registry",
        str(tmp_path),
    ]
    arguments += ["--adapter", "gradient", "--adapter-settings", '{"first_order": true}', "--cpus", "1"]
    told = command_line("evaluate", parse([*arguments, "--run-dir", str(tmp_path / "run")]).settings)
    assert str(tmp_path) not in told
    words = shlex.split(told)
    assert words[:2] == ["warmstart", "evaluate"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options == {
        "--protocol": "rating",
        "--dataset": "movielens-1m",
        "--path": "DIR",
        "--preset": "base",
        "--seeds": "2",
        "--held-out-users": "held out.txt",
        "--adapter": "gradient",
        "--adapter-settings": '{"first_order": true}',
    }


def test_a_told_command_has_columns_and_switches(tmp_path: Path) -> None:
    arguments = ["--events", "log.csv", "--map", "user_id=who", "--map", "item_id=what", "--blind"]
    arguments += ["--action", "click", "--time-unit", "s", "--rating-scale", "0:10", "--separator", ";"]
    settings = parse(["evaluate", *arguments, "--run-dir", str(tmp_path / "run")]).settings
    words = shlex.split(command_line("evaluate", settings))
    assert sorted(words[2:]) == sorted(arguments)
    settings = TrainSettings(SourceSettings(features_target="here:1"))
    assert command_line("train", settings) == "warmstart train"
    there = replace(settings, data_dir="/data/shop")
    assert command_line("train", there) == "warmstart train --data-dir DIR"
