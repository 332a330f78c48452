from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.gateway.draft import Adapted, Draft, Ranking, Scores, Taste
from services.gateway.odds import Bounds
from services.gateway.ports import Scoring
from shared.calibration import shares, task_values, within
from shared.domain import FloatArray, TaskInfo

_COSINES: Bounds = (-1.0, 1.0)
_MAX_SCORED = 5000  # the contract's limit of ScoreItems


class TaskScorer:
    """Raw scores of every task from scoring; links make values of them, weights the mix that ranks: a
    probability counts as it is, stars as their share of the scale.

    With them come the sketches for diversity, and those of recently liked items for reasons.
    """

    name = "scoring"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    async def score(self, draft: Draft) -> Draft:
        if draft.taste is None:
            return draft
        if not draft.candidates:
            return replace(draft, ranking=Ranking())
        taste = draft.taste
        adapted = isinstance(taste, Adapted)
        candidates = draft.candidates[: _MAX_SCORED - len(draft.liked)]
        answer = await self._scores(draft, tuple(dict.fromkeys((*candidates, *draft.liked))), taste)
        tasks = taste.tasks if isinstance(taste, Adapted) else tuple(TaskInfo(t) for t in answer.tasks)
        weights = taste.weights if isinstance(taste, Adapted) else np.ones(len(tasks), np.float32)
        ranking = ranked(candidates, answer, tasks, weights, draft.shots)
        if not adapted:
            ranking = replace(ranking, bounds=_COSINES)
        liked, sketches = _sketches_of(draft.liked, answer)
        scored = replace(draft, candidates=candidates, ranking=ranking, liked=liked, liked_sketches=sketches)
        return scored if adapted else replace(scored, model=answer.model)

    async def _scores(self, draft: Draft, item_ids: tuple[str, ...], taste: Taste) -> Scores:
        """Those that came with what was found, where they are of all items; else asked for now."""
        for found in draft.found:
            if found.scores is not None and found.scores.cover(item_ids):
                return found.scores
        version = draft.model.version if draft.model else ""
        return await self._scoring.score(draft.domain, item_ids, version=version, taste=taste)


def ranked(
    candidates: Sequence[str],
    answer: Scores,
    tasks: Sequence[TaskInfo],
    weights: FloatArray,
    shots: int = 0,
) -> Ranking:
    """Candidates in the order given with values and their mix; NaN for those without rows."""
    row_of = {item_id: row for row, item_id in enumerate(answer.item_ids)}
    rows = np.array([row_of.get(item_id, -1) for item_id in candidates], np.int64)
    columns = [answer.tasks.index(task.name) for task in tasks]
    values = task_values(answer.raw[:, columns], tasks, shots)
    # One more row of NaN (zeros for sketches): row −1, for items without rows.
    values = np.vstack([values, np.full((1, len(tasks)), np.nan, np.float32)])[rows]
    sketches = np.vstack([answer.sketches, np.zeros((1, answer.sketches.shape[1]), np.float32)])[rows]
    used = weights != 0.0  # a task that takes no part cannot spoil the mix
    base = (shares(values, tasks)[:, used] @ weights[used]).astype(np.float32)
    bounded = all(task.is_bounded for task, some in zip(tasks, used, strict=True) if some)
    bounds = _bounds(weights, base) if bounded else None
    shown = within(values, tasks)
    return Ranking(tuple(candidates), base, base, tuple(t.name for t in tasks), shown, sketches, bounds)


def _bounds(weights: FloatArray, base: FloatArray) -> Bounds:
    """What a mix of shares lies between; stars foretold beyond the scale, which still rank, widen it."""
    low, high = float(weights[weights < 0.0].sum()), float(weights[weights > 0.0].sum())
    finite = base[np.isfinite(base)]
    return float(finite.min(initial=low)), float(finite.max(initial=high))


def _sketches_of(liked: Sequence[str], answer: Scores) -> tuple[tuple[str, ...], FloatArray | None]:
    """The liked items that have rows, with their sketches [len, d]."""
    row_of = {item_id: row for row, item_id in enumerate(answer.item_ids)}
    held = [item_id for item_id in liked if item_id in row_of]
    return tuple(held), answer.sketches[[row_of[i] for i in held]] if held else None
