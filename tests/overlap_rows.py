"""A field that two cameras see, calibrated by different catalogs, as tables of a lake, with stars of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from skylake.calibration.calibrated_forced import calibrate_forced
from skylake.calibration.calibrated_matches import calibrate_matches
from skylake.core.camera import Site
from skylake.core.sphere import healpix_index
from skylake.lake import Lake
from skylake.schema import arrow_schema, conform, load
from skylake.settings import Settings
from skylake.table.forced_lightcurves import TargetFacts, forced_lightcurves_table
from skylake.table.lightcurves import lightcurves_table

Floats = npt.NDArray[np.float64]
NIGHT, WIDTH_ARCSEC = 20240901, 6.0
STARS = ("listed", "target", "faint", "new_target", "new")


@dataclass(frozen=True, slots=True)
class OverlapCamera:
    """A camera: its catalog, band, zeropoint and frames."""

    name: str
    catalog: str
    band: str
    zp: float
    frame_id: npt.NDArray[np.int64]
    mjd: Floats
    #: Degrees by which its positions are off.
    off_deg: float


EAST = OverlapCamera("east", "apass", "V", 20.0, np.arange(1, 13), 60554.0 + np.linspace(0.1, 0.3, 12), 0.0)
WEST = OverlapCamera(
    "west", "refcat2", "R", 21.0, np.arange(101, 109), 60554.0 + np.linspace(0.103, 0.27, 8), 0.7 / 3600.0
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """The lake, where its stars are, and what each is called: a name of `STARS`, and for objects the camera."""

    lake: Lake
    ra: dict[str, float] = field(default_factory=dict)
    dec: float = 5.0
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def cone(self) -> str:
        """The field, as options take it."""
        return f"10.03,{self.dec},600"


def plain_rows(table: str, n: int, **columns: Any) -> pa.Table:
    """Rows that are null, or 0 where that may not be, in what is not given."""
    schema = load(table)
    made = {}
    for one in arrow_schema(schema):
        if one.name in columns:
            value = columns[one.name]
            if not isinstance(value, pa.Array):
                whole = [value] * n if isinstance(value, str) else np.broadcast_to(value, n)
                value = pa.array(whole, from_pandas=True)
            made[one.name] = value.cast(one.type)
        elif one.nullable:
            made[one.name] = pa.nulls(n, one.type)
        else:
            zero = "x" if pa.types.is_string(one.type) else one.type.to_pandas_dtype()(0)
            made[one.name] = pa.array([zero] * n, one.type)
    return conform(pa.table(made), schema)


@pytest.fixture(scope="session")
def overlap(
    tmp_path_factory: pytest.TempPathFactory,
    match_rows: Callable[..., pa.Table],
    frame_rows: Callable[..., pa.Table],
    put: Callable[..., Any],
) -> Overlap:
    """The lake of both cameras. Tests do not change it.

    `listed` has the number 1 in both catalogs, `target` and `faint` are targets of east from apass, `new_target` is
    one that no catalog has. West sees `new_target` too, and both see `new`; these are objects of each camera. Of the
    apertures of detections the smallest is the best for east.
    """
    lake = Lake.create(tmp_path_factory.mktemp("overlap") / "lake", Settings(cluster="inline", pixel_order=3))
    made = Overlap(lake, {name: 10.0 + 0.015 * number for number, name in enumerate(STARS)})
    made.ids.update(listed=1, target=2, faint=3)
    unlisted = ("new_target", "new")
    for camera in (EAST, WEST):
        for name in unlisted:
            place = healpix_index([made.ra[name]], [made.dec + camera.off_deg])
            made.ids[f"{name} {camera.name}"] = int(place[0])
        frames, zeros = _frames(camera, frame_rows), zeropoint_rows(camera)
        parts = [("frames", frames), ("zeropoints", zeros)]
        parts += [
            ("sources", _sources(made, camera, unlisted + ("target",) * (camera is EAST))),
            ("objects", _objects(made, camera, unlisted)),
        ]
        parts += _of_catalog(made, camera, match_rows, frames, zeros)
        if camera is EAST:
            parts += _of_targets(made, camera, frames, zeros)
        named = [(table, f"{camera.name}-{NIGHT}", rows) for table, rows in parts]
        put(lake, *named, camera=camera.name, night=NIGHT)
    return made


def _frames(camera: OverlapCamera, frame_rows: Callable[..., pa.Table]) -> pa.Table:
    return frame_rows(
        len(camera.frame_id), frame_id=camera.frame_id.tolist(), mjd_mid=camera.mjd.tolist(), camera=camera.name,
        night=NIGHT, filter=camera.band, band=camera.band, pixel_scale_arcsec=2.0, airmass=1.5,
    )  # fmt: skip


def zeropoint_rows(camera: OverlapCamera, **columns: Any) -> pa.Table:
    """The zeropoints of the frames of a camera."""
    given: dict[str, Any] = {
        "frame_id": camera.frame_id, "camera": camera.name, "night": NIGHT, "mjd_mid": camera.mjd, "band": camera.band,
        "catalog": camera.catalog, "version": 1, "flux": "aper2", "zp": camera.zp, "zp_err": 0.01, "zp_fit_err": 0.01,
        "zp_random_err": 0.002, "colour_term": 0.1, "colour_term_err": 0.01, "pivot_colour": 0.7, "mean_colour": 0.7,
        "colour_spread": 0.3, "n_used": 50, "photon_scale": 1.0, "floor_mag": 0.002,
    }  # fmt: skip
    return plain_rows("zeropoints", len(camera.frame_id), **(given | columns))


def _measured(made: Overlap, camera: OverlapCamera, names: tuple[str, ...], mags: Floats) -> dict[str, Any]:
    """Where stars are on all frames of a camera and their flux, star after star."""
    n, star = len(camera.frame_id), np.repeat(np.arange(len(names)), len(camera.frame_id))
    random = np.random.default_rng(len(names) + n)
    error = np.full(len(star), 10.0 ** (-0.4 * (16.0 - camera.zp)) * 0.1)
    flux = 10.0 ** (-0.4 * (mags[star] - camera.zp)) + error * random.standard_normal(len(star))
    ra, dec = np.array([made.ra[name] for name in names])[star], np.full(len(star), made.dec + camera.off_deg)
    return {
        "_healpix_29": healpix_index(ra, dec), "frame_id": np.tile(camera.frame_id, len(names)), "camera": camera.name,
        "night": NIGHT, "mjd_mid": np.tile(camera.mjd, len(names)), "ra_deg": ra, "dec_deg": dec,
        "x_px": 100.0 + star, "y_px": 100.0, "flux": flux, "error": error, "star": star,
    }  # fmt: skip


def _sources(made: Overlap, camera: OverlapCamera, names: tuple[str, ...]) -> pa.Table:
    known = _measured(made, camera, names, np.array([13.0, 12.5, 12.8]))
    flux, error, star = (known.pop(name) for name in ("flux", "error", "star"))
    fluxes = {"flux_aper1": 1.01 * flux, "flux_aper2": flux} | {
        f"flux_aper{one}_err": error for one in (1, 2)
    }
    return plain_rows(
        "sources", len(star), source_no=1000 + star, fwhm_px=WIDTH_ARCSEC / 2.0, **fluxes, **known
    )


def _objects(made: Overlap, camera: OverlapCamera, names: tuple[str, ...]) -> pa.Table:
    ids = np.array([made.ids[f"{name} {camera.name}"] for name in names])
    ra = np.array([made.ra[name] for name in names])
    return plain_rows(
        "objects", len(names), object_id=ids, _healpix_29=ids, camera=camera.name, status="qualified", ra_deg=ra,
        dec_deg=made.dec + camera.off_deg, scatter_arcsec=0.2,
    )  # fmt: skip


def _of_catalog(
    made: Overlap,
    camera: OverlapCamera,
    match_rows: Callable[..., pa.Table],
    frames: pa.Table,
    zeros: pa.Table,
) -> list[tuple[str, pa.Table]]:
    """The matches of the star that is no target, and its light curve."""
    known = _measured(made, camera, ("listed",), np.array([12.0]))
    flux, error, star = (known.pop(name) for name in ("flux", "error", "star"))
    fluxes = {"flux_aper1": 1.01 * flux, "flux_aper2": flux} | {
        f"flux_aper{one}_err": error for one in (1, 2)
    }
    matches = match_rows(
        len(star), ref_id=1, catalog=camera.catalog, band=camera.band, source_no=1, **fluxes, **known
    )
    curves = lightcurves_table(matches, calibrate_matches(matches, frames, zeros), {camera.name: Site()})
    return [("matches", matches), ("lightcurves", _in_block(curves, camera))]


def _of_targets(
    made: Overlap, camera: OverlapCamera, frames: pa.Table, zeros: pa.Table
) -> list[tuple[str, pa.Table]]:
    """The list of targets, their forced measurements, and their light curves; the mean flux of `faint` is near 0."""
    names, n = ("target", "faint", "new_target"), len(camera.frame_id)
    known = _measured(made, camera, names, np.array([12.8, 19.5, 13.0]))
    flux, error, star = (known.pop(name) for name in ("flux", "error", "star"))
    first = np.arange(3) * n
    ids, origins = known["_healpix_29"], np.array([camera.catalog, camera.catalog, "detections"], object)
    refs = np.array([2, 3, -1])
    listed = plain_rows(
        "targets", 3, _healpix_29=ids[first], camera=camera.name, version=1, star_id=ids[first], epoch=2016.0,
        ra_deg=known["ra_deg"][first], dec_deg=known["dec_deg"][first], origin=pa.array(origins),
        ref_id=pa.array(refs, mask=refs < 0),
    )  # fmt: skip
    values = {f"flux_{name}": flux for name in ("hybrid2", "aper2")} | {"flux_psf": 1.01 * flux}
    # The fit is said to be best, and has failed on all frames of a star; of another one measurement is lost.
    values["flux_psf"][n : 2 * n] = np.nan
    values |= {f"{name}_err": np.where(np.isnan(one), np.nan, error) for name, one in values.items()}
    low = 12.0 + 0.5 * np.tile(np.arange(16), 2)
    repeats = plain_rows(
        "repeatability", 32, camera=camera.name, night=NIGHT, band=camera.band, n_stars=100, ratio=0.5, ratio_err=0.01,
        flux=pa.array(["detected_aper1"] * 16 + ["psf"] * 16), mag_low=low, mag_high=low + 0.5,
    )  # fmt: skip
    forced = plain_rows(
        "forced_sources", 3 * n, star_id=ids, targets_version=1, sky_rms_adu=1.0, **values, **known
    )
    colour, unknown = np.where(refs < 0, np.nan, 0.9)[star], np.full(3 * n, np.nan)
    ref_id = refs[star]
    photometry = calibrate_forced(forced, colour, frames, zeros, colour_err=unknown, ref_id=ref_id)
    same = np.full(3 * n, camera.catalog, object)
    facts = TargetFacts(
        origins[star], ref_id, unknown, colour, unknown, np.full(3 * n, camera.band, object), same
    )
    curves = forced_lightcurves_table(forced, photometry, facts, {camera.name: Site()})
    made.ids["new_target"] = int(ids[2 * n])
    return [
        ("targets", listed),
        ("forced_sources", forced.filter(pa.array(np.arange(3 * n) != 3))),
        ("repeatability", repeats),
        ("forced_lightcurves", _in_block(curves, camera)),
    ]


def _in_block(curves: pa.Table, camera: OverlapCamera) -> pa.Table:
    """Light curves as a night of a camera has them."""
    values = {"night": [NIGHT] * curves.num_rows, "camera": [camera.name] * curves.num_rows}
    for name, column in values.items():
        place = curves.schema.get_field_index(name)
        curves = curves.set_column(
            place, curves.schema.field(place), pa.array(column, curves.schema.field(place).type)
        )
    return curves
