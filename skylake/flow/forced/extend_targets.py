"""New objects become targets by themselves: the list in force of a camera grows by those that it lacks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.counted import counted
from skylake.core.ids import config_sha256
from skylake.core.sphere import chord, julian_epoch, unit_vectors
from skylake.flow.forced.target_list import part_name, parts_of
from skylake.flow.ingest.table_rows import is_of_table
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.schema import conform, load
from skylake.table.object_status import QUALIFIED
from skylake.table.objects import NAME as OBJECTS
from skylake.table.targets import DETECTIONS

#: What is narrower than this share of the width of stars is none.
_NARROW = 0.6
#: An object no farther from a target than this share of the width of stars is that target.
_SAME_SHARE = 0.5
_COLUMNS = [
    "_healpix_29", "object_id", "ra_deg", "dec_deg", "mjd_place", "flux_adu_per_s", "n_frames", "n_frames_covered",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Extended:
    """How the list of a camera has grown.

    Attributes
    ----------
    camera : str
    version : int
        Of the new list.
    n_new, n_waiting : int
        Objects that it has got, and those that the next one will get.
    """

    camera: str
    version: int
    n_new: int
    n_waiting: int

    @property
    def line(self) -> str:
        """The report as a sentence."""
        text = (
            f"targets {self.camera}: version {self.version} made, with {counted(self.n_new, 'new object')}; "
            "the next nightly runs measure them on earlier frames, `skylake backfill` on all at once"
        )
        if self.n_waiting:
            text += f"; {self.n_waiting} more wait for the next list (setting objects.new_targets)"
        return text


def extend_targets(lake: Lake, begin: Collection[str] = ()) -> list[Extended]:
    """Add objects that no star of the catalog explains to the lists of targets in force, camera by camera.

    What is at the edge of images, on trails, blended or narrower than stars is no target.

    Parameters
    ----------
    lake : Lake
    begin : collection of str
        Cameras that get a list if they have none: those whose catalog explains most of what they see. Without a
        catalog that does, all stars would be new.

    Raises
    ------
    LakeError
        If the lake cannot be read or written.
    """
    most = lake.settings.objects.new_targets
    snapshot = lake.snapshot()
    listed = {part.camera for part in snapshot.parts("targets").values() if part.camera}
    cameras = sorted(listed | {one for one in begin if one not in listed and _is_explained(snapshot, one)})
    made = [_extend(lake, snapshot, camera, most) for camera in cameras] if most else []
    return [one for one in made if one is not None]


def _is_explained(snapshot: Snapshot, camera: str) -> bool:
    """Return whether most objects of a camera are stars of a catalog, and others can be measured on its images."""
    objects = snapshot.read(
        OBJECTS, ["ref_id"], lambda part: part.camera == camera, pc.field("status") == QUALIFIED
    )
    if objects.num_rows == 0 or 2 * objects["ref_id"].null_count >= objects.num_rows:
        return False
    last = _last_night(snapshot, camera)
    files = [] if last is None else snapshot.read_part("frames", last.name, ["file"])["file"].to_pylist()
    return not all(is_of_table(file) for file in files)


def _extend(lake: Lake, snapshot: Snapshot, camera: str, most: int) -> Extended | None:
    """Make the next version of a list; None if no object is new to it."""
    version = max(parts_of(snapshot, camera), default=0)
    listed = snapshot.read_part("targets", part_name(camera, version))
    new = _missing(snapshot, camera, listed)
    if new.num_rows == 0:
        return None
    chosen = new.sort_by([("n_frames", "descending"), ("object_id", "ascending")]).slice(0, most)
    rows = pa.concat_tables([listed, _targets(chosen, camera)])
    place = rows.schema.get_field_index("version")
    rows = rows.set_column(
        place, rows.schema.field(place), pa.array([version + 1] * rows.num_rows, pa.int32())
    )
    configuration: dict[str, Any] = {"camera": camera, "new_targets": most}
    inputs = {"configuration": config_sha256(configuration)}
    if version:
        inputs["targets"] = snapshot.parts("targets")[part_name(camera, version)].checksum
    name = part_name(camera, version + 1)
    commit = Commit("targets", name, base=snapshot.number)
    commit.configure([configuration])
    with lake.stage("targets") as staging:
        commit.replace(stage_part(rows, "targets", name, staging, None, camera, None, inputs), staging)
        lake.commit(commit)
    return Extended(camera, version + 1, chosen.num_rows, new.num_rows - chosen.num_rows)


def _missing(snapshot: Snapshot, camera: str, listed: pa.Table) -> pa.Table:
    """Return objects that a list lacks and that may be stars."""
    from scipy.spatial import cKDTree

    many = pc.field("n_detections")
    good = (pc.field("camera") == camera) & (pc.field("status") == QUALIFIED) & pc.field("ref_id").is_null()
    good &= pc.field("split_from").is_null()
    for name in ("n_edge", "n_streak", "n_blended"):
        good &= pc.field(name) * 2 < many
    good &= pc.field("width_ratio").is_null() | (pc.field("width_ratio") >= _NARROW)
    rows = snapshot.read(OBJECTS, _COLUMNS, lambda part: part.camera == camera, good)
    if rows.num_rows == 0:
        return rows
    if listed.num_rows == 0:
        return rows
    places = unit_vectors(listed["ra_deg"].to_numpy(), listed["dec_deg"].to_numpy())
    distance, _ = cKDTree(places).query(unit_vectors(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()))
    is_new = distance > chord(_SAME_SHARE * _width_arcsec(snapshot, camera))
    is_new &= ~np.isin(rows["object_id"].to_numpy(), listed["star_id"].to_numpy())
    return rows.filter(pa.array(is_new))


def _width_arcsec(snapshot: Snapshot, camera: str) -> float:
    """Return the median width of stars in the last night of a camera, at least two arcseconds."""
    last = _last_night(snapshot, camera)
    if last is None:
        return 2.0
    frames = snapshot.read_part("frames", last.name, ["fwhm_px", "pixel_scale_arcsec"]).drop_null()
    if frames.num_rows == 0:
        return 2.0
    return max(float(np.median(frames["fwhm_px"].to_numpy() * frames["pixel_scale_arcsec"].to_numpy())), 2.0)


def _last_night(snapshot: Snapshot, camera: str) -> Part | None:
    """Return the frames of the last night of a camera; None without any."""
    nights = [part for part in snapshot.parts("frames").values() if part.camera == camera]
    return max(nights, key=lambda part: part.night or 0, default=None)


def _targets(objects: pa.Table, camera: str) -> pa.Table:
    """Return objects as rows of ``targets``."""
    n = objects.num_rows
    columns = {
        "_healpix_29": objects["_healpix_29"],
        "camera": pa.repeat(camera, n),
        "version": pa.repeat(pa.scalar(0, pa.int32()), n),
        "star_id": objects["object_id"],
        "ra_deg": objects["ra_deg"],
        "dec_deg": objects["dec_deg"],
        "epoch": julian_epoch(objects["mjd_place"].to_numpy()),
        "origin": pa.repeat(DETECTIONS, n),
        "flux_adu_per_s": objects["flux_adu_per_s"].cast(pa.float32()),
        "n_seen": objects["n_frames"],
        "n_frames": objects["n_frames_covered"],
    }
    return conform(pa.table(columns), load("targets"))
