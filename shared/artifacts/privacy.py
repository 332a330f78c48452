"""What a version that was trained with differential privacy promises, and what the promise was spent on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class Mechanism:
    """One Gaussian mechanism: a sum over people, to which each adds a vector of L2 norm `sensitivity` at
    most, plus normal noise of standard deviation `noise_multiplier · sensitivity` in every coordinate.

    sampling: probability with which a person takes part in a step, each by themselves (Poisson), 1 = all do;
    steps: how often it is asked.
    """

    name: str
    sensitivity: float
    noise_multiplier: float
    sampling: float = 1.0
    steps: int = 1


@dataclass(frozen=True, slots=True)
class PrivacyInfo:
    """The version, all of it, is (epsilon, delta)-differentially private towards adding or removing one
    person trained on, with all of their events (Dwork and Roth, 2014).

    mechanisms: all that looked at these people's events, in order; accountant: what composed them.
    """

    epsilon: float
    delta: float
    mechanisms: tuple[Mechanism, ...]
    accountant: str = ""


def privacy_rules(privacy: PrivacyInfo) -> Iterator[tuple[str, str, object, bool]]:
    """(field, rule, value, whether it holds), as the manifest's other rules."""
    epsilon, delta = privacy.epsilon, privacy.delta
    yield "privacy.epsilon", "must be a number above 0", epsilon, epsilon > 0 and isfinite(epsilon)
    yield "privacy.delta", "must be above 0 and below 1", delta, 0 < delta < 1
    names = [m.name for m in privacy.mechanisms]
    yield (
        "privacy.mechanisms",
        "must have at least one, of distinct names",
        names,
        0 < len(set(names)) == len(names),
    )
    for m in privacy.mechanisms:
        place = f"privacy.mechanisms[{m.name}]"
        for name in ("sensitivity", "noise_multiplier"):
            value = getattr(m, name)
            yield f"{place}.{name}", "must be a number above 0", value, value > 0 and isfinite(value)
        yield f"{place}.sampling", "must be above 0 and at most 1", m.sampling, 0 < m.sampling <= 1
        yield f"{place}.steps", "must be at least 1", m.steps, m.steps >= 1
