from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skylake.core.camera import FLUXES, Apertures
from skylake.core.flags import SourceFlag
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.growth_rings import fit_rings
from skylake.simulate import Moffat

APERTURES = Apertures((3.0, 5.0, 8.0), None, total_radius_px=14.0)
RADII = {"aper1": 3.0, "aper2": 5.0, "aper3": 8.0}


def corrections(measured: Any, apertures: Apertures = APERTURES, crowding: Any = None) -> Any:
    return aperture_corrections(
        measured.image,
        measured.background,
        measured.signal,
        measured.detections,
        measured.sources,
        apertures,
        crowding,
    )


def true_factors(field: Any) -> dict[str, np.ndarray]:
    """From each aperture to the total radius, star by star."""
    return {name: field.held(14.0) / field.held(radius) for name, radius in RADII.items()}


@pytest.mark.parametrize("name", RADII)
def test_corrections_of_one_profile_are_right_within_errors(fields: list[Any], name: str) -> None:
    pulls = []
    for measured in fields:
        found = corrections(measured)
        true = true_factors(measured.field)[name][0]
        assert not found.assumed and found.n_stars > 20
        assert found.error[name] < 0.01
        pulls.append((found.factor[name] - true) / np.hypot(found.error[name], 0.0005))
    assert np.abs(pulls).max() < 3.5 and abs(np.mean(pulls)) < 2.0


