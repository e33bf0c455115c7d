"""A lake of somebody else, whose links and names lead to files of the user: none is read, written or removed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest

from skylake import cameras
from skylake.durable import replace_text
from skylake.errors import ConfigurationError, LakeError, SkylakeError
from skylake.flow.ingest.known_files import write_tried
from skylake.lake import Lake, Retention, Snapshot, publish_snapshot
from skylake.lake.storage.watch_lists import WatchList, add_watch_list, note_delivered, read_watch_list
from skylake.sky.hats import read_collection

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
Digests = Callable[[Path], dict[str, str]]
SECRET = b"-----BEGIN PRIVATE KEY-----\n"


@pytest.fixture
def home(tmp_path: Path, digests: Digests) -> Any:
    """A home with a secret in it, which is as it was afterwards."""
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    (home / "id_rsa").write_bytes(SECRET)
    (home / "photos" / "one.json").write_text("{}")
    before = digests(home)
    yield home
    assert digests(home) == before


@pytest.fixture
def nights(lake: Lake, make_rows: MakeRows, put: Put) -> Lake:
    """A lake with three commits to its sources, and a camera."""
    for night in (1, 2, 3):
        put(lake, ("sources", f"c-{night}", make_rows("sources", 20, night)))
    lake.keep_profile(cameras.load("sim"))
    return lake


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


LINKED = (
    "_margins/zz", "_margins/sources/000777", "_versions/sources/000777", "_versions/zz", "_snapshots/000001",
    "_snapshots/000099", "_staging/lasting-compact-sources", "_staging/publish.1", "_ledger/configurations",
    "calibrations/sim", "catalogs/.sky.building-0123", "_cameras/sim.psf", "_watch", "_postgres/log", "anything",
)  # fmt: skip


@pytest.mark.parametrize("name", LINKED)
def test_what_a_link_leads_to_stays(
    name: str, nights: Lake, home: Path, make_rows: MakeRows, put: Put
) -> None:
    link = nights.root / name
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists():
        link.rename(link.with_name("away"))
    link.symlink_to(home / "photos")
    rows = make_rows("sources", 5, 4)
    for attempt in (
        lambda: nights.vacuum(Retention(1, 0, 0)),
        lambda: put(nights, ("sources", "c-4", rows)),
        lambda: nights.rollback(2),
    ):
        try:
            attempt()
        except LakeError as error:
            assert str(link) in str(error)


@pytest.mark.parametrize("name", ["skylake.toml", "_newest", "_cameras/sim.tried", "_cameras/sim.catalog"])
def test_nothing_is_written_through_a_link(name: str, nights: Lake, home: Path) -> None:
    """Neither through one in the place of a file, nor through one under a name that it could be written under."""
    path = nights.root / name
    (path.with_name(f".{path.name}.tmp")).symlink_to(home / "id_rsa")
    nights.set("workers", 3) if name == "skylake.toml" else write_tried(nights, "sim", {"a": "b"})
    path.unlink(missing_ok=True)
    path.symlink_to(home / "id_rsa")
    replace_text(path, "new")
    assert path.read_text() == "new" and not path.is_symlink()


def test_what_was_delivered_is_not_appended_to_a_link(nights: Lake, home: Path) -> None:
    add_watch_list(nights.layout, WatchList("mine", (), "", 0, 5.0, 0.1, 5.0, "x"))
    (nights.layout.watch_lists / "mine.delivered").symlink_to(home / "id_rsa")
    with pytest.raises(LakeError, match="this is a link"):
        note_delivered(nights.layout, "mine", [7])


def test_a_watch_list_has_the_name_of_its_file(nights: Lake, home: Path) -> None:
    add_watch_list(nights.layout, WatchList("mine", (), "", 0, 5.0, 0.1, 5.0, "x"))
    path = nights.layout.watch_lists / "mine.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"name": "../../home/evil"}))
    with pytest.raises(LakeError, match=r"named '\.\./\.\./home/evil' inside"):
        read_watch_list(nights.layout, "mine")
    for name in ("../../home/evil", "/etc/passwd"):
        with pytest.raises(SkylakeError):
            note_delivered(nights.layout, name, [7])


def test_a_profile_has_the_name_of_its_file(nights: Lake) -> None:
    path = nights.layout.profile("sim")
    path.rename(path.with_name("other.json"))
    with pytest.raises(ConfigurationError, match="the profile of 'sim' inside"):
        nights.kept_profile("other")
    for name in ("../sim", "/sim", "a/../../b"):
        with pytest.raises(LakeError, match="out of this folder"):
            nights.layout.profile(name)
        with pytest.raises(LakeError, match="out of this folder"):
            nights.layout.catalog(name)


@pytest.mark.parametrize(
    "file", ["../home/id_rsa", "calibrations/../../home/id_rsa", "calibrations/sim/key", "/x"]
)
def test_a_master_elsewhere_is_not_published(
    file: str, nights: Lake, home: Path, make_rows: MakeRows, put: Put, tmp_path: Path
) -> None:
    link = nights.root / "calibrations" / "sim" / "key"
    link.parent.mkdir(parents=True)
    link.symlink_to(home / "id_rsa")
    known = {"file": [file], "file_bytes": [len(SECRET)], "sha256": [hashlib.sha256(SECRET).hexdigest()]}
    put(nights, ("masters", "sim-1", make_rows("masters", 1, 1, **known)))
    with pytest.raises(LakeError, match=r"out of this folder|this is a link|is not there"):
        publish_snapshot(nights.snapshot(), (tmp_path / "public" / "lake").as_uri())
    assert SECRET not in contents(tmp_path / "public")
    assert not (tmp_path / "public" / "home").exists()


@pytest.mark.parametrize("name", ["_cameras/sim.json", "_ledger/000002.json", "sources/_parts/c-1.json"])
def test_what_a_link_leads_to_is_not_published(name: str, nights: Lake, home: Path, tmp_path: Path) -> None:
    path = (nights.root / name).parent.resolve() / Path(name).name
    path.unlink()
    path.symlink_to(home / "id_rsa")
    with pytest.raises(SkylakeError):
        publish_snapshot(nights.snapshot(), (tmp_path / "public").as_uri())
    assert SECRET not in contents(tmp_path / "public")


@pytest.mark.parametrize("name", ["_versions", "_cameras/sim.json", "catalogs/sky", "_unfinished"])
def test_nothing_is_published_through_a_link(name: str, nights: Lake, home: Path, tmp_path: Path) -> None:
    link = tmp_path / "public" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(home / ("id_rsa" if link.suffix else "photos"))
    with pytest.raises(LakeError, match="this is a link to"):
        publish_snapshot(nights.snapshot(), (tmp_path / "public").as_uri())


@pytest.mark.parametrize("folder", ["../../home/photos", "/home", "_versions/../../home"])
@pytest.mark.parametrize("kind", ["tables", "catalogs", "margins"])
def test_a_published_snapshot_names_no_folder_outside(
    folder: str, kind: str, nights: Lake, tmp_path: Path
) -> None:
    url = f"memory://{tmp_path.name}"
    publish_snapshot(nights.snapshot(), url)
    number = nights.snapshot().number
    fs, root = fsspec.url_to_fs(url)
    file = f"{root}/_snapshots/{number:06d}.json"
    values = json.loads(fs.cat_file(file))
    values[kind]["sources"] = folder
    fs.pipe_file(file, json.dumps(values).encode())
    with pytest.raises(LakeError, match=r"the snapshot is damaged .* no path below a folder"):
        Lake(url).snapshot()
    fs.rm(root, recursive=True)


@pytest.mark.parametrize("name", ["_cameras", "_cameras/key.json"])
def test_a_rollback_does_not_take_what_a_link_leads_to(
    name: str, nights: Lake, home: Path, make_rows: MakeRows, put: Put
) -> None:
    put(nights, ("sources", "c-4", make_rows("sources", 5, 4)))
    link = nights.layout.snapshot(5) / name
    if link.exists():
        link.rename(link.with_name("away"))
    link.symlink_to(home / ("photos" if name == "_cameras" else "id_rsa"))
    with pytest.raises(LakeError, match=r"this is a link to|has the table _cameras"):
        nights.rollback(5)
    assert {path.name for path in (nights.root / "_cameras").iterdir()} == {"sim.json", "sim.seen"}


@pytest.mark.parametrize(
    "text", ['{"objects": {"../../home/id_rsa": [1, ""]}}', '{"objects": []}', "[]", "{"]
)
def test_a_list_of_objects_names_none_outside(text: str, nights: Lake, tmp_path: Path) -> None:
    url = f"memory://objects-{tmp_path.name}"
    publish_snapshot(nights.snapshot(), url)
    fs, _ = fsspec.url_to_fs(url)
    place = nights.snapshot().folder("sources").relative_to(nights.root)
    fs.pipe_file(f"{url}/{place}/_objects.json", text.encode())
    with pytest.raises(LakeError, match="the list of objects is damaged"):
        Lake(url).snapshot().cone("sources", 10.0, 10.0, 1.0)
    with pytest.raises(LakeError, match="the list of objects is damaged"):
        publish_snapshot(nights.snapshot(), url)
    fs.rm(url, recursive=True)


def test_a_margin_that_a_catalog_names_elsewhere_is_not_removed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "sky").mkdir()
    text = "hats_primary_table_url=sky\nall_margins=a ../../home/photos\ndefault_margin=a\n"
    (tmp_path / "sky" / "collection.properties").write_text(text)
    with pytest.raises(SkylakeError, match="leads out of the catalog"):
        read_collection(tmp_path / "sky")


def test_a_stage_that_lasts_is_not_written_through_links(nights: Lake, home: Path) -> None:
    with pytest.raises(KeyboardInterrupt), nights.lasting_stage("compact-sources") as staging:
        (staging / "bundle").mkdir()
        (staging / "bundle" / "dataset").symlink_to(home / "photos")
        raise KeyboardInterrupt
    with nights.lasting_stage("compact-sources") as staging:
        assert (staging / "bundle").is_dir() and not os.path.lexists(staging / "bundle" / "dataset")


def test_a_killed_commit_does_not_shut_the_lake(nights: Lake, make_rows: MakeRows, put: Put) -> None:
    """It may leave the link that would have become the pointer."""
    left = nights.root / ".current.0123456789ab.tmp"
    left.symlink_to("_snapshots/000099")
    lake = Lake(nights.root)
    put(lake, ("sources", "c-9", make_rows("sources", 5, 9)))
    assert not left.is_symlink()
