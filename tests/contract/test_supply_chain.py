"""`make audit` passes only what it has asked about; `make sbom` writes what the standard calls valid."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.contract.source import ROOT

FINE = {"name": "fine", "version": "1", "vulns": []}
BROKEN = {"name": "broken", "version": "1", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "skipped", "skip_reason": "Dependency not found on PyPI"}


@pytest.fixture
def audit() -> ModuleType:
    loader = SourceFileLoader("audit", str(ROOT / ".ci" / "audit"))
    spec = spec_from_loader("audit", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def tool(directory: Path, said: dict[str, str]) -> Path:
    """A program in pip-audit's place: says what it was told to say of the file that it is asked about."""
    program = directory / "pip-audit"
    lines = f"said = {said!r}[sys.argv[-1]]\nprint(said) if said.startswith('{{') else sys.exit(said)\n"
    program.write_text(f"#!{sys.executable}\nimport sys\n{lines}")
    program.chmod(0o755)
    return program


def report(*found: dict[str, Any]) -> str:
    return json.dumps({"dependencies": found, "fixes": []})


@pytest.mark.parametrize(
    ("said", "code", "printed"),
    [
        ([report(FINE)], 0, "one: no known vulnerability in 1 libraries"),
        ([report(FINE, BROKEN)], 1, "one: broken 1: CVE-2026-1, fixed in 2"),
        ([report(FINE, SKIPPED)], 3, "one: NOT AUDITED: osv knows nothing of 1 of 2: skipped"),
        ([report()], 3, "one: NOT AUDITED"),
        (["Failed to resolve the host"], 3, "one: NOT AUDITED: osv could not be asked: Failed to resolve"),
        ([report(FINE), "away", report(BROKEN)], 1, "two: NOT AUDITED: osv could not be asked: away"),
        ([report(FINE), "away"], 3, "two: NOT AUDITED"),
    ],
)
def test_an_audit_passes_only_where_every_library_was_asked_about(
    audit: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    said: list[str],
    code: int,
    printed: str,
) -> None:
    files = dict(zip(("one", "two", "three"), said, strict=False))
    monkeypatch.setattr(audit, "_PROGRAM", tool(tmp_path, files))
    monkeypatch.delenv("AUDIT_SERVICE", raising=False)
    assert audit.main(list(files)) == code
    assert printed in capsys.readouterr().out


def test_a_bill_of_materials_names_each_pin_with_its_hashes(tmp_path: Path) -> None:
    for file in (".ci/sbom", "pyproject.toml", "requirements-setup.txt"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    command = [tmp_path / ".ci" / "sbom", "out", Path(sys.executable).parent]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    made = json.loads((tmp_path / "out" / "requirements-setup.cdx.json").read_text())
    assert made["bomFormat"] == "CycloneDX"
    pins = [line for line in (ROOT / "requirements-setup.txt").read_text().splitlines() if "==" in line]
    assert {f"{c['name']}=={c['version']}" for c in made["components"]} == {p.split()[0] for p in pins}
    assert all(c["externalReferences"][0]["hashes"] for c in made["components"])
