"""TrainingService's messages ↔ the service's values."""

from __future__ import annotations

from typing import Any, Literal

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from warmstart.training.v1 import training_service_pb2 as pb

from services.training.adapter_choice import check_adapter
from services.training.service.models import Model
from services.training.service.training import LogLine, Places, Result, Stage, Training, Update
from services.training.settings import SourceSettings, TrainSettings
from shared.datasets import DATASETS
from shared.errors import InvalidInput, Violation
from shared.limits import id_rule, text_rule

MAX_KEY_BYTES = 128
MAX_PAGE = 500
MAX_PATH_BYTES = 4096
MAX_ADAPTER_SETTINGS_BYTES = 16 << 10
_PROMOTE = {
    pb.PROMOTE_POLICY_UNSPECIFIED: "auto",
    pb.PROMOTE_POLICY_AUTO: "auto",
    pb.PROMOTE_POLICY_ALWAYS: "always",
    pb.PROMOTE_POLICY_NEVER: "never",
}
_ZERO_IS_DEFAULT = ("preset", "adapter", "workers", "people_in_memory")
_MAY_BE_UNSET: tuple[Literal["held_out_share", "restarts", "private_epsilon", "private_delta"], ...] = (
    "held_out_share",
    "restarts",
    "private_epsilon",
    "private_delta",
)
_POLICIES = {name: number for number, name in _PROMOTE.items()}
# Where a rule of the training's own names an option of its command line, callers know it by another name.
_OPTION_OF_FLAG = {"--dataset": "options.dataset.name", "--path": "options.dataset.path"}


def decode_start(request: pb.StartTrainingRequest, domain: str, places: Places) -> TrainSettings:
    """The settings of a new training. InvalidInput names every bad field, as `options.workers`."""
    options = request.options
    source = _source(options, places)
    named = {name: value for name in _ZERO_IS_DEFAULT if (value := getattr(options, name))}
    named |= {name: getattr(options, name) for name in _MAY_BE_UNSET if options.HasField(name)}
    try:
        settings = TrainSettings(
            source=source,
            domain=domain,
            registry=places.registry,
            adapter_settings=_adapter_settings(options.adapter_settings),
            seed=options.seed,
            pretrain_steps=options.pretrain_steps,
            meta_steps=options.meta_steps,
            cpus=options.cpus,
            address=places.ray_address,
            promote=_PROMOTE.get(options.promote, str(options.promote)),
            **named,
        )
        check_adapter(settings.adapter, settings.adapter_settings, served=True)
        return settings
    except InvalidInput as error:
        raise InvalidInput(map(_as_callers_know_it, error.violations)) from error


def decode_request_key(request: pb.StartTrainingRequest) -> str:
    rule = text_rule(request.request_key, MAX_KEY_BYTES)
    if rule:
        raise InvalidInput.of("request_key", rule, request.request_key)
    return request.request_key


def decode_resume(request: pb.StartTrainingRequest) -> str:
    """The training to go on with; "" for a new one."""
    if request.resume and request.HasField("options"):
        raise InvalidInput.of("options", "must be unset where `resume` is set", str(request.options))
    return request.resume


def decode_name(value: str, field: str) -> str:
    """A training's id, or a version: whether it exists is seen later."""
    rule = id_rule(value)
    if rule:
        raise InvalidInput.of(field, rule, value)
    return value


def decode_page_size(size: int, default: int) -> int:
    if not 0 <= size <= MAX_PAGE:
        raise InvalidInput.of("page_size", f"must be 1..{MAX_PAGE}, or 0 for {default}", size)
    return size or default


def decode_page_token(token: str) -> str:
    """The name that the page before ended with; "" for the first page."""
    return decode_name(token, "page_token") if token else ""


def encode_update(update: Update) -> pb.WatchTrainingResponse:
    match update:
        case Training():
            return pb.WatchTrainingResponse(training=encode_training(update))
        case Stage():
            return pb.WatchTrainingResponse(progress=_encode_stage(update))
        case LogLine():
            return pb.WatchTrainingResponse(log=update.message)


