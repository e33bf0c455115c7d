from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.errors import CatalogError, LakeError
from skylake.flow.aggregates import aggregate, outdated, uncalibrated
from skylake.flow.catalogs.catalog_uses import catalog_uses
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.flow.zeropoints.calibrate_nights import Choice, calibrate, plan_calibration
from skylake.flow.zeropoints.calibrated_nights import Method, zeropoints_name
from skylake.lake import Lake
from skylake.lake.cameras.chosen_catalogs import read_choice
from skylake.resources import folder
from skylake.settings import Catalogs, Settings
from skylake.simulate import AtmosphereParams, Scenario, ScheduleParams, StarParams, simulate
from skylake.table.matches import CARRIED, matches_name

pytestmark = pytest.mark.xdist_group("lsdb")


def joined_with_truth(lake: Lake, truth: Path) -> dict[str, np.ndarray]:
    """Zeropoints in force beside what is true of their frames, in the order of time."""
    with lake.snapshot().duckdb() as connection:
        return connection.execute(
            """
            SELECT z.*, t.zp AS true_zp, t.colour_term AS true_term, t.clear, t.cloud_mag
            FROM read_parquet(?) AS t
            JOIN frames AS f ON parse_filename(f.file) = parse_filename(t.file)
            JOIN zeropoints_in_force AS z USING (frame_id)
            ORDER BY z.mjd_mid
            """,
            [str(truth)],
        ).fetchnumpy()


def test_the_true_zeropoint_lies_within_three_standard_errors(calibrated_once: Lake, archive: Any) -> None:
    rows = joined_with_truth(calibrated_once, archive.truth_frames)
    assert len(rows["zp"]) == 12
    assert rows["clear"].all()
    deviation = (rows["zp"] - rows["true_zp"]) / rows["zp_err"]
    assert np.abs(deviation).max() < 3.0, deviation
    assert 0.0 < rows["zp_err"].max() < 0.03
    term = (rows["colour_term"] - rows["true_term"]) / rows["colour_term_err"]
    assert np.abs(term).max() < 3.0
    assert set(rows["pivot_colour"]) == {0.7}


def test_frames_differ_by_less_than_their_common_error(calibrated_once: Lake, archive: Any) -> None:
    """Catalog errors are shared by frames of one field; what differs from frame to frame is `zp_fit_err`."""
    rows = joined_with_truth(calibrated_once, archive.truth_frames)
    difference = rows["zp"] - rows["true_zp"]
    for night in set(rows["night"]):
        mine = rows["night"] == night
        assert np.std(difference[mine]) < 1.5 * np.median(rows["zp_fit_err"][mine])


def test_a_match_is_one_to_one_and_near(calibrated_once: Lake, archive: Any) -> None:
    matches = calibrated_once.snapshot().pandas("matches")
    assert len(matches) > 1000
    assert not matches.duplicated(["frame_id", "source_no"]).any()
    assert not matches.duplicated(["frame_id", "ref_id"]).any()
    assert matches["separation_arcsec"].max() <= 16.0
    assert matches["separation_arcsec"].median() < 2.0
    stars = pq.read_table(archive.catalog, columns=["id", "V"]).to_pandas().set_index("id")
    known = stars["V"].reindex(matches["ref_id"]).to_numpy()
    assert matches["ref_mag"].to_numpy() == pytest.approx(known, abs=1e-4, nan_ok=True)


def test_a_match_carries_the_values_of_its_own_detection(calibrated_once: Lake) -> None:
    snapshot = calibrated_once.snapshot()
    columns = [name for name in CARRIED if name != "filter"]
    matches = snapshot.read("matches", ["frame_id", "source_no", *columns])
    sources = snapshot.read("sources", ["frame_id", "source_no", *columns])
    both = matches.join(sources, ["frame_id", "source_no"], right_suffix="_own")
    assert both.num_rows == matches.num_rows
    for name in columns:
        assert both[name].to_pylist() == both[f"{name}_own"].to_pylist(), name


