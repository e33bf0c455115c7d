from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.batch import Batch
from skylake.core.sphere import healpix_index
from skylake.errors import LakeError
from skylake.flow.ingest.chunk_rows import Chunk, write_rows
from skylake.flow.ingest.gather_night import (
    SHARED,
    TABLES,
    Existing,
    MadeFrom,
    files_sha256,
    gather_batch,
    joined,
)
from skylake.lake import Part
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import arrow_schema, conform, load
from skylake.schema.parquet import write_parquet
from skylake.sky.hats import pixel_of
from skylake.sky.pixels import PixelTree, pixel_range

BATCH = Batch("c", 20240407)
TREE = PixelTree.uniform(3)
NOTHING = Existing()

Gather = Callable[..., tuple[Part, ...]]


def frame_rows(numbers: list[int], filter_name: str = "V", files: dict[int, str] | None = None) -> pa.Table:
    """Rows of `frames`; the filter shows which reduction they are from."""
    rows = [
        {
            "frame_id": number, "camera": "c", "night": BATCH.night,
            "file": (files or {}).get(number, f"/{number}.fits"),
            "extension": 0, "status": "ok", "flags": 0, "filter": filter_name, "config_sha256": "0",
            "software_version": "0", "mjd_mid": 60000.0 + number,
        }
        for number in numbers
    ]  # fmt: skip
    schema = load("frames")
    return conform(
        pa.table(
            {
                field.name: pa.array([row.get(field.name) for row in rows], field.type)
                for field in arrow_schema(schema)
            }
        ),
        schema,
    )


def source_rows(numbers: list[int], flux: float = 1.0, per_frame: int = 5) -> pa.Table:
    """Detections all over a part of the sky, the same positions for a frame each time."""
    schema = load("sources")
    frame = np.repeat(np.array(numbers, np.int64), per_frame)
    n = len(frame)
    number = np.tile(np.arange(per_frame), len(numbers))
    ra, dec = (frame * 37.0 + number * 11.0) % 90.0, (frame * 13.0 + number * 7.0) % 60.0
    columns: dict[str, Any] = {
        "_healpix_29": healpix_index(ra, dec), "frame_id": frame, "source_no": number.astype(np.int32),
        "camera": pa.repeat("c", n), "night": np.full(n, BATCH.night, np.int32), "mjd_mid": 60000.0 + frame,
        "ra_deg": ra, "dec_deg": dec, "flags": np.zeros(n, np.int32), "flux_aper1": np.full(n, flux, np.float32),
    }  # fmt: skip
    for field in arrow_schema(schema):
        if field.name not in columns:
            values = pa.array(np.zeros(n)).cast(field.type) if not field.nullable else pa.nulls(n, field.type)
            columns[field.name] = values
    return conform(pa.table({name: columns[name] for name in schema.names}), schema)


@pytest.fixture
def gather(tmp_path: Path) -> Gather:
    """A function (chunks, existing) that gathers; each chunk is (frames, sources or None)."""
    return gatherer(tmp_path)


def gatherer(folder: Path) -> Gather:
    runs = iter(range(100))

    def go(chunks: list[tuple[pa.Table, pa.Table | None]], existing: Existing = NOTHING) -> tuple[Part, ...]:
        place = folder / f"run{next(runs)}"
        place.mkdir()
        made = []
        for number, (frames, sources) in enumerate(chunks):
            made.append(Chunk(frames, write_rows([sources], "sources", place / f"{number}.arrow")))
        go.staging = place / "staging"  # type: ignore[attr-defined]
        return gather_batch(BATCH, made, existing, TREE, go.staging, MadeFrom("p"))  # type: ignore[attr-defined]

    return go


def files_of(gather: Gather, part: Part) -> tuple[Path, ...]:
    staging: Path = gather.staging  # type: ignore[attr-defined]
    return tuple(staging / part.table / file.path for file in part.files)


def rows_of(gather: Gather, part: Part) -> pa.Table:
    return read_files(part.table, files_of(gather, part))


