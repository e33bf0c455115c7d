from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.errors import LakeError
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.lake import Lake
from skylake.report.page import _forced_pictures, write_report
from skylake.report.stars.star_picture import curve_figure
from skylake.schema import arrow_schema, load

pytestmark = pytest.mark.xdist_group("lsdb")

CHROMIUM = "/usr/bin/chromium"
PICTURES = {
    "cells-small.png", "field-small.png", "map-completeness.png", "map-limit.png", "map-residual.png",
    "map-visits.png", "residuals-small.png", "sky-small.png", "star-1.png",
    "zeropoint-small.png",
}  # fmt: skip


class Page(HTMLParser):
    """The tables, pictures and links of a page; complains of what is not closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.pictures: dict[str, str] = {}
        self.links: list[str] = []
        self.headings: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "img":
            self.pictures[found["src"] or ""] = found["alt"] or ""
        elif tag == "link":
            self.links.append(found["href"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_the_page_and_its_pictures_are_there(pages: list[Path]) -> None:
    assert pages[0].name == "index.html"
    assert {path.name for path in pages[1:]} == PICTURES
    page = Page(pages[0])
    assert set(page.pictures) == PICTURES
    assert all(page.pictures.values()), "each has a text for those who do not see it"
    for name in page.links:
        assert (pages[0].parent / name).stat().st_size > 0
    assert {path.name for path in pages[0].parent.iterdir()} == {*PICTURES, *page.links, "index.html"}


def test_every_frame_is_counted_with_its_status_and_reason(pages: list[Path], lake: Lake) -> None:
    _, status, _, concerns = Page(pages[0]).tables
    assert sorted(row[4] for row in concerns[1:]) == ["empty_file", "not_fits", "truncated"]
    rows = lake.snapshot().read("frames", ["camera", "status", "reason"]).to_pylist()
    expected = Counter((row["camera"], row["status"], row["reason"] or "") for row in rows)
    assert len(rows) == 13
    assert len(expected) == 4
    assert {tuple(row[:3]): int(row[3]) for row in status[1:]} == dict(expected)


def test_the_numbers_of_rows_are_those_of_the_tables(pages: list[Path], lake: Lake) -> None:
    names, numbers = Page(pages[0]).tables[0]
    assert names == ["frames", "sources", "matches", "zeropoints", "lightcurves"]
    for name, number in zip(names, numbers, strict=True):
        assert int(number.replace(",", "")) == len(lake.open(name)) > 0


def test_every_night_shows_its_frames_and_its_zeropoint(pages: list[Path], lake: Lake) -> None:
    nights = Page(pages[0]).tables[2]
    found = [dict(zip(nights[0], row, strict=True)) for row in nights[1:]]
    expected = lake.snapshot().read("nights").to_pylist()
    files = lake.snapshot().read("frames", ["night", "file_modified_ns"]).to_pylist()
    days = {str(np.datetime64(row["file_modified_ns"], "ns"))[:10] for row in files if row["night"] == 0}
    undated = [row["night"] for row in found if row["night"].startswith("no time")]
    assert undated == [row["night"] for row in found][: len(undated)], "first, where people look"
    assert set(undated) == {f"no time, came {day}" for day in days} and days
    assert {row["night"] for row in found} - {*undated} == {"20241001", "20241002"}
    assert sum(int(row["frames"]) for row in found) == 13
    for row in expected:
        if row["zp_median"] is not None:
            (mine,) = [one for one in found if one["night"] == str(row["night"]) and one["band"] == "V"]
            value, error = map(float, mine["zeropoint [mag]"].split(" ± "))
            assert value == pytest.approx(row["zp_median"], abs=6e-5)
            assert error == pytest.approx(row["zp_median_err"], abs=6e-5)
            assert (int(mine["frames"]), int(mine["ok"])) == (row["n_frames"], row["n_ok"])


def test_names_cannot_break_the_page(pages: list[Path]) -> None:
    assert Page(pages[0]).headings[0] == "<lake> & sea"


def test_pictures_show_something(pages: list[Path], colours_of: Callable[[Path], Any]) -> None:
    for path in pages[1:]:
        assert path.read_bytes().startswith(b"\x89PNG\r\n")
        pixels = colours_of(path)
        assert min(pixels.shape[:2]) >= 400, path.name
        assert len(np.unique(pixels.astype(np.int32) @ (65536, 256, 1))) > 50, path.name
        inner = pixels[60:-80, 120:-120]
        assert 0.0005 < (inner < 200).any(axis=2).mean() < 0.98, path.name


def test_the_same_lake_gives_the_same_bytes(pages: list[Path], lake: Lake, tmp_path: Path) -> None:
    for path, again in zip(pages, write_report(lake, tmp_path / "again"), strict=True):
        assert again.read_bytes() == path.read_bytes(), path.name


def test_a_lake_without_rows_has_a_page_that_says_so(bare: Lake, tmp_path: Path) -> None:
    files = write_report(bare, tmp_path / "out")
    page = Page(files[0])
    assert page.tables[1][1] == ["no frames yet"]
    assert page.tables[2][1] == ["no nights yet"]
    assert page.tables[0][1] == ["0"] * 5
    assert all((tmp_path / "out" / name).stat().st_size > 0 for name in page.pictures)


def test_frames_without_any_calibration_have_a_page(
    bare: Lake, archive: Any, profile: Any, tmp_path: Path
) -> None:
    (tmp_path / "empty.fits").touch()
    ingest(bare, profile, [tmp_path / "empty.fits"], Inline())
    assert Page(write_report(bare, tmp_path / "failed")[0]).tables[1][1] == [
        "small", "failed", "empty_file", "1",
    ]  # fmt: skip
    ingest(bare, profile, archive.frames[:1], Inline())
    page = Page(write_report(bare, tmp_path / "one")[0])
    assert [row[1:] for row in page.tables[1][1:]] == [["failed", "empty_file", "1"], ["ok", "", "1"]]
    assert "sky-small.png" in page.pictures


@pytest.mark.slow
def test_a_lake_as_it_was_has_the_page_that_it_had(
    bare: Lake, archive: Any, profile: Any, tmp_path: Path
) -> None:
    ingest(bare, profile, archive.frames[:1], Inline())
    then = bare.snapshot().number
    record = bare.layout.record(then)
    record.write_text(record.read_text().replace(f"{bare.entry(then).time_utc.date()}", "2021-02-03"))
    files = write_report(bare, tmp_path / "then")
    assert "2021-02-03" in files[0].read_text()
    ingest(bare, profile, archive.frames[1:3], Inline())
    for path, again in zip(files, write_report(bare, tmp_path / "again", str(then)), strict=True):
        assert again.read_bytes() == path.read_bytes(), path.name
    assert write_report(bare, tmp_path / "now")[0].read_bytes() != files[0].read_bytes()


@pytest.mark.slow
def test_only_changed_pictures_are_drawn_again(
    bare: Lake, archive: Any, profile: Any, tmp_path: Path
) -> None:
    def drawn() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in write_report(bare, tmp_path / "out")[1:]}

    ingest(bare, profile, archive.frames[:1], Inline())
    first = drawn()
    (tmp_path / "empty.fits").touch()
    ingest(bare, profile, [tmp_path / "empty.fits"], Inline())
    assert drawn() == first
    assert "empty_file" in (tmp_path / "out" / "index.html").read_text(), "the page itself is new"
    ingest(bare, profile, archive.frames[1:2], Inline())
    second = drawn()
    assert {name for name in second if second[name] != first[name]} == {"cells-small.png", "sky-small.png"}
    for path in write_report(bare, tmp_path / "fresh"):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


def test_a_folder_that_cannot_be_written_is_an_error(bare: Lake, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(LakeError, match="out: the report cannot be written"):
        write_report(bare, tmp_path / "out")


def test_an_older_report_is_replaced(bare: Lake, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("old")
    assert "old" not in write_report(bare, tmp_path)[0].read_text().split()


def test_the_picture_of_a_curve_has_all_its_points() -> None:
    point = {"band": "V", "mag": 10.0, "mag_err": 0.1, "bjd_tdb": 2460000.5, "flags": 0}
    points = [point, point | {"mag": None, "mag_err": None}, point | {"flags": 1, "mag": 10.5}]
    curve = {"catalog": "c", "object_id": 7, "ra_deg": 1.0, "dec_deg": -2.0}
    (axes,) = curve_figure(curve | {"points": points, "measured": "detected"}).axes
    assert axes.get_title("left") == "c 7 at 1.00000 -2.00000 deg, its detections"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["V, 1 detections", "1 flagged"]
    assert axes.get_ylabel() == "V [mag]"
    assert axes.yaxis_inverted()


def test_a_long_identifier_is_not_in_the_title_of_a_picture() -> None:
    point = {"band": "V", "mag": 10.0, "mag_err": 0.1, "bjd_tdb": 2460000.5, "flags": 0}
    curve = {"catalog": "c", "object_id": 6917528997577384320, "ra_deg": 1.0, "dec_deg": -2.0}
    (axes,) = curve_figure(curve | {"points": [point], "measured": "detected"}).axes
    assert axes.get_title("left") == "star of c at 1.00000 -2.00000 deg, its detections"


def test_error_bars_are_random_and_the_title_has_shared_errors() -> None:
    """A dip of 28 mmag is seen, although the zeropoint is uncertain by 120."""
    points = [
        {
            "band": "V", "mag": 10.0 + (0.028 if number == 3 else 0.0), "mag_err": 0.12, "mag_random_err": 0.002,
            "mag_systematic_err": 0.12, "bjd_tdb": 2460000.5 + 0.01 * number, "flags": 0,
        }
        for number in range(7)
    ]  # fmt: skip
    curve = {"catalog": "c", "object_id": 7, "ra_deg": 1.0, "dec_deg": -2.0, "measured": "detected"}
    (axes,) = curve_figure(curve | {"points": points}).axes
    low, high = sorted(axes.get_ylim())
    assert high - low < 0.05
    assert axes.get_title("left").endswith("; all points share an error of 0.120 mag")
    other = [point | {"band": "R", "mag_systematic_err": 0.05} for point in points]
    (axes,) = curve_figure(curve | {"points": points + other}).axes
    assert axes.get_title("left").endswith("share an error of 0.050 mag in R, 0.120 mag in V")


def test_shared_errors_are_no_scatter_to_expect(bare: Lake, commit_rows: Any, tmp_path: Path) -> None:
    """The same light curves give the same picture, however uncertain the zeropoint is that their points share."""
    curve = {field.name: [] for field in arrow_schema(load("forced_lightcurves")).field("lightcurve").type}
    drawn = []
    for shared in (0.002, 1.5):
        rows = [
            {
                "_healpix_29": number << 50, "star_id": number, "camera": "lab", "band": "V", "catalog": "c",
                "n_points": 9, "n_clean": 9, "mag_mean": 9.0 + 0.01 * number, "mag_mean_random_err": 0.01,
                "mag_mean_err": shared, "mag_scatter": 0.03, "lightcurve": curve,
            }
            for number in range(40)
        ]  # fmt: skip
        commit_rows(bare, "forced_lightcurves", "one", rows)
        (picture,) = _forced_pictures(bare.snapshot(), "lab", tmp_path / str(shared))
        drawn.append((tmp_path / str(shared) / picture.file).read_bytes())
    assert drawn[0] == drawn[1]


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs a browser at {CHROMIUM}")
def test_a_browser_shows_the_page_with_its_pictures(
    pages: list[Path], tmp_path: Path, colours_of: Callable[[Path], Any]
) -> None:
    shot = tmp_path / "page.png"
    seen = {}
    for name in ("with", "without"):
        folder = Path(shutil.copytree(pages[0].parent, tmp_path / name))
        if name == "without":
            for path in folder.glob("*.png"):
                path.unlink()
        subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'browser'}",
                f"--screenshot={shot}", "--window-size=1200,6000", (folder / "index.html").as_uri(),
            ],
            check=True, capture_output=True, timeout=900,
        )  # fmt: skip
        pixels = colours_of(shot)
        assert pixels.shape[:2] == (6000, 1200)
        background = np.bincount(pixels[..., 0].ravel()).argmax()
        drawn = pixels[..., 0] != background
        assert drawn[:600].mean() > 0.01, "the text is there"
        seen[name] = int(np.flatnonzero(drawn.any(axis=1)).max())
    assert 5900 > seen["with"] > seen["without"] + 4 * 250, (
        "five rows of pictures are higher than their texts"
    )


def test_captions_are_sentences(pages: list[Path]) -> None:
    for caption in Page(pages[0]).pictures.values():
        assert re.fullmatch(r"[A-Z].*\.", caption), caption


def test_values_that_are_null_do_not_end_a_report(tmp_path: Path, make_rows: Any, put: Any) -> None:
    lake = Lake.create(tmp_path / "lake")
    kinds = ["appeared", "brighter", "fainter", "returned", "vanished"]
    tables = (
        "frames", "nights", "photometric_nights", "zeropoints", "alerts", "maps", "lightcurves", "star_statistics",
        "forced_lightcurves", "repeatability", "seeing", "matches",
    )  # fmt: skip
    for table in tables:
        given = {"camera": ["c"] * 5, "night": pa.array([20240401] * 5, pa.int32())}
        if table == "alerts":
            given["kind"] = kinds
        if table == "frames":
            given["status"] = ["ok", "ok", "rejected", "failed", "skipped"]
        names = {column.name for column in load(table).columns}
        rows = make_rows(table, 5, 3, **{name: values for name, values in given.items() if name in names})
        for column in load(table).columns:
            if column.nullable:
                place = rows.schema.get_field_index(column.name)
                nulls = pa.nulls(rows.num_rows, rows.schema.field(place).type)
                rows = rows.set_column(place, rows.schema.field(place), nulls)
        put(lake, (table, "c-20240401", rows), camera="c", night=20240401)
    page = Page(write_report(lake, tmp_path / "report")[0])
    (alerts,) = [rows for rows in page.tables if "watch list" in rows[0]]
    words = sorted(row[5].partition(" ")[0] for row in alerts[1:])
    assert words == ["appeared", "as", "brighter", "fainter", "vanished:"]
    assert all("unknown" in row[5] for row in alerts[1:])
