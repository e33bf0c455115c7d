from __future__ import annotations

import contextlib
import csv
import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake.core.sphere import separation_deg
from skylake.lake import Lake
from skylake.schema import load

Run = Callable[..., Any]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def star(sky: Path) -> dict[str, Any]:
    """A star of constant brightness that is seen in every frame."""
    stars = pq.read_table(sky / "truth" / "stars.parquet").to_pandas()
    seen = pa.concat_tables(
        [pq.read_table(path) for path in (sky / "truth" / "detections").iterdir()]
    ).to_pandas()
    inside = seen[seen.x_px.between(20, 235) & seen.y_px.between(20, 235) & ~seen.saturated]
    everywhere = inside.groupby("star_id").size()
    plain = stars[stars.variable_class.isna() & stars.star_id.isin(everywhere.index[everywhere == 8])]
    found: dict[str, Any] = plain.sort_values("mag_V").iloc[0].to_dict()
    return found


# cone


@pytest.mark.parametrize("table", ["sources", "matches", "lightcurves"])
def test_a_cone_holds_the_rows_within_the_radius_and_no_others(
    table: str, lake: Path, sky: Path, tmp_path: Path, well: Run
) -> None:
    ra, dec, radius = star(sky)["ra_deg"], star(sky)["dec_deg"], 400.0
    out = tmp_path / "cone.parquet"
    well("cone", lake, table, ra, dec, radius, "-o", out)
    rows = Lake(lake).snapshot().merged(table)
    distance = separation_deg(ra, dec, rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()) * 3600.0
    found = pq.read_table(out)
    assert dec < 0, "a negative declination is no option"
    assert 0 < found.num_rows == np.count_nonzero(distance <= radius) < rows.num_rows
    away = separation_deg(ra, dec, found["ra_deg"].to_numpy(), found["dec_deg"].to_numpy()) * 3600.0
    assert away.max() <= radius


def test_a_cone_is_csv_on_the_screen_and_empty_far_away(lake: Path, sky: Path, well: Run) -> None:
    ra, dec = star(sky)["ra_deg"], star(sky)["dec_deg"]
    near = rows_of(well("cone", lake, "sources", ra, dec, 8).out)
    assert len(near) == 8
    assert len({row["frame_id"] for row in near}) == 8
    for far in (well("cone", lake, "sources", ra, -dec, 8), well("cone", lake, "sources", ra, "-90", 8)):
        assert rows_of(far.out) == []
        assert far.out.startswith('"_healpix_29",'), "the header is there all the same"


def test_right_ascension_goes_round(lake: Path, sky: Path, well: Run) -> None:
    ra, dec = star(sky)["ra_deg"], star(sky)["dec_deg"]
    assert 0 < ra < 10
    to_star = 3600 * separation_deg(-1.0, dec, ra, dec)
    beyond = rows_of(well("cone", lake, "sources", -1, dec, to_star).out)
    assert beyond == rows_of(well("cone", lake, "sources", 359, dec, to_star).out)
    assert 0 < len(beyond) < Lake(lake).snapshot().n_rows("sources")


@pytest.mark.parametrize(
    ("place", "status", "words"),
    [
        (("sources", "abc", "1", "1"), 2, "'RA': 'abc' is not a number from -180 to 360; write degrees"),
        (("sources", "12:30:00", "1", "1"), 2, "'RA': '12:30:00'"),
        (("sources", "361", "1", "1"), 2, "'RA': '361'"),
        (("sources", "nan", "1", "1"), 2, "'RA': 'nan'"),
        (("sources", "1", "-91", "1"), 2, "'DEC': '-91' is not a number from -90 to 90"),
        (("sources", "1", "-5d30m", "1"), 2, "'DEC': '-5d30m'"),
        (("sources", "1", "1", "-1"), 2, "'RADIUS_ARCSEC': '-1' is not a number from 0 to 648000"),
        (("sources", "1", "1", "inf"), 2, "'RADIUS_ARCSEC': 'inf'"),
        (("sources", "1", "1"), 2, "missing argument 'RADIUS_ARCSEC'"),
        (("sources", "1", "1", "1", "--jsn"), 2, "--jsn"),
        (("frames", "1", "1", "1"), 3, "the rows of frames have no index of positions; use a query"),
        (("surces", "1", "1", "1"), 2, "there is no table 'surces'; the tables are frames, sources"),
    ],
)
def test_a_malformed_cone_is_one_sentence(
    place: tuple[str, ...], status: int, words: str, lake: Path, skylake_command: Run
) -> None:
    answer = skylake_command("cone", lake, *place)
    assert answer.status == status
    assert words in answer.sentence


