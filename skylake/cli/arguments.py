"""Arguments and options that several commands share."""

from __future__ import annotations

import datetime
import math
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from skylake import logs
from skylake.cli import completion

if TYPE_CHECKING:
    from skylake.flow.execution.cluster import Workers
    from skylake.lake import Lake, Snapshot
    from skylake.settings import Settings
    from skylake.sky.lake_catalogs import ReferenceCatalog

_log = logs.get(__name__)

Command = TypeVar("Command", bound=Callable[..., Any])
#: The day of which the Modified Julian Date is 0.
_MJD_EPOCH = datetime.datetime(1858, 11, 17)


#: Units of lengths of time.
_DAYS = {"s": 1.0 / 86400.0, "min": 1.0 / 1440.0, "m": 1.0 / 1440.0, "h": 1.0 / 24.0, "d": 1.0, "": 1.0}
#: What numbers count, by the word for them in the help.
_COUNTED = {"MAG": "of magnitudes", "ARCSEC": "of arcseconds", "DEG": "of degrees"}


class Number(click.FloatRange):
    """A number within limits, which NaN and infinity are not.

    Each option with a fraction takes this type: NaN passes every comparison of click's own.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read a number."""
        try:
            float(value)
        except ValueError:
            counted = _COUNTED.get(str(param.metavar) if param else "", "alone")
            self.fail(f"{value!r} is no number; write a number {counted}", param, ctx)
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number; give one", param, ctx)
        return number


def night(text: Any) -> int:
    """Read a night, YYYYMMDD or YYYY-MM-DD."""
    digits = str(text).replace("-", "")
    try:
        if not (len(digits) == 8 and digits.isascii() and digits.isdigit()):
            raise ValueError
        datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no night; write it as 20130610") from None
    return int(digits)


def moment(text: Any) -> float:
    """Read a time (ISO 8601, UTC unless it names a zone) as Modified Julian Date."""
    try:
        time = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time; write it as 2024-05-01 or 2024-05-01T12:00") from None
    if time.tzinfo is not None:
        time = time.astimezone(datetime.UTC).replace(tzinfo=None)
    return (time - _MJD_EPOCH).total_seconds() / 86400.0


def duration(text: Any) -> float:
    """Read a length of time in days, as 10min, 0.5h or 0.0069."""
    found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)", str(text).strip().lower())
    if found is None or found[2] not in _DAYS or not float(found[1]) > 0.0:
        raise click.BadParameter(f"{text!r} is no length of time; write it as 30s, 10min, 2h or 0.5d")
    return float(found[1]) * _DAYS[found[2]]


def duration_with_unit(text: Any) -> float:
    """Read a length of time with its unit in days, as 10min: a number alone may be meant as minutes or as days."""
    if re.fullmatch(r"[\d.]+", str(text).strip()):
        raise click.BadParameter(f"{text!r} has no unit; write it as 30s, 10min, 2h or 0.5d")
    return duration(text)


def moment_text(mjd: float | None) -> str:
    """Return a Modified Julian Date as :func:`moment` takes it, to the minute; a midnight as a date, None as empty."""
    if mjd is None:
        return ""
    # To the nearest minute, so that a midnight does not become the minute before it.
    time = _MJD_EPOCH + datetime.timedelta(minutes=round(mjd * 1440.0))
    return f"{time:%Y-%m-%dT%H:%M}".removesuffix("T00:00")


def right_ascension(text: Any) -> float:
    """Read a right ascension in degrees."""
    return _number(text, -180.0, 360.0, "degrees, as in 83.633")


def declination(text: Any) -> float:
    """Read a declination in degrees."""
    return _number(text, -90.0, 90.0, "degrees, as in -5.391")


def radius_arcsec(text: Any) -> float:
    """Read a radius in seconds of arc."""
    return _number(text, 0.0, 180.0 * 3600.0, "seconds of arc, as in 10")


