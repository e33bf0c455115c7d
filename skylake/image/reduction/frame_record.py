"""Inputs and results of the reduction of a frame, and the one place where its row is put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from skylake.cameras import Profile
from skylake.core.batch import UNDATED
from skylake.core.doubts import Doubt
from skylake.core.flags import SourceFlag
from skylake.core.frame import FileContent
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import Notes, Refused, RowPart, Step, corrections_after, with_part
from skylake.core.ids import frame_id
from skylake.core.reasons import Status
from skylake.errors import Corrections, FrameError
from skylake.image.detrend.frame_conditions import SkyFinder
from skylake.image.masters.master_library import Library
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.psf.default_growth import UsualCorrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.quality.frame_verdicts import flags_of_all, sky_of_flood
from skylake.image.reduction.detection_cache import DetectionKeeper
from skylake.image.solving.located_frame import Reference
from skylake.image.wcs.header_wcs import Pointing
from skylake.revision import code_version

Value = TypeVar("Value")
#: A function for frames with measured sources and a right WCS, such as forced photometry.
Finisher = Callable[[Extracted], Step[Any]]


@dataclass(frozen=True, slots=True)
class ReduceParams:
    """The inputs that the frames of a camera are reduced with.

    Attributes
    ----------
    reference : Reference or None
        Stars, a solver, distortion and expected pointing; None leaves the WCS unchecked.
    library : Library or None
        The masters from which those that the camera's steps need are chosen.
    sky : callable or None
        Gives the sky of a frame from its neighbours, for cameras whose steps take it off.
    finish : callable or None
        Is called once the sources are measured and the WCS is right; what it gives is kept.
    unplaced : bool
        Whether `finish` is also called for a frame whose pointing is unknown.
    keeper : DetectionKeeper or None
        Keeps what is found on frames, and knows what was found on those that were reduced before in the same way.
    usual : callable or None
        Gives the aperture corrections of a frame, for which those of its night stand in where it has few stars.
    """

    reference: Reference | None = None
    library: Library | None = None
    sky: SkyFinder | None = None
    finish: Finisher | None = None
    unplaced: bool = False
    keeper: DetectionKeeper | None = None
    usual: UsualCorrections | None = None


#: A reduction that knows nothing but the profile of the camera.
PLAIN = ReduceParams()


@dataclass(frozen=True, slots=True)
class ReducedFrame:
    """What became of a frame.

    Attributes
    ----------
    row : FrameRow
        The row of ``frames``; of a frame that failed it has all that was known by then.
    sources : Measurements or None
        None for a frame in which none were measured.
    ra_deg, dec_deg : ndarray or None
        Positions of the sources, ICRS; None for a frame whose pointing is unknown.
    finished : Any
        The result of the finisher; None for a frame that did not reach it.
    corrections : mapping
        Keys of the profile that the message wants to have other values, and these values.
    doubts : tuple of Doubt
        Values of the frame that it contradicts.
    """

    row: FrameRow
    sources: Measurements | None = None
    ra_deg: np.ndarray[Any, Any] | None = None
    dec_deg: np.ndarray[Any, Any] | None = None
    finished: Any = None
    corrections: Corrections = field(default_factory=dict)
    doubts: tuple[Doubt, ...] = ()

    @property
    def status(self) -> str:
        """Status of the frame."""
        return str(self.row["status"])


class FrameRecord:
    """The state of a frame during its reduction.

    Parameters
    ----------
    row : FrameRow
        What :func:`new_row` gives.
    """

    def __init__(self, row: FrameRow) -> None:
        self._row, self._notes = row, Notes()
        self._corrections: Corrections = {}
        self._sources: Measurements | None = None
        self._places: tuple[Any, Any] | tuple[None, None] = (None, None)
        self._finished: Any = None
        self._doubts: Sequence[Doubt] = ()

    @property
    def row(self) -> FrameRow:
        """The row of ``frames`` so far; a copy."""
        return self._row.copy()

    def add(self, part: RowPart) -> None:
        """Add a part to the row."""
        self._row, self._notes = with_part(self._row, part), self._notes + part.notes
        self._corrections = corrections_after(self._corrections, part)

    def take(self, step: Step[Value] | Refused) -> Value:
        """Add what a step gives to the row, and return its value.

        Raises
        ------
        FrameError
            If the frame ends here.
        """
        self.add(step.part)
        if isinstance(step, Refused):
            raise step.error
        return step.value

    def refuse(self, error: FrameError) -> None:
        """File the frame under the status, reason and sentence of an error."""
        columns: FrameRow = {"status": error.status, "reason": error.reason, "message": str(error)}
        self.add(RowPart(columns, corrections=error.corrections))
        if self._sources is not None and self._places[0] is None:
            flags = self._sources.flags | int(SourceFlag.FRAME_REJECTED)
            self._sources = replace(self._sources, flags=flags)

    def keep_sources(self, sources: Measurements) -> None:
        """Keep the sources of the frame."""
        self._sources = sources

    def place_sources(self, pointing: Pointing | None) -> None:
        """Flag the sources as the frame is, and keep their places where it is known where it points."""
        sources = self._sources
        assert sources is not None
        self._sources = replace(sources, flags=sources.flags | int(flags_of_all(self._row)))
        if pointing is not None:
            self._places = pointing.to_sky(sources.x, sources.y)

    def keep_finished(self, finished: Any) -> None:
        """Keep what the finisher gave."""
        self._finished = finished

    def keep_doubts(self, doubts: Sequence[Doubt]) -> None:
        """Keep the doubts of the reading of a frame, to which later stages add theirs."""
        self._doubts = doubts

    def reduced(self) -> ReducedFrame:
        """Return what became of the frame; its notes stand in the message after the verdict."""
        row, notes = self.row, self._notes
        if "sky_adu" in row:
            row.update(sky_of_flood(row))
        refused = notes.if_refused if row["status"] != Status.OK else ()
        sentences = [row.get("message"), *refused, *notes.always]
        row["message"] = "; ".join(one for one in sentences if one) or None
        row["flags"] = int(row["flags"])
        ra_deg, dec_deg = self._places
        doubts = tuple(self._doubts)
        return ReducedFrame(row, self._sources, ra_deg, dec_deg, self._finished, self._corrections, doubts)


def new_row(profile: Profile, path: str, content: FileContent | None = None) -> FrameRow:
    """Return the row of a frame with its file only."""
    extension = profile.base.header.extension
    # An empty file has no content to go by; like an unreadable one it is known by its path.
    identity: str | bytes = content.data if content is not None and content.data else path
    return {
        "frame_id": frame_id(profile.name, extension if extension is not None else "first", identity),
        "camera": profile.name,
        "night": UNDATED,
        "file": path,
        "extension": extension if isinstance(extension, int) else 0,
        "file_bytes": None if content is None else content.n_bytes,
        "file_modified_ns": None if content is None else content.modified_ns,
        "status": Status.OK.value,
        "flags": 0,
        "config_sha256": profile.base.sha256,
        "software_version": code_version(),
    }


def failed_frame(row: FrameRow, error: FrameError) -> ReducedFrame:
    """Return what became of a frame that failed before or after its reduction, with what is known of it."""
    record = FrameRecord(row)
    record.refuse(error)
    return record.reduced()
