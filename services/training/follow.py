"""A finished model gets its table of transitions, and how much they count by validation people."""

from __future__ import annotations

from collections.abc import Sequence

from services.training.data import TrainingData
from services.training.transitions import transitions
from services.training.validate import choose_kappa
from shared.holdout import Role
from shared.modeling.model import WarmstartModel


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
