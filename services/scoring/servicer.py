"""ScoringService: decode → retrieve or score → encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import grpc
from warmstart.scoring.v1 import scoring_service_pb2 as pb
from warmstart.scoring.v1 import scoring_service_pb2_grpc as rpc

from services.scoring.codec import decode_retrieve, decode_score, encode_retrieved, encode_scores
from services.scoring.scorer import Retrieved, Scores, ScoringJob, ScoringResult, ScoringVersion
from shared.inference.hosting import ModelHost
from shared.rpc.codec import check_domain, encode_held_model

Context = grpc.aio.ServicerContext[Any, Any]
ScoringHost = ModelHost[ScoringVersion, ScoringJob, ScoringResult]


class ScoringServicer(rpc.ScoringServiceServicer):
    """See the comments in scoring_service.proto."""

    def __init__(self, host: ScoringHost) -> None:
        self._host = host

    def register(self, server: grpc.aio.Server) -> Sequence[str]:
        rpc.add_ScoringServiceServicer_to_server(self, server)
        return [pb.DESCRIPTOR.services_by_name["ScoringService"].full_name]

    async def RetrieveItems(
        self, request: pb.RetrieveItemsRequest, context: Context
    ) -> pb.RetrieveItemsResponse:
        version = self._version(request.domain, request.model_version)
        found = await self._host.submit(decode_retrieve(request, version))
        return encode_retrieved(cast(Retrieved, found), version.ref)

    async def ScoreItems(self, request: pb.ScoreItemsRequest, context: Context) -> pb.ScoreItemsResponse:
        version = self._version(request.domain, request.model_version)
        scores = await self._host.submit(decode_score(request, version))
        return encode_scores(cast(Scores, scores), version.ref)

    async def GetServingModel(
        self, request: pb.GetServingModelRequest, context: Context
    ) -> pb.GetServingModelResponse:
        held = self._host.describe(check_domain(request.domain, self._host.domains))
        return pb.GetServingModelResponse(models=[encode_held_model(one) for one in held])

    def _version(self, domain: str, version: str) -> ScoringVersion:
        return self._host.get(check_domain(domain, self._host.domains), version)
