from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skylake.cameras import Profile
from skylake.core.astrometry_settings import Astrometry
from skylake.core.camera import FLUXES, Camera, Gate
from skylake.core.flags import FrameFlag, SourceFlag
from skylake.core.frame import FileContent
from skylake.core.frame_step import Step
from skylake.core.reasons import GATE_REASONS
from skylake.core.sphere import separation_deg
from skylake.image.fitsio.read_fits import read_file
from skylake.image.reduction.frame_record import ReducedFrame, ReduceParams, new_row
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.image.solving.located_frame import Reference
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.simulate import Moffat, render

Reduce = Callable[..., ReducedFrame]


@pytest.fixture(scope="session")
def reduce_pixels(
    fits_bytes: Callable[..., bytes], content_of: Callable[..., FileContent], camera: Camera
) -> Reduce:
    """A function that reduces a picture; options replace parts of the camera, capitals are header cards."""

    def go(
        pixels: Any, find_stars: Any = None, extension: bool = False, finish: Any = None, **options: Any
    ) -> ReducedFrame:
        cards = {name: value for name, value in options.items() if name.isupper()}
        here = replace(camera, **{name: value for name, value in options.items() if not name.isupper()})
        data = fits_bytes(np.asarray(pixels), extension, **cards)
        params = ReduceParams(
            None if find_stars is None else Reference(find_stars),
            finish=None if finish is None else lambda extracted: Step(finish(extracted)),
        )
        return reduce_frame(content_of(data), Profile(here, (), "lab.toml"), params)

    return go


@pytest.fixture(scope="session")
def good(reduce_pixels: Reduce, night_sky: Any) -> ReducedFrame:
    """The small field, reduced."""
    return reduce_pixels(night_sky.pixels)


def outcome(reduced: ReducedFrame) -> tuple[str, str | None]:
    """Status and reason, once it is clear that they are stated as the house wants it."""
    row = reduced.row
    # A frame may be well but for a part that was not read out, and says so.
    unread = "as if not read out" in (row.get("message") or "") and bool(row["flags"] & FrameFlag.NAN_PIXELS)
    silent = row.get("message") is None or (row["status"] == "ok" and unread)
    assert (row["status"] == "ok") == (row.get("reason") is None) == silent
    if row["status"] != "ok":
        assert "\n" not in row["message"] and 10 < len(row["message"]) < 500
        assert not row["message"].endswith(".")
    assert row["frame_id"] > 0 and row["camera"] == "lab" and row["config_sha256"]
    return row["status"], row.get("reason")


def test_a_good_frame_is_ok_and_knows_where_its_stars_are(good: ReducedFrame, night_sky: Any) -> None:
    assert outcome(good) == ("ok", None)
    row, sources = good.row, good.sources
    assert row["night"] == 20240407 and row["night_source"] == "site"
    assert row["mjd_mid"] == pytest.approx(60408.13217593 + 10.0 / 86400.0, abs=1e-8)
    assert (row["width_px"], row["height_px"], row["n_masked_px"], row["n_saturated_px"]) == (256, 256, 0, 0)
    assert (row["ra_deg"], row["dec_deg"]) == (pytest.approx(120.0), pytest.approx(-25.0))
    assert row["pixel_scale_arcsec"] == pytest.approx(8.0, rel=1e-4) and not row["mirrored"]
    assert row["sky_adu"] == pytest.approx(300.0, abs=1.0)
    assert row["sky_rms_adu"] == pytest.approx(night_sky.sky_noise, rel=0.1)
    assert row["fwhm_px"] == pytest.approx(3.0, rel=0.05)
    assert row["flags"] == FrameFlag.WCS_UNCHECKED
    index, distance = night_sky.nearest(sources.x, sources.y)
    assert distance.max() < 0.3 and len(sources) == row["n_detected"] >= len(night_sky.x)
    header = fits.Header()
    for name, value in (("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CRVAL1", 120.0), ("CRVAL2", -25.0)):
        header[name] = value
    header["CRPIX1"] = header["CRPIX2"] = 128.5
    header["CD1_1"], header["CD2_2"] = -8.0 / 3600.0, 8.0 / 3600.0
    ra, dec = WCS(header).all_pix2world(night_sky.x, night_sky.y, 0)
    away = separation_deg(ra, dec, good.ra_deg[index], good.dec_deg[index]) * 3600.0 / 8.0
    np.testing.assert_allclose(away, distance, atol=1e-3)


