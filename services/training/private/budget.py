"""The privacy of a training: its mechanisms, what they spend together, and the noise that a promise asks for.

Composed by privacy loss distributions (Koskela, Jälkö and Honkela, 2020; Doroshenko et al., 2022), as
`dp-accounting` does it: adding or removing one person.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from math import inf

import dp_accounting
from dp_accounting import PrivacyAccountant
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from shared.artifacts import Mechanism, PrivacyInfo

# How much more noise than is needed may be found: of the share, which is about 1 to 20.
_TOLERANCE = 5e-3
_LEAST, _GUESS = 0.05, 4.0
# Privacy losses are rounded up to multiples of such a part of ε, so that more noise is found, never less; at
# most of so much, which is ten times the library's own at a hundredth of its time.
_PART, _INTERVAL = 1e-4, 1e-3
# Whole orders of Rényi divergence: quick, and near enough to begin from.
_ORDERS = (*range(2, 64), *(2**n for n in range(6, 13)))
# Rényi accounting asks for more noise than is needed, but not for this much more.
_LEAST_SHARE = 0.3
_RELATION = dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE


@dataclass(frozen=True, slots=True)
class Promise:
    """What a training is to keep to: (epsilon, delta). epsilon: inf = no noise at all, for comparison alone;
    such a training has no ledger, and nothing of it is published."""

    epsilon: float
    delta: float

    @property
    def silent(self) -> bool:
        return self.epsilon == inf


def spent_epsilon(mechanisms: Sequence[Mechanism], promise: Promise) -> float:
    """The ε of all mechanisms together, at the promise's δ and as exactly as it asks for."""
    return float(_accountant(promise).compose(_event(mechanisms)).get_epsilon(promise.delta))


def scaled_to(promise: Promise, mechanisms: Sequence[Mechanism]) -> tuple[Mechanism, ...]:
    """The mechanisms with the least noise that keeps the promise, shared out among them as their noise
    multipliers are to each other; no noise where the promise is silent."""
    if promise.silent:
        return tuple(replace(m, noise_multiplier=0.0) for m in mechanisms)

    def scaled(scale: float) -> tuple[Mechanism, ...]:
        return tuple(replace(m, noise_multiplier=scale * m.noise_multiplier) for m in mechanisms)

    def calibrated(accountant: Callable[[], PrivacyAccountant], bracket: object) -> float:
        return float(
            dp_accounting.calibrate_dp_mechanism(
                accountant,
                lambda scale: _event(scaled(scale)),
                promise.epsilon,
                promise.delta,
                bracket,
                tol=_TOLERANCE,
            )
        )

    enough = calibrated(_rough_accountant, dp_accounting.LowerEndpointAndGuess(_LEAST, _GUESS))
    return scaled(
        calibrated(
            partial(_accountant, promise),
            dp_accounting.ExplicitBracketInterval(_LEAST_SHARE * enough, enough),
        )
    )


def ledger(promise: Promise, mechanisms: Sequence[Mechanism]) -> PrivacyInfo | None:
    """What goes into the manifest: what was really spent. None of a silent training."""
    if promise.silent:
        return None
    accountant = f"dp-accounting {version('dp-accounting')}, privacy loss distributions"
    epsilon = spent_epsilon(mechanisms, promise)
    return PrivacyInfo(epsilon, promise.delta, tuple(mechanisms), accountant)


def _accountant(promise: Promise) -> PLDAccountant:
    interval = min(_PART * promise.epsilon, _INTERVAL)
    return PLDAccountant(_RELATION, value_discretization_interval=interval)


def _rough_accountant() -> RdpAccountant:
    return RdpAccountant(_ORDERS, _RELATION)


def _event(mechanisms: Sequence[Mechanism]) -> dp_accounting.DpEvent:
    return dp_accounting.ComposedDpEvent([_event_of(m) for m in mechanisms])


def _event_of(mechanism: Mechanism) -> dp_accounting.DpEvent:
    one: dp_accounting.DpEvent = dp_accounting.GaussianDpEvent(mechanism.noise_multiplier)
    if mechanism.sampling < 1.0:
        one = dp_accounting.PoissonSampledDpEvent(mechanism.sampling, one)
    return dp_accounting.SelfComposedDpEvent(one, mechanism.steps)
