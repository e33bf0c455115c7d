"""Ingest: frames of a camera become rows of ``frames``, ``sources`` and ``forced_sources``, night by night."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import dask

from skylake.cameras import Profile
from skylake.core.batch import Batch
from skylake.errors import LakeError, reason_of, together
from skylake.flow.astrometry.learn_geometry import learn_geometries
from skylake.flow.discover_files import find_frames
from skylake.flow.execution.cluster import Workers
from skylake.flow.execution.retry_commit import retry_superseded
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_pieces import shared_out
from skylake.flow.forced.detection_files import DetectionFiles
from skylake.flow.forced.psf_pool import pool_psfs
from skylake.flow.ingest.chunk_rows import Chunk
from skylake.flow.ingest.commit_nights import Moves, commit_nights, existing_parts, failure, loosen_changed
from skylake.flow.ingest.frame_chunks import (
    KeptChunks,
    LeftChunks,
    reduce_again,
    reduce_frames,
    stage_name,
    without_repeats,
)
from skylake.flow.ingest.frame_tasks import Reduction, made_with, peek_nights
from skylake.flow.ingest.gather_night import SHARED, TABLES, MadeFrom, for_tasks, gather_batch, joined
from skylake.flow.ingest.ingest_report import IngestOptions, IngestReport
from skylake.flow.ingest.known_files import (
    Known,
    identify,
    inputs_by_reason,
    read_tried,
    write_repeats,
    write_tried,
)
from skylake.flow.ingest.multi_detector import LOST, ingest_chips
from skylake.flow.ingest.neighbour_pass import Priors, place_lost
from skylake.flow.ingest.profile_contradictions import ReportedFrame, contradictions, overlapping
from skylake.flow.ingest.register_pass import register_lost
from skylake.flow.ingest.row_protection import require_means, without_misplaced, without_worse
from skylake.flow.sky.sky_frames import nights_with_later_sky, sky_frames
from skylake.lake import Lake
from skylake.lake.cameras.stored_geometries import read_geometries

#: Frames per worker in a window: nights are taken together until there are so many.
_WINDOW = 128
#: Headers read in one task.
_PEEK_CHUNK = 256


def ingest_frames(
    lake: Lake,
    chips: Sequence[Profile],
    paths: Iterable[str | Path],
    workers: Workers,
    options: IngestOptions | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Ingest frames of a camera of one chip or of several.

    Parameters and errors are those of :func:`ingest`, except that `chips` is what :func:`skylake.cameras.load_chips`
    returns. The chips of a camera are ingested one after the other, and frames of one help to place those of another.
    For a camera of the whole sky, frames whose geometry was unknown are reduced again once other frames have shown it.
    """
    options = options or IngestOptions()

    def run(profile: Profile, files: Iterable[str | Path], options: IngestOptions) -> IngestReport:
        return ingest(lake, profile, files, workers, options, progress)

    if len(chips) > 1 or chips[0].base.place.mosaic:
        return ingest_chips(lake, chips, paths, workers, options, run)
    (profile,) = chips
    if not profile.base.astrometry.all_sky:
        return run(profile, paths, options)
    before = {one.number for one in read_geometries(lake.layout, profile.name)}
    report = run(profile, paths, options)
    lost = {problem["file"] for problem in report.problems if problem["reason"] in LOST}
    if lost and {one.number for one in read_geometries(lake.layout, profile.name)} - before:
        report.replace(profile.name, run(profile, sorted(lost), replace(options, redo=True)), lost)
    return report


