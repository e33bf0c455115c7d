"""Blind search for the geometry of a camera of the whole sky, given one frame, its site and its time.

Bright stars vote for the place of the zenith under every turn, parity, focal length and kind of lens. The best of
these are refined by matching and fitting in turn. Half of the stars are left out of that, and give the verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from time import thread_time

import numpy as np
import numpy.typing as npt

from skylake.image.allsky.solution_odds import log_odds
from skylake.image.allsky.star_fit import StarMatches, anneal
from skylake.image.allsky.zenith_vote_kernels import Voters, vote
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.projections import PROJECTIONS

Floats = npt.NDArray[np.float64]

_UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, slots=True)
class Effort:
    """How fine a vote is.

    Attributes
    ----------
    n_stars : int
        The brightest take part.
    cell : float
        Side of the cells in which votes are counted, as a share of the shorter side of the image; turns and focal
        lengths are tried in steps to match.
    n_candidates : int
        Best places of the vote that are refined.
    ranks : tuple of float
        A star of some rank is among the detections of ranks from one multiple of it less some to another one and some
        more: vignetting, colours, haze and false detections come between.
    """

    n_stars: int
    cell: float
    n_candidates: int
    ranks: tuple[float, float, float, float] = (0.3, 8.0, 3.0, 25.0)

    @property
    def n_turns(self) -> int:
        """How many turns are tried."""
        return round(2.0 * math.pi / (_STEP_CELLS * self.cell))

    @property
    def focal_step(self) -> float:
        """The step of the logarithm of the focal length."""
        return _STEP_CELLS * self.cell


#: A step moves a star near the edge of the image, half its side from the zenith, by this over two cells.
_STEP_CELLS = 3.0


@dataclass(frozen=True, slots=True)
class SearchParams:
    """How a geometry is searched for.

    Attributes
    ----------
    field_deg : tuple of float
        Least and greatest angle across the circle or the width of the image that the lens may show.
    max_tilt_deg : float
        Largest angle from the zenith to the optical axis. A wrong time or site is a turn of the sky, which a camera
        that may stand anyhow can follow: only this limit gives it.
    max_offset : float
        Largest distance of the optical axis from the middle of the image, as a share of its shorter side.
    min_altitude_deg : float
        Lower stars take no part.
    efforts : tuple of Effort
        Votes that are held one after another until a geometry is sure.
    least_log_odds : float
        Smaller odds of the stars that were held out give no solution. Chance reaches odds of e^t once in e^t trials; a
        search makes some e^17.
    projections : tuple of str
    """

    field_deg: tuple[float, float] = (110.0, 200.0)
    max_tilt_deg: float = 18.0
    max_offset: float = 0.25
    min_altitude_deg: float = 15.0
    efforts: tuple[Effort, ...] = (Effort(40, 0.014, 10), Effort(60, 0.01, 50, (0.2, 8.0, 4.0, 60.0)))
    least_log_odds: float = 50.0
    projections: tuple[str, ...] = ("equidistant", "equisolid", "stereographic")


@dataclass(frozen=True, slots=True)
class SkyStars:
    """Stars as they stand above the horizon.

    Attributes
    ----------
    directions : ndarray, shape (n, 3)
        East, north and up.
    mag : ndarray, shape (n,)
    number : ndarray of int, shape (n,), or None
        Identifies a star in several frames as the same; None counts them.
    """

    directions: Floats
    mag: Floats
    number: npt.NDArray[np.intp] | None = None

    @property
    def numbers(self) -> npt.NDArray[np.intp]:
        """Which star is which, shape (n,)."""
        return np.arange(len(self.mag)) if self.number is None else self.number

    def __getitem__(self, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> SkyStars:
        return SkyStars(self.directions[rows], self.mag[rows], self.numbers[rows])

    def __len__(self) -> int:
        return len(self.mag)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A geometry that the search has found, and the odds from stars that it did not use."""

    lens: Lens
    pairs: StarMatches
    log_odds: float


