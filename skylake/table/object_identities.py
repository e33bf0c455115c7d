"""What has become of the objects of a camera: how many are new, began beside others, turned out to be others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.counted import counted

_COLUMNS = ("object_id", "status", "split_from", "n_detections", "n_switched")
_QUALIFIED, _JOINED = "qualified", "joined"


@dataclass(frozen=True, slots=True)
class Identities:
    """Objects of a camera, and what nights have changed.

    Attributes
    ----------
    camera : str
    n_objects : int
        Objects in force.
    n_new, n_split, n_joined : int
        Those that are new, those of them that began within a width of stars of another, and those that turned out to
        be another.
    n_detections, n_switched : int
        Detections that were added to objects in force, and those at their places that were matched with another star:
        identity switches.
    n_nights : int
        The nights.
    is_anew : bool
        Whether there were no objects before them.
    """

    camera: str
    n_objects: int
    n_new: int
    n_split: int
    n_joined: int
    n_detections: int
    n_switched: int
    n_nights: int
    is_anew: bool

    @property
    def line(self) -> str:
        """The counts as a sentence."""
        text = f"aggregate objects: {self.camera} has {counted(self.n_objects, 'object')}"
        if self.is_anew:
            text += f", made from {counted(self.n_nights, 'night')}"
        else:
            text += f", {self.n_new} new"
        text += f", {self.n_split} of them began beside another" if self.n_split else ""
        text += f", {self.n_joined} turned out to be another" if self.n_joined else ""
        share = 100.0 * self.n_switched / max(self.n_detections, 1)
        detections = counted(self.n_detections, "detection")
        return f"{text}; {self.n_switched} of {detections} ({share:.2g} %) are of another star"


def identities(camera: str, before: pa.Table, after: pa.Table, n_nights: int) -> Identities:
    """Count what has become of the objects of a camera.

    Parameters
    ----------
    camera : str
    before, after : pyarrow.Table
        Rows of ``objects`` before and after some nights.
    n_nights : int
    """
    old, new = (_in_force(rows) for rows in (before, after))
    fresh = new.filter(pc.invert(pc.is_in(new["object_id"], old["object_id"].combine_chunks())))
    n_joined = [pc.sum(pc.equal(rows["status"], _JOINED)).as_py() or 0 for rows in (before, after)]
    detections, switched = (
        [int(pc.sum(rows[name]).as_py() or 0) for rows in (old, new)]
        for name in ("n_detections", "n_switched")
    )
    return Identities(
        camera,
        new.num_rows,
        fresh.num_rows,
        int(np.count_nonzero(pc.is_valid(fresh["split_from"]))),
        n_joined[1] - n_joined[0],
        detections[1] - detections[0],
        switched[1] - switched[0],
        n_nights,
        before.num_rows == 0,
    )


def _in_force(rows: pa.Table) -> pa.Table:
    rows = rows.select(list(_COLUMNS))
    return rows.filter(pc.equal(rows["status"], _QUALIFIED))