# map


def test_a_map_counts_visits_as_healpy_reads_them(lake: Path, tmp_path: Path, well: Run) -> None:
    out = tmp_path / "my maps" / "visits.fits"
    out.parent.mkdir()
    answer = well("map", lake, "visits", "-o", out)
    assert (answer.out, answer.err) == ("", f"wrote {out}\n")
    visits, header = healpy.read_map(out, nest=True, h=True)
    assert healpy.get_nside(visits) == 128
    shown = [line.split() for line in well("map", lake, "visits").out.splitlines()[2:]]
    seen = np.flatnonzero((visits != healpy.UNSEEN) & (visits > 0))
    assert [[int(pixel), float(value)] for pixel, value in shown] == [
        [pixel, visits[pixel]] for pixel in seen.tolist()
    ]
    assert visits[seen].max() == 8
    assert dict(header)["SNAPSHOT"] == well("status", lake, "--json").json["snapshot"]


def test_a_map_of_a_night_has_its_frames_only(lake: Path, tmp_path: Path, well: Run) -> None:
    chosen = ("--night", "2024-10-01", "--camera", "small", "--band", "V")
    lines = well("map", lake, "visits", *chosen).out.splitlines()[2:]
    assert max(float(line.split()[1]) for line in lines) == 4
    picture = tmp_path / "map.png"
    assert well("map", lake, "residual", *chosen, "--plot", picture).err == f"wrote {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["vists"], 2, "there is no map 'vists'; the maps are visits, exposure, matches, residual"),
        (["visits", "--camera", "none"], 2, "the maps hold nothing of camera none; `skylake status` lists"),
        (["visits", "--band", "B", "--night", "20241001"], 2, "nothing of band B, night 20241001"),
        (["visits", "--night", "2024"], 2, "'2024' is no night"),
        (["visits", "--plot", "map.txt"], 2, "map.txt: the suffix names no format of pictures"),
        (["visits", "--plot", "/proc/map.png"], 3, "/proc/map.png: cannot be written"),
        (["visits", "-o", "/proc/map.fits"], 3, "/proc/map.fits: cannot be written"),
    ],
)
def test_a_map_that_cannot_be_had_is_one_sentence(
    options: list[str], status: int, words: str, lake: Path, skylake_command: Run
) -> None:
    answer = skylake_command("map", lake, *options)
    assert answer.status == status
    assert words in answer.sentence


# terminals