def test_corrected_flux_is_the_flux_of_the_star_per_second(good: ReducedFrame, night_sky: Any) -> None:
    index, _ = night_sky.nearest(good.sources.x, good.sources.y)
    true = night_sky.flux * night_sky.held(14.0) / 20.0
    for name in FLUXES:
        factor, error = good.row[f"apcor_{name}"], good.row[f"apcor_{name}_err"]
        ratio = good.sources.flux[name][index] * factor / true
        clean = good.sources.flags[index] == 0
        weight = 1.0 / ((good.sources.flux_err[name][index] * factor / true) ** 2 + 0.005**2)
        mean = np.average(ratio[clean], weights=weight[clean])
        assert abs(mean - 1.0) < 3.0 * np.hypot(error / factor, 1.0 / np.sqrt(weight[clean].sum())) + 0.003


@pytest.mark.parametrize("extension", [False, True])
@pytest.mark.parametrize("dtype", ["uint16", "int32", ">f4", "float64"])
def test_the_form_of_a_file_does_not_matter(
    reduce_pixels: Reduce, night_sky: Any, extension: bool, dtype: str
) -> None:
    stored = np.rint(night_sky.pixels)
    first = reduce_pixels(stored.astype("f4"))
    reduced = reduce_pixels(stored.astype(dtype), extension=extension)
    assert outcome(reduced) == ("ok", None) and reduced.row["extension"] == int(extension)
    for name in ("x", "y", "fwhm"):
        np.testing.assert_array_equal(getattr(reduced.sources, name), getattr(first.sources, name))
    np.testing.assert_array_equal(reduced.sources.flux["kron"], first.sources.flux["kron"])


@pytest.mark.parametrize("form", ["fits", "fits.gz", "fits.fz"])
def test_compression_does_not_matter(
    profile: Profile,
    fits_bytes: Callable[..., bytes],
    night_sky: Any,
    written: Callable[..., Path],
    form: str,
) -> None:
    plain = fits_bytes(np.rint(night_sky.pixels).astype("i2"))
    expected = reduce_frame(read_file(written(plain)), profile)
    data = plain
    if form == "fits.gz":
        data = gzip.compress(plain)
    elif form == "fits.fz":
        with fits.open(io.BytesIO(plain)) as units:
            packed = fits.CompImageHDU(units[0].data, units[0].header, compression_type="RICE_1")
            buffer = io.BytesIO()
            fits.HDUList([fits.PrimaryHDU(), packed]).writeto(buffer)
            data = buffer.getvalue()
    found = reduce_frame(read_file(written(data, f"frame2.{form}")), profile)
    assert outcome(found) == ("ok", None)
    np.testing.assert_array_equal(found.ra_deg, expected.ra_deg)
    np.testing.assert_array_equal(found.sources.flux["aper2"], expected.sources.flux["aper2"])
    # The same content is the same frame, however the file was packed.
    assert (found.row["frame_id"] == expected.row["frame_id"]) == (form != "fits.fz")


