"""A night that is done again replaces itself and nothing else, wherever its rows lie; what follows is known."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.ids import config_sha256
from skylake.flow.aggregates import Outdated, aggregate, outdated
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake, Snapshot
from skylake.lake.commits.internal_links import mark_current
from skylake.lake.commits.ledger import read_configuration
from skylake.schema import table_names
from skylake.schema.digest import rows_digest
from skylake.schema.parquet import write_parquet

pytestmark = pytest.mark.xdist_group("lsdb")

Run = Callable[..., Any]
Digests = Callable[[Path], dict[str, str]]
FIRST, SECOND = "small-20241001", "small-20241002"
BATCHES = ("frames", "sources", "matches", "zeropoints", "nights", "maps")


@pytest.fixture
def other(profile: Profile, tmp_path: Path) -> Profile:
    """The same camera with other apertures, which changes every flux."""
    path = tmp_path / "small.toml"
    path.write_text(Path(profile.source).read_text() + "apertures.radii_px = [2.0, 4.0, 6.0]\n")
    return cameras.load(path)


@pytest.fixture(params=["own files", "one bundle"])
def whole(request: pytest.FixtureRequest, calibrated: Lake, bundled_once: Lake, tmp_path: Path) -> Lake:
    """A calibrated and aggregated lake of two nights, with files of their own or in bundles."""
    if request.param == "own files":
        return calibrated
    return Lake(shutil.copytree(bundled_once.root, tmp_path / "bundled", symlinks=True))


@pytest.fixture(scope="module")
def bundled_once(calibrated_once: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    root = tmp_path_factory.mktemp("bundled") / "lake"
    lake = Lake(shutil.copytree(calibrated_once.root, root, symlinks=True))
    compact(lake, Inline(), everything=True)
    assert set(lake.snapshot().version("sources").bundle_of) == {FIRST, SECOND}
    return lake


def described(snapshot: Snapshot, batch: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    """What is known of the parts of a night."""
    return {
        (table, name): (part.checksum, part.inputs, part.software_version)
        for table in BATCHES
        for name, part in snapshot.parts(table).items()
        if name.startswith(batch)
    }


def stale(lake: Lake) -> dict[str, dict[str, Why]]:
    return {table: state.why for table, state in outdated(lake).items() if state.why}


def test_the_same_again_changes_no_byte(whole: Lake, archive: Any, run: Run, digests: Digests) -> None:
    before = digests(whole.root)
    assert run(whole, archive.out / "frames", redo=True).counts == {"ok": 12}
    assert calibrate(whole, Inline()).n_current == 2
    aggregate(whole, [], Inline())
    assert digests(whole.root) == before


def test_another_configuration_replaces_just_the_nights_named(
    whole: Lake, archive: Any, run: Run, other: Profile, digests: Digests
) -> None:
    before = whole.snapshot()
    kept = {table: digests(before.folder(table)) for table in table_names()}
    first, second = described(before, FIRST), described(before, SECOND)
    assert run(whole, archive.out / "frames").n_otherwise == 0
    assert run(whole, archive.out / "frames", profile=other).n_otherwise == 2, (
        "they are known, and left alone"
    )
    again = run(
        whole, archive.out / "frames", redo=True, profile=other, first_night=20241002, last_night=20241002
    )
    assert again.n_otherwise == 1
    after = whole.snapshot()
    assert after.number == before.number + 1
    assert described(after, FIRST) == first
    changed = {key for key, value in described(after, SECOND).items() if value != second[key]}
    assert changed == {("frames", SECOND), ("sources", SECOND)}
    part = after.parts("sources")[SECOND]
    assert part.inputs["configuration"] == other.sha256
    assert part.inputs["files"] == before.parts("sources")[SECOND].inputs["files"], "the same pixels"
    assert {table: digests(before.folder(table)) for table in table_names()} == kept
    assert after.folder("matches") == before.folder("matches")
    own = {path for path in kept["sources"] if path.endswith(f"/{FIRST}.parquet")}
    assert {path: digests(after.folder("sources"))[path] for path in own} == {
        path: kept["sources"][path] for path in own
    }


@pytest.mark.slow
def test_a_redone_night_makes_exactly_its_products_stale(
    whole: Lake, archive: Any, run: Run, other: Profile
) -> None:
    assert stale(whole) == {}
    run(whole, archive.out / "frames", redo=True, profile=other, first_night=20241002)
    expected = {
        "matches": {f"{SECOND}-simcat": Why.INPUTS},
        "zeropoints": {f"{SECOND}-simcat-v1": Why.INPUTS},
        "nights": {SECOND: Why.INPUTS},
        # Each night is compared with those around it.
        "photometric_nights": dict.fromkeys([FIRST, SECOND], Why.UPSTREAM),
        "lightcurves": {SECOND: Why.UPSTREAM},
        "maps": {SECOND: Why.INPUTS},
        "clusters": {SECOND: Why.INPUTS},
        "repeatability": {SECOND: Why.UPSTREAM},
        "objects": {"small": Why.UPSTREAM},
        "seeing": {SECOND: Why.INPUTS},
        "star_statistics": {SECOND: Why.UPSTREAM},
    }
    # The apertures are no parameters of the calibration, so the other night stays calibrated.
    assert stale(whole) == expected
    first = described(whole.snapshot(), FIRST)
    assert calibrate(whole, Inline()).n_current == 1
    calibrated = {
        "nights",
        "photometric_nights",
        "lightcurves",
        "maps",
        "clusters",
        "repeatability",
        "star_statistics",
        "objects",
    }
    assert set(stale(whole)) == calibrated | {"seeing"}
    counts = {table: len(state.why) for table, state in outdated(whole).items()}
    report = aggregate(whole, [], Inline())
    assert report.refreshed == {table: counts[table] for table in report.refreshed}
    assert stale(whole) == {}
    assert described(whole.snapshot(), FIRST) == first


def test_why_is_reported_by_what_has_changed(calibrated: Lake, profile: Profile, tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(Path(profile.source).read_text() + "calibration.colour_range = [0.0, 1.0]\n")
    calibrated.keep_profile(cameras.load(path))
    found = stale(calibrated)
    assert found["matches"] == dict.fromkeys([f"{FIRST}-simcat", f"{SECOND}-simcat"], Why.PARAMETERS)
    assert set(found["zeropoints"].values()) == set(found["maps"].values()) == {Why.PARAMETERS}
    assert set(found["nights"].values()) == set(found["lightcurves"].values()) == {Why.UPSTREAM}


def test_a_lake_that_was_only_ingested_lacks_everything_else(ingested: Lake) -> None:
    found = outdated(ingested)
    for table in ("matches", "zeropoints", "nights", "maps"):
        assert found[table].counts == {"new": 2}, table
    assert found["lightcurves"] == Outdated(), "which there will be is not known before matches are"
    commit_without(ingested, FIRST)
    assert outdated(ingested)["matches"].counts == {"new": 1}


def commit_without(lake: Lake, batch: str) -> None:
    from skylake.lake import Commit

    commit = Commit("test", batch)
    commit.remove("frames", batch)
    commit.remove("sources", batch)
    lake.commit(commit)


def test_what_a_vanished_night_leaves_is_orphaned(calibrated: Lake) -> None:
    commit_without(calibrated, FIRST)
    found = stale(calibrated)
    assert found["matches"] == {f"{FIRST}-simcat": Why.ORPHANED}
    assert found["zeropoints"] == {f"{FIRST}-simcat-v1": Why.ORPHANED}
    assert found["nights"] == found["maps"] == {FIRST: Why.ORPHANED}
    calibrate(calibrated, Inline())
    aggregate(calibrated, [], Inline())
    assert stale(calibrated) == {}


def test_every_part_names_a_configuration_that_the_ledger_keeps(whole: Lake) -> None:
    snapshot = whole.snapshot()
    for table in table_names():
        for part in snapshot.parts(table).values():
            sha256 = part.inputs["configuration"]
            assert config_sha256(read_configuration(whole.layout, sha256)) == sha256, (table, part.name)
    for sha256 in set(snapshot.read("frames", ["config_sha256"])["config_sha256"].to_pylist()):
        camera = read_configuration(whole.layout, sha256)
        assert config_sha256(camera) == sha256
        assert camera["detector"]["width_px"] == 256


def test_nights_reduced_with_two_profiles_name_both(
    lake: Lake, frames: list[Path], run: Run, profile: Profile, other: Profile
) -> None:
    run(lake, frames[:2])
    run(lake, frames[:3], profile=other)
    inputs = lake.snapshot().parts("frames")[FIRST].inputs
    assert (inputs["configuration"], inputs["earlier_configurations"]) == (other.sha256, profile.sha256)
    run(lake, frames[:3], profile=other, redo=True)
    assert "earlier_configurations" not in lake.snapshot().parts("frames")[FIRST].inputs


def test_the_ledger_holds_code_and_configuration_of_nights(
    whole: Lake, archive: Any, run: Run, profile: Profile, other: Profile
) -> None:
    from skylake.revision import code_version

    run(whole, archive.out / "frames", redo=True, profile=other, first_night=20241002)
    with whole.snapshot().duckdb() as connection:
        parts = connection.execute(
            "SELECT part, configuration_sha256, software_version FROM parts WHERE table_name = 'sources' ORDER BY part"
        ).fetchall()
        written = connection.execute(
            "SELECT DISTINCT configuration_sha256 FROM ledger WHERE part = $1 AND table_name = 'sources' AND "
            "action = 'replaced' ORDER BY ALL", [SECOND]
        ).fetchall()  # fmt: skip
        kept = dict(connection.execute("SELECT * FROM configurations").fetchall())
        unknown = connection.execute(
            "SELECT * FROM parts ANTI JOIN configurations ON configuration_sha256 = sha256"
        ).fetchall()
    assert parts == [(FIRST, profile.sha256, code_version()), (SECOND, other.sha256, code_version())]
    assert written == sorted([(profile.sha256,), (other.sha256,)])
    assert {profile.sha256, other.sha256} <= set(kept)
    assert unknown == []


@pytest.mark.parametrize("what", ["redo", "calibrate"])
def test_nights_of_one_bundle_leave_it_together(
    bundled_once: Lake, archive: Any, run: Run, other: Profile, profile: Profile, tmp_path: Path, what: str
) -> None:
    lake = Lake(shutil.copytree(bundled_once.root, tmp_path / "lake", symlinks=True))
    if what == "redo":
        run(lake, archive.out / "frames", redo=True, profile=other)
    else:
        path = tmp_path / "again.toml"
        path.write_text(Path(profile.source).read_text() + "calibration.colour_range = [0.0, 1.0]\n")
        lake.keep_profile(cameras.load(path))
        calibrate(lake, Inline())
    entries = lake.history()[len(bundled_once.history()) :]
    assert [entry.stage for entry in entries] == ["loosen", *[{"redo": "ingest"}.get(what, what)] * 2]
    tables = ("frames", "sources") if what == "redo" else ("matches", "zeropoints")
    assert all(lake.snapshot().version(table).bundles == {} for table in tables)
    assert entries[0].parts == {}, "nothing changed"


def test_a_calibration_of_a_bundle_is_that_of_its_nights(
    bundled_once: Lake, calibrated: Lake, tmp_path: Path
) -> None:
    lake = Lake(shutil.copytree(bundled_once.root, tmp_path / "copy", symlinks=True))
    for one in (lake, calibrated):
        calibrate(one, Inline(), version=2)
    found, expected = (
        {name: part.checksum for name, part in one.snapshot().parts("zeropoints").items()}
        for one in (lake, calibrated)
    )
    assert found == expected and len(found) == 4


@pytest.mark.slow
def test_a_damaged_night_is_mended_where_its_rows_lie(whole: Lake, archive: Any, run: Run) -> None:
    """All is done again, and only the night of which a value changed on the disk is replaced."""
    before = whole.snapshot()
    version = before.version("sources")
    path = version.folder / version.parts[SECOND].files[0].path
    rows = pq.read_table(path, partitioning=None)
    place = rows.column_names.index("mjd_mid")
    times = rows["mjd_mid"].to_pylist()
    times[int(pc.index(rows["night"], int(SECOND[-8:])).as_py())] += 1e-6
    write_parquet(rows.set_column(place, rows.schema.field(place), pa.array(times)), path)
    run(whole, archive.out / "frames", redo=True)
    after = whole.snapshot()
    assert [(one.stage, one.parts) for one in whole.history() if one.snapshot > before.number] == [
        ("ingest", {"sources": (SECOND,)})
    ]
    for name, part in before.parts("sources").items():
        assert rows_digest(after.read_part("sources", name)) == part.checksum
    run(whole, archive.out / "frames", redo=True)
    assert whole.snapshot().number == after.number


@pytest.fixture
def recalibrating(profile: Profile, tmp_path: Path) -> Profile:
    """The same camera, calibrated by stars of other colours."""
    path = tmp_path / "small.toml"
    path.write_text(Path(profile.source).read_text() + "calibration.colour_range = [0.0, 1.0]\n")
    return cameras.load(path)


@pytest.mark.slow
def test_a_rollback_brings_back_the_profile(
    calibrated: Lake, archive: Any, run: Run, profile: Profile, recalibrating: Profile
) -> None:
    before = calibrated.snapshot()
    run(calibrated, archive.out / "frames", redo=True, profile=recalibrating)
    calibrate(calibrated, Inline())
    aggregate(calibrated, [], Inline())
    after = calibrated.snapshot()
    assert calibrated.profile("small").sha256 == recalibrating.sha256
    calibrated.rollback(before.number)
    assert calibrated.profile("small").sha256 == profile.sha256
    assert stale(calibrated) == {}
    assert run(calibrated, archive.out / "frames").counts == {}
    assert calibrate(calibrated, Inline()).n_current == 2
    calibrated.rollback(after.number)
    assert calibrated.profile("small").sha256 == recalibrating.sha256
    assert stale(calibrated) == {}


def test_a_rollback_to_before_the_camera_forgets_it(ingested: Lake, profile: Profile) -> None:
    ingested.rollback(1)
    assert not ingested.layout.of_cameras()
    ingested.keep_profile(profile)
    assert ingested.profile("small").sha256 == profile.sha256


@pytest.mark.parametrize("then", ["a commit", "the same profile again"])
def test_a_killed_rollback_is_ended_by_the_next_change(
    ingested: Lake, profile: Profile, recalibrating: Profile, then: str
) -> None:
    path = ingested.layout.profile("small")
    ingested.keep_profile(recalibrating)
    newer = path.read_bytes()
    number = ingested.rollback(ingested.snapshot().number).number
    assert ingested.profile("small").sha256 == profile.sha256
    path.unlink()
    path.write_bytes(newer)
    mark_current(ingested.layout, number - 1)
    if then == "a commit":
        ingested.rollback(number)
        assert ingested.profile("small").sha256 == profile.sha256
    else:
        ingested.keep_profile(recalibrating)
        ingested.rollback(ingested.snapshot().number)
        assert ingested.profile("small").sha256 == profile.sha256, "that of the snapshot"
        ingested.keep_profile(recalibrating)
        assert ingested.profile("small").sha256 == recalibrating.sha256
