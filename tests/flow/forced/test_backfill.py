"""New objects become targets, and earlier frames are measured at them, a night at a time."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.sphere import separation_deg, unit_vectors
from skylake.errors import LakeError
from skylake.flow.aggregates import aggregate
from skylake.flow.aggregates.plan import PlanSources
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.forced.extend_targets import extend_targets
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.forced.target_list import TargetList
from skylake.flow.ingest import backfill as module
from skylake.flow.ingest.backfill import BackfillReport, backfill, backfill_nightly
from skylake.flow.ingest.lacking_targets import Pointings, lacking
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.flow.zeropoints.calibration_in_force import calibration_in_force
from skylake.lake import Commit, Lake, stage_part
from skylake.lake.storage import slices
from skylake.report.stars.stored_curves import rows_of_star
from skylake.settings import Settings

NIGHTS = [20241001, 20241002]


@pytest.fixture
def listed(ingested: Lake) -> Lake:
    """A lake without calibration, whose list has the brightest stars of the catalog; no frame was measured at them."""
    make_targets(ingested, "small", TargetOptions("simcat", faint=10.5, seen=0), Inline())
    aggregate(ingested, ["clusters", "objects"], Inline())
    return ingested


def star_ids(lake: Lake, version: int) -> set[int]:
    listed = TargetList.of(lake.snapshot(), "small", version)
    return set(listed.rows(["star_id"])["star_id"].to_pylist())


def nightly(lake: Lake, most_frames: int = 200) -> BackfillReport:
    return backfill_nightly(lake, "small", Inline(), Silent(), most_frames)


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
    assert lists["small-v2"].n_rows == 4, "a list has what it adds, and no copy of the one before"
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


@pytest.mark.slow
def test_a_bound_on_frames_ends_within_a_night_and_the_next_run_goes_on_there(listed: Lake) -> None:
    assert nightly(listed, 4).line == "backfill small: 4 frames of 1 night measured, 2 nights left"
    assert [(one.night, len(one.files)) for one in lacking(listed.snapshot(), "small")] == [
        (NIGHTS[0], 2),
        (NIGHTS[1], 6),
    ]
    # New targets in between: those that have had their turn wait until all others have had theirs.
    listed.set("objects.new_targets", 1)
    extend_targets(listed)
    done = [nightly(listed, 4).n_frames for _ in range(4)]
    assert done == [4, 4, 4, 0]
    assert lacking(listed.snapshot(), "small") == []


def test_the_frames_that_wait_longest_come_first(listed: Lake) -> None:
    nightly(listed, 4)
    listed.set("objects.new_targets", 1)
    extend_targets(listed)
    rows = listed.snapshot().read_part("frames", "small-20241001", ["file", "targets_version"])
    never = {file for file, version in zip(*rows.to_pydict().values(), strict=True) if version is None}
    (first,) = (one for one in lacking(listed.snapshot(), "small") if one.night == NIGHTS[0])
    assert len(first.files) == 6
    assert set(first.files[:2]) == never


def test_nights_in_large_files_are_left_to_the_command_and_said_to_be(
    listed: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    compact(listed, Inline(), everything=True)
    bundles = set(listed.snapshot().version("frames").bundles)
    assert bundles
    with monkeypatch.context() as patch:
        patch.setattr(module, "_MOST_WRITTEN", 1)
        expected = (
            "backfill small: 0 frames of 0 nights measured, 2 nights left; `skylake backfill` measures 2 nights of "
            "these: 2 in files of many nights"
        )
        assert nightly(listed).line == expected
        assert nightly(listed).line == expected, "they are remembered"
        assert set(listed.snapshot().version("frames").bundles) == bundles
    assert nightly(listed).line == "backfill small: 12 frames of 2 nights measured"
    assert lacking(listed.snapshot(), "small") == []


@pytest.mark.slow
def test_the_files_of_few_nights_are_written_anew_in_a_nightly_run(
    tmp_path: Path, put: Any, frame_rows: Any, profile: Profile
) -> None:
    """Nights of a bundle of the second level may be measured; those of a lake that is one bundle may not."""
    lake = many_nights(tmp_path, put, frame_rows, profile, 130)
    compact(lake, Inline(), ["frames"])
    sizes = sorted(len(one.names) for one in lake.snapshot().version("frames").bundles.values())
    assert sizes == [64, 64]
    assert nightly(lake).n_merged == 0
    compact(lake, Inline(), ["frames"], everything=True)
    lake.layout.backfill_memory("small").unlink()
    report = nightly(lake)
    assert (report.n_merged, report.n_unseen) == (32, 130 - 32)


def test_nights_of_another_profile_are_left_to_the_command_and_said_to_be(
    listed: Lake, profile: Profile, tmp_path: Path
) -> None:
    path = tmp_path / "small.toml"
    path.write_text(Path(profile.source).read_text() + "extraction.threshold_sigma = 6.0\n")
    listed.keep_profile(cameras.load(path))
    report = nightly(listed)
    assert report.line == (
        "backfill small: 0 frames of 0 nights measured, 2 nights left; `skylake backfill` measures 2 nights of these: "
        "2 made with another profile"
    )
    assert backfill(listed, "small", Inline(), Silent()).n_nights == 2
    assert nightly(listed).line == "backfill small: 0 frames of 0 nights measured"


def many_nights(tmp_path: Path, put: Any, frame_rows: Any, profile: Profile, n_nights: int) -> Lake:
    """A lake of nights of a frame each, whose files are gone, and a target that they all lack."""
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    lake.keep_profile(profile)
    place = {"ra_deg": 100.0, "dec_deg": -25.0}
    frame = {"camera": "small", "width_px": 256, "height_px": 256, "pixel_scale_arcsec": 5.0} | place
    target = {
        "_healpix_29": 1, "camera": "small", "version": 1, "star_id": 1, "epoch": 2024.0, "origin": "detections",
        "n_seen": 3, "n_frames": 3,
    }  # fmt: skip
    put(lake, ("targets", "small-v1", pa.Table.from_pylist([target | place])), camera="small")
    commit = Commit("test", "-")
    with lake.stage("test") as staging:
        for number in range(n_nights):
            night = int(f"{date(2024, 1, 1) + timedelta(days=number):%Y%m%d}")
            rows = frame_rows(1, frame_id=[number], night=night, **frame)
            inputs = {"configuration": profile.sha256}
            name = f"small-{night}"
            commit.replace(stage_part(rows, "frames", name, staging, None, "small", night, inputs), staging)
        lake.commit(commit)
    return lake


@pytest.mark.slow
def test_a_nightly_run_reads_frames_of_some_nights_and_none_when_all_were_looked_at(
    tmp_path: Path, put: Any, frame_rows: Any, profile: Profile, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = many_nights(tmp_path, put, frame_rows, profile, 80)
    read: list[Path] = []
    real = slices.arrow_dataset

    def counted(paths: list[Path], schema: Any) -> Any:
        read.extend(path for path in paths if "frames" in path.parts)
        return real(paths, schema)

    monkeypatch.setattr(slices, "arrow_dataset", counted)
    runs = []
    for _ in range(4):
        read.clear()
        report = nightly(lake)
        runs.append((len(set(read)), report.n_unseen))
    assert runs == [(32, 48), (32, 16), (16, 0), (0, 0)]
    # A new target, and all nights have their turn once more; another in between changes nothing in this.
    for version in (2, 3, 4):
        held = TargetList.in_force(lake.snapshot(), "small")
        assert held is not None
        row = held.rows().to_pylist()[0] | {"star_id": version, "version": version, "base_version": 1}
        added = ("targets", f"small-v{version}", pa.Table.from_pylist([row]))
        put(lake, added, camera="small", inputs={"extends": held.name})
        read.clear()
        nightly(lake)
        assert len(set(read)) == {2: 32, 3: 32, 4: 16}[version]
    read.clear()
    assert nightly(lake).n_unseen == 48
    assert len(set(read)) == 32, "the round that began with the second list is over"


def test_a_lost_memory_costs_one_more_look(listed: Lake) -> None:
    assert nightly(listed).n_frames == 12
    path = listed.layout.backfill_memory("small")
    for content in ("", "[]", '{"/gone.fits": 1}'):
        path.write_text(content)
        assert nightly(listed).line == "backfill small: 0 frames of 0 nights measured"
        assert '"night": 20241002' in path.read_text()


@pytest.mark.slow
def test_light_curves_and_checks_take_a_list_with_all_that_it_extends(listed: Lake) -> None:
    listed.set("objects.new_targets", 3)
    extend_targets(listed)
    extend_targets(listed)
    assert nightly(listed).n_frames == 12
    calibrate(listed, Inline())
    aggregate(listed, ["forced_lightcurves"], Inline())
    curves = listed.snapshot().pandas("forced_lightcurves", ["star_id", "origin", "n_points"])
    assert set(curves["star_id"]) == star_ids(listed, 3)
    assert curves["origin"].value_counts()["detections"] == 6
    assert set(curves["origin"]) == {"simcat", "detections"}
    options = VerifyOptions(only=("forced_of_target", "target_once", "target_in_range", "part_content"))
    assert verify(open_facts(listed.root, options), Inline(), options).all_well
    added = sorted(star_ids(listed, 3) - star_ids(listed, 2))
    found = rows_of_star(listed.snapshot(), added[0], None, "forced")
    assert found is not None and found[1].num_rows > 0


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
    places = unit_vectors(targets["ra_deg"].to_numpy(), targets["dec_deg"].to_numpy())
    pointings, chosen = Pointings.of(frames), np.flatnonzero(random.random(n) < 0.7)
    assert pointings.cover(chosen, places).tolist() == expected[chosen].tolist()


def test_a_camera_without_targets_has_nothing_to_fill(ingested: Lake) -> None:
    with pytest.raises(LakeError, match="small has no list of targets; `skylake targets` makes one"):
        lacking(ingested.snapshot(), "small")
