"""The short form of `make fuzz` for RPCs: some thousand nearly valid requests to the real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.corpus import ROOT, corpus_of
from tests.fuzz.rpcs import RpcFuzzer, open_fuzzer
from tests.fuzz.schema import Rpc, all_rpcs, names_a_field
from tests.fuzz.seeds import seeds_of
from tests.fuzz.strategies import messages
from tests.fuzz.targets import TARGET_NAMES, unknown_targets
from tests.fuzz.targets.base import clean_up
from tests.fuzz.test_targets import WITH_TENSORFLOW, wrong_with

pytestmark = pytest.mark.asyncio(loop_scope="module")
CASES, DRAWN = 2500, 5
_OUTPUT_DIM = 17


def drawn(rpc: Rpc) -> list[bytes]:
    """A few requests of any content."""
    found: list[bytes] = []

    @settings(max_examples=DRAWN, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(messages(rpc.request))
    def note(message: Message) -> None:
        found.append(message.SerializeToString())

    note()
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RpcFuzzer]:
    async with open_fuzzer(tmp_path_factory.mktemp("fuzz"), seed=1) as fuzzer:
        yield fuzzer


async def test_no_request_breaks_a_server_and_every_refusal_names_its_field(fuzzer: RpcFuzzer) -> None:
    await fuzzer.run(all_rpcs(), CASES)
    tallies = [*fuzzer.tallies.values(), fuzzer.state]
    assert [f"{f.target}: {f.problem} {f.case!r}" for t in tallies for f in t.findings.values()] == []
    assert sum(tally.cases for tally in tallies) == CASES
    # Most cases are nearly valid: of every RPC that takes anything, some are taken.
    assert {rpc.name for rpc in all_rpcs() if not fuzzer.tallies[rpc.name].cases} == set()


async def test_whatever_hypothesis_makes_of_a_request_is_answered(fuzzer: RpcFuzzer) -> None:
    for rpc in all_rpcs():
        for case in drawn(rpc):
            assert await fuzzer.send(rpc, case) == "", f"{rpc.name} {case!r}"
    assert await fuzzer.look() == []


async def test_what_once_went_wrong_does_not_again(fuzzer: RpcFuzzer) -> None:
    for rpc in all_rpcs():
        for name, case in corpus_of(rpc.name).items():
            assert await fuzzer.send(rpc, case) == "", f"{rpc.name} {name}"
    assert await fuzzer.look() == []


async def test_a_state_that_is_damaged_is_refused() -> None:
    assert wrong_with(WITH_TENSORFLOW) == {}
    assert unknown_targets() == set()
    clean_up()


async def test_every_rpc_has_seeds_and_every_corpus_a_target() -> None:
    assert [rpc.name for rpc in all_rpcs() if not seeds_of(rpc, _OUTPUT_DIM)] == []
    known = {*TARGET_NAMES, *(rpc.name for rpc in all_rpcs())}
    there = {str(path.parent.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}
    assert there - known == set()
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) < 500_000


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("events[3].exposure.position", True),
        ("task_weights['a b']", True),
        ("boosts[0].target", True),
        ("request", True),
        ("filter.attributes[0].va…", True),
        ("", False),
        ("nothing", False),
        ("user_id[0]", False),
        ("events[3]position", False),
    ],
)
async def test_a_path_names_a_field_of_the_request_or_it_does_not(path: str, known: bool) -> None:
    from warmstart.gateway.v1 import recommendation_service_pb2 as pb

    assert names_a_field(path, pb.RecommendRequest.DESCRIPTOR) is known
