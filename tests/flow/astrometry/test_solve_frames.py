"""Real frames from nothing but their scale to 20 % to the figures that are known of them."""

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.core.sphere import apply_proper_motion, separation_deg, unit_vectors
from skylake.flow.astrometry.refine_solutions import depth_of
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.solving.refined_wcs import refine_pointing
from skylake.image.solving.solution_header import wcs_header
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, solve
from skylake.image.solving.source_list import star_list
from skylake.image.wcs.header_wcs import CatalogStars, describe_pointing
from skylake.image.wcs.star_matching import Sources
from skylake.sky.asterism_build import bands_of

DATA = Path(os.environ.get("SKYLAKE_REAL_DATA", ""))
pytestmark = pytest.mark.skipif(
    "SKYLAKE_REAL_DATA" not in os.environ, reason="SKYLAKE_REAL_DATA names no folder of real frames"
)
#: To index all faint stars would take long: those of a part of the sky, and the bright ones of all of it.
PART, RADIUS_DEG, BRIGHT = (260.0, 16.0), 8.0, 7.5
#: From the epoch of the catalog to the frames, about.
YEARS = 15.0


@pytest.fixture(scope="module")
def stars():
    names = ["ra", "dec", "pmra", "pmdec", "V"]
    table = pq.read_table(DATA / "catalogs" / "bigsky_v11.parquet", columns=names)
    *places, mag = (np.asarray(table[name], float) for name in names)
    return CatalogStars(*apply_proper_motion(*places, YEARS), mag)


def bands(camera, stars):
    if camera == "widefield":
        kept, narrowest = stars.mag < BRIGHT, 4.0
    else:
        kept, narrowest = separation_deg(*PART, stars.ra_deg, stars.dec_deg) < RADIUS_DEG, 0.8
    vectors = unit_vectors(stars.ra_deg[kept], stars.dec_deg[kept])
    return bands_of(vectors, stars.mag[kept], narrowest_deg=narrowest)


def refined(path, scale, bands, stars):
    from astropy.wcs import WCS

    profile = cameras.load("generic")
    found = star_list(open_stored(read_file(str(path))), profile.base)
    params = SolveParams(scale_low=scale / 1.2, scale_high=scale * 1.2, seconds=30.0)
    solution = solve(bands, found.x, found.y, found.flux, found.shape, params)
    assert isinstance(solution, Solution)
    rough = describe_pointing(WCS(wcs_header(solution)), *found.shape)
    away = separation_deg(rough.ra_deg, rough.dec_deg, stars.ra_deg, stars.dec_deg)
    near = (away < rough.radius_deg) & (stars.mag < depth_of(found, solution))
    field = CatalogStars(stars.ra_deg[near], stars.dec_deg[near], stars.mag[near])
    sources = Sources.ranked(found.x, found.y, found.sigma, found.flux)
    return refine_pointing(rough, field, sources, found.shape)


def unseen_over_seen(refinement):
    """Return how much farther off stars are that four fifths of the others predict, by the number of parameters."""
    share = len(refinement.fit.freed) / (2.0 * len(refinement.stars))
    return np.sqrt((1.0 + share / 0.8) / (1.0 - share))


@pytest.mark.parametrize(
    "camera, scale, number, most_px, least_stars",
    [("skycamz", 3.57, 7, 0.25, 20), ("widefield", 40.3, 3, 0.35, 150)],
)
def test_real_frames_are_solved_and_refined(camera, scale, number, most_px, least_stars, stars):
    paths = sorted((DATA / camera).glob("*.fits.gz"))
    index = bands(camera, stars)
    found = [refined(path, scale, index, stars) for path in paths]
    assert len(found) == number and all(one is not None for one in found)
    assert max(one.refinement.rms_px for one in found) < most_px
    # Stars that a fit has seen are nearer by what it took from them, others farther by what it does not know: of
    # twenty stars one may show that of its frame.
    assert max(one.refinement.held_out_px for one in found) < most_px
    ratios = [one.refinement.held_out_px / one.refinement.rms_px for one in found]
    assert min(ratios) > 0.99
    assert np.mean(ratios) < 1.1 * np.mean([unseen_over_seen(one.refinement) for one in found])
    assert min(len(one.refinement.stars) for one in found) >= least_stars
    # The catalog has both stars of pairs that these pixels do not part.
    assert min(one.refinement.completeness for one in found) > 0.8
    assert max(one.written.residual_px for one in found) < 0.01
