"""How long adapting takes: what is timed, and what is said where the timing process dies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from services.training.assemble import assemble
from services.training.data import TrainingData
from services.training.evaluation import timing
from services.training.evaluation.protocol import ask, contexts, fitting_protocol
from services.training.evaluation.timing import Timed, TimedModels, TimingFailed, time_adaptation
from services.training.roles import RoleSettings
from shared.domain import ModelRef, UserContext
from shared.holdout import Role
from tests.unit.services.training import synthetic


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return assemble(synthetic.tables(people=20), RoleSettings(0.3, 0.2))


def people(data: TrainingData, shots: int) -> list[UserContext]:
    strangers = data.users_of(Role.HELD_OUT)
    return contexts(data, ask(data, strangers, fitting_protocol(data, strangers)), shots)


def test_what_a_single_round_costs_more_is_not_adapting(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls of 2 and 2.25 ms, whichever comes first after a fine-tuning 10 ms more."""
    now_s, cold = [0.0], [True]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now_s[0])

    def call(ms: float, then_cold: bool) -> Callable[[Sequence[UserContext]], Callable[[], None]]:
        def run() -> None:
            now_s[0] += (ms + 10.0 * cold[0]) / 1000.0
            cold[0] = then_cold

        return lambda _: run

    few = people(data, 2)[:3]
    found = timing._timed([call(2.0, False), call(2.25, False)], call(20.0, True), few, 1)
    assert found.adapt_ms == pytest.approx(0.25)


def test_medians_are_of_calls_made_in_turn_and_inputs_are_not_timed(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that only the calls move on: by 1, 3 and 20 ms, and by 100 for the first person of each, who
    compiles. Making inputs takes a second."""
    now_s, seen = [0.0], set()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now_s[0])

    def call(name: str, ms: float) -> Callable[[Sequence[UserContext]], Callable[[], None]]:
        def ready(_: Sequence[UserContext]) -> Callable[[], None]:
            now_s[0] += 1.0

            def run() -> None:
                now_s[0] += (ms if name in seen else 100.0) / 1000.0
                seen.add(name)

            return run

        return ready

    few = people(data, 2)[:3]
    found = timing._timed([call("off", 1.0), call("on", 3.0)], call("tuned", 20.0), few, 1)
    assert isinstance(found, Timed)
    assert found.people == 3
    figures = (found.encode_ms, found.encode_adapt_ms, found.adapt_ms, found.finetune_ms)
    np.testing.assert_allclose(figures, (1.0, 3.0, 2.0, 20.0), atol=1e-9)


def test_times_of_calls_for_several_are_a_person_s_and_who_fills_no_call_is_left_out(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five people by twos: calls of 2, 3 and 20 ms are 1, 1.5 and 10 ms a person, of four."""
    now_s, sizes = [0.0], set()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now_s[0])

    def call(ms: float) -> Callable[[Sequence[UserContext]], Callable[[], None]]:
        def ready(some: Sequence[UserContext]) -> Callable[[], None]:
            sizes.add(len(some))

            def run() -> None:
                now_s[0] += ms / 1000.0

            return run

        return ready

    found = timing._timed([call(2.0), call(3.0)], call(20.0), people(data, 2)[:5], 2)
    assert sizes == {2}
    assert (found.people, found.together) == (4, 2)
    figures = (found.encode_ms, found.encode_adapt_ms, found.adapt_ms, found.finetune_ms)
    np.testing.assert_allclose(figures, (1.0, 1.5, 0.5, 10.0), atol=1e-9)


@pytest.mark.slow  # a process that imports TensorFlow
def test_a_process_that_dies_is_told(data: TrainingData, tmp_path: Path) -> None:
    ref = ModelRef("default", "none")
    nothing = TimedModels(tmp_path / "registry", ref, ref, tmp_path / "body", data)
    with pytest.raises(TimingFailed, match="the process that times adaptation ended with 1"):
        time_adaptation(nothing, {2: people(data, 2)})
