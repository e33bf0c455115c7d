"""Targets are judged by their forced measurements, also where they are not detected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from watching_sky import CENTRE, Sky

from skylake.core.sphere import healpix_index
from skylake.lake import Snapshot
from skylake.schema import arrow_schema, conform, load

Put = Callable[..., Snapshot]
STARS, POINTS, SNR = 30, 6, 20.0
NIGHTS = range(20240410, 20240416)


def forced_night(night: int, light: dict[int, float], flags: dict[int, int] | None = None) -> pa.Table:
    """Rows of ``forced_lightcurves`` of stars of 12 mag, whose light is multiplied by a factor."""
    random = np.random.default_rng(night)
    ra, dec = CENTRE[0] + 0.01 * np.arange(STARS), np.full(STARS, CENTRE[1])
    schema = load("forced_lightcurves")
    form = arrow_schema(schema)
    factor = np.array([light.get(star, 1.0) for star in range(STARS)])
    # In units of the light of a star of 12 mag; a frame has S/N 20.
    flux = factor[:, None] + random.normal(0.0, 1.0 / SNR, (STARS, POINTS))
    error = 1.0 / SNR / np.sqrt(POINTS)
    mean, median = flux.mean(axis=1), np.median(flux, axis=1)
    offsets = pa.array(np.arange(STARS + 1) * POINTS, pa.int32())

    def nested(name: str, values: dict[str, np.ndarray]) -> pa.StructArray:
        kind = form.field(name).type
        lists = [
            pa.ListArray.from_arrays(
                offsets,
                pa.array(values[field.name].ravel(), from_pandas=True).cast(field.type.value_type)
                if field.name in values
                else pa.nulls(STARS * POINTS, field.type.value_type),
                type=field.type,
            )
            for field in kind
        ]
        return pa.StructArray.from_arrays(lists, fields=list(kind))

    def mags(values: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(values > 0, 12.0 - 2.5 * np.log10(np.maximum(values, 1e-9)), np.nan)

    each = np.ones((STARS, POINTS))
    bits = np.zeros((STARS, POINTS), np.int64)
    for star, value in (flags or {}).items():
        bits[star] = value
    mjd = 60408.1 + (night - NIGHTS[0]) + 0.001 * each.cumsum(axis=1)
    columns = {
        "_healpix_29": healpix_index(ra, dec), "star_id": healpix_index(ra, dec), "camera": ["lab"] * STARS,
        "band": ["V"] * STARS, "night": np.full(STARS, night, np.int32), "catalog": ["simcat"] * STARS,
        "version": np.ones(STARS, np.int32), "ra_deg": ra, "dec_deg": dec, "origin": ["simcat"] * STARS,
        "ref_id": 5000 + np.arange(STARS), "n_points": np.full(STARS, POINTS), "n_clean": np.full(STARS, POINTS),
        "n_detected": np.full(STARS, POINTS), "mjd_first": mjd[:, 0], "mjd_last": mjd[:, -1],
        "mag_mean": pa.array(mags(mean), from_pandas=True),
        "mag_mean_random_err": pa.array(1.0857 * error / np.maximum(mean, 1e-3)),
        "snr_mean": mean / error, "mag_mean_limit": np.full(STARS, 12.0 - 2.5 * np.log10(5.0 * error)),
        "mag_median": pa.array(mags(median), from_pandas=True),
        "mag_scatter": np.full(STARS, 1.0857 / SNR),
        "lightcurve": nested(
            "lightcurve",
            {"frame_id": night * 100 + each.cumsum(axis=1), "mjd_mid": mjd, "mag": mags(flux), "flags": bits},
        ),
        "lightcurve_errors": nested("lightcurve_errors", {"mag_random_err": each / SNR}),
    }  # fmt: skip
    return conform(pa.table(columns), schema)


@pytest.fixture
def forced(sky: Sky, put: Put) -> Callable[[int, pa.Table], None]:
    """A function that puts a night of forced measurements, with frames and zeropoints, into the lake."""

    def make(night: int, rows: pa.Table) -> None:
        sky.night(night)
        name = f"lab-{night}"
        # Aggregates of detections are those of the night; those of forced photometry are drawn.
        sky.aggregate("lightcurves", "star_statistics")
        put(sky.lake, ("forced_lightcurves", name, rows), camera="lab", night=night)

    return make


def test_a_target_that_fades_is_fainter_or_vanished(
    sky: Sky, forced: Callable[[int, pa.Table], None]
) -> None:
    for night in NIGHTS[:-1]:
        forced(night, forced_night(night, {}))
    # A fiftieth of its light is lost in the noise, half of it is not.
    forced(NIGHTS[-1], forced_night(NIGHTS[-1], {4: 0.02, 9: 0.5, 12: 2.0}))
    sky.watch(*((CENTRE[0] + 0.01 * star, CENTRE[1]) for star in (4, 9, 12, 20)), from_night=NIGHTS[-1])
    sky.aggregate("alerts")
    found = {row["object_id"] - 5000: row for row in sky.alerts() if row["measured"] == "forced"}
    assert {star: row["kind"] for star, row in found.items()} == {4: "vanished", 9: "fainter", 12: "brighter"}
    assert found[9]["difference"] == pytest.approx(0.75, abs=4 * found[9]["difference_err"])
    assert found[9]["difference_err"] < 0.15 and found[9]["n_good"] == POINTS
    gone = found[4]
    assert gone["mag"] is None and gone["mag_limit"] == pytest.approx(
        12.0 - 2.5 * np.log10(5 / SNR / np.sqrt(6))
    )
    assert gone["significance"] > 5 and gone["past_mag"] == pytest.approx(12.0, abs=0.05)


def test_flagged_forced_measurements_do_not_ring(sky: Sky, forced: Callable[[int, pa.Table], None]) -> None:
    for night in NIGHTS[:-1]:
        forced(night, forced_night(night, {}))
    forced(NIGHTS[-1], forced_night(NIGHTS[-1], {4: 0.02, 12: 2.0}, {4: 1 << 3, 12: 1 << 2}))
    sky.watch(*((CENTRE[0] + 0.01 * star, CENTRE[1]) for star in (4, 12)), from_night=NIGHTS[-1])
    sky.aggregate("alerts")
    assert [row for row in sky.alerts() if row["measured"] == "forced"] == []
