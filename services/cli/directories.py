"""Directories that commands make for data, keys and logs."""

from __future__ import annotations

from pathlib import Path


def make_ignored(directory: Path, command: str) -> None:
    """Makes it where it is not there, and has git pass it over, as caches do: it may lie in a checkout.

    command: who made it, for whoever finds the file.
    """
    if not directory.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        (directory / ".gitignore").write_text(f"# Written by `{command}`.\n*\n")
