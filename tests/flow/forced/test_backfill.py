"""New objects become targets, and earlier frames are measured at them, a night at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.sphere import separation_deg
from skylake.errors import LakeError
from skylake.flow.aggregates import aggregate
from skylake.flow.aggregates.plan import PlanSources
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.forced.extend_targets import extend_targets
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.forced.target_list import bases
from skylake.flow.ingest.backfill import backfill, covered_by, lacking
from skylake.flow.zeropoints.calibration_in_force import calibration_in_force
from skylake.lake import Lake

NIGHTS = [20241001, 20241002]


@pytest.fixture
def listed(ingested: Lake) -> Lake:
    """A lake without calibration, whose list has the brightest stars of the catalog; no frame was measured at them."""
    make_targets(ingested, "small", TargetOptions("simcat", faint=10.5, seen=0), Inline())
    aggregate(ingested, ["clusters", "objects"], Inline())
    return ingested


def star_ids(lake: Lake, version: int) -> set[int]:
    rows = lake.snapshot().read("targets", ["star_id"], filter=pc.field("version") == version)
    return set(rows["star_id"].to_pylist())


def test_new_objects_make_the_next_list_the_most_often_seen_first(listed: Lake) -> None:
    first = star_ids(listed, 1)
    listed.set("objects.new_targets", 0)
    assert extend_targets(listed) == []
    listed.set("objects.new_targets", 4)
    (report,) = extend_targets(listed)
    assert (report.camera, report.version, report.n_new) == ("small", 2, 4)
    assert report.n_waiting > 10
    assert f"{report.n_waiting} more wait for the next list" in report.line
    added = star_ids(listed, 2) - first
    assert first < star_ids(listed, 2)
    objects = listed.snapshot().pandas("objects")
    own = objects[objects["object_id"].isin(added)]
    assert len(own) == 4
    assert own["n_frames"].min() == objects["n_frames"].max() == 12
    listed.set("objects.new_targets", 1000)
    assert extend_targets(listed)[0].n_waiting == 0
    assert extend_targets(listed) == []
    lists = listed.snapshot().parts("targets")
    grown = {name: base.name for name, base in bases(lists.values()).items()}
    assert grown == {"small-v2": "small-v1", "small-v3": "small-v2"}
    sources = PlanSources(listed, calibration_in_force(listed))
    checksums = [sources.catalog_checksums((one,)) for one in lists.values()]
    assert checksums == [{"simcat": sources.catalogs["simcat"].checksum}] * 3
    # A list that the user makes gives what is at the place of an object its identifier.
    make_targets(listed, "small", TargetOptions(None, seen=10), Inline())
    user = listed.snapshot().pandas("targets").query("version == 4")
    n_same = 0
    for row in objects.itertuples():
        away = separation_deg(row.ra_deg, row.dec_deg, user["ra_deg"], user["dec_deg"]) * 3600.0
        if away.min() < 2.0:
            n_same += 1
            assert user["star_id"].iloc[away.argmin()] == row.object_id
    assert n_same > 20


def test_a_backfill_measures_what_lacks_targets_night_by_night(listed: Lake) -> None:
    def measured() -> set[tuple[int, int]]:
        rows = listed.snapshot().read("frames", ["night", "targets_version"])
        return set(zip(rows["night"].to_pylist(), rows["targets_version"].to_pylist(), strict=True))

    before = listed.snapshot().number
    report = backfill(listed, "small", Inline(), Silent(), limit=1)
    assert (report.n_frames, report.n_nights, report.n_left) == (6, 1, 1)
    assert report.line == "backfill small: 6 frames of 1 night measured, 1 night left"
    assert listed.snapshot().number == before + 1
    assert measured() == {(NIGHTS[0], 1), (NIGHTS[1], None)}
    forced = listed.snapshot().read("forced_sources", ["star_id", "night"])
    assert set(forced["night"].to_pylist()) == {NIGHTS[0]}
    assert set(forced["star_id"].to_pylist()) == star_ids(listed, 1)
    # The night that was never measured comes first, and then the one with the older list.
    listed.set("objects.new_targets", 1)
    extend_targets(listed)
    assert [one.night for one in lacking(listed.snapshot(), "small")] == [NIGHTS[1], NIGHTS[0]]
    gone = [Path(file) for file in lacking_files(listed)]
    assert len(gone) == 12


def lacking_files(lake: Lake) -> list[str]:
    return [file for one in lacking(lake.snapshot(), "small") for file in one.files]


def test_frames_that_cover_no_new_target_are_left_alone_and_lost_files_are_named(
    listed: Lake, tmp_path: Path
) -> None:
    snapshot = listed.snapshot()
    rows = snapshot.read_part("frames", "small-20241001").to_pylist()
    assert len(lacking_files(listed)) == 12
    from skylake.lake import Commit, stage_part
    from skylake.table.frames import frames_table

    part = snapshot.parts("frames")["small-20241001"]
    rows[0] |= {"dec_deg": 40.0}
    rows[1] |= {"file": str(tmp_path / "gone.fits")}
    commit = Commit("test", "-")
    with listed.stage("test") as staging:
        made = stage_part(
            frames_table(rows), "frames", part.name, staging, None, part.camera, part.night, part.inputs
        )
        commit.replace(made, staging)
        listed.commit(commit)
    assert len(lacking_files(listed)) == 11
    assert rows[0]["file"] not in lacking_files(listed)
    report = backfill(listed, "small", Inline(), Silent(), limit=1)
    assert report.missing == [str(tmp_path / "gone.fits")]
    assert report.advice is not None
    assert "1 frame of small lack targets and cannot be read again" in report.advice


def test_a_bound_on_frames_ends_within_a_night_and_the_next_run_goes_on_there(listed: Lake) -> None:
    report = backfill(listed, "small", Inline(), Silent(), most_frames=4)
    assert report.line == "backfill small: 4 frames of 1 night measured, 2 nights left"
    assert [(one.night, len(one.files)) for one in lacking(listed.snapshot(), "small")] == [
        (NIGHTS[0], 2),
        (NIGHTS[1], 6),
    ]


def test_without_a_user_files_of_many_nights_are_left_as_they_are(listed: Lake) -> None:
    compact(listed, Inline(), everything=True)
    bundles = set(listed.snapshot().version("frames").bundles)
    assert bundles
    report = backfill(listed, "small", Inline(), Silent(), unattended=True, most_level=0)
    assert report.line == (
        "backfill small: 0 frames of 0 nights measured, 2 nights left, 2 of them for `skylake backfill`, which is "
        "faster with many nights at once"
    )
    assert set(listed.snapshot().version("frames").bundles) == bundles
    assert backfill(listed, "small", Inline(), Silent(), unattended=True).n_nights == 2
    assert lacking(listed.snapshot(), "small") == []


@given(seed=st.integers(0, 10_000), n_targets=st.integers(0, 30), near_pole=st.booleans())
def test_a_frame_covers_a_target_if_one_lies_within_its_circle(
    seed: int, n_targets: int, near_pole: bool
) -> None:
    random, n = np.random.default_rng(seed), 40
    dec = (
        (lambda size: random.uniform(80, 90, size))
        if near_pole
        else (lambda size: random.uniform(-5, 5, size))
    )
    rows = {
        "ra_deg": random.choice([0.0, 359.99, 120.0], n), "dec_deg": dec(n), "width_px": np.full(n, 300),
        "height_px": np.full(n, 400), "pixel_scale_arcsec": random.choice([3.0, 40.0, 6000.0], n),
    }  # fmt: skip
    lost = random.random(n) < 0.2
    frames = pa.table(rows).set_column(0, "ra_deg", pa.array(rows["ra_deg"], mask=lost))
    targets = pa.table({"ra_deg": random.uniform(0, 360, n_targets), "dec_deg": dec(n_targets)})
    radius = np.minimum(250.0 * rows["pixel_scale_arcsec"] / 3600.0, 90.0)
    away = separation_deg(
        rows["ra_deg"][:, None],
        rows["dec_deg"][:, None],
        *(targets[name].to_numpy() for name in targets.column_names),
    )
    expected = (away <= radius[:, None]).any(axis=1) & ~lost
    assert covered_by(frames, targets).tolist() == expected.tolist()


def test_a_camera_without_targets_has_nothing_to_fill(ingested: Lake) -> None:
    with pytest.raises(LakeError, match="small has no list of targets; `skylake targets` makes one"):
        lacking(ingested.snapshot(), "small")
