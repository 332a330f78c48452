"""For all tests."""

from __future__ import annotations

import signal

import pytest
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


class _ToldAtOnce:
    """Names each failure as it comes: of a run that is cut short, its end tells nothing."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            why = crash.message if crash else report.longreprtext
            terminal = self._config.get_terminal_writer()
            terminal.line(f"\n{report.nodeid} failed ({report.when}): {why[:_WHY]}", red=True)


_WHY = 500


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_ToldAtOnce(config))
