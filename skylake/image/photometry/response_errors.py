"""Errors of fluxes from errors of the detector's response."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from skylake.core.frame import Image

Floats = npt.NDArray[np.float64]


def with_response_error(
    image: Image, x: Floats, y: Floats, flux: Mapping[str, Floats], flux_err: Mapping[str, Floats]
) -> dict[str, Floats]:
    """Return the errors of fluxes with what the flat may be wrong by at their places.

    It is no noise, and all fluxes of a source share it; so it comes last, when nothing more is to be learned from how
    fluxes scatter.

    Parameters
    ----------
    image : Image
    x, y : ndarray, shape (n,)
        0-based pixels.
    flux, flux_err : mapping of str to ndarray
        NaN where there is none.
    """
    relative = image.response_variance(x, y)
    if not relative.any():
        return dict(flux_err)
    return {name: np.sqrt(error**2 + relative * flux[name] ** 2) for name, error in flux_err.items()}
