"""Scores → probabilities of a private model, by people who do not exist.

The softmax over the catalogue says how likely an item is to be a person's next; among ten events it comes
about ten times as often. Where the scores of a person lie depends on how many events are known of them: that
is seen on made-up people, whose events are drawn by the popularity that was told privately. It costs no
privacy, and it is as true as the softmax is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from services.training.calibrate import SHOTS
from services.training.episodes import PROTOCOL_QUERY
from services.training.private.releases import Popularity
from services.training.windows import Batch
from shared.context.vectors import PROFILE_DIM, REQUEST_DIM
from shared.domain import Action, Calibration
from shared.modeling.config import CHOICES, LIKE_TASK
from shared.modeling.model import WarmstartModel

_PEOPLE = 64
_LIKED = 1.0


def made_up_calibrations(
    model: WarmstartModel, popularity: Popularity, seed: int
) -> Mapping[str, tuple[Calibration, ...]]:
    """By task and number of shots, as `calibrate.calibrate`: the scale stays 1."""
    rng = np.random.default_rng(seed)
    shares = np.maximum(popularity.chosen, 0.0) + popularity.noise + 1e-9
    shares = shares / shares.sum()
    liked = max(float(np.maximum(popularity.liked, 0.0).sum()), 1.0)
    rate = min(liked / max(float(np.maximum(popularity.chosen, 0.0).sum()), 1.0), 1.0)
    rows = model.item_rows()
    found: dict[str, list[Calibration]] = {task: [] for task in CHOICES}
    for shots in (k for k in SHOTS if k <= model.config.max_length):
        batch = _people(model, shots, shares, rng)
        inputs = {name: tf.constant(column) for name, column in batch.items() if name != "items"}
        for name, table in (("input_rows", rows.input), ("support_rows", rows.support)):
            inputs[name] = tf.gather(table, batch["items"]) * batch["mask"][..., None]
        queries = model.encode_adapt(inputs, tf.ones(_PEOPLE)).queries.numpy()
        for number, task in enumerate(CHOICES):
            totals = logsumexp(queries[:, number] @ rows.output.numpy().T, axis=1)
            expected = PROTOCOL_QUERY * (rate if task == LIKE_TASK else 1.0)
            found[task].append(Calibration(shots, 1.0, float(np.log(expected) - totals.mean())))
    return {task: tuple(fits) for task, fits in found.items()}


def _people(model: WarmstartModel, shots: int, shares: np.ndarray, rng: np.random.Generator) -> Batch:
    """So many made-up people who have liked `shots` items each."""
    length = max(shots, 1)
    shape = (_PEOPLE, length)
    dim = model.config.content_dim
    return {
        "items": rng.choice(len(shares), size=shape, p=shares).astype(np.int32),
        "actions": np.full(shape, int(Action.LIKE) if shots else 0, np.int32),
        "values": np.zeros(shape, np.float32),
        "labels": np.full(shape, _LIKED if shots else 0.0, np.float32),
        "ages_s": np.zeros(shape, np.float32),
        "mask": np.full(shape, 1.0 if shots else 0.0, np.float32),
        "attributes": np.zeros((_PEOPLE, PROFILE_DIM), np.float32),
        "content_profile": np.zeros((_PEOPLE, dim), np.float32),
        "social_profile": np.zeros((_PEOPLE, dim), np.float32),
        "request": np.zeros((_PEOPLE, REQUEST_DIM), np.float32),
    }
