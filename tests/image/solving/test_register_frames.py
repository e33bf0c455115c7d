"""Frames of one camera and field find how they lie on one another, and frames of different fields do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.rotations import rotation_matrix
from skylake.core.sphere import unit_vectors
from skylake.image.solving.register_frames import register_frame
from skylake.image.wcs.lens import Lens

SHAPE = (500, 700)
CORNERS = np.array([[0.0, 0.0], [699.0, 499.0], [350.0, 250.0]])


def aimed(focal_px: float) -> Lens:
    return Lens.aimed(unit_vectors(0.01, -24.6), unit_vectors(0.01, 60.0), focal_px, (349.5, 249.5))


def seen(
    lens: Lens, sky: np.ndarray, mag: np.ndarray, random: np.random.Generator, noise_px: float
) -> np.ndarray:
    """Return what a frame shows, brightest first: nine of ten stars, and a fifth as many that are none."""
    places = np.stack(lens.to_pixels(sky), axis=1)
    inside = ((places > 0) & (places < [700, 500])).all(axis=1) & (random.uniform(size=len(sky)) > 0.1)
    n_false = int(0.2 * inside.sum())
    places = np.vstack([places[inside], random.uniform(0.0, 1.0, (n_false, 2)) * [700, 500]])
    mag = np.append(mag[inside] + random.normal(0.0, 0.1, inside.sum()), random.uniform(3.0, 5.0, n_false))
    return places[np.argsort(mag)] + random.normal(0.0, noise_px, places.shape)


@given(
    seed=st.integers(0, 2**31),
    shift_px=st.floats(0.0, 120.0),
    turn_deg=st.floats(-180.0, 180.0),
    field_deg=st.sampled_from([0.5, 5.0, 30.0]),
    n_stars=st.integers(30, 250),
)
def test_a_frame_that_was_moved_and_turned_lies_where_its_stars_are(
    seed: int, shift_px: float, turn_deg: float, field_deg: float, n_stars: int
) -> None:
    random = np.random.default_rng(seed)
    lens = aimed(350.0 / np.tan(np.radians(0.5 * field_deg)))
    tilt = shift_px / lens.focal_px
    turn = rotation_matrix([tilt * np.cos(seed), tilt * np.sin(seed), np.radians(turn_deg)])
    true = lens.turned(lens.matrix.T @ turn @ lens.matrix)
    x, y = random.uniform(-350.0, 1050.0, 4 * n_stars), random.uniform(-250.0, 750.0, 4 * n_stars)
    sky, mag = lens.to_vectors(x, y), 5.0 * random.power(3.0, 4 * n_stars)
    base, sources = (seen(one, sky, mag, random, 0.2) for one in (lens, true))

    found = register_frame(lens, base, sources, SHAPE)

    assert found is not None and found.rms_px < 1.0
    away = found.lens.to_vectors(*CORNERS.T) - true.to_vectors(*CORNERS.T)
    assert np.linalg.norm(away, axis=1).max() * lens.focal_px < 1.0


def test_frames_of_different_fields_do_not_lie_on_one_another() -> None:
    random = np.random.default_rng(3)
    for n in (3, 5, 8, 20, 60, 150):
        for _ in range(8):
            one, two = (random.uniform(0.0, 1.0, (n, 2)) * [700, 500] for _ in range(2))
            assert register_frame(aimed(5e4), one, two, SHAPE) is None


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_a_few_sources_rule_nothing_out(n: int) -> None:
    places = np.random.default_rng(n).uniform(0.0, 500.0, (n, 2))
    assert register_frame(aimed(5e4), places, places, SHAPE) is None
