"""gRPC's own lines are no part of what a command prints, unless somebody asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import trustme

from services.cli.grpc_lines import silence_grpc


def test_a_server_without_tls_that_is_called_with_it_is_told_in_our_words_alone(tmp_path: Path) -> None:
    """In a process of its own: gRPC reads once how much to tell."""
    ca = tmp_path / "ca.pem"
    ca.write_bytes(trustme.CA().cert_pem.bytes())
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        command = [sys.executable, "-m", "services.cli", "--tls-ca", str(ca), "users", "export", "u"]
        done = subprocess.run(
            [*command, "--gateway", f"127.0.0.1:{port}"], capture_output=True, text=True, check=False
        )
    finally:
        server.stop(0).wait()
    assert done.returncode == 1
    assert done.stderr.startswith("error: DEPENDENCY_UNAVAILABLE: ")
    assert "leave --tls-ca out" in done.stderr.splitlines()[-1]
    assert "ssl_transport_security.cc" not in done.stderr


@pytest.mark.parametrize("given", [None, "debug"])
def test_what_commands_start_has_the_environment_as_it_was(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    if given:
        monkeypatch.setenv("GRPC_VERBOSITY", given)
    silence_grpc()
    assert os.environ.get("GRPC_VERBOSITY") == given
