"""For all tests."""

from __future__ import annotations

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

# The real cluster, one for all folders that ask for it.
pytest_plugins = ("tests.cluster",)
