"""The views of sql/duckdb/views.sql against the same done in pandas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, ZEROPOINT_COLUMNS, calibrate_matches
from skylake.core.ephemeris import airmass
from skylake.core.position_terms import field_coordinates, position_offset
from skylake.lake import Lake, Snapshot
from skylake.schema import arrow_schema, flag_texts, load
from skylake.settings import Settings

MakeRows = Callable[..., pa.Table]
Put = Callable[..., Snapshot]
N_FRAMES = 8


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory, make_rows: MakeRows, put: Put) -> Snapshot:
    """Eight frames: two without a zeropoint, one with none that is known, some with several versions."""
    random = np.random.default_rng(6)
    lake = Lake.create(tmp_path_factory.mktemp("sql") / "lake", Settings(pixel_order=1))
    ids = np.arange(N_FRAMES)
    factors = {
        f"apcor_{name}": random.uniform(1, 2, N_FRAMES) for name in ("aper1", "aper2", "aper3", "kron")
    }
    frames = make_rows(
        "frames",
        N_FRAMES,
        frame_id=ids,
        width_px=np.full(N_FRAMES, 80),
        height_px=np.full(N_FRAMES, 60),
        **factors,
    )
    keys = [(frame, "one", version) for frame in range(6) for version in range(1, 2 + frame % 3)]
    keys += [(1, "two", 1), (2, "two", 4)]
    n = len(keys)
    zeropoints = make_rows(
        "zeropoints", n, 1,
        frame_id=[key[0] for key in keys], catalog=[key[1] for key in keys], version=[key[2] for key in keys],
        flux=[("aper1", "aper2", "aper3", "kron")[key[0] % 4] for key in keys],
        zp=pa.array([None if key[0] == 5 else random.normal(20, 1) for key in keys], pa.float64()),
        zp_err=random.uniform(0.05, 0.1, n), zp_fit_err=random.uniform(0.001, 0.01, n),
        zp_random_err=random.uniform(0.001, 0.01, n),
        colour_term_err=pa.array([None if key[0] == 3 else random.uniform(0.01, 0.1) for key in keys], pa.float64()),
        mean_colour=pa.array([None if key[0] == 3 else random.uniform(0.3, 1.2) for key in keys], pa.float64()),
        colour_spread=pa.array([None if key[0] == 3 else random.uniform(0.1, 0.5) for key in keys], pa.float64()),
        colour_term=pa.array([None if key[0] == 3 else 0.1 * key[0] for key in keys], pa.float64()),
        pivot_colour=np.full(n, 0.7),
        # Of no degree, 1, 2 and the highest that the views know.
        position_terms=nested_terms(
            [None if i % 4 == 0 else random.normal(0, 0.1, (0, 2, 5, 27)[i % 4]) for i in range(n)]
        ),
        position_err=random.uniform(0.005, 0.01, n),
        position_random_err=random.uniform(0.0, 0.005, n),
        floor_mag=pa.array([None if i % 3 == 0 else 0.01 * i for i in range(n)], pa.float64()),
        photon_scale=pa.array([None if i % 3 == 1 else 1.0 + 0.1 * i for i in range(n)], pa.float64()),
        # Of the stars 0 to 9 of 20; of some more than their noise would cancel.
        shares=pa.array(
            [None if i % 5 == 0 else {"ref_id": range(10), "share": random.uniform(0, 0.3, 10)} for i in range(n)],
            arrow_schema(load("zeropoints")).field("shares").type,
        ),
    )  # fmt: skip
    owner = np.repeat(ids, 12)
    numbers = np.tile(np.arange(12), N_FRAMES)
    fluxes = {
        f"flux_{name}{suffix}": random.normal(100, 120, len(owner)).astype(np.float32)
        for name in ("aper1", "aper2", "aper3", "kron") for suffix in ("", "_err")
    }  # fmt: skip
    # A third of the factors are null, which is 1.
    fluxes |= {
        f"apcor_rel_{name}": pa.array(
            [None if i % 3 == 0 else 1.0 + 0.01 * (i % 7) for i in owner], pa.float32()
        )
        for name in ("aper1", "aper2", "aper3", "kron")
    }
    # Some have no altitude, and one in nine is below the horizon.
    altitude = [None if i % 7 == 0 else random.uniform(-10.0, 90.0) for i in range(len(owner))]
    fluxes["altitude_deg"] = pa.array(altitude, pa.float32())
    sources = make_rows("sources", len(owner), 2, frame_id=owner, source_no=numbers, **fluxes)
    chosen = np.flatnonzero(random.uniform(size=len(owner)) < 0.6)
    matches = make_rows(
        "matches", 2 * len(chosen), 3,
        frame_id=np.tile(owner[chosen], 2), source_no=np.tile(numbers[chosen], 2),
        catalog=np.repeat(["one", "two"], len(chosen)), ref_id=np.arange(2 * len(chosen)) % 20,
        ref_colour=pa.array(
            [None if i % 4 == 0 else random.uniform(0, 2) for i in range(2 * len(chosen))], pa.float32()
        ),
    )  # fmt: skip
    return put(
        lake, ("frames", "c-1", frames), ("zeropoints", "z-1", zeropoints), ("sources", "c-1", sources),
        ("matches", "m-1", matches), ("lightcurves", "p-1", make_rows("lightcurves", 20, 4)),
    )  # fmt: skip


def nested_terms(lists: list[Any]) -> pa.Array:
    """Position terms as the table has them."""
    values = [None if one is None else {"coefficient": list(one)} for one in lists]
    return pa.array(values, arrow_schema(load("zeropoints")).field("position_terms").type)


def place_offsets(rows: pd.DataFrame) -> np.ndarray:
    """The offset of the zeropoint at the place of each row."""
    offsets = []
    for _, row in rows.iterrows():
        terms = (row["position_terms"] or {}).get("coefficient", [])
        place = field_coordinates([row["x_px"]], [row["y_px"]], row["width_px"], row["height_px"])
        offsets.append(float(position_offset(np.asarray(terms, float), *place)[0]))
    return np.array(offsets)


def share_of(shares: dict[str, Any] | None, star: float) -> float:
    """The weight of a star in a zeropoint."""
    return dict(zip(shares["ref_id"], shares["share"], strict=True)).get(star, 0.0) if shares else 0.0


@pytest.fixture
def connection(snapshot: Snapshot) -> duckdb.DuckDBPyConnection:
    return snapshot.duckdb()


def ask(connection: duckdb.DuckDBPyConnection, view: str, key: list[str]) -> pd.DataFrame:
    rows = connection.sql(f"SELECT * FROM {view}").to_arrow_table().to_pandas()
    return rows.sort_values(key).reset_index(drop=True)


def in_force(snapshot: Snapshot) -> pd.DataFrame:
    rows = snapshot.pandas("zeropoints").sort_values("version")
    return rows.groupby(["frame_id", "catalog"], as_index=False).last(skipna=False)


def calibrated(snapshot: Snapshot) -> pd.DataFrame:
    zeropoints = in_force(snapshot).dropna(subset="zp")
    rows = snapshot.pandas("sources").merge(snapshot.pandas("frames"), on="frame_id", suffixes=("", "_frame"))
    rows = rows.merge(zeropoints, on="frame_id", suffixes=("", "_zp"))
    for suffix in ("", "_err"):
        rows[f"total_flux{suffix}"] = [
            row[f"flux_{row['flux']}{suffix}"]
            * row[f"apcor_{row['flux']}"]
            * (1.0 if np.isnan(row[f"apcor_rel_{row['flux']}"]) else row[f"apcor_rel_{row['flux']}"])
            for _, row in rows.iterrows()
        ]
    rows["total_flux_err"] *= rows["photon_scale"].fillna(1.0)
    beyond = airmass(rows["altitude_deg"]) - 1.0
    lost = (rows["extinction"] * beyond).where(rows["extinction"].notna(), 0.0) - place_offsets(rows)
    key = ["frame_id", "source_no", "catalog"]
    light = ["ref_id", "ref_mag", "ref_colour", "ref_crowding", "ref_crowding_err", "ref_sky_light"]
    rows = rows.merge(snapshot.pandas("matches")[key + light], on=key, how="left")
    term = (rows["colour_term"] * (rows["ref_colour"] - rows["pivot_colour"])).fillna(0.0)
    own = 10.0 ** (0.4 * (rows["zp"] + term - lost - rows["ref_mag"]))
    net = rows["ref_crowding"] - rows["sky_light_scale"].fillna(1.0) * rows["ref_sky_light"]
    net_err = np.hypot(
        rows["ref_crowding_err"], rows["sky_light_scale_err"].fillna(0.0) * rows["ref_sky_light"]
    )
    share = np.array([share_of(row["shares"], row["ref_id"]) for _, row in rows.iterrows()])
    noise = (
        2.5 / np.log(10) * rows["total_flux_err"] / rows["total_flux"].where(rows["total_flux"] > 0)
    ) ** 2
    cancelled = 2.0 * share * (noise.fillna(0.0) + rows["floor_mag"].fillna(0.0) ** 2)
    rows["total_flux"] -= (own * net).fillna(0.0)
    flux = rows["total_flux"].where(rows["total_flux"] > 0)
    of_neighbours = (2.5 / np.log(10) * (own * net_err).fillna(0.0) / flux) ** 2
    rows = rows.drop(columns=light)
    rows["mag"] = -2.5 * np.log10(flux) + rows["zp"] - lost
    photon = (2.5 / np.log(10) * rows["total_flux_err"] / flux) ** 2
    spread = rows["colour_spread"] ** 2 + (rows["mean_colour"] - rows["pivot_colour"]) ** 2
    spread = (4.0 * 0.45**2 + rows["n_used"] * spread) / (4.0 + rows["n_used"])
    pivot = (rows["colour_term_err"] * (rows["mean_colour"] - rows["pivot_colour"])).fillna(0.0)
    has = rows["extinction_err"].notna() & rows["mean_airmass"].notna()
    at_airmass = (rows["extinction_err"] * (beyond - (rows["mean_airmass"] - 1.0))).where(has, 0.0)
    rows["zp_err"] = np.sqrt(
        rows["zp_fit_err"] ** 2 + pivot**2 + at_airmass**2 + (rows["colour_term"] ** 2 * spread).fillna(0.0)
    )
    floor = rows["floor_mag"].fillna(0.0)
    random = np.minimum(rows["zp_random_err"], rows["zp_err"]) ** 2 + floor**2
    random += rows["position_random_err"] ** 2
    cancelled = np.minimum(cancelled, random)
    random -= cancelled
    rows["zp_err"] = np.sqrt(rows["zp_err"] ** 2 + floor**2 + rows["position_err"] ** 2 - cancelled)
    rows["mag_err"] = np.sqrt(photon + rows["zp_err"] ** 2 + of_neighbours)
    rows["mag_random_err"] = np.sqrt(photon + random)
    return rows.sort_values(["frame_id", "source_no", "catalog"]).reset_index(drop=True)


def test_the_zeropoint_in_force_is_that_of_the_largest_version(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot
) -> None:
    key = ["frame_id", "catalog"]
    found = ask(connection, "zeropoints_in_force", key)
    expected = in_force(snapshot).sort_values(key).reset_index(drop=True)[found.columns]
    pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    assert found["version"].nunique() > 2


def test_frames_have_their_zeropoint_or_none(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot
) -> None:
    found = ask(connection, "calibrated_frames", ["frame_id", "catalog"])
    merged = snapshot.pandas("frames").merge(
        in_force(snapshot), on="frame_id", how="left", suffixes=("", "_zp")
    )
    expected = merged.sort_values(["frame_id", "catalog"]).reset_index(drop=True)
    assert len(found) == len(expected) == N_FRAMES + 2
    for name in ("frame_id", "catalog", "version", "zp", "zp_err", "rms", "sky_adu"):
        pd.testing.assert_series_equal(found[name], expected[name], check_dtype=False)
    assert found["zp"].isna().sum() == 3


def test_sources_are_calibrated_by_the_flux_of_their_zeropoint(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot
) -> None:
    found = ask(connection, "calibrated_sources", ["frame_id", "source_no", "catalog"])
    expected = calibrated(snapshot)
    assert len(found) == len(expected) == 12 * (5 + 2)
    for name in ("frame_id", "source_no", "catalog", "version", "zp", "flags"):
        pd.testing.assert_series_equal(found[name], expected[name], check_dtype=False)
    for name in ("total_flux", "total_flux_err", "mag", "mag_err", "zp_err", "mag_random_err"):
        pd.testing.assert_series_equal(found[name], expected[name], check_dtype=False, rtol=1e-6, atol=1e-6)
    dark = found["total_flux"] <= 0
    assert dark.any()
    # Nor is a magnitude known where it is not known what the air takes.
    lost = expected["extinction"].notna() & np.isnan(airmass(expected["altitude_deg"]))
    assert lost.any() and (found["mag"].isna() == (dark | lost)).all()


def test_matches_have_residuals_at_the_colour_of_their_star(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot
) -> None:
    key = ["frame_id", "source_no", "catalog"]
    found = ask(connection, "calibrated_matches", key)
    sources = calibrated(snapshot)[[*key, "version", "colour_term", "pivot_colour", "mag"]]
    expected = snapshot.pandas("matches").merge(sources, on=key).sort_values(key).reset_index(drop=True)
    shift = expected["colour_term"] * (expected["ref_colour"] - expected["pivot_colour"])
    expected["mag"] += shift.fillna(0.0)
    expected["residual"] = expected["ref_mag"] - expected["mag"]
    assert len(found) == len(expected) > 30
    for name in (*key, "version", "ref_id"):
        pd.testing.assert_series_equal(found[name], expected[name], check_dtype=False)
    for name in ("mag", "residual"):
        pd.testing.assert_series_equal(found[name], expected[name], check_dtype=False, rtol=1e-6, atol=1e-6)
    assert (shift.abs() > 0).any()


def test_errors_of_magnitudes_are_those_of_the_tables(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot
) -> None:
    """The view and the module that makes light curves say the same of every match."""
    found = ask(connection, "calibrated_matches", ["frame_id", "source_no", "catalog"])
    frames = snapshot.read("frames", FRAME_COLUMNS)
    for catalog in ("one", "two"):
        fluxes = ", ".join(
            f"s.{name} AS {name}"
            for name in load("sources").names
            if name.startswith(("flux_a", "flux_k", "apcor", "alt", "x_px", "y_px"))
        )
        matches = connection.sql(
            f"SELECT m.* REPLACE ({fluxes}) FROM matches AS m JOIN sources AS s USING (frame_id, source_no) "
            f"WHERE catalog = '{catalog}'"
        ).to_arrow_table()
        zeropoints = in_force(snapshot)
        rows = pa.Table.from_pandas(zeropoints[zeropoints["catalog"] == catalog][list(ZEROPOINT_COLUMNS)])
        known = matches.select(["frame_id", "source_no", "ref_colour"]).to_pandas()
        found_too = calibrate_matches(matches, frames, rows)
        known["mag_err"], known["mag_systematic_err"] = found_too.mag_err, found_too.zp_systematic_err
        known["mag"] = found_too.mag
        both = known.merge(found[found["catalog"] == catalog], on=["frame_id", "source_no"])
        assert both["ref_colour_x"].isna().any()
        pd.testing.assert_series_equal(
            both["mag_err_x"], both["mag_err_y"], check_dtype=False, check_names=False, rtol=1e-4
        )
        assert both["mag_err_x"].notna().sum() > 5
        pd.testing.assert_series_equal(both["mag_x"], both["mag_y"], check_names=False, rtol=1e-6, atol=1e-6)
        shared = both[both["mag_err_x"].notna()]
        pd.testing.assert_series_equal(
            shared["mag_systematic_err_x"], shared["mag_systematic_err_y"], check_names=False, rtol=1e-4
        )


def test_light_curves_unnest_to_one_row_per_measurement(
    connection: duckdb.DuckDBPyConnection, snapshot: Snapshot
) -> None:
    found = connection.sql("SELECT * FROM lightcurve_points").to_arrow_table().to_pylist()
    expected = []
    for row in snapshot.read("lightcurves").to_pylist():
        nested = row["lightcurve"] | row["lightcurve_errors"]
        for cells in zip(*nested.values(), strict=True):
            point = dict(zip(nested, cells, strict=True))
            of_star = ("catalog", "object_id", "band", "version", "ref_mag", "ref_colour")
            star = {name: row[name] for name in of_star}
            expected.append(star | point)
    names = list(found[0])
    assert {"frame_id", "mag", "mag_err", "flux", "flags", "bjd_tdb"} <= set(names)
    wanted = [{name: row[name] for name in names} for row in expected]
    assert sorted(map(str, found)) == sorted(map(str, wanted))


def test_views_of_an_empty_lake_are_empty(tmp_path: Path) -> None:
    connection = Lake.create(tmp_path / "lake").snapshot().duckdb()
    views = [
        row[0] for row in connection.sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    ]
    ours = {"zeropoints_in_force", "calibrated_frames", "calibrated_sources", "calibrated_matches"}
    assert ours | {"lightcurve_points"} <= set(views)
    for name in views:
        count = 1 if name == "ledger" else 0  # which shows that the lake was made
        assert connection.sql(f'SELECT count(*) FROM "{name}"').fetchall() == [(count,)]


@pytest.mark.parametrize("table", ["sources", "frames"])
def test_flags_are_reported_by_their_names(table: Any, lake: Lake) -> None:
    texts = flag_texts(table)
    values = {"0": 0, "all": sum(bit for bit, _ in texts.values())} | {
        name: bit for name, (bit, _) in texts.items()
    }
    with lake.snapshot().duckdb() as connection:
        macro = f"{table.removesuffix('s')}_flags"
        found = {
            name: connection.sql(f"SELECT {macro}({value})").fetchall()[0][0]
            for name, value in values.items()
        }
    assert found == {"0": [], "all": list(texts)} | {name: [name] for name in texts}
