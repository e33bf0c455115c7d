from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.core.flags import SPOILED, SourceFlag
from skylake.lake import Commit, Lake, stage_part
from skylake.report import collect
from skylake.schema import arrow_schema, load

pytestmark = pytest.mark.xdist_group("lsdb")


def test_statuses_add_up_to_all_frames(lake: Lake, bare: Lake) -> None:
    rows = collect.counts_of_status(lake.snapshot())
    assert [(row["status"], row["reason"], row["count_all"]) for row in rows] == [
        ("failed", "empty_file", 1), ("failed", "not_fits", 1), ("failed", "truncated", 1), ("ok", None, 10),
    ]  # fmt: skip
    assert collect.counts_of_status(bare.snapshot()) == []


def test_every_frame_that_was_not_used_is_named_with_its_reason(lake: Lake, bare: Lake) -> None:
    catalogs = dict.fromkeys(collect.cameras(lake.snapshot()), "simcat")
    rows = collect.frames_of_concern(lake.snapshot(), catalogs, 50)
    assert sorted(row["reason"] for row in rows) == ["empty_file", "not_fits", "truncated"]
    assert all(row["status"] == "failed" and row["message"] and row["file"] for row in rows)
    assert len(collect.frames_of_concern(lake.snapshot(), catalogs, 2)) == 2
    assert collect.frames_of_concern(bare.snapshot(), {}, 50) == []


def test_cameras_are_those_with_frames(lake: Lake, bare: Lake) -> None:
    assert collect.cameras(lake.snapshot()) == ["small"]
    assert collect.cameras(bare.snapshot()) == []
    assert collect.frames_of(lake.snapshot(), "small", ["status"]).num_rows == 13
    assert collect.frames_of(lake.snapshot(), "other", ["status"]).num_rows == 0


def test_columns_as_floats_have_nan_for_null() -> None:
    table = pa.table({"a": pa.array([1, None, 3], pa.int32()), "b": pa.array([None, 1.5, 2.0], pa.float32())})
    assert np.array_equal(collect.floats(table, "a"), [1.0, np.nan, 3.0], equal_nan=True)
    assert np.array_equal(collect.floats(table, "b"), [np.nan, 1.5, 2.0], equal_nan=True)
    assert collect.floats(table, "a").dtype == float


def test_calibrated_matches_reproduce_the_catalog(lake: Lake) -> None:
    found = collect.calibrated_matches(lake.snapshot(), "simcat", "small")
    assert found.matches.num_rows == lake.snapshot().n_rows("matches")
    good = found.clean & (found.photometry.mag_err < 0.03)
    assert good.sum() > 50
    assert abs(np.median(found.photometry.residual[good])) < 0.05
    flags = found.matches["flags"].to_numpy()
    assert not (flags[found.clean] & int(SPOILED)).any()
    assert (flags[~found.clean] & int(SPOILED)).all()


def test_there_are_no_matches_with_another_catalog_or_camera(lake: Lake) -> None:
    for catalog, camera in (("other", "small"), ("simcat", "other"), ("", "small")):
        found = collect.calibrated_matches(lake.snapshot(), catalog, camera)
        assert found.matches.num_rows == len(found.photometry.mag) == len(found.clean) == 0


def test_flags_that_leave_photometry_good_are_clean() -> None:
    flags = [0, int(SourceFlag.BLENDED), int(SourceFlag.SATURATED), int(SourceFlag.BLENDED | SourceFlag.EDGE)]
    matches = pa.table({"flags": pa.array(flags, pa.int32())})
    assert collect.Calibrated(matches, None).clean.tolist() == [True, True, False, False]  # type: ignore[arg-type]


def test_the_largest_version_of_each_frame_is_in_force(bare: Lake, commit_rows: Any) -> None:
    rows = [
        {"frame_id": frame, "catalog": catalog, "version": version, "zp": 10.0 * frame + version}
        for frame, catalog, versions in ((1, "a", (1, 3, 2)), (2, "a", (1,)), (1, "b", (9,)), (3, "b", (1,)))
        for version in versions
    ]
    commit_rows(bare, "zeropoints", "one", rows)
    found = collect.zeropoints_in_force(bare.snapshot(), "a").to_pylist()
    assert {row["frame_id"]: (row["version"], row["zp"]) for row in found} == {1: (3, 13.0), 2: (1, 21.0)}
    columns = ["frame_id", "version", "zp"]
    assert collect.zeropoints_in_force(bare.snapshot(), "a", columns).column_names == columns
    assert collect.zeropoints_in_force(bare.snapshot(), "c").num_rows == 0
    with bare.snapshot().duckdb() as connection:
        shipped = connection.execute(
            "SELECT frame_id, version FROM zeropoints_in_force WHERE catalog = 'a' ORDER BY ALL"
        ).fetchall()
    assert shipped == [(1, 3), (2, 1)], "the same as the view of that name"


