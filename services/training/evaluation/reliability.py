"""Whether values are what they say: of what is given a probability of p, a share of p should happen.

For the people of the few-shot table, at each number of shots, over all items that they have not had: the
values of `next` and `like` against what is among their next events; and the stars of `rating` against those
given in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.training.data import TrainingData
from services.training.evaluation.metrics import Float64Array, in_parts
from services.training.evaluation.protocol import Questions, contexts
from services.training.evaluation.served import ServedArtifact
from services.training.evaluation.spread import Call, Progress, Spread, one_by_one
from services.training.trends import Recent
from services.training.windows import LIKED_LABEL, rated
from shared.context.labels import signed_labels
from shared.domain import UserContext
from shared.modeling.config import LIKE_TASK, NEXT_TASK, RATING_TASK

# Most probabilities are small: bins are equal steps of their logarithm, the first and last are open.
PROBABILITY_EDGES = np.concatenate([[0.0], np.logspace(-4.0, 0.0, 21)[:-1], [np.inf]])
STAR_EDGES = np.concatenate([[-np.inf], np.arange(1.5, 5.0, 0.25), [np.inf]])


@dataclass(eq=False)
class Reliability:
    """Values of one task, counted into bins by what was foretold.

    count, foretold, happened [bins] float64: how many values, and the sums of what was said and of what came;
    squared, came_squared: of errors and of what came, over all values.
    """

    edges: Float64Array
    count: Float64Array = field(init=False)
    foretold: Float64Array = field(init=False)
    happened: Float64Array = field(init=False)
    squared: float = 0.0
    came_squared: float = 0.0

    def __post_init__(self) -> None:
        self.count, self.foretold, self.happened = (np.zeros(len(self.edges) - 1) for _ in range(3))

    def add(self, said: NDArray[np.floating], came: NDArray[np.floating] | NDArray[np.bool_]) -> None:
        """said, came: [n]."""
        said, came = said.astype(np.float64), came.astype(np.float64)
        bins = np.clip(np.searchsorted(self.edges, said, side="right") - 1, 0, len(self.count) - 1)
        for total, amounts in ((self.count, None), (self.foretold, said), (self.happened, came)):
            total += np.bincount(bins, amounts, len(total))
        self.squared += float(((said - came) ** 2).sum())
        self.came_squared += float((came**2).sum())

    def __iadd__(self, other: Reliability) -> Reliability:
        for name in ("count", "foretold", "happened", "squared", "came_squared"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def values(self) -> float:
        return float(self.count.sum())

    @property
    def mean_squared_error(self) -> float:
        """The Brier score (Brier, 1950) of probabilities."""
        return self.squared / self.values

    @property
    def of_the_mean(self) -> float:
        """The same of one who always says how often it happens."""
        return self.came_squared / self.values - (float(self.happened.sum()) / self.values) ** 2

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the mean distance, over values, of what a bin foretold from what came
        (Naeini et al., 2015)."""
        return float(np.abs(self.foretold - self.happened).sum()) / self.values

    @property
    def points(self) -> list[tuple[float, float, float]]:
        """(mean foretold, mean of what came, number of values) of each bin that has any."""
        return [
            (float(s / n), float(h / n), float(n))
            for n, s, h in zip(self.count, self.foretold, self.happened, strict=True)
            if n > 0.0
        ]


def reliability(
    data: TrainingData,
    questions: Questions,
    models: Sequence[ServedArtifact],
    *,
    spread: Spread = one_by_one,
    progress: Progress = lambda done, total: None,
) -> dict[str, dict[int, Reliability]]:
    """By task and number of shots, over people and models. Tasks that no model has, or that nothing is said
    of, are left out."""
    found: dict[str, dict[int, Reliability]] = {}
    asked = [(served, shots) for served in models for shots in questions.protocol.shots]
    calls = [Call(_at, (served, shots)) for served, shots in asked]
    for (_, shots), by_task in zip(asked, spread((data, questions), calls, progress), strict=True):
        for task, seen in by_task.items():
            by_shots = found.setdefault(task, {})
            if shots in by_shots:
                by_shots[shots] += seen
            else:
                by_shots[shots] = seen
    return {task: s for task, s in found.items() if any(seen.values for seen in s.values())}


def pooled(by_shots: Mapping[int, Reliability]) -> Reliability:
    """Over all numbers of shots."""
    whole = Reliability(next(iter(by_shots.values())).edges)
    for seen in by_shots.values():
        whole += seen
    return whole


def _at(
    data: TrainingData, questions: Questions, served: ServedArtifact, shots: int
) -> dict[str, Reliability]:
    tasks = [task.name for task in served.artifact.manifest.tasks]
    edges = {NEXT_TASK: PROBABILITY_EDGES, LIKE_TASK: PROBABILITY_EDGES, RATING_TASK: STAR_EDGES}
    found = {task: Reliability(edges[task]) for task in tasks}
    rows, recent = served.rows(data.item_ids), Recent.of(data)
    for part in in_parts(list(enumerate(contexts(data, questions, shots))), data.num_items):
        people: list[UserContext] = [context for _, context in part]
        for (person, _), values in zip(part, served.values(people, rows, recent=recent), strict=True):
            _note(data, questions, person, dict(zip(tasks, values.T, strict=True)), found)
    return found


def _note(
    data: TrainingData,
    questions: Questions,
    person: int,
    values: Mapping[str, NDArray[np.float32]],
    found: Mapping[str, Reliability],
) -> None:
    """One person's values of the whole catalogue [N] by task."""
    first = int(questions.middles[person])
    query = slice(first, first + questions.protocol.query_events)
    items, fresh = data.items[query], np.ones(data.num_items, np.bool_)
    fresh[questions.masked[person]] = False
    liked = signed_labels(data.actions[query], data.values[query]) >= LIKED_LABEL
    for task, done in ((NEXT_TASK, items), (LIKE_TASK, items[liked])):
        came = np.zeros(data.num_items, np.bool_)
        came[done] = True
        some = fresh & np.isfinite(values[task])
        found[task].add(values[task][some], came[some])
    if RATING_TASK in found:
        stars = rated(data.actions[query]) & np.isfinite(values[RATING_TASK][items])
        found[RATING_TASK].add(values[RATING_TASK][items[stars]], data.values[query][stars])
