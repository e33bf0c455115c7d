"""Tables of a lake as they are read: each way of reading gives the same rows, and none writes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from skylake.errors import UsageError, no_column
from skylake.lake.access.open_table import OpenTable
from skylake.places import Reaching
from skylake.reading.rows import html_table, to_astropy, to_pandas, to_polars, units_of

if TYPE_CHECKING:
    import astropy.table
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as pds

    from skylake.lake import Snapshot

#: Names of columns in any sequence, such as a list or a pandas Index, or one name; None means all.
Columns = Iterable[str] | None
Names = Sequence[str] | None
#: Right ascension, declination and radius, degrees.
Cone = tuple[float, float, float] | None


class Readable(ABC):
    """What :class:`Table` and :class:`View` have in common."""

    def __init__(self, snapshot: Snapshot, name: str, description: str) -> None:
        self._snapshot, self._name, self._description = snapshot, name, description

    @property
    def name(self) -> str:
        """Name, as in SQL."""
        return self._name

    @property
    def description(self) -> str:
        """What a row is, in a sentence or two."""
        return self._description

    @property
    @abstractmethod
    def _schema(self) -> pa.Schema:
        """Arrow schema, with units and texts as metadata of its fields."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(self._schema.names)

    @property
    def units(self) -> dict[str, str]:
        """Unit of each column that has one, as a VOUnit."""
        return units_of(self._schema)

    @abstractmethod
    def _n_rows(self) -> int: ...

    @abstractmethod
    def _arrow(self, columns: Names, filter: Any, cone: Cone) -> pa.Table: ...

    @abstractmethod
    def _dask(self, columns: Names) -> Any: ...

    @abstractmethod
    def _lsdb(self, columns: Names, **options: Any) -> Any: ...

    def __len__(self) -> int:
        with self._reaching():
            return self._n_rows()

    def __bool__(self) -> bool:
        """Be true even without rows, since counting the rows of a view takes time."""
        return True

    def arrow(self, columns: Columns = None, filter: Any = None, cone: Cone = None) -> pa.Table:
        """Return rows as an Arrow table; the metadata of its fields hold ``unit`` and ``description``.

        Parameters
        ----------
        columns : sequence of str, str or None
            Columns to read; None reads all.
        filter : pyarrow.compute.Expression or None
            Chooses rows, as in ``pyarrow.compute.field("night") == 20240501``.
        cone : (ra, dec, radius) or None
            Degrees; chooses rows within the radius of a position. Only the files that it touches are read.

        Raises
        ------
        UsageError
            If there is no such column, or the filter or cone is none.
        LakeError
            If a cone is asked for where there are no positions, or a file is missing or damaged.
        """
        columns = self._named(columns)
        plain = None if cone is None else plain_cone(cone)
        with self._reaching():
            return self._arrow(columns, filter, plain)

    def pandas(self, columns: Columns = None, filter: Any = None, cone: Cone = None) -> pd.DataFrame:
        """Return rows as a pandas frame; ``attrs["units"]`` has the unit of each column that has one.

        A null becomes NaN in a column of numbers and None in one of texts. The parameters are those of :meth:`arrow`.

        Examples
        --------
        >>> lake["frames"].pandas(["night", "fwhm_px"]).groupby("night").median()
        """
        return to_pandas(self.arrow(columns, filter, cone))

    def polars(self, columns: Columns = None, filter: Any = None, cone: Cone = None) -> pl.DataFrame:
        """Return rows as a polars frame, without a copy. The parameters are those of :meth:`arrow`.

        Raises
        ------
        UsageError
            If polars is not installed.
        """
        return to_polars(self.arrow(columns, filter, cone))

    def astropy(self, columns: Columns = None, filter: Any = None, cone: Cone = None) -> astropy.table.Table:
        """Return rows as an astropy table, as :meth:`Rows.astropy` does. The parameters are those of :meth:`arrow`.

        Examples
        --------
        >>> lake["nights"].astropy(["night", "zp_median"])["zp_median"].unit
        Unit("mag")
        """
        return to_astropy(self.arrow(columns, filter, cone))

    def dask(self, columns: Columns = None) -> Any:
        """Return a lazy dask frame, with a partition for each pixel or, without pixels, each file.

        Examples
        --------
        >>> lake["sources"].dask(["night", "flux_aper2"]).groupby("night").flux_aper2.median().compute()
        """
        columns = self._named(columns)
        with self._reaching():
            return self._dask(columns)

    def lsdb(self, columns: Columns = None, **options: Any) -> Any:
        """Return a lazy lsdb catalog, for crossmatches and other computations of lsdb on the sky.

        Parameters
        ----------
        columns : sequence of str, str or None
            Columns to read; None reads all.
        **options
            For :func:`lsdb.open_catalog`; a view has none.

        Raises
        ------
        UsageError
            If there are no positions.
        """
        columns = self._named(columns)
        with self._reaching():
            return self._lsdb(columns, **options)

    def _reaching(self) -> Reaching:
        return Reaching(self._snapshot.layout.root)

    def _named(self, columns: Columns) -> list[str] | None:
        """Return the columns that are named; refuse none at all, and one that does not exist."""
        if columns is None:
            return None
        wanted = [columns] if isinstance(columns, str) else list(columns)
        names = self.columns
        if not wanted:
            raise UsageError(f"no column of {self.name} is named; leave `columns` out for all of them")
        for column in wanted:
            if column not in names:
                raise UsageError(no_column(self.name, column, names))
        return [str(column) for column in wanted]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.description}>"

    def _repr_html_(self) -> str:
        rows = []
        for field in self._schema:
            metadata = field.metadata or {}
            unit, text = (metadata.get(key, b"").decode() for key in (b"unit", b"description"))
            rows.append((field.name, str(field.type).partition("<")[0], unit, text))
        return html_table(rows, ["column", "type", "unit", "description"], f"{self.name}: {self.description}")


