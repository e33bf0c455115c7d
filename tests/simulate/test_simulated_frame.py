from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from skylake.cameras import load, names, read_header
from skylake.core.sphere import apply_proper_motion, julian_epoch, separation_deg
from skylake.simulate import (
    AtmosphereParams,
    DetectorParams,
    HeaderParams,
    OpticsParams,
    Scenario,
    ScheduleParams,
    SpecialParams,
    StarParams,
    plan,
    simulate_frame,
)
from skylake.simulate.colours import colour_index
from skylake.simulate.detector import detector_maps
from skylake.simulate.optics import field_radius
from skylake.simulate.random_streams import generator
from skylake.simulate.simulated_frame import frame_cards, visible_stars
from skylake.simulate.variables import Kind
from skylake.simulate.world import field_stars, world


def made(scenario: Scenario, out: Path, index: int = 0):
    frame = plan(scenario)[index]
    return frame, simulate_frame(frame, scenario, out), out / frame.file


@pytest.mark.parametrize(
    ("optics", "schedule"),
    [
        (OpticsParams(distortion=0.01), ScheduleParams(rotation="random")),
        (
            OpticsParams(distortion=-0.02, mirrored=True),
            ScheduleParams(rotation="parallactic", dither_px=30.0),
        ),
        (OpticsParams(distortion=0.0), ScheduleParams(target=(0.01, -89.9), minimum_altitude_deg=20.0)),
    ],
)
def test_the_header_puts_every_star_where_it_is(
    small_scenario: Scenario, tmp_path: Path, optics: OpticsParams, schedule: ScheduleParams
) -> None:
    scenario = replace(small_scenario, optics=optics, schedule=schedule)
    frame, truth, path = made(scenario, tmp_path)
    stars = field_stars(scenario, 0)
    order = np.argsort(stars.star_id)
    found = order[np.searchsorted(stars.star_id, truth.detections["star_id"].to_numpy(), sorter=order)]
    seen = stars.take(found)
    years = float(julian_epoch(frame.mjd_mid)) - 2000.0
    ra, dec = apply_proper_motion(seen.ra_deg, seen.dec_deg, seen.pm_ra_mas_yr, seen.pm_dec_mas_yr, years)
    x, y = truth.detections["x_px"].to_numpy(), truth.detections["y_px"].to_numpy()
    told = WCS(fits.getheader(path), fix=False).all_pix2world(x, y, 0)
    assert len(x) > 100 and np.ptp(x) > 200.0 and np.ptp(y) > 160.0
    assert (separation_deg(*told, ra, dec) * 3600.0 / 8.0).max() < 0.001


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("raw", [False, True])
def test_frames_speak_the_dialect_of_every_camera(name: str, raw: bool, tmp_path: Path) -> None:
    scenario = Scenario(camera=name, raw=raw, frames_per_night=2, nights=1, stars=StarParams(per_frame=300.0))
    frame, _, path = made(scenario, tmp_path)
    profile = load(name)
    with fits.open(path) as hdus:
        reading = read_header(hdus[0].header, profile, path.name)
    assert reading.problem is None
    assert reading.mjd_start == pytest.approx(frame.mjd_start, abs=0.1 / 86400.0)
    assert reading.mjd_mid == pytest.approx(frame.mjd_mid, abs=0.1 / 86400.0)
    assert reading.exposure_s == pytest.approx(30.0)
    assert reading.band == world(scenario).observatory.filter_band.band
    assert reading.gain == profile.at(frame.mjd_start).detector.gain_e_per_adu


CLOCKS = {
    "local start": 'cards = ["DATE-OBS"]\nzone_hours = -7.0',
    "date and time of the middle": 'cards = ["DATE", "TIME"]\nrefers_to = "mid"\nzone_hours = 9.5',
    "end as MJD": 'cards = ["MJD-END"]\nformat = "mjd"\nrefers_to = "end"',
    "JD, TT": 'cards = ["JD"]\nformat = "jd"\nscale = "tt"',
    "unix middle": 'cards = ["UNIXTIME"]\nformat = "unix"\nrefers_to = "mid"',
    "TAI": 'cards = ["T_TAI"]\nscale = "tai"',
}


