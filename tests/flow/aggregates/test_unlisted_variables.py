"""A variable star that the catalog lacks is found among constant ones that it lacks, and what follows takes it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from archive.make_archive import make_archive
from archive.scenario import ArchiveScenario

import skylake
from skylake.cameras import Profile
from skylake.core.sphere import separation_deg
from skylake.flow.aggregates import aggregate
from skylake.flow.curves.curve_tables import CurveTableReport
from skylake.flow.curves.describe_curves import describe_curves
from skylake.flow.curves.field_blocks import CurveSource
from skylake.flow.curves.find_periods import PeriodSearch, find_periods
from skylake.flow.execution.cluster import Inline
from skylake.lake import Commit, Lake, Part, stage_part
from skylake.settings import Settings
from skylake.simulate import ScheduleParams, StarParams
from skylake.simulate.scenario import SpecialParams
from skylake.sky.sky_region import SkyRegion

DETECTED = CurveSource("detected")
PERIOD, AMPLITUDE = 0.6137, 0.25


@dataclass(frozen=True, slots=True)
class Sky:
    """A lake, how many stars the catalog lacks, and the place of the one among them that varies."""

    lake: Lake
    n_missing: int
    ra_deg: float
    dec_deg: float


@pytest.fixture(scope="module")
def sky(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Sky:
    """Six nights of a field of constant stars, of which a catalog has two thirds, and a variable star."""
    scenario = ArchiveScenario(
        seed=4, camera=profile.source, nights=6, frames_per_night=15, schedule=ScheduleParams(fields=1),
        stars=StarParams(per_frame=150.0, variable_fraction=0.0),
        specials=SpecialParams(variables=False, transient=False),
    )  # fmt: skip
    lake = Lake.create(tmp_path_factory.mktemp("sky") / "lake", Settings(cluster="inline", pixel_order=1))
    make_archive(lake, scenario, Inline())
    matches = lake.snapshot().read(
        "matches", ["frame_id", "source_no", "ref_id", "ra_deg", "dec_deg", "crowding"]
    )
    rows = matches.to_pandas()
    counts = rows.groupby("ref_id").agg(n=("frame_id", "size"), blend=("crowding", "max"))
    # The brightest have neighbours and nights of their own, which is another question.
    stars = counts.index[counts.blend < 0.01][20:]
    missing = pa.array([*stars[::3], *counts.index[counts.n < 40][::2]], pa.int64())
    variable = next(star for star in stars[::3] if counts.n[star] == counts.n.max())
    mine = rows[rows.ref_id == variable]
    leave_out(lake, missing, set(zip(mine.frame_id, mine.source_no, strict=True)))
    aggregate(lake, ["clusters", "lightcurves", "star_statistics", "objects"], Inline())
    return Sky(lake, len(set(missing.to_pylist())), mine.ra_deg.iloc[0], mine.dec_deg.iloc[0])


def leave_out(lake: Lake, missing: pa.Array, varying: set[tuple[int, int]]) -> None:
    """Take the matches of some stars away, and let the flux of some detections vary."""
    snapshot = lake.snapshot()
    commit = Commit("test", "-")
    with lake.stage("test") as staging:
        for name, part in snapshot.parts("matches").items():
            rows = snapshot.read_part("matches", name)
            put(lake, commit, part, rows.filter(pc.invert(pc.is_in(rows["ref_id"], missing))), staging)
        for name, part in snapshot.parts("sources").items():
            rows = snapshot.read_part("sources", name)
            put(lake, commit, part, varied(rows, varying), staging)
        lake.commit(commit)


def put(lake: Lake, commit: Commit, part: Part, rows: pa.Table, staging: object) -> None:
    commit.replace(
        stage_part(
            rows,
            part.table,
            part.name,
            staging,
            lake.tree_of(part.table),
            part.camera,
            part.night,
            part.inputs,
        ),
        staging,
    )


def varied(rows: pa.Table, varying: set[tuple[int, int]]) -> pa.Table:
    """Return detections of which some have the flux of a sinusoid."""
    keys = zip(rows["frame_id"].to_pylist(), rows["source_no"].to_pylist(), strict=True)
    change = AMPLITUDE * np.sin(2 * np.pi * rows["mjd_mid"].to_numpy() / PERIOD)
    factor = np.where([key in varying for key in keys], 10 ** (-0.4 * change), 1.0)
    for name in ("flux_aper1", "flux_aper2", "flux_aper3", "flux_kron"):
        place = rows.schema.get_field_index(name)
        values = pa.array((rows[name].to_numpy() * factor).astype(np.float32), from_pandas=True)
        rows = rows.set_column(place, rows.schema.field(place), values)
    return rows


def test_the_variable_is_found_alone(sky: Sky) -> None:
    with sky.lake.snapshot().duckdb() as connection:
        judged = "SELECT count(*) FROM star_variability WHERE catalog = 'sources' AND n_good >= 5"
        ((n_judged,),) = connection.sql(judged).fetchall()
        found = connection.sql("FROM candidates WHERE kind = 'variable'").to_arrow_table().to_pylist()
        unlisted = (
            connection.sql("FROM star_variability WHERE catalog = 'sources'").to_arrow_table().to_pylist()
        )
    assert 20 < n_judged <= sky.n_missing
    (variable,) = (row for row in found if row["catalog"] == "sources")
    assert separation_deg(variable["ra_deg"], variable["dec_deg"], sky.ra_deg, sky.dec_deg) * 3600.0 < 1.0
    assert variable["noise_excess"] == pytest.approx(AMPLITUDE / np.sqrt(2), rel=0.2)
    assert variable["n_judged"] > 60 and variable["false_alarm"] < 1e-7
    # What objects have of their nights is what their light curves show.
    curve = (
        skylake.open(sky.lake.root).lightcurve(variable["object_id"], flux="calibrated").arrow().to_pandas()
    )
    mag, weight = curve.mag.to_numpy(), curve.mag_random_err.to_numpy() ** -2
    mean = np.average(mag, weights=weight)
    assert variable["mag_mean"] == pytest.approx(mean, abs=1e-4)
    assert variable["chi2"] == pytest.approx(np.sum(weight * (mag - mean) ** 2) / (len(mag) - 1), rel=1e-3)
    assert variable["mag_random_err"] == pytest.approx(np.sqrt(len(mag) / weight.sum()), rel=1e-3)
    quiet = [row["chi2"] for row in unlisted if row["n_good"] >= 20 and row is not variable]
    assert 0.7 < np.median(quiet) < 1.5


def test_commands_take_it(sky: Sky) -> None:
    lake = sky.lake
    made = find_periods(lake, "periods", DETECTED, None, PeriodSearch(), Inline())
    rows = skylake.open(lake.root)["periods"].pandas()
    (one,) = rows[rows.catalog == "sources"].to_dict("records")
    cycles = 1 / one["period_d"] - 1 / PERIOD
    assert abs(cycles - round(cycles)) < 0.03 and one["false_alarm"] < 1e-10 and made.n_rows == len(rows)
    assert (
        statistics(lake, "all_stars").n_rows > statistics(lake, "of_candidates", None).n_rows == made.n_rows
    )
    rows = skylake.open(lake.root)["all_stars"].pandas()
    objects = skylake.open(lake.root).objects(matched=False).pandas().set_index("object_id")
    unlisted = rows[rows.catalog == "sources"].set_index("object_id")
    assert len(unlisted) > 20 and set(unlisted.index) <= set(objects.index)
    assert set(objects.index[objects.n_good >= 5]) <= set(unlisted.index)
    clean = unlisted.index[objects.n_blended[unlisted.index] == 0]
    np.testing.assert_allclose(unlisted.mag_mean[clean], objects.mag_mean[clean], atol=0.02)


def statistics(lake: Lake, name: str, region: SkyRegion | None = SkyRegion.whole()) -> CurveTableReport:  # noqa: B008
    return describe_curves(lake, name, DETECTED, region, Inline())


def test_a_new_object_makes_tables_anew(sky: Sky) -> None:
    lake = sky.lake
    assert not statistics(lake, "all_stars").made
    name, part = next(iter(lake.snapshot().parts("sources").items()))
    rows = lake.snapshot().read_part("sources", name)
    commit = Commit("test", "-")
    with lake.stage("test") as staging:
        put(lake, commit, part, rows.slice(0, rows.num_rows - 1), staging)
        lake.commit(commit)
    aggregate(lake, ["clusters", "objects"], Inline())
    assert statistics(lake, "all_stars").made
