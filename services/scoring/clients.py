"""What is trending, over gRPC."""

from __future__ import annotations

import numpy as np
from warmstart.features.v1 import feature_service_pb2 as pb
from warmstart.features.v1.feature_service_pb2_grpc import FeatureServiceStub

from services.scoring.trending import Trending
from shared.errors import WarmstartError
from shared.rpc.channels import call, connect
from shared.tls import TlsSource

_TIMEOUT_S = 2.0


class FeatureTrending:
    """`ListTrendingItems` of the feature service behind `target`; satisfies `TrendingFeed`."""

    def __init__(self, target: str, tls: TlsSource | None = None) -> None:
        self._channel = connect(target, tls=tls)
        self._list = FeatureServiceStub(self._channel).ListTrendingItems

    async def trending(self, domain: str, limit: int) -> Trending:
        request = pb.ListTrendingItemsRequest(domain=domain, limit=limit)
        answer = await call(self._list, request, timeout_s=_TIMEOUT_S)
        weights = np.array([item.weight for item in answer.items], np.float64) * answer.first_weight
        found = Trending(
            tuple(item.item_id for item in answer.items),
            weights.astype(np.float32),
            answer.total_weight,
            answer.half_life_s,
        )
        numbers = np.append(found.weights, np.float32(found.total))
        if not (np.isfinite(numbers).all() and (numbers >= 0.0).all()):
            raise WarmstartError(f"trending weights of {domain!r} must be finite and at least 0")
        return found

    async def close(self) -> None:
        await self._channel.close()
