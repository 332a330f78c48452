"""docs/operations.md names what there is: lines of the logs, metrics, settings, commands, scenarios."""

from __future__ import annotations

import re
from collections.abc import Iterator

import typer.main
from warmstart.gateway.v1 import recommendation_service_pb2 as gateway_pb

from services.adaptation.settings import AdaptationSettings
from services.cli.app import build
from services.features.settings import FeatureSettings
from services.gateway.settings import GatewaySettings
from services.scoring.settings import ScoringSettings
from services.training.service.settings import TrainingServiceSettings
from tests.chaos.scenarios import SCENARIOS
from tests.contract.source import ROOT

TEXT = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
# Of trainings, which write to their run's log, and of the command line.
_NOT_SERVERS = re.compile(r"services/(cli|training/(?!service/))")
_SAID = re.compile(
    r"(?:_LOG|_log|LOG)\.(?:debug|info|warning|error|exception)\(\s*\"([^\"]+)\""
    r"|\bself\._warn\(\"([^\"]+)\"|\bsay\(\"([^\"]+)\""
)
_NAMED = re.compile(r"\"(warmstart_[a-z_]+)\"")


def sources() -> Iterator[str]:
    for package in ("services", "shared"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if not _NOT_SERVERS.match(path.relative_to(ROOT).as_posix()):
                yield path.read_text(encoding="utf-8")


def lines_of_code() -> set[str]:
    return {next(filter(None, found)) for text in sources() for found in _SAID.findall(text)}


def tables() -> list[tuple[list[str], list[list[str]]]]:
    """(header, rows) of each table."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", TEXT, re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        found.append((rows[0], rows[2:]))
    return found


def column(name: str) -> list[str]:
    """Its words in backticks, of every table that has it."""
    return [
        word
        for header, rows in tables()
        if name in header
        for row in rows
        for word in re.findall(r"`([^`]+)`", row[header.index(name)])
    ]


def fits(word: str, lines: set[str]) -> bool:
    """A long line may be cut short with an ellipsis."""
    return word in lines or (word.endswith("…") and any(line.startswith(word[:-1]) for line in lines))


def test_the_glossary_has_every_line_that_servers_say_and_no_other() -> None:
    lines, told = lines_of_code(), column("line")
    assert [word for word in told if not fits(word, lines) and not word.startswith("WARMSTART_")] == []
    assert [line for line in sorted(lines) if not any(fits(word, {line}) for word in told)] == []


def test_every_line_named_beside_a_failure_is_said() -> None:
    lines = lines_of_code()
    words = column("log") + column("starts without, and says so")
    assert len(words) > 40
    assert [word for word in words if not fits(word, lines)] == []


def test_every_metric_is_one_that_servers_have() -> None:
    named = {name for text in sources() for name in _NAMED.findall(text)}
    # Written as f"{name}_lists" under one name.
    gateway = (ROOT / "services/gateway/metrics.py").read_text(encoding="utf-8")
    named |= {f"warmstart_gateway_{end}" for end in re.findall(r"\{name\}_([a-z_]+)\"", gateway)}
    told = set(re.findall(r"`(warmstart_[a-z_]+)`", TEXT))
    assert len(told) > 8
    assert [name for name in sorted(told) if name.removesuffix("_total") not in named] == []


def settings() -> set[str]:
    classes = {
        "GATEWAY": GatewaySettings,
        "FEATURES": FeatureSettings,
        "ADAPTATION": AdaptationSettings,
        "SCORING": ScoringSettings,
        "TRAINING": TrainingServiceSettings,
    }
    return {
        f"WARMSTART_{name}_{field.upper()}" for name, cls in classes.items() for field in cls.model_fields
    }


def test_every_setting_is_one_that_servers_read() -> None:
    known = settings()
    told = set(re.findall(r"WARMSTART_[A-Z_]+", TEXT))
    assert [name for name in sorted(told) if name not in known] == []
    short = set(re.findall(r"`((?!WARMSTART)[A-Z]+(?:_[A-Z]+)*_S)`", TEXT))
    assert [name for name in sorted(short) if not any(k.endswith(f"_{name}") for k in known)] == []


def test_every_scenario_and_test_is_there() -> None:
    words = column("shown by")
    assert [
        w for w in words if not (w in SCENARIOS or (w.startswith("tests/") and (ROOT / w).exists()))
    ] == []
    paths = re.findall(r"`((?:tests|shared|services|docs|deploy)/[\w/.-]+)`", TEXT)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert set(re.findall(r"tests\.chaos (\S+)`", TEXT)) <= set(SCENARIOS)


def test_every_scenario_is_named() -> None:
    assert [name for name in SCENARIOS if f"`{name}`" not in TEXT] == []


def test_every_command_is_one_of_the_command_line() -> None:
    commands = typer.main.get_command(build()).commands  # type: ignore[attr-defined]
    for told in set(re.findall(r"warmstart ([a-z]+(?: [a-z]+)?)", TEXT)):
        first, _, second = told.partition(" ")
        assert first in commands, told
        if second and hasattr(commands[first], "commands"):
            assert second in commands[first].commands, told


def test_every_rung_and_option_is_one() -> None:
    assert set(re.findall(r"RUNG_[A-Z_]+", TEXT)) <= set(gateway_pb.Rung.keys())
    group = typer.main.get_command(build())
    known = {option for command in _all(group) for p in command.params for option in p.opts}
    told = set(re.findall(r"(?<=[ `])--[a-z-]+", TEXT)) - {"--against", "--help"}
    assert told - known == set()


def _all(command: object) -> Iterator[object]:
    yield command
    for inner in getattr(command, "commands", {}).values():
        yield from _all(inner)


def test_its_own_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings
