"""`python -m services.scoring`: the scoring server."""

from __future__ import annotations

import sys

from shared.rpc.threads import one_blas_thread

if __name__ == "__main__":
    one_blas_thread()

    from services.scoring.app import build
    from services.scoring.settings import ScoringSettings
    from shared.rpc.server import main

    sys.exit(main("scoring", ScoringSettings, build))