def test_the_checks_of_the_lake_find_nothing(calibrated_once: Lake) -> None:
    options = VerifyOptions(deep=True)
    report = verify(open_facts(calibrated_once.root, options), Inline(), options)
    assert report.failed == []


def test_each_frame_that_is_ok_has_one_zeropoint_row(calibrated_once: Lake) -> None:
    snapshot = calibrated_once.snapshot()
    frames = snapshot.read("frames", ["frame_id"])["frame_id"].to_pylist()
    zeropoints = snapshot.read("zeropoints", ["frame_id", "catalog", "version"]).to_pylist()
    assert sorted(row["frame_id"] for row in zeropoints) == sorted(frames)
    assert {(row["catalog"], row["version"]) for row in zeropoints} == {("simcat", 1)}


def test_calibrating_twice_changes_no_byte(
    calibrated: Lake, digests: Callable[[Path], dict[str, str]]
) -> None:
    before = digests(calibrated.root)
    report = calibrate(calibrated, Inline())
    assert (report.batches, report.n_current) == ([], 2)
    assert digests(calibrated.root) == before


def test_only_nights_with_new_frames_are_calibrated_anew(
    lake: Lake, frames: list[Path], archive: Any, columns: Any, run: Callable[..., Any], checksums: Any
) -> None:
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    run(lake, [frames[0], frames[6]])
    calibrate(lake, Inline())
    before = checksums(lake, "matches", "zeropoints")
    run(lake, frames[1])
    report = calibrate(lake, Inline())
    assert [(batch["night"], batch["frames"], batch["zeropoints"]) for batch in report.batches] == [
        (20241001, 2, 2)
    ]
    assert report.n_current == 1
    after = checksums(lake, "matches", "zeropoints")
    changed = {name for _, name in {key for key in before if before[key] != after[key]}}
    assert changed == {"small-20241001-simcat", "small-20241001-simcat-v1"}


@pytest.fixture
def with_second_catalog(calibrated: Lake, archive: Any, columns: Any, tmp_path: Path) -> Lake:
    """A lake with a second catalog, whose stars are all a quarter of a magnitude fainter."""
    rows = pq.read_table(archive.catalog)
    for name in ("V", "B"):
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, rows.schema.field(name), pa.array(rows[name].to_numpy() + 0.25))
    pq.write_table(rows, tmp_path / "other.parquet")
    import_catalog(calibrated, "other", "table", [tmp_path / "other.parquet"], columns)
    return calibrated


def test_a_second_catalog_adds_a_calibration(
    with_second_catalog: Lake, checksums: Callable[..., Any], archive: Any
) -> None:
    lake = with_second_catalog
    before = checksums(lake, "frames", "sources", "matches", "zeropoints")
    report = calibrate(lake, Inline(), "other")
    assert (report.catalog, report.version, len(report.batches)) == ("other", 1, 2)
    after = checksums(lake, "frames", "sources", "matches", "zeropoints")
    assert before.items() <= after.items()
    assert {name for _, name in set(after) - set(before)} == {
        name
        for night in (20241001, 20241002)
        for name in (matches_name(f"small-{night}", "other"), zeropoints_name(f"small-{night}", "other", 1))
    }
    rows = lake.snapshot().pandas("zeropoints").pivot(index="frame_id", columns="catalog", values="zp")
    assert (rows["other"] - rows["simcat"]).to_numpy() == pytest.approx(np.full(12, 0.25), abs=2e-3)
    assert calibrate(lake, Inline(), "other").n_current == 2
    assert calibrate(lake, Inline()).n_current == 2, "the first is the default still"


def test_replacing_a_catalog_makes_its_calibrations_stale(
    with_second_catalog: Lake, tmp_path: Path, columns: Any
) -> None:
    lake = with_second_catalog
    old = np.sort(lake.snapshot().pandas("zeropoints")["zp"])
    import_catalog(lake, "simcat", "table", [tmp_path / "other.parquet"], columns, replace=True)
    report = calibrate(lake, Inline())
    assert (len(report.batches), report.n_current) == (2, 0)
    new = np.sort(lake.snapshot().pandas("zeropoints")["zp"])
    assert new - old == pytest.approx(np.full(12, 0.25), abs=2e-3)


