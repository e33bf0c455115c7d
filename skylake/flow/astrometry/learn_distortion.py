"""Learn the distortion of a camera from the frames of a lake, and report when it has changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from skylake.cameras.clock_times import iso_of_mjd
from skylake.errors import LakeError, reason_of
from skylake.flow.astrometry.earlier_frames import followed_back
from skylake.flow.astrometry.frame_stars import DistortionFrame, distortion_frames, read_seen
from skylake.flow.astrometry.learn_geometry import learn_geometries
from skylake.flow.astrometry.learning_report import LearnReport
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.image.distortion.distortion_changes import MEMORY
from skylake.image.distortion.distortion_epochs import Epoch, in_force
from skylake.image.distortion.follow_camera import Follower, MatchedFrame, Origin
from skylake.image.distortion.joint_fit import OWN
from skylake.image.wcs.lens_fit import fit_lens
from skylake.lake import Lake, Snapshot
from skylake.lake.cameras.stored_distortions import distortions_file, read_epochs, write_epochs
from skylake.lake.commits.file_lock import locked
from skylake.revision import code_version
from skylake.sky.lake_catalogs import ReferenceCatalog

Floats = npt.NDArray[np.float64]

#: Nights whose stars are in memory together; frames that a distortion is learned from at most; and it is learned again
#: when so many times as many frames are there.
_NIGHTS, _MOST_FRAMES, _MANY_MORE = 16, 60, 2
#: Frames whose stars are kept, so that those which begin an epoch are not matched again when it is learned from more:
#: 300 stars each, together some 20 MB.
_MOST_CACHED = 1000


def learn(
    lake: Lake, camera: str, workers: Workers, anew: bool = False, progress: Progress | None = None
) -> LearnReport:
    """Learn the distortion of a camera from frames of a lake that are new since the last run.

    A second run without new frames changes nothing. Frames in the lake do not change: the distortion applies to frames
    that are ingested later. For a camera that sees the whole sky the geometry is learned instead.

    Parameters
    ----------
    lake : Lake
    camera : str
    workers : Workers
    anew : bool
        Forget what was learned, and go through all nights.
    progress : Progress or None

    Raises
    ------
    LakeError
        If there is no catalog, or the lake cannot be read or written.
    """
    if _sees_whole_sky(lake, camera):
        return learn_geometries(lake, lake.profile(camera), workers, anew, progress)
    report = LearnReport(camera)
    snapshot = lake.snapshot()
    frames = distortion_frames(snapshot, camera)
    path = distortions_file(lake.layout, camera)
    if frames or path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f".{camera}.learning")):
            _learn(_Work(lake, snapshot, camera, workers, progress or Silent(), report), frames, anew)
    epochs = read_epochs(lake.layout, camera)
    report.nights = nights_of_other_epoch(snapshot, camera, epochs)
    report.n_older = _count_older(frames, in_force(epochs))
    return report


def _sees_whole_sky(lake: Lake, camera: str) -> bool:
    return lake.layout.profile(camera).is_file() and lake.profile(camera).base.astrometry.all_sky


def _count_older(frames: Sequence[DistortionFrame], epochs: Sequence[Epoch]) -> int:
    """Return how many frames are older than the first used frame of their size."""
    first: dict[tuple[int, int], float] = {}
    for epoch in epochs:
        first[epoch.shape] = min(epoch.first_mjd, first.get(epoch.shape, math.inf))
    return sum(frame.mjd < first.get(frame.shape, -math.inf) for frame in frames)


def nights_of_other_epoch(snapshot: Snapshot, camera: str, epochs: Sequence[Epoch]) -> list[int]:
    """Return the nights with frames that were placed with an epoch other than that of their time."""
    if not epochs:
        return []
    names = ["night", "mjd_mid", "height_px", "width_px", "wcs_geometry"]
    mine = {
        part.name
        for part in snapshot.parts("frames").values()
        if part.camera == camera and part.inputs.get("geometries")
    }
    rows = snapshot.read("frames", names, lambda part: part.name in mine, pc.field("wcs_geometry").is_valid())
    night, mjd, height, width = (rows[name].to_numpy() for name in names[:4])
    used = rows["wcs_geometry"].combine_chunks().dictionary_encode()
    numbers = np.array([int(name.partition(".")[0]) for name in used.dictionary.to_pylist()], int)
    wanted = np.zeros(len(night), int)
    for epoch in sorted(epochs, key=lambda epoch: epoch.number):
        holds = (
            (epoch.valid_from <= mjd)
            & (mjd < epoch.valid_to)
            & (height == epoch.shape[0])
            & (width == epoch.shape[1])
        )
        wanted[holds] = epoch.number
    wrong = (wanted > 0) & (wanted != numbers[used.indices.to_numpy()]) if len(night) else np.zeros(0, bool)
    return [int(number) for number in np.unique(night[wrong])]


@dataclass(frozen=True, slots=True)
class _Work:
    """A run: its lake, camera, catalog and workers."""

    lake: Lake
    snapshot: Snapshot
    camera: str
    workers: Workers
    progress: Progress
    report: LearnReport
    #: Frames that were matched; None for those in which hardly a star matches.
    cached: dict[int, MatchedFrame | None] = field(default_factory=dict, repr=False)

    def read(self, frames: Sequence[DistortionFrame]) -> list[MatchedFrame]:
        """Return the matched stars of frames, in the order of time; some are cached."""
        self._match([frame for frame in frames if frame.frame_id not in self.cached])
        seen = [self.cached[frame.frame_id] for frame in frames]
        for frame_id in list(self.cached)[: max(len(self.cached) - _MOST_CACHED, 0)]:
            del self.cached[frame_id]
        return sorted(
            (frame for frame in seen if frame is not None), key=lambda frame: (frame.mjd, frame.frame_id)
        )

    def _match(self, frames: Sequence[DistortionFrame]) -> None:
        """Match the stars of frames, and keep them."""
        if not frames:
            return
        name = self.lake.catalogs(self.camera).solve
        if not name:
            raise LakeError(
                f"{self.lake.root}: the lake has no catalog, which says where stars are; bring one in with "
                "`skylake catalog import`"
            )
        catalog = ReferenceCatalog.open(self.snapshot.catalog(name))
        bands = [one.band for one in self.lake.profile(self.camera).base.filters.values()]
        task, shared = dask.delayed(read_seen, pure=False), dask.delayed(catalog, pure=False, traverse=False)
        nights: dict[int, list[int]] = {}
        for frame in frames:
            nights.setdefault(frame.night, []).append(frame.frame_id)
        makers = [
            lambda night=night, ids=ids: task(ids, self._tables(night), shared, bands[0] if bands else None)
            for night, ids in nights.items()
        ]
        self.progress.begin("stars", len(makers))
        results = run_in_windows(self.workers, makers, lambda *_: self.progress.advance())
        self.progress.end()
        for night, result in zip(nights, results, strict=True):
            if isinstance(result, BaseException):
                raise LakeError(
                    f"{self.camera}: the stars of {night} cannot be read ({reason_of(result)})"
                ) from result
            self.cached.update(dict.fromkeys(nights[night]) | {frame.frame_id: frame for frame in result})

    def _tables(self, night: int) -> Any:
        """Return where the rows of a night are."""
        tables = tuple(
            self.snapshot.slices(table, lambda part: part.camera == self.camera and part.night == night)
            for table in ("frames", "sources")
        )
        return dask.delayed(tables, pure=False, traverse=False)


def _learn(work: _Work, frames: Sequence[DistortionFrame], anew: bool) -> None:
    """Follow the camera through its frames, separately for each image size, and write the epochs."""
    held = read_epochs(work.lake.layout, work.camera)
    epochs = list(held)
    for shape in sorted({frame.shape for frame in frames}):
        some = [frame for frame in frames if frame.shape == shape]
        origin = Origin(shape, work.lake.catalogs(work.camera).solve, code_version())
        if not anew:
            epochs = _with_older(work, epochs, some, origin)
        known = None if anew else _last(epochs, shape)
        number = 1 + max((epoch.number for epoch in epochs), default=0)
        followed = _follow(work, some, Follower(origin, known, number))
        followed = [
            _improved(work, epoch, some, epoch is not followed[0] or known is None) for epoch in followed
        ]
        if anew and _same(followed, [epoch for epoch in in_force(held) if epoch.shape == shape]):
            continue
        work.report.changes += [_sentence(work.camera, epoch) for epoch in followed[1:]]
        epochs = _with_numbers(epochs, followed, known, number)
    if _state(epochs) != _state(held):
        write_epochs(work.lake.layout, work.camera, epochs)
    before = {epoch.name for epoch in held}
    work.report.made = [epoch.name for epoch in epochs if epoch.name not in before]


def _with_older(
    work: _Work, epochs: Sequence[Epoch], frames: Sequence[DistortionFrame], origin: Origin
) -> list[Epoch]:
    """Return all epochs, the first of a size with the older frames that have its distortion."""
    mine = [epoch for epoch in in_force(epochs) if epoch.shape == origin.shape]
    if not mine:
        return list(epochs)
    first = min(mine, key=lambda epoch: epoch.first_mjd)
    reached, n_frames = followed_back(first, frames, work.read, origin)
    work.report.n_frames += n_frames
    return [
        replace(epoch, first_mjd=reached.first_mjd, n_seen=reached.n_seen)
        if epoch.number == first.number
        else epoch
        for epoch in epochs
    ]


def _state(epochs: Sequence[Epoch]) -> list[tuple[str, float, float, float, int]]:
    """Return what can change of epochs that are kept."""
    return [(epoch.name, epoch.valid_to, epoch.first_mjd, epoch.last_mjd, epoch.n_seen) for epoch in epochs]


def _last(epochs: Sequence[Epoch], shape: tuple[int, int]) -> Epoch | None:
    """Return the newest epoch of images of a size."""
    mine = [epoch for epoch in epochs if epoch.shape == shape]
    return max(mine, key=lambda epoch: (epoch.number, epoch.version), default=None)


def _follow(work: _Work, frames: Sequence[DistortionFrame], follower: Follower) -> list[Epoch]:
    """Follow the frames that are new since the last epoch was updated; a few nights are in memory at a time."""
    known = follower.epochs[-1] if follower.epochs else None
    new = [frame for frame in frames if known is None or frame.mjd > known.last_mjd]
    if known is not None and new:
        old = [frame for frame in frames if known.valid_from <= frame.mjd <= known.last_mjd]
        for frame in _of_parity(work.read(old[-MEMORY:]), known.mirrored):
            follower.remember(frame)
    nights = sorted({frame.night for frame in new})
    parity = None if known is None else known.mirrored
    for first in range(0, len(nights), _NIGHTS):
        some = set(nights[first : first + _NIGHTS])
        seen = work.read([frame for frame in new if frame.night in some])
        work.report.n_frames += len(seen)
        if parity is None and seen:
            parity = 2 * sum(frame.lens.mirrored for frame in seen) > len(seen)
        for frame in _of_parity(seen, bool(parity)):
            follower.take(frame)
    follower.finish()
    return follower.epochs


def _of_parity(frames: Sequence[MatchedFrame], mirrored: bool) -> list[MatchedFrame]:
    """Return the frames of one parity: a camera that was turned about with its mirror is another one."""
    return [frame for frame in frames if frame.lens.mirrored == mirrored]


def _sentence(camera: str, epoch: Epoch) -> str:
    return f"{camera}: the distortion has changed by {iso_of_mjd(epoch.first_mjd)[:16]} UTC: {epoch.why}"


def _improved(work: _Work, epoch: Epoch, frames: Sequence[DistortionFrame], fresh: bool) -> Epoch:
    """Return an epoch learned again, if there are many more frames of it than those from which it was learned."""
    n_learned = epoch.distortion.n_frames
    if n_learned >= _MOST_FRAMES or epoch.n_seen < _MANY_MORE * n_learned:
        return epoch
    seen = _of_parity(work.read(_some_of(epoch, frames)), epoch.mirrored)
    if len(seen) <= n_learned:
        return epoch
    origin = Origin(epoch.shape, work.lake.catalogs(work.camera).solve, code_version())
    return replace(origin.learn(seen, epoch), version=epoch.version + (not fresh))


def _some_of(epoch: Epoch, frames: Sequence[DistortionFrame]) -> list[DistortionFrame]:
    """Return frames that are spread over the time of an epoch."""
    mine = [frame for frame in frames if epoch.first_mjd <= frame.mjd <= epoch.last_mjd]
    places = np.linspace(0, len(mine) - 1, min(len(mine), _MOST_FRAMES)).round().astype(int)
    return [mine[place] for place in np.unique(places)]


def stars_of_epoch(
    lake: Lake, camera: str, epoch: Epoch, workers: Workers
) -> tuple[Floats, Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """Return the stars of frames of an epoch, placed with its distortion.

    Returns
    -------
    x, y, dx, dy : ndarray, shape (n,)
        Places of sources, and how far they are from those of the stars; pixels.
    used : ndarray of bool, shape (n,)
        Which of them the fits believe.
    """
    work = _Work(lake, lake.snapshot(), camera, workers, Silent(), LearnReport(camera))
    frames = [frame for frame in distortion_frames(work.snapshot, camera) if frame.shape == epoch.shape]
    known = epoch.distortion.expected(epoch.shape)
    stars = []
    for frame in _of_parity(work.read(_some_of(epoch, frames)), epoch.mirrored):
        held = fit_lens(epoch.distortion.applied(frame.lens), frame.pairs, OWN, known)
        seen = np.isfinite(held.residuals).all(axis=0)
        stars.append(np.vstack([frame.pairs.x, frame.pairs.y, held.residuals, held.weights])[:, seen])
    x, y, dx, dy, weights = np.concatenate(stars, axis=1) if stars else np.zeros((5, 0))
    return x, y, dx, dy, weights > 0.0


def _same(made: Sequence[Epoch], held: Sequence[Epoch]) -> bool:
    """Return whether epochs equal the stored ones, apart from their numbers."""

    def plain(epoch: Epoch) -> tuple[str, float]:
        return epoch.name.rpartition("-")[2], epoch.valid_from

    return [plain(epoch) for epoch in made] == [plain(epoch) for epoch in held]


def _with_numbers(
    epochs: Sequence[Epoch], followed: Sequence[Epoch], known: Epoch | None, number: int
) -> list[Epoch]:
    """Return all epochs with those that were followed; those that began get the next free numbers."""
    old = list(epochs)
    first = list(followed[:1]) if known is not None else []
    if known is not None:
        # All versions of an epoch have the times that are known now.
        times = {name: getattr(first[0], name) for name in ("valid_to", "last_mjd", "n_seen")}
        old = [replace(epoch, **times) if epoch.number == known.number else epoch for epoch in old]
        if first[0].version == known.version:
            first = []
    new = [replace(epoch, number=number + place) for place, epoch in enumerate(followed[known is not None :])]
    return [*old, *first, *new]
