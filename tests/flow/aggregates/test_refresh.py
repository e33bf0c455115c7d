from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

from skylake.errors import LakeError, UsageError
from skylake.flow.aggregates import AGGREGATES, aggregate, outdated
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Commit, Lake, stage_part
from skylake.lake.access.duckdb_tables import catalog_folder
from skylake.resources import folder as declarations
from skylake.schema import load, table_names

pytestmark = pytest.mark.xdist_group("lsdb")

HATS = [name for name in table_names() if load(name).layout.kind == "hats"]
#: Tables that the lake of these tests has no rows of: a camera without targets, whose frames come reduced and hold the
#: centre of no pixel, and are too few for magnitudes of the camera's own; and nobody watches stars.
UNFILLED = (
    "forced_sources",
    "forced_lightcurves",
    "targets",
    "masters",
    "repeatability",
    "seeing",
    "star_magnitudes",
    "global_solutions",
    "alerts",
)
FILLED = [name for name in table_names() if name not in UNFILLED]


def count(lake: Lake, table: str) -> int:
    """Rows in the files of a table."""
    schema = "blocks." if load(table).in_blocks else ""
    with lake.snapshot().duckdb() as connection:
        (found,) = connection.execute(f"SELECT count(*) FROM {schema}{table}").fetchone()
    return int(found)


# From outside: other programs read the files and find what skylake says is there.


@pytest.mark.parametrize("table", [name for name in HATS if name in FILLED])
def test_lsdb_counts_as_skylake_does(calibrated_once: Lake, table: str) -> None:
    import lsdb

    opened = lsdb.open_catalog(calibrated_once.root / table, columns="all")
    expected = count(calibrated_once, table)
    assert len(opened) == expected > 0
    computed = opened.compute()
    assert len(computed) == expected
    assert list(computed.columns) == [name for name in load(table).names if name != "_healpix_29"]


