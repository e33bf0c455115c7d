"""Trails of satellites and aircraft, and the sources that they spoil."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.camera import Apertures
from skylake.core.flags import UNUSABLE_PIXEL, PixelFlag, SourceFlag
from skylake.core.frame import Image, MaskPlane, Pixels
from skylake.core.frame_row import FrameRow
from skylake.image.detection.detections import Detections
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.streaks.line_kernels import read_strip
from skylake.image.streaks.linear_structure import is_structure

Floats = npt.NDArray[np.float64]

#: What may be a piece of a trail: as elongated as that, or in touch with a neighbour.
_ELONGATED = 2.0
#: From an elongated source points are taken along its axis, so many half axes to each side and so far apart, pixels.
_REACH_AXES, _POINT_PX, _MOST_POINTS = 1.7, 4.0, 25
#: Footprints of so many pixels that fill less than this share of their ellipse are no stars.
_LARGE_PX, _SPRAWLING = 100, 0.6
#: Cells of the space of lines: angles, and pixels of distance.
_ANGLES, _CELL_PX = 180, 6.0
#: A line worth a look has so many points; trails are looked for until so many lines in a row are none.
_FEWEST_POINTS, _FAILED_LINES = 8, 5
#: Points belong to a line within this distance, pixels.
_NEAR_PX = 3.0
#: A trail is judged in pieces of so many pixels, large ones first: to them stars matter less. Short trails have few.
_PIECES_PX = (16, 8)
#: So many pieces, and this share of those between the ends, must show light.
_FEWEST_PIECES, _LIT_SHARE = 5, 0.75
#: Pieces without light that do not end a trail.
_LARGEST_GAP = 2
#: Light of a piece, and of the whole trail, in standard deviations: chance puts faint stars into rows.
_LIT_SIGMA, _SURE_SIGMA = 2.5, 20.0
#: Light of the faint pieces of a trail beside its bright ones: stars are not as even.
_EVEN = 0.3
#: Width of the core, and where the sky beside it begins and ends, in full widths of stars.
_CORE, _SKY = 0.8, (2.0, 4.0)
#: Widths of stars that are believed, pixels.
_WIDTHS = (2.0, 8.0)
_BAD = np.uint8(UNUSABLE_PIXEL | PixelFlag.SATURATED)


@dataclass(frozen=True, slots=True)
class Trail:
    """Both ends of a trail within the image, 0-based pixels, and the full width of stars, which is its own."""

    x0: float
    y0: float
    x1: float
    y1: float
    width: float

    @property
    def ends(self) -> tuple[float, float, float, float]:
        """Both ends: x and y of the first and of the second."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def length(self) -> float:
        """Distance of the ends."""
        return float(np.hypot(self.x1 - self.x0, self.y1 - self.y0))

    def distance(self, x: Floats, y: Floats) -> Floats:
        """Return how far places are from the trail."""
        run = np.array([self.x1 - self.x0, self.y1 - self.y0]) / max(self.length, 1e-9)
        along = np.clip((x - self.x0) * run[0] + (y - self.y0) * run[1], 0.0, self.length)
        return np.asarray(np.hypot(x - self.x0 - along * run[0], y - self.y0 - along * run[1]))


def near_trails(trails: Sequence[Trail], x: Floats, y: Floats, radius: float) -> npt.NDArray[np.bool_]:
    """Return which circles have light of any trail in them."""
    near = np.zeros(len(x), bool)
    for trail in trails:
        near |= trail.distance(x, y) <= radius + 0.5 * trail.width
    return near


def mark_trails(
    sky_rms_adu: float,
    image: Image,
    signal: Pixels,
    detections: Detections,
    measured: Measurements,
    apertures: Apertures,
    known: tuple[Trail, ...] | None = None,
) -> tuple[tuple[Trail, ...], FrameRow]:
    """Find trails, flag the sources whose largest aperture they cross, and return numbers for the row of the frame.

    Those that are known need not be found. Sources keep the flags that they have. A star under a trail has its light
    too, and so counts as spoiled.
    """
    trails = known
    if trails is None:
        widths = measured.fwhm[np.isfinite(measured.fwhm)]
        fwhm = float(np.clip(np.median(widths), *_WIDTHS)) if widths.size else _WIDTHS[0]
        trails = find_trails(signal, image.mask, sky_rms_adu, detections, fwhm)
    crossed = near_trails(trails, measured.x, measured.y, max(apertures.radii_px))
    measured.flags[crossed] |= SourceFlag.STREAK
    return trails, {
        "n_streaks": len(trails),
        "streak_length_px": float(sum(trail.length for trail in trails)),
        "n_streak_sources": int(np.count_nonzero(crossed)),
    }