def existing_of(gather: Gather, parts: tuple[Part, ...], dropped: frozenset[int] = frozenset()) -> Existing:
    frames, sources, _ = (
        tuple(Slice(path, None, file) for path, file in zip(files_of(gather, part), part.files, strict=True))
        for part in parts
    )
    return Existing(frames, sources, dropped)


def test_every_row_is_in_the_file_of_its_pixel_and_nowhere_else(gather: Gather) -> None:
    frames, sources, _ = gather(
        [(frame_rows([1, 2]), source_rows([1, 2])), (frame_rows([3]), source_rows([3]))]
    )
    assert (frames.n_rows, sources.n_rows) == (3, 15)
    assert (sources.name, sources.camera, sources.night) == (str(BATCH), "c", BATCH.night)
    assert (
        frames.inputs
        == sources.inputs
        == {"configuration": "p", "files": files_sha256(rows_of(gather, frames))}
    )
    for path in files_of(gather, sources):
        pixel = pixel_of(path)
        assert pixel is not None
        start, end = pixel_range(*pixel)
        index = pq.read_table(path)["_healpix_29"].to_numpy()
        assert ((index >= start) & (index < end)).all()
        assert (np.diff(index) >= 0).all()
    expected = source_rows([1, 2, 3])
    key = [("frame_id", "ascending"), ("source_no", "ascending")]
    assert rows_of(gather, sources).sort_by(key).equals(expected.sort_by(key))


@pytest.mark.slow
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_any_chunks_and_runs_give_the_same_parts(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    numbers = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=8, unique=True))
    place = gatherer(tmp_path_factory.mktemp("chunks"))
    whole = place([(frame_rows(sorted(numbers)), source_rows(sorted(numbers)))])
    cut = data.draw(st.integers(0, len(numbers)))
    first = place([(frame_rows([one]), source_rows([one])) for one in numbers[:cut]])
    existing = existing_of(place, first)
    both = place([(frame_rows([one]), source_rows([one])) for one in numbers[cut:]], existing)
    assert [part.checksum for part in both] == [part.checksum for part in whole]


def test_a_frame_reduced_again_replaces_only_its_rows(gather: Gather) -> None:
    existing = existing_of(gather, gather([(frame_rows([1, 2]), source_rows([1, 2], per_frame=7))]))
    frames, sources, _ = gather([(frame_rows([2], "R"), source_rows([2], 9.0))], existing)
    assert {row["frame_id"]: row["filter"] for row in rows_of(gather, frames).to_pylist()} == {1: "V", 2: "R"}
    found = rows_of(gather, sources).to_pandas().groupby("frame_id")["flux_aper1"].agg(["count", "mean"])
    assert found.loc[1].tolist() == [7.0, 1.0]
    assert found.loc[2].tolist() == [5.0, 9.0]


def test_a_file_with_another_content_loses_its_old_frame(gather: Gather) -> None:
    existing = existing_of(gather, gather([(frame_rows([1, 2]), source_rows([1, 2]))]))
    frames, sources, _ = gather([(frame_rows([3], files={3: "/1.fits"}), source_rows([3]))], existing)
    assert set(rows_of(gather, frames)["frame_id"].to_pylist()) == {2, 3}
    assert set(rows_of(gather, sources)["frame_id"].to_pylist()) == {2, 3}


def test_a_dropped_frame_leaves_no_row_and_no_detections(gather: Gather) -> None:
    existing = existing_of(gather, gather([(frame_rows([1, 2]), source_rows([1, 2]))]), frozenset({1}))
    frames, sources, _ = gather([], existing)
    assert rows_of(gather, frames)["frame_id"].to_pylist() == [2]
    assert set(rows_of(gather, sources)["frame_id"].to_pylist()) == {2}


def test_when_all_are_dropped_the_parts_have_no_file(gather: Gather) -> None:
    existing = existing_of(gather, gather([(frame_rows([1]), source_rows([1]))]), frozenset({1}))
    frames, sources, _ = gather([], existing)
    assert frames.files == sources.files == ()


