"""What the message of a frame says beside its verdict."""

from __future__ import annotations

from typing import Any

import numpy as np

from skylake.core.flags import UNUSABLE_PIXEL, FrameFlag, PixelFlag
from skylake.core.frame import Image
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import Notes, RowPart
from skylake.errors import FrameRejected
from skylake.image.detection.mask_bits import count_bits
from skylake.image.wcs.wcs_cards import left_out

#: Cosmic rays hit a few pixels in ten thousand; where a larger share seems hit, stars or noise are taken for them.
_MANY_HIT = 0.005
#: From this share of pixels without a value on they may be why a frame is not good enough.
_MANY_INVALID = 0.05


def count_pixels(image: Image) -> RowPart:
    """Return the size of an image, how many of its pixels are of no use, and sentences on those."""
    height, width = image.pixels.shape
    bits = UNUSABLE_PIXEL, PixelFlag.SATURATED, PixelFlag.INVALID, PixelFlag.COSMIC_RAY
    n_masked, n_saturated, n_invalid, n_hit = count_bits(image.mask, np.array(bits, np.uint8)).tolist()
    flags = FrameFlag.NAN_PIXELS if n_invalid else FrameFlag(0)
    if n_hit > _MANY_HIT * image.mask.size:
        flags |= FrameFlag.MANY_COSMIC_RAYS
    many_invalid = n_invalid > _MANY_INVALID * image.mask.size
    columns: FrameRow = {
        "width_px": width,
        "height_px": height,
        "n_masked_px": n_masked,
        "n_saturated_px": n_saturated,
        "flags": flags,
    }
    notes = Notes(
        always=() if image.unread is None else (str(image.unread),),
        if_refused=(_without_value(image, n_invalid),) if many_invalid else (),
    )
    return RowPart(columns, notes=notes)


def doubted_header(header: Any, lost: FrameRejected | None) -> RowPart:
    """Say of a frame that is placed that the WCS of its header is none; `lost` is what is said of the header alone."""
    sentence = left_out(header, lost)
    if sentence is None:
        return RowPart()
    return RowPart({"flags": FrameFlag.HEADER_DOUBTED}, notes=Notes((sentence,)))


def _without_value(image: Image, n_invalid: int) -> str:
    """Return how many pixels have no value, and which rows and columns have none at all."""
    invalid = (image.mask & np.uint8(PixelFlag.INVALID)) != 0
    whole = [
        f"{count} of the {lines.size} {name}"
        for name, lines in (("rows", invalid.all(axis=1)), ("columns", invalid.all(axis=0)))
        if (count := int(np.count_nonzero(lines)))
    ]
    where = f", {' and '.join(whole)} among them" if whole else ""
    share = f"{100.0 * n_invalid / invalid.size:.2g}%"
    return f"{n_invalid} pixels ({share}) hold no valid number, as NaN{where}; see how the file was written"
