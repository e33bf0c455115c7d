from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table

from skylake.errors import CatalogError
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.catalog_files import read_batches
from skylake.sky.catalog_rows import ImportReport, standardise
from skylake.sky.catalog_values import RawRows, numbers
from skylake.sky.star_files import StarFiles

N_ROWS = 23
COLUMNS = CatalogColumns(
    ra="RA_ICRS",
    dec="dec",
    id="id",
    pm_ra="pmRA",
    pm_dec="pmDE",
    magnitudes={"g": "g'mag", "V": "V"},
    magnitude_errors={"g": "e_g'mag", "V": 0.02},
    colours={"B-V": "B-V"},
)


def star_table() -> Table:
    """Stars as a catalog service gives them: odd names, units, masks in columns of every kind."""
    random = np.random.default_rng(7)
    count = np.arange(N_ROWS)
    table = Table()
    table["id"] = np.where(count % 2, 10**15 + count, count)
    table["RA_ICRS"] = random.uniform(0, 2 * np.pi, N_ROWS)
    table["dec"] = random.uniform(-90, 90, N_ROWS)
    table["pmRA"] = MaskedColumn(random.normal(0, 0.1, N_ROWS), mask=count % 5 == 1)
    table["pmDE"] = MaskedColumn(random.normal(0, 0.1, N_ROWS), mask=count % 5 == 1)
    table["g'mag"] = MaskedColumn(random.uniform(5, 20, N_ROWS).astype(np.float32), mask=count % 4 == 2)
    table["e_g'mag"] = MaskedColumn(random.uniform(0.01, 0.2, N_ROWS), mask=count % 4 == 2)
    table["V"] = MaskedColumn(random.integers(5, 20, N_ROWS).astype(np.int16), mask=count % 6 == 3)
    table["B-V"] = random.uniform(-0.3, 2, N_ROWS)
    table["comment"] = ["a comment, with 'quotes'"] * N_ROWS
    for name, unit in UNITS.items():
        table[name].unit = unit
    return table


UNITS = {"RA_ICRS": "rad", "dec": "deg", "pmRA": "arcsec/yr", "pmDE": "arcsec/yr", "V": "mag"}


def arrow(table: Table) -> pa.Table:
    """Return an astropy table as Arrow, without the detour of a file."""
    columns = {}
    for name in table.colnames:
        column = np.ma.MaskedArray(table[name])
        columns[name] = pa.array(np.ma.getdata(column), mask=np.ma.getmaskarray(column))
    return pa.table(columns)


def in_plain_units(table: Table) -> Table:
    """Return the stars in degrees and mas/yr, for formats that know no units."""
    plain = table.copy()
    plain["RA_ICRS"] = np.degrees(plain["RA_ICRS"].value)
    for name in ("pmRA", "pmDE"):
        plain[name] = plain[name] * 1000
    return plain


def rows_of_text(table: Table, delimiter: str) -> str:
    table = table.copy()
    table.remove_column("comment")
    lines = [table.colnames]
    for row in table:
        lines.append(["" if cell is np.ma.masked else repr(cell.item()) for cell in row])
    if delimiter == "  ":
        lines = [[cell or "--" for cell in line] for line in lines]
    return "\n".join(delimiter.join(line) for line in lines) + "\n"


def text_writer(delimiter: str) -> Callable[[Table, Path], None]:
    return lambda table, path: path.write_text(rows_of_text(in_plain_units(table), delimiter)) and None


def write_commented(table: Table, path: Path) -> None:
    """A header in a comment, comments before and among the rows, a byte-order mark, Windows line ends."""
    header, *rows = rows_of_text(in_plain_units(table), "  ").splitlines()
    lines = [
        "# Stars",
        f"#{header}",
        "# in degrees",
        *(f"  {row} " for row in rows[:9]),
        "# more",
        "",
        *rows[9:],
    ]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())


def write_vizier(table: Table, path: Path) -> None:
    """Tab-separated values as VizieR prints them: comments, names, units, dashes."""
    header, *rows = rows_of_text(table, "\t").splitlines()
    names = header.split("\t")
    units = "\t".join(UNITS.get(name, "") for name in names)
    dashes = "\t".join("-" * len(name) for name in names)
    path.write_text("\n".join(["#", "#Coosys\tJ2000", "", header, units, dashes, *rows, "", "#END", ""]))


def write_psql(table: Table, path: Path) -> None:
    """What a database prints: blanks around pipes, a rule below the header."""
    header, *rows = rows_of_text(in_plain_units(table), " | ").splitlines()
    path.write_text("\n".join([header, "-----+" * 8 + "-----", *rows]))


