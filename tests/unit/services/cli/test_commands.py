"""Every command has help with an example that parses."""

from __future__ import annotations

import io
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import typer
from warmstart.common.v1 import item_pb2
from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb

from services.cli.app import build, main
from services.cli.failures import explain
from services.cli.target import DEFAULT_GATEWAY
from services.training.options import parse, submission
from shared.artifacts import Registry, Signer, TrustedKeys
from shared.datasets import DATASETS, FileOptions
from shared.datasets.fields import TimeUnit
from shared.domain import Action
from shared.errors import ArtifactError, DeadlinePassed, NotFound, Unavailable, WarmstartError
from tests.artifacts import publish_plain
from tests.unit.shared.test_signatures import write_keys

_FILES = ("log.csv", "items.jsonl", "42.json")


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield " ".join(path), command
        return
    for name, child in children.items():
        yield from leaves(child, (*path, name))


COMMANDS = dict(leaves(typer.main.get_command(build())))


def examples(command: click.Command) -> list[str]:
    lines = (command.epilog or "").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]


EXAMPLES = [(name, line) for name, command in COMMANDS.items() for line in examples(command)]


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """What an error says, without its frame."""
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_the_commands_are_those_of_the_readme():
    assert set(COMMANDS) == {
        "certificates", "up", "down", "import", "train", "evaluate", "recommend", "similar", "feedback",
        "bench", "story", "demo",
        "items list", "items get", "items add", "items delete",
        "users export", "users pseudonym", "users delete", "users merge", "users relate",
        "trainings list", "trainings watch", "trainings stop",
        "models list", "models show", "models promote", "models rollback", "models sign",
        "keys create", "keys list", "keys revoke",
        "store backup", "store restore", "store erasures", "store show",
    }  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_an_example(name, capsys):
    assert COMMANDS[name].help
    assert examples(COMMANDS[name])
    assert main([*name.split(), "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_every_example_parses(name, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ml-1m").mkdir()
    for file in _FILES:
        (tmp_path / file).touch()
    words = [os.path.expanduser(word) for word in shlex.split(line.split(" > ")[0])]
    path = name.split()
    assert words[: 1 + len(path)] == ["warmstart", *path]
    # Parsing alone: options are checked and converted, nothing is run.
    COMMANDS[name].make_context(name, words[1 + len(path) :]).close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["import"],
        ["import", "--dataset", "movielens-100k", "--events", __file__],
        ["recommend"],
        ["feedback", "u", "i", "adore", "--gateway", "127.0.0.1:1"],
        ["items", "add", "i", "t", "--attribute", "brand"],
        ["no-such-command"],
        ["bench", "--callers", "0"],
        ["items", "list", "-n", "0"],
        ["items", "add", "i", " "],
    ],
)
def test_wrong_usage_exits_with_two(arguments, capsys):
    assert main(arguments) == 2
    assert "Usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["import", "--events", "a.csv", "--events", "b.csv"], "--events"),
        (["recommend", "u", "-n", "3", "--page-size", "4"], "-n"),
    ],
)
def test_an_option_given_twice_is_refused_instead_of_the_first_being_dropped(arguments, option, capsys):
    assert main(arguments) == 2
    assert f"{option} is given 2 times, and can be given once" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate", "--seeds", "0"], "'--seeds': must be greater than or equal to 1, got '0'"),
        (["train", "--workers", "two"], "unable to parse string as an integer, got 'two'"),
        (["train", "--preset", "huge"], "'huge' is not one of 'tiny', 'small', 'base', 'large'."),
        (["items", "list", "-n", "0"], "got '0'"),
    ],
)
def test_a_bad_value_is_shown(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in told(capsys)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "--preset", "small"], "--preset cannot be given with --resume"),
        (["train", "--promote", "auto", "--domain", "shop"], "--promote, --domain cannot be given"),
        (["train", "--address", "auto"], "--address cannot be given with --resume"),
        (["train", "--service", "127.0.0.1:1", "--preset", "base"], "--preset cannot be given with --resume"),
        (["evaluate", "--seeds", "3"], "--seeds cannot be given with --resume"),
    ],
)
def test_what_resuming_would_pass_over_is_refused(arguments, named, tmp_path, capsys):
    """Also where it says what is the default."""
    assert main([*arguments, "--resume", str(tmp_path)]) == 2
    said = told(capsys)
    assert named in said
    assert "Leave out all but" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["train"],
        ["train", "--json", "--data-dir", "elsewhere"],
        ["train", "--service", "127.0.0.1:1", "--domain", "shop"],
        ["evaluate", "--json"],
    ],
)
def test_what_says_where_stands_beside_resume(arguments, tmp_path, monkeypatch, capsys):
    """Also options of the environment, which are meant for all commands."""
    monkeypatch.setenv("WARMSTART_DOMAIN", "shop")
    assert main([*arguments, "--resume", str(tmp_path / "nosuch")]) == 1
    said = told(capsys)
    if "--service" in arguments:
        assert "training service: 127.0.0.1:1" in said
    else:
        assert "--resume must be a run's directory (with run.json); runs are in the folder `runs`" in said


