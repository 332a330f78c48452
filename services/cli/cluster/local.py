"""The local cluster: start it, wait until it is healthy, keep it, stop it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.cli import output
from services.cli.certificates import OPERATOR, files_of
from services.cli.cluster.health import HEALTHY, REFUSED, PartHealth, Refusals, cluster_health
from services.cli.cluster.layout import PROGRAMS, SERVICES, config_file, environment
from services.cli.cluster.lock import data_dir_lock
from services.cli.cluster.log_secret import log_secret
from services.cli.cluster.ports import Ports
from services.cli.cluster.state import remove_state, write_state
from services.cli.cluster.supervisor import Supervisor, socket_path
from services.cli.failures import CommandError
from services.cli.signals import interrupted_by
from shared.domain import DEFAULT_DOMAIN
from shared.tls import read_tls

_POLL_S = 0.2
_LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class LocalCluster:
    """A started cluster. `domains`: as the services are told, separated by commas; "" = the default one.

    certificates: of its mutual TLS, None = without.
    """

    data_dir: Path
    ports: Ports
    supervisor: Supervisor
    domains: str = ""
    certificates: Path | None = None

    def health(self) -> list[PartHealth]:
        names = tuple(d.strip() for d in self.domains.split(",") if d.strip()) or (DEFAULT_DOMAIN,)
        registry = self.data_dir / "registry"
        pem = read_tls(files_of(self.certificates, OPERATOR)) if self.certificates else None
        return asyncio.run(cluster_health(self.ports, self.supervisor.states(), registry, names, pem))

    def wait_until_healthy(self, timeout_s: float, console: Console, *, need_model: bool = False) -> None:
        """Shows a live table until every part is healthy, then writes the state file for other commands.

        need_model: adaptation and scoring must serve one. Raises CommandError with the log's last lines
        where a part keeps failing or the time is up.
        """
        started = time.monotonic()
        refusals = Refusals()
        with Live(console=console, transient=True, refresh_per_second=8) as live:
            while True:
                parts = refusals.judge(self.health(), time.monotonic())
                live.update(status_table(parts))
                waits = [p for p in parts if not p.healthy or (need_model and p.note != HEALTHY)]
                if len(parts) == len(PROGRAMS) and not waits:
                    break
                failed = next((p for p in parts if p.failed), None)
                took_s = time.monotonic() - started
                if failed or not self.supervisor.running or took_s > timeout_s:
                    raise self._gave_up(failed or (waits[0] if waits else None), took_s)
                time.sleep(_POLL_S)
        write_state(self.data_dir, self.ports, self.certificates)
        console.print(status_table(parts))
        refused = [self._log(p.name) for p in parts if p.note == REFUSED]
        if refused:
            console.print(
                output.escaped(
                    f"the champion is refused, or loads for very long: see {', '.join(map(str, refused))}; "
                    "`warmstart models promote` and `rollback` choose another one"
                ),
                soft_wrap=True,
            )

    def _gave_up(self, part: PartHealth | None, took_s: float) -> CommandError:
        if not self.supervisor.running:
            log = self.supervisor.log
            return CommandError(f"supervisord died after {took_s:.1f} s; the end of {log}:\n{log_tail(log)}")
        name, why = (part.name, part.note) if part else ("supervisord", "does not answer")
        log = self._log(name)
        return CommandError(
            f"{name} did not become healthy within {took_s:.0f} s ({why}); the end of {log}:\n{log_tail(log)}"
        )

    def _log(self, name: str) -> Path:
        return self.data_dir / "logs" / f"{name}.log"


@contextmanager
def local_cluster(
    data_dir: Path, choose_ports: Callable[[], Ports], domains: str = "", certificates: Path | None = None
) -> Iterator[LocalCluster]:
    """Starts the programs; stops them in order at the end, whatever way the block ends.

    certificates: a directory of `write_certificates`; all servers then have mutual TLS.

    SIGTERM, SIGINT and SIGHUP raise KeyboardInterrupt, before the block too, as soon as the directory is
    held: `warmstart down` finds its holder. A second one while stopping kills.
    Raises CommandError where a port is taken, a setting is bad or the directory is another cluster's.
    """
    data_dir = data_dir.resolve()
    with interrupted_by(signal.SIGTERM, signal.SIGHUP), data_dir_lock(data_dir) as held:
        _refuse_half_restored(data_dir)
        remove_state(data_dir)  # a killed cluster's
        ports = choose_ports()
        for folder in ("logs", "valkey", "registry"):
            (data_dir / folder).mkdir(parents=True, exist_ok=True)
        variables = environment(
            os.environ,
            data_dir=data_dir,
            ports=ports,
            domains=domains,
            socket=socket_path(data_dir),
            held=held,
            log_secret=log_secret(data_dir, make=True),
            certificates=certificates,
        )
        _tell_of_places(os.environ, variables)
        _check_settings(variables)
        supervisor = Supervisor(config_file(), variables, data_dir)
        try:
            supervisor.start()
            yield LocalCluster(data_dir, ports, supervisor, domains, certificates)
        finally:
            remove_state(data_dir)
            try:
                supervisor.stop()
            except KeyboardInterrupt:
                supervisor.kill()
                raise


def _refuse_half_restored(data_dir: Path) -> None:
    """Between the old store and the new one there is a moment with neither: a cluster would begin anew."""
    left = [data_dir / "valkey.restoring", data_dir / "valkey.replaced"]
    if any(path.exists() for path in left) and not (data_dir / "valkey").exists():
        raise CommandError(
            f"a restore into {data_dir} was interrupted at its end: run it again, or move the store of "
            f"before (valkey.replaced) back to {data_dir / 'valkey'}"
        )


def _tell_of_places(given: Mapping[str, str], told: Mapping[str, str]) -> None:
    """Names variables that say where something is: the local cluster's programs are where `up` puts them."""
    prefixes = tuple(f"WARMSTART_{name.upper()}_" for name in SERVICES)
    moot = sorted(v for v in given if v.startswith(prefixes) and told[v] != given[v])
    if moot:
        output.stderr().print(
            f"not used here, as the command says where everything is: {', '.join(moot)}",
            soft_wrap=True,
        )


def _check_settings(variables: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "deploy.local.check_settings"]
    done = subprocess.run(command, env=dict(variables), capture_output=True, text=True)  # noqa: S603 - ours
    if done.returncode != 0:
        raise CommandError(done.stderr.strip())
    if done.stderr:
        output.stderr().print(output.escaped(done.stderr.strip()), soft_wrap=True)


def status_table(parts: list[PartHealth]) -> Table:
    """What runs where and how it is."""
    columns = ("program", "address", "state", output.Column("pid", numeric=True))
    return output.table("", columns, [(p.name, p.target, p.note, p.pid or "") for p in parts])


def log_tail(log: Path) -> str:
    if not log.is_file():
        return "(no log was written)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