def ingest(
    lake: Lake,
    profile: Profile,
    paths: Iterable[str | Path],
    workers: Workers,
    options: IngestOptions | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Ingest frames of one camera.

    Files that the lake holds already are skipped, unless ``options.redo`` is set or the lake now has what they lacked.
    Each night that gets new frames is one commit; nights that exchange frames share one. The targets are those that
    the camera has at the start.

    Raises
    ------
    LakeError
        If there is nothing to read, the lake cannot be written or lacks what good frames were made with. A night
        that cannot be gathered raises only after all the others are committed.
    CatalogError
        If the catalog, or the index by which good frames were placed, is lost or damaged.
    """
    progress, options = progress or Silent(), options or IngestOptions()
    files, complaints = find_frames(paths)
    report = IngestReport(complaints=complaints)
    if not files:
        raise LakeError("; ".join(complaints) or "no files were named; name files or folders with frames")
    lake.keep_profile(profile)
    # The snapshot is held for as long as workers read targets and masters from it.
    start = lake.snapshot()
    reduction = Reduction.in_force(lake, start, profile)
    reduction = replace(reduction, guide=replace(reduction.guide, attitudes=options.attitudes))
    has_catalog = reduction.catalog is not None
    known = Known.read(
        lake, profile.name, options.redo, options.retry, inputs_by_reason(reduction), has_catalog
    )
    fresh = files if options.redo else [path for path in files if not known.holds(path)]
    report.n_known = len(files) - len(fresh)
    nights = _plan(fresh, profile, workers, options, progress)
    planned = {file for some in nights.values() for file in some}
    left = LeftChunks(
        lake, profile.name, planned | ({str(path) for path in files} - {str(path) for path in fresh})
    )
    require_means(
        lake, start, reduction, {file for file in planned if known.frames.of_file(file) is not None}
    )
    failures: list[LakeError] = []
    run = IngestRun(lake, workers, progress, known, report, options.neighbours, left)
    progress.begin("frames", sum(len(found) for found in nights.values()))
    # Nights of the whole sky start from the geometry of earlier nights, which a killed run may not have learned.
    reduction = _with_geometry(run, reduction, failures)
    size = 1 if profile.base.astrometry.all_sky else _WINDOW * workers.count
    for window in _windows(nights, size):
        later = [night for night in nights if night > max(window)]
        n_before = len(report.problems)
        failures += _ingest_window(run, window, reduction, later)
        known.note_tried(report.problems[n_before:], reduction)
        reduction = _with_geometry(run, reduction, failures)
    progress.end()
    left.drop()
    _remember(lake, profile, known, report.repeated, workers)
    if known.tried != read_tried(lake, profile.name):
        write_tried(lake, profile.name, known.tried)
    report.n_otherwise = _count_otherwise(lake, profile)
    end = lake.snapshot()
    report.contradictions = contradictions(run.shown, profile)
    report.half_skies = nights_with_later_sky(end, profile, nights)
    report.overlapping = overlapping(end, profile, nights)
    if failures:
        raise LakeError(together(failures)) from failures[0]
    return report


def _count_otherwise(lake: Lake, profile: Profile) -> int:
    """Return how many nights of a camera were made with a configuration other than the one in force."""
    parts = [part.inputs for part in lake.snapshot().parts("frames").values() if part.camera == profile.name]
    return sum(one.get("configuration") != profile.sha256 or "earlier_configurations" in one for one in parts)


def _remember(lake: Lake, profile: Profile, known: Known, repeated: Sequence[str], workers: Workers) -> None:
    """Remember files that repeat another, so that the next run need not read them."""
    if not repeated:
        return
    pieces = [repeated[i : i + _PEEK_CHUNK] for i in range(0, len(repeated), _PEEK_CHUNK)]
    task = dask.delayed(identify, pure=False)
    results = workers.run([task(piece, profile) for piece in pieces])
    fresh = {
        file: one
        for piece, result in zip(pieces, results, strict=True)
        if not isinstance(result, BaseException)
        for file, one in zip(piece, result, strict=True)
        if one is not None and known.seen.get(one[0], file) != file
    }
    if not fresh.items() <= known.repeats.items():
        write_repeats(lake, profile.name, known.repeats | fresh)


def _plan(
    files: Sequence[Path], profile: Profile, workers: Workers, options: IngestOptions, progress: Progress
) -> dict[int, list[str]]:
    """Return the files of each night, in the order of nights."""
    names = [str(path) for path in files]
    pieces = shared_out(names, workers.count, _PEEK_CHUNK)
    peek = dask.delayed(peek_nights, pure=False)
    progress.begin("headers", len(names))
    tasks = [peek(piece, profile) for piece in pieces]
    results = workers.run(tasks, lambda number, _: progress.advance(len(pieces[number])))
    progress.end()
    nights: dict[int, list[str]] = {}
    for piece, result in zip(pieces, results, strict=True):
        if isinstance(result, BaseException):
            raise LakeError(
                f"the headers could not be read ({reason_of(result, with_file=True)})"
            ) from result
        for name, night in zip(piece, result, strict=True):
            if options.takes(night):
                nights.setdefault(night, []).append(name)
    return dict(sorted(nights.items()))


def _windows(nights: dict[int, list[str]], size: int) -> Iterable[dict[int, list[str]]]:
    """Yield windows of nights, each with work for all workers."""
    window: dict[int, list[str]] = {}
    for night, files in nights.items():
        window[night] = files
        if sum(len(found) for found in window.values()) >= size:
            yield window
            window = {}
    if window:
        yield window


@dataclass(frozen=True, slots=True)
class IngestRun:
    """What the windows of an ingest share."""

    lake: Lake
    workers: Workers
    progress: Progress
    known: Known
    report: IngestReport
    neighbours: bool
    left: LeftChunks
    #: Frames of the sky that are committed.
    shown: list[ReportedFrame] = field(default_factory=list)

    def asks_neighbours(self, reduction: Reduction) -> bool:
        """Return whether frames before and after are asked where lost frames point."""
        way = reduction.profile.base.astrometry
        wanted = self.neighbours and way.neighbours != "never" and not way.all_sky
        return wanted and reduction.catalog is not None


def _ingest_window(
    run: IngestRun, window: dict[int, list[str]], reduction: Reduction, later: Sequence[int]
) -> list[LakeError]:
    """Reduce the frames of some nights, gather them and commit them.

    Returns the errors of the nights that could not be gathered; the other nights are committed.
    """
    profile, whole = reduction.profile, run.known.whole(window)
    # Workers get the known frames of these nights only; those of a large lake would be many megabytes.
    known, neighbours = run.known.of_nights(window), sky_frames(whole, profile, run.workers)
    reduction = replace(reduction, known=known, neighbours=neighbours)
    with (
        run.lake.stage(f"ingest-{profile.name}") as staging,
        run.lake.interruptible_stage(stage_name(profile.name)) as folder,
    ):
        if reduction.forcing is not None:
            folders = staging / "psf", run.lake.layout.psf_memory(profile.name)
            found = staging / "found"
            psfs = pool_psfs(whole, profile, run.workers, reduction.library, *folders, neighbours, found)
            forcing = replace(reduction.forcing, psfs=psfs)
            reduction = replace(reduction, forcing=forcing, kept=DetectionFiles(found))
        kept = KeptChunks(folder, {night: made_with(reduction, night, whole[night]) for night in window})
        reduced = reduce_frames(window, reduction, run.workers, kept, run.left, run.progress)
        chunks = {
            night: [without_repeats(chunk, run.known.seen) for chunk in some]
            for night, some in reduced.items()
        }
        for night, some in chunks.items():
            chunks[night], kept_rows = without_worse(some, run.known.frames)
            run.report.kept += kept_rows
        for some in chunks.values():
            run.report.repeated += [file for chunk in some for file in chunk.repeated]
        chunks = _not_empty(chunks)
        if run.asks_neighbours(reduction):

            def again(files: list[str], priors: Priors) -> list[Chunk]:
                with_priors = replace(reduction, priors=priors)
                return reduce_again(files, with_priors, run.workers, staging / "placed")

            chunks = place_lost(chunks, run.lake.snapshot(), profile, run.workers, again)
        chunks = register_lost(chunks, run.lake.snapshot(), profile, staging / "registered")
        for night, some in chunks.items():
            chunks[night], kept_rows = without_misplaced(
                some, run.known.frames, run.lake.snapshot(), reduction
            )
            run.report.kept += kept_rows
        chunks = _not_empty(chunks)
        names, done = [str(Batch(profile.name, one)) for one in later], set[int]()

        def publish() -> list[LakeError]:
            left = {night: some for night, some in chunks.items() if night not in done}
            return publish_nights(run, left, reduction, staging, names, done)

        return retry_superseded(publish, run.progress)


def _not_empty(chunks: Mapping[int, list[Chunk]]) -> dict[int, list[Chunk]]:
    """Return the nights that have frames; a night whose files all repeat others has nothing to gather."""
    return {night: some for night, some in chunks.items() if any(one.frames.num_rows for one in some)}


def _with_geometry(run: IngestRun, reduction: Reduction, failures: list[LakeError]) -> Reduction:
    """Learn the geometry of a camera of the whole sky from its frames, so that the next ones start from it."""
    profile = reduction.profile
    if not profile.base.astrometry.all_sky or reduction.catalog is None:
        return reduction
    try:
        learned = learn_geometries(run.lake, profile, run.workers)
        known = read_geometries(run.lake.layout, profile.name)
    except LakeError as error:
        failures.append(error)
        return reduction
    for line in learned.changes:
        run.progress.line(line)
    return replace(reduction, guide=replace(reduction.guide, geometries=known))


def publish_nights(
    run: IngestRun,
    chunks: dict[int, list[Chunk]],
    reduction: Reduction,
    staging: Path,
    later: Sequence[str],
    done: set[int],
) -> list[LakeError]:
    """Gather reduced frames with those that the lake holds, and commit night by night.

    Nights that exchange frames are one commit, or all of them stay as they were. Committed nights are added to `done`.
    """
    staging = Path(tempfile.mkdtemp(prefix="publish-", dir=staging))
    snapshot, profile = run.lake.snapshot(), reduction.profile
    checksums = reduction.library.checksums if reduction.library else {}
    targets = "" if reduction.forcing is None else reduction.forcing.targets.name
    moves = Moves.find(chunks, run.known)
    batches = [Batch(profile.name, night) for night in sorted(set(chunks) | moves.origins)]
    folder = staging / "existing"
    existing = existing_parts(snapshot, batches, chunks, moves, run.known, folder, run.workers, run.progress)
    gather = dask.delayed(gather_batch, pure=False)
    tree = for_tasks(run.lake.tree_of("sources"))
    made_from = MadeFrom(profile.sha256, checksums, targets)
    ways = (TABLES,) if reduction.forcing is None else SHARED
    tasks = [
        gather(batch, chunks.get(batch.night, []), held, tree, staging / str(batch), made_from, some)
        for batch, held in zip(batches, existing, strict=True)
        for some in ways
    ]
    results = joined(run.workers.run(tasks), len(ways))
    made = [part for result in results if not isinstance(result, BaseException) for part in result]
    loosen_changed(run.lake, made, later, run.workers, run.progress)
    failures = []
    gathered = {batch.night: (batch, result) for batch, result in zip(batches, results, strict=True)}
    for group in moves.together(gathered):
        some = dict(gathered[night] for night in group)
        failed = [batch for batch, result in some.items() if isinstance(result, BaseException)]
        failures += [failure(batch, some[batch], len(some) - len(failed)) for batch in failed]
        if failed:
            continue
        commit_nights(run.lake, some, profile, staging, snapshot.number, checksums)
        done.update(group)
        for batch, parts in some.items():
            shown, line = run.report.add_batch(profile.base, batch, chunks.get(batch.night, []), parts)
            run.shown.extend(shown)
            run.progress.line(line)
    return failures