def test_an_option_that_may_be_repeated_may_be(capsys):
    assert main(["recommend", "u", "--like", "1", "--like", "2", "--gateway", "127.0.0.1:1"]) == 1
    assert "times" not in capsys.readouterr().err


def test_an_unreachable_gateway_is_said_with_what_to_do(capsys):
    assert main(["recommend", "u", "--gateway", "127.0.0.1:1"]) == 1
    said = capsys.readouterr().err
    assert "warmstart up" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("arguments", [["trainings", "list"], ["train"], ["models", "list"]])
def test_an_unreachable_training_service_is_said_with_what_to_do(arguments, capsys):
    assert main([*arguments, "--service", "127.0.0.1:1"]) == 1
    said = capsys.readouterr().err
    assert "training service: 127.0.0.1:1" in said
    assert "--service HOST:PORT" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--events", "a.csv", "--map", "user=u"], "--events, --map"),
        (["--features-target", "a:1"], "--features-target"),
        (["--events", "a.csv", "--action", "click", "--separator", ";"], "--events, --action, --separator"),
        (["--adapter-settings", "[3]"], "--adapter-settings must be a JSON object, got '[3]'"),
        (["--adapter-settings", "{"], "must be JSON (Expecting property name"),
        (["--adapter-settings", "{"], "got '{'"),
    ],
)
def test_what_a_training_service_cannot_be_told_is_refused(options, named, capsys):
    assert main(["train", "--service", "127.0.0.1:1", *options]) == 2
    assert named in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_registry_and_a_service_are_not_given_together(tmp_path, capsys):
    assert main(["models", "list", "--service", "127.0.0.1:1", "--registry", str(tmp_path)]) == 2
    assert "either --service or --registry" in capsys.readouterr().err


def test_down_without_a_cluster_fails_with_what_to_do(tmp_path, capsys):
    assert main(["down", "--data-dir", str(tmp_path)]) == 1
    assert "no cluster runs on" in capsys.readouterr().err


_CALLS_THE_GATEWAY = [
    ["import", "--events", "EVENTS"], ["recommend", "u"], ["similar", "i"], ["feedback", "u", "i", "like"],
    ["bench"], ["story"], ["items", "list"], ["items", "get", "i"], ["items", "add", "i", "t"],
    ["items", "delete", "i"], ["users", "export", "u"], ["users", "delete", "u", "--yes"],
    ["users", "merge", "u", "v", "--yes"], ["users", "relate", "u", "v"],
]  # fmt: skip
_CALLS_THE_TRAINING_SERVICE = [
    ["trainings", "list"], ["trainings", "watch"], ["trainings", "stop", "t"],
    ["train", "--service", "local"], ["models", "list", "--service", "local"],
    ["models", "promote", "v", "--service", "local"], ["models", "rollback", "--service", "local"],
]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [*_CALLS_THE_GATEWAY, *_CALLS_THE_TRAINING_SERVICE],
    ids=lambda words: " ".join(words[:2]),
)
@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_named_data_directory_without_a_cluster_is_not_swapped_for_another_cluster(
    arguments, how, tmp_path, monkeypatch, capsys
):
    """The default gateway's people are not those that were meant."""
    (tmp_path / "events.csv").write_text("user,item,action,time\nu,i,like,2024-05-01T10:00:00Z\n")
    command = [str(tmp_path / "events.csv") if word == "EVENTS" else word for word in arguments]
    if how == "option":
        command += ["--data-dir", str(tmp_path)]
    else:
        monkeypatch.setenv("WARMSTART_DATA_DIR", str(tmp_path))
    assert main(command) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"no cluster runs on {tmp_path}: start it with `warmstart up --data-dir {tmp_path}`" in said
    assert "--service" in said if arguments in _CALLS_THE_TRAINING_SERVICE else "--gateway" in said


