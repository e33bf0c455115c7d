from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.core.camera import ValueCards
from skylake.errors import LakeError
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.ingest.chunk_rows import read_rows
from skylake.flow.ingest.frame_tasks import Reduction, lost_frame, peek_nights, reduce_chunk, star_finder
from skylake.flow.ingest.ingest_report import unchecked_files, unexposed_files
from skylake.lake import Lake
from skylake.schema import arrow_schema, load
from skylake.sky.lake_catalogs import ReferenceCatalog


def texts(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def test_nights_are_known_without_reading_pixels(frames: list[Path], profile: Any) -> None:
    """Headers are enough: the pixels of these files are gone."""
    for path in frames[::2]:
        header = path.read_bytes()[: 2880 * 2]
        path.write_bytes(header)
    assert peek_nights(texts(frames), profile) == [20241001] * 6 + [20241002] * 6


def test_a_file_that_shows_no_night_is_of_night_zero(frames: list[Path], profile: Any) -> None:
    frames[0].write_bytes(b"")
    frames[1].write_text("no FITS")
    frames[2].unlink()
    packed = frames[3].with_name("packed.fits.gz")
    packed.write_bytes(gzip.compress(frames[3].read_bytes(), 1))
    assert peek_nights([*texts(frames[:3]), str(packed)], profile) == [0, 0, 0, 20241001]


def test_a_name_that_shows_the_time_shows_the_night(tmp_path: Path, profile: Any) -> None:
    path = tmp_path / "named.toml"
    pattern = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)_(?P<hour>\d\d)(?P<minute>\d\d)"
    path.write_text(f"{Path(profile.source).read_text()}header.file_time = '{pattern}'\n")
    named = cameras.load(path)
    for name, content in (("20240315_0310.fits", b"damaged"), ("20240315_2310.fits", b"")):
        (tmp_path / name).write_bytes(content)
    files = [str(tmp_path / name) for name in ("20240315_0310.fits", "20240315_2310.fits")]
    assert peek_nights(files, named) == [20240314, 20240315]


def test_a_chunk_has_one_row_per_frame_and_sorted_detections(
    frames: list[Path], profile: Any, tmp_path: Path
) -> None:
    chunk = reduce_chunk(texts(frames[:3]), Reduction(profile), tmp_path / "new" / "chunk.arrow")
    assert chunk.frames["file"].to_pylist() == texts(frames[:3])
    assert chunk.frames.schema.equals(arrow_schema(load("frames")))
    assert chunk.sources == tmp_path / "new" / "chunk.arrow"
    sources = read_rows(chunk.sources)
    assert tuple(sources.schema.names) == load("sources").names
    index = sources["_healpix_29"].to_numpy()
    assert (np.diff(index) >= 0).all()
    counted = dict(zip(*np.unique(sources["frame_id"].to_numpy(), return_counts=True), strict=True))
    detected = dict(
        zip(*(chunk.frames[name].to_pylist() for name in ("frame_id", "n_detected")), strict=True)
    )
    assert counted == detected


def test_rows_do_not_depend_on_the_company(frames: list[Path], profile: Any, tmp_path: Path) -> None:
    together = reduce_chunk(texts(frames[:3]), Reduction(profile), tmp_path / "together.arrow")
    alone = [
        reduce_chunk([str(path)], Reduction(profile), tmp_path / f"{number}.arrow")
        for number, path in enumerate(frames[:3])
    ]
    assert pa.concat_tables([chunk.frames for chunk in alone]).equals(together.frames)
    key = [("frame_id", "ascending"), ("source_no", "ascending")]
    single = pa.concat_tables([read_rows(chunk.sources) for chunk in alone]).sort_by(key)
    assert single.equals(read_rows(together.sources).sort_by(key))


