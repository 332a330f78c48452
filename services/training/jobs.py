"""What the training workers are told to do: plain values that travel to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.training.roles import RoleSettings

# The adapter of a body: no fast weights.
NO_ADAPTER = "none"
# What the adapter that is served is compared with.
FINE_TUNE = "finetune"
# What an arm of the whole body leaves in place of an export, see `body_arm`.
BODY_FILE = "body.json"


class StopRequested(Exception):
    """The driver wants no more of a run."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One adapter on the job's body.

    adapter: see `shared.adapters`; name: its directory and its place in reports; pretrained: the body as it
    is before meta-training, for comparison; it has no adapter.
    """

    name: str
    adapter: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False


@dataclass(frozen=True, slots=True)
class Streamed:
    """People who are not all in memory. prepared: directory of `prepare`; roles: who is trained on."""

    prepared: Path
    roles: RoleSettings


@dataclass(frozen=True, slots=True)
class PrivateTraining:
    """What a private job keeps to; see `services.training.private`.

    epsilon: inf = without noise, for comparison alone; secret: file of the run's secret; body: False for rows
    alone, without training by gradients.
    """

    epsilon: float
    delta: float
    secret: Path
    body: bool = True


@dataclass(frozen=True, slots=True)
class Job:
    """One body, pre-trained and meta-trained, and the arms on it.

    data: which of the plan's data sets it reads; steps of 0 keep the preset's; meta_trained: False for a
    sequence model of people whom it knows, which is pre-trained alone (see `Preset.sequence_model`);
    streamed: whom pre-training reads in place of the people of `data`, where these are only some; private:
    where it is trained with differential privacy, in stages of its own, of one arm.
    """

    name: str
    directory: Path
    seed: int
    preset: str
    arms: tuple[Arm, ...]
    data: int = 0
    pretrain_steps: int = 0
    meta_steps: int = 0
    meta_trained: bool = True
    streamed: Streamed | None = None
    private: PrivateTraining | None = None

    def done(self, stage: str) -> Path:
        """The body's weights after a stage."""
        return self.directory / f"{stage}.npz"

    def checkpoint(self, stage: str) -> Path:
        """The newest state inside a stage."""
        return self.directory / "checkpoints" / f"{stage}.npz"

    def export(self, arm: Arm) -> Path:
        """The finished model's files, as the registry takes them."""
        return self.directory / arm.name


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one start of the workers does, in order.

    progress: file that the first worker appends to; stop: file that tells the workers to stop by being
    there; tensorboard: directory of event files.
    """

    jobs: tuple[Job, ...]
    progress: Path
    stop: Path
    tensorboard: Path
    threads: int
