"""docs/learning-by-hand.md, number by number: the real heads, losses and optimiser on the example's
numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.training.loop import Objective, Rates, Trainer, Worker
from shared.modeling.config import TASKS
from tests.unit.shared.modeling.twin import CONFIG

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")
from shared.modeling.heads import Heads  # noqa: E402 (needs TensorFlow)
from shared.modeling.losses import set_loss, sigmoid_loss, softmax_loss, squared_loss  # noqa: E402

DOCUMENT = Path(__file__).parents[4] / "docs" / "learning-by-hand.md"
STATE, MATRIX = [[1.0, 2.0]], [[1.0, 0.0], [0.0, 0.5]]
ROWS, BIASES = [[2.0, -1.0], [-1.0, 1.0]], [-1.0, 1.0]
MEAN_STARS, STARS = 3.5, [[5.0, 3.0]]
FIRST = tf.constant([[0]])  # what was liked, and consumed next
ONE = tf.ones([1, 1])
Array = np.ndarray[Any, Any]
Loss = Callable[[Any], Any]


def written() -> dict[str, Any]:
    """The blocks' lines: name → numbers, rows of a matrix divided by |."""
    blocks = re.findall(r"```\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split(" = ") for block in blocks for line in block.strip().splitlines()]
    named = {name.strip(): [row.split() for row in numbers.split("|")] for name, numbers in lines}
    assert len(named) == len(lines)
    return {name: np.squeeze(np.array(rows, float)) for name, rows in named.items()}


class Example(keras.layers.Layer):  # type: ignore[misc]
    """The example's heads and biases; scores of both items by one task."""

    def __init__(self, task: str) -> None:
        super().__init__(name="example")
        self.heads = Heads(replace(CONFIG, dim=2, heads=1))
        self.heads.build()
        self.heads.maps.kernel.assign(np.tile(MATRIX, (1, len(TASKS))))
        self.biases = self.add_weight(name="biases", shape=(2,), initializer="zeros")
        self.biases.assign(BIASES)
        self.number = TASKS.index(task)
        self.own = slice(2 * self.number, 2 * self.number + 2)

    @property
    def weights_now(self) -> tuple[Array, Array]:
        """W and b."""
        return self.heads.maps.kernel.numpy()[:, self.own], self.biases.numpy()

    def query(self) -> Any:
        return self.heads.sequence_queries(tf.constant(STATE), tf.ones([1]))[:, self.number]

    def scores(self) -> Any:
        return tf.matmul(self.query(), tf.constant(ROWS), transpose_b=True) + self.biases.value

    def gradients(self, loss: Loss) -> list[Array]:
        """By the scores, by the query, by W and by b."""
        kernel, biases = self.heads.maps.kernel.value, self.biases.value
        with tf.GradientTape() as tape:
            tape.watch([kernel, biases])
            query = self.query()
            scores = tf.matmul(query, tf.constant(ROWS), transpose_b=True) + biases
            value = loss(scores)
        found = [np.squeeze(g.numpy()) for g in tape.gradient(value, [scores, query, kernel, biases])]
        return [*found[:2], found[2][:, self.own], found[3]]

    def descend(self, loss: Loss, rate: float) -> None:
        """A plain step of gradient descent."""
        *_, by_matrix, by_biases = self.gradients(loss)
        kernel = self.heads.maps.kernel.numpy()
        kernel[:, self.own] -= rate * by_matrix
        self.heads.maps.kernel.assign(kernel)
        self.biases.assign_sub(rate * by_biases)

    def train(self, loss: Loss) -> None:
        """The trainer's own first step, at rate 0.1."""

        def objective(batch: Mapping[str, Any], noise: Any) -> tuple[Any, dict[str, Any]]:
            return loss(self.scores()), {}

        rates = Rates(rate=0.1, warmup=1)
        model: Any = self
        variables = [self.heads.maps.kernel, self.biases]
        trainer = Trainer(model, [Objective(objective, [(variables, rates.rate)])], rates, 10, Worker(None))
        trainer.step({"mask": np.ones((1, 2), np.float32)}, seed=0, number=0)


def like_loss(scores: Any) -> Any:
    return sigmoid_loss(scores, FIRST, ONE, tf.ones([1, 2]))


def next_loss(scores: Any) -> Any:
    return set_loss(scores, FIRST, ONE)


def rating_loss(scores: Any) -> Any:
    return squared_loss(MEAN_STARS + scores, tf.constant(STARS), tf.ones([1, 2]))


def stepped(task: str, loss: Loss, step: Callable[[Example], None]) -> tuple[Array, Array, Array, float]:
    """W, b, the scores and the loss after a step from the start."""
    example = Example(task)
    step(example)
    scores = example.scores()
    return *example.weights_now, np.squeeze(scores.numpy()), float(loss(scores))


def worked() -> dict[str, Any]:
    """Every line of the document, as the code works it out."""
    found: dict[str, Any] = {"h": STATE, "W": MATRIX, "X": ROWS, "b": BIASES}
    like, following, rating = Example("like"), Example("next"), Example("rating")
    scores = like.scores()
    found |= {"q": like.query(), "z": scores, "p": tf.sigmoid(scores), "loss": like_loss(scores)}
    found |= zip(("dz", "dq", "dW", "db"), like.gradients(like_loss), strict=True)
    names = ("W", "b", "z", "loss")
    after = stepped("like", like_loss, lambda e: e.descend(like_loss, 0.1))
    found |= zip((f"{n} after" for n in names), after, strict=True)
    adam = stepped("like", like_loss, lambda e: e.train(like_loss))
    found |= zip((f"{n} adam" for n in names), adam, strict=True)

    found |= {"next p": tf.nn.softmax(following.scores()), "next loss": next_loss(following.scores())}
    found |= zip((f"next {n}" for n in ("dz", "dq", "dW", "db")), following.gradients(next_loss), strict=True)

    found |= {"stars": MEAN_STARS + rating.scores(), "rating loss": rating_loss(rating.scores())}
    found |= zip(
        (f"rating {n}" for n in ("dz", "dq", "dW", "db")), rating.gradients(rating_loss), strict=True
    )
    after = stepped("rating", rating_loss, lambda e: e.descend(rating_loss, 0.01))
    found |= zip((f"rating {n} after" for n in names), after, strict=True)
    adam = stepped("rating", rating_loss, lambda e: e.train(rating_loss))
    return found | dict(zip((f"rating {n} adam" for n in names), adam, strict=True))


def test_every_number_of_the_document_is_what_the_code_works_out() -> None:
    found = worked()
    for name, numbers in written().items():
        np.testing.assert_allclose(np.squeeze(found[name]), numbers, atol=5.1e-5, err_msg=name)


def test_one_target_is_a_set_of_one() -> None:
    """Pre-training's softmax loss of `next` is meta-training's, where there is one target."""
    scores = Example("next").scores()
    assert float(softmax_loss(scores, FIRST[:, 0], ONE[:, 0])) == pytest.approx(float(next_loss(scores)))
