"""Read the stars of many files, batch by batch, from the beginning or from where an import was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.catalog_files import catalog_errors, files_of, read_batches
from skylake.sky.catalog_rows import ImportReport, standardise


class StarFiles:
    """The stars of files as rows of a reference catalog.

    Parameters
    ----------
    paths : iterable of path
        Files, or folders that :func:`skylake.sky.catalog_files.files_of` looks into.
    columns : CatalogColumns
        Which column holds what; the same in all files.
    batch_rows : int
        Most rows in a batch. Small files share one.
    advance : callable or None
        Called with the rows of each batch that is given.

    Raises
    ------
    CatalogError
        While reading, if a file cannot be read, lacks a column or holds a value that cannot be used.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        columns: CatalogColumns,
        batch_rows: int = 500_000,
        advance: Callable[[int], object] | None = None,
    ) -> None:
        self.paths = [
            part for path in map(Path, paths) for part in (files_of(path) if path.is_dir() else [path])
        ]
        self.columns = columns
        #: What became of all rows so far.
        self.report = ImportReport()
        self._batch_rows, self._advance = batch_rows, advance
        # The file that is read, its rows that were given, and what the files were up to it.
        self._file, self._row = 0, 0
        self._facts: list[str] = []

    @property
    def key(self) -> str:
        """Names the files and their columns."""
        names = [str(path.absolute()) for path in self.paths]
        return hashlib.sha256(repr((names, self.columns, self._batch_rows)).encode()).hexdigest()

    @property
    def position(self) -> dict[str, Any]:
        """How far the files are read: what :meth:`go_to` takes."""
        return {
            "file": self._file,
            "row": self._row,
            "facts": _digest(self._facts[: self._file + 1]),
            "report": asdict(self.report),
        }

    def go_to(self, position: Mapping[str, Any]) -> bool:
        """Begin behind a position; return False, and begin at the start, if files before it have changed."""
        n_files = int(position["file"])
        try:
            facts = [_facts(path) for path in self.paths[: n_files + 1]]
        except FileNotFoundError:
            return False
        if _digest(facts) != position["facts"]:
            return False
        self._file, self._row, self._facts = n_files, int(position["row"]), facts
        self.report = ImportReport(**position["report"])
        if self._advance is not None:
            self._advance(self.report.rows_read)
        return True

    def __iter__(self) -> Iterator[pa.Table]:
        """Yield the stars, conformed to ``columns.schema``."""
        for table, _ in self.batches():
            yield table

    def batches(self) -> Iterator[tuple[pa.Table, ImportReport]]:
        """Yield the stars, and what became of the rows of each batch."""
        tables: list[pa.Table] = []
        total = ImportReport()
        for table, report, place in self._pieces():
            if total.rows_read and total.rows_read + report.rows_read > self._batch_rows:
                yield self._given(tables, total)
                tables, total = [], ImportReport()
            tables.append(table)
            total += report
            self._file, self._row = place
        if tables:
            yield self._given(tables, total)

    def _given(self, tables: list[pa.Table], report: ImportReport) -> tuple[pa.Table, ImportReport]:
        self.report += report
        if self._advance is not None:
            self._advance(report.rows_read)
        return pa.concat_tables(tables), report

    def _pieces(self) -> Iterator[tuple[pa.Table, ImportReport, tuple[int, int]]]:
        """Yield pieces of files, what became of their rows, and the file and its rows that are read with them."""
        first_file, done = self._file, self._row
        for number, path in enumerate(self.paths[first_file:], first_file):
            if number == len(self._facts):
                with catalog_errors(path, "readable"):
                    self._facts.append(_facts(path))
            columns = self.columns
            for raw in read_batches(path, columns.wanted, self._batch_rows, columns.names, columns.delimiter):
                end = raw.first_row + raw.table.num_rows
                if end <= done:
                    continue
                skipped = max(done - raw.first_row, 0)
                table, report = standardise(
                    raw.table.slice(skipped),
                    columns,
                    units=raw.units,
                    source=raw.source,
                    first_row=raw.first_row + skipped,
                )
                yield table, report, (number, end)
            done = 0


def _facts(path: Path) -> str:
    """Return what changes when a file does."""
    status = path.stat()
    return f"{path.name} {status.st_size} {status.st_mtime_ns}"


def _digest(facts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()
