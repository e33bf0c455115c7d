"""FITS files with bytes that follow from their content alone."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skylake.simulate.scenario import FileForm, PixelForm
from skylake.simulate.stamps import Image

if TYPE_CHECKING:
    from astropy.io.fits import Header

Card = tuple[str, object, str]

_INT16_STEPS = 65000.0


def write_frame(
    path: Path,
    image: Image,
    cards: Iterable[Card],
    form: FileForm,
    pixels: PixelForm,
    extension: int | str | None,
) -> None:
    """Write one frame.

    Parameters
    ----------
    path : Path
        Where; the folder is made. The file appears when it is complete.
    image : ndarray of float32
        ADU.
    cards : iterable of tuple
        Name, value and comment of header cards; the last one of a name counts.
    form : {'fits', 'fits.gz', 'fits.fz'}
        Plain, compressed as a whole (no time in the gzip header), or Rice-compressed by tiles.
    pixels : {'uint16', 'scaled16', 'int32', 'float32'}
        How pixels are stored: unsigned integers (BZERO = 32768), 16 bits with a BSCALE and BZERO of the
        frame's own, and so on. Integers are rounded, and clipped to their range.
    extension : int, str or None
        Index or name of the HDU that holds the image; None and 0 take the first.
    """
    from astropy.io import fits

    data, scaling = quantised(image, pixels)
    header = fits.Header()
    for name, value, comment in cards:
        header[name] = (value, comment)
    hdus = _hdus(data, header, scaling, form, extension)
    buffer = io.BytesIO()
    hdus.writeto(buffer)
    content = buffer.getvalue()
    if form == "fits.gz":
        content = _gzipped(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_bytes(content)
    unfinished.replace(path)


def quantised(image: Image, pixels: PixelForm) -> tuple[npt.NDArray[Any], list[Card]]:
    """Return the values to be stored and the cards with the scale to restore them."""
    if pixels == "float32":
        return image.astype(np.float32, copy=False), []
    if pixels == "uint16":
        return np.clip(np.rint(image), 0.0, 65535.0).astype(np.uint16), []
    if pixels == "int32":
        return np.clip(np.rint(image), -(2.0**31), 2.0**31 - 256.0).astype(np.int32), []
    low, high = float(image.min()), float(image.max())
    scale = max(high - low, 1.0) / _INT16_STEPS
    zero = 0.5 * (low + high)
    stored = np.rint((image.astype(float) - zero) / scale).astype(np.int16)
    return stored, [("BSCALE", scale, "physical = BZERO + BSCALE * stored"), ("BZERO", zero, "")]


def _hdus(
    data: npt.NDArray[Any], header: Header, scaling: list[Card], form: FileForm, extension: int | str | None
) -> Any:
    from astropy.io import fits

    before: list[Any] = []
    if form == "fits.fz":
        image = fits.CompImageHDU(data, header, compression_type="RICE_1", dither_seed=1)
        before = [fits.PrimaryHDU()]
    elif extension in (None, 0):
        image = fits.PrimaryHDU(data, header)
    else:
        image = fits.ImageHDU(data, header)
    if isinstance(extension, str):
        image.name = extension
    if extension not in (None, 0):
        wanted = extension if isinstance(extension, int) else 1
        before = [fits.PrimaryHDU(), *(fits.ImageHDU() for _ in range(wanted - 1))]
    # After the data are in place: astropy would scale them on setting these cards before.
    for name, value, comment in scaling:
        image.header[name] = (value, comment)
    return fits.HDUList([*before, image])


def _gzipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=1, mtime=0) as stream:
        stream.write(content)
    return buffer.getvalue()
