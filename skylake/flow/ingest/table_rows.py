"""Tables of detections as files hold them: which column is what, and which rows are one frame."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.errors import CatalogError, UsageError
from skylake.sky.catalog_files import catalog_errors, open_fits, read_batches
from skylake.sky.catalog_limits import quiet
from skylake.sky.catalog_values import RaUnit, RawRows, declination, numbers, right_ascension

Floats = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
#: Julian dates are larger; Modified Julian Dates of the years 1900 to 2132 lie between these.
_LEAST_JD, _JD_OF_MJD_0 = 2_400_000.0, 2_400_000.5
_MJD_RANGE = (15_020.0, 100_000.0)
#: Magnitudes as far from 0 as this mean "not measured".
_NO_MAGNITUDE = 90.0
_ERROR_OF_MAGNITUDE = math.log(10.0) / 2.5
_SECONDS_PER_DAY = 86_400.0
#: Letters of a card of a FITS header.
_CARD = 80
#: Rows of a file: two hundred bytes each are held until all are read.
_MOST_ROWS = 5_000_000
_MEASURED = ("x", "y", "ra_deg", "dec_deg", "flux", "flux_err")
#: Columns of rows: of `_MEASURED`, and of what their frames are known by.
_Rows = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class TableColumns:
    """What the columns of a table of detections hold; a number or name in the place of a column holds for all rows.

    Attributes
    ----------
    ra, dec : str or None
    ra_unit : {'degrees', 'hours'} or None
        Of numbers whose unit the file does not say.
    x, y : str or None
        Positions in pixels.
    first_pixel : int
        What the centre of the first pixel is called: 1 in FITS and SExtractor, 0 in Python.
    flux, magnitude : str or None
        One of them, instrumental.
    error : str or float
        Its standard error.
    per_exposure : bool
        Whether fluxes are those of the whole exposure rather than of a second.
    time : str, float or None
        Modified or plain Julian Dates, or ISO 8601, UTC; a number is a Modified Julian Date. None takes it from the
        header or name of the file, as the profile says.
    time_of : {'start', 'mid', 'end'}
        Of the exposure.
    exposure : str, float or None
        Seconds.
    filter : str or None
        A column; see `filter_name` for one name.
    filter_name : str or None
    frame : str or None
        Rows with one value are one frame; None takes rows of one time and filter.
    """

    ra: str | None = None
    dec: str | None = None
    ra_unit: RaUnit = None
    x: str | None = None
    y: str | None = None
    first_pixel: int = 1
    flux: str | None = None
    magnitude: str | None = None
    error: str | float = 0.0
    per_exposure: bool = False
    time: str | float | None = None
    time_of: Literal["start", "mid", "end"] = "mid"
    exposure: str | float | None = None
    filter: str | None = None
    filter_name: str | None = None
    frame: str | None = None

    def __post_init__(self) -> None:
        for one, other, names in ((self.ra, self.dec, "--ra and --dec"), (self.x, self.y, "--x and --y")):
            if (one is None) != (other is None):
                raise UsageError(f"positions have two columns; give {names}")
        if self.ra is None and self.x is None:
            raise UsageError("a table of detections needs positions; give --ra and --dec, or --x and --y")
        if (self.flux is None) == (self.magnitude is None):
            raise UsageError(
                "a table of detections needs one column of fluxes or magnitudes; give --flux or --mag"
            )
        if isinstance(self.time, float | int) and not _MJD_RANGE[0] <= self.time <= _MJD_RANGE[1]:
            raise UsageError(
                f"--time {self.time:.12g} is no time between 1900 and 2132; write MJD, JD or ISO 8601, as in "
                "2024-05-01T21:30:00"
            )

    @property
    def wanted(self) -> list[str]:
        """Columns to read."""
        given = (
            *(self.ra, self.dec, self.x, self.y, self.flux, self.magnitude),
            *(self.error, self.time, self.exposure, self.filter, self.frame),
        )
        return list(dict.fromkeys(name for name in given if isinstance(name, str)))


@dataclass(frozen=True, slots=True)
class TableFrame:
    """The detections of one frame; arrays of shape (n,), sorted by pixel where that is known.

    Attributes
    ----------
    name : str
        Of the frame within its file; empty where it is the only one.
    mjd : float or None
        As the table says it, of the moment that `TableColumns.time_of` names; None if it does not.
    exposure_s : float or None
    filter : str or None
    x, y : ndarray or None
        0-based pixels.
    ra_deg, dec_deg : ndarray or None
    flux, flux_err : ndarray
    """

    name: str
    mjd: float | None
    exposure_s: float | None
    filter: str | None
    x: Floats | None
    y: Floats | None
    ra_deg: Floats | None
    dec_deg: Floats | None
    flux: Floats
    flux_err: Floats

    @property
    def content(self) -> bytes:
        """The values by which the frame is identified."""
        arrays = (self.x, self.y, self.ra_deg, self.dec_deg, self.flux, self.flux_err)
        head = repr((self.mjd, self.exposure_s, self.filter)).encode()
        return b"\0".join([head, *(one.tobytes() for one in arrays if one is not None)])


def read_frames(path: Path, columns: TableColumns) -> tuple[list[TableFrame], int]:
    """Return the frames of a table, and how many rows were left out since they lack a position, flux or error.

    Raises
    ------
    CatalogError
        If the file cannot be read, lacks a column, or holds a value that cannot be used.
    """
    pieces: list[_Rows] = []
    n_rows = 0
    for batch in read_batches(path, columns.wanted):
        n_rows = batch.first_row + batch.table.num_rows
        if n_rows > _MOST_ROWS:
            raise CatalogError(
                f"{path}: the table has more than {_MOST_ROWS} rows; make a file of each night, or of each frame"
            )
        numbers_of_rows = batch.first_row + np.arange(batch.table.num_rows)
        pieces.append(_rows(RawRows(batch.table, batch.units, str(path), numbers_of_rows), columns))
    if not n_rows:
        raise CatalogError(f"{path}: the table has no rows")
    rows = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    used = np.isfinite(rows["flux"]) & (rows["flux_err"] > 0.0) & np.isfinite(rows["flux_err"])
    for name in ("x", "y", "ra_deg", "dec_deg"):
        if name in rows:
            used &= np.isfinite(rows[name])
    if not used.any():
        raise CatalogError(
            f"{path}: no row has a position, a flux and an error; check the names of the columns"
        )
    frames = []
    for name, of_frame in _groups(rows, columns, np.flatnonzero(used)):

        def shared(given: str | float | None, what: str, of_frame: IntArray = of_frame) -> Any:
            return _shared(path, given, rows.get(what), of_frame, what)

        values = {axis: rows[axis][of_frame] for axis in _MEASURED if axis in rows}
        frames.append(
            TableFrame(
                name=name,
                mjd=_number(shared(columns.time, "times")),
                exposure_s=_number(shared(columns.exposure, "exposures")),
                filter=shared(columns.filter, "filters") or columns.filter_name,
                x=values.get("x"),
                y=values.get("y"),
                ra_deg=values.get("ra_deg"),
                dec_deg=values.get("dec_deg"),
                flux=values["flux"],
                flux_err=values["flux_err"],
            )
        )
    return frames, int(np.count_nonzero(~used))


def _rows(rows: RawRows, columns: TableColumns) -> _Rows:
    """Return positions, fluxes and errors of rows, and what says which frame they are of, as far as it is given."""
    values: _Rows = dict(_values(rows, columns))
    for name, given, read in (("times", columns.time, times), ("exposures", columns.exposure, numbers)):
        if given is not None:
            n_rows = rows.table.num_rows
            values[name] = read(rows, given) if isinstance(given, str) else np.full(n_rows, float(given))
    for name, column in (("filters", columns.filter), ("frames", columns.frame)):
        if column is not None:
            values[name] = np.array(texts(rows, column), object)
    return values


def _values(rows: RawRows, columns: TableColumns) -> dict[str, Floats]:
    """Return positions, fluxes and errors of all rows."""
    values: dict[str, Floats] = {}
    if columns.x is not None and columns.y is not None:
        values["x"] = numbers(rows, columns.x) - columns.first_pixel
        values["y"] = numbers(rows, columns.y) - columns.first_pixel
    if columns.ra is not None and columns.dec is not None:
        values["ra_deg"] = right_ascension(rows, columns.ra, columns.ra_unit) % 360.0
        values["dec_deg"] = declination(rows, columns.dec)
        values["dec_deg"][np.abs(values["dec_deg"]) > 90.0] = np.nan
    error = (
        numbers(rows, columns.error)
        if isinstance(columns.error, str)
        else np.full(rows.table.num_rows, columns.error)
    )
    if columns.flux is not None:
        values |= {"flux": numbers(rows, columns.flux), "flux_err": error}
        return values
    magnitude = numbers(rows, str(columns.magnitude))
    magnitude[np.abs(magnitude) >= _NO_MAGNITUDE] = np.nan
    flux = 10.0 ** (-0.4 * magnitude)
    return values | {"flux": flux, "flux_err": flux * error * _ERROR_OF_MAGNITUDE}


def times(rows: RawRows, name: str) -> Floats:
    """Return a column of times as Modified Julian Dates, shape (n,); null becomes NaN.

    Raises
    ------
    CatalogError
        If a value is no time between 1900 and 2132.
    """
    try:
        mjd = numbers(rows, name)
    except CatalogError:
        words, where = np.unique(np.asarray(texts(rows, name), str), return_inverse=True)
        known = np.array([_moment(word) for word in words.tolist()])
        mjd = known[where.reshape(-1)]
    else:
        mjd = np.where(mjd > _LEAST_JD, mjd - _JD_OF_MJD_0, mjd)
    wrong = ~((mjd >= _MJD_RANGE[0]) & (mjd <= _MJD_RANGE[1]))
    if wrong.any():
        place = int(np.argmax(wrong))
        value = rows.table.column(name)[place].as_py()
        rows.fail(
            name, place, f"{value!r}, which is no time; write MJD, JD or ISO 8601, as in 2024-05-01T21:30:00"
        )
    return mjd


def modified_julian_date(number: float) -> float:
    """Return a Modified Julian Date, or a plain one of the same range, as Modified Julian Date; others unchanged."""
    modified = number - _JD_OF_MJD_0
    return modified if _MJD_RANGE[0] <= modified <= _MJD_RANGE[1] else number


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return math.nan
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (moment - _MJD_EPOCH).total_seconds() / _SECONDS_PER_DAY


def texts(rows: RawRows, name: str) -> list[str | None]:
    """Return a column as texts; equal ones are one object."""
    values = rows.table.column(name)
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    coded = values.combine_chunks()
    words = [sys.intern(str(value).strip()) or None for value in coded.dictionary.to_pylist()]
    return [None if index is None else words[index] for index in coded.indices.to_pylist()]


def _groups(rows: _Rows, columns: TableColumns, used: IntArray) -> Iterator[tuple[str, IntArray]]:
    """Yield the name and the rows of each frame."""
    if columns.frame is not None:
        names = np.array([name or "" for name in rows["frames"][used]], str)
    else:
        keys = []
        if isinstance(columns.time, str):
            keys.append([f"{value:.8f}" for value in rows["times"][used].tolist()])
        if columns.filter is not None:
            keys.append([name or "" for name in rows["filters"][used]])
        names = np.array(
            ["-".join(parts) for parts in zip(*keys, strict=True)] if keys else [""] * len(used), str
        )
    order = np.argsort(names, kind="stable")
    found, starts = np.unique(names[order], return_index=True)
    yield from zip(found.tolist(), np.split(used[order], starts[1:]), strict=True)


def _shared(
    path: Path, given: str | float | None, values: npt.NDArray[Any] | None, of_frame: IntArray, what: str
) -> Any:
    """Return the value that all rows of a frame have; None where nothing says it.

    Raises
    ------
    CatalogError
        If they have several.
    """
    if values is None:
        return None
    first = values[of_frame[0]]
    others = of_frame[values[of_frame] != first]
    if len(others):
        raise CatalogError(
            f"{path}: the column {given!r} holds other {what} than the rows of its frame before it; check --frame "
            f"(data row {others[0] + 1}: {values[others[0]]}, not {first})"
        )
    return first


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def file_header(path: Path) -> Any:
    """Return the cards of the frame that a FITS table was made from, as far as it has them; none for other files.

    They stand in the header of the file and of its first table; SExtractor puts those of the image into a table of
    the name LDAC_IMHEAD.
    """
    from astropy.io import fits

    header = fits.Header()
    with path.open("rb") as stream:
        if stream.read(9) != b"SIMPLE  =":
            return header
    with catalog_errors(path, "FITS"), quiet(), open_fits(path) as hdus:
        tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU | fits.TableHDU)]
        for hdu in (hdus[0], *tables[:1]):
            header.update(hdu.header)
        for hdu in tables:
            if hdu.name == "LDAC_IMHEAD":
                header.update(fits.Header.fromstring(_cards(np.ravel(hdu.data.field(0)[0]).tolist())))
    return header


def _cards(pieces: Sequence[str]) -> str:
    """Return the cards of a header before its end, which FITS has without the blanks that fill them up."""
    whole = "".join(piece.ljust(-(-len(piece) // _CARD) * _CARD) for piece in pieces)
    cards = [whole[start : start + _CARD] for start in range(0, len(whole), _CARD)]
    return "".join(cards[: next((n for n, card in enumerate(cards) if card.strip() == "END"), len(cards))])


def is_of_table(file: str) -> bool:
    """Return whether a frame came as rows of a table, which have no pixels to measure targets on."""
    return "#" in file and Path(file.rpartition("#")[0]).is_file()
