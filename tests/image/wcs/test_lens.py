import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.rotations import rotation_matrix
from skylake.core.sphere import unit_vectors
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.projections import PROJECTIONS

#: Half of the field to the corner, degrees, that each projection is used for.
WIDEST = {
    "rectilinear": 60.0,
    "stereographic": 95.0,
    "equidistant": 100.0,
    "equisolid": 100.0,
    "orthographic": 70.0,
}
SHAPE = (1040, 1392)

small = st.floats(-1.0, 1.0)


@st.composite
def lenses(draw):
    """Lenses of every kind with distortion of some per cent at the corner, and the half field to the corner (rad)."""
    projection = draw(st.sampled_from(sorted(PROJECTIONS)))
    half = math.radians(math.exp(draw(st.floats(math.log(0.3), math.log(WIDEST[projection])))))
    rho = float(PROJECTIONS[projection].radius(half))
    half_diagonal = 0.5 * math.hypot(*SHAPE)
    rotation = math.pi * draw(small), math.pi * draw(small), math.pi * draw(small)
    return Lens(
        rotation,
        half_diagonal / rho,
        0.5 * SHAPE[1] + 30.0 * draw(small),
        0.5 * SHAPE[0] + 30.0 * draw(small),
        tuple(size * draw(small) / rho**power for size, power in ((0.05, 2), (0.02, 4), (0.01, 6))),
        (0.003 * draw(small) / rho, 0.003 * draw(small) / rho),
        (0.003 * draw(small), 0.003 * draw(small)),
        projection,
        draw(st.booleans()),
    ), half


def pixels(seed, number=200):
    random = np.random.default_rng(seed)
    return random.uniform(-0.5, SHAPE[1] - 0.5, number), random.uniform(-0.5, SHAPE[0] - 0.5, number)


@given(lenses(), st.integers(0, 1000))
def test_a_pixel_has_a_direction_and_the_direction_that_pixel(drawn, seed):
    lens, _ = drawn
    x, y = pixels(seed)
    vectors = lens.to_vectors(x, y)
    seen = np.isfinite(vectors).all(axis=1)
    back = lens.to_pixels(vectors)
    assert seen.mean() > 0.8
    assert np.abs(np.linalg.norm(vectors[seen], axis=1) - 1.0).max() < 1e-14
    assert np.hypot(back[0] - x, back[1] - y)[seen].max() < 1e-8 * max(1.0, lens.focal_px / 1e3)


