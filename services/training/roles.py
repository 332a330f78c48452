"""Everybody's role in one training: by the hash of `shared.holdout`, or by a given list of strangers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput
from shared.holdout import HELD_OUT_SHARE, VALIDATION_SHARE, Role, hash_share, role_of


@dataclass(frozen=True, slots=True)
class RoleSettings:
    """How people are shared out.

    held_out_share: share of all people that training never sees, in [0, 1).
    validation_share: share of the others that only stops training early, in [0, 1).
    held_out_ids: where given, exactly these are held out and `held_out_share` does not count.
    """

    held_out_share: float = HELD_OUT_SHARE
    validation_share: float = VALIDATION_SHARE
    held_out_ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for name in ("held_out_share", "validation_share"):
            share = getattr(self, name)
            if not 0.0 <= share < 1.0:
                raise InvalidInput.of(name, "must be in [0, 1)", share)


def assign_roles(user_ids: Sequence[str], settings: RoleSettings) -> NDArray[np.int8]:
    """Role of each person. [U] int8, `Role` numbers. A person's role does not depend on the others."""
    return np.array([_role(user_id, settings) for user_id in user_ids], np.int8)


def _role(user_id: str, settings: RoleSettings) -> Role:
    if settings.held_out_ids is None:
        return role_of(user_id, settings.held_out_share, settings.validation_share)
    if user_id in settings.held_out_ids:
        return Role.HELD_OUT
    return role_of(user_id, 0.0, settings.validation_share)


def choose_by_hash(identifiers: Iterable[str], count: int, purpose: str) -> list[str]:
    """The `count` ids with the smallest hash for the purpose: a sample that is the same everywhere."""
    return sorted(identifiers, key=lambda i: (hash_share(i, purpose), i))[:count]
