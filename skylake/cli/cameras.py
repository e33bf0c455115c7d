"""``skylake camera``: profiles, and how they read headers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.arguments import camera_option, lake_argument, open_lake
from skylake.cli.learning import geometry, learn

if TYPE_CHECKING:
    from skylake.cameras import HeaderReading, Profile, Reading
    from skylake.core.camera import Camera


#: A scale of the WCS that differs by more from that of the profile is told.
_SCALE_TOLERANCE = 0.02


#: What is told of a camera whose headers have no WCS.
#: Names that instruments give to cards whose customary ones are missing.
_MAY_HOLD = {
    "exposure_s": (
        "EXPOSED",
        "EXPTIME",
        "EXPOSURE",
        "EXP_TIME",
        "ITIME",
        "INTTIME",
        "TEXP",
        "DARKTIME",
        "ELAPTIME",
    ),
    "gain": ("GAIN", "EGAIN", "GAIN1", "CCDGAIN", "GTGAIN1", "INSTGAIN", "ADCGAIN", "DETGAIN"),
    "read_noise": ("RDNOISE", "READNOIS", "READNOISE", "RON", "CCDNOISE", "RDNOISE1", "RNOISE", "DETRON"),
    "filter": (
        "FILTER",
        "FILTER1",
        "FILTER2",
        "FILTERID",
        "FILTNAM",
        "FILTNAME",
        "INSFILTE",
        "FILT_ID",
        "BAND",
    ),
    "saturation_adu": ("SATURATE", "SATLEVEL", "MAXLIN", "SATURAT", "MAXADU", "DATAMAX"),
}
_SOLVED = (
    "headers of this camera have no WCS; an ingest finds it from the stars if the lake has a catalog with the "
    "patterns that `skylake catalog index` makes"
)


@click.group()
def camera() -> None:
    """Camera profiles, how they read headers, and the distortion of cameras."""


camera.add_command(learn)
camera.add_command(geometry)


@camera.command("list")
@show.as_json
def list_(as_json: bool) -> None:
    """List the profiles that come with skylake."""
    from skylake import cameras

    found = [(name, cameras.load(name).base.description) for name in cameras.names()]
    value = [{"name": name, "description": text} for name, text in found]
    show.result(value, as_json, lambda: show.table(found, ["name", "description"]))


@camera.command("show")
@click.argument("name")
@click.option("--at", "date", metavar="DATE", help="Show the camera as it was on a date, such as 2013-06-10.")
def show_(name: str, date: str | None) -> None:
    """Show the profile NAME (or a .toml file), with its dated blocks, as JSON."""
    import dataclasses
    import json

    from skylake import cameras
    from skylake.cameras.clock import calendar_mjd
    from skylake.cameras.keep import to_json
    from skylake.errors import UsageError

    profile = cameras.load(name)
    if date is None:
        click.echo(to_json(profile), nl=False)
        return
    parts = date.split("-")
    mjd = (
        calendar_mjd(*map(int, parts)) if len(parts) == 3 and all(part.isdigit() for part in parts) else None
    )
    if mjd is None:
        raise UsageError(f"{date!r} is no date; write it as 2013-06-10")
    click.echo(json.dumps(dataclasses.asdict(profile.at(mjd)), indent=1))


@camera.command()
@click.option(
    "--camera",
    "-c",
    "name",
    default="generic",
    show_default=True,
    metavar="C",
    help="Profile, or a .toml file.",
)
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE…",
)
@show.as_json
@click.pass_context
def check(ctx: click.Context, name: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Show what the header of each FILE gives under a profile, and from which card.

    The exit status is 1 if a frame could not be processed. A frame whose profile says header.wcs = "none" can be: an
    ingest finds where it points from its stars, if the lake has a catalog.
    """
    from skylake import cameras

    chips = cameras.load_chips(name)
    checked = [_check(file, one) for file in files for one in chips if _claims(one, chips, file)]

    def text() -> None:
        for one in checked:
            click.echo(f"{one['file']}: {'ok' if one['usable'] else one['reason']}")
            if one["message"]:
                click.echo(f"  {one['message']}")
            if one["readings"]:
                show.table(
                    [
                        (f"  {r['quantity']}", _short(r["value"]), r["source"], r["verdict"], r["note"])
                        for r in one["readings"]
                    ],
                    ["  quantity", "value", "from", "verdict", "note"],
                )
            click.echo()

    show.result(checked, as_json, text)
    ctx.exit(0 if all(one["usable"] for one in checked) else 1)


def _claims(profile: Profile, chips: tuple[Profile, ...], file: Path) -> bool:
    """Tell whether a file is read under the profile of a chip, as an ingest would."""
    from skylake.flow.mosaics import chips_of_files

    if not profile.base.place.has_own_files:
        return True
    return chips[chips_of_files([str(file)], chips)[0]] is profile


