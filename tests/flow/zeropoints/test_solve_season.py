"""Nights calibrated with the camera's own star magnitudes, as a user sees them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.time import Time

from skylake import cameras
from skylake.calibration.calibrated_matches import FRAME_COLUMNS, ZEROPOINT_COLUMNS, calibrate_matches
from skylake.flow.aggregates import outdated
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.staleness import Why
from skylake.flow.zeropoints import repeated_stars, solve_season
from skylake.flow.zeropoints.calibrate_nights import Choice, calibrate, plan_calibration
from skylake.flow.zeropoints.calibrated_nights import Method
from skylake.flow.zeropoints.season_plans import plan_seasons
from skylake.flow.zeropoints.star_solutions import solutions_in_force
from skylake.lake import Lake
from skylake.sky.lake_catalogs import ReferenceCatalog

pytestmark = pytest.mark.xdist_group("lsdb")

Checksums = Callable[..., dict[tuple[str, str], str]]


@pytest.fixture(scope="module")
def solved(empty_field: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four nights, of which version 1 is against the catalog and version 2 with star magnitudes."""
    drift = empty_field(tmp_path_factory.mktemp("solved"))
    for number in range(4):
        drift.add_night(number, n_frames=20)
    calibrate(drift.lake, Inline(), choice=Choice(version=1, method=Method.FRAME))
    calibrate(drift.lake, Inline(), choice=Choice(version=2, method=Method.AUTO))
    return drift


@pytest.fixture
def season(solved: Any, tmp_path: Path) -> Any:
    """A copy, to be changed."""
    return replace(solved, lake=Lake(shutil.copytree(solved.lake.root, tmp_path / "lake", symlinks=True)))


class Told(Silent):
    """Keeps the lines of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def curves(drift: Any, version: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Calibrated magnitudes of each star that is on most frames, and their random errors."""
    snapshot = drift.lake.snapshot()
    matches = snapshot.read("matches")
    zeropoints = snapshot.read("zeropoints", filter=pc.field("version") == version)
    assert zeropoints["zp"].null_count == 0
    found = calibrate_matches(
        matches, snapshot.read("frames", FRAME_COLUMNS), zeropoints.select(ZEROPOINT_COLUMNS)
    )
    random = np.sqrt(found.mag_err**2 - found.zp_systematic_err**2)
    star = matches["ref_id"].to_numpy()
    return [
        (found.mag[star == one], random[star == one])
        for one in np.unique(star)
        if np.count_nonzero(star == one) >= 40
    ]


def scatters(drift: Any, version: int) -> float:
    return float(np.median([np.std(mag) for mag, _ in curves(drift, version)]))


def versions(drift: Any, table: str) -> set[int]:
    return set(drift.lake.snapshot().read(table, ["version"])["version"].to_pylist())


def test_constant_stars_are_several_times_flatter_than_against_the_catalog(solved: Any) -> None:
    against_catalog, own = scatters(solved, 1), scatters(solved, 2)
    assert own < 0.004
    assert against_catalog > 2.5 * own


def test_errors_are_those_of_the_scatter(solved: Any) -> None:
    chi2 = [
        np.sum(((mag - np.average(mag, weights=error**-2)) / error) ** 2) / (len(mag) - 1)
        for mag, error in curves(solved, 2)
    ]
    assert 0.85 < np.mean(chi2) < 1.15
    assert np.max(chi2) < 2.0


def test_star_magnitudes_are_those_of_the_sky(solved: Any) -> None:
    stars = solved.lake.snapshot().pandas("star_magnitudes")
    off = stars["mag"] - solved.mag[stars["ref_id"]]
    catalog = stars["ref_mag"] - solved.mag[stars["ref_id"]]
    assert off.std() < 0.5 * catalog.std()
    assert np.abs(off / np.hypot(stars["mag_err"], stars["mag_systematic_err"])).max() < 4.0
    assert (
        not stars["is_variable"].any()
        and (stars["n_frames"] >= 3).all()
        and (stars["n_nights"] == 4).mean() > 0.8
    )
    solution = solved.lake.snapshot().read("global_solutions").to_pylist()[0]
    assert solution["catalog_scatter"] == pytest.approx(np.sqrt(catalog.std() ** 2 - 0.05**2), rel=0.35)
    assert abs(solution["colour_term"] - 0.1) < 3.0 * solution["colour_term_err"]
    assert solution["floor_mag"] == pytest.approx(0.002, rel=0.3)


def test_two_versions_are_read_side_by_side(solved: Any) -> None:
    with solved.lake.snapshot().duckdb() as connection:
        rows = connection.execute(
            """SELECT version, method, reference_version, count(*) FROM zeropoints GROUP BY ALL ORDER BY version"""
        ).fetchall()
        in_force = connection.execute("SELECT DISTINCT version FROM zeropoints_in_force").fetchall()
    assert rows == [(1, "frame", None, 80), (2, "global", 1, 80)]
    assert in_force == [(2,)]


