"""The servers of an earlier commit, in a directory of their own, to be run beside those of this tree.

Unpacked rather than checked out: that also works in work trees and shallow clones, and leaves the
repository as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_NEEDED = ("services", "shared", "protos", "deploy")


class NoHistory(Exception):
    """There is nothing to compare with; the message says why."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """commit: its short name; home: where its tree is."""

    commit: str
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        """For `python -m services.…` in `home`."""
        return {"PYTHONPATH": os.pathsep.join((str(self.home), str(self.home / "protos")))}


def unpack_earlier(home: Path, against: str = "", repository: Path = ROOT) -> Earlier:
    """against: a commit; "" = where this branch left main, else the last tag, else the commit before.

    Raises NoHistory where there is none, ValueError where `against` names none.
    """
    commit = earlier_commit(against, repository)
    archived = subprocess.run(
        ["git", "archive", commit, *_NEEDED], cwd=repository, capture_output=True, check=True
    )
    home.mkdir(parents=True)
    with tarfile.open(fileobj=BytesIO(archived.stdout)) as tar:
        tar.extractall(home, filter="data")
    _generate_protos(home)
    return Earlier(commit[:12], home)


def earlier_commit(against: str, repository: Path) -> str:
    """The commit's full name."""
    if against:
        commit = _git(repository, "rev-parse", "--verify", "--quiet", f"{against}^{{commit}}")
        if not commit:
            raise ValueError(f"--against must name a commit, got {against!r}")
        return commit
    head = _git(repository, "rev-parse", "--verify", "--quiet", "HEAD")
    if not head:
        raise NoHistory("not a git checkout, or there is no commit yet")
    for candidate in (
        *(_git(repository, "merge-base", "HEAD", main) for main in ("origin/main", "main")),
        _git(repository, "describe", "--tags", "--abbrev=0"),
        "HEAD~1",
    ):
        commit = _git(repository, "rev-parse", "--verify", "--quiet", f"{candidate}^{{commit}}")
        if candidate and commit and commit != head:
            return commit
    raise NoHistory("there is no earlier commit here (first commit or shallow clone)")


def _git(repository: Path, *arguments: str) -> str:
    """What it says, "" where it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=repository, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise NoHistory("git is not installed") from error
    return done.stdout.strip() if done.returncode == 0 else ""


def _generate_protos(home: Path) -> None:
    """As `make protos` does: they are not in the repository."""
    protos = home / "protos"
    files = [str(path.relative_to(protos)) for path in protos.rglob("*.proto")]
    outputs = ["-I", str(protos), f"--python_out={protos}", f"--grpc_python_out={protos}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *outputs, *files], cwd=protos, check=True)
