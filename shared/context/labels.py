"""The signed label of an event: how much it pulls (> 0) or pushes (< 0), in [-1, 1]."""

from __future__ import annotations

import numpy as np

from shared.domain import Action, FloatArray, IntArray

# Fixed labels by action; RATING and DWELL go by their value.
_BY_ACTION = np.zeros(10, np.float32)
_BY_ACTION[Action.VIEW] = 0.3
_BY_ACTION[Action.CLICK] = 0.5
_BY_ACTION[Action.LIKE] = 1.0
_BY_ACTION[Action.DISLIKE] = -1.0
_BY_ACTION[Action.PURCHASE] = 1.0
_BY_ACTION[Action.SKIP] = -0.5
_RATINGS = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
_RATING_LABELS = np.array([-1.0, -0.6, 0.2, 0.8, 1.0])
# A dwell of this many seconds counts as a full positive.
_FULL_DWELL_S = 60.0


def signed_labels(actions: IntArray, values: FloatArray) -> FloatArray:
    """Label of each event.

    Args:
        actions: [n] int32, `Action` numbers; 0 is padding and gets 0.
        values: [n] float32; the rating (1 to 5) or dwell (seconds) where the action has one.

    Returns:
        [n] float32 in [-1, 1].
    """
    labels = _BY_ACTION[actions]
    ratings = np.interp(values, _RATINGS, _RATING_LABELS)
    dwell = np.clip(values / _FULL_DWELL_S, 0.0, 1.0)
    labels = np.where(actions == Action.RATING, ratings, labels)
    labels = np.where(actions == Action.DWELL, dwell, labels)
    return labels.astype(np.float32)
