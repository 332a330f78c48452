"""The contract's own rules, beyond what buf knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from tests.contract.source import ROOT, SERVERS, modules

BUF = Path(sys.executable).parent / "buf"
PROTOS = sorted((ROOT / "protos").rglob("*.proto"))
_SERVICE, _METHOD = 6, 2  # field numbers of FileDescriptorProto.service and ServiceDescriptorProto.method


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    """Our files as descriptors, with their comments."""
    out = tmp_path_factory.mktemp("protos") / "all.binpb"
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "protos")),
            *("--include_source_info", f"--descriptor_set_out={out}", *map(str, PROTOS)),
        ],
        check=True,
        timeout=60,
    )
    return list(descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file)


def rpcs(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> Iterator[tuple[str, descriptor_pb2.MethodDescriptorProto, str]]:
    """package.Service/Method, its descriptor, its comment."""
    for file in files:
        comments = {tuple(loc.path): loc.leading_comments for loc in file.source_code_info.location}
        for s, service in enumerate(file.service):
            for m, method in enumerate(service.method):
                comment = comments.get((_SERVICE, s, _METHOD, m), "")
                yield f"{file.package}.{service.name}/{method.name}", method, comment


def buf(*args: str) -> None:
    done = subprocess.run(
        [str(BUF), *args], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_buf_lints_clean_with_its_default_rules() -> None:
    assert "STANDARD" in (ROOT / "buf.yaml").read_text()
    assert "except" not in (ROOT / "buf.yaml").read_text()
    buf("lint")


def test_protos_are_formatted() -> None:
    buf("format", "--diff", "--exit-code")


def test_packages_are_named_after_area_and_version(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    for file in files:
        product, area, version = file.package.split(".")
        assert (product, version) == ("warmstart", "v1")
        assert file.name.startswith(f"warmstart/{area}/v1/")


def test_a_file_holds_at_most_one_service_and_is_named_after_it(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    for file in files:
        assert len(file.service) <= 1
        for service in file.service:
            assert Path(file.name).stem.replace("_", "") == service.name.lower()


def test_every_rpc_says_what_it_does(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    found = list(rpcs(files))
    assert len(found) > 25
    assert [name for name, _, comment in found if len(comment.strip()) < 20] == []


def test_every_service_says_what_it_is_for_and_its_errors(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    for file in files:
        comments = {tuple(loc.path): loc.leading_comments for loc in file.source_code_info.location}
        for s, service in enumerate(file.service):
            assert comments.get((_SERVICE, s), "").strip(), f"{file.package}.{service.name}"


def test_every_rpc_has_its_own_request_and_response(
    files: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    used: Counter[str] = Counter()
    for name, method, _ in rpcs(files):
        package = "." + name.split("/")[0].rpartition(".")[0]
        assert method.input_type == f"{package}.{method.name}Request"
        assert method.output_type == f"{package}.{method.name}Response"
        used.update((method.input_type, method.output_type))
    assert [t for t, n in used.items() if n > 1] == []


def test_every_request_names_its_domain_first(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    messages = {f".{f.package}.{m.name}": m for f in files for m in f.message_type}
    for name, method, _ in rpcs(files):
        first = messages[method.input_type].field[0]
        assert (first.name, first.number) == ("domain", 1), name
        assert first.type == descriptor_pb2.FieldDescriptorProto.TYPE_STRING, name


def test_every_enum_starts_with_unspecified(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    enums = [e for f in files for e in (*f.enum_type, *(e for m in f.message_type for e in m.enum_type))]
    assert len(enums) > 4
    for enum in enums:
        assert enum.value[0].number == 0
        assert enum.value[0].name.endswith("_UNSPECIFIED")


def test_every_rpc_is_served(files: list[descriptor_pb2.FileDescriptorProto]) -> None:
    """Each servicer class has a method of its own for every RPC of its service."""
    served: dict[str, set[str]] = {}
    for module in modules(*(package.replace(".", "/") for package in SERVERS.values())):
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ClassDef):
                continue
            bases = {b.attr if isinstance(b, ast.Attribute) else getattr(b, "id", "") for b in node.bases}
            methods = {n.name for n in node.body if isinstance(n, ast.AsyncFunctionDef)}
            for base in bases:
                if base.endswith("Servicer"):
                    served.setdefault(f"{module.name.split('.')[1]}.{base}", set()).update(methods)
    missing = []
    for name, method, _ in rpcs(files):
        _, area, _, service = name.split("/")[0].split(".")
        if method.name not in served.get(f"{area}.{service}Servicer", set()):
            missing.append(name)
    assert missing == []
