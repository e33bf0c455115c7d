"""Choose the catalog that calibrates a camera, where neither its profile nor the settings name one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from skylake.core.camera import Camera
from skylake.core.reasons import Status
from skylake.lake.cameras.chosen_catalogs import ChosenCatalog
from skylake.lake.commits.snapshot import Snapshot
from skylake.sky.catalog_choice import FieldOfFrame, rank_catalogs
from skylake.sky.lake_catalogs import ReferenceCatalog

if TYPE_CHECKING:
    from skylake.cameras import Profile

#: Frames of each filter whose fields are looked at, from the first to the last.
_FRAMES = 8
_ONLY = "it is the only one"
_COLUMNS = [
    "filter",
    "mjd_mid",
    "ra_deg",
    "dec_deg",
    "pixel_scale_arcsec",
    "width_px",
    "height_px",
    "n_detected",
    "n_saturated",
]


def choose_catalog(snapshot: Snapshot, profile: Profile) -> ChosenCatalog | None:
    """Return the best catalog of a lake to calibrate a camera with; None if the lake has none.

    Raises
    ------
    CatalogError
        If a catalog is damaged.
    """
    names = snapshot.catalogs()
    if len(names) == 1:
        return ChosenCatalog(names[0], _ONLY)
    catalogs = [ReferenceCatalog.open(snapshot.catalog(name)) for name in names]
    catalogs = [catalog for catalog in catalogs if not catalog.lists_variables]
    if len(catalogs) < 2:
        return ChosenCatalog(catalogs[0].name, _ONLY) if catalogs else None
    camera = profile.base
    fields = _fields(snapshot, camera)
    bands = [field.band for field in fields] or list(camera.filters.values())
    best, *others = rank_catalogs(catalogs, bands, fields, camera.calibration)
    rest = ", ".join(f"{one.name}: {one.text}" for one in others)
    return ChosenCatalog(best.name, f"{best.text} ({rest})")


def _fields(snapshot: Snapshot, camera: Camera) -> list[FieldOfFrame]:
    """Return what some frames of a camera saw."""
    good = pc.field("status") == Status.OK.value
    rows = snapshot.read("frames", _COLUMNS, lambda part: part.camera == camera.name, good)
    for name in _COLUMNS[2:]:
        rows = rows.filter(pc.is_valid(rows[name]))
    rows = rows.sort_by([("filter", "ascending"), ("mjd_mid", "ascending")])
    fields = []
    for name in pc.unique(rows["filter"]).to_pylist():
        band = camera.filter_band(camera.default_filter if name is None else name)
        if band is None:
            continue
        mine = np.flatnonzero(np.asarray([one == name for one in rows["filter"].to_pylist()]))
        chosen = np.unique(mine[np.linspace(0, mine.size - 1, min(_FRAMES, mine.size)).astype(int)])
        for row in rows.take(chosen).to_pylist():
            scale = row["pixel_scale_arcsec"] / 3600.0
            radius = scale * math.sqrt(row["width_px"] * row["height_px"] / math.pi)
            where = row["ra_deg"], row["dec_deg"], min(radius, 90.0)
            fields.append(FieldOfFrame(*where, row["n_detected"], row["n_saturated"], band))
    return fields
