"""Short commands stay short: what they do not need they do not import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from skylake.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0, end.code
heavy = ("pandas", "astropy", "lsdb", "hats", "dask", "distributed", "numba", "scipy", "matplotlib", "sqlalchemy",
         "fsspec", "pyarrow.compute", "pyarrow.dataset", "skylake.cameras")
print(*[name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def imported(environment: dict[str, str], *arguments: object) -> list[str]:
    """Return the heavy modules that a command has imported."""
    command = [sys.executable, "-c", CODE, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout
    # DuckDB may say at the end what of it is still there.
    return done.stderr.partition("\n")[0].split()


@pytest.mark.parametrize(
    "query", ["SELECT 1", "SELECT night, status, count(*) AS n FROM calibrated_frames GROUP BY ALL"]
)
def test_a_query_imports_duckdb_and_arrow_alone(query: str, lake: Path, environment: dict[str, str]) -> None:
    assert imported(environment, "sql", lake, query) == []


def test_a_query_of_an_empty_lake_imports_nothing_more(new_lake: Path, environment: dict[str, str]) -> None:
    assert imported(environment, "sql", new_lake, "SELECT count(*) FROM lightcurve_points") == []


def test_a_light_curve_imports_no_astropy_dask_or_lsdb(lake: Path, environment: dict[str, str]) -> None:
    query = "SELECT object_id FROM lightcurves ORDER BY n_points DESC LIMIT 1"
    command = [sys.executable, "-m", "skylake", "sql", str(lake), query, "--format", "csv"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    # Arrow itself imports pandas whenever it takes a value from Python.
    allowed = {"pandas", "pyarrow.compute", "pyarrow.dataset"}
    assert set(imported(environment, "lc", lake, "--object", said.split()[1])) <= allowed
