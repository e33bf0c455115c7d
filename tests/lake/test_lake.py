from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skylake import cameras
from skylake.errors import ConfigurationError, LakeError, UsageError
from skylake.lake import Commit, Lake, Snapshot
from skylake.schema import empty_table, load, table_names
from skylake.settings import Catalogs, Settings

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
Digests = Callable[[Path], dict[str, str]]


def test_a_new_lake_has_every_table_without_rows(lake: Lake) -> None:
    snapshot = lake.snapshot()
    assert snapshot.number == 1
    for name in table_names():
        assert snapshot.n_rows(name) == 0
        assert snapshot.read(name).equals(empty_table(load(name)))
        assert (lake.root / name).is_symlink()
        assert (lake.root / name).resolve() == snapshot.folder(name)
    assert snapshot.catalogs() == []
    with snapshot.duckdb() as connection:
        for name in table_names():
            assert connection.sql(f"SELECT count(*) FROM {name}").fetchall() == [(0,)]


def test_settings_are_kept(tmp_path: Path) -> None:
    wanted = Settings(cluster="inline", workers=3, pixel_order=0, map_order=5)
    Lake.create(tmp_path / "a" / "lake", wanted)
    opened = Lake(tmp_path / "a" / "lake")
    assert opened.settings == wanted
    assert len(opened.tree.pixels) == 12
    opened.set("catalog.solve", "mine")
    text = (opened.root / "skylake.toml").read_text()
    assert "# Reference catalogs: " in text, "comments stay"
    assert Lake(opened.root).settings.catalog == Catalogs(solve="mine")


def test_an_existing_empty_folder_becomes_a_lake(tmp_path: Path) -> None:
    (tmp_path / "lake").mkdir()
    assert Lake.create(tmp_path / "lake").snapshot().number == 1


def test_a_relative_path_stays_good_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lake = Lake.create("lake")
    monkeypatch.chdir("/")
    assert lake.snapshot().number == 1


def test_a_lake_is_not_made_twice_nor_over_other_files(lake: Lake, tmp_path: Path, digests: Digests) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("all my work")
    before = digests(tmp_path)
    with pytest.raises(UsageError, match="there is a lake already"):
        Lake.create(lake.root)
    with pytest.raises(UsageError, match="other: the folder is not empty"):
        Lake.create(other)
    assert digests(tmp_path) == before


def test_a_lake_killed_while_made_is_no_foreign_folder(tmp_path: Path) -> None:
    root = tmp_path / "half"
    Lake.create(root)
    (root / "skylake.toml").unlink()
    with pytest.raises(
        UsageError, match=r"half: a lake was begun here and not finished, or its skylake\.toml is lost"
    ):
        Lake.create(root)
    assert (root / "current" / "sources").is_dir()


def test_a_lake_cannot_be_made_where_nobody_may_write(
    open_folder: Path, plain_user: Callable[[], Any]
) -> None:
    Lake.create(open_folder / "warm")  # imports what is needed
    (open_folder / "shut").mkdir(mode=0o555)
    (open_folder / "file").write_text("")
    with plain_user(), pytest.raises(LakeError, match="shut/lake: the lake cannot be made"):
        Lake.create(open_folder / "shut" / "lake")
    with pytest.raises(LakeError, match="cannot be made"):
        Lake.create(open_folder / "file" / "lake")
    with pytest.raises(UsageError, match="file: this is a file, and a lake is a folder"):
        Lake.create(open_folder / "file")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("nothing", "nothing: there is no lake; .*skylake init"),
        ("folder", "folder: there is no lake; .*skylake init"),
        ("file", "file: this is a file, and a lake is a folder; name the folder"),
    ],
)
def test_what_is_no_lake_is_refused_with_the_command_to_type(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match=words):
        Lake(tmp_path / place)


def test_a_damaged_settings_file_is_named_with_its_key(lake: Lake) -> None:
    file = lake.root / "skylake.toml"
    good = file.read_text()
    for text, key in [
        ("workers = 'many'\n", "workers must be of type int"),
        ("wrkers = 3\n", "no setting 'wrkers'"),
        ("map_order = 30\n", "map_order must be between"),
        ("= broken", "not valid TOML"),
    ]:
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=rf"skylake\.toml: .*{key}"):
            Lake(lake.root)
    file.write_text(good)
    assert Lake(lake.root).settings == lake.settings


@pytest.mark.parametrize("target", [None, "_snapshots/none", "_snapshots/000077"])
def test_a_broken_pointer_is_reported(lake: Lake, target: str | None) -> None:
    lake.layout.current.unlink()
    if target is not None:
        lake.layout.current.symlink_to(target)
    with pytest.raises(
        LakeError, match=r"the link 'current' (is broken|leads to the snapshot 77, which is missing)"
    ):
        lake.snapshot()


