"""Each server folder has the same shape, so that one who knows one knows all."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest
from pydantic_settings import BaseSettings

from shared.errors import SettingsError
from shared.settings import ServerSettings, load
from tests.contract.source import ROOT, SERVERS, Module, modules


def folder(server: str) -> dict[str, Module]:
    """Modules of a server by file name without suffix, packages by folder name."""
    here = ROOT / SERVERS[server].replace(".", "/")
    found = {p.stem: Module(p) for p in here.glob("*.py")}
    return found | {p.parent.name: Module(p) for p in here.glob("*/__init__.py")}


def settings_classes(server: str) -> list[type[BaseSettings]]:
    module = importlib.import_module(f"{SERVERS[server]}.settings")
    return [
        c
        for _, c in inspect.getmembers(module, inspect.isclass)
        if issubclass(c, BaseSettings) and c.__module__ == module.__name__
    ]


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_has_the_rooms_of_every_server(server: str) -> None:
    missing = {"__init__", "__main__", "settings", "app", "servicer", "codec"} - set(folder(server))
    assert missing == set()


@pytest.mark.parametrize("server", SERVERS)
def test_main_is_under_20_lines(server: str) -> None:
    lines = folder(server)["__main__"].path.read_text().splitlines()
    assert len(lines) < 20


@pytest.mark.parametrize("server", SERVERS)
def test_app_has_build_which_returns_the_component(server: str) -> None:
    functions = [n for n in folder(server)["app"].tree.body if isinstance(n, ast.FunctionDef)]
    build = next((f for f in functions if f.name == "build"), None)
    assert build is not None
    assert build.args.args[0].arg == "settings"


@pytest.mark.parametrize("server", SERVERS)
def test_settings_are_typed_described_frozen_and_named_after_the_service(server: str) -> None:
    mains = [c for c in settings_classes(server) if issubclass(c, ServerSettings)]
    assert len(mains) == 1
    for cls in settings_classes(server):
        assert str(cls.model_config.get("env_prefix", "")).startswith(f"WARMSTART_{server.upper()}_")
        assert cls.model_config.get("frozen") is True
        for name, field in cls.model_fields.items():
            assert field.description, f"{cls.__name__}.{name} has no description"
            assert field.description.endswith("."), f"{cls.__name__}.{name}: {field.description!r}"


@pytest.mark.parametrize("server", SERVERS)
def test_every_bad_value_of_the_environment_is_reported_at_once(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cls,) = (c for c in settings_classes(server) if issubclass(c, ServerSettings))
    bad = [n for n, f in cls.model_fields.items() if f.annotation in (int, float)]
    assert len(bad) > 4
    names = [f"WARMSTART_{server.upper()}_{n.upper()}" for n in bad]
    for name in names:
        monkeypatch.setenv(name, "many")
    with pytest.raises(SettingsError) as caught:
        load(cls)
    assert [n for n in names if f"{n}: " not in str(caught.value)] == []


@pytest.mark.parametrize("server", SERVERS)
def test_the_defaults_are_good(server: str) -> None:
    for cls in settings_classes(server):
        load(cls)


def test_default_ports_differ() -> None:
    ports = [load(settings_classes(s)[0]).model_dump()["port"] for s in SERVERS]
    assert len(set(ports)) == len(SERVERS)


# They set variables for TensorFlow and OpenBLAS, which know no other way.
_TELL_LIBRARIES = ("shared.inference", "shared.rpc.threads")
# Becomes any program of the local cluster, before any of our code is there.
_LEASH = "shared.processes.leash"


def test_no_module_reads_the_environment_by_itself() -> None:
    """Settings do. The command line and training pass it on to what they start; libraries are told by it."""
    broken = [
        f"{m.name}:{node.lineno}"
        for m in modules("services", "shared")
        if not m.within("services.cli", "services.training", "shared.settings", _LEASH, *_TELL_LIBRARIES)
        for node in ast.walk(m.tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("environ", "getenv")
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]
    assert broken == []
