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
from skylake.flow.forced.target_list import EXTENDS, TargetList, part_name
from skylake.flow.ingest.table_rows import is_of_table
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.access.duckdb_tables import in_memory, views
from skylake.schema import conform, load
from skylake.table.object_status import QUALIFIED
from skylake.table.objects import NAME as OBJECTS
from skylake.table.targets import DETECTIONS

#: An object no farther from a target than this share of the width of stars is that target.
_SAME_SHARE = 0.5
_COLUMNS = [
    "_healpix_29",
    "object_id",
    "ra_deg",
    "dec_deg",
    "mjd_place",
    "flux_adu_per_s",
    "n_frames",
    "n_frames_covered",
]
#: Columns of ``objects`` and of ``frames`` from which ``sql/duckdb/vetoes.sql`` finds what is no star.
_VETO_COLUMNS = [
    "camera",
    "object_id",
    "status",
    "ref_id",
    "ra_deg",
    "dec_deg",
    "n_detections",
    "n_edge",
    "n_streak",
    "n_blended",
    "n_saturated",
    "split_from",
    "width_ratio",
    "n_frames",
    "n_frames_possible",
    "rate_ra_arcsec_d",
    "rate_dec_arcsec_d",
    "rate_err_arcsec_d",
    "mjd_first",
    "mjd_last",
]
_FRAME_COLUMNS = ["camera", "status", "fwhm_px", "pixel_scale_arcsec"]


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

    What the view ``object_vetoes`` has a reason for, such as a motion or a saturated neighbour, is no target.

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
    """Make the next version of a list, which has what it adds; None if no object is new to it."""
    held = TargetList.in_force(snapshot, camera)
    new = _missing(snapshot, camera, held)
    if new.num_rows == 0:
        return None
    chosen = new.sort_by([("n_frames", "descending"), ("object_id", "ascending")]).slice(0, most)
    version = 1 if held is None else held.version + 1
    rows = _targets(chosen, camera, version, None if held is None else held.base_version)
    configuration: dict[str, Any] = {"camera": camera, "new_targets": most}
    inputs = {"configuration": config_sha256(configuration)}
    if held is not None:
        inputs[EXTENDS] = held.name
    name = part_name(camera, version)
    commit = Commit("targets", name, base=snapshot.number)
    commit.configure([configuration])
    with lake.stage("targets") as staging:
        commit.replace(stage_part(rows, "targets", name, staging, None, camera, None, inputs), staging)
        lake.commit(commit)
    return Extended(camera, version, chosen.num_rows, new.num_rows - chosen.num_rows)


def _missing(snapshot: Snapshot, camera: str, held: TargetList | None) -> pa.Table:
    """Return objects that a list lacks and that nothing speaks against being stars."""
    from scipy.spatial import cKDTree

    # Saturated objects too, which spoil what is beside them.
    wanted = (pc.field("status") == QUALIFIED) & pc.field("ref_id").is_null()
    wanted |= pc.field("n_saturated") * 2 > pc.field("n_detections")
    names = list(dict.fromkeys([*_COLUMNS, *_VETO_COLUMNS]))
    rows = snapshot.read(
        OBJECTS, names, lambda part: part.camera == camera, (pc.field("camera") == camera) & wanted
    )
    frames = _last_frames(snapshot, camera)
    good = pa.array(_without_veto(rows, frames), pa.int64())
    rows = rows.filter(pc.is_in(rows["object_id"], good)).select(_COLUMNS)
    if held is None or rows.num_rows == 0:
        return rows
    listed = held.rows(["star_id", "ra_deg", "dec_deg"])
    places = unit_vectors(listed["ra_deg"].to_numpy(), listed["dec_deg"].to_numpy())
    distance, _ = cKDTree(places).query(unit_vectors(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy()))
    is_new = distance > chord(_SAME_SHARE * _width_arcsec(frames))
    is_new &= ~np.isin(rows["object_id"].to_numpy(), listed["star_id"].to_numpy())
    return rows.filter(pa.array(is_new))


def _without_veto(objects: pa.Table, frames: pa.Table) -> list[int]:
    """Return the objects of a camera that nothing speaks against, by the view that shows what is new."""
    with in_memory() as connection:
        connection.register("objects", objects)
        connection.register("frames", frames)
        connection.execute(views("vetoes"))
        found = connection.execute("SELECT object_id FROM object_vetoes WHERE reason IS NULL").fetchall()
    return [number for (number,) in found]


def _last_frames(snapshot: Snapshot, camera: str) -> pa.Table:
    """Return what frames of the last night of a camera say of the width of stars."""
    last = _last_night(snapshot, camera)
    return snapshot.read_part("frames", "" if last is None else last.name, _FRAME_COLUMNS)


def _width_arcsec(frames: pa.Table) -> float:
    """Return the median width of stars on some frames, at least two arcseconds."""
    known = frames.select(["fwhm_px", "pixel_scale_arcsec"]).drop_null()
    if known.num_rows == 0:
        return 2.0
    return max(float(np.median(known["fwhm_px"].to_numpy() * known["pixel_scale_arcsec"].to_numpy())), 2.0)


def _last_night(snapshot: Snapshot, camera: str) -> Part | None:
    """Return the frames of the last night of a camera; None without any."""
    nights = [part for part in snapshot.parts("frames").values() if part.camera == camera]
    return max(nights, key=lambda part: part.night or 0, default=None)


def _targets(objects: pa.Table, camera: str, version: int, base_version: int | None) -> pa.Table:
    """Return objects as rows of ``targets``."""
    n = objects.num_rows
    columns = {
        "_healpix_29": objects["_healpix_29"],
        "camera": pa.repeat(camera, n),
        "version": np.full(n, version, np.int32),
        "base_version": pa.repeat(pa.scalar(base_version, pa.int32()), n),
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
