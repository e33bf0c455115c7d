"""Convert the columns of a user's table to the columns of a reference catalog.

Every importer ends here: a batch of rows under the names, units and habits of its file goes in, the same
stars under :func:`catalog_schema` come out, with a count of what was left behind.
"""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from skylake.core.bands import BANDS, colour_column, mag_column
from skylake.core.sphere import healpix_index
from skylake.errors import CatalogError, UsageError
from skylake.schema import Column, TableSchema, conform, load
from skylake.sky.catalog_values import (
    BoolArray,
    FloatArray,
    RaUnit,
    RawRows,
    declination,
    has_angles_in_parts,
    identifiers,
    numbers,
    position_id,
    right_ascension,
    unit_factor,
)

_WORD = re.compile(r"[A-Za-z0-9_]+\Z")
_COLOUR = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)?\Z")

#: Magnitudes and errors as far from 0 as this mean "not measured": -999, -99.99, 99.99, 999 …
_NO_MAGNITUDE = 90.0
#: Right ascensions in hours are below this.
_HOURS = 24.0
#: Why rows are dropped.
_NO_POSITION, _OUTSIDE = "no position", "position outside the sphere"
#: Numbers that mean "not measured" in any unit.
_SENTINELS = (-999.0, -9999.0, -99999.0, 9999.0, 99999.0)
#: No star moves faster than 10,400 mas/yr (Barnard's star); what does is a missing value.
_FASTEST_MAS_YR = 20_000.0

#: Words of UCD1+ for bands, each with the wavelength, nm, up to which it holds.
_UCD_LIMITS = (
    (400.0, "em.opt.U"),
    (500.0, "em.opt.B"),
    (600.0, "em.opt.V"),
    (750.0, "em.opt.R"),
    (1000.0, "em.opt.I"),
    (1500.0, "em.IR.J"),
    (2000.0, "em.IR.H"),
    (3000.0, "em.IR.K"),
)


