"""Whether readers see whole nights, once each, while a lake is written, redone, compacted and vacuumed.

Needs: skylake alone. Takes about 3 minutes on 2 cores, 1 with --quick.

Four processes read without pause, two with lsdb and two with DuckDB; one of each through the snapshots of skylake, the
other by the folders that `skylake path` prints. Meanwhile nights are committed, replaced by others with another number
of rows, compacted and vacuumed. Every read must give, for all nights and tables alike, the rows of one snapshot that
was current when the read began: no night in part, none twice, none of two versions.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from claims import Claim, conclude
from pyarrow.lib import ArrowException
from trials import of_tables, table_archive
from victims import command, forks

from skylake.errors import SkylakeError
from skylake.lake import Commit, Lake, Retention, Snapshot, stage_part
from skylake.schema import load

#: Tables that change together, and by what their rows are told apart.
TABLES = {
    "frames": ["frame_id"], "sources": ["frame_id", "source_no"], "matches": ["frame_id", "source_no"],
    "zeropoints": ["frame_id"],
}  # fmt: skip
#: Snapshots that a vacuum leaves: those who read by folders say to nobody that they do.
_KEPT = 20
_PAUSE_S = 0.1

#: Rows by night, by table.
Counts = dict[str, dict[int, int]]


def main() -> None:
    """Let readers and a writer run, and print a table and the claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--commits", type=int, default=100, help="of nights, new ones and replaced ones")
    parser.add_argument("--seed", type=int, default=1, help="of the order of events")
    parser.add_argument("--quick", action="store_true", help="30 commits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skylake-readers-") as folder:
        trial = Trial(Path(folder), 30 if options.quick else options.commits, options.seed)
        result = trial.run()
    print(f"\n{'reader':20s} {'reads':>6s} {'snapshots':>10s} {'errors':>7s} {'wrong':>6s}")
    for name in READERS:
        print(f"{name:20s} {result.reads[name]:6d} {len(result.seen[name]):10d} {result.errors[name]:7d} "
              f"{result.wrong[name]:6d}")  # fmt: skip
    print(f"meanwhile: {', '.join(f'{count} {what}' for what, count in sorted(result.events.items()))}")
    print(*result.examples[:5], sep="\n")
    lazy = sum(result.reads[name] < 5 for name in READERS)
    conclude(
        [
            Claim("reads that failed", float(sum(result.errors.values())), None, 0.0),
            Claim("reads that were of no snapshot", float(sum(result.wrong.values())), None, 0.0),
            Claim("readers that read fewer than 5 times", float(lazy), None, 0.0),
        ]
    )


def counted(frame: Any, keys: list[str]) -> tuple[dict[int, int], int]:
    """Return the rows of each night, and how many rows there are twice."""
    nights = {int(night): int(count) for night, count in frame["night"].value_counts().items()}
    return nights, int(frame.duplicated(subset=keys).sum())


def lsdb_snapshot(root: Path) -> dict[str, Any]:
    """Read HATS tables with lsdb, and the others, from one snapshot."""
    snapshot = Lake(root).snapshot()
    read = {}
    for table, keys in TABLES.items():
        columns = ["night", *keys]
        if load(table).layout.kind == "hats":
            read[table] = counted(snapshot.lsdb(table, columns=columns).compute(), keys)
        else:
            read[table] = counted(snapshot.pandas(table, columns), keys)
    return _observation(snapshot.number, snapshot.number, read)


def duckdb_snapshot(root: Path) -> dict[str, Any]:
    """Read all tables with DuckDB from one snapshot."""
    snapshot = Lake(root).snapshot()
    with snapshot.duckdb() as connection:
        read = {
            table: counted(connection.sql(f'SELECT night, {", ".join(keys)} FROM "{table}"').df(), keys)
            for table, keys in TABLES.items()
        }
    return _observation(snapshot.number, snapshot.number, read)


