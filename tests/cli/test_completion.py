"""What the shell offers: click's completion as the shells call it, in a process of its own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skylake.cameras import names
from skylake.flow.aggregates import aggregate
from skylake.flow.execution.cluster import Inline
from skylake.lake import Lake
from skylake.settings import Settings


def offered(environment: dict[str, str], *words: object, typed: str = "", **options: object) -> list[str]:
    """Return what is offered after some words, where the next one is typed so far; nothing may be said beside it."""
    line = " ".join(["skylake", *map(str, words), typed])
    variables = {"_SKYLAKE_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) + 1)}
    done = subprocess.run(
        [sys.executable, "-m", "skylake"], env=environment | variables | options, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def plain(*values: str) -> list[str]:
    return [f"plain,{value}" for value in values]


@pytest.fixture
def quoted(lake: Path) -> str:
    """The lake as one types it."""
    return shlex.quote(str(lake))


def test_names_of_the_lake_on_the_line_are_offered(quoted: str, environment: dict[str, str]) -> None:
    for words in (
        ("calibrate", quoted, "--camera"), ("targets", quoted, "-c"), ("map", quoted, "visits", "--camera"),
        ("calib", "list", quoted, "--camera"),
    ):  # fmt: skip
        assert offered(environment, *words) == plain("small")
    for words in (
        ("catalog", "show", quoted), ("catalog", "cone", quoted), ("calibrate", quoted, "--catalog"),
        ("targets", quoted, "--camera", "small", "--catalog"), ("solve", "--lake", quoted, "--catalog"),
    ):  # fmt: skip
        assert offered(environment, *words) == plain("simcat")


def test_only_names_that_begin_as_typed_are_offered(quoted: str, environment: dict[str, str]) -> None:
    assert offered(environment, "calibrate", quoted, "--catalog", typed="sim") == plain("simcat")
    assert offered(environment, "calibrate", quoted, "--catalog", typed="tycho") == []
    assert offered(environment, "catalog", "show", quoted, typed="sim") == plain("simcat")


def test_tables_are_offered_where_a_command_takes_them(quoted: str, environment: dict[str, str]) -> None:
    positions = [
        "clusters",
        "forced_lightcurves",
        "forced_sources",
        "lightcurves",
        "matches",
        "objects",
        "sources",
        "star_magnitudes",
        "star_statistics",
    ]
    assert offered(environment, "cone", quoted) == plain(*positions)
    assert offered(environment, "path", quoted, typed="f") == plain(
        "forced_lightcurves", "forced_sources", "frames"
    )
    assert offered(environment, "history", quoted, "--table", typed="ni") == plain("nights")
    assert offered(environment, "compact", quoted, "sources", typed="ma") == plain("maps", "matches")
    assert offered(environment, "map", quoted, typed="res") == plain("residual", "residual_err")


def test_tables_of_users_are_offered_too(
    tmp_path: Path, environment: dict[str, str], make_rows: Callable[..., Any], put: Callable[..., Any]
) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline"))
    (tmp_path / "widths.sql").write_text(
        "-- name: widths\n-- key: band\n-- granularity: batch\n"
        "SELECT band, max(fwhm_px) AS fwhm_px FROM frames GROUP BY ALL"
    )
    put(lake, ("frames", "c-1", make_rows("frames", 2)), camera="c", night=20240407)
    aggregate(lake, ["widths"], Inline(), files=[tmp_path / "widths.sql"])
    for command in ("path", "compact"):
        assert offered(environment, command, lake.root, typed="w") == plain("widths")
    assert offered(environment, "cone", lake.root, typed="w") == []


def test_cameras_that_come_with_skylake_are_offered_too(quoted: str, environment: dict[str, str]) -> None:
    assert offered(environment, "ingest", quoted, "--camera") == plain(*sorted([*names(), "small"]))
    assert offered(environment, "camera", "show") == plain(*names())
    assert offered(environment, "camera", "show", typed="./my") == ["file,./my"]


def test_folders_and_files_are_left_to_the_shell(quoted: str, environment: dict[str, str]) -> None:
    assert offered(environment, "sql", typed="de") == ["dir,de"]
    assert offered(environment, "lc", quoted, "--plot") == ["file,"]
    assert offered(environment, "sql", quoted, "'SELECT 1'", "-o", typed="a") == ["file,a"]


def test_a_lake_below_the_home_or_a_variable_is_found(
    lake: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "lake").symlink_to(lake)
    for word in ("~/lake", "$HOME/lake"):
        assert offered(environment, "catalog", "show", word, HOME=str(tmp_path)) == plain("simcat")


@pytest.mark.parametrize("lake", ["/none", "~none/lake", "s3://none/lake", "$NONE", "''"])
def test_without_a_lake_nothing_is_offered(lake: str, environment: dict[str, str]) -> None:
    assert offered(environment, "catalog", "show", lake) == []
    assert offered(environment, "calib", "show", lake) == []
    assert offered(environment, "calibrate", lake, "--camera") == ["file,"]
    assert offered(environment, "calibrate", "--catalog") == []


def test_damaged_masters_are_not_offered_and_nothing_is_said(
    new_lake: Path, environment: dict[str, str]
) -> None:
    (new_lake / "current" / "masters" / "dataset" / "a.parquet").write_bytes(b"no Parquet")
    assert offered(environment, "calib", "show", new_lake) == []


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_the_script_of_the_documentation(
    lake: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    program = tmp_path / "skylake"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m skylake "$@"\n')
    program.chmod(0o755)
    script = f"""
    eval "$(_SKYLAKE_COMPLETE=bash_source skylake)"
    COMP_WORDS=(skylake cone {shlex.quote(shlex.quote(str(lake)))} so)
    COMP_CWORD=3
    _skylake_completion skylake
    echo "${{COMPREPLY[@]}}"
    complete -p skylake
    """
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", script], env=environment | {"PATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "sources",
        "complete -o nosort -F _skylake_completion skylake",
    ]
    assert done.stderr == ""


def test_completion_imports_nothing_heavy(quoted: str, environment: dict[str, str]) -> None:
    code = """
import atexit, sys
from skylake.cli.main import main
heavy = ("pandas", "astropy", "lsdb", "dask", "numba", "duckdb", "fsspec", "pyarrow.compute")
atexit.register(lambda: print(*[name for name in heavy if name in sys.modules], file=sys.stderr))
main([])
"""
    for words in (f"catalog show {quoted} ", f"calibrate {quoted} --camera ", f"cone {quoted} "):
        variables = {"_SKYLAKE_COMPLETE": "zsh_complete", "COMP_WORDS": f"skylake {words}", "COMP_CWORD": "3"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout and done.stderr.strip() == ""
