"""The health service (grpc.health.v1), of which one watcher cannot hold up the others.

grpcio's own writes to a watcher while it holds the lock that every other watcher and each change of status
needs: one who does not read would keep all new callers out, and the server from stopping.

Who watches need not say who they are, and channels watch by themselves. One too many is told UNIMPLEMENTED,
at which channels go on without (gRPC's proposal A17); after any other status they would have no server.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Status: TypeAlias = int  # of health_pb2.HealthCheckResponse
# A connection has a watcher for each name that its channels watch.
_MOST = 4096
_MOST_A_CONNECTION = 16


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """most: watchers at once; most_a_connection: of one connection. More are told UNIMPLEMENTED."""

    def __init__(self, most: int = _MOST, most_a_connection: int = _MOST_A_CONNECTION) -> None:
        self._most, self._most_a_connection = most, most_a_connection
        self._statuses: dict[str, Status] = {"": health_pb2.HealthCheckResponse.NOT_SERVING}
        self._changed = asyncio.Event()
        self._watchers: Counter[str] = Counter()  # by connection
        self._stopping = False
        self._ended = False

    def set(self, service: str, status: Status) -> None:
        """Told to all watchers; no more once the server stops."""
        if not self._stopping:
            self._statuses[service] = status
            self._tell()

    def stop(self) -> None:
        """NOT_SERVING, for good."""
        self._stopping = True
        self._statuses = dict.fromkeys(self._statuses, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._tell()

    def end(self) -> None:
        """Calls of watchers end, once they are told what they have not been told yet: a stop waits for calls.

        Not before the connections are about to end too: channels would watch again at once.
        """
        self._ended = True
        self._tell()

    async def Check(self, request: Any, context: Any) -> Any:
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service here has that name")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> None:
        """Each status from now on; of several in a row perhaps only the last."""
        connection = context.peer()
        if self._watchers.total() >= self._most or self._watchers[connection] >= self._most_a_connection:
            context.set_code(grpc.StatusCode.UNIMPLEMENTED)
            context.set_details(
                f"watchers must be at most {self._most}, and {self._most_a_connection} of a connection"
            )
            return
        self._watchers[connection] += 1
        told: Status | None = None
        try:
            while True:
                changed = self._changed
                status = self._statuses.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
                if status != told:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    told = status
                if self._ended:
                    return
                await changed.wait()
        finally:
            self._watchers[connection] -= 1
            if not self._watchers[connection]:
                del self._watchers[connection]

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
