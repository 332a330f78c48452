"""Token buckets, by hand."""

from __future__ import annotations

import pytest
from warmstart.gateway.v1 import catalog_service_pb2 as catalog_pb
from warmstart.gateway.v1 import recommendation_service_pb2 as pb
from warmstart.gateway.v1 import user_service_pb2 as user_pb
from warmstart.training.v1 import training_service_pb2 as training_pb

from shared.auth.callers import Caller, Quota, Scope
from shared.auth.quotas import Bucket, Quotas, cost_of
from shared.errors import RETRY_KEY, Overloaded, QuotaExceeded


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def caller(name: str = "ann", quota: Quota | None = None) -> Caller:
    return Caller(name, name, frozenset(Scope), frozenset({"shop"}), quota)


def refused_ms(quotas: Quotas, who: Caller, cost: int = 1) -> int:
    with pytest.raises(QuotaExceeded) as refused:
        quotas.charge(who, cost)
    return int(refused.value.metadata[RETRY_KEY])


def test_a_bucket_gives_what_was_saved_up_then_its_rate() -> None:
    bucket = Bucket(rate=2.0, burst=3.0, tokens=3.0, at=0.0)
    assert [bucket.wait_s(1, 0.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert bucket.wait_s(1, 0.0) == 0.5  # one token at two a second
    assert bucket.wait_s(1, 0.25) == 0.25
    assert bucket.wait_s(1, 0.5) == 0.0
    assert bucket.wait_s(1, 0.5) == 0.5


def test_a_bucket_saves_no_more_than_its_burst() -> None:
    bucket = Bucket(rate=10.0, burst=2.0, tokens=0.0, at=0.0)
    assert [bucket.wait_s(1, 3600.0) for _ in range(3)] == [0.0, 0.0, 0.1]


def test_a_call_that_costs_more_than_the_burst_passes_a_full_bucket_and_is_paid_off() -> None:
    bucket = Bucket(rate=1.0, burst=4.0, tokens=3.0, at=0.0)
    assert bucket.wait_s(10, 0.0) == 1.0  # until it is full
    assert bucket.wait_s(10, 1.0) == 0.0  # 4 - 10 = -6
    assert bucket.wait_s(1, 1.0) == 7.0
    assert bucket.wait_s(1, 8.0) == 0.0


def test_a_caller_is_told_exactly_when_to_come_again() -> None:
    clock = Clock()
    quotas = Quotas(Quota(4.0, 1.0), clock=clock)
    quotas.charge(caller(), 1)
    assert refused_ms(quotas, caller()) == 250
    clock.now += 0.249
    assert refused_ms(quotas, caller()) == 1
    clock.now += 0.001
    quotas.charge(caller(), 1)


def test_callers_have_buckets_of_their_own() -> None:
    quotas = Quotas(Quota(1.0, 1.0), clock=Clock())
    quotas.charge(caller("ann"), 1)
    quotas.charge(caller("bob"), 1)
    assert refused_ms(quotas, caller("ann")) == 1000


def test_a_quota_of_ones_own_goes_before_the_default() -> None:
    quotas = Quotas(Quota(1.0, 1.0), clock=Clock())
    for _ in range(100):
        quotas.charge(caller("free", Quota(0.0, 0.0)), 1)
    for _ in range(2):
        quotas.charge(caller("two", Quota(1.0, 2.0)), 1)
    assert refused_ms(quotas, caller("two", Quota(1.0, 2.0))) == 1000


def test_a_quota_that_changes_counts_at_once() -> None:
    quotas = Quotas(Quota(0.0, 0.0), clock=Clock())
    quotas.charge(caller("ann", Quota(1.0, 1.0)), 1)
    quotas.charge(caller("ann", Quota(5.0, 2.0)), 2)
    assert refused_ms(quotas, caller("ann", Quota(5.0, 2.0))) == 200


def test_without_a_quota_nothing_is_kept() -> None:
    quotas = Quotas(Quota(0.0, 0.0), clock=Clock())
    quotas.charge(caller(), 1000)
    assert len(quotas) == 0


def test_replicas_share_a_quota() -> None:
    """10 a second and 4 at once, by two: 5 a second and 2 at once of each."""
    quotas = Quotas(Quota(10.0, 4.0), replicas=2, clock=Clock())
    quotas.charge(caller(), 1)
    quotas.charge(caller(), 1)
    assert refused_ms(quotas, caller()) == 200


def test_buckets_are_bounded_and_the_least_recently_used_goes_first() -> None:
    quotas = Quotas(Quota(1.0, 1.0), clock=Clock(), most=2)
    for name in ("ann", "bob"):
        quotas.charge(caller(name), 1)
    assert refused_ms(quotas, caller("ann")) == 1000  # looked at: bob is now the oldest
    quotas.charge(caller("cem"), 1)
    assert len(quotas) == 2
    assert refused_ms(quotas, caller("ann")) == 1000
    quotas.charge(caller("bob"), 1)  # forgotten, so a full bucket again


def test_to_have_used_ones_quota_up_says_nothing_of_the_server() -> None:
    """Clients hold calls back where a server is overloaded; others would suffer with the caller."""
    assert not issubclass(QuotaExceeded, Overloaded)
    assert QuotaExceeded.reason != Overloaded.reason


def test_a_call_costs_a_token_for_each_hundred_of_its_longest_list() -> None:
    events = pb.RecordFeedbackRequest()
    for _ in range(1000):
        events.events.add()
    many = pb.RecommendRequest(
        user_id="ann", page_size=10, candidate_item_ids=["a"] * 101, exclude_item_ids=["b"] * 201
    )
    ids, relations = catalog_pb.GetItemsRequest(item_ids=["a"] * 100), user_pb.UpsertRelationsRequest()
    for _ in range(5000):
        relations.relations.add()
    assert [
        cost_of(request)
        for request in (
            pb.RecommendRequest(user_id="ann"), pb.RecommendRequest(page_size=500), many, events, ids,
            relations, catalog_pb.ListItemsRequest(page_size=1000), training_pb.RollBackModelRequest(),
            pb.RecommendRequest(page_size=-7),
        )
    ] == [1, 5, 3, 10, 1, 50, 10, 1, 1]  # fmt: skip


def test_a_page_whose_size_is_not_said_costs_what_it_costs_when_it_is() -> None:
    """All requests for pages at the doors, with the sizes that they have by default."""
    by_default = {
        pb.RecommendRequest: 10,
        pb.ListSimilarItemsRequest: 10,
        catalog_pb.ListItemsRequest: 100,
        user_pb.ExportUserRequest: 2000,
        training_pb.ListTrainingsRequest: 50,
        training_pb.ListModelsRequest: 100,
    }
    assert {request.DESCRIPTOR for request in by_default} == {
        message
        for module in (pb, catalog_pb, user_pb, training_pb)
        for message in module.DESCRIPTOR.message_types_by_name.values()
        if "page_size" in message.fields_by_name
    }
    for request, size in by_default.items():
        assert cost_of(request()) == cost_of(request(page_size=size)), request
    assert cost_of(user_pb.ExportUserRequest()) == 20


def test_what_no_request_may_ask_for_costs_no_more_than_the_most_that_one_may() -> None:
    """A backend that passes a visitor's page_size on must not be locked out for days by one of them."""
    assert cost_of(catalog_pb.ListItemsRequest(page_size=2**31 - 1)) == 50
    assert cost_of(catalog_pb.ListItemsRequest(page_size=-5)) == 1
