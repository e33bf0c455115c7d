from __future__ import annotations

from collections.abc import Callable
from typing import Any

import healpy
import numpy as np
import pyarrow as pa
import pytest
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.camera import Calibration
from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.sphere import separation_deg, tangent_basis, unit_vectors
from skylake.image.quality.field_cells import cell_of
from skylake.schema import arrow_schema, load
from skylake.table.map_cells import cell_names, cells_of_pixels
from skylake.table.maps import ZEROPOINT_COLUMNS, maps_table, pixels_of_region

NIGHT = 20240407


def square(ra: float, dec: float, half_deg: float, points: int = 1) -> str:
    """A square of tangent plane, counter-clockwise, with some points along each edge."""
    step = np.arange(points) / points * 2.0 - 1.0
    one = np.ones(points)
    u, v = np.concatenate([step, one, -step, -one]), np.concatenate([-one, step, one, -step])
    east, north = tangent_basis(ra, dec)
    size = np.tan(np.radians(half_deg))
    corners = unit_vectors(ra, dec) + size * (u[:, None] * east + v[:, None] * north)
    numbers = np.column_stack([np.degrees(np.arctan2(corners[:, 1], corners[:, 0])) % 360.0,
                               np.degrees(np.arctan2(corners[:, 2], np.hypot(corners[:, 0], corners[:, 1])))])  # fmt: skip # noqa: E501
    return "POLYGON ICRS " + " ".join(f"{a:.8f} {d:.8f}" for a, d in numbers)


@given(st.floats(0.0, 359.9), st.floats(-90.0, 90.0), st.floats(0.5, 40.0), st.integers(1, 4))
def test_pixels_of_a_square_are_those_whose_centres_are_inside(
    ra: float, dec: float, half: float, points: int
) -> None:
    order = 5
    ra_pix, dec_pix = healpy.pix2ang(2**order, np.arange(12 * 4**order), nest=True, lonlat=True)
    vectors, centre = unit_vectors(ra_pix, dec_pix), unit_vectors(ra, dec)
    east, north = tangent_basis(ra, dec)
    depth = vectors @ centre
    with np.errstate(divide="ignore"):
        reach = np.where(
            depth > 0, np.maximum(np.abs(vectors @ east), np.abs(vectors @ north)) / depth, np.inf
        )
    size = np.tan(np.radians(half))
    found = np.zeros(len(ra_pix), bool)
    found[pixels_of_region(square(ra, dec, half, points), order)] = True
    np.testing.assert_array_equal(found[reach < size * 0.9999], True)
    np.testing.assert_array_equal(found[reach > size * 1.0001], False)


def test_a_region_need_not_be_convex() -> None:
    notch = "POLYGON ICRS 40 -10 60 -10 60 10 50 -5 40 10"
    held = pixels_of_region(notch, 6)
    ra, dec = healpy.pix2ang(64, held, nest=True, lonlat=True)
    assert separation_deg(ra, dec, 50.0, -8.0).min() < 1.0
    assert separation_deg(ra, dec, 50.0, 3.0).min() > 2.0


def test_the_direction_of_a_region_does_not_matter() -> None:
    forward = np.array(square(30.0, 80.0, 12.0).split()[2:]).reshape(-1, 2)
    backward = "POLYGON ICRS " + " ".join(forward[::-1].ravel())
    held = pixels_of_region(square(30.0, 80.0, 12.0), 5)
    np.testing.assert_array_equal(held, pixels_of_region(backward, 5))
    assert len(held) > 100


REGIONS = [None, square(10.0, 0.0, 5.0), square(14.0, 0.0, 5.0), square(200.0, -60.0, 3.0, 4)]
frame_values = st.fixed_dictionaries(
    {
        "s_region": st.sampled_from(REGIONS),
        "band": st.sampled_from(["V", "R", None]),
        "exposure_s": st.none() | st.floats(1.0, 100.0),
    }
)
match_values = st.fixed_dictionaries(
    {
        "ra_deg": st.floats(5.0, 20.0),
        "dec_deg": st.floats(-5.0, 5.0),
        "frame_id": st.integers(1, 6),
        "flags": st.sampled_from([0, int(SourceFlag.BLENDED), int(SourceFlag.SATURATED)]),
        "ref_mag_err": st.sampled_from([0.01, 0.02, float("nan")]),
        "residual": st.one_of(st.just(float("nan")), st.floats(-0.1, 0.1)),
        "flux_aper2_err": st.sampled_from([1.0, 1.5]),
        "crowding": st.sampled_from([0.0, 0.3]),
    }
)


