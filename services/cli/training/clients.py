"""The training service, called: one method an RPC, our errors raised."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from warmstart.training.v1 import training_service_pb2 as pb
from warmstart.training.v1 import training_service_pb2_grpc as rpc

from services.cli import tls
from services.cli.credentials import credential_for
from services.cli.failures import CommandError
from shared.domain import DEFAULT_DOMAIN
from shared.errors import Unavailable
from shared.rpc.channels import call, connect, stream

TIMEOUT_S = 10.0
# A promotion verifies every file of the version.
PROMOTE_TIMEOUT_S = 60.0
_MODELS_A_PAGE = 500


@dataclass(frozen=True, slots=True)
class TrainingClient:
    """A training service and the domain that is meant in every call."""

    target: str
    domain: str
    stub: Any

    @property
    def where(self) -> str:
        """What makes another command mean the same service and domain."""
        domain = "" if self.domain == DEFAULT_DOMAIN else f" --domain {self.domain}"
        return f" --service {self.target}{domain}"

    async def start(self, options: pb.TrainingOptions) -> str:
        """The new training's id."""
        return await self._start(pb.StartTrainingRequest(options=options))

    async def resume(self, training_id: str) -> str:
        return await self._start(pb.StartTrainingRequest(resume=training_id))

    async def watch(self, training_id: str) -> AsyncGenerator[pb.WatchTrainingResponse, None]:
        request = pb.WatchTrainingRequest(domain=self.domain, training_id=training_id)
        async for response in stream(self.stub.WatchTraining, request):
            yield response

    async def trainings(self, page_size: int, page_token: str = "") -> pb.ListTrainingsResponse:
        request = pb.ListTrainingsRequest(domain=self.domain, page_size=page_size, page_token=page_token)
        response: pb.ListTrainingsResponse = await call(
            self.stub.ListTrainings, request, timeout_s=TIMEOUT_S, idempotent=True
        )
        return response

    async def stop(self, training_id: str) -> pb.Training:
        request = pb.StopTrainingRequest(domain=self.domain, training_id=training_id)
        response = await call(self.stub.StopTraining, request, timeout_s=TIMEOUT_S, idempotent=True)
        return response.training  # type: ignore[no-any-return]

    async def models(self) -> tuple[list[pb.PublishedModel], str]:
        """All versions, newest first; why no aliases are shown, "" where they are."""
        models: list[pb.PublishedModel] = []
        token = ""
        while True:
            request = pb.ListModelsRequest(domain=self.domain, page_size=_MODELS_A_PAGE, page_token=token)
            page = await call(self.stub.ListModels, request, timeout_s=TIMEOUT_S, idempotent=True)
            models.extend(page.models)
            token = page.next_page_token
            if not token:
                return models, page.aliases_problem

    async def promote(self, version: str) -> str:
        """The champion's version."""
        request = pb.PromoteModelRequest(domain=self.domain, version=version)
        response = await call(self.stub.PromoteModel, request, timeout_s=PROMOTE_TIMEOUT_S, idempotent=True)
        return str(response.champion.version)

    async def roll_back(self) -> str:
        """The champion's version. Not tried again: that could go two champions back."""
        request = pb.RollBackModelRequest(domain=self.domain)
        response = await call(self.stub.RollBackModel, request, timeout_s=PROMOTE_TIMEOUT_S)
        return str(response.champion.version)

    async def _start(self, request: pb.StartTrainingRequest) -> str:
        """With a key of its own, so that a call that is tried again starts nothing twice."""
        request.domain, request.request_key = self.domain, uuid.uuid4().hex
        response = await call(self.stub.StartTraining, request, timeout_s=TIMEOUT_S, idempotent=True)
        return str(response.training_id)


@asynccontextmanager
async def open_training(target: str, domain: str) -> AsyncIterator[TrainingClient]:
    """A client of the training service at `target`; connects with the first call.

    Raises CommandError where it cannot be reached.
    """
    async with connect(target, tls=tls.source(), credential=credential_for(target)) as channel:
        try:
            yield TrainingClient(target, domain, rpc.TrainingServiceStub(channel))
        except Unavailable as error:
            raise CommandError(
                f"{error}\ntraining service: {target}\nis it up? `warmstart up` starts one, "
                "or say where it is with --service HOST:PORT"
            ) from error
