import math

import numpy as np
import pytest

from skylake.core.sphere import ra_dec
from skylake.image.solving.refined_wcs import refine_pointing
from skylake.image.solving.solve_near_expected import pointing_of
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.refine_lens import lens_of, refine
from skylake.image.wcs.star_matching import RankedStars, Sources, match

SHAPE = (768, 1024)
RHO = 0.5 * math.hypot(*SHAPE) / 1500.0
TRUTH = Lens(
    (0.4, 1.1, -2.0), 1500.0, 520.0, 371.0, (0.02 / RHO**2, -0.012 / RHO**4, 0.0), (4e-4 / RHO, -2e-4 / RHO)
)


def field(number=300, seed=1, missing=0.3, spurious=0.3, noise=0.1):
    """A catalog of a field of forty degrees, and sources: some stars are missing, some sources are none."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(-40.0, 1064.0, number), random.uniform(-40.0, 808.0, number)
    vectors, mag = TRUTH.to_vectors(x, y), np.sort(random.exponential(1.0, number))[::-1]
    kept = random.random(number) > missing
    kept &= (x > 0) & (x < 1023) & (y > 0) & (y < 767)
    others = int(spurious * kept.sum())
    off = noise * random.standard_normal((2, int(kept.sum())))
    x = np.append(x[kept] + off[0], random.uniform(0, 1023, others))
    y = np.append(y[kept] + off[1], random.uniform(0, 767, others))
    flux = np.append(
        10.0 ** (-0.4 * (mag[kept] + 0.3 * random.standard_normal(kept.sum()))), random.random(others)
    )
    number_of = np.append(np.flatnonzero(kept), np.full(others, -1))
    return vectors, mag, Sources.ranked(x, y, np.full(len(x), noise), flux), number_of


def rough(pixels=8.0):
    step = np.zeros(13)
    step[:4] = pixels / 1500.0, -pixels / 1500.0, 0.004, -0.004
    return Lens(TRUTH.rotation, 1500.0, 511.5, 383.5).moved(step)


def corners(lens):
    x, y = np.array([0.0, 1023.0, 0.0, 1023.0, 511.0]), np.array([0.0, 0.0, 767.0, 767.0, 383.0])
    return np.hypot(*(np.array(lens.to_pixels(TRUTH.to_vectors(x, y))) - [x, y]))


def test_a_rough_pointing_becomes_exact_among_spurious_stars():
    vectors, mag, sources, number_of = field()
    found = refine(rough(), vectors, mag, sources, SHAPE, 30.0)
    assert found is not None
    assert corners(found.lens).max() < 0.2
    assert (number_of[found.sources] == found.stars).mean() > 0.98
    assert len(found.stars) > 0.95 * np.count_nonzero(number_of >= 0)
    assert found.rms_px == pytest.approx(0.1 * math.sqrt(2.0), rel=0.15)
    assert found.rms_arcsec == pytest.approx(found.rms_px * math.degrees(3600.0 / 1500.0), rel=0.15)
    assert found.held_out_px == pytest.approx(0.1 * math.sqrt(2.0), rel=0.15)
    assert found.completeness == pytest.approx(0.7, abs=0.2)


def test_stars_that_were_held_out_are_reported_like_the_others():
    """Half of the stars have more than twice the noise: all count alike."""
    vectors, mag, sources, _ = field(400, noise=0.05)
    random = np.random.default_rng(7)
    noisy = random.random(len(sources.x)) < 0.5
    off = np.where(noisy, 0.12, 0.0) * random.standard_normal((2, len(noisy)))
    sigma = np.where(noisy, 0.13, 0.05)
    found = refine(
        rough(),
        vectors,
        mag,
        Sources(sources.x + off[0], sources.y + off[1], sigma, sources.number),
        SHAPE,
        30.0,
    )
    assert found.rms_px == pytest.approx(0.139, rel=0.15)
    assert 1.0 < found.held_out_px / found.rms_px < 1.1


def refined(number, spurious, frames):
    """Fits of drawn frames with few stars, and how far their places are off on a grid, shape (frames, 2, n)."""
    y, x = (axis.ravel() for axis in np.mgrid[63.5:704.0:128.0, 63.5:960.0:128.0])
    found, off = [], []
    for seed in range(frames):
        vectors, mag, sources, _ = field(number, seed=seed, spurious=spurious)
        found.append(refine(rough(4.0), vectors, mag, sources, SHAPE, 20.0))
        off.append(np.array(found[-1].lens.to_pixels(TRUTH.to_vectors(x, y))) - [x, y])
    return found, np.array(off), np.array([one.fit.uncertainty(x, y) for one in found])


@pytest.mark.parametrize(
    ("number", "spurious", "stars"), [(14, 0.0, 8), (22, 0.0, 13), (48, 0.3, 29), (130, 0.3, 79)]
)
def test_errors_are_real_for_however_few_matches(number, spurious, stars):
    found, off, told = refined(number, spurious, 15)
    pulls = off / told
    assert np.median([len(one.stars) for one in found]) == pytest.approx(stars, abs=4)
    # Frames whose stars leave out a corner have the largest errors, and are few.
    assert np.sqrt(np.mean(pulls**2)) < 1.5 and np.median(np.abs(pulls)) / 0.6745 == pytest.approx(
        1.0, abs=0.3
    )
    assert abs(np.mean(np.clip(pulls, -3.0, 3.0))) < 0.3
    each = np.sqrt(np.mean(np.sum(off**2, axis=1), axis=1))
    assert np.median(each) / np.median([one.err_px for one in found]) == pytest.approx(1.0, abs=0.4)


@pytest.mark.parametrize("number", [20, 40])
def test_held_out_stars_are_as_far_off_as_new_ones(number):
    found, off, _ = refined(number, 0.3, 15)
    new = np.sqrt(np.mean(np.sum(off**2, axis=1), axis=1) + 2.0 * 0.1**2)
    held_out = np.array([one.held_out_px for one in found])
    assert np.median(held_out / new) == pytest.approx(1.0, abs=0.3)
    # The fit that has seen them is nearer.
    assert np.mean([one.rms_px for one in found]) < 0.85 * held_out.mean()


def test_random_points_are_not_taken_for_stars():
    vectors, mag, _, _ = field()
    sky, start = CatalogStars(*ra_dec(vectors), mag), pointing_of(rough(), SHAPE)
    for seed in range(3):
        random = np.random.default_rng(seed)
        points = Sources.ranked(
            random.uniform(0, 1023, 300), random.uniform(0, 767, 300), np.full(300, 0.1), random.random(300)
        )
        assert refine_pointing(start, sky, points, SHAPE, 30.0) is None
    # Where they are the stars, the same way does take them.
    vectors, mag, sources, _ = field()
    assert refine_pointing(start, sky, sources, SHAPE, 30.0) is not None


def test_without_sources_there_is_no_refinement():
    vectors, mag, _, _ = field()
    nothing = np.zeros(0)
    assert refine(rough(), vectors, mag, Sources.ranked(nothing, nothing, nothing, nothing), SHAPE) is None


def test_a_source_that_two_stars_may_be_is_left_out():
    lens = Lens((0.0, 0.0, 0.0), 1500.0, 511.5, 383.5)
    stars = RankedStars.ranked(
        lens.to_vectors([100.0, 300.0, 301.0], [100.0, 300.0, 300.0]), np.array([1.0, 2.0, 3.0])
    )
    sources = Sources.ranked(
        np.array([100.4, 300.6]), np.array([100.0, 300.0]), np.ones(2), np.array([2.0, 1.0])
    )
    star, source = match(lens, stars, sources, SHAPE, 5.0)
    assert (star.tolist(), source.tolist()) == ([0], [0])


def test_the_residual_field_shows_what_a_lens_cannot_follow():
    vectors, mag, sources, _ = field(800, noise=0.02)
    bump = 0.5 * np.exp(-((sources.x - 832.0) ** 2 + (sources.y - 576.0) ** 2) / 80.0**2)
    found = refine(
        rough(),
        vectors,
        mag,
        Sources(sources.x + bump, sources.y, 10.0 * sources.sigma, sources.number),
        SHAPE,
        30.0,
    )
    told = found.residual_field(SHAPE)
    assert told.dx.shape == told.dy.shape == (6, 8)
    assert told.number.sum() == np.count_nonzero(found.fit.weights > 0.0)
    assert np.unravel_index(np.nanargmax(np.abs(told.dx)), (6, 8)) == (4, 6)
    assert told.dx[4, 6] > 0.1


def test_the_lens_of_a_map_from_pixels_to_the_sky_is_found():
    found = lens_of(TRUTH.to_vectors, SHAPE)
    assert found is not None
    assert corners(found).max() < 0.01
    assert lens_of(lambda x, y: np.full((*np.shape(x), 3), np.nan), SHAPE) is None


def test_a_fisheye_taken_for_a_plane_gets_its_projection():
    values = Lens.aimed([1.0, 0.0, 0.0], [0.0, 0.0, 1.0], 620.0, (505.0, 390.0), "equisolid").parameters()
    lens = Lens.from_parameters(values, "equisolid", False)
    found = lens_of(lens.to_vectors, SHAPE)
    x, y = np.array([0.0, 1023.0, 0.0, 1023.0, 511.0]), np.array([0.0, 0.0, 767.0, 767.0, 383.0])
    assert found.projection == "equisolid"
    assert np.hypot(*(np.array(found.to_pixels(lens.to_vectors(x, y))) - [x, y])).max() < 0.05
