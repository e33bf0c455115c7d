"""The engine of aggregates: a night costs that night, and just what is out of date is made anew."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from archive.make_archive import make_archive
from archive.scenario import ArchiveScenario

from skylake.cameras import Profile
from skylake.core.batch import Batch
from skylake.core.flags import UNCLEAN, SourceFlag
from skylake.errors import LakeError
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.maintenance.forget_frames import find, forget
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake
from skylake.lake.access.gathered_views import needed, needed_inner
from skylake.lake.storage import slices
from skylake.lake.storage.parts import stage_part
from skylake.schema import load
from skylake.settings import Settings
from skylake.simulate import ScheduleParams, StarParams

MADE = ("nights", "lightcurves", "maps", "clusters", "seeing", "star_statistics")


@pytest.fixture(scope="module")
def scenario(profile: Profile) -> ArchiveScenario:
    return ArchiveScenario(
        camera=profile.source, nights=5, frames_per_night=8, stars=StarParams(per_frame=200.0),
        schedule=ScheduleParams(fields=2),
    )  # fmt: skip


def archive_of(folder: Path, scenario: ArchiveScenario) -> Lake:
    lake = Lake.create(folder, Settings(cluster="inline", pixel_order=2, map_order=10))
    make_archive(lake, scenario, Inline())
    return lake


@pytest.fixture(scope="module")
def once(scenario: ArchiveScenario, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake of five nights with all aggregates. Tests do not change it."""
    lake = archive_of(tmp_path_factory.mktemp("once") / "lake", scenario)
    aggregate(lake, [], Inline())
    return lake


@pytest.fixture
def made(once: Lake, tmp_path: Path) -> Lake:
    """A copy of it, to be changed."""
    return Lake(shutil.copytree(once.root, tmp_path / "lake", symlinks=True))