def test_a_version_keeps_its_method(solved: Any) -> None:
    for version in (1, 2, None):
        assert plan_calibration(solved.lake, Choice(version=version)) == []
    stale = plan_calibration(solved.lake, Choice(version=1, method=Method.AUTO))
    assert [night.why_zeropoints for night in stale] == [Why.METHOD] * 4
    state = outdated(solved.lake)
    assert not state["zeropoints"].why and not state["star_magnitudes"].why


def test_views_and_python_give_the_same_magnitudes(solved: Any) -> None:
    snapshot = solved.lake.snapshot()
    # The view of matches needs their detections, which this lake has not: as many with the same values.
    matches = snapshot.read("matches").sort_by([("frame_id", "ascending"), ("source_no", "ascending")])
    zeropoints = snapshot.read("zeropoints", ZEROPOINT_COLUMNS, filter=pc.field("version") == 2)
    found = calibrate_matches(matches, snapshot.read("frames", FRAME_COLUMNS), zeropoints)
    terms = [row["coefficient"] for row in zeropoints["position_terms"].to_pylist()]
    assert all(np.any(np.abs(row) > 1e-4) for row in terms)
    with snapshot.duckdb() as connection:
        rows = connection.execute(
            """SELECT -2.5 * log10(m.flux_aper2) + z.zp + z.colour_term * (m.ref_colour - z.pivot_colour)
                   + position_offset(z.position_terms.coefficient, m.x_px, m.y_px, f.width_px, f.height_px) AS mag
               FROM matches AS m JOIN frames AS f USING (frame_id)
               JOIN zeropoints_in_force AS z USING (frame_id, catalog)
               ORDER BY m.frame_id, m.source_no"""
        ).fetchnumpy()
    np.testing.assert_allclose(rows["mag"], found.mag, rtol=0, atol=1e-5)


def test_a_new_night_is_calibrated_with_the_stars_that_are_fixed(season: Any, checksums: Checksums) -> None:
    before = checksums(season.lake, "zeropoints", "star_magnitudes")
    season.add_night(4, n_frames=20)
    report = calibrate(season.lake, Inline())
    assert [batch["night"] for batch in report.batches] == [20240405] and report.solved == []
    after = checksums(season.lake, "zeropoints", "star_magnitudes")
    assert before.items() <= after.items() and len(after) == len(before) + 1
    assert versions(season, "star_magnitudes") == {1}
    rows = season.lake.snapshot().read("zeropoints", ["method"], lambda part: part.night == 20240405)
    assert set(rows["method"].to_pylist()) == {"global"}
    assert scatters(season, 2) < 0.004
    # The next is more than a quarter of what there was: all are solved again, and all nights calibrated with that.
    season.add_night(5, n_frames=20)
    assert outdated(season.lake)["star_magnitudes"].why == {"drift-V-drifters-v1": Why.INPUTS}
    told = Told()
    report = calibrate(season.lake, Inline(), progress=told)
    assert [one.version for one in report.solved] == [2] and len(report.batches) == 6
    assert any(line.startswith("solve drift V: version 2 of the magnitudes of") for line in told.lines)
    assert (report.n_renewed, report.n_current) == (5, 0)
    assert versions(season, "star_magnitudes") == versions(season, "global_solutions") == {1, 2}
    rows = season.lake.snapshot().read("zeropoints", ["reference_version"], filter=pc.field("version") == 2)
    assert set(rows["reference_version"].to_pylist()) == {2}
    assert plan_calibration(season.lake, Choice()) == []
    assert calibrate(season.lake, Inline()).batches == []


def test_a_rollback_brings_back_stars_and_zeropoints_together(season: Any) -> None:
    number = season.lake.snapshot().number
    report = calibrate(season.lake, Inline(), choice=Choice(method=Method.GLOBAL))
    assert [one.version for one in report.solved] == [2] and len(report.batches) == 4
    season.lake.rollback(number)
    assert versions(season, "star_magnitudes") == {1}
    assert plan_calibration(season.lake, Choice()) == []


def test_stars_of_a_compacted_lake_are_the_same(season: Any) -> None:
    calibrate(season.lake, Inline(), choice=Choice(method=Method.GLOBAL))
    before = season.lake.snapshot().pandas("star_magnitudes").sort_values(["version", "ref_id"])
    compact(season.lake, Inline(), everything=True)
    snapshot = season.lake.snapshot()
    assert set(snapshot.version("star_magnitudes").bundle_of) == {
        "drift-V-drifters-v1",
        "drift-V-drifters-v2",
    }
    after = snapshot.pandas("star_magnitudes").sort_values(["version", "ref_id"])
    assert after.reset_index(drop=True).equals(before.reset_index(drop=True))
    solution = solutions_in_force(snapshot, season.profile, reference_of(season))["V"].read()
    assert solution.version == 2 and len(solution.star) == (before["version"] == 2).sum()
    assert plan_calibration(season.lake, Choice()) == []
    season.add_night(4, n_frames=20)
    assert [batch["zeropoints"] for batch in calibrate(season.lake, Inline()).batches] == [20]