def test_without_a_named_data_directory_the_default_gateway_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    called: list[str] = []

    def note(target: str, domain: str):
        called.append(target)
        raise NotFound("nothing is there")

    monkeypatch.setattr("services.cli.commands.users.open_gateway", note)
    assert main(["users", "export", "u"]) == 1
    assert main(["users", "export", "u", "--data-dir", "other", "--gateway", "far:1"]) == 1
    assert called == [DEFAULT_GATEWAY, "far:1"]


def test_bytes_that_are_no_text_are_refused_by_the_argument_that_holds_them(capsys):
    assert main(["feedback", "a\udcffb", "50", "like", "--gateway", "127.0.0.1:1"]) == 2
    assert "user_id': must be UTF-8 text, got 'a\\udcffb'" in told(capsys)
    assert main(["recommend", "u", "--like", "i", "--like", "\udcff", "--gateway", "127.0.0.1:1"]) == 2
    assert "'--like': must be UTF-8 text" in told(capsys)


@pytest.mark.parametrize("command", [["users", "merge", "u", "v"], ["users", "delete", "u"]])
def test_a_question_leaves_stdout_to_what_is_answered(command, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main([*command, "--json", "--gateway", "127.0.0.1:1"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "for good?" in said.err


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (Unavailable("Tls handshake failed: OPENSSL_internal:WRONG_VERSION_NUMBER"), "leave --tls-ca out"),
        (Unavailable("Socket closed"), "where it wants TLS, give --tls-ca"),
        (WarmstartError("UNIMPLEMENTED: Method not found!"), "is it another service's port"),
    ],
)
def test_what_answers_otherwise_than_was_thought_is_said_with_what_to_do(error, step):
    assert step in explain(error).splitlines()[-1]


@pytest.mark.parametrize(("moved", "warned"), [(0, True), (3, False)])
def test_a_merge_that_moves_nothing_asks_whether_the_id_was_mistyped(moved, warned, monkeypatch, capsys):
    class Merging:
        async def merge_users(self, from_user_id: str, into_user_id: str) -> int:
            return moved

    @asynccontextmanager
    async def merging(target: str, domain: str):
        yield Merging()

    monkeypatch.setattr("services.cli.commands.users.open_gateway", merging)
    merge = ["users", "merge", "nobody1", "nobody2", "--yes", "--gateway", "far:1"]
    assert main(merge) == 0
    told = capsys.readouterr()
    assert told.out == f"{moved} events moved\n"
    assert ("no events are known of 'nobody1': was it mistyped?" in told.err) is warned
    assert main([*merge, "--json"]) == 0
    told = capsys.readouterr()
    assert (json.loads(told.out), told.err) == ({"moved_events": moved}, "")


def test_a_merge_is_asked_about_first(monkeypatch, capsys):
    monkeypatch.setattr("services.cli.commands.users.open_gateway", pytest.fail)
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert main(["users", "merge", "visitor", "ann", "--gateway", "far:1"]) == 1
    assert "Make 'visitor' a part of 'ann' for good?" in capsys.readouterr().err


@dataclass
class Shop:
    """A gateway with one item, a comedy; asked for a list it has nothing to show."""

    items: int = 1
    away: bool = False
    pages: int = 0

    async def record(self, events):
        return [pb.FeedbackResult(status=pb.FEEDBACK_STATUS_RECORDED, event_id="e") for _ in events]

    async def get_items(self, item_ids):
        if self.away:
            raise Unavailable("away")
        return catalog_pb.GetItemsResponse(missing_item_ids=[i for i in item_ids if i != "film"])

    async def recommend(self, request):
        return pb.RecommendResponse()

    async def list_items(self, page_size, page_token=""):
        self.pages += 1
        if self.away:
            raise Unavailable("away")
        film = item_pb2.Item(item_id="film", categories=["Comedy", "Film noir"])
        return catalog_pb.ListItemsResponse(items=[film], total_items=self.items)


def called(shop: Shop, monkeypatch) -> None:
    @asynccontextmanager
    async def opened(target: str, domain: str):
        yield shop

    monkeypatch.setattr("services.cli.commands.lists.open_gateway", opened)


@pytest.mark.parametrize(
    ("item", "away", "noted"), [("film", False, False), ("nonexist", False, True), ("nonexist", True, False)]
)
def test_feedback_on_an_item_that_is_not_there_is_stored_with_a_note(item, away, noted, monkeypatch, capsys):
    called(Shop(away=away), monkeypatch)
    assert main(["feedback", "ann", item, "like", "--gateway", "far:1"]) == 0
    told = capsys.readouterr()
    assert told.out == "stored: e\n"
    assert ("note: item 'nonexist' is not in the catalogue: lists never show it" in told.err) is noted


@pytest.mark.parametrize("given", [[], ["--event-id", "mine"]])
def test_feedback_without_an_answer_can_be_sent_again_as_the_same(given, monkeypatch, capsys):
    sent = []

    class Hung(Shop):
        async def record(self, events):
            sent.extend(events)
            raise DeadlinePassed("Deadline Exceeded")

    called(Hung(), monkeypatch)
    assert main(["feedback", "ann", "film", "like", "--gateway", "far:1", *given]) == 1
    (event,) = sent
    assert event.event_id == "mine" if given else len(event.event_id) == 32
    assert f"to try again, add --event-id {event.event_id}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["comedy"], "nothing to show: no item has category 'comedy'; there is 'Comedy'"),
        (
            ["FILM NOIR", "x"],
            "nothing to show: no item has category 'FILM NOIR' or 'x'; there is 'Film noir'",
        ),
        (["shoes"], "nothing to show: no item has category 'shoes'; `warmstart items get ITEM`"),
        (["Comedy"], "nothing to show: every item of category 'Comedy' is seen, excluded, filtered out"),
    ],
)
def test_an_empty_list_of_a_category_says_whether_there_is_such_a_category(asked, said, monkeypatch, capsys):
    called(Shop(), monkeypatch)
    filters = [word for name in asked for word in ("--category", name)]
    assert main(["recommend", "ann", *filters, "--gateway", "far:1"]) == 0
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("shop", [Shop(items=1_000_000), Shop(away=True)])
def test_a_large_catalogue_is_not_read_for_a_hint(shop, monkeypatch, capsys):
    called(shop, monkeypatch)
    assert main(["recommend", "ann", "--category", "comedy", "--gateway", "far:1"]) == 0
    assert "every item of category 'comedy' is seen" in capsys.readouterr().out
    assert shop.pages == 1