def test_the_most_variable_are_those_that_scatter_most_for_their_brightness(
    bare: Lake, commit_rows: Any
) -> None:
    """Faint stars scatter more than the variable bright one, but no more than other faint stars."""
    random = np.random.default_rng(1)
    mag = np.linspace(8.0, 14.0, 200)
    scatter = 0.01 * 10 ** (0.3 * (mag - 8.0)) * random.uniform(0.9, 1.1, 200)
    scatter[20] = 0.2
    scatter[120] *= 5.0
    points = np.full(200, 8)
    scatter[60], points[60] = 9.0, 7
    curve = {name.name: [] for name in arrow_schema(load("lightcurves")).field("lightcurve").type}
    rows = [
        {
            "_healpix_29": number << 50, "object_id": 1000 + number, "catalog": "c", "version": 1, "n_points": int(n),
            "mag_median": float(m), "mag_scatter": None if number == 150 else float(s), "lightcurve": curve,
        }
        for number, (m, s, n) in enumerate(zip(mag, scatter, points, strict=True))
    ]  # fmt: skip
    commit_rows(bare, "lightcurves", "one", rows)
    found = collect.most_variable(bare, bare.snapshot(), 2)
    assert [row["object_id"] for row in found] == [1020, 1120]
    assert found[0]["mag_scatter"] == 0.2
    assert len(collect.most_variable(bare, bare.snapshot(), 1000)) == 198


@pytest.mark.parametrize("n_stars", [0, 1, 5])
def test_few_stars_are_no_trouble(bare: Lake, commit_rows: Any, n_stars: int) -> None:
    curve = {name.name: [] for name in arrow_schema(load("lightcurves")).field("lightcurve").type}
    rows = [
        {
            "_healpix_29": number, "object_id": number, "catalog": "c", "version": 1, "n_points": 9,
            "mag_median": 9.0 + number, "mag_scatter": 0.1, "lightcurve": curve,
        }
        for number in range(n_stars)
    ]  # fmt: skip
    if rows:
        commit_rows(bare, "lightcurves", "one", rows)
    assert len(collect.most_variable(bare, bare.snapshot(), 3)) == min(n_stars, 3)


def test_simulated_variables_are_among_the_most_variable(lake: Lake, archive: Any) -> None:
    truth = pq.read_table(archive.truth_stars, columns=["star_id", "variable_class"]).to_pylist()
    variables = {row["star_id"] for row in truth if row["variable_class"] in ("eclipsing", "rr_lyrae_ab")}
    found = {row["object_id"] for row in collect.most_variable(lake, lake.snapshot(), 3)}
    assert found & variables


def test_the_usual_scatter_is_that_of_the_band_and_a_star_is_named_once(bare: Lake, commit_rows: Any) -> None:
    """The camera in R is noisier; no star varies for that, and the one that does varies in both."""
    curve = {name.name: [] for name in arrow_schema(load("lightcurves")).field("lightcurve").type}
    rows = [
        {
            "_healpix_29": number << 50, "object_id": number, "catalog": "c", "band": band, "n_points": 9,
            "mag_median": 9.0 + 0.01 * number, "mag_scatter": usual * (4.0 if number == 7 else 1.0 + 0.001 * number),
            "lightcurve": curve,
        }
        for number in range(40) for band, usual in (("V", 0.01), ("R", 0.05))
    ]  # fmt: skip
    commit_rows(bare, "lightcurves", "one", rows)
    found = collect.most_variable(bare, bare.snapshot(), 30)
    assert found[0]["object_id"] == 7
    assert [row["object_id"] for row in found].count(7) == 1
    assert len(found) == 30


def test_a_catalog_whose_name_ends_as_that_of_another_is_another(lake: Lake, tmp_path: Path) -> None:
    """The parts of `bright-simcat` are none of `simcat`."""
    copy = Lake(shutil.copytree(lake.root, tmp_path / "lake", symlinks=True))
    snapshot = copy.snapshot()
    commit = Commit("test", "-")
    with copy.stage("test") as staging:
        for name, part in snapshot.parts("matches").items():
            rows = snapshot.read_part("matches", name)
            rows = rows.set_column(
                rows.schema.get_field_index("catalog"), "catalog", pa.repeat("bright-simcat", rows.num_rows)
            )
            other = name.replace("-simcat", "-bright-simcat")
            made = stage_part(
                rows, "matches", other, staging, copy.tree, part.camera, part.night, part.inputs
            )
            commit.replace(made, staging)
        copy.commit(commit)
    found = collect.calibrated_matches(copy.snapshot(), "simcat", "small")
    assert found.matches.num_rows == lake.snapshot().n_rows("matches")
    assert set(found.matches["catalog"].to_pylist()) == {"simcat"}
