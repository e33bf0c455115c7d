"""What is wrong with a lake is found before the first frame; a good row is never replaced by a failure."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.cli.run_commands import _one_of_each
from skylake.errors import CatalogError, LakeError
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.simulate import SimulationResult
from skylake.sky.asterism_index import build_index, index_path
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

Run = Callable[..., Any]


def content(lake: Lake) -> dict[tuple[str, str], str]:
    snapshot = lake.snapshot()
    return {
        (table, name): part.checksum
        for table in ("frames", "sources")
        for name, part in snapshot.parts(table).items()
    }


@pytest.fixture(scope="module")
def solved_once(
    ingested_once: Lake, archive: SimulationResult, blind: Profile, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """A lake whose frames were placed by an index alone."""
    from skylake.flow.ingest.ingest_frames import ingest

    lake = Lake(
        shutil.copytree(ingested_once.root, tmp_path_factory.mktemp("solved") / "lake", symlinks=True)
    )
    lake.rollback(1)
    build_index(ReferenceCatalog.open(lake.layout.catalog("simcat")), "V", 0.5, 2.0)
    assert ingest(lake, blind, archive.frames[:2], Inline()).counts == {"ok": 2}
    return lake


@pytest.fixture(scope="module")
def blind(profile: Profile) -> Profile:
    """The camera, whose headers are not to be believed."""
    return replace(profile, base=replace(profile.base, header=replace(profile.base.header, wcs="none")))


@pytest.fixture
def solved(solved_once: Lake, tmp_path: Path) -> Lake:
    return Lake(shutil.copytree(solved_once.root, tmp_path / "lake", symlinks=True))


@pytest.mark.parametrize("what", ["lost", "damaged"])
def test_a_redo_without_the_placing_index_does_not_begin(
    solved: Lake, archive: SimulationResult, run: Run, blind: Profile, what: str
) -> None:
    before, catalog = content(solved), ReferenceCatalog.open(solved.layout.catalog("simcat"))
    index = index_path(catalog)
    index.unlink() if what == "lost" else index.write_bytes(b"half an index")
    with pytest.raises(
        CatalogError, match=r"2 good frames would be redone .* `skylake catalog index \S+ simcat`"
    ):
        run(solved, archive.frames[:2], redo=True, profile=blind)
    assert content(solved) == before
    build_index(catalog, "V", 0.5, 2.0)
    assert run(solved, archive.frames[:2], redo=True, profile=blind).counts == {"ok": 2}


def test_a_redo_without_the_placing_catalog_does_not_begin(
    ingested: Lake, frames: list[Path], archive: SimulationResult, run: Run
) -> None:
    before = content(ingested)
    ingested.set("catalog.solve", "")
    with pytest.raises(
        LakeError, match=r"6 good frames would be redone without the catalog simcat.*skylake.toml"
    ):
        run(ingested, archive.frames[:6], redo=True)
    assert content(ingested) == before
    # New frames do not need one: they have a WCS.
    shutil.copy(archive.frames[0], frames[0])
    assert run(ingested, archive.frames).counts == {}


def test_a_catalog_that_lost_stars_is_named_first(
    ingested: Lake, archive: SimulationResult, run: Run
) -> None:
    catalog = ReferenceCatalog.open(ingested.layout.catalog("simcat"))
    next(catalog.root.glob("dataset/**/Npix=*/*.parquet")).unlink()
    with pytest.raises(CatalogError, match=r"the catalog is damaged: 1 of its \d+ pixels?"):
        run(ingested, archive.frames, redo=True)


@pytest.fixture
def elsewhere(solved: Lake, archive: SimulationResult, columns: CatalogColumns, tmp_path: Path) -> str:
    """Another catalog with an index of its own, of stars that are not where the frames are."""
    stars = pq.read_table(archive.catalog)
    moved = pa.array(np.random.default_rng(1).permutation(stars["ra"].to_numpy()) / 4 + 90)
    path = tmp_path / "elsewhere.parquet"
    pq.write_table(stars.set_column(stars.column_names.index("ra"), "ra", moved), path)
    import_catalog(solved, "elsewhere", "table", [path], columns)
    build_index(ReferenceCatalog.open(solved.layout.catalog("elsewhere")), "V", 0.5, 2.0)
    return "elsewhere"


def test_a_catalog_that_cannot_place_frames_replaces_none(
    solved: Lake, archive: SimulationResult, run: Run, blind: Profile, elsewhere: str
) -> None:
    before = content(solved)
    solved.set("catalog.solve", elsewhere)
    report = run(solved, archive.frames[:2], redo=True, profile=blind)
    assert report.counts == {} and not report.all_well and content(solved) == before
    [sentence] = _one_of_each(report.kept)
    assert (
        "rejected/no_wcs, though it was good with the catalog simcat, and elsewhere is in force" in sentence
    )
    assert sentence.endswith("the lake keeps the good frame that it has of this file (and 1 more like it)")
    # New frames are filed under what became of them.
    assert run(solved, archive.frames[:3], redo=True, profile=blind).counts == {"rejected": 1}
    solved.set("catalog.solve", "simcat")
    assert run(solved, archive.frames[:2], redo=True, profile=blind).counts == {"ok": 2}


def test_an_index_of_other_fields_does_not_replace_good_frames(
    solved: Lake, archive: SimulationResult, run: Run, blind: Profile
) -> None:
    before, catalog = content(solved), ReferenceCatalog.open(solved.layout.catalog("simcat"))
    build_index(catalog, "V", 20.0, 60.0)
    report = run(solved, archive.frames[:2], redo=True, profile=blind)
    assert report.counts == {} and not report.all_well and content(solved) == before
    [sentence] = _one_of_each(report.kept)
    assert "rejected/no_wcs, though it was good with the catalog simcat as it was: build an index" in sentence
    # Another profile has a say of its own.
    other = replace(
        blind, base=replace(blind.base, extraction=replace(blind.base.extraction, peak_sigma=4.6))
    )
    assert run(solved, archive.frames[:2], redo=True, profile=other).counts == {"rejected": 2}


@pytest.mark.slow
@pytest.mark.parametrize("named", ["the folder", "the files"])
def test_a_frame_whose_file_is_gone_or_damaged_stays_as_it_was(
    lake: Lake, frames: list[Path], run: Run, named: str
) -> None:
    run(lake, frames)
    before = content(lake)
    frames[0].write_bytes(frames[0].read_bytes()[:5000])
    frames[7].write_bytes(b"")
    gone = [] if named == "the folder" else [frames[3]]
    for path in gone:
        path.unlink()
        path.symlink_to("nowhere")
    report = run(lake, frames[0].parent if named == "the folder" else frames, redo=True)
    assert report.counts == {"ok": 12 - 2 - len(gone)} and not report.all_well
    assert len(report.kept) == 2 + len(gone)
    assert all("failed/" in one and "the lake keeps the good frame" in one for one in report.kept)
    assert content(lake) == before
    # Without --redo too; the next run reports it again.
    again = run(lake, frames[0].parent)
    assert len(again.kept) == 2 + len(gone) and content(lake) == before


def test_a_profile_that_misreads_headers_spoils_no_good_frame(
    lake: Lake, frames: list[Path], run: Run, profile: Profile, tmp_path: Path
) -> None:
    run(lake, frames)
    before = content(lake)
    path = tmp_path / "small.toml"
    path.write_text(Path(profile.source).read_text() + '[[header.time]]\ncards = ["NOSUCH"]\n')
    report = run(lake, frames, redo=True, profile=cameras.load(path))
    assert len(report.kept) == 12 and "failed/no_time" in report.kept[0]
    assert content(lake) == before


def test_a_verdict_replaces_a_good_row(
    lake: Lake, frames: list[Path], run: Run, profile: Profile, tmp_path: Path
) -> None:
    run(lake, frames)
    path = tmp_path / "small.toml"
    path.write_text(Path(profile.source).read_text() + "gates.fwhm_px.max = 0.1\n")
    assert run(lake, frames, redo=True, profile=cameras.load(path)).counts == {"rejected": 12}
