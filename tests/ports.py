"""Free ports for tests."""

from __future__ import annotations

import os

from services.cli.cluster.ports import FREE_PORTS, draw_ports

# Servers bind some seconds after their port was drawn; so that no other process of the suite draws it until
# then, each has ports of its own.
_PROCESS = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_PROCESSES = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_drawn: set[int] = set()


def free_port() -> int:
    """Not one the kernel gives to outgoing connections: those of other tests would take it."""
    mine = [port for port in FREE_PORTS[_PROCESS::_PROCESSES] if port not in _drawn]
    [port] = draw_ports(1, mine)
    _drawn.add(port)
    return port
