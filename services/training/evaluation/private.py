"""What differential privacy costs: the arms of the comparison, and popularity as it can be told privately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from os import urandom

import numpy as np

from services.training.data import TrainingData
from services.training.evaluation.few_shot import ArmScores, Ranked
from services.training.evaluation.metrics import hr_at, in_parts, ndcg_at, top_items
from services.training.evaluation.protocol import Questions
from services.training.evaluation.served import Saved
from services.training.private.budget import Promise, scaled_to
from services.training.private.people import private_people
from services.training.private.releases import POPULARITY, release_popularity
from services.training.private.secret import SECRET_BYTES, Secret
from services.training.trends import Recent
from shared.artifacts import Mechanism
from shared.domain import FloatArray, UserContext

# As the issue of it asks; inf = the same training without noise.
EPSILONS = (math.inf, 10.0, 4.0, 1.0)
_PLACES = 10


def arm_name(epsilon: float) -> str:
    return f"ε = {'∞' if math.isinf(epsilon) else format(epsilon, 'g')}"


def rows_alone(epsilon: float) -> str:
    """The arm without training by gradients, whose releases have all of the privacy to spend."""
    return f"rows alone, {arm_name(epsilon)}"


def popularity_told(epsilon: float) -> str:
    """The arm of popularity, told with all of the privacy."""
    return f"popularity, {arm_name(epsilon)}"


def private_popularity(
    data: TrainingData, questions: Questions, epsilon: float, delta: float, times: int
) -> ArmScores:
    """The same list for everybody, by how often items are chosen as it is told privately; the mean of `times`
    tellings. data: with the held-out people."""
    people = private_people(data, delta)
    (mechanism,) = scaled_to(Promise(epsilon, delta), (Mechanism(POPULARITY, 1.0, 1.0),))
    lists: list[Ranked] = []
    for _ in range(times):
        told = release_popularity(people, mechanism, Secret(urandom(SECRET_BYTES)))
        parts = [
            top_items(np.broadcast_to(told.chosen, (len(part), data.num_items)), part, _PLACES)
            for part in in_parts(questions.masked, data.num_items)
        ]
        lists.append({0: np.concatenate(parts)})
    return ArmScores(
        np.mean([ndcg_at(found[0], questions.relevant, _PLACES) for found in lists], axis=0),
        np.mean([hr_at(found[0], questions.relevant, _PLACES) for found in lists], axis=0),
    )


@dataclass(frozen=True, slots=True)
class OwnPopularity:
    """A version's own word of how often items are chosen, the bias of `next`, as lists for everybody alike: a
    private version is judged by it, since popularity itself is not told."""

    saved: Saved

    def rows(self, item_ids: Sequence[str]) -> FloatArray:
        """[N]."""
        dims = self.saved.artifact.manifest.dims
        output = self.saved.rows(item_ids).output
        return np.asarray(output[:, dims.trend + dims.trends], np.float32)

    def scores(
        self, contexts: Sequence[UserContext], rows: FloatArray, *, task: str, recent: Recent | None = None
    ) -> FloatArray:
        """[B, N]; the same for all, whatever ranks lists."""
        return np.broadcast_to(rows, (len(contexts), len(rows)))