def test_a_frame_that_fails_now_loses_its_detections(gather: Gather) -> None:
    existing = existing_of(gather, gather([(frame_rows([1, 2]), source_rows([1, 2]))]))
    frames, sources, _ = gather([(frame_rows([2]), None)], existing)
    assert frames.n_rows == 2
    assert set(rows_of(gather, sources)["frame_id"].to_pylist()) == {1}


def test_the_same_frame_in_two_chunks_is_taken_from_the_first(gather: Gather) -> None:
    frames, sources, _ = gather(
        [(frame_rows([1, 2]), source_rows([1, 2])), (frame_rows([2, 3], "R"), source_rows([2, 3], 9.0))]
    )
    assert {row["frame_id"]: row["filter"] for row in rows_of(gather, frames).to_pylist()} == {
        1: "V", 2: "V", 3: "R",
    }  # fmt: skip
    flux = rows_of(gather, sources).to_pandas().groupby("frame_id")["flux_aper1"].agg(["count", "mean"])
    assert flux.to_dict("index") == {
        1: {"count": 5, "mean": 1.0}, 2: {"count": 5, "mean": 1.0}, 3: {"count": 5, "mean": 9.0},
    }  # fmt: skip


def test_detections_without_their_frame_are_left_out(gather: Gather) -> None:
    """The chunk lost that frame, as one whose content another file has."""
    frames, sources, _ = gather([(frame_rows([1]), source_rows([1, 2]))])
    assert frames.n_rows == 1
    assert set(rows_of(gather, sources)["frame_id"].to_pylist()) == {1}


def change_a_value(path: Path, column: str, row: int = 0) -> None:
    """What a disk does that flips a bit which decodes without an error."""
    rows = pq.read_table(path, partitioning=None)
    place, values = rows.column_names.index(column), rows[column].to_pylist()
    values[row] = values[row] + 1
    field = rows.schema.field(column)
    write_parquet(rows.set_column(place, field, pa.array(values, field.type)), path)


@pytest.mark.parametrize(("table", "column"), [("sources", "flux_aper1"), ("frames", "mjd_mid")])
def test_rows_that_changed_on_the_disk_get_no_new_digest(gather: Gather, table: str, column: str) -> None:
    parts = gather([(frame_rows([1, 2]), source_rows([1, 2]))])
    existing = existing_of(gather, parts)
    (part,) = (one for one in parts if one.table == table)
    damaged = files_of(gather, part)[0]
    change_a_value(damaged, column)
    with pytest.raises(LakeError, match=f"{damaged}: the rows are not those that were written"):
        gather([(frame_rows([3]), source_rows([3]))], existing)
    made, _, _ = gather([(frame_rows([1, 2]), source_rows([1, 2]))], existing)
    assert made.checksum == parts[0].checksum, "where nothing is kept, the night is repaired"


def test_tasks_that_share_a_night_make_the_parts_of_one(gather: Gather, tmp_path: Path) -> None:
    rows = write_rows([source_rows([1, 2])], "sources", tmp_path / "a.arrow")
    chunks = [Chunk(frame_rows([1, 2]), rows)]

    def parts(name: str, *tables: str) -> tuple[Part, ...]:
        return gather_batch(BATCH, chunks, NOTHING, TREE, tmp_path / name, MadeFrom("p"), tables=tables)

    whole = parts("whole", *TABLES)
    assert [part.table for part in whole] == list(TABLES)
    assert joined([parts(f"shared-{number}", *some) for number, some in enumerate(SHARED)], len(SHARED)) == [
        whole
    ]


def test_a_night_of_which_a_task_failed_is_that_error() -> None:
    error = LakeError("no room")
    assert joined([("a", "b"), ("c",), ("d", "e"), error, error, ("f",)], 2) == [
        ("a", "b", "c"),
        error,
        error,
    ]
