"""Whom a private training's promise is made to, and what of the data must stay out of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from services.training.data import Neighbours, TrainingData
from services.training.windows import FULL_SOFTMAX_ITEMS
from shared.errors import InvalidInput
from shared.holdout import Role


def of_catalogue(data: TrainingData, catalogue: Collection[str]) -> TrainingData:
    """The same with the items of the catalogue alone: what is known from events alone tells of people.

    catalogue: ids of the table of items. Raises InvalidInput where it is empty, or too large.
    """
    if not catalogue:
        rule = "must be given with --private-epsilon: items that events alone name tell of people"
        raise InvalidInput.of("items", rule, 0)
    known = set(catalogue)
    unknown = [number for number, item_id in enumerate(data.item_ids) if item_id not in known]
    if len(data.item_ids) - len(unknown) > FULL_SOFTMAX_ITEMS:
        rule = f"must be at most {FULL_SOFTMAX_ITEMS:,} with --private-epsilon"
        raise InvalidInput.of("items", rule, len(data.item_ids) - len(unknown))
    return data.hold_out_items(np.array(unknown, np.int32))[0] if unknown else data


def private_people(data: TrainingData, delta: float) -> TrainingData:
    """What a private training reads: everybody who is not held out is trained on, as nothing is chosen by
    validation people, and nobody's events stand in another's (relations are left out).

    Raises InvalidInput where δ is not below one over the people: it would allow giving one of them away.
    """
    kept = data.without_held_out()
    if not delta * kept.num_users < 1.0:
        rule = f"must be below 1 / {kept.num_users:,}, the people trained on"
        raise InvalidInput.of("--private-delta", rule, delta)
    roles = np.full(kept.num_users, Role.TRAIN, np.int8)
    return replace(kept, roles=roles, neighbours=Neighbours.none(kept.num_users))
