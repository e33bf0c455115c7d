"""Kernels of the light of neighbouring sources."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from skylake.core.jit import kernel

Floats = npt.NDArray[np.float64]


@kernel
def crowding_shares(x: Floats, y: Floats, flux: Floats, radius: float, width: float, shares: Floats) -> None:
    """Set `shares` to the flux that neighbours bring into an aperture, in units of the own; `y` ascends.

    A neighbour well inside counts wholly, one on the edge by half, one a full width beyond not at all; see
    :func:`skylake.core.aperture_crowding.crowding`, which gives the same for places on the sky.
    """
    reach = radius + width
    shares[:] = 0.0
    for left in range(len(x)):
        for right in range(left + 1, len(x)):
            dy = y[right] - y[left]
            if dy > reach:
                break
            dx = x[right] - x[left]
            if abs(dx) < reach and dx * dx + dy * dy < reach * reach:
                held = min(1.0, (reach - math.sqrt(dx * dx + dy * dy)) / (2.0 * width))
                if flux[left] > 0.0 and flux[right] > 0.0:
                    shares[left] += held * flux[right] / flux[left]
                    shares[right] += held * flux[left] / flux[right]


@kernel
def brightest_neighbours(x: Floats, y: Floats, flux: Floats, reach: float, shares: Floats) -> None:
    """Set `shares` to the flux of the brightest neighbour within `reach`, in units of the own; `y` ascends."""
    shares[:] = 0.0
    for left in range(len(x)):
        for right in range(left + 1, len(x)):
            dy = y[right] - y[left]
            if dy > reach:
                break
            dx = x[right] - x[left]
            if dx * dx + dy * dy <= reach * reach:
                if flux[left] > 0.0:
                    shares[left] = max(shares[left], flux[right] / flux[left])
                if flux[right] > 0.0:
                    shares[right] = max(shares[right], flux[left] / flux[right])
