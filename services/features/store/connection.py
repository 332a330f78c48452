"""The way to Valkey: pipelines, scripts, durability, and what its errors mean.

One `Store` serves a single server (`valkey://…`, `unix://…`) or a cluster. All commands of a call
travel in one round trip (one a node in a cluster). Scripts go by their hash; a server that has
lost its script cache (restart, failover) gets the text again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from valkey.asyncio import Valkey
from valkey.asyncio.cluster import ClusterNode, PipelineCommand, ValkeyCluster
from valkey.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
    ValkeyClusterException,
    ValkeyError,
)
from valkey.exceptions import ConnectionError as ValkeyConnectionError
from valkey.exceptions import TimeoutError as ValkeyTimeoutError

from services.features.store.address import StoreAddress, connected, safe_url, single
from services.features.store.scripts import Script
from shared.errors import Unavailable
from shared.telemetry.hiding import HIDDEN

# How long a follower waits for an entry before it asks again.
FOLLOW_WAIT_S = 1.0
Command = Sequence[bytes | str | int | float]

_AWAY = (
    ValkeyConnectionError,
    ValkeyTimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
    MovedError,
    AskError,
    TryAgainError,
    ClusterError,
    SlotNotCoveredError,
    ValkeyClusterException,
    OSError,
)
# Error words of a server that is there but cannot write or answer now.
_AWAY_WORDS = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "LOADING", "UNBLOCKED", "BUSY ")


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """`WAITAOF 1 replicas timeout` after each write: on this many replicas' disks. 0 = do not wait."""

    replicas: int = 0
    timeout_ms: int = 1000

    def commands(self) -> list[Command]:
        """Several short waits, then the long one.

        A replica is asked as the wait begins, and otherwise tells by itself once a second. Asked together
        with the write it has not synced yet, so one long wait would nearly always take that second.
        A wait for what is there already takes no time.
        """
        short = [ms for ms in (2, 5, 20, 100) if ms < self.timeout_ms]
        return [("WAITAOF", 1, self.replicas, ms) for ms in (*short, self.timeout_ms)]


