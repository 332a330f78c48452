"""`python -m services.features` as an operator runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.integration.features.client import Features, event, until
from tests.ports import free_port
from tests.valkey import RunningValkey


def _started(**environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "services.features"]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


async def started_process(valkey: RunningValkey, domain: str) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, that serves already, and its address; kill it yourself."""
    port = free_port()
    process = _started(
        WARMSTART_FEATURES_PORT=str(port),
        WARMSTART_FEATURES_STORE_URL=valkey.url,
        WARMSTART_FEATURES_DOMAINS=domain,
        WARMSTART_FEATURES_SHARDS="8",
    )
    async with Features.connected(f"127.0.0.1:{port}", domain) as features:

        async def serving() -> bool:
            assert process.poll() is None
            try:
                return not await features.exported()
            except Exception:
                return False

        await until(serving, within_s=30, says="serving")
    return process, f"127.0.0.1:{port}"


async def test_it_serves_with_the_settings_of_the_environment_and_ends_on_sigterm(
    session_valkey: RunningValkey, domain: str
) -> None:
    port = free_port()
    process = _started(
        WARMSTART_FEATURES_PORT=str(port),
        WARMSTART_FEATURES_STORE_URL=session_valkey.url,
        WARMSTART_FEATURES_DOMAINS=domain,
        WARMSTART_FEATURES_DRAIN_S="0",
    )
    try:
        async with Features.connected(f"127.0.0.1:{port}", domain) as features:

            async def serving() -> bool:
                assert process.poll() is None
                try:
                    return await features.record(event("ann", "a", event_id="e1")) in ([1], [2])
                except Exception:
                    return False

            await until(serving, within_s=30, says="serving")
            assert await features.history("ann") == ["a"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


def test_bad_settings_are_all_named_at_once() -> None:
    process = _started(
        WARMSTART_FEATURES_STORE_URL="http://nowhere",
        WARMSTART_FEATURES_DURABILITY="perhaps",
        WARMSTART_FEATURES_DELETION_SECRET="short",
    )
    _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    for name in ("STORE_URL", "DURABILITY", "DELETION_SECRET"):
        assert f"WARMSTART_FEATURES_{name}" in said
    assert "short" not in said
