from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from skylake.lake import Lake
from skylake.schema import table_names
from skylake.settings import Settings

Run = Callable[..., Any]


def test_init_makes_a_lake_with_the_settings_asked_for(tmp_path: Path, well: Run) -> None:
    root = tmp_path / "deep" / "lake"
    options = ("--pixel-order", 1, "--map-order", 5, "--cluster", "slurm", "--workers", 3)
    answer = well("init", root, *options)
    assert answer.out.startswith(f"made the lake {root}; next: skylake catalog import {root} NAME")
    assert answer.err == ""
    assert Lake(root).settings == Settings(pixel_order=1, map_order=5, cluster="slurm", workers=3)
    well("init", tmp_path / "plain")
    assert Lake(tmp_path / "plain").settings == Settings()


@pytest.mark.parametrize("name", ["my lake", "it's", 'a "lake"', "$HOME; ls *", "Sternwarte-Öü"])
def test_a_lake_can_have_any_name_and_the_advice_can_be_pasted(name: str, tmp_path: Path, well: Run) -> None:
    root = tmp_path / name
    words = shlex.split(well("init", root).out.partition("next: ")[2])
    assert words[:4] == ["skylake", "catalog", "import", str(root)]
    assert well("sql", root, "SELECT count(*) AS n FROM frames", "--format", "json").json == [{"n": 0}]
    assert well("path", root, "sources").out == f"{root}/_versions/sources/000001\n"


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["LAKE"], 2, "lake: there is a lake already"),
        (["FULL"], 2, "full: the folder is not empty; name a new one"),
        (["FILE"], 2, "file: this is a file, and a lake is a folder; name a new folder"),
        (["NEW", "--pixel-order", "9"], 2, "'--pixel-order': 9 is not in the range 0<=x<=8"),
        (["NEW", "--map-order", "-1"], 2, "'--map-order'"),
        (["NEW", "--workers", "-1"], 2, "'--workers'"),
        (
            ["NEW", "--cluster", "nowhere"],
            2,
            "there is no cluster 'nowhere'; use local, inline, slurm or tls://",
        ),
    ],
)
def test_a_lake_that_cannot_be_made_is_one_sentence(
    options: list[str], status: int, words: str, new_lake: Path, tmp_path: Path, skylake_command: Run
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("all my work")
    (tmp_path / "file").write_text("")
    places = {"LAKE": new_lake, "FULL": tmp_path / "full", "FILE": tmp_path / "file", "NEW": tmp_path / "new"}
    answer = skylake_command("init", *(places.get(option, option) for option in options))
    assert answer.status == status
    assert words in answer.sentence
    assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in (tmp_path / "full").iterdir()) == ["thesis.tex"]


def test_status_counts_what_the_tables_hold(lake: Path, sky: Path, well: Run) -> None:
    value = well("status", lake, "--json").json
    snapshot = Lake(lake).snapshot()
    assert value["lake"] == str(lake)
    assert value["snapshot"] == snapshot.number
    assert value["tables"] == {name: snapshot.read(name).num_rows for name in table_names()}
    assert (value["catalogs"], value["catalog"]) == (["simcat"], {"solve": "simcat", "calibrate": "simcat"})
    [frames] = value["frames"]
    assert (frames["camera"], frames["status"], frames["reason"], frames["count_all"]) == (
        "small",
        "ok",
        None,
        8,
    )
    truth = pq.read_table(sky / "truth" / "frames.parquet").to_pandas()
    for night in value["nights"]:
        true = truth[truth.night == night["night"]]
        assert (night["camera"], night["band"], night["n_frames"], night["n_ok"]) == ("small", "V", 4, 4)
        assert night["zp_median"] == pytest.approx(true.zp.median(), abs=5 * night["zp_median_err"])
    assert [night["night"] for night in value["nights"]] == [20241001, 20241002]