def test_a_new_version_keeps_the_old_one_and_is_in_force(
    calibrated: Lake, checksums: Callable[..., Any]
) -> None:
    before = checksums(calibrated, "matches", "zeropoints")
    assert calibrate(calibrated, Inline(), version=2).version == 2
    after = checksums(calibrated, "matches", "zeropoints")
    assert before.items() <= after.items()
    assert {table for table, _ in set(after) - set(before)} == {"zeropoints"}, "matches hold for both"
    with calibrated.snapshot().duckdb() as connection:
        assert connection.execute("SELECT DISTINCT version FROM zeropoints_in_force").fetchall() == [(2,)]
    assert calibrate(calibrated, Inline()).version == 2, "the largest from now on"


def test_an_older_version_behind_its_frames_is_made_again(
    lake: Lake, frames: list[Path], archive: Any, columns: Any, run: Callable[..., Any]
) -> None:
    """Its matches are up to date, as a newer version has used them."""
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    run(lake, frames[0])
    calibrate(lake, Inline(), version=1)
    run(lake, frames[1])
    calibrate(lake, Inline(), version=2)
    assert len(calibrate(lake, Inline(), version=1).batches) == 1
    rows = lake.snapshot().read("zeropoints", ["version"])["version"].to_pylist()
    assert sorted(rows) == [1, 1, 2, 2]


def test_without_a_catalog_the_error_names_the_command(lake: Lake) -> None:
    with pytest.raises(LakeError, match="skylake catalog import"):
        calibrate(lake, Inline())


def test_a_catalog_that_is_not_there_is_an_error(calibrated: Lake) -> None:
    with pytest.raises(CatalogError, match="nothing"):
        calibrate(calibrated, Inline(), "nothing")


def test_a_night_that_cannot_be_calibrated_is_reported(
    ingested: Lake,
) -> None:
    for path in (
        one.path for one in ingested.snapshot().slices("sources", lambda part: part.night == 20241001)
    ):
        path.unlink()
        path.write_bytes(b"PAR1 no more")
    with pytest.raises(LakeError, match=r"small-20241001: .*calibrated"):
        calibrate(ingested, Inline())
    zeropoints = ingested.snapshot().parts("zeropoints")
    assert set(zeropoints) == {"small-20241002-simcat-v1"}
    assert not any(ingested.layout.staging.iterdir())


@pytest.fixture(scope="module")
def clouds(profile: Any, columns: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, Any]:
    """A night of ten frames, some behind clouds, calibrated."""
    root = tmp_path_factory.mktemp("clouds")
    scenario = Scenario(
        camera=profile.source, nights=1, first_night=20241001, frames_per_night=10, streak_fraction=0.0,
        stars=StarParams(per_frame=400.0), atmosphere=AtmosphereParams(cloudy_fraction=0.4, cloud_mag=0.9),
        schedule=ScheduleParams(target=(0.0, -24.6243)),
    )  # fmt: skip
    made = simulate(scenario, root / "archive")
    lake = Lake.create(root / "lake", Settings(cluster="inline", pixel_order=5))
    import_catalog(lake, "simcat", "table", [made.catalog], columns)
    ingest(lake, profile, [made.out / "frames"], Inline())
    calibrate(lake, Inline())
    return lake, made


