"""Convert values of a user's columns: numbers in any spelling, angles, units and identifiers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.ids import text_id
from skylake.errors import CatalogError

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
RaUnit = Literal["degrees", "hours"] | None

_NO_VALUE = ("", "null", "nan", "none", "na", "n/a", "masked", "--", "-", "...", "\\n")
_NUMBER = r"(?i)^[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity)$"
_SEXAGESIMAL = (
    r"^(?P<sign>[+-]?)(?P<whole>\d{1,3})\s?(?P<mark>[hd:°\s])\s*"
    r"(?P<minutes>\d{1,2})\s?[m:'\x{2032}\s]\s*(?P<seconds>\d{1,2}(?:\.\d*)?)\s?[s\"\x{2033}]?$"
)

#: Words for units in the wild that the unit parser does not know.
_UNIT_WORDS = {
    "degree": "deg",
    "degrees": "deg",
    "nanomaggies": "nmgy",
    "nanomaggy": "nmgy",
    "microjy": "uJy",
    "radian": "rad",
    "radians": "rad",
    "mas/year": "mas/yr",
    "arcsec/year": "arcsec/yr",
    "deg/year": "deg/yr",
    "mag(vega)": "mag",
    "magnitude": "mag",
    "magnitudes": "mag",
}
#: As the unit of an angle these are hours of right ascension, not of time.
_HOUR_WORDS = ("h", "hr", "hour", "hours")

_INT63_MAX = 2**63 - 1
#: How tools write integers that went through floating point, as 3.4E+18 or 17.0.
_FLOAT_SPELT = r"^\d+\.0*$|^\d+(\.\d*)?[eE]\+\d+$"
#: From here on not every integer is a float64.
_FLOAT_INTEGERS = 2.0**53


@dataclass(frozen=True, slots=True)
class RawRows:
    """Rows of a file, with what is needed to convert them and to say what is wrong with them.

    Attributes
    ----------
    table : pyarrow.Table, (n,)
        The columns as the file holds them.
    units : mapping of str to str
        Column to unit, where the file gives one.
    source : str
        Name of the file.
    numbers : numpy.ndarray, (n,)
        Zero-based number of each row in the file.
    """

    table: pa.Table
    units: Mapping[str, str]
    source: str
    numbers: IntArray

    def fail(self, name: str, position: int, problem: str) -> NoReturn:
        """Raise a CatalogError that names the file, the column and the row, counted from 1."""
        row = int(self.numbers[position]) + 1
        raise CatalogError(f"{self.source}: the column {name!r} holds {problem} (data row {row})")


def unit_factor(rows: RawRows, name: str, target: str) -> float:
    """Return the number by which a column is multiplied to be in `target`, 1 if the file gives no unit.

    Raises
    ------
    CatalogError
        If the unit is unknown or of another kind.
    """
    text = _unit_text(rows, name)
    if target == "deg" and text.casefold() in _HOUR_WORDS:
        text = "hourangle"
    if not text:
        return 1.0
    import astropy.units as u

    try:
        unit = u.Unit(text)
        # The zero point of mag(AB) says nothing about the size of the unit.
        return 1.0 if target == "mag" and isinstance(unit, u.MagUnit) else float(unit.to(target))
    except (ValueError, TypeError) as error:
        raise CatalogError(
            f"{rows.source}: the unit {text!r} of the column {name!r} cannot be turned into {target}; "
            f"correct it with --unit {name}=UNIT"
        ) from error


def _unit_text(rows: RawRows, name: str) -> str:
    text = rows.units.get(name, "").strip().strip('"')
    return _UNIT_WORDS.get(text.casefold(), text)


def numbers(rows: RawRows, name: str) -> FloatArray:
    """Return a column of numbers, or of texts that spell numbers, as float64 of shape (n,); null becomes NaN.

    Raises
    ------
    CatalogError
        If a text is no number, or the column holds neither numbers nor text.
    """
    values, left = _numbers_where_spelt(_flat(rows, name))
    if left.any():
        position = int(np.argmax(left))
        text = rows.table.column(name)[position].as_py()
        rows.fail(name, position, f"{text!r}, which is no number; correct or blank it")
    return values


def first_number(rows: RawRows, name: str) -> float:
    """Return the first finite number of a column; NaN without one."""
    values = numbers(rows, name)
    return float(next(iter(values[np.isfinite(values)]), np.nan))


def right_ascension(rows: RawRows, name: str, unit: RaUnit) -> FloatArray:
    """Return a column of right ascensions in degrees, shape (n,); null becomes NaN.

    Parameters
    ----------
    rows : RawRows
        The rows.
    name : str
        The column. Numbers are in the unit of the file, else in `unit`, else degrees. Texts in three parts
        are degrees if they are marked with d or °, or if `unit` says so, else hours.
    unit : {'degrees', 'hours'} or None
        The unit as the caller states it.

    Raises
    ------
    CatalogError
        If a value is no angle, or if file, text and `unit` contradict each other.
    """
    values = _flat(rows, name)
    degrees, left = _numbers_where_spelt(values)
    if np.isfinite(degrees).any():
        degrees = degrees * _ra_factor(rows, name, unit)
    if left.any():
        at = np.flatnonzero(left)
        angle, mark = _three_parts(rows, name, values.take(pa.array(at)), at)
        degrees[at] = angle * _hours_or_degrees(rows, name, (angle, mark, at), unit)
    return degrees


def has_angles_in_parts(rows: RawRows, name: str) -> bool:
    """Return whether a column holds angles such as 12:34:56.7."""
    return bool(_numbers_where_spelt(_flat(rows, name))[1].any())


def has_numbers(rows: RawRows, name: str) -> bool:
    """Return whether a file holds a column as numbers, not as texts."""
    return not pa.types.is_large_string(_flat(rows, name).type)


def declination(rows: RawRows, name: str) -> FloatArray:
    """Return a column of declinations in degrees, shape (n,), as :func:`right_ascension` does."""
    values = _flat(rows, name)
    degrees, left = _numbers_where_spelt(values)
    if np.isfinite(degrees).any():
        degrees = degrees * unit_factor(rows, name, "deg")
    if left.any():
        at = np.flatnonzero(left)
        degrees[at], mark = _three_parts(rows, name, values.take(pa.array(at)), at)
        if (mark == "h").any():
            rows.fail(name, int(at[np.argmax(mark == "h")]), "a declination in hours; correct the column")
    return degrees


def _flat(rows: RawRows, name: str) -> pa.Array:
    """Return a column as one array, of numbers or of large_string."""
    column = rows.table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = column.cast(pa.large_string())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        if not pa.types.is_null(kind):
            raise CatalogError(
                f"{rows.source}: the column {name!r} holds values of type {kind}; "
                "give a column of numbers or text"
            )
        column = column.cast(pa.float64())
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _float64(values: pa.Array) -> FloatArray:
    floats = values.cast(pa.float64(), safe=not pa.types.is_integer(values.type))
    return np.array(floats.fill_null(np.nan).to_numpy(zero_copy_only=False), np.float64)


def _numbers_where_spelt(values: pa.Array) -> tuple[FloatArray, BoolArray]:
    """Return numbers, NaN where there is none, and where a text is neither a number nor a word for none."""
    try:
        return _float64(values), np.zeros(len(values), bool)
    except pa.ArrowInvalid:
        pass
    trimmed = pc.utf8_trim_whitespace(values)
    try:
        # Columns of equal width are filled up with blanks.
        return _float64(pc.if_else(pc.equal(trimmed, ""), None, trimmed)), np.zeros(len(values), bool)
    except pa.ArrowInvalid:
        pass
    missing = pc.is_in(pc.utf8_lower(trimmed), value_set=pa.array(_NO_VALUE, pa.large_string()))
    spelt = pc.match_substring_regex(trimmed, _NUMBER)
    plain = pc.utf8_ltrim(pc.if_else(spelt, trimmed, None), "+")
    left = pc.and_not(pc.and_not(pc.is_valid(values), missing), spelt.fill_null(False))
    return _float64(plain), np.asarray(left)


def _three_parts(rows: RawRows, name: str, texts: pa.Array, at: IntArray) -> tuple[FloatArray, Any]:
    """Return sexagesimal texts in units of their first part, and the mark that follows it."""
    parts = pc.extract_regex(pc.utf8_trim_whitespace(texts), _SEXAGESIMAL)
    if parts.null_count:
        position = int(np.argmax(np.asarray(pc.is_null(parts))))
        text = texts[position].as_py()
        rows.fail(
            name, int(at[position]), f"{text!r}, neither a number nor an angle like 12:34:56.7; correct it"
        )
    whole, minutes, seconds = (_float64(parts.field(part)) for part in ("whole", "minutes", "seconds"))
    wrong = (minutes >= 60.0) | (seconds > 60.0)
    if wrong.any():
        position = int(np.argmax(wrong))
        rows.fail(name, int(at[position]), f"{texts[position].as_py()!r}, 60 minutes or more; correct it")
    sign = np.where(np.asarray(pc.equal(parts.field("sign"), "-")), -1.0, 1.0)
    mark = parts.field("mark").to_numpy(zero_copy_only=False)
    return sign * (whole + minutes / 60.0 + seconds / 3600.0), mark


def _ra_factor(rows: RawRows, name: str, unit: RaUnit) -> float:
    given = unit_factor(rows, name, "deg")
    stated = {"degrees": 1.0, "hours": 15.0, None: given}[unit]
    if rows.units.get(name, "").strip() and not math.isclose(given, stated):
        raise CatalogError(
            f"{rows.source}: the column {name!r} is in {rows.units[name]!r} by the file but in {unit} by the "
            "command; drop one of the two"
        )
    return stated


def _hours_or_degrees(
    rows: RawRows, name: str, texts: tuple[FloatArray, Any, IntArray], unit: RaUnit
) -> FloatArray:
    """Return 15 for right ascensions in hours and 1 for those in degrees."""
    angle, mark, at = texts
    in_degrees = np.isin(mark, ["d", "°"])
    in_hours = mark == "h"
    in_file = _UNIT_WORDS.get(rows.units.get(name, "").strip().casefold(), rows.units.get(name, "").strip())
    factor = np.where(in_degrees | ((unit == "degrees") & ~in_hours), 1.0, 15.0)
    contradicted = in_hours & (unit == "degrees") | in_degrees & (unit == "hours")
    open_unit = ~in_hours & ~in_degrees & (unit is None)
    ambiguous = (
        (factor == 15.0) & ((angle < 0) | (angle >= 24)) | open_unit & (in_file == "deg") | contradicted
    )
    if ambiguous.any():
        position = int(at[np.argmax(ambiguous)])
        text = rows.table.column(name)[position].as_py()
        problem = f"{text!r}, which may be hours or degrees; state the unit of right ascension"
        rows.fail(name, position, problem)
    return factor


def jansky_factor(rows: RawRows, name: str) -> float | None:
    """Return the number by which a column of fluxes is multiplied to be in jansky; None if its unit is of no flux."""
    text = _unit_text(rows, name)
    if not text:
        return None
    import astropy.units as u

    try:
        unit = u.Unit(text)
        if isinstance(unit, u.MagUnit):
            return None
        maggies = u.zero_point_flux(3631.0 * u.Jy)
        return float(unit.to(u.Jy, equivalencies=maggies))
    except (ValueError, TypeError):
        return None


def texts(rows: RawRows, name: str) -> pa.ChunkedArray:
    """Return a column as texts without case and outer blanks; null where there is nothing."""
    return pc.utf8_lower(names(rows, name))


def names(rows: RawRows, name: str) -> pa.ChunkedArray:
    """Return a column as texts without outer blanks; null where there is nothing."""
    column = rows.table.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    found = pc.utf8_trim_whitespace(column.cast(pa.string()))
    return pc.if_else(pc.equal(found, ""), None, found)


def identifiers(
    rows: RawRows, name: str | tuple[str, ...] | None, substitutes: IntArray
) -> tuple[dict[str, pa.Array], int]:
    """Return the columns ``ref_id`` and, for texts, ``name`` of a column of identifiers.

    Integers stay what they are. A text that spells a non-negative integer below 2^63 without leading zeros is
    that integer, so that an identifier is the same from CSV, which knows no types, as from other formats. Any
    other text, without the blanks around it, is hashed by :func:`skylake.core.ids.text_id`.

    Parameters
    ----------
    rows : RawRows
    name : str or tuple of str or None
        The column; the columns whose texts, joined by ``-``, are the identifier; None for no identifiers.
    substitutes : numpy.ndarray of int64, (n,)
        Identifiers of rows that have none.

    Returns
    -------
    columns : dict
    n_missing : int
        Rows without an identifier, of a table that has some.

    Raises
    ------
    CatalogError
        If an identifier is negative, no integer, or does not fit 63 bits.
    """
    if name is None:
        return {"ref_id": pa.array(substitutes)}, 0
    if isinstance(name, tuple):
        parts = [_flat(rows, part).cast(pa.large_string()) for part in name]
        values = pc.binary_join_element_wise(
            *map(pc.utf8_trim_whitespace, parts), pa.scalar("-", pa.large_string())
        )
        found = _text_identifiers(rows, name[0], values)
    else:
        values = _flat(rows, name)
        if pa.types.is_large_string(values.type):
            found = _text_identifiers(rows, name, pc.utf8_trim_whitespace(values))
        else:
            found = {"ref_id": _integer_identifiers(rows, name, values)}
    n_missing = found["ref_id"].null_count
    if n_missing:
        found["ref_id"] = pc.coalesce(found["ref_id"], pa.array(substitutes))
    return found, n_missing


def _integer_identifiers(rows: RawRows, name: str, values: pa.Array) -> pa.Array:
    if not pa.types.is_integer(values.type):
        values = _whole_numbers(rows, name, values)
    _refuse(rows, name, pc.less(values, pa.scalar(0, values.type)), "a negative identifier; correct it")
    if pa.types.is_uint64(values.type):
        too_large = pc.greater(values, pa.scalar(_INT63_MAX, pa.uint64()))
        _refuse(rows, name, too_large, "an identifier beyond 63 bits; store the column as text")
    return values.cast(pa.int64())


def _refuse(rows: RawRows, name: str, wrong: pa.Array, problem: str) -> None:
    if pc.any(wrong).as_py():
        rows.fail(name, int(np.argmax(np.asarray(wrong.fill_null(False)))), problem)


def _whole_numbers(rows: RawRows, name: str, values: pa.Array) -> pa.Array:
    floats = _float64(values)
    wrong = ~np.isnan(floats) & ((np.abs(floats) > _FLOAT_INTEGERS) | (np.mod(floats, 1.0) != 0.0))
    problem = (
        "an identifier that is no integer below 2^53, so its digits are lost if it was one; export the column as "
        "integers or text"
    )
    _refuse(rows, name, pa.array(wrong), problem)
    return pa.array(np.nan_to_num(floats).astype(np.int64), mask=np.isnan(floats))


def _text_identifiers(rows: RawRows, name: str, texts: pa.Array) -> dict[str, pa.Array]:
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    _refuse(rows, name, pc.match_substring_regex(texts, r"^-\d+$"), "a negative identifier; correct it")
    in_floats = pc.match_substring_regex(texts, _FLOAT_SPELT)
    if pc.any(in_floats).as_py():
        # Whole numbers that went through floating point are themselves again, as from a column of floats.
        whole = _whole_numbers(rows, name, pc.if_else(in_floats, texts, None)).cast(pa.large_string())
        texts = pc.if_else(in_floats, whole, texts)
    spelt = pc.match_substring_regex(texts, r"^(0|[1-9]\d{0,18})$")
    # Nineteen digits fit an unsigned integer, though not always a signed one.
    value = pc.if_else(spelt, texts, None).cast(pa.uint64())
    value = pc.if_else(pc.less_equal(value, pa.scalar(_INT63_MAX, pa.uint64())), value, None).cast(pa.int64())
    if value.null_count == texts.null_count:
        return {"ref_id": value}
    names = pc.if_else(pc.is_null(value), texts, None)
    coded = names.dictionary_encode()
    hashed = pa.array([text_id(text) for text in coded.dictionary.to_pylist()], pa.int64())
    return {"ref_id": pc.coalesce(value, hashed.take(coded.indices)), "name": names.cast(pa.string())}


def mixed_id(*words: npt.NDArray[np.uint64]) -> IntArray:
    """Return a non-negative identifier for each row of one or more 64-bit words.

    Parameters
    ----------
    *words : numpy.ndarray of uint64, (n,)
        The words in order; the order matters.

    Notes
    -----
    Each word is folded in by the finaliser of SplitMix64 (Steele, Lea & Flood 2014, OOPSLA), a bijection; the
    lowest bit is dropped. Among n rows about n^2 / 2^64 pairs share an identifier: 0.05 in a billion rows.
    """
    state = np.zeros(words[0].shape, np.uint64)
    for word in words:
        state = (state + np.uint64(0x9E3779B97F4A7C15)) ^ word
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return (state >> np.uint64(1)).astype(np.int64)


def position_id(ra_deg: FloatArray, dec_deg: FloatArray) -> IntArray:
    """Return identifiers that follow from positions: :func:`mixed_id` of the bits of both float64 values."""
    # Adding 0 turns -0, another pattern of the same number, into 0.
    return mixed_id((ra_deg + 0.0).view(np.uint64), (dec_deg + 0.0).view(np.uint64))
