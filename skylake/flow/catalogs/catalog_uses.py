"""What the catalogs of a lake are in force for."""

from __future__ import annotations

from skylake.flow.zeropoints.calibration_in_force import cameras_of
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
    if not cameras and not named.calibrate:
        opened = [ReferenceCatalog.open(snapshot.catalog(name)) for name in uses]
        able = [catalog.name for catalog in opened if not catalog.lists_variables]
        chosen = {"": able[0]} if len(able) == 1 else {}
    is_common = len(set(chosen.values())) == 1
    for camera, name in chosen.items():
        use = "calibrate" if is_common else f"calibrate:{camera}"
        if name in uses and name != named.calibrate and use not in uses[name]:
            uses[name].append(use)
    return uses
