"""A lake is published object by object, the pointer last; whatever stops it, what is read is whole."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import pytest

from skylake.core.ids import config_sha256
from skylake.errors import LakeError, UsageError
from skylake.lake import Lake, PublishOptions, PublishReport, Retention, publish_snapshot
from skylake.lake.commits.ledger import keep_configurations, read_configuration
from skylake.lake.remote.snapshot_files import margin_contents
from skylake.schema import load, table_names
from skylake.sky.hats import OBJECTS, Properties, files_below, write_collection, write_metadata
from skylake.sky.hats_coverage import COVERAGE_FILES

Fill = Callable[..., None]
TABLES = ("frames", "sources", "matches")


@pytest.fixture
def url() -> Iterator[str]:
    """An empty store in the memory of this process."""
    name = f"memory://{uuid.uuid4().hex}"
    yield name
    memory = fsspec.filesystem("memory")
    if memory.exists(name):
        memory.rm(name, recursive=True)


@pytest.fixture(scope="session")
def fill(make_rows: Any, put: Any) -> Fill:
    """A function (lake, seed) that commits a night."""

    def commit(lake: Lake, seed: int, count: int = 40, tables: Sequence[str] = TABLES) -> None:
        put(lake, *((table, f"night-{seed}", make_rows(table, count, seed)) for table in tables))

    return commit


def publish(lake: Lake, url: str, **options: Any) -> PublishReport:
    return publish_snapshot(lake.snapshot(), url, PublishOptions(**options))


def objects(url: str) -> dict[str, str]:
    """SHA-256 of all objects below a URL."""
    fs, root = fsspec.url_to_fs(url)
    fs.invalidate_cache()
    return {name[len(root) + 1 :]: hashlib.sha256(fs.cat_file(name)).hexdigest() for name in fs.find(root)}


def require_same(url: str, lake: Lake, as_of: int | None = None) -> None:
    """Require that a published snapshot reads as that of the lake."""
    there, here = Lake(url).snapshot(as_of), lake.snapshot(as_of)
    assert there.number == here.number
    for name in table_names():
        assert there.n_rows(name) == here.n_rows(name)
        assert there.read(name).equals(here.read(name)), name
        assert there.parts(name) == here.parts(name)


def objects_on_disk(lake: Lake, table: str) -> list[Path]:
    return [path for path in lake.snapshot().folder(table).rglob("*") if path.is_file()]


def add_catalog(lake: Lake, name: str, epoch: float) -> None:
    collection = lake.layout.catalog(name)
    extra = {"skylake_epoch": str(epoch), "skylake_sha256": hashlib.sha256(str(epoch).encode()).hexdigest()}
    write_metadata(collection / name, load("sources"), Properties(name, "object", 0), [], extra)
    write_collection(collection, name, f"{name}_margin", 300.0)


def test_what_is_published_is_what_is_on_disk(lake: Lake, url: str, fill: Fill, digests: Any) -> None:
    fill(lake, 1)
    add_catalog(lake, "stars", 2000.0)
    publish(lake, url)
    found, snapshot = objects(url), lake.snapshot()
    for name in table_names():
        folder = snapshot.folder(name)
        prefix = folder.relative_to(lake.root).as_posix()
        wanted = {f"{prefix}/{path}": sha256 for path, sha256 in digests(folder).items()}
        assert {p: s for p, s in found.items() if p.startswith(f"{prefix}/")}.keys() - wanted.keys() == {
            f"{prefix}/{OBJECTS}"
        }
        assert wanted.items() <= found.items()
    wanted = {
        f"catalogs/stars/{path}": sha256 for path, sha256 in digests(lake.layout.catalog("stars")).items()
    }
    assert wanted.items() <= found.items()
    require_same(url, lake)
    published = Lake(url).snapshot()
    assert published.catalogs() == ["stars"]
    for name in table_names():
        here, there = snapshot.collection(name), published.collection(name)
        assert (here is None) == (there is None)
        if here is not None and there is not None:
            files = [path.relative_to(here) for path in files_below(here)]
            assert all((there / path).read_bytes() == (here / path).read_bytes() for path in files)
    assert published.collection("sources") is not None


def test_publishing_again_sends_nothing(lake: Lake, url: str, fill: Fill) -> None:
    fill(lake, 1)
    first = publish(lake, url)
    assert first.n_sent > 0 and first.n_copied == 0
    before = objects(url)
    again = publish(lake, url)
    assert (again.tables, again.n_sent, again.n_copied) == ({}, 0, 0)
    assert objects(url) == before


def test_a_new_night_sends_only_what_is_new(
    lake: Lake, url: str, fill: Fill, make_rows: Any, put: Any
) -> None:
    fill(lake, 1)
    publish(lake, url)
    put(lake, ("sources", "night-2", make_rows("sources", 40, 2)))
    report = publish(lake, url)
    part = lake.snapshot().part("sources", "night-2")
    assert part is not None
    metadata = {"hats.properties", "partition_info.csv", "dataset/_common_metadata", *COVERAGE_FILES}
    margin = lake.layout.margin("sources", lake.snapshot().folder("sources").name) / "sources_margin"
    near_edges = list(margin.glob("dataset/*/*/*/night-2.parquet"))
    assert report.tables.keys() == {"sources", "margins/sources"}
    assert report.n_sent <= len(part.files) + len(near_edges) + 1 + len(metadata) + len(metadata)
    assert report.bytes_sent < report.bytes_copied
    kept = lake.snapshot().part("sources", "night-1")
    assert kept is not None and report.n_copied >= len(kept.files) + 1
    require_same(url, lake)


def test_of_a_margin_only_new_files_are_read(lake: Lake, fill: Fill) -> None:
    fill(lake, 1, 400)
    first = margin_contents(lake.snapshot(), "sources")
    assert first is not None
    fill(lake, 2, 400)
    known = {path: (n_bytes, "known") for path, (n_bytes, _) in first.objects.items()}
    found = margin_contents(lake.snapshot(), "sources", first.folder, known)
    plain = margin_contents(lake.snapshot(), "sources")
    assert found is not None and plain is not None and found.objects.keys() == plain.objects.keys()
    kept = {path for path, (_, digest) in found.objects.items() if digest == "known"}
    assert kept == {path for path in first.objects if path.endswith("/night-1.parquet")} != set()
    assert all(found.objects[path] == facts for path, facts in plain.objects.items() if path not in kept)
    # Of a version that is gone, or another lake, nothing is known.
    shutil.rmtree(lake.root / first.folder)
    assert margin_contents(lake.snapshot(), "sources", first.folder, known) == plain


def test_a_dry_run_shows_the_same_and_does_nothing(lake: Lake, url: str, fill: Fill) -> None:
    fill(lake, 1)
    publish(lake, url)
    fill(lake, 2)
    before = objects(url)
    told = publish(lake, url, dry_run=True, keep=1)
    assert objects(url) == before
    done = publish(lake, url, keep=1)
    assert (told.tables, told.bytes_sent, told.removed) == (done.tables, done.bytes_sent, done.removed)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [1, 2])
def test_kept_snapshots_stay_whole_and_the_rest_goes(keep: int, lake: Lake, url: str, fill: Fill) -> None:
    numbers = []
    for seed in (1, 2, 3, 4):
        fill(lake, seed)
        publish(lake, url, keep=keep)
        numbers.append(lake.snapshot().number)
    remote = Lake(url)
    kept = [entry.snapshot for entry in remote.history() if entry.kept]
    assert kept == numbers[-keep:]
    for number in kept:
        require_same(url, lake, number)
    with pytest.raises(LakeError, match="not among the published"):
        remote.snapshot(numbers[0])
    needed = {folder for number in kept for folder in remote.snapshot(number).publication.tables.values()}
    assert {"/".join(path.split("/")[:3]) for path in objects(url) if path.startswith("_versions/")} == needed


def reads(remote: Lake, table: str, cone: tuple[float, float, float]) -> dict[str, Callable[[], int]]:
    """Ways of reading a table of a snapshot that is open, each giving a number of rows."""
    opened, snapshot = remote.open(table), remote.snapshot()
    connection = snapshot.duckdb()
    connection.sql(f"SELECT count(*) FROM {table}").fetchall()
    return {
        "arrow": lambda: opened.arrow().num_rows,
        "polars": lambda: len(opened.polars()),
        "dask": lambda: len(opened.dask().compute()),
        "parts": lambda: sum(part.n_rows for part in snapshot.parts(table).values()),
        "cone": lambda: snapshot.cone(table, *cone).num_rows,
        "duckdb": lambda: connection.sql(f"SELECT sum(flux_aper2), count(*) FROM {table}").fetchall()[0][1],
        "new duckdb": lambda: len(opened.duckdb()),
    }


@pytest.mark.slow
@pytest.mark.parametrize("left", ["half of the descriptions", "half of the files", "nothing"])
def test_a_reader_of_a_removed_snapshot_never_gets_a_part_of_it(
    left: str, lake: Lake, url: str, fill: Fill
) -> None:
    for seed in (1, 2):
        fill(lake, seed, 40, ["sources"])
    publish(lake, url)
    remote, cone, old = Lake(url), (0.0, 0.0, 10.0), lake.snapshot().folder("sources").name
    assert {name: read() for name, read in reads(remote, "sources", cone).items()} == dict.fromkeys(
        ("arrow", "polars", "dask", "parts", "cone", "duckdb", "new duckdb"), 80
    )
    opened = reads(remote, "sources", cone)
    fill(lake, 3, 40, ["sources"])
    if left == "nothing":
        publish(lake, url, keep=1)
    else:  # as a publish leaves it that is under way
        publish(lake, url)
        memory, base = fsspec.filesystem("memory"), f"{url}/_versions/sources/{old}"
        memory.rm(f"{url}/_snapshots/{remote.snapshot().number - 1:06d}.json")
        kind = "_parts" if left == "half of the descriptions" else "dataset"
        names = [name for name in memory.find(f"{base}/{kind}") if name.endswith((".json", ".parquet"))]
        memory.rm(names[: len(names) // 2])
    for name, read in opened.items():
        try:
            found = read()
        except (LakeError, OSError, duckdb.Error):
            continue
        assert found == 80, name


class Stopped(Exception):
    """The process came to an end here."""


@pytest.mark.slow
def test_a_stopped_publish_keeps_the_last_and_is_finished(
    lake: Lake, tmp_path: Path, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = type(fsspec.filesystem("memory"))
    fill(lake, 1, 10, ["sources"])
    old = Lake(shutil.copytree(lake.root, tmp_path / "old", symlinks=True))
    fill(lake, 2, 10, ["sources"])
    add_catalog(lake, "stars", 2000.0)
    left = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def stop_or_do(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Stopped
            return change(*arguments, **options)

        return stop_or_do

    states = 0
    for steps in range(1, 1000):
        url, left = f"memory://{uuid.uuid4().hex}", 10**9
        publish(old, url)
        with monkeypatch.context() as patch:
            for name in ("pipe_file", "put_file", "cp_file", "rm"):
                patch.setattr(fs, name, counted(getattr(fs, name)))
            left = steps
            try:
                publish(lake, url, keep=1)
                ended = True
            except Stopped:
                ended = False
        current = Lake(url).snapshot().number
        require_same(url, lake if current == lake.snapshot().number else old)
        states += current == lake.snapshot().number
        publish(lake, url, keep=1)
        require_same(url, lake)
        assert not [path for path in objects(url) if path.startswith("_unfinished")]
        fsspec.filesystem("memory").rm(url, recursive=True)
        if ended:
            break
    assert steps > 20 and states > 1


@pytest.mark.parametrize("meanwhile", [False, True])
def test_what_a_stopped_publish_sent_is_not_sent_again(
    meanwhile: bool, lake: Lake, url: str, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lake, 1)
    fs = type(fsspec.filesystem("memory"))
    send, sent = fs.put_file, []

    def some(self: Any, source: str, target: str, **options: Any) -> None:
        sent.append(source)
        if len(sent) > 12:
            raise Stopped
        send(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fs, "put_file", some)
        with pytest.raises(Stopped):
            publish(lake, url)
    if meanwhile:  # the night that follows makes other versions of the tables
        fill(lake, 2)
    whole = sum(len(objects_on_disk(lake, name)) for name in table_names())
    margins = filter(None, map(lake.snapshot().collection, table_names()))
    whole += sum(len(list(files_below(margin))) for margin in margins)
    report = publish(lake, url)
    assert len(sent) > 12 and report.n_sent < whole
    saved = report.n_copied if meanwhile else sum(counts["there"] for counts in report.tables.values())
    assert saved >= 2
    require_same(url, lake)


def test_numbers_of_versions_that_come_again_do_not_mix(lake: Lake, url: str, fill: Fill) -> None:
    fill(lake, 1)
    fill(lake, 2)
    publish(lake, url)
    taken = lake.snapshot().folder("sources").name
    lake.rollback(lake.snapshot().number - 1)
    lake.vacuum(Retention(1, 0, 0))
    fill(lake, 3)
    # Lakes from before versions were numbered after their snapshots have such numbers.
    again = lake.snapshot().folder("sources")
    again.rename(again.with_name(taken))
    link = lake.layout.snapshot(lake.snapshot().number) / "sources"
    link.unlink()
    link.symlink_to(f"../../_versions/sources/{taken}")
    assert lake.snapshot().folder("sources").name == taken
    publish(lake, url)
    require_same(url, lake)
    assert Lake(url).snapshot().folder("sources").name != taken
    publish(lake, url, keep=1)
    require_same(url, lake)


def test_a_catalog_that_was_imported_anew_is_published_anew(lake: Lake, url: str, fill: Fill) -> None:
    add_catalog(lake, "stars", 2000.0)
    publish(lake, url)
    fill(lake, 1)
    add_catalog(lake, "stars", 2016.0)
    publish(lake, url)
    remote = Lake(url).snapshot()
    assert b"2016" in (remote.catalog("stars") / "stars" / "hats.properties").read_bytes()
    assert remote.catalog("stars").name == "stars"


def test_the_address_of_the_mirror_stays_at_home(lake: Lake, url: str) -> None:
    """Lakes from former days may name one."""
    lake.set("mirror_url", "postgresql://me:secret@host/db")
    lake.set("catalog.calibrate", "stars")
    publish(lake, url)
    assert Lake(url).settings.catalog.calibrate == "stars"
    memory = fsspec.filesystem("memory")
    assert all(b"secret" not in memory.cat_file(name) for name in memory.find(url))


def test_the_ledger_is_published_with_its_configurations(
    lake: Lake, url: str, fill: Fill, digests: Any
) -> None:
    publish(lake, url)
    fill(lake, 1)
    configuration = {"psf": 1, "orders": {10: "b", 9: "a"}}
    sha256 = config_sha256(configuration)
    keep_configurations(lake.layout, {sha256: configuration})
    publish(lake, url)
    assert objects(f"{url}/_ledger") == digests(lake.layout.ledger)
    assert read_configuration(Lake(url).layout, sha256) == {"psf": 1, "orders": {"10": "b", "9": "a"}}


def test_another_lake_is_not_written_over(lake: Lake, url: str, fill: Fill, tmp_path: Path) -> None:
    fill(lake, 1)
    publish(lake, url)
    before = objects(url)
    other = Lake.create(tmp_path / "other")
    fill(other, 1)
    with pytest.raises(LakeError, match="another lake"):
        publish(other, url)
    assert objects(url) == before


def test_an_older_state_is_not_published_over_a_newer(
    lake: Lake, url: str, fill: Fill, tmp_path: Path
) -> None:
    fill(lake, 1)
    copy = Lake(shutil.copytree(lake.root, tmp_path / "copy", symlinks=True))
    fill(lake, 2)
    publish(lake, url)
    with pytest.raises(LakeError, match="later state"):
        publish(copy, url)


def test_a_place_with_something_else_is_refused(lake: Lake, url: str) -> None:
    fsspec.filesystem("memory").pipe_file(f"{url}/thesis.tex", b"years of work")
    with pytest.raises(LakeError, match=r"thesis\.tex"):
        publish(lake, url)


def test_a_folder_is_no_url(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file://"):
        publish(lake, str(tmp_path / "there"))


def test_two_publishes_of_one_lake_do_not_run_together(lake: Lake, url: str, fill: Fill) -> None:
    fill(lake, 1)

    def second(total: int) -> None:
        with pytest.raises(LakeError, match="another run"):
            publish(lake, url)

    publish_snapshot(lake.snapshot(), url, PublishOptions(begin=second))


def test_a_truncated_file_is_not_published(lake: Lake, url: str, fill: Fill) -> None:
    fill(lake, 1)
    snapshot = lake.snapshot()
    part = snapshot.part("sources", "night-1")
    assert part is not None
    file = snapshot.folder("sources") / part.files[0].path
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(LakeError, match=file.name):
        publish(lake, url)
    with pytest.raises(LakeError, match="there is no lake"):
        Lake(url)


def test_a_file_with_a_flipped_bit_is_not_published(lake: Lake, url: str, fill: Fill) -> None:
    fill(lake, 1, tables=["sources"])
    file = lake.open("sources").files[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 1
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(LakeError, match=rf"{file.name}: the file has not the bytes .* verify --deep"):
        publish(lake, url)
    with pytest.raises(LakeError, match="there is no lake"):
        Lake(url)


def test_a_record_cut_short_by_a_kill_is_sent_again(lake: Lake, url: str, fill: Fill, digests: Any) -> None:
    fill(lake, 1, tables=["sources"])
    memory = fsspec.filesystem("memory")
    for path in lake.layout.ledger.rglob("*.json"):
        memory.pipe_file(f"{url}/{path.relative_to(lake.root)}", path.read_bytes()[:100])
    publish(lake, url)
    assert objects(f"{url}/_ledger") == digests(lake.layout.ledger)
    assert [entry.batch for entry in Lake(url).history()] == [entry.batch for entry in lake.history()]


def test_a_lake_is_published_into_a_folder_too(lake: Lake, tmp_path: Path, fill: Fill) -> None:
    url = (tmp_path / "there").as_uri()
    fill(lake, 1)
    publish(lake, url)
    fill(lake, 2)
    assert publish(lake, url).n_copied > 0
    require_same(url, lake)


_PUBLISH = """
import sys
from skylake.lake import Lake, publish_snapshot
print("begin", flush=True)
publish_snapshot(Lake(sys.argv[1]).snapshot(), sys.argv[2])
"""


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_a_killed_publish_to_s3_keeps_the_last_and_is_finished(
    lake: Lake, s3: Any, fill: Fill, python: Any
) -> None:
    url = f"{s3.url}/lake"
    fill(lake, 1)
    begun = time.monotonic()
    publish(lake, url)
    took = time.monotonic() - begun
    before, first = objects(url), lake.snapshot().number
    delays = random.Random(1)
    for seed in (2, 3, 4):
        fill(lake, seed)
        process = python(_PUBLISH, lake.root, url)
        assert process.stdout.readline() == "begin\n"
        asked = len(s3.requests())
        while len(s3.requests()) < asked + 5 and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delays.uniform(0, took))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        current = Lake(url).snapshot()
        if current.number == first:
            assert before.items() - objects(url).items() <= {("skylake.toml", before["skylake.toml"])}
        require_same(url, lake, current.number)
    publish(lake, url)
    require_same(url, lake)


@pytest.mark.slow
@pytest.mark.full
@pytest.mark.xdist_group("s3")
def test_files_that_did_not_change_are_copied_by_the_s3_server(lake: Lake, s3: Any, fill: Fill) -> None:
    url = f"{s3.url}/lake"
    fill(lake, 1)
    publish(lake, url)
    fill(lake, 2)
    asked = len(s3.requests())
    report = publish(lake, url, keep=1)
    made = s3.requests()[asked:]
    assert sum(one["copy"] for one in made) == report.n_copied > 0
    written = [one["path"] for one in made if one["method"] == "PUT" and not one["copy"]]
    assert written[-1].endswith("/lake/current")
    pointer = max(n for n, one in enumerate(made) if one["path"].endswith("/lake/current"))
    removed = [n for n, one in enumerate(made) if one["method"] == "DELETE" or "delete" in one["query"]]
    assert all(
        n > pointer for n in removed if "_unfinished" not in made[n]["path"] and made[n]["method"] == "DELETE"
    )
    assert objects(f"{url}/_snapshots").keys() == {f"{lake.snapshot().number:06d}.json"}
    require_same(url, lake)


@pytest.mark.full
@pytest.mark.xdist_group("s3")
def test_a_bucket_that_is_not_there_is_reported(lake: Lake, s3: Any) -> None:
    with pytest.raises(LakeError, match=r"s3://no-such-bucket/lake: it is not there .* name of the bucket"):
        publish(lake, "s3://no-such-bucket/lake")


@pytest.mark.slow
@pytest.mark.xdist_group("s3")
def test_missing_rights_are_reported(lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(lake, f"{s3.url}/lake")
    monkeypatch.setitem(fsspec.config.conf, "s3", {"anon": True})
    for use in (lambda url: publish(lake, url), Lake):
        with pytest.raises(LakeError, match=r"access is refused .*AWS_ACCESS_KEY_ID"):
            use(f"{s3.url}/lake")


@pytest.mark.full
@pytest.mark.xdist_group("s3")
def test_missing_credentials_are_reported(lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(LakeError, match=r"access is refused .*AWS_ACCESS_KEY_ID"):
        publish(lake, f"{s3.url}/lake")


@pytest.mark.full
@pytest.mark.xdist_group("s3")
def test_a_store_that_does_not_answer_is_reported(
    lake: Lake, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(LakeError, match=r"cannot be reached .*AWS_ENDPOINT_URL"):
        publish(lake, f"{s3.url}/lake")
    with pytest.raises(LakeError, match=r"cannot be reached .*AWS_ENDPOINT_URL"):
        Lake(f"{s3.url}/lake")
