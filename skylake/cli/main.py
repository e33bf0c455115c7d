"""``skylake``: the group of all commands, and the exit status of errors."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import click

from skylake import logs
from skylake.cli.calib_commands import calib
from skylake.cli.calibration_pictures import plot
from skylake.cli.camera_commands import camera
from skylake.cli.catalog_commands import catalog
from skylake.cli.crossmatch_command import crossmatch
from skylake.cli.curve_job_commands import detrend, periods, statistics
from skylake.cli.demo_command import demo
from skylake.cli.forget_command import forget
from skylake.cli.history_commands import compact, history, rollback, vacuum
from skylake.cli.ingest_table_command import ingest_table
from skylake.cli.lake_commands import init, path, status
from skylake.cli.lightcurves.lightcurve_command import lc
from skylake.cli.publish_command import publish
from skylake.cli.query_commands import cone, flags, map_, sql
from skylake.cli.reduce_command import reduce
from skylake.cli.run_commands import aggregate, calibrate, ingest, mirror, report, run
from skylake.cli.simulate_command import simulate
from skylake.cli.solve_command import solve
from skylake.cli.target_commands import backfill, targets
from skylake.cli.verify_command import verify
from skylake.cli.watch_commands import watch
from skylake.current_folder import no_code_from_here
from skylake.errors import SkylakeError, UsageError, reason_of
from skylake.revision import code_version

_EPILOG = """\b
Exit status: 0 all well; 1 the work ran but some frames failed or were rejected (they are
listed), or verify or status found something broken; 2 wrong use, also a camera, catalog, table,
star or snapshot that is not there; 3 the run could not go on.

\b
A first night:
  skylake demo                                   see it all happen on simulated nights
  skylake init LAKE                              make an empty lake
  skylake camera check --camera C FRAME…         how are the headers read?
  skylake catalog import LAKE NAME --format …    bring a reference catalog in
  skylake run nightly LAKE --camera C FOLDER     from ingest to report: all that a night needs
  skylake sql LAKE "SELECT …"                    ask
"""


class Commands(click.Group):
    """Commands in the order of a night's work rather than of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the command line, of which --version prints at once."""
        with _ERRORS:
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Errors are reported here, before click gives interrupts and closed pipes its own status."""
        with _ERRORS:
            try:
                return super().invoke(ctx)
            finally:
                # Output to a full disk or a closed pipe fails here at the latest.
                sys.stdout.flush()


class PlainErrors:
    """Turns what goes wrong into one sentence on standard error and the exit status of the contract."""

    def __init__(self) -> None:
        self.debug = False

    def __enter__(self) -> PlainErrors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, SystemExit | click.exceptions.Exit):
            return
        if isinstance(error, BrokenPipeError):
            # The reader of our output has closed it, as `| head` does; that is not an error.
            _to_nowhere()
            raise SystemExit(0)
        if isinstance(error, click.ClickException):
            _print_usage_error(error)
            raise SystemExit(error.exit_code)
        if self.debug:
            traceback.print_exception(kind, error, trace)
        if isinstance(error, OSError) and (why := _unwritten(error)):
            _print_error(f"standard output cannot be written ({why}); send it elsewhere or free space")
            raise SystemExit(3)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _print_error(f"{error.filename}: the name is longer than the disk allows; shorten it")
            raise SystemExit(UsageError.exit_status)
        if isinstance(error, KeyboardInterrupt | click.Abort):
            _print_error("interrupted; what was committed is safe")
            raise SystemExit(130)
        if isinstance(error, SkylakeError):
            _print_error(str(error))
            raise SystemExit(error.exit_status)
        hint = "" if self.debug else " (--debug shows where)"
        _print_error(f"internal error: {type(error).__name__}: {error}{hint}; please report it")
        raise SystemExit(3)


def _print_usage_error(error: click.ClickException) -> None:
    """Print an error of the command line in one sentence, or the help if there are no arguments."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return
    said = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = "skylake" if context is None else context.command_path
    _print_error(f"{said[:1].lower()}{said[1:]}; see `{command} --help`")


def _print_error(sentence: str) -> None:
    """Print a sentence on standard error, if that can be written: the exit status says so too."""
    with contextlib.suppress(OSError):
        click.echo(f"skylake: {sentence}", err=True)


def _unwritten(error: OSError) -> str | None:
    """Return why standard output cannot be written, and let what follows go nowhere; None if that did not fail."""
    if error.filename is not None or error.errno not in _OF_OUTPUT:
        return None
    try:
        # Python keeps output that could not be written; without its buffer only the layer below shows the failure.
        sys.stdout.flush()
        os.write(1, b"")
        if error.errno != errno.ENOSPC or not _is_on_full_disk(1):
            return None
    except OSError as again:
        error = again
    _to_nowhere()
    return reason_of(error)


def _is_on_full_disk(descriptor: int) -> bool:
    """Return whether a descriptor is that of a file whose disk is full."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode) and os.fstatvfs(descriptor).f_bavail == 0


def _to_nowhere() -> None:
    """Discard standard output; otherwise Python would fail on it again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


#: Errors that a standard output may have which cannot be written.
_OF_OUTPUT = (errno.ENOSPC, errno.EBADF, errno.EPIPE, errno.EIO)
_ERRORS = PlainErrors()


@click.group(
    cls=Commands,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(code_version(), message="skylake %(version)s")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.option("-v", "--verbose", count=True, help="Log more on standard error; twice for debugging.")
def cli(debug: bool, verbose: int) -> None:
    """Turn the archive of a wide-field camera into a lake of calibrated tables that people query.

    A lake is a folder of HATS and Parquet tables (frames, sources, forced_sources, matches, zeropoints, nights,
    photometric_nights, lightcurves, forced_lightcurves, maps, clusters, repeatability, seeing, star_statistics,
    objects, coverage, alerts, targets, masters, star_magnitudes, global_solutions) in atomic snapshots. lsdb, DuckDB,
    pandas and others read it as it is.
    """
    _ERRORS.debug = debug
    logs.configure(verbose)


for command in (
    demo,
    init,
    camera,
    catalog,
    calib,
    targets,
    backfill,
    ingest,
    ingest_table,
    calibrate,
    aggregate,
    watch,
    mirror,
    run,
    report,
    status,
    sql,
    lc,
    detrend,
    periods,
    statistics,
    cone,
    path,
    map_,
    plot,
    crossmatch,
    flags,
    reduce,
    solve,
    verify,
    history,
    rollback,
    compact,
    forget,
    vacuum,
    publish,
    simulate,
):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line, and leave with its exit status."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # It was closed; the next file that is opened would take its place, and would get what is printed.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    with _ERRORS, no_code_from_here():
        raise SystemExit(cli.main(arguments, prog_name="skylake", standalone_mode=False) or 0)
