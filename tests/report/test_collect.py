from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.robust import sigma_mad
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


def test_frames_without_a_time_stand_under_the_day_they_came(lake: Lake, bare: Lake) -> None:
    days = collect.undated_frames(lake.snapshot())
    assert sum(row["n_frames"] for row in days) == 3 and {row["camera"] for row in days} == {"small"}
    assert [row["came"] for row in days] == sorted({row["came"] for row in days}, reverse=True)
    assert all(row["night"] for row in collect.nights(lake.snapshot()))
    concerns = collect.frames_of_concern(lake.snapshot(), {"small": "simcat"}, 50)
    assert {row["came"] for row in concerns if row["night"] == 0} == {row["came"] for row in days}
    assert collect.undated_frames(bare.snapshot()) == []


def test_what_came_last_without_a_time_stands_before_nights_of_long_ago(
    tmp_path: Path, put: Callable[..., Any], make_rows: Callable[..., pa.Table]
) -> None:
    lake, day_ns = Lake.create(tmp_path / "lake"), 86400 * 10**9
    # Days since 1970-01-01: 2022-01-08 and 2022-03-12.
    came = [19000, 19063, None]
    common = {"camera": ["x"] * 3, "status": ["failed"] * 3, "reason": ["error"] * 3, "flags": [0] * 3}
    modified = pa.array([None if day is None else day * day_ns + 7 for day in came], pa.int64())
    undated = make_rows("frames", 3, 1, night=[0] * 3, file_modified_ns=modified, **common)
    dated = make_rows("frames", 3, 2, night=[20200101, 20220312, 20220115], **common)
    put(lake, ("frames", "x-all", pa.concat_tables([undated, dated])), camera="x", night=20220312)
    days = [row["came"] for row in collect.undated_frames(lake.snapshot())]
    assert days == [None, "2022-03-12", "2022-01-08"]
    shown = [row["night"] or row["came"] for row in collect.frames_of_concern(lake.snapshot(), {}, 9)]
    assert shown == [None, "2022-03-12", 20220312, 20220115, "2022-01-08", 20200101]


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


def test_a_shared_error_leaves_matches_as_good_as_they_are(lake: Lake, tmp_path: Path) -> None:
    """Of 1,827 matches a picture once said that there were none: the zeropoint was uncertain by 0.12 mag."""
    copy = Lake(shutil.copytree(lake.root, tmp_path / "lake", symlinks=True))
    snapshot = copy.snapshot()
    commit = Commit("test", "-")
    with copy.stage("test") as staging:
        for name, part in snapshot.parts("zeropoints").items():
            rows = snapshot.read_part("zeropoints", name)
            for column in ("zp_fit_err", "zp_err"):
                place = rows.schema.get_field_index(column)
                rows = rows.set_column(place, rows.schema.field(place), pa.repeat(0.12, rows.num_rows))
            made = stage_part(rows, "zeropoints", name, staging, None, part.camera, part.night, part.inputs)
            commit.replace(made, staging)
        copy.commit(commit)
    before, after = (collect.calibrated_matches(one.snapshot(), "simcat", "small") for one in (lake, copy))
    assert np.nanmin(after.photometry.mag_err) > 0.1
    good = [np.count_nonzero(one.clean & (one.random_err <= 0.03)) for one in (before, after)]
    assert good[0] == good[1] > 50


def test_there_are_no_matches_with_another_catalog_or_camera(lake: Lake) -> None:
    for catalog, camera in (("other", "small"), ("simcat", "other"), ("", "small")):
        found = collect.calibrated_matches(lake.snapshot(), catalog, camera)
        assert found.matches.num_rows == len(found.photometry.mag) == len(found.clean) == 0


def test_flags_that_leave_photometry_good_are_clean() -> None:
    flags = [0, int(SourceFlag.BLENDED), int(SourceFlag.SATURATED), int(SourceFlag.BLENDED | SourceFlag.EDGE)]
    matches = pa.table({"flags": pa.array(flags, pa.int32())})
    assert collect.CalibratedMatches(matches, None).clean.tolist() == [True, True, False, False]  # type: ignore[arg-type]


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