match_values_names = (
    "ra_deg", "dec_deg", "frame_id", "flags", "ref_mag_err", "residual", "flux_aper2_err", "crowding",
)  # fmt: skip


def zeropoints(rows: list[dict[str, Any]]) -> pa.Table:
    """Zeropoints of 20 mag without a colour term, unless rows say another thing."""
    plain = {
        "band": "V",
        "flux": "aper2",
        "zp": 20.0,
        "zp_fit_err": 0.003,
        "intrinsic_mag": 0.01,
        "chi2": 1.0,
    }
    fields = [field for field in arrow_schema(load("zeropoints")) if field.name in ZEROPOINT_COLUMNS]
    full = [plain | row for row in rows]
    return pa.table(
        [pa.array([row.get(one.name) for row in full], one.type) for one in fields], pa.schema(fields)
    ).select(ZEROPOINT_COLUMNS)


@given(st.lists(frame_values, max_size=5), st.lists(match_values, max_size=15))
def test_sums_of_a_night_equal_loops_over_frames_and_matches(
    frame_rows: Callable[..., pa.Table],
    match_rows: Callable[..., pa.Table],
    frames: list[dict[str, Any]],
    matches: list[dict[str, Any]],
) -> None:
    """Frame 3 has no zeropoint, frame 4 another than the rest, with more scatter than the night."""
    order = 4
    names = ("s_region", "band", "exposure_s")
    frame_table = frame_rows(len(frames), **{name: [row[name] for row in frames] for name in names})
    special = {3: {"zp": None}, 4: {"zp": 20.5, "chi2": 2.0}}
    zeros = [
        {"frame_id": i + 1, "band": row["band"]} | special.get(i + 1, {})
        for i, row in enumerate(frames)
        if row["band"] is not None
    ]
    columns = {name: [row[name] for row in matches] for name in match_values_names if name != "residual"}
    zp_of = {row["frame_id"]: row.get("zp", 20.0) for row in zeros}
    ref_mag = [15.0 + (zp_of.get(row["frame_id"]) or 20.0) - 20.0 + row["residual"] for row in matches]
    match_table = match_rows(len(matches), ref_mag=ref_mag, **columns)
    table = maps_table("lab", NIGHT, frame_table, match_table, zeropoints(zeros), Calibration(), order)
    assert table.schema.equals(arrow_schema(load("maps")), check_metadata=True)
    expected: dict[tuple[str, int], np.ndarray] = {}
    for row in frames:
        for pixel in pixels_of_region(row["s_region"], order) if row["s_region"] else []:
            cell = expected.setdefault((row["band"] or "", int(pixel)), np.zeros(6))
            cell[:2] += 1.0, row["exposure_s"] or 0.0
    for row in matches:
        if zp_of.get(row["frame_id"]) is None or np.isnan([row["residual"], row["ref_mag_err"]]).any():
            continue
        if row["flags"] & int(SPOILED) or row["crowding"] > Calibration().max_crowding:
            continue
        pixel = int(healpy.ang2pix(2**order, row["ra_deg"], row["dec_deg"], nest=True, lonlat=True))
        photon = 2.5 / np.log(10.0) * row["flux_aper2_err"] / 100.0
        chi2 = 2.0 if row["frame_id"] == 4 else 1.0
        variance = chi2 * (photon**2 + row["ref_mag_err"] ** 2 + 0.01**2) + 0.003**2
        u = row["residual"] / np.sqrt(variance) / 4.685
        if abs(u) >= 1.0:
            continue
        weight = (1.0 - u**2) ** 2 / variance
        band = frames[row["frame_id"] - 1]["band"]
        cell = expected.setdefault((band, pixel), np.zeros(6))
        cell[2:] += 1.0, weight, weight * row["residual"], weight * row["residual"] ** 2
    found = {(row["band"], row["healpix_pixel"]): row for row in table.to_pylist()}
    assert len(found) == table.num_rows and set(found) == set(expected)
    sums = ("n_visits", "exposure_s", "n_matches", "weight_sum", "residual_sum", "residual_square_sum")
    for key, row in found.items():
        # Magnitudes of the catalog have 24 bits: 1e-6 mag at 15 mag.
        np.testing.assert_allclose([row[name] for name in sums], expected[key], rtol=1e-3, atol=0.05)
        assert (row["camera"], row["night"], row["healpix_order"]) == ("lab", NIGHT, order)