def test_the_stated_errors_cover_the_truth_over_many_frames(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    pulls, off = [], []
    for seed in range(16):
        measured = measure(grid_field(100 + seed, flux=(1e4, 2e5), shape=(320, 320)))
        true = true_factors(measured.field)["aper2"][0]
        off.append(corrections(measured).factor["aper2"] - true)
        # The outer wings of so many stars are part of the background; with the true one nothing is lost.
        exact = corrections(replace(measured, signal=measured.image.pixels - measured.field.sky))
        pulls.append((exact.factor["aper2"] - true) / exact.error["aper2"])
    assert abs(np.mean(pulls)) < 0.8
    assert 0.5 < np.sqrt(np.mean(np.square(pulls))) < 1.6
    assert abs(np.mean(off)) < 0.002


def test_total_flux_is_recovered_from_every_column(fields: list[Any]) -> None:
    for measured in fields:
        found, field = corrections(measured), measured.field
        index, _ = field.nearest(measured.sources.x, measured.sources.y)
        bright = field.flux > 3e4
        for name in FLUXES:
            total = measured.sources.flux[name][index] * found.factor[name] * 20.0
            ratio = (total / (field.flux * field.held(14.0)))[bright]
            noise = (measured.sources.flux_err[name][index] / measured.sources.flux[name][index])[bright]
            weight = 1.0 / np.hypot(noise, 0.003) ** 2
            error = np.hypot(1.0 / np.sqrt(weight.sum()), found.error[name] / found.factor[name])
            assert abs(np.average(ratio, weights=weight) - 1.0) < 3.5 * error + 0.002


def varying(shape: tuple[int, int], x: Any, y: Any) -> Moffat:
    """Stars that are a quarter wider in the corners than in the middle."""
    squared = ((x - shape[1] / 2) ** 2 + (y - shape[0] / 2) ** 2) / (
        (shape[0] / 2) ** 2 + (shape[1] / 2) ** 2
    )
    return Moffat(2.7 * (1.0 + 0.25 * squared))


def test_corrections_follow_a_profile_that_varies(
    grid_field: Callable[..., Any], make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    pulls, left, spread = [], [], []
    for seed in range(8):
        shape = (400, 400)
        places = grid_field(200 + seed, flux=(2e4, 3e5), shape=shape, step=30)
        psf = varying(shape, places.x, places.y)
        measured = measure(make_field(places.x, places.y, places.flux, shape, psf=psf, seed=seed))
        # The outer wings of so many stars are part of the background; with the true one nothing is lost.
        found = corrections(replace(measured, signal=measured.image.pixels - measured.field.sky))
        assert found.terms is not None
        true = true_factors(measured.field)["aper1"]
        middle = Moffat(2.7)
        centre = (
            replace(measured.field, psf=middle).held(14.0) / replace(measured.field, psf=middle).held(3.0)
        )[0]
        pulls.append((found.factor["aper1"] - centre) / found.error["aper1"])
        here = found.factor["aper1"] * found.relative(places.x, places.y)["aper1"]
        left.append(np.sqrt(np.mean((here / true - 1.0) ** 2)))
        spread.append(np.std(true / np.mean(true)))
    print("rms error of the correction and of a constant one:", np.mean(left), np.mean(spread))
    assert np.mean(left) < 0.35 * np.mean(spread) and np.mean(spread) > 0.01
    # The quarter is not quite a square of the place in the correction, so the centre is off by a per mille.
    assert abs(np.mean(pulls)) < 2.5 and np.std(pulls) < 1.6


def test_one_profile_all_over_the_field_has_one_correction(fields: list[Any]) -> None:
    for measured in fields:
        found = corrections(measured)
        assert found.terms is None
        relative = found.relative(measured.sources.x, measured.sources.y)
        assert set(relative) == set(FLUXES) and np.isnan(np.array(list(relative.values()))).all()


def test_wider_stars_need_larger_corrections(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    before = dict.fromkeys(RADII, 1.0)
    for fwhm in (2.0, 3.0, 4.0):
        found = corrections(measure(grid_field(30, flux=(3e4, 3e5), psf=Moffat(fwhm), shape=(320, 320))))
        assert found.factor["aper1"] > found.factor["aper2"] > found.factor["aper3"] > 1.0
        assert all(found.factor[name] > before[name] for name in ("aper1", "aper2"))
        before = found.factor


def test_neighbours_do_not_enlarge_the_correction(
    grid_field: Callable[..., Any], make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    places = grid_field(31, flux=(5e4, 3e5), shape=(400, 400))
    random = np.random.default_rng(31)
    angle = random.uniform(0.0, 2.0 * np.pi, places.x.size)
    some = np.arange(places.x.size) % 3 == 0
    x = np.concatenate([places.x, (places.x + 10.0 * np.cos(angle))[some]])
    y = np.concatenate([places.y, (places.y + 10.0 * np.sin(angle))[some]])
    flux = np.concatenate([places.flux, (places.flux * 0.3)[some]])
    found = corrections(measure(make_field(x, y, flux, (400, 400))))
    alone = corrections(measure(make_field(places.x, places.y, places.flux, (400, 400))))
    assert not found.assumed and found.n_stars < alone.n_stars
    assert found.factor["aper2"] == pytest.approx(alone.factor["aper2"], abs=0.01)


def test_unseen_companions_do_not_enlarge_the_correction(
    grid_field: Callable[..., Any], make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    added = []
    for seed in range(10):
        places = grid_field(60 + seed, flux=(2e4, 4e5), shape=(360, 360), step=34)
        random = np.random.default_rng(seed)
        angle, distance = (
            random.uniform(0.0, 2.0 * np.pi, places.x.size),
            random.uniform(3.2, 4.8, places.x.size),
        )
        some = random.uniform(size=places.x.size) < 0.15
        x = np.concatenate([places.x, (places.x + distance * np.cos(angle))[some]])
        y = np.concatenate([places.y, (places.y + distance * np.sin(angle))[some]])
        share = random.uniform(0.01, 0.08, places.x.size)
        flux = np.concatenate([places.flux, (share * places.flux)[some]])
        found = corrections(measure(make_field(x, y, flux, (360, 360), seed=60 + seed)))
        alone = corrections(measure(places))
        assert found.n_stars > 30 and alone.n_stars > 30
        added.append(found.factor["aper1"] / alone.factor["aper1"] - 1.0)
    # A seventh of the stars has 4.5 % more light, most of it beyond the aperture: a plain mean would keep 0.5 %.
    assert abs(np.mean(added)) < 0.0015


def test_in_crowds_neighbours_are_left_out_of_the_rings(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    y, x = (40.0 + 55.0 * values.ravel() for values in np.mgrid[:6, :6])
    angle = np.linspace(0.0, 2.0 * np.pi, 6)[:-1]
    faint_x = (x[:, None] + 12.0 * np.cos(angle)).ravel()
    faint_y = (y[:, None] + 12.0 * np.sin(angle)).ravel()
    flux = np.concatenate([np.full(x.size, 3e4), np.full(faint_x.size, 600.0)])
    places = np.concatenate([x, faint_x]), np.concatenate([y, faint_y])
    measured = measure(make_field(*places, flux, (360, 360), sky=100.0))
    found = corrections(measured)
    true = true_factors(measured.field)["aper2"][0]
    # All of them together would add eight hundredths.
    assert found.n_stars >= 10 and found.factor["aper2"] == pytest.approx(true, abs=0.02)


def test_the_total_radius_is_that_of_the_profile(fields: list[Any]) -> None:
    for radius in (9.0, 20.0):
        found = corrections(fields[0], replace(APERTURES, total_radius_px=radius))
        true = (fields[0].field.held(radius) / fields[0].field.held(3.0))[0]
        assert found.factor["aper1"] == pytest.approx(true, abs=3.0 * found.error["aper1"] + 0.0005)
    near = corrections(fields[0], replace(APERTURES, total_radius_px=9.0)).factor["aper3"]
    true = (fields[0].field.held(9.0) / fields[0].field.held(8.0))[0]
    assert near == pytest.approx(true, abs=4e-4) and true - 1.0 > 1e-3


def test_stars_crowded_by_the_catalog_are_left_out(fields: list[Any]) -> None:
    measured = fields[0]
    all_of_them = corrections(measured)
    crowding = np.where(np.arange(len(measured.sources)) % 2 == 0, 0.5, 0.0)
    half = corrections(measured, crowding=crowding)
    assert 10 <= half.n_stars < 0.7 * all_of_them.n_stars
    assert half.factor["aper2"] == pytest.approx(all_of_them.factor["aper2"], abs=0.01)


def test_too_few_stars_take_the_profile_of_their_width(
    make_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    measured = measure(make_field([60.0, 120.0], [60.0, 100.0], [1e5, 1e5], (180, 180)))
    found = corrections(measured)
    assert found.assumed and found.n_stars == 0
    for name, true in true_factors(measured.field).items():
        assert abs(found.factor[name] - true[0]) < 2.0 * found.error[name]
        assert found.error[name] >= 0.04


def test_false_stars_do_not_widen_the_fallback_profile(
    grid_field: Callable[..., Any], measure: Callable[..., Any]
) -> None:
    measured = measure(grid_field(5, flux=(2e3, 4e3), shape=(320, 320)))
    usual, sources = corrections(measured), measured.sources
    # Most detections are pieces of a trail.
    piece = np.arange(len(sources)) % 3 > 0
    fwhm = np.where(piece, 2.5 * sources.fwhm, sources.fwhm)
    flags = sources.flags | np.where(piece, np.int32(SourceFlag.STREAK), np.int32(0))
    found = corrections(replace(measured, sources=replace(sources, fwhm=fwhm, flags=flags)))
    assert usual.assumed and found.assumed
    for name in RADII:
        assert found.factor[name] == pytest.approx(usual.factor[name], rel=0.02)


def test_spoiled_stars_are_not_measured(fields: list[Any]) -> None:
    measured = fields[0]
    for flag in (SourceFlag.SATURATED, SourceFlag.EDGE, SourceFlag.BAD_PIXEL, SourceFlag.BLENDED):
        flags = np.full(len(measured.sources), int(flag), np.int32)
        assert corrections(replace(measured, sources=replace(measured.sources, flags=flags))).assumed


def test_apertures_that_a_profile_lacks_have_no_correction(
    fields: list[Any], measure: Callable[..., Any]
) -> None:
    measured = measure(fields[0].field, apertures={"radii_px": (5.0,), "flux": "aper1"})
    found = corrections(measured, Apertures((5.0,), None, total_radius_px=14.0, flux="aper1"))
    assert np.isnan([found.factor["aper2"], found.factor["aper3"], found.error["aper3"]]).all()
    assert found.factor["aper1"] == pytest.approx(corrections(fields[0]).factor["aper2"], abs=0.005)
    assert np.isfinite([found.factor["kron"], found.error["kron"]]).all()


def test_stars_that_differ_beyond_noise_still_have_a_mean() -> None:
    """As those of a frame that was trailed over many pixels."""
    random = np.random.default_rng(1)
    ratio = 0.45 + 0.3 * random.standard_exponential(81)
    noise = np.geomspace(1e-5, 1e-3, 81)
    (mean,) = fit_rings(ratio[None], noise[None], np.ones((81, 1)), (0.2, 0.4)).coefficients[:, 0]
    assert np.median(ratio) * 0.5 < mean < np.median(ratio) * 2.0


def test_a_ring_is_fitted_as_one_by_one_with_its_error() -> None:
    random = np.random.default_rng(2)
    off, stated = [], []
    for _ in range(200):
        noise = np.geomspace(0.002, 0.02, 60)
        ratio = 0.3 + random.normal(0.0, np.hypot(noise, 0.08), (2, 60))
        ratio[:, ::12] += 3.0
        fit = fit_rings(ratio, np.tile(noise, (2, 1)), np.ones((60, 1)), (0.2, 0.4))
        off += (fit.coefficients[:, 0] - 0.3).tolist()
        stated += np.sqrt((fit.influence**2).sum(axis=1)).tolist()
    assert abs(np.mean(off)) < 3.0 * np.std(off) / np.sqrt(400.0)
    assert np.std(off) == pytest.approx(np.mean(stated), rel=0.15)


def test_a_ring_that_some_stars_lack_is_that_of_the_others() -> None:
    ratio, noise = np.full((1, 20), 0.5), np.full((1, 20), 0.01)
    ratio[0, :15], noise[0, :15] = 0.0, np.inf
    fit = fit_rings(ratio, noise, np.ones((20, 1)), (0.2, 0.4))
    assert fit.coefficients[0, 0] == pytest.approx(0.5) and not fit.influence[0, :15].any()
