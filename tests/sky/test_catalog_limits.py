"""Files that are small and say, or unpack to, what no memory holds."""

from __future__ import annotations

import gzip
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from skylake.errors import CatalogError
from skylake.sky.catalog_files import read_batches, read_header

pytestmark = pytest.mark.full

#: Kilobytes for any of these files, with what is imported; no command may need 2 GB.
MOST_MEMORY = 1_500_000


def parquet_of_one_long_word(path: Path) -> None:
    """300,000 rows of one name of 30 kB, which a dictionary packs to nothing: 9 GB."""
    names = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300_000, np.int32)), pa.array(["x" * 30_000]))
    rows = pa.table({"ra": np.linspace(0.0, 300.0, len(names)), "dec": np.zeros(len(names)), "name": names})
    pq.write_table(rows, path, row_group_size=len(names), store_schema=False)


def parquet_of_one_large_page(path: Path) -> None:
    """A page that says of itself that it unpacks to 2 GiB."""
    n_bytes = 140_000_000
    rows = pa.table({"ra": [1.0], "dec": [2.0], "name": pa.array(["y" * n_bytes], pa.large_string())})
    pq.write_table(rows, path, use_dictionary=False, compression="zstd", data_page_size=1 << 30)
    content = path.read_bytes()
    for size in range(n_bytes, n_bytes + 50):
        content = content.replace(varint(size), varint((1 << 31) - 1))
    path.write_bytes(content)


def varint(number: int) -> bytes:
    """Return a number as Parquet has it in its headers."""
    groups = [(number << 1) >> shift & 0x7F for shift in range(0, 35, 7)]
    return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])


def parquet_of_endless_rows(path: Path) -> None:
    zeros = pa.array(np.zeros(30_000_000))
    rows = pa.table({"ra": zeros, "dec": zeros, "name": zeros})
    pq.write_table(rows, path, row_group_size=len(zeros), compression="zstd")


def csv_of_endless_rows(path: Path) -> None:
    path.write_bytes(gzip.compress(b"ra,dec,name\n") + gzip.compress(b"1,2,a\n" * 300_000) * 400)


def csv_of_long_names(path: Path) -> None:
    rows = gzip.compress(b"1,2," + b"z" * 900_000 + b"\n") * 3_000
    path.write_bytes(gzip.compress(b"ra,dec,name\n") + rows)


def fits_of_large_cells(path: Path) -> None:
    write_fits_with(path, "TFORM3  = '999999999A'")


def fits_of_an_endless_header(path: Path) -> None:
    cards = b"COMMENT ".ljust(80) * 36 * 300
    path.write_bytes(gzip.compress(b"SIMPLE  =                    T".ljust(80)) + gzip.compress(cards) * 100)


def votable_of_large_cells(path: Path) -> None:
    path.write_text(votable('<FIELD name="name" datatype="double" arraysize="90000000"/>', "<TR/>" * 5_000))


def votable_of_many_rows(path: Path) -> None:
    """An attribute by which astropy would allocate rows that are not there."""
    path.write_text(
        votable(NAME, "<TR><TD>1</TD><TD>2</TD><TD>a</TD></TR>" * 3).replace(
            "<TABLE>", '<TABLE nrows="90000000000">'
        )
    )


def votable_of_entities(path: Path) -> None:
    laughs = "".join(f'<!ENTITY a{k} "{f"&a{k - 1};" * 10}">' for k in range(1, 11))
    text = votable(NAME, "<TR><TD>1</TD><TD>2</TD><TD>&a10;</TD></TR>")
    path.write_text(text.replace("?>", f'?><!DOCTYPE VOTABLE [<!ENTITY a0 "lol">{laughs}]>', 1))


def votable_of_one_cell(path: Path) -> None:
    before, after = votable(NAME, "<TR><TD>1</TD><TD>2</TD><TD>CELL</TD></TR>").split("CELL")
    cell = gzip.compress(b"x" * 10_000_000) * 20
    path.write_bytes(gzip.compress(before.encode()) + cell + gzip.compress(after.encode()))


def ecsv_of_merged_mappings(path: Path) -> None:
    """Mappings that YAML merges into one another, ten times as large each time."""
    merges = "".join(f"# a{k}: &a{k} {{<<: [{', '.join([f'*a{k - 1}'] * 10)}]}}\n" for k in range(1, 12))
    path.write_text(
        "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ra, datatype: float64}\n# - {name: dec, datatype: float64}\n"
        f"# - {{name: name, datatype: string}}\n# a0: &a0 {{x: 1, y: 2}}\n{merges}ra dec name\n1 2 a\n"
    )


NAME = '<FIELD name="name" datatype="char" arraysize="*"/>'


def votable(field: str, rows: str) -> str:
    positions = "".join(f'<FIELD name="{name}" datatype="double" unit="deg"/>' for name in ("ra", "dec"))
    return (
        f'<?xml version="1.0"?><VOTABLE version="1.3"><RESOURCE><TABLE>{positions}{field}<DATA><TABLEDATA>{rows}'
        "</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"
    )


def write_fits_with(path: Path, card: str) -> None:
    Table({"ra": [1.0, 2.0], "dec": [1.0, 2.0], "name": ["a", "b"]}).write(path, format="fits")
    content = path.read_bytes()
    start = content.index(card[:8].encode(), 2880)
    path.write_bytes(content[:start] + card.ljust(80).encode() + content[start + 80 :])