HEADERS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "no date": ({"DATE_OBS": None}, "failed", "no_time", r"DATE-OBS.*header\.time of the profile"),
    "no such date": ({"DATE_OBS": "2024-02-31T01:00:00"}, "failed", "no_time", r"DATE-OBS.*header\.time"),
    "a bias": ({"OBSTYPE": "BIAS"}, "skipped", "not_science", "OBSTYPE says 'BIAS'"),
    "a sky flat": ({"OBSTYPE": "sky flat"}, "skipped", "not_science", "OBSTYPE says 'sky flat'"),
    "two exposures": ({"EXPOSURE": 5.0}, "failed", "ambiguous_header", r"EXPTIME = 20, EXPOSURE = 5.*header\.exp"),
    "no WCS": ({"CTYPE1": None, "CTYPE2": None}, "rejected", "no_wcs", "CTYPE1 and CTYPE2.*its stars show"),
    "a linear WCS": ({"CTYPE1": "X", "CTYPE2": "Y"}, "rejected", "no_wcs", "CTYPE1"),
    "half a WCS": ({"CTYPE2": "RA---TAN"}, "rejected", "no_wcs", "its stars show"),
    "text in CRVAL1": ({"CRVAL1": "08:00:00"}, "rejected", "no_wcs", "its stars show"),
    "no scale": ({"CD1_1": 0.0, "CD2_2": 0.0}, "rejected", "no_wcs", "its stars show"),
    "a singular scale": ({"CD1_2": 1.0, "CD2_1": 1.0, "CD1_1": 1.0, "CD2_2": 1.0}, "rejected", "no_wcs", "its stars"),
    "no such projection": ({"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, "rejected", "no_wcs", "its stars show"),
}  # fmt: skip


@pytest.mark.parametrize(("cards", "status", "reason", "sentence"), HEADERS.values(), ids=HEADERS.keys())
def test_what_is_wrong_with_a_header_is_reported(
    reduce_pixels: Reduce,
    night_sky: Any,
    cards: dict[str, Any],
    status: str,
    reason: str,
    sentence: str,
) -> None:
    reduced = reduce_pixels(night_sky.pixels, **cards)
    assert outcome(reduced) == (status, reason)
    assert re.search(sentence, reduced.row["message"])
    assert reduced.ra_deg is None
    assert reduced.sources is None or np.all(reduced.sources.flags & SourceFlag.FRAME_REJECTED)


def test_a_frame_without_wcs_keeps_what_was_measured(reduce_pixels: Reduce, night_sky: Any) -> None:
    reduced = reduce_pixels(night_sky.pixels, CTYPE1=None)
    row = reduced.row
    assert reduced.sources is not None and len(reduced.sources) == row["n_detected"]
    assert row["reason"] == "no_wcs" and row["n_detected"] > 50 and row["fwhm_px"] > 2.0
    assert row["sky_adu"] == pytest.approx(300.0, abs=1.0) and "ra_deg" not in row


NOISE = np.random.default_rng(2).normal(300.0, 12.0, (128, 128)).astype("f4")
FEW = NOISE + render((128, 128), [30.0, 64.0, 99.0], [30.0, 90.0, 40.0], [2e4] * 3, Moffat(3.0))
PICTURES: dict[str, tuple[Any, str, str, str]] = {
    "all NaN": (np.full((60, 60), np.nan, "f4"), "failed", "no_valid_pixels", "no pixel holds a valid.*HDU 0.*BLANK"),
    "beyond measure": (np.full((60, 60), 3e38, "f4"), "failed", "no_valid_pixels", "no pixel holds a valid"),
    "all infinite": (np.full((60, 60), np.inf, "f4"), "failed", "no_valid_pixels", "no pixel holds a valid"),
    "constant": (np.full((60, 60), 300.0, "f4"), "rejected", "no_sources", "value 300: the detector was not read"),
    "zeros": (np.zeros((60, 60), "i2"), "rejected", "no_sources", "value 0: the detector was not read out.*extension"),
    "no stars": (NOISE, "rejected", "no_sources", r"no source above [\d.]+ sigma; clouds, a closed dome"),
    "few stars": (FEW, "rejected", "too_few_sources", r"n_sources is 3, below the limit 20 of gates.n_sources"),
    "a single pixel": (np.array([[7.0]], "f4"), "rejected", "no_sources", "no noise"),
    "a cube": (np.zeros((3, 20, 20), "f4"), "failed", "no_image", "HDU 0 is a cube of 20 x 20 x 3.*header.extension"),
    "a line": (np.zeros(20, "f4"), "failed", "no_image", "correct header.extension"),
}  # fmt: skip


@pytest.mark.parametrize(("pixels", "status", "reason", "sentence"), PICTURES.values(), ids=PICTURES.keys())
def test_a_picture_without_stars_is_reported(
    reduce_pixels: Reduce, pixels: Any, status: str, reason: str, sentence: str
) -> None:
    reduced = reduce_pixels(pixels, gates={"n_sources": Gate(min=20)})
    assert outcome(reduced) == (status, reason)
    assert re.search(sentence, reduced.row["message"])


@pytest.mark.parametrize(
    ("saturation", "sentence"), [(None, "value 65535: the detector was not"), (6e4, "no noise")]
)
def test_a_detector_that_is_saturated_everywhere_was_read_out(
    reduce_pixels: Reduce, camera: Camera, saturation: float | None, sentence: str
) -> None:
    detector = replace(camera.detector, saturation_adu=saturation)
    reduced = reduce_pixels(np.full((60, 60), 65535, "u2"), detector=detector)
    assert outcome(reduced) == ("rejected", "no_sources") and sentence in reduced.row["message"]


def test_a_frame_of_another_size_names_both_sizes(
    reduce_pixels: Reduce, night_sky: Any, camera: Camera
) -> None:
    detector = replace(camera.detector, width_px=1024, height_px=512)
    reduced = reduce_pixels(night_sky.pixels, detector=detector)
    assert outcome(reduced) == ("failed", "wrong_size")
    assert "256 x 256" in reduced.row["message"] and "1024 x 512" in reduced.row["message"]
    assert "detector.width_px" in reduced.row["message"]
    # What the header said before is kept.
    assert reduced.row["night"] == 20240407 and reduced.row["exposure_s"] == 20.0


def test_too_many_pixels_overflow_and_a_few_raise_the_threshold(
    reduce_pixels: Reduce, night_sky: Any, camera: Camera
) -> None:
    few = replace(camera.extraction, max_pixels=100)
    reduced = reduce_pixels(night_sky.pixels, extraction=few)
    assert outcome(reduced) == ("rejected", "detection_overflow")
    assert "extraction.max_pixels" in reduced.row["message"]
    pixels = int(reduce_pixels(night_sky.pixels).sources.n_pixels.sum())
    some = replace(camera.extraction, max_pixels=pixels)
    raised = reduce_pixels(night_sky.pixels, extraction=some)
    twice = 2.0 * camera.extraction.threshold
    assert outcome(raised) == ("ok", None) and raised.row["threshold_sigma"] == twice
    assert raised.row["flags"] & FrameFlag.THRESHOLD_RAISED


#: A gate on each metric that this frame cannot pass.
IMPOSSIBLE = {
    "n_sources": Gate(min=1e6),
    "elongation": Gate(max=0.5),
    "elongation_max": Gate(max=0.5),
    "mean_ellipticity": Gate(max=-1.0),
    "theta_kurtosis": Gate(max=-3.0),
    "fwhm_px": Gate(max=1.0),
    "flux_max": Gate(max=1.0),
    "sun_altitude_deg": Gate(max=-89.9),
    "sky_adu": Gate(max=10.0),
    "sky_rms_adu": Gate(max=0.1),
    "sky_saturation": Gate(max=0.0001),
    "found_fraction": Gate(min=1.1),
    "astrom_rms_px": Gate(max=-1.0),
    "astrom_completeness": Gate(min=1.1),
}


@pytest.mark.parametrize("metric", GATE_REASONS)
def test_each_gate_rejects_by_its_reason_and_keeps_sources(
    reduce_pixels: Reduce, night_sky: Any, good: ReducedFrame, camera: Camera, metric: str
) -> None:
    detector = replace(camera.detector, saturation_adu=1e6)
    gates = {metric: IMPOSSIBLE[metric]}
    always = Astrometry(refine="always" if metric.startswith("astrom_") else "needed")
    reduced = reduce_pixels(night_sky.pixels, Finder(good), gates=gates, detector=detector, astrometry=always)
    assert outcome(reduced) == ("rejected", str(GATE_REASONS[metric]))
    assert f"gates.{metric}" in reduced.row["message"] and reduced.row["gates_failed"] == metric
    assert len(reduced.sources) == len(good.sources)
    assert (reduced.sources.flags & SourceFlag.FRAME_REJECTED).all()


def test_a_gate_that_warns_leaves_the_frame_ok(reduce_pixels: Reduce, night_sky: Any) -> None:
    gates = {"fwhm_px": Gate(max=1.0, action="warn"), "n_sources": Gate(min=1)}
    reduced = reduce_pixels(night_sky.pixels, gates=gates)
    assert outcome(reduced) == ("ok", None)
    assert reduced.row["gates_failed"] == "fwhm_px" and reduced.row["flags"] & FrameFlag.GATE_WARNING
    assert not (reduced.sources.flags & SourceFlag.FRAME_REJECTED).any()


class Finder:
    """The catalog of a field, moved on the sky by some degrees."""

    def __init__(self, reduced: ReducedFrame, moved_deg: float = 0.0) -> None:
        bright = np.argsort(-reduced.sources.flux["aper2"])
        flux = reduced.sources.flux["aper2"][bright]
        dec = reduced.dec_deg[bright] + moved_deg
        self.stars = CatalogStars(reduced.ra_deg[bright], dec, -2.5 * np.log10(np.maximum(flux, 1e-3)))
        self.asked: list[tuple[float, ...]] = []

    def __call__(self, *asked: float) -> CatalogStars:
        self.asked.append(asked)
        return self.stars


def test_the_catalog_is_read_for_the_field_and_confirms_its_wcs(
    reduce_pixels: Reduce, night_sky: Any, good: ReducedFrame
) -> None:
    finder = Finder(good)
    reduced = reduce_pixels(night_sky.pixels, finder, finish=lambda extracted: extracted.stars)
    assert len(reduced.finished.ra_deg) >= reduced.row["wcs_expected"], "targets are placed with its stars"
    assert outcome(reduced) == ("ok", None) and not reduced.row["flags"] & FrameFlag.WCS_UNCHECKED
    ((ra, dec, radius, mjd),) = finder.asked
    assert (ra, dec, mjd) == (pytest.approx(120.0), pytest.approx(-25.0), reduced.row["mjd_mid"])
    assert radius == pytest.approx(128.0 * np.sqrt(2.0) * 8.0 / 3600.0, rel=1e-3)
    assert reduced.row["wcs_matched"] >= 0.95 * reduced.row["wcs_expected"] > 40
    assert reduced.row["wcs_offset_arcsec"] < 0.1


def test_a_wcs_that_the_catalog_contradicts_is_bad(
    reduce_pixels: Reduce, night_sky: Any, good: ReducedFrame
) -> None:
    reduced = reduce_pixels(night_sky.pixels, Finder(good, 0.027))
    assert outcome(reduced) == ("rejected", "bad_wcs") and reduced.ra_deg is None
    told = (
        rf"{reduced.row['wcs_matched']} of the {reduced.row['wcs_expected']} brightest.*its stars show where"
    )
    assert re.search(told, reduced.row["message"])


def test_a_sky_without_catalog_stars_says_nothing_about_the_wcs(
    reduce_pixels: Reduce, night_sky: Any
) -> None:
    none = np.zeros(0)
    reduced = reduce_pixels(
        night_sky.pixels,
        lambda *_: CatalogStars(none, none, none),
        finish=lambda extracted: (extracted.stars,),
    )
    assert reduced.finished == (None,)
    assert outcome(reduced) == ("ok", None) and reduced.row["flags"] & FrameFlag.WCS_UNCHECKED


def test_the_profile_may_forbid_the_wcs(reduce_pixels: Reduce, night_sky: Any, camera: Camera) -> None:
    reduced = reduce_pixels(night_sky.pixels, header=replace(camera.header, wcs="none"))
    assert outcome(reduced) == ("rejected", "no_wcs")
    assert re.search(
        r"header\.wcs = 'none' in the profile.*a lake with a catalog \(--lake", reduced.row["message"]
    )
    reduced = reduce_pixels(
        night_sky.pixels, lambda *_: CatalogStars(*np.zeros((3, 0))), header=replace(camera.header, wcs="none"),
        astrometry=replace(camera.astrometry, solve=False),
    )  # fmt: skip
    assert re.search(r"'none' in the profile.*; with astrometry\.solve = true", reduced.row["message"])


def test_trimming_moves_pixels_and_wcs_together(
    reduce_pixels: Reduce, night_sky: Any, good: ReducedFrame, camera: Camera
) -> None:
    wide = np.full((270, 290), 7.0, "f4")
    wide[10:266, 30:286] = night_sky.pixels
    detector = replace(camera.detector, trim_x=(30, 286), trim_y=(10, 266))
    reduced = reduce_pixels(wide, detector=detector, CRPIX1=128.5 + 30.0, CRPIX2=128.5 + 10.0)
    assert outcome(reduced) == ("ok", None)
    np.testing.assert_allclose(reduced.sources.x, good.sources.x)
    np.testing.assert_allclose(reduced.ra_deg, good.ra_deg, atol=1e-9)
    np.testing.assert_allclose(reduced.dec_deg, good.dec_deg, atol=1e-9)


def test_bad_pixels_do_not_spoil_the_stars_beside_them(
    reduce_pixels: Reduce, night_sky: Any, good: ReducedFrame
) -> None:
    pixels = night_sky.pixels.copy()
    pixels[:, 100] = np.nan
    pixels[40] = np.inf
    reduced = reduce_pixels(pixels)
    assert outcome(reduced) == ("ok", None) and reduced.row["n_masked_px"] == 511
    assert reduced.row["flags"] & FrameFlag.NAN_PIXELS
    near = (np.abs(reduced.sources.x - 100) < 2.5) | (np.abs(reduced.sources.y - 40) < 2.5)
    assert near.any() and (reduced.sources.flags[near] & SourceFlag.BAD_PIXEL).all()
    far = (np.abs(night_sky.x - 100) > 10) & (np.abs(night_sky.y - 40) > 10)
    index, distance = night_sky.nearest(reduced.sources.x, reduced.sources.y)
    before, _ = night_sky.nearest(good.sources.x, good.sources.y)
    assert distance[far].max() < 0.3
    ratio = reduced.sources.flux["aper2"][index[far]] / good.sources.flux["aper2"][before[far]]
    np.testing.assert_allclose(ratio, 1.0, atol=0.02)


def test_the_frame_is_known_by_its_content_or_else_its_path(
    profile: Profile, content_of: Callable[..., FileContent]
) -> None:
    def number(data: bytes, path: str) -> int:
        return int(new_row(profile, path, content_of(data, path))["frame_id"])

    assert number(b"a", "/a") == number(b"a", "/b") != number(b"b", "/a")
    assert number(b"", "/a") != number(b"", "/b")
    assert number(b"", "/a") == new_row(profile, "/a")["frame_id"]
    other = replace(profile, base=replace(profile.base, name="other"))
    assert new_row(other, "/a")["frame_id"] != new_row(profile, "/a")["frame_id"]


BYTES = {
    "empty": (b"", "empty_file"),
    "text": (b"no picture", "not_fits"),
    "truncated gzip": (gzip.compress(bytes(20000))[:-9], "truncated"),
    "a header": (b"SIMPLE  =                    T", "truncated"),
}


@pytest.mark.parametrize(("data", "reason"), BYTES.values(), ids=BYTES.keys())
def test_a_file_that_is_no_picture_becomes_a_row(
    profile: Profile, content_of: Callable[..., FileContent], data: bytes, reason: str
) -> None:
    reduced = reduce_frame(content_of(data), profile)
    assert outcome(reduced) == ("failed", reason)
    assert reduced.row["file"] == "/nowhere/frame.fits" and reduced.row["night"] == 0


values = st.one_of(
    st.floats(0.0, 1000.0, width=32),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 65535.0, -1e30, 3e38, 1e-38]),
)


