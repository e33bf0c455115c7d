"""Rows of ``frames`` and ``matches``, and drawn nights of them, for tests of several folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from skylake.core.camera import FLUXES
from skylake.core.ephemeris import airmass
from skylake.core.sphere import healpix_index
from skylake.schema import conform, load
from skylake.table.frames import frames_table

NIGHT = 20240407


@dataclass(frozen=True, slots=True)
class Night:
    """A night at the level of tables: its frames, its matches, and the zeropoints that are true."""

    frames: pa.Table
    matches: pa.Table
    zp: npt.NDArray[np.float64]
    star: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]


@pytest.fixture(scope="session")
def frame_rows() -> Callable[..., pa.Table]:
    """A function that makes rows of ``frames``; columns are given as lists, or as one value for all."""

    def make(n: int, **columns: Any) -> pa.Table:
        rows = []
        for i in range(n):
            row = {
                "frame_id": i + 1,
                "camera": "lab",
                "night": NIGHT,
                "file": f"/nowhere/{i}.fits",
                "extension": 0,
                "status": "ok",
                "flags": 0,
                "mjd_mid": 60408.1 + 0.001 * i,
                "exposure_s": 20.0,
                "filter": "V",
                "band": "V",
                "config_sha256": "0" * 64,
                "software_version": "0",
            }
            row |= {f"apcor_{name}": 1.0 for name in FLUXES} | {f"apcor_{name}_err": 0.0 for name in FLUXES}
            rows.append(row | {key: v[i] if isinstance(v, list) else v for key, v in columns.items()})
        return frames_table(rows)

    return make


@pytest.fixture(scope="session")
def match_rows() -> Callable[..., pa.Table]:
    """A function that makes rows of ``matches`` from some columns; the others are filled in."""

    def make(n: int, **columns: Any) -> pa.Table:
        ra = np.broadcast_to(np.asarray(columns.get("ra_deg", 120.0), float), n)
        dec = np.broadcast_to(np.asarray(columns.get("dec_deg", -25.0), float), n)
        defaults: dict[str, Any] = {
            "_healpix_29": healpix_index(ra, dec),
            "source_no": np.arange(n),
            "frame_id": 1,
            "catalog": "simcat",
            "ref_id": np.arange(n),
            "camera": "lab",
            "night": NIGHT,
            "mjd_mid": 60408.1,
            "band": "V",
            "separation_arcsec": 0.1,
            "n_candidates": 1,
            "ref_mag": 10.0,
            "ref_mag_err": 0.02,
            "ref_colour": 0.7,
            "ref_crowding": 0.0,
            "x_px": 100.0,
            "y_px": 100.0,
            "crowding": 0.0,
            "flags": 0,
        }
        for name in FLUXES:
            defaults |= {f"flux_{name}": 100.0, f"flux_{name}_err": 1.0}
        for name in ("", "moved_", "source_"):
            defaults |= {f"{name}ra_deg": ra, f"{name}dec_deg": dec}
        kinds = {column.name: column.datatype for column in load("matches").columns}
        numpy_kinds = {
            "long": "i8",
            "int": "i4",
            "short": "i2",
            "double": "f8",
            "float": "f8",
            "boolean": "?",
        }
        arrays = {}
        for name, value in (defaults | columns).items():
            if kinds[name] == "string":
                values = [value] * n if isinstance(value, str) or value is None else list(value)
                arrays[name] = pa.array(values, pa.string())
            else:
                arrays[name] = pa.array(np.broadcast_to(np.asarray(value, numpy_kinds[kinds[name]]), n))
        return conform(pa.table(arrays), load("matches"))

    return make


@pytest.fixture(scope="session")
def make_night(
    frame_rows: Callable[..., pa.Table], match_rows: Callable[..., pa.Table]
) -> Callable[..., Night]:
    """A function that draws a night: the same stars on all frames, with honest errors and a share of outliers."""

    def make(
        seed: int,
        n_frames: int = 4,
        n_stars: int = 60,
        colour_term: float = 0.12,
        catalog_error: float = 0.02,
        intrinsic: float = 0.01,
        apcor_error: float = 0.003,
        cloudy: float = 0.0,
        variable: float = 0.0,
        blended: float = 0.0,
        saturated: float = 0.0,
        extinction: float | None = None,
        **columns: Any,
    ) -> Night:
        random = np.random.default_rng(seed)
        zp = 20.0 + random.normal(0.0, 0.1, n_frames)
        true_mag = random.uniform(9.0, 13.0, n_stars)
        colour = random.uniform(0.1, 1.5, n_stars)
        ref_mag = (
            true_mag + random.normal(0.0, catalog_error, n_stars) + random.normal(0.0, intrinsic, n_stars)
        )
        frame, star = (values.ravel() for values in np.mgrid[:n_frames, :n_stars])
        off = np.zeros(frame.size)
        off[(random.random(n_stars) < variable)[star]] += 0.4
        off[(random.random(n_stars) < blended)[star]] -= 0.5
        # A cloud hides one side of the first frame.
        hidden = (frame == 0) & (star < cloudy * n_stars)
        off[hidden] += random.uniform(0.3, 1.0, np.count_nonzero(hidden))
        full = (random.random(n_stars) < saturated)[star]
        off[full] += 0.7
        if extinction is not None:
            # The sky turns by half a degree from frame to frame; few stars are high.
            altitude = np.degrees(np.arcsin(random.uniform(0.17, 0.98, n_stars)))[star] - 0.5 * frame
            off += extinction * (airmass(altitude.astype(np.float32)) - 1.0)
            columns = {"altitude_deg": altitude} | columns
        mag = true_mag[star] + off
        flux = 10.0 ** (-0.4 * (mag - zp[frame] - colour_term * (colour[star] - 0.7)))
        # The sky of 30 pixels, and photons.
        flux_err = np.sqrt(8.0 + flux / 40.0)
        measured = flux + random.normal(0.0, flux_err)
        apcor = 1.15 * (1.0 + random.normal(0.0, apcor_error, n_frames))
        frames = frame_rows(n_frames, apcor_aper2=apcor.tolist(), apcor_aper2_err=1.15 * apcor_error)
        given: dict[str, Any] = {
            "frame_id": frame + 1,
            "source_no": star,
            "ref_id": star,
            "mjd_mid": 60408.1 + 0.001 * frame,
            "flux_aper2": measured / 1.15,
            "flux_aper2_err": flux_err / 1.15,
            "ref_mag": ref_mag[star],
            "ref_mag_err": catalog_error,
            "ref_colour": colour[star],
            "flags": np.where(full, 1, 0),
        }
        return Night(frames, match_rows(frame.size, **(given | columns)), zp, star, frame)

    return make
