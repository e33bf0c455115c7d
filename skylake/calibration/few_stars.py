"""Why frames have too few stars for a zeropoint, in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.calibration.frame_zeropoints import FrameZeropoints
from skylake.calibration.match_selection import Band, Cut, Matches
from skylake.schema.aperture_columns import MORE, aperture_value

_MAG_PER_RELATIVE = 2.5 / np.log(10.0)


def few_stars_messages(
    few: npt.NDArray[np.intp], data: Matches, solved: FrameZeropoints, frames: pa.Table, band: Band
) -> list[str]:
    """Return for each frame of too few stars a sentence that says what there was.

    Parameters
    ----------
    few : ndarray of int
        Places of these frames among `frames`.
    data : Matches
    solved : FrameZeropoints
        What the stars that there are give.
    frames : pyarrow.Table
        All frames of the band.
    band : Band
    """
    if len(few) == 0:
        return []
    said = []
    columns = ["frame_id", f"{band.flux}_radius_px", "fwhm_px", MORE]
    order = np.argsort(data.frame, kind="stable")
    ordered = data.frame[order]
    for place, frame in zip(
        few.tolist(),
        frames.select([name for name in columns if name in frames.column_names])
        .take(pa.array(few))
        .to_pylist(),
        strict=True,
    ):
        low, high = np.searchsorted(ordered, [frame["frame_id"], frame["frame_id"] + 1])
        cut = data.cut[order[low:high]]
        took = "".join(
            f"; {words}: {count} of {cut.size}"
            for one, words in _cuts(frame, band).items()
            if (count := int(np.count_nonzero(cut == one)))
        )
        left, n_used = int(np.count_nonzero(cut == Cut.NONE)), solved.n_used[place]
        agree = f", {n_used} of them agree" if n_used < left else ""
        needed = f"{left} of {cut.size} matches can be used{agree}, min_stars is {band.calibration.min_stars}"
        zp, error = solved.zp[place], solved.zp_err[place]
        gives = "" if np.isnan(zp) else f"; zeropoint of these: {zp:.3f} +- {error:.3f} mag"
        said.append(f"{needed}{took}{gives}")
    return said


def _cuts(frame: dict[str, Any], band: Band) -> dict[Cut, str]:
    """Return each cut in words; that of errors names the aperture, which may be too large for the images of stars."""
    limits = band.calibration
    radius = aperture_value(frame, f"{band.flux}_radius_px") if band.flux != "kron" else None
    where = "the Kron aperture" if radius is None else f"an aperture of {radius:.3g} px"
    fwhm = frame.get("fwhm_px")
    seeing = "" if fwhm is None else f" at FWHM {fwhm:.2g} px"
    return {
        Cut.MAGNITUDE: f"without magnitude in {band.band.band}",
        Cut.COLOUR: f"without colour {band.band.colour}",
        Cut.FLAGS: "flagged as saturated, at the edge or with bad pixels",
        Cut.FLUX: "without positive flux",
        Cut.NEIGHBOURS: f"more than {limits.max_crowding:.3g} of the light from neighbours",
        Cut.ERROR: f"S/N < {_MAG_PER_RELATIVE / limits.max_mag_err:.0f} in {where}{seeing}",
        Cut.MAG_RANGE: "outside mag_range",
        Cut.COLOUR_RANGE: "outside colour_range",
        Cut.HORIZON: "below the horizon",
        Cut.VARIABLE: "variable stars of the catalog",
        Cut.BRIGHT: "so bright that fluxes depart from the catalog",
    }
