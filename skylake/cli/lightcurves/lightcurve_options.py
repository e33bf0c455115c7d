"""The options of ``skylake lc``: which star, which of its points, and what is written."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import completion
from skylake.cli.arguments import (
    Command,
    declination,
    duration,
    duration_with_unit,
    moment,
    night,
    output_file,
    radius_arcsec,
    right_ascension,
)
from skylake.cli.sky_arguments import cone_option, moc_option, sky_region

if TYPE_CHECKING:
    from skylake.lake import Snapshot
    from skylake.report.stars.chosen_points import PointChoice
    from skylake.report.stars.star_curves import CurveChoice
    from skylake.report.stars.star_list import ListedStar
    from skylake.sky.sky_region import SkyRegion

#: As ``skylake.report.curve_fluxes.FLUX_CHOICES``, which takes time to import.
_FLUXES = ("best", "calibrated", "hybrid1", "hybrid2", "hybrid3", "psf", "aper1", "aper2", "aper3")
_TABLES = ("csv", "ecsv", "fits", "votable", "parquet", "json")
DATABASES = ("aavso", "etd", "exotic")
SUFFIXES = {"votable": "vot", "aavso": "txt", "etd": "txt", "exotic": "csv"}
#: As ``skylake.flow.curves.detrend_field.METHODS``.
_METHODS = ("ensemble", "epd", "joint", "tfa", "sysrem")
_MEASURED = ("forced", "detected", "relative")
#: A right ascension below this is no BJD: dates without their first digits.
_LEAST_BJD = 2_400_000.0


def _epoch(text: Any) -> float:
    """Read a BJD."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not _LEAST_BJD <= value < 2.0 * _LEAST_BJD:
        raise click.BadParameter(f"{text!r} is no BJD (TDB); write it as 2460408.70302")
    return value


@dataclass(frozen=True, slots=True)
class _Moment:
    """A night, YYYYMMDD, or a time, MJD."""

    night: int | None = None
    mjd: float | None = None


def _time(text: Any) -> _Moment:
    """Read a night or a time."""
    if re.fullmatch(r"\d{8}|\d{4}-\d\d-\d\d", str(text)):
        return _Moment(night=night(text))
    return _Moment(mjd=moment(text))


def _time_or_measured(text: Any) -> _Moment | str:
    return str(text) if text in _MEASURED else _time(text)


def _place(text: Any) -> Path:
    """Read the name of a file to write, or of a folder: one that ends with a slash is made."""
    path = Path(text)
    if str(text).endswith("/"):
        try:
            path.mkdir(exist_ok=True)
        except OSError as error:
            raise click.BadParameter(f"{text}: the folder cannot be made ({error.strerror})") from error
    return path if path.is_dir() else output_file(text)