def test_a_finer_order_sums_to_the_same_matches(
    match_rows: Callable[..., pa.Table], frame_rows: Callable[..., pa.Table]
) -> None:
    random = np.random.default_rng(1)
    n = 300
    matches = match_rows(
        n,
        ra_deg=random.uniform(0.0, 60.0, n),
        dec_deg=random.uniform(-30.0, 30.0, n),
        ref_mag=15.0 + random.normal(0.0, 0.02, n),
    )
    coarse, fine = (
        maps_table("lab", NIGHT, frame_rows(1), matches, zeropoints([{"frame_id": 1}]), Calibration(), order)
        for order in (2, 7)
    )
    assert coarse.num_rows < fine.num_rows
    assert sum(coarse["n_matches"].to_pylist()) > 290
    for name in ("n_matches", "weight_sum", "residual_sum", "residual_square_sum"):
        pixel = fine["healpix_pixel"].to_numpy() >> 10
        summed = dict.fromkeys(coarse["healpix_pixel"].to_pylist(), 0.0)
        for one, value in zip(pixel.tolist(), fine[name].to_pylist(), strict=True):
            summed[one] += value
        assert [summed[one] for one in coarse["healpix_pixel"].to_pylist()] == pytest.approx(
            coarse[name].to_pylist()
        )


def mean_residual(table: pa.Table) -> tuple[float, float]:
    """The mean residual of a whole map, and the error that its weights imply."""
    weight = float(np.sum(table["weight_sum"].to_numpy()))
    return float(np.sum(table["residual_sum"].to_numpy())) / weight, 1.0 / np.sqrt(weight)


@pytest.mark.parametrize(("outliers", "tilt"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.3)])
def test_neither_faint_stars_nor_outliers_bias_the_residual(
    match_rows: Callable[..., pa.Table], frame_rows: Callable[..., pa.Table], outliers: float, tilt: float
) -> None:
    """Stars down to the noise, detected where that makes them brighter; some vary, and red stars have a term."""
    random = np.random.default_rng(5)
    n = 40_000
    colour = random.uniform(0.0, 1.6, n)
    # As on the sky, twice as many with every magnitude.
    true_mag = 18.0 + np.log10(random.uniform(0.0, 1.0, n)) / 0.3
    ref_mag = true_mag + random.normal(0.0, 0.02, n)
    ref_mag[random.random(n) < outliers] += 0.4
    flux = 10.0 ** (-0.4 * (true_mag - 20.0 - tilt * (colour - 0.7)))
    flux_err = np.sqrt(25.0 + flux / 40.0)
    seen = flux + random.normal(0.0, flux_err)
    detected = seen > 4.0 * flux_err
    assert 0.4 < detected.mean() < 0.95
    given_columns = {
        "ref_mag": ref_mag, "ref_colour": colour, "flux_aper2": seen, "flux_aper2_err": flux_err,
        "ra_deg": random.uniform(0.0, 20.0, n),
    }  # fmt: skip
    matches = match_rows(
        int(detected.sum()), **{name: values[detected] for name, values in given_columns.items()}
    )
    zero = {"frame_id": 1, "zp_fit_err": 0.001, "colour": "B-V", "pivot_colour": 0.7, "colour_term": tilt}
    table = maps_table("lab", NIGHT, frame_rows(1), matches, zeropoints([zero]), Calibration(), 4)
    mean, error = mean_residual(table)
    assert error < 0.001
    assert abs(mean) < 3.0 * error, f"{1000 * mean:.2f} +- {1000 * error:.2f} mmag"


def test_depths_are_sums_over_the_frames_that_know_theirs(
    frame_rows: Callable[..., pa.Table], match_rows: Callable[..., pa.Table]
) -> None:
    frames = frame_rows(
        4,
        s_region=[square(10.0, 0.0, 5.0)] * 4,
        band=["V"] * 4,
        exposure_s=[20.0] * 4,
        flux_limit_injected=[100.0, 1000.0, None, 100.0],
        completeness=[0.9, 0.7, None, 0.8],
    )
    zeros = [{"frame_id": 1, "zp": 20.0, "mag_limit": 15.0}, {"frame_id": 2, "zp": 21.0, "mag_limit": None}]
    zeros.append({"frame_id": 3, "zp": 20.0, "mag_limit": 16.0})
    table = maps_table("lab", NIGHT, frames, match_rows(0), zeropoints(zeros), Calibration(), 5)
    assert table.num_rows > 20 and set(table["n_visits"].to_pylist()) == {4}
    sums = {name: set(table[name].to_pylist()) for name in table.column_names}
    assert (sums["n_limits"], sums["limit_sum"]) == ({2}, {31.0})
    assert (sums["n_completeness"], sums["half_limit_sum"]) == ({2}, {15.0 + 13.5})
    (share,) = sums["completeness_sum"]
    assert share == pytest.approx(1.6)


