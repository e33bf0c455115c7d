"""What a short command costs on a small lake, from its start to its end, beside programs that ask the same files.

Needs: skylake alone. Takes about 2 minutes on 2 cores, 1 with --quick.

Two nights are simulated as tables and aggregated. Then each command runs some times as a process of its own, and so
does what one would write for the same answer with DuckDB or pandas. What counts is the CPU time of the whole process,
user and system, of the fastest run; the median is printed beside it. The first run, which reads the disk, does not
count.

With --lake the same is asked of a lake that is there.

Each claim is one line: ours, peer, ratio, target, met or missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from archive.__main__ import fill, scenario_of
from claims import Claim, conclude

from skylake.lake import Lake

SKYLAKE = (sys.executable, "-m", "skylake")
_FRAMES = "SELECT night, status, count(*) FROM {frames} GROUP BY ALL"
_ONE = "import duckdb; print(duckdb.sql('SELECT 1').to_arrow_table())"
_COUNT = "import duckdb, sys; duckdb.sql(sys.argv[1]).show()"
_CURVE = """
import pandas, sys
rows = pandas.read_parquet(sys.argv[1], filters=[("object_id", "==", int(sys.argv[2]))])
print(pandas.DataFrame(rows.iloc[0]["lightcurve"]).to_csv(index=False))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU time of the runs of a command, seconds: of the fastest, and their median."""

    least: float
    usual: float


def main() -> None:
    """Run the commands and their peers, and print a table and the claims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 runs of each, not 15")
    parser.add_argument("--lake", type=Path, help="ask a lake that is there, with light curves")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skylake-startup-") as folder:
        lake = options.lake or make(Path(folder) / "lake")
        conclude(compare(lake, 5 if options.quick else 15))


def make(lake: Path) -> Path:
    """Make a lake of two nights with light curves."""
    fill(lake, scenario_of(None, 2), 1)
    subprocess.run([*SKYLAKE, "aggregate", str(lake)], check=True, stdout=subprocess.DEVNULL)
    return lake


def compare(lake: Path, runs: int) -> list[Claim]:
    """Return the claims, and print what they rest on."""
    table = Lake(lake).open("lightcurves")
    curves = table.arrow(["object_id", "n_points"]).sort_by([("n_points", "descending")])
    star = str(curves["object_id"][0].as_py())
    frames = f"read_parquet('{lake}/frames/dataset/**/*.parquet')"
    python = (sys.executable, "-c")
    words = {"_SKYLAKE_COMPLETE": "bash_complete", "COMP_WORDS": f"skylake cone {lake} ", "COMP_CWORD": "3"}
    print(f"{'command':26s} {'least':>7s} {'median':>7s} {'peer':>7s} {'median':>7s}   s of CPU")
    return [
        claim("sql: SELECT 1", runs, 0.6, ("sql", str(lake), "SELECT 1"), (*python, _ONE)),
        claim(
            "sql: frames by night", runs, 0.7, ("sql", str(lake), _FRAMES.format(frames="frames")),
            (*python, _COUNT, _FRAMES.format(frames=frames)),
        ),
        claim(
            "lc: one star", runs, 0.9, ("lc", str(lake), "--object", star, "--from", "detected"),
            (*python, _CURVE, str(table.snapshot.folder("lightcurves") / "dataset"), star),
        ),
        claim("completion of a table", runs, 0.5, (), None, words),
        claim("help", runs, 0.25, ("--help",), None),
    ]  # fmt: skip


def claim(
    name: str,
    runs: int,
    target: float,
    ours: Sequence[str],
    peer: Sequence[str] | None,
    variables: Mapping[str, str] | None = None,
) -> Claim:
    """Time one of our commands and its peer."""
    found = cost([*SKYLAKE, *ours], runs, variables or {})
    other = cost(peer, runs, {}) if peer else None
    beside = f"{other.least:7.2f} {other.usual:7.2f}" if other else f"{'none':>7s} {'none':>7s}"
    print(f"{name:26s} {found.least:7.2f} {found.usual:7.2f} {beside}")
    return Claim(f"{name} [s of CPU]", found.least, other.least if other else None, target)


def cost(command: Sequence[str], runs: int, variables: Mapping[str, str]) -> Cost:
    """Return what a command costs when its files are in the memory of the system."""
    found = []
    for _ in range(runs + 1):
        process = subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        found.append(used.ru_utime + used.ru_stime)
    return Cost(min(found[1:]), median(found[1:]))


if __name__ == "__main__":
    main()
