from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.camera import Camera, HeaderDialect, Optics
from skylake.core.sphere import separation_deg
from skylake.errors import FrameRejected
from skylake.image.solving.catalog_crowding import catalog_crowding
from skylake.image.solving.wcs_check import WcsCheck, check_pointing
from skylake.image.wcs.header_wcs import CatalogStars, header_pointing

SHAPE = (200, 300)
CAMERA = Camera("lab")


def header(
    ra: float = 120.0,
    dec: float = -25.0,
    scale_deg: float = 0.002,
    rotation_deg: float = 0.0,
    mirrored: bool = False,
    projection: str = "TAN",
    **cards: Any,
) -> fits.Header:
    """A header that points the centre of the image somewhere."""
    made = fits.Header()
    angle = np.radians(rotation_deg)
    east = 1.0 if mirrored else -1.0
    matrix = scale_deg * np.array(
        [[east * np.cos(angle), np.sin(angle)], [-east * np.sin(angle), np.cos(angle)]]
    )
    values = {
        "CTYPE1": f"RA---{projection}",
        "CTYPE2": f"DEC--{projection}",
        "CRVAL1": ra,
        "CRVAL2": dec,
        "CRPIX1": SHAPE[1] / 2 + 0.5,
        "CRPIX2": SHAPE[0] / 2 + 0.5,
        "CD1_1": matrix[0, 0],
        "CD1_2": matrix[0, 1],
        "CD2_1": matrix[1, 0],
        "CD2_2": matrix[1, 1],
    }
    for name, value in (values | cards).items():
        if value is not None:
            made[name] = value
    return made


def point(made: fits.Header, shape: tuple[int, int] = SHAPE, offset: tuple[int, int] = (0, 0)) -> Any:
    return header_pointing(made, CAMERA, shape, offset)


@given(
    ra=st.floats(0.0, 359.99),
    dec=st.floats(-89.9, 89.9),
    scale=st.floats(1e-4, 0.02),
    rotation=st.floats(0.0, 359.9),
    mirrored=st.booleans(),
)
def test_a_pointing_is_what_the_header_was_made_from(
    ra: float, dec: float, scale: float, rotation: float, mirrored: bool
) -> None:
    found = point(header(ra, dec, scale, rotation, mirrored))
    assert separation_deg(found.ra_deg, found.dec_deg, ra, dec) < 1e-8
    assert found.pixel_scale_arcsec == pytest.approx(scale * 3600.0, rel=1e-4)
    # The position angle of +y, east of north.
    away = (found.rotation_deg - rotation + 180.0) % 360.0 - 180.0
    assert abs(away) < 0.01 and 0.0 <= found.rotation_deg < 360.0
    assert found.mirrored == mirrored
    corner = np.degrees(np.arctan(np.radians(scale * np.hypot(*SHAPE) / 2.0)))
    assert found.radius_deg == pytest.approx(corner, rel=1e-6)


def test_rotation_is_the_direction_of_the_rows_on_the_sky() -> None:
    found = point(header(rotation_deg=30.0))
    ra, dec = found.to_sky([149.5, 149.5], [99.5, 109.5])
    east = (ra[1] - ra[0]) * np.cos(np.radians(dec[0]))
    assert np.degrees(np.arctan2(east, dec[1] - dec[0])) == pytest.approx(30.0, abs=0.01)


def test_the_outline_is_that_of_the_outer_pixels() -> None:
    found = point(header(10.0, 60.0, 0.01))
    numbers = np.array(found.s_region.removeprefix("POLYGON ICRS ").split(), float).reshape(-1, 2)
    wcs = WCS(header(10.0, 60.0, 0.01))
    x, y = wcs.all_world2pix(numbers[:, 0], numbers[:, 1], 0)
    on_edge = (
        np.isclose(x, -0.5, atol=1e-3)
        | np.isclose(x, SHAPE[1] - 0.5, atol=1e-3)
        | np.isclose(y, -0.5, atol=1e-3)
        | np.isclose(y, SHAPE[0] - 0.5, atol=1e-3)
    )
    assert on_edge.all()
    area = 0.5 * np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))
    assert area == pytest.approx(SHAPE[0] * SHAPE[1], rel=1e-4)


