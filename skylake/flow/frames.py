"""The tasks of ingest that run on workers: peek into headers, reduce frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.cameras import Profile, read_header
from skylake.core.batch import UNDATED, night_of
from skylake.core.frame import FileContent
from skylake.core.reasons import Reason
from skylake.errors import FrameError, FrameFailed, LakeError
from skylake.image.astrometry import StarFinder, Stars
from skylake.image.read import peek_header, read_file
from skylake.image.reduce import ReducedFrame, new_row, reduce_frame
from skylake.lake.parts import sort_rows
from skylake.schema import arrow_schema, load
from skylake.schema.parquet import write_options
from skylake.sky.catalogs import ReferenceCatalog, StarField
from skylake.table.frames import frames_table
from skylake.table.sources import sources_table


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames that one task has reduced.

    Attributes
    ----------
    frames : pyarrow.Table
        Their rows.
    sources : Path or None
        File with their detections, sorted by position; None if there are none.
    repeated : tuple of str
        Files whose content is that of another file.
    """

    frames: pa.Table
    sources: Path | None = None
    repeated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reduction:
    """How frames are reduced: the camera, the catalog to check pointings with, and what is known.

    ``known`` maps the frame_id of every frame in the lake to its file, so that the same bytes under
    another name are recognised before they are measured.
    """

    profile: Profile
    catalog: ReferenceCatalog | None = None
    known: dict[int, str] = field(default_factory=dict)


def peek_nights(paths: Sequence[str], profile: Profile) -> list[int]:
    """Return the night of each file, from its header or name alone; 0 where it cannot be told."""
    nights = []
    for path in paths:
        header = peek_header(path, profile.base.header.extension)
        reading = read_header(header if header is not None else {}, profile, Path(path).name)
        mjd = reading.mjd_mid
        nights.append(UNDATED if mjd is None else night_of(mjd, reading.camera.site.longitude_deg))
    return nights


def reduce_chunk(paths: Sequence[str], reduction: Reduction, out: Path) -> Chunk:
    """Reduce frames one after the other and write their detections to a file.

    Parameters
    ----------
    paths : sequence of str
    reduction : Reduction
    out : Path
        File to write.

    Raises
    ------
    LakeError
        If the detections cannot be written; the frames are not to blame.
    """
    rows, tables, repeated = [], [], []
    find_stars = star_finder(reduction)
    known = dict(reduction.known)
    for path in paths:
        reduced = _reduce(path, reduction.profile, known, find_stars)
        if reduced is None:
            repeated.append(path)
            continue
        rows.append(reduced.row)
        known[reduced.row["frame_id"]] = reduced.row["file"]
        if reduced.sources is not None and reduced.ra_deg is not None and reduced.dec_deg is not None:
            tables.append(sources_table(reduced.row, reduced.sources, reduced.ra_deg, reduced.dec_deg))
    frames = frames_table(rows)
    if not tables:
        return Chunk(frames, None, tuple(repeated))
    schema = load("sources")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            sort_rows(pa.concat_tables(tables), schema), out, **write_options(arrow_schema(schema))
        )
    except OSError as error:
        raise LakeError(
            f"{out}: detections cannot be written ({error.strerror or error}); free space"
        ) from error
    return Chunk(frames, out, tuple(repeated))


def _reduce(
    path: str, profile: Profile, known: dict[int, str], find_stars: StarFinder | None
) -> ReducedFrame | None:
    """Reduce one frame; None if its content is known under another name.

    This is the boundary of a task: whatever a frame does, the others go on, so here and nowhere else
    every exception is caught.
    """
    content: FileContent | None = None
    try:
        content = read_file(path)
        row = new_row(profile, content.path, content)
        if known.get(row["frame_id"], content.path) != content.path:
            return None
        return reduce_frame(content, profile, find_stars)
    except FrameError as error:
        failed = error
    except Exception as error:  # noqa: BLE001
        failed = FrameFailed(
            Reason.ERROR, f"an error of skylake ({type(error).__name__}: {error}); please report it"
        )
    reduced = ReducedFrame(new_row(profile, path, content))
    reduced.file_under(failed)
    return reduced


def lost_frame(path: str, profile: Profile, error: BaseException) -> Chunk:
    """Return the row of a frame whose worker died twice."""
    try:
        content = read_file(path)
    except FrameError:
        content = None
    reduced = ReducedFrame(new_row(profile, path, content))
    reduced.file_under(
        FrameFailed(
            Reason.WORKER_LOST,
            f"the worker died twice on this frame ({type(error).__name__}); give workers more memory and retry",
        )
    )
    return Chunk(frames_table([reduced.row]))


def star_finder(reduction: Reduction) -> StarFinder | None:
    """Return a function that gives the catalog stars of a field; None without a catalog."""
    if reduction.catalog is None:
        return None
    bands = [band.band for band in reduction.profile.base.filters.values()]
    field_of = StarField(reduction.catalog, bands[0] if bands else None)

    def find(ra_deg: float, dec_deg: float, radius_deg: float, mjd: float) -> Stars:
        return Stars(*field_of.at(ra_deg, dec_deg, radius_deg, mjd))

    return find
