from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from skylake.errors import LakeError
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.lake import Lake, Snapshot
from skylake.settings import Settings

Run = Callable[..., Any]

#: What is put among the good frames, and what becomes of it.
BAD = {
    "bad_bias.fits": ("skipped", {"not_science"}),
    "bad_cut.fits": ("failed", {"truncated"}),
    "bad_cut.fits.gz": ("failed", {"truncated"}),
    "bad_damaged.fits.gz": ("failed", {"truncated"}),
    "bad_empty.fits": ("failed", {"empty_file"}),
    "bad_empty_too.fits": ("failed", {"empty_file"}),
    "bad_link.fits": ("failed", {"unreadable"}),
    "bad_nan.fits": ("failed", {"no_valid_pixels"}),
    "bad_no_date.fits": ("failed", {"no_time"}),
    "bad_no_image.fits": ("failed", {"no_image"}),
    "bad_no_wcs.fits": ("rejected", {"no_wcs"}),
    "bad_size.fits": ("failed", {"wrong_size"}),
    "bad_starless.fits": ("rejected", {"cloudy"}),
    "bad_text.fits": ("failed", {"not_fits"}),
    "bad_wcs.fits": ("rejected", {"bad_wcs"}),
}


def rewrite(source: Path, target: Path, change: Callable[[Any], Any]) -> Path:
    """Write a changed copy of a frame: `change` gets the pixels as float32 and header, and may give both anew."""
    from astropy.io import fits

    with fits.open(source) as hdus:
        header = hdus[0].header.copy()
        pixels = np.asarray(hdus[0].data, np.float32)
    for name in ("BZERO", "BSCALE"):
        header.remove(name, ignore_missing=True)
    unit = fits.PrimaryHDU(pixels, header)
    change(unit)
    unit.writeto(target, overwrite=True)
    return target


def without(*names: str) -> Callable[[Any], None]:
    def change(unit: Any) -> None:
        for name in names:
            del unit.header[name]

    return change


def with_cards(**cards: Any) -> Callable[[Any], None]:
    def change(unit: Any) -> None:
        unit.header.update(cards)

    return change