def write_ascii_fits(table: Table, path: Path) -> None:
    """A FITS TABLE extension: numbers as text, blank where masked."""
    columns = []
    for name in table.colnames[:-1]:
        texts = ["" if cell is np.ma.masked else repr(cell.item()) for cell in table[name]]
        form = "I20" if table[name].dtype.kind == "i" else "D28.17"
        values = [
            0 if not text else float(text) if "." in text or "e" in text else int(text) for text in texts
        ]
        null = "-1" if name == "V" else None
        values = [-1 if null and not text else value for value, text in zip(values, texts, strict=True)]
        columns.append(fits.Column(name, form, unit=UNITS.get(name), array=values, ascii=True, null=null))
    hdu = fits.TableHDU.from_columns(columns)
    masked = [
        (name, np.ma.getmaskarray(np.ma.MaskedArray(table[name])))
        for name in ("pmRA", "pmDE", "g'mag", "e_g'mag")
    ]
    hdu.writeto(path)
    _blank_fields(path, masked)


def _blank_fields(path: Path, masked: list[tuple[str, np.ndarray]]) -> None:
    with fits.open(path) as hdus:
        hdu = hdus[1]
        start, width = hdu.fileinfo()["datLoc"], hdu.header["NAXIS1"]
        places = {name: hdu.header[f"TBCOL{number}"] for number, name in enumerate(hdu.columns.names, 1)}
    content = bytearray(path.read_bytes())
    for name, mask in masked:
        for row in np.flatnonzero(mask):
            place = start + width * int(row) + places[name] - 1
            content[place : place + 28] = b" " * 28
    path.write_bytes(content)


def write_later_hdu(table: Table, path: Path) -> None:
    """The stars in the third table of the file, with TNULL for masked integers."""
    image = fits.PrimaryHDU(np.zeros((3, 3), np.int16))
    header = fits.BinTableHDU(Table({"cards": ["a", "b"]}))
    table = table.copy()
    table["V"].fill_value = -32768
    stars = fits.BinTableHDU(table)
    stars.header["TNULL8"] = -32768
    fits.HDUList([image, header, stars]).writeto(path)


def write_row_groups(table: Table, path: Path) -> None:
    fields = [
        pa.field(name, kind, metadata={"unit": UNITS[name]} if name in UNITS else None)
        for name, kind in zip(arrow(table).column_names, arrow(table).schema.types, strict=True)
    ]
    pq.write_table(arrow(table).cast(pa.schema(fields)), path, row_group_size=5)


def write_vo_parquet(table: Table, path: Path) -> None:
    """Parquet with the VOTable header of the IVOA note."""
    items = "".join(f'<FIELD name="{name}" unit="{unit}"/>' for name, unit in UNITS.items())
    header = f'<VOTABLE xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE><TABLE>{items}</TABLE></RESOURCE></VOTABLE>'
    pq.write_table(arrow(table).replace_schema_metadata({"IVOA.VOTable-Parquet.content": header}), path)


def write_hats(table: Table, path: Path) -> None:
    """A HATS collection: a catalog of two leaves and a margin cache, whose rows are not to be read."""
    rows = arrow(in_plain_units(table))
    leaf = path / "stars" / "dataset" / "Norder=0" / "Dir=0"
    margin = path / "stars_margin" / "dataset" / "Norder=0" / "Dir=0"
    for folder, name, part in (
        (leaf, "Npix=0", rows[:9]),
        (leaf, "Npix=4", rows[9:]),
        (margin, "Npix=0", rows),
    ):
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(part, folder / f"{name}.parquet")
    pq.write_table(rows, leaf.parents[1] / "_metadata.parquet")
    (path / "collection.properties").write_text("#HATS Collection\nhats_primary_table_url=stars\n")
    (path / "stars" / "hats.properties").write_text("obs_collection=stars\n")
    pq.write_table(rows, path / "stars" / "dataset" / "data_thumbnail.parquet")


def zipped(writer: Callable[[Table, Path], None]) -> Callable[[Table, Path], None]:
    def write(table: Table, path: Path) -> None:
        whole = path.with_name("unpacked" + path.suffixes[0])
        writer(table, whole)
        path.write_bytes(gzip.compress(whole.read_bytes(), 1))
        whole.unlink()

    return write