def lsdb_folder(root: Path) -> dict[str, Any]:
    """Read one table with lsdb by its folder; which snapshot it is of is known only nearly."""
    import lsdb

    low = _current(root)
    folder = _folder(root, "sources")
    high = _current(root)
    if not any(folder.glob("dataset/Norder=*")):
        return _observation(low, high, {"sources": ({}, 0)})
    catalog = lsdb.open_catalog(folder, columns=["night", *TABLES["sources"]])
    return _observation(low, high, {"sources": counted(catalog.compute(), TABLES["sources"])})


def duckdb_folder(root: Path) -> dict[str, Any]:
    """Read all tables with DuckDB by their folders, as of one snapshot."""
    import duckdb

    number = _current(root)
    read = {}
    for table, keys in TABLES.items():
        pattern = f"{_folder(root, table, '--as-of', str(number))}/dataset/**/*.parquet"
        if not list(Path("/").glob(pattern.lstrip("/"))):
            read[table] = ({}, 0)
            continue
        with duckdb.connect() as connection:
            query = (
                f"SELECT night, {', '.join(keys)} FROM read_parquet('{pattern}', hive_partitioning = false)"
            )
            read[table] = counted(connection.sql(query).df(), keys)
    return _observation(number, number, read)


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "lsdb, snapshot": lsdb_snapshot, "lsdb, folder": lsdb_folder,
    "DuckDB, snapshot": duckdb_snapshot, "DuckDB, folder": duckdb_folder,
}  # fmt: skip


def _observation(low: int, high: int, read: dict[str, tuple[dict[int, int], int]]) -> dict[str, Any]:
    return {
        "low": low,
        "high": high,
        "counts": {table: nights for table, (nights, _) in read.items()},
        "twice": sum(twice for _, twice in read.values()),
    }


def _current(root: Path) -> int:
    return int((root / "current").readlink().name)


def _folder(root: Path, table: str, *options: str) -> Path:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if command(["path", str(root), table, *options]) != 0:
            raise RuntimeError(f"skylake path {table} failed")
    return Path(printed.getvalue().strip())


def read_on(name: str, root: Path, out: Path, stop: Path) -> None:
    """Read again and again until told to stop; write down what was seen.

    What readers say of files that are gone, half there or of other rows is written down too; anything else ends the
    process, which its exit code tells.
    """
    import dask
    import duckdb

    complaints = (SkylakeError, OSError, ValueError, LookupError, RuntimeError, ArrowException, duckdb.Error)
    dask.config.set(scheduler="synchronous")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # lsdb draws a bar for every read
    with out.open("w", encoding="utf-8") as stream:
        while not stop.exists():
            try:
                seen = READERS[name](root)
            except complaints as error:
                seen = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
            stream.write(json.dumps(seen) + "\n")
            stream.flush()


@dataclass(slots=True)
class Result:
    """What the readers saw, by their names, and what happened meanwhile."""

    reads: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    seen: dict[str, set[int]] = field(default_factory=lambda: {name: set() for name in READERS})
    examples: list[str] = field(default_factory=list)


