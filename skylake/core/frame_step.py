"""The results of single steps of the reduction of a frame, which are put together as a row in one place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from skylake.core.flags import FrameFlag
from skylake.core.frame_row import FrameRow
from skylake.errors import Corrections, FrameError

Value = TypeVar("Value", covariant=True)
_NO_FLAGS = FrameFlag(0)


@dataclass(frozen=True, slots=True)
class Notes:
    """Sentences on a frame, which stand in its message after the verdict.

    Attributes
    ----------
    always : tuple of str
        Stand there whatever the verdict is.
    if_refused : tuple of str
        Stand there if the frame is not ok, as they may be why; a good frame may have borders without pixels.
    """

    always: tuple[str, ...] = ()
    if_refused: tuple[str, ...] = ()

    def __add__(self, other: Notes) -> Notes:
        return Notes(self.always + other.always, self.if_refused + other.if_refused)


@dataclass(frozen=True, slots=True)
class RowPart:
    """The columns that a step adds to the row of ``frames``.

    Attributes
    ----------
    columns : FrameRow
        New values of columns. Those of ``flags`` are bits to be set beside the others.
    cleared : FrameFlag
        Bits that do not hold any more; they are cleared before those of `columns` are set.
    notes : Notes
    corrections : mapping
        Keys of the profile that the message wants to have other values, and these values.
    """

    columns: FrameRow = field(default_factory=FrameRow)
    cleared: FrameFlag = _NO_FLAGS
    notes: Notes = Notes()
    corrections: Corrections = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step(Generic[Value]):
    """The value that a step passes to the next ones, and the columns that it adds to the row."""

    value: Value
    part: RowPart = field(default_factory=RowPart)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a frame ends at a step, and what the step adds to the row even so."""

    error: FrameError
    part: RowPart = field(default_factory=RowPart)


def with_part(row: FrameRow, part: RowPart) -> FrameRow:
    """Return a row with the columns of a step; the given row does not change."""
    flags = (row.get("flags", 0) & ~part.cleared) | part.columns.get("flags", 0)
    found: FrameRow = row | part.columns
    found["flags"] = flags
    return found


def joined(*parts: RowPart) -> RowPart:
    """Return what several parts add to a row one after the other."""
    columns: FrameRow = {}
    cleared, notes = FrameFlag(0), Notes()
    corrections: Corrections = {}
    for part in parts:
        columns = with_part(columns, part)
        cleared, notes = cleared | part.cleared, notes + part.notes
        corrections = corrections_after(corrections, part)
    return RowPart(columns, cleared, notes, corrections)


def corrections_after(before: Corrections, part: RowPart) -> Corrections:
    """Return the corrections that a message asks for: a part with a status replaces the message, and so these."""
    return part.corrections if "status" in part.columns or part.corrections else before