@dataclass(frozen=True, slots=True)
class HorizonSearch:
    """The result of a search.

    Attributes
    ----------
    lens : Lens or None
        None if no geometry is sure.
    log_odds : float
        Of the best geometry, judged by stars that took no part in finding it.
    reason : str or None
        Why there is no lens.
    seconds : float
        Of the processor; to compile or load code does not count.
    """

    lens: Lens | None
    log_odds: float
    reason: str | None
    seconds: float
    best: Lens | None = field(default=None, repr=False)


def search(
    places: Floats, flux: Floats, shape: tuple[int, int], stars: SkyStars, params: SearchParams
) -> HorizonSearch:
    """Search for the geometry of an image of the whole sky.

    Parameters
    ----------
    places : ndarray, shape (m, 2)
        Detections, 0-based x and y.
    flux : ndarray, shape (m,)
    shape : tuple of int
        Height and width of the image.
    stars : SkyStars
        Some hundred bright stars are enough; in any order.
    params : SearchParams
    """
    _make_ready()
    begin = thread_time()
    ranked = np.argsort(-np.nan_to_num(flux, nan=-np.inf), kind="stable")
    places = _spread(places[ranked], _ALONE * min(shape))
    high = stars.directions[:, 2] > math.sin(math.radians(params.min_altitude_deg))
    chosen = stars[np.flatnonzero(high)[np.argsort(stars.mag[high], kind="stable")]]
    if len(places) < _FEWEST or len(chosen) < _FEWEST:
        text = f"{len(places)} detections and {len(chosen)} stars are too few for a search"
        return HorizonSearch(None, 0.0, text, thread_time() - begin)
    working, judging = chosen[0::2][:_MOST], chosen[1::2][:_MOST]
    best = _best_candidate(places, shape, working, judging, params)
    best = _polished(best, places, working, judging, shape)
    reason = _fault(best, shape, params)
    return HorizonSearch(
        best.lens if reason is None else None, best.log_odds, reason, thread_time() - begin, best.lens
    )


def _spread(places: Floats, reach: float) -> Floats:
    """Return places, the brightest first, with those last that have many brighter ones about them.

    Bright stars stand all over the sky. What is false and bright stands in crowds: around the Moon, where its halo and
    its reflections in the lens are taken for stars, and along the horizon, on domes, lamps and trees.
    """
    from scipy.spatial import cKDTree

    if len(places) == 0:
        return places
    pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
    brighter = np.bincount(pairs.max(axis=1), minlength=len(places))
    return places[np.argsort(brighter >= _CROWDED, kind="stable")]


def _make_ready() -> None:
    """Let the kernel be compiled or loaded, by votes for nothing, before the clock runs."""
    no_voters = Voters(np.zeros((1, 0)), np.zeros(0), np.zeros((2, 0), np.intp))
    vote(
        no_voters,
        np.zeros(0),
        np.zeros(0),
        np.ones(1),
        1,
        np.array([0.0, 1.0, 0.0, 1.0]),
        1.0,
        np.zeros((1, 1, 2, 1, 3)),
    )


def _best_candidate(
    places: Floats, shape: tuple[int, int], working: SkyStars, judging: SkyStars, params: SearchParams
) -> Candidate:
    """Return the geometry with the best odds; the first whose odds leave no doubt ends the search."""
    best: Candidate | None = None
    for effort in params.efforts:
        for start in _starts(places, shape, working, params, effort):
            candidate = _refined(start, places, working, judging, shape)
            if best is None or candidate.log_odds > best.log_odds:
                best = candidate
            if best.log_odds > _NO_DOUBT * params.least_log_odds:
                return best
        assert best is not None
        # What began far off may have come near enough to go on from there.
        for _ in range(_RETRIES if best.log_odds > 0.0 else 0):
            again = _refined(best.lens, places, working, judging, shape)
            best = again if again.log_odds > best.log_odds else best
        if best.log_odds > params.least_log_odds:
            return best
    assert best is not None
    return best