@pytest.mark.parametrize("clock", CLOCKS.values(), ids=CLOCKS.keys())
def test_clocks_of_all_kinds_show_the_true_time(clock: str, profile_file) -> None:
    path = profile_file(
        f'name = "odd"\n[[header.time]]\n{clock}\n'
        '[header]\nkind = ["IMAGETYP"]\nscience_kinds = ["light frame"]\nextension = "SCI"\n'
        '[header.exposure]\ncards = ["EXPMS"]\nscale = 0.001\n'
        '[header.gain]\ncards = ["GAIN1", "GAIN2"]\ncombine = "mean"\n'
        '[filters.green]\nband = "g"\ncolour = "g-r"\npivot_colour = 0.5\n'
    )
    scenario = Scenario(
        camera=path, frames_per_night=2, nights=1, exposure_s=90.0, stars=StarParams(per_frame=50.0)
    )
    frame = plan(scenario)[1]
    profile = load(path)
    cards = frame_cards(frame, world(scenario).observatory, profile.base)
    reading = read_header({name: value for name, value, _ in cards}, profile)
    assert reading.problem is None
    assert reading.mjd_start == pytest.approx(frame.mjd_start, abs=0.002 / 86400.0)
    assert (reading.exposure_s, reading.band, reading.gain) == (pytest.approx(90.0), "g", 1.0)
    assert reading.kind == "LIGHT FRAME"


def test_a_header_without_wcs_has_no_wcs(small_scenario: Scenario, tmp_path: Path) -> None:
    scenario = replace(small_scenario, header=HeaderParams(absent_wcs_fraction=1.0))
    _, truth, path = made(scenario, tmp_path)
    assert truth.frame["wcs"] == "absent"
    assert not [name for name in fits.getheader(path) if name.startswith(("CTYPE", "CRVAL", "CD1", "CRPIX"))]


@pytest.mark.parametrize(("colour_term", "camera_filter"), [(0.12, "V"), (-0.2, "R")])
def test_flux_is_that_of_magnitude_zeropoint_and_colour(
    small_scenario: Scenario, colour_term: float, camera_filter: str
) -> None:
    air = AtmosphereParams(colour_term=colour_term, differential=False)
    scenario = replace(small_scenario, atmosphere=air, filter=camera_filter)
    frame = plan(scenario)[0]
    visible = visible_stars(frame, scenario, generator(1))
    colour = colour_index("B-V", visible.stars.b_minus_v) - 0.7
    np.testing.assert_allclose(
        visible.flux_adu_per_s, 10.0 ** (-0.4 * (visible.mag - frame.zeropoint - colour_term * colour))
    )
    constant = visible.stars.kind == Kind.CONSTANT
    slope = {"V": 0.0, "R": -0.58}[camera_filter]
    np.testing.assert_allclose(
        visible.mag[constant], (visible.stars.v_mag + slope * visible.stars.b_minus_v)[constant]
    )


def test_clouds_and_airmass_change_over_the_field(small_scenario: Scenario) -> None:
    scenario = replace(small_scenario, atmosphere=AtmosphereParams(cloudy_fraction=1.0, colour_term=0.0))
    frame = plan(scenario)[0]
    visible = visible_stars(frame, scenario, generator(1))
    constant = visible.stars.kind == Kind.CONSTANT
    local = visible.mag[constant] + 2.5 * np.log10(visible.flux_adu_per_s[constant]) - frame.zeropoint
    x, y = visible.x_px[constant] - 119.5, visible.y_px[constant] - 99.5
    design = np.column_stack([np.ones(local.size), x, y])
    centre, slope_x, slope_y = np.linalg.lstsq(design, local)[0]
    assert centre == pytest.approx(0.0, abs=1e-3)
    expected = np.array([frame.clouds.gradient_x, frame.clouds.gradient_y]) / frame.pointing.half_diagonal_px
    np.testing.assert_allclose([-slope_x, -slope_y], expected, atol=3e-5)


