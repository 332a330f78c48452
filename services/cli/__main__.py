"""The `warmstart` command."""

from __future__ import annotations

from services.cli.grpc_lines import silence_grpc


def main() -> int:
    """Runs the command of this process's arguments; returns its exit code."""
    silence_grpc()
    from services.cli.app import main as run  # imports gRPC

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
