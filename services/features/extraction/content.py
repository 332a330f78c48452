"""Content: the decayed mean of the embeddings of what a person liked."""

from __future__ import annotations

from services.features.mirror import ItemFacts
from shared.context.profiles import content_profile
from shared.context.standing import standing_labels
from shared.domain import FloatArray, History


def labels_of(history: History) -> FloatArray:
    """Signed label of each event, 0 for those that no longer stand. [n] float32."""
    return standing_labels(history.item_ids, history.actions, history.values)


def history_profile(history: History, facts: ItemFacts, now_ms: int) -> FloatArray:
    """[content_dim] float32. facts: of the history's items, in order."""
    return content_profile(facts.embeddings, labels_of(history), history.time_ms, now_ms)
