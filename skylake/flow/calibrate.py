"""Calibrate: the detections of each night are joined with a reference catalog and given zeropoints."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skylake.cameras import Profile
from skylake.core.camera import Camera, FilterBand
from skylake.core.ids import config_sha256
from skylake.core.reasons import Status
from skylake.errors import LakeError, SkylakeError
from skylake.flow.cluster import Workers
from skylake.flow.progress import Progress, Silent
from skylake.lake import Commit, Lake, Part, Snapshot, stage_part
from skylake.lake.snapshot import read_files
from skylake.schema import empty_table, load
from skylake.sky.catalogs import ReferenceCatalog
from skylake.sky.hats import Properties, write_metadata
from skylake.sky.match import Aperture, count_candidates, mutual_nearest
from skylake.sky.pixels import PixelTree
from skylake.table.matches import CARRIED, matches_table, reference_columns
from skylake.table.zeropoints import Band, zeropoints_table

#: Radius of the match, in pixels, where the profile gives none.
_RADIUS_PX = 3.0


@dataclass(frozen=True, slots=True)
class Night:
    """A night to calibrate: everything that a worker needs.

    ``matches`` is the part of an earlier calibration that still holds, or None to join anew.
    """

    name: str
    camera: str
    night: int
    frames: tuple[Path, ...]
    sources: Part
    sources_root: Path
    matches: Part | None
    matches_root: Path
    inputs: dict[str, str]


@dataclass(slots=True)
class CalibrateReport:
    """What a calibration did.

    Attributes
    ----------
    catalog : str
    version : int
    batches : list of dict
        camera, night, frames, zeropoints and matches of each night that was calibrated.
    n_current : int
        Nights whose calibration was up to date.
    """

    catalog: str
    version: int
    batches: list[dict[str, Any]] = field(default_factory=list)
    n_current: int = 0


def no_catalog(lake: Lake) -> LakeError:
    """Return the error of a lake without a reference catalog, which names the command to type."""
    return LakeError(
        f"{lake.root}: the lake has no reference catalog; import one with `skylake catalog import {lake.root} "
        "NAME --format table FILE --ra COLUMN --dec COLUMN --mag V=COLUMN --colour B-V=COLUMN`"
    )


def calibrate(
    lake: Lake,
    workers: Workers,
    catalog: str | None = None,
    version: int | None = None,
    progress: Progress | None = None,
) -> CalibrateReport:
    """Match and calibrate every night that is not calibrated yet, or whose frames have changed.

    Parameters
    ----------
    lake : Lake
    workers : Workers
    catalog : str or None
        Reference catalog; None takes the lake's default.
    version : int or None
        Version of the zeropoints; None takes the largest there is, or 1.

    Raises
    ------
    LakeError
        If the lake has no catalog. A night that cannot be calibrated is named only after all the others
        are committed.
    CatalogError
        If it has no catalog of that name.
    """
    progress = progress or Silent()
    name = catalog or lake.settings.default_catalog
    if not name:
        raise no_catalog(lake)
    reference = ReferenceCatalog.open(lake.layout.catalog(name))
    snapshot = lake.snapshot()
    version = version or _largest_version(snapshot, name) or 1
    report = CalibrateReport(name, version)
    _remove_orphans(lake, snapshot)
    profiles = {camera: lake.profile(camera) for camera in _cameras(snapshot)}
    nights = [night for night in _nights(lake, snapshot, profiles, reference, version) if night is not None]
    report.n_current = len(snapshot.parts("frames")) - len(nights)
    failures: list[LakeError] = []
    progress.begin("nights", len(nights))
    task = dask.delayed(calibrate_night, pure=False)
    with lake.stage("calibrate") as staging:
        tasks = [
            task(night, profiles[night.camera], reference, version, lake.tree, staging / night.name)
            for night in nights
        ]

        def commit(number: int, result: Any) -> None:
            if isinstance(result, BaseException):
                failures.append(_failure(nights[number], result))
            else:
                _commit(lake, nights[number], result, staging, snapshot.number, report, progress)
            progress.advance()

        workers.run(tasks, commit)
    progress.end()
    if failures:
        raise LakeError("; ".join(map(str, failures))) from failures[0]
    return report


def _largest_version(snapshot: Snapshot, catalog: str) -> int | None:
    rows = snapshot.read("zeropoints", ["version"], filter=pc.field("catalog") == catalog)
    largest = pc.max(rows["version"]).as_py()
    return None if largest is None else int(largest)


def _cameras(snapshot: Snapshot) -> set[str]:
    return {part.camera for part in snapshot.parts("frames").values() if part.camera is not None}


def matches_name(batch: str, catalog: str) -> str:
    """Return the name of the part of ``matches`` of a batch."""
    return f"{batch}-{catalog}"


def zeropoints_name(batch: str, catalog: str, version: int) -> str:
    """Return the name of the part of ``zeropoints`` of a batch."""
    return f"{batch}-{catalog}-v{version}"


def _remove_orphans(lake: Lake, snapshot: Snapshot) -> None:
    """Remove matches and zeropoints of nights that have no frames any more."""
    alive = {(part.camera, part.night) for part in snapshot.parts("frames").values()}
    commit = Commit("calibrate", "-", base=snapshot.number)
    for table in ("matches", "zeropoints"):
        for part in snapshot.parts(table).values():
            if (part.camera, part.night) not in alive:
                commit.remove(table, part.name)
    lake.commit(commit)


def _nights(
    lake: Lake, snapshot: Snapshot, profiles: dict[str, Profile], reference: ReferenceCatalog, version: int
) -> Iterable[Night | None]:
    """Yield the nights to calibrate, and None for those that are up to date."""
    sources = snapshot.parts("sources")
    for part in snapshot.parts("frames").values():
        if part.camera is None or part.night is None:
            continue
        detections = sources.get(part.name) or Part("sources", part.name, (), part.camera, part.night)
        inputs = {
            "frames": part.checksum,
            "sources": detections.checksum,
            "catalog": reference.checksum,
            "profile": config_sha256({"profile": profiles[part.camera].sha256}),
        }
        matches = snapshot.parts("matches").get(matches_name(part.name, reference.name))
        zeropoints = snapshot.parts("zeropoints").get(zeropoints_name(part.name, reference.name, version))
        current = matches if matches is not None and matches.inputs == inputs else None
        if current is not None and zeropoints is not None and zeropoints.inputs == inputs:
            yield None
            continue
        yield Night(
            part.name,
            part.camera,
            part.night,
            tuple(snapshot.files("frames", lambda one, name=part.name: one.name == name)),  # type: ignore[misc]
            detections,
            snapshot.folder("sources"),
            current,
            snapshot.folder("matches"),
            inputs,
        )


def calibrate_night(
    night: Night, profile: Profile, reference: ReferenceCatalog, version: int, tree: PixelTree, staging: Path
) -> tuple[Part, Part]:
    """Match and calibrate one night; runs on a worker.

    Returns
    -------
    matches, zeropoints : Part
    """
    frames = read_files("frames", night.frames, filter=pc.field("status") == Status.OK.value)
    camera = profile.at(float(np.mean(frames["mjd_mid"].to_numpy())) if frames.num_rows else None)
    if night.matches is not None:
        matches_part = night.matches
        matches = read_files("matches", [night.matches_root / file.path for file in matches_part.files])
    else:
        matches = _match(night, frames, camera, reference)
        matches_part = stage_part(
            matches, "matches", matches_name(night.name, reference.name), staging / "matches", tree,
            night.camera, night.night, night.inputs,
        )  # fmt: skip
    zeropoints = zeropoints_table(frames, matches, _bands(frames, camera), reference.name, version)
    zeropoints_part = stage_part(
        zeropoints, "zeropoints", zeropoints_name(night.name, reference.name, version), staging / "zeropoints",
        None, night.camera, night.night, night.inputs,
    )  # fmt: skip
    return matches_part, zeropoints_part


def _filters(frames: pa.Table, camera: Camera) -> dict[str, FilterBand]:
    """Return the band of each filter that occurs."""
    found = {name: camera.filter_band(name) for name in set(frames["filter"].to_pylist()) if name is not None}
    return {name: band for name, band in found.items() if band is not None}


def _bands(frames: pa.Table, camera: Camera) -> dict[str, Band]:
    return {
        band.band: Band(band, camera.apertures.flux, camera.calibration)
        for band in _filters(frames, camera).values()
    }


def _match(night: Night, frames: pa.Table, camera: Camera, reference: ReferenceCatalog) -> pa.Table:
    """Join the night's detections with the catalog and choose mutual nearest neighbours."""
    filters = _filters(frames, camera)
    if frames.num_rows == 0 or not night.sources.files:
        return empty_table(load("matches"))
    from skylake.sky.join import join_catalog

    columns = reference_columns(list(filters.values()), reference.columns)
    radius, aperture = match_radius_arcsec(frames, camera), _aperture(frames, camera, columns)
    with NightCatalog(night) as detections:
        pairs = join_catalog(detections, reference.collection, CARRIED, columns, radius, aperture)
    return choose_matches(pairs, frames, reference.name, filters, camera)


