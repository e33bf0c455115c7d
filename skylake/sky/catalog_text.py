"""Read tables of stars from text: CSV, TSV, what archives print between pipes or blanks, and ECSV.

Everything is read as text and in blocks, so that no column changes its type in the middle of a file and no
file is too large.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from skylake.errors import CatalogError
from skylake.sky.catalog_columns import require_columns
from skylake.sky.catalog_limits import HEADER_BYTES, MAX_ROW, Piece, open_unpacked

_BLOCK_BYTES = 8 << 20
_DELIMITERS = (",", "\t", ";", "|", " ")
#: So many lines of comments may come before the header.
_MOST_COMMENTS = 100_000
_NO_VALUE = ["", "null", "NULL", "Null", "nan", "NaN", "NAN", "\\N", "--"]
#: A line such as ``#   3 FLUX_AUTO   Flux within a Kron-like elliptical aperture   [count]``.
_NUMBERED = re.compile(r"#\s*(\d+)\s+(\S+)(?:.*\[([^\]]*)\])?")
_RULE = re.compile(r"[-=\s|;,+]*--[-=\s|;,+]*\Z")


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a text file is laid out.

    Attributes
    ----------
    names : tuple of str
        Columns in order.
    delimiter : str
        What separates them.
    runs : bool
        Whether any run of blanks and tabs separates as one, as in tables for people.
    skipped_lines : int
        Lines before the first row.
    has_rows : bool
        Whether there is a row at all.
    units : dict
        Column to unit.
    """

    names: tuple[str, ...]
    delimiter: str
    runs: bool
    skipped_lines: int
    has_rows: bool
    units: dict[str, str]


