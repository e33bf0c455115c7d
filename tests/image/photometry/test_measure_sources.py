from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from skylake.core.flags import SourceFlag
from skylake.simulate import Moffat

GAIN, READ_NOISE_E, EXPOSURE_S = 2.0, 6.0, 20.0
RADII = {"aper1": 3.0, "aper2": 5.0, "aper3": 8.0}


def together(fields: list[Any], value: Callable[[Any, Any], Any]) -> Any:
    """A value of all stars of all fields, given the field and which source each star is."""
    parts = []
    for measured in fields:
        index, distance = measured.field.nearest(measured.sources.x, measured.sources.y)
        assert distance.max() < 1.0
        parts.append(value(measured, index))
    return np.concatenate(parts)


def pulls_are_normal(pulls: np.ndarray, bias: float = 0.2, width: tuple[float, float] = (0.88, 1.12)) -> bool:
    # No tail: what is beyond four standard deviations is a mistake.
    found = float(np.mean(pulls)), float(np.std(pulls)), float(np.abs(pulls).max())
    print("mean, width and largest of the pulls:", found)
    return abs(found[0]) < bias and width[0] < found[1] < width[1] and found[2] < 4.5


@pytest.mark.parametrize("name", RADII)
def test_aperture_fluxes_are_unbiased_with_honest_errors(fields: list[Any], name: str) -> None:
    def pull(measured: Any, index: Any) -> Any:
        true = measured.field.flux * measured.field.held(RADII[name]) / EXPOSURE_S
        return (measured.sources.flux[name][index] - true) / measured.sources.flux_err[name][index]

    assert pulls_are_normal(together(fields, pull))


@pytest.mark.parametrize("name", RADII)
def test_errors_are_those_of_sky_reading_and_photons(fields: list[Any], name: str) -> None:
    def ratio(measured: Any, index: Any) -> Any:
        flux = measured.sources.flux[name][index] * EXPOSURE_S
        # A pixel that is cut counts with the square of its part: two points in a pixel are 0.5214 apart on
        # average, and so much of the circle's outline is what its overlap with itself lacks.
        squares = np.pi * RADII[name] ** 2 - 2.0 * 0.5214 * RADII[name]
        variance = squares * measured.field.sky_noise**2 + flux / GAIN
        return measured.sources.flux_err[name][index] * EXPOSURE_S / np.sqrt(variance)

    ratios = together(fields, ratio)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.02)
    np.testing.assert_allclose(ratios, 1.0, atol=0.06)


def test_the_kron_flux_holds_nearly_the_whole_star(fields: list[Any]) -> None:
    def pull(measured: Any, index: Any) -> Any:
        sources = measured.sources
        share = sources.flux["kron"][index] * EXPOSURE_S / measured.field.flux
        return np.column_stack([share, sources.flux_err["kron"][index] * EXPOSURE_S / measured.field.flux])

    share, error = together(fields, pull).T
    photons = 1.0 / np.sqrt(GAIN * share * np.concatenate([measured.field.flux for measured in fields]))
    assert (error > photons).all()
    bright = error < 0.02
    assert bright.sum() > 200
    assert 0.94 < np.median(share[bright]) < 1.0
    # The size of the ellipse is measured too, so a little more scatter than the errors is right.
    scatter = (share[bright] - np.median(share[bright])) / np.hypot(error[bright], 0.01)
    assert np.std(scatter) < 1.3


def test_centroids_are_right_to_their_errors(fields: list[Any]) -> None:
    def offsets(measured: Any, index: Any) -> Any:
        sources, field = measured.sources, measured.field
        return np.column_stack(
            [
                sources.x[index] - field.x,
                sources.y[index] - field.y,
                sources.x_err[index],
                sources.y_err[index],
            ]
        )

    dx, dy, x_err, y_err = together(fields, offsets).T
    for offset, error in ((dx, x_err), (dy, y_err)):
        assert abs(np.mean(offset / np.hypot(error, 0.02))) < 0.2
        assert 0.6 < np.std(offset / error) < 1.4
        assert np.abs(offset[error < 0.005]).max() < 0.02
        assert (np.abs(offset) < 5.0 * np.hypot(error, 0.005)).all()