@contextmanager
def opened_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The files whose rows are read meanwhile."""
    found: list[Path] = []
    real = slices.arrow_dataset

    def counted(paths: list[Path], schema: Any) -> Any:
        found.extend(paths)
        return real(paths, schema)

    with monkeypatch.context() as patch:
        patch.setattr(slices, "arrow_dataset", counted)
        yield found


# What the tables say is what their inputs say.


def test_nights_and_seeing_are_those_of_pandas(once: Lake) -> None:
    snapshot = once.snapshot()
    frames = snapshot.pandas("frames")
    good = frames[frames["status"] == "ok"]
    nights = snapshot.pandas("nights").set_index("night").sort_index()
    by_night = good.groupby("night")
    assert len(nights) == 5
    assert nights["n_frames"].tolist() == frames.groupby("night").size().tolist()
    assert nights["exposure_s"].tolist() == by_night["exposure_s"].sum().tolist()
    assert nights["fwhm_px"].to_numpy() == pytest.approx(by_night["fwhm_px"].median().to_numpy(), rel=1e-6)
    zeropoints = snapshot.pandas("zeropoints")
    zp = zeropoints.groupby("night")["zp"].median()
    assert nights["zp_median"].to_numpy() == pytest.approx(zp.to_numpy())
    seeing = snapshot.pandas("seeing")
    assert len(seeing) > 50
    assert seeing["n_frames"].max() > 2
    widths = good.assign(width=good["fwhm_px"] * good["pixel_scale_arcsec"])
    for night, rows in seeing.groupby("night"):
        held = widths[widths["night"] == night]["width"]
        assert rows["fwhm_arcsec"].between(held.min(), held.max()).all()
        whole = rows[rows["n_frames"] == len(held)]
        assert whole["fwhm_arcsec"].to_numpy() == pytest.approx(np.full(len(whole), held.median()))


def test_maps_are_the_sums_of_their_nights(once: Lake) -> None:
    snapshot = once.snapshot()
    maps = snapshot.pandas("maps")
    assert maps.groupby("night").size().min() > 5
    assert set(maps["healpix_order"]) == {10}
    matches = snapshot.pandas("matches", ["night"])["night"].value_counts()
    counted = maps.groupby("night")["n_matches"].sum()
    assert (counted <= matches[counted.index]).all() and (counted > 0).all()


def test_light_curves_are_the_points_of_all_nights_in_order(once: Lake) -> None:
    snapshot = once.snapshot()
    with snapshot.duckdb() as connection:
        points = connection.execute(
            """SELECT m.catalog, m.ref_id AS object_id, m.band, m.frame_id, m.mjd_mid, c.mag, m.flags
               FROM matches AS m JOIN calibrated_matches AS c USING (frame_id, source_no) ORDER BY m.mjd_mid"""
        ).df()
        curves = connection.execute("SELECT * FROM lightcurves").df()
        blocks = connection.execute("SELECT count(*) FROM blocks.lightcurves").fetchone()[0]
    assert blocks > 2 * len(curves), "a row for each night"
    expected = dict(iter(points.groupby(["catalog", "object_id", "band"])))
    assert len(curves) == len(expected)
    assert curves["n_points"].sum() == len(points)
    for _, curve in curves.iterrows():
        mine = expected[curve["catalog"], curve["object_id"], curve["band"]]
        assert list(curve["lightcurve"]["frame_id"]) == mine["frame_id"].tolist()
        assert (curve["mjd_first"], curve["mjd_last"]) == (mine["mjd_mid"].min(), mine["mjd_mid"].max())
        assert np.asarray(curve["lightcurve"]["mag"], float) == pytest.approx(
            mine["mag"].to_numpy(float), abs=1e-5, nan_ok=True
        )
        clean = mine[(mine["flags"] == 0) & mine["mag"].notna()]
        if len(clean) == len(mine):
            assert curve["mag_median"] == pytest.approx(clean["mag"].median(), abs=1e-5)


def test_medians_read_of_points_what_they_are_made_from(once: Lake) -> None:
    snapshot, schema = once.snapshot(), load("lightcurves")
    columns = ["catalog", "object_id", "band", "mag_median", "mag_scatter"]
    assert needed_inner(schema, columns) == {"lightcurve": ("frame_id", "mjd_mid", "mag", "flags")}
    assert needed_inner(schema, [*columns, "lightcurve"]) == needed_inner(schema, columns[:3]) == {}
    assert "lightcurve_errors" not in needed(schema, columns)
    some, every = (snapshot.merged(schema.name, names).select(columns) for names in (columns, None))
    key = [(name, "ascending") for name in columns[:3]]
    assert some.sort_by(key).equals(every.sort_by(key))


def test_readers_see_the_same_curves_after_compaction(made: Lake) -> None:
    def curves(lake: Lake) -> list[pd.DataFrame]:
        snapshot, table = lake.snapshot(), lake.open("lightcurves")
        with snapshot.duckdb() as connection:
            found = [
                connection.execute("SELECT * FROM lightcurves").df(),
                table.pandas(),
                table.dask().compute(),
            ]
        found += [table.polars().to_pandas(), table.dataset().to_table().to_pandas()]
        found.append(snapshot.lsdb("lightcurves").compute().reset_index())
        plain = [
            "catalog",
            "object_id",
            "band",
            "n_points",
            "mag_median",
            "mag_scatter",
            "mjd_first",
            "mjd_last",
        ]
        key, numbers = plain[:3], dict.fromkeys(plain[3:], float)
        return [one[plain].astype(numbers).sort_values(key).reset_index(drop=True) for one in found]

    before = curves(made)
    files = len(made.snapshot().version("lightcurves").whole_files())
    report = compact(made, Inline(), ["lightcurves"], everything=True)
    assert report.tables["lightcurves"]["files_after"] < files
    for one in (*before[1:], *curves(made)):
        pd.testing.assert_frame_equal(one, before[0], check_dtype=False, check_exact=False)
    assert not any(state.why for state in outdated(made).values())


# A night costs that night.


@pytest.mark.slow
def test_one_more_night_reads_and_writes_only_that_night(
    scenario: ArchiveScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {}
    for n in (5, 50):
        lake = archive_of(tmp_path / str(n), replace(scenario, nights=n))
        aggregate(lake, [], Inline())
        before = {table: lake.snapshot().parts(table) for table in MADE}
        make_archive(lake, replace(scenario, nights=n + 1), Inline())
        (new,) = set(lake.snapshot().parts("frames")) - set(before["nights"])
        with opened_files(monkeypatch) as opened:
            report = aggregate(lake, MADE, Inline())
        assert {path.stem.partition("-simcat")[0] for path in opened} == {new}
        assert all(report.refreshed[table] == 1 and report.removed[table] == 0 for table in MADE)
        after = {table: lake.snapshot().parts(table) for table in MADE}
        written = {
            table: [one for one in parts if parts[one] != before[table].get(one)]
            for table, parts in after.items()
        }
        assert written == {table: [new] for table in MADE}
        counts[n] = len(opened)
    assert counts[50] <= counts[5] + 4, "but for pixels that the new night sees and others do not"


def test_the_statistics_of_stars_are_those_of_their_points(once: Lake) -> None:
    """Night by night they add up to what all points of the light curves show."""
    unclean = ", ".join(f"'{one.name}'" for one in SourceFlag if one & UNCLEAN)
    query = f"""
        SELECT v.n_good + v.n_outliers AS n, p.n AS expected, v.n_outliers, v.mag_mean, p.mag_mean AS mean,
            v.mag_stddev, p.scatter, v.chi2
        FROM star_variability AS v
        JOIN (
            SELECT catalog, object_id, band, camera, count(*) AS n, stddev_samp(mag) AS scatter,
                sum(mag / mag_random_err ** 2) / sum(1 / mag_random_err ** 2) AS mag_mean
            FROM lightcurve_points
            WHERE mag IS NOT NULL AND NOT list_has_any(source_flags(flags), [{unclean}])
            GROUP BY ALL
        ) AS p USING (catalog, object_id, band, camera)"""
    with once.snapshot().duckdb() as connection:
        found = connection.execute(query).df()
        (n_stars,) = connection.execute("SELECT count(*) FROM star_variability").fetchone()
    assert len(found) == n_stars > 50
    np.testing.assert_array_equal(found.n, found.expected)
    same = found[found.n_outliers == 0]
    assert len(same) > 0.9 * len(found)
    np.testing.assert_allclose(same.mag_mean, same["mean"], atol=1e-6)
    np.testing.assert_allclose(same.mag_stddev, same.scatter, atol=1e-6)


# Just what is out of date is made anew.


@pytest.mark.slow
def test_a_new_calibration_makes_what_needs_one_anew(made: Lake) -> None:
    calibrate(made, Inline(), version=2)
    states = {table: set(state.why.values()) for table, state in outdated(made).items() if state.why}
    upstream = {table: {Why.UPSTREAM} for table in ("photometric_nights", "objects")}
    calibrated = ("nights", "lightcurves", "maps", "clusters", "repeatability", "star_statistics")
    assert states == {table: {Why.INPUTS} for table in calibrated} | upstream
    report = aggregate(made, [], Inline())
    assert {table: report.refreshed[table] for table in MADE} == {
        "nights": 5,
        "lightcurves": 5,
        "maps": 5,
        "clusters": 5,
        "seeing": 0,
        "star_statistics": 5,
    }
    versions = made.snapshot().merged("lightcurves", ["version"])["version"]
    assert set(versions.to_pylist()) == {2}
    assert set(made.snapshot().read("nights")["version"].to_pylist()) == {2}


def test_a_setting_makes_what_depends_on_it_anew(made: Lake) -> None:
    made.set("map_order", 9)
    assert {table for table, state in outdated(made).items() if state.why} == {"maps", "seeing"}
    assert set(outdated(made)["maps"].why.values()) == {Why.PARAMETERS}


def test_a_night_that_is_done_again_is_made_anew_alone(made: Lake) -> None:
    from skylake.lake import Commit

    snapshot = made.snapshot()
    part = list(snapshot.parts("frames").values())[2]
    rows = snapshot.read_part("frames", part.name)
    commit = Commit("test", "-")
    with made.stage("test") as staging:
        rest = rows.slice(1)
        commit.replace(
            stage_part(rest, "frames", part.name, staging, None, part.camera, part.night, part.inputs),
            staging,
        )
        made.commit(commit)
    report = aggregate(made, [], Inline())
    assert {table: report.refreshed[table] for table in MADE} == {
        "nights": 1,
        "lightcurves": 0,
        "maps": 1,
        "clusters": 1,
        "seeing": 1,
        "star_statistics": 0,
    }
    assert made.snapshot().parts("nights")[part.name] != snapshot.parts("nights")[part.name]


def test_a_forgotten_night_leaves_every_table_at_once(made: Lake) -> None:
    snapshot = made.snapshot()
    part = next(iter(snapshot.parts("frames").values()))
    forget(made, find(snapshot, [], [Batch(part.camera or "", part.night or 0)]), Inline())
    now = made.snapshot()
    assert all(part.name not in now.parts(table) for table in MADE)
    night = now.merged("lightcurves", ["n_points"])["n_points"]
    assert sum(night.to_pylist()) == now.n_rows("matches")
    # The nights around it were compared with it.
    changed = {"photometric_nights": 4, "objects": 1}
    assert {table for table, state in outdated(made).items() if state.why} == changed.keys()
    refreshed = aggregate(made, [], Inline()).refreshed
    assert refreshed == dict.fromkeys(refreshed, 0) | changed


@pytest.mark.slow
def test_a_rolled_back_lake_is_as_it_was(made: Lake) -> None:
    before = made.snapshot()
    calibrate(made, Inline(), version=2)
    aggregate(made, [], Inline())
    made.rollback(before.number)
    assert not any(state.why for state in outdated(made).values())
    assert made.snapshot().parts("lightcurves") == before.parts("lightcurves")


def test_a_refresh_that_is_killed_leaves_nothing_half(
    made: Lake, monkeypatch: pytest.MonkeyPatch, digests: Callable[[Path], dict[str, str]]
) -> None:
    made.set("map_order", 9)
    before, number = digests(made.root), made.snapshot().number

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "commit", killed)
        with pytest.raises(Killed):
            aggregate(made, ["maps"], Inline())
    assert made.snapshot().number == number
    assert digests(made.root) == before
    assert aggregate(made, ["maps"], Inline()).refreshed == {"maps": 5}


def test_damaged_inputs_change_nothing(made: Lake) -> None:
    snapshot = made.snapshot()
    for path in snapshot.version("frames").whole_files():
        path.unlink()
        path.write_bytes(b"PAR1 no more")
    made.set("map_order", 9)
    with pytest.raises(LakeError, match="skylake verify"):
        aggregate(made, ["seeing"], Inline())
    assert made.snapshot().number == snapshot.number
