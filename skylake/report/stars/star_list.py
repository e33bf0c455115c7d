"""Lists of stars: the words of a command line, and files of positions or identifiers."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from skylake.core.sky_positions import begins_position, position_of
from skylake.errors import UsageError, reason_of

#: Columns of files, in lower case, the first that is there counts.
_RA = ("ra_deg", "ra", "raj2000", "_raj2000", "ra_icrs", "radeg", "right ascension")
_DEC = ("dec_deg", "dec", "dej2000", "dej2000", "_dej2000", "de_icrs", "dedeg", "declination")
_NAME = ("object_id", "star", "name", "ref_id", "star_id", "id", "identifier", "target")
_TABLES = (".ecsv", ".fits", ".vot", ".xml", ".parquet")
#: What stands for no identifier, in masked columns too.
_NO_IDENTIFIER = ("", "--", "nan", "None")


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
        A table with a column of identifiers or names (``object_id``, ``star``, ``name`` …) or of positions (``ra`` and
        ``dec`` …) as CSV, ECSV, FITS, VOTable or Parquet; or a text with a star on each line. Lines of a text that
        begin with ``#`` are left out.

    Raises
    ------
    UsageError
        If the file cannot be read, or has no such columns.
    """
    try:
        if path.suffix.lower() in _TABLES:
            return _of_table(path)
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = reason_of(error) if isinstance(error, OSError) else "it is no such file"
        raise UsageError(f"{path}: the stars cannot be read ({why}); name a file of stars") from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if path.suffix.lower() == ".csv" or (lines and _is_header(lines[0])):
        return _of_csv(lines, path)
    return [ListedStar(line, line) for line in lines]


def _is_header(line: str) -> bool:
    names = {name.strip().lower() for name in line.split(",")}
    return "," in line and bool(names & {*_RA, *_NAME})


def _of_csv(lines: list[str], path: Path) -> list[ListedStar]:
    rows = list(csv.DictReader(io.StringIO("\n".join(lines))))
    header = next(csv.reader(lines[:1]), [])
    return _of_columns({name: [row[name] or "" for row in rows] for name in header}, path)


def _of_table(path: Path) -> list[ListedStar]:
    from astropy.table import Table

    form = {".ecsv": "ascii.ecsv", ".vot": "votable", ".xml": "votable"}
    table = Table.read(path, format=form.get(path.suffix.lower(), path.suffix.lower()[1:]))
    return _of_columns({name: [str(value) for value in table[name]] for name in table.colnames}, path)


def _of_columns(columns: dict[str, list[str]], path: Path) -> list[ListedStar]:
    """Return stars by position, or by identifier or name where they have none."""
    known = {name.strip().lower(): values for name, values in columns.items()}
    name, ra, dec = (next((known[one] for one in some if one in known), None) for some in (_NAME, _RA, _DEC))
    stars, numbers = name, None
    if ra is not None and dec is not None:
        stars = [f"{first} {second}" for first, second in zip(ra, dec, strict=True)]
        numbers = known.get("object_id")
    if stars is not None:
        called = known.get("name", name or stars)
        rows = zip(called, stars, numbers or [""] * len(stars), strict=True)
        return [
            ListedStar(_known(one) or star.strip(), star.strip(), _known(number))
            for one, star, number in rows
        ]
    raise UsageError(
        f"{path}: no column of {', '.join(columns)} names stars; call one object_id or name, or two ra and dec"
    )


def _known(text: str) -> str:
    """Return a name or identifier; empty for none."""
    return "" if text.strip() in _NO_IDENTIFIER else text.strip()
