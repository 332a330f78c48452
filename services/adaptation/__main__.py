"""`python -m services.adaptation`: the adaptation server."""

from __future__ import annotations

import sys

from shared.rpc.threads import one_blas_thread

if __name__ == "__main__":
    one_blas_thread()

    from services.adaptation.app import build
    from services.adaptation.settings import AdaptationSettings
    from shared.rpc.server import main

    sys.exit(main("adaptation", AdaptationSettings, build))