def test_frames_behind_clouds_stand_out_by_their_zeropoint(clouds: Any) -> None:
    """The question that the project ships finds them, and no clear frame; all have a row of frames."""
    lake, made = clouds
    rows = joined_with_truth(lake, made.truth_frames)
    clear, cloudy = rows["clear"], rows["cloud_mag"] > 0.2
    assert 2 <= cloudy.sum() <= 6
    assert clear.sum() >= 4
    assert np.abs((rows["zp"] - rows["true_zp"])[clear] / rows["zp_err"][clear]).max() < 3.0
    questions = (folder("sql") / "duckdb" / "questions.sql").read_text()
    (question,) = [text for text in questions.split(";") if "through clouds" in text]
    with lake.snapshot().duckdb() as connection:
        found = {row[0] for row in connection.execute(f"SELECT file FROM ({question.strip()})").fetchall()}
        names = dict(connection.execute("SELECT frame_id, parse_filename(file) FROM frames").fetchall())
    assert len(names) == 10
    flagged = np.array([names[frame] in found for frame in rows["frame_id"]])
    assert (flagged[cloudy]).all()
    assert not flagged[clear].any()


def test_light_that_clouds_took_is_in_the_zeropoint(clouds: Any) -> None:
    """The true zeropoint counts the cloud at the centre; over the field it varies by a quarter of itself."""
    lake, made = clouds
    rows = joined_with_truth(lake, made.truth_frames)
    known = np.isfinite(np.ma.filled(rows["zp"], np.nan))
    assert known.sum() >= 8
    assert (rows["cloud_mag"][known] > 0.5).any()
    off = np.abs(rows["true_zp"] - rows["zp"])[known]
    assert (off / rows["zp_err"][known]).max() < 2.5
    assert off.max() < 0.1


# One catalog solves, another calibrates.


@pytest.fixture
def with_deep_catalog(lake: Lake, archive: Any, columns: Any) -> Lake:
    """An empty lake with two catalogs: the first has no colours, the second has."""
    bare = replace(columns, magnitudes={"R": "V"}, magnitude_errors={}, colours={})
    import_catalog(lake, "deep", "table", [archive.catalog], bare)
    import_catalog(lake, "shallow", "table", [archive.catalog], columns)
    return lake


def test_one_catalog_solves_and_another_calibrates(
    with_deep_catalog: Lake, frames: list[Path], profile: Profile
) -> None:
    lake = with_deep_catalog
    assert lake.settings.catalog == Catalogs("deep", "")
    ingest(lake, profile, frames[:2], Inline())
    assert set(lake.snapshot().read("frames", ["wcs_catalog"])["wcs_catalog"].to_pylist()) == {"deep"}
    assert uncalibrated(lake) == 2
    report = calibrate(lake, Inline())
    assert (report.catalog, report.n_zeropoints, report.warnings) == ("shallow", 2, [])
    assert report.chosen["small"].startswith("shallow calibrates small: V; 2 of 2 fields, ")
    assert report.chosen["small"].endswith(" stars a frame (deep: has not the bands)")
    aggregate(lake, [], Inline())
    assert uncalibrated(lake) == 0, "nobody asks for a calibration with the other one"
    assert {name: state.why for name, state in outdated(lake).items() if state.why} == {}
    curves = lake.snapshot().read("lightcurves", ["catalog"])["catalog"].to_pylist()
    assert set(curves) == {"shallow"}


def test_the_catalogs_of_a_profile_win_over_those_of_the_lake(
    with_deep_catalog: Lake, frames: list[Path], profile: Profile, tmp_path: Path
) -> None:
    lake = with_deep_catalog
    path = tmp_path / "small.toml"
    path.write_text(
        Path(profile.source).read_text() + '[catalog]\nsolve = "shallow"\ncalibrate = "shallow"\n'
    )
    ingest(lake, cameras.load(path), frames[:1], Inline())
    assert lake.snapshot().read("frames", ["wcs_catalog"])["wcs_catalog"].to_pylist() == ["shallow"]
    assert calibrate(lake, Inline()).catalog == "shallow"
    assert lake.catalogs("small") == Catalogs("shallow", "shallow")
    assert uncalibrated(lake) == 0


