"""The short form of `make fuzz` for readers: their corpus, and some hundred cases each without coverage."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from zlib import crc32

import pytest
import structlog
from google.protobuf.message import Message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import WarmstartError
from tests.fuzz.corpus import corpus_of
from tests.fuzz.mutation import damaged
from tests.fuzz.strategies import messages, near
from tests.fuzz.targets import TARGET_NAMES, target_of
from tests.fuzz.targets.base import Target, clean_up, fails
from tests.fuzz.targets.messages import _SERVICES, _SHARED, _parts

CASES, SEEDS = 120, 60
# Tested beside the servers, whose models take it along too: importing it takes seconds.
WITH_TENSORFLOW = "checkpoint"


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """Readers log what they pass over."""
    with structlog.testing.capture_logs(), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numpy's, of numbers that are none
        yield
    clean_up()


@pytest.mark.parametrize("name", [name for name in TARGET_NAMES if name != WITH_TENSORFLOW])
def test_only_our_own_errors_come_out(name: str) -> None:
    assert wrong_with(name) == {}


@pytest.mark.parametrize(("kind", "decode"), [*_SHARED, *_SERVICES], ids=lambda v: getattr(v, "__name__", ""))
def test_any_message_is_decoded_or_refused(kind: type[Message], decode: object) -> None:
    seeds = _parts().get(kind.DESCRIPTOR.full_name, [kind()])

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(st.one_of(messages(kind), near(seeds)))
    def check(message: Message) -> None:
        with suppress(WarmstartError):
            decode(message)  # type: ignore[operator]

    check()


def wrong_with(name: str) -> dict[str, bytes]:
    """Problem → case, of seeds, corpus and made-up cases of a target."""
    target, rng = target_of(name), Random(crc32(name.encode()))
    seeds = target.seeds()
    begun = [*rng.sample(seeds, min(len(seeds), SEEDS)), *corpus_of(name).values()]
    made = [_changed(target, rng.choice(begun), rng) for _ in range(CASES)]
    return {problem: case for case in (*begun, *made) if (problem := fails(target, case))}


def _changed(target: Target, case: bytes, rng: Random) -> bytes:
    """As the target changes its cases; where bytes are bytes, the first chooses the reader and stays."""
    return target.mutate(case, rng) if target.mutate is not None else case[:1] + damaged(rng, case[1:])
