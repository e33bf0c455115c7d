"""A lake whose schemas have evolved since it was made: read and written by real trees of two versions of skylake."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import skylake
from skylake.errors import LakeError
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.maintenance.vacuum import Retention
from skylake.schema import arrow_schema, conform, load, table_names
from skylake.schema.tables import TableSchema, read_schema
from skylake.settings import Settings
from skylake.sky.hats import write_common_metadata

pytestmark = [pytest.mark.xdist_group("schemas"), pytest.mark.full]
SOURCE = Path(skylake.__file__).parents[1]
#: Of the table frames, at present.
VERSION = load("frames").version
KEYS = {
    "sources": ["frame_id", "source_no"],
    "lightcurves": ["object_id", "band"],
    "frames": ["frame_id"],
}
#: What evolves: column to the key that changes and its value, or the columns that follow a given one.
WIDER = {
    "sources": {
        "source_no": {"datatype": "long"},
        "flux_aper2": {"datatype": "double"},
        "filter": {"datatype": "text", "length": None},
        "edge_distance_px": {"nullable": True},
    },
    "lightcurves": {"n_points": {"datatype": "long"}, "ref_mag": {"datatype": "double"}},
    "frames": {"width_px": {"datatype": "long"}, "status": {"length": 80}, "night": {"datatype": "long"}},
}
MORE: dict[str, dict[str, list[dict[str, Any]]]] = {
    "sources": {"ra_deg": [{"name": "ellipticity", "datatype": "float"}, {"name": "kind", "datatype": "text"}]},
    "lightcurves": {
        "band": [
            {"name": "period_d", "datatype": "double"},
            {
                "name": "folded", "datatype": "nested",
                "columns": [{"name": "phase", "datatype": "double"}, {"name": "cycle", "datatype": "int"}],
            },
        ]
    },
    "frames": {"status": [{"name": "humidity", "datatype": "float"}]},
}  # fmt: skip
READERS = {
    "sources": ("arrow", "parts", "duckdb", "polars", "pandas", "dask", "cone", "lsdb", "night"),
    "lightcurves": ("arrow", "parts", "duckdb", "polars", "pandas", "dask", "cone", "lsdb"),
    "frames": ("arrow", "parts", "duckdb", "polars", "pandas", "dask"),
}
CASES = [(table, reader) for table, readers in READERS.items() for reader in readers]

#: Reads all tables of lakes in all ways: for each the root, and the folder for what was read.
READ = """
import json
import pickle
import sys
from pathlib import Path
import cloudpickle
import dask
import lsdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from skylake.flow.zeropoints.crossmatch_night import NightCatalog
from skylake.lake import Lake
from skylake.lake.access.open_table import OpenTable

dask.config.set(scheduler="synchronous")

def framed(catalog):
    frame = catalog.compute(progress_bar=False)
    columns = {name: pa.array(frame[name].array) for name in frame.columns if name not in frame.nested_columns}
    nested = {name: frame[name].array.struct_array for name in frame.nested_columns}
    return pa.table({"_healpix_29": pa.array(frame.index.array)} | columns | nested)

def in_all_ways(snapshot, connection, table):
    found = {
        "arrow": snapshot.merged(table),
        "duckdb": connection.table(table).to_arrow_table(),
        "parts": pa.concat_tables([snapshot.read_part(table, part) for part in snapshot.parts(table)]),
        "polars": OpenTable(snapshot, table).lazy_polars().collect().to_arrow(),
        "pandas": pa.Table.from_pandas(snapshot.pandas(table), preserve_index=False),
        "dask": pa.Table.from_pandas(OpenTable(snapshot, table).dask().compute(), preserve_index=False),
    }
    if table != "frames":
        found["cone"] = snapshot.cone(table, 0.0, 0.0, 20.0)
        found["lsdb"] = framed(snapshot.lsdb(table))
    if table == "sources":
        pieces = []
        for part in snapshot.parts(table).values():
            with NightCatalog(part, snapshot.version(table).slices_of(part)) as night:
                pieces.append(framed(lsdb.open_catalog(night)))
        found["night"] = pa.concat_tables(pieces)
    return found

def by_lsdb(snapshot):
    def count(**options):
        return len(snapshot.lsdb("sources", **options).compute(progress_bar=False))

    catalog = snapshot.lsdb("sources")
    return {
        "new column": count(columns=["frame_id", "ellipticity"]),
        "filter": count(filters=[("frame_id", "<", 1010)]),
        "null": count(filters=pc.field("ellipticity").is_null()),
        "cone": len(catalog.cone_search(0.0, 0.0, 20 * 3600.0).compute(progress_bar=False)),
        "sent": len(pickle.loads(cloudpickle.dumps(catalog)).compute(progress_bar=False)),
        "folder": str(catalog.hc_structure.catalog_base_dir) == str(snapshot.folder("sources")),
    }

