"""For all tests."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

# No time limit per example: machines differ. The same examples everywhere: a red run is a change's doing.
settings.register_profile(
    "warmstart",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("warmstart")

# A run started in the background may ignore SIGINT, and what it starts would inherit that: tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The real cluster, one for all folders that ask for it.
pytest_plugins = ("tests.cluster",)
