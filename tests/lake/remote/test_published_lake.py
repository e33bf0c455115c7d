"""A published lake reads as the lake that it was published from, and only what is needed is read."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from skylake.core.sphere import healpix_index, offset
from skylake.errors import LakeError, UsageError
from skylake.lake import Commit, Lake, publish_snapshot
from skylake.schema import table_names

pytestmark = [pytest.mark.xdist_group("s3"), pytest.mark.full]

#: Rows in three row groups of the one pixel; a cone touches one of them.
MANY = 80_000
#: The middle of a pixel of order 1.
CENTRE = (45.0, 19.47)


@pytest.fixture
def both(lake: Lake, s3: Any, make_rows: Any, put: Any) -> tuple[Lake, Lake]:
    """A lake with two nights, and the same lake on S3."""
    for seed in (1, 2):
        tables = ("frames", "sources", "matches", "nights", "lightcurves")
        put(lake, *((table, f"night-{seed}", make_rows(table, 60, seed)) for table in tables))
    publish_snapshot(lake.snapshot(), f"{s3.url}/lake")
    return lake, Lake(f"{s3.url}/lake")


def in_order(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["frame_id"])


@pytest.mark.slow
def test_rows_and_parts_are_the_same(both: tuple[Lake, Lake]) -> None:
    here, there = (lake.snapshot() for lake in both)
    for name in table_names():
        assert there.read(name).equals(here.read(name)), name
        assert there.parts(name) == here.parts(name)
        assert there.n_rows(name) == here.n_rows(name)
    only = there.read("sources", ["frame_id"], lambda part: part.name == "night-2")
    assert only.equals(here.read_part("sources", "night-2", ["frame_id"]))
    assert there.read_part("sources", "night-1").equals(here.read_part("sources", "night-1"))
    assert there.part("sources", "night-9") is None


def test_every_way_of_opening_gives_the_same_rows(both: tuple[Lake, Lake]) -> None:
    here, there = (lake.open("sources") for lake in both)
    columns = ["frame_id", "ra_deg"]
    wanted = in_order(here.arrow(columns))
    assert in_order(there.arrow(columns)) == wanted
    assert in_order(there.dataset().to_table(columns)) == wanted
    assert in_order(there.polars(columns).to_arrow()) == wanted
    assert in_order(pa.Table.from_pandas(there.dask(columns).compute(), preserve_index=False)) == wanted
    assert in_order(there.duckdb().select(*columns).to_arrow_table()) == wanted
    found = there.lsdb(columns=columns).compute()
    assert sorted(found.frame_id) == [row["frame_id"] for row in wanted]
    cone = (0.0, 0.0, 3.0)
    assert there.arrow(cone=cone).equals(here.arrow(cone=cone))
    assert 0 < len(here.arrow(cone=cone)) < len(here)


@pytest.mark.slow
def test_views_of_duckdb_are_the_same(both: tuple[Lake, Lake]) -> None:
    query = "SELECT camera, count(*), sum(flux_aper2) FROM calibrated_sources GROUP BY ALL ORDER BY ALL"
    with both[0].snapshot().duckdb() as here, both[1].snapshot().duckdb() as there:
        assert there.sql(query).fetchall() == here.sql(query).fetchall()


@pytest.mark.slow
def test_a_snapshot_is_opened_in_another_process(both: tuple[Lake, Lake], s3: Any) -> None:
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).read('frames').num_rows)"
    text = pickle.dumps(both[1].snapshot())
    done = subprocess.run([sys.executable, "-c", code], input=text, capture_output=True, check=True)
    assert int(done.stdout) == 120


@pytest.mark.slow
def test_an_open_snapshot_does_not_change_and_a_new_one_is_seen(
    both: tuple[Lake, Lake], make_rows: Any, put: Any
) -> None:
    here, there = both
    before = there.snapshot()
    held = before.read("frames")
    put(here, ("frames", "night-3", make_rows("frames", 60, 3)))
    publish_snapshot(here.snapshot(), str(there.root))
    assert before.read("frames").equals(held)
    assert there.snapshot().n_rows("frames") == 180
    assert there.snapshot(before.number).read("frames").equals(held)
    assert [entry.snapshot for entry in there.history() if entry.kept] == [before.number, before.number + 1]
    assert [entry.rows for entry in there.history()] == [entry.rows for entry in here.history()]
    assert there.history(2) == there.history()[-2:]
    assert there.history(1, batch="night-3") == there.history()[-1:]
    with pytest.raises(LakeError, match=f"the snapshot 1 is not among .* is {before.number}"):
        there.snapshot(1)
    with pytest.raises(LakeError, match="there is no snapshot 99"):
        there.snapshot(99)


@pytest.mark.slow
def test_a_time_means_the_last_snapshot_published_before(both: tuple[Lake, Lake]) -> None:
    here, there = both
    assert there.snapshot(datetime.now(UTC)).number == here.snapshot().number
    with pytest.raises(LakeError, match="there was no lake"):
        there.snapshot(here.history()[0].time_utc)


@pytest.mark.slow
def test_writing_is_refused(both: tuple[Lake, Lake]) -> None:
    there = both[1]
    uses: list[Callable[[], Any]] = [
        lambda: there.commit(Commit("test", "-")), lambda: there.vacuum(), lambda: there.rollback(1),
        lambda: there.set("workers", 1), lambda: there.stage("test").__enter__(),
        lambda: there.lasting_stage("test").__enter__(), lambda: there.compacting().__enter__(),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(LakeError, match="can only be read"):
            use()
    with pytest.raises(UsageError, match="skylake publish"):
        Lake.create(f"{there.root}/new")


def test_a_place_without_a_lake_is_reported(s3: Any) -> None:
    with pytest.raises(LakeError, match="skylake publish LAKE s3://"):
        Lake(f"{s3.url}/nothing")
    with pytest.raises(UsageError, match="nonsense://"):
        Lake("nonsense://there")


@pytest.mark.slow
def test_a_pointer_or_snapshot_that_is_damaged_is_reported(both: tuple[Lake, Lake]) -> None:
    import s3fs

    there = both[1]
    store, root = s3fs.S3FileSystem(), str(there.root)
    store.pipe_file(f"{root}/_snapshots/{there.snapshot().number:06d}.json", b"{}")
    with pytest.raises(LakeError, match="damaged"):
        there.snapshot()
    store.pipe_file(f"{root}/current", b"?")
    with pytest.raises(LakeError, match=r"current: the object is damaged"):
        there.snapshot()


def dense(table: str, make_rows: Any) -> pa.Table:
    """Rows in one pixel, sorted by place as a table is."""
    random = np.random.default_rng(5)
    where = random.uniform(0, 3, MANY), random.uniform(0, 360, MANY)
    ra, dec = offset(np.full(MANY, CENTRE[0]), np.full(MANY, CENTRE[1]), *where)
    rows = make_rows(table, MANY, 3)
    for name, values in {"ra_deg": ra, "dec_deg": dec, "_healpix_29": healpix_index(ra, dec)}.items():
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), pa.array(values))
    if "more_apertures" in rows.column_names:
        # As most have none; whoever has them has more in a row.
        place, field = rows.column_names.index("more_apertures"), rows.schema.field("more_apertures")
        rows = rows.set_column(place, field, pa.nulls(MANY, field.type))
    return rows


@pytest.mark.slow
def test_a_cone_a_star_and_a_query_read_only_what_they_need(
    lake: Lake, s3: Any, make_rows: Any, put: Any
) -> None:
    put(lake, *((table, "night", dense(table, make_rows)) for table in ("sources", "lightcurves")))
    publish_snapshot(lake.snapshot(), f"{s3.url}/lake")
    snapshot = Lake(f"{s3.url}/lake").snapshot()
    whole = {table: size(lake, table) for table in ("sources", "lightcurves")}
    place = (CENTRE[0] + 1.0, CENTRE[1] + 0.4)

    def asked(use: Callable[[], Any]) -> tuple[int, int]:
        before = len(s3.requests())
        use()
        made = s3.requests()[before:]
        return len(made), sum(one["bytes"] for one in made)

    requests, read = asked(lambda: snapshot.cone("sources", *place, 0.05, ["frame_id", "flux_aper2"]))
    print(f"cone: {requests} requests, {read} of {whole['sources']} bytes")
    assert requests <= 12 and read < 0.15 * whole["sources"]
    requests, read = asked(lambda: snapshot.cone("sources", *place, 0.05))
    print(f"cone with all columns: {requests} requests, {read} bytes")
    assert requests <= 12 and read < 0.6 * whole["sources"]
    requests, read = asked(lambda: snapshot.cone("lightcurves", *place, 1 / 60))
    print(f"one star: {requests} requests, {read} of {whole['lightcurves']} bytes")
    assert requests <= 12 and read < 0.6 * whole["lightcurves"]
    with snapshot.duckdb() as connection:
        query = "SELECT avg(flux_aper2) FROM sources WHERE night > 3"
        requests, read = asked(lambda: connection.sql(query).fetchall())
        print(f"a query of two columns: {requests} requests, {read} bytes")
        assert requests <= 12 and read < 0.15 * whole["sources"]
        assert asked(lambda: connection.sql(query).fetchall())[1] < 0.02 * whole["sources"]
    requests, read = asked(lambda: snapshot.read("sources", ["night"], filter=pc.field("night") < 3))
    print(f"one column: {requests} requests, {read} bytes")
    assert requests <= 20 and read < 0.1 * whole["sources"]


def size(lake: Lake, table: str) -> int:
    files: list[Path] = lake.open(table).files
    return sum(path.stat().st_size for path in files)
