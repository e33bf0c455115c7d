from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.calibration.calibrated_matches import Photometry
from skylake.core.camera import Site
from skylake.core.ephemeris import barycentric_jd
from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.robust import sigma_mad
from skylake.core.sphere import healpix_index
from skylake.schema import arrow_schema, load
from skylake.table.lightcurves import lightcurves_table

SITES = {"lab": Site("a hill", -70.4, -24.6, 2600.0), "other": Site("an island", -17.9, 28.8, 2300.0)}

points = st.fixed_dictionaries(
    {
        "ref_id": st.sampled_from([4, 7, 90]),
        "frame_id": st.integers(1, 40),
        "flux": st.sampled_from([100.0, 50.0, 20.0, -3.0, float("nan")]),
        "flags": st.sampled_from(
            [0, int(SourceFlag.BLENDED), int(SourceFlag.SATURATED), int(SourceFlag.EDGE)]
        ),
        "camera": st.sampled_from(["lab", "other", "nowhere"]),
        "band": st.sampled_from(["V", "R", None]),
    }
)


def build(match_rows: Callable[..., pa.Table], rows: list[dict[str, Any]]) -> tuple[pa.Table, Photometry]:
    columns = {
        name: [row[name] for row in rows] for name in ("ref_id", "frame_id", "flags", "camera", "band")
    }
    star = np.array(columns["ref_id"], float)
    # Frames are numbered against the order of time.
    mjd = 60500.0 - np.array(columns["frame_id"], float)
    matches = match_rows(
        len(rows),
        ra_deg=10.0 * star % 360.0,
        dec_deg=star - 50.0,
        mjd_mid=mjd,
        ref_mag=star / 10.0,
        **columns,
    )
    flux = np.array([row["flux"] for row in rows])
    with np.errstate(invalid="ignore"):
        mag = 20.0 - 2.5 * np.log10(np.where(flux > 0, flux, np.nan))
    error = np.where(np.isnan(flux), np.nan, 1.0)
    shared = np.full(len(rows), 0.001)
    return matches, Photometry(
        flux, error, mag, error / flux, 0.0 * mag, np.full(len(rows), 3), 2.0 * shared, shared
    )


@given(st.lists(points, min_size=1, max_size=25, unique_by=lambda row: (row["ref_id"], row["frame_id"])))
def test_light_curves_are_those_of_a_loop_over_stars(
    match_rows: Callable[..., pa.Table], rows: list[dict[str, Any]]
) -> None:
    matches, photometry = build(match_rows, rows)
    table = lightcurves_table(matches, photometry, SITES)
    assert table.schema.equals(arrow_schema(load("lightcurves")), check_metadata=True)
    found = sorted(table.to_pylist(), key=lambda curve: (curve["object_id"], curve["band"]))
    kept = [(row, match, i) for i, (row, match) in enumerate(zip(rows, matches.to_pylist(), strict=True))]
    kept = [one for one in kept if not np.isnan(one[0]["flux"])]
    assert [(curve["object_id"], curve["band"]) for curve in found] == sorted(
        {(row["ref_id"], row["band"] or "") for row, _, _ in kept}
    )
    for curve in found:
        mine = sorted(
            (
                one
                for one in kept
                if (one[0]["ref_id"], one[0]["band"] or "") == (curve["object_id"], curve["band"])
            ),
            key=lambda one: one[1]["mjd_mid"],
        )
        times = [match["mjd_mid"] for _, match, _ in mine]
        inner = curve["lightcurve"]
        assert curve["n_points"] == len(mine) and inner["mjd_mid"] == times
        assert (curve["mjd_first"], curve["mjd_last"]) == (times[0], times[-1])
        for name in ("frame_id", "source_no", "camera", "x_px", "flags"):
            assert inner[name] == [match[name] for _, match, _ in mine]
        for name in ("flux", "mag", "mag_err"):
            values = [getattr(photometry, name)[i] for _, _, i in mine]
            expected = [None if np.isnan(value) else pytest.approx(value, rel=1e-6) for value in values]
            assert inner[name] == expected
        match = mine[-1][1]
        assert curve["_healpix_29"] == healpix_index(match["ra_deg"], match["dec_deg"])
        assert (curve["ra_deg"], curve["ref_mag"], curve["version"]) == (match["ra_deg"], match["ref_mag"], 3)
        for bjd, (_, one, _) in zip(inner["bjd_tdb"], mine, strict=True):
            site = SITES.get(one["camera"])
            true = barycentric_jd(
                np.array([one["mjd_mid"]]),
                np.array([one["moved_ra_deg"]]),
                np.array([one["moved_dec_deg"]]),
                site,
            )
            assert bjd == pytest.approx(float(true[0]), abs=1e-8)
        clean = [
            photometry.mag[i] for row, _, i in mine if row["flux"] > 0 and not row["flags"] & int(SPOILED)
        ]
        assert curve["mag_median"] == (pytest.approx(np.median(clean)) if clean else None)
        scatter = pytest.approx(sigma_mad(clean), abs=1e-9) if len(clean) > 1 else None
        assert curve["mag_scatter"] == scatter