def _aperture(frames: pa.Table, camera: Camera, columns: list[str]) -> Aperture:
    """Return the aperture of calibrations on the sky."""
    magnitudes = [name for name in columns if name.startswith("mag_") and not name.endswith("_err")]
    scale, width = (
        float(pc.approximate_median(frames[name]).as_py() or 0.0)
        for name in ("pixel_scale_arcsec", "fwhm_px")
    )
    radius = camera.apertures.calibrated_radius_px
    return Aperture(magnitudes[0] if magnitudes else None, scale * radius, scale * (width or 0.5 * radius))


def match_radius_arcsec(frames: pa.Table, camera: Camera) -> float:
    """Return the radius of the match: the profile's, or three pixels."""
    given = camera.calibration.match_radius_arcsec
    return given if given is not None else _RADIUS_PX * float(pc.max(frames["pixel_scale_arcsec"]).as_py())


def choose_matches(
    pairs: pa.Table, frames: pa.Table, catalog: str, filters: dict[str, FilterBand], camera: Camera
) -> pa.Table:
    """Return the matches among all pairs within the radius: mutual nearest, one to one in each frame."""
    pairs = pairs.filter(pc.is_in(pairs["frame_id"], frames["frame_id"].combine_chunks()))
    frame, source, star = (pairs[name].to_numpy() for name in ("frame_id", "source_no", "ref_id"))
    pairs = pairs.append_column("n_candidates", pa.array(count_candidates(frame, source)))
    nearest = mutual_nearest(frame, source, star, pairs["separation_arcsec"].to_numpy())
    chosen = pairs.filter(pa.array(nearest))
    return matches_table(chosen, catalog, filters, camera.calibration.catalog_mag_err)