class Store:
    """Runs commands. Raises Unavailable where the store is away; our own mistakes rise as they are."""

    def __init__(self, address: StoreAddress, acknowledgement: Acknowledgement = Acknowledgement()) -> None:
        self.address = address
        self._acknowledgement = acknowledgement
        self._client: Valkey | ValkeyCluster = connected(address)

    async def run(self, commands: Sequence[Command], *, write: bool = False) -> list[Any]:
        """Replies in order. `write`: acknowledged only once as durable as the level says."""
        return self._checked(await self._replies(commands, write), commands)

    async def one(self, *command: bytes | str | int | float, write: bool = False) -> Any:
        return (await self.run([command], write=write))[0]

    async def scripts(
        self, script: Script, calls: Sequence[tuple[Sequence[str], Command]], *, write: bool = True
    ) -> list[Any]:
        """The script once for each (keys, arguments), all in one round trip. Keys of a call share a slot."""
        commands = [("EVALSHA", script.sha, len(keys), *keys, *args) for keys, args in calls]
        replies = await self._replies(commands, write)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:  # the text runs it and fills the cache
            again = [("EVAL", script.text, *commands[place][2:]) for place in unknown]
            for place, reply in zip(unknown, await self._replies(again, write), strict=True):
                replies[place] = reply
        return self._checked(replies, commands)

    async def script(
        self, script: Script, keys: Sequence[str], args: Command = (), *, write: bool = True
    ) -> Any:
        return (await self.scripts(script, [(keys, args)], write=write))[0]

    async def on_each_primary(self, *command: str) -> dict[str, Any]:
        """Reply of each primary by its name: for configuration, never for keys."""
        try:
            if isinstance(self._client, ValkeyCluster):
                await self._client.initialize()
                primaries = self._client.get_primaries()
                return {
                    node.name: await self._client.execute_command(*command, target_nodes=node)
                    for node in primaries
                }
            return {self.address.url: await _execute(self._client, *command)}
        except _AWAY as error:
            raise self._away(error) from error

    async def on_each_server(self, *command: str) -> dict[str, Any]:
        """As `on_each_primary`, and of a cluster's replicas: each has files of its own."""
        if not isinstance(self._client, ValkeyCluster):
            return await self.on_each_primary(*command)
        try:
            await self._client.initialize()
            return {
                node.name: await self._client.execute_command(*command, target_nodes=node)
                for node in self._client.get_nodes()
            }
        except _AWAY as error:
            raise self._away(error) from error

    async def scanned(self, pattern: str, count: int) -> AsyncGenerator[list[bytes], None]:
        """Keys by a glob, some at a time, each at least once if it is there throughout; `count`: looked at in
        one call."""
        servers = list(await self.on_each_primary("PING"))
        for server in servers:
            cursor = b"0"
            while True:
                cursor, found = await self._scan(server, cursor, pattern, count)
                if found:
                    yield found
                if cursor == b"0":
                    break

    async def _scan(self, server: str, cursor: bytes, pattern: str, count: int) -> tuple[bytes, list[bytes]]:
        command = ("SCAN", cursor, "MATCH", pattern, "COUNT", count)
        try:
            if isinstance(self._client, ValkeyCluster):
                node = self._client.get_node(node_name=server)
                reply: Any = await node.execute_command(*command) if node else (b"0", [])
            else:
                reply = await _execute(self._client, *command)
        except _AWAY as error:
            raise self._away(error) from error
        return reply[0], reply[1]

    @asynccontextmanager
    async def following(self, stream: str) -> AsyncIterator[Following]:
        """A connection of its own that waits for new entries of one stream."""
        try:
            if isinstance(self._client, ValkeyCluster):
                await self._client.initialize()
                node = self._client.get_node_from_key(stream)
                if node is None:
                    raise ValkeyConnectionError(f"no node holds {_shown(stream)}")
                client = single(self.address, node=(node.host, int(node.port)), wait_s=FOLLOW_WAIT_S)
            else:
                client = single(self.address, wait_s=FOLLOW_WAIT_S)
        except _AWAY as error:
            raise self._away(error) from error
        try:
            yield Following(self, client, stream)
        finally:
            await client.aclose(close_connection_pool=True)

    async def close(self) -> None:
        if isinstance(self._client, ValkeyCluster):
            await self._client.aclose()
        else:
            await self._client.aclose(close_connection_pool=True)

    async def _replies(self, commands: Sequence[Command], write: bool) -> list[Any]:
        """Replies in order, error replies among them."""
        if not commands:
            return []
        try:
            if write and self._acknowledgement.replicas:
                return await self._run_acknowledged(commands)
            return await self._run(commands)
        except _AWAY as error:
            raise self._away(error) from error

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        if isinstance(self._client, ValkeyCluster):
            # A cancelled cluster pipeline would lose its connection, so it always runs to its end.
            return await asyncio.shield(asyncio.ensure_future(self._run_cluster(self._client, commands)))
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    @staticmethod
    async def _run_cluster(client: ValkeyCluster, commands: Sequence[Command]) -> list[Any]:
        pipeline = client.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def _run_acknowledged(self, commands: Sequence[Command]) -> list[Any]:
        """WAITAOF speaks of what its own connection has written, so it goes in the same pipeline."""
        waits = self._acknowledgement.commands()
        if isinstance(self._client, ValkeyCluster):
            return await asyncio.shield(
                asyncio.ensure_future(self._run_cluster_acknowledged(self._client, commands, waits))
            )
        replies = await self._run([*commands, *waits])
        self._check_acknowledged(replies[-1])
        return replies[: len(commands)]

    async def _run_cluster_acknowledged(
        self, client: ValkeyCluster, commands: Sequence[Command], waits: Sequence[Command]
    ) -> list[Any]:
        await client.initialize()
        nodes: dict[str, ClusterNode] = {}
        by_node: dict[str, list[PipelineCommand]] = {}
        for place, command in enumerate(commands):
            node = client.get_node_from_key(_first_key(command))
            if node is None:
                raise ValkeyConnectionError(f"no node holds {_shown(_first_key(command))}")
            nodes[node.name] = node
            by_node.setdefault(node.name, []).append(PipelineCommand(place, *command))
        waiting = {name: [PipelineCommand(-1, *wait) for wait in waits] for name in by_node}
        results = await asyncio.gather(
            *(nodes[name].execute_pipeline([*work, *waiting[name]]) for name, work in by_node.items()),
            return_exceptions=True,
        )
        replies: list[Any] = [None] * len(commands)
        moved = next((r for r in results if isinstance(r, BaseException)), None)
        for done in (sent for work in by_node.values() for sent in work):
            replies[done.position] = done.result
            if isinstance(done.result, (MovedError, AskError)):
                moved = done.result
        if moved is not None:
            await client.aclose()  # learns the slots anew at the next call
            raise moved
        for waited in waiting.values():
            self._check_acknowledged(waited[-1].result)
        return replies

    def _check_acknowledged(self, waited: Any) -> None:
        if isinstance(waited, Exception):
            raise self._away(waited)
        local, replicas = int(waited[0]), int(waited[1])
        wanted = self._acknowledgement.replicas
        if local < 1 or replicas < wanted:
            raise Unavailable(
                f"durability replicated: {replicas} of {wanted} replicas had the write on disk within "
                f"{self._acknowledgement.timeout_ms} ms (own disk: {'yes' if local else 'no'})"
            )

    def _checked(self, replies: list[Any], commands: Sequence[Command]) -> list[Any]:
        for reply, command in zip(replies, commands, strict=True):
            if isinstance(reply, _AWAY) or (
                isinstance(reply, ResponseError) and str(reply).startswith(_AWAY_WORDS)
            ):
                raise self._away(reply) from reply
            if isinstance(reply, ResponseError):
                raise _without_keys(reply, command) from None
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _away(self, error: Exception) -> Unavailable:
        return Unavailable(f"store at {safe_url(self.address.url)} is away: {error or type(error).__name__}")