for root, target in zip(sys.argv[1::2], map(Path, sys.argv[2::2]), strict=True):
    snapshot = Lake(root).snapshot()
    with snapshot.duckdb() as connection:
        for table in ("sources", "lightcurves", "frames"):
            for reader, rows in in_all_ways(snapshot, connection, table).items():
                pq.write_table(rows, target / f"{table}.{reader}.parquet")
    (target / "lsdb.json").write_text(json.dumps(by_lsdb(snapshot)))
"""
#: Commits a part of each table: root of the lake, folder of its rows.
WRITE = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
from skylake.lake import Commit, Lake, stage_part
from skylake.schema import load

lake, rows = Lake(sys.argv[1]), Path(sys.argv[2])
commit = Commit("test", "-")
with lake.stage("test") as staging:
    for path in sorted(rows.glob("*.parquet")):
        table = path.stem
        tree = lake.tree if load(table).layout.kind == "hats" else None
        # The name comes before that of the old part, so that readers that look at the first file only are caught.
        for name in ("0-new", "z-new"):
            part = pq.read_table(path)
            half = part.slice(0, len(part) // 2) if name == "0-new" else part.slice(len(part) // 2)
            commit.replace(stage_part(half, table, name, staging / table, tree), staging / table)
    lake.commit(commit)
"""
#: Merges the files of all parts: root of the lake.
COMPACT = """
import sys
from skylake.flow.execution.cluster import Inline
from skylake.flow.compaction.compact_tables import compact
from skylake.lake import Lake

assert set(compact(Lake(sys.argv[1]), Inline(), everything=True).tables) == {"sources", "lightcurves", "frames"}
"""


@dataclass(frozen=True)
class Evolved:
    """A newer skylake, and lakes that it has read and written."""

    tree: Path
    old: Path
    """Lake of the present skylake only."""
    mixed: Path
    """Copy to which the newer one has added; a copy of that it has compacted."""
    read: dict[str, Path]
    """What the newer one read from each."""
    rows: dict[str, dict[str, pa.Table]]
    """What each lake holds."""

    def schema(self, table: str) -> TableSchema:
        return read_schema(self.tree / "schemas" / f"{table}.yaml")


def run(tree: Path, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tree)


def evolve(tree: Path) -> None:
    """Make a copy of this source tree whose schemas have gone on, and record them with the command for that."""
    for name in ("skylake", "schemas", "sql", "pipelines"):
        # With what was compiled of it, but for what other tests are about to keep.
        unfinished = shutil.ignore_patterns("*.tmp.*", "*.pyc.*", "*.lock")
        shutil.copytree(SOURCE / name, tree / name, ignore=unfinished)
    for table in KEYS:
        path = tree / "schemas" / f"{table}.yaml"
        schema = yaml.safe_load(path.read_text(encoding="utf-8"))
        schema["version"] += 1
        columns = []
        for column in schema["columns"]:
            column |= WIDER[table].get(column["name"], {})
            for inner in column.get("columns", ()):
                inner |= {"datatype": "double"} if inner["name"] == "flux" else {}
            columns.append({key: value for key, value in column.items() if value is not None})
            more = MORE[table].get(column["name"], [])
            for new in more:
                new = new | {"columns": [one | {"description": "new"} for one in new.get("columns", ())]}
                columns.append(new | {"nullable": True, "description": "new"})
        path.write_text(yaml.safe_dump(schema | {"columns": columns}), encoding="utf-8")
    done = run(tree, "from skylake.cli.deploy import main; main()")
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        "recorded", *(f"{table}.{load(table).version + 1}.yaml" for table in KEYS)
    }  # fmt: skip


