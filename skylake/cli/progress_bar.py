"""Show progress: a bar on a terminal, one line per batch elsewhere; always on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from skylake.flow.execution.run_progress import Progress


class Lines:
    """One line per batch, for logs."""

    def begin(self, what: str, total: int) -> None:
        """Show nothing: the batches speak."""

    def advance(self, steps: int = 1) -> None:
        """Show nothing: the batches speak."""

    def end(self) -> None:
        """Show nothing: the batches speak."""

    def line(self, text: str) -> None:
        """Show a line."""
        click.echo(text, err=True)


class Terminal:
    """A bar for the work under way, and the lines above it."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.task: TaskID | None = None

    def begin(self, what: str, total: int) -> None:
        """Show a bar."""
        self.task = self.bars.add_task(what, total=total or None)

    def advance(self, steps: int = 1) -> None:
        """Move the bar on."""
        if self.task is not None:
            self.bars.advance(self.task, steps)

    def end(self) -> None:
        """Remove the bar."""
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None

    def line(self, text: str) -> None:
        """Show a line above the bar."""
        self.bars.console.print(text, highlight=False, markup=False, emoji=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """Give a bar if standard error is a terminal, otherwise lines."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Terminal(bars)
