"""Convert the rows of a user's table to rows of a reference catalog.

Every importer ends here: a batch of rows under the names, units and habits of its file goes in, the same
stars under :func:`skylake.sky.catalog_columns.catalog_schema` come out, with a count of what was left behind.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.bands import colour_column, mag_column
from skylake.core.sphere import apply_proper_motion, healpix_index
from skylake.errors import CatalogError
from skylake.schema import conform
from skylake.sky.catalog_columns import (
    NO_MAGNITUDE,
    BandSum,
    CatalogColumns,
    Cut,
    require_columns,
    system_of,
)
from skylake.sky.catalog_values import (
    BoolArray,
    FloatArray,
    RawRows,
    declination,
    has_angles_in_parts,
    has_numbers,
    identifiers,
    jansky_factor,
    names,
    numbers,
    position_id,
    right_ascension,
    texts,
    unit_factor,
)

#: Right ascensions in hours are below this.
_HOURS = 24.0
#: Why rows are dropped.
_NO_POSITION, _OUTSIDE = "no position", "position outside the sphere"
#: Rounding may put a position, above all one in radians, beyond the edge of the sphere by this much.
_EDGE_DEG = 1e-4
#: Numbers that mean "not measured" in any unit.
_SENTINELS = (-999.0, -9999.0, -99999.0, 9999.0, 99999.0)
#: No star moves faster than 10,400 mas/yr (Barnard's star); what does is a missing value.
_FASTEST_MAS_YR = 20_000.0
#: Flux of a star of AB magnitude 0, jansky (Oke & Gunn 1983, ApJ 266, 713).
_AB_ZERO_JY = 3631.0
#: Magnitudes in a relative error of 1.
_MAG_PER_RATIO = 2.5 / math.log(10.0)


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
        Rows dropped because the declination is beyond ±90 or the right ascension outside [-180, 360] degrees, by more
        than rounding does.
    firsts : dict
        Reason in words to the first row that was dropped for it.
    largest_ra : float
        Largest right ascension in degrees of what may be hours; infinite where nothing leaves this open.
    cut : dict
        Reason to the number of rows that :attr:`CatalogColumns.keep_rows` dropped for it.
    without_id : int
        Rows whose identifier was missing and is derived from the position.
    """

    rows_read: int = 0
    without_position: int = 0
    outside_sphere: int = 0
    firsts: dict[str, str] = field(default_factory=dict, compare=False)
    largest_ra: float = field(default=-math.inf, compare=False)
    cut: dict[str, int] = field(default_factory=dict)
    without_id: int = 0

    def __add__(self, other: ImportReport) -> ImportReport:
        return ImportReport(
            self.rows_read + other.rows_read,
            self.without_position + other.without_position,
            self.outside_sphere + other.outside_sphere,
            other.firsts | self.firsts,
            max(self.largest_ra, other.largest_ra),
            dict(Counter(self.cut) + Counter(other.cut)),
            self.without_id + other.without_id,
        )

    @property
    def may_be_hours(self) -> bool:
        """Whether every right ascension is as small as one in hours."""
        return 0.0 <= self.largest_ra < _HOURS

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that were dropped, by reason in words; reasons that did not occur are left out."""
        counts = {_NO_POSITION: self.without_position, _OUTSIDE: self.outside_sphere, **self.cut}
        return {reason: count for reason, count in counts.items() if count}


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
    the like in any unit, and fluxes that are not positive. Every rule looks at one row alone, so the result
    depends neither on the order of rows nor on where batches end.

    ``ref_id`` is what :func:`skylake.sky.catalog_values.identifiers` makes of the identifier: an integer as
    it is, a text hashed and kept in ``name``. Without one it is
    :func:`skylake.sky.catalog_values.position_id` of the float64 values in ``ra_deg`` and ``dec_deg``, so
    rows at exactly the same position share it.
    """
    require_columns(batch.column_names, columns.wanted, source)
    given = {name: unit for name, unit in (units or {}).items() if unit.strip()}
    units = {**columns.usual_units, **given, **columns.units}
    rows = RawRows(batch, units, source, first_row + np.arange(batch.num_rows))
    ra, dec = _positions(rows, columns)
    _require_radians(rows, columns, given, ra, dec)
    finite = np.isfinite(ra) & np.isfinite(dec)
    keep = finite & (ra >= -180.0 - _EDGE_DEG) & (ra <= 360.0 + _EDGE_DEG) & (np.abs(dec) <= 90.0 + _EDGE_DEG)
    dec = np.where(keep, dec.clip(-90.0, 90.0), dec)
    why = {_NO_POSITION: ~finite, _OUTSIDE: finite & ~keep}
    placed = keep.copy()
    for cut in columns.keep_rows:
        good = _meets(rows, cut)
        reason = cut.why or f"{cut.column} outside its limits"
        why[reason] = why.get(reason, np.zeros(len(keep), bool)) | (keep & ~good)
        keep &= good
    cuts = {reason: int(np.sum(dropped)) for reason, dropped in why.items() if np.any(dropped & placed)}
    firsts, largest = _firsts(rows, why, ra, dec), _largest_open(rows, columns, ra[placed])
    if not keep.all():
        rows = RawRows(batch.filter(pa.array(keep)), rows.units, source, rows.numbers[keep])
        ra, dec = ra[keep], dec[keep]
    motion = _proper_motion(rows, columns, dec) if columns.pm_ra else {}
    if columns.row_epoch is not None:
        ra, dec = _at_epoch(rows, columns, ra, dec, motion)
    ra = ra % 360.0
    ra = np.where(ra == 360.0, 0.0, ra) + 0.0  # so close below 0 that it became 360; and -0 becomes 0
    stars: dict[str, Any] = {"_healpix_29": healpix_index(ra, dec), "ra_deg": ra, "dec_deg": dec}
    ids, without_id = identifiers(rows, columns.id, position_id(ra, dec))
    if columns.star_name is not None:
        ids = {"name": names(rows, columns.star_name), **ids}
    stars |= ids
    stars |= {name: _nullable(values, np.isfinite(values)) for name, values in motion.items()}
    stars |= _magnitudes(rows, columns)
    for colour, name in columns.colours.items():
        values = _in_magnitudes(rows, name, columns.missing)
        stars[colour_column(colour)] = _nullable(values, np.isfinite(values))
    if columns.variable is not None:
        stars["is_variable"] = pa.array(_is_variable(rows, columns.variable))
    counts = int(np.sum(~finite)), int(np.sum(why[_OUTSIDE]))
    report = ImportReport(batch.num_rows, *counts, firsts, largest, cuts, without_id)
    return conform(pa.table(stars), columns.schema), report