class Table(Readable):
    """A table of a lake, as it was at the snapshot that the lake was opened at.

    What is read lazily (:meth:`dataset`, :meth:`lazy_polars`, :meth:`dask`, :meth:`lsdb`) stays readable for as long
    as it is kept, whatever is committed or vacuumed meanwhile. No order of rows is promised.

    Examples
    --------
    >>> sources = lake["sources"]
    >>> len(sources), sources.units["flux_aper2"]
    (24121, 'adu/s')
    >>> sources.pandas(["mjd_mid", "flux_aper2"], cone=(197.31655, -19.82025, 0.01))
    """

    def __init__(self, snapshot: Snapshot, name: str) -> None:
        self._opened = OpenTable(snapshot, name)
        super().__init__(snapshot, name, self._opened.schema.description)

    @property
    def _schema(self) -> pa.Schema:
        return self._opened.form

    def _n_rows(self) -> int:
        return len(self._opened)

    def _arrow(self, columns: Names, filter: Any, cone: Cone) -> pa.Table:
        return self._opened.arrow(columns, filter, cone)

    def _dask(self, columns: Names) -> Any:
        return self._opened.dask(columns)

    def _lsdb(self, columns: Names, **options: Any) -> Any:
        require_positions(self.name, self._opened)
        if columns is not None:
            options["columns"] = list(columns)
        return self._opened.lsdb(**options)

    def dataset(self) -> pds.Dataset:
        """Return the table as an Arrow dataset, which reads the columns and row groups that a query needs.

        A table in blocks, as light curves, is read and merged at once, with all columns: :meth:`dask` reads it lazily,
        and :meth:`arrow` the columns that are named.

        Raises
        ------
        LakeError
            If a file is missing, has another size than it was written with, or is one too many.
        """
        with self._reaching():
            return self._opened.dataset()

    def lazy_polars(self) -> pl.LazyFrame:
        """Return the table as a lazy polars frame, made from :meth:`dataset`.

        Raises
        ------
        UsageError
            If polars is not installed.
        """
        with self._reaching():
            return self._opened.lazy_polars()


def require_positions(name: str, opened: OpenTable) -> None:
    """Refuse a table, or a view of its rows, that lsdb cannot open.

    Raises
    ------
    UsageError
        If it has no positions.
    """
    if opened.schema.layout.kind != "hats":
        raise UsageError(
            f"{name} has no index of positions, which lsdb needs; read it with dask, arrow, pandas or polars"
        )


def plain_cone(cone: Sequence[float]) -> tuple[float, float, float]:
    """Return right ascension, declination and radius as numbers of Python, whatever numbers they are.

    Raises
    ------
    UsageError
        If they are not three numbers within their limits, degrees; NaN is not.
    """
    try:
        ra, dec, radius = map(float, cone)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a cone is (ra, dec, radius), degrees, and not {cone!r}") from error
    return (
        *plain_position(ra, dec, " of a cone"),
        _within("radius of a cone", radius, 0.0, 180.0, "degrees"),
    )


def plain_position(ra: object, dec: object, of: str = "") -> tuple[float, float]:
    """Return right ascension and declination, degrees, as numbers of Python, whatever numbers they are.

    Raises
    ------
    UsageError
        If they are no numbers within their limits; NaN is not.
    """
    return (
        _within(f"ra{of}", ra, -180.0, 360.0, "degrees"),
        _within(f"dec{of}", dec, -90.0, 90.0, "degrees"),
    )


def plain_radius(arcsec: object) -> float:
    """Return a radius in arcseconds as a number of Python, whatever number it is.

    Raises
    ------
    UsageError
        If it is no number within its limits; NaN is not.
    """
    return _within("radius", arcsec, 0.0, 180.0 * 3600.0, "arcseconds")


def _within(name: str, value: Any, least: float, largest: float, unit: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not least <= number <= largest:
        raise UsageError(f"the {name} is a number from {least:g} to {largest:g} {unit}, and not {value!r}")
    return number
