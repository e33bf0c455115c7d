from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from skylake.cli.nightly_command import NightlyOptions, NightlyOutcome, declared_stages, run_nightly
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.ingest.ingest_report import IngestReport
from skylake.lake import Lake
from skylake.settings import user_file

Run = Callable[..., Any]
NOTHING_MADE = (
    "nights 0, photometric_nights 0, lightcurves 0, forced_lightcurves 0, maps 0, clusters 0, repeatability 0, "
    "seeing 0, star_statistics 0, objects 0"
)


def test_the_stages_are_those_declared_in_their_order() -> None:
    stages = ["ingest", "backfill", "learn", "calibrate", "aggregate", "compact", "mirror", "report"]
    assert declared_stages() == stages


@pytest.mark.slow
def test_stars_that_the_catalog_lacks_are_measured_on_earlier_frames_by_the_next_run(
    new_lake: Path, lake: Path, sky: Path, camera: Path, columns: tuple[str, ...], well: Run
) -> None:
    # Stars that all frames show are no longer in the catalog.
    objects = Lake(lake).snapshot().pandas("objects").query("n_frames == 8 and ref_id.notna()")
    lost = objects.sort_values("flux_adu_per_s", ascending=False)["ref_id"].astype(int).tolist()[5:20:5]
    catalog = pq.read_table(sky / "catalog.parquet")
    rest = new_lake.parent / "rest.parquet"
    pq.write_table(catalog.filter(pc.invert(pc.is_in(catalog["id"], pa.array(lost)))), rest)
    well("catalog", "import", new_lake, "simcat", "--format", "table", rest, *columns)
    opened = Lake(new_lake)
    options = NightlyOptions(str(camera), (sky / "frames",), new_lake / "report")

    def run() -> NightlyOutcome:
        done = run_nightly(opened, options, Inline(), Silent(), without=("compact", "mirror", "report"))
        assert done.warnings == done.failures == []
        return done

    first = run()
    assert any(line.startswith("targets small: version 1 made, with ") for line in first.lines)
    targets = opened.snapshot().read("targets", ["star_id", "origin"])
    assert 1 <= targets.num_rows <= 10 and set(targets["origin"].to_pylist()) == {"detections"}
    assert opened.snapshot().n_rows("forced_sources") == 0
    second = run()
    assert "backfill small: 8 frames of 2 nights measured" in second.lines
    curves = opened.snapshot().pandas("forced_lightcurves").groupby("star_id")["n_points"].sum()
    assert set(curves.index) == set(targets["star_id"].to_pylist())
    assert curves.max() == 8
    # Objects are those of before, and nothing is left to do.
    assert second.values["aggregate"]["refreshed"]["objects"] == 0
    number = opened.snapshot().number
    assert not any(line.startswith(("backfill", "targets")) for line in run().lines)
    assert opened.snapshot().number == number


