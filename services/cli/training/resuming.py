"""Going on with a run: which options may stand beside --resume, and which would be passed over."""

from __future__ import annotations

from typing import Any

from services.cli.once import OnceCommand
from services.cli.training.child import is_job_server

# Those that say where, and how to print; a run has noted all others.
_BESIDE = {"resume", "as_json", "service", "credential", "data_dir", "features_target"}


class ResumableCommand(OnceCommand):
    """Refuses options beside --resume that would change nothing."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest: list[str] = super().parse_args(ctx, args)
        if ctx.params.get("resume") is not None and not ctx.resilient_parsing:
            _refuse_passed_over(ctx)
        return rest


def _refuse_passed_over(ctx: Any) -> None:
    allowed = _BESIDE | _of_this_place(ctx.params)
    # Not those of the environment, which are meant for all commands.
    given = [p for p in ctx.command.params if _is_given(ctx, p.name)]
    named = [p.opts[0] for p in given if p.name not in allowed]
    if named:
        kept = [p.opts[0] for p in ctx.command.params if p.name in _BESIDE - {"resume"}]
        ctx.fail(
            f"{', '.join(named)} cannot be given with --resume: a run goes on with the options that it began "
            f"with. Leave out all but {', '.join(kept)}, or begin a new run without --resume"
        )


def _is_given(ctx: Any, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _of_this_place(values: dict[str, Any]) -> set[str]:
    """A service keeps its trainings by domain; a dashboard's cluster is where the run is gone on with."""
    if values.get("service"):
        return {"domain"}
    return {"address"} if is_job_server(values["address"]) else set()
