"""The colours of a mosaic where header and profile contradict one another: the pixels decide, if they can.

Of the four pixels of a cell the two green ones lie on a diagonal and see the same light, whatever its colour. A
readout flipped along one axis exchanges the diagonals. One turned by half a circle exchanges red and blue, which no
pixel shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from skylake.cameras import HeaderReading
from skylake.cameras.header_values import read_text
from skylake.core.doubts import Doubt
from skylake.core.frame import StoredImage
from skylake.core.reasons import Reason
from skylake.errors import FrameFailed
from skylake.image.detrend.bayer_planes import colour_planes

Pattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]
Places = tuple[int, int]

_QUANTITY = "bayer_pattern"
_CARDS = ("BAYERPAT", "COLORTYP")
#: Sides of a cell: an offset of one column or row exchanges these places.
_ALONG_X, _ALONG_Y = (1, 0, 3, 2), (2, 3, 0, 1)
#: Levels of planes are medians of so many pixels along each axis, about the middle of the image.
_WINDOW_PX = 512
#: Levels that differ by more standard errors are not those of one colour,
_CERTAIN = 6.0
#: and green pixels differ by less than this part of what the others do.
_ALIKE = 0.3


def settle_pattern(raw: StoredImage, reading: HeaderReading) -> tuple[Doubt, ...]:
    """Put the pattern of a frame into its reading, where header and profile contradict one another.

    Parameters
    ----------
    raw : StoredImage
    reading : HeaderReading
        Its camera has the right pattern afterwards; the doubt is added to its doubts.

    Returns
    -------
    tuple of Doubt
        The doubt that was added; none where header and profile agree, or one of them names no pattern.

    Raises
    ------
    FrameFailed
        ``ambiguous_header`` if the pixels do not show which pattern is right.
    """
    camera = reading.camera
    card, stated = patterns_of(raw.header)
    given = camera.detector.bayer_pattern
    if not stated or given in stated or any(doubt.quantity == _QUANTITY for doubt in reading.doubts):
        return ()
    greens = green_places(raw)
    if given is None:
        if greens not in [_greens(pattern) for pattern in stated]:
            # The pixels of one colour, or those of an image that was made of a mosaic, are alike.
            return ()
        doubt = _without_step(card, stated[0])
    else:
        shown = [pattern for pattern in (given, *stated) if _greens(pattern) == greens]
        doubt = _decided(card, stated[0], given, shown)
        if doubt.reason is None:
            reading.camera = replace(camera, detector=replace(camera.detector, bayer_pattern=shown[0]))
    reading.doubt(doubt)
    if doubt.reason is not None:
        raise FrameFailed(doubt.reason, doubt.sentence)
    return (doubt,)


def patterns_of(header: Mapping[str, object]) -> tuple[str, tuple[Pattern, ...]]:
    """Return the card that names the pattern of a mosaic, and the patterns of the first rows that it may mean.

    Where rows are from the bottom to the top some programs name the pattern of the file, and others that of the
    picture. Without a card there is no pattern.
    """
    for card in _CARDS:
        pattern = (read_text(header, card) or "").upper()
        if pattern not in get_args(Pattern):
            continue
        for name, exchange in (("XBAYROFF", _ALONG_X), ("YBAYROFF", _ALONG_Y)):
            if read_text(header, name) in ("1", "1.0"):
                pattern = _exchanged(pattern, exchange)
        patterns = [pattern]
        if (read_text(header, "ROWORDER") or "").upper() == "BOTTOM-UP":
            patterns.append(_exchanged(pattern, _ALONG_Y))
        return card, tuple(cast("Pattern", one) for one in patterns)
    return "", ()


def green_places(raw: StoredImage) -> Places | None:
    """Return the places in a cell, counted by rows, whose pixels are alike as green ones are; None if none are."""
    height, width = raw.shape
    rows, columns = (slice(*_middle(length)) for length in (height, width))
    window = np.asarray(raw.stored[rows, columns], np.float64)
    planes = [window[cell] for cell in colour_planes(is_bayer=True)]
    if min(plane.size for plane in planes) == 0:
        return None
    levels, errors = zip(*map(_level, planes), strict=True)
    diagonals = {
        places: (abs(levels[places[0]] - levels[places[1]]), float(np.hypot(*(errors[k] for k in places))))
        for places in ((0, 3), (1, 2))
    }
    alike, others = sorted(diagonals, key=lambda places: diagonals[places][0])
    (least, _), (most, error) = diagonals[alike], diagonals[others]
    certain = most > _CERTAIN * error and least < _ALIKE * most
    return alike if certain else None


def _middle(length: int) -> tuple[int, int]:
    """Return the first and last pixel of a window about the middle of an axis that begins with a whole cell."""
    half = min(length, _WINDOW_PX) // 2
    first = (length // 2 - half) // 2 * 2
    return first, first + 2 * half


def _level(plane: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the median of a plane, and its standard error, which steps of digitisation do not make smaller."""
    finite = plane[np.isfinite(plane)]
    if finite.size == 0:
        return float("nan"), float("nan")
    low, middle, high = np.percentile(finite, [15.87, 50.0, 84.13])
    return float(middle), float(1.25 * 0.5 * (high - low) / np.sqrt(finite.size))


def _greens(pattern: str) -> Places:
    return (0, 3) if pattern[0] == "G" else (1, 2)


def _exchanged(pattern: str, places: tuple[int, ...]) -> str:
    return "".join(pattern[place] for place in places)


def _decided(card: str, stated: str, given: str, shown: list[Pattern]) -> Doubt:
    """Return the doubt about two patterns, of which the pixels show those in `shown`."""
    values = ((card, stated), ("profile", given))
    both = f"{card} = {stated} contradicts detector.bayer_pattern = {given} of the profile"
    if len(shown) != 1:
        fix = "correct the card, or give the pattern of these frames in a [[period]] of the profile"
        return Doubt(
            _QUANTITY,
            values,
            "",
            f"{both}, and the pixels do not show which is right; {fix}",
            Reason.AMBIGUOUS_HEADER,
        )
    taken = "profile" if shown[0] == given else card
    sentence = f"{both}; the pixels show {shown[0]} by their green ones, which is used: correct the other"
    return Doubt(_QUANTITY, values, taken, sentence)


def _without_step(card: str, stated: str) -> Doubt:
    sentence = (
        f"{card} = {stated}, and so show the pixels, but the profile has no detector.bayer_pattern: fluxes depend on "
        "where in the mosaic a star lies; give it and the step bayer in reduction.steps"
    )
    return Doubt(_QUANTITY, ((card, stated), ("profile", "none")), "profile", sentence)
