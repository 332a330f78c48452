"""gRPC ignores an option that it does not know, so a misspelt one would do nothing and say nothing."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from grpc._cython import cygrpc

from tests.contract.source import ROOT


def options() -> list[str]:
    """First parts of all pairs ("grpc.…", value) in channels and servers."""
    found = set()
    for path in (ROOT / "shared" / "rpc").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Tuple(elts=[ast.Constant(value=str() as name), _]) if name.startswith("grpc."):
                    found.add(name)
    return sorted(found)


@pytest.fixture(scope="module")
def library() -> bytes:
    return Path(cygrpc.__file__).read_bytes()


def test_there_are_options_to_check() -> None:
    assert "grpc.keepalive_time_ms" in options()


@pytest.mark.parametrize("name", options())
def test_every_option_is_one_that_grpc_knows(name: str, library: bytes) -> None:
    assert re.search(rb"(?<![a-z_.])" + re.escape(name.encode()) + rb"\0", library)
