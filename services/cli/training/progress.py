"""A bar for each stage of a training run, with its newest metrics."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from services.cli.output import escaped

_SHOWN_METRICS = 4


class StageBars:
    """Shows the process's lines as they come."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[metrics]}"),
            console=console,
        )
        self._running: dict[str, TaskID] = {}

    def __enter__(self) -> StageBars:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._progress.stop()

    def show(self, line: dict[str, Any]) -> None:
        """One line of the process."""
        match line.get("event"):
            case "stage":
                self._enter(str(line["name"]), beside=bool(line.get("beside")))
            case "progress":
                stage = str(line["stage"])
                if stage not in self._running:
                    self._enter(stage)
                total = int(line["total"]) or None
                self._progress.update(
                    self._running[stage],
                    completed=int(line["step"]),
                    total=total,
                    metrics=_metrics(line.get("metrics") or {}),
                )
            case "log":
                self._progress.console.print(
                    f"  {escaped(str(line['message']))}", style="dim", soft_wrap=True
                )

    def _enter(self, stage: str, *, beside: bool = False) -> None:
        """Unless it goes on beside them, those before it are done. A stage may come again (another seed)."""
        if not beside:
            self._finish()
        if stage not in self._running:
            self._running[stage] = self._progress.add_task(escaped(stage), total=None, metrics="")
            console = self._progress.console
            if not console.is_terminal or console.is_dumb_terminal:  # bars are only drawn at the end there
                console.print(f"{escaped(stage)} …")

    def _finish(self) -> None:
        """All that run are done."""
        for task in self._progress.tasks:
            if task.id in self._running.values():
                total = task.total or max(1, int(task.completed))
                self._progress.update(task.id, total=total, completed=total)
                self._progress.stop_task(task.id)
        self._running.clear()


def _metrics(metrics: dict[str, Any]) -> str:
    """The loss first; in the order of their names, as some ways lose theirs."""
    numbers = [(name, value) for name, value in metrics.items() if isinstance(value, (int, float))]
    shown = sorted(numbers, key=lambda metric: (not metric[0].startswith("loss"), metric[0]))
    return "  ".join(f"{escaped(name)} {value:.4g}" for name, value in shown[:_SHOWN_METRICS])
