"""`python -m services.features`: the feature service."""

from __future__ import annotations

import sys

from shared.rpc.threads import one_blas_thread

if __name__ == "__main__":
    one_blas_thread()

    from services.features.app import build
    from services.features.settings import FeatureSettings
    from shared.rpc.server import main

    sys.exit(main("features", FeatureSettings, build))
