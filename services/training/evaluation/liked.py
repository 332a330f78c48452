"""What people like next, after likes and dislikes: whether what they said of items, and not only which they
chose, makes lists better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from services.training.data import TrainingData
from services.training.evaluation.few_shot import BLIND, OFF, ON, FewShot, Ranker, few_shot
from services.training.evaluation.protocol import Questions
from services.training.evaluation.spread import Progress, Spread, one_by_one
from services.training.trends import Recent
from services.training.windows import LIKED_LABEL
from shared.context.profiles import content_profile
from shared.context.standing import standing_labels
from shared.domain import Action, FloatArray, UserContext
from shared.modeling.config import LIKE_TASK

# Adaptation off, with all events said as views.
HIDDEN = "labels hidden"
_SHOTS = (5, 10, 20)


def liked(
    data: TrainingData,
    questions: Questions,
    models: Mapping[str, Sequence[Ranker]],
    *,
    spread: Spread = one_by_one,
    progress: Progress = lambda done, total: None,
) -> FewShot:
    """Lists by task `like`, asked for the liked events of the query. models: arms ON and OFF, and BLIND where
    such models were trained."""
    asked = liked_questions(data, questions)
    numbers = {item_id: place for place, item_id in enumerate(data.item_ids)}
    arms: dict[str, Sequence[Ranker]] = {OFF: models[OFF], ON: models[ON]}
    arms[HIDDEN] = [Untold(ranker, numbers, data.content) for ranker in models[OFF]]
    if models.get(BLIND):
        arms[BLIND] = [Untold(ranker, numbers, data.content) for ranker in models[BLIND]]
    return few_shot(data, asked, arms, task=LIKE_TASK, spread=spread, progress=progress)


def liked_questions(data: TrainingData, questions: Questions) -> Questions:
    """The people whose support holds a like and a dislike at each number of shots, the two largest that the
    protocol has of `_SHOTS`; and of their query what they liked."""
    shots = tuple(k for k in _SHOTS if k <= questions.protocol.first_events)[-2:]
    kept, relevant = [], []
    for place, middle in enumerate(questions.middles if shots else ()):
        support = data.labels[middle - shots[0] : middle]
        query = slice(middle, middle + questions.protocol.query_events)
        wanted = data.items[query][data.labels[query] >= LIKED_LABEL]
        found = np.setdiff1d(wanted, questions.masked[place])
        if (support >= LIKED_LABEL).any() and (support < 0.0).any() and len(found):
            kept.append(place)
            relevant.append(found)
    places = np.array(kept, np.int64)
    return Questions(
        replace(questions.protocol, numbers=shots),
        questions.users[places],
        questions.middles[places],
        [questions.masked[place] for place in kept],
        relevant,
        questions.moments[places],
    )


@dataclass(frozen=True, slots=True, eq=False)
class Untold:
    """A model that is told which items a person chose and not what they said of them.

    numbers: of items by id; content: the items', [N, content_dim].
    """

    ranker: Ranker
    numbers: Mapping[str, int]
    content: FloatArray

    def rows(self, item_ids: Sequence[str]) -> Any:
        return self.ranker.rows(item_ids)

    def scores(
        self, contexts: Sequence[UserContext], rows: Any, *, task: str, recent: Recent | None = None
    ) -> FloatArray:
        return self.ranker.scores([self._hidden(c) for c in contexts], rows, task=task, recent=recent)

    def _hidden(self, context: UserContext) -> UserContext:
        past = context.history
        actions = np.full(len(past), int(Action.VIEW), np.int32)
        values = np.zeros(len(past), np.float32)
        items = np.array([self.numbers[item_id] for item_id in past.item_ids], np.int32)
        labels = standing_labels(items.tolist(), actions, values)
        moment_ms = context.request.time_ms
        profile = content_profile(self.content[items], labels, past.time_ms, moment_ms)
        history = replace(past, actions=actions, values=values)
        return replace(context, history=history, content_profile=profile)
