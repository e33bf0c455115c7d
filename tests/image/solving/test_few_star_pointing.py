"""Frames with few stars, and a lens that is nearly right."""

from __future__ import annotations

import numpy as np
import pytest

from skylake.core.rotations import rotation_matrix
from skylake.core.sphere import unit_vectors
from skylake.image.solving.few_star_pointing import place_by_few_stars
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.star_matching import Sources

SHAPE = (500, 700)
FOCAL = 20000.0
LENS = Lens(
    Lens.aimed(unit_vectors(200.0, -60.0), unit_vectors(200.0, 10.0), FOCAL, (0, 0)).rotation,
    FOCAL, 350.0, 240.0, (3.0, 0.0, 0.0),
)  # fmt: skip
NOISE_PX = 0.15


def field(random: np.random.Generator, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Stars of a field, a bit larger than the image, and their magnitudes."""
    x, y = random.uniform(-30, SHAPE[1] + 30, n), random.uniform(-30, SHAPE[0] + 30, n)
    return LENS.to_vectors(x, y), 6.0 + 3.0 * random.power(2.0, n)


def seen(random: np.random.Generator, vectors: np.ndarray, mag: np.ndarray, n: int, spurious: int) -> Sources:
    """The brightest stars, and sources that are none."""
    x, y = LENS.to_pixels(vectors)
    inside = np.flatnonzero((x > 0) & (x < SHAPE[1] - 1) & (y > 0) & (y < SHAPE[0] - 1))
    some = inside[np.argsort(mag[inside])[: n + 2]]
    some = random.permutation(some)[:n]
    x = np.append(x[some] + random.normal(0, NOISE_PX, n), random.uniform(0, SHAPE[1] - 1, spurious))
    y = np.append(y[some] + random.normal(0, NOISE_PX, n), random.uniform(0, SHAPE[0] - 1, spurious))
    flux = np.append(10.0 ** (-0.4 * mag[some]), np.full(spurious, 10.0 ** (-0.4 * mag[some].max())))
    return Sources.ranked(x, y, np.full(n + spurious, NOISE_PX), flux)


def away(random: np.random.Generator, px: float) -> Lens:
    return LENS.turned(
        LENS.matrix.T @ rotation_matrix(random.normal(0, px / FOCAL, 3) * [1, 1, 30]) @ LENS.matrix
    )


def distance_px(lens: Lens) -> float:
    y, x = (axis.ravel() for axis in np.meshgrid(*(np.linspace(0, n - 1, 6) for n in SHAPE), indexing="ij"))
    there = LENS.to_pixels(lens.to_vectors(x, y))
    return float(np.sqrt(np.mean((there[0] - x) ** 2 + (there[1] - y) ** 2)))


@pytest.mark.parametrize("n", [3, 5, 8])
@pytest.mark.parametrize("known", [True, False])
def test_three_stars_give_the_attitude_with_honest_errors(n: int, known: bool) -> None:
    random, pulls = np.random.default_rng(n), []
    start_px = 1.0
    for _ in range(40):
        vectors, mag = field(random)
        sources = seen(random, vectors, mag, n, 2)
        err = start_px * 1.5 if known else None
        found = place_by_few_stars(away(random, start_px), vectors, mag, sources, SHAPE, 6.0, err)
        if found is not None:
            pulls.append(distance_px(found.lens) / found.err_px)
            assert len(found.pairs.x) >= 3 and found.rms_px < 1.0
    assert len(pulls) >= 36
    assert 0.6 < np.sqrt(np.mean(np.square(pulls))) < 1.4
    assert max(pulls) < 4.0


def test_what_lies_anywhere_is_no_star() -> None:
    random = np.random.default_rng(9)
    n_found = 0
    for _ in range(100):
        vectors, mag = field(random)
        sources = seen(random, vectors, mag, 1, int(random.integers(2, 12)))
        n_found += place_by_few_stars(away(random, 1.0), vectors, mag, sources, SHAPE, 20.0) is not None
    assert n_found == 0


def test_two_stars_are_too_few() -> None:
    random = np.random.default_rng(10)
    vectors, mag = field(random)
    assert place_by_few_stars(LENS, vectors, mag, seen(random, vectors, mag, 2, 0), SHAPE, 5.0) is None
    assert (
        place_by_few_stars(LENS, vectors[:0], mag[:0], seen(random, vectors, mag, 5, 0), SHAPE, 5.0) is None
    )
