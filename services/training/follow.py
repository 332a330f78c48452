"""A finished model gets what scores count beside it, transitions and trends, and how much by validation
people."""

from __future__ import annotations

from collections.abc import Sequence

from services.training.data import TrainingData
from services.training.transitions import transitions
from services.training.trends import Recent, find_trends
from services.training.validate import choose_kappa, choose_omega
from shared.holdout import Role
from shared.modeling.model import WarmstartModel
from shared.trends import Trends

# Of the likeliest prior, the first.
_PRIOR_SHARES = (1.0, 0.3, 0.1)


def follow(model: WarmstartModel, data: TrainingData, shots: Sequence[int]) -> float:
    """Gives a finished model its table and κ, in place: at each number of shots what validation people's
    NDCG@10 speaks for, with fast weights as they are. Theirs are not in the table, training people's are.

    Returns NDCG@10 of task `next` with κ, as `validate.look` has it. A model without successors stays as it
    is; where validation people have too few events, κ does.
    """
    if not model.config.successors:
        return 0.0
    model.transitions = transitions(data, model.config.successors)
    kappa, ndcg = choose_kappa(model, data, data.users_of(Role.VALIDATION), shots)
    if kappa is not None:
        model.heads.kappa.assign(kappa)
    return ndcg


def follow_trends(model: WarmstartModel, data: TrainingData, shots: Sequence[int], *, seed: int) -> None:
    """Gives a finished model the long run of its items, a prior and ω, in place: at each number of shots (0
    the first) what validation people's NDCG@10 speaks for, with everything else as it is, by what training
    people had chosen before each of them was asked. A model without trends stays as it is; where validation
    people have too few events, or are too few to be sure, ω does.

    Of priors it tries the likeliest and smaller ones, as likelihood goes by the whole catalogue and not by
    the first ten: on validation people of Amazon Games (one body) .0305 NDCG@10 at k = 0 with the likeliest
    and .0331 with a tenth of it, .0690 and .0686 after one event.
    """
    if not model.config.trends:
        return
    recent, judges = Recent.of(data), data.users_of(Role.VALIDATION)
    model.trends = likeliest = find_trends(recent, seed=seed)
    if not likeliest.prior:
        return
    tried = []
    for share in _PRIOR_SHARES:
        model.trends = Trends(likeliest.counts, share * likeliest.prior)
        omega, seen = choose_omega(model, data, judges, shots, recent)
        tried.append((seen, model.trends, omega))
    _, model.trends, omega = max(tried, key=lambda one: one[0])
    if omega is not None:
        model.heads.omega.assign(omega)
