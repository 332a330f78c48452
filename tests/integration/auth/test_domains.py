"""Callers of one domain neither see another's, nor learn of it, nor change it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
import pytest_asyncio

from shared.artifacts import Registry
from tests.artifacts import publish_plain
from tests.doors import RPCS
from tests.integration.auth.doors import DOMAINS, MOVIES, Doors, bearer, request_of
from tests.integration.auth.test_credentials import taken_up
from tests.unit.shared.auth.signing import signed

pytestmark = pytest.mark.asyncio(loop_scope="package")


@pytest_asyncio.fixture(loop_scope="package")
async def tenants(both: Doors) -> AsyncIterator[dict[str, str]]:
    """A key of all scopes for each domain."""
    keys = {domain: both.keys.add(domains=[domain]) for domain in DOMAINS}
    await taken_up(both)
    yield keys


async def trained(doors: Doors, domain: str, key: str) -> str:
    """The id of a training that has ended."""
    started = await doors.ask(
        "StartTraining", RPCS["StartTraining"].request(domain=domain, options=MOVIES), key
    )
    wanted = RPCS["ListTrainings"].request(domain=domain)
    async with asyncio.timeout(30.0):
        while True:
            listed = await doors.ask("ListTrainings", wanted, key)
            if any(t.training_id == started.training_id and t.ended_ms for t in listed.trainings):
                return str(started.training_id)
            await asyncio.sleep(0.02)


async def test_each_sees_its_own_catalogue_people_trainings_and_models(
    both: Doors, tenants: dict[str, str], registry: Registry
) -> None:
    seen: dict[str, set[str]] = {}
    for domain, key in tenants.items():
        training_id = await trained(both, domain, key)
        listed = await both.ask("Recommend", request_of(RPCS["Recommend"], domain), key)
        items = await both.ask("ListItems", request_of(RPCS["ListItems"], domain), key)
        trainings = await both.ask("ListTrainings", request_of(RPCS["ListTrainings"], domain), key)
        models = await both.ask("ListModels", request_of(RPCS["ListModels"], domain), key)
        assert {item.item_id for item in listed.items} <= {item.item_id for item in items.items}
        assert training_id in {t.training_id for t in trainings.trainings}
        assert {t.domain for t in trainings.trainings} == {domain}
        seen[domain] = {
            *(item.item_id for item in items.items),
            *(t.training_id for t in trainings.trainings),
            *(m.version for m in models.models),
        }
        assert len(models.models) == 1
    assert seen["shop"].isdisjoint(seen["films"])


@pytest.fixture
def registry(both: Doors) -> Registry:
    """With a model of each domain."""
    registry = Registry(both.directory / "registry")
    for domain in DOMAINS:
        if not registry.versions(domain):
            publish_plain(registry, domain=domain)
    return registry


async def test_a_domain_that_is_there_is_denied_as_one_that_is_not(
    both: Doors, tenants: dict[str, str]
) -> None:
    for rpc in RPCS.values():
        said = []
        for domain in ("films", "nosuch"):
            request = request_of(rpc)
            request.domain = domain
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await both.ask(rpc, request, tenants["shop"])
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            said.append(str(refused.value.details()).replace(domain, "D"))
        assert said[0] == said[1] == "domain must be one that the credential names (shop), got 'D'"


async def test_no_domain_means_default_which_takes_a_credential_too(
    both: Doors, tenants: dict[str, str]
) -> None:
    said = await both.refusal("Recommend", tenants["shop"], user_id="ann")
    assert said == (
        "PERMISSION_DENIED",
        "domain must be one that the credential names (shop), got 'default'",
    )


async def test_a_domain_that_is_not_served_tells_of_no_other(both: Doors) -> None:
    books = both.keys.add(domains=["books", "films"])
    await taken_up(both)
    for rpc in ("Recommend", "ListTrainings"):
        code, said = await both.refusal(rpc, books, domain="books")
        assert (code, said) == ("INVALID_ARGUMENT", "domain must be one of films, got 'books'")


async def test_anothers_training_is_not_found_as_one_that_never_was(
    both: Doors, tenants: dict[str, str]
) -> None:
    theirs = await trained(both, "films", tenants["films"])
    never = "20250101T000000.000Z"
    for rpc in ("WatchTraining", "StopTraining"):
        said = [
            await both.refusal(rpc, tenants["shop"], domain="shop", training_id=training_id)
            for training_id in (theirs, never)
        ]
        assert said[0] == ("NOT_FOUND", f"domain 'shop' has no training {theirs!r}")
        assert said[1] == (said[0][0], said[0][1].replace(theirs, never))
    said = [
        await both.refusal("StartTraining", tenants["shop"], domain="shop", resume=training_id)
        for training_id in (theirs, never)
    ]
    assert said[0] == ("NOT_FOUND", f"domain 'shop' has no training {theirs!r}")
    assert said[1] == ("NOT_FOUND", f"domain 'shop' has no training {never!r}")


async def test_anothers_request_key_starts_a_training_of_ones_own(
    both: Doors, tenants: dict[str, str]
) -> None:
    ids = []
    for domain, key in tenants.items():
        fields = {"domain": domain, "options": MOVIES, "request_key": "monday"}
        started = await both.ask("StartTraining", RPCS["StartTraining"].request(**fields), key)
        ids.append(started.training_id)
    assert ids[0] != ids[1]


async def test_anothers_model_is_not_found(both: Doors, tenants: dict[str, str], registry: Registry) -> None:
    (theirs,) = registry.versions("films")
    code, said = await both.refusal("PromoteModel", tenants["shop"], domain="shop", version=theirs)
    assert (code, said) == ("NOT_FOUND", f"domain 'shop' has no published version {theirs!r}")


async def test_anothers_page_token_opens_nothing(both: Doors, tenants: dict[str, str]) -> None:
    for rpc, fields in (("ListItems", {"page_size": 1}), ("Recommend", {"user_id": "dan", "page_size": 1})):
        request = RPCS[rpc].request(domain="films", **fields)
        token = (await both.ask(rpc, request, tenants["films"])).next_page_token
        assert token
        code, said = await both.refusal(rpc, tenants["shop"], domain="shop", page_token=token, **fields)
        assert code == "INVALID_ARGUMENT"
        assert said.startswith("page_token must be")
        assert "films" not in said


async def test_people_of_the_same_name_are_different_people(both: Doors, tenants: dict[str, str]) -> None:
    name = f"user-{uuid.uuid4().hex[:8]}"

    async def held(domain: str) -> str:
        rpc = RPCS["ExportUser"]
        return await both.code(rpc, rpc.request(domain=domain, user_id=name), bearer(tenants[domain]))

    for domain, key in tenants.items():
        request = request_of(RPCS["RecordFeedback"], domain)
        request.events[0].user_id = name
        await both.ask("RecordFeedback", request, key)
    assert [await held(domain) for domain in DOMAINS] == ["OK", "OK"]
    erase = RPCS["DeleteUser"].request(domain="shop", user_id=name)
    assert (await both.ask("DeleteUser", erase, tenants["shop"])).existed
    assert [await held(domain) for domain in DOMAINS] == ["NOT_FOUND", "OK"]


async def test_a_tenant_names_no_files_of_the_servers_machine(both: Doors, tenants: dict[str, str]) -> None:
    """They are of no domain: to name one takes a credential of all."""
    options: dict[str, Any] = {"dataset": {"name": "movielens-1m", "path": "/etc"}}
    said = await both.refusal("StartTraining", tenants["shop"], domain="shop", options=options)
    assert said[0] == "PERMISSION_DENIED"
    assert said[1].startswith("options.dataset.path must be empty, got '/etc': files of the server's machine")
    code, _ = await both.refusal(
        "StartTraining", both.operator, domain="shop", options={"dataset": {"name": "nosuch", "path": "/etc"}}
    )
    assert code == "INVALID_ARGUMENT"


async def test_metrics_count_callers_by_what_is_bounded(both: Doors, tenants: dict[str, str]) -> None:
    await both.ask("Recommend", request_of(RPCS["Recommend"]), signed(sub="somebody's service"))
    await both.refusal("Recommend", "nonsense", domain="shop")
    url = f"http://127.0.0.1:{both.metrics_ports['gateway']}/metrics"
    told = await asyncio.to_thread(lambda: urlopen(url).read().decode())
    assert 'warmstart_caller_calls_total{caller="jwt",code="OK"}' in told
    assert f'warmstart_caller_calls_total{{caller="{both.operator.split("_")[1]}",code="OK"}}' in told
    assert 'warmstart_auth_refusals_total{reason="CREDENTIAL_INVALID"}' in told
    assert 'warmstart_auth_refusals_total{reason="DOMAIN_DENIED"}' in told
    assert 'warmstart_auth_file_broken{file="keys"} 0.0' in told
    assert "somebody" not in told
    assert both.operator.split("_", 2)[2] not in told
