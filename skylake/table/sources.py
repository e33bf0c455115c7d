"""The table ``sources``: the detections of a frame as Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.camera import Camera, Site
from skylake.core.ellipses import shape_terms
from skylake.core.ephemeris import alt_az
from skylake.core.sphere import healpix_index
from skylake.schema import conform, load
from skylake.schema.aperture_columns import nest_apertures

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


class Placed(Protocol):
    """What is known of all that is measured on an image, wherever its place comes from; arrays of shape (n,)."""

    @property
    def x(self) -> Floats: ...  # noqa: D102
    @property
    def y(self) -> Floats: ...  # noqa: D102
    @property
    def edge_distance(self) -> Floats: ...  # noqa: D102
    @property
    def flux(self) -> dict[str, Floats]: ...  # noqa: D102
    @property
    def flux_err(self) -> dict[str, Floats]: ...  # noqa: D102
    @property
    def sky(self) -> Floats: ...  # noqa: D102
    @property
    def sky_rms(self) -> Floats: ...  # noqa: D102
    @property
    def flags(self) -> Integers: ...  # noqa: D102


class Measured(Placed, Protocol):
    """What a table of sources is made from; see :class:`skylake.image.photometry.measure_sources.Measurements`."""

    @property
    def x_err(self) -> Floats: ...  # noqa: D102
    @property
    def y_err(self) -> Floats: ...  # noqa: D102
    @property
    def crowding(self) -> Floats: ...  # noqa: D102
    @property
    def kron_radius(self) -> Floats: ...  # noqa: D102
    @property
    def flux_max(self) -> Floats: ...  # noqa: D102
    @property
    def n_pixels(self) -> Integers: ...  # noqa: D102
    @property
    def fwhm(self) -> Floats: ...  # noqa: D102
    @property
    def half_light(self) -> Floats: ...  # noqa: D102
    @property
    def a(self) -> Floats: ...  # noqa: D102
    @property
    def b(self) -> Floats: ...  # noqa: D102
    @property
    def theta(self) -> Floats: ...  # noqa: D102
    @property
    def apcor(self) -> dict[str, Floats]: ...  # noqa: D102


def sources_table(
    frame: Mapping[str, Any], measured: Measured, ra_deg: Floats, dec_deg: Floats, site: Site | None = None
) -> pa.Table:
    """Return the rows of one frame.

    Sources are numbered in the order of y then x, in which `measured` comes. A source whose position is
    not finite (outside the domain of a wide projection) has no place on the sky and is left out.

    Parameters
    ----------
    frame : mapping
        The row of ``frames``.
    measured : Measured
        Arrays of shape (n,).
    ra_deg, dec_deg : ndarray, shape (n,)
        ICRS positions.
    site : Site or None
        That of a camera that sees the whole sky: then each source has its altitude and azimuth.
    """
    placed = np.isfinite(ra_deg) & np.isfinite(dec_deg)
    n = int(placed.sum())
    columns: dict[str, Any] = {
        "_healpix_29": healpix_index(ra_deg[placed], dec_deg[placed]),
        "frame_id": np.full(n, frame["frame_id"], np.int64),
        "source_no": np.flatnonzero(placed).astype(np.int32),
        "camera": pa.repeat(frame["camera"], n),
        "night": np.full(n, frame["night"], np.int32),
        "mjd_mid": np.full(n, frame["mjd_mid"], float),
        "filter": pa.repeat(pa.scalar(frame.get("filter"), pa.string()), n),
        "ra_deg": ra_deg[placed],
        "dec_deg": dec_deg[placed],
        **above_horizon(frame, ra_deg[placed], dec_deg[placed], site),
    }
    schema = load("sources")
    own = {name: values[placed] for name, values in _measured_columns(measured).items()}
    nest_apertures(own, schema)
    columns |= {name: pa.array(values, from_pandas=True) for name, values in own.items()}
    return conform(pa.table(columns), schema)


def unplaced_table(frame: Mapping[str, Any], measured: Measured) -> pa.Table:
    """Return the rows of one frame of which nobody knows where it points, as a table of its own.

    A lake has no place for them: positions are NaN, and the column of the HEALPix index is left out.

    Parameters
    ----------
    frame : mapping
        The row of ``frames``.
    measured : Measured
        Arrays of shape (n,).
    """
    anywhere = np.zeros(len(measured.x))
    table = sources_table(frame, measured, anywhere, anywhere).drop_columns(["_healpix_29"])
    for name in ("ra_deg", "dec_deg"):
        number = table.column_names.index(name)
        values = pa.array(np.full(len(anywhere), np.nan))
        table = table.set_column(number, table.schema.field(number), values)
    return table


def whole_sky_site(camera: Camera) -> Site | None:
    """Return the site of a camera that sees the whole sky; None for others, or if it is not known."""
    return camera.site if camera.astrometry.all_sky and camera.site.known else None


def above_horizon(
    frame: Mapping[str, Any], ra_deg: Floats, dec_deg: Floats, site: Site | None
) -> dict[str, Any]:
    """Return altitude and azimuth of positions as columns; none without a site."""
    if site is None:
        return {}
    altitude, azimuth = alt_az(ra_deg, dec_deg, frame["mjd_mid"], site)
    # The nearest float below 360 may be 360 itself in single precision.
    turned = azimuth.astype(np.float32) % np.float32(360.0)
    return {"altitude_deg": altitude.astype(np.float32), "azimuth_deg": turned}


def _measured_columns(measured: Measured) -> dict[str, npt.NDArray[Any]]:
    columns: dict[str, npt.NDArray[Any]] = {
        "x_px": measured.x,
        "y_px": measured.y,
        "x_err_px": measured.x_err,
        "y_err_px": measured.y_err,
        "edge_distance_px": measured.edge_distance,
    }
    for name in measured.flux:
        columns[f"flux_{name}"] = measured.flux[name]
        columns[f"flux_{name}_err"] = measured.flux_err[name]
        columns[f"apcor_rel_{name}"] = measured.apcor[name]
    shape = shape_terms(measured.fwhm, measured.a, measured.b, measured.theta)
    columns |= dict(zip(("shape_s", "shape_d", "shape_k"), shape, strict=True))
    return columns | {
        "crowding": measured.crowding,
        "kron_radius": measured.kron_radius,
        "flux_max": measured.flux_max,
        "sky_adu": measured.sky,
        "sky_rms_adu": measured.sky_rms,
        "n_pixels": measured.n_pixels,
        "fwhm_px": measured.fwhm,
        "half_light_px": measured.half_light,
        "a_px": measured.a,
        "b_px": measured.b,
        "theta_deg": measured.theta,
        "flags": measured.flags,
    }