@given(
    st.floats(0.0, 359.9), st.floats(-89.0, 89.0), st.floats(0.0, 359.9), st.booleans(), st.floats(0.005, 0.05)
)  # fmt: skip
def test_pixels_lie_in_the_cells_in_which_the_wcs_puts_them(
    ra: float, dec: float, rotation: float, mirrored: bool, scale: float
) -> None:
    size, angle = (300, 200), np.radians(rotation)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [ra, dec], [150.5, 100.5]
    sign = 1.0 if mirrored else -1.0
    wcs.wcs.cd = scale * np.array(
        [[sign * np.cos(angle), np.sin(angle)], [-sign * np.sin(angle), np.cos(angle)]]
    )
    corners = wcs.all_pix2world([[-0.5, -0.5], [299.5, -0.5], [299.5, 199.5], [-0.5, 199.5]], 0)
    region = "POLYGON ICRS " + " ".join(f"{a:.8f} {d:.8f}" for a, d in corners)
    pixels = pixels_of_region(region, 7)
    x, y = wcs.all_world2pix(*healpy.pix2ang(2**7, pixels, nest=True, lonlat=True), 0)
    row = {"ra_deg": ra, "dec_deg": dec, "pixel_scale_arcsec": 3600.0 * scale, "rotation_deg": rotation,
           "mirrored": mirrored, "width_px": size[0], "height_px": size[1]}  # fmt: skip
    expected = cell_of(x, y, (size[1], size[0]))
    sure = np.all(
        [np.abs(v * 3.0 / n - np.round(v * 3.0 / n)) > 0.03 for v, n in ((x, 300), (y, 200))], axis=0
    )
    np.testing.assert_array_equal(cells_of_pixels(pixels, 7, row)[sure], expected[sure])


def test_limits_on_pixels_are_those_of_their_cells(
    frame_rows: Callable[..., pa.Table], match_rows: Callable[..., pa.Table]
) -> None:
    """The corners of the field see one magnitude less than its middle, and of one nothing is known."""
    corners, step = (1, 3, 7, 9), 10.0**0.4
    cells = {
        name: 100.0 * (step if i in corners else 1.0) for i, name in enumerate(cell_names("flux_limit"), 1)
    }
    cells |= {
        name: 50.0 * (step if i in corners else 1.0)
        for i, name in enumerate(cell_names("flux_limit_injected"), 1)
    }
    cells["flux_limit_cell9"] = None
    frames = frame_rows(
        1, s_region=square(10.0, 0.0, 5.0), ra_deg=10.0, dec_deg=0.0, rotation_deg=0.0, mirrored=False,
        pixel_scale_arcsec=3600.0 * np.degrees(np.tan(np.radians(5.0))) / 50.0, width_px=100, height_px=100,
        flux_limit=100.0, flux_limit_injected=50.0, completeness=0.9, **cells,
    )  # fmt: skip
    zero = {"frame_id": 1, "zp": 20.0, "mag_limit": 15.0}
    table = maps_table("lab", NIGHT, frames, match_rows(0), zeropoints([zero]), Calibration(), 6).to_pandas()
    ra, dec = healpy.pix2ang(64, table.healpix_pixel.to_numpy(), nest=True, lonlat=True)
    corner = (np.abs(ra - 10.0) > 1.7) & (np.abs(dec) > 1.7)
    middle = (np.abs(ra - 10.0) < 1.6) | (np.abs(dec) < 1.6)
    unknown = (ra < 8.3) & (dec > 1.7)
    assert min(corner.sum(), middle.sum(), unknown.sum()) > 5
    half = 20.0 - 2.5 * np.log10(50.0)
    np.testing.assert_allclose(table.half_limit_sum[corner], half - 1.0, atol=1e-6)
    np.testing.assert_allclose(table.half_limit_sum[middle], half, atol=1e-6)
    np.testing.assert_allclose(table.limit_sum[corner & ~unknown], 14.0, atol=1e-6)
    np.testing.assert_allclose(table.limit_sum[middle | unknown], 15.0, atol=1e-6)
