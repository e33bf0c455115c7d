"""A lake opened for reading: its tables, views, light curves, cones and history. Nothing here writes."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Unpack, cast, overload

from skylake.errors import UsageError
from skylake.lake import Lake
from skylake.lake.access.duckdb_tables import Door, quoted, restrict
from skylake.lake.commits.ledger_records import LedgerEntry
from skylake.places import Reaching, is_url
from skylake.reading.curve_options import CurveOptions, curve_choice, detrended, point_choice
from skylake.reading.lightcurves import LightCurve
from skylake.reading.objects import ObjectChoice, ObjectOptions, objects_in_force
from skylake.reading.queries import answers
from skylake.reading.rows import Rows, html_table
from skylake.reading.summary import Summary, summary
from skylake.reading.tables import Columns, Table, plain_position, plain_radius
from skylake.reading.views import VIEWS, View
from skylake.report.stars.star_curves import curve_near, star_curve

if TYPE_CHECKING:
    import duckdb

_DOOR = Door(
    "lake.sql",
    "write what the result's arrow(), pandas() or polars() returns",
    "name a file to read, as in lake.sql(query, files=['stars.csv'])",
    "lake.sql returns one",
)


class Tables(dict[str, Table]):
    """The tables of a lake by name; as text, the number of their rows and what a row is."""

    def __missing__(self, name: str) -> Table:
        raise _unknown(name, self)

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(
            f"{name:<{width}}  {len(one):>12,} rows  {one.description}" for name, one in self.items()
        )

    def _repr_html_(self) -> str:
        rows = [(name, f"{len(one):,}", one.description) for name, one in self.items()]
        return html_table(rows, ["table", "rows", "a row is"])


class LakeReader:
    """A lake as it was at one snapshot, to be read. :func:`skylake.open` makes it.

    Everything is read from that snapshot, even if others commit in the meantime. Nothing can be written.

    Parameters
    ----------
    where : path or URL
        A lake on disk, or one that was published to an object store, as in ``s3://bucket/lake``.
    as_of : str, int, datetime or None
        Number of a snapshot, or a time (ISO 8601, UTC unless it names a zone; a day, minute or second means the end of
        it); None is now.

    Raises
    ------
    LakeError
        If there is no lake, or it did not exist then.
    UsageError
        If `as_of` is neither a number nor a time, or the package for such URLs is not installed.

    Examples
    --------
    >>> import skylake
    >>> lake = skylake.open("demo/lake")
    >>> lake.tables["sources"]
    >>> lake.sql("SELECT night, count(*) AS frames FROM frames GROUP BY night").pandas()
    >>> lake["calibrated_sources"].pandas(["mjd_mid", "mag", "mag_err"], cone=(197.31655, -19.82025, 0.01))
    """

    def __init__(self, where: str | os.PathLike[str], as_of: str | int | datetime | None = None) -> None:
        self._lake = Lake(str(where) if is_url(where) else Path(where).expanduser())
        with Reaching(self.root):
            self._snapshot = self._lake.snapshot(as_of)
        self._turn = Lock()

    def __reduce__(self) -> tuple[type[LakeReader], tuple[str, int]]:
        """Open the same snapshot in another process."""
        return (type(self), (self.root, self.snapshot))

    @property
    def root(self) -> str:
        """Folder or URL of the lake."""
        return str(self._lake.root)

    @property
    def snapshot(self) -> int:
        """Number of the snapshot that is read."""
        return self._snapshot.number

    @property
    def tables(self) -> Tables:
        """The tables by name, skylake's own and those of users, each with its rows, columns and units."""
        return Tables({name: Table(self._snapshot, name) for name in self._snapshot.tables})

    @property
    def views(self) -> dict[str, View]:
        """The views by name that apply the calibration in force. SQL has more of them."""
        return {name: View(self._snapshot, name) for name in VIEWS}

    @property
    def catalogs(self) -> tuple[str, ...]:
        """Names of the reference catalogs, which SQL reads as ``catalogs.NAME``."""
        with Reaching(self.root):
            return tuple(self._snapshot.catalogs())

    def __getitem__(self, name: str) -> Table | View:
        """Return a table or view.

        Raises
        ------
        UsageError
            If there is no table or view of that name.

        Examples
        --------
        >>> lake["frames"].pandas(["night", "fwhm_px"])
        >>> lake["sources"].lsdb(columns=["ra_deg", "dec_deg", "flux_aper2"])
        """
        if name in VIEWS:
            return View(self._snapshot, name)
        if name in self._snapshot.tables:
            return Table(self._snapshot, name)
        if name in self._names_in_sql():
            raise UsageError(f'{name} is a view that only SQL reads; write lake.sql("FROM {name}")')
        raise _unknown(name, (*self._snapshot.tables, *VIEWS))

    def _names_in_sql(self) -> set[str]:
        """Return the names that SQL has, those of tables and of :attr:`views` too."""
        query = "SELECT view_name FROM duckdb_views() WHERE NOT internal"
        with Reaching(self.root), self._connection([]) as connection:
            return {name for (name,) in connection.execute(query).fetchall()}

    def __contains__(self, name: object) -> bool:
        """Return whether there is a table or view of a name."""
        return name in self._snapshot.tables or name in VIEWS

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the tables, then those of the views."""
        return iter((*self._snapshot.tables, *VIEWS))

    def sql(self, query: str, files: Iterable[str | os.PathLike[str]] | str | os.PathLike[str] = ()) -> Rows:
        """Run a query with DuckDB and return its result.

        The query reads the tables, views and catalogs of the lake, its ledger, and the files that are named; it cannot
        write, load an extension or change a setting. What it makes on the way, as with ``CREATE TEMP TABLE``, is gone
        when it has ended. Several statements, of which one has a result, are separated by semicolons.

        Parameters
        ----------
        query : str
        files : path or iterable of path
            Files outside of the lake that the query reads, as in ``FROM 'stars.csv'``.

        Returns
        -------
        Rows
            A column of the name of a column of the lake has its unit.

        Raises
        ------
        UsageError
            If the query has no result or several, fails, or does not only read.
        LakeError
            If a file of the lake is missing or damaged.

        Examples
        --------
        >>> lake.sql("SELECT camera, night, zp_median FROM nights").polars()
        """
        if not query.strip():
            raise UsageError('the query is empty; write one, as in "SELECT count(*) FROM frames"')
        named = [Path(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
        with Reaching(self.root), self._connection(named) as connection:
            found = list(answers(connection, self._snapshot, query, _DOOR, only_one=True))
        if not found:
            raise UsageError(
                "the query has no result; end it with a SELECT, as in SELECT count(*) FROM frames"
            )
        return Rows(found[0])

    @contextmanager
    def _connection(self, files: list[Path]) -> Iterator[duckdb.DuckDBPyConnection]:
        """Give a read-only connection to one query at a time; temporary tables of the query are removed."""
        if files:
            with self._restricted(files) as connection:
                yield connection
            return
        with self._turn:
            self._kept.execute("BEGIN")
            try:
                yield self._kept
            finally:
                self._kept.execute("ROLLBACK")
                # A rollback does not reset variables.
                for (name,) in self._kept.execute("SELECT name FROM duckdb_variables()").fetchall():
                    self._kept.execute(f"RESET VARIABLE {quoted(name)}")

    @cached_property
    def _kept(self) -> duckdb.DuckDBPyConnection:
        """Connection for all queries, since making one takes many requests to a published lake."""
        return self._restricted([])

    def _restricted(self, files: list[Path]) -> duckdb.DuckDBPyConnection:
        connection = self._snapshot.duckdb()
        restrict(connection, self._snapshot, files)
        return connection

    def cone(self, table: str, ra: float, dec: float, radius_arcsec: float, columns: Columns = None) -> Rows:
        """Return the rows of a table or view around a position, as ``skylake cone`` does.

        Only the files that the cone touches are read.

        Parameters
        ----------
        table : str
            A table or view with positions, as sources, matches, lightcurves or calibrated_sources.
        ra, dec : float
            Position, degrees, ICRS.
        radius_arcsec : float
            Arcseconds.
        columns : sequence of str, str or None
            Columns to read; None reads all.

        Raises
        ------
        UsageError
            If there is no such table or column, or a number is no position or radius.
        LakeError
            If the table has no positions, or a file is missing or damaged.

        Examples
        --------
        >>> lake.cone("sources", 197.31655, -19.82025, 60, columns=["mjd_mid", "flux_aper2"]).pandas()
        """
        cone = (*plain_position(ra, dec), plain_radius(radius_arcsec) / 3600.0)
        return Rows(self[table].arrow(columns, cone=cone))

    @overload
    def lightcurve(self, object_id: int | str, **options: Unpack[CurveOptions]) -> LightCurve: ...

    @overload
    def lightcurve(self, ra: float, dec: float, **options: Unpack[CurveOptions]) -> LightCurve: ...

    def lightcurve(self, *star: Any, **options: Any) -> LightCurve:
        """Return the light curve of one star in all bands, as ``skylake lc`` reads it.

        The star is named by its identifier, its name in its catalog or in a catalog of variable stars, or a position
        as text, such as ``12:34:56.7 -01:23:45`` (``object_id``); or it is the one nearest to a position (``ra``,
        ``dec``, degrees). A star that no catalog has is of the catalog ``sources``: its curve comes from detections.

        Parameters
        ----------
        *star
            ``object_id``, or ``ra`` and ``dec``; these may be named too.
        radius_arcsec : float
            How far from the position the star may be, arcseconds; 60.
        sesame : bool
            Whether names that the lake does not know are looked up through the network.
        measured : {'forced', 'detected', 'relative'} or None
            Measured at the place of the star, detected or not; its detections; or detections on frames that no catalog
            places, relative to the stars of the field. None takes the forced ones of a star that has any, and the
            relative ones of a star that has no others.
        flux : str
            ``best``, the most repeatable for stars this bright by the table ``repeatability``; ``calibrated``, that
            of the zeropoints; or one by its name, ``aper1`` to ``aper3``, of forced measurements also ``hybrid1`` to
            ``hybrid3`` and ``psf``. ``bands`` of the curve has ``flux_used`` where it is not the calibrated.
        version : int or None
            Of the calibration; None takes the one in force.
        start, end : str, int, float, datetime or None
            Points from a night (20240407) or time (ISO 8601, UTC; or an MJD as a float) to another; both nights belong
            to it.
        band, camera : str or None
            Only this band or camera.
        bin_d : float or None
            Means in bins of so many days, as :func:`skylake.report.stars.time_bins.binned` describes; with a period in
            bins of the phase.
        period_d : float or None
            Adds the column ``phase``, from 0 to 1.
        epoch_bjd : float or None
            Time of phase 0, BJD (TDB); None takes the first point.
        detrend : {'ensemble', 'epd', 'joint', 'tfa', 'sysrem'} or None
            Detrend the magnitudes with the stars around, as :func:`skylake.flow.curves.detrend_star.detrended_curve`
            describes; those before stay as ``mag_raw``. With ``joint`` and a period, a wave of that period is fitted
            with what is taken off.
        duration_d : float or None
            With ``joint``, a period and an epoch: a transit of that duration is fitted in the place of a wave, days.

        Raises
        ------
        UsageError
            If it is not clear which star is meant, or a number is no position.
        LakeError
            If there is no light curve of that star, or no such version.

        Examples
        --------
        >>> lake.lightcurve(2).pandas()
        >>> lake.lightcurve("13:09:15.97 -19:49:12.9", period_d=0.5467, bin_d=0.02)
        >>> lake.lightcurve(197.31655, -19.82025, radius_arcsec=30, start=20240408)
        """
        named = {name: options.pop(name) for name in ("object_id", "ra", "dec") if name in options}
        given = named | dict(zip(("object_id",) if len(star) == 1 else ("ra", "dec"), star, strict=False))
        unknown = options.keys() - CurveOptions.__annotations__.keys()
        with Reaching(self.root):
            if len(star) < 3 and not unknown and given.keys() in ({"object_id"}, {"ra", "dec"}):
                return self._lightcurve(given, cast(CurveOptions, options))
        if unknown and given:
            raise UsageError(
                f"a light curve has no option {min(unknown)!r}; it has {', '.join(CurveOptions.__annotations__)}"
            )
        raise UsageError(
            "name one star: by its identifier, as in lake.lightcurve(2), or by ra and dec in degrees, as in "
            "lake.lightcurve(197.31655, -19.82025)"
        )

    def _lightcurve(self, given: dict[str, Any], options: CurveOptions) -> LightCurve:
        choice, points = curve_choice(options), point_choice(self._snapshot, options)
        if "ra" in given:
            ra, dec = plain_position(given["ra"], given["dec"])
            curve = curve_near(self._snapshot, ra, dec, choice)
        else:
            curve = star_curve(self._snapshot, _identifier(given["object_id"]), choice)
        return LightCurve(detrended(self._snapshot, points.chosen(curve), options), points)

    def objects(
        self,
        ra: float | None = None,
        dec: float | None = None,
        radius_arcsec: float = 60.0,
        **options: Unpack[ObjectOptions],
    ) -> Rows:
        """Return what the cameras of the lake see, in a catalog or not: a row for each camera and object.

        They are the objects in force of the table ``objects``, the brightest first. What was seen on too few frames so
        far, and what turned out to be another object, has no row.

        Parameters
        ----------
        ra, dec : float or None
            Position, degrees, ICRS; None takes objects everywhere.
        radius_arcsec : float
            How far from the position they may be, arcseconds.
        moc : path or None
            File with a coverage map (MOC) that they are in.
        camera : str or None
            Only those of this camera.
        band : str or None
            Only those that were seen in this band. Fluxes and magnitudes are of this band; without one they are of the
            band in which the object first had magnitudes, and ``more_bands`` has the others.
        matched : bool or None
            True takes those with a star of the catalog, False those without.
        mag : (float or None, float or None)
            Limits of the mean magnitude, (brightest, faintest).
        least_detections : int
            Least number of detections.

        Returns
        -------
        Rows
            object_id, position, star of the catalog, counts of detections, frames and nights, flux, mean magnitude,
            scatter, chi-square and more, as `the data dictionary <schema.md>`_ defines them.

        Raises
        ------
        UsageError
            If a number is no position or radius, there is no such camera, band or option, or the map cannot be
            read.

        Examples
        --------
        >>> lake.objects(197.3, -19.8, 1800, mag=(9, 12)).pandas()
        >>> lake.objects(matched=False, least_detections=30, camera="sim").pandas()
        """
        unknown = options.keys() - ObjectOptions.__annotations__.keys()
        if unknown:
            raise UsageError(
                f"objects have no option {min(unknown)!r}; they have {', '.join(ObjectOptions.__annotations__)}"
            )
        if (ra is None) != (dec is None):
            raise UsageError("a position is ra and dec, in degrees, as in lake.objects(197.3, -19.8, 1800)")
        given: dict[str, Any] = dict(options)
        if given.get("moc") is not None:
            given["moc"] = Path(given["moc"]).expanduser()
        with Reaching(self.root):
            radius = plain_radius(radius_arcsec) / 3600.0
            cone = None if ra is None else (*plain_position(ra, dec), radius)
            return Rows(objects_in_force(self._snapshot, ObjectChoice(cone, **given)))

    def history(
        self, last: int | None = None, batch: str | None = None, table: str | None = None
    ) -> list[LedgerEntry]:
        """Return the runs on the lake, the oldest first, as ``skylake history`` lists them; also those after `as_of`.

        Parameters
        ----------
        last : int or None
            Only the newest so many.
        batch, table : str or None
            Only runs that wrote or removed rows of a night (as in ``sim-20240407``), of a table.

        Returns
        -------
        list of LedgerEntry
            ``snapshot`` is the state after the run, which `as_of` takes if it is ``kept``; ``time_utc``, ``stage``,
            ``batch`` and ``rows`` say what ran when, and which rows it wrote.

        Raises
        ------
        UsageError
            If there is no such table.

        Examples
        --------
        >>> [(run.snapshot, run.stage, run.rows) for run in lake.history(last=3)]
        """
        if table is not None and table not in self._snapshot.tables:
            raise _unknown(table, self._snapshot.tables)
        with Reaching(self.root):
            return self._lake.runs(last, batch, table)

    @cached_property
    def _summary(self) -> Summary:
        with Reaching(self.root):
            return summary(self._snapshot)

    def __repr__(self) -> str:
        return self._summary.text()

    def _repr_html_(self) -> str:
        return self._summary.html()

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)


def _identifier(star: object) -> str:
    """Return the identifier or name of a star as text; whole floats, as pandas makes of integers, are accepted.

    Raises
    ------
    UsageError
        If it is neither, or a float that may have lost digits.
    """
    if isinstance(star, str):
        return star
    if isinstance(star, Integral):
        return str(int(star))
    if not isinstance(star, Real):
        raise UsageError(
            f"a star is named by its identifier or its name in its catalog, and not by a {type(star).__name__}; for a "
            "position give ra and dec in degrees, as in lake.lightcurve(197.31655, -19.82025)"
        )
    number = float(star)
    if not (number.is_integer() and abs(number) < 2**53):
        raise UsageError(
            f"the identifier {number!r} is a float, which does not hold all its digits; take it from a column of "
            "integers, as in table.object_id.iloc[0]"
        )
    return str(int(number))


def _unknown(name: object, names: Iterable[str]) -> UsageError:
    known = list(names)
    near = difflib.get_close_matches(str(name), known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return UsageError(f"the lake has no table or view {name!r}; it has {', '.join(known)}{hint}")
