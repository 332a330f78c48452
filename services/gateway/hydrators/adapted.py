from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from services.gateway.draft import Adapted, Draft, Rung
from services.gateway.models import ADAPTATION, ServingModels
from services.gateway.ports import Adaptation
from shared.domain import FloatArray, TaskInfo
from shared.errors import ModelNotHeld, NoModel


class AdaptedHydrator:
    """The ladder's first rung: queries adapted to the person by the version that all hold.

    Skips itself where features are away and the request brings no events: there is nothing to adapt on.
    """

    name = "adaptation"

    def __init__(self, adaptation: Adaptation, models: ServingModels) -> None:
        self._adaptation = adaptation
        self._models = models

    async def hydrate(self, draft: Draft) -> Draft:
        if not draft.person_known and not draft.query.events:
            return draft
        if self._models.none_held(draft.domain, ADAPTATION):
            raise NoModel(f"no model of domain {draft.domain!r} is held yet")
        chosen = self._models.choose(draft.domain)
        try:
            return await self._adapt(draft, chosen.version if chosen else "")
        except ModelNotHeld as error:
            return await self.again(draft, error.held)

    async def again(self, draft: Draft, held: Sequence[str]) -> Draft:
        """Adapts once more, by a version that is held where the last one was not."""
        await self._models.look()
        chosen = self._models.choose(draft.domain, held) if held else self._models.choose(draft.domain)
        return await self._adapt(draft, chosen.version if chosen else next(iter(held), ""))

    async def _adapt(self, draft: Draft, version: str) -> Draft:
        user = await self._adaptation.adapt(
            draft.domain, draft.person.context, version=version, disabled=draft.query.disable_adaptation
        )
        tasks = await self._tasks(draft.domain, user.model.version)
        by_name = {task.name: task for task in tasks}
        ordered = tuple(by_name.get(name, TaskInfo(name, default_weight=0.0)) for name in user.tasks)
        taste = Adapted(user, ordered, mix(ordered, draft.query.task_weights))
        return replace(draft, taste=taste, rung=Rung.ADAPTED, model=user.model)

    async def _tasks(self, domain: str, version: str) -> tuple[TaskInfo, ...]:
        tasks = self._models.tasks(domain, version)
        if tasks is None:
            await self._models.look()
            tasks = self._models.tasks(domain, version)
        if tasks is None:
            raise NoModel(f"the tasks of model {version!r} of domain {domain!r} are not known")
        return tasks


def mix(tasks: Sequence[TaskInfo], asked: Mapping[str, float]) -> FloatArray:
    """Weights of the tasks: those asked for (others 0), else the model's defaults. [num_tasks] float32."""
    if asked:
        return np.array([asked.get(task.name, 0.0) for task in tasks], np.float32)
    return np.array([task.default_weight for task in tasks], np.float32)