#: Files by what is said of them; nothing where they are read, as little is in them.
HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "word.parquet": (parquet_of_one_long_word, "a cell is longer than 10000"),
    "page.parquet": (parquet_of_one_large_page, "write it again with smaller row groups"),
    "rows.parquet": (parquet_of_endless_rows, "hold 1500000 rows or more, which no|more than 100000 stars"),
    "rows.csv.gz": (csv_of_endless_rows, "hold 1500000 rows or more, which no|more than 10 MB; divide it"),
    "names.csv.gz": (csv_of_long_names, "begins with more than 1 MB|more than 10 MB; divide it"),
    "cells.fits": (fits_of_large_cells, "fetch or export it again"),
    "header.fits.gz": (fits_of_an_endless_header, "which no table of stars does"),
    "cells.vot": (votable_of_large_cells, "the column 'name' holds arrays of 90000000 values"),
    "rows.vot": (votable_of_many_rows, ""),
    "entities.vot": (votable_of_entities, "has a DOCTYPE, by which XML takes in other files; delete that line"),
    "cell.vot.gz": (votable_of_one_cell, "fetch or export it again|save the table as Parquet"),
    "merged.ecsv": (ecsv_of_merged_mappings, "header does not give the columns"),
}  # fmt: skip

#: Reads files as lists of stars, tables of detections and catalogs are read; prints the sentences and the peak.
_READ_ALL = """
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
from skylake.errors import SkylakeError
from skylake.flow.ingest.table_rows import TableColumns, read_frames
from skylake.report.stars.star_list import read_named_stars
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.star_files import StarFiles

def said_by(read):
    try:
        read()
    except SkylakeError as error:
        return str(error)
    return ""

said, peaks = {}, {}
for path in map(Path, sys.argv[1:]):
    columns = TableColumns(ra="ra", dec="dec", flux="dec", error=1.0, filter="name")
    said[path.name] = [
        said_by(lambda: all(StarFiles([path], CatalogColumns("ra", "dec", star_name="name")))),
        said_by(lambda: read_frames(path, columns)),
        said_by(lambda: read_named_stars(path)),
    ]
    status = Path("/proc/self/status").read_text().split()
    peaks[path.name] = int(status[status.index("VmHWM:") + 1])
print(json.dumps([said, peaks]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, list[str]], dict[str, int]]:
    """What is said of each file, and the most memory that was needed until then."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (write, _) in HOSTILE.items():
        write(folder / name)
    files = [str(folder / name) for name in HOSTILE]
    command = [sys.executable, "-c", _READ_ALL, *files]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    said, peaks = json.loads(run.stdout)
    return said, peaks


@pytest.mark.parametrize("name", HOSTILE)
def test_a_small_file_that_holds_too_much_is_refused_in_a_sentence(
    name: str, answers: tuple[dict[str, list[str]], dict[str, int]]
) -> None:
    sentence, (said_of, peaks) = HOSTILE[name][1], answers
    assert peaks[name] < MOST_MEMORY
    for said in said_of[name]:
        assert name in said and re.search(sentence, said) if sentence else not said


@pytest.mark.parametrize("element", ["BINARY", "BINARY2", "FITS", "PARQUET"])
def test_what_a_votable_names_is_not_fetched(element: str, tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/stars"
        stream = f'<{element}><STREAM href="{address}"/></{element}>'
        path = tmp_path / "stars.vot"
        path.write_text(votable(NAME, "").replace("<TABLEDATA></TABLEDATA>", stream))
        for read in (lambda: list(read_batches(path, ("ra", "dec"))), lambda: read_header(path, ("ra",))):
            with pytest.raises(
                CatalogError, match=r"rows are in another file \(http://127\.0\.0\.1.* name it"
            ):
                read()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_columns_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    rows = pa.table({"G": [10.0, 11.0], "g": [12.0, 13.0], 'odd "one"': [1, 2]})
    pq.write_table(rows, tmp_path / "stars[1]*.parquet")
    [batch] = read_batches(tmp_path / "stars[1]*.parquet", ("g", 'odd "one"', "G"))
    assert batch.table.to_pydict() == {"g": [12.0, 13.0], 'odd "one"': [1, 2], "G": [10.0, 11.0]}


@pytest.mark.parametrize("form", ["tabledata", "binary", "binary2"])
def test_a_large_votable_is_read_in_pieces(form: str, tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    n_rows = 20_000
    stars = Table(
        {
            "name": [f"star <{k}> & more" for k in range(n_rows)],
            "V": np.ma.MaskedArray(
                random.integers(3, 15, n_rows), (random.random(n_rows) < 0.2) & (form != "binary")
            ),
            "ra": random.uniform(0.0, 360.0, n_rows),
        }
    )
    path = tmp_path / "stars.vot"
    stars.write(path, format="votable", tabledata_format=form)
    found = pa.concat_tables([batch.table for batch in read_batches(path, ("ra", "V", "name"), 7_000)])
    assert found["ra"].to_pylist() == stars["ra"].tolist()
    assert found["V"].to_pylist() == stars["V"].tolist()
    assert found["name"].to_pylist() == stars["name"].tolist()