def test_nights_before_a_change_of_optics_have_no_part_in_the_solution(season: Any, tmp_path: Path) -> None:
    """The first of four nights was behind another lens."""
    path = tmp_path / "other.toml"
    text = Path(season.profile.source).read_text()
    nights = season.lake.snapshot().pandas("frames").groupby("night").mjd_mid.max().sort_values()
    until = Time(nights.iloc[0] + 0.5, format="mjd").isot
    path.write_text(f"{text}\n[[period]]\nuntil = {until}\n[period.optics]\ndiameter_m = 0.11\n")
    season.lake.keep_profile(cameras.load(path))
    assert outdated(season.lake)["star_magnitudes"].why == {"drift-V-drifters-v1": Why.PARAMETERS}
    told = Told()
    calibrate(season.lake, Inline(), progress=told)
    assert any(
        "60 of 80 frames, as the others are of periods with other optics" in line for line in told.lines
    )
    rows = season.lake.snapshot().pandas("zeropoints").query("version == 2")
    assert set(rows[rows.night == nights.index[0]]["method"]) == {"frame"}
    assert rows[rows.night == nights.index[0]].position_terms.isna().all()
    assert set(rows[rows.night != nights.index[0]]["method"]) == {"global"}


def test_stars_of_other_parameters_are_not_used(season: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    # Fourteen stars are no solution.
    path.write_text("calibration.mag_range = [8.0, 8.8]\n" + Path(season.profile.source).read_text())
    calibrate(season.lake, Inline(), choice=Choice(method=Method.GLOBAL))
    season.lake.keep_profile(cameras.load(path))
    state = outdated(season.lake)
    assert state["star_magnitudes"].why == {"drift-V-drifters-v2": Why.PARAMETERS}
    assert set(state["matches"].why.values()) == set(state["zeropoints"].why.values()) == {Why.PARAMETERS}
    snapshot = season.lake.snapshot()
    plan = next(plan_seasons(snapshot, cameras.load(path), reference_of(season)))
    told = Told()
    assert solve_season.solve_planned(season.lake, snapshot, plan, cameras.load(path), Inline(), told) is None
    assert any(
        "version 2 of the star magnitudes is withdrawn, as the profile has changed" in x for x in told.lines
    )
    # They stay, so that no number is used again, and no frame is calibrated with them.
    assert versions(season, "star_magnitudes") == versions(season, "global_solutions") == {1, 2}
    snapshot = season.lake.snapshot()
    assert not solutions_in_force(snapshot, cameras.load(path), reference_of(season))
    assert not outdated(season.lake)["star_magnitudes"].why
    season.lake.keep_profile(season.profile)
    (again,) = calibrate(season.lake, Inline()).solved
    assert again.version == 3


def reference_of(drift: Any) -> ReferenceCatalog:
    return ReferenceCatalog.open(drift.lake.snapshot().catalog("drifters"))


def test_a_single_night_of_one_field_is_solved(empty_field: Callable[[Path], Any], tmp_path: Path) -> None:
    drift = empty_field(tmp_path)
    drift.add_night(0, n_frames=40)
    report = calibrate(drift.lake, Inline())
    assert [(one.n_nights, one.n_frames) for one in report.solved] == [(1, 40)]
    assert (len(report.batches), report.n_renewed) == (1, 0)
    own = np.median([np.std(mag) for mag, _ in curves(replace(drift), 1) if len(mag) >= 20])
    assert own < 0.004


def test_frames_are_left_out_evenly_where_there_are_too_many(
    season: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_matches = season.lake.snapshot().n_rows("matches")
    monkeypatch.setattr(solve_season, "MOST_MATCHES", n_matches // 2)
    monkeypatch.setattr(repeated_stars, "READ_TOGETHER", n_matches // 3)
    told = Told()
    (one,) = calibrate(season.lake, Inline(), progress=told, choice=Choice(method=Method.GLOBAL)).solved
    assert one.n_frames == 40 and one.n_nights == 4
    assert any("40 of 80 frames, evenly over time" in line for line in told.lines)


def test_few_repeats_leave_the_catalog_in_force(empty_field: Callable[[Path], Any], tmp_path: Path) -> None:
    drift = empty_field(tmp_path)
    drift.add_night(0, n_frames=14)
    assert calibrate(drift.lake, Inline()).solved == []
    told = Told()
    assert calibrate(drift.lake, Inline(), progress=told, choice=Choice(method=Method.GLOBAL)).solved == []
    assert set(drift.lake.snapshot().read("zeropoints", ["method"])["method"].to_pylist()) == {"frame"}
