"""The table ``forced_sources``: the targets on a frame as Arrow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.camera import Site
from skylake.core.sphere import healpix_index
from skylake.schema import conform, load
from skylake.schema.aperture_columns import nest_apertures
from skylake.table.sources import Placed, above_horizon

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]


class Forced(Placed, Protocol):
    """What the table is made from; see :class:`skylake.image.psf.forced_photometry.ForcedMeasurements`."""

    @property
    def star_id(self) -> npt.NDArray[np.int64]: ...  # noqa: D102
    @property
    def ra_deg(self) -> Floats: ...  # noqa: D102
    @property
    def dec_deg(self) -> Floats: ...  # noqa: D102
    @property
    def targets_version(self) -> int: ...  # noqa: D102
    @property
    def chi2(self) -> Floats: ...  # noqa: D102
    @property
    def contamination(self) -> Floats: ...  # noqa: D102
    @property
    def n_bad(self) -> Integers: ...  # noqa: D102
    @property
    def apcor(self) -> Mapping[str, Floats]: ...  # noqa: D102


def forced_table(frame: Mapping[str, Any], forced: Forced, site: Site | None = None) -> pa.Table:
    """Return the rows of one frame.

    Parameters
    ----------
    frame : mapping
        The row of ``frames``.
    forced : Forced
        Arrays of shape (n,).
    site : Site or None
        That of a camera that sees the whole sky: then each target has its altitude and azimuth.
    """
    n = len(forced.star_id)
    columns: dict[str, Any] = {
        "_healpix_29": healpix_index(forced.ra_deg, forced.dec_deg),
        "frame_id": np.full(n, frame["frame_id"], np.int64),
        "star_id": forced.star_id,
        "camera": pa.repeat(frame["camera"], n),
        "night": np.full(n, frame["night"], np.int32),
        "mjd_mid": np.full(n, frame["mjd_mid"], float),
        "filter": pa.repeat(pa.scalar(frame.get("filter"), pa.string()), n),
        "ra_deg": forced.ra_deg,
        "dec_deg": forced.dec_deg,
        **above_horizon(frame, forced.ra_deg, forced.dec_deg, site),
        "targets_version": np.full(n, forced.targets_version, np.int32),
        "x_px": forced.x,
        "y_px": forced.y,
    }
    measured: dict[str, Any] = {"edge_distance_px": forced.edge_distance}
    for name in forced.flux:
        measured[f"flux_{name}"] = forced.flux[name]
        measured[f"flux_{name}_err"] = forced.flux_err[name]
        if name.startswith("aper"):
            measured[f"apcor_rel_{name}"] = forced.apcor[name]
    measured |= {
        "chi2": forced.chi2,
        "contamination": forced.contamination,
        "sky_adu": forced.sky,
        "sky_rms_adu": forced.sky_rms,
    }
    schema = load("forced_sources")
    nest_apertures(measured, schema)
    columns |= {name: pa.array(values, from_pandas=True) for name, values in measured.items()}
    columns |= {"n_bad": forced.n_bad, "flags": forced.flags}
    return conform(pa.table(columns), schema)