LONELY = SpecialParams(transient=False)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("form", ["fits", "fits.fz"])
def test_photometry_of_the_frame_gives_the_true_flux(
    small_scenario: Scenario, tmp_path: Path, raw: bool, form: str
) -> None:
    scenario = replace(
        small_scenario,
        raw=raw,
        file_form=form,
        stars=StarParams(per_frame=25.0),
        specials=LONELY,
        atmosphere=AtmosphereParams(sky_gradient=0.0),
        detector=DetectorParams(flat_error=0.0, hot_fraction=0.0, pixel_response_rms=0.0),
        streak_fraction=0.0,
    )
    _, truth, path = made(scenario, tmp_path)
    with fits.open(path) as hdus:
        data = hdus[-1].data.astype(float)
    if raw:
        maps = detector_maps(scenario)
        data = (data - maps.bias_adu - 0.05 * 30.0 / 1.5) / maps.response
    special = truth.detections.to_pandas().query("star_id < 10")
    assert len(special) == 3 and not special.saturated.any()
    yy, xx = np.mgrid[:200, :240]
    for star in special.itertuples():
        radius = np.hypot(xx - star.x_px, yy - star.y_px)
        sky = np.median(data[(radius > 14.0) & (radius < 22.0)])
        inside = radius < 12.0
        flux = (data[inside] - sky).sum()
        true = star.flux_adu_per_s * star.scintillation * 30.0
        noise = np.sqrt(true / 1.5 + inside.sum() * (sky / 1.5 + (8.0 / 1.5) ** 2))
        assert true / noise > 100.0
        assert abs(flux - true) < 4.0 * noise + 1.5e-3 * true
        x = ((data - sky) * xx)[inside].sum() / flux
        assert x == pytest.approx(star.x_px, abs=0.06)


def test_the_sky_is_as_bright_and_as_noisy_as_stated(small_scenario: Scenario, tmp_path: Path) -> None:
    scenario = replace(
        small_scenario,
        stars=StarParams(per_frame=5.0),
        specials=SpecialParams(variables=False, transient=False),
        detector=DetectorParams(flat_error=0.0),
        streak_fraction=0.0,
    )
    frame, truth, path = made(scenario, tmp_path)
    data = fits.getdata(path).astype(float)
    assert truth.frame["sky_adu"] == frame.sky_adu_per_s * 30.0 + 100.0
    assert np.median(data) == pytest.approx(truth.frame["sky_adu"], abs=0.8)
    *_, squared = field_radius((200, 240))
    middle = squared < 0.1
    sky_e = frame.sky_adu_per_s * 30.0 * 1.5
    # Photons of sky and dark current, reading, rounding.
    expected = np.sqrt(sky_e + 1.5 + 64.0 + 1.5**2 / 12.0) / 1.5
    residual = data[middle] - np.median(data)
    assert residual[np.abs(residual) < 3.5 * expected].std() == pytest.approx(expected, rel=0.03)


def test_saturated_stars_are_reported(small_scenario: Scenario, tmp_path: Path) -> None:
    bright = SpecialParams(peak_fraction=4.0, transient=False)
    scenario = replace(small_scenario, stars=StarParams(per_frame=30.0), specials=bright)
    _, truth, path = made(scenario, tmp_path)
    table, data = truth.detections.to_pandas(), fits.getdata(path)
    assert set(table.star_id[table.saturated]) >= {1, 2, 3}
    assert not table.saturated.all()
    for star in table.itertuples():
        x, y = round(star.x_px), round(star.y_px)
        near = data[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert star.saturated == (near >= 60000).any()


def test_pixels_of_trimmed_cameras_count_from_the_trimmed_image(profile_file, tmp_path: Path) -> None:
    trimmed = profile_file(
        'like = "sim"\nname = "trimmed"\n[detector]\nwidth_px = 270\nheight_px = 220\n'
        "trim_x = [20, 260]\ntrim_y = [10, 210]\noverscan_x = [0, 20]\n"
    )
    scenario = Scenario(camera=trimmed, nights=1, frames_per_night=2, stars=StarParams(per_frame=30.0))
    frame, truth, path = made(scenario, tmp_path)
    data, header = fits.getdata(path).astype(float), fits.getheader(path)
    assert data.shape == (220, 270) and frame.pointing.shape == (200, 240)
    star = truth.detections.to_pandas().query("star_id == 1").iloc[0]
    x, y = round(star.x_px) + 20, round(star.y_px) + 10
    assert data[y, x] > 5000.0
    told = WCS(header, fix=False).all_pix2world(star.x_px + 20.0, star.y_px + 10.0, 0)
    true = frame.pointing.pixel_to_sky(star.x_px, star.y_px)
    assert separation_deg(*told, *true) * 3600.0 < 1e-3
