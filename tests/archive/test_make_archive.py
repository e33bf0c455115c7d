from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from archive.field_stars import field_catalog
from archive.make_archive import catalog_columns, make_archive
from archive.scenario import ArchiveScenario, TableParams

from skylake.cameras import Profile
from skylake.errors import LakeError, UsageError
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline, workers
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Commit, Lake, stage_part
from skylake.lake.storage.slices import read_files
from skylake.schema.aperture_columns import spread_apertures
from skylake.settings import Settings
from skylake.simulate import AtmosphereParams, ScheduleParams, StarParams
from skylake.simulate.schedule import dark_hours

TABLES = ("frames", "sources", "matches", "zeropoints")
Checksums = Callable[..., dict[tuple[str, str], str]]


@pytest.fixture(scope="module")
def scenario(profile: Profile) -> ArchiveScenario:
    return ArchiveScenario(
        camera=profile.source, nights=5, frames_per_night=20, stars=StarParams(per_frame=200.0),
        schedule=ScheduleParams(fields=5), atmosphere=AtmosphereParams(cloudy_fraction=0.1),
        tables=TableParams(trailed_fraction=0.1, failed_fraction=0.1),
    )  # fmt: skip


def new_lake(folder: Path, name: str = "lake") -> Lake:
    return Lake.create(folder / name, Settings(cluster="inline", pixel_order=3))


