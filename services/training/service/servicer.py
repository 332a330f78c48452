"""TrainingService: decode → call → encode."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing
from typing import Any

import grpc
from warmstart.training.v1 import training_service_pb2 as pb
from warmstart.training.v1 import training_service_pb2_grpc as rpc

from services.training.service import codec
from services.training.service.models import Models
from services.training.service.training import Places
from services.training.service.trainings import Trainings
from shared.auth.callers import ALL_DOMAINS
from shared.errors import PermissionDenied
from shared.rpc.codec import check_domain, encode_model_ref
from shared.rpc.serving import served_call

_DEFAULT_TRAININGS, _DEFAULT_MODELS = 50, 100
Context = grpc.aio.ServicerContext[Any, Any]


class TrainingServicer(rpc.TrainingServiceServicer):
    """See the comments in training_service.proto."""

    def __init__(
        self, domains: Collection[str], places: Places, trainings: Trainings, models: Models
    ) -> None:
        self._domains, self._places = domains, places
        self._trainings, self._models = trainings, models

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        rpc.add_TrainingServiceServicer_to_server(self, server)
        return [pb.DESCRIPTOR.services_by_name["TrainingService"].full_name]

    async def StartTraining(
        self, request: pb.StartTrainingRequest, context: Context
    ) -> pb.StartTrainingResponse:
        domain, key = self._domain(request), codec.decode_request_key(request)
        resumed = codec.decode_resume(request)
        if resumed:
            training = await self._trainings.resume(domain, codec.decode_name(resumed, "resume"), key)
        else:
            _check_path(request.options)
            settings = codec.decode_start(request, domain, self._places)
            training = await self._trainings.start(settings, key)
        return pb.StartTrainingResponse(training_id=training.training_id)

    async def WatchTraining(
        self, request: pb.WatchTrainingRequest, context: Context
    ) -> AsyncIterator[pb.WatchTrainingResponse]:
        training_id = codec.decode_name(request.training_id, "training_id")
        async with aclosing(self._trainings.watch(self._domain(request), training_id)) as updates:
            async for update in updates:
                yield codec.encode_update(update)

    async def ListTrainings(
        self, request: pb.ListTrainingsRequest, context: Context
    ) -> pb.ListTrainingsResponse:
        domain, before = self._domain(request), codec.decode_page_token(request.page_token)
        size = codec.decode_page_size(request.page_size, _DEFAULT_TRAININGS)
        found = self._trainings.newest(domain, size + 1, before)
        return pb.ListTrainingsResponse(
            trainings=[codec.encode_training(training, short=True) for training in found[:size]],
            next_page_token=found[size - 1].training_id if len(found) > size else "",
        )

    async def StopTraining(
        self, request: pb.StopTrainingRequest, context: Context
    ) -> pb.StopTrainingResponse:
        training_id = codec.decode_name(request.training_id, "training_id")
        training = await self._trainings.stop(self._domain(request), training_id)
        return pb.StopTrainingResponse(training=codec.encode_training(training))

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        domain, before = self._domain(request), codec.decode_page_token(request.page_token)
        size = codec.decode_page_size(request.page_size, _DEFAULT_MODELS)
        page = await self._models.page(domain, size, before)
        return pb.ListModelsResponse(
            models=[codec.encode_model(model) for model in page.models],
            next_page_token=page.models[-1].version if page.more else "",
            aliases_problem=page.aliases_problem,
        )

    async def PromoteModel(
        self, request: pb.PromoteModelRequest, context: Context
    ) -> pb.PromoteModelResponse:
        version = codec.decode_name(request.version, "version")
        champion = await self._models.promote(self._domain(request), version)
        return pb.PromoteModelResponse(champion=encode_model_ref(champion))

    async def RollBackModel(
        self, request: pb.RollBackModelRequest, context: Context
    ) -> pb.RollBackModelResponse:
        champion = await self._models.roll_back(self._domain(request))
        return pb.RollBackModelResponse(champion=encode_model_ref(champion))

    def _domain(self, request: Any) -> str:
        return check_domain(request.domain, self._domains)


def _check_path(options: pb.TrainingOptions) -> None:
    """Files of the server's machine are of no domain: PermissionDenied for a caller of only some domains."""
    call = served_call()
    caller = None if call is None else call.caller
    if options.dataset.path and caller is not None and not caller.has_all_domains:
        raise PermissionDenied(
            f"options.dataset.path must be empty, got {options.dataset.path[:80]!r}: files of the server's"
            f" machine are of no domain, so to name one takes a credential of all ({ALL_DOMAINS})"
        )
