"""``skylake lc``, ``periods`` and ``detrend`` of a camera whose frames no catalog places."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from unplaced_rows import FRAMES_PER_NIGHT, N_NIGHTS, PERIOD_D, PROFILE, Unplaced

import skylake

pytestmark = pytest.mark.full
Run = Callable[..., Any]
NOTE = "light curves are relative to the stars of each field, as no catalog places the frames"


@pytest.fixture(scope="module")
def root(unplaced: Unplaced, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the lake that tests of this file write to."""
    copy = tmp_path_factory.mktemp("relative") / "lake"
    return Path(shutil.copytree(unplaced.lake.root, copy, symlinks=True))


@pytest.fixture(scope="module")
def star(root: Path) -> dict[str, Any]:
    """A bright star that is on all frames."""
    query = f"""SELECT any_value(ra_deg) AS ra, any_value(dec_deg) AS dec, median(mag) AS mag
        FROM relative_lightcurve_points WHERE mag IS NOT NULL AND flags = 512 GROUP BY star_no
        HAVING count(*) = {N_NIGHTS * FRAMES_PER_NIGHT} ORDER BY mag LIMIT 1"""
    found: dict[str, Any] = skylake.open(root).sql(query).pandas().to_dict("records")[0]
    return found


def test_a_star_has_a_relative_curve_that_says_so(
    root: Path, star: dict[str, Any], tmp_path: Path, well: Run
) -> None:
    place = (star["ra"], star["dec"])
    answer = well("lc", root, *place)
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert NOTE in answer.err and len(rows) == N_NIGHTS * FRAMES_PER_NIGHT
    assert np.median([float(row["mag"]) for row in rows]) == pytest.approx(star["mag"], abs=1e-6)
    number = answer.err.split()[1]
    assert well("lc", root, number).out == answer.out
    assert well("lc", root, *place, "--measured", "relative", "--camera", "narrow").out == answer.out
    out = tmp_path / "star.ecsv"
    well("lc", root, number, "--bin", "1d", "-o", out)
    assert (
        Table.read(out).meta["relative_to"] == "the stars of its field" and len(Table.read(out)) == N_NIGHTS
    )
    for form, delimiter in (("etd", None), ("exotic", ",")):
        text = well("lc", root, number, "--format", form).out
        assert text.splitlines()[0].count("magnitudes relative to the stars of its field") == 1
        assert len(np.loadtxt(io.StringIO(text), delimiter=delimiter)) == len(rows)
    picture = well("lc", root, number, "--detrend", "ensemble", "--plot", tmp_path / "star.png")
    assert "ensemble magnitudes, with" in picture.err and (tmp_path / "star.png").stat().st_size > 10_000
    curve = skylake.open(root).lightcurve(*place)
    assert (curve.measured, len(curve)) == ("relative", len(rows))


def test_many_stars_are_exported_with_the_same_note(
    root: Path, star: dict[str, Any], tmp_path: Path, well: Run
) -> None:
    out = tmp_path / "field.csv"
    answer = well("lc", root, "--all", "--cone", f"{star['ra']},{star['dec']},700", "-o", out)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert answer.err.count(NOTE) == 1 and {row["measured"] for row in rows} == {"relative"}
    stars = {row["object_id"] for row in rows}
    assert len(stars) > 20
    listed = well("lc", root, *stars)
    assert listed.err.count(NOTE) == 1 and len(listed.out.splitlines()) == len(rows) + 1


def test_periods_and_trends_are_those_of_relative_curves(root: Path, well: Run) -> None:
    made = well("detrend", root, "--templates", 0, "--effects", 0, "--json")
    assert NOTE in made.err and made.json["n_rows"] > 80
    for options in ((), ("--detrended", "detrended")):
        found = well("periods", root, "--all", "--max-period", "2d", "--replace", *options, "--json")
        assert NOTE in found.err and found.json["n_rows"] > 80
        query = "SELECT period_d FROM periods ORDER BY false_alarm LIMIT 1"
        (row,) = well("sql", root, query, "--format", "json").json
        assert row["period_d"] == pytest.approx(PERIOD_D, rel=0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--measured", "forced"), "all light curves are relative to the stars of their fields"),
        (("--measured", "detected"), "all light curves are relative to the stars of their fields"),
        (("--flux", "psf"), "in one flux and without a calibration; leave out --flux psf"),
        (("--version", "2"), "in one flux and without a calibration; leave out --version 2"),
        (("--format", "aavso", "--observer", "ABC", "--name", "X"), "the AAVSO wants calibrated magnitudes"),
    ],
)
def test_what_relative_curves_cannot_be_is_refused(
    options: tuple[str, ...], words: str, root: Path, star: dict[str, Any], skylake_command: Run
) -> None:
    answer = skylake_command("lc", root, star["ra"], star["dec"], *options)
    assert answer.status in (2, 3) and answer.out == ""
    assert words in answer.err.splitlines()[-1]


def test_where_nothing_is_placed_the_advice_helps(
    unplaced: Unplaced, new_lake: Path, tmp_path: Path, well: Run, skylake_command: Run
) -> None:
    profile, frames = tmp_path / "narrow.toml", sorted(unplaced.frames.iterdir())[:6]
    lines = PROFILE.splitlines(keepends=True)
    profile.write_text("".join(line for line in lines if not line.startswith("astrometry.")))
    skylake_command("ingest", new_lake, "--camera", profile, *frames)
    for command in (("lc", 12.0, -24.6), ("periods", "--all"), ("detrend",), ("statistics", "--all")):
        answer = skylake_command(command[0], new_lake, *command[1:])
        assert answer.status == 3
        assert "none of its 6 frames is good (no_wcs: 6); import a catalog" in answer.sentence
        assert "name the cards" in answer.sentence and "`skylake ingest --redo`" in answer.sentence
    profile.write_text(PROFILE)
    skylake_command("ingest", new_lake, "--camera", profile, "--redo", *frames)
    assert NOTE in well("statistics", new_lake, "--all").err
    refused = skylake_command("periods", new_lake, "--all", "--measured", "detected")
    assert refused.status == 3 and "leave out --measured" in refused.sentence


def test_beside_a_calibrated_camera_relative_curves_are_named_and_taken_when_asked_for(
    lake: Path,
    unplaced: Unplaced,
    tmp_path: Path,
    copy_lake: Callable[[Path, Path], Path],
    well: Run,
    skylake_command: Run,
) -> None:
    both = copy_lake(lake, tmp_path / "lake")
    frames = sorted(unplaced.frames.iterdir())[:6]
    skylake_command("ingest", both, "--camera", unplaced.profile, *frames)
    usual = well("statistics", both, "--all", "-o", "usual")
    assert "narrow left out: light curves are relative there (--measured relative" in usual.err
    assert NOTE not in usual.err
    for number, options in enumerate([("--measured", "relative"), ("--camera", "narrow")]):
        made = well("statistics", both, "--all", "-o", f"relative_{number}", *options)
        assert NOTE in made.err and "left out" not in made.err
        query = f"SELECT DISTINCT camera FROM relative_{number}"
        assert well("sql", both, query, "--format", "json").json == [{"camera": "narrow"}]