def _short(value: object) -> object:
    return f"{value:.8f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def _with_dates(readings: list[Reading], header: HeaderReading) -> list[Reading]:
    """Return the readings with the start as a date, and the night, which people compare with their logs."""
    from datetime import UTC, datetime, timedelta

    from skylake.cameras import Reading
    from skylake.core.batch import night_of

    if header.mjd_start is None or header.mjd_mid is None:
        return readings
    start = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=header.mjd_start)
    dates = [
        Reading("start_utc", f"{start:%Y-%m-%dT%H:%M:%S}", "mjd_start"),
        Reading("night", night_of(header.mjd_mid, header.camera.site.longitude_deg), "mjd_mid"),
    ]
    place = next((n for n, one in enumerate(readings, 1) if one.quantity == "mjd_start"), len(readings))
    return [*readings[:place], *dates, *readings[place:]]


def _further_images(n_further: int, extension: int) -> Reading:
    """Tell that a file holds more images than the one that is taken."""
    from skylake.cameras import Reading

    note = f"only HDU {extension} is taken; name the right one in header.extension of the profile"
    return Reading("images", n_further + 1, f"HDU {extension}", "ambiguous", note)


def _telescope(header: Any, camera: Camera, mjd: float | None) -> list[Reading]:
    """Return where the cards of the telescope put the centre of the image, and the position angle of its y axis."""
    from skylake.cameras import Reading
    from skylake.core.attitudes import matrix_of_place, pointing_of_attitude
    from skylake.image.seeds import telescope_attitude

    attitude = telescope_attitude(header, camera, mjd)
    if attitude is None:
        return []
    matrix = matrix_of_place(*camera.place_arcsec, camera.place.angle_deg)
    ra, dec, angle = pointing_of_attitude(matrix @ attitude)
    return [
        Reading("telescope", f"{ra:.4f} {dec:+.4f}", "cards"),
        Reading("telescope_rotation", angle, "cards"),
    ]


def _scale(pixel_scale_arcsec: float, camera: Camera) -> Reading:
    """Tell the scale of the WCS, and whether it is that of the profile."""
    from skylake.cameras import Reading

    told = camera.optics.pixel_scale_arcsec
    if told is None or abs(pixel_scale_arcsec / told - 1.0) <= _SCALE_TOLERANCE:
        return Reading("pixel_scale_arcsec", pixel_scale_arcsec, "WCS")
    note = f"the profile says {told:g}; mend optics.pixel_scale_arcsec unless the WCS is wrong"
    return Reading("pixel_scale_arcsec", pixel_scale_arcsec, "WCS", "ambiguous", note)


def _site(header: HeaderReading) -> list[Reading]:
    """Tell what a profile without a site leaves unknown."""
    from skylake.cameras import Reading

    if header.camera.site.known:
        return []
    note = "nights run from noon to noon UTC, and neither Sun, Moon nor airmass is known; give [site] in the profile"
    return [Reading("site", None, "profile", "missing", note)]


def _cards_of_use(cards: Any, reading: HeaderReading) -> list[Reading]:
    """Name cards that customarily hold what the profile did not find, under names that it does not know."""
    from skylake.cameras import Reading

    header = reading.camera.header
    looked_at = {
        "exposure_s": header.exposure.cards, "gain": header.gain.cards, "read_noise": header.read_noise.cards,
        "filter": header.filter, "saturation_adu": header.saturation.cards,
    }  # fmt: skip
    keys = {"exposure_s": "exposure.cards", "gain": "gain.cards", "read_noise": "read_noise.cards", "filter": "filter",
            "saturation_adu": "saturation.cards"}  # fmt: skip
    lacking = {
        one.quantity
        for one in reading.readings
        # A filter that the profile has no band for was found.
        if one.verdict in ("assumed", "missing") and not (one.quantity == "filter" and one.value)
    }
    found = []
    for quantity, known in looked_at.items():
        near = [name for name in _MAY_HOLD[quantity] if name in cards and name not in known]
        if quantity in lacking and near:
            told = ", ".join(f"{name} = {cards[name]}" for name in near)
            note = f"the header has {told}; if that is it, name the card in header.{keys[quantity]} of the profile"
            found.append(Reading(quantity, None, " ".join(near), "ambiguous", note))
    return found


def _sun(header: HeaderReading) -> list[Reading]:
    """Tell the altitude of the Sun where time and site are known: a wrong zone or longitude shows in it."""
    from skylake.cameras import Reading
    from skylake.core.ephemeris import sun_and_moon

    camera = header.camera
    if header.mjd_mid is None or not camera.site.known:
        return []
    altitude = float(sun_and_moon(header.mjd_mid, camera.site).sun_altitude_deg)
    gate = camera.gates.get("sun_altitude_deg")
    if altitude > 0.0:
        note = "the Sun is up; see whether header.time.zone_hours and site.longitude_deg are right"
        return [Reading("sun_altitude_deg", altitude, "mjd_mid, site", "ambiguous", note)]
    if gate is not None and not gate.passes(altitude):
        note = "outside gates.sun_altitude_deg, as in twilight"
        return [Reading("sun_altitude_deg", altitude, "mjd_mid, site", "ok", note)]
    return [Reading("sun_altitude_deg", altitude, "mjd_mid, site")]