@given(lenses(), st.integers(0, 1000), st.floats(0.1, 0.5), st.floats(-math.pi, math.pi))
def test_no_two_directions_are_shown_in_one_pixel(drawn, seed, strength, way):
    """Decentring that is far too strong folds the plane over."""
    lens, half = drawn
    rho = float(PROJECTIONS[lens.projection].radius(half))
    folded = replace(lens, decentring=(strength * math.cos(way) / rho, strength * math.sin(way) / rho))
    directions = np.random.default_rng(seed).normal(size=(400, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    x, y = folded.to_pixels(directions)
    assert np.array_equal(folded.derivatives(directions)[0], [x, y], equal_nan=True)
    back = folded.to_vectors(x, y)
    told = np.isfinite(back).all(axis=1)
    assert np.abs(back[told] - directions[told]).max(initial=0.0) < 1e-6


@given(lenses(), st.integers(0, 1000))
def test_derivatives_are_those_of_finite_steps(drawn, seed):
    lens, half = drawn
    vectors = lens.to_vectors(*pixels(seed, 20))
    vectors = vectors[np.isfinite(vectors).all(axis=1)]
    placed, derivatives = lens.derivatives(vectors)
    rho = float(PROJECTIONS[lens.projection].radius(half))
    sizes = np.array(
        [1, 1, 1, 1, lens.focal_px, lens.focal_px, rho**-2, rho**-4, rho**-6, 1 / rho, 1 / rho, 1, 1]
    )
    assert np.array_equal(placed, lens.to_pixels(vectors))
    for number, name in enumerate(NAMES):
        step = np.zeros(13)
        step[number] = 1e-6 * sizes[number]
        ahead, behind = (np.array(lens.moved(sign * step).to_pixels(vectors)) for sign in (1, -1))
        change, told = (ahead - behind) / 2e-6, derivatives[number] * sizes[number]
        known = np.isfinite(change)
        assert np.abs(change - told)[known].max() <= 1e-4 * max(np.abs(told).max(), lens.focal_px), name


@given(lenses(), st.integers(0, 1000))
def test_the_solid_angle_is_that_of_neighbouring_directions(drawn, seed):
    lens, _ = drawn
    x, y = pixels(seed, 20)
    right, left = lens.to_vectors(x + 0.5, y), lens.to_vectors(x - 0.5, y)
    above, below = lens.to_vectors(x, y + 0.5), lens.to_vectors(x, y - 0.5)
    area = np.linalg.norm(np.cross(right - left, above - below), axis=1)
    told = lens.solid_angle(x, y)
    known = np.isfinite(area) & np.isfinite(told)
    assert known.any()
    assert np.abs(told / area - 1.0)[known].max() < 1e-4


@pytest.mark.parametrize("projection", ["equidistant", "equisolid"])
def test_solid_angles_of_all_pixels_sum_to_the_sphere(projection):
    lens = Lens((0.3, -0.2, 1.0), 100.0, 350.0, 350.2, projection=projection)
    y, x = np.mgrid[0:701, 0:701]
    assert np.nansum(lens.solid_angle(x, y)) == pytest.approx(4.0 * math.pi, rel=2e-3)


def test_a_distorted_fisheye_sees_its_share_of_the_sphere():
    lens = Lens(
        (0.3, -0.2, 1.0), 300.0, 510.0, 500.2, (-0.05, 0.01, 0.0), (2e-3, -1e-3), (1e-3, 2e-3), "equidistant"
    )
    y, x = np.mgrid[0:1001, 0:1021]
    within = np.arccos(np.clip(lens.to_vectors(x, y) @ lens.axis, -1.0, 1.0)) < 1.4
    area = lens.solid_angle(x, y)[within].sum()
    assert area == pytest.approx(2.0 * math.pi * (1.0 - math.cos(1.4)), rel=1e-3)


def test_what_is_behind_the_camera_is_on_no_pixel():
    lens = Lens.aimed(unit_vectors(30.0, 40.0), unit_vectors(30.0, 90.0), 1000.0, (500.0, 400.0))
    x, y = lens.to_pixels(unit_vectors([30.0, 210.0, 120.0], [40.0, -40.0, 0.0]))
    assert (x[0], y[0]) == pytest.approx((500.0, 400.0))
    assert np.isnan([x[1:], y[1:]]).all()


def test_beyond_the_turn_of_its_polynomial_a_lens_shows_nothing():
    lens = Lens((0.0, 0.0, 0.0), 1000.0, 0.0, 0.0, (-1.0, 0.0, 0.0), projection="equidistant")
    angle = np.radians([20.0, 33.0, 34.0, 60.0])
    x, _ = lens.to_pixels(np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=-1))
    largest = 1000.0 * (1 / math.sqrt(3) - 3**-1.5)
    assert np.isfinite(x).tolist() == [True, True, False, False]
    assert np.isfinite(lens.to_vectors([largest - 1e-2, largest + 1e-2], 0.0)).all(axis=1).tolist() == [
        True,
        False,
    ]


def test_north_is_up_and_east_to_the_left_unless_mirrored():
    for mirrored, side in ((False, -1.0), (True, 1.0)):
        lens = Lens.aimed([0.0, 1.0, 0.0], [0.0, 0.0, 1.0], 1000.0, (0.0, 0.0), mirrored=mirrored)
        x, y = lens.to_pixels(unit_vectors([90.001, 90.0], [0.0, 0.001]))
        assert np.sign(np.round(x, 6)).tolist() == [side, 0.0]
        assert np.sign(np.round(y, 6)).tolist() == [0.0, 1.0]


@given(lenses())
@settings(max_examples=20, deadline=None)
def test_a_lens_is_its_numbers(drawn):
    lens, _ = drawn
    assert Lens.from_parameters(lens.parameters(), lens.projection, lens.mirrored) == lens


@given(lenses(), st.lists(st.floats(-3.0, 3.0), min_size=3, max_size=3))
@settings(max_examples=20, deadline=None)
def test_a_lens_turned_with_the_sky_sees_it_where_it_was(drawn, turn):
    lens, _ = drawn
    matrix = rotation_matrix(turn)
    vectors = lens.to_vectors(*pixels(1, 20))
    there, here = lens.turned(matrix).to_pixels(vectors @ matrix), lens.to_pixels(vectors)
    assert np.nanmax(np.abs(np.array(there) - np.array(here))) < 1e-7 * max(1.0, lens.focal_px / 1e3)
