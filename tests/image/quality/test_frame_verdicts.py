"""A verdict for each way in which a frame can be bad, with its value, and none for a good frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from scipy.signal import fftconvolve

from skylake.cameras import Profile
from skylake.core.camera import Camera, ClearSky, Gate, ReductionSteps
from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.frame import FileContent
from skylake.core.frame_step import with_part
from skylake.core.reasons import Reason
from skylake.errors import FrameRejected
from skylake.image.quality.cloud_cover import ExpectedStars, count_found
from skylake.image.quality.frame_verdicts import apply_gates, empty_frame
from skylake.image.reduction.frame_record import ReducedFrame, ReduceParams
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.image.solving.located_frame import Reference
from skylake.image.wcs.header_wcs import CatalogStars, Pointing, header_pointing
from skylake.simulate import Moffat

#: In the order of causes and what follows from them.
GATES = {
    "sun_altitude_deg": Gate(max=-9.0),
    "sky_saturation": Gate(max=0.5),
    "fwhm_px": Gate(max=8.0),
    "mean_ellipticity": Gate(max=0.3),
    "found_fraction": Gate(min=0.3),
    "n_sources": Gate(min=40),
}
SHAPE = (384, 384)
Take = Callable[..., ReducedFrame]


@pytest.fixture(scope="module")
def take(
    make_field: Callable[..., Any],
    fits_bytes: Callable[..., bytes],
    content_of: Callable[..., FileContent],
    camera: Camera,
) -> Take:
    """A function that takes a frame of one field under some conditions and reduces it."""
    random = np.random.default_rng(5)
    x, y = random.uniform(15.0, SHAPE[0] - 15.0, (2, 150))
    flux = np.geomspace(3e3, 1e5, 150)
    here = replace(camera, gates=GATES, detector=replace(camera.detector, saturation_adu=60000.0))
    profile = Profile(here, (), "lab.toml")

    def reduced(
        pixels: Any, find_stars: Any = None, filters: Any = None, gates: Any = GATES, **cards: Any
    ) -> ReducedFrame:
        used = profile if filters is None else Profile(replace(here, filters=filters), (), "lab.toml")
        used = replace(used, base=replace(used.base, gates=gates))
        params = ReduceParams(None if find_stars is None else Reference(find_stars))
        return reduce_frame(content_of(fits_bytes(pixels, False, **cards)), used, params)

    clear = reduced(make_field(x, y, flux, SHAPE).pixels)
    bright = np.argsort(-clear.sources.flux["aper2"])
    magnitude = -2.5 * np.log10(clear.sources.flux["aper2"][bright])
    stars = CatalogStars(clear.ra_deg[bright], clear.dec_deg[bright], magnitude)

    def go(
        transparency: Any = 1.0, sky: float = 300.0, psf: Any = None, change: Any = None, seed: int = 2, **cards: Any
    ) -> ReducedFrame:  # fmt: skip
        share = transparency(x, y) if callable(transparency) else transparency
        pixels = make_field(x, y, flux * share, SHAPE, psf=psf, sky=sky, seed=seed).pixels
        return reduced(pixels if change is None else change(pixels), lambda *_: stars, **cards)

    return go


def verdict(frame: ReducedFrame) -> tuple[str, str | None]:
    return frame.row["status"], frame.row.get("reason")


@pytest.mark.parametrize(
    ("sky_adu", "steps", "said"),
    [
        (-18578.0, ("bias", "dark"), True), (-20.0, ("bias", "dark"), False), (-18578.0, ("trim",), False),
        (300.0, ("bias", "dark"), False),
    ],
)  # fmt: skip
def test_a_sky_far_below_zero_is_reported_as_what_it_is(
    camera: Camera, sky_adu: float, steps: Any, said: bool
) -> None:
    """A dark that was scaled to an exposure in the wrong unit leaves no sources, which clouds do as well."""
    here = replace(camera, gates={"n_sources": Gate(min=40)}, reduction=ReductionSteps(steps))
    row: dict[str, Any] = {
        "flags": 0,
        "status": "ok",
        "sky_adu": sky_adu,
        "sky_rms_adu": 900.0 if sky_adu < -100 else 9.0,
    }
    many = row | {"n_sources": 0}
    many = with_part(many, apply_gates(many, here))
    assert many["reason"] == "too_few_sources"
    why = empty_frame(row, here, None, None, FrameRejected(Reason.NO_SOURCES, "no source")).error
    assert why.reason == "no_sources"
    for message in (many["message"], str(why)):
        assert ("the bias or dark is wrong, or the exposure of the frame" in message) == said, message


@pytest.mark.parametrize(
    ("level", "steps", "told"),
    [
        (-700.0, ("bias",), "its sky is at -700 ADU, so the bias is wrong"),
        (-700.0, ("overscan", "trim"), "its sky is at -700 ADU, so the overscan is wrong"),
        (-700.0, (), None),
        (-15.0, ("bias", "dark"), None),
        (0.4, ("bias", "dark"), None),
    ],
)
def test_a_sky_below_zero_is_noted_on_a_good_frame(
    camera: Camera, level: float, steps: Any, told: str | None
) -> None:
    """Noise is at both sides of zero: that of a frame of no light, or of one whose sky was taken off."""
    detector = replace(camera.detector, overscan_x=(0, 8))
    here = replace(camera, gates={}, reduction=ReductionSteps(steps), detector=detector)
    row = {"flags": 0, "status": "ok", "sky_adu": level, "sky_rms_adu": 6.0}
    row = with_part(row, apply_gates(row, here))
    assert row["status"] == "ok" and row.get("reason") is None and row["message"] == told
    assert bool(row["flags"] & FrameFlag.SKY_BELOW_ZERO) == (level < -100.0)


def test_what_was_reported_of_a_good_frame_stays_beside_its_sky(camera: Camera) -> None:
    here = replace(camera, gates={}, reduction=ReductionSteps(("bias",)))
    row = {"flags": 0, "status": "ok", "message": "solved", "sky_adu": -700.0, "sky_rms_adu": 6.0}
    row = with_part(row, apply_gates(row, here))
    assert row["message"] == "solved; its sky is at -700 ADU, so the bias is wrong"


def test_an_oversubtracted_frame_is_flagged(take: Take) -> None:
    for less, expected in ((1000.0, True), (300.0, False)):
        frame = take(change=lambda pixels, less=less: pixels - less)
        assert verdict(frame) == ("ok", None) and len(frame.sources) > 40
        assert bool(frame.row["flags"] & FrameFlag.SKY_BELOW_ZERO) == expected


def test_a_good_frame_passes_all_gates_and_has_all_values(take: Take) -> None:
    frame = take()
    assert verdict(frame) == ("ok", None) and frame.row["gates_failed"] is None
    assert all(np.isfinite(frame.row[metric]) for metric in GATES)
    assert frame.row["found_fraction"] > 0.97 and frame.row["n_expected"] == 100
    assert frame.row["mean_ellipticity"] < 0.05
    assert frame.row["sky_saturation"] == pytest.approx(300.0 / 60000.0, rel=0.02)


def test_a_trailed_frame(take: Take) -> None:
    frame = take(psf=Moffat(4.5, 0.5, 35.0))
    assert verdict(frame) == ("rejected", "trailed")
    assert frame.row["mean_ellipticity"] > 0.4 and frame.row["gates_failed"] == "mean_ellipticity"
    assert len(frame.sources) > 40


def donut(pixels: Any) -> Any:
    """Blur to a ring, as a telescope with a central obstruction that is out of focus."""
    yy, xx = np.mgrid[-12:13, -12:13]
    radius = np.hypot(xx, yy)
    ring = ((radius < 10.0) & (radius > 4.0)).astype(float)
    sky = float(np.median(pixels))
    blurred = fftconvolve(pixels - sky, ring / ring.sum(), mode="same") + sky
    return (blurred + np.random.default_rng(3).normal(0.0, 12.0, pixels.shape)).astype(np.float32)


@pytest.mark.parametrize("blur", ["wide", "ring"])
def test_a_defocused_frame(take: Take, blur: str) -> None:
    frame = take(psf=Moffat(10.0)) if blur == "wide" else take(change=donut)
    assert verdict(frame) == ("rejected", "defocused")
    assert 8.0 < frame.row["fwhm_px"] < 25.0


def test_clouds_that_leave_few_stars(take: Take) -> None:
    """All but a corner is hidden."""
    frame = take(lambda x, y: np.where((x > 250.0) & (y > 220.0), 1.0, 0.002))
    assert verdict(frame) == ("rejected", "cloudy")
    assert 0.05 < frame.row["found_fraction"] < 0.3 and frame.row["n_expected"] == 100


def test_clouds_that_leave_nothing(take: Take) -> None:
    frame = take(1e-4)
    assert verdict(frame) == ("rejected", "cloudy")
    assert frame.row["found_fraction"] < 0.3 and frame.sources is None
    assert "found_fraction is" in frame.row["message"]


def test_thin_clouds_cost_no_frame(take: Take) -> None:
    frame = take(0.5)
    assert verdict(frame) == ("ok", None) and frame.row["found_fraction"] > 0.9


#: Gates by which a frame has few sources although a half of its stars are there.
STRICT = GATES | {"n_sources": Gate(min=60)}


def test_clouds_with_enough_clean_stars_cost_no_frame(take: Take) -> None:
    frame = take(0.015, gates=STRICT)
    assert verdict(frame) == ("ok", None)
    assert frame.row["n_sources"] >= 60 and 0.7 < frame.row["found_fraction"] < 0.9


@pytest.mark.parametrize("transparency", [0.0125, 0.01])
def test_even_clouds_that_leave_the_brightest_stars(take: Take, transparency: float) -> None:
    """Stars of all magnitudes lose the same light, so those that were bright enough are all there, and no others."""
    frame = take(transparency, gates=STRICT)
    assert frame.row["gates_failed"] == "n_sources" and frame.row["found_fraction"] > 0.3
    assert verdict(frame) == ("rejected", "cloudy")
    assert "n_sources is" in frame.row["message"] and "too little light" in frame.row["message"]


@pytest.mark.parametrize("transparency", [0.0125, 0.01])
def test_a_sparse_field_under_a_clear_sky_is_not_cloudy(
    take: Take, camera: Camera, transparency: float
) -> None:
    """The same light may be that of few bright stars or of many behind clouds; the zeropoint of clear nights shows."""
    # Magnitudes of these stars are those of ADU a second under a sky without clouds.
    zeropoints = {0.0: "cloudy", 2.5 * np.log10(transparency): "too_few_sources"}
    frames = {}
    for zeropoint, reason in zeropoints.items():
        bands = {name: replace(one, clear_zeropoint=float(zeropoint)) for name, one in camera.filters.items()}
        frames[reason] = frame = take(transparency, filters=bands, gates=STRICT)
        assert verdict(frame) == ("rejected", reason), frame.row["message"]
    assert frames["cloudy"].row["n_expected"] == 100
    assert 5 < frames["too_few_sources"].row["n_expected"] < 40
    assert frames["too_few_sources"].row["found_fraction"] > 0.9


def test_a_filter_without_a_clear_zeropoint_changes_nothing(camera: Camera) -> None:
    assert all("clear_zeropoint" not in band for band in camera.configuration["filters"].values())
    bands = {name: replace(one, clear_zeropoint=20.0) for name, one in camera.filters.items()}
    assert replace(camera, filters=bands).sha256 != camera.sha256


def test_sources_near_stars_by_chance_are_not_found_stars() -> None:
    pointing = tangent((512, 512))
    random = np.random.default_rng(8)
    x, y = random.uniform(0.0, 511.0, (2, 500))
    stars = CatalogStars(
        *pointing.to_sky(*random.uniform(0.0, 511.0, (2, 100))), random.uniform(8.0, 12.0, 100)
    )
    radius = 8.0 * pointing.pixel_scale_arcsec
    by_chance = count_found(ExpectedStars(pointing, (512, 512), stars, ClearSky()), x, y, -x, radius)
    assert by_chance.n_expected == 100 and by_chance.fraction < 0.1
    there = pointing.wcs.all_world2pix(stars.ra_deg, stars.dec_deg, 0)
    both = np.append(there[0][:60], x), np.append(there[1][:60], y)
    flux = np.append(10.0 ** (8.0 - 0.4 * stars.mag[:60]), np.ones(500))
    found = count_found(ExpectedStars(pointing, (512, 512), stars, ClearSky()), *both, flux, radius)
    weight = 10.0 ** (-0.2 * stars.mag)
    assert found.fraction == pytest.approx(weight[:60].sum() / weight.sum(), abs=0.08)


@pytest.mark.parametrize("transparency", [1.0, 1e-4])
def test_a_frame_in_twilight_whether_it_shows_stars_or_not(take: Take, transparency: float) -> None:
    frame = take(transparency, sky=5000.0, DATE_OBS="2024-04-07T22:50:00")
    assert verdict(frame) == ("rejected", "twilight")
    assert frame.row["sun_altitude_deg"] > -9.0
    assert (frame.row["n_detected"] > 40) == (transparency == 1.0)


@pytest.mark.parametrize("level", [0.8, 1.5])
def test_a_sky_near_saturation_or_beyond(take: Take, level: float) -> None:
    frame = take(sky=60000.0 * level)
    assert verdict(frame) == ("rejected", "sky_saturated")
    assert frame.row["sky_saturation"] == pytest.approx(min(level, 1.0), rel=0.02)
    # Of pixels that are saturated nobody knows how bright the sky is.
    known = {name: frame.row[name] is not None for name in ("sky_adu", "sky_rms_adu")}
    assert known == dict.fromkeys(known, level < 1.0)


def test_too_few_stars_in_a_clear_sky(take: Take) -> None:
    """The brightest are expected, and there; fainter ones are not."""
    frame = take(lambda x, y: np.where(np.arange(len(x)) >= 120, 1.0, 1e-4))
    assert frame.row["found_fraction"] > 0.3
    assert verdict(frame) == ("rejected", "too_few_sources")
    assert (frame.sources.flags & SourceFlag.FRAME_REJECTED).all()


def tangent(shape: tuple[int, int]) -> Pointing:
    """A pointing of ten seconds of arc per pixel."""
    step = 10.0 / 3600.0
    header = fits.Header(
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 50.5, "CRPIX2": 50.5, "CRVAL1": 40.0, "CRVAL2": 10.0,
         "CDELT1": -step, "CDELT2": step}
    )  # fmt: skip
    return header_pointing(header, Camera("lab"), shape, (0, 0))


def test_bright_stars_count_for_more_than_faint_ones() -> None:
    pointing = tangent((100, 100))
    x, y = np.linspace(10.0, 90.0, 10), np.full(10, 40.0)
    stars = CatalogStars(*pointing.to_sky(x, y), 0.5 * np.arange(10.0))
    halves = [
        count_found(ExpectedStars(pointing, (100, 100), stars, ClearSky()), x[half], y[half], -x[half], 5.0)
        for half in (slice(None, 5), slice(5, None))
    ]
    assert [one.n_expected for one in halves] == [10, 10]
    assert halves[0].fraction > 0.7 and sum(one.fraction for one in halves) == pytest.approx(1.0)
    field = ExpectedStars(pointing, (100, 100), stars, ClearSky(3, (1.0, 9.0)))
    some = count_found(field, x, y, -x, 5.0)
    assert (some.n_expected, some.fraction) == (3, 1.0)