@pytest.mark.slow
def test_cameras_with_their_own_catalogs_calibrate_together(
    with_deep_catalog: Lake, frames: list[Path], profile: Profile, tmp_path: Path
) -> None:
    lake = with_deep_catalog
    lake.set("catalog.calibrate", "shallow")
    path = tmp_path / "other.toml"
    told = Path(profile.source).read_text().replace('"small"', '"other"')
    path.write_text(told + 'filters.V.band = "R"\nfilters.V.colour = "R-R"\n[catalog]\ncalibrate = "deep"\n')
    for number, one in enumerate((profile, cameras.load(path))):
        ingest(lake, one, [frames[number]], Inline())
    report = calibrate(lake, Inline())
    assert report.catalog == "deep, shallow"
    told_of = {(row["camera"], row["catalog"]) for row in lake.snapshot().read("zeropoints").to_pylist()}
    assert told_of == {("small", "shallow"), ("other", "deep")}
    aggregate(lake, [], Inline())
    assert {name: state.why for name, state in outdated(lake).items() if state.why} == {}
    options = VerifyOptions(deep=True)
    assert verify(open_facts(lake.root, options), Inline(), options).failed == []
    lake.set("catalog.calibrate", "")
    report = calibrate(lake, Inline())
    assert (report.catalog, report.n_current, report.warnings) == ("deep, shallow", 2, [])
    assert list(report.chosen) == ["small"], "the profile of the other camera names its own"


def test_a_lake_of_one_default_catalog_names_it_twice(calibrated: Lake) -> None:
    path = calibrated.layout.settings_file
    head, _, _ = path.read_text().partition("# Reference catalogs")
    path.write_text(f'default_catalog = "simcat"\n{head}')
    opened = Lake(calibrated.root)
    assert opened.settings.catalog == Catalogs("simcat", "simcat")
    assert calibrate(opened, Inline()).n_current == 2
    opened.set("catalog.calibrate", "other")
    assert Lake(calibrated.root).settings.catalog == Catalogs("simcat", "other")


def test_a_choice_stays_when_a_better_catalog_comes(
    with_second_catalog: Lake, archive: Any, columns: Any
) -> None:
    """Nobody's light curves change because a catalog was imported; the name in the settings wins."""
    lake = with_second_catalog
    assert [calibrate(lake, Inline()).catalog for _ in range(2)] == ["simcat", "simcat"]
    assert lake.calibrating_catalog("small") == "simcat"
    assert catalog_uses(lake) == {"simcat": ["solve", "calibrate"], "other": []}
    lake.set("catalog.calibrate", "other")
    assert calibrate(lake, Inline()).catalog == lake.calibrating_catalog("small") == "other"
    assert catalog_uses(lake) == {"simcat": ["solve"], "other": ["calibrate"]}


def test_a_choice_is_made_anew_when_its_catalog_is_gone(with_second_catalog: Lake) -> None:
    lake = with_second_catalog
    shutil.rmtree(lake.layout.catalog("simcat"))
    assert lake.calibrating_catalog("small") == "other"
    report = calibrate(lake, Inline())
    assert report.catalog == "other" and report.chosen == {}, "there is no other to choose"


def test_a_catalog_of_an_unknown_survey_says_how_to_name_it(
    ingested: Lake, archive: Any, columns: Any
) -> None:
    """Whose g and r they are decides a tenth of a magnitude, so nothing is guessed."""
    bare = replace(columns, magnitudes={"g": "B", "r": "V"}, magnitude_errors={}, colours={})
    import_catalog(ingested, "bare", "table", [archive.catalog], bare)
    report = calibrate(ingested, Inline(), "bare")
    (warning,) = report.warnings
    assert report.n_zeropoints == 0 and warning.endswith(
        "V would follow from its other bands: say of which survey they are, as in `--mag PS1_r=COLUMN` or "
        "`--mag SDSS_g=COLUMN` or `--mag APASS_g=COLUMN`"
    )