def _positions(rows: RawRows, columns: CatalogColumns) -> tuple[FloatArray, FloatArray]:
    ra, dec = right_ascension(rows, columns.ra, columns.ra_unit), declination(rows, columns.dec)
    lacking = ~(np.isfinite(ra) & np.isfinite(dec))
    if columns.otherwise is not None and lacking.any():
        other = right_ascension(rows, columns.otherwise[0], None), declination(rows, columns.otherwise[1])
        ra, dec = np.where(lacking, other[0], ra), np.where(lacking, other[1], dec)
    return ra, dec


def _require_radians(
    rows: RawRows, columns: CatalogColumns, given: Mapping[str, str], ra: FloatArray, dec: FloatArray
) -> None:
    """Refuse degrees under columns that a survey has in radians, where neither file nor user say which they are.

    Raises
    ------
    CatalogError
        If a value is too large for radians, but not for degrees.
    """
    for name, degrees, largest in ((columns.ra, ra, 360.0), (columns.dec, dec, 90.0)):
        if columns.usual_units.get(name) != "rad" or name in given or name in columns.units:
            continue
        values = np.abs(np.radians(degrees))
        wrong = (np.abs(degrees) > largest + _EDGE_DEG) & (values <= largest)
        if wrong.any():
            position = int(np.argmax(wrong))
            value = rows.table.column(name)[position].as_py()
            problem = f"{value!r}, which is too large for radians; if it is in degrees, add"
            rows.fail(name, position, f"{problem} --unit {columns.ra}=deg --unit {columns.dec}=deg")


