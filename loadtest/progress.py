"""A run on the terminal (stderr): a bar for the load that is on, a line for each that is over."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from loadtest.work import Seen

COLUMNS = ("load", "offered/s", "good/s", "good", "p50", "p95", "p99", "refused", "expired", "late p99")


class TerminalProgress:
    """Shows a run; `with`."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        if not self._console.is_terminal:
            self._console.width = 140
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[seen]}"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._load = self._progress.add_task("", total=None, visible=False, seen="")
        self._title, self._seconds = "", 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, title: str, seconds: float) -> None:
        """A load begins."""
        self._title, self._seconds = title, seconds
        self._progress.reset(self._load, description=title, total=seconds, visible=True, seen="")

    def seen(self, seen: Seen) -> None:
        """Move the bar."""
        text = f"{seen.num_sent} ended, {seen.num_in_time} good, {seen.num_under_way} under way"
        task = self._progress.tasks[self._load]
        self._progress.update(self._load, completed=min(task.elapsed or 0.0, self._seconds), seen=text)

    def end(self, figures: Mapping[str, Any]) -> None:
        """A line for what was measured."""
        self._progress.update(self._load, visible=False)
        self._console.print(line_of(self._title, figures), highlight=False)
        if not figures["client_kept_up"]:
            self._console.print("[yellow]  the senders were late: this measured the client too[/]")

    def table(self, result: Mapping[str, Any]) -> None:
        """All loads of a run, and its knee."""
        table = Table(*COLUMNS, title=result["plan"]["name"], title_justify="left")
        for level in result["levels"]:
            table.add_row(*row_of(level))
        self._console.print(table)
        knee = result["knee"]
        if knee is not None:
            self._console.print(
                f"[bold]knee: {knee['offered_rps']:.1f} requests/s[/] "
                f"({knee['documents_per_s']:.0f} documents/s, {knee['good_share']:.1%} good)"
            )


def line_of(title: str, figures: Mapping[str, Any]) -> str:
    """One load in a line."""
    cells = dict(zip(COLUMNS, row_of(figures), strict=True))
    return f"{title}: " + ", ".join(f"{name} {cells[name]}" for name in COLUMNS[2:] if cells[name] != "-")


def row_of(figures: Mapping[str, Any]) -> list[str]:
    """One load as cells under COLUMNS."""
    offered, answer, outcomes = figures["offered_rps"], figures["answer_ms"], figures["outcomes"]
    share = figures["good_share"]
    return [
        figures["name"],
        f"closed, {figures['clients']}" if offered is None and "clients" in figures else number(offered),
        number(figures["goodput_rps"]),
        "-" if share is None else f"{share:.1%}",
        *(milliseconds(answer[name]) for name in ("p50", "p95", "p99")),
        str(outcomes.get("refused", 0) or "-"),
        str(outcomes.get("expired", 0) or "-"),
        milliseconds(figures["late_send_ms"]["p99"]),
    ]


def number(value: float | None) -> str:
    """A figure of a table."""
    return "-" if value is None else f"{value:.1f}"


def milliseconds(value: float | None) -> str:
    """Milliseconds, with a place where it matters."""
    if value is None:
        return "-"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"
