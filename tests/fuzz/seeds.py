"""Requests that the servers take, a few of every RPC: what cases begin from. One without has made-up ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random

import numpy as np
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from warmstart.adaptation.v1 import adaptation_service_pb2 as adaptation
from warmstart.common.v1 import event_pb2, item_pb2, model_pb2, user_pb2
from warmstart.features.v1 import feature_service_pb2 as features
from warmstart.gateway.v1 import catalog_service_pb2 as catalog
from warmstart.gateway.v1 import recommendation_service_pb2 as lists
from warmstart.gateway.v1 import user_service_pb2 as users
from warmstart.scoring.v1 import scoring_service_pb2 as scoring
from warmstart.training.v1 import training_service_pb2 as training

from shared.rpc.codec import encode_context, encode_tensor
from tests.artifacts import CONTENT_DIM, item_ids
from tests.fuzz.schema import Rpc
from tests.fuzz.values import NOW_MS, Known
from tests.model_servers import context_of

DOMAIN, BARE = "default", "bare"  # BARE: served, and nothing is in it
ITEMS = tuple(item_ids(40))
PEOPLE = tuple(f"person-{n:02d}" for n in range(40))
NEW_ITEMS = tuple(f"new-{n:02d}" for n in range(20))
SOME = ITEMS[:8]
_MADE_UP = 8


def known_names() -> Known:
    """What the names of fields may be set to, so that much of it is known to the servers."""
    known = Known()
    people, items, categories = PEOPLE, (*ITEMS, *NEW_ITEMS), ("drama", "war")
    for names, values in (
        (("domain",), (DOMAIN, BARE, "default")),
        (("user_id", "other_user_id", "from_user_id", "into_user_id"), people),
        (("item_id", "item_ids", "candidate_item_ids", "exclude_item_ids"), items),
        (("category", "categories", "any_categories", "no_categories"), categories),
        (("event_id",), tuple(f"event-{n}" for n in range(20))),
        (("task",), ("next", "like", "rating")),
        (("adapter",), ("ridge", "gradient", "amortised", "none", "finetune")),
        (("preset",), ("tiny", "small")),
        (("kind",), ("follows", "trusts")),
        (("service",), ("warmstart.gateway.v1.CatalogService",)),
    ):
        for name in names:
            known.add(name, *values)
    return known


def seeds_of(rpc: Rpc, output_dim: int) -> Sequence[Message]:
    """output_dim: width of a query vector of the model that serves."""
    made = _seeds(output_dim).get(rpc.request)
    return tuple(made) if made else tuple(_made_up(rpc))


def _made_up(rpc: Rpc) -> list[Message]:
    from tests.fuzz.mutation import Mutator

    mutator = Mutator(Random(0), known_names())
    found = [rpc.request() for _ in range(_MADE_UP)]
    for message in found[1:]:
        mutator.filled(message)
    return found


@cache
def _seeds(output_dim: int) -> Mapping[type[Message], Sequence[Message]]:
    by_type: dict[type[Message], Sequence[Message]] = {}
    for part in (_of_features(), _of_gateway(), _of_models(output_dim), _of_training()):
        by_type.update(part)
    by_type[health_pb2.HealthCheckRequest] = [health_pb2.HealthCheckRequest(service=s) for s in ("", "x")]
    return by_type


def event(number: int, **changes: object) -> event_pb2.Event:
    """Another person, item and action each time."""
    fields: dict[str, object] = {
        "event_id": f"event-{number}",
        "user_id": PEOPLE[number % len(PEOPLE)],
        "item_id": ITEMS[3 * number % len(ITEMS)],
        "action": 1 + number % 9,
        "value": 3.0,
        "time_ms": NOW_MS - 60_000 * (number % 100),
    }
    return event_pb2.Event(**(fields | changes))


def _exposed(number: int) -> event_pb2.Event:
    shown = event_pb2.Exposure(
        list_id="list", position=3, propensity=0.5, source="model", model_version="v", experiment_key="e"
    )
    return event(number, exposure=shown)


def _events(count: int) -> list[event_pb2.Event]:
    return [_exposed(n) if n % 3 == 0 else event(n) for n in range(count)]


def _item(number: int) -> item_pb2.Item:
    return item_pb2.Item(
        item_id=NEW_ITEMS[number % len(NEW_ITEMS)],
        title=f"Title {number}",
        description="Of war and peace, and of what lies between.\nA second line.",
        categories=["drama", "war"][: 1 + number % 2],
        attributes={"brand": "acme", "year": str(1990 + number)},
        available=number % 4 != 0,
        created_ms=NOW_MS - 3_600_000 * number,
    )


def _filter() -> item_pb2.ItemFilter:
    condition = item_pb2.AttributeCondition(name="brand", values=["acme", "other"], negate=True)
    return item_pb2.ItemFilter(
        any_categories=["drama", "war"], no_categories=["none"], attributes=[condition], created_from_ms=1
    )


def _batches(
    request: Callable[..., Message], name: str, make: Callable[[int], Message], sizes: Sequence[int]
) -> list[Message]:
    return [request(domain=DOMAIN, **{name: [make(n) for n in range(size)]}) for size in sizes]


def _moment() -> user_pb2.RequestContext:
    return user_pb2.RequestContext(device="phone", surface="home", time_ms=NOW_MS)


def _of_features() -> dict[type[Message], Sequence[Message]]:
    f = features
    user = lambda n: user_pb2.User(user_id=PEOPLE[n], attributes={"country": "NL", "age": str(n)})  # noqa: E731
    relation = lambda n: user_pb2.Relation(  # noqa: E731
        user_id=PEOPLE[n], other_user_id=PEOPLE[n + 1], kind="trusts", weight=0.5, time_ms=NOW_MS - 5000
    )
    found: dict[type[Message], Sequence[Message]] = {
        f.RecordEventsRequest: [f.RecordEventsRequest(events=_events(n)) for n in (1, 4, 12)],
        f.GetUserContextRequest: [
            f.GetUserContextRequest(user_id=PEOPLE[1]),
            f.GetUserContextRequest(
                user_id=PEOPLE[2],
                events=[event(n, user_id=PEOPLE[2], time_ms=NOW_MS) for n in range(3)],
                request=_moment(),
            ),
        ],
        f.ListTrendingItemsRequest: [f.ListTrendingItemsRequest(limit=n) for n in (0, 5)],
        f.WatchItemsRequest: [f.WatchItemsRequest(include_embeddings=flag) for flag in (False, True)],
        f.ExportEventsRequest: [
            f.ExportEventsRequest(from_ms=NOW_MS - 100_000, until_ms=NOW_MS, include_impressions=True),
            f.ExportEventsRequest(),
        ],
        f.ExportUsersRequest: [f.ExportUsersRequest(domain=d) for d in (DOMAIN, BARE)],
    }
    for module in (features, catalog, users):
        for name, field, make in (
            ("UpsertItemsRequest", "items", _item),
            ("UpsertUsersRequest", "users", user),
            ("UpsertRelationsRequest", "relations", relation),
        ):
            if hasattr(module, name):
                request = getattr(module, name)
                found[request] = _batches(request, field, make, (1, 3, 8))
        for name in ("GetItemsRequest", "DeleteItemsRequest"):
            if hasattr(module, name):
                request = getattr(module, name)
                ids = NEW_ITEMS if name.startswith("Delete") else (*ITEMS[:4], "no such item")
                found[request] = [request(item_ids=ids[:n]) for n in (1, 5)]
        if hasattr(module, "ListItemsRequest"):
            found[module.ListItemsRequest] = [module.ListItemsRequest(page_size=n) for n in (0, 3)]
        for name in ("ExportUserRequest", "DeleteUserRequest"):
            if hasattr(module, name):
                request = getattr(module, name)
                found[request] = [request(user_id=PEOPLE[n]) for n in (3, 4)]
        if hasattr(module, "MergeUsersRequest"):
            found[module.MergeUsersRequest] = [
                module.MergeUsersRequest(from_user_id=PEOPLE[n], into_user_id=PEOPLE[n + 1]) for n in (5, 7)
            ]
    return found


def _of_gateway() -> dict[type[Message], Sequence[Message]]:
    g = lists
    rich = g.RecommendRequest(
        domain=DOMAIN,
        user_id=PEOPLE[0],
        page_size=7,
        exclude_item_ids=ITEMS[30:34],
        filter=_filter(),
        boosts=[
            g.Boost(item_id=ITEMS[3], factor=2.0),
            g.Boost(category="drama", factor=0.5),
            g.Boost(attribute=g.AttributeTarget(name="brand", value="acme"), factor=3.0),
        ],
        pins=[g.Pin(item_id=ITEMS[5], position=0), g.Pin(item_id=ITEMS[6], position=4)],
        context=_moment(),
        diversity=0.3,
        experiment_key="blue",
        events=[event(n, user_id="", item_id=SOME[n], action=4, time_ms=0) for n in range(3)],
        task_weights={"next": 1.0, "like": 0.5},
        exploration_rate=0.2,
        include_seen=True,
        include_items=True,
    )
    return {
        g.RecommendRequest: [
            g.RecommendRequest(user_id=PEOPLE[0]),
            g.RecommendRequest(user_id=PEOPLE[9], page_size=5),
            g.RecommendRequest(user_id=PEOPLE[1], candidate_item_ids=SOME, page_size=3),
            g.RecommendRequest(user_id=PEOPLE[2], disable_adaptation=True),
            g.RecommendRequest(domain=BARE, user_id=PEOPLE[2]),
            rich,
        ],
        g.RecordFeedbackRequest: [g.RecordFeedbackRequest(events=_events(n)) for n in (1, 3, 9)],
        g.ListSimilarItemsRequest: [
            g.ListSimilarItemsRequest(item_ids=SOME[:1]),
            g.ListSimilarItemsRequest(
                item_ids=SOME, page_size=5, filter=_filter(), exclude_item_ids=ITEMS[:3], include_items=True
            ),
        ],
    }


def _context(number: int) -> model_pb2.UserContext:
    profile = np.full(CONTENT_DIM, 0.04, np.float32)
    message = encode_context(context_of(PEOPLE[number], *SOME[: 2 * number], social_profile=profile))
    message.categories.add(category="drama", share=0.5)
    return message


def _of_models(output_dim: int) -> dict[type[Message], Sequence[Message]]:
    a, s = adaptation, scoring
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(3, output_dim)).astype(np.float32)
    queries = [
        model_pb2.TaskQuery(task=task, vector=encode_tensor(vector))
        for task, vector in zip(("next", "like"), vectors, strict=False)
    ]
    trail = model_pb2.Trail(item_ids=SOME[:2], weights=[0.4, 0.6])
    alike = s.ItemsQuery(item_ids=SOME[:3], weights=[1.0, 0.5, -0.5])
    return {
        a.AdaptUserRequest: [
            a.AdaptUserRequest(context=_context(n), disable_adaptation=n == 1) for n in range(4)
        ],
        a.BatchAdaptUsersRequest: [
            a.BatchAdaptUsersRequest(contexts=[_context(n) for n in range(count)]) for count in (1, 3)
        ],
        **{
            module.GetServingModelRequest: [module.GetServingModelRequest(domain=DOMAIN)] for module in (a, s)
        },
        s.RetrieveItemsRequest: [
            s.RetrieveItemsRequest(queries=[s.RetrievalQuery(items=alike, limit=5)]),
            s.RetrieveItemsRequest(
                queries=[s.RetrievalQuery(vector=encode_tensor(vectors[2]), limit=10)],
                exclude_item_ids=ITEMS[:5],
                score_also=s.ScoreAlso(queries=queries, item_ids=SOME, similar_to=alike),
                trail=trail,
            ),
        ],
        s.ScoreItemsRequest: [
            s.ScoreItemsRequest(queries=queries, item_ids=(*SOME, "no such item"), trail=trail),
            s.ScoreItemsRequest(queries=queries[:1], item_ids=SOME[:2], similar_to=alike),
        ],
    }


def _of_training() -> dict[type[Message], Sequence[Message]]:
    t = training
    options = t.TrainingOptions(
        dataset=t.Dataset(name="movielens-100k"), preset="tiny", adapter="gradient", seed=3, workers=1,
        held_out_share=0.2, restarts=1, promote=t.PROMOTE_POLICY_NEVER,
    )  # fmt: skip
    options.adapter_settings.update({"steps": 2, "first_order": True, "chosen": [1.0, {"a": None}]})
    return {
        t.StartTrainingRequest: [
            t.StartTrainingRequest(domain=DOMAIN, options=options),
            t.StartTrainingRequest(domain=BARE, request_key="key", options=options),
            t.StartTrainingRequest(domain=DOMAIN, resume="none"),
        ],
        t.WatchTrainingRequest: [t.WatchTrainingRequest(training_id="none")],
        t.StopTrainingRequest: [t.StopTrainingRequest(domain=d, training_id="none") for d in (DOMAIN, BARE)],
        t.ListTrainingsRequest: [t.ListTrainingsRequest(page_size=n) for n in (0, 1)],
        t.ListModelsRequest: [t.ListModelsRequest(page_size=n) for n in (0, 1)],
        t.PromoteModelRequest: [t.PromoteModelRequest(version="none")],
        t.RollBackModelRequest: [t.RollBackModelRequest(domain=d) for d in (DOMAIN, BARE)],
    }
