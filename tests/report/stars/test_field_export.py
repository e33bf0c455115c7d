"""A field is exported as each of its stars is alone, and no measurement twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from overlap_rows import EAST, WEST, Overlap

from skylake.core.flags import SourceFlag
from skylake.lake.access.matched_curves import matched_curves
from skylake.reading.lightcurves import points_table
from skylake.report.curve_fluxes import FluxChoice, best_of_detections
from skylake.report.curves import curve_at, curve_named
from skylake.report.stars.chosen_points import PointChoice
from skylake.report.stars.field_export import field_points, star_tables
from skylake.report.stars.star_curves import CurveChoice, detected_elsewhere, listed_curve
from skylake.report.stars.star_list import ListedStar
from skylake.sky.sky_region import SkyRegion

CHOICES = (PointChoice(), PointChoice(width_d=0.05), PointChoice(width_d=0.05, period_d=0.13))
REGION = SkyRegion.of_cone(10.03, 5.0, 0.2)


def exported(
    overlap: Overlap, choice: PointChoice, measured: Any = None, flux: FluxChoice = "calibrated"
) -> pa.Table:
    pieces = field_points(overlap.lake.snapshot(), REGION, measured, flux)
    tables = [star_tables(piece, choice)[0] for piece in pieces]
    return pa.concat_tables(tables, promote_options="permissive")


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize(
    ("measured", "flux"),
    [
        (None, "best"),
        (None, "calibrated"),
        ("detected", "best"),
        ("detected", "calibrated"),
        ("forced", "best"),
    ],
)
def test_each_star_is_as_it_is_alone(
    overlap: Overlap, measured: Any, flux: FluxChoice, choice: PointChoice
) -> None:
    table = exported(overlap, choice, measured, flux)
    stars = sorted(set(zip(table["catalog"].to_pylist(), table["object_id"].to_pylist(), strict=True)))
    assert len(stars) == {None: 7, "detected": 4, "forced": 3}[measured]
    for catalog, star in stars:
        curve = curve_named(overlap.lake.snapshot(), f"{catalog}:{star}", measured, flux)
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


def test_a_star_without_its_best_flux_on_a_frame_changes_no_other(overlap: Overlap) -> None:
    """The fit of `target` is lost on one frame, and failed of `faint` on all, so this is in the calibrated flux."""
    table = exported(overlap, PointChoice(width_d=0.05), "forced", "best")
    n_points = {star: table.filter(pc.equal(table["object_id"], star))["n_points"] for star in (2, 3)}
    n_frames = len(EAST.frame_id)
    assert {star: pc.sum(one).as_py() for star, one in n_points.items()} == {2: n_frames - 1, 3: n_frames}
    faint = curve_named(overlap.lake.snapshot(), "apass:3", flux="best")
    assert "flux_used" not in faint["bands"][0]
    assert min(point["flux"] for point in faint["points"]) < 0
    target = curve_named(overlap.lake.snapshot(), "apass:2", flux="best")
    assert target["bands"][0]["flux_used"] == "psf"
    assert [point["zp"] is None for point in target["points"]].count(True) == 1


def test_detections_come_in_the_best_aperture_of_their_camera(overlap: Overlap) -> None:
    snapshot = overlap.lake.snapshot()
    best, named, usual = (
        curve_named(snapshot, "apass:1", flux=one) for one in ("best", "aper1", "calibrated")
    )
    assert best["points"] == named["points"] and best["bands"][0]["flux_used"] == "aper1"
    assert best["points"][0]["flux"] == pytest.approx(1.01 * usual["points"][0]["flux"], rel=1e-6)
    of_west = curve_named(snapshot, "refcat2:1", flux="best")
    assert of_west == curve_named(snapshot, "refcat2:1") and "flux_used" not in of_west["bands"][0]
    # In the bands of both cameras, from detections that no catalog has.
    new = curve_at(snapshot, overlap.ra["new"], overlap.dec, flux="best")
    used = {band["band"]: band.get("flux_used") for band in new["bands"]}
    assert used == {"V": "aper1", "R": None}


def test_cameras_that_share_a_curve_have_one_aperture_only_if_it_is_best_of_each(overlap: Overlap) -> None:
    snapshot = overlap.lake.snapshot()
    rows = snapshot.read("lightcurves", where=lambda part: part.camera == "east")

    def in_flux(rows: pa.Table, name: str) -> pa.Table:
        return matched_curves(snapshot, rows, name)

    assert best_of_detections(snapshot, rows, in_flux)[1] == ["aper1"]
    # Frames that lack the best aperture leave the calibrated flux.
    assert best_of_detections(snapshot, rows, lambda some, _: some.slice(0, 0)) == (rows, [None])
    nested = rows["lightcurve"].combine_chunks()
    lists = {one.name: nested.field(one.name) for one in nested.type}
    seen_by = pa.array(["east", "west"] * 6)
    lists["camera"] = pa.ListArray.from_arrays(lists["camera"].offsets, seen_by)
    place = rows.schema.get_field_index("lightcurve")
    shared = rows.set_column(
        place, "lightcurve", pa.StructArray.from_arrays(list(lists.values()), list(lists))
    )
    assert best_of_detections(snapshot, shared, in_flux) == (shared, [None])


def test_a_camera_of_which_the_star_is_no_target_has_its_detections(overlap: Overlap) -> None:
    snapshot = overlap.lake.snapshot()
    star = ListedStar("new", f"{overlap.ra['new_target']} {overlap.dec}")
    curve, _ = listed_curve(snapshot, star)
    assert (curve["measured"], {point["camera"] for point in curve["points"]}) == ("forced", {"east"})
    assert detected_elsewhere(snapshot, star, CurveChoice(), curve) == {"west": len(WEST.frame_id)}
    of_west, _ = listed_curve(snapshot, star, CurveChoice(camera="west"))
    assert of_west["measured"] == "detected" and "west" in {point["camera"] for point in of_west["points"]}
    of_east, _ = listed_curve(snapshot, star, CurveChoice(camera="east"))
    assert of_east == curve
    # `target` is seen by east alone, `faint` by none: the star near it is another one.
    for name in ("target", "faint"):
        alone = ListedStar(name, f"{overlap.ra[name]} {overlap.dec}")
        curve, _ = listed_curve(snapshot, alone)
        assert curve["object_id"] == overlap.ids[name]
        assert not detected_elsewhere(snapshot, alone, CurveChoice(), curve)
        assert listed_curve(snapshot, alone, CurveChoice(camera="west"))[0] == curve


def test_a_position_leads_to_the_target_of_one_camera(overlap: Overlap) -> None:
    snapshot = overlap.lake.snapshot()
    for off in (0.0, 4.0 / 3600.0):
        found = curve_at(snapshot, overlap.ra["new_target"], overlap.dec + off)
        assert (found["catalog"], found["object_id"]) == ("detections", overlap.ids["new_target"])
    both = curve_at(snapshot, overlap.ra["new_target"], overlap.dec, measured="detected")
    assert {point["camera"] for point in both["points"]} == {"east", "west"}


@pytest.mark.parametrize("choice", CHOICES)
def test_points_in_no_bin_are_counted_with_the_reason(overlap: Overlap, choice: PointChoice) -> None:
    (points, *_) = field_points(overlap.lake.snapshot(), REGION, "detected", "calibrated")
    flags = np.zeros(points.num_rows, np.int32)
    flags[:3], flags[3] = SourceFlag.EDGE, SourceFlag.SATURATED | SourceFlag.BLENDED
    place = points.schema.get_field_index("flags")
    points = points.set_column(place, points.schema.field(place), pa.array(flags))
    table, left_out = star_tables(points, choice)
    if choice.width_d is None:
        assert not left_out and table.num_rows == points.num_rows
    else:
        assert left_out == {"with the flag EDGE": 3, "with the flag SATURATED": 1}
        assert pc.sum(table["n_points"]).as_py() == points.num_rows - 4
