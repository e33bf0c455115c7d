"""Lists of targets, and frames that are measured at them, in the same commit as their detections."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.flags import SourceFlag
from skylake.core.sphere import separation_deg
from skylake.errors import UsageError
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import (
    TargetOptions,
    TargetReport,
    count_frames,
    fields_of,
    make_targets,
)
from skylake.flow.forced.psf_pool import pool_psfs
from skylake.flow.forced.target_list import TargetList
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.ingest.single_frames import bench_for, completeness_of
from skylake.flow.maintenance.forget_frames import find, forget
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.image.quality.star_injection import InjectionTrial
from skylake.lake import Lake
from skylake.simulate import SimulationResult

Run = Callable[..., Any]
OPTIONS = TargetOptions("simcat", faint=15.0, seen=3)
FIRST, SECOND = "small-20241001", "small-20241002"


def targets(lake: Lake, **changes: Any) -> TargetReport:
    from dataclasses import replace

    return make_targets(lake, "small", replace(OPTIONS, **changes), Inline())


@pytest.fixture(scope="module")
def measured_once(
    ingested_once: Lake, archive: SimulationResult, profile: Profile, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """A lake with a list of targets that are measured on all frames. Tests do not change it."""
    root = tmp_path_factory.mktemp("measured") / "lake"
    lake = Lake(shutil.copytree(ingested_once.root, root, symlinks=True))
    assert targets(lake).is_new
    report = ingest(lake, profile, [archive.out / "frames"], Inline(), IngestOptions(redo=True))
    assert report.counts == {"ok": 12}
    return lake


@pytest.fixture
def measured(measured_once: Lake, tmp_path: Path) -> Lake:
    """A copy of it, to be changed."""
    return Lake(shutil.copytree(measured_once.root, tmp_path / "lake", symlinks=True))


def rows(lake: Lake, table: str = "forced_sources") -> pa.Table:
    return lake.snapshot().read(table)


def test_a_camera_without_a_list_has_no_forced_rows(ingested_once: Lake) -> None:
    assert TargetList.in_force(ingested_once.snapshot(), "small") is None
    assert rows(ingested_once).num_rows == 0
    assert rows(ingested_once, "targets").num_rows == 0


def test_every_target_is_measured_on_every_frame_that_shows_it(measured_once: Lake) -> None:
    forced, listed = rows(measured_once), rows(measured_once, "targets")
    keys = np.unique(np.column_stack([forced["frame_id"].to_numpy(), forced["star_id"].to_numpy()]), axis=0)
    assert len(keys) == forced.num_rows
    assert set(forced["star_id"].to_pylist()) == set(listed["star_id"].to_pylist())
    wanted = dict(zip(listed["star_id"].to_pylist(), listed["n_frames"].to_pylist(), strict=True))
    stars, counts = np.unique(forced["star_id"].to_numpy(), return_counts=True)
    missing = np.array([wanted[star] for star in stars.tolist()]) - counts
    # Only where the edge of a frame cuts through a shift of a fraction of a pixel may there be a doubt.
    assert np.count_nonzero(missing) <= 0.03 * len(stars)
    assert np.isfinite(forced["flux_psf"].to_numpy()).all()
    assert (forced["targets_version"].to_numpy() == 1).all()


def test_a_frame_by_itself_is_what_the_lake_holds_of_it(
    measured_once: Lake, archive: SimulationResult, profile: Profile
) -> None:
    path = archive.frames[8]
    with bench_for([path], profile, measured_once) as bench:
        frame = bench.reduce(path)
    assert frame.sources is not None and frame.forced is not None
    key = frame.reduced.row["frame_id"]
    for table, ours in (
        ("frames", frame.frame),
        ("sources", frame.sources),
        ("forced_sources", frame.forced),
    ):
        theirs = rows(measured_once, table).filter(pc.equal(pc.field("frame_id"), key))
        order = [(name, "ascending") for name in ("source_no", "star_id") if name in ours.column_names]
        if order:
            ours, theirs = ours.sort_by(order), theirs.sort_by(order)
        assert ours.num_rows == theirs.num_rows > 0
        assert [one for one in ours.column_names if not ours[one].equals(theirs[one])] == []
    assert frame.reduced.row["n_expected"] > 10 and frame.reduced.row["psf_stars"] > 0
    curve = completeness_of(frame, InjectionTrial(stars=100, bins=4))
    assert curve is not None and curve.limiting_flux == frame.reduced.row["flux_limit"]


def test_what_was_never_detected_is_measured_too(measured_once: Lake) -> None:
    forced, listed = rows(measured_once), rows(measured_once, "targets")
    unseen = listed.filter(pc.equal(listed["n_seen"], 0))
    assert unseen.num_rows > 0
    theirs = forced.filter(pc.is_in(forced["star_id"], unseen["star_id"].combine_chunks()))
    assert theirs.num_rows >= unseen.num_rows
    snr = theirs["flux_psf"].to_numpy() / theirs["flux_psf_err"].to_numpy()
    assert np.median(np.abs(snr)) < np.median(
        forced["flux_psf"].to_numpy() / forced["flux_psf_err"].to_numpy()
    )


def test_fluxes_agree_with_those_of_the_detections(measured_once: Lake) -> None:
    with measured_once.snapshot().duckdb() as connection:
        pairs = connection.sql(
            """SELECT f.flux_aper2 AS forced, s.flux_aper2 AS detected, s.flux_aper2_err AS err,
                      f.flux_psf / (f.flux_hybrid2 * r.apcor_aper2) AS ratio
               FROM forced_sources AS f JOIN frames AS r USING (frame_id) JOIN sources AS s USING (frame_id)
               WHERE (f.x_px - s.x_px) ** 2 + (f.y_px - s.y_px) ** 2 < 0.09 AND s.flags = 0 AND f.flags = 0
                 AND s.flux_aper2 > 50 * s.flux_aper2_err AND f.contamination < 0.02"""
        ).to_arrow_table()
    assert pairs.num_rows > 50
    off = (pairs["forced"].to_numpy() - pairs["detected"].to_numpy()) / pairs["err"].to_numpy()
    assert abs(np.median(off)) < 0.3
    # The fitted flux is total flux: it is tied to the growth curve of each frame.
    assert np.median(pairs["ratio"].to_numpy()) == pytest.approx(1.0, abs=0.01)


def test_stars_repeat_from_frame_to_frame(measured_once: Lake) -> None:
    forced = rows(measured_once).to_pandas()
    bright = forced[(forced["flags"] == 0) & (forced.flux_hybrid2 > 40 * forced.flux_hybrid2_err)]
    night = bright[bright.night == 20241001]
    table = night.pivot_table(index="star_id", columns="frame_id", values="flux_hybrid2").dropna()
    assert len(table) >= 10
    relative = table.div(table.median(axis=1), axis=0)
    relative = relative.div(relative.median(axis=0), axis=1)
    assert np.median(np.abs(relative - 1.0)) < 0.02


def test_forced_rows_are_committed_with_the_detections(measured_once: Lake) -> None:
    entries = [entry for entry in measured_once.history() if entry.stage == "ingest"]
    after = entries[-1]
    assert {"frames", "sources", "forced_sources"} >= set(after.parts)
    assert "forced_sources" in after.parts
    snapshot = measured_once.snapshot()
    name = TargetList.in_force(snapshot, "small")
    assert name is not None
    for batch in (FIRST, SECOND):
        part = snapshot.part("forced_sources", batch)
        assert part is not None
        assert part.inputs["targets"] == name.name


def test_the_list_stays_the_same_until_something_changes(measured: Lake) -> None:
    again = targets(measured)
    assert (again.version, again.is_new) == (1, False)
    fainter = targets(measured, faint=16.0)
    assert (fainter.version, fainter.is_new) == (2, True)
    listed = rows(measured, "targets")
    first, second = (
        {
            row["ref_id"]: row["star_id"]
            for row in listed.to_pylist()
            if row["version"] == version and row["ref_id"]
        }
        for version in (1, 2)
    )
    assert len(second) > len(first)
    assert {ref: second[ref] for ref in first} == first


def test_a_frame_is_done_anew_with_the_newer_list(measured: Lake, frames: list[Path], run: Run) -> None:
    before = rows(measured).num_rows
    assert targets(measured, faint=16.0).version == 2
    run(measured, frames)
    assert rows(measured).num_rows == before
    run(measured, frames[:6], redo=True)
    forced = rows(measured)
    versions = {
        night: set(forced.filter(pc.equal(forced["night"], night))["targets_version"].to_pylist())
        for night in (20241001, 20241002)
    }
    assert versions == {20241001: {2}, 20241002: {1}}
    assert forced.num_rows > before


def test_frames_that_come_later_leave_those_of_the_night_alone(
    lake: Lake, frames: list[Path], run: Run, archive: SimulationResult, columns: Any
) -> None:
    from skylake.flow.catalogs.import_catalogs import import_catalog

    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    run(lake, frames[:3])
    targets(lake, seen=2)
    run(lake, frames[3:6])
    forced = rows(lake)
    measured_frames = set(forced["frame_id"].to_pylist())
    assert len(measured_frames) == 3
    run(lake, frames[6:7])
    assert len(set(rows(lake)["frame_id"].to_pylist())) == 4
    again = rows(lake)
    assert again.filter(pc.equal(again["night"], 20241001)).equals(forced)


def test_the_same_frames_give_the_same_rows(
    measured: Lake, measured_once: Lake, frames: list[Path], run: Run
) -> None:
    run(measured, frames, redo=True)
    names = [name for name in rows(measured).column_names if name != "camera"]
    keys = [("frame_id", "ascending"), ("star_id", "ascending")]
    assert rows(measured).select(names).sort_by(keys).equals(rows(measured_once).select(names).sort_by(keys))


def test_frames_that_are_forgotten_take_their_forced_rows_along(measured: Lake) -> None:
    frame = rows(measured, "frames")["frame_id"][0].as_py()
    snapshot = measured.snapshot()
    report = forget(measured, find(snapshot, [frame], []), Inline())
    assert report.rows["forced_sources"] > 0
    assert frame not in rows(measured)["frame_id"].to_pylist()
    assert rows(measured, "targets").num_rows > 0


def test_a_lake_with_targets_is_whole_and_can_be_compacted(measured: Lake) -> None:
    options = VerifyOptions(deep=True)
    assert verify(open_facts(measured.root, options), Inline(), options).all_well
    before = rows(measured).sort_by([("frame_id", "ascending"), ("star_id", "ascending")])
    compact(measured, Inline(), everything=True)
    assert rows(measured).sort_by([("frame_id", "ascending"), ("star_id", "ascending")]).equals(before)
    assert verify(open_facts(measured.root, options), Inline(), options).all_well


def test_positions_without_a_catalog_come_from_detections(ingested: Lake) -> None:
    report = targets(ingested, catalog=None)
    assert (report.n_catalog, report.n_targets) == (0, report.n_detections)
    listed = rows(ingested, "targets")
    assert (listed["n_seen"].to_numpy() >= 3).all()
    with pytest.raises(UsageError, match="nothing is a target of small"):
        targets(ingested, catalog=None, seen=0)


def test_stars_beyond_the_faint_limit_do_not_come_back(ingested: Lake) -> None:
    every, few = targets(ingested, faint=None), targets(ingested, faint=11.5)
    assert few.n_fainter > 50 and "fainter than --faint" in few.line
    assert few.n_catalog < 0.5 * every.n_catalog
    # Blends that the catalog's stars do not explain stay, as they do without a limit.
    assert few.n_detections <= every.n_detections + 0.02 * few.n_fainter


def test_proper_motion_is_carried_to_the_time_of_a_frame(measured_once: Lake) -> None:
    found = TargetList.in_force(measured_once.snapshot(), "small")
    assert found is not None
    frame = rows(measured_once, "frames").to_pylist()[0]
    finder = found.finder()
    now = finder(frame["ra_deg"], frame["dec_deg"], 1.0, frame["mjd_mid"])
    later = finder(frame["ra_deg"], frame["dec_deg"], 1.0, frame["mjd_mid"] + 36525.0)
    assert now.star_id.tolist() == later.star_id.tolist()
    moved = 3600 * separation_deg(now.ra_now_deg, now.dec_now_deg, later.ra_now_deg, later.dec_now_deg)
    listed = rows(measured_once, "targets").to_pandas().set_index("star_id").loc[now.star_id.tolist()]
    speed = np.nan_to_num(np.hypot(listed.pm_ra_mas_yr, listed.pm_dec_mas_yr)) / 1000.0
    assert speed.max() > 0
    assert moved == pytest.approx(100.0 * speed, abs=0.01)


def test_targets_on_rejected_frames_are_measured_and_flagged(
    measured: Lake, archive: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    before = rows(measured).to_pandas().set_index(["frame_id", "star_id"]).sort_index()
    path = tmp_path / "strict.toml"
    path.write_text(Path(profile.source).read_text().replace("n_sources.min = 20", "n_sources.min = 100000"))
    report = ingest(
        measured, cameras.load(path), [archive.out / "frames"], Inline(), IngestOptions(redo=True)
    )
    assert report.counts == {"rejected": 12}
    after = rows(measured).to_pandas().set_index(["frame_id", "star_id"]).sort_index()
    assert after.index.equals(before.index)
    assert (after["flags"] & int(SourceFlag.FRAME_REJECTED) != 0).all()
    # There is no good frame to show the point spread function; plain apertures hardly mind.
    off = (after.flux_aper2 - before.flux_aper2).abs() / before.flux_aper2_err
    assert off.median() < 0.2
    assert off.quantile(0.9) < 0.5


def test_a_list_of_few_targets_is_shifted_by_the_catalog(
    measured: Lake, archive: SimulationResult, profile: Profile
) -> None:
    long = rows(measured, "frames").to_pandas().set_index("frame_id").sort_index()
    mag = rows(measured, "targets")["mag"].drop_null().to_numpy()
    assert targets(measured, faint=float(np.sort(mag)[2]), seen=0).n_targets == 3
    ingest(measured, profile, [archive.out / "frames"], Inline(), IngestOptions(redo=True))
    short = rows(measured, "frames").to_pandas().set_index("frame_id").sort_index()
    assert (short.n_targets >= 1).all()
    for name in ("targets_dx_px", "targets_dy_px"):
        assert short[name].to_numpy() == pytest.approx(long[name].to_numpy(), abs=0.15)


def test_a_camera_without_frames_is_reported(lake: Lake) -> None:
    with pytest.raises(UsageError, match="no frame of small in the lake is good"):
        targets(lake, catalog=None)


def test_fields_cover_all_frames_and_count_them(ingested_once: Lake) -> None:
    frames_table = rows(ingested_once, "frames")
    circles = fields_of(frames_table)
    assert len(circles) < frames_table.num_rows
    sources = rows(ingested_once, "sources")
    ra, dec = sources["ra_deg"].to_numpy(), sources["dec_deg"].to_numpy()
    covered = np.zeros(len(ra), bool)
    for one in circles:
        covered |= separation_deg(one[0], one[1], ra, dec) <= one[2]
    assert covered.all()
    inside = sources["edge_distance_px"].to_numpy() > 3
    assert (count_frames(ra, dec, frames_table)[inside] >= 1).all()
    assert count_frames(ra + 30.0, dec, frames_table).max() == 0


def test_unreadable_frames_do_not_spoil_the_psf_of_a_night(frames: list[Path], profile: Profile) -> None:
    names = [str(path) for path in frames[:4]]
    whole = pool_psfs({1: names}, profile, Inline())
    frames[3].write_bytes(b"nothing")
    fewer = pool_psfs({1: names, 2: [str(frames[3])]}, profile, Inline())
    assert [key.night for key in fewer] == [1]
    counts = [one.quality.n_frames for one in (*whole.values(), *fewer.values())]
    assert counts == [4, 3]


def test_a_frame_that_comes_later_has_the_psf_of_its_night(
    measured: Lake, archive: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    later = Path(shutil.copy2(archive.frames[3], tmp_path / "later.fits"))
    with fits.open(later, mode="update") as content:
        card = "DATE-OBS"
        start = content[0].header[card]
        content[0].header[card] = start[:-1] + str(9 - int(start[-1]))
    report = ingest(measured, profile, [later], Inline())
    assert report.counts == {"ok": 1}
    found = rows(measured, "frames").to_pandas().set_index("file")
    (one,) = pool_psfs({1: [str(later)]}, profile, Inline()).values()
    alone = one.quality.n_stars
    others = found.psf_stars[str(archive.frames[3])]
    assert others > 3 * alone
    assert found.psf_stars[str(later)] == others + alone


def test_frames_show_how_their_targets_were_measured(measured_once: Lake, ingested_once: Lake) -> None:
    frames_table, forced = rows(measured_once, "frames"), rows(measured_once)
    counts = dict(zip(*np.unique(forced["frame_id"].to_numpy(), return_counts=True), strict=True))
    assert frames_table["n_targets"].to_pylist() == [
        counts[one] for one in frames_table["frame_id"].to_pylist()
    ]
    assert set(frames_table["targets_version"].to_pylist()) == {1}
    shift = np.hypot(frames_table["targets_dx_px"].to_numpy(), frames_table["targets_dy_px"].to_numpy())
    assert (shift < 1.0).all()
    assert (shift > 0.0).all()
    assert (frames_table["psf_stars"].to_numpy() > 5).all()
    assert frames_table["psf_chi2"].to_numpy() == pytest.approx(1.0, abs=0.5)
    unforced = rows(ingested_once, "frames")
    assert unforced["n_targets"].null_count == unforced.num_rows


def test_the_limit_of_a_frame_is_that_of_its_faint_targets(measured_once: Lake) -> None:
    with measured_once.snapshot().duckdb() as connection:
        pairs = connection.sql(
            """SELECT r.flux_limit / (5 * median(f.flux_aper2_err) * r.apcor_aper2) AS ratio
               FROM forced_sources AS f JOIN frames AS r USING (frame_id)
               WHERE f.flags = 0 AND abs(f.flux_aper2) < 5 * f.flux_aper2_err
               GROUP BY r.frame_id, r.flux_limit, r.apcor_aper2 HAVING count(*) >= 5"""
        ).to_arrow_table()
    assert pairs.num_rows >= 5
    # The errors of targets hold the photons of the star, of which most have fewer than a star at the limit.
    assert np.median(pairs["ratio"].to_numpy()) == pytest.approx(1.0, abs=0.08)
