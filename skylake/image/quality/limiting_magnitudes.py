"""How faint a frame sees, measured in three ways: from the noise of the sky, counts of sources, and injected stars."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from skylake.core.flags import UNCLEAN
from skylake.core.frame_row import FrameRow
from skylake.image.quality.completeness import half_light, half_light_in_cells
from skylake.image.quality.field_cells import SIDE
from skylake.image.quality.source_metrics import frame_limit
from skylake.image.quality.star_injection import Frame, InjectionTrial, inject

Floats = npt.NDArray[np.float64]

#: Width of the bins of the histogram, magnitudes; its counts are smoothed with weights over neighbouring bins.
_BIN_MAG = 0.1
_WEIGHTS = np.array([1.0, 2.0, 3.0, 4.0, 3.0, 2.0, 1.0]) / 16.0
#: One of so many pixels in x and y gives the noise of a cell.
_STRIDE = 8
#: Fewer sources give no limit.
_FEWEST = 50


def flux_limits(frame_id: int, frame: Frame) -> FrameRow:
    """Return the total fluxes at the limit of a frame, ADU per second, as columns of ``frames``.

    Parameters
    ----------
    frame_id : int
        The seed of injected stars.
    frame : Frame

    Returns
    -------
    FrameRow
        NaN where there are too few sources. Without the columns of injected stars if the profile injects none, or the
        frame has no limit.
    """
    clean = (frame.measured.flags & int(UNCLEAN)) == 0
    limits: FrameRow = {
        "flux_limit": frame.limit,
        "flux_limit_counts": counts_limit(frame.total(frame.measured)[clean]),
    }
    limits |= _in_cells("flux_limit", _limits_in_cells(frame))
    stars = frame.camera.injection.stars
    if stars == 0 or not np.isfinite(frame.limit):
        return limits
    curve = inject(frame, InjectionTrial(stars, seed=frame_id))
    half = half_light(curve)
    injected: FrameRow = {
        "n_injected": int(curve.n_injected.sum()),
        "flux_limit_injected": half.flux,
        "flux_limit_injected_err": half.flux_err,
        "completeness": half.bright,
        "completeness_width_mag": 2.5 * half.width,
    }
    return limits | injected | _in_cells("flux_limit_injected", half_light_in_cells(curve, half))


def _in_cells(name: str, values: Floats) -> FrameRow:
    columns = {f"{name}_cell{number}": float(value) for number, value in enumerate(values, start=1)}
    return cast("FrameRow", columns)


def _limits_in_cells(frame: Frame) -> Floats:
    """Return the total flux of a star of S/N 5 over the noise of the sky in each of 3 x 3 cells, ADU per second."""
    rms = frame.background.rms
    lines = [
        np.array_split(line[::_STRIDE, ::_STRIDE], SIDE, axis=1) for line in np.array_split(rms, SIDE, axis=0)
    ]
    noise = [float(np.median(cell)) if cell.size else float("nan") for line in lines for cell in line]
    return np.array(
        [frame_limit(frame.camera, frame.factor, one, frame.gain, frame.exposure_s) for one in noise]
    )


def counts_limit(flux: Floats) -> float:
    """Return the flux beyond which sources become few: where their histogram is at half of its maximum.

    The histogram is one of magnitudes in bins of 0.1 mag, slightly smoothed, and the place is on the faint side of
    its peak, between the middles of bins.

    Parameters
    ----------
    flux : ndarray, shape (n,)
        Fluxes of sources in any unit; those that are not positive take no part.

    Returns
    -------
    float
        In the unit of `flux`; NaN for fewer than 50 sources.
    """
    mag = -2.5 * np.log10(flux[flux > 0])
    if mag.size < _FEWEST:
        return float("nan")
    first = np.floor(mag.min() / _BIN_MAG) - _WEIGHTS.size
    which = np.floor(mag / _BIN_MAG - first).astype(int)
    counts = np.convolve(np.bincount(which, minlength=int(which.max()) + _WEIGHTS.size + 1), _WEIGHTS, "same")
    peak = int(np.argmax(counts))
    half = 0.5 * counts[peak]
    beyond = peak + int(np.argmax(counts[peak:] < half))
    # Between the middles of the last bin above the half and the first below it.
    before, after = counts[beyond - 1], counts[beyond]
    place = beyond - 1 + (before - half) / (before - after)
    return float(10.0 ** (-0.4 * _BIN_MAG * (first + place + 0.5)))