def find_trails(
    signal: Pixels, mask: MaskPlane, noise: float, detections: Detections, fwhm: float
) -> tuple[Trail, ...]:
    """Find straight trails.

    What detection has made of a trail lies on a line: the lines with most of such pieces are looked for in the space
    of their angles and distances (Duda & Hart 1972, Comm. ACM 15, 11), and each is then judged by the pixels along
    it, piece by piece, by medians, to which stars do not matter. What the detector or a bright star makes is left out
    (:func:`~skylake.image.streaks.linear_structure.is_structure`). The search ends when five lines in a row were none,
    however many trails there are.

    Parameters
    ----------
    signal : ndarray of float32, shape (height, width)
        Image minus background, ADU.
    mask : ndarray of uint8, shape (height, width)
    noise : float
        Standard deviation of the sky in a pixel, ADU.
    detections : Detections
    fwhm : float
        Full width at half maximum of stars, pixels.
    """
    x, y = _pieces(detections)
    trails: list[Trail] = []
    others: list[Trail] = []
    failed = 0
    while failed < _FAILED_LINES:
        line = _best_line(x, y, signal.shape)
        if line is None:
            break
        tried = (_follow(signal, mask, noise, line, fwhm, piece) for piece in _PIECES_PX)
        trail = next((candidate for candidate in tried if candidate is not None), None)
        if trail is None or _is_one_of([*trails, *others], trail):
            failed += 1
            rest = ~line.near(x, y)
        else:
            failed = 0
            made = is_structure(trail.ends, signal, mask, noise, fwhm)
            (others if made else trails).append(trail)
            rest = ~near_trails([trail], x, y, 2.0 * _NEAR_PX + 0.5 * fwhm)
        x, y = x[rest], y[rest]
    return tuple(trails)


