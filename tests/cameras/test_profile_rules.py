"""Values of a profile that are well formed and make no sense are refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from skylake.cameras import Profile, load
from skylake.cameras.unused_keys import unused_readings
from skylake.errors import ConfigurationError
from skylake.image.quality.source_metrics import judge

Made = Callable[[str], Profile]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A function that loads a profile with some lines of its own."""

    def load_with(lines: str) -> Profile:
        path = tmp_path / "mine.toml"
        path.write_text(f'like = "sim"\nname = "mine"\n{lines}\n', encoding="utf-8")
        return load(path)

    return load_with


def refused(made: Made, lines: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        made(lines)
    return str(caught.value)


POSITIVE = [
    "detector.gain_e_per_adu",
    "detector.saturation_adu",
    "detector.linearity_adu",
    "detector.width_px",
    "detector.height_px",
    "detector.reference_channels",
    "optics.pixel_scale_arcsec",
    "optics.plate_scale_arcsec_mm",
    "optics.diameter_m",
    "extraction.background_filter",
    "extraction.peak_sigma",
    "extraction.filter_fwhm_px",
    "extraction.threshold_sigma",
    "extraction.min_area_px",
    "extraction.max_pixels",
    "apertures.kron_factor",
    "reduction.cosmic_rays.sigma",
    "reduction.cosmic_rays.iterations",
    "reduction.bad_pixels.hot_sigma",
    "reduction.sky.within_minutes",
    "reduction.validity_days",
    "calibration.match_radius_arcsec",
    "calibration.max_mag_err",
    "astrometry.seconds",
    "header.exposure.scale",
]
NOT_NEGATIVE = [
    "detector.read_noise_e",
    "injection.stars",
    "reduction.temperature_tolerance_c",
    "reduction.exposure_tolerance",
    "extraction.edge_margin_px",
    "reduction.sky.grow_px",
    "clear_sky.stars",
    "header.time_tolerance_s",
    "calibration.max_crowding",
]


BESIDE = {
    "reduction.sky.within_minutes": 'reduction.steps = ["sky"]',
}


@pytest.mark.parametrize("key", POSITIVE)
def test_what_must_be_positive_is_neither_zero_nor_less(made: Made, key: str) -> None:
    for value in (0, -1):
        said = refused(made, f"{key} = {value}")
        assert f"mine.toml: {key}: give a number above 0" in said and "\n" not in said
    # What else the key asks for is stated with it.
    made(f"{key} = 1\n{BESIDE.get(key, '')}")


@pytest.mark.parametrize("key", NOT_NEGATIVE)
def test_what_may_be_zero_is_not_less(made: Made, key: str) -> None:
    assert f"mine.toml: {key}: give 0 or a number above it" in refused(made, f"{key} = -1")
    made(f"{key} = 0")


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("key", "lines"),
    [
        ("detector.gain_e_per_adu", "detector.gain_e_per_adu = {}"),
        ("apertures.radii_px", "apertures.radii_px = [{}]"),
        ("gates.fwhm_px.max", "gates.fwhm_px.max = {}"),
        ("filters.V.pivot_colour", "filters.V.pivot_colour = {}"),
        ("header.exposure.minimum", "header.exposure.minimum = {}"),
        ("detector.linearity", "detector.linearity = [1e-6, {}]"),
    ],
)
def test_every_number_is_finite(made: Made, key: str, lines: str, value: str) -> None:
    assert f"mine.toml: {key}: give a finite number" in refused(made, lines.format(value))


@pytest.mark.parametrize(
    ("key", "value", "range_"),
    [
        ("optics.pixel_scale_arcsec", "1e-320", "from 0.001 to 36000"),
        ("optics.pixel_scale_arcsec", "1e300", "from 0.001 to 36000"),
        ("optics.diameter_m", "1e9", "from 0.0001 to 1000"),
        ("detector.width_px", "1000000000000", "from 1 to 1e+06"),
        ("detector.gain_e_per_adu", "1e-9", "from 1e-06 to 1e+06"),
        ("apertures.radii_px", "[1e-320]", "give 0, or a number from 1e-15 to 1e+15 in size"),
        ("calibration.match_radius_arcsec", "1e300", "from 0.001 to 36000"),
        ("site.height_m", "1e-320", "give 0, or a number from 1e-15 to 1e+15 in size"),
    ],
)
def test_numbers_of_absurd_size_are_refused_with_their_range(
    made: Made, key: str, value: str, range_: str
) -> None:
    said = refused(made, f"{key} = {value}")
    assert f"mine.toml: {key}: " in said and "out of range" in said and range_ in said


@pytest.mark.parametrize("size", [0, -64, 3])
def test_the_mesh_of_the_background_has_pixels(made: Made, size: int) -> None:
    said = refused(made, f"extraction.background_mesh_px = {size}")
    assert "mine.toml: extraction.background_mesh_px: give 4 pixels or more" in said


