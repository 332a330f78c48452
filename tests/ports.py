"""Free ports for tests."""

from __future__ import annotations

from services.cli.cluster.ports import draw_ports


def free_port() -> int:
    """Not one the kernel gives to outgoing connections: those of other tests would take it."""
    [port] = draw_ports(1)
    return port
