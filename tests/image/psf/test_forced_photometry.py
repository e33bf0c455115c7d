"""Targets on a frame: where they are measured, what they are measured to have, and what is flagged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sep

from skylake.core.camera import Camera
from skylake.core.flags import PixelFlag, SourceFlag
from skylake.core.frame import Image
from skylake.image.photometry.circle_kernels import coverage
from skylake.image.photometry.growth_curves import aperture_corrections
from skylake.image.photometry.measure_sources import Measurements
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import ForcedMeasurements, force_targets, measure_targets
from skylake.image.psf.psf_model import solve_psf
from skylake.image.psf.psf_stars import psf_of_frame, sums_of_frame
from skylake.image.psf.targets_on_frame import TargetStars, shift_to_targets, sky_to_pixels
from skylake.image.wcs.header_wcs import CatalogStars, header_pointing
from skylake.simulate import Moffat, render

Floats = npt.NDArray[np.float64]
EXPOSURE_S = 20.0
SHAPE = (512, 512)


def targets_of(ra: Floats, dec: Floats) -> TargetStars:
    return TargetStars(np.arange(len(ra)), ra, dec, ra, dec, 3)


@pytest.fixture(scope="module")
def extracted(
    make_field: Callable[..., Any],
    measure: Callable[..., Any],
    camera: Camera,
    as_image: Callable[..., Image],
) -> Callable[..., Extracted]:
    """A function that brings a field to where forced photometry begins."""

    def bring(field: Any, image: Image | None = None, **row: Any) -> Extracted:
        image = image or as_image(field.pixels)
        done = measure(field, image)
        corrections = aperture_corrections(
            image, done.background, done.signal, done.detections, done.sources, camera.apertures
        )
        cards = {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 120.0, "CRVAL2": -25.0, "CRPIX1": 256.5,
            "CRPIX2": 256.5, "CD1_1": -8.0 / 3600.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 8.0 / 3600.0,
        }  # fmt: skip
        from astropy.io import fits

        pointing = header_pointing(fits.Header(cards), camera, SHAPE, (0, 0))
        state = {"status": "ok", "night": 20240408, "mjd_mid": 60408.0} | row
        return Extracted(
            state, camera, 2.0, EXPOSURE_S, image, done.background, done.signal, done.detections, done.sources,
            corrections, pointing,
        )  # fmt: skip

    return bring


@pytest.fixture(scope="module")
def crowd(make_field: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes a crowded field."""

    def make(seed: int, n: int = 700) -> Any:
        random = np.random.default_rng(seed)
        x, y = random.uniform(0, SHAPE[1] - 1, n), random.uniform(0, SHAPE[0] - 1, n)
        return make_field(x, y, 10.0 ** (2.8 + 2.6 * random.uniform(size=n) ** 2), SHAPE, seed=seed)

    return make


@pytest.fixture(scope="module")
def model(extracted: Callable[..., Extracted], grid_field: Callable[..., Any]) -> Any:
    """The point spread function from other frames than those that are measured."""
    sums = [sums_of_frame(extracted(grid_field(seed))) for seed in (31, 32)]
    assert sums[0] is not None
    assert sums[1] is not None
    return solve_psf(sums[0] + sums[1])


def at_truth(one: Extracted, field: Any, model: Any) -> ForcedMeasurements:
    nothing = np.zeros(len(field.x))
    return measure_targets(one, targets_of(nothing, nothing), field.x, field.y, psf_of_frame(model, one))


def total(field: Any) -> Floats:
    """True flux within the total radius of 14 px, ADU/s."""
    return np.asarray(field.flux * field.held(14.0) / EXPOSURE_S)


@pytest.mark.parametrize("radius", [2.0, 3.0, 5.0, 8.0])
def test_an_aperture_has_the_area_of_its_circle_wherever_it_is(radius: float) -> None:
    random = np.random.default_rng(1)
    areas = []
    for _ in range(40):
        x, y = random.uniform(-0.5, 0.5, 2)
        span = range(-10, 11)
        areas.append(sum(coverage(column - x, row - y, radius) for row in span for column in span))
    assert np.array(areas) == pytest.approx(np.pi * radius**2, rel=5e-3)
    assert np.mean(areas) == pytest.approx(np.pi * radius**2, rel=5e-4)


