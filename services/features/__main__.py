"""`python -m services.features` runs the feature service with the settings of the environment."""

from __future__ import annotations

import sys

from services.features.app import build
from services.features.settings import FeatureSettings
from shared.rpc.server import main

if __name__ == "__main__":
    sys.exit(main("features", FeatureSettings, build))
