"""A training's saved state: a zip file of arrays. Apart, as reading one takes TensorFlow along."""

from __future__ import annotations

import io

import numpy as np

from services.training.loop import DamagedState, TrainState
from shared.errors import InvalidInput
from tests.fuzz.targets.base import Target, Wrong, scratch


def _checkpoint(case: bytes) -> None:
    path = scratch() / "state.npz"
    path.write_bytes(case)
    try:
        state = TrainState.load(path)
    except DamagedState as error:
        raise InvalidInput.of(str(path), "must be a state", str(error)) from error
    if not isinstance(state.step, int):
        raise Wrong(f"a step that is no number: {state.step!r}")


def _checkpoints() -> list[bytes]:
    path = scratch() / "state.npz"
    TrainState("pretrain", 7, {"a": np.ones((2, 2), np.float32)}, {"seconds": 1.5}).save(path)
    plain = io.BytesIO()
    np.savez_compressed(plain, __stage__=np.array("x"), __step__=np.array(1), a=np.zeros(3))
    return [path.read_bytes(), plain.getvalue()]


TARGETS = (Target("checkpoint", _checkpoint, _checkpoints, max_bytes=8192),)