@pytest.fixture(scope="module")
def evolved(tmp_path_factory: pytest.TempPathFactory, make_rows: Any, put: Any, digests: Any) -> Evolved:
    folder = tmp_path_factory.mktemp("evolved")
    tree = folder / "tree"
    evolve(tree)
    old = {table: make_rows(table, 60, 1, **batch(table, [20240101] * 60)) for table in KEYS}
    lake = Lake.create(folder / "old", Settings(pixel_order=1))
    put(lake, *((table, "old", rows) for table, rows in old.items()))
    shutil.copytree(folder / "old", folder / "mixed", symlinks=True)
    (folder / "rows").mkdir()
    rows: dict[str, dict[str, pa.Table]] = {"old": {}, "mixed": {}}
    for table in KEYS:
        form = read_schema(tree / "schemas" / f"{table}.yaml")
        rows["old"][table] = conform(old[table], form)
        new = _filled(
            conform(make_rows(table, 40, 2, **batch(table, [20240102] * 20 + [20240103] * 20)), form)
        )
        pq.write_table(new, folder / "rows" / f"{table}.parquet")
        rows["mixed"][table] = pa.concat_tables([rows["old"][table], new])
    before = digests(folder / "old")
    done = run(tree, WRITE, folder / "mixed", folder / "rows")
    assert done.returncode == 0, done.stderr
    shutil.copytree(folder / "mixed", folder / "compacted", symlinks=True)
    done = run(tree, COMPACT, folder / "compacted")
    assert done.returncode == 0, done.stderr
    rows["compacted"] = rows["mixed"]
    read = {name: folder / f"read-{name}" for name in rows}
    for target in read.values():
        target.mkdir()
    done = run(tree, READ, *(place for name in rows for place in (folder / name, read[name])))
    assert done.returncode == 0, done.stderr
    assert digests(folder / "old") == before, "reading has written"
    return Evolved(tree, folder / "old", folder / "mixed", read, rows)


def batch(table: str, night: list[int]) -> dict[str, Any]:
    """The columns that name the batch of rows."""
    return {"camera": ["c"] * len(night), "night": night}


def _filled(rows: pa.Table) -> pa.Table:
    """Put values into the new columns, and some that the older types do not hold."""
    count = rows.num_rows
    values = {
        "ellipticity": pa.array([0.25] * count, pa.float32()),
        "kind": pa.array(["star"] * count),
        "humidity": pa.array([40.0] * count, pa.float32()),
        "period_d": pa.array([0.5] * count),
        "source_no": pa.array([2**40 + number for number in range(count)]),
        "flux_aper2": pa.array([1.0 + 1e-12] * count),
        "n_points": pa.array([2**33] * count),
        "width_px": pa.array([2**35] * count),
    }
    for name, array in values.items():
        if name in rows.column_names:
            where = rows.column_names.index(name)
            rows = rows.set_column(where, rows.schema.field(where), array)
    return rows


def in_order(rows: pa.Table, table: str) -> pa.Table:
    return rows.sort_by([(key, "ascending") for key in KEYS[table]]).combine_chunks()


@pytest.mark.parametrize("lake", ["old", "mixed", "compacted"])
@pytest.mark.parametrize(("table", "reader"), CASES)
def test_every_reader_gives_all_rows_under_the_present_schema(
    table: str, reader: str, lake: str, evolved: Evolved
) -> None:
    declared = evolved.schema(table)
    schema = arrow_schema(declared)
    if reader != "parts":
        schema = pa.schema([schema.field(name) for name in declared.merged_names])
    found = pq.read_table(evolved.read[lake] / f"{table}.{reader}.parquet")
    assert set(found.column_names) == set(schema.names)
    if reader not in ("lsdb", "night"):
        assert found.column_names == schema.names
    if reader not in ("pandas", "dask"):
        # pandas has no null among integers.
        for field in schema:
            assert same_type(found.schema.field(field.name).type, field.type), field.name
    wanted = in_order(evolved.rows[lake][table], table)
    found = in_order(found.select(schema.names), table)
    for name in schema.names:
        assert found[name].to_pylist() == wanted[name].to_pylist(), name


