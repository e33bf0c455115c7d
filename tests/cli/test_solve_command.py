"""``skylake solve`` and ``skylake catalog index``."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from skylake.core.sphere import separation_deg, tangent_basis, unit_vectors
from skylake.simulate import Moffat, render

Run = Callable[..., Any]
SIDE, SCALE_DEG = 512, 12.0 / 512
CENTRE = (40.0, 62.0)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory, well: Run) -> Path:
    """A lake with a made-up sky, and a frame of it without a WCS."""
    folder = tmp_path_factory.mktemp("solving")
    random = np.random.default_rng(6)
    n = 20_000
    vectors = random.normal(size=(n, 3))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    ra, dec = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0])) % 360, np.degrees(np.arcsin(vectors[:, 2]))
    mag = 10.0 + 2.0 * np.log10(random.uniform(1e-4, 1.0, n))
    Table({"ra": ra, "dec": dec, "V": mag}).write(folder / "stars.fits")
    well("init", folder / "lake")
    options = ("--format", "table", "--ra", "ra", "--dec", "dec", "--mag", "V=V", "--mag-err", "V=0.05")
    well("catalog", "import", folder / "lake", "made-up", folder / "stars.fits", *options)
    east, north = tangent_basis(*CENTRE)
    axis = unit_vectors(*CENTRE)
    depth = vectors @ axis
    x, y = (-np.degrees(vectors @ way / depth) / SCALE_DEG + 0.5 * (SIDE - 1) for way in (east, -north))
    seen = (depth > 0.9) & (np.abs(x - SIDE / 2) < SIDE / 2) & (np.abs(y - SIDE / 2) < SIDE / 2)
    light = render((SIDE, SIDE), x[seen], y[seen], 10.0 ** (0.4 * (18.0 - mag[seen])), Moffat(2.5), 20.0, 1.0)
    pixels = random.poisson(light + 200.0).astype(np.float32)
    cards = fits.Header(
        {
            "DATE-OBS": "2024-01-01T00:00:00",
            "CTYPE1": "RA---TAN",
            "CROTA2": 3.0,
            "OBSERVER": "nobody",
            "A_FOCUS": 3.5,
            "A_0_2": 1e-6,
        }
    )
    fits.PrimaryHDU(pixels, cards).writeto(folder / "frame.fits")
    return folder


def test_a_frame_is_solved_and_its_wcs_written(survey: Path, well: Run) -> None:
    built = well("catalog", "index", survey / "lake", "made-up", "--scales", 5, 40, "--json").json
    assert built["asterisms"] > 20_000 and Path(built["file"]).stat().st_size == built["bytes"]
    (row,) = well(
        "solve", survey / "frame.fits", "--lake", survey / "lake", "--scale", 75, 100, "--out", survey / "out",
        "--seconds", 60, "--json",
    ).json  # fmt: skip
    assert row["status"] == "solved" and not row["mirrored"] and row["n_matched"] > 30
    assert float(separation_deg(row["ra_deg"], row["dec_deg"], *CENTRE)) < 0.2 * SCALE_DEG
    assert row["scale_arcsec"] == pytest.approx(3600.0 * SCALE_DEG, rel=1e-3)
    header = fits.getheader(row["product"])
    assert (header["IMAGEW"], header["IMAGEH"]) == (SIDE, SIDE)
    (history,) = header["HISTORY"]
    assert history.startswith("WCS by skylake 0.1.0")
    assert history.endswith(f", catalog made-up, {row['n_matched']} stars, rms {row['rms_px']:.3f} px")
    # astropy warns of a WCS of two axes in a file without pixels.
    assert header.pop("NAXIS") == 0
    wcs = WCS(header)
    assert np.allclose(wcs.all_pix2world(*[0.5 * (SIDE - 1)] * 2, 0), CENTRE, atol=0.2 * SCALE_DEG)
    assert wcs.all_pix2world(0, SIDE / 2, 0)[0] > wcs.all_pix2world(SIDE, SIDE / 2, 0)[0]


def test_a_solved_frame_is_refined_to_its_stars_and_drawn(survey: Path, well: Run) -> None:
    (row,) = well(
        "solve", survey / "frame.fits", "--lake", survey / "lake", "--scale", 75, 100, "--out", survey / "drawn",
        "--seconds", 60, "--plot", "--json",
    ).json  # fmt: skip
    assert row["refined"] and row["projection"] == "rectilinear" and row["n_parameters"] == 4
    assert row["rms_px"] < 0.15 and row["held_out_px"] < 0.15 and row["wcs_px"] < 0.01
    assert row["rms_arcsec"] == pytest.approx(3600.0 * SCALE_DEG * row["rms_px"], rel=0.02)
    assert row["completeness"] > 0.9 and row["sip_order"] == 1
    names = [Path(file).name for file in row["pictures"]]
    assert names == [f"frame.{kind}.png" for kind in ("residuals", "radius", "histogram", "distortion")]
    assert all(Path(file).read_bytes().startswith(b"\x89PNG") for file in row["pictures"])


def test_the_whole_sky_needs_a_site(survey: Path, skylake_command: Run) -> None:
    answer = skylake_command("solve", survey / "frame.fits", "--lake", survey / "lake", "--all-sky")
    assert answer.status != 0 and "longitude_deg" in answer.sentence


def test_a_copy_has_the_new_wcs_and_all_else_of_the_frame(survey: Path, well: Run) -> None:
    (row,) = well(
        "solve", survey / "frame.fits", "--lake", survey / "lake", "--centre", 40, 62, "--radius", 3, "--scale", 75,
        100, "--not-mirrored", "--seconds", 60, "--write", "--json",
    ).json  # fmt: skip
    assert row["product"] == str(survey / "frame.solved.fits")
    with fits.open(row["product"]) as solved, fits.open(survey / "frame.fits") as frame:
        assert np.array_equal(solved[0].data, frame[0].data)
        header = solved[0].header
        del header["DATE-OBS"]
    assert header["OBSERVER"] == "nobody" and "CROTA2" not in header
    assert "IMAGEW" not in header and "catalog made-up" in str(header["HISTORY"])
    assert header["A_FOCUS"] == 3.5 and "A_0_2" not in header
    # The lens that drew the frame has no distortion, so that there is nothing for SIP to show.
    assert header["CTYPE1"] == "RA---TAN" and "A_ORDER" not in header
    assert math.isclose(WCS(header).wcs.crval[1], row["dec_deg"])


def test_a_folder_stands_for_the_frames_in_it(
    survey: Path, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    (tmp_path / "night").mkdir()
    for name in ("a.fits", "b.solved.fits"):
        (tmp_path / "night" / name).symlink_to(survey / "frame.fits")
    hints = ("--lake", survey / "lake", "--scale", 75, 100, "--seconds", 60)
    rows = well("solve", tmp_path / "night", *hints, "--json").json
    assert [row["product"] for row in rows] == [str(tmp_path / "night" / "a.wcs")]
    # One that skylake wrote is solved again where it is named itself.
    named = well("solve", tmp_path / "night" / "b.solved.fits", *hints, "--json").json
    assert named[0]["status"] == "solved"
    (tmp_path / "empty").mkdir()
    answer = skylake_command("solve", tmp_path / "empty", *hints)
    assert answer.status == 2 and "no FITS frame" in answer.sentence


def test_wrong_hints_are_reported_and_cost_only_time(
    survey: Path, tmp_path: Path, skylake_command: Run
) -> None:
    answer = skylake_command(
        "solve", survey / "frame.fits", "--lake", survey / "lake", "--centre", 200, -20, "--scale", 30, 50,
        "--mirrored", "--seconds", 60, "--out", tmp_path, "--json",
    )  # fmt: skip
    assert answer.status == 0
    (row,) = answer.json
    assert row["status"] == "solved" and not row["mirrored"] and "30 to 50 was given" in row["message"]
    assert float(separation_deg(row["ra_deg"], row["dec_deg"], *CENTRE)) < 0.2 * SCALE_DEG
    assert "the image is not mirrored" in answer.err and "degrees from the one that was given" in answer.err


def test_a_frame_of_no_stars_is_reported_unsolved(survey: Path, tmp_path: Path, skylake_command: Run) -> None:
    random = np.random.default_rng(9)
    x, y = random.uniform(10.0, SIDE - 10.0, (2, 40))
    light = render((SIDE, SIDE), x, y, 10.0 ** random.uniform(4.0, 5.0, 40), Moffat(2.5), 20.0, 1.0)
    fits.PrimaryHDU(random.poisson(light + 200.0).astype(np.float32)).writeto(tmp_path / "points.fits")
    answer = skylake_command(
        "solve", tmp_path / "points.fits", "--lake", survey / "lake", "--scale", 75, 100, "--json"
    )
    assert answer.status == 1 and answer.json[0]["status"] == "unsolved"
    assert (
        "nor does one fit with scale, centre and parity left open, as if none was given"
        in answer.json[0]["message"]
    )
    assert answer.json[0]["reason"] == "no_wcs" and "no star pattern fits" in answer.err
    assert answer.json[0]["product"] is None
    # What did not happen has no figure, and the sentence shows what may help.
    assert answer.json[0]["log_odds"] is None or answer.json[0]["log_odds"] > -100.0
    assert "check the scale" in answer.err or "allow more seconds" in answer.err


def test_wrong_limits_are_wrong_use(survey: Path, skylake_command: Run) -> None:
    answer = skylake_command("solve", survey / "frame.fits", "--lake", survey / "lake", "--scale", 9, 3)
    assert answer.status == 2 and "smaller limit first" in answer.err


def test_frames_of_one_name_do_not_write_over_each_other(
    survey: Path, tmp_path: Path, skylake_command: Run
) -> None:
    frames = [tmp_path / name / "0001.fits" for name in ("n1", "n2")]
    for frame in frames:
        frame.parent.mkdir()
        frame.symlink_to(survey / "frame.fits")
    answer = skylake_command("solve", *frames, "--lake", survey / "lake", "--out", tmp_path / "solved")
    assert answer.status == 2
    assert (
        f"{frames[0]} and {frames[1]} would both be written to {tmp_path}/solved/0001.wcs" in answer.sentence
    )


def test_the_profile_of_the_frame_time_gives_size_and_scale(survey: Path, tmp_path: Path, well: Run) -> None:
    (tmp_path / "camera.toml").write_text(
        'name = "moved"\nlike = "generic"\ndetector = { width_px = 100, height_px = 80 }\n'
        "optics.pixel_scale_arcsec = 3.0\n\n[[period]]\nfrom = 2023-01-01\n"
        f"detector = {{ width_px = {SIDE}, height_px = {SIDE} }}\noptics.pixel_scale_arcsec = 80.0\n"
        "astrometry.mirrored = false\n"
    )
    (row,) = well(
        "solve", survey / "frame.fits", "--lake", survey / "lake", "--camera", tmp_path / "camera.toml",
        "--seconds", 60, "--out", tmp_path, "--json",
    ).json  # fmt: skip
    assert row["status"] == "solved" and row["scale_arcsec"] == pytest.approx(3600.0 * SCALE_DEG, rel=1e-3)
