"""A field is exported as each of its stars is alone, and no measurement twice."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from overlap_rows import EAST, WEST, Overlap

from skylake.reading.lightcurves import points_table
from skylake.report.curves import curve_at, curve_named
from skylake.report.stars.chosen_points import PointChoice
from skylake.report.stars.field_export import field_points, star_tables
from skylake.sky.sky_region import SkyRegion

CHOICES = (PointChoice(), PointChoice(width_d=0.05), PointChoice(width_d=0.05, period_d=0.13))
REGION = SkyRegion.of_cone(10.03, 5.0, 0.2)


def exported(overlap: Overlap, choice: PointChoice, measured: str | None = None) -> pa.Table:
    pieces = field_points(overlap.lake.snapshot(), REGION, measured, "calibrated")  # type: ignore[arg-type]
    return pa.concat_tables([star_tables(piece, choice) for piece in pieces], promote_options="permissive")


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("measured", [None, "detected", "forced"])
def test_each_star_is_as_it_is_alone(overlap: Overlap, measured: str | None, choice: PointChoice) -> None:
    table = exported(overlap, choice, measured)
    stars = sorted(set(zip(table["catalog"].to_pylist(), table["object_id"].to_pylist(), strict=True)))
    assert len(stars) == {None: 7, "detected": 4, "forced": 3}[measured]
    for catalog, star in stars:
        curve = curve_named(overlap.lake.snapshot(), f"{catalog}:{star}", measured)  # type: ignore[arg-type]
        alone = choice.table(points_table(curve))
        mine = table.filter(pc.and_(pc.equal(table["catalog"], catalog), pc.equal(table["object_id"], star)))
        assert set(mine["measured"].to_pylist()) == {curve["measured"]}
        assert set(mine["ra_deg"].to_pylist()) == {curve["ra_deg"]}
        for name in set(alone.column_names) & set(mine.column_names):
            assert mine[name].to_pylist() == alone[name].to_pylist(), (star, name)


def test_no_measurement_of_a_star_that_two_cameras_see_comes_twice(overlap: Overlap) -> None:
    table = exported(overlap, PointChoice()).to_pandas()
    here = table[np.abs(table.ra_deg - overlap.ra["new_target"]) < 0.001]
    assert here.groupby("measured").camera.unique().map(list).to_dict() == {
        "forced": ["east"], "detected": ["west"],
    }  # fmt: skip
    assert here.frame_id.is_unique and set(here.frame_id) == {*EAST.frame_id, *WEST.frame_id}
    assert set(here.object_id[here.measured == "detected"]) == {overlap.ids["new_target west"]}
    new = table[np.abs(table.ra_deg - overlap.ra["new"]) < 0.001]
    assert new.frame_id.is_unique and set(new.frame_id) == {*EAST.frame_id, *WEST.frame_id}
    assert new.object_id.nunique() == 1


def test_a_point_without_a_zeropoint_changes_no_other_star(overlap: Overlap) -> None:
    choice = PointChoice(width_d=0.05)
    (piece,) = field_points(overlap.lake.snapshot(), REGION, "forced", "calibrated")
    is_faint = np.asarray(piece["object_id"]) == overlap.ids["faint"]
    faint, others = piece.filter(pa.array(is_faint)), piece.filter(pa.array(~is_faint))
    lacking = np.flatnonzero(~is_faint)[3]
    at = np.arange(piece.num_rows) != lacking
    for name in ("zp", "flux", "mag"):
        place = piece.schema.get_field_index(name)
        held = pc.if_else(pa.array(at), piece[name], None)
        piece = piece.set_column(place, piece.schema.field(place), held)
    made = star_tables(piece, choice)
    mine = made.filter(pc.equal(made["object_id"], overlap.ids["faint"]))
    alone = star_tables(faint, choice)
    assert mine.equals(alone) and sum(alone["n_points"].to_pylist()) == len(EAST.frame_id)
    assert (faint["flux"].to_numpy() < 0).any()
    rest = made.filter(pc.not_equal(made["object_id"], overlap.ids["faint"]))
    assert sum(rest["n_points"].to_pylist()) == others.num_rows - 1


def test_a_position_leads_to_the_target_of_one_camera(overlap: Overlap) -> None:
    snapshot = overlap.lake.snapshot()
    for off in (0.0, 4.0 / 3600.0):
        found = curve_at(snapshot, overlap.ra["new_target"], overlap.dec + off)
        assert (found["catalog"], found["object_id"]) == ("detections", overlap.ids["new_target"])
    both = curve_at(snapshot, overlap.ra["new_target"], overlap.dec, measured="detected")
    assert {point["camera"] for point in both["points"]} == {"east", "west"}
