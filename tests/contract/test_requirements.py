"""Dependencies are pinned, hashed, and come from whatever index the machine uses."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tests.contract.source import ROOT

FILES = sorted(ROOT.glob("requirements*.txt"))
PIN = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+( ; [^\\]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")


def names(path: Path) -> set[str]:
    return {normal(line.split("==")[0]) for line in path.read_text().splitlines() if "==" in line[:80]}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def required(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[=<>~;! ]", r)[0]) for r in requirements} - {"warmstart"}


def test_there_is_one_file_for_each_kind_of_machine() -> None:
    kinds = {p.stem.removeprefix("requirements").removeprefix("-") for p in FILES}
    assert kinds == {"", "inference", "training", "dev", "setup", "data"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_line_is_a_pin_or_a_hash(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not PIN.fullmatch(line) and not HASH.fullmatch(line)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_no_file_names_a_host_or_an_index(path: Path) -> None:
    text = path.read_text()
    assert [
        word for word in ("http:", "https:", "--index", "--extra-index", "--find-links", "@") if word in text
    ] == []


@pytest.mark.parametrize(
    ("path", "extras"),
    [
        ("requirements.txt", ()),
        ("requirements-inference.txt", ("inference",)),
        ("requirements-training.txt", ("inference", "training")),
        ("requirements-dev.txt", ("inference", "training", "dev")),
    ],
)
def test_the_pins_cover_what_the_project_asks_for(path: str, extras: tuple[str, ...]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = required(project["dependencies"])
    for extra in extras:
        wanted |= required(project["optional-dependencies"][extra])
    assert wanted - names(ROOT / path) == set()


def test_the_servers_requirements_hold_no_tensorflow_and_no_ray() -> None:
    assert {"tensorflow", "keras", "ray", "jax", "torch"} & names(ROOT / "requirements.txt") == set()
    assert {"ray", "torch"} & names(ROOT / "requirements-inference.txt") == set()