def test_a_catalog_that_gives_no_zeropoints_is_not_kept(
    lake: Lake, archive: Any, columns: Any, frames: list[Path], profile: Profile
) -> None:
    """Who is told that the catalog has not the band imports another, and that is used."""
    bare = replace(columns, magnitudes={"R": "V"}, magnitude_errors={}, colours={})
    import_catalog(lake, "bare", "table", [archive.catalog], bare)
    ingest(lake, profile, frames[:1], Inline())
    report = calibrate(lake, Inline())
    assert (report.catalog, report.n_zeropoints, report.chosen) == ("bare", 0, {})
    import_catalog(lake, "whole", "table", [archive.catalog], columns)
    report = calibrate(lake, Inline())
    assert (report.catalog, report.n_zeropoints, list(report.chosen)) == ("whole", 1, ["small"])
    assert read_choice(lake.layout, "small").calibrate == "whole"  # type: ignore[union-attr]


def test_a_camera_is_calibrated_by_transformed_magnitudes(
    ingested: Lake, archive: Any, columns: Any, tmp_path: Path
) -> None:
    """A filter V, and a catalog in the system of PS1 alone, whose true V and B-V are those of the simulation."""
    stars, random = pq.read_table(archive.catalog), np.random.default_rng(5)
    v, b_v = (stars[name].to_numpy(zero_copy_only=False).astype(float) for name in ("V", "B-V"))
    # Tonry et al. (2012), table 6: V - r and B - V of g - r, solved for g - r.
    colour = (np.sqrt(1.094**2 + 4.0 * 0.021 * (b_v - 0.207)) - 1.094) / (2.0 * 0.021)
    r = v - 0.005 - 0.462 * colour - 0.013 * colour**2 - 0.012 * random.normal(size=v.size)
    errors = {name: np.full(v.size, 0.01) for name in ("g_err", "r_err")}
    values = {"g": r + colour, "r": r}
    values = {name: mag + 0.01 * random.normal(size=v.size) for name, mag in values.items()}
    rows = stars.select(["id", "ra", "dec", "pmra", "pmdec"])
    for name, column in (values | errors).items():
        rows = rows.append_column(name, pa.array(column))
    pq.write_table(rows, tmp_path / "ps1.parquet")
    bands = {"PS1_g": "g", "PS1_r": "r"}
    taken = replace(
        columns,
        magnitudes=bands,
        magnitude_errors={name: f"{own}_err" for name, own in bands.items()},
        colours={},
    )
    import_catalog(ingested, "ps1", "table", [tmp_path / "ps1.parquet"], taken)
    report = calibrate(ingested, Inline(), "ps1")
    assert (report.n_zeropoints, report.warnings) == (12, [])
    rows = ingested.snapshot().read("zeropoints").filter(pc.field("catalog") == "ps1")
    (used,) = set(rows["transformation"].to_pylist())
    assert used == (
        "V from PS1_r, PS1_g-PS1_r: Tonry et al. 2012, ApJ 750, 99, table 6; "
        "B from PS1_g, PS1_g-PS1_r: Tonry et al. 2012, ApJ 750, 99, table 6"
    )
    ingested.set("catalog.calibrate", "ps1")
    truth = joined_with_truth(ingested, archive.truth_frames)
    deviation = (truth["zp"] - truth["true_zp"]) / truth["zp_err"]
    assert len(deviation) == 12 and np.abs(deviation).max() < 3.0, deviation
    assert truth["zp_err"].max() < 0.03
    assert calibrate(ingested, Inline()).n_current == 2


def test_listed_variables_take_no_part_in_zeropoints(calibrated: Lake, tmp_path: Path) -> None:
    before = calibrated.snapshot().pandas("zeropoints").set_index("frame_id")["n_used"]
    matches = calibrated.snapshot().pandas("matches")
    stars = matches.drop_duplicates("ref_id").nsmallest(30, "ref_mag")
    listed = pd.DataFrame({"OID": range(30), "RAJ2000": stars["ra_deg"], "DEJ2000": stars["dec_deg"], "V": 0})
    listed.assign(max=9.0, n_max="V").to_csv(tmp_path / "vsx.csv", index=False)
    import_catalog(calibrated, "vsx", "vsx", [tmp_path / "vsx.csv"])
    assert outdated(calibrated)["matches"].why.keys() == set(calibrated.snapshot().parts("matches"))
    assert calibrate(calibrated, Inline()).n_renewed == 2
    matches = calibrated.snapshot().pandas("matches")
    assert set(matches["ref_id"][matches["is_variable"]]) == set(stars["ref_id"])
    assert matches["is_variable"].notna().all()
    after = calibrated.snapshot().pandas("zeropoints").set_index("frame_id")["n_used"]
    assert (after < before).all()
    assert calibrate(calibrated, Inline()).n_current == 2


