"""One small untrained model for the folder, with every variable moved off its starting value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.unit.shared.modeling.twin import CONFIG

NUM_ITEMS = 12


def shaken(config: Any = CONFIG, *, seed: int = 3) -> Any:
    """A model whose variables are all random, so that none of them can hide by being zero."""
    from shared.modeling.model import WarmstartModel

    content = np.random.default_rng(0).normal(size=(NUM_ITEMS, config.content_dim)).astype(np.float32)
    content[-1] = 0.0  # one item has no text
    rng = np.random.default_rng(seed)
    model = WarmstartModel(config, content, seed=seed)
    for variable in model.trainable_variables:
        variable.assign_add(rng.normal(scale=0.2, size=variable.shape).astype(np.float32))
    return model


@pytest.fixture(scope="package")
def model() -> Any:
    pytest.importorskip("tensorflow")
    return shaken()
