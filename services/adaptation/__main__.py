"""`python -m services.adaptation`: the adaptation server."""

from __future__ import annotations

import sys

from services.adaptation.app import build
from services.adaptation.settings import AdaptationSettings
from shared.rpc.server import main

if __name__ == "__main__":
    sys.exit(main("adaptation", AdaptationSettings, build))
