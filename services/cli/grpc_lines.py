"""gRPC's own lines stay out of what a command prints: its errors come to us too, and are told in words."""

from __future__ import annotations

import os

_VERBOSITY = "GRPC_VERBOSITY"


def silence_grpc() -> None:
    """To be called before gRPC is first imported, which is when it reads how much to tell.

    Whoever has set GRPC_VERBOSITY wants to see them. It is not left in the environment: servers that a
    command starts tell what they always do.
    """
    if _VERBOSITY in os.environ:
        return
    os.environ[_VERBOSITY] = "NONE"
    try:
        import grpc  # noqa: F401 - reads it
    finally:
        del os.environ[_VERBOSITY]
