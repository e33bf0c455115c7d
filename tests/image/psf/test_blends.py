"""Errors of fitted fluxes of stars that overlap: as large as the scatter about the truth, however near they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from skylake.image.detection.variance_plane import Agreement
from skylake.image.psf.covariance_kernels import Inversion, SkyErrors, local_variance
from skylake.image.psf.pair_kernels import PairMatrix
from skylake.image.psf.psf_fit import FitImage, StarFit, Variances, fit_stars
from skylake.image.psf.psf_model import FramePsf

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]
LightOf = Callable[..., Floats]
Fit = Callable[..., StarFit]

SHAPE = (260, 300)
FWHM = 2.6
GAIN = 1.5
NOISE = 20.0
SPACING = 22
#: A bright star has three times as much noise from its photons as from the sky.
FAINT, BRIGHT = 1e3, 1e5
DRAWS = 40


@pytest.fixture(scope="module")
def psf(lengthened_psf: Callable[..., FramePsf]) -> FramePsf:
    return lengthened_psf(SHAPE, FWHM)


@pytest.fixture(scope="module")
def light_of(psf: FramePsf, drawn_light: Callable[..., Floats]) -> LightOf:
    """A function that draws stars as the model has them, on a sky without light."""
    return partial(drawn_light, psf, SHAPE)


@pytest.fixture(scope="module")
def fit(psf: FramePsf) -> Fit:
    """A function that fits stars with what is known of the noise."""

    def go(
        pixels: Single,
        x: Floats,
        y: Floats,
        good: npt.NDArray[np.uint8] | None = None,
        variances: Variances | None = None,
    ) -> StarFit:
        good = np.ones(SHAPE, np.uint8) if good is None else good
        rms = np.full(SHAPE, NOISE, np.float32)
        return fit_stars(FitImage(pixels, good, rms, GAIN, variances), x, y, psf, level_sky=False)

    return go


def places_of_pairs(separation: float, seed: int = 1) -> tuple[Floats, Floats]:
    """Pairs far from one another, in all directions: first one star of each, then the other."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[20 : SHAPE[0] - 18 : SPACING, 20 : SHAPE[1] - 18 : SPACING].reshape(2, -1)
    x, y = (values + random.uniform(-0.5, 0.5, x.size) for values in (x, y))
    angle = random.uniform(0.0, 2.0 * np.pi, x.size)
    return (
        np.concatenate([x, x + separation * np.cos(angle)]),
        np.concatenate([y, y + separation * np.sin(angle)]),
    )


def exposed(light: Floats, random: np.random.Generator) -> Single:
    noise = random.normal(0.0, NOISE, light.shape)
    return np.asarray(random.poisson(light * GAIN) / GAIN + noise, np.float32)


