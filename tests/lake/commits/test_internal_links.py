"""A link that is lost costs no row: the version that it led to stays, and is found again."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from skylake import cameras
from skylake.errors import LakeError
from skylake.lake import Lake, Retention, Snapshot
from skylake.lake.commits.internal_links import lost_version, read_links
from skylake.lake.integrity.lake_facts import gather_facts
from skylake.lake.integrity.repairs import Repairs
from skylake.settings import Catalogs

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]


@pytest.fixture
def nights(lake: Lake, make_rows: MakeRows, put: Put) -> Lake:
    """A lake of three nights of sources, snapshots 2 to 4, and frames in the last."""
    for night in (1, 2):
        put(lake, ("sources", f"c-{night}", make_rows("sources", 40, night)))
    put(lake, ("sources", "c-3", make_rows("sources", 40, 3)), ("frames", "c-3", make_rows("frames", 5, 3)))
    return lake


def lose(lake: Lake, number: int, table: str) -> str:
    link = lake.layout.snapshot(number) / table
    led_to = link.readlink().name
    link.unlink()
    return led_to


def mended(lake: Lake, number: int, table: str) -> Lake:
    """The lake after the command that verify gives."""
    command = Repairs(gather_facts(lake.layout)).snapshot(number, table, is_verified=False)
    assert command.startswith("ln -sfn "), command
    subprocess.run(command, shell=True, check=True)
    return Lake(lake.root)


def test_a_commit_upon_a_lost_link_fails_and_moves_no_rows(
    nights: Lake, make_rows: MakeRows, put: Put
) -> None:
    expected = nights.snapshot().read("sources")
    lose(nights, 4, "sources")
    for attempt in (lambda: put(nights, ("frames", "c-4", make_rows("frames", 5, 4))), nights.vacuum):
        with pytest.raises(LakeError, match="has lost its table sources"):
            attempt()
    assert mended(nights, 4, "sources").snapshot().read("sources").equals(expected)


def test_rolling_back_keeps_what_a_lost_link_led_to(nights: Lake) -> None:
    expected = nights.snapshot().read("sources")
    lose(nights, 4, "sources")
    assert nights.rollback(3).number == 5
    assert mended(nights, 4, "sources").snapshot(4).read("sources").equals(expected)


def test_commits_go_on_over_a_lost_link_of_an_older_snapshot(
    nights: Lake, make_rows: MakeRows, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    led_to = lose(nights, 3, "sources")
    with caplog.at_level("WARNING", logger="skylake"):
        put(nights, ("sources", "c-4", make_rows("sources", 40, 4)))
    assert "snapshot 3 has lost its table sources" in caplog.text
    assert nights.layout.version("sources", int(led_to)).is_dir()
    assert mended(nights, 3, "sources").snapshot(3).n_rows("sources") == 80
    assert nights.vacuum(Retention(1, 0, 0)).snapshots == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("table", ["sources", "frames", "matches"])
def test_where_a_lost_link_led_is_found(nights: Lake, number: int, table: str) -> None:
    led_to = lose(nights, number, table)
    assert read_links(nights.layout).lost == ((number, table),)
    assert lost_version(nights.layout, number, table) == led_to


def test_a_broken_link_is_lost_and_a_younger_table_is_not(nights: Lake) -> None:
    link = nights.layout.snapshot(4) / "sources"
    led_to = lose(nights, 4, "sources")
    link.symlink_to("../../_versions/sources/000777")
    assert read_links(nights.layout).lost == ((4, "sources"),)
    assert lost_version(nights.layout, 4, "sources") == led_to
    mended(nights, 4, "sources")
    record = nights.layout.record(4)
    record.write_text(record.read_text().replace('"maps"', '"other"'))
    lose(nights, 4, "maps")
    assert read_links(nights.layout).lost == ()


def test_what_is_not_certain_is_not_reported(nights: Lake) -> None:
    lose(nights, 4, "sources")
    version = nights.layout.version("sources", 4)
    shutil.copytree(version, nights.layout.version("sources", 9), symlinks=True)
    assert lost_version(nights.layout, 4, "sources") is None
    damage(nights.layout.version("sources", 9))
    assert lost_version(nights.layout, 4, "sources") == version.name
    nights.layout.record(4).unlink()
    assert lost_version(nights.layout, 4, "sources") is None


def damage(version: Path) -> None:
    (version / "_parts" / "c-3.json").unlink()


#: What is in the place of a link, and what else the lake needs to have it.
OWN = (
    "_margins", "_margins/sources", "notes",
    "_staging", "_staging/lasting-x", "_versions", "_versions/sources", "_versions/sources/000003", "_snapshots",
    "_snapshots/000002", "_ledger", "_ledger/configurations", "_cameras", "_cameras/sim.psf", "_postgres",
    "_postgres/data", "calibrations", "calibrations/sim", "catalogs", "catalogs/sky", "catalogs/sky/sky", "_lock",
)  # fmt: skip


def command_of(error: pytest.ExceptionInfo[LakeError]) -> str:
    """The command that a sentence gives last."""
    return str(error.value).split("`")[-2]


@pytest.mark.slow
@pytest.mark.parametrize("name", OWN)
def test_a_link_in_place_of_a_folder_is_refused_untouched(name: str, nights: Lake, tmp_path: Path) -> None:
    own, elsewhere = nights.root / name, tmp_path / "else where"
    own.parent.mkdir(parents=True, exist_ok=True)
    if own.exists():
        own.rename(elsewhere)
    else:
        elsewhere.mkdir()
    precious = elsewhere / "precious" / "file.fits" if elsewhere.is_dir() else elsewhere
    if elsewhere.is_dir():
        precious.parent.mkdir()
        precious.write_text("mine")
    own.symlink_to(elsewhere)
    vacuum, opened = lambda: nights.vacuum(Retention(1, 0, 0)), lambda: Lake(nights.root)
    # What is deeper is looked at by who uses it, so that it takes no time to open a lake.
    deep = {
        "_versions/sources/000003": (vacuum,),
        "catalogs/sky/sky": (lambda: nights.snapshot().catalog("sky"),),
    }
    for attempt in deep.get(name, (vacuum, opened)):
        with pytest.raises(LakeError, match="and skylake writes and deletes here") as error:
            attempt()
        assert str(error.value).startswith(f"{own}: ")
    facts = gather_facts(nights.layout)
    found = [row for row in facts.relations.values("documents", "path", "kind") if row[1] == "link"]
    assert found == [(name, "link")]
    command = command_of(error)
    assert Repairs(facts).document(name, "link", None) == command
    subprocess.run(command, shell=True, check=True)
    precious_too = own / "precious"
    if precious_too.exists() and name != "catalogs":
        shutil.rmtree(precious_too)  # of the copy, where it would be taken for one of the lake's own
    lake = Lake(nights.root)
    assert lake.snapshot().n_rows("sources") == 120
    lake.vacuum(Retention(1, 0, 0))
    assert precious.exists() and (
        precious.is_dir() or precious == elsewhere or precious.read_text() == "mine"
    )


@pytest.mark.parametrize(
    "name", ["sources/_parts", "sources/dataset", "frames/dataset", "catalogs/sky/sky/dataset"]
)
def test_verify_alone_names_a_link_within_a_version_or_catalog(
    name: str, nights: Lake, tmp_path: Path
) -> None:
    own, elsewhere = nights.root / name, tmp_path / "else where"
    own.mkdir(parents=True, exist_ok=True)
    own = own.resolve()
    own.rename(elsewhere)
    own.symlink_to(elsewhere)
    (elsewhere / "other.json").write_text("of something else")
    facts = gather_facts(nights.layout)
    path = str(own.relative_to(nights.root))
    (row,) = facts.relations.values("documents", "path", "kind", "problem")
    assert row[:2] == (path, "link") and f"a link to {elsewhere}" in row[2]
    assert not facts.relations.values("lake_catalogs", "catalog")
    command = Repairs(facts).document(path, "link", None)
    (elsewhere / "other.json").unlink()
    subprocess.run(command, shell=True, check=True)
    assert not gather_facts(nights.layout).relations.values("documents", "path")
    assert Lake(nights.root).snapshot().n_rows("sources") == 120


@pytest.mark.parametrize("name", ["current", "sources", "_snapshots/000004/sources"])
def test_the_links_of_a_lake_do_not_lead_out_of_it(name: str, nights: Lake, tmp_path: Path) -> None:
    link = nights.root / name
    outside = tmp_path / "outside" / link.resolve().relative_to(nights.root)
    shutil.copytree(link.resolve(), outside, symlinks=True)
    link.unlink()
    link.symlink_to(outside)
    with pytest.raises(LakeError, match=re.escape(f"{link}: the link leads to {outside}")) as error:
        Lake(nights.root).snapshot().read("sources")
    facts = gather_facts(nights.layout)
    if name.startswith("_snapshots"):
        rows = facts.relations.values("snapshot_tables", "snapshot", "table_name", "is_verified", "problem")
        [row] = [row for row in rows if row[-1] is not None]
        assert "skylake verify" in command_of(error)
        command = Repairs(facts).snapshot(*row[:-1])
    else:
        [problem] = [one for one in facts.relations.values("pointers", "link", "problem") if one[1]]
        assert problem[0] == name
        command = command_of(error)
    subprocess.run(command, shell=True, check=True)
    assert Lake(nights.root).snapshot().read("sources").num_rows == 120


def test_a_lake_may_be_reached_through_a_link(
    nights: Lake, tmp_path: Path, make_rows: MakeRows, put: Put
) -> None:
    (tmp_path / "there").symlink_to(nights.root)
    lake = Lake(tmp_path / "there")
    put(lake, ("sources", "c-4", make_rows("sources", 40, 4)))
    lake.vacuum(Retention(1, 0, 0))
    assert Lake(nights.root).snapshot().n_rows("sources") == 160


def test_a_catalog_that_only_a_profile_names_is_missed(lake: Lake) -> None:
    profile = cameras.load("sim")
    base = replace(profile.base, catalog=Catalogs("deep", "wide"))
    lake.set("catalog.solve", "wide")
    lake.keep_profile(replace(profile, base=base))
    found = gather_facts(lake.layout).relations.values("lake_catalogs", "catalog", "problem")
    assert sorted(found) == [
        ("deep", f"the profile of {profile.name} names it, and it is missing"),
        ("wide", "the settings name it, and it is missing"),
    ]
