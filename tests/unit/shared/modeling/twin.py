"""The encoder again, in plain numpy with loops over people, places and heads: the oracle of its tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.context.vectors import PROFILE_DIM, REQUEST_DIM
from shared.modeling.config import ModelConfig

Array = NDArray[Any]
CONFIG = ModelConfig(
    dim=8,
    blocks=2,
    heads=2,
    feed_forward=12,
    adapt_dim=6,
    rating_dim=3,
    content_dim=10,
    content_rank=4,
    content_hidden=5,
    buckets=(4, 8),
    uncertainty_rank=3,
)


def inputs_of(counts: list[int], length: int, seed: int = 0) -> dict[str, Array]:
    """Random model inputs of people with so many events, padded on the left to `length`."""
    rng = np.random.default_rng(seed)
    people, most = len(counts), max([*counts, 1])
    mask = (np.arange(length)[None, :] >= length - np.array(counts)[:, None]).astype(np.float32)

    def events(values: Array) -> Array:
        """[people, most, …] → the last places of [people, length, …], zeros in padding."""
        padded = np.zeros((people, length, *values.shape[2:]), values.dtype)
        padded[:, max(0, length - most) :] = values[:, -length:]
        return padded * mask.reshape(people, length, *[1] * (values.ndim - 2)).astype(values.dtype)

    ages = np.sort(rng.uniform(0, 3e6, (people, most)), axis=1)[:, ::-1]
    return {
        "input_rows": events(rng.normal(size=(people, most, CONFIG.input_dim)).astype(np.float32)),
        "support_rows": events(rng.normal(size=(people, most, CONFIG.support_dim)).astype(np.float32)),
        "actions": events(rng.integers(2, 10, (people, most)).astype(np.int32)),
        "values": events(rng.uniform(1, 5, (people, most)).astype(np.float32)),
        "labels": events(rng.uniform(-1, 1, (people, most)).astype(np.float32)),
        "ages_s": events(ages.astype(np.float32)),
        "mask": mask,
        "attributes": rng.normal(size=(people, PROFILE_DIM)).astype(np.float32),
        "content_profile": rng.normal(size=(people, CONFIG.content_dim)).astype(np.float32),
        "social_profile": rng.normal(size=(people, CONFIG.content_dim)).astype(np.float32),
        "request": rng.normal(size=(people, REQUEST_DIM)).astype(np.float32),
    }


def last_state(weights: Mapping[str, Array], inputs: Mapping[str, Array], person: int) -> Array:
    """The state after a person's latest event, from their own events alone (no padding at all). [dim]."""
    w = {name.removeprefix("encoder/"): value.astype(np.float64) for name, value in weights.items()}
    own = np.flatnonzero(inputs["mask"][person])
    x = [_start(w, inputs, person)]
    for number, place in enumerate(own):
        gap = (
            None
            if number == 0
            else float(inputs["ages_s"][person, place - 1] - inputs["ages_s"][person, place])
        )
        x.append(_event(w, inputs, person, place, number + 1, gap))
    states = np.stack([_norm(w, "norm_in", token) for token in x])
    for block in range(CONFIG.blocks):
        states = _block(w, f"block_{block}", states)
    return _norm(w, "norm_out", states[-1])


def _start(w: Mapping[str, Array], inputs: Mapping[str, Array], person: int) -> Array:
    names = ("attributes", "content_profile", "social_profile", "request")
    parts = [inputs[name][person].astype(np.float64) @ w[f"start_{name}/kernel"] for name in names]
    total: Array = w["start_token"] + np.sum(parts, axis=0)
    return total


def _event(
    w: Mapping[str, Array],
    inputs: Mapping[str, Array],
    person: int,
    place: int,
    count: int,
    gap: float | None,
) -> Array:
    at = (person, place)
    action, value, label = (
        int(inputs["actions"][at]),
        float(inputs["values"][at]),
        float(inputs["labels"][at]),
    )
    rating = value / 5.0 if action == 7 else 0.0
    dwell = np.log1p(value) / 5.0 if action == 9 else 0.0
    direction = -1.0 if action in (5, 8) else 1.0  # disliked, skipped
    token = direction * inputs["input_rows"][at].astype(np.float64) + w["actions"][action]
    token = token + np.array([label, abs(label), rating, dwell]) @ w["values/kernel"]
    gap_knots = (0, 5, 30, 180, 1800, 21600, 86400, 604800, 2592000, 31536000)
    if gap is not None:
        token = token + interpolated(gap, gap_knots) @ w["gaps/kernel"]
    return token + interpolated(count, (0, 1, 2, 3, 5, 8, 13, 20, 40, 80, 160)) @ w["counts/kernel"]


def interpolated(x: float, knots: tuple[int, ...]) -> Array:
    """Weights of the two knots around x, linear in log1p."""
    weights = np.zeros(len(knots))
    places = np.log1p(np.array(knots, float))
    y = np.clip(np.log1p(x), places[0], places[-1])
    right = int(np.clip(np.searchsorted(places, y), 1, len(knots) - 1))
    share = (y - places[right - 1]) / (places[right] - places[right - 1])
    weights[right - 1], weights[right] = 1.0 - share, share
    return weights


def _block(w: Mapping[str, Array], name: str, states: Array) -> Array:
    heads, size = CONFIG.heads, CONFIG.dim // CONFIG.heads
    normed = np.stack([_norm(w, f"{name}/norm_0", s) for s in states])
    qkv = normed @ w[f"{name}/attention/qkv/kernel"] + w[f"{name}/attention/qkv/bias"]
    q, k, v = np.split(qkv, 3, axis=1)
    bias = w[f"{name}/attention/bias"]
    mixed = np.zeros_like(states)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(states)):
            # A place sees START (bias 24, whatever the distance) and what came before it, itself included.
            logits = np.array(
                [
                    q[i, part] @ k[j, part] / np.sqrt(size) + bias[24 if j == 0 else i - j, head]
                    for j in range(i + 1)
                ]
            )
            share = np.exp(logits - logits.max())
            mixed[i, part] = (share / share.sum()) @ v[: i + 1, part]
    states = states + mixed @ w[f"{name}/attention/out/kernel"] + w[f"{name}/attention/out/bias"]
    normed = np.stack([_norm(w, f"{name}/norm_1", s) for s in states])
    wide = _gelu(normed @ w[f"{name}/wide/kernel"] + w[f"{name}/wide/bias"])
    result: Array = states + wide @ w[f"{name}/narrow/kernel"] + w[f"{name}/narrow/bias"]
    return result


def _norm(w: Mapping[str, Array], name: str, x: Array) -> Array:
    scaled: Array = (x - x.mean()) / np.sqrt(x.var() + 1e-6)
    return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]


def _gelu(x: Array) -> Array:
    from scipy.special import erf

    result: Array = 0.5 * x * (1.0 + erf(x / np.sqrt(2.0)))
    return result