@pytest.mark.parametrize(
    ("key", "value", "mend"),
    [
        ("apertures.sky_annulus_px", "[20.0, 15.0]", "the smaller number first"),
        ("apertures.sky_annulus_px", "[15.0, 15.0]", "the smaller number first"),
        ("apertures.sky_annulus_px", "[-1.0, 15.0]", "counts from 0"),
        ("detector.trim_x", "[500, 20]", "the smaller number first"),
        ("detector.overscan_y", "[-5, 20]", "counts from 0"),
        ("calibration.colour_range", "[2.0, 0.0]", "the smaller number first"),
        ("clear_sky.mag_range", "[12.0, 6.0]", "the smaller number first"),
        ("gates.fwhm_px", "{min = 9.0, max = 2.0}", "min is above max"),
    ],
)
def test_ranges_are_not_upside_down(made: Made, key: str, value: str, mend: str) -> None:
    said = refused(made, f"{key} = {value}")
    assert f"mine.toml: {key}: " in said and mend in said


def test_the_rules_hold_in_dated_blocks_too(made: Made) -> None:
    said = refused(made, "[[period]]\nuntil = 2020-01-01\ndetector.gain_e_per_adu = -2.0")
    assert "[[period]] number 1: detector.gain_e_per_adu: give a number above 0" in said


def test_the_step_linearity_takes_a_curve_that_is_measured(made: Made) -> None:
    step, measured = 'reduction.steps = ["linearity"]', 'reduction.measured = ["gain", "linearity"]'
    assert made(f"{step}\n{measured}").base.reduction.measured == ("gain", "linearity")
    assert "detector.linearity: the step linearity needs it" in refused(made, step)
    assert "reduction.measured: linearity is for the step linearity" in refused(made, measured)
    made(f"{step}\ndetector.linearity = [1e-6]")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('steps = ["trim"]\n[detector]\nbayer_pattern = "RGGB"', "detector.bayer_pattern: it does nothing"),
        ('steps = ["overscan"]\n[detector]\ntrim_x = [10, 100]', "detector.trim_x: it does nothing"),
        (
            'steps = ["trim"]\n[detector]\noverscan_x = [0, 10]',
            "reduction.steps does not name overscan; add that",
        ),
        (
            'steps = ["trim"]\ncolour = "B"',
            "reduction.colour: it does nothing, since reduction.steps does not name bayer",
        ),
        ('steps = ["trim"]\n[reduction.sky]\nn_frames = 4', "reduction.sky.n_frames: it does nothing"),
        ("[detector]\nunlit = [[0, 9, 0, 9]]", "detector.unlit: it does nothing"),
    ],
)
def test_a_key_without_its_step_is_refused(made: Made, lines: str, said: str) -> None:
    assert said in refused(made, f"[reduction]\n{lines}")