_FEWEST = 20
#: Detections with so many brighter ones nearer than a share of the shorter side come after all others.
_CROWDED, _ALONE = 5, 0.077
#: Lower stars do not vote: many images do not show them.
_VOTERS_DEG = 25.0
#: Odds so many times those that are asked for end a search.
_NO_DOUBT = 2.5
#: The best geometry of a vote that leaves doubts is refined again so often.
_RETRIES = 3
#: Stars of each half, and detections for each star, that a search looks at.
_MOST = 180
_CROWD = 3
#: Match radii as shares of the shorter side, and parameters that are free, from a vote to a geometry.
_COARSE = ((0.026, 4), (0.02, 6), (0.016, 6), (0.012, 7), (0.009, 7), (0.006, 7), (0.005, 9))
#: After so many rounds of it this share of the stars must be matched; chance has a sixth.
_HALFWAY, _HOPEFUL = 4, 0.3
_FINE = ((0.005, 9), (0.004, 10), (0.004, 10), (0.003, 11), (0.003, 11))
_JUDGED = 0.004


def _starts(
    places: Floats, shape: tuple[int, int], stars: SkyStars, params: SearchParams, effort: Effort
) -> list[Lens]:
    """Return the geometries that most of the bright stars vote for."""
    voters = stars[stars.directions[:, 2] > math.sin(math.radians(_VOTERS_DEG))][: effort.n_stars]
    across = math.hypot(*shape)
    least = 0.3 * min(shape) / math.radians(0.5 * params.field_deg[1])
    most = 0.5 * across / math.radians(0.5 * params.field_deg[0])
    focal = np.exp(np.arange(math.log(least), math.log(most), effort.focal_step))
    best = np.zeros((len(params.projections), len(focal), 2, effort.n_turns, 3))
    _vote(voters.directions, places, shape, params, effort, focal, best)
    lenses = []
    for which in _distinct(best[..., 0], effort.n_candidates):
        kind, length, side, turn = which
        angle = -2.0 * math.pi * turn / effort.n_turns
        heading, (_, x, y) = np.array([math.sin(angle), math.cos(angle), 0.0]), best[which]
        name, centre = params.projections[kind], (float(x), float(y))
        upright = Lens.aimed(_UP, heading, float(focal[length]), centre, name, side == 1)
        lenses += [upright, _tilted(upright, (0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)))]
    return lenses


def _vote(
    directions: Floats,
    places: Floats,
    shape: tuple[int, int],
    params: SearchParams,
    effort: Effort,
    focal: Floats,
    best: Floats,
) -> None:
    """Let stars vote for the place of the zenith."""
    east, north, up = directions.T
    distance = np.arctan2(np.hypot(east, north), up)
    radii = np.array([PROJECTIONS[name].radius(distance) for name in params.projections])
    rank = np.arange(len(directions))
    earlier, spare_early, later, spare_late = effort.ranks
    ranks = (
        np.stack([earlier * rank - spare_early, later * rank + spare_late])
        .clip(0, len(places))
        .astype(np.intp)
    )
    heard = places[: ranks.max()]
    # A tilt shifts the stars of the image, nearly: the zenith may be farther from its middle than the axis.
    slack = (params.max_offset + 0.12) * min(shape)
    x, y = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
    window = np.array([x - slack, x + slack, y - slack, y + slack])
    vote(
        Voters(radii, np.arctan2(east, north), ranks),
        heard[:, 0].copy(),
        heard[:, 1].copy(),
        focal,
        effort.n_turns,
        window,
        effort.cell * min(shape),
        best,
    )


def _tilted(upright: Lens, middle: tuple[float, float]) -> Lens:
    """Return a lens with the zenith of an upright one, but its axis in the middle of the image."""
    axis = upright.to_vectors(*middle)
    # The direction that leads upward in the image at the zenith does so at the axis, nearly.
    return Lens.aimed(axis, upright.matrix[1], upright.focal_px, middle, upright.projection, upright.mirrored)