def astropy_writer(**options: Any) -> Callable[[Table, Path], None]:
    def write(table: Table, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table.write(path, **options)

    return write


WRITERS: dict[str, Callable[[Table, Path], None]] = {
    "comma.csv": text_writer(","),
    "semicolon.csv": text_writer(";"),
    "tab.tsv": text_writer("\t"),
    "pipe.psv": text_writer("|"),
    "blanks.txt": text_writer("  "),
    "comma.csv.gz": zipped(text_writer(",")),
    "no_suffix": text_writer(","),
    "commented.dat": write_commented,
    "vizier.tsv": write_vizier,
    "psql.txt": write_psql,
    "trailing.csv": lambda table, path: (
        path.write_text(rows_of_text(in_plain_units(table), ",").replace("\n", ",\n")) and None
    ),
    "blank.ecsv": astropy_writer(format="ascii.ecsv"),
    "comma.ecsv": astropy_writer(format="ascii.ecsv", delimiter=","),
    "masks.ecsv": astropy_writer(format="ascii.ecsv", serialize_method="data_mask"),
    "packed.ecsv.gz": zipped(astropy_writer(format="ascii.ecsv")),
    "misnamed.csv": astropy_writer(format="ascii.ecsv"),
    "binary.fits": astropy_writer(format="fits"),
    "packed.fits.gz": zipped(astropy_writer(format="fits")),
    "text.fits": write_ascii_fits,
    "later.fit": write_later_hdu,
    "tabledata.vot": astropy_writer(format="votable", tabledata_format="tabledata"),
    "binary.xml": astropy_writer(format="votable", tabledata_format="binary2"),
    "packed.votable.gz": zipped(astropy_writer(format="votable")),
    "astropy.parquet": astropy_writer(format="parquet"),
    "groups.parquet": write_row_groups,
    "note.parquet": write_vo_parquet,
    "collection": write_hats,
}


FORMATS = {
    "t.csv": "ascii.csv",
    "t.ecsv": "ascii.ecsv",
    "t.fits": "fits",
    "t.xml": "votable",
    "t.parquet": "parquet",
}


def imported(path: Path, batch_rows: int, columns: CatalogColumns = COLUMNS) -> tuple[pa.Table, ImportReport]:
    pieces = list(StarFiles([path], columns, batch_rows).batches())
    assert all(table.num_rows <= batch_rows for table, _ in pieces)
    return pa.concat_tables([table for table, _ in pieces]), sum(
        (report for _, report in pieces), ImportReport()
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("batch_rows", [1, 7, 1000])
@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_stars(name: str, batch_rows: int, tmp_path: Path) -> None:
    table = star_table()
    path = tmp_path / name
    WRITERS[name](table, path)
    expected, _ = standardise(arrow(table), COLUMNS, units=UNITS)
    found, report = imported(path, batch_rows)
    assert report == ImportReport(N_ROWS)
    assert found.schema.equals(expected.schema, check_metadata=True)
    for column in ("ra_deg", "dec_deg"):
        np.testing.assert_allclose(found[column].to_numpy(), expected[column].to_numpy(), rtol=1e-15)
    others = [column for column in found.column_names if column not in ("ra_deg", "_healpix_29")]
    for column in others:
        assert found[column].null_count == expected[column].null_count, column
        if column != "name":
            filled = [part[column].fill_null(0).to_numpy() for part in (found, expected)]
            np.testing.assert_allclose(*filled, rtol=1e-7, err_msg=column)
            assert pc.is_null(found[column]).to_pylist() == pc.is_null(expected[column]).to_pylist()


@pytest.mark.parametrize(
    "name",
    [
        "vizier.tsv",
        "blank.ecsv",
        "binary.fits",
        "text.fits",
        "binary.xml",
        "astropy.parquet",
        "groups.parquet",
        "note.parquet",
    ],
)
def test_batches_carry_what_is_in_the_file(name: str, tmp_path: Path) -> None:
    table = star_table()
    WRITERS[name](table, tmp_path / name)
    batches = list(read_batches(tmp_path / name, ("V", "RA_ICRS"), 10))
    assert [batch.first_row for batch in batches] == [0, 10, 20] or name == "groups.parquet"
    assert {batch.source for batch in batches} == {str(tmp_path / name)}
    for batch in batches:
        assert batch.table.column_names == ["V", "RA_ICRS"]
        assert {key: batch.units.get(key) for key in ("V", "RA_ICRS")} == {"V": "mag", "RA_ICRS": "rad"}
        rows = RawRows(batch.table, batch.units, "", np.arange(batch.table.num_rows))
        here = slice(batch.first_row, batch.first_row + batch.table.num_rows)
        np.testing.assert_array_equal(
            numbers(rows, "V"), np.ma.filled(table["V"].astype(float), np.nan)[here]
        )
        np.testing.assert_array_equal(numbers(rows, "RA_ICRS"), table["RA_ICRS"].value[here])


@pytest.mark.parametrize("name", ["t.csv", "t.ecsv", "t.fits", "t.xml", "t.parquet"])
def test_text_identifiers_are_the_same_from_every_format(name: str, tmp_path: Path) -> None:
    names = [
        "TYC 1-2-1",
        "Ångström 5" if not name.endswith("fits") else "Angstrom 5",
        "x",
        "42",
        "long " * 20,
    ]
    table = Table({"ra": [1.0, 2, 3, 4, 5], "dec": [1.0, 2, 3, 4, 5], "id": names})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table.write(tmp_path / name, format=FORMATS[name])
    columns = CatalogColumns("ra", "dec", id="id")
    found, _ = imported(tmp_path / name, 2, columns)
    expected, _ = standardise(arrow(table), columns)
    assert found.equals(expected)
    assert found["name"].to_pylist() == [text.strip() if text != "42" else None for text in names]


def test_sky_coordinates_of_ecsv_can_be_named(tmp_path: Path) -> None:
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    table = QTable({"place": SkyCoord([1.0, 2.0], [0.1, 0.2], unit="rad"), "speed": [1, 2] * u.arcsec / u.yr})
    table.write(tmp_path / "stars.ecsv")
    found, _ = imported(
        tmp_path / "stars.ecsv", 10, CatalogColumns("place.ra", "place.dec", pm_ra="speed", pm_dec="speed")
    )
    np.testing.assert_allclose(found["ra_deg"].to_numpy(), np.degrees([1.0, 2.0]))
    assert found["pm_ra_mas_yr"].to_pylist() == [1000.0, 2000.0]


def test_unsigned_integers_beyond_63_bits_are_refused_by_row(tmp_path: Path) -> None:
    table = Table(
        {"ra": np.arange(5.0), "dec": np.zeros(5), "id": np.array([1, 2, 3, 2**63 + 5, 5], np.uint64)}
    )
    table.write(tmp_path / "t.fits")
    with pytest.raises(CatalogError, match=r"t\.fits: the column 'id' .*data row 4\)"):
        imported(tmp_path / "t.fits", 2, CatalogColumns("ra", "dec", id="id"))
    found, _ = imported(tmp_path / "t.fits", 2, CatalogColumns("ra", "dec"))
    assert found["ra_deg"].to_pylist() == [0, 1, 2, 3, 4]


def test_a_column_may_change_its_kind_within_a_large_text(tmp_path: Path) -> None:
    n_rows = 250_000
    half = n_rows // 2
    ids = [str(k) for k in range(half)] + [f"S{k}" for k in range(half, n_rows)]
    lines = [
        "id,ra,dec,note",
        *(f"{star},{k % 360},{k % 90}.25,some words to fill the line" for k, star in enumerate(ids)),
    ]
    path = tmp_path / "stars.csv"
    path.write_text("\n".join(lines))
    assert path.stat().st_size > 8 << 20
    found, _ = imported(path, 100_000, CatalogColumns("ra", "dec", id="id"))
    assert found.num_rows == n_rows
    assert found["ref_id"][:half].to_pylist() == list(range(half))
    assert found["name"][half:].to_pylist() == ids[half:]


def test_small_files_share_a_batch_and_reports_add_up(tmp_path: Path) -> None:
    paths = []
    for number, dec in enumerate((1.0, 2.0, 95.0, 4.0)):
        paths.append(tmp_path / f"{number}.csv")
        paths[-1].write_text(f"ra,dec\n{number},{dec}\n{number},\n")
    pieces = list(StarFiles(paths, CatalogColumns("ra", "dec"), 6).batches())
    assert [report for _, report in pieces] == [ImportReport(6, 3, 1), ImportReport(2, 1, 0)]
    assert [table["ra_deg"].to_pylist() for table, _ in pieces] == [[0.0, 1.0], [3.0]]


def test_lines_that_are_commented_out_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("# made by hand\nra,dec\n1,2\n#3,4\n5,6\n#\n")
    found, _ = imported(path, 10, CatalogColumns("ra", "dec"))
    assert found["ra_deg"].to_pylist() == [1.0, 5.0]


def test_quoted_cells_may_hold_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "stars.txt"
    path.write_text('ra   name dec\n1  "Alpha  Centauri A"   2\n3 x 4\n')
    found, _ = imported(path, 10, CatalogColumns("ra", "dec", id="name"))
    assert found["name"].to_pylist() == ["Alpha  Centauri A", "x"]
    path.write_text('ra,dec,name\n1,2,"Rigil ""Kent"", A"\n')
    found, _ = imported(path, 10, CatalogColumns("ra", "dec", id="name"))
    assert found["name"].to_pylist() == ['Rigil "Kent", A']


def test_a_table_without_rows_gives_no_batch(tmp_path: Path) -> None:
    empty = star_table()[:0]
    for name in ("comma.csv", "blank.ecsv", "binary.fits", "tabledata.vot", "groups.parquet"):
        WRITERS[name](empty, tmp_path / name)
        assert list(StarFiles([tmp_path / name], COLUMNS)) == []


def test_a_missing_column_names_file_and_near_matches(tmp_path: Path) -> None:
    for name in ("comma.csv", "blank.ecsv", "binary.fits", "tabledata.vot", "groups.parquet"):
        WRITERS[name](star_table(), tmp_path / name)
        with pytest.raises(
            CatalogError, match=f"{name}: there is no column 'RA_ICR'; did you mean 'RA_ICRS'"
        ):
            list(read_batches(tmp_path / name, ("RA_ICR", "dec")))


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ra,dec,ra\n1,2,3\n")
    with pytest.raises(CatalogError, match="'ra' occurs 2 times"):
        list(read_batches(tmp_path / "t.csv", ("ra", "dec")))


def test_a_column_of_arrays_is_refused(tmp_path: Path) -> None:
    table = Table({"ra": [[1.0, 2.0], [3.0, 4.0]], "dec": [1.0, 2.0]})
    for name in ("t.fits", "t.xml", "t.parquet", "t.ecsv"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table.write(tmp_path / name, format=FORMATS[name])
        with pytest.raises(CatalogError, match=rf"{name}: the column 'ra'"):
            list(StarFiles([tmp_path / name], CatalogColumns("ra", "dec")))


def test_a_column_of_lists_is_refused(tmp_path: Path) -> None:
    lists = np.array([np.array([1.0]), np.array([2.0, 3.0])], object)
    columns = [fits.Column("ra", "PD()", array=lists), fits.Column("dec", "D", array=[1.0, 2.0])]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "t.fits")
    with pytest.raises(CatalogError, match=r"t\.fits: the column 'ra'"):
        list(StarFiles([tmp_path / "t.fits"], CatalogColumns("ra", "dec")))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "name",
    ["comma.csv.gz", "binary.fits", "packed.fits.gz", "tabledata.vot", "groups.parquet", "packed.ecsv.gz"],
)
@pytest.mark.parametrize("kept", [0.3, 0.8])
def test_a_truncated_file_is_told_by_name(name: str, kept: float, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](star_table(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content.rstrip(b"\0")))])
    with pytest.raises(CatalogError, match=f"{name}: .*fetch or export it again"):
        list(StarFiles([path], COLUMNS))