def test_plain_apertures_are_those_of_sep(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    field = grid_field(41)
    one = extracted(field)
    found = at_truth(one, field, model)
    for number, radius in enumerate(one.camera.apertures.radii_px, 1):
        wanted, error, _ = sep.sum_circle(
            one.signal, field.x, field.y, radius, err=one.background.rms, gain=2.0, subpix=0
        )
        sky = found.sky - one.background.level[np.rint(field.y).astype(int), np.rint(field.x).astype(int)]
        mine = found.flux[f"aper{number}"] * EXPOSURE_S + sky * np.pi * radius**2
        assert np.abs((mine - wanted) / error).max() < 0.4
        assert np.median(found.flux_err[f"aper{number}"] * EXPOSURE_S / error) == pytest.approx(1.0, abs=0.06)


def pulls_of(
    found: ForcedMeasurements | Measurements, one: Extracted, true: Floats, names: tuple[str, ...]
) -> dict[str, Floats]:
    """Total fluxes minus true ones, in units of their errors and that of the aperture correction of the frame."""
    pulls = {}
    for name in names:
        factor, error = 1.0, 0.0
        if name != "psf":
            aperture = f"aper{name[-1]}"
            relative = one.corrections.relative(found.x, found.y)[aperture]
            factor = one.corrections.factor[aperture] * np.where(np.isnan(relative), 1.0, relative)
            error = one.corrections.error[aperture] * np.abs(found.flux[name])
        pulls[name] = (found.flux[name] * factor - true) / np.hypot(found.flux_err[name] * factor, error)
    return pulls


def half_width(values: Floats) -> float:
    """Half of the range that holds the middle 68 %."""
    low, high = np.percentile(values, [15.865, 84.135])
    return float(0.5 * (high - low))


def test_fluxes_of_lonely_stars_are_right_within_their_errors(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    names = ("psf", "hybrid1", "hybrid2", "hybrid3")
    pulls: dict[str, list[Floats]] = {name: [] for name in names}
    bright = []
    for seed in range(42, 54):
        field = grid_field(seed, flux=(400.0, 2e5))
        one = extracted(field)
        found = at_truth(one, field, model)
        for name, values in pulls_of(found, one, total(field), names).items():
            pulls[name].append(values)
        bright.append(field.flux > 3e4)
    for name, parts in pulls.items():
        together = np.concatenate(parts)
        assert abs(np.median(together)) < 0.15, name
        assert 0.9 < half_width(together) < 1.1, name
        assert 0.85 < half_width(together[np.concatenate(bright)]) < 1.15, name


def test_stars_that_widen_outwards_keep_their_fitted_flux(
    extracted: Callable[..., Extracted], make_field: Callable[..., Any]
) -> None:
    def widening(seed: int) -> Any:
        random = np.random.default_rng(seed)
        y, x = np.mgrid[30 : SHAPE[0] - 30 : 34, 30 : SHAPE[1] - 30 : 34].reshape(2, -1)
        x, y = (values + random.uniform(-3.0, 3.0, x.size) for values in (x, y))
        square = ((x - 255.5) ** 2 + (y - 255.5) ** 2) / (2.0 * 255.5**2)
        flux = np.exp(random.uniform(*np.log([3e4, 3e5]), x.size))
        return make_field(x, y, flux, SHAPE, Moffat(2.7 * (1.0 + 0.35 * square)), seed=seed)

    sums = [sums_of_frame(extracted(widening(seed))) for seed in (71, 72, 73)]
    model = solve_psf(sum((one for one in sums[1:] if one is not None), start=sums[0]))
    ratios, pulls, radii = [], [], []
    for seed in (74, 75, 76):
        field = widening(seed)
        one = extracted(field)
        assert one.corrections.terms is not None
        found = at_truth(one, field, model)
        ratios.append(found.flux["psf"] / total(field))
        pulls.append(pulls_of(found, one, total(field), ("psf",))["psf"])
        radii.append(np.hypot(field.x - 255.5, field.y - 255.5))
        assert np.median(found.flux_err["psf"] / found.flux["psf"]) < 0.007
    ratio, radius = np.concatenate(ratios), np.concatenate(radii)
    for some in radius < 130.0, radius > 260.0:
        assert np.median(ratio[some]) == pytest.approx(1.0, abs=0.003)
    assert 0.8 < half_width(np.concatenate(pulls)) < 1.25


def test_the_place_within_a_pixel_does_not_change_the_flux(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    fields = [grid_field(seed, flux=(3e8, 3e8)) for seed in (61, 62)]
    scatter: dict[str, list[float]] = {"hybrid1": [], "aper1": []}
    for field in fields:
        found = at_truth(extracted(field), field, model)
        for name, values in scatter.items():
            values.append(float(np.std(found.flux[name]) / np.mean(found.flux[name])))
    assert min(scatter["aper1"]) > 8e-4
    assert max(scatter["hybrid1"]) < 0.35 * min(scatter["aper1"])


def behind_a_vignette(field: Any, seed: int) -> Image:
    """The field behind a flat of 1 in the middle and 0.25 in the corners, divided by it, with its variance."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    flat = 1.0 - 0.75 * (np.hypot(x - 255.5, y - 255.5) / 361.4) ** 2
    random = np.random.default_rng(seed)
    light = render(SHAPE, field.x, field.y, field.flux, field.psf) + field.sky
    counts = (random.poisson(light * flat * 2.0) + random.normal(0.0, 6.0, SHAPE)) / 2.0
    variance = (np.maximum(counts, 0.0) / 2.0 + 3.0**2) / flat**2
    none = np.zeros(SHAPE, np.uint8)
    return Image((counts / flat).astype(np.float32), none, (0, 0), variance.astype(np.float32))


@pytest.mark.parametrize("what", ["forced", "sources"])
def test_errors_are_those_of_the_variance_of_each_pixel(
    what: str, extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    names = ("psf", "hybrid1", "hybrid2") if what == "forced" else ("aper1", "aper2")
    pulls: dict[str, list[Floats]] = {name: [] for name in names}
    places = []
    for seed in range(70, 84):
        field = grid_field(seed, flux=(3e3, 5e4))
        one = extracted(field, behind_a_vignette(field, seed))
        if what == "forced":
            found = at_truth(one, field, model)
            values, x, y = pulls_of(found, one, total(field), names), field.x, field.y
        else:
            star, distance = field.nearest(one.measured.x, one.measured.y)
            seen = distance < 1.0
            sources, true = one.measured.ordered(star[seen]), total(field)[seen]
            values, x, y = pulls_of(sources, one, true, names), field.x[seen], field.y[seen]
        for name in names:
            pulls[name].append(values[name])
        places.append(np.hypot(x - 255.5, y - 255.5))
    radius = np.concatenate(places)
    for name, parts in pulls.items():
        together = np.concatenate(parts)
        for where in (radius < 140.0, radius > 250.0):
            assert abs(np.median(together[where])) < 0.25, name
            assert 0.88 < half_width(together[where]) < 1.12, name


def test_neighbours_do_not_raise_a_flux(
    extracted: Callable[..., Extracted], crowd: Callable[..., Any], model: Any
) -> None:
    off: dict[str, list[Floats]] = {"psf": [], "hybrid1": [], "aper1": []}
    for seed in (51, 52):
        field = crowd(seed)
        one = extracted(field)
        found = at_truth(one, field, model)
        near = found.contamination > 0.3
        chosen = near & (found.edge_distance > 15) & (found.flux["psf"] > 8 * found.flux_err["psf"])
        assert chosen.sum() > 20
        for name, values in off.items():
            factor = 1.0 if name == "psf" else one.corrections.factor["aper1"]
            values.append((found.flux[name] * factor / total(field))[chosen] - 1.0)
    bias = {name: np.median(np.concatenate(values)) for name, values in off.items()}
    assert bias["aper1"] > 0.2
    assert abs(bias["psf"]) < 0.03
    assert abs(bias["hybrid1"]) < 0.03


def test_nothing_is_measured_where_nothing_is(
    extracted: Callable[..., Extracted], crowd: Callable[..., Any], model: Any
) -> None:
    field = crowd(53, 300)
    one = extracted(field)
    random = np.random.default_rng(3)
    x = np.concatenate([field.x, random.uniform(20, 490, 400)])
    y = np.concatenate([field.y, random.uniform(20, 490, 400)])
    nothing = np.zeros(len(x))
    found = measure_targets(one, targets_of(nothing, nothing), x, y, psf_of_frame(model, one))
    alone = np.arange(len(x)) >= 300
    alone &= (found.contamination < 5.0) & ((found.flags & int(SourceFlag.BLENDED)) == 0)
    pull = (found.flux["psf"] / found.flux_err["psf"])[alone]
    assert np.isfinite(pull).all()
    assert (pull < 0).mean() > 0.3
    assert abs(np.median(pull)) < 0.3


def test_targets_are_found_beside_where_the_wcs_puts_them(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    field = grid_field(45)
    one = extracted(field)
    ra, dec = one.pointing.to_sky(field.x - 0.8, field.y + 1.1)
    found = force_targets(one, lambda *_: targets_of(ra, dec), model)
    assert found is not None
    assert len(found) == len(field.x)
    order = np.argsort(found.star_id)
    assert found.x[order] == pytest.approx(field.x, abs=0.02)
    assert found.y[order] == pytest.approx(field.y, abs=0.02)
    assert found.targets_version == 3


def test_targets_outside_the_frame_are_left_out(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    field = grid_field(46)
    one = extracted(field)
    more = np.array([[-20.0, 100.0], [100.0, 530.0], [5000.0, 5000.0]])
    ra, dec = one.pointing.to_sky(
        np.concatenate([field.x, more[:, 0]]), np.concatenate([field.y, more[:, 1]])
    )
    found = force_targets(one, lambda *_: targets_of(ra, dec), model)
    assert found is not None
    assert sorted(found.star_id) == list(range(len(field.x)))


def test_a_frame_that_does_not_show_the_targets_is_not_measured(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    field = grid_field(47)
    one = extracted(field)
    random = np.random.default_rng(4)
    ra, dec = one.pointing.to_sky(*random.uniform(20, 490, (2, 60)))
    assert force_targets(one, lambda *_: targets_of(ra, dec), model) is None
    nothing = np.zeros(0)
    assert force_targets(one, lambda *_: targets_of(nothing, nothing), model) is None


def test_pixels_and_sky_are_inverse(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any]
) -> None:
    one = extracted(grid_field(48))
    x, y = np.random.default_rng(5).uniform(-20, 530, (2, 50))
    back = sky_to_pixels(one.pointing, *one.pointing.to_sky(x, y))
    assert back[0] == pytest.approx(x, abs=1e-6)
    assert back[1] == pytest.approx(y, abs=1e-6)
    far = sky_to_pixels(one.pointing, np.array([300.0]), np.array([25.0]))
    assert np.isnan(far).all()


def test_a_shift_is_found_with_many_targets_that_are_not_seen(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any]
) -> None:
    field = grid_field(49)
    one = extracted(field)
    random = np.random.default_rng(6)
    x = np.concatenate([field.x, random.uniform(0, 511, 800)])
    y = np.concatenate([field.y, random.uniform(0, 511, 800)])
    found = shift_to_targets(x - 1.3, y + 0.4, one.measured)
    assert found is not None
    assert found[:2] == pytest.approx((1.3, -0.4), abs=0.05)


def beside(field: Any, count: int, seed: int) -> tuple[Floats, Floats]:
    """Places three pixels from stars, at which nothing is detected and a stranger is near."""
    random = np.random.default_rng(seed)
    chosen = random.choice(len(field.x), count, replace=False)
    angle = random.uniform(0.0, 2.0 * np.pi, count)
    return field.x[chosen] + 3.0 * np.cos(angle), field.y[chosen] + 3.0 * np.sin(angle)


@pytest.mark.parametrize("count", [1, 2, 4, 20])
def test_undetected_targets_are_where_the_catalog_shifts_them(
    count: int, extracted: Callable[..., Extracted], crowd: Callable[..., Any], model: Any
) -> None:
    field = crowd(57)
    x, y = beside(field, count, 7)
    one = extracted(field)
    stars = CatalogStars(*one.pointing.to_sky(field.x - 0.8, field.y + 1.1), -2.5 * np.log10(field.flux))
    ra, dec = one.pointing.to_sky(x - 0.8, y + 1.1)
    found = force_targets(replace(one, stars=stars), lambda *_: targets_of(ra, dec), model)
    assert found is not None
    order = np.argsort(found.star_id)
    assert found.x[order] == pytest.approx(x, abs=0.1)
    assert found.y[order] == pytest.approx(y, abs=0.1)
    assert found.shift_px == pytest.approx((0.8, -1.1), abs=0.1)


def test_few_targets_without_a_catalog_never_meet_strangers(
    extracted: Callable[..., Extracted], crowd: Callable[..., Any], model: Any
) -> None:
    field = crowd(58)
    one = extracted(field)
    for seed in range(10):
        x, y = beside(field, 1, seed)
        ra, dec = one.pointing.to_sky(x, y)
        found = force_targets(one, lambda *_, ra=ra, dec=dec: targets_of(ra, dec), None)
        assert found is not None
        assert (found.x[0], found.y[0]) == pytest.approx((x[0], y[0]), abs=1e-3)
        assert np.isnan(found.shift_px).all(), "the WCS alone puts it there"


def test_few_detected_targets_give_the_shift_beyond_chance(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    field = grid_field(59)
    one = extracted(field)
    chosen = np.argsort(-field.flux)[5:8]
    ra, dec = one.pointing.to_sky(field.x[chosen] - 0.8, field.y[chosen] + 1.1)
    found = force_targets(one, lambda *_: targets_of(ra, dec), model)
    assert found is not None
    assert found.shift_px == pytest.approx((0.8, -1.1), abs=0.05)


def test_saturated_and_bad_pixels_are_flagged_and_filled(
    extracted: Callable[..., Extracted],
    grid_field: Callable[..., Any],
    as_image: Callable[..., Image],
    model: Any,
) -> None:
    field = grid_field(50)
    brightest, other = np.argsort(-field.flux)[[0, 20]]
    pixels = field.pixels.copy()
    image = as_image(pixels, saturation=float(pixels[round(field.y[brightest]), round(field.x[brightest])]))
    column, row = round(field.x[other]) + 1, round(field.y[other])
    image.pixels[row, column] = 1e5
    image.mask[row, column] |= np.uint8(PixelFlag.HOT)
    one = extracted(field, image)
    found = at_truth(one, field, model)
    assert found.flags[brightest] & int(SourceFlag.SATURATED)
    assert found.flags[other] & int(SourceFlag.BAD_PIXEL)
    assert found.n_bad[other] == 1
    truth = total(field)
    for name, factor in (("psf", 1.0), ("hybrid1", one.corrections.factor["aper1"])):
        assert found.flux[name][other] * factor == pytest.approx(truth[other], rel=0.03)
    clean = (found.flags == 0).mean()
    assert clean > 0.7


def test_targets_on_a_rejected_frame_are_measured_and_flagged(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any], model: Any
) -> None:
    field = grid_field(54)
    good, bad = extracted(field), extracted(field, status="rejected")
    bad.measured.flags[:] |= SourceFlag.FRAME_REJECTED
    ra, dec = good.pointing.to_sky(field.x - 0.8, field.y + 1.1)
    wanted, found = (force_targets(one, lambda *_: targets_of(ra, dec), model) for one in (good, bad))
    assert wanted is not None
    assert found is not None
    assert (found.flags == wanted.flags | int(SourceFlag.FRAME_REJECTED)).all()
    assert found.star_id.tolist() == wanted.star_id.tolist()
    for name, values in wanted.flux.items():
        assert found.flux[name] == pytest.approx(values, rel=1e-6), name
        assert found.flux_err[name] == pytest.approx(wanted.flux_err[name], rel=1e-6), name
    assert sums_of_frame(bad) is None, "the form of a night is that of its good frames"


def test_without_a_model_a_profile_of_the_frame_width_is_used(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any]
) -> None:
    field = grid_field(55)
    one = extracted(field)
    psf = psf_of_frame(None, one)
    assert psf.fwhm_px == pytest.approx(3.1, abs=0.25)
    found = at_truth(one, field, None)
    bright = field.flux > 3e4
    assert np.median(found.flux["psf"][bright] / total(field)[bright]) == pytest.approx(1.0, abs=0.03)


def test_a_frame_without_lonely_stars_says_nothing_of_the_form(
    extracted: Callable[..., Extracted], grid_field: Callable[..., Any]
) -> None:
    one = extracted(grid_field(56))
    measured = one.measured.ordered(np.arange(3))
    assert sums_of_frame(replace(one, measured=measured)) is None
