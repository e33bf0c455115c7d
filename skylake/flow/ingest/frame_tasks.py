"""The tasks of ingest that run on workers: peek into headers, reduce frames."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import pyarrow as pa

from skylake.cameras import Profile, read_header
from skylake.core.batch import UNDATED, night_of
from skylake.core.frame import FileContent
from skylake.core.frame_row import FrameRow
from skylake.core.reasons import Reason
from skylake.errors import Corrections, FrameError, FrameFailed
from skylake.flow.astrometry.star_patterns import Patterns
from skylake.flow.execution.read_ahead import ahead
from skylake.flow.execution.task_guard import guard
from skylake.flow.forced.detection_files import DetectionFiles
from skylake.flow.forced.forced_stage import Forcing, failure_row
from skylake.flow.forced.psf_history import stamp_of
from skylake.flow.forced.target_list import TargetList
from skylake.flow.ingest.chunk_rows import Chunk, write_rows
from skylake.flow.masters.build_masters import library_of
from skylake.flow.sky.sky_frames import SkyFrame, SkySource
from skylake.image.detrend.frame_conditions import SkyFinder
from skylake.image.distortion.distortion_epochs import Epoch, in_force
from skylake.image.fitsio.read_fits import peek_header, read_file
from skylake.image.masters.master_library import Library
from skylake.image.reduction.frame_record import Finisher, ReducedFrame, ReduceParams, failed_frame, new_row
from skylake.image.reduction.frame_stages import header_row
from skylake.image.reduction.reduce_frame import reduce_frame
from skylake.image.solving.expected_pointing import Guide
from skylake.image.solving.located_frame import Reference, Solver
from skylake.image.solving.neighbour_frames import Prior
from skylake.image.wcs.header_wcs import CatalogStars, StarFinder
from skylake.lake import Lake, Snapshot
from skylake.lake.cameras.stored_distortions import read_epochs
from skylake.lake.cameras.stored_focal_planes import read_focal_plane
from skylake.lake.cameras.stored_geometries import read_geometries
from skylake.revision import code_version
from skylake.schema import load
from skylake.sky.asterism_index import index_path
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField
from skylake.table.forced_sources import forced_table
from skylake.table.frames import frames_table
from skylake.table.sources import sources_table, whole_sky_site


@dataclass(frozen=True, slots=True)
class Reduction:
    """How frames are reduced: the profile, the catalog to check pointings with, the targets, and what is known.

    ``forcing`` is None for a camera without targets. ``known`` maps the frame_id of every frame in the lake to its
    file, so that the same bytes under another name are recognised before they are measured. ``library`` holds the
    masters of the camera, and ``neighbours`` the frames of the nights, for cameras that take the sky of a frame from
    the others. ``epochs`` holds the distortion of the camera, and ``guide`` the place of the detector in the focal
    plane. ``priors`` has, by file, where neighbours put frames whose own stars do not show it, and ``kept`` the
    detections on frames that were reduced before in the same way.
    """

    profile: Profile
    catalog: ReferenceCatalog | None = None
    known: dict[int, str] = field(default_factory=dict)
    library: Library | None = None
    neighbours: tuple[SkyFrame, ...] = ()
    forcing: Forcing | None = None
    epochs: tuple[Epoch, ...] = ()
    guide: Guide = field(default_factory=Guide)
    priors: Mapping[str, Prior | None] = field(default_factory=dict)
    kept: DetectionFiles | None = None

    @property
    def catalog_name(self) -> str | None:
        """Name of the catalog."""
        return None if self.catalog is None else self.catalog.name

    @classmethod
    def in_force(cls, lake: Lake, snapshot: Snapshot, profile: Profile) -> Reduction:
        """Return how frames of a camera are reduced: with the catalog, masters, targets and distortion in force."""
        name = profile.base.catalog.over(lake.settings.catalog).solve
        targets = TargetList.in_force(snapshot, profile.name)
        return cls(
            profile,
            ReferenceCatalog.open(lake.layout.catalog(name)) if name else None,
            library=library_of(snapshot, profile.name),
            forcing=None if targets is None else Forcing(targets),
            epochs=in_force(read_epochs(lake.layout, profile.name)),
            guide=Guide(
                read_focal_plane(lake.layout, profile.name),
                geometries=read_geometries(lake.layout, profile.name),
            ),
        )

    def params(self, sky: SkyFinder | None, finish: Finisher | None) -> ReduceParams:
        """Return what each frame is reduced with, given the functions for its sky and its targets."""
        find_stars = star_finder(self)
        reference = None
        if find_stars is not None:
            reference = Reference(find_stars, plate_solver(self), self.epochs, self.guide, self.catalog_name)
        return ReduceParams(
            reference,
            library=self.library,
            sky=sky,
            finish=finish,
            keeper=self.kept,
            usual=None if self.forcing is None else self.forcing.corrections,
        )


def made_with(reduction: Reduction, night: int, files: Collection[str]) -> str:
    """Return the digest of all that the rows of a night depend on, except the frames themselves.

    Parameters
    ----------
    reduction : Reduction
    night : int
    files : collection of str
        All files of the night, including those in the lake.
    """
    from dask.tokenize import tokenize

    catalog, forcing, some = reduction.catalog, reduction.forcing, set(files)
    psfs = {} if forcing is None else {key: psf for key, psf in forcing.psfs.items() if key.night == night}
    return str(
        tokenize(
            code_version(),
            _forms(),
            reduction.profile.sha256,
            None if catalog is None else (catalog.name, catalog.checksum, stamp_of(str(index_path(catalog)))),
            None if reduction.library is None else sorted(reduction.library.checksums.items()),
            None if forcing is None else forcing.targets.name,
            # Frames without a filter have None, which cannot be compared with a name.
            sorted(
                ((tuple(key), psf) for key, psf in psfs.items()),
                key=lambda one: (one[0][0], one[0][1] or "", one[0][2]),
            ),
            [tuple(one) for one in reduction.neighbours if one.file in some],
            reduction.epochs,
            reduction.guide,
            sorted((frame, file) for frame, file in reduction.known.items() if file in some),
        )
    )


@cache
def _forms() -> tuple[str, ...]:
    """Return the checksums of the schemas of the rows."""
    return tuple(load(table).sha256 for table in ("frames", "sources", "forced_sources"))


@dataclass(frozen=True, slots=True)
class _FrameTables:
    """One frame as tables: its row, its detections and targets or None, and corrections of the profile."""

    frame_id: int
    file: str
    frames: pa.Table
    sources: pa.Table | None
    forced: pa.Table | None
    corrections: Corrections


def peek_nights(paths: Sequence[str], profile: Profile) -> list[int]:
    """Return the night of each file, from its header or name alone; 0 where it is unknown."""
    nights = [guard(partial(_peek, path, profile)) for path in paths]
    return [UNDATED if isinstance(night, FrameError) else night for night in nights]


def _peek(path: str, profile: Profile) -> int:
    header = peek_header(path, profile.base.header.extension)
    reading = read_header(header if header is not None else {}, profile, Path(path).name)
    mjd = reading.mjd_mid
    return UNDATED if mjd is None else night_of(mjd, reading.camera.site.longitude_deg)


def reduce_chunk(paths: Sequence[str], reduction: Reduction, out: Path) -> Chunk:
    """Reduce frames one after the other and write their detections and targets to files.

    Parameters
    ----------
    paths : sequence of str
    reduction : Reduction
    out : Path
        File to write; that of the targets has its name and one more suffix.

    Raises
    ------
    LakeError
        If the detections cannot be written, which is no fault of the frames.
    """
    ((_, chunk),) = reduce_pieces(paths, reduction, lambda _: out, out.with_suffix(".sky"))
    return chunk


def reduce_pieces(
    paths: Sequence[str],
    reduction: Reduction,
    out: Callable[[int], Path],
    scratch: Path,
    seconds: float = math.inf,
) -> Iterator[tuple[list[str], Chunk]]:
    """Reduce frames one after the other, and yield them some at a time: their files, and the chunk.

    Parameters
    ----------
    paths : sequence of str
    reduction : Reduction
    out : callable
        Gives the file to write for the first piece, the second and so on; see :func:`reduce_chunk`.
    scratch : Path
        Folder for temporary files, removed at the end.
    seconds : float
        A piece ends with the first frame that is finished this long after the piece began.
    """
    known, profile = dict(reduction.known), reduction.profile
    sky = (
        SkySource(reduction.neighbours, profile, reduction.library, scratch) if reduction.neighbours else None
    )
    params = reduction.params(sky, _finisher(reduction))

    def measure(content: FileContent, row: FrameRow) -> _FrameTables:
        prior = reduction.priors.get(row["file"])
        return _tables(reduce_frame(content, profile, params, prior, row), profile)

    piece, number, begun, left = _Piece(), 0, time.monotonic(), len(paths)
    for path in ahead(paths):
        rows = _reduce(path, profile, known, measure)
        piece.files.append(path)
        left -= 1
        if rows is None:
            piece.repeated.append(path)
        else:
            known[rows.frame_id] = rows.file
            piece.reduced.append(rows)
        if left and time.monotonic() - begun >= seconds:
            yield piece.files, piece.written(out(number))
            piece, number, begun = _Piece(), number + 1, time.monotonic()
    shutil.rmtree(scratch, ignore_errors=True)
    yield piece.files, piece.written(out(number))


@dataclass(slots=True)
class _Piece:
    """Frames that are reduced but not written yet."""

    files: list[str] = field(default_factory=list)
    reduced: list[_FrameTables] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)

    def written(self, out: Path) -> Chunk:
        """Write them."""
        frames = bare_rows(pa.concat_tables([frames_table([]), *(rows.frames for rows in self.reduced)]))
        sources = write_rows([rows.sources for rows in self.reduced], "sources", out)
        forced = write_rows(
            [rows.forced for rows in self.reduced], "forced_sources", out.with_suffix(".forced.arrow")
        )
        corrections = {rows.frame_id: rows.corrections for rows in self.reduced if rows.corrections}
        return Chunk(frames, sources, tuple(self.repeated), forced, corrections)


def _finisher(reduction: Reduction) -> Finisher | None:
    """Return the function that measures the targets of frames; None for a camera without targets."""
    if reduction.forcing is None:
        return None
    return reduction.forcing.finisher(reduction.forcing.targets.finder())


def _reduce(
    path: str,
    profile: Profile,
    known: dict[int, str],
    measure: Callable[[FileContent, FrameRow], _FrameTables],
) -> _FrameTables | None:
    """Reduce one frame to tables; None if its content is known under another name."""
    content = guard(partial(read_file, path))
    if isinstance(content, FrameError):
        return _failed(path, profile, None, content)
    row = new_row(profile, content.path, content)
    file = as_text(content.path)
    if known.get(row["frame_id"], file) != file:
        return None
    rows = guard(partial(measure, content, row))
    return _failed(path, profile, content, rows) if isinstance(rows, FrameError) else rows


def _failed(path: str, profile: Profile, content: FileContent | None, error: FrameError) -> _FrameTables:
    """Return the row of a frame that failed unexpectedly, with the columns of its header, which give its night."""
    row = new_row(profile, path, content)
    header = FrameRow() if content is None else guard(partial(_header_columns, path, profile))
    if not isinstance(header, FrameError):
        rows = guard(partial(_filed, row | header, profile, error))
        if not isinstance(rows, FrameError):
            return rows
    # The header cannot be read, or its columns do not fit the schema.
    return _filed(row, profile, error)


def _header_columns(path: str, profile: Profile) -> FrameRow:
    header = peek_header(path, profile.base.header.extension)
    return {} if header is None else header_row(read_header(header, profile, Path(path).name))


def _filed(row: FrameRow, profile: Profile, error: FrameError) -> _FrameTables:
    return _tables(failed_frame(row, error), profile)


def _tables(reduced: ReducedFrame, profile: Profile) -> _FrameTables:
    """Return a frame as tables that fit their schemas, so that a bad one does not spoil the others."""
    row, sources = reduced.row.copy(), None
    row["file"] = as_text(row["file"])
    site = whole_sky_site(profile.at(row.get("mjd_mid")))
    if reduced.sources is not None and reduced.ra_deg is not None and reduced.dec_deg is not None:
        sources = sources_table(row, reduced.sources, reduced.ra_deg, reduced.dec_deg, site)
    forced = None if reduced.finished is None else guard(partial(forced_table, row, reduced.finished, site))
    if isinstance(forced, FrameError):
        row |= failure_row(row, forced)
        forced = None
    return _FrameTables(
        row["frame_id"], row["file"], frames_table([row]), sources, forced, reduced.corrections
    )


def as_text(path: str) -> str:
    """Return a path as a row can hold it: names of files may have bytes that are no text."""
    return path.encode(errors="backslashreplace").decode()


def lost_frame(path: str, profile: Profile, error: BaseException) -> Chunk:
    """Return the row of a frame whose worker died twice."""
    content = guard(partial(read_file, path))
    lost = FrameFailed(
        Reason.WORKER_LOST,
        f"the worker died twice on this frame ({type(error).__name__}); give workers more memory and retry",
    )
    rows = _failed(path, profile, None if isinstance(content, FrameError) else content, lost)
    return Chunk(bare_rows(rows.frames))


def bare_rows(rows: pa.Table) -> pa.Table:
    """Return rows without the metadata of their columns, which is larger than they and would be sent with them."""
    return rows.cast(pa.schema([field.remove_metadata() for field in rows.schema]))


def star_finder(reduction: Reduction) -> StarFinder | None:
    """Return a function that gives the catalog stars of a field; None without a catalog."""
    if reduction.catalog is None:
        return None
    bands = [band.band for band in reduction.profile.base.filters.values()]
    field_of = StarField.shared(reduction.catalog, bands[0] if bands else None)

    known = reduction.profile.base.astrometry

    def find(ra_deg: float, dec_deg: float, radius_deg: float, mjd: float) -> CatalogStars:
        return CatalogStars(*field_of.at(ra_deg, dec_deg, radius_deg, mjd))

    def find_all(ra_deg: float, dec_deg: float, radius_deg: float, mjd: float) -> CatalogStars:
        # A camera of the whole sky shows half of it, wherever it points, so all of it is read once.
        return CatalogStars(*field_of.at(0.0, 90.0, 180.0, mjd, known.all_sky_mag))

    return find_all if known.all_sky else find


def plate_solver(reduction: Reduction) -> Solver | None:
    """Return the solver that finds where frames point from patterns of stars; None without a catalog."""
    return None if reduction.catalog is None else Patterns(reduction.catalog)
