"""Light curves of frames that no catalog places, relative to the stars of their field."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.counted import counted
from skylake.lake.cameras.camera_sites import sites_of
from skylake.lake.commits.snapshot import Snapshot
from skylake.schema import empty_table, load
from skylake.table.relative_lightcurves import relative_lightcurves

_CALIBRATED = ("lightcurves", "forced_lightcurves")
#: Of ``frames.wcs_source``: what places the frames of these light curves.
_PLACED_BY = ["cards", "registered"]


def relative_curves(snapshot: Snapshot) -> pa.Table:
    """Return the relative light curves of a lake, which the snapshot keeps: the table of ``relative_lightcurves``."""
    return snapshot.once("relative curves", _gathered)


def _gathered(snapshot: Snapshot) -> pa.Table:
    placed = snapshot.read("frames", ["wcs_source"], filter=pc.field("wcs_source").isin(_PLACED_BY))
    if placed.num_rows == 0:
        return empty_table(load("lightcurves"))
    with snapshot.duckdb() as connection:
        points = connection.sql("FROM relative_lightcurve_points WHERE mag IS NOT NULL").to_arrow_table()
    return relative_lightcurves(points, sites_of(snapshot.layout, points["camera"].to_pylist()))


def relative_cameras(snapshot: Snapshot) -> list[str]:
    """Return the cameras that have relative light curves."""
    nested = relative_curves(snapshot)["lightcurve"].combine_chunks()
    return sorted(pc.struct_field(nested, "camera").flatten().unique().to_pylist())


def why_no_curves(snapshot: Snapshot, measured: str | None) -> str | None:
    """Return why a lake has no light curves of a kind, and what helps, where it is for the places of its frames."""
    if relative_cameras(snapshot) and not any(map(snapshot.n_rows, _CALIBRATED)):
        return (
            "all light curves are relative to the stars of their fields, as no catalog places the frames; leave out "
            "--measured"
        )
    frames = snapshot.read("frames", ["status", "reason"])
    if frames.num_rows and "ok" not in frames["status"].to_pylist():
        reason, count = Counter(frames["reason"].to_pylist()).most_common(1)[0]
        advice = (
            "import a catalog that covers their field (`skylake catalog import`), or name the cards with the "
            "direction of the telescope in the profile (astrometry.ra and astrometry.dec) for light curves relative "
            "to the field, and run `skylake ingest --redo`"
            if reason == "no_wcs"
            else "`skylake report` says why"
        )
        return f"none of its {counted(frames.num_rows, 'frame')} is good ({reason}: {count}); {advice}"
    if measured == "relative":
        return "there is no frame that only its cards place, so no relative light curve; leave out --measured relative"
    return None
