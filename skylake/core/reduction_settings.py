"""Settings of single reduction steps: the sections below ``[reduction]`` of a camera profile."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BadPixels:
    """When a pixel counts as bad in a mask."""

    hot_sigma: float = 8.0
    """Dark current above that of its surroundings, in standard deviations of the pixels of the master."""
    dead_response: float = 0.5
    """Response below this part of that of its surroundings, or above one over it, is dead."""
    least_response: float = 0.15
    """Response below this part of the median of the flat is dead too, however large the area: what sees no light."""
    unstable_ratio: float = 5.0
    """Scatter from frame to frame in units of what is expected from its level; judged on five frames or more."""


@dataclass(frozen=True, slots=True)
class CosmicRays:
    """How cosmic rays are found (van Dokkum 2001)."""

    sigma: float = 5.0
    neighbour_fraction: float = 0.3
    """Neighbours count from this part of sigma."""
    object_limit: float = 10.0
    """Least ratio of the Laplacian to the fine structure of the image; larger spares sharp stars."""
    psf_fwhm_px: float | None = None
    """Width of stars from which the fine structure is taken, for stars of two pixels and more; an object_limit of 2
    goes with it. None takes it from medians."""
    iterations: int = 4


@dataclass(frozen=True, slots=True)
class SkyFrames:
    """How the sky of a frame is made from its neighbours in time."""

    file: str | None = None
    """A sky in a FITS file, taken in place of that of the neighbours; by its absolute path."""
    n_frames: int = 8
    """Neighbours, half of them before and half after where there are so many."""
    min_frames: int = 3
    within_minutes: float = 60.0
    source_sigma: float = 2.5
    """Smoothed signal from which a pixel belongs to a source, in units of its noise."""
    grow_px: int = 4
    """Margin around sources that is left out with them."""
