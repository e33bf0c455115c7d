"""The lake: the only place that knows paths and snapshots.

A lake is a folder. Its tables are immutable versions; a snapshot is one version of every table; one
symbolic link says which snapshot is current. A commit builds the next snapshot
beside it, with hard links to all files that did not change, and then moves the link.
"""

from skylake.lake.commits.changes import Commit
from skylake.lake.commits.snapshot import Snapshot
from skylake.lake.lake import Lake
from skylake.lake.maintenance.vacuum import Retention
from skylake.lake.remote.publish_snapshot import PublishOptions, PublishReport, publish_snapshot
from skylake.lake.storage.parts import Part, stage_part

__all__ = [
    "Commit",
    "Lake",
    "Part",
    "PublishOptions",
    "PublishReport",
    "Retention",
    "Snapshot",
    "publish_snapshot",
    "stage_part",
]
