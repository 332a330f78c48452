"""Enums of the domain and of the contract are the same numbers."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import pytest
from warmstart.common.v1 import event_pb2, model_pb2, tensor_pb2

from shared.domain import NUM_ACTIONS, Action, Link
from shared.rpc.codec import tensors


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"), [(Action, event_pb2.Action, "ACTION_"), (Link, model_pb2.Link, "LINK_")]
)
def test_an_enum_equals_its_proto(ours: type[IntEnum], theirs: Any, prefix: str) -> None:
    numbers = {name.removeprefix(prefix): number for name, number in theirs.items() if number}
    assert {m.name: m.value for m in ours} == numbers


def test_actions_leave_zero_for_padding() -> None:
    assert max(Action) == NUM_ACTIONS - 1
    assert min(Action) == 1


def test_every_tensor_type_has_its_numpy_type() -> None:
    names = {n.removeprefix("D_TYPE_").lower(): v for n, v in tensor_pb2.DType.items() if v}
    assert {str(dtype): number for number, dtype in tensors._DTYPES.items()} == names