def encode_training(training: Training, *, short: bool = False) -> pb.Training:
    """short: without log and report, for lists."""
    result = None if training.result is None else _encode_result(training.result, short=short)
    return pb.Training(
        training_id=training.training_id,
        domain=training.domain,
        state=pb.TrainingState.ValueType(training.state),
        options=_encode_options(training.settings),
        created_ms=training.created_ms,
        started_ms=training.started_ms,
        ended_ms=training.ended_ms,
        stages=[_encode_stage(stage) for stage in training.stages],
        log=() if short else training.log,
        result=result,
        error=training.error,
        settings_refused=training.settings_refused,
        run_directory=training.run_directory,
    )


def encode_model(model: Model) -> pb.PublishedModel:
    manifest = model.manifest
    if manifest is None:
        return pb.PublishedModel(version=model.version, aliases=model.aliases, problem=model.problem)
    return pb.PublishedModel(
        version=model.version,
        aliases=model.aliases,
        created_ms=manifest.created_ms,
        preset=str(manifest.model.get("preset", "")),
        adapter=manifest.adapter.name,
        metrics=manifest.metrics,
        events=manifest.data.events,
        users=manifest.data.users,
        items=manifest.data.items,
        private_epsilon=manifest.privacy.epsilon if manifest.privacy else 0.0,
        private_delta=manifest.privacy.delta if manifest.privacy else 0.0,
    )


def _source(options: pb.TrainingOptions, places: Places) -> SourceSettings:
    if not options.HasField("dataset"):
        if not places.features_target:
            raise InvalidInput.of("options.dataset", "must be set: this server has no feature service", None)
        return places.source()
    name, path = options.dataset.name, options.dataset.path
    known = DATASETS.get(name)
    if known is None:
        raise InvalidInput.of("options.dataset.name", f"must be one of {', '.join(DATASETS)}", name)
    rule = text_rule(path, MAX_PATH_BYTES)
    if rule:
        raise InvalidInput.of("options.dataset.path", rule, path)
    if known.needs and not path:
        raise InvalidInput.of("options.dataset.path", f"must be a folder with {known.needs}", path)
    return places.source(name, path)


def _adapter_settings(message: Struct) -> dict[str, Any]:
    """JSON knows one kind of number; those without a fraction are meant as whole ones."""
    if message.ByteSize() > MAX_ADAPTER_SETTINGS_BYTES:
        rule = f"must be at most {MAX_ADAPTER_SETTINGS_BYTES} bytes"
        raise InvalidInput.of("options.adapter_settings", rule, message.ByteSize())
    try:
        settings: dict[str, Any] = _whole(json_format.MessageToDict(message))
    except (json_format.SerializeToJsonError, ValueError) as error:  # JSON has no NaN and no infinities
        rule = f"must hold finite numbers ({error})"
        raise InvalidInput.of("options.adapter_settings", rule, str(message)) from error
    return settings


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _as_callers_know_it(broken: Violation) -> Violation:
    """``--workers must be at least 1, got -1`` → ``options.workers must be …``."""
    flag = broken.field
    if not flag.startswith("--"):
        return broken
    field = _OPTION_OF_FLAG.get(flag) or f"options.{flag[2:].replace('-', '_')}"
    return Violation(field, field + broken.description.removeprefix(flag))


def _encode_options(settings: TrainSettings) -> pb.TrainingOptions:
    message = pb.TrainingOptions(
        preset=settings.preset,
        adapter=settings.adapter,
        seed=settings.seed,
        pretrain_steps=settings.pretrain_steps,
        meta_steps=settings.meta_steps,
        workers=settings.workers,
        cpus=settings.cpus,
        promote=_POLICIES[settings.promote],
        held_out_share=settings.held_out_share,
        people_in_memory=settings.people_in_memory,
        restarts=settings.restarts,
    )
    if settings.private_epsilon is not None:
        message.private_epsilon, message.private_delta = settings.private_epsilon, settings.private_delta
    if settings.source.dataset:
        message.dataset.name, message.dataset.path = settings.source.dataset, settings.source.dataset_path
    if settings.adapter_settings:
        message.adapter_settings.update(dict(settings.adapter_settings))
    return message


def _encode_stage(stage: Stage) -> pb.StageProgress:
    return pb.StageProgress(stage=stage.name, step=stage.step, total=stage.total, metrics=stage.metrics)


def _encode_result(result: Result, *, short: bool) -> pb.TrainingResult:
    return pb.TrainingResult(
        version=result.version,
        promoted=result.promoted,
        reasons=result.reasons,
        metrics=result.metrics,
        people=result.people,
        seconds=result.seconds,
        report_files=result.report_files,
        report="" if short else result.report,
    )
