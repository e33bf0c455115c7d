"""Sort more stars than fit into memory by their place on the sky: sorted runs on disk, of which any range is read.

A run is two files: the rows, in record batches of equal length, and their HEALPix indices alone, from which ranges
are found without reading rows. A third file, written last, makes the run valid and says how far the input was read
when it was written: an import that is interrupted goes on after its last run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.durable import replace_text, sync_file

_INDEX = "_healpix_29"
#: Rows of a run: what is held in memory and sorted at a time.
RUN_ROWS = 1_000_000
#: Rows of a record batch: the least that is read of a run.
_BATCH_ROWS = 4_096


class SortedRuns:
    """Stars in runs sorted by HEALPix index, in a folder.

    Parameters
    ----------
    folder : Path
        Valid runs that are in it are taken over, others are written anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: list[pa.Table] = []
        self._n_held = 0
        self._indices: list[npt.NDArray[np.int64]] = []
        self.n_rows = 0
        #: Of each column of magnitudes: how many are exactly 0, and the brightest of the others.
        self.zeros: dict[str, tuple[int, float]] = {}
        #: How far the input had been read, as given to :meth:`add`; None before the first run.
        self.position: dict[str, Any] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        while (facts := self._path(".json")).is_file():
            known = json.loads(facts.read_text(encoding="utf-8"))
            self.position, self.n_rows = known["position"], known["n_rows"]
            self.zeros = {
                name: (count, brightest) for name, (count, brightest) in known.get("zeros", {}).items()
            }
            self._indices.append(np.load(self._path(".npy"), mmap_mode="r"))

    @property
    def n_runs(self) -> int:
        """Runs on disk."""
        return len(self._indices)

    def _path(self, suffix: str, number: int | None = None) -> Path:
        """Return a file of a run, of the next one to be written if none is named."""
        return self._folder / f"{self.n_runs if number is None else number:06d}{suffix}"

    def add(self, rows: pa.Table, position: Mapping[str, Any] | None = None) -> None:
        """Add stars; `position` says how far the input is read with them."""
        self._held.append(rows)
        self._n_held += rows.num_rows
        if self._n_held >= RUN_ROWS:
            self.write(position)

    def write(self, position: Mapping[str, Any] | None = None) -> None:
        """Write what is in memory as a run."""
        if not self._n_held:
            return
        rows = pa.concat_tables(self._held)
        self._held, self._n_held = [], 0
        index = rows[_INDEX].to_numpy()
        order = np.argsort(index, kind="stable")
        np.save(self._path(".npy"), index[order])
        # A third of the time that Parquet takes.
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_file(self._path(".arrow"), rows.schema, options=options) as writer:
            writer.write_table(rows.take(pa.array(order)).combine_chunks(), max_chunksize=_BATCH_ROWS)
        self.n_rows += rows.num_rows
        self._count_zeros(rows)
        if position is not None:
            sync_file(self._path(".npy"))
            sync_file(self._path(".arrow"))
            replace_text(
                self._path(".json"),
                json.dumps({"n_rows": self.n_rows, "position": position, "zeros": self.zeros}),
            )
            self.position = dict(position)
        self._indices.append(np.load(self._path(".npy"), mmap_mode="r"))

    def _count_zeros(self, rows: pa.Table) -> None:
        for name in rows.column_names:
            if name.startswith("mag_") and not name.endswith("_err"):
                values = rows[name].to_numpy()
                is_zero = values == 0.0
                count, brightest = self.zeros.get(name, (0, math.inf))
                others = values[~is_zero & np.isfinite(values)]
                self.zeros[name] = (
                    count + int(is_zero.sum()),
                    min(brightest, float(others.min(initial=math.inf))),
                )

    def count(self, start: int, end: int) -> int:
        """Return the number of stars in a half-open range of indices; all must have been written."""
        return sum(last - first for first, last in self._bounds(start, end))

    def _bounds(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the first row of each run in a range and the first behind it."""
        found = [np.searchsorted(index, [start, end]) for index in self._indices]
        return [(int(first), int(last)) for first, last in found]

    def read(self, start: int, end: int) -> pa.Table:
        """Return the stars in a half-open range of indices that has some, sorted only within each run."""
        pieces = []
        for number, (first, last) in enumerate(self._bounds(start, end)):
            if first == last:
                continue
            with pa.OSFile(str(self._path(".arrow", number))) as stream:
                reader = pa.ipc.open_file(stream)
                batches = range(first // _BATCH_ROWS, (last - 1) // _BATCH_ROWS + 1)
                rows = pa.Table.from_batches([reader.get_batch(batch) for batch in batches])
            pieces.append(rows.slice(first - batches[0] * _BATCH_ROWS, last - first))
        return pa.concat_tables(pieces)
