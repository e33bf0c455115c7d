from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skylake.lake import Lake

Run = Callable[..., Any]
NIGHT = "small-20241001"


@pytest.fixture
def copy(lake: Path, tmp_path: Path) -> Path:
    return shutil.copytree(lake, tmp_path / "lake", symlinks=True)


def first_frame(root: Path) -> int:
    return int(min(Lake(root).snapshot().read("frames", ["frame_id"])["frame_id"].to_pylist()))


def test_a_dry_run_shows_what_goes_and_leaves_it(copy: Path, well: Run) -> None:
    number = Lake(copy).snapshot().number
    said = well("forget", copy, "--batch", NIGHT, "--dry-run").out
    assert said.startswith("forget: these rows would go: 4 of frames, ")
    assert said.endswith(f"whole nights: {NIGHT}\n")
    assert Lake(copy).snapshot().number == number


def test_what_goes_is_what_the_dry_run_showed(copy: Path, well: Run) -> None:
    options = ("forget", copy, "--frame", first_frame(copy), "--batch", "small-20241002")
    told = well(*options, "--dry-run", "--json").json
    done = well(*options, "--yes", "--json").json
    assert told["snapshot"] is None and done["snapshot"] == Lake(copy).snapshot().number
    assert told["rows"] == done["rows"]
    assert done["rows"]["frames"] in (4, 5)
    assert well("history", copy, "--batch", "small-20241002", "--json").json[-1]["stage"] == "forget"
    state = well("status", copy, "--json").json["outdated"]
    assert sum(table["outdated"] for table in state.values()) > 0
    well("calibrate", copy)
    well("aggregate", copy)
    state = well("status", copy, "--json").json["outdated"]
    assert {table: (one["outdated"], one["why"]) for table, one in state.items()} == dict.fromkeys(
        state, (0, {})
    )


def test_a_table_of_the_user_goes_and_a_rollback_brings_it_back(copy: Path, well: Run) -> None:
    well("crossmatch", copy, "sources", "simcat", "-o", "pairs", "--radius", 60)
    before, n_rows = Lake(copy).snapshot().number, Lake(copy).snapshot().n_rows("pairs")

    told = well("forget", copy, "--table", "pairs", "--dry-run", "--json").json
    done = well("forget", copy, "--table", "pairs", "--yes", "--json").json
    assert told["rows"] == done["rows"] == {"pairs": n_rows} and done["tables"] == ["pairs"]
    assert "pairs" not in Lake(copy).snapshot().tables and not (copy / "pairs").is_symlink()
    (entry,) = well("history", copy, "--last", 1, "--json").json
    assert (entry["stage"], entry["batch"], entry["n_removed"]) == ("forget", "pairs", 1)
    well("verify", copy)

    well("rollback", copy, before)
    assert Lake(copy).snapshot().n_rows("pairs") == n_rows and (copy / "pairs").is_dir()
    well("verify", copy)
    well("forget", copy, "--table", "pairs", "--yes")
    well("vacuum", copy, "--keep", 1)
    assert not list((copy / "_versions" / "pairs").glob("*"))
    # The name is free again.
    well("crossmatch", copy, "sources", "simcat", "-o", "pairs", "--radius", 30)
    well("verify", copy)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "nothing is named that is to be forgotten; use --frame, --batch or --table"),
        (["--frame", "17", "--yes"], "there is no frame 17 in the lake"),
        (["--batch", "small-20300101", "--yes"], "there is no night small-20300101 in the lake"),
        (["--batch", "small", "--yes"], "'small' is no night of a camera"),
        (["--table", "sources", "--yes"], "sources is a table of skylake, and stays"),
        (["--table", "pears", "--yes"], "there is no table 'pears' in the lake; it has none of your own"),
        (["--batch", NIGHT], "there is nobody to ask whether that is meant; say --yes"),
    ],
)
def test_what_cannot_be_forgotten_is_one_sentence(
    options: list[str], words: str, lake: Path, process: Run
) -> None:
    import subprocess

    answer = process("forget", lake, *options, stdin=subprocess.DEVNULL)
    assert answer.status == 2
    assert words in answer.sentence


@pytest.mark.parametrize(("reply", "is_gone"), [("y", True), ("n", False)])
def test_a_terminal_is_asked(copy: Path, environment: dict[str, str], reply: str, is_gone: bool) -> None:
    import os
    import pty
    import subprocess
    import sys

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "skylake", "forget", str(copy), "--batch", NIGHT]
    with subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.write(ours, f"{reply}\n".encode())
        out, err = process.communicate(timeout=900)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 0, err
    assert "these rows would go: 4 of frames" in err and "forget them? [y/N]" in err
    assert (NIGHT not in Lake(copy).snapshot().parts("frames")) == is_gone
    assert ("rows removed: 4 of frames" in out) == is_gone
    assert ("nothing was forgotten" in err) != is_gone
