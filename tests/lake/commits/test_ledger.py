from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from skylake.core.ids import config_sha256
from skylake.errors import LakeError
from skylake.lake import Commit, Lake, Snapshot
from skylake.lake.commits.ledger import read_configuration
from skylake.revision import code_version

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
ONE = {"a": 1.5, "b": [1, None, "x"], "c": {"d": True}}


def configured(lake: Lake, *configurations: dict[str, Any]) -> None:
    commit = Commit("test", "-")
    commit.remove("frames", "nothing")
    commit.configure(configurations)
    lake.commit(commit)


def test_a_configuration_is_kept_under_its_checksum(lake: Lake) -> None:
    configured(lake, ONE, {"z": 1})
    assert read_configuration(lake.layout, config_sha256(ONE)) == ONE
    for path in lake.layout.configurations.iterdir():
        assert config_sha256(json.loads(path.read_text())) == path.stem


def test_a_configuration_is_written_once_unless_cut_short(lake: Lake) -> None:
    configured(lake, ONE)
    path = lake.layout.configurations / f"{config_sha256(ONE)}.json"
    inode, content = path.stat().st_ino, path.read_bytes()
    configured(lake, ONE)
    assert path.stat().st_ino == inode
    path.write_bytes(content[:10])
    configured(lake, ONE)
    assert path.read_bytes() == content


def test_a_configuration_that_is_not_kept_is_named(lake: Lake) -> None:
    with pytest.raises(LakeError, match=r"configurations/abc.json: the configuration cannot be read"):
        read_configuration(lake.layout, "abc")


def test_a_commit_that_changes_nothing_leaves_no_configuration(lake: Lake) -> None:
    commit = Commit("test", "-")
    commit.configure([ONE])
    lake.commit(commit)
    assert not lake.layout.configurations.exists()


def test_the_views_show_what_every_commit_did(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    inputs = {"configuration": "c0", "files": "f0"}
    put(
        lake, ("sources", "c-1", make_rows("sources", 30, 1)), ("frames", "c-1", make_rows("frames", 3, 1)),
        inputs=inputs, camera="c", night=1,
    )  # fmt: skip
    middle = lake.snapshot()
    commit = Commit("forget", "c-1")
    commit.remove("sources", "c-1")
    lake.commit(commit)
    with lake.snapshot().duckdb() as connection:
        rows = connection.execute(
            "SELECT snapshot, stage, batch, table_name, part, action, rows, checksum, inputs->>'files', "
            "configuration_sha256, software_version FROM ledger ORDER BY snapshot, table_name"
        ).fetchall()
        parts = connection.execute(
            "SELECT table_name, part, camera, night, rows, checksum, bundle FROM parts"
        )
        assert parts.fetchall() == [
            ("frames", "c-1", "c", 1, 3, middle.parts("frames")["c-1"].checksum, None)
        ]
    made = [(table, "c-1", "replaced", middle.parts(table)["c-1"]) for table in ("frames", "sources")]
    code = code_version()
    assert rows == [
        (1, "init", "-", None, None, None, None, None, None, None, code),
        *((2, "test", "-", table, name, action, part.n_rows, part.checksum, "f0", "c0", code)
          for table, name, action, part in made),
        (3, "forget", "c-1", "sources", "c-1", "removed", None, None, None, None, code),
    ]  # fmt: skip
    with middle.duckdb() as connection:
        assert connection.execute("SELECT max(snapshot) FROM ledger").fetchall() == [(2,)], "as it was then"
        assert len(connection.execute("FROM parts").fetchall()) == 2


def test_the_view_of_parts_of_an_empty_lake(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    found = []
    for _ in range(2):
        with lake.snapshot().duckdb() as connection:
            found.append(connection.execute("DESCRIBE parts").fetchall())
            assert connection.execute("SELECT count(*) FROM parts").fetchall() == [(len(found) - 1,)]
        put(lake, ("frames", "c-1", make_rows("frames", 3, 1)))
    assert found[0] == found[1]


def test_the_views_read_what_an_odd_folder_holds(tmp_path: Path, make_rows: MakeRows, put: Put) -> None:
    lake = Lake.create(tmp_path / "it's [a] *lake*?")
    put(lake, ("frames", "c-1", make_rows("frames", 3, 1)))
    configured(lake, ONE)
    with lake.snapshot().duckdb() as connection:
        for view, count in (("ledger", 3), ("parts", 1), ("configurations", 1)):
            assert len(connection.execute(f"FROM {view}").fetchall()) == count


def test_a_description_made_before_sums_were_in_it_is_read(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    after = put(lake, ("frames", "c-1", make_rows("frames", 3, 1)))
    path = after.version("frames").fresh["c-1"]
    values = json.loads(path.read_text())
    assert (values.pop("n_rows"), values.pop("checksum")) == (3, after.parts("frames")["c-1"].checksum)
    path.write_text(json.dumps(values))
    assert lake.snapshot().parts("frames") == after.parts("frames")


def test_few_inputs_are_named_and_many_are_a_digest(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    few, many = ({"configuration": "c0"} | {f"n{i}": "0" for i in range(count)} for count in (15, 16))
    for seed, inputs in ((1, few), (2, many)):
        put(lake, ("frames", f"c-{seed}", make_rows("frames", 3, seed)), inputs=inputs)
    with lake.snapshot().duckdb() as connection:
        rows = connection.execute(
            "SELECT inputs, inputs_sha256, configuration_sha256 FROM ledger WHERE part IS NOT NULL ORDER BY part"
        ).fetchall()
    assert json.loads(rows[0][0]) == few
    assert rows[1][0] is None
    assert [row[1:] for row in rows] == [(config_sha256(one), "c0") for one in (few, many)]


def test_a_record_does_not_grow_with_the_inputs(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    sizes = []
    for count in (100, 10_000):
        inputs = {f"matches {i}": "0123456789abcdef" for i in range(count)}
        made = put(lake, ("frames", f"c-{count}", make_rows("frames", 3, count)), inputs=inputs)
        sizes.append(lake.layout.record(made.number).stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 10


def test_a_record_made_before_digests_were_in_it_is_read(lake: Lake, make_rows: MakeRows, put: Put) -> None:
    put(lake, ("frames", "c-1", make_rows("frames", 3, 1)), inputs={"configuration": "c0", "files": "f0"})
    path = lake.layout.record(2)
    record = json.loads(path.read_text())
    for name in ("inputs_sha256", "configuration_sha256"):
        del record["replaced"]["frames"]["c-1"][name]
    path.write_text(json.dumps(record))
    with lake.snapshot().duckdb() as connection:
        query = "SELECT inputs->>'files', inputs_sha256, configuration_sha256 FROM ledger WHERE snapshot = 2"
        assert connection.execute(query).fetchall() == [("f0", None, "c0")]
