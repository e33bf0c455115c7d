"""Where a picture points, found from its sources and an index of asterisms: blindly, or near what is known.

For each assumed scale, sources are chosen as the stars of the index were, a few in every neighbourhood; asterisms of
neighbours are looked up; each guess is judged by the odds that its stars are where sources are. A guess is accepted
when these odds, divided by the number of guesses so far, are overwhelming
(:mod:`skylake.image.solving.guess_kernels`). Hints only narrow the search.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from skylake.core.asterism_codes import AsterismBand, local_density
from skylake.core.reasons import Reason
from skylake.core.sphere import FloatArray, IntArray, ra_dec, tangent_basis, unit_vectors
from skylake.image.solving.asterism_kernels import Answer, Wanted, search
from skylake.image.solving.attitude_kernels import Guess, Picture
from skylake.image.solving.image_asterisms import (
    leading,
    make_asterisms,
    picture_of,
    predict,
    rays_of,
    scale_steps,
)
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.unsolved_reasons import WIDEST_DEG, beyond_patterns, too_few, why_no_pattern

#: Scales are assumed in such steps, and sizes of asterisms may differ by a bit more than half of one.
_SCALE_STEP = 1.25
_SIZE_TOLERANCE = 0.14
#: Largest difference between codes, from distortion mostly.
_TOLERANCE = 0.015
#: How many times the rank of the stars of a band sources may have, in the order of attempts: spurious ones take
#: places of stars, and pictures are deeper than catalogs.
_RANKS = (1.3, 0.6, 2.2)
#: Stars of a band in the picture: how many are best, and fewest.
_BEST_STARS, _FEWEST_STARS = 60.0, 6.0
#: How far around an asterism stars are looked for at first, in reaches of the band.
_AROUND = 3.0
#: Asterisms that are looked up between two looks at the clock.
_BLOCK = 200
#: The brightest sources, at most.
_MOST_SOURCES = 400
_FEWEST_SOURCES = 6
_FEWEST_PAIRS = 6
#: Width of the narrowest pictures without hints.
_NARROWEST_DEG = 0.5
#: Stars in the narrowest pictures that an index is made for.
_NARROWEST_STARS = 16.0


@dataclass(frozen=True, slots=True)
class Solution:
    """Where a picture points.

    Attributes
    ----------
    rotation : ndarray, shape (3, 3)
        From ICRS unit vectors to the camera: x, y in the picture, z along the optical axis.
    focal_px : float
        Focal length, pixels.
    distortion : tuple of float
        k1 and k2 (:mod:`skylake.image.solving.attitude_kernels`).
    parity : int
        1 where x runs to the east if y runs to the north, else -1.
    shape : tuple of int
        Height and width of the picture.
    sources : ndarray of int64, shape (n,)
        Sources that are stars of the index, by their place in what was given.
    stars : ndarray, shape (n, 3)
        These stars: unit vectors.
    magnitudes : ndarray, shape (n,)
        Of these stars.
    log_odds : float
        Natural logarithm of the odds against chance, divided by the number of guesses.
    rms_px : float
        Of the distances between stars and sources.
    n_guesses : int
    seconds : float
        Of the processor.
    """

    rotation: FloatArray
    focal_px: float
    distortion: tuple[float, float]
    parity: int
    shape: tuple[int, int]
    sources: IntArray
    stars: FloatArray
    magnitudes: FloatArray
    log_odds: float
    rms_px: float
    n_guesses: int
    seconds: float

    @property
    def scale_arcsec(self) -> float:
        """Arcsec per pixel at the centre."""
        return math.degrees(1.0 / self.focal_px) * 3600.0

    @property
    def centre(self) -> tuple[float, float]:
        """Right ascension and declination of the optical axis, degrees."""
        ra, dec = ra_dec(self.rotation[2])
        return float(ra), float(dec)

    @property
    def rotation_deg(self) -> float:
        """Position angle of the y axis at the optical axis, east of north, degrees."""
        east, north = tangent_basis(*self.centre)
        return float(np.degrees(np.arctan2(self.rotation[1] @ east, self.rotation[1] @ north)) % 360.0)

    def to_sky(self, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ICRS positions, degrees, of 0-based pixels."""
        height, width = self.shape
        half = 0.5 * math.hypot(width, height)
        rays = rays_of(
            np.asarray(x, float) - 0.5 * (width - 1),
            np.asarray(y, float) - 0.5 * (height - 1),
            self.focal_px,
            half,
            np.array(self.distortion),
        )
        rays[:, 0] *= self.parity
        return ra_dec(rays @ self.rotation)


