"""Ports of the local cluster."""

from __future__ import annotations

import random
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields

from services.cli.failures import CommandError
from shared.processes.listeners import listener_on

HOST = "127.0.0.1"
# Below the ports that kernels give to outgoing connections (Linux: from 32768 on) and to whoever binds port
# 0: such a connection, also one of our own, would keep a server from binding for a minute. Above Ray's.
FREE_PORTS = range(20_000, 32_768)
DEFAULT_BASE_PORT = 20051
_VALKEY_OFFSET = 9
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Ports:
    gateway: int
    features: int
    adaptation: int
    scoring: int
    training: int
    valkey: int

    @classmethod
    def from_base(cls, base: int) -> Ports:
        """base, base+1, … for the services; base+9 for the store."""
        return cls(base, base + 1, base + 2, base + 3, base + 4, base + _VALKEY_OFFSET)

    def by_name(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def target(self, service: str) -> str:
        return f"{HOST}:{self.by_name()[service]}"


def base_ports(base: int) -> Ports:
    """The ports from `base` on. Raises CommandError naming every taken one and who holds it."""
    if not 1 <= base <= _MAX_PORT - _VALKEY_OFFSET:
        raise CommandError(f"--base-port must be 1..{_MAX_PORT - _VALKEY_OFFSET}, got {base}")
    ports = Ports.from_base(base)
    taken = [
        f"port {port} for {name} is taken{_by(port)}"
        for name, port in ports.by_name().items()
        if not _is_free(port)
    ]
    if taken:
        raise CommandError(
            "\n".join(taken)
            + "\nchoose other ports with --base-port N, or let any free ones be taken with --free-ports"
        )
    return ports


def free_ports() -> Ports:
    """Ports that are free now, all different."""
    return Ports(*draw_ports(len(fields(Ports))))


def draw_ports(count: int, among: Sequence[int] = FREE_PORTS) -> list[int]:
    """`count` different free ports, by chance, so that two who draw at once hardly meet.

    Held together while they are drawn. Not the kernel's choice (port 0), see `FREE_PORTS`.
    """
    drawn: list[int] = []
    # not Python's common generator: who seeds it (Keras does) would draw what others with that seed draw
    chance = random.SystemRandom()
    with ExitStack() as held:
        for port in chance.sample(among, len(among)):
            if len(drawn) == count:
                return drawn
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            drawn.append(port)
    raise CommandError(f"fewer than {count} ports of {among[0]}..{among[-1]} are free on {HOST}")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _by(port: int) -> str:
    holder = listener_on(port)
    return f" by {holder}" if holder else ""
