"""Values that the frame itself contradicts, or that hardly any frame has, and what is done about them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from skylake.core.flags import FrameFlag
from skylake.core.frame_step import Notes, RowPart
from skylake.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Doubt:
    """A value of a frame that the frame contradicts, or that hardly any frame has.

    Either something speaks for one of the values, and it is taken; or none is, and the frame is refused if it needs
    one. The first value is never taken just because it is the first.

    Attributes
    ----------
    quantity : str
        The column of ``frames`` that it is about, such as ``mjd_start``; ``wcs`` for the WCS of the header.
    stated : tuple of (str, str)
        Who says what: a card, ``pixels`` or ``profile``, and the value as text. A card that stands twice is there
        twice.
    taken : str
        Whose value is used: one of these, or what stands in for them; empty if none is.
    sentence : str
        These values, which is taken and why, and the fix; without a full stop.
    reason : Reason or None
        Why the frame is refused; None for one that can be processed.
    """

    quantity: str
    stated: tuple[tuple[str, str], ...]
    taken: str
    sentence: str
    reason: Reason | None = None


def doubted(doubts: Iterable[Doubt]) -> RowPart:
    """Return the flag and the notes of doubts in the row of a frame that is not refused for them."""
    sentences = tuple(doubt.sentence for doubt in doubts if doubt.reason is None)
    return RowPart({"flags": FrameFlag.HEADER_DOUBTED}, notes=Notes(sentences)) if sentences else RowPart()