def told(light: Floats) -> Variances:
    """A plane of variances that agrees with the noise only when it is scaled and something is added."""
    plane = (light / GAIN + NOISE**2 + 50.0) / 0.8
    return Variances(plane.astype(np.float32), Agreement(0.8, np.full((5, 5), NOISE**2 + 50.0)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["photons", "plane", "holes"])
@pytest.mark.parametrize("flux", [FAINT, BRIGHT])
@pytest.mark.parametrize("ratio", [1.0, 10.0])
@pytest.mark.parametrize("widths", [0.3, 0.5, 1.0, 2.0])
def test_pulls_of_pairs_have_the_width_one(
    light_of: LightOf, fit: Fit, widths: float, ratio: float, flux: float, kind: str
) -> None:
    x, y = places_of_pairs(widths * FWHM)
    each = np.repeat([flux, flux / ratio], x.size // 2)
    light, good = light_of(x, y, each), np.ones(SHAPE, np.uint8)
    variances = told(light) if kind == "plane" else None
    if kind == "holes":
        good[np.rint(y).astype(int) + 1, np.rint(x).astype(int)] = 0
    random, pulls = np.random.default_rng(7), []
    for _ in range(DRAWS):
        pixels = np.where(good == 1, exposed(light, random), np.float32(1e7))
        found = fit(pixels, x, y, good, variances)
        pulls.append((found.flux - each) / np.sqrt(found.variance))
    for star in np.split(np.array(pulls), 2, axis=1):
        assert abs(star.mean()) < 0.1
        assert 0.9 < star.std() < 1.1


@pytest.mark.parametrize("ratio", [1.0, 10.0])
@pytest.mark.parametrize("separation", [1.0, 2.0])
def test_very_bright_pairs_are_shared_out_without_bias(
    light_of: LightOf, fit: Fit, separation: float, ratio: float
) -> None:
    """At a S/N of thousands what the ridge keeps back would be the larger part of the error."""
    x, y = places_of_pairs(separation)
    each = np.repeat([3e7, 3e7 / ratio], x.size // 2)
    light, random, pulls = light_of(x, y, each), np.random.default_rng(8), []
    for _ in range(DRAWS):
        found = fit(exposed(light, random), x, y)
        pulls.append((found.flux - each) / np.sqrt(found.variance))
    assert np.median(each[: x.size // 2] / np.sqrt(found.variance[: x.size // 2])) > 2000.0
    for star in np.split(np.array(pulls), 2, axis=1):
        # Light beyond the total radius of stars around is left where it is.
        assert abs(star.mean()) < 0.15
        assert 0.95 < star.std() < 1.05


@pytest.mark.parametrize("flux", [FAINT, BRIGHT, 100.0 * BRIGHT])
@pytest.mark.parametrize("separation", [0.0, 0.01, 0.03, 0.1, 0.25])
def test_pairs_at_nearly_one_place_stay_calm_and_are_uncertain(
    light_of: LightOf, fit: Fit, separation: float, flux: float
) -> None:
    """Neither grows beyond what noise explains, their sum is right, and errors show what cannot be known."""
    x, y = places_of_pairs(separation)
    n = x.size // 2
    each = np.repeat([flux, 0.1 * flux], n)
    light, random, pulls = light_of(x, y, each), np.random.default_rng(9), []
    for _ in range(5):
        found = fit(exposed(light, random), x, y)
        pulls.append((found.flux - each) / np.sqrt(found.variance))
        alone = np.sqrt(float(np.median(fit(exposed(light, random), x[:n], y[:n]).variance)))
        assert np.abs(found.flux).max() < 2.0 * flux + 800.0 * alone
        assert found.flux[:n] + found.flux[n:] == pytest.approx(1.1 * flux, abs=6.0 * alone)
    assert np.sqrt(np.mean(np.square(pulls))) < 1.6


@pytest.mark.parametrize("radii", [(10.0, 16.0), (15.0, 20.0)])
@pytest.mark.parametrize("widths", [0.4, 1.0])
def test_the_error_of_the_annulus_sky_counts_in_blends(
    lengthened_psf: Callable[..., FramePsf], widths: float, radii: tuple[float, float]
) -> None:
    """What differs between the skies of neighbours goes to one and is taken from the other."""
    broad = lengthened_psf(SHAPE, 5.0)
    x, y = places_of_pairs(5.0 * widths)
    random, good = np.random.default_rng(5), np.ones(SHAPE, np.uint8)
    rms, pulls = np.full(SHAPE, NOISE, np.float32), []
    for _ in range(DRAWS):
        pixels = random.normal(0.0, NOISE, SHAPE).astype(np.float32)
        found = fit_stars(FitImage(pixels, good, rms, GAIN), x, y, broad, annulus=radii)
        pulls.append(found.flux / np.sqrt(found.variance))
    assert 0.96 < np.std(pulls) < 1.04


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.3, 0.95])
@pytest.mark.parametrize("separation", [0.0, 0.01, 0.1, 0.3])
def test_a_plane_below_sky_noise_leaves_duplicates_uncertain(
    light_of: LightOf, fit: Fit, separation: float, share: float
) -> None:
    x, y = places_of_pairs(separation)
    each = np.full(x.size, FAINT)
    pixels = exposed(light_of(x, y, each), np.random.default_rng(3))
    agreement = Agreement(1.0, np.full((5, 5), (1.0 - share) * NOISE**2))
    plane = Variances(np.zeros(SHAPE, np.float32), agreement)
    pairs, alone = (fit(pixels, x[:n], y[:n], variances=plane) for n in (x.size, x.size // 2))
    assert (pairs.variance > 0.0).all()
    assert (alone.variance > 0.0).all()
    larger = np.sqrt(pairs.variance / np.median(alone.variance))
    assert np.isfinite(larger).all()
    assert larger.min() > 3.0


def test_what_cannot_be_separated_is_uncertain_by_both(light_of: LightOf, fit: Fit) -> None:
    """However bright: the ridge shares the light out, which no noise of photons shows."""
    x, y = places_of_pairs(0.001)
    each = np.repeat([10.0 * BRIGHT, BRIGHT], x.size // 2)
    found = fit(exposed(light_of(x, y, each), np.random.default_rng(4)), x, y)
    off, error = np.abs(found.flux - each), np.sqrt(found.variance)
    assert off.min() > 3.0 * BRIGHT
    assert (error > 0.5 * off).all()
    assert (error < 2.0 * BRIGHT * 11.0).all()


def test_pairs_that_are_left_out_make_no_variance_negative() -> None:
    """Without its smallest element the matrix of these stars has an eigenvalue below 0."""
    ridge = 1e-4
    diagonal, starts = np.full(3, 1.0 + ridge), np.array([0, 0, 1, 3])
    partners, values = np.array([0, 0, 1]), np.array([1.0 - 1e-6, 0.0205, 0.0195])
    matrix = np.array(
        [[1.0 + ridge, values[0], values[1]], [values[0], 1.0 + ridge, 0.0], [values[1], 0.0, 1.0 + ridge]]
    )
    assert np.linalg.eigvalsh(matrix).min() < 0.0
    none, rms = np.zeros(3), np.ones(3, np.float32)
    skies = SkyErrors(none, none, none, np.empty(0))
    variance, increase = local_variance(
        PairMatrix(diagonal, starts, partners, values),
        Inversion(least=0.02, turns=2, most=8),
        none,
        none,
        rms,
        none,
        np.full(3, ridge),
        skies,
    )
    assert (variance[:2] > 1e3).all()
    assert (increase[:2] > 1e3).all()
    assert variance[2] > 0.9
