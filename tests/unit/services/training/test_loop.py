"""Parts of the training loop that need no training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.training.loop import Average, DamagedState, TrainState, ahead


class OneWeight:
    """A model of one variable."""

    def __init__(self) -> None:
        self.value = np.array([8.0])

    def state_arrays(self) -> dict[str, Any]:
        return {"w": self.value.copy()}

    def load_arrays(self, arrays: Mapping[str, Any]) -> None:
        self.value = np.array(arrays["w"])


def test_the_average_of_weights_by_hand() -> None:
    """With momentum 3/4: 8, then 8 + (4 − 8)/4 = 7, then 7 + (3 − 7)/4 = 6."""
    model: Any = OneWeight()
    average = Average(model, 0.75)
    for value in (4.0, 3.0):
        model.value = np.array([value])
        average.follow(100)
    assert average.arrays["w"] == pytest.approx([6.0])
    with average.in_place():
        assert model.value == pytest.approx([6.0])
    assert model.value == pytest.approx([3.0])


def test_an_average_goes_on_from_a_checkpoint_without_changing_it() -> None:
    model: Any = OneWeight()
    kept = {"w": np.array([2.0])}
    average = Average(model, 0.5)
    average.load(kept)
    average.follow(100)
    assert average.arrays["w"] == pytest.approx([5.0])
    assert kept["w"] == pytest.approx([2.0])


def test_an_average_that_knows_little_follows_fast() -> None:
    """The tenth time, at most (1 + 9)/(10 + 9) of what was stays: 8 → 8 − 9/19 · 8."""
    model: Any = OneWeight()
    average = Average(model, 0.95)
    model.value = np.array([0.0])
    average.follow(9)
    assert average.arrays["w"] == pytest.approx([8.0 * 10 / 19])


def test_batches_come_in_order_and_one_ahead() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return 10 * step

    seen = []
    for step, batch in ahead(make, range(3, 6)):
        seen.append((step, batch))
        assert set(made) <= set(range(3, min(step + 2, 6)))
    assert seen == [(3, 30), (4, 40), (5, 50)]
    assert made == [3, 4, 5]


def test_what_fails_in_making_a_batch_fails_the_loop() -> None:
    def make(step: int) -> int:
        raise ValueError("no such episode")

    with pytest.raises(ValueError, match="no such episode"):
        list(ahead(make, range(2)))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: whole[: len(whole) // 2], id="cut off"),
        pytest.param(lambda whole: whole.replace(b"stage", b"stagg"), id="without its stage"),
        pytest.param(lambda whole: whole.replace(bytes(8) * 100, b"\x07" * 800), id="other bytes"),
        pytest.param(lambda whole: b"a text", id="of another kind"),
    ],
)
def test_a_damaged_state_is_named_with_what_to_do(tmp_path: Path, damage: Any) -> None:
    """Of a checkpoint and of a finished stage alike."""
    file = tmp_path / "pretrain.npz"
    TrainState("pretrain", 3, {"w": np.zeros(200)}).save(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DamagedState) as refused:
        TrainState.load(file)
    said = str(refused.value)
    assert said.startswith(f"{file} must be a state that a training saved, got a damaged file (")
    assert said.endswith("): delete it and resume the run, which then does that stage from its beginning")
    assert "unsafely" not in said
    assert "\n" not in said  # of an error that a worker raises, the driver tells one line
