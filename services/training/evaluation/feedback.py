"""What one reaction does to the items around it, measured on people never trained on.

Each person, after their first events, likes, dislikes or rates one of the items at the top of their list. The
ranks of its nearest items are compared before and after; nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.training.asof import social_profiles
from services.training.data import TrainingData
from services.training.evaluation.metrics import (
    Float64Array,
    Interval,
    paired_bootstrap,
    ranks_of,
    top_items,
)
from services.training.evaluation.protocol import Past, Questions, context_of
from services.training.evaluation.served import ServedArtifact
from services.training.trends import Recent
from shared.context.labels import signed_labels
from shared.domain import Action, FloatArray, IntArray
from shared.vectors import unit_rows

NEAREST = 20
_TOP = 10
SHOTS_BEFORE = 5
# Enough for narrow intervals; each needs two whole lists in memory.
FEEDBACK_PEOPLE = 1000


@dataclass(frozen=True, slots=True)
class Reaction:
    """value: the rating, 0 where the action has none."""

    action: Action
    value: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.action.name.lower()} {self.value:g}" if self.value else self.action.name.lower()

    @property
    def label(self) -> float:
        """Signed: a negative one shall send items down."""
        return float(signed_labels(np.array([self.action], np.int32), np.array([self.value], np.float32))[0])


LIKE, DISLIKE = Reaction(Action.LIKE), Reaction(Action.DISLIKE)
REACTIONS = (DISLIKE, LIKE, *(Reaction(Action.RATING, value) for value in (1.0, 2.0, 5.0)))


@dataclass(frozen=True, slots=True)
class Moved:
    """Mean rank (1 = first) of the nearest items before and after one event, over people.

    change: mean of after − before with its paired 95% interval; share_as_meant: share of people for
    whom the ranks moved the way the event means (down for a dislike or a low rating, up for a like).
    """

    reaction: str
    people: int
    before: float
    after: float
    change: Interval
    share_as_meant: float


def evaluate_feedback(
    data: TrainingData,
    questions: Questions,
    served: ServedArtifact,
    reactions: Sequence[Reaction],
    *,
    task: str,
) -> list[Moved]:
    """What each reaction does alone. Nearest: by cosine of output rows without biases, as in `similar`."""
    shots = min(SHOTS_BEFORE, questions.protocol.first_events)
    ends = data.offsets[questions.users] + shots
    pasts = [Past.of(data, end - shots, end) for end in ends]
    moments = np.array([p.time_ms[-1] for p in pasts], np.int64)
    social = social_profiles(data, questions.users, moments)
    rows, recent = served.rows(data.item_ids), Recent.of(data)
    near = unit_rows(np.nan_to_num(rows.output[:, : served.artifact.manifest.dims.taste]))

    def scored(histories: list[Past]) -> FloatArray:
        people = zip(questions.users, histories, social, moments, strict=True)
        contexts = [context_of(data, int(u), p, s, int(m)) for u, p, s, m in people]
        return served.scores(contexts, rows, task=task, recent=recent)

    before = scored(pasts)
    targets = _targets(data, before, [p.items for p in pasts])

    def moved(reaction: Reaction) -> Moved:
        after = scored(
            [
                p.then(int(t), reaction.action, int(m), reaction.value)
                for p, t, m in zip(pasts, targets, moments, strict=True)
            ]
        )
        ranks = [
            _near_ranks(one, other, near, int(target), past.items)
            for one, other, target, past in zip(before, after, targets, pasts, strict=True)
        ]
        return _moved(reaction, np.array(ranks, np.float64).reshape(-1, 2))

    return [moved(reaction) for reaction in reactions]


def _targets(data: TrainingData, scores: FloatArray, seen: list[IntArray]) -> IntArray:
    """One of each person's first ten items, a different place from person to person. [B] int32."""
    lists = top_items(scores, seen, _TOP)
    places = np.arange(len(lists)) % _TOP
    return lists[np.arange(len(lists)), places]


def _near_ranks(
    before: FloatArray, after: FloatArray, near: FloatArray, target: int, seen: IntArray
) -> tuple[float, float]:
    """Mean rank of the target's nearest items in both lists; the target and seen items are in neither."""
    similar = near @ near[target]
    hidden = np.append(seen, target)
    similar[hidden] = -np.inf
    nearest = np.argsort(-similar, kind="stable")[:NEAREST].astype(np.int32)
    means = []
    for scores in (before, after):
        shown = np.nan_to_num(scores, nan=-np.inf)
        shown[hidden] = -np.inf
        means.append(float(ranks_of(shown, nearest).mean()))
    return means[0], means[1]


def _moved(reaction: Reaction, ranks: Float64Array) -> Moved:
    """ranks: [people, 2], before and after."""
    change = ranks[:, 1] - ranks[:, 0]
    meant = change > 0 if reaction.label < 0.0 else change < 0
    some = len(ranks) > 0
    return Moved(
        reaction=reaction.name,
        people=len(ranks),
        before=float(ranks[:, 0].mean()) if some else float("nan"),
        after=float(ranks[:, 1].mean()) if some else float("nan"),
        change=paired_bootstrap(change),
        share_as_meant=float(meant.mean()) if some else float("nan"),
    )
