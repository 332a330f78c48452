"""A job's arm whose adapter is of the whole body: fitted and kept beside the exports, never exported itself.

`<job>/<arm>/`: weights.npz, the body's variables by path and the inner rates; body.json, all else.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from services.training.adapt_body import BodyConfig, FittedBody, fit_body
from services.training.body import Body
from services.training.body_scores import OwnScores
from services.training.calibrate import calibrate
from services.training.data import TrainingData
from services.training.jobs import BODY_FILE, Arm, Job
from services.training.loop import Hooks
from shared.adapters import BODY, BodyAdapter, make_body_adapter
from shared.adapters.body import Pace
from shared.domain import FloatArray, TaskInfo
from shared.modeling.config import ModelConfig, task_infos
from shared.modeling.model import WarmstartModel

_WEIGHTS = "weights.npz"
_RATES = "__rates__"
_TASKS: TypeAdapter[tuple[TaskInfo, ...]] = TypeAdapter(tuple[TaskInfo, ...])


def do_body_arm(
    job: Job,
    arm: Arm,
    model: WarmstartModel,
    data: TrainingData,
    config: BodyConfig,
    *,
    strategy: Any,
    hooks: Hooks,
    writes: bool,
) -> None:
    """Fits the arm's adapter and keeps it with its body. model: the finished body, this arm's own copy."""
    adapter = make_body_adapter(arm.adapter, **arm.settings)
    fitted = fit_body(model, adapter, data, config, seed=job.seed, strategy=strategy, hooks=hooks)
    if writes:
        keep(job.export(arm), model, fitted, data)


def keep(directory: Path, model: WarmstartModel, fitted: FittedBody, data: TrainingData) -> None:
    """Writes the arm's files; the directory appears whole."""
    body = Body(model, rows=fitted.adapter.rows)
    scores = OwnScores(body, fitted.adapter).of_episodes(data, body.start(), fitted.pace)
    told = {
        "adapter": {
            "name": fitted.adapter.kind,
            "settings": {**fitted.adapter.settings, "scope": BODY},
        },
        "tried": [{"settings": dict(settings), "ndcg10": ndcg} for settings, ndcg in fitted.tried],
        "tasks": [asdict(task) for task in task_infos(calibrate(model, data, scores), model.offsets())],
        "model": model.config.as_dict(),
        "metrics": {name: float(value) for name, value in fitted.metrics.items()},
    }
    fresh = directory.with_name(f".keeping-{directory.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    arrays = {**model.state_arrays(), _RATES: np.asarray(fitted.pace.rates)}
    np.savez(fresh / _WEIGHTS, allow_pickle=False, **arrays)
    (fresh / BODY_FILE).write_text(json.dumps(told, indent=2))
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)


@dataclass(frozen=True, slots=True, eq=False)
class KeptBody:
    """An arm's files, read: the body, its adapter and pace; see `keep`."""

    body: Body
    adapter: BodyAdapter
    pace: Pace
    tasks: tuple[TaskInfo, ...]
    tried: tuple[Mapping[str, Any], ...]

    @property
    def told(self) -> dict[str, Any]:
        """For reports: the adapter, its settings as chosen, and what validation people said of each."""
        return {"adapter": self.adapter.kind, "chosen": self.adapter.settings, "tried": list(self.tried)}

    @classmethod
    def load(cls, directory: Path, content: FloatArray) -> KeptBody:
        """content: the catalogue's, [N, content_dim], as the arm was trained on."""
        told = json.loads((directory / BODY_FILE).read_text())
        model = WarmstartModel(ModelConfig.from_dict(told["model"]), content)
        with np.load(directory / _WEIGHTS, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        rates = arrays.pop(_RATES)
        model.load_arrays(arrays)
        adapter = make_body_adapter(told["adapter"]["name"], **told["adapter"]["settings"])
        return cls(
            Body(model, rows=adapter.rows),
            adapter,
            Pace(np.int32(adapter.steps), rates),
            _TASKS.validate_python(told["tasks"]),
            tuple(told["tried"]),
        )
