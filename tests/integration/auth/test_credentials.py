"""Every RPC of both doors, called with every kind of bad credential: all refused; with good ones: none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

import grpc
import jwt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shared.auth.callers import Scope
from shared.auth.key_file import change_keys
from shared.auth.keys import new_key, revoked
from shared.auth.scopes import scope_of
from tests.doors import RPCS, Rpc
from tests.integration.auth.doors import EVERY_SCOPE, NOW, Doors, bearer, request_of
from tests.unit.shared.auth.signing import (
    EC_KEY,
    ED_KEY,
    OTHER_RSA_KEY,
    RSA_KEY,
    SECRET,
    confused,
    jwks,
    pem,
    signed,
    tampered,
    unsigned,
)

pytestmark = pytest.mark.asyncio(loop_scope="package")

Metadata = tuple[tuple[str, str | bytes], ...]
UNAUTHENTICATED, PERMISSION_DENIED = "UNAUTHENTICATED", "PERMISSION_DENIED"
AT_ONCE = 50
EVERY = " ".join(EVERY_SCOPE)
# What each RPC comes to with a good credential: nothing that has to do with it.
ANSWERED = {
    "ListSimilarItems": {"UNAVAILABLE"},  # scoring is away
    "WatchTraining": {"NOT_FOUND"},
    "StopTraining": {"NOT_FOUND"},
    "PromoteModel": {"NOT_FOUND"},
    "RollBackModel": {"FAILED_PRECONDITION"},
    "StartTraining": {"OK", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"},  # one at a time
}


def others(scope: Scope) -> tuple[Scope, ...]:
    return tuple(each for each in Scope if each is not scope)


def bad_metadata(good: str) -> Mapping[str, Metadata]:
    return {
        "none": (),
        "another name": (("authorisation", f"Bearer {good}"),),
        "no scheme": (("authorization", good),),
        "another scheme": (("authorization", f"Basic {good}"),),
        "an empty one": (("authorization", "Bearer "),),
        "two": bearer(good) + bearer(good),
        "words": bearer("let me in"),
    }


def bad_keys(doors: Doors) -> Mapping[str, Metadata]:
    good = doors.keys.add()
    prefix, key_id, secret = good.split("_", 2)
    stranger = new_key(scopes=Scope, domains=["shop"], created=NOW)[1]
    kept, taken_back = new_key(scopes=Scope, domains=["shop"], created=NOW)
    change_keys(doors.keys.path, lambda keys: (*keys, revoked(kept, NOW)))
    return {
        "an unknown key": bearer(stranger),
        "a key's id alone": bearer(f"{prefix}_{key_id}_"),
        "another key's secret": bearer(f"{prefix}_{key_id}_{stranger.split('_', 2)[2]}"),
        "a secret but for its end": bearer(good[:-1]),
        "a secret and more": bearer(good + "A"),
        "a secret in other letters": bearer(f"{prefix}_{key_id}_{secret.swapcase()}"),
        "an expired key": bearer(doors.keys.add(age=timedelta(seconds=-1))),
        "a revoked key": bearer(taken_back),
    }


def bad_tokens() -> Mapping[str, Metadata]:
    now = int(NOW.timestamp())
    every: dict[str, Any] = {"scope": EVERY}
    good = signed(**every)
    tokens = {
        "alg none": unsigned(**every),
        "alg None": unsigned("None", **every),
        "alg nOnE, a signature": unsigned("nOnE", **every) + "AAAA",
        "an algorithm that is not accepted": signed(algorithm="RS512", **every),
        "PS256": signed(algorithm="PS256", **every),
        "HS256 with the public key": confused(pem(RSA_KEY), **every),
        "HS256 with the file of keys": confused(jwks(), **every),
        "HS256 with another secret": signed(SECRET[::-1], "HS256", None, **every),
        "another key of a known id": signed(OTHER_RSA_KEY, **every),
        "an unknown kid": signed(kid="unknown", **every),
        "another key's kid": signed(EC_KEY, "ES256", "ed", **every),
        "claims that were changed": tampered(signed(scope=""), **every),
        "no signature": good.rpartition(".")[0] + ".",
        "half a signature": good[: -len(good.rpartition(".")[2]) // 2],
        "two segments": ".".join(good.split(".")[:2]),
        "another audience": signed(aud="another service", **every),
        "another issuer": signed(iss="https://elsewhere.test", **every),
        "expired": signed(exp=now - 3600, **every),
        "not valid yet": signed(nbf=now + 3600, **every),
        "issued in the future": signed(iat=now + 3600, **every),
        "far too long": signed(more="x" * 5000, **every),
        "a list of claims": jwt.api_jws.encode(b"[1]", RSA_KEY, "RS256", {"kid": "rsa"}),
        **{f"no {name}": signed(**{**every, name: None}) for name in ("exp", "aud", "iss", "sub", "domains")},
        "no scope claim": signed(scope=None),
        "domains as a text": signed(domains="shop", **every),
    }
    return {f"a token: {kind}": bearer(token) for kind, token in tokens.items()}


def not_allowed(doors: Doors) -> Mapping[str, Callable[[Rpc], Metadata]]:
    """Good credentials of callers who may not: they differ by what the RPC asks for."""
    without = {scope: doors.keys.add(others(scope)) for scope in Scope}
    films = doors.keys.add(domains=["films", "books"])
    scoped = {scope: signed(scope=" ".join(others(scope))) for scope in Scope}
    return {
        "a key without the scope": lambda rpc: bearer(without[scope_of(rpc.path)]),
        "a token without the scope": lambda rpc: bearer(scoped[scope_of(rpc.path)]),
        "a token of no scope": lambda _: bearer(signed(scope="openid")),
        "a key of another domain": lambda _: bearer(films),
        "a token of another domain": lambda _: bearer(signed(scope=EVERY, domains=["films"])),
    }


def table(doors: Doors) -> Iterator[tuple[Rpc, str, Metadata, str]]:
    """Every RPC with every kind of credential: RPC, kind, metadata, the status it must have."""
    unknown = {**bad_metadata(doors.operator), **bad_keys(doors), **bad_tokens()}
    denied = not_allowed(doors)
    for rpc in RPCS.values():
        yield from ((rpc, kind, metadata, UNAUTHENTICATED) for kind, metadata in unknown.items())
        yield from ((rpc, kind, made(rpc), PERMISSION_DENIED) for kind, made in denied.items())


async def taken_up(doors: Doors) -> None:
    """Once both doors know the newest key of the file, they know all of those before it."""
    newest = doors.keys.add()
    for name in ("ListItems", "ListModels"):
        async with asyncio.timeout(10.0):
            while await doors.code(RPCS[name], request_of(RPCS[name]), bearer(newest)) != "OK":
                await asyncio.sleep(0.01)


async def test_bad_credentials_are_refused_on_every_rpc(both: Doors) -> None:
    rows = list(table(both))
    await taken_up(both)
    codes: list[str] = []
    for batch in range(0, len(rows), AT_ONCE):
        asked = rows[batch : batch + AT_ONCE]
        codes += await asyncio.gather(*(both.code(rpc, request_of(rpc), given) for rpc, _, given, _ in asked))
    wrong = [
        f"{rpc.name}, {kind}: {code}"
        for (rpc, kind, _, wanted), code in zip(rows, codes, strict=True)
        if code != wanted
    ]
    kinds = len({kind for _, kind, _, _ in rows})
    print(f"\n{len(rows)} calls, {len(RPCS)} RPCs with {kinds} kinds of bad credentials: {len(wrong)} let in")  # noqa: T201 - the count
    assert wrong == []
    assert len(rows) == len(RPCS) * kinds
    assert len(rows) >= 850


async def test_good_credentials_are_let_in_on_every_rpc(both: Doors) -> None:
    """The same requests: what was refused above was refused for its credential."""
    exact = {scope: both.keys.add([scope]) for scope in Scope}
    await taken_up(both)
    wrong = []
    for rpc in RPCS.values():
        scope = scope_of(rpc.path)
        credentials = [
            both.operator,
            exact[scope],
            signed(scope=scope),
            signed(SECRET, "HS256", None, scope=f"{scope} openid"),
            signed(EC_KEY, "ES256", "ec", scope=scope, domains=["films", "shop"]),
            signed(ED_KEY, "EdDSA", "ed", scope=scope, domains=["*"]),
        ]
        for credential in credentials:
            code = await both.code(rpc, request_of(rpc), bearer(credential))
            if code not in ANSWERED.get(rpc.name, {"OK"}):
                wrong.append(f"{rpc.name}, {credential[:12]}…: {code}")
    assert wrong == []


async def test_a_refused_request_changes_nothing(both: Doors) -> None:
    """DeleteUser by a caller who may list: the person is still there."""
    like = request_of(RPCS["RecordFeedback"])
    await both.ask("RecordFeedback", like, both.operator)
    lists_only = both.keys.add([Scope.RECOMMEND, Scope.FEEDBACK])
    await taken_up(both)
    said = await both.refusal("DeleteUser", lists_only, domain="shop", user_id="ann")
    assert said == (PERMISSION_DENIED, "scope must be admin for DeleteUser, got feedback, recommend")
    exported = await both.ask(
        "ExportUser", RPCS["ExportUser"].request(domain="shop", user_id="ann"), both.operator
    )
    assert exported.events


async def test_no_refusal_echoes_its_credential(both: Doors) -> None:
    rpc = RPCS["Recommend"]
    for metadata in [*bad_tokens().values(), *bad_keys(both).values()]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rpc.ask(both.channels[rpc.area], request_of(rpc), metadata)
        told = f"{refused.value.details()} {refused.value.trailing_metadata()}"
        parts = [
            p for p in str(metadata[0][1]).removeprefix("Bearer ").replace("_", ".").split(".") if len(p) > 12
        ]
        assert [part for part in parts if part in told] == []


async def test_a_request_of_a_stranger_is_not_parsed(both: Doors) -> None:
    """Rubbish in place of a request: the stranger hears of the credential, a caller of the request."""
    rpc = RPCS["Recommend"]
    call = both.channels[rpc.area].unary_unary(rpc.path)
    for metadata, wanted in (((), UNAUTHENTICATED), (bearer(both.operator), "INVALID_ARGUMENT")):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\xff\xff\xff", metadata=metadata, timeout=10)
        assert refused.value.code().name == wanted


async def test_health_and_reflection_ask_for_no_credential(both: Doors) -> None:
    for channel in both.channels.values():
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = [a async for a in stub.ServerReflectionInfo(asked)]
        assert any("warmstart" in s.name for s in answers[0].list_services_response.service)


async def test_a_method_that_nobody_serves_is_refused(both: Doors) -> None:
    for channel in both.channels.values():
        for path in ("/warmstart.gateway.v1.UserService/Unheard", "/warmstart.other.v1.Other/Do"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await channel.unary_unary(path)(b"", metadata=bearer(both.operator), timeout=10)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
