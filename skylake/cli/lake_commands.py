"""``skylake init``, ``status`` and ``path``."""

from __future__ import annotations

import dataclasses
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import (
    as_of_option,
    lake_argument,
    open_lake,
    open_snapshot,
    place_of_workers,
    readable_lake_argument,
    require_table,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from skylake.lake import Lake, Snapshot
    from skylake.settings import Catalogs


@click.command()
@lake_argument
@click.option(
    "--pixel-order",
    type=click.IntRange(0, 8),
    default=2,
    show_default=True,
    help="HEALPix order of the pixels into which tables are divided at first: 2 for a camera that sees degrees, 0 or "
    "1 for a fisheye. Dense pixels are divided later; a table that has rows does not become coarser.",
)
@click.option(
    "--map-order", type=click.IntRange(0, 13), default=7, show_default=True, help="HEALPix order of maps."
)
@click.option(
    "--cluster",
    type=place_of_workers,
    metavar="WHERE",
    default="local",
    show_default=True,
    help="Where frames are processed by default: local, inline or slurm.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    default=0,
    help="Worker processes; 0, the default, for one per core.",
)
def init(lake: Path, pixel_order: int, map_order: int, cluster: str, workers: int) -> None:
    """Make an empty lake in the folder LAKE."""
    from skylake.errors import UsageError
    from skylake.lake import Lake
    from skylake.settings import Settings, user_section

    if "://" in cluster:
        raise UsageError(
            f'a lake keeps no address; make it without --cluster, and write `cluster = "{cluster}"` below '
            f"{user_section(lake)}"
        )
    Lake.create(
        lake, Settings(pixel_order=pixel_order, map_order=map_order, cluster=cluster, workers=workers)
    )
    name = shlex.quote(str(lake))
    click.echo(
        f"made the lake {lake}; next: skylake catalog import {name} NAME …, skylake run nightly {name} …"
    )


@click.command()
@readable_lake_argument
@click.option(
    "--last",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the last N nights, and files without a time; counts are of all nights.",
)
@as_of_option
@show.as_json
def status(lake: Path, last: int | None, as_of: str | None, as_json: bool) -> None:
    """Report what a lake holds and what is out of date: tables, frames by status and reason, nights, catalogs.

    Parts of derived tables are out of date for one of these reasons: new (not made yet), inputs (the rows that they
    are made from have changed), catalog, parameters (the profile has changed), method (of the calibration),
    star_magnitudes (there are newer ones), schema, upstream (what they are made from is out of date), orphaned (their
    inputs are gone) and lost (a file is missing). `calibrate` and `aggregate` make just those again. Light curves are
    counted in blocks: a star has one for each band, camera and night. A table with a missing, truncated or unknown
    file is reported on standard error, with status 1.
    """
    import pyarrow.compute as pc

    from skylake.core.batch import UNDATED
    from skylake.core.counted import counted
    from skylake.report.collect import counts_of_status, frames_without_zeropoint, undated_frames

    opened = open_lake(lake)
    snapshot = opened.snapshot(as_of)
    tables = {name: snapshot.n_rows(name) for name in snapshot.tables}
    frames = counts_of_status(snapshot)
    nights = snapshot.read(
        "nights",
        ["camera", "night", "band", "n_frames", "n_ok", "zp_median", "zp_median_err"],
        filter=pc.field("night") != UNDATED,
    )
    if last is not None:
        nights = _last_nights(nights, last)
    value = {
        "lake": str(opened.root),
        "snapshot": snapshot.number,
        "catalog": dataclasses.asdict(common := _common_catalogs(opened, snapshot)),
        "catalog_of_cameras": _own_catalogs(opened, snapshot, common),
        "catalogs": snapshot.catalogs(),
        "tables": tables,
        "damaged": _damaged(snapshot),
        "outdated": _outdated(opened, snapshot) if as_of is None else None,
        "frames": frames,
        "without_zeropoint": frames_without_zeropoint(snapshot),
        "undated": undated_frames(snapshot),
        "nights": nights.to_pylist(),
    }

    def text() -> None:
        click.echo(f"{opened.root}, snapshot {snapshot.number}")
        click.echo(
            f"catalogs: {', '.join(snapshot.catalogs()) or 'none'}; {_catalogs_text(value['catalog'])}"
        )
        for camera, own in value["catalog_of_cameras"].items():
            click.echo(f"{camera}: {_catalogs_text(own)}")
        click.echo()
        states = value["outdated"] or {}
        show.table(
            [
                (name, count, snapshot.schema(name).unit_of_count, _state_text(states.get(name)))
                for name, count in tables.items()
            ],
            ["table", "count", "of", "out of date"],
        )
        click.echo()
        show.table(
            [(row["camera"], row["status"], row["reason"], row["count_all"]) for row in frames],
            ["camera", "status", "reason", "frames"],
        )
        for camera, number in value["without_zeropoint"].items():
            frames_have = counted(number, "good frame has", "good frames have")
            click.echo(
                f"{camera}: {frames_have} no zeropoint; see `skylake calibrate {shlex.quote(str(lake))}`"
            )
        if value["undated"]:
            click.echo()
            show.table(
                [(row["camera"], row["came"], row["n_frames"]) for row in value["undated"]],
                ["camera", "without a time, came", "frames"],
            )
        if nights.num_rows:
            click.echo()
            show.table([list(row.values()) for row in nights.to_pylist()], nights.column_names)

    show.result(value, as_json, text)
    if value["damaged"]:
        raise SystemExit(1)


def _last_nights(nights: pa.Table, last: int) -> pa.Table:
    """Return the rows of the newest nights."""
    import pyarrow as pa
    import pyarrow.compute as pc

    newest = sorted(set(nights["night"].to_pylist()))[-last:]
    return nights.filter(pc.is_in(nights["night"], pa.array(newest, nights["night"].type)))


def _own_catalogs(lake: Lake, snapshot: Snapshot, common: Catalogs) -> dict[str, dict[str, str]]:
    """Return the catalogs of cameras that have others than most."""
    own = _catalogs_of_cameras(lake, snapshot)
    return {camera: dataclasses.asdict(one) for camera, one in own.items() if one != common}


def _common_catalogs(lake: Lake, snapshot: Snapshot) -> Catalogs:
    """Return the catalogs of the settings, and if they name none to calibrate with, that of all cameras."""
    named = lake.settings.catalog
    own = {one.calibrate for one in _catalogs_of_cameras(lake, snapshot).values()} or set(snapshot.catalogs())
    return dataclasses.replace(named, calibrate=own.pop()) if not named.calibrate and len(own) == 1 else named


def _catalogs_of_cameras(lake: Lake, snapshot: Snapshot) -> dict[str, Catalogs]:
    """Return the catalogs in force for each camera."""
    from skylake.errors import SkylakeError

    catalogs = {}
    cameras = {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}
    for camera in sorted(cameras):
        # `_outdated` reports a profile that cannot be read.
        with suppress(SkylakeError):
            catalogs[camera] = dataclasses.replace(
                lake.catalogs(camera), calibrate=lake.calibrating_catalog(camera)
            )
    return catalogs


def _catalogs_text(chosen: dict[str, str]) -> str:
    return ", ".join(f"{use}: {name or 'none'}" for use, name in chosen.items())


def _damaged(snapshot: Snapshot) -> dict[str, str]:
    """Return what is wrong with the files of tables, and report it."""
    from skylake.errors import LakeError

    damages = {}
    for name in snapshot.tables:
        try:
            snapshot.version(name).require_files()
        except LakeError as error:
            damages[name] = str(error)
            show.complain(damages[name])
    return damages


def _outdated(lake: Lake, snapshot: Snapshot) -> dict[str, dict[str, Any]] | None:
    """Return how many parts of each derived table are out of date, and why; None where that is not known."""
    from skylake.errors import SkylakeError
    from skylake.flow.aggregates import outdated, user_aggregates

    try:
        states = outdated(lake, snapshot)
    except SkylakeError as error:
        show.complain(f"what is out of date is not known: {error}")
        return None
    for broken in user_aggregates()[1]:
        show.complain(str(broken))
    return {
        table: {"current": state.n_current, "outdated": len(state.why), "why": state.counts}
        for table, state in states.items()
    }


def _state_text(state: dict[str, Any] | None) -> str:
    """Return the state of a table in some words."""
    if state is None:
        return ""
    if not state["outdated"]:
        return "no"
    why = ", ".join(f"{count} {why}" for why, count in state["why"].items())
    return f"{state['outdated']} of {state['current'] + state['outdated']} parts: {why}"


@click.command()
@readable_lake_argument
@click.argument("table", shell_complete=completion.tables)
@click.option("--margin", is_flag=True, help="Print the HATS collection of the table and its margin instead.")
@as_of_option
def path(lake: Path, table: str, margin: bool, as_of: str | None) -> None:
    """Print the folder of TABLE in the current snapshot, free of links.

    lsdb, DuckDB and others read lazily: give them this folder, which never changes, rather than one
    that moves on with the next commit. lsdb joins onto a table without losing pairs at the edges of
    pixels if it is given the collection, which --margin prints.
    """
    snapshot = open_snapshot(lake, as_of)
    require_table(snapshot, table)
    folder = snapshot.collection(table) if margin else snapshot.folder(table)
    if folder is None:
        from skylake.errors import LakeError

        raise LakeError(
            f"{lake}: {table} has no margin; tables of older lakes get one with the next commit to them"
        )
    click.echo(folder)
