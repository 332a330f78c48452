"""Raw scores of people by weights of their own, and what validation people say of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from services.training.body import Body
from services.training.data import TrainingData
from services.training.episodes import (
    PROTOCOL_EVENTS_BEFORE,
    PROTOCOL_QUERY,
    episode_inputs,
    events_so_far,
    excluded,
    protocol_episodes,
    query_sets,
)
from services.training.validate import ndcg_at_10
from services.training.windows import Batch, Cuts
from shared.adapters.body import BodyAdapter, Pace
from shared.domain import FloatArray, IntArray
from shared.modeling.config import CHOICES, NEXT_TASK

Tensor = Any
# Each person costs a training of their own.
PEOPLE_LOOKED_AT = 100
_PEOPLE_AT_ONCE = 64


class OwnScores:
    """Adapts the body to each person of a batch and scores the whole catalogue. Compiled once a length.

    People are taken one after another: their weights differ from the first step on, so that there is no
    product of matrices to share.
    """

    def __init__(self, body: Body, adapter: BodyAdapter) -> None:
        self.body = body
        table = body.catalogue()

        @tf.function(autograph=False, reduce_retracing=True)
        def scores(people: Mapping[str, Tensor], weights: Tensor, pace: Pace) -> Tensor:
            def of(person: Mapping[str, Tensor]) -> Tensor:
                one = {name: column[None] for name, column in person.items()}
                own = adapter.adapt(lambda at: body.support_loss(at, one, table), weights, pace)
                return body.scores(own, one, table)

            return tf.map_fn(of, people, fn_output_signature=tf.float32)

        self._scores = scores

    def __call__(self, people: Batch, weights: Tensor, pace: Pace) -> FloatArray:
        """people: model inputs with `items` in place of rows. [B, T, N] float32."""
        parts = [
            self._scores(
                {n: tf.constant(c[at : at + _PEOPLE_AT_ONCE]) for n, c in people.items()}, weights, pace
            )
            for at in range(0, len(people["mask"]), _PEOPLE_AT_ONCE)
        ]
        found: FloatArray = np.concatenate([part.numpy() for part in parts])
        return found

    def of_episodes(self, data: TrainingData, weights: Tensor, pace: Pace) -> Callable[[Cuts], FloatArray]:
        """The same of episodes, as of each query's beginning."""

        def scores(cuts: Cuts) -> FloatArray:
            length = max(PROTOCOL_EVENTS_BEFORE, int(cuts.counts.max()))
            return self(episode_inputs(data, cuts, length), weights, pace)

        return scores


def ndcg_of_next(
    scores: Callable[[Cuts], FloatArray], data: TrainingData, users: IntArray, shots: Sequence[int]
) -> float:
    """NDCG@10 of task `next` by the evaluation's protocol: the mean over people and numbers of shots, 0 where
    no person has enough events."""
    found = []
    for number in shots:
        cuts = protocol_episodes(data, users[:PEOPLE_LOOKED_AT], number)
        if not len(cuts):
            continue
        raw = scores(cuts)[:, CHOICES.index(NEXT_TASK)]
        raw[excluded(events_so_far(data, cuts), data.num_items) > 0] = -np.inf
        targets, there, _ = query_sets(data, cuts, PROTOCOL_QUERY)
        found.append(ndcg_at_10(raw, targets, there))
    return float(np.concatenate(found).mean()) if found else 0.0