@given(st.integers(0, 60), st.integers(0, 90))
@settings(max_examples=15)
def test_trimming_moves_no_star_on_the_sky(left: int, below: int) -> None:
    made = header(sip_free=None)
    whole, part = point(made), point(made, (SHAPE[0] - below, SHAPE[1] - left), (left, below))
    for x, y in ((100.0, 120.0), (250.3, 180.7)):
        np.testing.assert_allclose(part.to_sky(x - left, y - below), whole.to_sky(x, y), rtol=1e-12)


def test_positions_of_other_frames_are_turned_to_icrs() -> None:
    from astropy.coordinates import SkyCoord

    galactic = header(250.0, 12.0, CTYPE1="GLON-TAN", CTYPE2="GLAT-TAN")
    found = point(galactic)
    true = SkyCoord(250.0, 12.0, unit="deg", frame="galactic").icrs
    assert separation_deg(found.ra_deg, found.dec_deg, true.ra.deg, true.dec.deg) < 1e-8
    old = point(header(RADESYS="FK5", EQUINOX=1975.0))
    true = SkyCoord(120.0, -25.0, unit="deg", frame="fk5", equinox="J1975").icrs
    assert separation_deg(old.ra_deg, old.dec_deg, true.ra.deg, true.dec.deg) < 1e-8


SWAPPED = (("CTYPE1", "CTYPE2"), ("CRVAL1", "CRVAL2"), ("CD1_1", "CD2_1"), ("CD1_2", "CD2_2"))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kinds", [("RA---TAN", "DEC--TAN"), ("GLON-TAN", "GLAT-TAN")])
def test_the_first_axis_may_be_the_declination(kinds: tuple[str, str], mirrored: bool) -> None:
    made = header(250.0, 12.0, rotation_deg=25.0, mirrored=mirrored, CTYPE1=kinds[0], CTYPE2=kinds[1])
    plain = point(made)
    for one, other in SWAPPED:
        made[one], made[other] = made[other], made[one]
    swapped = point(made)
    for name in ("ra_deg", "dec_deg", "pixel_scale_arcsec", "rotation_deg", "radius_deg"):
        assert getattr(swapped, name) == pytest.approx(getattr(plain, name), abs=1e-9)
    assert (swapped.mirrored, swapped.s_region) == (mirrored, plain.s_region)
    np.testing.assert_allclose(swapped.to_sky(10.0, 20.0), plain.to_sky(10.0, 20.0), atol=1e-10)
    trimmed = point(made, (100, 200), (30, 40))
    np.testing.assert_allclose(trimmed.to_sky(10.0, 20.0), plain.to_sky(40.0, 60.0), atol=1e-10)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"}, "CTYPE1 = 'ELON-TAN' is neither"),
        ({"CTYPE1": "TLON-TAN", "CTYPE2": "TLAT-TAN"}, "CTYPE1 = 'TLON-TAN' is neither"),
        ({"RADESYS": "GAPPT"}, "cannot be used"),
        ({"CRVAL2": 95.0}, "CRVAL2 = 95 is no latitude"),
        ({"CRVAL2": -120.0}, "CRVAL2 = -120 is no latitude"),
        ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN"}, "CRVAL1 = 120 is no latitude"),
    ],
)
def test_axes_that_lead_to_no_position_are_named(cards: dict[str, Any], words: str) -> None:
    with pytest.raises(FrameRejected, match=f"{words}.*its stars show where it points") as caught:
        point(header(**cards))
    assert caught.value.reason == "no_wcs"


def test_distortion_of_a_header_is_used() -> None:
    sip = {
        "CTYPE1": "RA---TAN-SIP",
        "CTYPE2": "DEC--TAN-SIP",
        "A_ORDER": 3,
        "B_ORDER": 3,
        "A_3_0": 1e-7,
        "B_0_3": 1e-7,
    }
    made = header(**sip)
    x, y = np.array([5.0, 150.0, 290.0]), np.array([10.0, 100.0, 190.0])
    expected = WCS(made).all_pix2world(x, y, 0)
    np.testing.assert_allclose(point(made).to_sky(x, y), expected, rtol=1e-12)
    assert separation_deg(*point(made).to_sky(5.0, 10.0), *point(header()).to_sky(5.0, 10.0)) > 1e-4


def test_an_image_of_the_whole_sky_has_no_outline() -> None:
    found = point(header(dec=-30.0, scale_deg=1.0, projection="ARC"))
    assert found.radius_deg == 180.0 or found.s_region is not None
    fisheye = point(header(dec=-30.0, scale_deg=1.0, projection="ZEA"), (400, 400))
    assert fisheye.s_region is None and fisheye.radius_deg == 180.0