def test_without_calibrated_points_there_are_no_light_curves(match_rows: Callable[..., pa.Table]) -> None:
    nothing = np.full(3, np.nan)
    photometry = Photometry(
        nothing, nothing, nothing, nothing, nothing, np.zeros(3, np.int64), nothing, nothing
    )
    table = lightcurves_table(match_rows(3), photometry, SITES)
    assert table.num_rows == 0 and table.schema.equals(arrow_schema(load("lightcurves")))


def test_chunks_of_matches_are_one_table(match_rows: Callable[..., pa.Table]) -> None:
    row = {"ref_id": 4, "flux": 50.0, "flags": 0, "camera": "lab", "band": "V"}
    matches, photometry = build(match_rows, [row | {"frame_id": i} for i in range(1, 9)])
    pieces = pa.concat_tables([matches.slice(0, 3), matches.slice(3, 5)])
    assert pieces["mjd_mid"].num_chunks == 2
    assert lightcurves_table(pieces, photometry, SITES).equals(lightcurves_table(matches, photometry, SITES))


def test_bands_have_rows_of_their_own_and_cameras_share_them(match_rows: Callable[..., pa.Table]) -> None:
    """A red star is no variable because it is brighter in R, nor because two cameras took turns in V."""
    rows = [
        {"ref_id": 4, "frame_id": 1 + i, "flux": flux, "flags": 0, "camera": camera, "band": band}
        for i, (flux, camera, band) in enumerate(
            [
                (50.0, "lab", "V"),
                (100.0, "lab", "R"),
                (50.0, "other", "V"),
                (100.0, "lab", "R"),
                (50.0, "lab", "V"),
            ]
        )
    ]
    found = lightcurves_table(*build(match_rows, rows), SITES).to_pylist()
    assert [(curve["band"], curve["n_points"], curve["mag_scatter"]) for curve in found] == [
        ("R", 2, 0.0), ("V", 3, 0.0),
    ]  # fmt: skip
    assert found[0]["mag_median"] == pytest.approx(20.0 - 2.5 * np.log10(100.0))
    assert found[1]["lightcurve"]["camera"] == ["lab", "other", "lab"]


def test_points_with_much_light_of_neighbours_are_blends(match_rows: Callable[..., pa.Table]) -> None:
    """Whoever knows the neighbours: the catalog, less what the sky took off, or the detection."""
    rows = [
        {"ref_id": 4, "frame_id": i, "flux": 100.0, "flags": 8, "camera": "lab", "band": "V"}
        for i in range(6)
    ]
    matches, photometry = build(match_rows, rows)
    for name, values in {
        "ref_crowding": [0.0, 0.05, 0.3, 0.5, None, None],
        "ref_sky_light": [0.0, 0.0, 0.02, 0.45, None, None],
        "crowding": [0.02, 0.0, 0.0, 0.0, 0.4, None],
    }.items():
        field = matches.schema.field(name)
        place = matches.schema.get_field_index(name)
        matches = matches.set_column(place, field, pa.array(values, field.type))
    curve = lightcurves_table(matches, photometry, SITES).to_pylist()[0]["lightcurve"]
    found = dict(zip(curve["frame_id"], curve["flags"], strict=True))
    assert [found[i] for i in range(6)] == [8, 8, 12, 8, 12, 8]