# Which nights.


def test_a_new_version_of_one_camera_is_not_in_force_for_others(
    with_deep_catalog: Lake, frames: list[Path], profile: Profile, tmp_path: Path
) -> None:
    lake = with_deep_catalog
    lake.set("catalog.calibrate", "shallow")
    path = tmp_path / "other.toml"
    path.write_text(Path(profile.source).read_text().replace('"small"', '"other"'))
    for number, one in enumerate((profile, cameras.load(path))):
        ingest(lake, one, [frames[number]], Inline())
    calibrate(lake, Inline())
    calibrate(lake, Inline(), choice=Choice(cameras=("other",), version=2))
    assert plan_calibration(lake, Choice()) == []
    assert outdated(lake)["zeropoints"].why == {}
    versions = {row["camera"]: row["version"] for row in lake.snapshot().read("zeropoints").to_pylist()}
    assert versions == {"small": 1, "other": 2}


def test_nights_and_cameras_are_chosen(ingested: Lake) -> None:
    assert len(plan_calibration(ingested, Choice())) == 2
    (planned,) = plan_calibration(ingested, Choice(first_night=20241002))
    assert (planned.night, planned.matches_name) == (20241002, "small-20241002-simcat")
    report = calibrate(ingested, Inline(), choice=Choice(last_night=20241001, cameras=("small",)))
    assert [(batch["camera"], batch["night"]) for batch in report.batches] == [("small", 20241001)]
    report = calibrate(ingested, Inline(), choice=Choice(last_night=20241001))
    assert (report.batches, report.n_current) == ([], 1)
    assert [night.night for night in plan_calibration(ingested, Choice())] == [20241002]


def test_a_new_version_of_some_nights_keeps_other_curves(calibrated: Lake) -> None:
    before = calibrated.snapshot().n_rows("lightcurves")
    calibrate(calibrated, Inline(), choice=Choice(version=2, first_night=20241002))
    aggregate(calibrated, [], Inline())
    assert calibrated.snapshot().n_rows("lightcurves") == before
    nights = calibrated.snapshot().read("nights", ["n_zeropoints"])["n_zeropoints"].to_pylist()
    assert nights == [6, 6]
    assert outdated(calibrated)["zeropoints"].counts == {}, "the other night keeps version 1"


def test_a_trial_leaves_the_aggregates_of_other_nights_as_they_are(calibrated: Lake) -> None:
    aggregate(calibrated, ["nights"], Inline())
    calibrate(calibrated, Inline(), choice=Choice(version=2, last_night=20241001))
    assert outdated(calibrated)["nights"].nights == {20241001}


def test_a_version_that_begins_takes_over_the_method_of_each_night(calibrated: Lake) -> None:
    calibrate(calibrated, Inline(), choice=Choice(version=2, method=Method.FRAME, last_night=20241001))
    planned = plan_calibration(calibrated, Choice(version=3))
    assert {night.night: night.method for night in planned} == {
        20241001: Method.FRAME, 20241002: Method.AUTO,
    }  # fmt: skip
    finished = plan_calibration(calibrated, Choice(version=2))
    assert {night.night: night.method for night in finished} == {20241002: Method.FRAME}


def test_a_night_with_lost_frames_does_not_stop_others(ingested: Lake) -> None:
    first, second = ingested.snapshot().version("frames").parts.values()
    (lost,) = ingested.snapshot().version("frames").slices_of(first)
    lost.path.unlink()
    with pytest.raises(LakeError, match=f"{first.name}: the night could not be calibrated"):
        calibrate(ingested, Inline())
    assert [part.night for part in ingested.snapshot().parts("zeropoints").values()] == [second.night]