def test_status_of_the_last_nights(new_lake: Path, put: Any, make_rows: Any, well: Run) -> None:
    nights = [(camera, night) for camera in ("a", "b") for night in (0, 20240301, 20240302, 20240401)]
    for camera, night in [*nights, ("b", 20240402)]:
        rows = make_rows("nights", 1, camera=[camera], night=[night], band=["V"])
        put(Lake(new_lake), ("nights", f"{camera}-{night}", rows))
    for last, found in (
        (1, {20240402}),
        (2, {20240402, 20240401}),
        (9, {20240301, 20240302, 20240401, 20240402}),
    ):
        shown = well("status", new_lake, "--last", last, "--json").json["nights"]
        assert {row["night"] for row in shown} == found
    lines = well("status", new_lake, "--last", 1).out.splitlines()
    assert sum("2024" in line for line in lines) == 1


def test_status_as_text_says_the_same(lake: Path, well: Run) -> None:
    value = well("status", lake, "--json").json
    answer = well("status", lake)
    lines = answer.out.splitlines()
    assert answer.err == ""
    assert lines[0] == f"{lake}, snapshot {value['snapshot']}"
    assert lines[1] == "catalogs: simcat; solve: simcat, calibrate: simcat"
    assert {f"{line.split()[0]}": line.split()[1] for line in lines[5 : 5 + len(value["tables"])]} == {
        name: str(count) for name, count in value["tables"].items()
    }
    in_blocks = {line.split()[0] for line in lines if line.split()[2:3] == ["blocks"]}
    assert in_blocks == {"lightcurves", "forced_lightcurves", "star_statistics"}
    assert ["small", "ok", "8"] in [line.split() for line in lines]
    assert sum(line.split()[:1] == ["small"] and "  20241" in line for line in lines) == 2


def test_status_shows_frames_without_a_time_before_nights(
    new_lake: Path, sky: Path, camera: Path, tmp_path: Path, skylake_command: Run
) -> None:
    undated = Path(shutil.copy(sky / "frames/20241001/small_20241001_0002.fits", tmp_path / "undated.fits"))
    fits.delval(undated, "DATE-OBS")
    # 2021-05-04, noon UTC.
    os.utime(undated, (1620129600, 1620129600))
    ingested = skylake_command("ingest", new_lake, "-c", camera, undated)
    assert "ingest small, frames without a time: 0 of 1 frame ok" in ingested.err
    value = skylake_command("status", new_lake, "--json").json
    assert value["undated"] == [{"camera": "small", "came": "2021-05-04", "n_frames": 1}]
    lines = [line.split() for line in skylake_command("status", new_lake).out.splitlines()]
    assert ["small", "2021-05-04", "1"] in lines


def test_status_of_an_empty_lake(new_lake: Path, well: Run) -> None:
    value = well("status", new_lake, "--json").json
    assert set(value["tables"].values()) == {0}
    assert (value["frames"], value["nights"], value["catalogs"]) == ([], [], [])
    assert value["catalog"] == {"solve": "", "calibrate": ""}
    assert "catalogs: none; solve: none, calibrate: none" in well("status", new_lake).out


def test_path_is_the_folder_free_of_links_that_others_can_read(lake: Path, well: Run) -> None:
    for table in table_names():
        folder = Path(well("path", lake, table).out.removesuffix("\n"))
        assert folder == folder.resolve() == (lake / table).resolve()
    sources = Path(well("path", lake, "sources").out.strip())
    found = sum(pq.ParquetFile(path).metadata.num_rows for path in sources.rglob("Npix=*/*.parquet"))
    assert found == well("status", lake, "--json").json["tables"]["sources"] > 0


@pytest.mark.parametrize("command", [("status",), ("path", "sources")])
def test_what_is_no_lake_is_refused_with_the_command_to_type(
    command: tuple[str, ...], tmp_path: Path, skylake_command: Run
) -> None:
    for place in (tmp_path, tmp_path / "none"):
        answer = skylake_command(command[0], place, *command[1:])
        assert answer.status == 3
        assert answer.sentence == f"{place}: there is no lake; make one with `skylake init {place}`"


