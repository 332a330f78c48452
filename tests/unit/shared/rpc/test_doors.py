"""A server whose settings are a door's asks who calls, before anything else; another one does not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from warmstart.features.v1 import feature_service_pb2 as pb

from shared.auth.callers import ALL_DOMAINS, Scope
from shared.auth.key_file import change_keys
from shared.auth.keys import new_key
from shared.auth.settings import DoorSettings
from shared.errors import CredentialMissing, ScopeMissing, SettingsError, Unauthenticated
from shared.rpc.channels import call, connect, stream
from shared.rpc.server import running
from tests.unit.shared.rpc.servers import SERVICE, TestedComponent, stub

REQUEST = pb.GetUserContextRequest(user_id="ada")


def door(directory: Path, **changes: Any) -> tuple[DoorSettings, str]:
    """Settings with a file of one key of all scopes and domains, and that key."""
    kept, key = new_key(scopes=Scope, domains=[ALL_DOMAINS], created=datetime.now(UTC))
    path = directory / "keys.json"
    change_keys(path, lambda _: [kept])
    told = {"drain_s": 0.0, "grace_s": 1.0, "auth": "keys", "auth_keys": str(path), **changes}
    return DoorSettings(**told), key


async def test_an_rpc_that_nobody_gave_a_scope_is_closed_to_all(tmp_path: Path) -> None:
    """FeatureService is no public door, so the table does not have it."""
    told, key = door(tmp_path)
    async with running(TestedComponent(), told) as address, connect(address, credential=key) as channel:
        with pytest.raises(ScopeMissing, match=f"got '/{SERVICE}/GetUserContext'"):
            await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)
        with pytest.raises(ScopeMissing, match=f"got '/{SERVICE}/WatchItems'"):
            await anext(stream(stub(channel).WatchItems, pb.WatchItemsRequest()))


async def test_unary_calls_and_streams_of_strangers_are_refused(tmp_path: Path) -> None:
    told, _ = door(tmp_path)
    async with running(TestedComponent(), told) as address:
        for credential, error in (("", CredentialMissing), ("wsk_wrong", Unauthenticated)):
            async with connect(address, credential=credential) as channel:
                with pytest.raises(error):
                    await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)
                with pytest.raises(error):
                    await anext(stream(stub(channel).WatchItems, pb.WatchItemsRequest()))


async def test_refusals_of_strangers_are_logged_in_sum_and_without_their_credential(tmp_path: Path) -> None:
    told, _ = door(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with running(TestedComponent(), told) as address:
            async with connect(address, credential="wsk_nobody_knows") as channel:
                for _ in range(20):
                    with pytest.raises(Unauthenticated):
                        await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)
    assert [line["reasons"] for line in lines if line["event"] == "calls refused"] == [
        {"CREDENTIAL_INVALID": 1}
    ]
    assert [line for line in lines if line["event"] == "call" and line["log_level"] != "debug"] == []
    assert "nobody_knows" not in str(lines)


async def test_a_door_that_takes_every_call_where_others_reach_it_says_so_once() -> None:
    told = DoorSettings(host="0.0.0.0", auth="off", drain_s=0.0, grace_s=1.0)  # noqa: S104 - what is warned of
    with structlog.testing.capture_logs() as lines:
        async with running(TestedComponent(), told, name="shop") as address:
            port = address.rpartition(":")[2]
            async with connect(f"127.0.0.1:{port}") as channel:
                for _ in range(3):
                    await call(stub(channel).GetUserContext, REQUEST, timeout_s=5.0)
    warned = [line for line in lines if line["event"] == "every call is taken: auth is off"]
    assert [(line["name"], line["host"]) for line in warned] == [("shop", "0.0.0.0")]  # noqa: S104


async def test_a_door_without_its_file_of_keys_does_not_start(tmp_path: Path) -> None:
    told, _ = door(tmp_path)
    told = told.model_copy(update={"auth_keys": str(tmp_path / "nosuch")})
    component = TestedComponent()
    with pytest.raises(SettingsError, match="must be a file of keys"):
        async with running(component, told):
            pass
    assert component.steps == ["stop"]
