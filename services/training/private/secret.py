"""Random numbers of a private training: a secret that is drawn once for a run makes them all.

Noise hides a person only from whom cannot take it off again, so a run's seed, which everybody may know, has
no part in it. And a run that goes on after an interruption must repeat the very noise of before: other noise
on the same sum would tell more of it than was accounted for. The secret lies in the run's directory, beside
the events themselves, never in an artifact, and is deleted once the version is exported.

Numbers are floating-point, as everywhere here: the least bits of what they are added to are not covered by
the theory of real numbers (Mironov, 2012, "On significance of the least significant bits for differential
privacy").
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from shared.errors import WarmstartError

SECRET_BYTES = 32
Float64Array = NDArray[np.float64]


class SecretLost(WarmstartError):
    """A private run cannot be gone on with: its secret is not there."""

    code = "FAILED_PRECONDITION"
    reason = "SECRET_LOST"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Independent streams of random numbers by purpose and step; never printed."""

    key: bytes

    @property
    def fingerprint(self) -> str:
        """Tells two secrets apart and nothing of them: workers compare it."""
        return hashlib.shake_256(self.key + b" fingerprint").hexdigest(8)

    def uniform(self, purpose: str, step: int, size: int) -> Float64Array:
        """In (0, 1), 53 bits each. [size] float64."""
        said = hashlib.shake_256(b"%b %b %d" % (self.key, purpose.encode(), step)).digest(8 * size)
        words = np.frombuffer(said, "<u8") >> np.uint64(11)
        found: Float64Array = (words.astype(np.float64) + 0.5) * 2.0**-53
        return found

    def normal(self, purpose: str, step: int, size: int) -> Float64Array:
        """Of a standard normal distribution. [size] float64."""
        found: Float64Array = ndtri(self.uniform(purpose, step, size))
        return found

    def generator(self, purpose: str, step: int) -> np.random.Generator:
        """For what need not be hidden, only be drawn alike again: which of a sampled person's events."""
        said = hashlib.shake_256(b"%b %b %d" % (self.key, purpose.encode(), step)).digest(16)
        return np.random.default_rng(int.from_bytes(said, "little"))


def draw_secret(path: Path) -> None:
    """A new one, readable by its owner alone; one that is there stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(os.urandom(SECRET_BYTES))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)  # unlike a rename, leaves one that is there
    except FileExistsError:
        pass
    finally:
        fresh.unlink()


def read_secret(path: Path) -> Secret:
    """Raises SecretLost."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != SECRET_BYTES:
        rule = f"must hold the {SECRET_BYTES} bytes that the run's noise was made from"
        raise SecretLost(f"{path} {rule}, got {len(key)}: begin a new run, other noise would cost privacy")
    return Secret(key)