def test_an_unknown_table_is_named_with_those_that_are(lake: Path, skylake_command: Run) -> None:
    answer = skylake_command("path", lake, "source")
    assert answer.status == 2
    assert answer.sentence == f"there is no table 'source'; the tables are {', '.join(table_names())}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wrkers = 3\n", "skylake.toml: there is no setting 'wrkers'; the settings are cluster"),
        ("workers = 'many'\n", "skylake.toml: workers must be of type int"),
        ("= broken", "skylake.toml: not valid TOML"),
        ("objects = 3\n", "skylake.toml: objects must be a table, [objects]"),
        (
            "[objects]\nmost = 3\n",
            "skylake.toml: there is no setting 'objects.most'; the settings below [objects] are",
        ),
        (
            "[objects]\nleast_detections = 0\n",
            "skylake.toml: objects.least_detections is a whole number, at least 1",
        ),
        ("[objects]\nleast_share = 25\n", "skylake.toml: objects.least_share is a number from 0 to 1"),
    ],
)
def test_damaged_settings_are_named_with_their_key(
    text: str, words: str, new_lake: Path, skylake_command: Run
) -> None:
    (new_lake / "skylake.toml").write_text(text)
    answer = skylake_command("status", new_lake)
    assert answer.status == 3
    assert f"{new_lake}/{words}" in answer.sentence


def test_a_lake_without_its_pointer_is_reported(new_lake: Path, skylake_command: Run) -> None:
    (new_lake / "current").unlink()
    answer = skylake_command("status", new_lake)
    assert answer.status == 3
    assert str(new_lake) in answer.sentence and "'current' is broken" in answer.sentence


def test_a_lost_file_is_reported_and_gives_no_short_answer(
    lake: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path], skylake_command: Run
) -> None:
    copy = copy_lake(lake, tmp_path / "copy")
    path = Lake(copy).open("sources").files[0]
    path.unlink()
    sentence = f"{path}: the file is missing, and rows with it; `skylake verify {copy}` shows the command"
    answer = skylake_command("status", copy, "--json")
    assert answer.status == 1 and sentence in answer.err and list(answer.json["damaged"]) == ["sources"]
    answer = skylake_command("sql", copy, "SELECT count(*) FROM sources")
    assert (answer.status, answer.out) == (3, "") and sentence in answer.err


@pytest.mark.parametrize("command", ["status", "sql"])
def test_a_cut_off_file_is_reported_with_what_finds_the_fix(
    command: str, lake: Path, tmp_path: Path, copy_lake: Callable[[Path, Path], Path], skylake_command: Run
) -> None:
    copy = copy_lake(lake, tmp_path / "copy")
    path = Lake(copy).open("frames").files[0]
    path.write_bytes(path.read_bytes()[:-7])
    answer = skylake_command(command, copy, *(["SELECT 1"] if command == "sql" else []))
    assert answer.status == 3 and answer.err.startswith(f"skylake: {path}: the file ")
    assert f"`skylake verify {copy}`" in answer.err and answer.err.count("\n") == 1


def test_one_command_is_one_run_and_rollback_undoes_it(lake: Path, tmp_path: Path, well: Run) -> None:
    copy = tmp_path / "lake"
    subprocess.run(["cp", "-a", str(lake), str(copy)], check=True)
    before = well("history", copy, "--json").json
    assert len({one["run"] for one in before}) == len(before)
    well("forget", copy, "--batch", "small-20241002", "--yes")
    last = well("history", copy, "--last", 1, "--json").json[0]
    assert last["stage"] == "forget" and last["base"] == before[-1]["snapshot"]
    assert f"as snapshot {before[-1]['snapshot']} was" in well("rollback", copy).out
    assert f"as snapshot {last['snapshot']} was" in well("rollback", copy).out
