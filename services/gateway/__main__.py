"""`python -m services.gateway`: the gateway."""

from __future__ import annotations

import sys

from shared.rpc.threads import one_blas_thread

if __name__ == "__main__":
    one_blas_thread()

    from services.gateway.app import build
    from services.gateway.settings import GatewaySettings
    from shared.rpc.server import main

    sys.exit(main("gateway", GatewaySettings, build))