def with_pixels(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    def change(unit: Any) -> None:
        unit.data = make(unit.data).astype(np.float32)

    return change


def spoil(folder: Path, good: list[Path]) -> None:
    """Put bad files among good frames."""
    from astropy.io import fits

    one = good[0]
    content = one.read_bytes()
    packed = gzip.compress(good[1].read_bytes(), 1)
    noise = np.random.default_rng(5).normal(300.0, 10.0, (256, 256))
    (folder / "bad_cut.fits").write_bytes(content[: len(content) // 2])
    (folder / "bad_cut.fits.gz").write_bytes(packed[: len(packed) // 2])
    middle = len(packed) // 2
    (folder / "bad_damaged.fits.gz").write_bytes(packed[:middle] + b"damaged" + packed[middle + 7 :])
    (folder / "bad_empty.fits").touch()
    (folder / "bad_empty_too.fits").touch()
    (folder / "bad_link.fits").symlink_to("nowhere.fits")
    (folder / "bad_text.fits").write_text("These are the notes of the night.\n" * 200)
    fits.HDUList([fits.PrimaryHDU(header=fits.getheader(one)[6:])]).writeto(folder / "bad_no_image.fits")
    rewrite(one, folder / "bad_bias.fits", with_cards(OBSTYPE="bias"))
    rewrite(one, folder / "bad_nan.fits", with_pixels(lambda data: data * np.nan))
    rewrite(one, folder / "bad_no_date.fits", without("DATE-OBS"))
    rewrite(one, folder / "bad_no_wcs.fits", without("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2"))
    rewrite(one, folder / "bad_size.fits", with_pixels(lambda data: data[:200, :100]))
    rewrite(one, folder / "bad_starless.fits", with_pixels(lambda data: noise))
    rewrite(one, folder / "bad_wcs.fits", with_cards(CRVAL1=0.9))
    shutil.copy2(good[2], folder / "twin.fits")
    (folder / "twin.fits.gz").write_bytes(gzip.compress(good[3].read_bytes(), 1))


@pytest.fixture(scope="module")
def neighbours(
    archive: Any, profile: Any, columns: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lake, Lake, Any, Path]:
    """A lake of six good frames, one of a folder with bad files among them, its report and the folder."""
    root = tmp_path_factory.mktemp("neighbours")
    folder = root / "frames"
    folder.mkdir()
    good = [Path(shutil.copy2(path, folder / path.name)) for path in archive.frames[:6]]
    pure = Lake.create(root / "pure", Settings(cluster="inline", pixel_order=5))
    mixed = Lake.create(root / "mixed", Settings(cluster="inline", pixel_order=5))
    for lake in (pure, mixed):
        import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    ingest(pure, profile, good, Inline())
    spoil(folder, good)
    return pure, mixed, ingest(mixed, profile, [folder], Inline()), folder


def rows_by_name(lake: Lake) -> dict[str, dict[str, Any]]:
    rows = lake.snapshot().read("frames").to_pylist()
    found = {Path(row["file"]).name: row for row in rows}
    assert len(found) == len(rows)
    return found


def test_every_input_is_one_row_whatever_its_state(neighbours: Any) -> None:
    pure, mixed, _, _ = neighbours
    rows = rows_by_name(mixed)
    assert set(rows) == set(BAD) | set(rows_by_name(pure))
    ids = [row["frame_id"] for row in rows.values()]
    assert len(set(ids)) == len(ids) == len(BAD) + 6


@pytest.mark.parametrize("name", BAD)
def test_a_bad_frame_says_how_it_ended_and_why(neighbours: Any, name: str) -> None:
    _, mixed, _, _ = neighbours
    row, (status, reasons) = rows_by_name(mixed)[name], BAD[name]
    assert row["status"] == status
    assert row["reason"] in reasons
    assert row["message"] and "please report" not in row["message"]


def test_good_frames_have_the_same_rows_beside_bad_ones(neighbours: Any) -> None:
    pure, mixed, _, _ = neighbours
    expected = pure.snapshot()
    found = mixed.snapshot()
    frames = expected.read("frames").sort_by("frame_id")
    assert set(frames["status"].to_pylist()) == {"ok"}
    ids = frames["frame_id"].combine_chunks()
    mine = pc.is_in(pc.field("frame_id"), value_set=ids)
    assert found.read("frames", filter=mine).sort_by("frame_id").equals(frames)
    key = [("frame_id", "ascending"), ("source_no", "ascending")]
    sources = expected.read("sources").sort_by(key)
    assert sources.num_rows > 600
    assert found.read("sources", filter=mine).sort_by(key).equals(sources)


def test_rejected_detections_have_a_flag_and_failed_frames_none(neighbours: Any) -> None:
    from skylake.core.flags import SourceFlag

    _, mixed, _, _ = neighbours
    snapshot = mixed.snapshot()
    status = {row["frame_id"]: row["status"] for row in snapshot.read("frames").to_pylist()}
    sources = snapshot.read("sources", ["frame_id", "flags"])
    flagged = (sources["flags"].to_numpy() & int(SourceFlag.FRAME_REJECTED)) != 0
    kinds = np.array([status[one] for one in sources["frame_id"].to_pylist()])
    assert set(kinds) <= {"ok", "rejected"}
    assert (flagged == (kinds == "rejected")).all()


def test_the_report_names_every_bad_and_repeated_frame(neighbours: Any) -> None:
    _, mixed, report, _ = neighbours
    assert {Path(row["file"]).name for row in report.problems} == set(BAD)
    assert report.counts == {"ok": 6, "skipped": 1, "rejected": 3, "failed": 11}
    assert not report.all_well
    assert {Path(name).name for name in report.repeated} == {"twin.fits", "twin.fits.gz"}
    nights = {batch["night"]: batch for batch in report.batches}
    assert set(nights) == {0, 20241001}
    assert sum(batch["frames"] for batch in nights.values()) == len(BAD) + 6
    assert sum(batch["sources"] for batch in nights.values()) == mixed.snapshot().n_rows("sources")


def test_a_frame_that_could_not_be_opened_comes_in_later(
    lake: Lake, frames: list[Path], run: Run, tmp_path: Path
) -> None:
    link = frames[0].with_name("link.fits")
    link.symlink_to(tmp_path / "later.fits")
    assert run(lake, link).counts == {"failed": 1}
    assert run(lake, link).counts == {"failed": 1}
    frames[0].rename(tmp_path / "later.fits")
    assert run(lake, link).counts == {"ok": 1}
    (row,) = lake.snapshot().read("frames").to_pylist()
    assert (row["file"], row["status"], row["reason"]) == (str(link), "ok", None)


def test_the_same_batch_twice_changes_no_byte(
    neighbours: Any, profile: Any, digests: Callable[[Path], dict[str, str]]
) -> None:
    """Also not where a frame that cannot be read is tried again."""
    _, mixed, _, folder = neighbours
    before, number = digests(mixed.root), mixed.snapshot().number
    again = ingest(mixed, profile, [folder], Inline())
    assert again.n_known == len(BAD) + 6 - 1 + 2, "with both files that repeat another"
    assert again.counts == {"failed": 1}
    assert mixed.snapshot().number == number
    assert digests(mixed.root) == before


def test_a_file_that_holds_another_frame_now_gives_up_its_row(
    lake: Lake, frames: list[Path], run: Run
) -> None:
    """The new frame is one of another night, so both nights change."""
    run(lake, [frames[0], frames[1], frames[6]])
    shutil.copyfile(frames[7], frames[1])
    os.utime(frames[1], ns=(1, 1))
    assert run(lake, frames[:2]).counts == {"ok": 1}
    rows = rows_by_name(lake)
    assert {name: row["night"] for name, row in rows.items()} == {
        frames[0].name: 20241001, frames[1].name: 20241002, frames[6].name: 20241002,
    }  # fmt: skip
    sources = lake.snapshot().read("sources", ["frame_id"])
    assert set(sources["frame_id"].to_pylist()) == {row["frame_id"] for row in rows.values()}


def test_a_night_is_gone_when_its_only_frame_changes(lake: Lake, frames: list[Path], run: Run) -> None:
    run(lake, [frames[0], frames[6]])
    shutil.copyfile(frames[7], frames[0])
    os.utime(frames[0], ns=(1, 1))
    run(lake, frames[0])
    snapshot = lake.snapshot()
    assert set(snapshot.parts("frames")) == set(snapshot.parts("sources")) == {"small-20241002"}
    assert snapshot.n_rows("frames") == 2


def test_nights_are_chosen_by_the_local_evening(lake: Lake, frames: list[Path], run: Run) -> None:
    assert [batch["night"] for batch in run(lake, frames[4:8], first_night=20241002).batches] == [20241002]
    options = {"first_night": 20241001, "last_night": 20241001}
    assert [batch["night"] for batch in run(lake, frames[4:8], **options).batches] == [20241001]
    assert lake.snapshot().n_rows("frames") == 4


@pytest.mark.parametrize(
    ("first", "last", "taken"),
    [(None, None, {1, 2, 3, 0}), (2, None, {2, 3}), (None, 2, {1, 2, 0}), (2, 2, {2}), (3, 1, set())],
)
def test_both_ends_of_a_span_of_nights_belong_to_it(
    first: int | None, last: int | None, taken: set[int]
) -> None:
    options = IngestOptions(first_night=first, last_night=last)
    assert {night for night in range(4) if options.takes(night)} == taken


def test_nothing_to_read_is_an_error_that_says_where_it_looked(lake: Lake, run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LakeError, match=r"empty: no FITS frame"):
        run(lake, tmp_path / "empty")
    with pytest.raises(LakeError, match="no files were named"):
        run(lake, [])


def damage(lake: Lake, night: int) -> None:
    """Overwrite the files of sources of a night, as a dying disk does."""
    snapshot = lake.snapshot()
    for path in (one.path for one in snapshot.slices("sources", lambda part: part.night == night)):
        path.unlink()
        path.write_bytes(b"PAR1 no more")


def test_a_night_that_cannot_be_gathered_is_reported(lake: Lake, frames: list[Path], run: Run) -> None:
    run(lake, [frames[0], frames[6]])
    damage(lake, 20241001)
    with pytest.raises(LakeError, match=r"small-20241001: .*gathered"):
        run(lake, frames)
    rows = lake.snapshot().read("frames", ["night", "frame_id"])
    assert pc.value_counts(rows["night"]).to_pylist() == [
        {"values": 20241001, "counts": 1},
        {"values": 20241002, "counts": 6},
    ]
    sources = lake.snapshot().read("sources", ["frame_id"], lambda part: part.night == 20241002)
    assert pc.count_distinct(sources["frame_id"]).as_py() == 6
    assert not any(lake.layout.staging.iterdir())


def test_frames_and_sources_of_a_night_appear_together(ingested_once: Lake) -> None:
    newest = ingested_once.snapshot().number
    assert newest == 3
    for number in range(1, newest + 1):
        snapshot = Snapshot(ingested_once.layout, number)
        assert set(snapshot.parts("frames")) == set(snapshot.parts("sources"))


def test_positions_are_those_of_the_stars(ingested_once: Lake, archive: Any) -> None:
    """Nine of ten bright stars of the truth are found, within a third of a pixel."""
    truth = pa.concat_tables([pa.parquet.read_table(path) for path in archive.truth_detections])
    files = pc.field("file")
    snapshot = ingested_once.snapshot()
    frame = snapshot.read("frames", ["file", "frame_id"]).slice(3, 1).to_pylist()[0]
    name = Path(frame["file"]).name
    here = truth.filter(files.isin([f"frames/{one}/{name}" for one in ("20241001", "20241002")]))
    if here.num_rows == 0:
        here = truth.filter(pc.ends_with(pc.cast(truth["file"], pa.string()), name))
    sources = snapshot.read("sources", ["x_px", "y_px"], filter=pc.field("frame_id") == frame["frame_id"])
    from scipy.spatial import cKDTree

    bright = here.sort_by([("flux_adu_per_s", "descending")]).slice(0, 60)
    distance, _ = cKDTree(np.column_stack([sources["x_px"], sources["y_px"]])).query(
        np.column_stack([bright["x_px"], bright["y_px"]])
    )
    assert (distance < 0.33).sum() >= 54
