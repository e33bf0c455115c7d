from __future__ import annotations

import pickle
import pickletools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.sphere import healpix_index
from skylake.errors import LakeError
from skylake.flow.ingest.chunk_rows import (
    Chunk,
    pixels_of,
    read_rows,
    rows_of_frames,
    rows_of_pixel,
    write_rows,
)
from skylake.lake.storage.parts import sort_rows
from skylake.schema import arrow_schema, conform, load
from skylake.sky.pixels import PixelTree, pixel_range

TREE = PixelTree.uniform(2)


def targets(frame: int, ra: np.ndarray, dec: np.ndarray) -> pa.Table:
    """Rows of one frame with all that may not be null, and one flux."""
    schema, n = load("forced_sources"), len(ra)
    given = {
        "_healpix_29": healpix_index(ra, dec), "frame_id": np.full(n, frame), "star_id": np.arange(n),
        "camera": pa.repeat("c", n), "night": np.full(n, 20240407, np.int32), "mjd_mid": np.full(n, 60000.0 + frame),
        "ra_deg": ra, "dec_deg": dec, "flux_psf": np.where(np.arange(n) % 3, 1.0 + np.arange(n), np.nan),
    }  # fmt: skip
    for field in arrow_schema(schema):
        if not field.nullable and field.name not in given:
            given[field.name] = pa.array(np.zeros(n)).cast(field.type)
    return conform(pa.table(given), schema)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_rows_come_back_as_they_were_and_each_in_its_pixel(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    tables = [
        targets(frame, random.uniform(0, 360, n), random.uniform(-90, 90, n))
        for frame, n in enumerate(counts)
    ]
    path = write_rows(tables, "forced_sources", tmp_path_factory.mktemp("rows") / "new" / "a.arrow")
    assert path is not None
    rows = read_rows(path)
    assert rows.equals(sort_rows(pa.concat_tables(tables), load("forced_sources")))
    pieces = {pixel: rows_of_pixel(rows, pixel) for pixel in pixels_of(rows, TREE)}
    assert sum(piece.num_rows for piece in pieces.values()) == sum(counts)
    for pixel, piece in pieces.items():
        start, end = pixel_range(*pixel)
        index = piece["_healpix_29"].to_numpy()
        assert len(index) > 0
        assert ((index >= start) & (index < end)).all()
    some = pa.array([0, 2], pa.int64())
    assert rows_of_frames(rows, some).num_rows == sum(n for frame, n in enumerate(counts) if frame in (0, 2))


def test_rows_of_all_frames_are_not_copied(tmp_path: Path) -> None:
    rows = targets(3, np.arange(10.0), np.arange(10.0))
    assert rows_of_frames(rows, pa.array([3, 4])) is rows


def test_frames_without_rows_leave_no_file(tmp_path: Path) -> None:
    assert write_rows([None, None], "sources", tmp_path / "a.arrow") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, kept: int) -> None:
    path = write_rows([targets(1, np.arange(90.0), np.arange(90.0))], "forced_sources", tmp_path / "a.arrow")
    assert path is not None
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(LakeError, match=f"{path}: the rows of frames cannot be read .*; run again"):
        read_rows(path)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"a\.arrow: the rows of frames cannot be read"):
        read_rows(tmp_path / "a.arrow")


def test_a_chunk_goes_between_processes_as_one_message() -> None:
    values = {"frame_id": np.arange(3), "camera": ["one", None, "three"], "rms_px": [0.1, np.nan, None]}
    rows = arrow_schema(load("frames")).empty_table().schema
    frames = pa.table(
        {field.name: pa.array(values.get(field.name, [None] * 3), field.type) for field in rows}, rows
    )
    # Of a slice only its own rows are sent.
    wanted = {5: {"optics.pixel_scale_arcsec": 31.7}}
    chunk = Chunk(frames.slice(1), Path("sources"), ("repeated",), None, wanted)
    sent = pickle.dumps(chunk, pickle.HIGHEST_PROTOCOL)
    came = pickle.loads(sent)
    assert came.frames.equals(chunk.frames) and came.frames.schema.equals(rows, check_metadata=True)
    assert (came.sources, came.repeated, came.forced) == (chunk.sources, chunk.repeated, chunk.forced)
    assert came.corrections == wanted
    # No object stands for a column, of which there are hundreds.
    assert len(list(pickletools.genops(sent))) < frames.num_columns
