"""User contexts → padded model inputs: the inputs of the artifact's `encode_adapt` signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.context.labels import signed_labels
from shared.context.standing import standing_places
from shared.context.vectors import PROFILE_DIM, REQUEST_DIM, attribute_vector, request_vector
from shared.domain import FloatArray, IntArray, UserContext

_MAX_AGE_S = 3.0e8  # ten years: keeps ages exact enough in float32 and bounded


class RowLookup(Protocol):
    """Live item rows; row `index[i]` of each array belongs to item i."""

    @property
    def index(self) -> Mapping[str, int]: ...
    @property
    def input_rows(self) -> FloatArray: ...
    @property
    def support_rows(self) -> FloatArray: ...


@dataclass(frozen=True, slots=True, eq=False)
class ModelInputs:
    """One padded batch. B people, L places; the latest event sits at place L−1 (left padding).

    input_rows       [B, L, input_dim]    float32  e_i, what the encoder reads
    support_rows     [B, L, support_dim]  float32  ψ_i, what the adapter reads
    actions          [B, L]               int32    `Action` numbers, 0 = padding
    values           [B, L]               float32
    labels           [B, L]               float32  signed labels, see `labels.py`
    ages_s           [B, L]               float32  seconds from the event to the request, ≥ 0
    mask             [B, L]               float32  1 = event, 0 = padding
    attributes       [B, PROFILE_DIM]     float32  hashed profile
    content_profile  [B, content_dim]     float32
    social_profile   [B, content_dim]     float32
    request          [B, REQUEST_DIM]     float32  hashed device and surface, time of day and week

    item_ids: of each person's events, the latest last; not for the model.
    """

    input_rows: FloatArray
    support_rows: FloatArray
    actions: IntArray
    values: FloatArray
    labels: FloatArray
    ages_s: FloatArray
    mask: FloatArray
    attributes: FloatArray
    content_profile: FloatArray
    social_profile: FloatArray
    request: FloatArray
    item_ids: tuple[tuple[str, ...], ...] = ()

    def as_dict(self) -> dict[str, NDArray[Any]]:
        """By signature input name."""
        return {name: getattr(self, name) for name in _SIGNATURE}

    @property
    def shots(self) -> IntArray:
        """[B] int32: events adapted on."""
        shots: IntArray = self.mask.sum(axis=1).astype(np.int32)
        return shots


_SIGNATURE = tuple(name for name in ModelInputs.__annotations__ if name != "item_ids")


def bucket_for(num_events: int, buckets: Sequence[int]) -> int:
    """The smallest length bucket that holds the events, or the largest one."""
    return next((b for b in buckets if b >= num_events), buckets[-1])


def build_inputs(contexts: Sequence[UserContext], rows: RowLookup, buckets: Sequence[int]) -> ModelInputs:
    """Pads contexts to one batch.

    Events that no longer stand (see `standing`) or are on items without rows are skipped: they are no
    shots. The latest `buckets[-1]` of the others are kept. buckets: ascending lengths that the artifact was
    exported for.
    """
    known = [_known_places(c, rows.index, buckets[-1]) for c in contexts]
    length = bucket_for(max((len(k) for k, _ in known), default=0), buckets)
    batch = len(contexts)
    actions = np.zeros((batch, length), np.int32)
    values = np.zeros((batch, length), np.float32)
    ages = np.zeros((batch, length), np.float32)
    mask = np.zeros((batch, length), np.float32)
    index = np.zeros((batch, length), np.int64)
    for b, (context, (places, row_numbers)) in enumerate(zip(contexts, known, strict=True)):
        if not len(places):
            continue
        start = length - len(places)
        history = context.history
        times = history.time_ms[places]
        now_ms = context.request.time_ms or int(times[-1])
        actions[b, start:] = history.actions[places]
        values[b, start:] = history.values[places]
        ages[b, start:] = np.clip((now_ms - times) / 1000.0, 0.0, _MAX_AGE_S)
        index[b, start:] = row_numbers
        mask[b, start:] = 1.0
    on = mask[:, :, None]
    return ModelInputs(
        input_rows=rows.input_rows[index] * on,
        support_rows=rows.support_rows[index] * on,
        actions=actions,
        values=values,
        labels=signed_labels(actions, values),
        ages_s=ages,
        mask=mask,
        attributes=_stack([attribute_vector(c.attributes) for c in contexts], PROFILE_DIM),
        content_profile=np.stack([c.content_profile for c in contexts]).astype(np.float32),
        social_profile=np.stack([c.social_profile for c in contexts]).astype(np.float32),
        request=_stack([request_vector(c.request) for c in contexts], REQUEST_DIM),
        item_ids=tuple(
            tuple(context.history.item_ids[place] for place in places)
            for context, (places, _) in zip(contexts, known, strict=True)
        ),
    )


def _known_places(
    context: UserContext, index: Mapping[str, int], max_events: int
) -> tuple[list[int], list[int]]:
    """Places in the history that stand and whose item has rows, and those row numbers; the latest
    `max_events`."""
    places: list[int] = []
    row_numbers: list[int] = []
    history = context.history
    for place in standing_places(history.item_ids, history.actions.tolist()):
        row = index.get(history.item_ids[place])
        if row is not None:
            places.append(place)
            row_numbers.append(row)
    return places[-max_events:], row_numbers[-max_events:]


def _stack(vectors: list[FloatArray], dim: int) -> FloatArray:
    return np.stack(vectors) if vectors else np.zeros((0, dim), np.float32)
