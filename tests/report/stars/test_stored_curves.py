from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from skylake.core.sphere import offset
from skylake.lake import Lake
from skylake.report.stars.stored_curves import _found_at, _is_star, _listed_at, nearest_curve, rows_of_star

pytestmark = pytest.mark.xdist_group("lsdb")


def stars(lake: Lake) -> list[dict[str, Any]]:
    return list(lake.snapshot().merged("lightcurves").to_pylist())


@pytest.mark.slow
def test_each_star_is_found_where_a_search_through_all_light_curves_finds_it(lake: Lake) -> None:
    snapshot, found = lake.snapshot(), 0
    for star in stars(lake)[::7]:
        chosen = _is_star("detected", star["object_id"], None)
        place = _listed_at(snapshot, "detected", star["object_id"], chosen)
        searched = _found_at(snapshot, "detected", star["object_id"], chosen)
        assert set(place.tolist()) == set(searched.tolist()) == {star["_healpix_29"]}
        found += 1
    assert found > 20


def test_the_rows_of_a_star_are_all_of_its_own(lake: Lake) -> None:
    for star in stars(lake)[::31]:
        kind, rows = rows_of_star(lake.snapshot(), star["object_id"], None, None) or pytest.fail("no rows")
        assert kind == "detected" and rows["object_id"].to_pylist() == [star["object_id"]]
        assert rows["n_points"].to_pylist() == [star["n_points"]]
        assert rows["lightcurve"].to_pylist() == [star["lightcurve"]]
        assert rows_of_star(lake.snapshot(), star["object_id"], "other", None) is None


def test_an_object_without_a_catalog_star_has_no_rows(lake: Lake) -> None:
    objects = lake.snapshot().read("objects", ["object_id"], filter=~pc.field("ref_id").is_valid())
    for number in objects["object_id"].to_pylist()[:3]:
        assert rows_of_star(lake.snapshot(), number, None, None) is None


@pytest.mark.parametrize("angle", [0.0, 130.0, 260.0])
def test_the_nearest_of_several_is_found_with_all_its_measurements(lake: Lake, angle: float) -> None:
    some = stars(lake)
    ra, dec = (np.array([star[name] for star in some]) for name in ("ra_deg", "dec_deg"))
    for number in range(0, len(some), 41):
        place = tuple(float(one) for one in offset(ra[number], dec[number], 1.0 / 3600.0, angle))
        near = nearest_curve(lake.snapshot(), *place, 300.0, None)
        assert near is not None and near.row["object_id"][0].as_py() == some[number]["object_id"]
        assert near.distance_arcsec == pytest.approx(1.0, abs=1e-3)
        own = near.rows(lake.snapshot()).filter(pc.field("object_id") == some[number]["object_id"])
        assert own["n_points"].to_pylist() == [some[number]["n_points"]]
        away = 3600.0 * np.hypot((ra - ra[number] + 180.0) % 360.0 - 180.0, dec - dec[number])
        assert near.n_stars >= np.count_nonzero(away < 250.0)