def on_terminal(environment: dict[str, str], *arguments: object, width: int = 80) -> list[str]:
    """The lines that a command prints on a terminal of some width."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "skylake", *map(str, arguments)]
    chosen = environment | {"COLUMNS": str(width)}
    with subprocess.Popen(command, env=chosen, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        pieces = []
        with contextlib.suppress(OSError), os.fdopen(ours, "rb", buffering=0) as output:
            # Linux ends the output of a terminal by an error.
            while piece := output.read(65536):
                pieces.append(piece)
    assert process.returncode == 0
    return b"".join(pieces).decode().splitlines()


def test_a_terminal_shows_fifty_rows_and_the_columns_that_fit(
    lake: Path, environment: dict[str, str], well: Run
) -> None:
    query = "SELECT * FROM sources ORDER BY frame_id, source_no"
    number, n_columns = Lake(lake).snapshot().n_rows("sources"), len(load("sources").columns)
    header, _, *rows, last = on_terminal(environment, "sql", lake, query)
    assert len(rows) == 50 and max(map(len, [header, *rows])) <= 80
    n_shown = len(header.split())
    assert last == f"50 of {number} rows and {n_shown} of {n_columns} columns; --all prints all"
    assert len(on_terminal(environment, "sql", lake, query, width=200)[0].split()) > n_shown > 1
    piped = well("sql", lake, query).out.splitlines()
    assert len(piped) == number + 2 and len(piped[0].split()) == n_columns
    assert piped[0].split()[:n_shown] == header.split()
    assert on_terminal(environment, "sql", lake, query, "--all") == piped
    assert (
        on_terminal(environment, "sql", lake, query, "--format", "csv")[1:]
        == (well("sql", lake, query, "--format", "csv").out.splitlines()[1:])
    )


def test_a_terminal_shows_fifty_pixels_of_a_map(
    new_lake: Path, environment: dict[str, str], put: Run, make_rows: Run, well: Run
) -> None:
    pixels = {"healpix_order": [7] * 60, "healpix_pixel": range(1000, 1060), "n_visits": range(1, 61)}
    rows = make_rows("maps", 60, camera=["a"] * 60, night=[20240301] * 60, band=["V"] * 60, **pixels)
    put(Lake(new_lake), ("maps", "a-20240301", rows))
    whole = well("map", new_lake, "visits").out.splitlines()
    *shown, last = on_terminal(environment, "map", new_lake, "visits")
    assert len(whole) == 62 and shown == whole[:52] and last == "50 of 60 rows; --all prints all"
    assert on_terminal(environment, "map", new_lake, "visits", "--all") == whole


def test_a_short_table_is_shown_without_a_word(lake: Path, environment: dict[str, str]) -> None:
    assert on_terminal(environment, "sql", lake, "SELECT 1 AS a") == ["a", "-", "1"]
    long = on_terminal(environment, "sql", lake, f"SELECT '{'x' * 100}' AS a, 2 AS b")
    assert long[2:] == ["x" * 100, "1 of 2 columns; --all prints all"]


# flags


def test_flags_are_reported_bit_by_bit_and_add_up(skylake_command: Run) -> None:
    for table in ("sources", "frames"):
        told = skylake_command("flags", "999999999", "--table", table).sentence
        largest = int(told.rpartition(" ")[2])
        bits = skylake_command("flags", largest, "--table", table, "--json").json
        assert sum(bit["value"] for bit in bits) == largest
        assert len({bit["name"] for bit in bits}) == len(bits)
        for bit in bits:
            alone = skylake_command("flags", bit["value"], "--table", table)
            assert [line.split()[:2] for line in alone.out.splitlines()[2:]] == [
                [str(bit["value"]), bit["name"]]
            ]


def test_flags_of_frames_are_known_without_being_asked_for(skylake_command: Run) -> None:
    """Bit 17 is one of frames alone; bit 1 means another thing on a frame than on a source."""
    alone = skylake_command("flags", 1 << 17)
    assert [line.split()[:3] for line in alone.out.splitlines()[2:]] == [
        ["frames", str(1 << 17), "SKY_BELOW_ZERO"]
    ]
    both = skylake_command("flags", 2, "--json").json
    assert [(bit["table"], bit["name"]) for bit in both] == [
        ("sources", "NEAR_SATURATED"), ("frames", "GAIN_ASSUMED"),
    ]  # fmt: skip
    assert "--table" in skylake_command("flags", "--help").out


def test_flags_may_be_written_as_programs_print_them(skylake_command: Run) -> None:
    assert skylake_command("flags", "0x12").out == skylake_command("flags", "18").out
    assert skylake_command("flags", "0b10010").out == skylake_command("flags", 18).out
    assert "BLENDED" not in skylake_command("flags", "0x10").out


def test_flags_of_nothing_and_nonsense(skylake_command: Run) -> None:
    assert skylake_command("flags", 0).out == "no flag is set\n"
    assert skylake_command("flags", 0, "--json").json == []
    unknown = skylake_command("flags", 1 << 40)
    assert unknown.status == 2
    assert f"{1 << 40} has bits that the flags of sources and frames do not; their" in unknown.sentence
    assert skylake_command("flags", "one").status == 2
    assert "'0xg' is no whole number; write it as 18 or 0x12" in skylake_command("flags", "0xg").sentence
    negative = skylake_command("flags", "--", "-1")
    assert negative.status == 2
    assert "-1 has bits" in negative.sentence


@pytest.mark.parametrize(
    "line", ["sql LAKE q", "lc LAKE --object 1", "cone LAKE sources 1 -1 1", "map LAKE visits"]
)
def test_what_is_no_lake_is_refused_with_the_command_to_type(
    line: str, tmp_path: Path, skylake_command: Run
) -> None:
    answer = skylake_command(*(tmp_path if word == "LAKE" else word for word in line.split()))
    assert answer.status == 3
    assert answer.sentence == f"{tmp_path}: there is no lake; make one with `skylake init {tmp_path}`"
