from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from skylake.core.sphere import healpix_index, offset
from skylake.errors import LakeError, UsageError
from skylake.lake import Commit, Lake
from skylake.report.curves import curve_at, curve_of_object
from skylake.report.stars.star_curves import star_curve
from skylake.schema import arrow_schema, load

NESTED = [field.name for field in arrow_schema(load("lightcurves")).field("lightcurve").type]

pytestmark = pytest.mark.xdist_group("lsdb")


@pytest.fixture(scope="module")
def star(lake: Lake) -> dict[str, Any]:
    """The star with the most measurements."""
    rows = lake.snapshot().merged("lightcurves").sort_by([("n_points", "descending")])
    found: dict[str, Any] = rows.slice(0, 1).to_pylist()[0]
    return found


def test_a_curve_holds_each_measurement_of_its_star(lake: Lake, star: dict[str, Any]) -> None:
    curve = curve_of_object(lake.snapshot(), star["object_id"])
    assert len(curve["points"]) == star["n_points"] == 10
    matches = lake.snapshot().read("matches", filter=pc.field("ref_id") == star["object_id"])
    assert {(point["frame_id"], point["source_no"]) for point in curve["points"]} == set(
        zip(matches["frame_id"].to_pylist(), matches["source_no"].to_pylist(), strict=True)
    )
    times = [point["bjd_tdb"] for point in curve["points"]]
    assert times == sorted(times)
    for name in ("ra_deg", "dec_deg", "catalog", "version"):
        assert curve[name] == star[name]
    (band,) = curve["bands"]
    for name in ("band", "ref_mag", "ref_colour", "n_points", "mag_median"):
        assert band[name] == star[name]
    assert {point["band"] for point in curve["points"]} == {"V"}
    assert curve["points"][3]["mag"] == star["lightcurve"]["mag"][3]


def test_measurements_lie_near_the_catalog(lake: Lake, star: dict[str, Any]) -> None:
    points = curve_of_object(lake.snapshot(), star["object_id"])["points"]
    assert sorted(point["mag"] for point in points)[5] == pytest.approx(star["mag_median"], abs=0.05)


def test_the_catalog_chooses_among_stars_of_one_number(lake: Lake, star: dict[str, Any]) -> None:
    assert curve_of_object(lake.snapshot(), star["object_id"], "simcat")["catalog"] == "simcat"
    with pytest.raises(LakeError, match="no light curve of the star"):
        curve_of_object(lake.snapshot(), star["object_id"], "other")


def test_a_star_that_is_not_there_is_an_error_with_the_fix(lake: Lake, bare: Lake) -> None:
    with pytest.raises(LakeError, match="no light curve of the star 123456, as simcat or the table objects"):
        curve_of_object(lake.snapshot(), 123456)
    for ask in (
        lambda: curve_of_object(bare.snapshot(), 123456),
        lambda: curve_at(bare.snapshot(), 1.0, 2.0),
    ):
        with pytest.raises(LakeError, match="the lake has no light curves; `skylake aggregate`"):
            ask()


def test_a_lake_without_forced_curves_says_what_makes_them(lake: Lake, star: dict[str, Any]) -> None:
    for ask in (
        lambda: curve_of_object(lake.snapshot(), star["object_id"], measured="forced"),
        lambda: curve_at(lake.snapshot(), star["ra_deg"], star["dec_deg"], measured="forced"),
    ):
        with pytest.raises(
            LakeError, match=r"no light curves of targets; `skylake ingest --redo`.*aggregate"
        ):
            ask()


@pytest.mark.parametrize("angle", [0.0, 90.0, 210.0])
def test_the_nearest_star_is_found_from_beside_it(lake: Lake, star: dict[str, Any], angle: float) -> None:
    ra, dec = offset(star["ra_deg"], star["dec_deg"], 0.5 / 3600.0, angle)
    curve = curve_at(lake.snapshot(), float(ra), float(dec))
    assert curve["object_id"] == star["object_id"]
    assert curve["separation_arcsec"] == pytest.approx(0.5, abs=1e-3)
    assert len(curve["points"]) == star["n_points"]


def test_the_reach_is_where_the_search_ends(lake: Lake, star: dict[str, Any]) -> None:
    snapshot = lake.snapshot()
    ra, dec = offset(star["ra_deg"], star["dec_deg"], 2.0 / 3600.0, 45.0)
    near = curve_at(snapshot, float(ra), float(dec), 2.1)
    assert near["separation_arcsec"] < 2.1
    with pytest.raises(LakeError, match="no light curve within 60 arcsec of 120"):
        curve_at(snapshot, 120.0, 45.0)