def _distinct(score: Floats, number: int) -> list[tuple[int, ...]]:
    """Return the indices of the best scores, without those beside a better one."""
    indices: list[tuple[int, ...]] = []
    n_turns = score.shape[-1]
    for flat in np.argsort(-score, axis=None, kind="stable"):
        index = tuple(int(i) for i in np.unravel_index(flat, score.shape))
        beside = any(
            (other[0], other[2]) == (index[0], index[2])
            and abs(other[1] - index[1]) <= 2
            and min((other[3] - index[3]) % n_turns, (index[3] - other[3]) % n_turns) <= 2
            for other in indices
        )
        if not beside:
            indices.append(index)
            if len(indices) == number:
                break
    return indices


def _schedule(shares: tuple[tuple[float, int], ...], shape: tuple[int, int]) -> tuple[tuple[float, int], ...]:
    return tuple((share * min(shape), number) for share, number in shares)


def _refined(
    start: Lens, places: Floats, working: SkyStars, judging: SkyStars, shape: tuple[int, int]
) -> Candidate:
    heard, schedule = places[: _CROWD * _MOST], _schedule(_COARSE, shape)
    lens, pairs = anneal(start, working.directions, heard, schedule[:_HALFWAY])
    if len(pairs.star) < _HOPEFUL * len(working):
        return Candidate(lens, pairs, -math.inf)
    lens, pairs = anneal(lens, working.directions, heard, schedule[_HALFWAY:])
    return _judged(lens, pairs, places, judging, shape)


def _polished(
    candidate: Candidate, places: Floats, working: SkyStars, judging: SkyStars, shape: tuple[int, int]
) -> Candidate:
    lens, pairs = anneal(
        candidate.lens, working.directions, places[: _CROWD * _MOST], _schedule(_FINE, shape)
    )
    return _judged(lens, pairs, places, judging, shape)


def _judged(
    lens: Lens, pairs: StarMatches, places: Floats, judging: SkyStars, shape: tuple[int, int]
) -> Candidate:
    """Judge a geometry by stars that it was not fitted to, and by detections that it was not fitted to."""
    others = np.ones(min(len(places), _CROWD * _MOST), bool)
    others[pairs.detection] = False
    x, y = lens.to_pixels(judging.directions)
    height, width = shape
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    held_out = np.stack([x, y], axis=1)[inside]
    odds = log_odds(held_out, places[: len(others)][others], _JUDGED * min(shape))
    return Candidate(lens, pairs, odds)


def _fault(candidate: Candidate, shape: tuple[int, int], params: SearchParams) -> str | None:
    """Return why a geometry is not to be believed; None if it is."""
    if candidate.log_odds < params.least_log_odds:
        return (
            f"the best geometry has log odds of {candidate.log_odds:.1f}, below {params.least_log_odds:g}: clouds, "
            "a wrong time or site, or no image of the whole sky"
        )
    tilt = tilt_deg(candidate.lens)
    if tilt > params.max_tilt_deg:
        return (
            f"the axis would be {tilt:.1f} degrees from the zenith, and {params.max_tilt_deg:g} are believed: "
            "the time or the site is wrong; check header.time, site.longitude_deg (east positive) and "
            "site.latitude_deg in the profile"
        )
    offset = math.hypot(
        candidate.lens.x0 - 0.5 * (shape[1] - 1), candidate.lens.y0 - 0.5 * (shape[0] - 1)
    ) / min(shape)
    if offset > params.max_offset:
        return (
            f"the axis would be {offset:.2f} of the image from its middle, and {params.max_offset:g} are believed; "
            "was it cropped?"
        )
    return None


def tilt_deg(lens: Lens) -> float:
    """Return the angle from the zenith to the optical axis of a lens of horizontal directions."""
    axis = lens.axis
    return math.degrees(math.atan2(math.hypot(axis[0], axis[1]), axis[2]))
