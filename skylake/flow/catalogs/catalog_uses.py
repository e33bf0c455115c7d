"""What the catalogs of a lake are in force for."""

from __future__ import annotations

from skylake.flow.aggregates.calibration import cameras_of
from skylake.lake import Lake
from skylake.sky.lake_catalogs import ReferenceCatalog


def catalog_uses(lake: Lake) -> dict[str, list[str]]:
    """Return what each catalog of a lake does: ``solve``, ``calibrate``, or ``calibrate:CAMERA`` if not for all.

    Parameters
    ----------
    lake : Lake

    Returns
    -------
    dict of str to list of str
    """
    snapshot, named = lake.snapshot(), lake.settings.catalog
    uses = {name: named.uses(name) for name in snapshot.catalogs()}
    cameras = sorted(cameras_of(snapshot))
    chosen = {camera: lake.calibrating_catalog(camera) for camera in cameras}
    if not cameras and not named.calibrate and len(uses) == 1:
        (only,) = uses
        lists_variables = ReferenceCatalog.open(snapshot.catalog(only)).lists_variables
        chosen = {} if lists_variables else {"": only}
    is_common = len(set(chosen.values())) == 1
    for camera, name in chosen.items():
        use = "calibrate" if is_common else f"calibrate:{camera}"
        if name in uses and name != named.calibrate and use not in uses[name]:
            uses[name].append(use)
    return uses
