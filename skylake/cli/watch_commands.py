"""``skylake watch``: stars and places of which a user wants to hear what has changed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion, show
from skylake.cli.arguments import Number, lake_argument, night, open_lake

if TYPE_CHECKING:
    from skylake.lake import Lake, Snapshot
    from skylake.lake.storage.watch_lists import WatchedPlace, WatchList

_ADD_EXAMPLE = """\b
skylake watch add LAKE novae stars.csv --by 0.3 --command "mail -s novae me@example.org"
skylake watch add LAKE bulge --moc bulge.fits --from 20240401
"""

_name_argument = click.argument("name", shell_complete=completion.watch_lists)


@click.group()
def watch() -> None:
    """Watch stars, places or parts of the sky, and hear once of what has changed there.

    `skylake aggregate` and `skylake run nightly` judge each new night, write what has changed to the table `alerts`,
    and send it to the command or webhook of the list. Lists are kept in the lake, commands and webhooks in your own
    configuration, ~/.config/skylake/config.toml.
    """


@watch.command(epilog=_ADD_EXAMPLE)
@lake_argument
@click.argument("name")
@click.argument(
    "file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="[FILE]"
)
@click.option(
    "--moc",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A coverage map (FITS, JSON or text): all stars in it are watched.",
)
@click.option(
    "--radius",
    type=Number(0.1, 3600.0),
    default=10.0,
    show_default=True,
    metavar="ARCSEC",
    help="How far from its place in FILE a star may be.",
)
@click.option(
    "--by",
    "by_mag",
    type=Number(0.0, 30.0),
    default=0.1,
    show_default=True,
    metavar="MAG",
    help="Least change.",
)
@click.option(
    "--sigma",
    type=Number(1.0, 100.0),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Least change in standard deviations; by 5 a constant star differs in one of 1.7 million nights.",
)
@click.option(
    "--from",
    "first",
    type=night,
    metavar="NIGHT",
    help="First night to watch, YYYYMMDD; the newest of the lake otherwise.",
)
@click.option("--command", metavar="CMD", help="Command that gets new alerts as JSON on its standard input.")
@click.option("--webhook", metavar="URL", help="URL that new alerts are posted to as JSON.")
def add(
    lake: Path,
    name: str,
    file: Path | None,
    moc: Path | None,
    radius: float,
    by_mag: float,
    sigma: float,
    first: int | None,
    command: str | None,
    webhook: str | None,
) -> None:
    """Watch the stars of FILE, or all in a coverage map, as the list NAME.

    FILE has positions, identifiers or names of stars, as CSV, ECSV, FITS, VOTable, Parquet, or as a text with a star
    on each line. Names are those of the catalogs of the lake. Of a table with object_id, ra and dec, the star of that
    identifier is watched where the lake has it within --radius of the position.
    """
    from skylake.lake.storage.watch_lists import WatchList, add_watch_list
    from skylake.settings import set_user_delivery
    from skylake.sky.sky_region import SkyRegion

    if (file is None) == (moc is None):
        raise click.UsageError("name a file of stars, or a coverage map by --moc; one of both")
    opened = open_lake(lake)
    snapshot = opened.snapshot()
    delivery = _delivery(command, webhook)
    made = WatchList(
        name,
        () if file is None else tuple(_places(snapshot, file, radius)),
        "" if moc is None else SkyRegion.of_moc(moc).moc_text,
        _newest_night(snapshot) if first is None else first,
        radius,
        by_mag,
        sigma,
        (file or moc or Path()).name,
        delivery is not None,
    )
    add_watch_list(opened.layout, made)
    if delivery is not None:
        set_user_delivery(opened.root, name, delivery)
    click.echo(f"watch: {name} watches {_what(made)} from night {made.from_night} on")


@watch.command("list")
@lake_argument
@show.as_json
def list_(lake: Path, as_json: bool) -> None:
    """List the watch lists of LAKE."""
    from skylake.lake.storage.watch_lists import delivered_alerts, watch_lists

    opened = open_lake(lake)
    alerts = opened.snapshot().read("alerts", ["alert_id", "watch_list"]).to_pylist()
    rows = []
    for one in watch_lists(opened.layout):
        mine = {row["alert_id"] for row in alerts if row["watch_list"] == one.name}
        rows.append(
            {
                "name": one.name,
                "watches": _what(one),
                "from_night": one.from_night,
                "radius_arcsec": None if one.moc else one.radius_arcsec,
                "by_mag": one.by_mag,
                "sigma": one.sigma,
                "alerts": len(mine),
                "new": len(mine - delivered_alerts(opened.layout, one.name)),
                "sent_to": _sent_to(opened, one),
            }
        )

    def text() -> None:
        if rows:
            show.table([list(row.values()) for row in rows], list(rows[0]))
        else:
            click.echo("there is no watch list; make one with `skylake watch add`")

    show.result(rows, as_json, text)


@watch.command()
@lake_argument
@_name_argument
def remove(lake: Path, name: str) -> None:
    """Remove the watch list NAME from LAKE; its alerts stay in the table."""
    from skylake.lake.storage.watch_lists import remove_watch_list
    from skylake.settings import set_user_delivery

    opened = open_lake(lake)
    remove_watch_list(opened.layout, name)
    set_user_delivery(opened.root, name, None)
    click.echo(f"watch: {name} is removed")


@watch.command()
@lake_argument
@_name_argument
def test(lake: Path, name: str) -> None:
    """Send a made-up alert to the command or webhook of the watch list NAME."""
    from skylake.errors import UsageError
    from skylake.flow.watching.deliver_alerts import send
    from skylake.lake.storage.watch_lists import read_watch_list
    from skylake.settings import user_delivery, user_file

    opened = open_lake(lake)
    listed = read_watch_list(opened.layout, name)
    delivery = user_delivery(opened.root, name)
    if delivery is None:
        raise UsageError(
            f"{user_file()}: nothing says where the alerts of {name} go; remove the list, and add it again with "
            "--command or --webhook"
        )
    send(delivery, opened.root, name, [_sample(listed)], is_test=True)
    click.echo(f"watch: a made-up alert of {name} was sent to {_sent_to(opened, listed)}")


def _delivery(command: str | None, webhook: str | None) -> Any:
    """Return where alerts go; None for nowhere."""
    import shlex
    import shutil

    from skylake.settings import Delivery

    if command is not None and webhook is not None:
        raise click.UsageError("--command and --webhook exclude each other; make two lists for both")
    if webhook is not None and not webhook.startswith(("http://", "https://")):
        raise click.UsageError(f"--webhook {webhook}: this is no URL; write https://…")
    if command is not None:
        try:
            words = shlex.split(command)
        except ValueError:
            words = []
        if not words:
            raise click.UsageError(f"--command {command}: this is no command; close its quotation marks")
        if shutil.which(words[0]) is None:
            raise click.UsageError(
                f"--command {command}: this machine has no program {words[0]}; name its whole path, or install it"
            )
    return Delivery(command or "", webhook or "") if command or webhook else None


def _places(snapshot: Snapshot, file: Path, radius: float) -> list[WatchedPlace]:
    """Return the stars of a file with their positions; of one that the lake knows by its identifier, where that is."""
    from skylake.core.sky_positions import position_of
    from skylake.errors import UnknownName, UsageError
    from skylake.lake.storage.watch_lists import WatchedPlace
    from skylake.report.stars.star_curves import known_star
    from skylake.report.stars.star_list import read_named_stars
    from skylake.report.stars.star_names import places_in_catalogs
    from skylake.report.stars.which_star import unknown_identifiers

    stars = list(dict.fromkeys(read_named_stars(file)))
    if not stars:
        raise UsageError(f"{file}: the file names no star; write one on each line")
    known = {one: known_star(snapshot, one, radius) for one in stars if one.object_id}
    if by_place := [one.object_id for one, star in known.items() if star is None]:
        show.complain(unknown_identifiers(by_place, len(known), radius))
    places = {one: position_of(one.star) for one in stars}
    places |= {one: (star.ra_deg, star.dec_deg) for one, star in known.items() if star is not None}
    named = places_in_catalogs(snapshot, [one.star for one, place in places.items() if place is None])
    unknown = [one.star for one, place in places.items() if place is None and one.star not in named]
    if unknown:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise UnknownName(
            f"{file}: no catalog of the lake has {unknown[0]}{more}; name stars by position, or import a catalog that "
            "has them"
        )
    return [WatchedPlace(one.called, *(places[one] or named[one.star][0])) for one in stars]


def _newest_night(snapshot: Snapshot) -> int:
    return max((part.night or 0 for part in snapshot.parts("frames").values()), default=0)


def _what(listed: WatchList) -> str:
    """Return what a list watches, in words."""
    if not listed.moc:
        return "1 place" if len(listed.places) == 1 else f"{len(listed.places)} places"
    import math

    ranges = listed.ranges
    area = float((ranges[:, 1] - ranges[:, 0]).sum()) / (12 << 58) * 129600.0 / math.pi
    return f"{area:.4g} square degrees"


def _sent_to(lake: Lake, listed: WatchList) -> str:
    """Return where the alerts of a list go; of webhooks the path is left out, which is often a secret."""
    from skylake.settings import user_delivery

    delivery = user_delivery(lake.root, listed.name)
    if delivery is None:
        return "another user" if listed.is_delivered else ""
    return delivery.command or "/".join(delivery.webhook.split("/")[:3])


def _sample(listed: WatchList) -> dict[str, Any]:
    """Return a made-up alert of a list."""
    from skylake.core.sphere import INDEX_ORDER, healpix_centre, healpix_index
    from skylake.table.alerts import BRIGHTER, alerts_table

    if listed.places:
        star, ra, dec = listed.places[0].star, listed.places[0].ra_deg, listed.places[0].dec_deg
    else:
        centre = healpix_centre([int(listed.ranges[0, 0])], INDEX_ORDER)
        star, ra, dec = None, float(centre[0][0]), float(centre[1][0])
    row = {
        "watch_list": listed.name,
        "band": "V",
        "kind": BRIGHTER,
        "star": star,
        "catalog": "sample",
        "object_id": int(healpix_index([ra], [dec])[0]),
        "ra_deg": ra,
        "dec_deg": dec,
        "measured": "detected",
        "mag": 10.0,
        "mag_random_err": 0.01,
        "past_mag": 12.0,
        "past_scatter": 0.02,
        "n_past_nights": 30,
        "difference": -2.0,
        "difference_err": 0.02,
        "significance": -30.0,
        "false_alarm": 0.0,
        "n_comparison": 20,
        "n_points": 5,
        "n_good": 5,
        "flags": 0,
        "mjd_mid": 60000.0,
        "frame_id": 0,
    }
    found: dict[str, Any] = alerts_table([row], "sample", listed.from_night).to_pylist()[0]
    return found
