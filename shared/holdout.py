"""Who is held out: a person's role by a hash of their id, the same everywhere and for ever.

A stable hash (not a random draw) keeps a person in their role over retrainings, new data and
machines, so that a held-out person's events never reach any model of the line.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b

HELD_OUT_SHARE = 0.2
VALIDATION_SHARE = 0.1


class Role(IntEnum):
    TRAIN = 0
    # Warm people kept for early stopping and every choice.
    VALIDATION = 1
    # Strangers: never trained on, reported on once.
    HELD_OUT = 2


def hash_share(user_id: str, salt: str) -> float:
    """Uniform in [0, 1), by BLAKE2b of salt and id."""
    digest = blake2b(f"{salt}:{user_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def role_of(
    user_id: str, held_out_share: float = HELD_OUT_SHARE, validation_share: float = VALIDATION_SHARE
) -> Role:
    """Held out with `held_out_share`; of the others, validation with `validation_share`."""
    if hash_share(user_id, "held-out") < held_out_share:
        return Role.HELD_OUT
    if hash_share(user_id, "validation") < validation_share:
        return Role.VALIDATION
    return Role.TRAIN