class Trial:
    """A lake, its writer and its readers."""

    def __init__(self, folder: Path, commits: int, seed: int) -> None:
        self.folder, self.commits = folder, commits
        self.dice = random.Random(seed)
        nights = max(2, commits * 3 // 5)
        #: The same nights twice, with different numbers of frames.
        self.sources = [
            table_archive(folder / f"source-{frames}", nights, frames).snapshot() for frames in (4, 3)
        ]
        self.nights = sorted({part.night or 0 for part in self.sources[0].parts("frames").values()})
        self.lake = Lake.create(folder / "lake", of_tables())
        self.rows = [_rows(source) for source in self.sources]
        self.variant: dict[int, int] = {}
        self.states: dict[int, Counts] = {}
        self.result = Result()
        self._publish(self.lake.snapshot().number)

    def run(self) -> Result:
        """Write while others read; compare what they saw with what was there."""
        stop = self.folder / "stop"
        readers: dict[str, BaseProcess] = {}
        for name in READERS:
            out = self.folder / name
            readers[name] = forks().Process(target=read_on, args=(name, self.lake.root, out, stop))
            readers[name].start()
        try:
            self._wait_for(1)
            self._write()
            self._wait_for(5)
        finally:
            stop.touch()
            for reader in readers.values():
                reader.join()
        for name, reader in readers.items():
            if reader.exitcode != 0:
                self.result.errors[name] += 1
            for line in (self.folder / name).read_text(encoding="utf-8").splitlines():
                self._judge(name, json.loads(line))
        return self.result

    def _wait_for(self, reads: int) -> None:
        """Wait until every reader has read so many times, but not for ever."""
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline:
            paths = [self.folder / name for name in READERS]
            if all(path.exists() and path.read_text().count("\n") >= reads for path in paths):
                return
            time.sleep(0.1)

    def _write(self) -> None:
        """Commit nights, replace some, compact and vacuum now and then."""
        from skylake.cli.main import cli

        for number in range(self.commits):
            fresh = [night for night in self.nights if night not in self.variant]
            redo = self.variant and (not fresh or self.dice.random() < 0.4)
            night = self.dice.choice(sorted(self.variant)) if redo else fresh[0]
            self._commit(night, 1 - self.variant.get(night, 1))
            self.result.events["nights replaced" if redo else "nights added"] += 1
            if number % 8 == 7:
                self.lake.vacuum(Retention(_KEPT, 0, 0))
                self.result.events["vacuums"] += 1
            if number % 10 == 9 and "compact" in cli.commands:
                # What it publishes holds what was there before, under numbers that are known only afterwards.
                before = self.lake.snapshot().number
                if command(["compact", str(self.lake.root)]) != 0:
                    raise RuntimeError("skylake compact failed")
                for made in range(before + 1, self.lake.snapshot().number + 1):
                    self._publish(made)
                self.result.events["compactions"] += 1
            time.sleep(_PAUSE_S)
        if "compact" not in cli.commands:
            print("compactions: left out, since skylake has no command compact")

    def _commit(self, night: int, variant: int) -> None:
        commit = Commit("trial", str(night))
        with self.lake.stage("trial") as staging:
            for table in TABLES:
                for part in self.sources[variant].parts(table).values():
                    if part.night == night:
                        tree = self.lake.tree if load(table).layout.kind == "hats" else None
                        rows = self.sources[variant].read_part(table, part.name)
                        made = stage_part(
                            rows, table, part.name, staging / table, tree, part.camera, night, part.inputs
                        )
                        commit.replace(made, staging / table)
            self.variant[night] = variant
            self._publish(self.lake.commit(commit).number)

    def _publish(self, number: int) -> None:
        """Note what a snapshot holds."""
        self.states[number] = {table: {} for table in TABLES}
        for table, nights in self.states[number].items():
            counts = {night: self.rows[one][table].get(night, 0) for night, one in self.variant.items()}
            nights.update({night: count for night, count in counts.items() if count})

    def _judge(self, name: str, seen: dict[str, Any]) -> None:
        self.result.reads[name] += 1
        if "error" in seen:
            self.result.errors[name] += 1
            self.result.examples.append(f"{name}: {seen['error']}")
            return
        counts = {
            table: {int(night): n for night, n in found.items()} for table, found in seen["counts"].items()
        }
        fitting = [
            number for number in range(seen["low"], seen["high"] + 1)
            if all(self.states[number][table] == found for table, found in counts.items())
        ]  # fmt: skip
        self.result.seen[name].update(fitting)
        if not fitting or seen["twice"]:
            self.result.wrong[name] += 1
            self.result.examples.append(
                f"{name}: snapshots {seen['low']} to {seen['high']}, twice {seen['twice']}"
            )


def _rows(source: Snapshot) -> Counts:
    """Return the rows of each night of a lake."""
    found: Counts = {table: {} for table in TABLES}
    for table, nights in found.items():
        for part in source.parts(table).values():
            nights[part.night or 0] = nights.get(part.night or 0, 0) + part.n_rows
    return found


if __name__ == "__main__":
    main()