@dataclass(frozen=True, slots=True)
class Unsolved:
    """Why a picture was not solved, what was tried and how long it took.

    Attributes
    ----------
    reason : str
        A code of :class:`skylake.core.reasons.Reason`.
    message : str
    log_odds : float
        Of the best guess; minus infinity if there was none.
    n_guesses : int
    seconds : float
        Of the processor.
    without_patterns : bool
        Whether the picture is wider or narrower than those that the patterns are made for.
    without_index : bool
        Whether there was no index to search.
    """

    reason: str
    message: str
    log_odds: float
    n_guesses: int
    seconds: float
    without_patterns: bool = False
    without_index: bool = False


@dataclass(slots=True)
class _PatternSearch:
    """The state of a search: sources from the centre of the picture, brightest first, and the best guess so far."""

    x: FloatArray
    y: FloatArray
    magnitudes: FloatArray
    shape: tuple[int, int]
    params: SolveParams
    began: float
    n_guesses: int = 0
    best: float = -math.inf
    timed_out: bool = False
    tried: set[tuple[float, float, int, int]] = field(default_factory=set)

    @property
    def half(self) -> float:
        """Half the diagonal, pixels."""
        return 0.5 * math.hypot(*self.shape)

    @property
    def seconds(self) -> float:
        """Time of the processor since the search began."""
        return time.thread_time() - self.began


def solve(
    bands: Sequence[AsterismBand],
    x: FloatArray,
    y: FloatArray,
    flux: FloatArray,
    shape: tuple[int, int],
    params: SolveParams,
    index: str = "",
) -> Solution | Unsolved:
    """Find where a picture points.

    Parameters
    ----------
    bands : sequence of Band
        An index, narrowest band first.
    x, y : ndarray, shape (n,)
        Sources: 0-based pixels.
    flux : ndarray, shape (n,)
        To rank them by; sources without a positive one take no part.
    shape : tuple of int
        Height and width of the picture.
    params : SolveParams
    index : str
        Its lake and catalog, as a command takes them.

    Notes
    -----
    The method of hashed asterisms is that of Lang et al. (2010, AJ 139, 1782).
    """
    began = time.thread_time()
    chosen = usable_sources(x, y, flux)
    if len(chosen) < _FEWEST_SOURCES:
        message = too_few(len(chosen), _FEWEST_SOURCES)
        return Unsolved(Reason.TOO_FEW_SOURCES, message, -math.inf, 0, time.thread_time() - began)
    _make_ready(bands)
    x, y, flux = (np.asarray(values, float)[chosen] for values in (x, y, flux))
    state = _PatternSearch(
        x - 0.5 * (shape[1] - 1),
        y - 0.5 * (shape[0] - 1),
        -2.5 * np.log10(flux),
        shape,
        params,
        time.thread_time(),
    )
    for scale, band, rank in _attempts(state, bands):
        found = _attempt(state, band, rank, scale)
        if found is not None:
            return _solution(found, band, state, chosen)
        if state.timed_out:
            break
    beyond = beyond_patterns(params, shape, math.degrees(_narrowest(bands)), bool(state.tried), index)
    why = why_no_pattern(params, state.n_guesses, state.best, state.timed_out, beyond)
    return Unsolved(Reason.NO_WCS, why, state.best, state.n_guesses, state.seconds, beyond is not None)


def _narrowest(bands: Sequence[AsterismBand]) -> float:
    """Return the width of the narrowest pictures that an index is made for, radians."""
    return math.sqrt(_NARROWEST_STARS / max((band.density for band in bands), default=1.0))


def _make_ready(bands: Sequence[AsterismBand]) -> None:
    """Let the kernels be compiled or loaded, by a search for nothing, before the clock runs."""
    x, y, shape = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0, 1.0]), (2, 2)
    for band in bands[:1]:
        picture, wanted = picture_of(x, y, np.zeros(4), shape), _wanted(SolveParams(), 1.0)
        rays = rays_of(x, y, 1.0, 1.0, wanted.distortion)
        asterisms = make_asterisms(picture, rays, 1.0)
        nothing = asterisms.between(0, 0)
        search(nothing, rays, picture, band.quads, band.zones, band.reach, wanted, 0)
        local_density(band)


def usable_sources(x: FloatArray, y: FloatArray, flux: FloatArray) -> IntArray:
    """Return the sources that take part, brightest first: of those in one column or row, as on bad ones, few."""
    good = np.flatnonzero(np.isfinite(x) & np.isfinite(y) & (flux > 0))
    good = good[np.argsort(-flux[good], kind="stable")][:_MOST_SOURCES]
    kept = np.ones(len(good), bool)
    for place in (x[good], y[good]):
        line = np.rint(place).astype(np.int64)
        _, inverse, counts = np.unique(line, return_inverse=True, return_counts=True)
        kept &= counts[inverse] <= max(5, 0.03 * len(good))
    return np.asarray(good[kept])


