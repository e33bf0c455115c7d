import math

import numpy as np
import pytest
from astropy.wcs import WCS

from skylake.core.sphere import ra_dec, unit_vectors
from skylake.image.distortion.distortion_model import Distortion
from skylake.image.solving.refined_wcs import refine_pointing
from skylake.image.wcs.header_wcs import CatalogStars, describe_pointing
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.residual_field import ResidualField
from skylake.image.wcs.star_matching import Sources

SHAPE = (600, 900)
FOCAL = 4000.0
RHO = 0.5 * math.hypot(*SHAPE) / FOCAL


@pytest.fixture
def lens():
    bare = Lens.aimed(
        unit_vectors(359.9, -40.0), unit_vectors(20.0, 30.0), FOCAL, (455.0, 297.0)
    ).parameters()
    bare[6:8] = 0.02 / RHO**2, -0.01 / RHO**4
    return Lens.from_parameters(bare, "rectilinear", False)


@pytest.fixture
def rough(lens):
    """A header of TAN that is some pixels off, and knows of no distortion."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crpix, wcs.wcs.crval = [452.0, 301.0], ra_dec(lens.axis)
    steps = lens.to_vectors([455.0, 456.0, 455.0], [297.0, 297.0, 298.0])
    ra, dec = ra_dec(steps)
    cos = math.cos(math.radians(dec[0]))
    wcs.wcs.cd = 1.002 * np.array([(ra[1:] - ra[0]) * cos, dec[1:] - dec[0]])
    return describe_pointing(wcs, *SHAPE)


def seen(lens, number=150, seed=4):
    random = np.random.default_rng(seed)
    x, y = random.uniform(0.0, 899.0, number), random.uniform(0.0, 599.0, number)
    mag = random.uniform(6.0, 11.0, number)
    off = 0.1 * random.standard_normal((2, number))
    sources = Sources.ranked(x + off[0], y + off[1], np.full(number, 0.1), 10.0 ** (-0.4 * mag))
    return CatalogStars(*ra_dec(lens.to_vectors(x, y)), mag), sources


def away(pointing, lens):
    x, y = (axis.ravel() for axis in np.meshgrid([0.0, 450.0, 899.0], [0.0, 300.0, 599.0]))
    return np.hypot(*(np.array(lens.to_pixels(unit_vectors(*pointing.to_sky(x, y)))) - [x, y]))


def test_a_rough_header_becomes_the_geometry_of_the_lens(lens, rough):
    stars, sources = seen(lens)
    found = refine_pointing(rough, stars, sources, SHAPE)
    assert away(rough, lens).max() > 4.0
    assert away(found.pointing, lens).max() < 0.25
    assert (found.pointing.mirrored, rough.mirrored) == (False, False)
    numbers = found.numbers(SHAPE)
    assert numbers["astrom_n"] > 140
    assert numbers["astrom_rms_px"] == pytest.approx(0.14, abs=0.02)
    assert numbers["astrom_completeness"] > 0.95
    field = ResidualField.of_text(numbers["astrom_field"])
    assert field.number.sum() == np.count_nonzero(found.refinement.fit.weights > 0.0)
    assert field.dx.shape == field.dy.shape == field.number.shape == (5, 8)
    assert field.dx[2, 4] == pytest.approx(found.refinement.residual_field(SHAPE).dx[2, 4], abs=1e-4)
    assert all(0.1 < numbers[f"astrom_rms_ring{ring}_px"] < 0.2 for ring in (1, 2, 3, 4))
    assert all(abs(numbers[f"astrom_radial_ring{ring}_px"]) < 0.05 for ring in (1, 2, 3, 4))


def test_with_the_distortion_of_the_camera_few_stars_suffice(lens, rough):
    distortion = Distortion(lens, np.zeros((7, 7)), 0.0, 10, 500)
    stars, sources = seen(lens, 12)
    found = refine_pointing(rough, stars, sources, SHAPE, distortion=distortion)
    assert found.refinement.fit.freed.tolist() == [0, 1, 2, 3]
    assert away(found.pointing, lens).max() < 0.3


def test_clumps_upon_clumps_are_no_stars(lens, rough):
    """Sources near the middle lie as densely as the stars of a cluster there: most of these have one close by."""
    taken = 0
    for seed in range(8):
        random = np.random.default_rng(seed)
        stars_at, points = (450.0 + random.normal(0.0, 35.0, (2, 150)) for _ in range(2))
        sky = lens.to_vectors(stars_at[0], stars_at[1] - 150.0)
        sources = Sources.ranked(points[0], points[1] - 150.0, np.full(150, 0.1), random.random(150))
        taken += (
            refine_pointing(rough, CatalogStars(*ra_dec(sky), random.random(150)), sources, SHAPE) is not None
        )
    assert taken == 0


def test_a_header_of_another_field_is_not_made_better(lens, rough):
    stars, _ = seen(lens)
    _, others = seen(lens, 300, 9)
    assert refine_pointing(rough, stars, others, SHAPE) is None
