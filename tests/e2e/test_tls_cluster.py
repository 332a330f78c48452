"""The whole cluster with mutual TLS, as `warmstart up --tls` runs it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.certificates import files_of
from shared.artifacts import Registry
from shared.rpc.health import check
from shared.settings import TlsFiles
from shared.tls import read_tls
from tests.artifacts import item_ids, publish_model
from tests.cluster import UpProcess, gone, until, warmstart

pytestmark = pytest.mark.timeout(600)
_ITEMS = item_ids(12)


def test_the_whole_cluster_talks_mutual_tls_and_the_command_line_finds_its_way(tmp_path: Path) -> None:
    made = warmstart("certificates", "tls", cwd=tmp_path)
    assert made.code == 0, made.err
    registry = Registry(tmp_path / "var" / "registry")
    registry.promote("default", publish_model(registry, ids=_ITEMS).version)
    (tmp_path / "items.jsonl").write_text("".join(f'{{"item": "{i}", "title": "{i}"}}\n' for i in _ITEMS))
    up = UpProcess(tmp_path, "--tls", "tls")
    try:
        state = up.wait_until_up()
        gateway = state.gateway
        assert "-cacert" in up.log.read_text()

        # Every service serves adapted lists only if all of them reach each other.
        imported = up.run("import", "--items", "items.jsonl", "--json")
        assert imported.code == 0, imported.err
        liked = up.run("feedback", "ann", _ITEMS[0], "like", "--json")
        assert liked.code == 0, liked.err
        until(lambda: up.run("recommend", "ann", "--json").json()["rung"] == "RUNG_ADAPTED")
        assert up.run("trainings", "list", "--json").code == 0

        # Whoever has no certificate of the authority is not answered, whatever they call.
        for name in ("gateway", "features", "adaptation", "scoring", "training"):
            target = state.ports.target(name)
            ca = TlsFiles(ca=str(tmp_path / "tls" / "ca.pem"))
            assert asyncio.run(check(target)) == "UNAVAILABLE"
            assert asyncio.run(check(target, pem=read_tls(ca))) == "UNAVAILABLE"
            known = read_tls(files_of(tmp_path / "tls", "operator"))
            assert asyncio.run(check(target, pem=known)) == "SERVING"

        # From elsewhere: by the same options as any program has, and under another name not at all.
        away = tmp_path / "away"
        away.mkdir()
        plain = warmstart("items", "list", "--gateway", gateway, cwd=away)
        assert plain.code == 1
        given = [f"--tls-{o}={tmp_path}/tls/{f}.pem" for o, f in _OPTIONS.items()]
        assert warmstart(*given, "items", "list", "--gateway", f"gateway@{gateway}", cwd=away).code == 0
        other = warmstart(*given, "items", "list", "--gateway", f"scoring@{gateway}", cwd=away)
        assert other.code == 1
        assert "Hostname Verification Check failed" in other.err

        # An operator may call features (trainings read there), and scoring is the gateway's alone.
        described = json.loads(_grpcurl(tmp_path, "operator", state.ports.target("features")) or "{}")
        assert described["items"]
        with pytest.raises(subprocess.CalledProcessError) as refused:
            _grpcurl(
                tmp_path,
                "operator",
                state.ports.target("scoring"),
                "warmstart.scoring.v1.ScoringService/GetServingModel",
            )
        assert "PermissionDenied" in refused.value.stderr
    finally:
        family = up.family() if up.process.poll() is None else []
        up.stop()
        until(lambda: gone(family))


_OPTIONS = {"ca": "ca", "cert": "operator", "key": "operator-key"}


def _grpcurl(
    directory: Path, name: str, target: str, method: str = "warmstart.features.v1.FeatureService/ListItems"
) -> str:
    """What a caller with this certificate is answered; the contract comes by reflection."""
    files = files_of(directory / "tls", name)
    done = subprocess.run(
        [Path(sys.executable).parent / "grpcurl", "-cacert", files.ca, "-cert", files.cert, "-key", files.key,
         "-d", "{}", target, method],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout
