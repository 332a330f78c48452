"""Impressions, logged after the answer: a bounded queue, calls in batches, tried again until they succeed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from prometheus_client import Counter
from prometheus_client.registry import Collector

from services.gateway.forgettings import Forgettings
from services.gateway.ports import Features
from shared.domain import Event
from shared.errors import InvalidInput, WarmstartError
from shared.telemetry.logs import logger

_LOG = logger("gateway.impressions")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
# Erased or merged lately: lists of theirs that were begun before are answered within seconds.
_FORGOTTEN_PEOPLE = 10_000


class ImpressionLog:
    """`offer` never waits. Event ids come from list and position, so trying again logs nothing twice."""

    def __init__(
        self, features: Features, *, queue: int, batch: int, linger_s: float, flush_timeout_s: float
    ) -> None:
        self._features = features
        self._limit = queue
        self._batch = batch
        self._linger_s = linger_s
        self._flush_timeout_s = flush_timeout_s
        self._waiting: deque[tuple[str, Event]] = deque()
        self._forgotten = Forgettings(_FORGOTTEN_PEOPLE)
        self._arrived = asyncio.Event()
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.logged = Counter("warmstart_gateway_impressions_logged", "Impressions stored.", registry=None)
        self.dropped = Counter(
            "warmstart_gateway_impressions_dropped", "Impressions lost.", ["why"], registry=None
        )

    @property
    def collectors(self) -> Sequence[Collector]:
        return (self.logged, self.dropped)

    def __len__(self) -> int:
        return len(self._waiting)

    def start(self) -> None:
        self._task = asyncio.create_task(self._work())

    @property
    def moment(self) -> int:
        """For `offer`: as the list is begun."""
        return self._forgotten.moment

    def offer(self, domain: str, events: Sequence[Event], *, since: int) -> None:
        """Queues impressions; those for which there is no room are dropped and counted.

        since: `moment` as the list was begun; of who was forgotten after it, none is queued.
        """
        if since != self._forgotten.moment:
            events = [e for e in events if not self._forgotten.since(since, domain, e.user_id)]
        room = max(0, self._limit - len(self._waiting))
        self._waiting.extend((domain, event) for event in events[:room])
        if room < len(events):
            self._drop("queue full", len(events) - room)
        self._arrived.set()

    async def forget(self, domain: str, user_id: str) -> None:
        """Takes out what waits of a person; returns once nothing of theirs is under way either. Lists that
        are being made log nothing any more."""
        self._forgotten.note(domain, user_id)
        self._waiting = deque(w for w in self._waiting if w[0] != domain or w[1].user_id != user_id)
        async with self._sending:
            pass

    async def stop(self) -> None:
        """Logs what waits, within `flush_timeout_s`; the rest is dropped and counted."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(self._flush_timeout_s):
                while self._waiting:
                    await self._send_until_done()
        except TimeoutError:
            self._drop("not flushed at the stop", len(self._waiting))
            self._waiting.clear()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            # More will come: one call and one disk write for many lists, away from the next request.
            await asyncio.sleep(self._linger_s)
            self._arrived.clear()
            while self._waiting:
                await self._send_until_done()

    async def _send_until_done(self) -> None:
        """Sends the oldest batch, however long features are away. It stays queued until it is stored."""
        pause_s = _FIRST_PAUSE_S
        while self._waiting:
            try:
                async with self._sending:
                    if self._waiting:  # `forget` may have taken all of it out meanwhile
                        await self._send_once()
                return
            except InvalidInput as error:
                _LOG.error("impressions refused", error=str(error))
                return
            except WarmstartError as error:
                _LOG.debug("impressions not logged yet", waiting=len(self._waiting), error=str(error))
            except Exception:
                _LOG.exception("logging impressions failed")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _send_once(self) -> None:
        """One call with the oldest impressions of one domain."""
        domain = self._waiting[0][0]
        batch: list[tuple[str, Event]] = []
        for waiting in self._waiting:
            if waiting[0] != domain or len(batch) == self._batch:
                break
            batch.append(waiting)
        try:
            refusals = await self._features.record(domain, [event for _, event in batch])
        except InvalidInput:
            self._take(batch)
            self._drop("refused", len(batch))
            raise
        self._take(batch)
        self.logged.inc(len(batch) - len(refusals))
        if refusals:
            self._drop("refused", len(refusals))
            _LOG.error("impressions refused", count=len(refusals), reason=refusals[0].reason)

    def _take(self, batch: list[tuple[str, Event]]) -> None:
        """Removes a batch from the head; `forget` may have taken some of it out meanwhile."""
        for sent in batch:
            if self._waiting and self._waiting[0] is sent:
                self._waiting.popleft()

    def _drop(self, why: str, count: int) -> None:
        self.dropped.labels(why).inc(count)
        _LOG.warning("impressions dropped", why=why, count=count)
