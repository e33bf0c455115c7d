from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.simulate.stamps import Moffat, render, stamp_half_size

phases = st.floats(-0.5, 0.5)
profiles = st.builds(
    Moffat, st.floats(2.0, 5.0), st.floats(0.0, 0.4), st.floats(0.0, 180.0), st.floats(3.0, 5.0)
)


def integrated(shape: tuple[int, int], x: float, y: float, psf: Moffat, order: int = 12) -> np.ndarray:
    """A star of flux 1 by Gauss-Legendre quadrature of high order in every pixel."""
    points, weights = np.polynomial.legendre.leggauss(order)
    points, weights = points / 2.0, weights / 2.0
    dx = (np.arange(shape[1])[:, None] + points).ravel() - x
    dy = (np.arange(shape[0])[:, None] + points).ravel() - y
    angle, ratio, alpha = np.radians(psf.angle_deg), 1.0 - psf.ellipticity, float(psf.alpha_px)
    along = (dx[None, :] * np.cos(angle) + dy[:, None] * np.sin(angle)) / (alpha / np.sqrt(ratio))
    across = (dy[:, None] * np.cos(angle) - dx[None, :] * np.sin(angle)) / (alpha * np.sqrt(ratio))
    values = (psf.beta - 1.0) / (np.pi * alpha**2) * (1.0 + along**2 + across**2) ** -psf.beta
    cells = values.reshape(shape[0], order, shape[1], order)
    return np.einsum("yaxb,a,b->yx", cells, weights, weights)


@settings(
    deadline=None,
)
@given(phases, phases, profiles)
def test_the_whole_flux_is_in_the_image(dx: float, dy: float, psf: Moffat) -> None:
    image = render((241, 241), 120.0 + dx, 120.0 + dy, 1000.0, psf)
    assert image.sum(dtype=float) == pytest.approx(1000.0, rel=1e-3)


@settings(
    deadline=None,
)
@given(phases, phases, profiles)
def test_the_centroid_is_the_position(dx: float, dy: float, psf: Moffat) -> None:
    image = render((241, 241), 120.0 + dx, 120.0 + dy, 1.0, psf).astype(float)
    grid = np.arange(241) - 120.0
    assert (image.sum(axis=0) @ grid) / image.sum() == pytest.approx(dx, abs=0.01)
    assert (image.sum(axis=1) @ grid) / image.sum() == pytest.approx(dy, abs=0.01)


@settings(
    deadline=None,
)
@given(phases, phases, profiles)
def test_pixels_hold_their_integrals(dx: float, dy: float, psf: Moffat) -> None:
    image = render((41, 41), 20.0 + dx, 20.0 + dy, 1.0, psf)
    assert np.abs(image - integrated((41, 41), 20.0 + dx, 20.0 + dy, psf)).max() < 2e-4


def test_the_width_and_direction_are_those_asked_for() -> None:
    image = render((101, 101), 50.0, 50.0, 1.0, Moffat(8.0, 0.3, 30.0, 3.0)).astype(float)
    steps = np.linspace(0.0, 12.0, 2001)
    for angle, expected in ((30.0, 8.0 / np.sqrt(0.7)), (120.0, 8.0 * np.sqrt(0.7))):
        from scipy.ndimage import map_coordinates

        along = np.radians(angle)
        cut = map_coordinates(image, [50.0 + steps * np.sin(along), 50.0 + steps * np.cos(along)], order=3)
        assert 2.0 * np.interp(-0.5 * cut[0], -cut, steps) == pytest.approx(expected, rel=0.01)


def test_stars_add_up_and_each_has_its_own_profile() -> None:
    x, y, flux = np.array([12.3, 30.8, 33.1]), np.array([15.0, 14.6, 40.4]), np.array([100.0, 7.0, -3.0])
    fwhm, ellipticity = np.array([2.0, 3.0, 4.0]), np.array([0.0, 0.1, 0.3])
    together = render((60, 50), x, y, flux, Moffat(fwhm, ellipticity, 20.0, 3.0))
    alone = [
        render((60, 50), x[i], y[i], flux[i], Moffat(fwhm[i], ellipticity[i], 20.0, 3.0)) for i in range(3)
    ]
    np.testing.assert_allclose(together, sum(alone), atol=2e-6)


def test_an_image_is_a_window_on_the_sky() -> None:
    """Stars beyond the edge light the image as if it were cut from a larger one."""
    random = np.random.default_rng(3)
    x, y, flux = (
        random.uniform(-15.0, 75.0, 200),
        random.uniform(-15.0, 65.0, 200),
        random.uniform(1.0, 50.0, 200),
    )
    psf = Moffat(2.6, 0.1, 70.0)
    large = render((150, 160), x + 50.0, y + 50.0, flux, psf)
    np.testing.assert_allclose(render((50, 60), x, y, flux, psf), large[50:100, 50:110], atol=1e-5)


def test_stamps_end_where_nothing_is_left_to_be_seen() -> None:
    psf, noise, gain = Moffat(2.5), 12.0, 1.5
    flux = np.array([50.0, 500.0, 5e4, 5e6])
    sizes = stamp_half_size(flux, psf, noise, gain)
    assert (np.diff(sizes) > 0).all()
    for value in flux:
        short, whole = (
            render((201, 201), 100.0, 100.0, value, psf, *cut).astype(float) for cut in ((noise, gain), ())
        )
        flux_noise = np.sqrt(value / gain + float(psf.noise_pixels) * noise**2)
        assert value - short.sum() < 0.1 * flux_noise + 1e-4 * value
        if value > 1e5:
            continue
        assert np.abs(whole - short).max() < 0.05 * noise


def test_nothing_gives_nothing() -> None:
    assert not render((5, 4), [], [], [], Moffat(2.5)).any()
    assert not render((5, 4), [2.0, 500.0], [2.0, 0.0], [0.0, 1.0], Moffat(2.5)).any()
    assert render((5, 4), 2.0, 2.0, 1.0, Moffat(2.5)).dtype == np.float32
