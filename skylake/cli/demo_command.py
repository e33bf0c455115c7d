"""``skylake demo``: run all stages on simulated nights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.arguments import open_lake, start_workers
from skylake.cli.progress_bar import progress

if TYPE_CHECKING:
    from skylake.lake import Lake, Snapshot

#: Marks a folder that a demo made.
_MARK = ".skylake-demo"

#: Two nights: a field with known variables, and survey fields that are each seen once.
SCENARIO: dict[str, Any] = {
    "camera": "sim",
    "nights": 2,
    "frames_per_night": 60,
    "seed": 7,
    "stars.per_frame": 1000,
    "schedule.fields": 72,
    "schedule.target_fraction": 0.4,
    "atmosphere.cloudy_fraction": 0.1,
    "header.wrong_wcs_fraction": 0.02,
    "header.absent_wcs_fraction": 0.02,
}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("demo"), metavar="[DIR]")
@click.option("--frames", type=click.IntRange(min=4), help="Frames per night; 60 by default.")
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Worker processes; one per core by default."
)
@click.pass_context
def demo(ctx: click.Context, folder: Path, frames: int | None, workers: int | None) -> None:
    """Simulate two nights, run everything after each, and show where to look. DIR is ./demo by default."""
    from skylake import cameras
    from skylake.cli.nightly_command import NightlyOptions, run_nightly
    from skylake.cli.simulate_command import make, scenario_from
    from skylake.flow.catalogs.import_catalogs import import_catalog, index_imported
    from skylake.lake import Lake
    from skylake.settings import Settings
    from skylake.sky.catalog_columns import CatalogColumns

    _clear(folder)
    simulated = folder / "archive"
    make(scenario_from(None, SCENARIO | ({"frames_per_night": frames} if frames else {})), simulated, workers)
    Lake.create(folder / "lake", Settings(workers=workers or 0))
    lake = open_lake(folder / "lake")
    columns = CatalogColumns(
        ra="ra",
        dec="dec",
        id="id",
        pm_ra="pmra",
        pm_dec="pmdec",
        magnitudes={"V": "V", "B": "B"},
        magnitude_errors={"V": "V_err", "B": "B_err"},
        colours={"B-V": "B-V"},
    )
    nights = sorted((simulated / "frames").iterdir())
    with progress() as shown:
        catalog = import_catalog(
            lake, "simcat", "table", [simulated / "catalog.parquet"], columns, progress=shown
        )
        index_imported(lake, catalog, shown)
        outcomes = []
        with start_workers(lake, None, workers) as pool:
            for night in nights:
                options = NightlyOptions(cameras.load("sim").name, (night,), folder / "report")
                # Copies and pages are made once, of all nights.
                without = () if night == nights[-1] else ("compact", "mirror", "report")
                outcomes.append(run_nightly(lake, options, pool, shown, without))
    star = _variable_picture(lake, simulated, folder / "report")
    _print_results(lake, folder, simulated, star)
    # The simulation rejects some frames on purpose; nothing else may go wrong.
    wrong = [sentence for outcome in outcomes for sentence in (*outcome.warnings, *outcome.failures)]
    if not wrong and not any(row[2] is not None for row in _nights(lake.snapshot(), simulated)):
        wrong.append("no frame of the demo got a zeropoint; please report it")
    for sentence in wrong:
        show.complain(sentence)
    ctx.exit(3 if wrong else 0)


def _clear(folder: Path) -> None:
    """Make the folder; one that an earlier demo made is replaced, any other is left alone."""
    from skylake.errors import SkylakeError, UsageError

    try:
        if folder.is_dir() and any(folder.iterdir()):
            if not (folder / _MARK).is_file():
                raise UsageError(
                    f"{folder}: the folder is not empty; name a new one, as in `skylake demo DIR`"
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _MARK).touch()
    except OSError as error:
        raise SkylakeError(f"{folder}: the demo cannot be written there ({error.strerror})") from error


def _variable_picture(lake: Lake, simulated: Path, out: Path) -> dict[str, Any] | None:
    """Draw the light curve of the simulated RR Lyrae star, and return what is known of it."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from skylake.errors import LakeError
    from skylake.report.curves import curve_at
    from skylake.report.stars.star_picture import curve_figure
    from skylake.report.style import save

    stars = pq.read_table(simulated / "truth" / "stars.parquet")
    known = stars.filter(pc.equal(stars["variable_class"], "rr_lyrae_ab")).to_pylist()
    if not known:
        return None
    star = known[0]
    try:
        curve = curve_at(lake.snapshot(), star["ra_deg"], star["dec_deg"], 30.0)
    except LakeError:
        return None
    save(curve_figure(curve), out / "variable.png")
    result: dict[str, Any] = star | {"object_id": curve["object_id"], "points": len(curve["points"])}
    return result