BAD: dict[str, dict[str, Any]] = {
    "no CTYPE": {"CTYPE1": None, "CTYPE2": None},
    "one axis": {"CTYPE2": None},
    "twice the same axis": {"CTYPE2": "RA---TAN"},
    "wavelength": {"CTYPE1": "WAVE", "CTYPE2": "LINEAR"},
    "unknown projection": {"CTYPE1": "RA---QQQ", "CTYPE2": "DEC--QQQ"},
    "text for a number": {"CRVAL1": "08 00 00"},
    "text in the matrix": {"CD1_1": "0.002"},
    "no CRVAL": {"CRVAL1": None},
    "no CRPIX": {"CRPIX2": None},
    "zero matrix": {"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0},
    "one direction": {"CD1_1": 0.002, "CD1_2": 0.001, "CD2_1": 0.004, "CD2_2": 0.002},
    "off the sky": {"CRVAL2": 95.0, "CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CD1_1": 50.0, "CD2_2": 50.0},
}


@pytest.mark.parametrize("cards", BAD.values(), ids=BAD.keys())
def test_a_header_without_a_usable_wcs_is_rejected(cards: dict[str, Any]) -> None:
    with pytest.raises(FrameRejected, match="its stars show where it points") as caught:
        point(header(**cards))
    assert caught.value.reason == "no_wcs" and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"CTYPE2": None}, "the header has no celestial WCS (CTYPE1 and CTYPE2)"),
        ({"CRVAL1": None}, "the WCS of the header lacks the card CRVAL1"),
        ({"CUNIT1": "parsnip"}, "the card CUNIT1 of the WCS of the header holds 'parsnip', which is no unit of angle"),
        ({"CD1_1": "NaN"}, "the card CD1_1 of the WCS of the header holds 'NaN', which is no finite number"),
        ({"CRPIX1": "here"}, "the card CRPIX1 of the WCS of the header holds 'here', which is no finite number"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 3, "B_ORDER": 3, "A_3_0": "text"},
         "the card A_3_0 of the WCS of the header holds 'text', which is no finite number"),
        ({"A_ORDER": 30_000}, "the card A_ORDER of the WCS of the header holds 30000, and orders go from 0 to 9"),
        ({"CTYPE1": "RA---FOO"}, "cannot be read (CTYPE1 = 'RA---FOO', CTYPE2 = 'DEC--TAN')"),
    ],
)  # fmt: skip
def test_the_card_that_spoils_a_wcs_is_named(cards: dict[str, Any], words: str) -> None:
    with pytest.raises(FrameRejected, match="its stars show where it points") as caught:
        point(header(**cards))
    assert words in str(caught.value)


def test_what_astropy_logs_of_a_header_is_kept_from_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    point(header(A_ORDER=2, B_ORDER=2, A_2_0=1e-9, B_0_2=1e-9))
    assert capfd.readouterr() == ("", "")


def test_a_camera_without_usable_wcs_is_believed() -> None:
    with pytest.raises(FrameRejected, match="profile says") as caught:
        header_pointing(header(), Camera("lab", header=HeaderDialect(wcs="none")), SHAPE, (0, 0))
    assert caught.value.reason == "no_wcs"


cards = st.one_of(
    st.floats(-1e3, 1e3),
    st.sampled_from([0.0, 1e300, -1e-300, 90.0, 180.0]),
    st.text("ABRDECTN-. ", max_size=8),
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CD1_1", "CD2_2", "CUNIT1", "LONPOLE", "EQUINOX",
             "RADESYS", "PV1_1", "A_ORDER", "A_2_0", "WCSAXES", "CDELT1", "CROTA2"]
        ),
        cards,
        max_size=4,
    )
)  # fmt: skip
@settings(max_examples=150)
def test_any_header_has_a_pointing_or_is_rejected(changes: dict[str, Any]) -> None:
    try:
        found = point(header(**changes))
    except FrameRejected as error:
        assert error.reason == "no_wcs" and "\n" not in str(error)
    else:
        assert np.isfinite([found.ra_deg, found.dec_deg, found.pixel_scale_arcsec, found.radius_deg]).all()
        assert found.pixel_scale_arcsec > 0.0 and 0.0 <= found.ra_deg < 360.0