class Following:
    """Waits for entries of one stream."""

    def __init__(self, store: Store, client: Valkey, stream: str) -> None:
        self._store, self._client, self._stream = store, client, stream

    async def after(self, entry_id: str, *, count: int) -> list[tuple[bytes, list[bytes]]]:
        """Entries after `entry_id`, or none after FOLLOW_WAIT_S seconds without one."""
        wait_ms = int(FOLLOW_WAIT_S * 1000)
        try:
            reply = await _execute(
                self._client, "XREAD", "COUNT", count, "BLOCK", wait_ms, "STREAMS", self._stream, entry_id
            )
        except (*_AWAY, ValkeyError) as error:
            raise self._store._away(error) from error
        if not reply:
            return []
        entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
        return [(entry[0], entry[1]) for entry in entries]


async def _execute(client: Valkey, *command: bytes | str | int | float) -> Any:
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


def _first_key(command: Command) -> str:
    return _keys(command)[0]


def _keys(command: Command) -> list[str]:
    """Of a script all, of another command the first."""
    keys = command[3 : 3 + int(command[2])] if command[0] in ("EVALSHA", "EVAL") else command[1:2]
    return [key.decode() if isinstance(key, bytes) else str(key) for key in keys]


def _shown(key: str) -> str:
    """A key without the person that it may name: `{domain:s007}:h:[hidden]`."""
    tag, _, rest = key.partition("}:")
    kind, named, _ = rest.partition(":")
    return f"{tag}}}:{kind}:{HIDDEN}" if named else key


def _without_keys(error: ResponseError, command: Command) -> ResponseError:
    """What a script says of a key is told to all callers who shared its round trip."""
    text = str(error)
    for key in sorted(_keys(command), key=len, reverse=True):  # one may begin with another
        text = text.replace(key, _shown(key))
    return type(error)(text)