def test_the_help_of_import_names_the_files_of_each_data_sets_folder(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["import", "--help"]) == 0
    told = capsys.readouterr().out
    for name, known in DATASETS.items():
        assert f"{name}: {known.needs or 'none is needed'}" in told


@pytest.mark.parametrize(
    "command", [["up"], ["up", "--detach"], ["demo"], ["train", "--dataset", "movielens-100k"]]
)
def test_a_data_directory_that_cannot_be_made_is_said(command, tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert main([*command, "--data-dir", str(file / "var")]) == 1
    said = capsys.readouterr().err
    assert str(file) in said.replace("\n", "")
    assert "Traceback" not in said


def test_a_training_that_is_submitted_names_a_directory_of_the_cluster(capsys):
    assert main(["train", "--dataset", "movielens-100k", "--address", "http://head:8265"]) == 1
    said = capsys.readouterr().err
    assert "--data-dir must be an absolute path with --address http://head:8265" in " ".join(said.split())


def test_train_without_data_fails_with_what_to_do(tmp_path, capsys):
    assert main(["train", "--data-dir", str(tmp_path)]) == 1
    assert "nothing to train on" in capsys.readouterr().err


_READING = {
    "--map": "user=uid",
    "--action": "click",
    "--time-unit": "s",
    "--rating-scale": "0:10",
    "--separator": "|,",
}


@pytest.mark.parametrize("command", ["import", "train", "evaluate"])
def test_files_are_read_as_told_by_the_same_options_wherever_they_are_given(command):
    options = {name: option for option in COMMANDS[command].params for name in option.opts}
    imports = {name: option for option in COMMANDS["import"].params for name in option.opts}
    for name in _READING:
        assert (options[name].help, options[name].default) == (imports[name].help, imports[name].default)


@pytest.mark.parametrize("place", [[], ["--address", "http://head:8265"]])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_how_files_are_read_is_passed_on_to_the_training(command, place, tmp_path, monkeypatch):
    told: list[str] = []

    def follow(arguments, console):
        told.extend(arguments)
        raise NotFound("it ends here")

    monkeypatch.setattr("services.cli.commands.training.follow", follow)
    given = [word for pair in _READING.items() for word in pair]
    where = ["--data-dir", str(tmp_path), *place]
    assert main([command, "--events", "/shared/log.csv", *given, *where]) == 1
    settings = parse([word for word in told if not word.startswith("--address=http")]).settings
    assert settings.source.columns == ("user=uid",)
    assert settings.source.reading() == FileOptions(TimeUnit.SECONDS, Action.CLICK, (0.0, 10.0), "|,")
    sent = submission(told)
    assert (sent is not None) is bool(place)
    assert sent is None or "--separator=|," in sent.arguments


@pytest.mark.parametrize("command", ["import", "train", "evaluate"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--action", "adore"], "--action must be one of"),
        (["--time-unit", "h"], "--time-unit must be one of s, ms, us, ns, iso, got 'h'"),
        (["--rating-scale", "9"], "--rating-scale must be LOW:HIGH with LOW < HIGH, got '9'"),
        (["--separator", ""], "--separator must not be empty"),
    ],
)
def test_a_bad_way_of_reading_is_refused_before_anything_starts(command, options, said, tmp_path, capsys):
    (tmp_path / "log.csv").write_text("user,item,value,time\nu,i,3,2024-05-01\n")
    place = ["--events", str(tmp_path / "log.csv"), "--data-dir", str(tmp_path)]
    assert main([command, *place, *options]) == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_missing_data_set_is_said(tmp_path: Path, capsys):
    assert main(["import", "--dataset", "lastfm", "--data-dir", str(tmp_path)]) == 1
    assert "needs --path DIR" in capsys.readouterr().err


def test_models_of_an_empty_registry(tmp_path, capsys):
    assert main(["models", "list", "--json", "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == "[]"
    assert "domain default has no models yet: train one with `warmstart train`" in said.err
    assert main(["models", "show", "--data-dir", str(tmp_path)]) == 1
    assert "warmstart train" in capsys.readouterr().err
    assert main(["models", "rollback", "--data-dir", str(tmp_path)]) == 1
    assert "no champion to roll back" in capsys.readouterr().err


def test_one_model_says_how_much_trends_and_transitions_count(tmp_path, capsys):
    """As far as its version has noted it."""
    ref = publish_plain(Registry(tmp_path / "registry"))
    manifest = tmp_path / "registry" / ref.domain / ref.version / "manifest.json"
    noted = json.loads(manifest.read_text())
    noted["dims"] |= {"output": noted["dims"]["output"] + 2, "trends": 1, "successors": 2, "trail": 3}
    noted["trends"] = {"prior": 12.5, "half_life_s": 7 * 86_400.0}
    scales = {"transitions": {"next": [0.0, 0.5, 0.25]}, "trends": {"next": [0.9, 0.1, 0.0]}}
    for model in ({}, {"scales": {"shots": [0, 1, 2], **scales}}):
        manifest.write_text(json.dumps({**noted, "model": model}))
        assert main(["models", "show", "--data-dir", str(tmp_path), ref.version]) == 0
        shown = capsys.readouterr().out
        assert "7 days" in shown
        assert "as much as 12.5 recent events" in shown
        for numbers in ("0: 0, 1: 0.5, 2: 0.25", "0: 0.9, 1: 0.1, 2: 0"):
            assert (numbers in shown) is bool(model)


def test_one_model_says_what_it_promises_and_what_that_was_spent_on(tmp_path, capsys):
    ref = publish_plain(Registry(tmp_path / "registry"))
    manifest = tmp_path / "registry" / ref.domain / ref.version / "manifest.json"
    steps = {"name": "gradients", "sensitivity": 1.0, "noise_multiplier": 4.73, "sampling": 0.1, "steps": 60}
    told = {"epsilon": 3.996, "delta": 1e-6, "mechanisms": [steps], "accountant": "composed"}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "privacy": told}))
    assert main(["models", "show", "--data-dir", str(tmp_path), ref.version]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("ε = 3.996, δ = 1e-06", "noise 4.730 × sensitivity 1", "60 steps, each of 0.1 of the"):
        assert words in shown


def test_models_of_a_place_that_is_not_there(tmp_path, capsys):
    """A mistyped name is not taken for one that has no models yet."""
    publish_plain(Registry(tmp_path / "registry"), "shop")
    for place in ("--data-dir", "--registry"):
        assert main(["models", "list", place, str(tmp_path / "nosuch")]) == 1
        assert f"{place} must be a directory that exists, got '{tmp_path / 'nosuch'}'" in told(capsys)
    assert main(["models", "list", "--data-dir", str(tmp_path), "--domain", "shopp"]) == 1
    assert f"must be one that has models in {tmp_path / 'registry'} (shop), got 'shopp'" in told(capsys)
    assert main(["models", "list", "--data-dir", str(tmp_path), "--domain", "shop"]) == 0


@pytest.mark.parametrize("command", ["promote", "show"])
@pytest.mark.parametrize("version", ["v9", "20260101T000000.000Z", "../x"])
def test_a_version_that_is_not_there_is_said_with_what_lists_them(command, version, tmp_path, capsys):
    publish_plain(Registry(tmp_path / "registry"), "shop")
    assert main(["models", command, version, "--data-dir", str(tmp_path), "--domain", "shop"]) == 1
    said = told(capsys)
    assert f"version must be a published one of domain 'shop' in {tmp_path / 'registry'}, got" in said
    assert f"`warmstart models list --data-dir {tmp_path} --domain shop` shows them" in said


def test_a_version_that_was_published_unsigned_is_signed(tmp_path, capsys):
    registry = Registry(tmp_path / "registry")
    version = publish_plain(registry).version
    private, public = write_keys(tmp_path, "ours")
    command = ["models", "sign", version, "--data-dir", str(tmp_path), "--signing-key"]
    assert main([*command, str(public)]) == 1
    assert "--signing-key must hold an Ed25519 private key in PEM, without password, got" in told(capsys)
    trusting = Registry(registry.root, trusted=TrustedKeys.of_file("KEYS", str(public)))
    with pytest.raises(ArtifactError):
        trusting.promote("default", version)
    assert main([*command, str(private), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"domain": "default", "signed": version}
    assert trusting.promote("default", version).version == version


@pytest.mark.parametrize("command", ["promote", "rollback"])
@pytest.mark.parametrize("how", ["unsigned", "edited"])
def test_where_keys_are_trusted_nothing_that_they_did_not_sign_becomes_champion(
    command, how, tmp_path, monkeypatch, capsys
):
    private, public = write_keys(tmp_path, "ours")
    signer = Signer.read("KEY", str(private)) if how == "edited" else None
    registry = Registry(tmp_path / "registry", signer=signer)
    version = publish_plain(registry).version
    good = publish_plain(Registry(registry.root, signer=Signer.read("KEY", str(private)))).version
    if how == "edited":
        manifest = registry.root / "default" / version / "manifest.json"
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "metrics": {"ndcg10": 0.9}}))
    for one in (version, good):
        registry.promote("default", one)  # trusts anybody
    monkeypatch.setenv("WARMSTART_TRAINING_REGISTRY_PUBLIC_KEYS", str(public))
    place = ["--data-dir", str(tmp_path)]
    assert main(["models", command, *([version] if command == "promote" else []), *place]) == 1
    assert "manifest.sig: must be" in told(capsys)
    assert registry.champion("default").version == good
    assert main(["models", "promote", good, *place]) == 0
    monkeypatch.setenv("WARMSTART_TRAINING_REGISTRY_PUBLIC_KEYS", str(private))
    assert main(["models", "promote", good, *place]) == 1
    assert "WARMSTART_TRAINING_REGISTRY_PUBLIC_KEYS must hold Ed25519 public keys in PEM" in told(capsys)


def test_a_damaged_alias_hides_no_version_and_a_promotion_mends_it(tmp_path, capsys):
    registry = Registry(tmp_path / "registry")
    version = publish_plain(registry).version
    (tmp_path / "registry/default/champion.json").write_text("{")
    assert main(["models", "list", "--json", "--data-dir", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert [m["version"] for m in json.loads(told.out)] == [version]
    assert "no aliases shown" in told.err
    assert "promote a version" in told.err
    assert main(["models", "promote", version, "--json", "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["champion"] == version
    assert "alias_written_anew" in said.err
    assert main(["models", "show", "--json", "--data-dir", str(tmp_path)]) == 0