def test_frames_without_detections_write_no_file(frames: list[Path], profile: Any, tmp_path: Path) -> None:
    frames[0].write_bytes(b"")
    chunk = reduce_chunk([str(frames[0])], Reduction(profile), tmp_path / "chunk.arrow")
    assert chunk.sources is None
    assert chunk.frames["reason"].to_pylist() == ["empty_file"]
    assert not (tmp_path / "chunk.arrow").exists()


def test_no_files_are_no_rows(profile: Any, tmp_path: Path) -> None:
    chunk = reduce_chunk([], Reduction(profile), tmp_path / "chunk.arrow")
    assert (chunk.frames.num_rows, chunk.sources, chunk.repeated) == (0, None, ())


def test_the_second_name_of_a_content_is_repeated(frames: list[Path], profile: Any, tmp_path: Path) -> None:
    twin = frames[0].with_name("twin.fits")
    os.link(frames[0], twin)
    both = reduce_chunk([str(frames[0]), str(twin)], Reduction(profile), tmp_path / "both.arrow")
    assert (both.frames["file"].to_pylist(), both.repeated) == ([str(frames[0])], (str(twin),))
    known = {both.frames["frame_id"][0].as_py(): str(frames[0])}
    later = reduce_chunk([str(twin)], Reduction(profile, None, known), tmp_path / "later.arrow")
    assert (later.frames.num_rows, later.repeated) == (0, (str(twin),))
    again = reduce_chunk([str(frames[0])], Reduction(profile, None, known), tmp_path / "again.arrow")
    assert again.frames.equals(both.frames), "known under its own name it is reduced"
    reduce_chunk([str(frames[1])], Reduction(profile, None, known), tmp_path / "other.arrow")
    assert list(known) == both.frames["frame_id"].to_pylist(), "the argument is not changed"


def test_a_full_disk_is_not_the_fault_of_the_frames(frames: list[Path], profile: Any, tmp_path: Path) -> None:
    (tmp_path / "in_the_way").write_text("a file where a folder is needed")
    with pytest.raises(LakeError, match="detections cannot be written"):
        reduce_chunk([str(frames[0])], Reduction(profile), tmp_path / "in_the_way" / "chunk.arrow")


def test_a_lost_frame_has_the_identity_that_it_has_when_found(
    frames: list[Path], profile: Any, tmp_path: Path
) -> None:
    chunk = lost_frame(str(frames[0]), profile, MemoryError())
    (row,) = chunk.frames.to_pylist()
    assert (row["status"], row["reason"], row["file"]) == ("failed", "worker_lost", str(frames[0]))
    assert "MemoryError" in row["message"] and row["night"] == 20241001
    found = reduce_chunk([str(frames[0])], Reduction(profile), tmp_path / "chunk.arrow")
    assert found.frames["frame_id"].to_pylist() == [row["frame_id"]]
    frames[0].unlink()
    (gone,) = lost_frame(str(frames[0]), profile, MemoryError()).frames.to_pylist()
    assert gone["reason"] == "worker_lost"


def test_the_catalog_shows_which_stars_are_in_the_field(
    lake: Lake, archive: Any, columns: Any, profile: Any
) -> None:
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    catalog = ReferenceCatalog.open(lake.layout.catalog("simcat"))
    assert star_finder(Reduction(profile)) is None
    find = star_finder(Reduction(profile, catalog))
    assert find is not None
    stars = find(0.0, -24.6243, 0.2, 60584.0)
    rows = pq.read_table(archive.catalog, columns=["ra", "dec"])
    ra = (rows["ra"].to_numpy() + 180.0) % 360.0 - 180.0
    distance = np.hypot(ra * np.cos(np.radians(-24.6243)), rows["dec"].to_numpy() + 24.6243)
    assert abs(len(stars.ra_deg) - int((distance < 0.2).sum())) <= 2
    assert len(stars.ra_deg) > 50


