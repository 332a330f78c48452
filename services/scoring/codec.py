"""Scoring's messages ↔ domain types."""

from __future__ import annotations

import numpy as np
from warmstart.scoring.v1 import scoring_service_pb2 as pb

from services.scoring.scorer import (
    SIMILAR_TASK,
    ItemsQuery,
    RetrievalQuery,
    Retrieved,
    RetrieveJob,
    ScoreJob,
    Scores,
    ScoringVersion,
)
from shared.domain import FloatArray, ModelRef, Trail
from shared.errors import InvalidInput
from shared.rpc.codec import (
    check_count,
    decode_floats,
    decode_ids,
    decode_queries,
    decode_trail,
    encode_model_ref,
    encode_tensor,
)
from shared.rpc.codec.models import MAX_QUERY_ENTRY

MAX_QUERIES = 16
MAX_RETRIEVED = 5000
MAX_SCORED = 5000
MAX_EXCLUDED = 20_000
MAX_ITEMS_OF_A_QUERY = 5000
MAX_ITEM_WEIGHT = 1e6


def decode_retrieve(request: pb.RetrieveItemsRequest, version: ScoringVersion) -> RetrieveJob:
    check_count(len(request.queries), MAX_QUERIES, field="queries")
    if not request.queries:
        raise InvalidInput.of("queries", "must hold at least 1", 0)
    queries = tuple(
        _retrieval_query(q, f"queries[{i}]", version.output_dim) for i, q in enumerate(request.queries)
    )
    # Unknown ids are ignored, so their rules are not looked at either: there may be 20,000.
    check_count(len(request.exclude_item_ids), MAX_EXCLUDED, field="exclude_item_ids")
    score_also = None
    if request.HasField("score_also"):
        most = MAX_SCORED - sum(query.limit for query in queries)
        score_also = decode_score(request.score_also, version, field="score_also.", most=most)
    trail = _trail(request)
    return RetrieveJob(version, queries, tuple(request.exclude_item_ids), score_also, trail)


def encode_retrieved(found: Retrieved, ref: ModelRef) -> pb.RetrieveItemsResponse:
    return pb.RetrieveItemsResponse(
        results=[pb.RetrievedItems(item_ids=h.item_ids, scores=h.scores.tolist()) for h in found.hits],
        model=encode_model_ref(ref),
        scored=encode_scores(found.scores, ref) if found.scores is not None else None,
    )


def decode_score(
    request: pb.ScoreItemsRequest | pb.ScoreAlso,
    version: ScoringVersion,
    *,
    field: str = "",
    most: int = MAX_SCORED,
) -> ScoreJob:
    """field: path of the message, with its dot; most: items it may name."""
    item_ids = decode_ids(request.item_ids, field=f"{field}item_ids", max_count=max(most, 0))
    similar_to = None
    if request.HasField("similar_to"):
        similar_to = _items_query(request.similar_to, f"{field}similar_to")
    # That of a ScoreAlso is the retrieval's.
    trail = _trail(request) if isinstance(request, pb.ScoreItemsRequest) else None
    if not request.queries and similar_to is not None:
        return ScoreJob(version, item_ids, (), np.zeros((0, version.output_dim), np.float32), similar_to)
    tasks, queries = decode_queries(request.queries, field=f"{field}queries")
    _check_width(queries.shape[1], version.output_dim, f"{field}queries[0].vector")
    if similar_to is not None and SIMILAR_TASK in tasks:
        name = f"{field}queries[{tasks.index(SIMILAR_TASK)}].task"
        raise InvalidInput.of(name, "must not be the name of similar_to's column", SIMILAR_TASK)
    return ScoreJob(version, item_ids, tasks, queries, similar_to, trail)


def _trail(request: pb.RetrieveItemsRequest | pb.ScoreItemsRequest) -> Trail | None:
    return decode_trail(request.trail, field="trail") if request.HasField("trail") else None


def encode_scores(scores: Scores, ref: ModelRef) -> pb.ScoreItemsResponse:
    return pb.ScoreItemsResponse(
        item_ids=scores.item_ids,
        missing_item_ids=scores.missing,
        tasks=scores.tasks,
        scores=encode_tensor(scores.scores),
        sketches=encode_tensor(scores.sketches),
        model=encode_model_ref(ref),
    )


def _retrieval_query(message: pb.RetrievalQuery, field: str, output_dim: int) -> RetrievalQuery:
    if not 1 <= message.limit <= MAX_RETRIEVED:
        raise InvalidInput.of(f"{field}.limit", f"must be 1..{MAX_RETRIEVED}", message.limit)
    kind = message.WhichOneof("query")
    if kind is None:
        raise InvalidInput.of(f"{field}.query", "must be set", None)
    if kind == "items":
        return RetrievalQuery(_items_query(message.items, f"{field}.items"), message.limit)
    vector: FloatArray = decode_floats(
        message.vector, field=f"{field}.vector", shape=(None,), largest=MAX_QUERY_ENTRY
    )
    _check_width(len(vector), output_dim, f"{field}.vector")
    return RetrievalQuery(vector, message.limit)


def _check_width(width: int, output_dim: int, field: str) -> None:
    if width != output_dim:
        raise InvalidInput.of(field, f"must have the version's output_dim, {output_dim}, entries", width)


def _items_query(message: pb.ItemsQuery, field: str) -> ItemsQuery:
    item_ids = decode_ids(
        message.item_ids, field=f"{field}.item_ids", max_count=MAX_ITEMS_OF_A_QUERY, min_count=1
    )
    if not message.weights:
        return ItemsQuery(item_ids)
    weights = np.array(message.weights, np.float32)
    if len(weights) != len(item_ids):
        rule = f"must have the length of item_ids, {len(item_ids)}, or be empty"
        raise InvalidInput.of(f"{field}.weights", rule, len(weights))
    bad = np.flatnonzero(~(np.abs(weights) <= MAX_ITEM_WEIGHT))  # NaN is not
    if len(bad):
        place = int(bad[0])
        rule = f"must be -{MAX_ITEM_WEIGHT:g}..{MAX_ITEM_WEIGHT:g}"
        raise InvalidInput.of(f"{field}.weights[{place}]", rule, float(weights[place]))
    return ItemsQuery(item_ids, weights)