def _attempts(
    state: _PatternSearch, bands: Sequence[AsterismBand]
) -> Iterator[tuple[float, AsterismBand, float]]:
    """Yield scales (radians per pixel), bands and ranks of sources to try, the likeliest first."""
    params, (height, width) = state.params, state.shape
    side = math.sqrt(width * height)
    narrowest = min(math.radians(_NARROWEST_DEG), _narrowest(bands))
    low = math.radians(params.scale_low / 3600.0) if params.scale_low else narrowest / side
    high = math.radians(params.scale_high / 3600.0) if params.scale_high else math.radians(WIDEST_DEG) / side
    # Of wide pictures there are few possible ones, so they are quickly tried.
    scales = scale_steps(low, max(high, low), _SCALE_STEP)
    densities = [local_density(band) for band in bands]
    for rank in _RANKS:
        for attempt in range(2):
            for scale in scales:
                fitting = _fitting(bands, densities, scale**2 * width * height)
                if attempt < len(fitting):
                    yield float(scale), fitting[attempt], rank


def _fitting(bands: Sequence[AsterismBand], densities: list[float], steradians: float) -> list[AsterismBand]:
    """Return the bands with a fair number of stars in a picture, best first."""
    numbers = [density * steradians for density in densities]
    fair = [place for place, number in enumerate(numbers) if number >= _FEWEST_STARS and number <= 400.0]
    return [
        bands[place] for place in sorted(fair, key=lambda place: abs(math.log(numbers[place] / _BEST_STARS)))
    ]


def _attempt(
    state: _PatternSearch, band: AsterismBand, rank: float, scale: float
) -> tuple[Answer, Picture, IntArray] | None:
    """Search one band at one scale."""
    params, focal = state.params, 1.0 / scale
    some = leading(state.x, state.y, rank * band.rank, band.reach * focal)
    key = (band.density, round(math.log(scale), 6), len(some), int(some.sum()))
    if len(some) < _FEWEST_SOURCES or key in state.tried:
        return None
    state.tried.add(key)
    picture = picture_of(state.x[some], state.y[some], state.magnitudes[some], state.shape)
    wanted = _wanted(params, state.half * scale)
    rays = rays_of(picture.x, picture.y, focal, state.half, wanted.distortion)
    asterisms = make_asterisms(picture, rays, focal)
    for first in range(0, len(asterisms.sizes), _BLOCK):
        answer = search(
            asterisms.between(first, first + _BLOCK),
            rays,
            picture,
            band.quads,
            band.zones,
            _AROUND * band.reach,
            wanted,
            state.n_guesses,
        )
        state.n_guesses, state.best = answer.looked_at, max(state.best, answer.odds)
        if answer.odds >= params.log_odds and answer.n_pairs >= _FEWEST_PAIRS:
            return answer, picture, some
        if state.seconds > params.seconds:
            state.timed_out = True
            return None
    return None


def _wanted(params: SolveParams, half_view: float) -> Wanted:
    """Return the hints as the kernel wants them."""
    centre, cosine = np.array([0.0, 0.0, 1.0]), -2.0
    if params.centre is not None:
        centre = unit_vectors(*params.centre)
        cosine = math.cos(min(math.radians(params.radius_deg) + half_view * 1.1, math.pi))
    known = params.rotation_deg is not None
    return Wanted(
        tolerance=_TOLERANCE,
        size_tolerance=_SIZE_TOLERANCE,
        centre=centre,
        cosine=cosine,
        turn=math.radians(params.rotation_deg or 0.0),
        turn_tolerance=math.radians(params.rotation_tolerance_deg) if known else math.pi,
        parities=np.array([1, -1] if params.parity is None else [params.parity], np.int64),
        odds=params.log_odds,
        sigma=params.sigma_px,
        distortion=np.array(params.distortion),
    )


def _solution(
    found: tuple[Answer, Picture, IntArray],
    band: AsterismBand,
    state: _PatternSearch,
    chosen: IntArray,
) -> Solution:
    """Return an accepted guess as a solution."""
    answer, picture, some = found
    guess: Guess = answer.guess
    stars, sources = answer.pairs[:, : answer.n_pairs]
    vectors = band.zones.vectors[stars].astype(float)
    x, y = predict(guess, state.half, vectors)
    rms = math.sqrt(np.mean((x - picture.x[sources]) ** 2 + (y - picture.y[sources]) ** 2))
    return Solution(
        rotation=guess.rotation.copy(),
        focal_px=float(guess.lens[0]),
        distortion=(float(guess.lens[1]), float(guess.lens[2])),
        parity=int(guess.parity),
        shape=state.shape,
        sources=chosen[some[sources]],
        stars=vectors,
        magnitudes=band.zones.magnitudes[stars].astype(float),
        log_odds=float(answer.odds),
        rms_px=rms,
        n_guesses=int(answer.looked_at),
        seconds=state.seconds,
    )