def test_a_star_is_shown_in_all_its_bands_in_the_order_of_time(bare: Lake, commit_rows: Any) -> None:
    def row(number: int, band: str, times: list[float]) -> dict[str, Any]:
        curve = {name: [0] * len(times) for name in NESTED} | {"mjd_mid": times, "camera": ["c"] * len(times)}
        place = {"ra_deg": 0.1 * number, "_healpix_29": int(healpix_index([0.1 * number], [0.0])[0])}
        return {"object_id": number, "catalog": "c", "band": band, "lightcurve": curve} | place

    commit_rows(
        bare, "lightcurves", "one", [row(1, "V", [1.0, 4.0]), row(1, "R", [2.0, 3.0]), row(2, "V", [1.0])]
    )
    curve = curve_of_object(bare.snapshot(), 1)
    assert [(point["mjd_mid"], point["band"]) for point in curve["points"]] == [
        (1.0, "V"), (2.0, "R"), (3.0, "R"), (4.0, "V"),
    ]  # fmt: skip
    assert [band["band"] for band in curve["bands"]] == ["R", "V"]
    assert len(curve_of_object(bare.snapshot(), 2)["points"]) == 1
    near = curve_at(bare.snapshot(), 0.1, 0.0)
    assert near["points"] == curve["points"] and near["separation_arcsec"] < 1e-6


def rows_of_one(number: int, catalog: str, ra: float, time: float) -> dict[str, Any]:
    curve = {name: [0] for name in NESTED} | {"mjd_mid": [time], "camera": ["cam"]}
    place = {"ra_deg": ra, "_healpix_29": int(healpix_index([ra], [0.0])[0])}
    return {"object_id": number, "catalog": catalog, "band": "V", "lightcurve": curve} | place


def forced_of_one(number: int, catalog: str, ra: float, time: float) -> dict[str, Any]:
    names = [field.name for field in arrow_schema(load("forced_lightcurves")).field("lightcurve").type]
    place = {"ra_deg": ra, "_healpix_29": int(healpix_index([ra], [0.0])[0])}
    star = {"star_id": place["_healpix_29"], "ref_id": number, "origin": catalog, "catalog": "zeropoints"}
    curve = {name: [0] for name in names} | {"mjd_mid": [time]}
    return {"camera": "cam", "band": "V", "lightcurve": curve} | star | place


@pytest.mark.parametrize("is_target", [True, False])
@pytest.mark.parametrize("in_solution", [True, False])
def test_a_number_of_several_catalogs_is_refused_and_each_is_found_by_name(
    bare: Lake, commit_rows: Any, is_target: bool, in_solution: bool
) -> None:
    commit_rows(
        bare, "lightcurves", "one", [rows_of_one(3, "apass", 10.0, 1.0), rows_of_one(4, "apass", 20.0, 2.0)]
    )
    if is_target:
        target = forced_of_one(3, "vsx", 50.0, 5.0)
        commit_rows(bare, "forced_lightcurves", "one", [target])
        commit_rows(bare, "targets", "one", [target])
    else:
        commit_rows(bare, "lightcurves", "two", [rows_of_one(3, "vsx", 50.0, 5.0)])
    if in_solution:
        place = {"ra_deg": 10.0, "_healpix_29": int(healpix_index([10.0], [0.0])[0])}
        commit_rows(bare, "star_magnitudes", "one", [{"ref_id": 3, "catalog": "apass"} | place])
        seen = {"ref_id": 3, "catalog": "vsx", "ref_ra_deg": 50.0, "ref_dec_deg": 0.0, "ra_deg": 50.0}
        commit_rows(bare, "objects", "one", [seen | {"_healpix_29": int(healpix_index([50.0], [0.0])[0])}])
    snapshot = bare.snapshot()
    words = r"apass:3 at 10.00000 \+0.00000 and vsx:3 at 50.00000 \+0.00000; write which one, as in apass:3"
    with pytest.raises(UsageError, match=words):
        star_curve(snapshot, "3")
    for catalog, time in (("apass", 1.0), ("vsx", 5.0)):
        found = star_curve(snapshot, f"{catalog}:3")
        assert (found["catalog"], found["object_id"]) == (catalog, 3)
        assert [point["mjd_mid"] for point in found["points"]] == [time]
    assert star_curve(snapshot, "4")["catalog"] == "apass"
    with pytest.raises(LakeError, match=r"no light curve of the star vsx:4, as .* name it by its position"):
        star_curve(snapshot, "vsx:4")


def test_a_star_has_a_curve_as_soon_as_its_frames_are_calibrated(
    lake: Lake, star: dict[str, Any], tmp_path: Path, copy_lake: Any
) -> None:
    """Nobody need have run `skylake aggregate`: the curve is the same."""
    copy = Lake(copy_lake(lake.root, tmp_path / "lake"))
    for night in (20241001, 20241002):
        commit = Commit("test", "-")
        commit.remove("lightcurves", f"small-{night}")
        copy.commit(commit)
    assert copy.snapshot().n_rows("lightcurves") == 0
    found = curve_at(copy.snapshot(), star["ra_deg"], star["dec_deg"], 10.0)
    usual = curve_at(lake.snapshot(), star["ra_deg"], star["dec_deg"], 10.0)
    assert (found["object_id"], found["catalog"]) == (usual["object_id"], "simcat")
    names = ("frame_id", "bjd_tdb", "mag", "mag_err", "mag_random_err", "flags")
    for one, other in zip(found["points"], usual["points"], strict=True):
        assert [one[name] for name in names] == pytest.approx([other[name] for name in names], rel=1e-9)