def test_a_key_may_serve_steps_of_its_own_period_or_profile(made: Made, tmp_path: Path) -> None:
    colour = made(
        '[detector]\nbayer_pattern = "RGGB"\ntrim_x = [10, 100]\n[reduction]\nsteps = ["overscan"]\n'
        '[[period]]\nuntil = 2020-01-01\nreduction.steps = ["trim", "bayer"]\nreduction.colour = "B"'
    )
    assert colour.at(0.0).reduction.colour == "B"
    made('[detector]\nbayer_pattern = "RGGB"\n[reduction]\nsteps = ["trim", "bad_pixels"]')
    # How sources are hidden serves `calib build` too.
    made("[reduction.sky]\ngrow_px = 6")
    made(
        '[detector]\nbayer_pattern = "RGGB"\ntrim_x = [10, 100]\n[reduction]\nsteps = ["trim", "bayer"]\ncolour = "B"'
    )
    (tmp_path / "grey.toml").write_text('like = "mine.toml"\nname = "grey"\nreduction.steps = ["overscan"]\n')
    grey = load(tmp_path / "grey.toml").base
    assert [one.quantity for one in unused_readings(grey)] == [
        "detector.bayer_pattern",
        "detector.trim_x",
        "reduction.colour",
    ]
    assert all("does not name" in one.note for one in unused_readings(grey))
    assert unused_readings(load("sim").base) == []


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("[detector]\noverscan_x = [0, 10]\ntrim_x = [5, 100]", "detector.overscan_x: trim_x leaves a part"),
        (
            "[detector]\noverscan_y = [90, 110]\ntrim_y = [5, 100]",
            "detector.overscan_y: trim_y leaves a part",
        ),
        ("[detector]\ntrim_x = [10, 5000]", "detector.trim_x: it ends beyond the 1024 pixels"),
        ("[detector]\noverscan_y = [1000, 1025]", "detector.overscan_y: it ends beyond the 1024 pixels"),
        (
            '[detector]\nunlit = [[0, 9, 0, 2000]]\n[reduction]\nsteps = ["unlit"]',
            "detector.unlit: it ends beyond the 1024 pixels",
        ),
        (
            '[detector]\nreference_border_px = 512\n[reduction]\nsteps = ["reference"]',
            "detector.reference_border_px: it leaves nothing",
        ),
        ("[detector]\nlinearity_adu = 70000.0", "detector.linearity_adu: it is above saturation_adu"),
        (
            "apertures.sky_annulus_px = [2.0, 4.0]",
            "apertures.sky_annulus_px: it lies inside the largest radius",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_key(made: Made, lines: str, said: str) -> None:
    assert said in refused(made, lines)


def test_two_filters_have_no_alias_in_common(made: Made) -> None:
    shared = 'filters.V.aliases = ["visual"]\nfilters.R.aliases = ["red", "visual"]'
    assert "filters.R.aliases: filters.V has the alias 'visual', too; leave it to one of them" in refused(
        made, shared
    )
    # The name of a filter comes before aliases of others.
    named = made(f'{shared}\nfilters.visual.band = "V"\ndefault_filter = "visual"').base
    assert named.filter_key("visual") == "visual"


def test_an_inherited_linearity_ends_at_saturation(made: Made) -> None:
    profile = made(
        "[detector]\nsaturation_adu = 45000.0\n[[period]]\nfrom = 2024-01-01\ndetector.saturation_adu = 30000.0"
    )
    for camera, full in ((profile.base, 45000.0), (profile.at(60400.0), 30000.0)):
        assert (camera.detector.linearity_adu, camera.detector.saturation_adu) == (full, full)
    # What a file itself says of both is not changed for it.
    both = "[detector]\nsaturation_adu = 45000.0\nlinearity_adu = 50000.0"
    assert "detector.linearity_adu: it is above saturation_adu" in refused(made, both)


def test_what_only_touches_is_no_contradiction(made: Made) -> None:
    beside = made(
        "[detector]\noverscan_x = [0, 10]\ntrim_x = [10, 1024]\nlinearity_adu = 60000.0"
    ).base.detector
    assert (beside.overscan_x, beside.trim_x, beside.linearity_adu) == ((0, 10), (10, 1024), 60000.0)
    # Overscan of two amplifiers above each other, left and right of what is trimmed.
    above = made(
        "[detector]\noverscan_x = [0, 10]\noverscan_y = [0, 10]\ntrim_x = [0, 1024]\ntrim_y = [10, 1024]"
    )
    assert (above.base.detector.overscan_y, above.base.detector.trim_y) == ((0, 10), (10, 1024))
    across = made("[detector]\noverscan_x = [0, 10]\ntrim_y = [5, 100]").base.detector
    assert (across.overscan_x, across.trim_y) == ((0, 10), (5, 100))
    assert made("apertures.sky_annulus_px = [7.0, 14.0]").base.apertures.sky_annulus_px == (7.0, 14.0)


def test_a_curve_without_a_zero_level_is_noted(made: Made) -> None:
    step = "detector.linearity = [1e-6]\nreduction.steps ="
    (told,) = unused_readings(made(f'{step} ["linearity"]').base)
    assert told.quantity == "reduction.steps" and "zero level" in told.note
    assert unused_readings(made(f'{step} ["overscan", "linearity"]').base) == []


def gates(path: Path) -> list[str]:
    return list(load(path).base.gates)


def test_gates_are_judged_in_the_order_of_the_file(tmp_path: Path) -> None:
    own, child = tmp_path / "own.toml", tmp_path / "child.toml"
    lines = "".join(f"gates.{name}.max = 1.0\n" for name in ("sky_saturation", "fwhm_px"))
    own.write_text(f'like = "generic"\nname = "own"\n{lines}gates.n_sources.min = 20\n', encoding="utf-8")
    assert gates(own) == ["sky_saturation", "fwhm_px", "n_sources"], "causes before what follows"
    camera = load(own).base
    assert (camera.gates["n_sources"].min, camera.gates["fwhm_px"].max) == (20.0, 1.0)
    verdict = judge({"sky_saturation": 2.0, "n_sources": 0}, camera.gates)
    assert verdict.rejection is not None and verdict.rejection.reason == "sky_saturated"
    head = 'like = "own.toml"\nname = "child"\n'
    for lines, order in (
        # Another limit is no other cause.
        ("gates.n_sources.min = 9\n", "sky_saturation fwhm_px n_sources"),
        ("gates.mean_ellipticity.max = 0.3\n", "mean_ellipticity sky_saturation fwhm_px n_sources"),
        ("gates.fwhm_px.max = 3\ngates.sky_saturation.max = 0.5\n", "fwhm_px sky_saturation n_sources"),
        ("gates.fwhm_px.max = 3\ngates.sky_adu.max = 9\n", "sky_saturation fwhm_px sky_adu n_sources"),
        ("[[period]]\nfrom = 2020-01-01\ngates.n_sources.min = 7\n", "sky_saturation fwhm_px n_sources"),
    ):
        child.write_text(head + lines, encoding="utf-8")
        assert gates(child) == order.split()
        assert list(load(child).at(60000.0).gates) == order.split()