def _at_epoch(
    rows: RawRows, columns: CatalogColumns, ra: FloatArray, dec: FloatArray, motion: Mapping[str, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Return positions moved from the epochs of their rows to that of the catalog."""
    years = columns.epoch - numbers(rows, str(columns.row_epoch))
    moves = np.isfinite(years) & (years != 0.0)
    if not moves.any() or not motion:
        return ra, dec
    east, north = (values[moves] for values in motion.values())
    ra, dec = ra.copy(), dec.copy()
    ra[moves], dec[moves] = apply_proper_motion(ra[moves], dec[moves], east, north, years[moves])
    return ra, dec


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


def _meets(rows: RawRows, cut: Cut) -> BoolArray:
    """Return which rows meet a condition; those where the value is missing do."""
    if cut.is_of_text:
        found = texts(rows, cut.column) if cut.character is None else _characters(rows, cut)
        wanted = pa.array([str(value).casefold() for value in cut.one_of])
        return np.asarray(pc.or_(pc.is_null(found), pc.is_in(found, value_set=wanted)), bool)
    values = numbers(rows, cut.column)
    known, good = np.isfinite(values), np.ones(len(values), bool)
    if cut.at_least is not None:
        good &= values >= cut.at_least
    if cut.at_most is not None:
        good &= values <= cut.at_most
    if cut.one_of:
        good &= np.isin(values, np.array(cut.one_of, float))
    if cut.or_same_as is not None:
        good |= values == numbers(rows, cut.or_same_as)
    if cut.without_bits:
        good &= (np.where(known, values, 0.0).astype(np.int64) & cut.without_bits) == 0
    return good | ~known


def _characters(rows: RawRows, cut: Cut) -> pa.Array:
    """Return the one character of each text that counts, null where there is no text.

    Tools that take ``000`` for a number lose its zeros in front. Without another digit they are known.

    Raises
    ------
    CatalogError
        If a number may have lost zeros, or a text has no such character.
    """
    assert cut.character is not None
    found = texts(rows, cut.column)
    of_numbers = has_numbers(rows, cut.column)
    if of_numbers:
        found = pc.if_else(pa.array(np.isfinite(numbers(rows, cut.column))), found, None)
    zeros = pc.match_substring_regex(found, r"^0+(\.0*)?$")
    found = pc.if_else(zeros, "0" * cut.character, found)
    wrong = pc.invert(zeros) if of_numbers else pc.less(pc.utf8_length(found), cut.character)
    wrong = np.asarray(wrong.fill_null(False), bool)
    if wrong.any():
        position = int(np.argmax(wrong))
        value = rows.table.column(cut.column)[position].as_py()
        problem = f"{value!r}, which may have lost its zeros in front; store the column as text"
        rows.fail(cut.column, position, problem)
    return pc.utf8_slice_codeunits(found, cut.character - 1, cut.character)


def _is_variable(rows: RawRows, variable: Cut | bool) -> BoolArray:
    if isinstance(variable, bool):
        return np.full(rows.table.num_rows, variable)
    return _meets(rows, variable) & _is_known(rows, variable)


def _is_known(rows: RawRows, cut: Cut) -> BoolArray:
    """Return which rows have a value for a condition: FITS and Parquet have blanks and NaN in the place of null."""
    if cut.is_of_text:
        return np.asarray(texts(rows, cut.column).is_valid(), bool)
    return np.isfinite(numbers(rows, cut.column))


def _nullable(values: FloatArray, valid: BoolArray) -> pa.Array:
    return pa.array(values, mask=~valid)


def _in_magnitudes(rows: RawRows, name: str, missing_values: tuple[float, ...] = ()) -> FloatArray:
    """Return a column in magnitudes, NaN where nothing was measured."""
    values, factor = numbers(rows, name), unit_factor(rows, name, "mag")
    missing = np.isin(values, _SENTINELS) if factor != 1.0 else np.zeros(values.shape, bool)
    missing |= np.isin(values, missing_values)
    values = values * factor
    missing |= ~(np.abs(values) < NO_MAGNITUDE)
    return np.where(missing, np.nan, values)


def _magnitudes(rows: RawRows, columns: CatalogColumns) -> dict[str, pa.Array]:
    """Return magnitudes of all bands and their errors, null where not measured."""
    measured: dict[str, tuple[FloatArray, FloatArray]] = {}
    for band, name in columns.magnitudes.items():
        jansky = jansky_factor(rows, name)
        magnitude, error = (
            _magnitude(rows, columns, band)
            if jansky is None
            else _magnitude_of_flux(rows, columns, band, jansky)
        )
        for cut in columns.keep_magnitudes.get(band, ()):
            magnitude = np.where(_meets(rows, cut), magnitude, np.nan)
        measured[band] = magnitude, error
    for band, relation in columns.sums.items():
        measured[band] = _summed(measured, relation)
    stars: dict[str, pa.Array] = {}
    for band, (magnitude, error) in measured.items():
        known = np.isfinite(magnitude)
        stars[mag_column(band)] = _nullable(magnitude, known)
        stars[f"{mag_column(band)}_err"] = _nullable(error, known & (error > 0))
    return stars


def _magnitude(rows: RawRows, columns: CatalogColumns, band: str) -> tuple[FloatArray, FloatArray]:
    magnitude = _in_magnitudes(rows, columns.magnitudes[band], columns.missing)
    source = columns.magnitude_errors.get(band)
    if isinstance(source, str):
        error = _in_magnitudes(rows, source)
        # No star is measured without an error: files that cannot leave a cell empty have 0 in both.
        return np.where((magnitude == 0.0) & (error == 0.0), np.nan, magnitude), error
    if band in columns.signal_to_noise:
        ratio = numbers(rows, columns.signal_to_noise[band])
        with np.errstate(divide="ignore", invalid="ignore"):
            return magnitude, np.where(ratio > 0, _MAG_PER_RATIO / ratio, np.nan)
    return magnitude, np.full(magnitude.shape, np.nan if source is None else source)


def _magnitude_of_flux(
    rows: RawRows, columns: CatalogColumns, band: str, jansky: float
) -> tuple[FloatArray, FloatArray]:
    """Return AB magnitudes of a column of fluxes, and their errors; NaN where the flux is not positive."""
    name = columns.magnitudes[band]
    if system_of(band, columns.systems) == "Vega":
        raise CatalogError(
            f"{rows.source}: the fluxes of the column {name!r} become AB magnitudes, and {band} is a band of the Vega "
            f"system; give the band another name, such as {band}_AB"
        )
    flux = numbers(rows, name)
    flux = np.where(np.isin(flux, (*_SENTINELS, *columns.missing)) | (flux <= 0), np.nan, flux)
    magnitude = -2.5 * np.log10(flux * jansky / _AB_ZERO_JY)
    source = columns.magnitude_errors.get(band)
    if not isinstance(source, str):
        return magnitude, np.full(flux.shape, np.nan if source is None else source)
    if rows.units.get(source, "").strip() and jansky_factor(rows, source) is None:
        return magnitude, _in_magnitudes(rows, source)
    # Without a unit of its own the error is in that of the flux.
    own = jansky_factor(rows, source) or jansky
    return magnitude, _MAG_PER_RATIO * numbers(rows, source) * (own / jansky) / flux


def _summed(
    measured: Mapping[str, tuple[FloatArray, FloatArray]], relation: BandSum
) -> tuple[FloatArray, FloatArray]:
    """Return a sum of magnitudes and its error; NaN where a term is missing or the colour is outside its limits."""
    magnitude = sum(factor * measured[band][0] for band, factor in relation.terms.items())
    variance = sum((factor * measured[band][1]) ** 2 for band, factor in relation.terms.items())
    if relation.colour:
        colour = sum(factor * measured[band][0] for band, factor in relation.colour.items())
        lowest, highest = relation.colour_limits
        magnitude = np.where((colour >= lowest) & (colour <= highest), magnitude, np.nan)
    return np.asarray(magnitude, float), np.sqrt(np.asarray(variance, float) + relation.scatter**2)


def _proper_motion(rows: RawRows, columns: CatalogColumns, dec_deg: FloatArray) -> dict[str, FloatArray]:
    """Return the components of the proper motion, mas/yr, the first with the factor cos(dec); NaN where unknown."""
    east, north = (_motion(rows, name) for name in (columns.pm_ra, columns.pm_dec) if name is not None)
    if columns.pm_ra_is_coordinate:
        east = east * np.cos(np.radians(dec_deg))
    return {"pm_ra_mas_yr": east, "pm_dec_mas_yr": north}


def _motion(rows: RawRows, name: str) -> FloatArray:
    """Return a column in mas/yr, NaN where nothing was measured."""
    values = numbers(rows, name)
    missing = np.isin(values, _SENTINELS)
    values = values * unit_factor(rows, name, "mas/yr")
    missing |= ~(np.abs(values) <= _FASTEST_MAS_YR)
    return np.where(missing, np.nan, values)
