"""Which model to ask for: the newest one that adaptation and scoring, with all their replicas, hold."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.gateway.ports import Adaptation, Scoring
from shared.domain import HeldModel, TaskInfo
from shared.errors import WarmstartError
from shared.telemetry.logs import logger

_LOG = logger("gateway.models")
# Each look reaches one replica, in turn: what all of the last few report, all hold.
_REPORTS = 3
ADAPTATION, SCORING = _SERVICES = ("adaptation", "scoring")

Report = tuple[HeldModel, ...]


@dataclass(frozen=True, slots=True)
class ServingModel:
    """A version to ask for, with its tasks."""

    version: str
    tasks: tuple[TaskInfo, ...]


class ServingModels:
    """Looks again and again; `choose` answers from what was last seen."""

    def __init__(
        self, adaptation: Adaptation, scoring: Scoring, domains: Sequence[str], *, interval_s: float
    ) -> None:
        self._ports: tuple[Adaptation | Scoring, ...] = (adaptation, scoring)
        self._domains = tuple(domains)
        self._interval_s = interval_s
        self._reports: dict[str, tuple[deque[Report], deque[Report]]] = {
            domain: (deque(maxlen=_REPORTS), deque(maxlen=_REPORTS)) for domain in domains
        }
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def choose(self, domain: str, among: Sequence[str] | None = None) -> ServingModel | None:
        """The first version in adaptation's order (the champion first) that scoring holds too.

        Of all recent reports if any is in all of them, else of the last ones. `among`: only these.
        A service never heard of, or away, has no say. None where nothing is known.
        """
        adaptation, scoring = self._reports[domain]
        leading = adaptation[-1] if adaptation else scoring[-1] if scoring else ()
        wanted = [m for m in leading if among is None or m.ref.version in among]
        for reports in ([*adaptation, *scoring], [r[-1] for r in (adaptation, scoring) if r]):
            held = [{m.ref.version for m in report} for report in reports]
            for model in wanted:
                if all(model.ref.version in versions for versions in held):
                    return ServingModel(model.ref.version, model.tasks)
        return None

    def none_held(self, domain: str, by: str) -> bool:
        """Whether a service says, replica after replica, that it has no model of the domain yet: asking it
        for more would only be refused, again and again. by: ADAPTATION or SCORING."""
        reports = self._reports[domain][_SERVICES.index(by)]
        return bool(reports) and not any(reports)

    def tasks(self, domain: str, version: str) -> tuple[TaskInfo, ...] | None:
        """Tasks of a version that either service has reported lately."""
        for reports in self._reports[domain]:
            for report in reversed(reports):
                for model in report:
                    if model.ref.version == version:
                        return model.tasks
        return None

    @property
    def never_heard(self) -> list[str]:
        """Of adaptation and scoring, those that have not answered for any domain yet."""
        return [
            name
            for at, name in enumerate(_SERVICES)
            if not any(reports[at] for reports in self._reports.values())
        ]

    async def look(self) -> None:
        """Asks both services about every domain, once."""
        await asyncio.gather(
            *(self._ask(d, port.serving, at) for d in self._domains for at, port in enumerate(self._ports))
        )

    async def _ask(
        self, domain: str, serving: Callable[[str], Awaitable[Sequence[HeldModel]]], at: int
    ) -> None:
        try:
            report = tuple(await serving(domain))
        except WarmstartError:
            # Away: the breaker has noted it, and what it held last is the best guess for its return.
            return
        reports = self._reports[domain][at]
        if not reports or [m.ref for m in reports[-1]] != [m.ref for m in report]:
            _LOG.info(
                "models held",
                domain=domain,
                by=_SERVICES[at],
                versions=[m.ref.version for m in report],
            )
        reports.append(report)

    async def _watch(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                _LOG.exception("looking at models failed")  # a bug must not end the looking
            await asyncio.sleep(self._interval_s)
