"""The whole cluster with mutual TLS, as `warmstart up --tls` runs it; and that its logs tell on nobody."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from warmstart.features.v1.feature_service_pb2 import GetUserContextRequest
from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceStub

from services.cli.certificates import CALLERS, files_of
from shared.artifacts import Registry
from shared.rpc.credentials import channel_credentials
from shared.rpc.health import check
from shared.settings import TlsFiles
from shared.telemetry.hiding import SHOWN_FIELDS
from shared.tls import TlsPem, read_tls
from tests.artifacts import item_ids, publish_model
from tests.cluster import Done, UpProcess, gone, until, warmstart

pytestmark = pytest.mark.timeout(600)
_ITEMS = item_ids(12)
PERSON = "marta.marker@example.org"
SECRET = "mark3r-0f-a-s3cret-that-nobody-may-read"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpProcess]:
    """Healthy, with a model and its catalogue; says all it can say."""
    directory = tmp_path_factory.mktemp("tls")
    made = warmstart("certificates", "tls", cwd=directory)
    assert made.code == 0, made.err
    registry = Registry(directory / "var" / "registry")
    registry.promote("default", publish_model(registry, ids=_ITEMS).version)
    (directory / "items.jsonl").write_text("".join(f'{{"item": "{i}", "title": "{i}"}}\n' for i in _ITEMS))
    told = {f"WARMSTART_{name.upper()}_LOG_LEVEL": "debug" for name in CALLERS}
    told |= {"WARMSTART_GATEWAY_TOKEN_SECRET": SECRET, "WARMSTART_FEATURES_DELETION_SECRET": SECRET}
    up = UpProcess(directory, "--tls", "tls", **told)
    try:
        up.wait_until_up()
        imported = up.run("import", "--items", "items.jsonl", "--json")
        assert imported.code == 0, imported.err
        yield up
    finally:
        family = up.family() if up.process.poll() is None else []
        up.stop()
        until(lambda: gone(family))


def pem(up: UpProcess, name: str) -> TlsPem:
    return read_tls(files_of(up.directory / "tls", name))


def test_services_reach_each_other_and_the_command_line_finds_its_certificate(up: UpProcess) -> None:
    """A list is adapted only if all of them are reached."""
    assert "grpcurl -cacert" in up.log.read_text()
    liked = up.run("feedback", "ann", _ITEMS[0], "like", "--json")
    assert liked.code == 0, liked.err
    until(lambda: up.run("recommend", "ann", "--json").json()["rung"] == "RUNG_ADAPTED")
    assert up.run("trainings", "list", "--json").code == 0


def test_who_has_no_certificate_is_answered_by_no_service(up: UpProcess) -> None:
    only_ca = read_tls(TlsFiles(ca=str(up.directory / "tls" / "ca.pem")))
    ports = up.wait_until_up().ports
    for name in CALLERS:
        asked = [check(ports.target(name), pem=shown) for shown in (None, only_ca, pem(up, "operator"))]
        assert [asyncio.run(one) for one in asked] == ["UNAVAILABLE", "UNAVAILABLE", "SERVING"]


def test_from_elsewhere_a_command_is_given_its_certificate(up: UpProcess, tmp_path: Path) -> None:
    gateway = up.wait_until_up().gateway
    files = {"ca": "ca", "cert": "operator", "key": "operator-key"}
    given = [f"--tls-{option}={up.directory}/tls/{file}.pem" for option, file in files.items()]

    def items(target: str, *options: str) -> Done:
        return warmstart(*options, "items", "list", "--gateway", target, cwd=tmp_path)

    assert items(f"gateway@{gateway}", *given).code == 0
    assert items(gateway).code == 1
    other = items(f"scoring@{gateway}", *given)
    assert other.code == 1
    assert "Hostname Verification Check failed" in other.err


def test_a_service_takes_calls_of_those_who_call_it_alone(up: UpProcess) -> None:
    """An operator may call features (trainings read there); scoring is the gateway's."""
    ports = up.wait_until_up().ports
    features, scoring = ports.target("features"), ports.target("scoring")
    listed = grpcurl(up, "operator", features, "warmstart.features.v1.FeatureService/ListItems")
    assert len(json.loads(listed)["items"]) == len(_ITEMS)
    method = "warmstart.scoring.v1.ScoringService/GetServingModel"
    assert "version" in grpcurl(up, "gateway", scoring, method)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        grpcurl(up, "operator", scoring, method)
    assert "Code: PermissionDenied" in refused.value.stderr


def grpcurl(up: UpProcess, name: str, target: str, method: str) -> str:
    """What a caller with this certificate is answered; the contract comes by reflection."""
    files = files_of(up.directory / "tls", name)
    shown = ["-cacert", files.ca, "-cert", files.cert, "-key", files.key]
    command = [Path(sys.executable).parent / "grpcurl", *shown, "-d", "{}", target, method]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


