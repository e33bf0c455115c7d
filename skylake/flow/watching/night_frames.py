"""Frames of a night: which of them show a place, how deep they are, and what was detected on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, ZEROPOINT_COLUMNS
from skylake.core.sphere import unit_vectors, within
from skylake.flow.watching.changed_stars import WatchedNight
from skylake.table.coverage import PLACE_COLUMNS, circle_deg
from skylake.table.maps import region_holds

Floats = npt.NDArray[np.float64]

_COLUMNS = tuple(dict.fromkeys((*FRAME_COLUMNS, "mjd_mid", "flux_limit", "fwhm_px", *PLACE_COLUMNS)))
#: Part of the distance from its centre by which a frame is taken to be smaller than it is.
_INSET = 0.03
#: What is so much brighter than the limit of a frame (S/N 5) is found on it, magnitudes: half of the light.
SURELY_MAG = 0.75


@dataclass(frozen=True)
class NightFrames:
    """The calibrated frames of a night.

    Attributes
    ----------
    frames, zeropoints : pyarrow.Table
        A row for each frame in both, in the same order.
    """

    frames: pa.Table
    zeropoints: pa.Table

    @classmethod
    def read(cls, night: WatchedNight) -> NightFrames:
        """Read the frames of a night that have a zeropoint and a place."""
        zeros = night.read("zeropoints", [*ZEROPOINT_COLUMNS, "band"], pc.field("zp").is_valid())
        placed = pc.field("ra_deg").is_valid() & pc.field("dec_deg").is_valid()
        placed &= pc.field("pixel_scale_arcsec").is_valid()
        placed &= pc.field("frame_id").isin(zeros["frame_id"].combine_chunks())
        frames = night.read("frames", _COLUMNS, placed).sort_by("frame_id")
        zeros = zeros.filter(pc.is_in(zeros["frame_id"], frames["frame_id"].combine_chunks()))
        return cls(frames, zeros.sort_by("frame_id"))

    def __len__(self) -> int:
        return int(self.frames.num_rows)

    @cached_property
    def band(self) -> npt.NDArray[np.object_]:
        """Band of each frame."""
        return np.asarray(self.zeropoints["band"].to_pylist(), object)

    @cached_property
    def limit(self) -> Floats:
        """Magnitude of a star at S/N 5 on each frame; NaN where it is not known."""
        flux = np.asarray(self.frames["flux_limit"].cast(pa.float64()).to_numpy(zero_copy_only=False), float)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.zeropoints["zp"].to_numpy() - 2.5 * np.log10(flux))

    def surely_found(self, mag: Floats, band: npt.NDArray[np.object_]) -> npt.NDArray[np.bool_]:
        """Return which stars are so bright that the usual frame of their band shows them."""
        limits = {one: np.nanmedian(self.limit[self.band == one]) for one in set(self.band.tolist())}
        return np.asarray(mag + SURELY_MAG <= np.array([limits.get(one, np.nan) for one in band], float))

    @cached_property
    def scale_arcsec(self) -> float:
        """Median pixel scale."""
        return float(pc.approximate_median(self.frames["pixel_scale_arcsec"]).as_py() or 1.0)

    @cached_property
    def fwhm_arcsec(self) -> float:
        """Median width of stars, at least a pixel and a half."""
        width = pc.approximate_median(self.frames["fwhm_px"]).as_py() or 0.0
        return max(float(width), 1.5) * self.scale_arcsec

    def showing(self, ra_deg: Floats, dec_deg: Floats) -> npt.NDArray[np.bool_]:
        """Return which frames show which positions, well inside of their edges; shape (n_frames, n).

        A frame without an outline, as of the whole sky, shows a circle about its centre.
        """
        shown = [
            region_holds(row["s_region"], ra_deg, dec_deg, _INSET)
            if row["s_region"]
            else within(row["ra_deg"], row["dec_deg"], (1.0 - _INSET) * circle_deg(row), ra_deg, dec_deg)
            for row in self.frames.select(list(PLACE_COLUMNS)).to_pylist()
        ]
        return np.array(shown, bool).reshape(len(self.frames), len(ra_deg))


@dataclass(frozen=True)
class NightDetections:
    """All detections of a night.

    Attributes
    ----------
    rows : pyarrow.Table
        frame_id, source_no, ra_deg, dec_deg and flags.
    """

    rows: pa.Table

    @classmethod
    def read(cls, night: WatchedNight) -> NightDetections:
        """Read the detections of a night."""
        return cls(night.read("sources", ["frame_id", "source_no", "ra_deg", "dec_deg", "flags"]))

    @cached_property
    def vectors(self) -> Floats:
        """Positions as unit vectors, shape (n, 3)."""
        return unit_vectors(self.rows["ra_deg"].to_numpy(), self.rows["dec_deg"].to_numpy())
