"""`warmstart up` with auth on: the story of a shop that gets a key, uses it and loses it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import UpProcess, clean_environment, gone, until, warmstart
from tests.contract.source import ROOT

# Its short form is tests/integration/auth: the same doors in one process.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_cluster_serves_whoever_has_a_key_and_only_them(tmp_path: Path) -> None:
    def made(*options: str) -> dict[str, str]:
        done = warmstart("keys", "create", *options, "--json", cwd=tmp_path)
        assert done.code == 0, done.err
        key: dict[str, str] = done.json()
        return key

    importer, shop = made("--scope", "catalogue"), made("--scope", "recommend", "--scope", "feedback")
    items = tmp_path / "items.jsonl"
    items.write_text("".join(json.dumps({"item": f"i{n}", "title": f"Item {n}"}) + "\n" for n in range(5)))
    up = UpProcess(tmp_path, WARMSTART_GATEWAY_AUTH="keys", WARMSTART_TRAINING_AUTH="keys")
    try:
        up.wait_until_up()
        refused = up.run("recommend", "ann")
        assert refused.code == 1
        assert "CREDENTIAL_MISSING" in refused.err
        assert "set WARMSTART_KEY to a key that is good there" in refused.err
        imported = up.run("import", "--items", "items.jsonl", "--key", importer["key"], "--json")
        assert imported.code == 0, imported.err

        def listed() -> int:
            answer = up.run("recommend", "ann", "--json", "--key", shop["key"])
            assert answer.code == 0, answer.err
            return len(answer.json()["items"])

        assert until(listed) == 5
        assert up.run("feedback", "ann", "i1", "like", "--key", shop["key"]).code == 0
        denied = up.run("users", "delete", "ann", "--yes", "--key", shop["key"])
        assert denied.code == 1
        assert "SCOPE_MISSING: scope must be admin for DeleteUser, got feedback, recommend" in denied.err
        assert "SCOPE_MISSING" in up.run("trainings", "list", "--key", shop["key"]).err

        operator = made("--scope", "admin")
        until(lambda: up.run("trainings", "list", "--key", operator["key"]).code == 0)
        assert up.run("users", "delete", "ann", "--yes", "--key", operator["key"]).code == 0

        assert up.run("keys", "revoke", shop["id"]).code == 0
        until(lambda: "CREDENTIAL_INVALID" in up.run("recommend", "ann", "--key", shop["key"]).err)
        logs = "".join(log.read_text(errors="replace") for log in (up.data_dir / "logs").iterdir())
        for key in (importer, shop, operator):
            assert key["key"].split("_", 2)[2] not in logs
    finally:
        family = up.family() if up.process.poll() is None else []
        up.stop()
        until(lambda: gone(family))
    assert "grpcurl -plaintext -H 'authorization: Bearer KEY'" in up.log.read_text()


def test_the_readmes_own_cluster_runs(tmp_path: Path) -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    (code,) = (block for block in blocks if "WARMSTART_GATEWAY_AUTH=keys" in block)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=tmp_path,
        env=clean_environment() | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Red running shoes" in done.stdout


def test_a_cluster_without_its_keys_does_not_start_and_says_why(tmp_path: Path) -> None:
    up = UpProcess(tmp_path, WARMSTART_GATEWAY_AUTH="keys")
    try:
        assert up.process.wait(120) == 1
    finally:
        up.stop()
    said = " ".join(up.log.read_text().split())
    assert "WARMSTART_GATEWAY_AUTH_KEYS: must be a file of keys (`warmstart keys create` makes one)" in said
