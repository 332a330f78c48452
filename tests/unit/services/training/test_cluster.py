"""What travels to a Ray cluster, and what is asked of one before anything starts."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from services.training.cluster import _missing_code, require_answer, runtime_env
from shared.errors import Unavailable
from tests.ports import free_port


def packed(directory: Path) -> set[str]:
    """The files that Ray would pack of the runtime environment, as workers find them below their paths."""
    from ray._private.runtime_env.packaging import create_package

    environment = runtime_env()
    names: set[str] = set()
    for number, module in enumerate(environment["py_modules"]):  # type: ignore[arg-type, call-overload]
        package = directory / f"{number}.zip"
        create_package(
            str(module),
            package,
            include_gitignore=True,
            include_parent_dir=True,
            excludes=environment["excludes"],
        )
        names |= set(zipfile.ZipFile(package).namelist())
    return {name for name in names if not name.endswith("/")}


def test_our_code_travels_and_nothing_else(tmp_path: Path) -> None:
    """Generated protos too, though git ignores them; no tests, no data, no environment, no caches."""
    names = packed(tmp_path)
    assert {
        "services/training/worker.py",
        "shared/modeling/model.py",
        "warmstart/features/v1/feature_service_pb2.py",
        "warmstart/features/v1/feature_service_pb2_grpc.py",
    } <= names
    assert {name.split("/")[0] for name in names} == {"services", "shared", "warmstart"}
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3 << 20


@pytest.mark.parametrize(("brought", "travels"), [({"py_modules": ["gcs://code.zip"]}, False), ({}, True)])
def test_a_submitted_job_that_came_with_its_code_packs_none(
    monkeypatch: pytest.MonkeyPatch, brought: dict[str, object], travels: bool
) -> None:
    """Ray refuses to merge a job's modules with its driver's."""
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": brought}))
    assert (_missing_code() is not None) is travels


@pytest.mark.parametrize("address", ["http://127.0.0.1:{}", "127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_does_not_answer_is_said_at_once(address: str) -> None:
    address = address.format(free_port())
    with pytest.raises(Unavailable, match=f"no Ray cluster answers at {address}"):
        require_answer(address)
