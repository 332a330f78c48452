"""What keys the pseudonyms in the local cluster's logs: kept in its data directory, so that they stay."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_NAME = "log.secret"


def log_secret(data_dir: Path, *, make: bool = False) -> str:
    """ "" where there is none yet; with `make` there is one then, for its owner's eyes."""
    path = data_dir / _NAME
    if make and not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    return path.read_text() if path.exists() else ""