def test_a_wrong_pointing_is_found_by_the_catalog_alone(
    lake: Lake, frames: list[Path], archive: Any, columns: Any, profile: Any, tmp_path: Path
) -> None:
    from astropy.io import fits

    fits.setval(frames[0], "CRVAL1", value=0.7)
    unchecked = reduce_chunk([str(frames[0])], Reduction(profile), tmp_path / "a.arrow")
    assert unchecked.frames["status"].to_pylist() == ["ok"]
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    catalog = ReferenceCatalog.open(lake.layout.catalog("simcat"))
    checked = reduce_chunk(texts(frames[:2]), Reduction(profile, catalog), tmp_path / "b.arrow")
    assert checked.frames["reason"].to_pylist() == ["bad_wcs", None]
    detected = pc.unique(read_rows(tmp_path / "b.arrow")["frame_id"])
    assert detected.to_pylist() == checked.frames["frame_id"].to_pylist()[1:]


def test_frames_beyond_the_catalog_are_named(
    lake: Lake, frames: list[Path], archive: Any, columns: Any, profile: Any, tmp_path: Path
) -> None:
    from astropy.io import fits

    from skylake.cli.run_commands import unchecked

    fits.setval(frames[0], "CRVAL2", value=40.0)
    alone = reduce_chunk(texts(frames[:1]), Reduction(profile), tmp_path / "a.arrow")
    assert unchecked_files(alone.frames) == []
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    catalog = ReferenceCatalog.open(lake.layout.catalog("simcat"))
    both = reduce_chunk(texts(frames[:2]), Reduction(profile, catalog), tmp_path / "b.arrow")
    assert both.frames["status"].to_pylist() == ["ok", "ok"]
    assert unchecked_files(both.frames) == texts(frames[:1])
    gone = unchecked(unchecked_files(both.frames), lake.root, None)
    assert gone.startswith(str(frames[0])) and "WCS_UNCHECKED" in gone
    told = unchecked(unchecked_files(both.frames), lake.root, both.frames.to_pylist()[0])
    assert f"{frames[0]}: the catalog simcat has too few stars there" in told


def test_frames_with_assumed_exposures_are_named(frames: list[Path], profile: Any, tmp_path: Path) -> None:
    from astropy.io import fits

    from skylake.cli.run_commands import unexposed

    fits.setval(frames[0], "EXPTIME", value=-5.0)
    both = reduce_chunk(texts(frames[:2]), Reduction(profile), tmp_path / "a.arrow").frames
    assert unexposed_files(both, profile.base) == texts(frames[:1])
    assert f"{frames[0]}: no card gives an exposure, so 1 s is assumed" in unexposed(texts(frames[:1]))
    none = replace(profile.base.header, exposure=ValueCards())
    assert unexposed_files(both, replace(profile.base, header=none)) == []


def test_an_error_that_nobody_foresaw_is_a_row_and_no_end(
    lake: Lake, frames: list[Path], archive: Any, columns: Any, profile: Any, tmp_path: Path
) -> None:
    """The files of the catalog vanish after it was opened; the frames are taken up again another time."""
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    catalog = ReferenceCatalog.open(lake.layout.catalog("simcat"))
    frames[1].write_bytes(b"")
    for path in catalog.collection.rglob("*.parquet"):
        path.unlink()
        path.mkdir()
    chunk = reduce_chunk(texts(frames[:2]), Reduction(profile, catalog), tmp_path / "chunk.arrow")
    assert chunk.frames["status"].to_pylist() == ["failed", "failed"]
    assert chunk.frames["reason"].to_pylist() == ["error", "empty_file"]
    # What was read of the first is kept, so it is filed under its night.
    assert chunk.frames["night"].to_pylist() == [20241001, 0]
    good = reduce_chunk(texts(frames[:1]), Reduction(profile), tmp_path / "good.arrow").frames
    for name in ("frame_id", "mjd_start", "mjd_mid", "mjd_end", "exposure_s", "filter", "config_sha256"):
        assert good[name][0].as_py() is not None
        assert chunk.frames[name][0] == good[name][0], name
    assert "please report it" in chunk.frames["message"][0].as_py()


