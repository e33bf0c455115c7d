"""Learn the geometry of an all-sky camera from the frames of a lake, and report when the camera moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.cameras.clock_times import iso_of_mjd
from skylake.core.camera import Camera
from skylake.core.horizon import Horizon
from skylake.core.reasons import Status
from skylake.core.refraction import Air
from skylake.errors import LakeError, reason_of
from skylake.flow.astrometry.learning_report import LearnReport
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.image.allsky.allsky_pointing import USUAL_FWHM_PX, SkyScene, detected_of
from skylake.image.allsky.geometry_epochs import Geometry, in_force, newest, recorded
from skylake.image.allsky.night_geometries import geometries_of_night
from skylake.image.wcs.header_wcs import CatalogStars
from skylake.image.wcs.lens import Lens
from skylake.lake import Lake, Snapshot
from skylake.lake.cameras.stored_geometries import geometries_file, read_geometries, write_geometries
from skylake.lake.commits.file_lock import locked
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField

#: Frames of a night that are looked at, spread over it.
_FRAMES = 16
_FRAME_COLUMNS = ["frame_id", "mjd_mid", "night", "height_px", "width_px", "fwhm_px", "band"]
_SOURCE_COLUMNS = ["frame_id", "x_px", "y_px", "x_err_px", "y_err_px", "flux_aper1", "flags"]


@dataclass(frozen=True, slots=True)
class _GeometryNight:
    """The good frames of a night that have one size; what its task needs of the camera."""

    night: int
    shape: tuple[int, int]
    frames: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class SkyCamera:
    """What gives the places of stars for a camera: its site and air, and the catalog down to a magnitude."""

    camera: Camera
    catalog: ReferenceCatalog
    band: str | None
    faintest: float


def learn_geometries(
    lake: Lake, profile: Profile, workers: Workers, anew: bool = False, progress: Progress | None = None
) -> LearnReport:
    """Learn the geometry of a camera from nights of a lake with frames that are new since the last run.

    One lens is fitted to the stars of frames spread over a night. It belongs to the epoch before it, or begins a new
    one if the camera was moved. A second run without new frames changes nothing. Late frames of a night before the
    newest one are used with `anew` only; geometries that frames name are kept then too.

    Raises
    ------
    LakeError
        If there is no catalog, or the lake cannot be read or written.
    """
    report, snapshot = LearnReport(profile.name), lake.snapshot()
    path = geometries_file(lake.layout, profile.name)
    rows = _frames(snapshot, profile.name)
    if not rows.num_rows:
        return report
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{profile.name}.learning")):
        held = read_geometries(lake.layout, profile.name)
        known = newest(() if anew else held)
        new = _nights_with_news(rows, known)
        start = tuple(replace(epoch, retired=True) for epoch in held) if anew else held
        versions = start
        for epochs in _learn(lake, snapshot, profile, new, known, workers, progress or Silent()):
            versions = recorded(versions, epochs)
        report.n_frames = sum(len(night.frames) for night in new)
        report.changes = [
            f"{profile.name}: the camera was moved by {iso_of_mjd(epoch.first_mjd)[:16]} UTC; another geometry begins"
            for epoch in _later(newest(versions))
            if epoch.number not in {old.number for old in start}
        ]
        if anew and _same(newest(versions), newest(held)):
            versions = held
        if versions != held:
            write_geometries(lake.layout, profile.name, versions)
    names = {epoch.name for epoch in held}
    report.made = [version.name for version in versions if version.name not in names]
    return report


def _later(epochs: Sequence[Geometry]) -> list[Geometry]:
    """Return the epochs before which there is one of the same size of images."""
    return [
        epoch for number, epoch in enumerate(epochs) if epoch.shape in [old.shape for old in epochs[:number]]
    ]


def _same(made: Sequence[Geometry], held: Sequence[Geometry]) -> bool:
    """Return whether epochs equal the stored ones, apart from their numbers and versions."""

    def plain(epoch: Geometry) -> Geometry:
        return replace(epoch, number=1, version=1)

    return [plain(epoch) for epoch in made] == [plain(epoch) for epoch in held]


def _frames(snapshot: Snapshot, camera: str) -> pa.Table:
    """Return the good frames of a camera in the order of time."""
    good = pc.field("status") == Status.OK.value
    rows = snapshot.read("frames", _FRAME_COLUMNS, lambda part: part.camera == camera, good)
    return rows.sort_by([("mjd_mid", "ascending"), ("frame_id", "ascending")])


def _nights_with_news(rows: pa.Table, epochs: Sequence[Geometry]) -> list[_GeometryNight]:
    """Return the nights with new frames, each with frames of one size; other rows are not converted."""
    names = ["night", "height_px", "width_px"]
    groups = rows.group_by(names).aggregate([("mjd_mid", "min"), ("mjd_mid", "max")]).to_pylist()
    last: dict[tuple[int, int], int] = {}
    for group in groups:
        shape = group["height_px"], group["width_px"]
        last[shape] = max(group["night"], last.get(shape, group["night"]))
    nights = []
    for group in sorted(groups, key=lambda group: [group[name] for name in names]):
        shape = group["height_px"], group["width_px"]
        newest = group["night"] == last[shape]
        ends = tuple({"mjd_mid": group[f"mjd_mid_{end}"]} for end in ("min", "max"))
        if not newest and not _has_news(_GeometryNight(group["night"], shape, ends), epochs, newest):
            continue
        chosen = [pc.equal(rows[name], group[name]) for name in names]
        frames = rows.filter(pc.and_(pc.and_(chosen[0], chosen[1]), chosen[2])).to_pylist()
        night = _GeometryNight(group["night"], shape, tuple(frames))
        if not newest or _has_news(night, epochs, newest):
            nights.append(night)
    return nights


def _has_news(night: _GeometryNight, epochs: Sequence[Geometry], newest: bool) -> bool:
    """Return whether no frame of a night was looked at, or it is the newest and has frames outside of all epochs."""
    mine = [epoch for epoch in epochs if epoch.shape == night.shape]
    times = [frame["mjd_mid"] for frame in night.frames]
    if not newest:
        return not any(epoch.first_mjd <= times[-1] and times[0] <= epoch.last_mjd for epoch in mine)
    return any(not any(epoch.first_mjd <= mjd <= epoch.last_mjd for epoch in mine) for mjd in times)


def _learn(
    lake: Lake,
    snapshot: Snapshot,
    profile: Profile,
    nights: Sequence[_GeometryNight],
    epochs: Sequence[Geometry],
    workers: Workers,
    progress: Progress,
) -> list[Geometry]:
    """Return what nights give, in order of time."""
    if not nights:
        return []
    name = profile.base.catalog.over(lake.settings.catalog).solve
    if not name:
        raise LakeError(
            f"{lake.root}: the lake has no catalog, which says where stars are; bring one in with "
            "`skylake catalog import`"
        )
    bands = [night_.band for night_ in profile.base.filters.values()]
    camera = SkyCamera(
        profile.base,
        ReferenceCatalog.open(snapshot.catalog(name)),
        bands[0] if bands else None,
        profile.base.astrometry.all_sky_mag,
    )
    task, shared = dask.delayed(learn_night, pure=False), dask.delayed(camera, pure=False, traverse=False)
    makers = [
        lambda night=night: task(
            _spread(night), _sources(snapshot, profile.name, night), shared, _known(epochs, night)
        )
        for night in nights
    ]
    progress.begin("geometry", len(makers))
    results = run_in_windows(workers, makers, lambda *_: progress.advance())
    progress.end()
    for night, result in zip(nights, results, strict=True):
        if isinstance(result, BaseException):
            raise LakeError(
                f"{profile.name}: the stars of {night.night} cannot be read ({reason_of(result)})"
            ) from result
    return [geometry for some in results for geometry in some]


def _spread(night: _GeometryNight) -> _GeometryNight:
    """Return a night with no more frames than are looked at."""
    places = np.linspace(0, len(night.frames) - 1, min(len(night.frames), _FRAMES)).round().astype(int)
    return _GeometryNight(night.night, night.shape, tuple(night.frames[place] for place in places))


def _sources(snapshot: Snapshot, camera: str, night: _GeometryNight) -> Any:
    slices = snapshot.slices("sources", lambda part: part.camera == camera and part.night == night.night)
    return dask.delayed(slices, pure=False, traverse=False)


def _known(epochs: Sequence[Geometry], night: _GeometryNight) -> Lens | None:
    known = in_force([epoch for epoch in epochs if epoch.shape == night.shape], night.frames[0]["mjd_mid"])
    return None if known is None else known.lens


def learn_night(
    night: _GeometryNight, sources: Sequence[Slice], camera: SkyCamera, known: Lens | None
) -> list[Geometry]:
    """Return the geometries that the frames of a night show. Runs on a worker."""
    ids = pa.array([frame["frame_id"] for frame in night.frames], pa.int64())
    rows = read_files("sources", sources, _SOURCE_COLUMNS, pc.field("frame_id").isin(ids))
    stars = StarField(camera.catalog, camera.band)
    scenes = []
    for frame in night.frames:
        mine = rows.filter(pc.equal(rows["frame_id"], frame["frame_id"]))
        x, y, x_err, y_err, flux = (
            np.asarray(mine[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)
            for name in _SOURCE_COLUMNS[1:6]
        )
        scenes.append(
            SkyScene(
                detected_of(x, y, x_err, y_err, flux, mine["flags"].to_numpy()),
                frame["fwhm_px"] or USUAL_FWHM_PX,
                night.shape,
                frame["mjd_mid"],
                Horizon.of(frame["mjd_mid"], camera.camera.site, Air.of_camera(camera.camera, frame["band"])),
                CatalogStars(*stars.at(0.0, 90.0, 180.0, frame["mjd_mid"], camera.faintest)),
            )
        )
    return geometries_of_night(scenes, known)