def _check(file: Path, profile: Profile) -> dict[str, Any]:
    """Read the header of a file as ingest would."""
    import dataclasses

    from skylake.cameras import Reading, describe_header, read_header
    from skylake.cameras.unused import unused_readings
    from skylake.errors import FrameError
    from skylake.image.astrometry import header_pointing
    from skylake.image.calibrate import calibrate
    from skylake.image.read import open_image, read_file

    result: dict[str, Any] = {
        "file": str(file),
        "usable": False,
        "reason": None,
        "message": None,
        "readings": [],
    }
    readings: list[Reading] = []
    try:
        raw = open_image(read_file(file), profile.base.header.extension)
        reading = read_header(raw.header, profile, file.name)
        readings = _with_dates(describe_header(raw.header, reading), reading)
        if raw.n_further and profile.base.header.extension is None:
            readings.append(_further_images(raw.n_further, raw.extension))
        readings += _cards_of_use(raw.header, reading) + unused_readings(reading.camera)
        readings += _telescope(raw.header, reading.camera, reading.mjd_mid)
        image = calibrate(raw, reading.camera, reading.saturation_adu)
        readings += _site(reading) + _sun(reading)
        if reading.problem is not None:
            result["reason"], result["message"] = str(reading.problem[0]), reading.problem[1]
        elif reading.camera.header.wcs == "none" and reading.camera.astrometry.solve:
            readings.append(Reading("centre", None, "the stars", "ok", _SOLVED))
            result["usable"] = True
        else:
            shape = (image.pixels.shape[0], image.pixels.shape[1])
            pointing = header_pointing(raw.header, reading.camera, shape, image.offset, image.raw_step)
            place = f"{pointing.ra_deg:.4f} {pointing.dec_deg:+.4f}"
            readings.append(Reading("centre", place, "WCS"))
            readings.append(_scale(pointing.pixel_scale_arcsec, reading.camera))
            result["usable"] = True
    except FrameError as error:
        result["reason"], result["message"] = error.reason, str(error)
    result["readings"] = [dataclasses.asdict(one) for one in readings]
    return result


_MOSAIC_COLUMNS = [
    "chip", "x_arcsec", "x_err_arcsec", "y_arcsec", "y_err_arcsec", "angle_deg", "angle_err_deg", "scale_arcsec",
    "dx_arcsec", "dy_arcsec", "dangle_deg", "exposures", "scatter_arcsec",
]  # fmt: skip


@camera.command()
@lake_argument
@camera_option
@show.as_json
@click.pass_context
def mosaic(ctx: click.Context, lake: Path, camera_name: str, as_json: bool) -> None:
    """Learn where the chips of a camera are in its focal plane, from all its frames in LAKE.

    Offsets and angles are those of all exposures together, with errors, and stand beside those of the profile (dx, dy,
    dangle); they are kept in the lake, and later frames start from them. `skylake ingest` does the same after
    each night.
    Frames whose header tells another rotation than their stars, or that contradict the other chips, are named;
    the exit status is 1 then.
    """
    from dataclasses import asdict

    from skylake import cameras
    from skylake.errors import UsageError
    from skylake.flow.focalplanes import learn_focal_plane

    chips = cameras.load_chips(camera_name)
    if len(chips) < 2:
        raise UsageError(f"{camera_name}: the profile has no [[chip]]; there is nothing to learn")
    report = learn_focal_plane(open_lake(lake), chips)

    def text() -> None:
        show.table([[row[name] for name in _MOSAIC_COLUMNS] for row in report.chips], _MOSAIC_COLUMNS)
        if report.telescope:
            told = report.telescope
            click.echo(
                f"telescope: {told['frames']} frames are {told['offset_arcsec']:.1f} arcsec from where cards "
                f"put them, turned by {told['rotation_deg']:.3f} +- {told['rotation_scatter_deg']:.3f} degrees"
            )

    show.result(asdict(report), as_json, text)
    for one in report.odd:
        show.complain(f"{one['file']}: {one['why']}")
    if report.apart:
        show.complain(
            f"{', '.join(report.apart)}: no exposure in common connects them with the other chips, so where they are "
            "to these is not known"
        )
    if not report.chips:
        show.complain("no chip shares two exposures with another in which stars tell where both point")
    ctx.exit(1 if report.odd or not report.chips else 0)