@pytest.mark.xdist_group("postgres")
def test_a_night_goes_all_the_way_and_a_second_run_does_nothing(
    new_lake: Path, sky: Path, camera: Path, columns: tuple[str, ...], well: Run, skylake_command: Run
) -> None:
    well("catalog", "import", new_lake, "simcat", "--format", "table", sky / "catalog.parquet", *columns)
    own = new_lake.parent / "own.sql"
    own.write_text(
        "-- name: own\n-- key: camera, band\n-- granularity: camera and season\n-- merge: n count\n"
        "SELECT camera, band, count(*) AS n FROM frames GROUP BY ALL\n"
    )
    # New targets would have the second run measure them on these frames.
    Lake(new_lake).set("objects.new_targets", 0)
    nightly = ("run", "nightly", new_lake, "--camera", camera, sky / "frames", "--aggregate", own, "--json")
    first = well(*nightly)
    value = first.json
    assert value["ingest"]["counts"] == {"ok": 8}
    assert value["warnings"] == []
    assert [batch["zeropoints"] for batch in value["calibrate"]["batches"]] == [4, 4]
    refreshed = value["aggregate"]["refreshed"]
    made = {
        "nights",
        "photometric_nights",
        "lightcurves",
        "forced_lightcurves",
        "maps",
        "clusters",
        "repeatability",
        "seeing",
        "star_statistics",
        "objects",
        "own",
    }
    assert refreshed.keys() == made
    assert min(refreshed[table] for table in ("nights", "lightcurves", "maps")) > 0
    # The camera has no targets.
    assert refreshed["forced_lightcurves"] == 0 and refreshed["repeatability"] == 2
    assert value["mirror"]["outcome"]["n_rows_copied"] == 8 + 8 + 2 + 2
    assert value["report"][0] == str(new_lake / "report" / "index.html")
    assert all(Path(file).is_file() for file in value["report"])
    # Two nights are not yet merged.
    assert value["compact"]["tables"] == {}
    stages = [line.split()[0] for line in first.err.splitlines()]
    assert stages == ["ingest"] * 2 + ["calibrate"] * 2 + ["aggregate"] * 12

    before = well("status", new_lake, "--json").json
    again = well(
        "run",
        "nightly",
        new_lake,
        "--camera",
        camera,
        sky / "frames",
        "--aggregate",
        own,
        "--report",
        new_lake.parent / "elsewhere",
    )
    lines = again.out.splitlines()
    assert lines[:3] == [
        "ingest: nothing new, 8 known before",
        "calibrate: 2 nights are up to date with simcat, version 1",
        f"aggregate: parts made: {NOTHING_MADE}, own 0",
    ]
    assert lines[3] == f"mirror: 0 rows copied to {new_lake}/_postgres (stopped again)"
    assert lines[4:] == [f"report: {new_lake.parent}/elsewhere/index.html"]
    assert well("status", new_lake, "--json").json == before

    the_database_holds_the_same(new_lake, well)


def the_database_holds_the_same(lake: Path, well: Run) -> None:
    """Leave the server running, ask it as a user would, and stop it."""
    text = well("mirror", lake, "--keep-running").out
    try:
        assert text.splitlines()[0].endswith("; 0 parts with 0 rows copied, 0 removed")
        psql = next(line for line in text.splitlines() if line.startswith("connect with: "))
        command = shlex.split(psql.removeprefix("connect with: "))
        query = "SELECT file, zp FROM frames JOIN zeropoints USING (frame_id) ORDER BY file"
        done = subprocess.run(
            [*command, "-At", "-F", "\t", "-c", query], capture_output=True, text=True, check=True
        )
        rows = [line.split("\t") for line in done.stdout.splitlines()]
        ours = well("sql", lake, query, "--format", "json").json
        assert [(file, float(zp)) for file, zp in rows] == [(row["file"], row["zp"]) for row in ours]
        assert len(rows) == 8
    finally:
        stopped = well("mirror", lake, "--stop").out
    assert stopped == "the embedded server was stopped\n"
    rebuilt = well("mirror", lake, "--rebuild", "--json").json
    assert (rebuilt["outcome"]["n_rows_copied"], rebuilt["psql"]) == (20, None)
    empty = well("mirror", lake, "--as-of", "1", "--json").json
    assert (empty["snapshot"], empty["outcome"]["n_rows_copied"]) == (1, 0)
    assert empty["outcome"]["n_removed"] == rebuilt["outcome"]["n_copied"]
    assert well("mirror", lake, "--json").json["outcome"]["n_rows_copied"] == 20


@pytest.mark.xdist_group("postgres")
def test_without_a_catalog_frames_are_kept_with_a_warning(
    new_lake: Path, sky: Path, camera: Path, skylake_command: Run, well: Run
) -> None:
    answer = skylake_command("run", "nightly", new_lake, "--camera", camera, sky / "frames" / "20241001")
    assert answer.status == 1
    assert answer.out.startswith(
        "ingest: 4 ok\n"
        "aggregate: parts made: nights 1, photometric_nights 1, lightcurves 0, forced_lightcurves 0, "
        "maps 1, clusters 1, repeatability 0, seeing 1, star_statistics 0, objects 1\n"
        "mirror: 5 rows"
    )
    [warning] = [line for line in answer.err.splitlines() if line.startswith("skylake: ")]
    assert warning.startswith(
        f"skylake: nothing was calibrated: {new_lake}: the lake has no reference catalog; import"
    )
    assert f"`skylake catalog import {new_lake} NAME --format table FILE" in warning
    assert well("status", new_lake, "--json").json["tables"]["sources"] > 0


