from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

import skylake

pytestmark = pytest.mark.full

Run = Callable[..., Any]
FORMATS = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable", "parquet": "parquet"}
SKY = ("--ra", "RA", "--dec", "Dec", "--mag", "m", "--mag-err", "e", "--time", "jd", "--exposure", "texp")


@pytest.fixture(scope="module")
def detections(lake: Path) -> Table:
    """The clean detections of the lake, as somebody else would have them: instrumental magnitudes and Julian dates."""
    rows = skylake.open(lake).sql(
        """SELECT s.ra_deg AS RA, s.dec_deg AS Dec, x_px + 1 AS X, y_px + 1 AS Y,
            -2.5 * log10(flux_aper2 * apcor_aper2 * coalesce(apcor_rel_aper2, 1)) AS m,
            2.5 / ln(10) * flux_aper2_err / flux_aper2 AS e, s.mjd_mid + 2400000.5 AS jd, exposure_s AS texp,
            s.filter AS band, flux_aper2 AS f, flux_aper2_err AS fe, frame_id
        FROM sources s JOIN frames USING (frame_id)
        WHERE flux_aper2 > 0 AND s.flags = 0 ORDER BY frame_id, source_no"""
    )
    return Table.from_pandas(rows.pandas())


@pytest.fixture
def with_catalog(new_lake: Path, sky: Path, columns: tuple[str, ...], well: Run) -> Path:
    """An empty lake with the catalog of the simulation."""
    well("catalog", "import", new_lake, "simcat", "--format", "table", sky / "catalog.parquet", *columns)
    return new_lake


def zeropoints(root: Path) -> dict[float, tuple[float, float]]:
    """Return zeropoint and error by time, for total flux."""
    query = "SELECT round(mjd_mid, 5) AS mjd, zp, zp_err FROM calibrated_frames"
    rows = skylake.open(root).sql(query).pandas()
    return {row.mjd: (row.zp, row.zp_err) for row in rows.itertuples()}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_table_is_calibrated_as_the_frames_that_it_was_made_from(
    suffix: str, lake: Path, detections: Table, camera: Path, with_catalog: Path, tmp_path: Path, well: Run
) -> None:
    path = tmp_path / f"photometry.{suffix}"
    detections.write(path, format=FORMATS[suffix])
    command = ("ingest-table", with_catalog, path, "--camera", camera, *SKY, "--filter", "band")
    made = well(*command, "--json").json["ingest"]
    assert made["counts"] == {"ok": 8}
    assert sum(batch["sources"] for batch in made["batches"]) == len(detections)
    assert well(*command).out == "ingest-table: nothing new, 8 known before\n"
    rows = skylake.open(with_catalog)["sources"].pandas()
    np.testing.assert_allclose(np.sort(rows.ra_deg), np.sort(detections["RA"]), atol=1e-9)
    if suffix not in ("csv", "fits"):
        return
    well("calibrate", with_catalog)
    known, found = zeropoints(lake), zeropoints(with_catalog)
    assert known.keys() == found.keys()
    for mjd, (zeropoint, error) in found.items():
        # A table does not say what the light of neighbours in its apertures is.
        assert zeropoint == pytest.approx(known[mjd][0], abs=0.03) and error < 0.05
    if suffix == "fits":
        well("aggregate", with_catalog)
        well("verify", with_catalog, "--deep")
        both = [
            skylake.open(root)["lightcurves"].pandas().set_index("object_id") for root in (lake, with_catalog)
        ]
        first, second = (curves[curves.n_points == 8].mag_median for curves in both)
        apart = (first - second).dropna().abs()
        # Nor are its magnitudes corrected for it, which brings a few hundredths of a magnitude in this crowded field.
        assert len(apart) > 20 and apart.median() < 0.1


@pytest.mark.slow
def test_pixels_alone_are_placed_by_the_stars(
    lake: Path, detections: Table, camera: Path, with_catalog: Path, tmp_path: Path, well: Run
) -> None:
    path = tmp_path / "pixels.fits"
    detections.write(path)
    options = (
        "--x",
        "X",
        "--y",
        "Y",
        "--flux",
        "f",
        "--flux-err",
        "fe",
        "--time",
        "jd",
        "--frame",
        "frame_id",
    )
    made = well("ingest-table", with_catalog, path, "--camera", camera, *options, "--json").json
    assert made["ingest"]["counts"] == {"ok": 8}
    frames = skylake.open(with_catalog)["frames"].pandas()
    assert set(frames.wcs_source) == {"solved"}
    true = skylake.open(lake)["frames"].pandas().set_index(frames.index)
    np.testing.assert_allclose(frames.ra_deg, true.ra_deg, atol=2e-3)
    np.testing.assert_allclose(frames.dec_deg, true.dec_deg, atol=2e-3)


