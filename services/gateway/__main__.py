"""`python -m services.gateway`"""

from __future__ import annotations

import sys

from services.gateway.app import build
from services.gateway.settings import GatewaySettings
from shared.rpc.server import main

if __name__ == "__main__":
    sys.exit(main("gateway", GatewaySettings, build))
