"""Colour planes of a Bayer mosaic: pixels, mask and WCS of one of them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from skylake.core.frame import MaskPlane, Pixels
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed

#: Terms of SIP along an axis; the convention knows orders up to 9.
_MAX_SIP = 20

Colour = Literal["R", "G", "G1", "G2", "B"]


def colour_planes(is_bayer: bool) -> list[tuple[slice, slice]]:
    """Return the rows and columns of each plane of a mosaic whose cells are of two by two pixels; else of all."""
    if not is_bayer:
        return [(slice(None), slice(None))]
    return [(slice(y, None, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1)]


def bayer_cells(pattern: str, colour: Colour, offset: tuple[float, float]) -> list[tuple[int, int]]:
    """Return the places (x, y) in a cell of two by two pixels that have a colour.

    Parameters
    ----------
    pattern : str
        Colours of the first two rows of raw pixels, such as RGGB.
    colour : str
        G1 and G2 are the green pixels of the rows with red and with blue.
    offset : tuple of float
        Raw pixel (x, y) of the first pixel.
    """
    shift_x, shift_y = int(offset[0]) % 2, int(offset[1]) % 2
    cells: list[tuple[int, int]] = []
    for place, letter in enumerate(pattern):
        row = pattern[2 * (place // 2) : 2 * (place // 2) + 2]
        name = letter if letter != "G" else ("G1" if "R" in row else "G2")
        if name == colour or letter == colour:
            cells.append(((place % 2 - shift_x) % 2, (place // 2 - shift_y) % 2))
    return cells


def take_plane(
    pixels: npt.NDArray[np.float32], cells: list[tuple[int, int]]
) -> tuple[Pixels, tuple[float, float]]:
    """Return the mean of some pixels of each whole cell of a mosaic, and where in the cell it lies (x, y)."""
    height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
    if height == 0 or width == 0:
        raise FrameFailed(Reason.WRONG_SIZE, "the image is smaller than a cell of the Bayer mosaic")
    pieces = [pixels[y : 2 * height : 2, x : 2 * width : 2] for x, y in cells]
    plane = pieces[0].astype(np.float32)
    for piece in pieces[1:]:
        plane += piece
    plane /= np.float32(len(pieces))
    x, y = (sum(values) / len(cells) for values in zip(*cells, strict=True))
    return np.ascontiguousarray(plane), (x, y)


def take_mask(mask: MaskPlane, cells: list[tuple[int, int]]) -> MaskPlane:
    """Return the bits that any of some pixels of each cell has."""
    height, width = mask.shape[0] // 2, mask.shape[1] // 2
    plane = np.zeros((height, width), np.uint8)
    for x, y in cells:
        plane |= mask[y : 2 * height : 2, x : 2 * width : 2]
    return plane


def moved_wcs(wcs: Any, offset: tuple[float, float], raw_step: int) -> Any:
    """Return the WCS of every so many pixels of an image, from a pixel (x, y) on.

    Distortions in SIP form are scaled along; those in tables are not known to cameras with colour planes.
    """
    from astropy.wcs import Sip

    made = wcs.deepcopy()

    def moved(reference: Any) -> Any:
        return (np.asarray(reference) - 1.0 - np.asarray(offset)) / raw_step + 1.0

    made.wcs.crpix = moved(wcs.wcs.crpix)
    if raw_step != 1:
        if made.wcs.has_cd():
            made.wcs.cd = wcs.wcs.cd * raw_step
        else:
            made.wcs.cdelt = wcs.wcs.cdelt * raw_step
    if wcs.sip is not None:
        powers = np.add.outer(np.arange(_MAX_SIP), np.arange(_MAX_SIP)) - 1
        terms = [
            None
            if polynomial is None
            else polynomial * float(raw_step) ** powers[: polynomial.shape[0], : polynomial.shape[1]]
            for polynomial in (wcs.sip.a, wcs.sip.b, wcs.sip.ap, wcs.sip.bp)
        ]
        made.sip = Sip(*terms, moved(wcs.sip.crpix))
    made.wcs.set()
    return made
