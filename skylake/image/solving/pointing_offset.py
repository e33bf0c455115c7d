"""How far a frame is from where it should point: the shift and the turn that most pairs of star and source agree on.

Every catalog star that should be near the image votes with every source for the shift between them. Wrong pairs spread
over all shifts, right ones gather in one place, however many sources are no stars. A place is believed if so many
votes there by chance, in any place and for any turn, are less likely than one in ten thousand; the fit that follows,
and the catalog, have a say after that. The votes around the place show what chance brings: where stars and
sources are clumped, wrong pairs agree on the shift between the clumps, but not as closely as right ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from skylake.image.solving.expected_pointing import frame_matrix, moved_to
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.star_matching import Sources

Floats = npt.NDArray[np.float64]

#: Stars and sources that vote, the brightest. Where there are few sources, many stars would be wrong by chance alone.
_MOST = 150
_STARS_PER_SOURCE = 2.0
_LEAST_STARS = 20
#: Votes this near to each other agree: what a wrong scale and the distortion of a lens leave.
_CELL_PX = 5.0
_MOST_TURNS = 61
#: Shifts are counted in so many places at most.
_MOST_CELLS = 1000
_LEAST_VOTES = 5
#: Two rings about a place, in cells, show what wrong pairs bring there: a scale that is wrong leaves them empty.
_RINGS = ((3.5, 6.0), (6.0, 10.0))
_LOG_CHANCE = math.log(1e-4)


@dataclass(frozen=True, slots=True)
class Shift:
    """The shift (pixels) and turn (degrees) of a frame, the votes for it, and the logarithm of their chance."""

    dx: float
    dy: float
    turn_deg: float
    votes: int
    log_chance: float

    @property
    def believed(self) -> bool:
        """Whether so many agree that chance does not explain it."""
        return self.votes >= _LEAST_VOTES and self.log_chance < _LOG_CHANCE


def find_shift(
    lens: Lens,
    vectors: Floats,
    mag: Floats,
    sources: Sources,
    shape: tuple[int, int],
    radius_px: float,
    turn_deg: float = 0.0,
) -> tuple[Lens, Shift] | None:
    """Return a lens moved to where stars and sources agree; None if they agree nowhere.

    Parameters
    ----------
    lens : Lens
        Where the frame should point.
    vectors : ndarray, shape (n, 3)
        Unit vectors of catalog stars.
    mag : ndarray, shape (n,)
        To rank them by; NaN leaves a star out.
    sources : Sources
    shape : tuple of int
        Height and width of the image.
    radius_px, turn_deg : float
        How far off the lens may be.
    """
    half = 0.5 * math.hypot(*shape)
    cell = max(_CELL_PX, 2.0 * radius_px / _MOST_CELLS)
    steps = min(math.ceil(math.radians(turn_deg) * half / cell), (_MOST_TURNS - 1) // 2)
    n_stars = min(_MOST, max(_LEAST_STARS, int(_STARS_PER_SOURCE * len(sources.x))))
    # From the middle outwards: of equals the smaller turn is taken.
    turns = sorted(np.linspace(-turn_deg, turn_deg, 2 * steps + 1) if steps else [0.0], key=abs)
    best: tuple[Lens, Shift] | None = None
    for turn in turns:
        turned = _turned(lens, shape, float(turn))
        x, y = _near_image(turned, vectors, mag, shape, radius_px, n_stars)
        found = _vote(x, y, sources, radius_px, cell, len(turns))
        if found is not None and (best is None or found.log_chance < best[1].log_chance):
            best = turned, replace(found, turn_deg=float(turn))
    if best is None or not best[1].believed:
        return None
    moved, shift = best
    return replace(moved, x0=moved.x0 + shift.dx, y0=moved.y0 + shift.dy), shift


def _turned(lens: Lens, shape: tuple[int, int], turn_deg: float) -> Lens:
    """Return a lens turned about the centre of its image: the position angle of y grows by so much."""
    if turn_deg == 0.0:
        return lens
    cosine, sine = math.cos(math.radians(turn_deg)), math.sin(math.radians(turn_deg))
    about_axis = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
    return moved_to(lens, shape, about_axis @ frame_matrix(lens, shape))


def _near_image(
    lens: Lens, vectors: Floats, mag: Floats, shape: tuple[int, int], margin: float, n_stars: int
) -> tuple[Floats, Floats]:
    """Return the places of the brightest stars that may be on the image."""
    x, y = lens.to_pixels(vectors)
    near = (
        (x > -margin) & (x < shape[1] + margin) & (y > -margin) & (y < shape[0] + margin) & np.isfinite(mag)
    )
    rows = np.flatnonzero(near)
    # The margin holds stars too: as many as its share of the area are taken further.
    area = (shape[0] + 2.0 * margin) * (shape[1] + 2.0 * margin) / (shape[0] * shape[1])
    rows = rows[np.argsort(mag[rows], kind="stable")][: int(n_stars * min(area, 4.0))]
    return x[rows], y[rows]


def _vote(
    x: Floats, y: Floats, sources: Sources, radius_px: float, cell: float, n_turns: int
) -> Shift | None:
    """Return the shift that most pairs agree on."""
    dx = sources.x[:_MOST, None] - x
    dy = sources.y[:_MOST, None] - y
    near = np.hypot(dx, dy) <= radius_px
    dx, dy = dx[near], dy[near]
    if dx.size < _LEAST_VOTES:
        return None
    side = max(1, math.ceil(2.0 * radius_px / cell))
    column = np.minimum(((dx + radius_px) / cell).astype(int), side - 1)
    row = np.minimum(((dy + radius_px) / cell).astype(int), side - 1)
    counts = np.zeros((side + 2, side + 2))
    np.add.at(counts, (row + 1, column + 1), 1.0)
    # Each place counts with its eight neighbours, so that nothing is lost on the edge of a cell.
    whole = np.sum([np.roll(counts, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    at = np.unravel_index(int(np.argmax(whole)), whole.shape)
    chosen = (np.abs(row + 1 - at[0]) <= 1) & (np.abs(column + 1 - at[1]) <= 1)
    votes = int(chosen.sum())
    expected = dx.size * min(1.0, (3.0 * cell) ** 2 / (math.pi * radius_px**2))
    expected = max(expected, 9.0 * _density(counts, *(int(place) for place in at)))
    chance = _log_tail(votes, expected) + math.log(side * side * n_turns)
    return Shift(float(np.median(dx[chosen])), float(np.median(dy[chosen])), 0.0, votes, chance)


def _density(counts: Floats, row: int, column: int) -> float:
    """Return how many votes for each cell chance brings to a place, from two rings about it.

    The logarithm of their density is drawn on along the square of the distance, as for a clump of the shape of a
    Gaussian. A vote more in each ring keeps it known where there are hardly any.
    """
    reach = math.ceil(_RINGS[-1][1])
    rows = np.arange(max(row - reach, 1), min(row + reach, counts.shape[0] - 2) + 1)
    columns = np.arange(max(column - reach, 1), min(column + reach, counts.shape[1] - 2) + 1)
    square = np.add.outer((rows - row) ** 2, (columns - column) ** 2)
    near = counts[np.ix_(rows, columns)]
    places, logs, found = [], [], []
    for least, most in _RINGS:
        ring = (square > least**2) & (square <= most**2)
        if not ring.any():
            return 0.0
        places.append(float(square[ring].mean()))
        found.append(float(near[ring].mean()))
        logs.append(math.log((float(near[ring].sum()) + 1.0) / int(ring.sum())))
    rise = (logs[0] - logs[1]) * places[0] / (places[1] - places[0])
    return found[0] * math.exp(max(rise, 0.0))


def _log_tail(votes: int, expected: float) -> float:
    """Return the logarithm of the probability of so many or more where some are expected (Poisson, from above)."""
    if votes <= expected:
        return 0.0
    # Chernoff's bound.
    return votes - expected - votes * math.log(votes / max(expected, 1e-12))
