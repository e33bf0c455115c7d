"""Lists of stars: the words of a command line, and files of positions or identifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from skylake.core.sky_positions import begins_position, position_of
from skylake.errors import CatalogError, UsageError, reason_of
from skylake.sky.catalog_files import is_text, read_batches, read_header
from skylake.sky.catalog_limits import open_unpacked
from skylake.sky.catalog_values import FloatArray, RawRows, declination, names, right_ascension
from skylake.sky.star_columns import DEC_NAMES, RA_NAMES, first_named, position_columns

_NAMES = ("object_id", "star", "name", "ref_id", "star_id", "id", "identifier", "target")
#: What stands for no identifier, in masked columns too.
_NO_IDENTIFIER = ("", "--", "nan", "None")
#: Stars of a list: each is looked for in all tables. A text of them has lines of a hundred letters.
_MOST_STARS = 100_000
_MOST_BYTES = 100 * _MOST_STARS
_DEGREES = ("", "deg", "degree", "degrees")


@dataclass(frozen=True, slots=True)
class ListedStar:
    """A star of a list.

    Attributes
    ----------
    called : str
        What it is called in headers and alerts.
    star : str
        Its position where the list has one, else its identifier or name.
    object_id : str
        The identifier that a table has beside the position: of the star that is meant, if the lake has that there.
        Empty without one.
    """

    called: str
    star: str
    object_id: str = ""


def stars_of_words(words: Sequence[str]) -> list[str]:
    """Return the stars that words name: two words that make a position are one star.

    A word with a point, colons or letters of hours can only begin a position, as ``188.7362 -1.3958``; plain integers
    are identifiers.

    Raises
    ------
    UsageError
        If a word begins a position that has no second half.
    """
    stars, rest = [], list(words)
    while rest:
        word = rest.pop(0)
        if begins_position(word):
            second = rest.pop(0) if rest else ""
            word = f"{word} {second}".strip()
            if position_of(word) is None:
                raise UsageError(
                    f"{word}: this is half of a position; write both, as in 188.7362 -1.3958 or "
                    '"12:34:56.7 -01:23:45"'
                )
        stars.append(word)
    return stars


def read_named_stars(path: Path) -> list[ListedStar]:
    """Return the stars of a file, by their positions or, without these, by identifiers or names.

    Parameters
    ----------
    path : Path
        A table with a column of identifiers or names (``object_id``, ``star``, ``name`` …) or of positions (by their
        UCDs, or called ``ra`` and ``dec`` …) as CSV, ECSV, FITS, VOTable or Parquet; or a text with a star on each
        line. Lines of a text that begin with ``#`` are left out.

    Raises
    ------
    UsageError
        If the file cannot be read, has no such columns, or too many stars.
    """
    try:
        if is_text(path):
            lines = _lines(path)
            if not _is_table(path, lines):
                return _not_too_many([ListedStar(line, line) for line in lines], path)
        return _of_table(path)
    except (CatalogError, OSError, UnicodeDecodeError) as error:
        if isinstance(error, CatalogError):
            raise UsageError(str(error)) from error
        why = reason_of(error) if isinstance(error, OSError) else "it is no such file"
        raise UsageError(f"{path}: the stars cannot be read ({why}); name a file of stars") from error


def _lines(path: Path) -> list[str]:
    with open_unpacked(path) as stream:
        content = stream.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise UsageError(
            f"{path}: the list has more than {_MOST_BYTES // 10**6} MB; divide it into several, or save it as Parquet"
        )
    text = content.decode("utf-8-sig")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _is_table(path: Path, lines: Sequence[str]) -> bool:
    """Return whether a text has columns, not a star on each line."""
    if path.suffix.lower() in (".csv", ".tsv"):
        return True
    if not lines:
        return False
    found = read_header(path, (*_NAMES, *RA_NAMES, *DEC_NAMES)).names
    divided = any(mark in lines[0] for mark in ",;|\t") and first_named(found, _NAMES) is not None
    return divided or position_columns(found, {}) is not None


def _not_too_many(stars: list[ListedStar], path: Path) -> list[ListedStar]:
    if len(stars) > _MOST_STARS:
        raise UsageError(f"{path}: the list has more than {_MOST_STARS} stars; divide it into several")
    return stars


def _of_table(path: Path) -> list[ListedStar]:
    """Return stars by position, or by identifier or name where they have none."""
    header = read_header(path, (*_NAMES, *RA_NAMES, *DEC_NAMES))
    position = position_columns(header.names, header.ucds)
    called, number = (first_named(header.names, [name]) for name in ("name", "object_id"))
    star = first_named(header.names, _NAMES)
    if position is None and star is None:
        raise UsageError(
            f"{path}: no column of {', '.join(header.names[:20])} names stars; call one object_id or name, or two ra "
            "and dec"
        )
    wanted = tuple(dict.fromkeys(name for name in (*(position or ()), called, number, star) if name))
    stars: list[ListedStar] = []
    for batch in read_batches(path, wanted, _MOST_STARS):
        row_numbers = batch.first_row + np.arange(batch.table.num_rows)
        rows = RawRows(batch.table, batch.units, batch.source, row_numbers)
        texts = {name: [_known(text) for text in names(rows, name).to_pylist()] for name in wanted}
        identifiers = texts[star] if star else [""] * len(row_numbers)
        places = [""] * len(row_numbers) if position is None else _places(rows, position, texts)
        for row, (place, identifier) in enumerate(zip(places, identifiers, strict=True)):
            if not place and not identifier:
                raise UsageError(
                    f"{path}: data row {row_numbers[row] + 1} names no star; complete or delete it"
                )
            stars.append(
                ListedStar(
                    (texts[called][row] if called else identifier) or place or identifier,
                    place or identifier,
                    texts[number][row] if number and place else "",
                )
            )
        _not_too_many(stars, path)
    return stars


def _places(rows: RawRows, position: tuple[str, str], texts: dict[str, list[str]]) -> list[str]:
    """Return positions in degrees or sexagesimal parts; empty where there is none."""
    ra = _angles(rows, position[0], texts, lambda rows, name: right_ascension(rows, name, None))
    dec = _angles(rows, position[1], texts, declination)
    return [f"{one} {other}" if one and other else "" for one, other in zip(ra, dec, strict=True)]


def _angles(
    rows: RawRows,
    name: str,
    texts: dict[str, list[str]],
    in_degrees: Callable[[RawRows, str], FloatArray],
) -> list[str]:
    """Return the angles of a column as they stand in the file, in degrees if that has another unit."""
    column = rows.table.column(name)
    if rows.units.get(name, "").strip().lower() not in _DEGREES:
        values = in_degrees(rows, name)
    elif pa.types.is_floating(column.type):
        values = column.to_numpy()
    else:
        return texts[name]
    return [np.format_float_positional(value, trim="-") if np.isfinite(value) else "" for value in values]


def _known(text: str | None) -> str:
    """Return a name or identifier; empty for none."""
    return "" if text is None or text in _NO_IDENTIFIER else text