def test_a_row_that_breaks_off_is_told_by_name(tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("ra,dec,V\n1,2,3\n1,2")
    with pytest.raises(CatalogError, match=r"stars\.csv: damaged, truncated or no text table"):
        list(read_batches(path, ("ra", "dec")))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("stars.csv", b"", "the file is empty"),
        ("stars.csv", b" \n\n", "the file is empty"),
        ("stars.csv.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("stars.csv.gz", b"\x1f\x8bnonsense", "fetch or export it again"),
        ("stars.csv", b"# nothing\n# but comments\n", "only comments"),
        ("stars.csv", b"Dear reader,\nthis is a letter.\n", "there is no column 'ra'"),
        ("stars.csv", bytes(range(256)), "the file is no table"),
        ("stars.fits", b"ra,dec\n1,2\n", "the file is no FITS"),
        (
            "stars.fits",
            b"SIMPLE  =                    T" + b" " * 50 + b"END" + b" " * 2797,
            "fetch or export",
        ),
        ("stars.parquet", b"PAR1 and no more", "no Parquet table"),
        ("stars.vot", b"<?xml version='1.0'?><VOTABLE version='1.4'><RESOURCE/></VOTABLE>", "holds no table"),
        ("stars.zip", b"PK\x03\x04....", "unpack it"),
        ("stars.hdf5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("stars.csv", b"<!DOCTYPE html><html>Not found</html>", "web page"),
        ("stars.csv", b"ra,dec\n1,2\n\xff\xfe,3\n", "fetch or export"),
    ],
)
def test_what_is_no_table_is_told_in_one_sentence(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CatalogError, match=message) as caught:
        list(read_batches(path, ("ra", "dec")))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no such file"):
        list(read_batches(tmp_path / "absent.csv", ("ra",)))
    with pytest.raises(CatalogError, match="holds no files"):
        list(read_batches(tmp_path, ("ra",)))


def test_a_compressed_fits_table_names_the_mend(tmp_path: Path) -> None:
    hdu = fits.BinTableHDU(star_table())
    hdu.header["ZTABLE"] = True
    hdu.writeto(tmp_path / "stars.fz")
    with pytest.raises(CatalogError, match="run funpack"):
        list(read_batches(tmp_path / "stars.fz", ("ra",)))


def real(name: str) -> Path:
    folder = os.environ.get("SKYLAKE_REAL_DATA")
    if not folder:
        pytest.skip("SKYLAKE_REAL_DATA is not set: no real catalogs to try")
    path = Path(folder) / "catalogs" / name
    if not path.is_file():
        pytest.skip(f"{path} is missing")
    return path


def test_real_apass_from_vizier() -> None:
    path = real("apass_dr9_vizier_sample.ecsv")
    columns = CatalogColumns(
        "RAJ2000",
        "DEJ2000",
        magnitudes={"V": "Vmag", "g": "g'mag"},
        magnitude_errors={"V": "e_Vmag", "g": "e_g'mag"},
        colours={"B-V": "B-V"},
    )
    found, _ = imported(path, 20, columns)
    table = Table.read(path, format="ascii.ecsv")
    assert found.num_rows == len(table)
    np.testing.assert_array_equal(found["ra_deg"].to_numpy(), table["RAJ2000"].value)
    for column, source in (("mag_V", "Vmag"), ("mag_g", "g'mag"), ("colour_B_V", "B-V")):
        expected = np.ma.filled(table[source].astype(np.float32), np.nan)
        np.testing.assert_array_equal(found[column].to_numpy(zero_copy_only=False), expected)
    errors = found["mag_V_err"].drop_null().to_numpy()
    assert len(errors) == np.sum(np.ma.filled(table["e_Vmag"], 0) > 0)


def test_real_refcat2_from_vizier() -> None:
    path = real("refcat2_vizier_sample.ecsv")
    columns = CatalogColumns(
        "RA_ICRS", "DE_ICRS", pm_ra="pmRA", pm_dec="pmDE", epoch=2015.5, magnitudes={"r": "rmag"}
    )
    found, report = imported(path, 50, columns)
    table = Table.read(path, format="ascii.ecsv")
    assert report == ImportReport(len(table))
    expected = np.ma.filled(table["pmRA"].astype(np.float32), np.nan)
    np.testing.assert_array_equal(found["pm_ra_mas_yr"].to_numpy(zero_copy_only=False), expected)


def test_real_pan_starrs() -> None:
    path = real("ps1_dr2_mean_sample.csv.gz")
    columns = CatalogColumns(
        "raMean",
        "decMean",
        id="objID",
        magnitudes={"g": "gMeanPSFMag"},
        magnitude_errors={"g": "gMeanPSFMagErr"},
    )
    found, _ = imported(path, 3000, columns)
    table = Table.read(path, format="ascii.csv")
    assert found.num_rows == len(table) == 10_000
    assert found["ref_id"].to_pylist() == table["objID"].tolist()
    missing = table["gMeanPSFMag"] == -999
    assert found["mag_g"].null_count == np.sum(missing) > 0
    assert found["mag_g_err"].null_count == np.sum(missing | (table["gMeanPSFMagErr"] <= 0))


def test_real_stars_of_the_whole_sky() -> None:
    path = real("bigsky_v11.parquet")
    columns = CatalogColumns(
        "ra",
        "dec",
        pm_ra="pmra",
        pm_dec="pmdec",
        magnitudes={"V": "V"},
        magnitude_errors={"V": 0.05},
        colours={"B-V": "B-V"},
    )
    found, report = imported(path, 500_000, columns)
    assert report == ImportReport(981_853)
    assert len(np.unique(found["ref_id"].to_numpy())) > 981_840
    # Of all the stars one has no identifier of Tycho.
    files = StarFiles([path], CatalogColumns("ra", "dec", id="tyc_id"))
    assert sum(table.num_rows for table in files) == 981_853
    assert files.report.without_id == 1


def test_a_real_file_under_another_name(tmp_path: Path) -> None:
    shutil.copy(real("ps1_dr2_mean_sample.csv.gz"), tmp_path / "download")
    assert next(read_batches(tmp_path / "download", ("raMean",), 10)).table.num_rows == 10


_ROWS = "ra,dec,V,name\n10.5,20.5,12.1,a\n11,21,12,"
_ECSV = (
    "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ra, unit: deg, datatype: float64}\n# - {name: dec, datatype: "
    "float64}\n# META\nra dec\n1 2\n3 4\n"
)
_MEMBER = gzip.compress(b"0" * (1 << 20))
#: Files that are no tables of stars, by the sentence that says so.
WRONG: dict[str, tuple[Callable[[], bytes], str]] = {
    "long line.csv": (lambda: (_ROWS + "x" * 2_000_000).encode(), "line 3 has more than 1048576 bytes, so the file"),
    "later.csv": (
        lambda: (_ROWS + "b\n" + "12,13,14,c\n" * 9 + "x" * 20_000_000).encode(),
        "a line has more than 1048576 bytes, so the file is no table of stars; close the quotes or export it again",
    ),
    "long header.csv": (lambda: ("ra,dec," + "x" * 200_000).encode(), "a cell of more than 131072 characters"),
    "quoted.csv": (
        lambda: (_ROWS + '"' + ("x" * 79 + "\n") * 250_000 + '"\n').encode(), "a row has more than 8 MB, within quotes"
    ),
    "endless.csv.gz": (lambda: gzip.compress(_ROWS.encode()) + 900 * _MEMBER, "line 3 has more than 1048576 bytes"),
    "comments.csv.gz": (
        lambda: gzip.compress(b"#" * 1_000_000 + b"\n") * 80, "it begins with more than 1 MB of comments"
    ),
    "deep.ecsv": (
        lambda: _ECSV.replace("META", "meta: " + "[" * 500 + "]" * 500).encode(), "YAML header is nested too deeply"
    ),
    "open.ecsv": (lambda: _ECSV.replace("META", "meta: {a: [").encode(), "its YAML header does not give the columns"),
    "bomb.vot.gz": (
        lambda: gzip.compress(b"<?xml version='1.0'?><VOTABLE><!-- ") + 400 * _MEMBER,
        "an element of it has more than 1 MB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_table_is_named_before_it_fills_the_memory(name: str, tmp_path: Path) -> None:
    content, sentence = WRONG[name]
    path = tmp_path / name
    path.write_bytes(content())
    tracemalloc.start()
    with pytest.raises(CatalogError, match=sentence) as caught:
        list(read_batches(path, ("ra", "dec")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120e6 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "meta",
    [
        "meta: !foo {a: 1}",
        "meta: !numpy.ndarray {buffer: x}",
        "meta: !!python/object/apply:os.system [exit]",
        "meta: !astropy.time.Time {jd1: x}",
    ],
)
def test_tags_of_a_header_make_no_objects(meta: str, tmp_path: Path) -> None:
    path = tmp_path / "stars.ecsv"
    path.write_text(_ECSV.replace("META", meta))
    [batch] = read_batches(path, ("ra", "dec"))
    assert batch.table["ra"].to_pylist() == ["1", "3"] and batch.units == {"ra": "deg", "dec": ""}


@pytest.mark.parametrize(
    ("card", "text"),
    [
        ("TFORM2", "TFORM2  = many"),
        ("TTYPE2", "TTYPE2  ="),
        ("TTYPE2", "COMMENT"),
        ("TFIELDS", "TFIELDS = 'x'"),
    ],
)
def test_a_damaged_header_of_a_fits_table_is_reported(card: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "stars.fits"
    Table({"ra": [10.0, 40.0], "dec": [1.0, 2.0]}).write(path)
    data = path.read_bytes()
    start = data.index(card.ljust(8).encode())
    path.write_bytes(data[:start] + text.ljust(80).encode() + data[start + 80 :])
    with pytest.raises(CatalogError, match=r"no column 'dec'|damaged, truncated or no FITS table"):
        list(read_batches(path, ("ra", "dec")))


def in_votable(info: str, table: str = "") -> str:
    return f"<?xml version='1.0'?><VOTABLE version='1.4'><RESOURCE type='results'>{table}{info}</RESOURCE></VOTABLE>"


def test_a_service_that_cut_its_answer_off_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "answer.vot"
    fields = "".join(f"<FIELD name='{name}' datatype='double'/>" for name in ("ra", "dec"))
    rows = "<TR><TD>1</TD><TD>2</TD></TR>" * 7
    table = f"<TABLE>{fields}<DATA><TABLEDATA>{rows}</TABLEDATA></DATA></TABLE>"
    cut_off = '<INFO name="QUERY_STATUS" value="OVERFLOW"/>'
    for info, remarks in (('<INFO name="QUERY_STATUS" value="OK"/>', 0), (cut_off, 1)):
        path.write_text(in_votable(info, table))
        assert sum(batch.table.num_rows for batch in read_batches(path, ("ra", "dec"))) == 7
        assert len(caplog.records) == remarks
    assert "answer.vot: the service cut the table off after 7 rows" in caplog.text
    for some in ("", table):
        path.write_text(in_votable('<INFO name="QUERY_STATUS" value="ERROR"> No more time </INFO>', some))
        with pytest.raises(
            CatalogError, match=r"the service reports an error \(No more time\); ask it again"
        ):
            list(read_batches(path, ("ra", "dec")))


def test_columns_that_comments_number_are_read(tmp_path: Path) -> None:
    """SExtractor's ASCII_HEAD: a parameter of three columns, and one at the end whose columns the rows tell."""
    path = tmp_path / "test.cat"
    path.write_text(
        "#   1 NUMBER          Running object number\n"
        "#   2 FLUX_APER       Flux vector within fixed circular aperture(s)   [count]\n"
        "#   5 ALPHA_J2000     Right ascension of barycenter (J2000)           [deg]\n"
        "#   6 DELTA_J2000     Declination of barycenter (J2000)               [deg]\n"
        "#   7 MAG_APER        Fixed aperture magnitude vector                 [mag]\n"
        "   1  10.5  11.5  12.5  150.25  -2.5  -8.5  -8.25\n"
        "   2  20.5  21.5  22.5  150.75  -2.25 -9.5  -9.25\n"
    )
    [batch] = read_batches(path, ("FLUX_APER_2", "ALPHA_J2000", "MAG_APER", "MAG_APER_1"))
    assert [tuple(row.values()) for row in batch.table.to_pylist()] == [
        ("12.5", "150.25", "-8.5", "-8.25"),
        ("22.5", "150.75", "-9.5", "-9.25"),
    ]
    assert (batch.units["ALPHA_J2000"], batch.units["FLUX_APER_2"]) == ("deg", "count")
    with pytest.raises(CatalogError, match="there is no column 'FLUX_APER_3'; did you mean 'FLUX_APER_2'"):
        list(read_batches(path, ("FLUX_APER_3",)))


@pytest.mark.parametrize("spelt", ["4.611686018427387904E+18", "1e+16", "123456789012345678.0"])
def test_identifiers_that_lost_digits_in_a_text_are_refused(spelt: str, tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text(f"id,ra,dec\n17,1,2\n{spelt},3,4\n")
    columns = CatalogColumns("ra", "dec", id="id")
    with pytest.raises(
        CatalogError, match=r"stars\.csv: the column 'id' holds .*digits are lost.*\(data row 2\)"
    ):
        list(StarFiles([path], columns))
    path.write_text("id,ra,dec\n17,1,2\n18.0,3,4\n1.9E+01,5,6\nS 1.5,7,8\n2.5,7,8\n")
    [stars] = StarFiles([path], columns)
    assert stars["ref_id"].to_pylist()[:3] == [17, 18, 19]
    assert stars["name"].to_pylist() == [None, None, None, "S 1.5", "2.5"]


def test_a_magnitude_of_zero_with_an_error_of_zero_is_missing(tmp_path: Path) -> None:
    rows = {"ra": [1.0, 2.0, 3.0], "dec": [0.0] * 3, "V": [0.0, 0.0, 9.0], "e_V": [0.0, 0.02, 0.0]}
    Table(rows).write(tmp_path / "old.fits")
    columns = CatalogColumns("ra", "dec", magnitudes={"V": "V"}, magnitude_errors={"V": "e_V"})
    [stars] = StarFiles([tmp_path / "old.fits"], columns)
    assert stars["mag_V"].to_pylist() == [None, 0.0, 9.0]


def test_the_catalogs_of_a_lake_need_no_reader_of_other_files() -> None:
    code = "import sys, skylake.sky.lake_catalogs; print(*{'duckdb', 'astropy', 'urllib.request'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
