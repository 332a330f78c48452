"""Scoring beside the real feature service: the catalogue's items, by their text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from warmstart.common.v1 import item_pb2
from warmstart.features.v1 import feature_service_pb2 as features_pb
from warmstart.features.v1 import feature_service_pb2_grpc as features_rpc
from warmstart.scoring.v1 import scoring_service_pb2 as pb
from warmstart.scoring.v1 import scoring_service_pb2_grpc as rpc

from services.features.app import build as build_features
from services.features.settings import FeatureSettings
from services.scoring.app import build
from services.scoring.settings import ScoringSettings
from shared.artifacts import Registry
from shared.content import TextEncoder
from shared.domain import Item
from shared.rpc.channels import call, connect
from shared.rpc.codec import decode_floats, encode_item, encode_tensor
from shared.rpc.server import running
from tests.artifacts import publish_model
from tests.model_servers import until
from tests.valkey import running_valkey

CATALOGUE = [
    Item("alien", "Alien", "A crew in deep space meets a deadly creature.", ("Horror", "Sci-Fi")),
    Item("babe", "Babe", "A little pig learns to herd sheep on a farm.", ("Children", "Comedy")),
    Item("heat", "Heat", "A detective hunts a crew of bank robbers in Los Angeles.", ("Crime",)),
]
UNTOLD = Item("untold")


async def test_items_told_by_text_alone_are_retrievable_within_a_second(tmp_path: Path) -> None:
    encoder = TextEncoder()
    vectors = dict(zip([i.item_id for i in CATALOGUE], encoder.encode_items(CATALOGUE), strict=True))
    registry = Registry(tmp_path)
    ref = publish_model(registry, ids=list(vectors), content=vectors.__getitem__)
    registry.promote("default", ref.version)
    output = registry.open(ref).rows.output
    with running_valkey() as valkey:
        features_settings = FeatureSettings(port=0, store_url=valkey.url, shards=8, grace_s=0.1)
        component = build_features(features_settings, encoder=encoder)
        async with running(component, features_settings) as target, connect(target) as to_features:
            features = features_rpc.FeatureServiceStub(to_features)
            await upsert(features, *CATALOGUE)
            settings = ScoringSettings(registry=str(tmp_path), features_target=target, port=0)
            async with running(build(settings), settings) as address, connect(address) as to_scoring:
                scoring = rpc.ScoringServiceStub(to_scoring)
                # The same texts: the artifact's own rows, not rows made anew.
                unit = np.eye(output.shape[1], dtype=np.float32)[0]
                assert dict(await retrieve(scoring, unit)) == dict(
                    zip(vectors, output[:, 0].tolist(), strict=True)
                )
                await upsert(features, Item("aliens", "Aliens", "Marines in deep space."), UNTOLD)
                assert await until(lambda: finds(scoring, unit, [*vectors, "aliens", "untold"])) < 1.0
                await call(
                    features.DeleteItems, features_pb.DeleteItemsRequest(item_ids=["babe"]), timeout_s=10
                )
                assert await until(lambda: finds(scoring, unit, ["alien", "heat", "aliens", "untold"])) < 1.0
                response = await call(
                    scoring.ScoreItems,
                    pb.ScoreItemsRequest(
                        item_ids=["aliens", "babe"], similar_to=pb.ItemsQuery(item_ids=["alien"])
                    ),
                    timeout_s=10,
                )
                assert list(response.missing_item_ids) == ["babe"]
                assert np.isfinite(decode_floats(response.scores, field="scores", shape=(1, 1))).all()


async def upsert(features: Any, *items: Item) -> None:
    request = features_pb.UpsertItemsRequest(items=[encode_item(i) for i in items])
    response = await call(features.UpsertItems, request, timeout_s=10)
    assert {r.status for r in response.results} == {item_pb2.ITEM_STATUS_CREATED}


async def retrieve(scoring: Any, query: Any) -> list[tuple[str, float]]:
    wanted = pb.RetrievalQuery(vector=encode_tensor(query), limit=100)
    response = await call(scoring.RetrieveItems, pb.RetrieveItemsRequest(queries=[wanted]), timeout_s=10)
    return list(zip(response.results[0].item_ids, response.results[0].scores, strict=True))


async def finds(scoring: Any, query: Any, item_ids: list[str]) -> bool:
    return sorted(i for i, _ in await retrieve(scoring, query)) == sorted(item_ids)