@dataclass(frozen=True, slots=True)
class CatalogColumns:
    """Which column of a table holds what.

    Attributes
    ----------
    ra, dec : str
        Columns of the position, ICRS. Numbers are degrees, unless the file or `ra_unit` says otherwise; texts
        such as ``12:34:56.7`` are hours in right ascension and degrees in declination.
    id : str or None
        Column of the identifier, integer or text; None derives it from the position.
    pm_ra, pm_dec : str or None
        Columns of the proper motion; mas/yr unless the file gives a unit.
    pm_ra_is_coordinate : bool
        Whether `pm_ra` is the change of the coordinate, without the factor cos(dec).
    epoch : float
        Julian year of the positions. They are not moved.
    magnitudes : mapping of str to str
        Band to column.
    magnitude_errors : mapping of str to str or float
        Band to column, or to a number for all stars (mag, 1 sigma).
    colours : mapping of str to str
        Colour such as ``B-V`` to column.
    ra_unit : {'degrees', 'hours'} or None
        Unit of right ascension, where the file does not give one or its text leaves it open.

    Raises
    ------
    UsageError
        If bands or colours cannot be names of columns, or the parts do not go together.
    """

    ra: str
    dec: str
    id: str | None = None
    pm_ra: str | None = None
    pm_dec: str | None = None
    pm_ra_is_coordinate: bool = False
    epoch: float = 2000.0
    magnitudes: Mapping[str, str] = field(default_factory=dict)
    magnitude_errors: Mapping[str, str | float] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    ra_unit: RaUnit = None

    def __post_init__(self) -> None:
        catalog_schema(tuple(self.magnitudes), tuple(self.colours))
        if (self.pm_ra is None) != (self.pm_dec is None):
            raise UsageError("proper motion needs two columns, in right ascension and in declination")
        if not math.isfinite(self.epoch):
            raise UsageError(f"the epoch {self.epoch} is no Julian year such as 2000 or 2015.5")
        if self.ra_unit not in (None, "degrees", "hours"):
            raise UsageError(f"right ascension is in 'degrees' or 'hours', not in {self.ra_unit!r}")
        for band, error in self.magnitude_errors.items():
            if band not in self.magnitudes:
                raise UsageError(f"the band {band!r} has an error but no magnitude; name its column as well")
            if not isinstance(error, str) and not 0 < error < _NO_MAGNITUDE:
                raise UsageError(
                    f"the error {error} of the band {band!r} must be a positive number of magnitudes"
                )

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        errors = [error for error in self.magnitude_errors.values() if isinstance(error, str)]
        single = [self.ra, self.dec, self.id, self.pm_ra, self.pm_dec]
        names = [*single, *self.magnitudes.values(), *errors, *self.colours.values()]
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def schema(self) -> TableSchema:
        """The schema of the catalog that these columns make."""
        return catalog_schema(tuple(self.magnitudes), tuple(self.colours))


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What became of the rows of a batch; reports add up.

    Attributes
    ----------
    rows_read : int
        Rows of the file.
    without_position : int
        Rows dropped because right ascension or declination is missing or not finite.
    outside_sphere : int
        Rows dropped because the declination is beyond ±90 or the right ascension outside [-180, 360] degrees.
    firsts : dict
        Reason in words to the first row that was dropped for it.
    largest_ra : float
        Largest right ascension in degrees of what may be hours; infinite where nothing leaves this open.
    """

    rows_read: int = 0
    without_position: int = 0
    outside_sphere: int = 0
    firsts: dict[str, str] = field(default_factory=dict, compare=False)
    largest_ra: float = field(default=-math.inf, compare=False)

    def __add__(self, other: ImportReport) -> ImportReport:
        return ImportReport(
            self.rows_read + other.rows_read,
            self.without_position + other.without_position,
            self.outside_sphere + other.outside_sphere,
            other.firsts | self.firsts,
            max(self.largest_ra, other.largest_ra),
        )

    @property
    def may_be_hours(self) -> bool:
        """Whether every right ascension is as small as one in hours."""
        return 0.0 <= self.largest_ra < _HOURS

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that were dropped, by reason in words; reasons that did not occur are left out."""
        counts = {_NO_POSITION: self.without_position, _OUTSIDE: self.outside_sphere}
        return {reason: count for reason, count in counts.items() if count}


def catalog_schema(bands: Sequence[str], colours: Sequence[str]) -> TableSchema:
    """Return the schema of a reference catalog with these bands and colours.

    Parameters
    ----------
    bands : sequence of str
        Photometric bands such as ``V``; each adds ``mag_<band>`` and ``mag_<band>_err``.
    colours : sequence of str
        Colours such as ``B-V``; each adds ``colour_<name>``.

    Raises
    ------
    UsageError
        If a name is no plain word, or two columns would differ only by case: SQL engines fold case.
    """
    for name, pattern in [(band, _WORD) for band in bands] + [(colour, _COLOUR) for colour in colours]:
        if not pattern.match(name):
            raise UsageError(
                f"{name!r} cannot name a column; use letters, digits and _ (a colour is like B-V)"
            )
    columns = [column for band in bands for column in _magnitude_columns(band)]
    columns += [_colour_column(colour) for colour in colours]
    seen: dict[str, str] = {}
    for column in columns:
        folded = column.name.casefold()
        if folded in seen:
            raise UsageError(
                f"the columns {seen[folded]!r} and {column.name!r} cannot be in one table, since "
                "databases do not distinguish upper from lower case; rename one, as in Gaia_G"
            )
        seen[folded] = column.name
    return load("catalog").extended("catalog", tuple(columns))


def _spectral_word(band: str) -> str | None:
    if band not in BANDS:
        return None
    return next((word for limit, word in _UCD_LIMITS if BANDS[band].wavelength_nm < limit), None)


