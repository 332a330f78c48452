"""The options of `python -m services.training`."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from services.training.adapter_choice import check_adapter
from services.training.cluster import RESTARTS
from services.training.noted import noted, noted_source
from services.training.runs import Run, fresh_name, is_finished, new_run
from services.training.settings import (
    MIX,
    PEOPLE_IN_MEMORY,
    PRIVATE_DELTA,
    PROMOTE,
    PROTOCOLS,
    SourceSettings,
    TrainSettings,
)
from shared.errors import InvalidInput, violation
from shared.holdout import HELD_OUT_SHARE, VALIDATION_SHARE

TRAIN, EVALUATE = "train", "evaluate"
_SOURCE = {
    "features_target": ("--features-target", "HOST:PORT", "feature service to export events and items from"),
    "dataset": ("--dataset", "NAME", "known data set, for example movielens-100k"),
    "dataset_path": ("--path", "DIR", "folder with the data set's files"),
    "events": ("--events", "FILE", "events in CSV, JSON Lines or Parquet"),
    "items": ("--items", "FILE", "items, beside --events"),
    "users": ("--users", "FILE", "people, beside --events"),
    "relations": ("--relations", "FILE", "relations, beside --events"),
    "action": ("--action", "NAME", "action of events without an action column"),
    "time_unit": ("--time-unit", "UNIT", "how files write times: s, ms, us, ns or iso"),
    "rating_scale": ("--rating-scale", "LOW:HIGH", "scale of ratings in files, made 1..5"),
    "separator": ("--separator", "TEXT", "between categories in one cell of files"),
}
_CLUSTER = re.compile(r"(ray://)?[^\s/]+:[0-9]{1,5}|auto")
_FILES = ("events", "items", "users", "relations", "held_out_users")
# What a training is run with, and what changes nothing that is learnt.
_OF_A_MACHINE = (
    "registry",
    "run_dir",
    "address",
    "cpus",
    "side_by_side",
    "restarts",
    "features_target",
    "domain",
)


@dataclass(frozen=True, slots=True)
class Command:
    """What to do, with which settings, in which run; made_directory: which did not exist before."""

    name: str
    settings: TrainSettings
    run: Run
    made_directory: bool = field(default=False, compare=False)


@dataclass(frozen=True, slots=True)
class Submission:
    """A command that a cluster runs as a Ray job. server: http(s)://HOST:PORT of its dashboard; arguments: of
    `python -m services.training` there."""

    server: str
    arguments: tuple[str, ...]


def submission(arguments: Sequence[str]) -> Submission | None:
    """What is to be submitted; None for what runs here.

    Options are judged on the cluster, where their files are. Raises InvalidInput for paths that mean another
    place on every machine.
    """
    given = vars(_parser().parse_args(arguments))
    if not given["address"].startswith(("http://", "https://")):
        return None
    places = ("run_dir", "registry") if not given["resume"] else ("resume",)
    read = ("dataset_path", "data_run", *_FILES)
    _require_absolute(given, (*places, *(name for name in read if given[name])))
    return Submission(given["address"], (*arguments, "--address=auto"))


def parse(arguments: Sequence[str]) -> Command:
    """Raises InvalidInput that names every bad option; SystemExit(0) after --help."""
    given = vars(_parser().parse_args(arguments))
    name = given.pop("command")
    resumed = given.pop("resume")
    if resumed:
        return _resumed(name, resumed, given["features_target"])
    settings = _settings(given)
    check_adapter(settings.adapter, settings.adapter_settings, served=name == TRAIN)
    if settings.data_run:  # reports name its data, after all is done
        noted_source(Path(settings.data_run), "--data-run")
    directory = Path(settings.run_dir) if settings.run_dir else Path("var/runs") / fresh_name()
    made = not directory.exists()
    return Command(name, settings, new_run(directory, {"command": name, **settings.as_dict()}), made)


def _resumed(name: str, directory: str, features_target: str) -> Command:
    """A command that goes on with a run, with the options that it has noted. features_target: where the
    feature service is now, if its data came from one."""
    before = noted(Path(directory))
    if before.command != name:
        rule = f"must be a run of {name}: go on with this one by `warmstart {before.command} --resume`"
        raise InvalidInput.of("--resume", rule, directory)
    if is_finished(before.run):
        rule = f"must be a run that is not finished: `warmstart {name}` begins a new one"
        raise InvalidInput.of("--resume", rule, directory)
    check_adapter(before.settings.adapter, before.settings.adapter_settings, served=name == TRAIN)
    source = before.settings.source
    if features_target and (source.features_target or before.settings.data_run):
        source = replace(source, features_target=features_target)
    return Command(name, replace(before.settings, source=source), before.run)


def command_line(name: str, settings: TrainSettings) -> str:
    """The command that asks for the same anywhere: what differs from the defaults and is of no one machine. A
    folder is `DIR`, a file its name."""
    defaults = vars(_parser().parse_args([name]))
    values = {**settings.as_dict(), **asdict(settings.source)}
    words = ["warmstart", name]
    for option, value in values.items():
        if option in defaults and option not in _OF_A_MACHINE and value not in (defaults[option], ()):
            words += _words(option, value)
    return shlex.join(words)


def _words(option: str, value: Any) -> list[str]:
    if option == "columns":
        return [word for column in value for word in ("--map", column)]
    if option == "adapter_settings":
        return ["--adapter-settings", json.dumps(value)] if value else []
    if option in ("dataset_path", "data_run", "data_dir"):
        value = "DIR"
    elif option in _FILES:
        value = Path(value).name
    return [_flag(option)] if value is True else [_flag(option), str(value)]


def _settings(given: dict[str, Any]) -> TrainSettings:
    source = {name: given.pop(name) for name in _SOURCE}
    columns = tuple(given.pop("columns"))
    text = given.pop("adapter_settings")
    try:
        adapter_settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput.of("--adapter-settings", f"must be JSON ({error})", text) from error
    if given["address"]:
        if not _CLUSTER.fullmatch(given["address"]):
            rule = "must be http(s)://HOST:PORT of a cluster's dashboard, HOST:PORT, ray://HOST:PORT or auto"
            raise InvalidInput.of("--address", rule, given["address"])
        _require_absolute(given, ("run_dir", "registry"))
    for path in ("registry", "run_dir", "data_run"):
        given[path] = str(Path(given[path]).resolve()) if given.get(path) else ""
    return TrainSettings(
        source=SourceSettings(**source, columns=columns), adapter_settings=adapter_settings, **given
    )


def _require_absolute(given: Mapping[str, Any], names: Iterable[str]) -> None:
    """On a cluster, a path must mean the same on every machine."""
    rule = "must be an absolute path, on a file system that all machines of the cluster share"
    found = [
        violation(_flag(name), rule, given[name]) for name in names if not Path(given[name]).is_absolute()
    ]
    if found:
        raise InvalidInput(found)


def _flag(name: str) -> str:
    return _SOURCE[name][0] if name in _SOURCE else "--" + name.replace("_", "-")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidInput.of("options", message, self.prog)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m services.training", description="Train and evaluate models on Ray.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(TRAIN, help="train a model, publish it, promote it if it is good enough")
    _common(train)
    train.add_argument(
        "--promote", default="auto", metavar="|".join(PROMOTE), help="whether to make it champion"
    )
    train.add_argument(
        "--private-epsilon",
        type=float,
        default=None,
        metavar="E",
        help="train with differential privacy of this ε for each person trained on",
    )
    evaluate = commands.add_parser(EVALUATE, help="measure how well models of the settings serve strangers")
    _common(evaluate)
    evaluate.add_argument(
        "--protocol", default="few-shot", metavar="|".join(PROTOCOLS), help="what to measure"
    )
    evaluate.add_argument("--seeds", type=int, default=3, help="trainings per arm")
    evaluate.add_argument(
        "--query-last",
        type=int,
        default=0,
        help="ask for everybody's last so many events; 0 = by the protocol",
    )
    evaluate.add_argument(
        "--side-by-side", type=int, default=0, metavar="N", help="trainings at a time; 0 = one a core"
    )
    evaluate.add_argument(
        "--blind", action="store_true", help="also train models blind to labels, for the next liked items"
    )
    evaluate.add_argument("--new-items", type=int, default=100, help="items held out for new-items")
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("data (one of --features-target, --dataset, --events, --data-run)")
    for name, (flag, metavar, text) in _SOURCE.items():
        source.add_argument(flag, dest=name, default="", metavar=metavar, help=text)
    source.add_argument("--map", dest="columns", action="append", default=[], metavar="FIELD=COLUMN")
    source.add_argument("--data-run", default="", metavar="DIR", help="use the data of an earlier run")
    source.add_argument(
        "--held-out-share", type=float, default=HELD_OUT_SHARE, help="people never trained on"
    )
    source.add_argument("--validation-share", type=float, default=VALIDATION_SHARE, help="of the others")
    source.add_argument("--held-out-users", default="", metavar="FILE", help="exactly these, one id a line")

    model = parser.add_argument_group("model")
    model.add_argument("--preset", default="small", help="tiny, small, base or large")
    model.add_argument(
        "--adapter",
        default="ridge",
        help="ridge, gradient, amortised or none; evaluate: also finetune, reptile",
    )
    model.add_argument("--adapter-settings", default="{}", metavar="JSON")
    model.add_argument("--pretrain-steps", type=int, default=0, help="0 = the preset's")
    model.add_argument("--meta-steps", type=int, default=0, help="0 = the preset's")
    model.add_argument("--seed", type=int, default=0)
    model.add_argument(
        "--private-delta", type=float, default=PRIVATE_DELTA, metavar="D", help="δ of a private training"
    )
    model.add_argument(
        "--task", default=MIX, help="what lists are ranked by: next, like, or the mix that is served"
    )

    where = parser.add_argument_group("where")
    where.add_argument("--domain", default="default")
    where.add_argument(
        "--registry",
        default="var/registry",
        metavar="DIR",
        help="with --address: a path that servers see too",
    )
    where.add_argument(
        "--run-dir",
        default="",
        metavar="DIR",
        help="checkpoints, reports; default: var/runs/<time>; with --address: a path that all machines share",
    )
    where.add_argument(
        "--data-dir", default="", metavar="DIR", help="that `warmstart` was given; reports' command names it"
    )
    where.add_argument("--resume", default="", metavar="RUN", help="go on with an interrupted run")
    where.add_argument("--workers", type=int, default=1, help="data-parallel training workers")
    where.add_argument(
        "--cpus", type=int, default=0, help="of this machine, 0 = all; with --address of each worker, 0 = one"
    )
    where.add_argument(
        "--people-in-memory",
        type=int,
        default=PEOPLE_IN_MEMORY,
        metavar="N",
        help="train: of more people, pre-training streams all from disk, the rest is learnt from so many",
    )
    where.add_argument(
        "--restarts", type=int, default=RESTARTS, help="of the workers, after one of them died"
    )
    where.add_argument(
        "--address",
        default="",
        help="of a Ray cluster: HOST:PORT or auto on one of its machines, http://HOST:8265 to submit a job "
        "from anywhere; default: a local Ray",
    )
