"""One frame by itself, without a lake: its row and sources, its planes for pictures, and its completeness."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from skylake.cameras import Profile, read_header
from skylake.core.frame import Image
from skylake.image.background import Background, estimate_background
from skylake.image.calibrate import calibrate
from skylake.image.conditions import conditions_of
from skylake.image.inject import Completeness, Trial, inject
from skylake.image.library import Library
from skylake.image.read import open_stored, read_file
from skylake.image.reduce import ReducedFrame, reduce_frame
from skylake.table.frames import frames_table
from skylake.table.sources import sources_table


@dataclass(frozen=True, slots=True)
class SingleFrame:
    """A frame that was reduced by itself.

    Attributes
    ----------
    reduced : ReducedFrame
        Its row and measurements.
    image : Image or None
        Calibrated pixels; None for a frame that failed.
    background : Background or None
    """

    reduced: ReducedFrame
    image: Image | None = None
    background: Background | None = None

    @property
    def sources(self) -> pa.Table | None:
        """Sources as rows of the table ``sources``; None where there are none with positions."""
        found = self.reduced
        if found.sources is None or found.ra_deg is None or found.dec_deg is None:
            return None
        return sources_table(found.row, found.sources, found.ra_deg, found.dec_deg)

    @property
    def frame(self) -> pa.Table:
        """The row of ``frames``."""
        return frames_table([self.reduced.row])


def reduce_single(path: Path, profile: Profile, library: Library | None = None) -> SingleFrame:
    """Reduce one frame, with the masters of a calibration library if its camera needs some.

    Raises
    ------
    FrameError
        If the file cannot be opened; all other failures are in the row.
    """
    content = read_file(str(path))
    reduced = reduce_frame(content, profile, library=library)
    if reduced.row.get("width_px") is None:
        return SingleFrame(reduced)
    raw = open_stored(content, profile.base.header.extension)
    reading = read_header(raw.header, profile, path.name)
    conditions, _ = conditions_of(raw, reading, library, None, str(path))
    image = calibrate(raw, reading.camera, conditions)
    return SingleFrame(reduced, image, estimate_background(image, reading.camera.extraction))


def completeness_of(frame: SingleFrame, profile: Profile, trial: Trial) -> Completeness | None:
    """Inject stars into a frame; None for one without measured sources."""
    row, measured = frame.reduced.row, frame.reduced.sources
    if frame.image is None or frame.background is None or measured is None or len(measured) == 0:
        return None
    camera = profile.at(row["mjd_mid"])
    correction = float(row[f"apcor_{camera.apertures.flux}"])
    exposure_s = row["exposure_s"] or 1.0
    return inject(
        frame.image, frame.background, measured, camera, row["gain_e_per_adu"], exposure_s, correction, trial
    )