def same_type(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Tell whether types are the same, whatever the names of the items of lists."""
    if pa.types.is_struct(wanted):
        inner = {field.name: field.type.value_type for field in found}
        return len(inner) == wanted.num_fields and all(
            same_type(inner[field.name], field.type.value_type) for field in wanted
        )
    if pa.types.is_string(wanted):
        return pa.types.is_string(found) or pa.types.is_large_string(found)
    return bool(found == wanted)


def test_lsdb_knows_its_options_on_a_lake_of_an_older_schema(evolved: Evolved) -> None:
    assert json.loads((evolved.read["old"] / "lsdb.json").read_text()) == {
        "new column": 60, "filter": 10, "null": 60, "cone": 60, "sent": 60, "folder": True,
    }  # fmt: skip


def test_a_commit_brings_the_present_schema_to_readers_outside(evolved: Evolved) -> None:
    for table in table_names():
        for root, schema in ((evolved.old, load(table)), (evolved.mixed, evolved.schema(table))):
            held = pq.read_schema(root / table / "dataset" / "_common_metadata")
            assert held.equals(arrow_schema(schema))
            assert held.metadata == arrow_schema(schema).metadata
    for table in ("sources", "frames"):
        dataset = evolved.mixed / table / "dataset"
        held = pq.read_schema(dataset / "_common_metadata")
        rows = pq.read_table(dataset, schema=held, partitioning=None)
        assert in_order(rows, table).equals(in_order(evolved.rows["mixed"][table], table))


def test_a_lake_of_a_newer_skylake_is_refused(evolved: Evolved, make_rows: Any, tmp_path: Path) -> None:
    sentence = (
        rf"mixed: frames was written under version {VERSION + 1} of its schema, .* knows none after {VERSION}; "
        "upgrade skylake"
    )
    lake = Lake(evolved.mixed)
    with pytest.raises(LakeError, match=sentence):
        lake.snapshot()
    part = stage_part(make_rows("nights", 3), "nights", "mine", tmp_path)
    commit = Commit("test", "-")
    commit.replace(part, tmp_path)
    with pytest.raises(LakeError, match=sentence):
        lake.commit(commit)
    # What was there before the newer skylake came can still be read.
    before = [entry.snapshot for entry in lake.history()][-2]
    assert lake.snapshot(before).n_rows("sources") == 60
    done = run(SOURCE, "from skylake.cli.main import main; main()", "status", evolved.mixed)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "upgrade skylake" in done.stderr


def test_a_schema_that_was_never_deployed_is_refused(lake: Lake, put: Any, make_rows: Any) -> None:
    snapshot = put(lake, ("nights", "a", make_rows("nights", 3)))
    known = load("nights")
    other = replace(known, columns=(replace(known.columns[0], unit="m"), *known.columns[1:]))
    write_common_metadata(snapshot.folder("nights"), arrow_schema(other))
    with pytest.raises(
        LakeError,
        match=f"nights was written under a version {known.version} of its schema that is not the one",
    ):
        lake.snapshot()


def test_a_table_of_a_newer_skylake_is_kept_and_named(lake: Lake, put: Any, make_rows: Any) -> None:
    for number in range(3):
        snapshot = put(lake, ("nights", "a", make_rows("nights", 3, number)))
    version = lake.layout.versions("weather") / "000001"
    version.mkdir(parents=True)
    (version / "rows").write_text("windy")
    (lake.layout.snapshot(snapshot.number) / "weather").symlink_to(version)
    del snapshot
    with pytest.raises(
        LakeError, match=r"has the table weather, which this skylake \(.*\) does not know; upgrade"
    ):
        lake.snapshot()
    assert lake.vacuum(Retention(1, 0, 0)).snapshots
    assert (version / "rows").read_text() == "windy"


def test_a_lake_without_flat_schemas_is_one_of_the_first(lake: Lake, put: Any, make_rows: Any) -> None:
    rows = make_rows("nights", 3)
    snapshot = put(lake, ("nights", "a", rows))
    for table in ("nights", "frames"):
        (snapshot.folder(table) / "dataset" / "_common_metadata").unlink()
    assert Snapshot(lake.layout, snapshot.number).n_rows("nights") == 3
    put(lake, ("nights", "b", make_rows("nights", 2, 2)))
    assert lake.snapshot().n_rows("nights") == 5


def test_a_lake_of_the_present_schemas_opens_at_once(lake: Lake) -> None:
    code = (
        "import sys; from skylake.lake import Lake; from skylake.schema.deployed import deployed_sha256; "
        "Lake(sys.argv[1]).snapshot(); assert {'lsdb', 'hats'}.isdisjoint(sys.modules); "
        "assert deployed_sha256.cache_info().misses == 0"
    )
    done = run(SOURCE, code, lake.root)
    assert done.returncode == 0, done.stderr


VERIFY = """
import sys
from pathlib import Path
from skylake.flow.execution.cluster import Inline
from skylake.flow.maintenance.verify_lake import VerifyOptions, open_facts, verify
from skylake.lake.integrity.check_queries import load_checks

# Rows with anything in them are no whole lake; all that is stated of files and descriptions holds.
body = tuple(check.name for check in load_checks() if not check.tables and check.name != "batch_of_frames")
options = VerifyOptions(only=body)
report = verify(open_facts(Path(sys.argv[1]), options), Inline(), options)
assert len(report.checks) == len(body) > 25
print(*(finding["says"] for check in report.checks for finding in check["findings"]), sep="\\n", end="")
"""


@pytest.mark.slow
@pytest.mark.parametrize("lake", ["old", "mixed", "compacted"])
def test_a_lake_with_files_of_several_schemas_is_whole(lake: str, evolved: Evolved) -> None:
    done = run(evolved.tree, VERIFY, evolved.old.with_name(lake))
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_lake_of_newer_schemas_is_not_judged(evolved: Evolved) -> None:
    done = run(SOURCE, VERIFY, evolved.mixed)
    assert (
        f"was written under version {VERSION + 1} of its schema, and this skylake knows none after {VERSION}; upgrade"
        in done.stderr
    )
