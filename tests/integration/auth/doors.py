"""Both public doors with auth on, real ones: gateway over features and Valkey, and the training service.

Adaptation and scoring are away: lists come from the ladder's last rung, which is enough to tell who gets one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from warmstart.common.v1 import event_pb2, item_pb2, user_pb2
from warmstart.training.v1 import training_service_pb2 as training_pb

from services.features.app import build as build_features
from services.features.settings import FeatureSettings
from services.gateway.app import build as build_gateway
from services.gateway.settings import GatewaySettings
from services.training.service.app import build as build_training
from services.training.service.settings import TrainingServiceSettings
from shared.auth.callers import ALL_DOMAINS, Quota, Scope
from shared.auth.key_file import change_keys
from shared.auth.keys import StaticKey, new_key
from shared.rpc.server import running
from tests.doors import GATEWAY, RPCS, TRAINING, Rpc
from tests.ports import free_port
from tests.training_program import program
from tests.unit.shared.auth.signing import AUDIENCE, ISSUER, SECRET, jwks

DOMAINS = ("shop", "films")
NOW = datetime.now(UTC)
EVERY_SCOPE = tuple(Scope)
MOVIES = training_pb.TrainingOptions(
    dataset=training_pb.Dataset(name="movielens-100k"), preset="tiny", seed=3
)


def bearer(credential: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {credential}"),)


@dataclass
class KeyFile:
    """The file of keys that both doors follow."""

    path: Path

    def add(
        self,
        scopes: Iterable[Scope] = EVERY_SCOPE,
        domains: Iterable[str] = ("shop",),
        *,
        age: timedelta | None = None,
        quota: Quota | None = None,
    ) -> str:
        """A new key, as its owner has it."""
        expires = None if age is None else NOW + age
        kept, text = new_key(scopes=scopes, domains=domains, created=NOW, expires=expires, quota=quota)
        change_keys(self.path, lambda keys: (*keys, kept))
        return text

    def put(self, keys: Sequence[StaticKey]) -> None:
        change_keys(self.path, lambda _: keys)


@dataclass
class Doors:
    """Running doors. operator: a key of all scopes and all domains; public_keys: the file of tokens' keys."""

    directory: Path
    keys: KeyFile
    operator: str
    public_keys: Path
    targets: dict[str, str] = field(default_factory=dict)
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    metrics_ports: dict[str, int] = field(default_factory=dict)

    async def ask(self, rpc: Rpc | str, request: Any, credential: str | None) -> Any:
        found = RPCS[rpc] if isinstance(rpc, str) else rpc
        metadata = () if credential is None else bearer(credential)
        return await found.ask(self.channels[found.area], request, metadata)

    async def code(self, rpc: Rpc, request: Any, metadata: Sequence[tuple[str, str | bytes]]) -> str:
        """The status's name."""
        try:
            await rpc.ask(self.channels[rpc.area], request, metadata)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return "OK"

    async def refusal(self, rpc: str, credential: str, **fields: Any) -> tuple[str, str]:
        """Status and text of a call that is refused."""
        found = RPCS[rpc]
        try:
            await self.ask(found, found.request(**fields), credential)
        except grpc.aio.AioRpcError as error:
            return error.code().name, error.details() or ""
        raise AssertionError(f"{rpc} was not refused")


def mounted(directory: Path, name: str) -> Path:
    """A file as Kubernetes mounts secrets: `name` → ..data/`name`, and ..data → a version's directory."""
    (directory / "first").mkdir(parents=True)
    (directory / "..data").symlink_to("first")
    (directory / name).symlink_to(f"..data/{name}")
    return directory / name


@asynccontextmanager
async def doors(directory: Path, store_url: str, **changes: Any) -> AsyncIterator[Doors]:
    """Started, with a catalogue of three items in each domain. changes: of both doors' settings."""
    keys = KeyFile(mounted(directory / "secrets", "keys.json"))
    public = directory / "jwks.json"
    public.write_bytes(jwks())
    opened = Doors(directory, keys, keys.add(domains=(ALL_DOMAINS,)), public)
    common = {"domains": DOMAINS, "grace_s": 0.2, "drain_s": 0.0}
    door = {
        **common, "auth": "keys,jwt", "auth_keys": str(keys.path), "auth_jwt_keys": str(public),
        "auth_jwt_secret": SECRET, "auth_jwt_audience": AUDIENCE, "auth_jwt_issuer": ISSUER, **changes,
    }  # fmt: skip
    opened.metrics_ports = {GATEWAY: free_port(), TRAINING: free_port()}
    async with AsyncExitStack() as stack:

        async def start(component: Any, settings: Any, name: str) -> str:
            return await stack.enter_async_context(running(component, settings, name=name))

        inner = FeatureSettings(port=0, store_url=store_url, **common)
        features = await start(build_features(inner), inner, "features")
        gateway = GatewaySettings(
            port=0,
            features_target=features,
            adaptation_target=f"127.0.0.1:{free_port()}",
            scoring_target=f"127.0.0.1:{free_port()}",
            token_secret="a secret of the tests",
            metrics_port=opened.metrics_ports[GATEWAY],
            trending_refresh_s=0.1,
            reflection=True,
            **door,
        )
        opened.targets[GATEWAY] = await start(build_gateway(gateway), gateway, "gateway")
        training = TrainingServiceSettings(
            port=0,
            registry=str(directory / "registry"),
            runs=str(directory / "runs"),
            metrics_port=opened.metrics_ports[TRAINING],
            reflection=True,
            **door,
        )
        component = build_training(training, program=program("succeed"))
        opened.targets[TRAINING] = await start(component, training, "training")
        for area, target in opened.targets.items():
            channel = grpc.aio.insecure_channel(target)
            opened.channels[area] = await stack.enter_async_context(channel)
        for domain in DOMAINS:
            items = [item_pb2.Item(item_id=f"{domain}-{n}", title=f"{domain} {n}") for n in range(3)]
            request = RPCS["UpsertItems"].request(domain=domain, items=items)
            await opened.ask("UpsertItems", request, opened.operator)
        yield opened


def request_of(rpc: Rpc, domain: str = "shop") -> Any:
    """A good request of each RPC; a new one is a row here."""
    like = event_pb2.Event(user_id="ann", item_id=f"{domain}-1", action=event_pb2.ACTION_LIKE)
    fields: dict[str, dict[str, Any]] = {
        "Recommend": {"user_id": "ann"},
        "RecordFeedback": {"events": [like]},
        "ListSimilarItems": {"item_ids": [f"{domain}-1"]},
        "UpsertItems": {"items": [item_pb2.Item(item_id=f"{domain}-1", title="A title")]},
        "GetItems": {"item_ids": [f"{domain}-1"]},
        "ListItems": {},
        "DeleteItems": {"item_ids": ["nothing"]},
        "UpsertUsers": {"users": [user_pb2.User(user_id="ann")]},
        "UpsertRelations": {
            "relations": [user_pb2.Relation(user_id="ann", other_user_id="bob", kind="friend", weight=1.0)]
        },
        "MergeUsers": {"from_user_id": "a visitor", "into_user_id": "ann"},
        "ExportUser": {"user_id": "ann"},
        "DeleteUser": {"user_id": "cem"},
        "StartTraining": {"options": MOVIES},
        "WatchTraining": {"training_id": "20260101T000000.000Z"},
        "ListTrainings": {},
        "StopTraining": {"training_id": "20260101T000000.000Z"},
        "ListModels": {},
        "PromoteModel": {"version": "20260101T000000.000Z"},
        "RollBackModel": {},
    }
    return rpc.request(domain=domain, **fields[rpc.name])