@pytest.fixture(scope="module")
def made_once(scenario: ArchiveScenario, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with five nights. Tests do not change it."""
    lake = new_lake(tmp_path_factory.mktemp("made"))
    report = make_archive(lake, scenario, Inline())
    assert (report.n_nights, report.n_current) == (5, 0)
    assert report.rows["frames"] == 100
    return lake


@pytest.fixture
def made(made_once: Lake, tmp_path: Path) -> Lake:
    """A copy of it, to be changed."""
    return Lake(shutil.copytree(made_once.root, tmp_path / "copy", symlinks=True))


@pytest.mark.slow
def test_no_check_finds_anything(made: Lake) -> None:
    aggregate(made, [], Inline())
    options = VerifyOptions(deep=True)
    report = verify(open_facts(made.root, options), Inline(), options)
    assert len(report.checks) > 40
    assert report.failed == []
    connection = made.snapshot().duckdb()
    assert connection.execute("SELECT count(*) FROM lightcurves").fetchone()[0] > 100
    statuses = {row[0] for row in connection.execute("SELECT DISTINCT status FROM frames").fetchall()}
    assert statuses == {"ok", "rejected", "failed"}


def test_the_views_of_calibrations_work(made_once: Lake) -> None:
    connection = made_once.snapshot().duckdb()
    query = """SELECT residual / sqrt(mag_err * mag_err + ref_mag_err * ref_mag_err)
        FROM calibrated_matches WHERE flags = 0 AND crowding < 0.02 AND mag_err < 0.04"""
    pulls = np.array(connection.execute(query).fetchall())[:, 0]
    assert pulls.size > 300  # of some fifty stars, whose errors in the catalog all their nights share
    low, middle, high = np.quantile(pulls, [0.1587, 0.5, 0.8413])
    assert abs(middle) < 0.5
    assert 0.5 * (high - low) == pytest.approx(1.0, abs=0.3)


def test_a_night_is_one_commit_over_its_four_tables(made_once: Lake) -> None:
    assert made_once.snapshot().number == 6
    nights = []
    for path in sorted(made_once.layout.ledger.glob("*.json"))[1:]:
        record = json.loads(path.read_text(encoding="utf-8"))
        assert (record["stage"], set(record["replaced"])) == ("simulate", set(TABLES))
        nights.append(record["batch"])
    assert sorted(nights) == [f"small-{night}" for night in range(20240407, 20240412)]
    snapshot = made_once.snapshot()
    for table, suffix in zip(TABLES, ("", "", "-simcat", "-simcat-v1"), strict=True):
        assert set(snapshot.parts(table)) == {f"{night}{suffix}" for night in nights}
    for part in snapshot.parts("sources").values():
        assert len(part.files) > 1


def test_nights_of_a_long_archive_are_published_together(
    made_once: Lake,
    scenario: ArchiveScenario,
    tmp_path: Path,
    checksums: Checksums,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("archive.make_archive._COMMITS", 2)
    lake = new_lake(tmp_path)
    report = make_archive(lake, scenario, Inline())
    assert report.n_nights == 5
    assert lake.snapshot().number == 3  # three nights and two, on top of the empty lake
    assert checksums(lake, *TABLES) == checksums(made_once, *TABLES)
    batches = [entry.batch for entry in lake.history() if entry.stage == "simulate"]
    assert sorted(batches) == ["small-20240407 and 2 more", "small-20240410 and 1 more"]


def test_parts_hold_their_pixels_in_order(made_once: Lake) -> None:
    snapshot = made_once.snapshot()
    for table in ("sources", "matches"):
        for part in snapshot.parts(table).values():
            for file in part.files:
                index = read_files(table, [snapshot.folder(table) / file.path], ["_healpix_29"])[
                    "_healpix_29"
                ].to_numpy()
                assert file.pixel is not None
                order, pixel = file.pixel
                assert set(index >> 2 * (29 - order)) == {pixel}
                assert (np.diff(index) >= 0).all()
                assert len(index) == file.n_rows


def test_the_same_again_makes_no_snapshot(
    made: Lake, scenario: ArchiveScenario, digests: Callable[[Path], dict[str, str]]
) -> None:
    before = digests(made.root)
    report = make_archive(made, scenario, Inline())
    assert (report.n_nights, report.n_current) == (0, 5)
    after = digests(made.root)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) <= {"_lock"}


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_on_workers(
    made_once: Lake, scenario: ArchiveScenario, tmp_path: Path, checksums: Checksums
) -> None:
    lake = new_lake(tmp_path)
    with workers("local", 2) as pool:
        make_archive(lake, replace(scenario, nights=2), pool)
    made = checksums(lake, *TABLES)
    assert len(made) == 8
    assert checksums(made_once, *TABLES).items() >= made.items()


def test_nights_can_be_added(made: Lake, scenario: ArchiveScenario, checksums: Checksums) -> None:
    before = checksums(made, *TABLES)
    report = make_archive(made, replace(scenario, nights=6), Inline())
    assert (report.n_nights, report.n_current) == (1, 5)
    after = checksums(made, *TABLES)
    assert after.items() > before.items()
    assert {name[:14] for _, name in set(after) - set(before)} == {"small-20240412"}


def test_a_calibration_finds_that_all_is_done(made: Lake) -> None:
    report = calibrate(made, Inline())
    assert (report.catalog, report.n_current, report.batches) == ("simcat", 5, [])


def test_a_real_calibration_finds_the_same(scenario: ArchiveScenario, tmp_path: Path) -> None:
    lake = new_lake(tmp_path)
    make_archive(lake, replace(scenario, nights=1), Inline())
    file = tmp_path / "stars.parquet"
    pq.write_table(pa.concat_tables([field_catalog(scenario, field) for field in range(6)]), file)
    import_catalog(lake, "again", "table", [file], catalog_columns(scenario))
    calibrate(lake, Inline(), "again")
    made, found = (
        spread_apertures(lake.snapshot().read("matches", filter=pc.field("catalog") == name))
        for name in ("simcat", "again")
    )
    both = made.join(found, ["frame_id", "source_no"], join_type="inner", right_suffix="_again")
    assert both.num_rows > 0.995 * max(made.num_rows, found.num_rows)
    same = pc.equal(both["ref_id"], both["ref_id_again"])
    assert pc.mean(same.cast(pa.int8())).as_py() > 0.995
    both = both.filter(same)
    for name in ("ref_mag", "ref_mag_err", "ref_colour", "ra_deg", "dec_deg", "_healpix_29", "band"):
        assert both[name].equals(both[f"{name}_again"]), name
    counted = pc.equal(both["n_candidates"], both["n_candidates_again"])
    assert pc.mean(counted.cast(pa.int8())).as_py() > 0.99
    assert pc.max(both["n_candidates"]).as_py() > 1
    for name in ("separation_arcsec", "moved_ra_deg", "moved_dec_deg"):
        values, again = (both[one].to_numpy() for one in (name, f"{name}_again"))
        np.testing.assert_allclose(values, again, rtol=0.0, atol=1e-8)
    zero, fitted = (
        lake.snapshot().read("zeropoints", ["frame_id", "zp", "zp_err"], filter=pc.field("catalog") == name)
        for name in ("simcat", "again")
    )
    rows = zero.join(fitted, "frame_id", join_type="inner", right_suffix="_again").to_pylist()
    assert len(rows) == zero.num_rows == fitted.num_rows
    pulls = [(row["zp"] - row["zp_again"]) / row["zp_err"] for row in rows if row["zp"] and row["zp_again"]]
    assert len(pulls) > 10
    assert np.median(np.abs(pulls)) < 1.5


def test_another_sky_needs_another_lake(made: Lake, scenario: ArchiveScenario) -> None:
    with pytest.raises(UsageError, match=r"simcat of the lake is of another sky \(seed is 2 and was 1\);"):
        make_archive(made, replace(scenario, seed=2), Inline())
    later = replace(scenario, first_night=20240412)
    with pytest.raises(UsageError, match=r"first_night is 20240412 and was 20240407\).*more --nights"):
        make_archive(made, later, Inline())
    assert made.snapshot().number == 6


def test_nights_that_are_there_are_not_replaced_by_others(
    made: Lake, scenario: ArchiveScenario, checksums: Checksums
) -> None:
    before = checksums(made, *TABLES)
    with pytest.raises(
        UsageError, match=r"small-20240407 from .* \(frames_per_night is 7 and was 20\).*forget"
    ):
        make_archive(made, replace(scenario, frames_per_night=7, nights=6), Inline())
    assert made.snapshot().number == 6 and checksums(made, *TABLES) == before


def test_real_frames_are_not_overwritten(made_once: Lake, scenario: ArchiveScenario, tmp_path: Path) -> None:
    lake = new_lake(tmp_path)
    frames = made_once.snapshot().read("frames", where=lambda part: part.night == 20240407)
    part = stage_part(
        frames, "frames", "small-20240407", tmp_path, camera="small", night=20240407, inputs={"profile": "x"}
    )
    commit = Commit("ingest", "small-20240407")
    commit.replace(part, tmp_path)
    lake.commit(commit)
    with pytest.raises(LakeError, match="small-20240407 in the lake are no simulation"):
        make_archive(lake, scenario, Inline())


def test_a_night_that_is_too_short_fails_alone(
    profile: Profile, scenario: ArchiveScenario, tmp_path: Path
) -> None:
    def hours(night: int) -> float:
        first, last = dark_hours(night, profile.base.site, scenario.schedule)
        return last - first

    # In the southern spring each night is shorter than the one before.
    lengths = [hours(night) for night in (20240901, 20240902)]
    assert lengths[0] > lengths[1] + 1e-4
    cadence = (0.5 * sum(lengths) * 86400.0 - scenario.exposure_s) / (scenario.frames_per_night - 1)
    tight = replace(
        scenario, first_night=20240901, nights=2, schedule=replace(scenario.schedule, cadence_s=cadence)
    )
    lake = new_lake(tmp_path)
    with pytest.raises(LakeError, match=r"small-20240902: the night could not be simulated .*do not fit"):
        make_archive(lake, tight, Inline())
    assert set(lake.snapshot().parts("frames")) == {"small-20240901"}


def test_a_star_is_found_in_all_its_nights_by_its_place(made_once: Lake) -> None:
    snapshot = made_once.snapshot()
    matches: Any = snapshot.duckdb().execute(
        "SELECT ref_id, any_value(ra_deg), any_value(dec_deg), count(*) FROM matches "
        "GROUP BY ref_id HAVING count(DISTINCT night) = 5 ORDER BY count(*) DESC, ref_id LIMIT 3"
    )
    for ref_id, ra, dec, count in matches.fetchall():
        near = snapshot.cone("matches", ra, dec, 1e-6)
        assert set(near["ref_id"].to_pylist()) == {ref_id}
        assert near.num_rows == count
