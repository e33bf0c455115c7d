from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Column, Table

import skylake
from skylake.core.sphere import arcsec_of_chord, unit_vectors
from skylake.flow.catalogs import crossmatch_tables
from skylake.flow.catalogs.crossmatch_tables import MatchRequest
from skylake.flow.execution.cluster import Distributed
from skylake.lake import Lake
from skylake.sky.crossmatch import Neighbours

pytestmark = pytest.mark.full

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def own(lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the lake that tests of this file write to."""
    root = tmp_path_factory.mktemp("crossmatch") / "lake"
    shutil.copytree(lake, root, symlinks=True)
    return root


@pytest.fixture(scope="module")
def separations(lake: Path) -> tuple[Any, Any, np.ndarray]:
    """All sources, all stars, and the separation of each pair in arcseconds."""
    opened = skylake.open(lake)
    left = opened["sources"].pandas(["frame_id", "source_no", "ra_deg", "dec_deg"])
    right = opened.sql("SELECT ref_id, ra_deg, dec_deg FROM catalogs.simcat").pandas()
    a, b = (unit_vectors(one.ra_deg.to_numpy(), one.dec_deg.to_numpy()) for one in (left, right))
    return left, right, arcsec_of_chord(np.linalg.norm(a[:, None] - b[None], axis=-1))


@pytest.mark.parametrize("options", [(), ("--n-nearest", 3), ("--mutual",), ("--how", "left")])
def test_the_matches_of_a_lake_are_those_of_brute_force(
    options: tuple[Any, ...], own: Path, separations: tuple[Any, Any, np.ndarray], well: Run
) -> None:
    name = "".join(map(str, options)).replace("-", "_") or "plain"
    answer = well(
        "crossmatch", own, "sources", "simcat", "-o", f"x{name}", "--radius", 60, *options,
        "--left-columns", "frame_id,source_no", "--right-columns", "ref_id,mag_V,ra_deg", "--json",
    )  # fmt: skip
    rows = skylake.open(own)[f"x{name}"].pandas()
    assert answer.json["n_rows"] == len(rows)
    left, right, apart = separations
    n_nearest = 3 if "--n-nearest" in options else 1
    ids, nearest_left = right.ref_id.to_numpy(), np.argmin(apart, axis=0)
    order = np.argsort(apart, axis=1)[:, :n_nearest]
    wanted = set()
    for i, key in enumerate(zip(left.frame_id, left.source_no, strict=True)):
        near = [
            j for j in order[i] if apart[i, j] <= 60 and (nearest_left[j] == i or "--mutual" not in options)
        ]
        wanted |= {(*key, ids[j], number) for number, j in enumerate(near, 1)}
        if not near and "left" in options:
            wanted.add((*key, 0, 0))
    found = rows.fillna({"ref_id": 0, "match_no": 0})[["frame_id", "source_no", "ref_id", "match_no"]]
    assert len(found) == len(wanted) > 20
    assert set(found.astype(int).itertuples(index=False, name=None)) == wanted
    matched = rows.dropna(subset=["ref_id"])
    stars = {star: row for row, star in enumerate(ids)}
    at = [stars[star] for star in matched.ref_id]
    ours = {key: row for row, key in enumerate(zip(left.frame_id, left.source_no, strict=True))}
    of = [ours[key] for key in zip(matched.frame_id, matched.source_no, strict=True)]
    np.testing.assert_allclose(matched.match_arcsec, apart[of, at], atol=1e-6)
    np.testing.assert_allclose(matched.ra_deg_right, right.ra_deg.to_numpy()[at])


def test_the_table_is_one_of_the_lake(own: Path, well: Run, skylake_command: Run) -> None:
    command = ("crossmatch", own, "lightcurves", "catalogs.simcat", "-o", "bright", "--radius", 5)
    first = well(*command, "--right-columns", "mag_V", "--json").json
    assert first["made"] and first["n_rows"] > 20
    again = well(*command, "--right-columns", "mag_V", "--json").json
    assert (again["made"], again["snapshot"]) == (False, first["snapshot"])
    # It can be matched itself, with a catalog by its path.
    path = own / "catalogs" / "simcat"
    other = well(
        "crossmatch", own, "bright", path, "-o", "twice", "--left-columns", "object_id", "--how", "left",
        "--suffixes", "_l", "_r", "--json",
    ).json  # fmt: skip
    assert other["n_rows"] == first["n_rows"]
    query = "SELECT count(*) AS n, max(match_arcsec) AS far, count(DISTINCT object_id) AS stars FROM bright"
    (row,) = well("sql", own, query, "--format", "json").json
    assert row["n"] == first["n_rows"] and row["far"] <= 5
    assert "bright" in well("status", own).out
    assert well("verify", own, "--deep", "--json").status == 0
    well("aggregate", own)
    table = skylake.open(own).tables["twice"]
    assert table.units["match_arcsec"] == "arcsec" and "ra_deg_l" in table.columns
    assert len(table.lsdb().compute()) == len(table)
    # Another match needs --replace; older snapshots keep the one before.
    changed = (*command[:-1], 1, "--right-columns", "mag_V,mag_B")
    assert "--replace" in skylake_command(*changed).sentence
    well(*changed, "--replace")
    then = skylake.open(own, as_of=first["snapshot"])
    assert "mag_B" in skylake.open(own)["bright"].columns and "mag_B" not in then["bright"].columns
    assert len(then["bright"].arrow()) == first["n_rows"]
    well("vacuum", own, "--keep", 1)
    assert len(skylake.open(own)["bright"].arrow()) == len(skylake.open(own)["bright"])


def test_a_small_match_waits_for_no_workers(own: Path) -> None:
    """They would start with their first task, which takes seconds."""
    few = Distributed(lambda: pytest.fail("workers were started"), 2)
    request = MatchRequest("sources", "simcat", Neighbours(radius_arcsec=20.0))
    assert crossmatch_tables.crossmatch(Lake(own), "at_once", request, few).n_rows > 20


@pytest.mark.slow
def test_workers_make_the_same_table(own: Path, well: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("crossmatch", own, "sources", "simcat", "--radius", 20, "--mutual")
    well(*command, "-o", "here", "--cluster", "inline")
    monkeypatch.setattr(crossmatch_tables, "_FEW_ROWS", 0)
    well(*command, "-o", "there", "--cluster", "local", "--workers", 2)
    here, there = (skylake.open(own)[name].arrow() for name in ("here", "there"))
    assert here.num_rows > 20 and here.equals(there)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sources", "nothing"), "there is no 'nothing'; name one of sources"),
        (("frames", "simcat"), "frames have no positions"),
        (("sources", "simcat", "--right-columns", "W1"), "has no column 'W1'"),
        (("sources", "simcat", "--mutual", "--n-nearest", 2), "--mutual gives one match"),
        (("sources", "simcat", "--suffixes", "", ""), "two columns of the result are called"),
        (("sources", "simcat", "-o", "frames"), "'frames' is taken"),
        (("sources", "simcat", "-o", "calibrated_sources"), "that of a view"),
        (("sources", "simcat", "-o", "my table"), "no name of a table"),
    ],
)
def test_what_cannot_be_matched(
    arguments: tuple[Any, ...], words: str, own: Path, skylake_command: Run
) -> None:
    name = () if "-o" in arguments else ("-o", "x")
    assert words in skylake_command("crossmatch", own, *arguments, *name).sentence


def test_tables_that_do_not_meet(own: Path, well: Run) -> None:
    made = well("crossmatch", own, "sources", "simcat", "-o", "none", "--radius", 1e-5, "--json").json
    assert made["n_rows"] == 0
    assert len(skylake.open(own)["none"].pandas()) == 0


@pytest.mark.parametrize("suffix", ["csv", "ecsv", "fits", "vot", "parquet"])
def test_a_file_of_the_user_is_matched_as_it_is(suffix: str, own: Path, tmp_path: Path, well: Run) -> None:
    opened = skylake.open(own)
    stars = opened.sql("SELECT ra_deg, dec_deg, ref_id FROM catalogs.simcat ORDER BY ref_id").pandas()
    mine = Table(
        {
            "RAJ2000": Column(stars.ra_deg, unit="deg"),
            "DEJ2000": Column(stars.dec_deg, unit="deg"),
            "number": np.arange(len(stars)),
            "period": Column(np.linspace(0.1, 0.9, len(stars)), unit="d"),
            "called": [f"V{k}" for k in range(len(stars))],
        }
    )
    path = tmp_path / f"own.{suffix}"
    mine.write(path, format={"csv": "ascii.csv", "ecsv": "ascii.ecsv", "vot": "votable"}.get(suffix, suffix))
    command = (
        "crossmatch",
        own,
        "simcat",
        path,
        "-o",
        f"mine_{suffix}",
        "--radius",
        1,
        "--left-columns",
        "ref_id",
    )
    assert well(*command, "--json").json["made"]
    found = opened_table(own, f"mine_{suffix}")
    assert found.ref_id.tolist() == stars.ref_id.tolist()
    assert (
        found.number.tolist() == mine["number"].tolist() and found.called.tolist() == mine["called"].tolist()
    )
    np.testing.assert_allclose(found.period, mine["period"])
    np.testing.assert_allclose(found.RAJ2000, stars.ra_deg, atol=1e-12)
    assert not well(*command, "--json").json["made"]


def opened_table(lake: Path, name: str) -> Any:
    return skylake.open(lake)[name].pandas().sort_values("ref_id")


def test_positions_of_a_file_are_known_by_ucds_and_in_any_unit(own: Path, tmp_path: Path, well: Run) -> None:
    stars = (
        skylake.open(own).sql("SELECT ra_deg, dec_deg, ref_id FROM catalogs.simcat ORDER BY ref_id").pandas()
    )
    ucds = {"alpha": "pos.eq.ra;meta.main", "delta": "pos.eq.dec;meta.main"}
    table = Table(
        {"alpha": np.radians(stars.ra_deg), "delta": np.radians(stars.dec_deg), "ra": stars.dec_deg}
    )
    for name, ucd in ucds.items():
        table[name].unit, table[name].meta["ucd"] = "rad", ucd
    table.write(tmp_path / "own.vot", format="votable")
    well("crossmatch", own, tmp_path / "own.vot", "simcat", "-o", "by_ucd", "--radius", 0.1)
    assert opened_table(own, "by_ucd").ref_id.tolist() == stars.ref_id.tolist()


def test_a_file_that_cannot_be_matched(own: Path, tmp_path: Path, skylake_command: Run) -> None:
    path = tmp_path / "own.csv"
    for text, sentence in (
        ("x,y\n1,2\n", "no columns of x, y are positions; call two of them ra and dec"),
        ("ra,dec\n", "the table has no rows"),
        ("ra,dec\n1,north\n", "the column 'dec' holds 'north', neither a number nor an angle"),
    ):
        path.write_text(text)
        answer = skylake_command("crossmatch", own, "simcat", path, "-o", "none")
        assert answer.status in (2, 3) and sentence in answer.sentence