def field(n: int, seed: int = 1) -> tuple[Any, Any, Any, Any]:
    """A pointing, and sources with fluxes on its image."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(1.0, SHAPE[1] - 2.0, n), random.uniform(1.0, SHAPE[0] - 2.0, n)
    return point(header()), x, y, 10.0 ** random.uniform(1.0, 4.0, n)


def catalog(pointing: Any, x: Any, y: Any, flux: Any, moved_deg: float = 0.0) -> CatalogStars:
    ra, dec = pointing.to_sky(x, y)
    return CatalogStars(ra, dec + moved_deg, -2.5 * np.log10(flux))


@pytest.mark.parametrize("n", [5, 40, 400])
@pytest.mark.parametrize(("deeper", "fainter"), [(1, 1), (8, 1), (1, 8)])
def test_a_right_wcs_passes_however_deep_catalog_and_frame_are(n: int, deeper: int, fainter: int) -> None:
    pointing, x, y, flux = field(n)
    _, more_x, more_y, more_flux = field(n * 8, seed=2)
    dim = more_flux * 1e-4
    stars = [np.concatenate(pair) for pair in ((x, more_x[: n * (deeper - 1)]), (y, more_y[: n * (deeper - 1)]), (flux, dim[: n * (deeper - 1)]))]  # fmt: skip # noqa: E501
    sources = [np.concatenate(pair) for pair in ((x, more_x[: n * (fainter - 1)]), (y, more_y[: n * (fainter - 1)]), (flux, dim[: n * (fainter - 1)]))]  # fmt: skip # noqa: E501
    check = check_pointing(pointing, SHAPE, *sources, catalog(pointing, *stars), 20.0)
    assert check.decisive and check.passed and check.n_expected <= 100
    assert check.offset_arcsec < 1e-3


def test_a_wcs_that_is_off_fails() -> None:
    pointing, x, y, flux = field(60)
    check = check_pointing(pointing, SHAPE, x, y, flux, catalog(pointing, x, y, flux, 0.03), 20.0)
    assert check.decisive and not check.passed


def test_a_wcs_that_is_off_fails_however_many_sources_there_are() -> None:
    pointing, x, y, flux = field(60)
    _, more_x, more_y, more_flux = field(6000, seed=2)
    sources = [np.concatenate(pair) for pair in ((x, more_x), (y, more_y), (flux, more_flux * 1e-4))]
    check = check_pointing(pointing, SHAPE, *sources, catalog(pointing, x, y, flux, 0.03), 20.0)
    assert check.decisive and not check.passed


@pytest.mark.parametrize(("side", "n"), [(192, 60), (192, 300), (256, 400), (512, 400)])
@pytest.mark.parametrize("clumps", [0, 4])
def test_a_crowded_image_confirms_its_own_wcs_and_no_other(side: int, n: int, clumps: int) -> None:
    right, wrong = 0, 0
    for seed in range(8):
        random = np.random.default_rng(seed)
        made = header(CRPIX1=side / 2 + 0.5, CRPIX2=side / 2 + 0.5)
        pointing = point(made, (side, side))
        x, y = random.uniform(1.0, side - 2.0, (2, n))
        if clumps:
            away = random.normal(0.0, side / 12.0, (2, clumps, n // clumps))
            x, y = (random.uniform(0.0, side, (2, clumps, 1)) + away).reshape(2, -1).clip(1.0, side - 2.0)
        flux = 10.0 ** random.exponential(0.5, x.size)
        stars = catalog(pointing, x, y, flux)
        # A third of the brightest are missing, places have errors, and the WCS is off by a pixel.
        seen = random.random(x.size) > 0.3
        places = (values[seen] + random.normal(0.0, 0.3, seen.sum()) for values in (x, y))
        args = (*places, flux[seen] * 10.0 ** random.normal(0.0, 0.1, seen.sum()))
        other = point(header(CRPIX1=side / 2 + 60.5, CRPIX2=side / 2 + 60.5, rotation_deg=22.0), (side, side))
        radius = 5.0 * pointing.pixel_scale_arcsec
        right += check_pointing(pointing, (side, side), args[0] + 1.0, *args[1:], stars, radius).passed
        wrong += check_pointing(other, (side, side), *args, stars, radius).passed
    assert (right, wrong) == (8, 0)


def test_a_source_is_one_star() -> None:
    pointing, x, y, flux = field(8)
    pairs = catalog(
        pointing,
        np.repeat(x, 5) + np.tile([0.0, 1.0, 2.0, -1.0, -2.0], 8),
        np.repeat(y, 5),
        np.repeat(flux, 5),
    )
    check = check_pointing(pointing, SHAPE, x, y, flux, pairs, 20.0)
    assert check.n_expected == 8 and check.n_matched <= 8
    fainter = (
        np.concatenate([values, more]) for values, more in zip((x, y, flux), ((10.0,) * 40,) * 3, strict=True)
    )
    assert check_pointing(pointing, SHAPE, *fainter, pairs, 20.0).n_matched <= 8


def test_a_small_offset_is_measured() -> None:
    pointing, x, y, flux = field(60)
    check = check_pointing(pointing, SHAPE, x, y, flux, catalog(pointing, x, y, flux, 3.0 / 3600.0), 20.0)
    assert check.passed and check.offset_arcsec == pytest.approx(3.0, abs=1e-3)


@pytest.mark.parametrize(
    ("expected", "matched", "passed"),
    [(5, 5, True), (5, 4, True), (5, 3, True), (5, 2, False), (9, 5, True), (9, 4, False), (10, 5, True),
     (10, 4, False), (16, 5, True), (100, 30, True), (100, 29, False), (4, 4, False), (0, 0, False)],
)  # fmt: skip
def test_few_stars_are_judged_by_their_share(expected: int, matched: int, passed: bool) -> None:
    assert WcsCheck(expected, matched, 1.0).passed == passed


def test_too_few_stars_decide_nothing() -> None:
    pointing, x, y, flux = field(4)
    check = check_pointing(pointing, SHAPE, x, y, flux, catalog(pointing, x, y, flux), 20.0)
    assert not check.decisive and not check.passed and check.n_expected == 4
    none = np.zeros(0)
    empty = check_pointing(pointing, SHAPE, x, y, flux, CatalogStars(none, none, none), 20.0)
    assert empty.n_expected == 0 and not empty.decisive
    unknown = CatalogStars(*pointing.to_sky(x, y), np.full(4, np.nan))
    assert check_pointing(pointing, SHAPE, x, y, flux, unknown, 20.0).n_expected == 0


def test_stars_beside_the_image_are_not_expected() -> None:
    pointing, x, y, flux = field(50)
    beside = catalog(pointing, x + SHAPE[1], y, flux * 1e3)
    inside = catalog(pointing, x, y, flux)
    both = CatalogStars(
        *(np.concatenate([getattr(inside, k), getattr(beside, k)]) for k in ("ra_deg", "dec_deg", "mag"))
    )
    check = check_pointing(pointing, SHAPE, x, y, flux, both, 20.0)
    assert check.n_expected == 50 and check.n_matched == 50


def test_crowding_of_sources_is_that_of_their_catalog_stars() -> None:
    pointing = point(header())
    # A pair, a star alone, and a source that no star is near.
    stars = catalog(
        pointing, np.array([50.0, 54.0, 150.0]), np.array([50.0, 50.0, 100.0]), np.array([100.0, 20.0, 50.0])
    )
    x, y = np.array([50.2, 150.0, 250.0, 53.9]), np.array([50.0, 100.3, 150.0, 50.0])
    share = catalog_crowding(pointing, x, y, stars, 2.0, 10.0, 2.5)
    np.testing.assert_allclose(share, [0.2, 0.0, 0.0, 5.0], rtol=1e-3)
    none = np.zeros(0)
    assert (
        catalog_crowding(pointing, x, y, CatalogStars(none, none, none), 2.0, 10.0, 2.5).tolist() == [0.0] * 4
    )
    assert catalog_crowding(pointing, none, none, stars, 2.0, 10.0, 2.5).size == 0


def test_a_scale_that_is_not_that_of_the_camera_is_reported() -> None:
    scale = header_pointing(header(), CAMERA, SHAPE, (0, 0)).pixel_scale_arcsec
    for factor, is_near in ((1.0, True), (1.2, True), (0.8, True), (2.0, False), (0.05, False)):
        other = Camera("other", optics=Optics(pixel_scale_arcsec=scale * factor))
        if is_near:
            assert header_pointing(header(), other, SHAPE, (0, 0)).pixel_scale_arcsec == scale
        else:
            with pytest.raises(
                FrameRejected, match=r"arcsec per pixel and other \S+; use the profile of its camera"
            ) as told:
                header_pointing(header(), other, SHAPE, (0, 0))
            assert told.value.reason == "bad_wcs"
