"""`python -m services.scoring`: the scoring server."""

from __future__ import annotations

import sys

from services.scoring.app import build
from services.scoring.settings import ScoringSettings
from shared.rpc.server import main

if __name__ == "__main__":
    sys.exit(main("scoring", ScoringSettings, build))
