import math

import numpy as np
import pytest

from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_fit import LensPrior, StarPairs, fit_lens
from skylake.image.wcs.lens_order import (
    BASIC,
    affordable,
    choose_groups,
    fit_best_lens,
    indices,
    with_projection,
)
from skylake.image.wcs.projections import PROJECTIONS

SHAPE = (768, 1024)
NOISE_PX = 0.1


def drawn(width_deg, projection="rectilinear", strength=0.02):
    """A lens with radial distortion of order 5, decentred and stretched."""
    kind = PROJECTIONS[projection]
    focal = 0.5 * SHAPE[1] / float(kind.radius(math.radians(0.5 * width_deg)))
    rho = 0.5 * math.hypot(*SHAPE) / focal
    radial = strength / rho**2, -0.6 * strength / rho**4, 0.0
    decentring = 0.02 * strength / rho, -0.01 * strength / rho
    return Lens(
        (0.4, 1.1, -2.0),
        focal,
        520.0,
        371.0,
        radial,
        decentring,
        (0.01 * strength, -0.01 * strength),
        projection,
    )


def seen(lens, number, seed, noise=NOISE_PX):
    """Stars with noise all over the image."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(-0.5, SHAPE[1] - 0.5, number), random.uniform(-0.5, SHAPE[0] - 0.5, number)
    off = noise * random.standard_normal((2, number))
    return StarPairs(lens.to_vectors(x, y), x + off[0], y + off[1], np.full(number, noise))


def rough(lens, projection=None):
    """The lens without its distortion, turned by some pixels."""
    bare = with_projection(lens, projection or lens.projection)
    step = np.zeros(13)
    step[:5] = 4.0 / lens.focal_px, -3.0 / lens.focal_px, 0.003, 0.004, 511.5 - lens.x0
    step[5] = 383.5 - lens.y0
    return bare.moved(step)


def best(lens, pairs):
    return fit_best_lens(rough(lens), pairs, LensPrior.default(lens, SHAPE))


def grid():
    y, x = (axis.ravel() for axis in np.mgrid[-0.5 : SHAPE[0] - 0.5 : 20j, -0.5 : SHAPE[1] - 0.5 : 25j])
    return x, y


def errors(fit, lens):
    """Fitted minus true places of directions all over the image, shape (2, n)."""
    x, y = grid()
    return np.array(fit.lens.to_pixels(lens.to_vectors(x, y))) - [x, y]


@pytest.mark.parametrize(
    ("width", "projection"),
    [(5, "rectilinear"), (21, "rectilinear"), (40, "rectilinear"), (75, "rectilinear"), (100, "equisolid")],
)
def test_a_lens_is_recovered_all_over_the_image(width, projection):
    lens = drawn(width, projection)
    found = [errors(best(lens, seen(lens, 900, seed))[0], lens) for seed in range(4)]
    corners = [0, 24, -25, -1]
    assert np.median([np.sqrt(np.mean(np.sum(off**2, axis=0))) for off in found]) < 0.02
    assert np.hypot(*np.mean(found, axis=0)[:, corners]).max() < 0.05


def test_exact_places_give_the_exact_lens():
    lens = drawn(40)
    fit = fit_lens(rough(lens), seen(lens, 100, 1, 1e-9), range(13), LensPrior.default(lens, SHAPE))
    assert np.abs(errors(fit, lens)).max() < 1e-3


def test_wrong_pairs_do_not_move_a_lens():
    lens, random = drawn(21), np.random.default_rng(5)
    pairs = seen(lens, 400, 2)
    pairs.x[:80] += random.uniform(2.0, 15.0, 80)
    fit, _ = best(lens, pairs)
    assert np.sqrt(np.mean(np.sum(errors(fit, lens) ** 2, axis=0))) < 0.03
    assert np.count_nonzero(fit.weights[:80]) == 0


def test_told_uncertainties_are_those_that_there_are():
    lens, known = drawn(21), LensPrior.default(drawn(21), SHAPE)
    x, y = grid()
    pulls = []
    for seed in range(60):
        fit = fit_lens(lens, seen(lens, 60, seed), indices(["k1", "centre", "stretch"]), known)
        off = np.array(fit.lens.to_pixels(lens.to_vectors(x, y))) - [x, y]
        pulls.append((off / fit.uncertainty(x, y))[:, ::37])
    spread = np.sqrt(np.mean(np.square(pulls), axis=(0, 2)))
    assert spread == pytest.approx([1.0, 1.0], abs=0.13)


@pytest.mark.parametrize("strength", [0.0, 0.02])
@pytest.mark.parametrize("number", [8, 14, 30, 80])
def test_errors_of_a_lens_of_few_stars_are_those_that_there_are(number, strength):
    """What stars do not ask for is not known to be nothing."""
    lens = drawn(21, strength=strength)
    x, y = (axis[::37] for axis in grid())
    off, told = [], []
    for seed in range(16):
        fit, _ = best(lens, seen(lens, number, seed))
        off.append(np.array(fit.lens.to_pixels(lens.to_vectors(x, y))) - [x, y])
        told.append(fit.uncertainty(x, y))
    pulls = np.array(off) / np.array(told)
    # Pulls of a frame go together: some hundred are worth no more than some twenty of their own.
    assert 0.75 < np.sqrt(np.mean(pulls**2)) < 1.3
    assert abs(pulls.mean()) < 0.3
    # All thirteen parameters are not worse than so: what lenses do is known.
    assert np.median(np.sqrt(np.mean(np.square(off), axis=(1, 2)))) < 1.0 / math.sqrt(number)
    anywhere = np.random.default_rng(1).uniform(-0.5, np.array(SHAPE[::-1])[:, None] - 0.5, (2, 4000))
    squares = np.sum(fit.uncertainty(*anywhere) ** 2, axis=0)
    assert fit.err_px(SHAPE) == pytest.approx(math.sqrt(squares.mean()), rel=0.1)


@pytest.mark.parametrize(("number", "strength"), [(60, 0.0), (200, 0.0), (60, 0.02)])
def test_errors_of_a_lens_of_many_stars_are_real(number, strength):
    """With and without distortion, some of which is less than so many stars show; in the middles of cells."""
    lens = drawn(21, strength=strength)
    y, x = (axis.ravel() for axis in np.mgrid[31.5 : SHAPE[0] : 64.0, 42.2 : SHAPE[1] : 85.33])
    pulls = []
    for seed in range(30):
        fit, _ = best(lens, seen(lens, number, 500 + seed))
        off = np.array(fit.lens.to_pixels(lens.to_vectors(x, y))) - [x, y]
        pulls.append(math.sqrt(np.mean(np.sum(off**2, axis=0))) / fit.err_px(SHAPE))
    assert 0.83 < np.sqrt(np.mean(np.square(pulls))) < 1.2


def test_uncertainties_know_of_scatter_beyond_the_stated_errors():
    lens, known = drawn(21), LensPrior.default(drawn(21), SHAPE)
    stated = seen(lens, 300, 1, 0.3)
    fit = fit_lens(lens, StarPairs(stated.vectors, stated.x, stated.y, np.full(300, 0.02)), BASIC, known)
    assert fit.scatter_px == pytest.approx(0.3, rel=0.1)
    centre = fit.uncertainty(np.array([511.5]), np.array([383.5]))
    assert centre.ravel() == pytest.approx([0.3 / math.sqrt(300)] * 2, rel=0.15)


def test_few_stars_free_few_parameters():
    assert [len(indices(affordable(n))) for n in (4, 8, 14, 100)] == [4, 5, 7, 13]
    lens = drawn(21, strength=0.0)
    fit, held_out = best(lens, seen(lens, 5, 1))
    assert fit.freed.tolist() == list(BASIC)
    assert math.isnan(held_out.px)


def test_an_ideal_lens_is_hardly_ever_given_distortion():
    lens, kept = drawn(21, strength=0.0), []
    known = LensPrior.default(lens, SHAPE)
    for seed in range(40):
        pairs = seen(lens, 60, seed)
        groups = affordable(60)
        full = fit_lens(lens, pairs, indices(groups), known)
        kept += choose_groups(full, pairs, groups, known)[0]
    # The centre and the attitude of this lens do the same: which of them is free is all one.
    assert len([group for group in kept if group != "centre"]) <= 8


def test_what_a_lens_does_is_found():
    lens = drawn(40)
    groups = affordable(600)
    pairs, known = seen(lens, 600, 3), LensPrior.default(lens, SHAPE)
    full = fit_lens(rough(lens), pairs, indices(groups), known)
    kept, held_out = choose_groups(full, pairs, groups, known)
    assert {"k1", "k2"} <= set(kept)
    assert held_out.px == pytest.approx(NOISE_PX * math.sqrt(2.0), rel=0.06)
