from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.sphere import healpix_index
from skylake.errors import SchemaError
from skylake.lake import Part, stage_part
from skylake.lake.layout import part_file
from skylake.lake.storage.parts import PartFile, file_sha256, stage_again
from skylake.schema import arrow_schema, load, table_names
from skylake.sky.pixels import PixelTree

MakeRows = Callable[..., pa.Table]
TREE = PixelTree.uniform(1)
HATS = [name for name in table_names() if load(name).layout.kind == "hats"]


def tree_of(table: str) -> PixelTree | None:
    return TREE if table in HATS else None


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("../night", "dataset/night.parquet"),
        ("night", "../../night.parquet"),
        ("night", "/etc/night.parquet"),
    ],
)
def test_a_description_that_leads_out_of_its_table_is_refused(name: str, path: str) -> None:
    """A lake may be somebody else's."""
    values = Part("frames", "night", (PartFile("dataset/night.parquet", 1, "0"),)).to_values()
    values["name"], values["files"][0]["path"] = name, path
    with pytest.raises(ValueError, match=r"no path below a folder|is no name of a part"):
        Part.from_values(values)


@pytest.mark.parametrize("table", table_names())
def test_a_part_holds_its_rows_sorted_each_in_its_pixel(
    table: str, make_rows: MakeRows, tmp_path: Path
) -> None:
    rows = make_rows(table, 300, 4)
    part = stage_part(rows, table, "c-20240407", tmp_path, tree_of(table), "c", 20240407, {"a": "1"})
    read = [pq.read_table(tmp_path / file.path, partitioning=None) for file in part.files]
    assert [len(piece) for piece in read] == [file.n_rows for file in part.files]
    assert part.n_rows == 300
    assert (len(part.files) > 1) == (table in HATS)
    schema = load(table)
    order = [(name, "ascending") for name in dict.fromkeys([*schema.layout.sort, *schema.primary_key])]
    for piece, file in zip(read, part.files, strict=True):
        assert piece.equals(piece.sort_by(order))
        wanted = arrow_schema(load(table))
        assert piece.schema.equals(wanted)
        assert piece.schema.metadata == wanted.metadata
        assert [field.metadata for field in piece.schema] == [field.metadata for field in wanted]
        assert (file.n_bytes, file.sha256) == (
            (tmp_path / file.path).stat().st_size,
            file_sha256(tmp_path / file.path),
        )
        if file.pixel is not None:
            index = healpix_index(piece["ra_deg"], piece["dec_deg"], file.pixel[0])
            assert (index == file.pixel[1]).all()
    assert pa.concat_tables(read).sort_by(order).equals(rows.sort_by(order))
    assert [file.path for file in part.files] == sorted({file.path for file in part.files}, key=_number)


def _number(path: str) -> tuple[int, str]:
    return (int(path.split("Npix=")[1].split("/")[0]) if "Npix=" in path else 0), path


def test_files_of_pixels_without_a_change_are_linked(make_rows: MakeRows, tmp_path: Path) -> None:
    rows = make_rows("objects", 300, 4)
    first, second, again = (tmp_path / name for name in ("first", "second", "again"))
    held = stage_part(rows, "objects", "c", first, TREE, "c", None, {"nights": "1"})
    changed = rows.set_column(
        rows.schema.get_field_index("n_nights"),
        rows.schema.field("n_nights"),
        pa.array(rows["n_nights"].to_numpy() + (np.arange(300) == 7), pa.int32()),
    )
    wanted = stage_part(changed, "objects", "c", second, TREE, "c", None, {"nights": "2"})
    assert stage_again(changed, held, first, again, TREE, {"nights": "2"}) == wanted
    same = [file.path for file in wanted.files if (again / file.path).samefile(first / file.path)]
    assert len(same) == len(held.files) - 1
    assert all((again / one.path).read_bytes() == (second / one.path).read_bytes() for one in wanted.files)


@given(
    order=st.permutations(range(40)),
    cuts=st.lists(st.integers(0, 40), max_size=5),
    table=st.sampled_from(["sources", "frames"]),
)
def test_the_checksum_depends_on_the_content_alone(
    make_rows: MakeRows, tmp_path_factory: Any, order: list[int], cuts: list[int], table: str
) -> None:
    rows = make_rows(table, 40, 2)
    folder = tmp_path_factory.mktemp("parts")
    first = stage_part(rows, table, "c-1", folder / "a", tree_of(table), "c", 1, {"profile": "x"})
    shuffled = rows.take(pa.array(order, pa.int64()))
    bounds = [0, *sorted(cuts), 40]
    pieces = pa.concat_tables([shuffled.slice(a, b - a) for a, b in pairwise(bounds)])
    second = stage_part(pieces, table, "c-1", folder / "b", tree_of(table), "d", 2, {"profile": "y"})
    assert second.checksum == first.checksum
    assert second.files == first.files
    assert second.inputs_sha256 != first.inputs_sha256


def test_any_other_content_has_another_checksum(make_rows: MakeRows, tmp_path: Path) -> None:
    rows = make_rows("sources", 40, 2)
    flags = rows.column_names.index("flags")
    other = rows.set_column(flags, "flags", pa.array(np.arange(40), pa.int32()))
    tables = [rows, other, rows.slice(1), pa.concat_tables([rows, rows.slice(0, 1)])]
    parts = [stage_part(t, "sources", "c-1", tmp_path / str(i), TREE) for i, t in enumerate(tables)]
    parts.append(stage_part(rows, "sources", "c-2", tmp_path / "renamed", TREE))
    assert len({part.checksum for part in parts}) == 4
    assert parts[-1].checksum == parts[0].checksum


def test_a_description_is_read_back(make_rows: MakeRows, tmp_path: Path) -> None:
    part = stage_part(
        make_rows("sources", 30, 1), "sources", "c-1", tmp_path, TREE, "c", 1, {"b": "2", "a": "1"}
    )
    again = Part.from_json(part.to_json())
    assert again == part
    assert (again.checksum, again.inputs_sha256) == (part.checksum, part.inputs_sha256)
    assert replace(part, inputs={"a": "1", "b": "2"}).inputs_sha256 == part.inputs_sha256


@pytest.mark.parametrize("table", ["sources", "frames"])
def test_a_part_without_rows_has_no_file(table: str, make_rows: MakeRows, tmp_path: Path) -> None:
    part = stage_part(make_rows(table, 0), table, "c-1", tmp_path, tree_of(table))
    assert (part.files, part.n_rows) == ((), 0)
    assert not list(tmp_path.rglob("*"))


def test_a_table_with_positions_needs_pixels(make_rows: MakeRows, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pixel tree is needed"):
        stage_part(make_rows("sources", 3), "sources", "c-1", tmp_path)
    with pytest.raises(ValueError, match="sources lie in pixels"):
        part_file("sources", "c-1", None)


def test_rows_that_break_the_schema_are_not_written(make_rows: MakeRows, tmp_path: Path) -> None:
    rows = make_rows("sources", 3).append_column("colour", pa.array([1.0, 2.0, 3.0]))
    with pytest.raises(SchemaError, match=r"'colour' is not in schemas/sources.yaml"):
        stage_part(rows, "sources", "c-1", tmp_path, TREE)
    assert not list(tmp_path.rglob("*"))
