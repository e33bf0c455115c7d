"""The interface through which a long run reports its progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the news of a run; the command line shows them."""

    def begin(self, what: str, total: int) -> None:
        """Begin a piece of work of `total` steps, 0 where their number is unknown."""

    def advance(self, steps: int = 1) -> None:
        """Note that some steps are done."""

    def end(self) -> None:
        """End the piece of work."""

    def line(self, text: str) -> None:
        """Report something that is worth a line, such as a committed batch."""


class Silent:
    """Progress that is not shown."""

    def begin(self, what: str, total: int) -> None:
        """See :class:`Progress`."""

    def advance(self, steps: int = 1) -> None:
        """See :class:`Progress`."""

    def end(self) -> None:
        """See :class:`Progress`."""

    def line(self, text: str) -> None:
        """See :class:`Progress`."""