def _print_results(lake: Lake, folder: Path, simulated: Path, star: dict[str, Any] | None) -> None:
    """Print the results, and where to look."""
    snapshot = lake.snapshot()
    click.echo("\nFrames by status")
    rows = [(row["status"], row["reason"], row["count_all"]) for row in _statuses(snapshot)]
    show.table(rows, ["status", "reason", "frames"])
    click.echo(f"\n{snapshot.n_rows('sources'):,} sources, {snapshot.n_rows('matches'):,} of them matched")
    click.echo("\nZeropoint of each night [mag], and the pulls (zp - truth) / error of its clear frames")
    header = (
        "night",
        "frames",
        "zeropoint",
        "error",
        "clear",
        "zp - truth [mmag]",
        "largest pull",
        "mean",
        "width",
    )
    show.table(_nights(snapshot, simulated), header)
    new = _new_targets(snapshot)
    if new:
        click.echo("\nNew sources became targets, which are measured on all frames, earlier ones too")
        columns = (
            "star_id",
            "ra_deg",
            "dec_deg",
            "n_points",
            "n_detected",
            "mag_mean",
            "mjd_first",
            "mjd_last",
        )
        show.table(new, columns)
    click.echo("\nWhere to look")
    places = [
        ("the lake", lake.root),
        ("the database", f"{lake.layout.database} (skylake mirror {lake.root} --keep-running)"),
        ("the report", folder / "report" / "index.html"),
        *(("a picture", path) for path in sorted((folder / "report").glob("*.png"))),
    ]
    show.table(places, ["what", "where"])
    click.echo("\nTry")
    click.echo(
        f'  skylake sql {lake.root} "SELECT night, status, count(*) FROM frames GROUP BY ALL ORDER BY ALL"'
    )
    if star is not None:
        click.echo(f"  skylake lc {lake.root} --object {star['object_id']} --plot rr-lyrae.png")


def _statuses(snapshot: Snapshot) -> list[dict[str, Any]]:
    from skylake.report.collect import counts_of_status

    return counts_of_status(snapshot)


def _new_targets(snapshot: Snapshot) -> list[list[Any]]:
    """Return a row per target that was measured, in the first night by a backfill."""
    query = """
        SELECT star_id, round(ra_deg, 5), round(dec_deg, 5), n_points, n_detected, round(mag_mean, 3),
               round(mjd_first, 3), round(mjd_last, 3)
        FROM forced_lightcurves ORDER BY star_id
    """
    with snapshot.duckdb() as connection:
        return [list(row) for row in connection.execute(query).fetchall()]


def _nights(snapshot: Snapshot, simulated: Path) -> list[list[Any]]:
    """Return a row per night: its zeropoint, and how far its clear frames are from the truth."""
    truth = str(simulated / "truth" / "frames.parquet").replace("'", "''")
    query = f"""
        SELECT n.night, n.n_frames, round(n.zp_median, 4), round(n.zp_median_err, 4), count(*),
               round(1000 * median(z.zp - t.zp), 2), round(max(abs(z.zp - t.zp) / z.zp_err), 2),
               round(avg((z.zp - t.zp) / z.zp_err), 2), round(stddev_pop((z.zp - t.zp) / z.zp_err), 2)
        FROM nights AS n
        JOIN frames AS f USING (night)
        JOIN zeropoints AS z USING (frame_id)
        JOIN '{truth}' AS t ON f.file LIKE '%' || t.file
        WHERE t.clear AND z.zp IS NOT NULL
        GROUP BY ALL ORDER BY ALL
    """
    with snapshot.duckdb() as connection:
        return [list(row) for row in connection.execute(query).fetchall()]