def _is_one_of(trails: Sequence[Trail], trail: Trail) -> bool:
    """Return whether a trail is one that is known: half of it lies on that."""
    share = np.linspace(0.0, 1.0, 21)
    x, y = trail.x0 + share * (trail.x1 - trail.x0), trail.y0 + share * (trail.y1 - trail.y0)
    return any(float(np.median(other.distance(x, y))) <= other.width for other in trails)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line: a point on it and its direction, of length 1."""

    x: float
    y: float
    along_x: float
    along_y: float

    def near(self, x: Floats, y: Floats, reach: float = _NEAR_PX) -> npt.NDArray[np.bool_]:
        across = (y - self.y) * self.along_x - (x - self.x) * self.along_y
        return np.asarray(np.abs(across) <= reach)

    def ends(self, shape: tuple[int, ...]) -> tuple[float, float]:
        """Return where the line enters and leaves the image, as distances from the point."""
        first, last = -np.inf, np.inf
        for place, run, size in ((self.x, self.along_x, shape[1]), (self.y, self.along_y, shape[0])):
            if abs(run) > 1e-9:
                low, high = sorted((-place / run, (size - 1.0 - place) / run))
                first, last = max(first, low), min(last, high)
        return float(first), float(last)


def _pieces(detections: Detections) -> tuple[Floats, Floats]:
    """Return points of what may be pieces of trails."""
    a, b = detections.a, np.maximum(detections.b, 0.3)
    long = a > _ELONGATED * b
    chosen = np.flatnonzero(long | ((detections.flags & int(SourceFlag.BLENDED)) != 0))
    half = np.where(long[chosen], np.floor(_REACH_AXES * a[chosen] / _POINT_PX), 0.0)
    number = 2 * np.minimum(half, _MOST_POINTS).astype(np.int64) + 1
    which = np.repeat(np.arange(chosen.size), number)
    first = np.cumsum(number) - number
    step = (np.arange(which.size) - first[which] - number[which] // 2) * _POINT_PX
    angle = detections.theta[chosen][which]
    x, y = detections.x[chosen][which], detections.y[chosen][which]
    more_y, more_x = _sprawling(detections)
    x, y = x + step * np.cos(angle), y + step * np.sin(angle)
    return np.concatenate([x, more_x]), np.concatenate([y, more_y])


def _sprawling(detections: Detections) -> tuple[Floats, Floats]:
    """Return some rows and columns of footprints that fill little of their ellipse, as trails that cross do."""
    ellipse = 4.0 * np.pi * detections.a * detections.b
    sprawls = (detections.n_pixels > _LARGE_PX) & (detections.n_pixels < _SPRAWLING * ellipse)
    if not sprawls.any():
        return np.zeros(0), np.zeros(0)
    step = int(_POINT_PX)
    known = np.append(False, sprawls)[detections.segments[::step, ::step]]
    row, column = np.nonzero(known)
    return row.astype(float) * _POINT_PX, column.astype(float) * _POINT_PX


def _best_line(x: Floats, y: Floats, shape: tuple[int, ...]) -> _Line | None:
    """Return the line with most points, which may be those of chance; None if there are too few."""
    if x.size < _FEWEST_POINTS:
        return None
    angle = (np.arange(_ANGLES) * np.pi / _ANGLES).astype(np.float32)
    middle_x, middle_y = 0.5 * shape[1], 0.5 * shape[0]
    dx, dy = (x - middle_x).astype(np.float32), (y - middle_y).astype(np.float32)
    size = 2 * int(np.hypot(shape[0], shape[1]) / _CELL_PX) + 3
    # The normal of the line has the angle.
    cell = np.outer(np.cos(angle), dx)
    cell += np.outer(np.sin(angle), dy)
    place = np.rint(cell / np.float32(_CELL_PX)).astype(np.int64) + size // 2
    place += (np.arange(_ANGLES) * size)[:, None]
    votes = np.bincount(place.ravel(), minlength=_ANGLES * size)
    best = int(votes.argmax())
    if votes[best] < _FEWEST_POINTS:
        return None
    turn, distance = divmod(best, size)
    normal = float(np.cos(angle[turn])), float(np.sin(angle[turn]))
    offset = (distance - size // 2) * _CELL_PX
    line = _Line(middle_x + offset * normal[0], middle_y + offset * normal[1], -normal[1], normal[0])
    for reach in (2.0 * _CELL_PX, _CELL_PX, _NEAR_PX, _NEAR_PX):
        near = line.near(x, y, reach)
        if np.count_nonzero(near) < _FEWEST_POINTS:
            return line
        line = _through(x[near], y[near])
    return line


def _through(x: Floats, y: Floats) -> _Line:
    """Return the line through points that has the least squares of distances."""
    _, _, axes = np.linalg.svd(np.column_stack([x - x.mean(), y - y.mean()]), full_matrices=False)
    return _Line(float(x.mean()), float(y.mean()), float(axes[0, 0]), float(axes[0, 1]))


def _follow(
    signal: Pixels, mask: MaskPlane, noise: float, line: _Line, fwhm: float, piece: int
) -> Trail | None:
    """Return the trail on a line, judged in pieces of so many pixels; None if there is none."""
    for core in (1.5 * _CORE, _CORE, _CORE):
        start, strip = _strip(signal, mask, line, fwhm, piece)
        lit = _lit_pieces(strip, noise, fwhm, core)
        if lit is None:
            return None
        first, last = lit
        line = _straightened(line, strip, start, first, last, fwhm)
    ends = start + first * piece, start + last * piece
    (x0, x1), (y0, y1) = (
        [place + end * run for end in ends] for place, run in ((line.x, line.along_x), (line.y, line.along_y))
    )
    return Trail(x0, y0, x1, y1, fwhm)


def _strip(signal: Pixels, mask: MaskPlane, line: _Line, fwhm: float, piece: int) -> tuple[float, Floats]:
    """Return the pixels along a line, shape (across, pieces, pixels of a piece), and where they begin; NaN outside."""
    start, end = line.ends(signal.shape)
    n_pieces = max(1, int((end - start) // piece))
    half = int(np.ceil(_SKY[1] * fwhm))
    along = start + np.arange(n_pieces * piece) + 0.5
    place = line.x, line.y, line.along_x, line.along_y
    strip = read_strip(signal, mask, _BAD, along, half, place)
    return start, strip.reshape(2 * half + 1, n_pieces, piece)


def _lit_pieces(strip: Floats, noise: float, fwhm: float, core_widths: float) -> tuple[int, int] | None:
    """Return the first piece that shows light and the one after the last; None if they make no trail."""
    half, piece = strip.shape[0] // 2, strip.shape[2]
    across = np.abs(np.arange(-half, half + 1))
    core = strip[across <= max(core_widths * fwhm, 1.0)]
    beside = strip[(across > _SKY[0] * fwhm) & (across <= _SKY[1] * fwhm)]
    known = (np.isfinite(core).all(axis=0).sum(axis=1) >= piece // 2) & np.isfinite(beside).any(axis=(0, 2))
    value = np.zeros(strip.shape[1])
    value[known] = _medians(core[:, known].mean(axis=0)) - _medians(
        beside[:, known].swapaxes(0, 1).reshape(np.count_nonzero(known), len(beside) * piece)
    )
    # Of a median, of neighbouring columns.
    sigma = 1.25 * noise / np.sqrt(len(core) * piece)
    lit = np.flatnonzero(value > _LIT_SIGMA * sigma)
    if lit.size < _FEWEST_PIECES:
        return None
    groups = np.split(lit, np.flatnonzero(np.diff(lit) > _LARGEST_GAP + 1) + 1)
    run = max(groups, key=len)
    # Chance may have put faint pieces beside the ends; of a row of stars only the brightest are left.
    run = run[value[run] > _EVEN * np.percentile(value[run], 75)]
    if run.size < max(_FEWEST_PIECES, _LIT_SHARE * (run[-1] + 1 - run[0])):
        return None
    if np.median(value[run]) * np.sqrt(run.size) < _SURE_SIGMA * sigma:
        return None
    return int(run[0]), int(run[-1]) + 1


def _medians(values: Floats) -> Floats:
    """Return the median of each row, NaN left out; each has a number."""
    # NaN come last.
    ordered, count = np.sort(values, axis=1), np.isfinite(values).sum(axis=1)
    middles = np.stack([(count - 1) // 2, count // 2], axis=1)
    return np.asarray(np.take_along_axis(ordered, middles, axis=1).mean(axis=1))


def _straightened(line: _Line, strip: Floats, start: float, first: int, last: int, fwhm: float) -> _Line:
    """Return the line through the middles of the light of its pieces."""
    half = strip.shape[0] // 2
    across = np.arange(-half, half + 1)
    pieces = np.where(np.isfinite(strip[:, first:last]), strip[:, first:last], 0.0)
    profile = np.median(pieces, axis=2)
    profile = np.maximum(profile - np.median(profile, axis=0), 0.0)
    profile[np.abs(across) > _SKY[0] * fwhm] = 0.0
    total = profile.sum(axis=0)
    known = total > 0.0
    if np.count_nonzero(known) < _FEWEST_PIECES:
        return line
    middle = (across[:, None] * profile).sum(axis=0)[known] / total[known]
    along = start + (first + np.flatnonzero(known) + 0.5) * strip.shape[2]
    inlying = np.abs(middle - np.median(middle)) <= max(
        1.0, 2.0 * float(np.median(np.abs(middle - np.median(middle))))
    )
    slope, offset = (
        np.polyfit(along[inlying], middle[inlying], 1) if np.count_nonzero(inlying) > 2 else (0.0, 0.0)
    )
    x, y = line.x - offset * line.along_y, line.y + offset * line.along_x
    run = np.array([line.along_x - slope * line.along_y, line.along_y + slope * line.along_x])
    run /= np.hypot(*run)
    return _Line(x, y, float(run[0]), float(run[1]))
