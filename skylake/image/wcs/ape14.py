"""Views of the sky as WCS objects of astropy, by APE 14 (doi:10.5281/zenodo.1188875)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from astropy.wcs.wcsapi import BaseLowLevelWCS

from skylake.core.sphere import FloatArray


class SkyMapping(Protocol):
    """A mapping from pixels to the sky and back."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""

    def icrs_to_pixels(self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the pixels of ICRS positions, degrees."""

    def pixels_to_icrs(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the ICRS positions of pixels, degrees."""


class ViewWCS(BaseLowLevelWCS):  # type: ignore[misc] # astropy has no types
    """A :class:`~skylake.image.wcs.sky_view.SkyView` with two pixel axes, x and y, and two of the world, ICRS.

    Parameters
    ----------
    view : SkyMapping
    """

    def __init__(self, view: SkyMapping) -> None:
        self.view = view

    @property
    def pixel_n_dim(self) -> int:
        """Number of axes of the image."""
        return 2

    @property
    def world_n_dim(self) -> int:
        """Number of axes of the sky."""
        return 2

    @property
    def world_axis_physical_types(self) -> list[str]:
        """The axes of the sky as UCD1+."""
        return ["pos.eq.ra", "pos.eq.dec"]

    @property
    def world_axis_units(self) -> list[str]:
        """Units of the axes of the sky."""
        return ["deg", "deg"]

    @property
    def pixel_axis_names(self) -> list[str]:
        """Names of the axes of the image."""
        return ["x", "y"]

    @property
    def world_axis_names(self) -> list[str]:
        """Names of the axes of the sky."""
        return ["ra", "dec"]

    @property
    def pixel_shape(self) -> tuple[int, int]:
        """Width and height."""
        return self.view.shape[1], self.view.shape[0]

    @property
    def array_shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.view.shape

    @property
    def pixel_bounds(self) -> list[tuple[float, float]]:
        """Edges of the image."""
        height, width = self.view.shape
        return [(-0.5, width - 0.5), (-0.5, height - 0.5)]

    @property
    def axis_correlation_matrix(self) -> npt.NDArray[np.bool_]:
        """Every axis of the sky depends on both of the image."""
        return np.ones((2, 2), bool)

    @property
    def world_axis_object_components(self) -> list[tuple[str, int, str]]:
        """How the axes of the sky make a SkyCoord."""
        return [("sky", 0, "spherical.lon.degree"), ("sky", 1, "spherical.lat.degree")]

    @property
    def world_axis_object_classes(self) -> dict[str, Any]:
        """The SkyCoord that they make."""
        from astropy.coordinates import ICRS, SkyCoord

        return {"sky": (SkyCoord, (), {"frame": ICRS(), "unit": ("deg", "deg")})}

    def pixel_to_world_values(self, *pixels: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return right ascension and declination, degrees, of x and y."""
        return self.view.pixels_to_icrs(*pixels)

    def world_to_pixel_values(self, *world: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return x and y of right ascension and declination in degrees."""
        return self.view.icrs_to_pixels(*world)