def _magnitude_columns(band: str) -> tuple[Column, Column]:
    system = f", {BANDS[band].system}" if band in BANDS else ""
    name, word = mag_column(band), _spectral_word(band)
    error = Column(f"{name}_err", "float", f"Error of {name}, 1 sigma", unit="mag", ucd="stat.error;phot.mag")
    ucd = f"phot.mag;{word}" if word else "phot.mag"
    return Column(name, "float", f"Magnitude in {band}{system}", unit="mag", ucd=ucd), error


def _colour_column(colour: str) -> Column:
    words = [word for word in map(_spectral_word, colour.split("-")) if word]
    ucd = ";".join(["phot.color", *dict.fromkeys(words)])
    return Column(colour_column(colour), "float", f"Colour {colour}", unit="mag", ucd=ucd)


def require_columns(available: Sequence[str], wanted: Iterable[str], source: str) -> None:
    """Refuse a table that lacks a wanted column or has it twice.

    Raises
    ------
    CatalogError
        Names the file, the column and the columns with a similar name.
    """
    counts = Counter(available)
    for name in wanted:
        if counts[name] > 1:
            raise CatalogError(
                f"{source}: the column {name!r} occurs {counts[name]} times; rename all but one"
            )
        if not counts[name]:
            raise CatalogError(f"{source}: there is no column {name!r}; {_near(name, available)}")


def _near(name: str, available: Sequence[str]) -> str:
    # Of a damaged FITS table a column may have no name.
    folded = {column.casefold(): column for column in reversed(available) if column}
    near = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, 3)]
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(repr(column) for column in available[:20])
    return f"its columns are {shown}{' …' if len(available) > 20 else ''}"


def standardise(
    batch: pa.Table,
    columns: CatalogColumns,
    *,
    units: Mapping[str, str] | None = None,
    source: str = "the table",
    first_row: int = 0,
) -> tuple[pa.Table, ImportReport]:
    """Return a batch of rows as rows of a reference catalog.

    Parameters
    ----------
    batch : pyarrow.Table, (n,)
        At least the columns ``columns.wanted``: numbers or texts, null where masked.
    columns : CatalogColumns
        Which column holds what.
    units : mapping of str to str, optional
        Column to unit as the file gives it, for example ``{"ra": "rad", "pmRA": "arcsec/yr"}``.
    source : str
        The file, for error messages.
    first_row : int
        Rows of the file before this batch, for error messages.

    Returns
    -------
    table : pyarrow.Table, (m,)
        Conformed to ``columns.schema``, in the order of the input. Right ascension lies in [0, 360).
    report : ImportReport
        Rows read and dropped.

    Raises
    ------
    CatalogError
        For a missing column, a unit that does not fit, or a value that is no number, angle or identifier; the
        sentence names the file, the column and the row.

    Notes
    -----
    Rows without a finite position on the sphere are dropped; a row without any magnitude is kept. Magnitudes
    and colours that are null, not finite, <= -90 or >= 90 become null, and so do their errors; errors that
    are not positive become null. So do components of a proper motion beyond 20 arcsec/yr, and -999, ±9999 and
    the like in any unit. Every rule looks at one row alone, so the result depends neither on the order of
    rows nor on where batches end.

    ``ref_id`` is what :func:`skylake.sky.catalog_values.identifiers` makes of the identifier: an integer as
    it is, a text hashed and kept in ``name``. Without one it is
    :func:`skylake.sky.catalog_values.position_id` of the float64 values in ``ra_deg`` and ``dec_deg``, so
    rows at exactly the same position share it.
    """
    require_columns(batch.column_names, columns.wanted, source)
    rows = RawRows(batch, units or {}, source, first_row + np.arange(batch.num_rows))
    ra, dec = right_ascension(rows, columns.ra, columns.ra_unit), declination(rows, columns.dec)
    finite = np.isfinite(ra) & np.isfinite(dec)
    keep = finite & (ra >= -180.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0)
    report = ImportReport(
        batch.num_rows,
        int(np.sum(~finite)),
        int(np.sum(finite & ~keep)),
        _firsts(rows, {_NO_POSITION: ~finite, _OUTSIDE: finite & ~keep}, ra, dec),
        _largest_open(rows, columns, ra[keep]),
    )
    if not keep.all():
        rows = RawRows(batch.filter(pa.array(keep)), rows.units, source, rows.numbers[keep])
        ra, dec = ra[keep], dec[keep]
    ra = ra % 360.0
    ra = np.where(ra == 360.0, 0.0, ra) + 0.0  # so close below 0 that it became 360; and -0 becomes 0
    stars: dict[str, Any] = {"_healpix_29": healpix_index(ra, dec), "ra_deg": ra, "dec_deg": dec}
    stars |= identifiers(rows, columns.id) if columns.id else {"ref_id": position_id(ra, dec)}
    stars |= _proper_motion(rows, columns, dec) if columns.pm_ra else {}
    for band in columns.magnitudes:
        stars |= _magnitude(rows, columns, band)
    for colour, name in columns.colours.items():
        values = _in_magnitudes(rows, name)
        stars[colour_column(colour)] = _nullable(values, np.isfinite(values))
    return conform(pa.table(stars), columns.schema), report