def curve_row(number: int, mag: Any, random_err: float, band: str = "V", flags: Any = 0) -> dict[str, Any]:
    """A row of ``lightcurves`` with these magnitudes."""
    mag, flags = np.asarray(mag, float), np.broadcast_to(flags, len(mag))
    curve = {
        field.name: [0] * len(mag) for field in arrow_schema(load("lightcurves")).field("lightcurve").type
    }
    curve |= {"mag": mag.tolist(), "flags": flags.tolist(), "camera": ["lab"] * len(mag)}
    errors = {"mag_random_err": [random_err] * len(mag), "mag_systematic_err": [0.12] * len(mag)}
    good = mag[(flags & int(SPOILED)) == 0]
    return {
        "_healpix_29": number << 50, "object_id": number, "catalog": "c", "band": band, "version": 1,
        "n_points": len(mag), "mag_median": float(np.median(good)), "mag_scatter": float(sigma_mad(good)),
        "lightcurve": curve, "lightcurve_errors": errors | {"zp_random_err": [0.001] * len(mag)},
    }  # fmt: skip


def test_the_most_variable_scatter_beyond_their_errors(bare: Lake, commit_rows: Any) -> None:
    """Noise, few points, flags and blends make no variable, however large the scatter that they bring."""
    random = np.random.default_rng(1)
    magnitudes = np.linspace(8.0, 14.0, 200)
    errors = 0.01 * 10 ** (0.3 * (magnitudes - 8.0))
    # Errors of some are larger, as under the Moon, and of some there are but eight points.
    errors[180:190] *= 8.0
    sizes = np.where(np.arange(200) % 4 == 0, 8, 40)
    rows = []
    for number, (mag, error, size) in enumerate(zip(magnitudes, errors, sizes, strict=True)):
        drawn, flags = random.normal(mag, error, size), np.zeros(size, int)
        if number in (21, 121):
            drawn = mag + 6.0 * error * np.sin(np.arange(size))
        if number == 41:
            drawn, flags[::2] = mag + 20.0 * error * np.sin(np.arange(size)), int(SourceFlag.BLENDED)
            flags[1] = int(SourceFlag.BLENDED)
        if number == 61:
            flags[20:] = int(SourceFlag.SATURATED)
            drawn[20:] += 1.0
        if number == 81:
            drawn, flags = (
                np.append(drawn[:7], mag + np.arange(9.0)),
                np.repeat([0, int(SourceFlag.BLENDED)], [7, 9]),
            )
        rows.append(curve_row(number, drawn, error, flags=flags))
    commit_rows(bare, "lightcurves", "one", rows)
    found = collect.most_variable(bare, bare.snapshot(), 50)
    assert {row["object_id"] for row in found} == {21, 121}
    assert all(3.0 < row["excess"] < 8.0 for row in found)
    assert len(collect.most_variable(bare, bare.snapshot(), 1)) == 1


@pytest.mark.parametrize("n_stars", [0, 1, 5])
def test_few_stars_are_no_trouble(bare: Lake, commit_rows: Any, n_stars: int) -> None:
    random = np.random.default_rng(2)
    rows = [curve_row(number, random.normal(9.0 + number, 0.1, 9), 0.1) for number in range(n_stars)]
    if rows:
        commit_rows(bare, "lightcurves", "one", rows)
    assert collect.most_variable(bare, bare.snapshot(), 3) == []


def test_simulated_variables_are_among_the_most_variable(lake: Lake, archive: Any) -> None:
    truth = pq.read_table(archive.truth_stars, columns=["star_id", "variable_class"]).to_pylist()
    variables = {row["star_id"] for row in truth if row["variable_class"] in ("eclipsing", "rr_lyrae_ab")}
    found = {row["object_id"] for row in collect.most_variable(lake, lake.snapshot(), 3)}
    assert found & variables


def test_the_usual_scatter_is_that_of_the_band(bare: Lake, commit_rows: Any) -> None:
    """The camera in R is noisier than it says; no star varies for that, and the one that does varies in both."""
    random = np.random.default_rng(3)
    rows = [
        curve_row(
            number,
            random.normal(9.0 + 0.01 * number, usual * (20.0 if number == 7 else 1.0), 16),
            0.01,
            band,
        )
        for number in range(40)
        for band, usual in (("V", 0.01), ("R", 0.05))
    ]
    commit_rows(bare, "lightcurves", "one", rows)
    found = collect.most_variable(bare, bare.snapshot(), 30)
    assert [row["object_id"] for row in found] == [7]


def test_a_catalog_name_that_ends_like_another_is_another(lake: Lake, tmp_path: Path) -> None:
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
