"""A picture of the sky as it travels through the reduction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FileContent:
    """A file as it was found on disk.

    Attributes
    ----------
    path : str
        Absolute path.
    n_bytes, modified_ns : int
        Size and time of modification of the file on disk.
    data : bytes
        Content after gunzip or bunzip2; the raw bytes where these fail.
    """

    path: str
    n_bytes: int
    modified_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class RawImage:
    """The pixels and header of one HDU.

    Attributes
    ----------
    pixels : ndarray of float32, shape (height, width)
        Native byte order, after BSCALE and BZERO; NaN where the file says so.
    header : astropy.io.fits.Header
        Header of the image.
    extension : int
        Index of the HDU.
    n_further : int
        Images that follow in the same file.
    """

    pixels: Pixels
    header: Any
    extension: int
    n_further: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """A calibrated image with what is known of each pixel. All arrays have one shape.

    Attributes
    ----------
    pixels : ndarray of float32
        ADU; finite everywhere: masked pixels hold a neighbourhood value.
    masked : ndarray of bool
        Pixels without a valid value.
    saturated, near_saturated : ndarray of bool
        Judged on raw pixels, before anything was subtracted.
    offset : tuple of int
        Raw pixel (x, y) of the first pixel.
    """

    pixels: Pixels
    masked: Mask
    saturated: Mask
    near_saturated: Mask
    offset: tuple[int, int]