ODD: dict[str, tuple[dict[str, Any], str | None]] = {
    "an endless exposure": ({"EXPTIME": "INF"}, "bad_header"),
    "a long exposure": ({"EXPTIME": 1e12}, "bad_header"),
    "a short exposure": ({"EXPTIME": 1e-30}, "bad_header"),
    "the first day": ({"DATE-OBS": "0001-01-01T00:00:00"}, "bad_header"),
    "the last day": ({"DATE-OBS": "9999-12-31T23:59:59"}, "bad_header"),
    "another scale": ({"TIMESYS": "LOCAL"}, "ambiguous_header"),
    "a long filter": ({"FILTER": "F" * 100}, None),
    "a long target": ({"OBJECT": "M 31 " * 500}, None),
    "a noise beyond measure": ({"RDNOISE": 1e300, "GAIN": 1e300}, None),
}


@pytest.mark.parametrize(("cards", "reason"), ODD.values(), ids=ODD.keys())
def test_an_odd_header_costs_its_own_frame_alone(
    frames: list[Path], profile: Any, tmp_path: Path, cards: dict[str, Any], reason: str | None
) -> None:
    from astropy.io import fits

    with fits.open(frames[1], mode="update") as file:
        file[0].header.update(cards)
    untimed = bool(cards.keys() & {"DATE-OBS", "TIMESYS"})
    assert peek_nights(texts(frames[:2]), profile) == [20241001, 0 if untimed else 20241001]
    chunk = reduce_chunk(texts(frames[:2]), Reduction(profile), tmp_path / "chunk.arrow")
    assert chunk.frames["reason"].to_pylist() == [None, reason]
    assert np.isfinite(chunk.frames["read_noise_e"].to_numpy()).all()
    if reason == "bad_header":
        assert next(iter(cards)) in chunk.frames["message"][1].as_py()
        assert (chunk.frames["exposure_s"][1].as_py() is None) == ("EXPTIME" in cards)


def test_a_row_that_fits_no_schema_costs_its_own_frame_alone(
    frames: list[Path], profile: Any, tmp_path: Path
) -> None:
    from astropy.io import fits

    fits.setval(frames[1], "FILTER", value="R")
    # Reading a profile refuses such a band, so only a fault of skylake could bring one about.
    long = replace(profile.base.filters["R"], band="R" * 40)
    odd = replace(profile, base=replace(profile.base, filters=profile.base.filters | {"R": long}), periods=())
    chunk = reduce_chunk(texts(frames[:3]), Reduction(odd), tmp_path / "chunk.arrow")
    assert chunk.frames["reason"].to_pylist() == [None, "error", None]
    assert "column 'band'" in chunk.frames["message"][1].as_py()
    assert pc.count_distinct(read_rows(tmp_path / "chunk.arrow")["frame_id"]).as_py() == 2


def test_a_name_that_is_no_text_is_a_row(frames: list[Path], profile: Any, tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(frames[0].with_name("odd")) + b"\xff.fits")
    frames[0].rename(odd)
    empty = os.fsdecode(os.fsencode(frames[1].with_name("empty")) + b"\xff.fits")
    frames[1].rename(empty)
    Path(empty).write_bytes(b"")
    assert peek_nights([odd, empty], profile) == [20241001, 0]
    chunk = reduce_chunk([odd, empty, str(frames[2])], Reduction(profile), tmp_path / "chunk.arrow")
    assert chunk.frames["status"].to_pylist() == ["ok", "failed", "ok"]
    assert chunk.frames["file"][0].as_py().endswith("odd\\udcff.fits")
    known = dict(zip(*(chunk.frames[name].to_pylist() for name in ("frame_id", "file")), strict=True))
    again = reduce_chunk([odd, empty], Reduction(profile, None, known), tmp_path / "again.arrow")
    assert again.frames.num_rows == 2, "known under its own name it is reduced"