_CONTRACT = {
    "gateway": ("gateway.v1.recommendation_service", "gateway.v1.catalog_service", "gateway.v1.user_service"),
    "features": ("features.v1.feature_service",),
    "adaptation": ("adaptation.v1.adaptation_service",),
    "scoring": ("scoring.v1.scoring_service",),
    "training": ("training.v1.training_service",),
}


def methods(server: str) -> list[MethodDescriptor]:
    modules = [importlib.import_module(f"warmstart.{name}_pb2") for name in _CONTRACT[server]]
    services = [s for module in modules for s in module.DESCRIPTOR.services_by_name.values()]
    return [method for service in services for method in service.methods]


def fill(message: Message, person: str, word: str, depth: int = 0) -> Message:
    """Every field set, once or with one entry: people's ids to `person`, what may be anything to `word`, and
    what is no person's by its name to something that is not there."""
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof and field.containing_oneof.fields[0] is not field:
            continue
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                if field.message_type.fields_by_name["value"].type == field.TYPE_STRING:
                    getattr(message, field.name)[word] = word
            elif depth < 4:
                inner = getattr(message, field.name)
                fill(inner.add() if field.is_repeated else inner, person, word, depth + 1)
            continue
        nobodys = word and ("default" if field.name == "domain" else "absent")
        named = nobodys if field.name in SHOWN_FIELDS else word
        text = person if field.name.endswith("user_id") else named
        value: Any = {field.TYPE_STRING: text, field.TYPE_BYTES: word.encode()}.get(field.type, 1)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def requests(method: MethodDescriptor) -> Iterator[bytes]:
    """Right and wrong in many ways, all of one person."""
    made = GetMessageClass(method.input_type)
    if method.name != "StartTraining":  # which would
        yield fill(made(), PERSON, "").SerializeToString()
    for person, word in ((PERSON, PERSON), (PERSON * 9, PERSON), (f"'{PERSON}\n", f"{PERSON}; domain")):
        yield fill(made(), person, word).SerializeToString()
    yield b"\xff\xff" + PERSON.encode()


def drive(up: UpProcess, server: str) -> list[str]:
    """Every method of a server with every request; the codes that came."""
    codes = []
    target = up.wait_until_up().ports.target(server)
    shown = pem(up, "gateway" if server != "training" else "operator")
    with grpc.secure_channel(target, channel_credentials(shown)) as channel:
        for method in methods(server):
            name = f"/{method.containing_service.full_name}/{method.name}"
            made = channel.unary_stream if method.server_streaming else channel.unary_unary
            rpc = made(name)
            for request in requests(method):
                headers = (("authorization", f"Bearer {SECRET}"),)
                try:
                    answer = rpc(request, timeout=0.5 if method.server_streaming else 10, metadata=headers)
                    if method.server_streaming:
                        list(answer)
                    codes.append("OK")
                except grpc.RpcError as error:
                    codes.append(error.code().name)
    return codes


def test_no_log_tells_who_somebody_is_or_any_secret(up: UpProcess) -> None:
    """Every RPC of every server at level debug, in and out of order, also while the store is away."""
    codes = {server: drive(up, server) for server in CALLERS}
    for server in ("gateway", "features"):
        assert {"OK", "INVALID_ARGUMENT"} <= set(codes[server])
    assert "INTERNAL" not in {code for found in codes.values() for code in found}
    store = up.program("valkey")
    assert store is not None
    store.suspend()
    try:
        assert ask_features(up) == "UNAVAILABLE"
    finally:
        store.resume()
    logs = {path.name: path.read_text(errors="replace") for path in (up.data_dir / "logs").iterdir()}
    logs["up.log"] = up.log.read_text()
    assert {name for name, text in logs.items() if "marta" in text or "marker@" in text} == set()
    assert {name for name, text in logs.items() if SECRET in text} == set()
    # That all was said, and who it is can be followed by those who may.
    name = up.run("users", "pseudonym", PERSON).out.strip()
    assert name.startswith("person:")
    for server in ("gateway", "features"):
        assert name in logs[f"{server}.log"]
        assert "[debug" in logs[f"{server}.log"]


def ask_features(up: UpProcess) -> str:
    """The code of one call for the person, made with the time that a store gets."""
    target = up.wait_until_up().ports.target("features")
    with grpc.secure_channel(target, channel_credentials(pem(up, "gateway"))) as channel:
        try:
            FeatureServiceStub(channel).GetUserContext(GetUserContextRequest(user_id=PERSON), timeout=20)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"
