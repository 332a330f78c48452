"""`python -m services.training.service`: the training server."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # OpenBLAS keeps its threads, as the trainings inherit the environment and want them.
    from services.training.service.app import build
    from services.training.service.settings import TrainingServiceSettings
    from shared.rpc.server import main

    sys.exit(main("training", TrainingServiceSettings, build))