def test_the_header_of_a_table_says_time_filter_and_place(
    detections: Table, lake: Path, sky: Path, camera: Path, with_catalog: Path, tmp_path: Path, well: Run
) -> None:
    # As SExtractor writes it: a catalog for each image, with the header of the image.
    frames = skylake.open(lake)["frames"].pandas(["frame_id", "file", "mjd_mid"])
    paths = []
    for frame in frames.itertuples():
        header = fits.getheader(frame.file)
        own = detections[detections["frame_id"] == frame.frame_id]
        cards = [card.image for card in header.cards] + ["END".ljust(80)]
        form, array = f"{80 * len(cards)}A", np.array([cards])
        column = fits.Column("Field Header Card", form, dim=f"(80, {len(cards)})", array=array)
        kept = fits.BinTableHDU.from_columns([column])
        kept.name = "LDAC_IMHEAD"
        objects = fits.table_to_hdu(own["X", "Y", "f", "fe"])
        objects.name = "LDAC_OBJECTS"
        paths.append(tmp_path / f"{frame.frame_id}.cat")
        fits.HDUList([fits.PrimaryHDU(), kept, objects]).writeto(paths[-1])
    options = ("--x", "X", "--y", "Y", "--flux", "f", "--flux-err", "fe")
    made = well("ingest-table", with_catalog, *paths, "--camera", camera, *options, "--json").json
    assert made["ingest"]["counts"] == {"ok": 8}
    found = skylake.open(with_catalog)["frames"].pandas()
    assert set(found.file) == set(map(str, paths))
    np.testing.assert_allclose(sorted(found.mjd_mid), sorted(frames.mjd_mid), atol=1e-8)
    assert set(found.band) == {"V"} and found.exposure_s.notna().all()


def test_a_table_that_has_grown_adds_its_new_frames(
    detections: Table, camera: Path, with_catalog: Path, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    path, times = tmp_path / "grows.ecsv", sorted(set(detections["jd"]))
    command = ("ingest-table", with_catalog, path, "--camera", camera, *SKY)
    for count, words in ((5, "5 ok"), (8, "3 ok, 5 known before")):
        detections[np.isin(detections["jd"], times[:count])].write(path, overwrite=True)
        assert well(*command).out == f"ingest-table: {words}\n"
    # Rows without a magnitude are left out; what has changed is done anew, under the same name.
    changed = detections.copy()
    changed["m"][changed["jd"] == times[0]] += 0.1
    changed["m"][np.flatnonzero(changed["jd"] == times[1])[:3]] = 99.0
    changed.write(path, overwrite=True)
    answer = well(*command)
    assert answer.out == "ingest-table: 2 ok, 6 known before\n"
    assert "3 rows were left out, which lack a position, a flux or an error" in answer.err
    assert len(skylake.open(with_catalog)["frames"]) == 8
    assert len(skylake.open(with_catalog)["sources"]) == len(detections) - 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ra", "RA", "--dec", "Dec", "--mag", "m"), "give --flux and --flux-err, or --mag and --mag-err"),
        (("--ra", "RA", "--mag", "m", "--mag-err", "e"), "positions have two columns; give --ra and --dec"),
        (("--mag", "m", "--mag-err", "e"), "needs positions; give --ra and --dec, or --x and --y"),
        ((*SKY[:7], "err"), "there is no column 'err'"),
        ((*SKY[:9], "band"), "'V', which is no time; write MJD, JD or ISO 8601"),
        ((*SKY[:9], "m"), "which is no time; write MJD"),
        ((*SKY, "--frame", "band"), "other times than the rows of its frame before it; check --frame"),
        ((*SKY[:7], "-1"), "--mag-err -1: give a positive number"),
        ((*SKY, "--filter", "band", "--filter-name", "V"), "not both"),
    ],
)
def test_what_is_no_table_of_detections(
    options: tuple[str, ...],
    words: str,
    detections: Table,
    camera: Path,
    new_lake: Path,
    tmp_path: Path,
    skylake_command: Run,
) -> None:
    detections.write(tmp_path / "t.csv")
    answer = skylake_command("ingest-table", new_lake, tmp_path / "t.csv", "--camera", camera, *options)
    assert words in answer.sentence


def test_a_table_without_any_time_fails_in_one_sentence(
    detections: Table, camera: Path, new_lake: Path, tmp_path: Path, skylake_command: Run
) -> None:
    detections.write(tmp_path / "t.csv")
    answer = skylake_command("ingest-table", new_lake, tmp_path / "t.csv", "--camera", camera, *SKY[:8])
    assert answer.status == 1 and "give --time with a column or a time" in answer.err


def test_a_camera_with_images_takes_no_tables(
    lake: Path,
    detections: Table,
    camera: Path,
    tmp_path: Path,
    copy_lake: Callable[[Path, Path], Path],
    well: Run,
    skylake_command: Run,
) -> None:
    detections.write(tmp_path / "t.csv")
    copy = copy_lake(lake, tmp_path / "lake")
    command = ("ingest-table", copy, tmp_path / "t.csv", *SKY, "--camera")
    answer = skylake_command(*command, camera)
    assert answer.status == 2
    assert "the lake has frames of small that were made from images" in answer.sentence
    advice = answer.sentence.partition(" and like = ")[2]
    (own := tmp_path / "own.toml").write_text(f'name = "own"\nlike = {advice}\n', encoding="utf-8")
    assert well(*command, own).out == "ingest-table: 8 ok\n"
    assert well("verify", copy)