def test_an_unreachable_database_costs_no_night_and_no_report(
    new_lake: Path, sky: Path, camera: Path, skylake_command: Run, well: Run
) -> None:
    url = "postgresql://me:secret@127.0.0.1:1/sky"
    answer = skylake_command(
        "run", "nightly", new_lake, "--camera", camera, sky / "frames" / "20241001", "--to", url
    )
    assert answer.status == 3
    assert answer.out.splitlines()[0] == "ingest: 4 ok" and "report: " in answer.out
    last = answer.err.splitlines()[-1]
    assert last.startswith("skylake: mirror: the database postgresql://me@127.0.0.1:1/sky: ")
    assert "secret" not in answer.err and "Traceback" not in answer.err
    assert well("status", new_lake, "--json").json["frames"][0]["count_all"] == 4


@pytest.mark.xdist_group("postgres")
def test_lakes_share_a_database_by_schemas(
    new_lake: Path,
    sky: Path,
    camera: Path,
    skylake_command: Run,
    well: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    other = tmp_path / "other"
    well("init", other, "--cluster", "inline")
    [connect] = [
        line for line in well("mirror", other, "--keep-running").out.splitlines() if "connect with: " in line
    ]
    psql = shlex.split(connect.removeprefix("connect with: "))
    try:
        night = (
            "run",
            "nightly",
            new_lake,
            "--camera",
            camera,
            sky / "frames" / "20241001",
            "--to",
            psql[-1],
        )
        refused = skylake_command(*night)
        assert refused.status == 3
        assert f"this is the mirror of another lake (snapshot 1 of {other})" in refused.err
        assert "name a schema for this lake with --schema" in refused.err
        assert "mirror: 5 rows copied" in skylake_command(*night, "--schema", "north").out
        monkeypatch.setenv("SKYLAKE_MIRROR_SCHEMA", "north")
        assert "mirror: 0 rows copied" in skylake_command(*night).out
        monkeypatch.delenv("SKYLAKE_MIRROR_SCHEMA")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        user_file().parent.mkdir(parents=True)
        user_file().write_text(f"['{new_lake}']\nmirror_schema = 'north'\n")
        assert "schema north; 0 parts" in well("mirror", new_lake, "--to", psql[-1]).out
        query = "SELECT (SELECT count(*) FROM north.frames), (SELECT count(*) FROM public.frames)"
        done = subprocess.run([*psql, "-At", "-c", query], capture_output=True, text=True, check=True)
        assert done.stdout == "4|0\n"
    finally:
        well("mirror", other, "--stop")


def test_a_run_without_frames_ends_before_anything_is_written(
    new_lake: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    (tmp_path / "empty").mkdir()
    answer = skylake_command("run", "nightly", new_lake, "--camera", camera, tmp_path / "empty")
    assert answer.status == 3
    assert answer.sentence.startswith(f"{tmp_path}/empty: no FITS frame")
    assert not (new_lake / "report").exists() and Lake(new_lake).snapshot().number == 1


def test_a_report_is_not_written_through_a_link_of_the_lake(
    new_lake: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    link, elsewhere, frames = new_lake / "report", tmp_path / "elsewhere", tmp_path / "empty"
    elsewhere.mkdir()
    frames.mkdir()
    link.symlink_to(elsewhere)
    answer = skylake_command("run", "nightly", new_lake, "--camera", camera, frames)
    assert answer.status == 3
    assert answer.sentence.startswith(f"{link}: this is a link out of the lake")
    named = skylake_command("run", "nightly", new_lake, "--camera", camera, frames, "--report", elsewhere)
    assert named.sentence.startswith(f"{frames}: no FITS frame"), "that is accepted"


def test_all_is_well_when_frames_are_and_nobody_warns() -> None:
    good = NightlyOutcome(IngestReport(counts={"ok": 3, "skipped": 2}))
    assert good.exit_status == 0
    assert NightlyOutcome(IngestReport(counts={"ok": 3, "rejected": 1})).exit_status == 1
    assert NightlyOutcome(IngestReport(counts={"failed": 1})).exit_status == 1
    assert NightlyOutcome(warnings=["nothing was calibrated"]).exit_status == 1
    assert NightlyOutcome(IngestReport(counts={"failed": 1}), failures=["mirror: refused"]).exit_status == 3
    assert good.as_dict()["ingest"]["counts"] == {"ok": 3, "skipped": 2}