class NightCatalog:
    """The detections of one night as a HATS catalog of their own, made of links to its files.

    Opening the whole table and filtering it would look into every file of every night.
    """

    def __init__(self, night: Night) -> None:
        self.night = night

    def __enter__(self) -> Path:
        self.folder = tempfile.TemporaryDirectory(prefix="skylake-night-")
        root = Path(self.folder.name) / "sources"
        pixels = []
        for file in self.night.sources.files:
            target = root / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(self.night.sources_root / file.path)
            if file.pixel is not None:
                pixels.append(file.pixel)
        properties = Properties("night", "source", self.night.sources.n_rows)
        write_metadata(root, load("sources"), properties, pixels)
        return root

    def __exit__(self, *_: object) -> None:
        self.folder.cleanup()


def _failure(night: Night, error: BaseException) -> LakeError:
    what = str(error) if isinstance(error, SkylakeError) else f"{type(error).__name__}: {error}"
    return LakeError(f"{night.name}: the night could not be calibrated ({what}); mend that and run again")


def _commit(
    lake: Lake,
    night: Night,
    result: tuple[Part, Part],
    staging: Path,
    base: int,
    report: CalibrateReport,
    progress: Progress,
) -> None:
    """Publish the parts of a night."""
    matches, zeropoints = result
    commit = Commit("calibrate", night.name, base=base)
    if night.matches is None:
        commit.replace(matches, staging / night.name / "matches")
    commit.replace(zeropoints, staging / night.name / "zeropoints")
    snapshot = lake.commit(commit)
    rows = snapshot.read_part("zeropoints", zeropoints.name, ["zp"])
    n_zeropoints = len(rows) - rows["zp"].null_count
    report.batches.append(
        {
            "camera": night.camera,
            "night": night.night,
            "frames": rows.num_rows,
            "zeropoints": n_zeropoints,
            "matches": matches.n_rows,
        }
    )
    progress.line(
        f"calibrate {night.name}: {n_zeropoints} of {rows.num_rows} frames, {matches.n_rows} matches"
    )