@dataclass(frozen=True, slots=True)
class LightCurveOptions:
    """The options of ``skylake lc`` as they are given."""

    words: tuple[str, ...] = ()
    object_id: str | None = None
    ra: float | None = None
    dec: float | None = None
    stars_file: Path | None = None
    radius: float = 60.0
    sesame: bool = False
    measured: str | None = None
    start: _Moment | str | None = None
    end: _Moment | None = None
    band: str | None = None
    camera: str | None = None
    flux: Any = "best"
    version: int | None = None
    width: float | None = None
    period: float | None = None
    epoch: float | None = None
    detrend: Any = None
    duration: float | None = None
    form: str | None = None
    observer: str = ""
    name: str | None = None
    check: str | None = None
    is_all: bool = False
    cone: tuple[float, float, float] | None = None
    moc: Path | None = None
    out: Path | None = None
    plot: Path | None = None

    @property
    def curve_choice(self) -> CurveChoice:
        """Which measurements of a star are wanted."""
        from skylake.report.stars.star_curves import CurveChoice

        measured: Any = self.start if isinstance(self.start, str) else self.measured
        return CurveChoice(measured, self.flux, self.version, self.radius, self.sesame, self.camera)

    def require_agreement(self) -> None:
        """Refuse options that contradict each other.

        Raises
        ------
        UsageError
            Naming both, with what to do.
        """
        from skylake.errors import UsageError

        start, end = (one if isinstance(one, _Moment) else _Moment() for one in (self.start, self.end))
        nights, times = (start.night, end.night), (start.mjd, end.mjd)
        for first, last in (nights, times):
            if first is not None and last is not None and first > last:
                raise UsageError("--from is after --to; exchange them")
        if self.epoch is not None and self.period is None:
            raise UsageError("--epoch is the time of phase 0 of a period; add --period")
        if self.duration is not None and self.period is not None and self.duration >= 0.5 * self.period:
            raise UsageError("--duration is half of --period or more; give that of the transit, as 2.4h")
        # The period of a signal that is fitted with the trends folds nothing.
        folds = self.period is not None and self.detrend != "joint"
        if self.form in DATABASES and (self.width is not None or folds):
            many = " and ".join(["--bin"] * (self.width is not None) + ["--period"] * folds)
            raise UsageError(f"--format {self.form} takes single measurements; leave out {many}")
        joint = "" if self.detrend == "joint" else "--detrend joint"
        needed = (joint, "" if self.period else "--period", "" if self.epoch else "--epoch")
        if self.duration is not None and any(needed):
            raise UsageError(f"--duration is that of a transit; add {', '.join(filter(None, needed))}")
        if self.check is not None and self.form != "aavso" and self.plot is None:
            raise UsageError("--check is the check star of --format aavso and of --plot; add one of them")
        if not self.is_all and (self.cone is not None or self.moc is not None):
            raise UsageError("--cone and --moc name the part of the sky that --all exports; add --all")
        if self.is_all and (self.words or self.object_id is not None or self.stars_file is not None):
            raise UsageError("--all exports all stars of a part of the sky; leave out the names of stars")

    def point_choice(self, snapshot: Snapshot) -> PointChoice:
        """Return which points of a curve are wanted."""
        from skylake.lake.access.curve_rows import frames_of_nights
        from skylake.report.stars.chosen_points import PointChoice
        from skylake.report.stars.night_errors import night_errors

        start = self.start if isinstance(self.start, _Moment) else _Moment()
        end = self.end or _Moment()
        frames = frames_of_nights(snapshot, start.night, end.night)
        nights = None if self.width is None else night_errors(snapshot)
        return PointChoice(
            start.mjd, end.mjd, frames, self.band, self.width, self.period, self.epoch, nights, self.camera
        )

    def stars(self) -> list[ListedStar]:
        """Return the stars that are named.

        Raises
        ------
        UsageError
            If none is named, or one in two ways, or several should have one name.
        """
        from skylake.errors import UsageError
        from skylake.report.stars.star_list import ListedStar, read_named_stars, stars_of_words

        by_place = self.ra is not None and self.dec is not None
        half = (self.ra is None) != (self.dec is None)
        ways = [bool(self.words), self.object_id is not None, by_place, self.stars_file is not None]
        if sum(ways) != 1 or half:
            raise UsageError(
                "name a star: by identifier, by name or by position, as in skylake lc LAKE 188.7362 -1.3958, with "
                "--object ID or --ra and --dec, or a file of stars by --stars"
            )
        if self.stars_file is not None:
            found = read_named_stars(self.stars_file)
        elif self.object_id is not None:
            found = [ListedStar(self.object_id, self.object_id)]
        else:
            words = [f"{self.ra!r} {self.dec!r}"] if by_place else stars_of_words(self.words)
            found = [ListedStar(word, word) for word in words]
        if self.name is None:
            return found
        if len(found) > 1:
            raise UsageError(
                "--name is that of one star; name several in a column name of the file of --stars"
            )
        if (form := self._format_written()) in ("csv", "json"):
            raise UsageError(f"--name is for the headers of files, and {form} has none; leave it out")
        return [replace(one, called=self.name) for one in found]

    def _format_written(self) -> str:
        """Return the format of what is written of a star."""
        from skylake.cli.output import format_of

        if self.form is not None or self.out is None or self.out.is_dir():
            return self.form or "csv"
        return format_of(self.out)

    def region(self) -> SkyRegion:
        """Return the part of the sky whose stars are wanted."""
        from skylake.errors import UsageError

        if (self.cone is None) == (self.moc is None):
            raise UsageError("--all exports a part of the sky; name it by --cone RA,DEC,ARCSEC or --moc FILE")
        return sky_region(self.cone, self.moc)


def lightcurve_options(command: Command) -> Command:
    """Add the options that are not shared with other commands."""
    for option in reversed(_STARS + _POINTS + _RESULTS):
        command = option(command)
    return command


