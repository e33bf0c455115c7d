"""``skylake detrend``, ``periods`` and ``statistics`` as people use them, and ``skylake lc --detrend``."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from season_rows import STARS, Season

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def own(season: Season, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a lake that tests of this file write to."""
    root = tmp_path_factory.mktemp("jobs") / "lake"
    return Path(shutil.copytree(season.lake.root, root, symlinks=True))


def test_detrend_and_then_look_for_periods(own: Path, season: Season, well: Run) -> None:
    made = well("detrend", own, "--templates", 0, "--cone", "0,0,5000", "--json").json
    assert (made["table"], made["made"]) == ("detrended", True) and 20 < made["n_rows"] < STARS
    assert "up to date" in well("detrend", own, "--templates", 0, "--cone", "0,0,5000").out
    found = well("periods", own, "--all", "--detrended", "detrended", "--max-period", "5d", "--json").json
    assert found["n_rows"] == made["n_rows"]
    query = "SELECT object_id, period_d FROM periods ORDER BY false_alarm LIMIT 1"
    (row,) = well("sql", own, query, "--format", "json").json
    assert row["object_id"] == 1 and row["period_d"] == pytest.approx(season.wave_period, rel=0.01)
    assert "periods" in well("status", own).out
    made = well("statistics", own, "--cone", "0,0,5000", "--detrended", "detrended", "--json").json
    assert (made["table"], made["n_rows"]) == ("curve_statistics", found["n_rows"])
    query = "SELECT object_id FROM curve_statistics ORDER BY stetson_j DESC LIMIT 1"
    assert well("sql", own, query, "--format", "json").json == [{"object_id": 1}]
    for table in ("periods", "curve_statistics", "detrended"):
        well("forget", own, "--table", table, "--yes")


def test_one_star(own: Path, season: Season, well: Run, tmp_path: Path) -> None:
    folded = ("--period", season.box_period, "--epoch", 2460554.7, "--duration", "3.36h")
    answer = well(
        "lc", own, 2, "--detrend", "joint", *folded, "--format", "csv", "--plot", tmp_path / "star.png"
    )
    assert "joint magnitudes, with" in answer.err and "a dip of 3.4 h every 1.3 d" in answer.err
    wave = well("lc", own, 1, "--detrend", "joint", "--period", season.wave_period).err
    assert f"a wave of {season.wave_period} d, from brightest to faintest" in wave
    few = well("lc", own, 1, "--detrend", "joint", "--from", 20240901, "--to", 20240904).err
    assert "ensemble magnitudes" in few and "has 4 and 160; name a known signal by --period" in few
    answer = well("lc", own, 2, "--detrend", "joint", *folded)
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    mag, raw = (np.array([float(row[name]) for row in rows]) for name in ("mag", "mag_raw"))
    assert mag.std() < 0.6 * raw.std() and "phase" in rows[0]
    binned = well("lc", own, 2, "--detrend", "epd", *folded[:4], "--bin", "2h").out
    assert len(binned.splitlines()) < 20
    assert (tmp_path / "star.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("form", ["aavso", "etd", "exotic"])
def test_a_transit_that_is_fitted_with_the_trends_goes_to_databases_unfolded(
    own: Path, season: Season, well: Run, skylake_command: Run, form: str
) -> None:
    known = ("--period", season.box_period, "--epoch", 2460554.7)
    options = ("--name", "Xb", "--observer", "ABC", "--format", form)
    options += ("--check", "none") if form == "aavso" else ()
    joint = ("--detrend", "joint", *known, "--duration", "3.36h")
    table = list(csv.DictReader(io.StringIO(well("lc", own, 2, *joint).out)))
    text = well("lc", own, 2, *joint, *options).out
    rows = [re.split("[, ]+", line) for line in text.splitlines() if not line.startswith("#")]
    written = np.array([float(row[2 if form == "aavso" else 1]) for row in rows])
    written = -2.5 * np.log10(written) if form == "exotic" else written
    times = np.array([float(row[1 if form == "aavso" else 0]) for row in rows])
    assert len(rows) == len(table) and (np.diff(times) > 0).all()
    mag = np.array([float(row["mag"]) for row in table])
    np.testing.assert_allclose(written - np.median(written), mag - np.median(mag), atol=1e-3)
    for wrong, words in (
        ((*joint, "--bin", "1h"), "leave out --bin"),
        (("--detrend", "ensemble", *known), "leave out --period"),
        ((*known, "--bin", "1h"), "leave out --bin and --period"),
    ):
        assert skylake_command("lc", own, 2, *wrong, *options).sentence.endswith(
            f"single measurements; {words}"
        )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("periods",), "say which stars are taken"),
        (("periods", "--all", "--candidates"), "choose one of these: --candidates, --all, or"),
        (("periods", "--all", "--cone", "1,2,3"), "choose one of these: --candidates, --all, or"),
        (("statistics",), "say which stars are taken"),
        (("statistics", "--all", "--detrended", "x", "--flux", "aper1"), "leave out --flux"),
        (("periods", "--all", "--min-period", "3", "--max-period", "2"), "are no range"),
        (("periods", "--all", "--durations", "long"), "is no length of time"),
        (("detrend", "--flux", "psf"), "add --measured forced"),
        (("detrend", "--camera", "none"), "none"),
        (("periods", "--all", "--detrended", "x"), "`skylake detrend` makes one"),
        (("periods", "--all", "--detrended", "x", "--flux", "aper1"), "leave out --flux"),
        (("detrend", "--cone", "1,2"), "is no cone"),
        (("detrend", "-o", "frames"), "'frames' is taken"),
        (("detrend", "--measured", "forced", "-o", "x"), "forced_lightcurves is empty"),
        (("lc", "2", "--duration", "2h"), "add --detrend joint, --period, --epoch"),
        (("lc", "2", "--duration", "2h", "--detrend", "joint"), "of a transit; add --period, --epoch"),
        (("lc", "2", "--duration", "2h", "--detrend", "joint", "--period", "3"), "of a transit; add --epoch"),
        (
            ("lc", "--all", "--cone", "0,0,10", "--detrend", "epd", "-o", "x.csv"),
            "`skylake detrend` makes a table",
        ),
    ],
)
def test_what_cannot_be_done(own: Path, arguments: tuple[str, ...], words: str, skylake_command: Run) -> None:
    assert words in skylake_command(arguments[0], own, *arguments[1:]).sentence
