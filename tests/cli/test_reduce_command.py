"""``skylake reduce``: products of single frames."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from skylake.core.flags import SourceFlag

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def frame(sky: Path) -> Path:
    return sorted((sky / "frames").rglob("*.fits*"))[0]


def test_a_frame_gives_its_catalog_its_row_and_pictures(
    frame: Path, camera: Path, tmp_path: Path, well: Run
) -> None:
    answer = well("reduce", frame, "--camera", camera, "--out", tmp_path / "out", "--plots", "--json")
    (row,) = answer.json
    stem = frame.name.partition(".fit")[0]
    ends = ("frame.json", "sources.fits", "frame.png", "background.png", "histogram.png")
    names = [f"{stem}.{end}" for end in ends]
    assert [Path(one).name for one in row["products"]] == names
    sources = Table.read(tmp_path / "out" / names[1])
    told = json.loads((tmp_path / "out" / names[0]).read_text())
    assert len(sources) == told["n_detected"] > 20 and told["status"] == row["status"] == "ok"
    assert sources["flux_aper1"].unit is not None and sources["ra_deg"].unit == "deg"
    for name in names[2:]:
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")


def test_what_it_gives_is_what_ingest_puts_into_the_lake(
    frame: Path, camera: Path, tmp_path: Path, well: Run
) -> None:
    lake = tmp_path / "lake"
    well("init", lake)
    well("ingest", lake, "--camera", camera, frame)
    well("reduce", frame, "--camera", camera, "--out", tmp_path, "--format", "parquet")
    (path,) = tmp_path.glob("*.sources.parquet")
    question = "SELECT {} FROM {} ORDER BY source_no"
    columns = "frame_id, source_no, ra_deg, x_px, flux_aper2, flux_aper2_err, flags"
    ours = well(
        "sql", lake, question.format(columns, f"read_parquet('{path}')"), "--file", path, "--format", "json"
    ).json
    assert ours == well("sql", lake, question.format(columns, "sources"), "--format", "json").json
    assert len(ours) > 20


@pytest.mark.parametrize("name", ["0001.fits", "0001.fits.fz"])
def test_frames_with_products_of_one_name_are_refused_first(
    name: str, frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    paths = [tmp_path / "a" / "0001.fits", tmp_path / "b" / name]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(frame.read_bytes())
    answer = skylake_command("reduce", *paths, "-c", camera, "--out", tmp_path / "out")
    assert answer.status == 2 and not (tmp_path / "out").exists()
    assert all(str(path) in answer.err for path in paths) and "--out" in answer.err


def test_completeness_is_a_curve_with_errors(frame: Path, camera: Path, tmp_path: Path, well: Run) -> None:
    answer = well("reduce", frame, "-c", camera, "--out", tmp_path, "--inject", "--stars", 600, "--json")
    (row,) = answer.json
    (path,) = tmp_path.glob("*.completeness.ecsv")
    curve = Table.read(path)
    assert curve["n_injected"].sum() >= 600
    assert np.all(curve["low"] <= curve["fraction"]) and np.all(curve["fraction"] <= curve["high"])
    assert curve["fraction"][0] < 0.2 and curve["fraction"][-1] > 0.6
    assert str(curve["flux"].unit) == "adu / s" and str(curve["mag_inst"].unit) == "mag"
    assert all(curve[name].description for name in curve.colnames) and "mag" not in curve.colnames
    assert row["magnitudes"] == "instrumental" and row["zeropoint"] is None
    assert -12 < row["mag_half"] < 3 and 0 < row["mag_half_err"] < 0.3
    cells = np.array(row["mag_half_cells"], float)
    assert cells.shape == (9,) and abs(np.nanmedian(cells) - row["mag_half"]) < 0.5
    assert next(tmp_path.glob("*.completeness.png")).stat().st_size > 5000


def test_a_frame_without_a_wcs_keeps_what_was_measured(
    frame: Path, camera: Path, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    """Pixels and fluxes are those of the same frame with a WCS; there is no place on the sky."""
    pixels, header = fits.getdata(frame, header=True)
    for name in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"):
        header.remove(name)
    fits.writeto(tmp_path / "lost.fits", pixels, header)
    answer = skylake_command("reduce", tmp_path / "lost.fits", "-c", camera, "--out", tmp_path, "--json")
    (row,) = json.loads(answer.out)
    assert answer.status == 1 and row["reason"] == "no_wcs"
    assert [Path(one).name for one in row["products"]] == ["lost.frame.json", "lost.sources.fits"]
    well("reduce", frame, "-c", camera, "--out", tmp_path / "placed")
    paths = tmp_path / "lost.sources.fits", next((tmp_path / "placed").glob("*.sources.fits"))
    found, wanted = (fits.getdata(path) for path in paths)
    assert len(found) == len(wanted) > 20
    assert np.all(np.isnan(found["ra_deg"])) and np.all(np.isnan(found["dec_deg"]))
    assert "_healpix_29" not in found.names
    for name in ("source_no", "x_px", "y_px", "flux_aper2", "flux_kron_err"):
        assert np.array_equal(found[name], wanted[name]), name
    assert np.array_equal(found["flags"], wanted["flags"] | int(SourceFlag.FRAME_REJECTED))


def test_an_unplaced_frame_has_a_completeness(
    frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    pixels, header = fits.getdata(frame, header=True)
    for name in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "RA", "DEC"):
        header.remove(name, ignore_missing=True)
    paths = [tmp_path / "lost.fits", tmp_path / "dark.fits"]
    fits.writeto(paths[0], pixels, header)
    fits.writeto(paths[1], np.zeros(pixels.shape, np.float32), header)
    options = ("-c", camera, "--out", tmp_path / "out", "--inject", "--stars", 300, "--json")
    answer = skylake_command("reduce", *paths, *options)
    lost, dark = json.loads(answer.out)
    assert answer.status == 1 and lost["reason"] == "no_wcs"
    assert -12 < lost["mag_half"] < 3 and 0 < lost["mag_half_err"] < 0.5
    assert dark["mag_half"] is None and "dark.fits: no stars were injected" in answer.err
    assert [path.name for path in (tmp_path / "out").glob("*.completeness.ecsv")] == [
        "lost.completeness.ecsv"
    ]


def test_without_catalog_stars_the_advice_is_a_command(
    frame: Path, camera: Path, sky: Path, folder: Path, tmp_path: Path, columns: tuple[str, ...], well: Run
) -> None:
    """It runs as it stands, in a lake whose name has to be quoted."""
    root, beyond = folder / "lake with one frame", tmp_path / "beyond.fits"
    pixels, header = fits.getdata(frame, header=True)
    header["CRVAL2"] -= 40.0
    fits.writeto(beyond, pixels, header)
    well("init", root, "--cluster", "inline", "--pixel-order", 3)
    well("catalog", "import", root, "simcat", "--format", "table", sky / "catalog.parquet", *columns)
    reduced = well("reduce", beyond, "-c", camera, "--out", tmp_path, "--lake", root)
    told = well("ingest", root, "--camera", camera, beyond).err.splitlines()[-1]
    assert "the catalog simcat has too few stars there" in told and told in reduced.err.splitlines()
    program, *arguments = shlex.split(told.split("`")[1])
    assert (program, arguments[:2]) == ("skylake", ["catalog", "cone"])
    (row,) = well("sql", root, "SELECT ra_deg, dec_deg FROM frames", "--format", "json").json
    assert [float(one) for one in arguments[-3:-1]] == pytest.approx(
        [row["ra_deg"], row["dec_deg"]], abs=1e-4
    )
    lines = well(*arguments).out.splitlines()
    assert "ra_deg" in lines[0] and len(lines) < 5


def test_with_a_lake_the_frame_is_as_in_the_lake(
    frame: Path, camera: Path, lake: Path, tmp_path: Path, well: Run
) -> None:
    answer = well(
        "reduce", frame, "-c", camera, "--out", tmp_path, "--lake", lake, "--inject", "--stars", 300, "--json"
    )
    (row,) = answer.json
    question = f"""SELECT f.zp, f.mag_limit, f.mag_limit_counts, f.wcs_matched, f.found_fraction, f.flux_limit_counts
        FROM calibrated_frames AS f WHERE parse_filename(f.file) = '{frame.name}'"""
    (held,) = well("sql", lake, question, "--format", "json").json
    told = json.loads(next(tmp_path.glob("*.frame.json")).read_text())
    assert told["wcs_matched"] == held["wcs_matched"] > 20
    assert told["found_fraction"] == pytest.approx(held["found_fraction"], abs=1e-6)
    assert held["found_fraction"] > 0.5
    assert row["zeropoint"] == pytest.approx(held["zp"], abs=1e-9)
    assert row["mag_sky"] == pytest.approx(held["mag_limit"], abs=1e-4)
    assert abs(row["mag_half"] - row["mag_sky"]) < 1.0
    expected = held["zp"] - 2.5 * np.log10(held["flux_limit_counts"])
    assert held["mag_limit_counts"] == pytest.approx(expected, abs=1e-6)
    curve = Table.read(next(tmp_path.glob("*.completeness.ecsv")))
    np.testing.assert_allclose(curve["mag"], curve["mag_inst"] + row["zeropoint"])
    assert row["magnitudes"] == "calibrated"


def test_failed_frames_are_reported_and_do_not_stop_the_others(
    frame: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    (tmp_path / "empty.fits").touch()
    (tmp_path / "notes.fits").write_text("cold tonight")
    paths = [tmp_path / "empty.fits", tmp_path / "notes.fits", frame]
    answer = skylake_command("reduce", *paths, "-c", camera, "--out", tmp_path / "out", "--plots", "--inject")
    assert answer.status == 1
    lines = answer.err.splitlines()
    assert sum("empty.fits: " in line for line in lines) == 1
    assert sum("notes.fits: " in line for line in lines) == 1
    assert list((tmp_path / "out").glob("*.sources.fits"))