def test_lsdb_finds_the_stars_of_a_cone(calibrated_once: Lake) -> None:
    import lsdb

    cone = lsdb.open_catalog(calibrated_once.root / "sources").cone_search(0.0, -24.6, 600.0).compute()
    here = calibrated_once.snapshot().cone("sources", 0.0, -24.6, 600.0 / 3600.0)
    assert len(cone) == here.num_rows > 100
    assert set(zip(cone["frame_id"], cone["source_no"], strict=True)) == set(
        zip(here["frame_id"].to_pylist(), here["source_no"].to_pylist(), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("table", FILLED)
def test_duckdb_and_pandas_count_as_skylake_does(calibrated_once: Lake, table: str) -> None:
    import duckdb

    expected = count(calibrated_once, table)
    folder = calibrated_once.snapshot().folder(table)
    pattern = f"{folder}/dataset/**/*.parquet"
    ((found,),) = duckdb.sql(f"SELECT count(*) FROM read_parquet('{pattern}')").fetchall()
    frame = pd.read_parquet(folder / "dataset", partitioning=None)
    assert found == len(frame) == expected > 0
    # Files have no nested column, as that of further apertures, where no row has any.
    nested = ("more_apertures", "more_bands", "position_terms", "shares")
    assert tuple(frame.columns) == tuple(name for name in load(table).names if name not in nested)


def test_outside_readers_see_one_and_the_same_sum(calibrated_once: Lake) -> None:
    import lsdb

    folder = calibrated_once.root / "matches"
    one = pd.read_parquet(folder.resolve() / "dataset", partitioning=None)["ra_deg"]
    other = lsdb.open_catalog(folder, columns=["ra_deg"]).compute()["ra_deg"]
    with calibrated_once.snapshot().duckdb() as connection:
        third = connection.execute("SELECT ra_deg FROM matches").fetchnumpy()["ra_deg"]
    assert np.array_equal(np.sort(one), np.sort(other))
    assert np.array_equal(np.sort(one), np.sort(third))


def hats_folders(lake: Lake) -> Iterator[Path]:
    yield from (lake.root / name for name in HATS)
    for name in lake.snapshot().catalogs():
        catalog = catalog_folder(lake.layout.catalog(name))
        assert catalog is not None
        yield catalog
        yield from (path for path in lake.layout.catalog(name).glob("*margin*") if path.is_dir())


def test_every_hats_table_is_valid_in_every_state(
    lake: Lake, ingested_once: Lake, calibrated_once: Lake
) -> None:
    from hats.io.validation import is_valid_catalog, is_valid_collection

    for one, n_catalogs in ((lake, 0), (ingested_once, 2), (calibrated_once, 2)):
        folders = list(hats_folders(one))
        assert len(folders) == len(HATS) + n_catalogs
        for folder in folders:
            assert is_valid_catalog(folder, strict=True), folder
    assert is_valid_collection(calibrated_once.layout.catalog("simcat"), strict=True)


# What the aggregates say is what the tables say that they are made from.


def test_nights_count_their_frames(calibrated_once: Lake, archive: Any) -> None:
    snapshot = calibrated_once.snapshot()
    nights = snapshot.pandas("nights").set_index("night")
    sources = snapshot.pandas("sources", ["night"])["night"].value_counts()
    truth = pd.read_parquet(archive.truth_frames).groupby("night")
    assert list(nights.index) == [20241001, 20241002]
    for night, row in nights.iterrows():
        assert (row["n_frames"], row["n_ok"], row["n_zeropoints"]) == (6, 6, 6)
        assert row["n_failed"] == row["n_rejected"] == row["n_skipped"] == 0
        assert row["exposure_s"] == 180.0
        assert 0 < row["n_matched"] <= row["n_sources"] <= sources[night]
        assert row["zp_median"] == pytest.approx(truth["zp"].median()[night], abs=0.03)
        assert row["mjd_first"] == pytest.approx(truth["mjd_mid"].min()[night], abs=1e-6)
    assert nights["n_matched"].sum() == snapshot.n_rows("matches")


def test_each_match_is_a_point_of_one_light_curve(calibrated_once: Lake) -> None:
    snapshot = calibrated_once.snapshot()
    curves = snapshot.merged("lightcurves")
    points = pc.struct_field(curves["lightcurve"], "frame_id")
    assert pc.sum(curves["n_points"]).as_py() == snapshot.n_rows("matches")
    assert pc.list_value_length(points).equals(curves["n_points"].cast("int32"))
    keys = curves.select(["catalog", "object_id", "band"]).to_pylist()
    assert len({tuple(key.values()) for key in keys}) == len(keys)
    stars = set(snapshot.read("matches", ["ref_id"])["ref_id"].to_pylist())
    assert set(curves["object_id"].to_pylist()) == stars


@pytest.mark.slow
def test_a_catalog_whose_name_ends_as_the_default_adds_no_point(
    ingested: Lake, archive: Any, columns: Any
) -> None:
    import_catalog(ingested, "bright-simcat", "table", [archive.catalog], columns)
    for catalog in ("simcat", "bright-simcat"):
        calibrate(ingested, Inline(), catalog)
    aggregate(ingested, ["lightcurves"], Inline())
    snapshot = ingested.snapshot()
    assert snapshot.n_rows("matches") == 2 * pc.sum(snapshot.read("lightcurves")["n_points"]).as_py()
    check = declarations("sql") / "checks" / "lightcurve_point_once.sql"
    with snapshot.duckdb() as connection:
        assert connection.execute(check.read_text()).fetchall() == []


def test_points_of_a_constant_star_scatter_as_their_errors(calibrated_once: Lake, archive: Any) -> None:
    truth = pd.read_parquet(archive.truth_stars)
    constant = set(truth.loc[truth["variable_class"].isna(), "star_id"])
    rows = calibrated_once.snapshot().merged("lightcurves").to_pylist()
    pulls = []
    for row in rows:
        if row["object_id"] in constant and row["n_points"] >= 8:
            mag = np.array(row["lightcurve"]["mag"], float)
            error = np.array(row["lightcurve"]["mag_err"], float)
            good = np.array(row["lightcurve"]["flags"]) == 0
            if good.sum() >= 8:
                pulls.append(np.std(mag[good], ddof=1) / np.median(error[good]))
    assert len(pulls) > 15
    assert 0.5 < np.median(pulls) < 1.5


# Refreshing.


def test_aggregating_twice_changes_no_byte(
    calibrated: Lake, digests: Callable[[Path], dict[str, str]]
) -> None:
    before = digests(calibrated.root)
    report = aggregate(calibrated, [], Inline())
    assert set(report.refreshed) == set(AGGREGATES)
    assert not any(report.refreshed.values())
    assert not any(report.removed.values())
    assert all(count for table, count in report.current.items() if table in FILLED)
    assert digests(calibrated.root) == before


def test_a_new_frame_renews_only_what_it_touches(
    lake: Lake,
    frames: list[Path],
    archive: Any,
    columns: Any,
    run: Callable[..., Any],
    checksums: Callable[..., Any],
    tmp_path: Path,
) -> None:
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    twin = Lake(shutil.copytree(lake.root, tmp_path / "twin", symlinks=True))
    for chosen in ([frames[0], frames[6], frames[7]], [frames[1]]):
        run(lake, chosen)
        calibrate(lake, Inline())
        report = aggregate(lake, [], Inline())
    assert (report.refreshed["nights"], report.current["nights"]) == (1, 1)
    assert (report.refreshed["maps"], report.current["maps"]) == (1, 1)
    assert report.refreshed["lightcurves"] > 0
    run(twin, [*frames[:2], *frames[6:8]])
    calibrate(twin, Inline())
    aggregate(twin, [], Inline())
    # Objects that are made anew keep the identifiers they had.
    others = [table for table in AGGREGATES if table != "objects"]
    assert checksums(lake, *others) == checksums(twin, *others)
    assert _without_identifiers(lake) == _without_identifiers(twin)


def _without_identifiers(lake: Lake) -> list[dict[str, Any]]:
    rows = lake.snapshot().read("objects").drop_columns(["object_id", "joined_to", "split_from"])
    return list(rows.sort_by([("ra_deg", "ascending"), ("dec_deg", "ascending")]).to_pylist())


def test_light_curves_follow_their_own_night_alone(calibrated: Lake) -> None:
    held = calibrated.snapshot().parts("lightcurves")
    assert held.keys() == calibrated.snapshot().parts("frames").keys()
    told = {"matches", "zeropoints", "configuration"}
    assert all(part.inputs.keys() == told for part in held.values())
    snapshot = calibrated.snapshot()
    assert not outdated(calibrated)["lightcurves"].why
    for table in ("zeropoints", "matches"):
        part = next(one for one in snapshot.parts(table).values() if one.night == 20241002)
        rows = snapshot.read_part(table, part.name)
        commit = Commit("test", "-")
        with calibrated.stage("test") as staging:
            kept = rows.slice(0, rows.num_rows - 1)
            tree = calibrated.tree_of(table) if table == "matches" else None
            commit.replace(
                stage_part(kept, table, part.name, staging, tree, part.camera, part.night, part.inputs),
                staging,
            )
            calibrated.commit(commit)
        assert outdated(calibrated)["lightcurves"].why == {f"{part.camera}-20241002": Why.INPUTS}
        report = aggregate(calibrated, ["lightcurves"], Inline())
        assert (report.refreshed["lightcurves"], report.current["lightcurves"]) == (1, 1)


@pytest.mark.slow
def test_nothing_remains_of_a_night_that_is_gone(
    lake: Lake, frames: list[Path], archive: Any, columns: Any, run: Callable[..., Any]
) -> None:
    """The only frame of the first night turns out to be one of the second."""
    import os

    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    run(lake, [frames[0], frames[6]])
    calibrate(lake, Inline())
    aggregate(lake, [], Inline())
    shutil.copyfile(frames[7], frames[0])
    os.utime(frames[0], ns=(1, 1))
    run(lake, frames[0])
    calibrate(lake, Inline())
    report = aggregate(lake, [], Inline())
    assert report.removed["nights"] == report.removed["maps"] == 1
    snapshot = lake.snapshot()
    for table in ("frames", "sources", "matches", "zeropoints", "nights", "maps"):
        assert {part.night for part in snapshot.parts(table).values()} == {20241002}, table
    points = snapshot.read("lightcurves")["n_points"]
    assert pc.sum(points).as_py() == snapshot.n_rows("matches")


@pytest.mark.parametrize("name", AGGREGATES)
def test_one_aggregate_can_be_had_alone(ingested: Lake, name: str) -> None:
    aggregate(ingested, [name], Inline())
    filled = {one for one in AGGREGATES if ingested.snapshot().parts(one)}
    needs_others = name.endswith("lightcurves") or name in ("repeatability", "star_statistics")
    assert filled == (set() if needs_others else {name}), "they need matches or targets"


def test_an_empty_lake_has_empty_aggregates(lake: Lake) -> None:
    number = lake.snapshot().number
    assert not any(aggregate(lake, [], Inline()).refreshed.values())
    assert lake.snapshot().number == number


def test_an_unknown_aggregate_is_wrong_use(lake: Lake) -> None:
    with pytest.raises(
        UsageError,
        match="the aggregates are nights, photometric_nights, lightcurves, forced_lightcurves, maps, clusters, ",
    ):
        aggregate(lake, ["colours"], Inline())


def test_a_failed_aggregate_is_reported_and_changes_nothing(calibrated: Lake) -> None:
    snapshot = calibrated.snapshot()
    for path in (one.path for one in snapshot.slices("matches", lambda part: part.night == 20241001)):
        path.unlink()
        path.write_bytes(b"PAR1 no more")
    calibrate_again_from = snapshot.number
    aggregate(calibrated, [], Inline())
    assert calibrated.snapshot().number == calibrate_again_from, "nothing is stale"
    calibrated.set("map_order", 6)
    with pytest.raises(LakeError, match=r"the file cannot be read .*skylake verify"):
        aggregate(calibrated, ["maps"], Inline())
    assert calibrated.snapshot().number == calibrate_again_from
    assert not any(calibrated.layout.staging.iterdir())


def test_the_residual_map_of_a_clear_night_has_honest_errors(calibrated_once: Lake, archive: Any) -> None:
    """Zeropoints are off by their own error, and the residuals of clear frames by nothing else."""
    maps = calibrated_once.snapshot().pandas("maps")
    truth = pd.read_parquet(archive.truth_frames)
    assert truth["clear"].all()
    for _, rows in maps.groupby("night"):
        mean = rows["residual_sum"].sum() / rows["weight_sum"].sum()
        error = 1.0 / np.sqrt(rows["weight_sum"].sum())
        assert rows["n_matches"].sum() > 50
        assert abs(mean) < 3.0 * error, f"{1000 * mean:.2f} +- {1000 * error:.2f} mmag"