def test_centroids_do_not_prefer_a_part_of_a_pixel(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    phase = np.linspace(-0.5, 0.5, 11)
    y, x = (
        values.ravel() for values in np.meshgrid(40.0 + 40.0 * np.arange(11), 40.0 + 40.0 * np.arange(11))
    )
    x = x + np.repeat(phase, 11)
    measured = measure(make_field(x, y, np.full(x.size, 4e5), psf=Moffat(2.2)))
    index, _ = measured.field.nearest(measured.sources.x, measured.sources.y)
    by_phase = (measured.sources.x[index] - x).reshape(11, 11).mean(axis=1)
    assert np.abs(by_phase).max() < 0.02


@pytest.mark.parametrize("fwhm", [2.0, 3.0, 4.5, 6.0])
def test_the_width_of_stars_is_their_width(
    grid_field: Callable[..., Any], measure: Callable[..., Any], fwhm: float
) -> None:
    measured = measure(grid_field(4, flux=(3e4, 3e5), psf=Moffat(fwhm), shape=(320, 320)))
    index, _ = measured.field.nearest(measured.sources.x, measured.sources.y)
    widths = measured.sources.fwhm[index]
    assert np.median(widths) == pytest.approx(fwhm, rel=0.05)
    assert np.isfinite(widths).all() and np.std(widths) < 0.1 * fwhm


def test_shape_and_direction_of_elongated_stars(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    for angle in (0.0, 30.0, -60.0):
        psf = Moffat(4.0, 0.3, angle)
        measured = measure(grid_field(5, flux=(1e5, 3e5), psf=psf, shape=(320, 320)))
        index, _ = measured.field.nearest(measured.sources.x, measured.sources.y)
        sources = measured.sources
        assert np.median(sources.b[index] / sources.a[index]) == pytest.approx(0.7, abs=0.05)
        away = (sources.theta[index] - angle + 90.0) % 180.0 - 90.0
        assert abs(np.median(away)) < 2.0


def test_the_sky_of_each_star_is_the_sky_behind_it(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    yy, xx = np.mgrid[:512, :512]
    sky = 300.0 + 0.2 * xx + 0.1 * yy
    for annulus in (None, (15.0, 19.0)):
        measured = measure(grid_field(6, sky=sky), apertures={"sky_annulus_px": annulus})
        field, sources = measured.field, measured.sources
        index, _ = field.nearest(sources.x, sources.y)
        behind = 300.0 + 0.2 * field.x + 0.1 * field.y
        middle = field.flux < 3e4
        assert np.abs(np.median((sources.sky[index] - behind)[middle])) < 1.0
        # The noise of the sky follows its level.
        expected = np.sqrt(behind / GAIN + (READ_NOISE_E / GAIN) ** 2)
        np.testing.assert_allclose(sources.sky_rms[index], expected, rtol=0.12)


@pytest.mark.parametrize("name", ["aper2", "kron"])
def test_a_local_sky_repairs_a_background_that_is_too_coarse(
    grid_field: Callable[..., Any], measure: Callable[..., Any], name: str
) -> None:
    yy, xx = np.mgrid[:512, :512]
    waves = 300.0 + 15.0 * np.sin(xx / 18.0) * np.sin(yy / 18.0)
    field = grid_field(8, flux=(1e4, 3e4), sky=waves)
    off = {}
    for annulus in (None, (9.0, 13.0)):
        # A threshold above the waves, whichever engine.
        high = {"threshold_sigma": 5.0, "peak_sigma": 12.0}
        measured = measure(field, apertures={"sky_annulus_px": annulus}, extraction=high)
        index, _ = field.nearest(measured.sources.x, measured.sources.y)
        true = field.flux * field.held(5.0) / EXPOSURE_S
        off[annulus] = np.std(measured.sources.flux[name][index] / true - 1.0)
        known = ~np.isnan(measured.sources.flux_err[name][index])
        assert known.all()
    assert off[(9.0, 13.0)] < 0.6 * off[None]


def test_the_error_of_the_local_sky_is_in_that_of_the_flux(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    pulls = []
    for seed in (11, 12):
        measured = measure(grid_field(seed, flux=(3e3, 3e4)), apertures={"sky_annulus_px": (12.0, 14.0)})
        field, sources = measured.field, measured.sources
        index, _ = field.nearest(sources.x, sources.y)
        # What is left of the star in the annulus is taken off with the sky.
        lost = (field.held(14.0) - field.held(12.0)) / (14.0**2 - 12.0**2) * 8.0**2
        true = field.flux * (field.held(8.0) - lost) / EXPOSURE_S
        pulls.append((sources.flux["aper3"][index] - true) / sources.flux_err["aper3"][index])
    assert pulls_are_normal(np.concatenate(pulls), bias=0.25)


def test_a_star_without_clean_sky_around_it_says_so(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    x, y = np.array([60.0, 200.0]), np.array([60.0, 128.0])
    ring = np.linspace(0.0, 2.0 * np.pi, 13)[:-1]
    x = np.concatenate([x, 200.0 + 14.0 * np.cos(ring)])
    y = np.concatenate([y, 128.0 + 14.0 * np.sin(ring)])
    flux = np.full(x.size, 5e4)
    measured = measure(make_field(x, y, flux, (256, 256)), apertures={"sky_annulus_px": (12.0, 16.0)})
    index, _ = measured.field.nearest(measured.sources.x, measured.sources.y)
    failed = (measured.sources.flags[index] & SourceFlag.LOCAL_SKY_FAILED) != 0
    assert not failed[0] and failed[1]


def test_sources_come_in_the_order_of_rows(fields: list[Any]) -> None:
    for measured in fields:
        sources, found = measured.sources, measured.detections
        assert (np.diff(sources.y) >= 0).all()
        np.testing.assert_array_equal(np.sort(sources.number), np.arange(len(found)))
        np.testing.assert_array_equal(sources.n_pixels, found.n_pixels[sources.number])
        np.testing.assert_array_equal(sources.flux_max, found.peak[sources.number])
        assert np.hypot(sources.x - found.x[sources.number], sources.y - found.y[sources.number]).max() < 2.0
        column, row = np.rint(sources.x).astype(int), np.rint(sources.y).astype(int)
        owner = measured.detections.segments[row, column]
        assert np.mean(owner == sources.number + 1) > 0.98


def test_apertures_that_a_profile_lacks_are_nan(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    field = grid_field(1)
    sources = measure(field, apertures={"radii_px": (5.0,), "flux": "aper1"}).sources
    assert np.isnan(sources.flux["aper2"]).all() and np.isnan(sources.flux_err["aper3"]).all()
    np.testing.assert_allclose(sources.flux["aper1"], measure(field).sources.flux["aper2"])


def test_stars_with_a_saturated_pixel_are_flagged_and_no_others(
    grid_field: Callable[..., Any], measure: Callable[..., Any], as_image: Callable[..., Any]
) -> None:
    field = grid_field(9)
    measured = measure(field, as_image(field.pixels, saturation=8000.0, linearity=5000.0))
    sources = measured.sources
    index, _ = field.nearest(sources.x, sources.y)
    column, row = np.rint(field.x).astype(int), np.rint(field.y).astype(int)
    peak = np.array(
        [field.pixels[r - 2 : r + 3, c - 2 : c + 3].max() for r, c in zip(row, column, strict=True)]
    )
    for bit, level in ((SourceFlag.SATURATED, 8000.0), (SourceFlag.NEAR_SATURATED, 5000.0)):
        np.testing.assert_array_equal((sources.flags[index] & bit) != 0, peak >= level)
        assert 10 < np.count_nonzero(peak >= level) < 0.8 * peak.size


def test_stars_near_the_edge_are_flagged(make_field: Callable[..., Any], measure: Callable[..., Any]) -> None:
    x = np.array([4.0, 9.0, 11.5, 60.0, 128.0, 200.0, 245.0, 253.0])
    y = np.array([30.0, 80.0, 110.0, 4.0, 128.0, 247.0, 60.0, 200.0])
    measured = measure(make_field(x, y, np.full(8, 1e5), (256, 256)))
    sources = measured.sources
    index, distance = measured.field.nearest(sources.x, sources.y)
    assert distance.max() < 0.5
    true = np.minimum.reduce([x, 255 - x, y, 255 - y]) + 0.5
    # The centroid of a star that the edge cuts moves inwards.
    np.testing.assert_allclose(sources.edge_distance[index], true, atol=0.5)
    np.testing.assert_allclose(sources.edge_distance[index][true > 4.0], true[true > 4.0], atol=0.1)
    np.testing.assert_array_equal((sources.flags[index] & SourceFlag.EDGE) != 0, true < 10.0)


def test_stars_with_a_bad_pixel_in_an_aperture_are_flagged(
    make_field: Callable[..., Any], measure: Callable[..., Any], as_image: Callable[..., Any]
) -> None:
    x, y = np.array([40.0, 100.0, 160.0, 220.0]), np.full(4, 128.0)
    field = make_field(x, y, np.full(4, 1e5), (256, 256))
    pixels = field.pixels.copy()
    pixels[128, 40], pixels[128, 107], pixels[128, 170] = np.nan, np.nan, np.nan
    sources = measure(field, as_image(pixels)).sources
    index, _ = field.nearest(sources.x, sources.y)
    assert ((sources.flags[index] & SourceFlag.BAD_PIXEL) != 0).tolist() == [True, True, False, False]


def test_close_pairs_are_blended_and_know_their_crowding(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    x = np.array([60.0, 66.0, 128.0, 200.0, 212.0])
    y = np.array([60.0, 60.0, 150.0, 200.0, 200.0])
    flux = np.array([1e5, 5e4, 1e5, 1e5, 1e5])
    measured = measure(make_field(x, y, flux, (256, 256)))
    sources = measured.sources
    index, distance = measured.field.nearest(sources.x, sources.y)
    assert distance.max() < 0.5
    blended = (sources.flags[index] & SourceFlag.BLENDED) != 0
    assert blended[0] and blended[1] and not blended[2]
    crowding = sources.crowding[index]
    assert crowding[1] > 3.0 * crowding[0] > 0.1 and crowding[2] == 0.0
    assert crowding[0] * crowding[1] == pytest.approx((1.0 - 1.0 / 6.0) ** 2 / 4.0, rel=1.0)


def test_flux_is_per_second(fields: list[Any]) -> None:
    from skylake.core.camera import Apertures, Camera, Extraction
    from skylake.image.photometry.measure_sources import measure_sources

    one = fields[0]
    here = Camera(
        "lab", apertures=Apertures((3.0, 5.0, 8.0), None, total_radius_px=14.0), extraction=Extraction()
    )
    args = (one.image, one.background, one.signal, one.detections, here, GAIN)
    short, long = measure_sources(*args, 10.0), measure_sources(*args, 40.0)
    for name in (*RADII, "kron"):
        np.testing.assert_allclose(short.flux[name], 4.0 * long.flux[name])
        np.testing.assert_allclose(short.flux_err[name], 4.0 * long.flux_err[name])
    np.testing.assert_array_equal(short.x, long.x)
