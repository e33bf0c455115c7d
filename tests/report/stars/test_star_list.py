from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import MaskedColumn, Table

from skylake.errors import UsageError
from skylake.report.stars.star_list import ListedStar, read_named_stars, stars_of_words


@pytest.mark.parametrize(
    ("words", "stars"),
    [
        (("2",), ["2"]),
        (("2", "5"), ["2", "5"]),
        (("188.7", "-1.4"), ["188.7 -1.4"]),
        (("12:34:56.7 -01:23:45", "RR Lyr"), ["12:34:56.7 -01:23:45", "RR Lyr"]),
        (("2", "12h34m56s", "-1d23m45s", "3"), ["2", "12h34m56s -1d23m45s", "3"]),
    ],
)
def test_two_words_of_a_position_are_one_star(words: tuple[str, ...], stars: list[str]) -> None:
    assert stars_of_words(words) == stars


@pytest.mark.parametrize("words", [("188.7",), ("188.7", "RR Lyr")])
def test_half_of_a_position_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="half of a position; write both"):
        stars_of_words(words)


@pytest.mark.parametrize(
    ("name", "text", "stars"),
    [
        ("a.txt", "# mine\nRR Lyr\n\n12:34:56.7 -01:23:45\n7\n", ["RR Lyr", "12:34:56.7 -01:23:45", "7"]),
        ("a.csv", "ra,dec,period\n1.5,-2.5,0.5\n3.5,4.5,0.7\n", ["1.5 -2.5", "3.5 4.5"]),
        ("a.csv", "object_id,mag\n17,9.0\n18,9.5\n", ["17", "18"]),
        ("a.csv", "Name,RAJ2000,DEJ2000\nx,1.5,2.5\n", ["1.5 2.5"]),
        ("list", 'name,kind\n"RR Lyr",RRAB\n', ["RR Lyr"]),
    ],
)
def test_stars_of_a_text(name: str, text: str, stars: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [one.star for one in read_named_stars(tmp_path / name)] == stars


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name,ra,dec\nRR Lyr,1.5,-2.5\n", ("RR Lyr", "1.5 -2.5")),
        ("object_id,name\n17,RR Lyr\n", ("RR Lyr", "17")),
        ("star,ra,dec\n17,1.5,-2.5\n", ("17", "1.5 -2.5")),
        ("ra,dec\n1.5,-2.5\n", ("1.5 -2.5", "1.5 -2.5")),
        ("object_id,ra_deg,dec_deg\n17,1.5,-2.5\n", ("17", "1.5 -2.5", "17")),
        ("Object_ID,name,ra,dec\n 17,RR Lyr,1.5,-2.5\n", ("RR Lyr", "1.5 -2.5", "17")),
        ("object_id,ra,dec\n,1.5,-2.5\n", ("1.5 -2.5", "1.5 -2.5")),
    ],
)
def test_stars_are_called_as_a_column_says(text: str, named: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert read_named_stars(tmp_path / "a.csv") == [ListedStar(*named)]


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "vot", "parquet"])
def test_stars_of_a_table(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"stars.{suffix}"
    form = {"ecsv": "ascii.ecsv", "vot": "votable"}.get(suffix, suffix)
    Table({"RA": [1.5, 3.5], "Dec": [-2.5, 4.25]}).write(path, format=form)
    assert [one.star for one in read_named_stars(path)] == ["1.5 -2.5", "3.5 4.25"]


def test_positions_are_known_by_ucds_and_in_any_unit(tmp_path: Path) -> None:
    path = tmp_path / "own.vot"
    table = Table({"alpha": [0.5, 1.0], "delta": [-0.25, 0.25], "ra": [7.0, 8.0], "name": ["RR Lyr", ""]})
    for name, axis in (("alpha", "ra"), ("delta", "dec")):
        table[name].unit, table[name].meta["ucd"] = "rad", f"pos.eq.{axis};meta.main"
    table.write(path, format="votable")
    stars = read_named_stars(path)
    for one, row in zip(stars, table, strict=True):
        assert [float(word) for word in one.star.split()] == pytest.approx(
            np.degrees([row["alpha"], row["delta"]])
        )
    assert stars[0].called == "RR Lyr"


@pytest.mark.parametrize("mark", [";", "\t", "|", " "])
def test_any_mark_divides_columns(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "stars.txt"
    path.write_text("ra,dec,mag\n1.5,-2.5,9\n3.5,4.5,10\n".replace(",", mark))
    assert [one.star for one in read_named_stars(path)] == ["1.5 -2.5", "3.5 4.5"]


def test_lists_that_are_too_long_or_name_nothing(tmp_path: Path) -> None:
    path = tmp_path / "stars.txt"
    path.write_text("17\n" * 100_001)
    with pytest.raises(UsageError, match=r"stars\.txt: the list has more than 100000 stars; divide it"):
        read_named_stars(path)
    path.write_text("ra,dec\n1.5,-2.5\n,3\n")
    with pytest.raises(UsageError, match=r"stars\.txt: data row 2 names no star; complete or delete it"):
        read_named_stars(path)


def test_a_masked_identifier_is_none(tmp_path: Path) -> None:
    path = tmp_path / "stars.ecsv"
    numbers = MaskedColumn([17, 18], mask=[True, False])
    Table({"object_id": numbers, "ra": [1.5, 3.5], "dec": [-2.5, 4.25]}).write(path, format="ascii.ecsv")
    assert [(one.called, one.object_id) for one in read_named_stars(path)] == [("1.5 -2.5", ""), ("18", "18")]


def test_a_file_without_stars_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "stars.csv"
    path.write_text("x,y\n1,2\n")
    with pytest.raises(
        UsageError, match=r"stars.csv: no column of x, y names stars; call one object_id or name"
    ):
        read_named_stars(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"stars.csv: the file is no table; fetch or export it again"):
        read_named_stars(path)
    (tmp_path / "stars.txt").write_bytes(b"RR Lyr\n\xff\n")
    with pytest.raises(UsageError, match=r"stars.txt: the stars cannot be read"):
        read_named_stars(tmp_path / "stars.txt")
