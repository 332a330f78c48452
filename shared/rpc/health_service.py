"""The health service (grpc.health.v1), of which one watcher cannot hold up the others.

grpcio's own writes to a watcher while it holds the lock that every other watcher and each change of status
needs: one who does not read would keep all new callers out, and the server from stopping.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

Status: TypeAlias = int  # of health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """most_watchers: at once; more are refused RESOURCE_EXHAUSTED."""

    def __init__(self, most_watchers: int) -> None:
        self._most = most_watchers
        self._statuses: dict[str, Status] = {"": health_pb2.HealthCheckResponse.NOT_SERVING}
        self._changed = asyncio.Event()
        self._watchers = 0
        self._stopping = False

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

    async def Check(self, request: Any, context: Any) -> Any:
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no service here has that name")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> None:
        """Each status from now on; of several in a row perhaps only the last."""
        if self._watchers >= self._most:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"watchers must be at most {self._most}, got one more"
            )
        self._watchers += 1
        told: Status | None = None
        try:
            while True:
                changed = self._changed
                status = self._statuses.get(request.service, health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
                if status != told:
                    await context.write(health_pb2.HealthCheckResponse(status=status))
                    told = status
                await changed.wait()
        finally:
            self._watchers -= 1

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
