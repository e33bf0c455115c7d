"""Errors of PSF fluxes from noise that the pixels of a row share.

See :mod:`skylake.image.photometry.row_errors`.
"""

from __future__ import annotations

import numpy as np

from skylake.image.psf.psf_model import FramePsf


def beyond_fit(psf: FramePsf, half: int) -> float:
    """Return what the fitted flux of a lonely star has beyond the errors of single pixels, in the middle of the image.

    Parameters
    ----------
    psf : FramePsf
    half : int
        Half size of the square that is fitted.
    """
    height, width = psf.model.size
    middle = psf.coefficients(np.array([0.5 * (width - 1)]), np.array([0.5 * (height - 1)]))
    grid = np.arange(-half, half + 1.0)
    y, x = (axis.reshape(-1) for axis in np.meshgrid(grid, grid, indexing="ij"))
    star = np.asarray(psf.values(middle, x, y), float).reshape(len(grid), len(grid))
    alone, rows = float(np.sum(star**2)), float(np.sum(star.sum(axis=1) ** 2))
    return max(rows - alone, 0.0) / alone**2