def _firsts(rows: RawRows, why: Mapping[str, BoolArray], ra: FloatArray, dec: FloatArray) -> dict[str, str]:
    """Return the first row that is dropped for each reason."""
    return {
        reason: f"{rows.source}, data row {rows.numbers[at] + 1}: right ascension {ra[at]:g}, declination {dec[at]:g}"
        for reason, dropped in why.items()
        if dropped.any() and (at := int(np.argmax(dropped))) >= 0
    }


def _largest_open(rows: RawRows, columns: CatalogColumns, ra: FloatArray) -> float:
    """Return the largest right ascension if neither command, file nor text say whether it is degrees or hours."""
    if columns.ra_unit is not None or rows.units.get(columns.ra, "").strip():
        return math.inf
    largest = float(ra.max(initial=-math.inf))
    return math.inf if largest < _HOURS and has_angles_in_parts(rows, columns.ra) else largest


def _nullable(values: FloatArray, valid: BoolArray) -> pa.Array:
    return pa.array(values, mask=~valid)


def _in_magnitudes(rows: RawRows, name: str) -> FloatArray:
    """Return a column in magnitudes, NaN where nothing was measured."""
    values, factor = numbers(rows, name), unit_factor(rows, name, "mag")
    missing = np.isin(values, _SENTINELS) if factor != 1.0 else np.zeros(values.shape, bool)
    values = values * factor
    missing |= ~(np.abs(values) < _NO_MAGNITUDE)
    return np.where(missing, np.nan, values)


def _magnitude(rows: RawRows, columns: CatalogColumns, band: str) -> dict[str, pa.Array]:
    name = mag_column(band)
    magnitude = _in_magnitudes(rows, columns.magnitudes[band])
    measured = np.isfinite(magnitude)
    values = {name: _nullable(magnitude, measured)}
    source = columns.magnitude_errors.get(band)
    if source is not None:
        error = _in_magnitudes(rows, source) if isinstance(source, str) else np.full(magnitude.shape, source)
        values[f"{name}_err"] = _nullable(error, measured & (error > 0))
    return values


def _proper_motion(rows: RawRows, columns: CatalogColumns, dec_deg: FloatArray) -> dict[str, pa.Array]:
    east, north = (_motion(rows, name) for name in (columns.pm_ra, columns.pm_dec) if name is not None)
    if columns.pm_ra_is_coordinate:
        east = east * np.cos(np.radians(dec_deg))
    return {
        "pm_ra_mas_yr": _nullable(east, np.isfinite(east)),
        "pm_dec_mas_yr": _nullable(north, np.isfinite(north)),
    }


def _motion(rows: RawRows, name: str) -> FloatArray:
    """Return a column in mas/yr, NaN where nothing was measured."""
    values = numbers(rows, name)
    missing = np.isin(values, _SENTINELS)
    values = values * unit_factor(rows, name, "mas/yr")
    missing |= ~(np.abs(values) <= _FASTEST_MAS_YR)
    return np.where(missing, np.nan, values)
