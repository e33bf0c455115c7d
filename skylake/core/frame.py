"""Frames: the arrays and header of an image on its way through the reduction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.core.flags import UNUSABLE_PIXEL, PixelFlag
from skylake.core.response_settings import ResponseError
from skylake.errors import FrameFailed

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
MaskPlane = npt.NDArray[np.uint8]

#: No detector gives so many ADU, and squares of larger numbers do not fit 32 bits.
BEYOND_MEASURE = np.float32(1e15)


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
        Content after gunzip or bunzip2; the raw bytes where these fail, the path of a file too large to be read.
    failure : FrameFailed or None
        Why the content is not to be read or unpacked.
    """

    path: str
    n_bytes: int
    modified_ns: int
    data: bytes
    failure: FrameFailed | None = None


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
class StoredImage:
    """The pixels of one HDU as the file holds them, so that they are converted only once.

    Attributes
    ----------
    stored : ndarray, shape (height, width)
        In the byte order of the file.
    header : astropy.io.fits.Header
        Header of the image.
    extension : int
        Index of the HDU.
    n_further : int
        Images that follow in the same file.
    scale, zero : float
        A pixel is ``zero + scale * stored``.
    blank : int or None
        Stored value of pixels without a value.
    """

    stored: npt.NDArray[Any]
    header: Any
    extension: int
    n_further: int = 0
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.stored.shape[0], self.stored.shape[1]


@dataclass(frozen=True, slots=True)
class SkyPlane:
    """The sky to subtract from a frame.

    Attributes
    ----------
    pixels : ndarray of float32, shape (height, width)
        ADU, finite everywhere.
    error : ndarray of float32, of the same shape
        Standard error, ADU, finite everywhere.
    unknown : ndarray of bool, of the same shape
        Pixels without a sky in any frame, filled from the pixels around them.
    level : float
        Its median, ADU.
    one_sided : bool
        Whether only frames before, or only frames after the frame give it.
    """

    pixels: Pixels
    error: Pixels
    unknown: Mask
    level: float
    one_sided: bool = False


@dataclass(frozen=True, slots=True)
class TakenSky:
    """A sky that was subtracted: its level, ADU, and whether it was made from frames on one side only."""

    level: float = 0.0
    one_sided: bool = False


@dataclass(frozen=True, slots=True)
class Unread:
    """Pixels that were not read out: their share of the raw pixels, and the value they hold, ADU."""

    share: float
    value: float

    def __str__(self) -> str:
        share = f"{100.0 * self.share:.2g}%"
        return f"{share} of the raw pixels hold {self.value:g}, as if not read out; they are left out"


@dataclass(frozen=True, slots=True)
class Image:
    """A calibrated image with what is known of each pixel. All arrays have one shape.

    Attributes
    ----------
    pixels : ndarray of float32
        ADU; finite everywhere: masked pixels hold a neighbourhood value.
    mask : ndarray of uint8
        Bits of :class:`~skylake.core.flags.PixelFlag`. Saturation is judged on raw pixels, before anything
        was subtracted.
    offset : tuple of float
        Raw pixel (x, y) on which the centre of the first pixel lies; a mean of two green pixels lies between.
    raw_step : int
        Raw pixels from one pixel to the next: 2 for one colour plane of a Bayer mosaic.
    variance : ndarray of float32 or None
        Variance that read noise, photons and masters give each pixel, ADU^2; None where it is only known from the
        scatter of the background.
    read_variance : float or None
        What read noise and the errors of masters have of the variance of a pixel of the sky, ADU^2: all that is not
        its photons. None where the gain with which photons were counted is only a guess.
    sky : TakenSky
        The sky that was subtracted; the level is 0 where none was.
    response_error : ResponseError or None
        Error of the flat that neighbouring pixels share; not included in the variances.
    row_variance : float
        Variance that the pixels of a row share, for each row, ADU^2.
    unread : Unread or None
        The masked pixels that were not read out; None if all were.
    """

    pixels: Pixels
    mask: MaskPlane
    offset: tuple[float, float]
    variance: Pixels | None = None
    raw_step: int = 1
    read_variance: float | None = None
    sky: TakenSky = TakenSky()
    response_error: ResponseError | None = None
    row_variance: float = 0.0
    unread: Unread | None = None

    @property
    def masked(self) -> Mask:
        """Pixels whose value says nothing of the sky."""
        return self.having(UNUSABLE_PIXEL)

    @property
    def saturated(self) -> Mask:
        """Pixels whose raw value reached saturation."""
        return self.having(PixelFlag.SATURATED)

    @property
    def near_saturated(self) -> Mask:
        """Pixels whose raw value was beyond linearity."""
        return self.having(PixelFlag.NEAR_SATURATED)

    def response_variance(self, x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the square of the relative error that the flat gives to fluxes at places, 0-based pixels."""
        if self.response_error is None:
            return np.zeros(len(x))
        raw = (start + self.raw_step * place for start, place in zip(self.offset, (x, y), strict=True))
        return self.response_error.variance(*raw)

    def having(self, bits: PixelFlag) -> Mask:
        """Return the pixels that have any of some bits."""
        return np.asarray(self.mask & np.uint8(bits), bool)
