"""Drawn lists of sources, solved in several ways; a worker keeps the sky and the index that it has opened."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from starfields import CENTROID_NOISE, HALF, MOST_STARS, SIDE, List, Sky

from skylake.core.sphere import ra_dec, unit_vectors
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, solve
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.refine_lens import refine
from skylake.image.wcs.star_matching import Sources
from skylake.lake import Lake
from skylake.sky.asterism_index import AsterismIndex, ensure_index
from skylake.sky.cone import read_cone
from skylake.sky.lake_catalogs import ReferenceCatalog

#: The scale is known to this factor, and a prior is so many degrees wide.
UNCERTAINTY, NEAR_DEG = 1.2, 1.0


@cache
def opened(lake: Path, name: str) -> tuple[ReferenceCatalog, AsterismIndex]:
    """Return a catalog of a lake and its index."""
    catalog = ReferenceCatalog.open(Lake(lake).snapshot().catalog(name))
    return catalog, ensure_index(catalog, print)


@cache
def sky_of(lake: Path, name: str) -> Sky:
    """Return all stars of a catalog of a lake."""
    catalog, index = opened(lake, name)
    stars = read_cone(catalog.root, 0.0, 90.0, 180.0, ["ra_deg", "dec_deg", index.magnitude])
    return Sky(
        unit_vectors(stars["ra_deg"], stars["dec_deg"]), stars[index.magnitude].to_numpy().astype(float)
    )


def hinted(scale: float, **hints: object) -> SolveParams:
    """Return what is known of a picture: its scale to 20 %, and hints."""
    return SolveParams(scale_low=scale / UNCERTAINTY, scale_high=scale * UNCERTAINTY, **hints)


def scale_known(drawn: List) -> SolveParams:
    return hinted(drawn.scale_arcsec)


def nothing_known(_: List) -> SolveParams:
    return SolveParams()


def near(drawn: List) -> SolveParams:
    return hinted(drawn.scale_arcsec, centre=drawn.centre, radius_deg=NEAR_DEG)


BLIND, LOST, PRIOR, RANDOM = (
    "blind, scale to 20 %", "blind, nothing known", "pointing to 1 degree, scale to 20 %", "random points",
)  # fmt: skip
WAYS: dict[str, Callable[[List], SolveParams]] = {
    BLIND: scale_known, LOST: nothing_known, PRIOR: near, RANDOM: scale_known,
}  # fmt: skip


def timed(
    index: AsterismIndex, sky: Sky, drawn: List, params: SolveParams
) -> tuple[float, float, float, float]:
    """Return CPU seconds, log odds, and the errors in pixels of the solution and after refinement; NaN if unsolved."""
    began = time.thread_time()
    found = solve(index.bands, drawn.x, drawn.y, drawn.flux, (SIDE, SIDE), params)
    seconds = time.thread_time() - began
    if not isinstance(found, Solution):
        return seconds, found.log_odds, np.nan, np.nan
    return seconds, found.log_odds, drawn.error_px(found.to_sky), refined_px(sky, drawn, found)


def refined_px(sky: Sky, drawn: List, found: Solution) -> float:
    """Return the error of the lens that is fitted from a solution on, as for every frame, or else of the solution.

    A solution knows one term of distortion. Of lenses that are bent in other ways it is right to some pixels.
    """
    middle = (0.5 * (SIDE - 1), 0.5 * (SIDE - 1))
    start = Lens.aimed(
        found.rotation[2], found.rotation[1], found.focal_px, middle, mirrored=found.parity > 0
    )
    stars = sky.brightest(found.rotation[2], np.arctan(HALF / found.focal_px), 2 * MOST_STARS)
    sources = Sources.ranked(drawn.x, drawn.y, np.full(len(drawn.x), CENTROID_NOISE), drawn.flux)
    better = refine(start, sky.vectors[stars], sky.magnitudes[stars], sources, (SIDE, SIDE))
    if better is None:
        return drawn.error_px(found.to_sky)
    return drawn.error_px(lambda x, y: ra_dec(better.lens.to_vectors(x, y)))


def scattered(drawn: List, seed: int) -> List:
    """Return a list with as many random points."""
    x, y = np.random.default_rng([seed, 1]).uniform(-0.5, SIDE - 0.5, (2, len(drawn.x)))
    return replace(drawn, x=x, y=y, n_stars=0)


def trials(lake: Path, name: str, seeds: range, ways: tuple[str, ...]) -> np.ndarray:
    """Solve some lists in each way.

    Returns
    -------
    ndarray, shape (seeds, ways, 6)
        Width in degrees, stars in the list, CPU seconds, log odds, errors in pixels before and after refinement.
    """
    _, index = opened(lake, name)
    sky, rows = sky_of(lake, name), []
    first = sky.draw(0)
    timed(index, sky, first, scale_known(first))  # compiles
    for seed in seeds:
        drawn = sky.draw(seed)
        shown = {way: scattered(drawn, seed) if way == RANDOM else drawn for way in ways}
        rows.append(
            [
                (drawn.width_deg, drawn.n_stars, *timed(index, sky, shown[way], WAYS[way](drawn)))
                for way in ways
            ]
        )
    return np.array(rows)