def test_a_lake_moves_with_its_folder(
    lake: Lake, tmp_path: Path, make_rows: MakeRows, put: Put, digests: Digests
) -> None:
    rows = make_rows("sources", 50, 1)
    put(lake, ("sources", "c-20240407", rows))
    before = digests(lake.root)
    lake.root.rename(tmp_path / "elsewhere")
    moved = Lake(tmp_path / "elsewhere")
    assert moved.snapshot().read("sources").num_rows == 50
    assert put(moved, ("frames", "c-20240407", make_rows("frames", 3, 1))).n_rows("sources") == 50
    after = digests(moved.root)
    pointers = {"current", "_newest"}
    assert all(after[name] == digest for name, digest in before.items() if name not in pointers)


def test_a_staging_folder_is_gone_afterwards_whatever_happened(lake: Lake) -> None:
    with lake.stage("one") as first, lake.stage("one") as second:
        assert first != second
        (first / "file").write_text("")
    with pytest.raises(ZeroDivisionError), lake.stage("two") as third:
        (third / "deep" / "er").mkdir(parents=True)
        raise ZeroDivisionError
    assert not list(lake.layout.staging.iterdir())


def test_profiles_are_kept_as_they_were_resolved(lake: Lake, tmp_path: Path) -> None:
    profile = cameras.load("sim")
    lake.keep_profile(profile)
    assert lake.profile("sim") == profile
    file = lake.layout.profile("sim")
    before = file.stat().st_mtime_ns
    lake.keep_profile(cameras.load("sim"))
    assert file.stat().st_mtime_ns == before, "the same profile is not written again"
    (tmp_path / "sim.toml").write_text('like = "sim"\nname = "sim"\nsite.height_m = 1.0\n')
    lake.keep_profile(cameras.load(tmp_path / "sim.toml"))
    assert lake.profile("sim").base.site.height_m == 1.0
    with pytest.raises(ConfigurationError, match=r"nobody.json: .*ingest a frame"):
        lake.profile("nobody")


@pytest.mark.parametrize("how", ["of_another_user", "writable"])
def test_a_profile_others_can_write_does_not_replace_ours(
    how: str, lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "sim.toml"
    file.write_text('like = "sim"\nname = "sim"\nsite.height_m = 1.0\n')
    lake.keep_profile(cameras.load(file))
    file.write_text('like = "sim"\nname = "sim"\nsite.height_m = 2.0\n')
    if how == "writable":
        file.chmod(0o666)
    elif os.geteuid() == 0:
        os.chown(file, 65534, 65534)
    else:
        pytest.skip("only root can give a file away")
    with caplog.at_level("WARNING", logger="skylake"):
        assert [lake.profile("sim").base.site.height_m for _ in range(2)] == [1.0, 1.0]
    [record] = caplog.records
    assert record.getMessage().startswith(f"{file}: others than you can write this profile")
    file.chmod(0o644)
    if how == "of_another_user":
        os.chown(file, 0, 0)
    assert lake.profile("sim").base.site.height_m == 2.0


def test_a_half_edited_profile_is_an_error_only_when_needed(
    lake: Lake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "sim.toml"
    file.write_text('like = "sim"\nname = "sim"\nsite.height_m = 1.0\n')
    lake.keep_profile(cameras.load(file))
    file.write_text('like = "sim"\nname = "si')
    with caplog.at_level("WARNING", logger="skylake"):
        assert [lake.profile("sim").base.site.height_m for _ in range(2)] == [1.0, 1.0]
    [record] = caplog.records
    assert "not valid TOML" in record.getMessage() and "kept of sim is in force" in record.getMessage()
    with pytest.raises(ConfigurationError, match="not valid TOML"):
        lake.profile("sim", strict=True)


def test_a_lake_that_cannot_be_written_can_be_read(
    open_folder: Path, make_rows: MakeRows, put: Put, plain_user: Callable[[], Any]
) -> None:
    lake = Lake.create(open_folder / "lake")
    put(lake, ("sources", "c-1", make_rows("sources", 20, 1)))
    lake.keep_profile(cameras.load("sim"))
    assert lake.snapshot().duckdb().sql("SELECT count(*) FROM sources").fetchall() == [(20,)]
    commit = Commit("test", "-")
    commit.remove("sources", "c-1")
    with plain_user(lake.root):
        assert lake.snapshot().read("sources").num_rows == 20
        with pytest.raises(LakeError, match="cannot be written"):
            lake.commit(commit)
        with pytest.raises(LakeError, match="cannot be written"), lake.stage("x"):
            pass
        with pytest.raises(LakeError, match="cannot be written"):
            lake.keep_profile(cameras.load("generic"))
    assert lake.snapshot().number == 2
