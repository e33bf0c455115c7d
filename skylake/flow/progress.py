"""What a long run tells while it runs."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the news of a run; the command line shows them."""

    def begin(self, what: str, total: int) -> None:
        """A piece of work of `total` steps begins."""

    def advance(self, steps: int = 1) -> None:
        """Some steps are done."""

    def end(self) -> None:
        """The piece of work is done."""

    def line(self, text: str) -> None:
        """Something worth a line happened, such as a committed batch."""


class Silent:
    """Progress that nobody watches."""

    def begin(self, what: str, total: int) -> None:
        """See :class:`Progress`."""

    def advance(self, steps: int = 1) -> None:
        """See :class:`Progress`."""

    def end(self) -> None:
        """See :class:`Progress`."""

    def line(self, text: str) -> None:
        """See :class:`Progress`."""