@given(
    pixels=hnp.arrays("f4", hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=values),
    saturation=st.sampled_from([None, 500.0]),
    annulus=st.sampled_from([None, (4.0, 6.0)]),
)
def test_any_small_picture_ends_as_one_row(
    reduce_pixels: Reduce, camera: Camera, pixels: Any, saturation: float | None, annulus: Any
) -> None:
    reduced = reduce_pixels(
        pixels,
        detector=replace(camera.detector, saturation_adu=saturation),
        apertures=replace(camera.apertures, sky_annulus_px=annulus),
        extraction=replace(camera.extraction, max_pixels=10_000),
    )
    assert outcome(reduced)[1] != "error"


@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4, 1e15, 1e30]),
    offset=st.sampled_from([0.0, -1e6, 300.0, 1e7]),
    hole=st.integers(0, 120),
    value=st.sampled_from([np.nan, 0.0, 1e9]),
)
def test_any_noisy_picture_ends_as_one_row(
    reduce_pixels: Reduce, camera: Camera, seed: int, scale: float, offset: float, hole: int, value: float
) -> None:
    random = np.random.default_rng(seed)
    pixels = random.normal(0.0, 1.0, (96, 120))
    pixels[random.integers(0, 96, 40), random.integers(0, 120, 40)] += 50.0
    pixels = (pixels * scale + offset).astype("f4")
    pixels[:, :hole] = value
    few = replace(camera.extraction, max_pixels=10_000)
    assert outcome(reduce_pixels(pixels, extraction=few))[1] != "error"
