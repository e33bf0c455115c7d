"""What is told of a frame besides its verdict, which takes the place of none of it."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from skylake.core.flags import UNUSABLE_PIXEL, FrameFlag, PixelFlag
from skylake.core.frame import Image
from skylake.core.reasons import Status
from skylake.errors import FrameRejected
from skylake.image.detection.mask_bits import count_bits
from skylake.image.wcs.wcs_cards import left_out

#: Cosmic rays hit a few pixels in ten thousand; where a larger share seems hit, stars or noise are taken for them.
_MANY_HIT = 0.005
#: From this share of pixels without a value on they may be why a frame is not good enough.
_MANY_INVALID = 0.05


@dataclass(slots=True)
class Notes:
    """Sentences on a frame.

    Attributes
    ----------
    always : list of str
        Told whatever the verdict is.
    if_refused : list of str
        Told of a frame that is not ok, as they may be why; a good frame may have borders without pixels.
    """

    always: list[str] = field(default_factory=list)
    if_refused: list[str] = field(default_factory=list)

    def add_to(self, row: MutableMapping[str, Any]) -> None:
        """Write the sentences into the message of a row of ``frames``, after what stands there."""
        told = [row.get("message"), *(self.if_refused if row["status"] != Status.OK else ()), *self.always]
        row["message"] = "; ".join(one for one in told if one) or None


def count_pixels(row: MutableMapping[str, Any], image: Image, notes: Notes) -> None:
    """Add the size of an image, and how many of its pixels are of no use, to a row of ``frames``, and say of which.

    Parameters
    ----------
    row : dict
    image : Image
    notes : Notes
    """
    height, width = image.pixels.shape
    bits = UNUSABLE_PIXEL, PixelFlag.SATURATED, PixelFlag.INVALID, PixelFlag.COSMIC_RAY
    n_masked, n_saturated, n_invalid, n_hit = count_bits(image.mask, np.array(bits, np.uint8)).tolist()
    row.update(width_px=width, height_px=height, n_masked_px=n_masked, n_saturated_px=n_saturated)
    if n_invalid:
        row["flags"] |= FrameFlag.NAN_PIXELS
    if image.unread is not None:
        notes.always.append(str(image.unread))
    if n_invalid > _MANY_INVALID * image.mask.size:
        notes.if_refused.append(_without_value(image, n_invalid))
    if n_hit > _MANY_HIT * image.mask.size:
        row["flags"] |= FrameFlag.MANY_COSMIC_RAYS


def note_left_out(
    row: MutableMapping[str, Any], notes: Notes, header: Any, lost: FrameRejected | None
) -> None:
    """Say of a frame that is placed that the WCS of its header is none; `lost` is what is said of the header alone."""
    told = left_out(header, lost)
    if told is not None:
        notes.always.append(told)
        row["flags"] |= FrameFlag.HEADER_DOUBTED


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
