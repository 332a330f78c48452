"""Common messages ↔ domain types. What comes out of a decoder is valid; what breaks a rule is refused.

Decoders take the message's path in the request as `field` and raise InvalidInput (or TooLarge) that
names every broken field by its path: ``events[3].value must be finite, got nan``.
"""

from __future__ import annotations

from shared.rpc.codec.checks import check_count, check_domain, decode_ids
from shared.rpc.codec.contexts import (
    decode_context,
    decode_history,
    decode_request_context,
    encode_context,
    encode_history,
    encode_request_context,
)
from shared.rpc.codec.events import decode_event, derived_event_id, encode_event
from shared.rpc.codec.items import decode_filter, decode_item, encode_filter, encode_item
from shared.rpc.codec.models import (
    decode_adapted_user,
    decode_held_model,
    decode_model_ref,
    decode_queries,
    decode_trail,
    encode_adapted_user,
    encode_held_model,
    encode_model_ref,
    encode_queries,
    encode_trail,
)
from shared.rpc.codec.tensors import decode_floats, decode_tensor, encode_tensor
from shared.rpc.codec.users import decode_relation, decode_user, encode_relation, encode_user

__all__ = [
    "check_count",
    "check_domain",
    "decode_adapted_user",
    "decode_context",
    "decode_event",
    "decode_filter",
    "decode_floats",
    "decode_held_model",
    "decode_history",
    "decode_ids",
    "decode_item",
    "decode_model_ref",
    "decode_queries",
    "decode_relation",
    "decode_request_context",
    "decode_tensor",
    "decode_trail",
    "decode_user",
    "derived_event_id",
    "encode_adapted_user",
    "encode_context",
    "encode_event",
    "encode_filter",
    "encode_held_model",
    "encode_history",
    "encode_item",
    "encode_model_ref",
    "encode_queries",
    "encode_relation",
    "encode_request_context",
    "encode_tensor",
    "encode_trail",
    "encode_user",
]