def text_header(path: Path, expected: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the columns of a text file, of which some are expected, and its first line that is no comment.

    Raises
    ------
    CatalogError
        If there is no content, or a line without an end.
    OSError, EOFError, zlib.error
        If the file is damaged.
    """
    try:
        with open_unpacked(path) as stream:
            lines = _opening_lines(path, stream)
        content = _content(str(path), lines)
        return _layout_of(lines, content, expected).names, lines[content[0]]
    except csv.Error as error:
        raise _long_cell(path) from error


def read_text(
    path: Path, wanted: tuple[str, ...], names: tuple[str, ...] = (), delimiter: str = ","
) -> Iterator[Piece]:
    """Yield the wanted columns of a text file as text, some rows at a time.

    The header is the first line that is no comment, or a comment line (``#``) before it that has the wanted
    columns; whichever of comma, tab, semicolon, pipe and blanks divides it so is the delimiter. Lines of
    units and dashes below the header, as VizieR writes them, give the units. Comment lines among the rows are
    passed over. Columns ``<name>.mask`` that astropy may write come along. With `names` the file has no header: these
    are its columns, separated by `delimiter`.

    Raises
    ------
    CatalogError
        If there is no header with the wanted columns, or a line without an end.
    pyarrow.ArrowInvalid, OSError, EOFError, zlib.error
        If the file is damaged.
    """
    try:
        with open_unpacked(path) as stream:
            lines = _opening_lines(path, stream)
        content = _content(str(path), lines)
        layout = (
            _Layout(names, delimiter, False, content[0], True, {})
            if names
            else _layout_of(lines, content, wanted)
        )
    except csv.Error as error:
        raise _long_cell(path) from error
    require_columns(layout.names, wanted, str(path))
    if not layout.has_rows:
        return
    masks = tuple(f"{name}.mask" for name in wanted if f"{name}.mask" in layout.names)
    with open_unpacked(path) as stream:
        for _ in islice(stream, layout.skipped_lines):
            pass
        clean = _CleanLines(path, stream, layout.runs)
        try:
            for batch in _blocks(clean, layout, wanted + masks):
                yield pa.Table.from_batches([batch]), layout.units
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error):
                raise
            raise _no_table(path, f"a row has more than {_BLOCK_BYTES >> 20} MB, within quotes") from error


def _long_cell(path: Path) -> CatalogError:
    return _no_table(path, f"its first lines have a cell of more than {csv.field_size_limit()} characters")


def _no_table(path: Path, why: str) -> CatalogError:
    return CatalogError(
        f"{path}: {why}, so the file is no table of stars; close the quotes or export it again"
    )


def yaml_units(lines: Sequence[str]) -> dict[str, str]:
    """Return the units in the YAML header of a table that astropy wrote.

    Tags, by which YAML makes objects, are passed over.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    import yaml

    class Plain(yaml.SafeLoader):
        """Makes texts, lists and mappings, whatever the tags ask for."""

        def flatten_mapping(self, node: yaml.MappingNode) -> None:
            """Leave mappings as they are: merged into one another again and again they would fill the memory."""

    def plain(loader: Plain, _tag: str, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode):
            return loader.construct_scalar(node)
        if isinstance(node, yaml.SequenceNode):
            return loader.construct_sequence(node)
        return loader.construct_mapping(node) if isinstance(node, yaml.MappingNode) else None

    for tag in ("!", "tag:yaml.org,2002:python/"):
        Plain.add_multi_constructor(tag, plain)
    try:
        columns = yaml.load("\n".join(lines), Plain)["datatype"]
        units = {column["name"]: column.get("unit", "") for column in columns}
    except RecursionError:
        raise ValueError("its YAML header is nested too deeply") from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"its YAML header does not give the columns: {why}") from error
    # A unit that astropy wrote as an object has its text within.
    unit_of = {name: unit.get("unit", "") if isinstance(unit, dict) else unit for name, unit in units.items()}
    return {str(name): unit for name, unit in unit_of.items() if isinstance(unit, str)}


def _opening_lines(path: Path, stream: BinaryIO) -> list[str]:
    """Return the lines up to the fourth that is no comment."""
    lines: list[str] = []
    others = n_bytes = 0
    for raw in islice(iter(lambda: stream.readline(MAX_ROW), b""), _MOST_COMMENTS):
        n_bytes += len(raw)
        if len(raw) == MAX_ROW:
            raise _no_table(path, f"line {len(lines) + 1} has more than {MAX_ROW} bytes")
        if n_bytes > HEADER_BYTES:
            raise _no_table(path, f"it begins with more than {HEADER_BYTES >> 20} MB of comments")
        line = raw.decode("utf-8", "replace").rstrip("\r\n").removeprefix("\ufeff")
        lines.append(line)
        others += _is_content(line)
        if others == 4:
            break
    return lines


def _is_content(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _cells(line: str, delimiter: str) -> list[str]:
    if delimiter == " ":
        line = " ".join(line.split())
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]


def _content(source: str, lines: Sequence[str]) -> list[int]:
    """Return the numbers of the lines that are no comments."""
    content = [number for number, line in enumerate(lines) if _is_content(line)]
    if not content:
        raise CatalogError(f"{source}: the file holds only comments; fetch or export it again")
    return content


def _layout_of(lines: list[str], content: list[int], wanted: Sequence[str]) -> _Layout:
    if lines[0].startswith("# %ECSV"):
        return _ecsv_layout(lines, content)
    return _numbered_layout(lines, content[0]) or _below_header(
        lines, content, *_header(lines, content[0], wanted)
    )


def _header(lines: list[str], first: int, wanted: Sequence[str]) -> tuple[int, str]:
    """Return the number of the header line and its delimiter: those that give most wanted columns."""
    comments = [number for number in range(first - 1, -1, -1) if lines[number].startswith("#")]
    ways = [(number, delimiter) for number in (first, *comments) for delimiter in _DELIMITERS]

    def merit(way: tuple[int, str]) -> tuple[int, bool, int]:
        names = set(_cells(lines[way[0]].lstrip("#"), way[1]))
        # Where columns are missing, the error shows the way that makes most of the line.
        n_found = len(names & set(wanted))
        return n_found, way[0] == first, 0 if n_found == len(wanted) else len(names)

    return max(ways, key=merit)


def _below_header(lines: list[str], content: list[int], header: int, delimiter: str) -> _Layout:
    names = _cells(lines[header].lstrip("#"), delimiter)
    rows = [number for number in content if number > header]
    units: dict[str, str] = {}
    if len(rows) > 1 and _RULE.match(lines[rows[1]]):
        units = dict(zip(names, _cells(lines[rows[0]], delimiter), strict=False))
        rows = rows[2:]
    elif rows and _RULE.match(lines[rows[0]]):
        rows = rows[1:]
    if rows:
        # A delimiter at the end of every row makes one more column, without a name.
        surplus = _cells(lines[rows[0]], delimiter)[len(names) :]
        names += [""] * (len(surplus) if not any(surplus) else 0)
    skipped = rows[0] if rows else len(lines)
    return _Layout(
        tuple(names), "\t" if delimiter == " " else delimiter, delimiter == " ", skipped, bool(rows), units
    )


def _numbered_layout(lines: list[str], first: int) -> _Layout | None:
    """Return the layout below comments that number the columns, as SExtractor's ASCII_HEAD has them; None for others.

    A column that takes several numbers is continued as NAME_1, NAME_2 …, as astropy does.
    """
    found = [_NUMBERED.match(line) for line in lines[:first]]
    numbers = [int(match[1]) for match in found if match]
    ends = [*numbers[1:], len(lines[first].split()) + 1]
    if not numbers or numbers[0] != 1 or None in found or any(np.diff([*numbers, ends[-1]]) <= 0):
        return None
    names: list[str] = []
    units: dict[str, str] = {}
    for match, number, end in zip(found, numbers, ends, strict=True):
        assert match is not None
        some = [match[2], *(f"{match[2]}_{more}" for more in range(1, end - number))]
        names += some
        units |= dict.fromkeys(some, match[3] or "")
    return _Layout(tuple(names), "\t", True, first, True, units)


def _ecsv_layout(lines: list[str], content: list[int]) -> _Layout:
    header = [line[2:] for line in lines[1 : content[0]] if line.startswith("# ")]
    comma = any(re.fullmatch(r"delimiter: *[\"'],[\"'] *", line) for line in header)
    delimiter = "," if comma else " "
    names = next(csv.reader([lines[content[0]]], delimiter=delimiter))
    return _Layout(tuple(names), delimiter, False, content[0] + 1, len(content) > 1, yaml_units(header))


def _blocks(lines: _CleanLines, layout: _Layout, columns: tuple[str, ...]) -> pacsv.CSVStreamingReader:
    return pacsv.open_csv(
        lines,
        read_options=pacsv.ReadOptions(column_names=layout.names, block_size=_BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(delimiter=layout.delimiter, newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=_NO_VALUE,
            strings_can_be_null=True,
        ),
    )


class _CleanLines(io.RawIOBase):
    """The lines of a stream without comments and, with `runs`, one tab for each run of blanks."""

    def __init__(self, path: Path, stream: BinaryIO, runs: bool) -> None:
        super().__init__()
        self._path, self._stream = path, stream
        self._runs = runs
        self._rest = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._ready:
            lines = self._next_lines()
            if not lines:
                return b""
            self._ready = memoryview(self._clean(lines))
        size = len(self._ready) if size < 0 else size
        chunk, self._ready = self._ready[:size], self._ready[size:]
        return bytes(chunk)

    def _next_lines(self) -> bytes:
        """Return whole lines, at least one; nothing at the end of the stream."""
        while True:
            block = self._stream.read(_BLOCK_BYTES)
            joined = self._rest + block
            end = joined.rfind(b"\n") + 1 if block else len(joined)
            self._rest = joined[end:]
            if len(self._rest) > MAX_ROW:
                raise _no_table(self._path, f"a line has more than {MAX_ROW} bytes")
            if end or not block:
                return joined[:end]

    def _clean(self, lines: bytes) -> bytes:
        if lines.startswith(b"#") or b"\n#" in lines:
            lines = re.sub(rb"(?m)^#[^\n]*\n?", b"", lines)
        return _tabs_for_runs(lines) if self._runs else lines


def _tabs_for_runs(lines: bytes) -> bytes:
    """Return lines with one tab for each run of blanks and tabs, none at either end; quoted text stays."""
    if b'"' in lines:
        lines = re.sub(rb'("[^"\n]*")|[ \t]+', lambda found: found[1] or b"\t", lines)
    else:
        lines = lines.replace(b" ", b"\t")
        while b"\t\t" in lines:
            lines = lines.replace(b"\t\t", b"\t")
    lines = lines.replace(b"\r\n", b"\n").replace(b"\t\n", b"\n").replace(b"\n\t", b"\n")
    return lines.strip(b"\t")
