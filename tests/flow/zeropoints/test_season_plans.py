"""When star magnitudes are solved for, from which nights, and which nights are calibrated with them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skylake import cameras
from skylake.core.flags import FrameFlag
from skylake.errors import Superseded
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibrate_nights import Choice, calibrate, plan_calibration, plan_solutions
from skylake.flow.zeropoints.calibrated_nights import Method
from skylake.flow.zeropoints.season_plans import SeasonPlan, plan_seasons
from skylake.flow.zeropoints.solve_season import solve_planned
from skylake.flow.zeropoints.star_solutions import bands_of_nights
from skylake.lake import Lake
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

pytestmark = pytest.mark.xdist_group("lsdb")


@pytest.fixture(scope="module")
def solved(empty_field: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three nights, calibrated with star magnitudes."""
    drift = empty_field(tmp_path_factory.mktemp("solved"))
    for number in range(3):
        drift.add_night(number, n_frames=15)
    calibrate(drift.lake, Inline())
    return drift


@pytest.fixture
def season(solved: Any, tmp_path: Path) -> Any:
    """A copy, to be changed."""
    return replace(solved, lake=Lake(shutil.copytree(solved.lake.root, tmp_path / "lake", symlinks=True)))


class Told(Silent):
    """Keeps the lines of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def methods(drift: Any, night: int) -> set[tuple[int, str, int | None]]:
    """Version, method and version of the star magnitudes of the frames of a night."""
    columns = ["version", "method", "reference_version"]
    rows = drift.lake.snapshot().read("zeropoints", columns, lambda part: part.night == night)
    return {tuple(row.values()) for row in rows.to_pylist()}


def the_plan(drift: Any) -> SeasonPlan:
    snapshot = drift.lake.snapshot()
    reference = ReferenceCatalog.open(snapshot.catalog("drifters"))
    (plan,) = plan_seasons(snapshot, drift.profile, reference)
    return plan


def with_other_stars(drift: Any, step: Callable[[int], int]) -> Any:
    """Return a field whose matches are with other stars; `step` is what is added to their numbers on a frame."""

    class OtherField(type(drift)):  # type: ignore[misc]
        def match_rows(self, frame_id: int, *others: Any) -> pa.Table:
            rows = super().match_rows(frame_id, *others)
            column = rows.schema.get_field_index("ref_id")
            stars = pa.array(rows["ref_id"].to_numpy() + step(frame_id), pa.int64())
            return rows.set_column(column, rows.schema.field(column), stars)

    return OtherField(**vars(drift))


def import_in_another_order(drift: Any, path: Path) -> None:
    order = np.random.default_rng(5).permutation(len(drift.mag))
    for name in ("mag", "colour", "ra", "dec", "ref_mag"):
        setattr(drift, name, getattr(drift, name)[order])
    rows = {
        "id": np.arange(len(order)),
        "ra": drift.ra,
        "dec": drift.dec,
        "V": drift.ref_mag,
        "B-V": drift.colour,
    }
    pq.write_table(pa.table(rows), path)
    columns = CatalogColumns(ra="ra", dec="dec", id="id", magnitudes={"V": "V"}, colours={"B-V": "B-V"})
    import_catalog(drift.lake, "drifters", "table", [path], columns, replace=True)


def test_stars_of_another_numbering_are_not_mixed(season: Any, tmp_path: Path) -> None:
    import_in_another_order(season, tmp_path / "stars.parquet")
    season.add_night(4, n_frames=20)
    told = Told()
    report = calibrate(season.lake, Inline(), choice=Choice(first_night=20240405), progress=told)
    assert report.solved == [] and methods(season, 20240405) == {(1, "frame", None)}
    (line,) = [line for line in told.lines if line.startswith("solve drift V")]
    assert line.endswith("run `skylake calibrate` without --from and --to")
    off = [
        row["zp"] - season.zp[row["frame_id"]]
        for row in season.lake.snapshot().read("zeropoints").to_pylist()
        if row["night"] == 20240405
    ]
    assert abs(np.median(off)) < 0.06 and np.std(off) < 0.02


def test_a_trial_of_one_night_leaves_the_others_as_they_are(season: Any) -> None:
    one = {"first_night": 20240402, "last_night": 20240402}
    calibrate(season.lake, Inline(), choice=Choice(version=2, method=Method.FRAME, **one))
    assert plan_calibration(season.lake, Choice()) == [] and calibrate(season.lake, Inline()).batches == []
    season.add_night(3, n_frames=5)
    (batch,) = calibrate(season.lake, Inline()).batches
    assert (batch["night"], batch["version"]) == (20240404, 1)
    assert methods(season, 20240404) == methods(season, 20240401) == {(1, "global", 1)}
    assert methods(season, 20240402) == {(1, "global", 1), (2, "frame", None)}


def test_a_dry_run_names_the_nights_that_a_new_solution_makes_anew(season: Any) -> None:
    assert plan_solutions(season.lake, Choice()) == []
    (plan,) = plan_solutions(season.lake, Choice(method=Method.GLOBAL))
    assert plan.key.version == 2
    season.add_night(3, n_frames=20)
    planned = plan_calibration(season.lake, Choice())
    assert [night.why_zeropoints for night in planned] == [Why.STAR_MAGNITUDES] * 3 + [Why.NEW]
    made = calibrate(season.lake, Inline()).batches
    assert sorted(batch["night"] for batch in made) == [night.night for night in planned]


@pytest.mark.slow
def test_one_night_of_a_new_field_is_solved_however_many_others_there_are(season: Any) -> None:
    for number in range(3, 6):
        season.add_night(number, n_frames=20)
    calibrate(season.lake, Inline(), choice=Choice(method=Method.GLOBAL))
    other = with_other_stars(season, lambda _: 5000)
    other.add_night(8, n_frames=12)
    assert calibrate(season.lake, Inline()).solved == []
    assert methods(season, 20240409) == {(1, "frame", None)} and the_plan(season).fresh == ()
    # Neither is a quarter of the frames, and only together do their stars repeat.
    other.add_night(9, n_frames=12)
    assert [night.night for night in the_plan(season).fresh] == [20240410]
    (report,) = calibrate(season.lake, Inline()).solved
    assert report.version == 3 and methods(season, 20240409) == methods(season, 20240410) == {
        (1, "global", 3)
    }
    assert plan_calibration(season.lake, Choice()) == []


def test_nights_without_repeats_are_looked_at_once(
    empty_field: Callable[[Path], Any], tmp_path: Path
) -> None:
    drift = with_other_stars(empty_field(tmp_path), lambda frame_id: 1000 * frame_id)
    for number in range(3):
        drift.add_night(number, n_frames=10)
        assert [night.night for night in the_plan(drift).fresh] == [20240401 + number]
        assert calibrate(drift.lake, Inline()).solved == []
    assert the_plan(drift).fresh == ()
    drift.lake.layout.repeat_memory("drift").unlink()
    assert len(the_plan(drift).fresh) == 3


def test_a_solution_from_what_another_run_has_changed_is_refused(season: Any) -> None:
    snapshot = season.lake.snapshot()
    reference = ReferenceCatalog.open(snapshot.catalog("drifters"))
    (plan,) = plan_seasons(snapshot, season.profile, reference, is_forced=True)
    calibrate(season.lake, Inline(), choice=Choice(method=Method.GLOBAL))
    with pytest.raises(Superseded):
        solve_planned(season.lake, snapshot, plan, season.profile, Inline(), Silent())


def test_the_band_of_a_frame_follows_the_assumed_filter(
    empty_field: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drift = empty_field(tmp_path)
    drift.add_night(0, n_frames=2)
    path = Path(drift.profile.source)
    path.write_text(
        path.read_text().replace('default_filter = "V"', 'default_filter = "R"') + '[filters.R]\nband = "R"\n'
    )
    profile = cameras.load(path)
    assert bands_of_nights(drift.lake.snapshot(), {"drift": profile}) == {("drift", 20240401): {"V": 2}}
    assumed = {"flags": int(FrameFlag.FILTER_ASSUMED)}
    module = sys.modules[type(drift).__module__]
    plain = module.frame_row
    monkeypatch.setattr(module, "frame_row", lambda *of: plain(*of) | assumed)
    drift.add_night(1, n_frames=3)
    found = bands_of_nights(drift.lake.snapshot(), {"drift": profile})
    assert found[("drift", 20240402)] == {"R": 3}