_STARS = [
    click.option(
        "--object",
        "object_id",
        metavar="ID",
        help="Identifier of a star, target or object, or a name in the catalog.",
    ),
    click.option("--ra", type=right_ascension, metavar="A", help="Right ascension, degrees."),
    click.option("--dec", type=declination, metavar="D", help="Declination, degrees."),
    click.option(
        "--stars",
        "stars_file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Many stars: a text with one on each line, or a table with columns object_id or name, or ra and dec. "
        "With both, an object_id counts where the lake has that star within --radius of the position.",
        shell_complete=completion.files,
    ),
    click.option(
        "--radius",
        type=radius_arcsec,
        default=60.0,
        show_default=True,
        metavar="ARCSEC",
        help="How far from the position the star may be.",
    ),
    click.option(
        "--sesame",
        is_flag=True,
        help="Ask the name service of the CDS, through the network, for names that the lake does not know.",
    ),
    click.option("--all", "is_all", is_flag=True, help="All stars in --cone or --moc."),
    cone_option("With --all: position (degrees) and radius."),
    moc_option("With --all: a coverage map (FITS, JSON or text)."),
]
_POINTS = [
    click.option(
        "--measured",
        type=click.Choice(_MEASURED),
        help="Measured at the place of the star, detected or not; its detections; or detections on frames that no "
        "catalog places, relative to the stars of the field. Without the option forced where the star is a target, "
        "and relative where there is nothing else.",
    ),
    click.option(
        "--from",
        "start",
        type=_time_or_measured,
        metavar="NIGHT|TIME",
        help="First night (YYYYMMDD) or time (ISO 8601, UTC). The words of --measured stand for that.",
    ),
    click.option("--to", "end", type=_time, metavar="NIGHT|TIME", help="Last night, or the end of the time."),
    click.option("--band", metavar="B", help="Only this band."),
    click.option("--camera", metavar="C", help="Only this camera.", shell_complete=completion.cameras),
    click.option(
        "--flux",
        type=click.Choice(_FLUXES),
        default="best",
        show_default=True,
        help="best is the most repeatable flux for stars this bright (table repeatability), calibrated that of the "
        "zeropoints. Detections have only aper1 to aper3 beside these.",
    ),
    click.option(
        "--version",
        type=click.IntRange(min=1),
        metavar="N",
        help="Version of the calibration; the largest by default.",
    ),
    click.option(
        "--bin",
        "width",
        type=duration_with_unit,
        metavar="WIDTH",
        help="Means in bins, as 10min or 2h; with --period in phase.",
    ),
    click.option("--period", type=duration, metavar="P", help="Fold with a period: days, or as 13.1h."),
    click.option(
        "--epoch", type=_epoch, metavar="BJD", help="Time of phase 0; that of the first point by default."
    ),
    click.option(
        "--detrend",
        type=click.Choice(_METHODS),
        help="Take off trends that the stars around show, or a table `detrended` has: ensemble, what all stars of a "
        "frame lose alike; joint, also what follows from position, image shape, sky and airmass, fitted with the "
        "signal of the star, of --period if that is given, else the wave or dip that five nights or more show; epd, "
        "the same without a signal; tfa; sysrem. mag_raw is the magnitude before.",
    ),
    click.option(
        "--duration",
        type=duration_with_unit,
        metavar="WIDTH",
        help="With --detrend joint, --period and --epoch: the signal is a transit of this duration.",
    ),
]
_RESULTS = [
    click.option(
        "--format",
        "form",
        type=click.Choice([*_TABLES, *DATABASES]),
        help="Format; by the suffix of -o without it. aavso, etd and exotic are those that databases take.",
    ),
    click.option("--observer", default="", metavar="CODE", help="For aavso: code of the observer."),
    click.option("--name", metavar="NAME", help="Name of the star in the headers of files."),
    click.option(
        "--check",
        metavar="STAR",
        help="Check star, for aavso and --plot: named as STAR, or none; a constant star nearby by default.",
    ),
    click.option(
        "-o",
        "out",
        type=_place,
        metavar="FILE|FOLDER/",
        help="File to write; its suffix names the format. A folder gets a file for each star.",
        shell_complete=completion.files,
    ),
]