def _number(text: Any, least: float, largest: float, unit: str) -> float:
    """Read a number within limits, which NaN is not."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= largest:
        raise click.BadParameter(f"{text!r} is not a number from {least:g} to {largest:g}; write {unit}")
    return value


def bits(text: Any) -> int:
    """Read a number whose bits have meanings, in decimal, or as 0x12 or 0b10010."""
    try:
        return int(str(text), 0 if str(text).lower().startswith(("0x", "0b")) else 10)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no whole number; write it as 18 or 0x12") from None


def output_file(text: Any) -> Path:
    """Read the name of a file to write in an existing folder: a typing error must not make a new one."""
    path = Path(text)
    if not path.parent.exists():
        raise click.BadParameter(f"{path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise click.BadParameter(f"{path}: this is a folder; name a file in it")
    return path


def picture(text: Any) -> Path:
    """Read the name of a picture."""
    path = output_file(text)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise click.BadParameter(f"{path}: the suffix names no format of pictures; use .png, .svg or .pdf")
    return path


def healpix_file(text: Any) -> Path:
    """Read the name of a HEALPix map."""
    path = output_file(text)
    if not path.name.lower().endswith((".fits", ".fits.gz")):
        raise click.BadParameter(f"{path}: a map is a FITS file; name it .fits, and use --plot for a picture")
    return path


def place_of_workers(text: Any) -> str:
    """Read where frames are processed."""
    if text not in ("local", "inline", "slurm") and "://" not in text:
        raise click.BadParameter(f"there is no cluster {text!r}; use local, inline, slurm or tls://host:port")
    return str(text)


def local_lake(text: Any) -> Path:
    """Read the folder of a lake that will be written."""
    from skylake.places import is_url

    if is_url(text):
        raise click.BadParameter(
            f"{text}: a published lake can only be read; this needs the folder of the lake itself"
        )
    return Path(text)


def any_lake(text: Any) -> Path:
    """Read the folder of a lake, or the URL of a published one.

    Errors of the store while the command runs are then reported in one sentence.
    """
    from skylake.places import Reaching, is_url, place

    context = click.get_current_context(silent=True)
    # Completion in the shell does not access object stores.
    if not is_url(text) or (context is not None and context.resilient_parsing):
        return Path(text)
    if context is not None:
        context.with_resource(Reaching(str(text)))
    return place(str(text))


lake_argument = click.argument("lake", type=local_lake, shell_complete=completion.folders)
readable_lake_argument = click.argument("lake", type=any_lake, shell_complete=completion.folders)
files_argument = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH…"
)
camera_option = click.option(
    "--camera",
    "-c",
    "camera_name",
    required=True,
    metavar="C",
    help="Name of a camera profile, or a .toml file.",
    shell_complete=completion.profiles,
)
camera_of_lake_option = click.option(
    "--camera",
    "-c",
    "camera_name",
    required=True,
    metavar="C",
    help="Camera whose frames the lake holds, or the .toml file they were ingested with.",
    shell_complete=completion.cameras,
)
out_option = click.option(
    "-o",
    "out",
    type=output_file,
    metavar="FILE",
    help="File to write; its suffix names the format.",
    shell_complete=completion.files,
)
as_of_option = click.option(
    "--as-of",
    metavar="SNAPSHOT|TIME",
    help="The lake as it was: the number of a snapshot, or a time such as 2024-05-01T12:00 (UTC unless it names a "
    "zone; a day, minute or second means the end of it).",
)
plot_option = click.option(
    "--plot",
    type=picture,
    metavar="FILE",
    help="Picture to write (.png, .svg or .pdf).",
    shell_complete=completion.files,
)


aggregate_files_option = click.option(
    "--aggregate",
    "files",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A file of SQL or Python with an aggregate of your own, beside those of ~/.config/skylake/aggregates; may be "
    "repeated.",
)


def mirror_options(command: Command) -> Command:
    """Add --to and --schema."""
    for option in (
        click.option(
            "--schema",
            metavar="NAME",
            envvar="SKYLAKE_MIRROR_SCHEMA",
            show_envvar=True,
            help="Schema of the database; it holds one lake, and is made if it is missing. Otherwise that of your "
            "configuration, or the default of the database.",
        ),
        click.option(
            "--to",
            "url",
            metavar="URL",
            envvar="SKYLAKE_MIRROR_URL",
            show_envvar=True,
            help="PostgreSQL to mirror into, postgresql://user@host/database. Otherwise that of your configuration, "
            "or an embedded PostgreSQL inside the lake.",
        ),
    ):
        command = option(command)
    return command


def cluster_options(command: Command) -> Command:
    """Add --cluster and --workers."""
    for option in (
        click.option(
            "--workers",
            type=click.IntRange(min=1),
            metavar="N",
            help="Worker processes; one per core by default.",
        ),
        click.option(
            "--cluster",
            type=place_of_workers,
            metavar="WHERE",
            envvar="SKYLAKE_CLUSTER",
            show_envvar=True,
            help="local (processes on this machine), inline (in this process), slurm, or the tls://host:port of a "
            "dask scheduler. Otherwise that of your configuration, or of the lake's settings.",
        ),
    ):
        command = option(command)
    return command


def open_lake(path: Path) -> Lake:
    """Open the lake of an argument. All commits of one command are one run."""
    from skylake.lake import Lake

    return Lake(path, new_run())


def new_run() -> str:
    """Return a unique name for a run."""
    return secrets.token_hex(8)


def open_snapshot(path: Path, as_of: str | None) -> Snapshot:
    """Open a snapshot of the lake of an argument."""
    return open_lake(path).snapshot(as_of)


def require_table(snapshot: Snapshot, name: str) -> None:
    """Refuse a table that the lake does not have.

    Raises
    ------
    UnknownName
    """
    from skylake.errors import UnknownName

    if name not in snapshot.tables:
        raise UnknownName(f"there is no table {name!r}; the tables are {', '.join(snapshot.tables)}")


def require_catalog(snapshot: Snapshot, name: str | None) -> None:
    """Refuse a catalog that is named, and that the lake does not have.

    Raises
    ------
    UnknownName
    """
    from skylake.errors import UnknownName

    if name is not None and name not in snapshot.catalogs():
        known = ", ".join(snapshot.catalogs())
        has = f"it has {known}" if known else "bring one in with `skylake catalog import`"
        raise UnknownName(f"there is no catalog {name!r} in the lake; {has}")


def open_catalog(lake: Path, name: str) -> ReferenceCatalog:
    """Open a catalog of the lake of an argument.

    Raises
    ------
    UnknownName
        If the lake does not have it.
    CatalogError
        If it is damaged.
    """
    from skylake.sky.lake_catalogs import ReferenceCatalog

    snapshot = open_lake(lake).snapshot()
    require_catalog(snapshot, name)
    return ReferenceCatalog.open(snapshot.catalog(name))


@contextmanager
def start_workers(lake: Lake, cluster: str | None, count: int | None) -> Iterator[Workers]:
    """Start the workers of the options, of the user's configuration or of the lake's settings."""
    with workers_of(lake.root, lake.settings, cluster, count) as started:
        yield started


@contextmanager
def workers_of(root: Path, settings: Settings, cluster: str | None, count: int | None) -> Iterator[Workers]:
    """Start workers for a lake that may be damaged; see :func:`start_workers`."""
    from skylake.flow.execution.cluster import workers
    from skylake.settings import misplaced, user_setting

    where = cluster or user_setting(root, "cluster")
    unused = None if where else misplaced(root, "cluster")
    if unused is not None:
        _log.warning("%s", unused)
    with workers(where or settings.cluster, count or settings.workers) as started:
        yield started
