"""AdaptationService: decode → adapt → encode."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from warmstart.adaptation.v1 import adaptation_service_pb2 as pb
from warmstart.adaptation.v1 import adaptation_service_pb2_grpc as rpc

from services.adaptation.adapter import MAX_BATCH, AdaptationVersion, AdaptJob
from services.adaptation.codec import decode_many, decode_one
from shared.domain import AdaptedUser
from shared.inference.hosting import ModelHost
from shared.rpc.codec import check_domain, encode_adapted_user, encode_held_model

Context = grpc.aio.ServicerContext[Any, Any]
AdaptationHost = ModelHost[AdaptationVersion, AdaptJob, AdaptedUser]


class AdaptationServicer(rpc.AdaptationServiceServicer):
    """See the comments in adaptation_service.proto."""

    def __init__(self, host: AdaptationHost) -> None:
        self._host = host

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        rpc.add_AdaptationServiceServicer_to_server(self, server)
        return [pb.DESCRIPTOR.services_by_name["AdaptationService"].full_name]

    async def AdaptUser(self, request: pb.AdaptUserRequest, context: Context) -> pb.AdaptUserResponse:
        version = self._version(request.domain, request.model_version)
        person = decode_one(request, content_dim=version.content_dim)
        adapted = await self._host.submit(AdaptJob(version, person, not request.disable_adaptation))
        return pb.AdaptUserResponse(user=encode_adapted_user(adapted))

    async def BatchAdaptUsers(
        self, request: pb.BatchAdaptUsersRequest, context: Context
    ) -> pb.BatchAdaptUsersResponse:
        version = self._version(request.domain, request.model_version)
        people = decode_many(request, content_dim=version.content_dim)
        jobs = [AdaptJob(version, person, not request.disable_adaptation) for person in people]
        response = pb.BatchAdaptUsersResponse()
        # One batch of the model after another, so that callers with one person get their turn between.
        for start in range(0, len(jobs), MAX_BATCH):
            adapted = await asyncio.gather(*(self._host.submit(j) for j in jobs[start : start + MAX_BATCH]))
            response.users.extend(encode_adapted_user(user) for user in adapted)
        return response

    async def GetServingModel(
        self, request: pb.GetServingModelRequest, context: Context
    ) -> pb.GetServingModelResponse:
        held = self._host.describe(check_domain(request.domain, self._host.domains))
        return pb.GetServingModelResponse(models=[encode_held_model(one) for one in held])

    def _version(self, domain: str, version: str) -> AdaptationVersion:
        return self._host.get(check_domain(domain, self._host.domains), version)
