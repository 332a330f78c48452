"""A private training, top to bottom: budget → releases → rows → body by noisy gradients → export.

What looks at people's events is the two releases and the gradients, and all of these are in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from services.training.agreement import agreed
from services.training.cost import together
from services.training.data import TrainingData
from services.training.jobs import Arm, Job, PrivateTraining
from services.training.loop import TrainState
from services.training.presets import preset
from services.training.private.body import STAGE, start_body, train_body
from services.training.private.budget import Promise, ledger, scaled_to
from services.training.private.config import PrivateConfig
from services.training.private.probabilities import made_up_calibrations
from services.training.private.releases import release_popularity, release_together
from services.training.private.rows import private_rows, set_rows
from services.training.private.secret import Secret, read_secret
from services.training.worker import (
    Reporter,
    Told,
    drop_checkpoint,
    export,
    figures_of,
    hooks_of,
    save_state,
    state_at,
)
from shared.errors import InvalidInput
from shared.modeling.model import WarmstartModel


def do_private_job(
    job: Job, private: PrivateTraining, arm: Arm, data: TrainingData, strategy: Any, reporter: Reporter
) -> None:
    """The job's one arm; what an interrupted run has finished is not done again.

    data: from `people.private_people`. Raises SecretLost where the run's secret is gone.
    """
    from services.training.loop import Worker

    config = private_config(job)
    secret: Secret = agreed(
        lambda: read_secret(private.secret), lambda secret: secret.fingerprint, reporter.first_says
    )
    promise = Promise(private.epsilon, private.delta)
    mechanisms = scaled_to(promise, config.mechanisms(body=private.body))
    sizes = config.sizes(preset(job.preset).model, data.content.shape[1])
    sizes = replace(sizes, adapter=arm.adapter, adapter_settings=dict(arm.settings))
    with Worker(strategy).strategy.scope():
        model = WarmstartModel(sizes, data.content, seed=job.seed)

    # Told anew by every start: of the same secret the same numbers.
    popularity = release_popularity(data, mechanisms[0], secret)
    taken = release_together(data, popularity, config.items, mechanisms[1], secret)
    set_rows(model, private_rows(data.content, popularity, taken, config.adapt_dim))
    start_body(model)

    stages: dict[str, Mapping[str, float]] = {}
    if private.body:
        done = state_at(job.done(STAGE), reporter)
        if done is None:
            hooks, cost = hooks_of(job, STAGE, config.steps, reporter)
            last = train_body(
                model,
                data,
                config,
                mechanisms[2],
                secret,
                popularity.people,
                whole=private.epsilon >= config.body_from,
                strategy=strategy,
                hooks=hooks,
            )
            figures = figures_of(hooks, last, cost)
            done = TrainState(STAGE, config.steps, model.state_arrays(), figures)
            save_state(done, job.done(STAGE), writes=reporter.writes)
            drop_checkpoint(job, STAGE, reporter)
        model.load_arrays(done.arrays)
        stages[STAGE] = done.figures
    if reporter.writes:
        told = Told(
            made_up_calibrations(model, popularity, job.seed),
            round(popularity.people),
            ledger(promise, mechanisms),
        )
        export(job, arm, model, data, together(stages), told)


def private_config(job: Job) -> PrivateConfig:
    """By the job's preset and steps. Raises InvalidInput where the preset has none."""
    config = preset(job.preset).private
    if config is None:
        raise InvalidInput.of("preset", "must be one that can be trained privately", job.preset)
    return replace(config, steps=job.pretrain_steps or config.steps)
