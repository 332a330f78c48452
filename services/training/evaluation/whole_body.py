"""A body that is adapted whole to each person, ranked as an artifact is; it never becomes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.training.body_arm import KeptBody
from services.training.body_scores import OwnScores
from services.training.evaluation.served import ranking
from services.training.trends import Recent
from services.training.windows import Batch
from shared.context.batch import build_inputs
from shared.domain import FloatArray, IntArray, UserContext

Tensor = Any
_Files = tuple[Path, Sequence[str], FloatArray]
# Whole lists of all tasks are in memory for so many people.
_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class WholeBody:
    """A kept body and the people's contexts as serving builds them.

    files: what it was loaded from. Pickled it is no more than that.
    """

    kept: KeptBody
    own: OwnScores
    start: Tensor
    numbers: _ItemNumbers
    files: _Files

    @classmethod
    def load(cls, directory: Path, item_ids: Sequence[str], content: FloatArray) -> WholeBody:
        """item_ids, content: the catalogue that the arm was trained on, [N, content_dim]."""
        kept = KeptBody.load(directory, content)
        return cls(
            kept,
            OwnScores(kept.body, kept.adapter),
            kept.body.start(),
            _ItemNumbers.of(item_ids),
            (directory, item_ids, content),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return WholeBody.load, self.files

    def rows(self, item_ids: Sequence[str]) -> IntArray:
        """The items' numbers; all of them must be of the catalogue. [N] int32"""
        return np.array([self.numbers.index[i] for i in item_ids], np.int32)

    def scores(
        self, contexts: Sequence[UserContext], rows: IntArray, *, task: str, recent: Recent | None = None
    ) -> FloatArray:
        """As `ServedArtifact.scores`; each person costs a training of their own, and trends count nothing."""
        result = np.zeros((len(contexts), len(rows)), np.float32)
        for start in range(0, len(contexts), _BATCH):
            people, shots = self.inputs(contexts[start : start + _BATCH])
            raw = self.own(people, self.start, self.kept.pace)[..., rows]
            for place, number in enumerate(shots.tolist()):
                result[start + place] = ranking(raw[place].T, self.kept.tasks, number, task)
        return result

    def inputs(self, contexts: Sequence[UserContext]) -> tuple[Batch, IntArray]:
        """Model inputs with `items` in place of rows, and everybody's number of shots."""
        built = build_inputs(contexts, self.numbers, self.kept.body.model.config.buckets_within_reach)
        people: Batch = built.as_dict()
        people["items"] = people.pop("input_rows")[..., 0].astype(np.int32)
        del people["support_rows"]
        return people, built.shots


@dataclass(frozen=True, slots=True, eq=False)
class _ItemNumbers:
    """Rows that are the items' own numbers (exact in float32 up to 2²⁴), so that `build_inputs` says which
    items a history holds. input_rows, support_rows: [N, 1]."""

    index: Mapping[str, int]
    input_rows: FloatArray
    support_rows: FloatArray

    @classmethod
    def of(cls, item_ids: Sequence[str]) -> _ItemNumbers:
        rows = np.arange(len(item_ids), dtype=np.float32)[:, None]
        return cls({item_id: number for number, item_id in enumerate(item_ids)}, rows, rows)
