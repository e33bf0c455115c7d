"""Make the list of targets of a camera: catalog stars in its fields, and repeated detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.bands import mag_column
from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.ids import config_sha256
from skylake.core.reasons import Status
from skylake.core.sphere import (
    healpix_index,
    julian_epoch,
    offset,
    ra_dec,
    separation_deg,
    tangent_basis,
    unit_vectors,
)
from skylake.errors import UsageError
from skylake.flow.execution.cluster import Workers, run_in_windows
from skylake.flow.execution.run_progress import Progress, Silent
from skylake.flow.execution.task_guard import value_of
from skylake.flow.forced.target_list import TargetList, part_name, parts_of
from skylake.lake import Commit, Lake, Snapshot, stage_part
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema import conform, load
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import Pixel
from skylake.table.detector_artefacts import are_artefacts
from skylake.table.faint_stars import are_fainter_stars
from skylake.table.targets import (
    DETECTIONS,
    CatalogStars,
    Clusters,
    cluster_detections,
    combine,
    identify,
    merge_clusters,
    targets_table,
)

Floats = npt.NDArray[np.float64]

#: Detections no farther apart than this are one star, pixels; and a catalog star and its detections.
_LINK_PX = 1.0
_MATCH_PX = 1.5
#: Stars nearer to each other than this, in full widths of all but the widest frames, may be detected as one.
_BLEND_WIDTHS, _BLEND_PERCENT = 1.75, 80.0
#: Frames whose centres differ by less than this share of their radius look at one field.
_SAME_FIELD = 0.25
_FRAME_COLUMNS = [
    "frame_id",
    "ra_deg",
    "dec_deg",
    "pixel_scale_arcsec",
    "rotation_deg",
    "mirrored",
    "width_px",
    "height_px",
    "fwhm_px",
]
_NUMBERS = ("ra_deg", "dec_deg", "flux_aper1", "mjd_mid", "x_px", "y_px", "half_light_px")
#: Detections with any of these bits make no target. Saturated stars do: their neighbours are measured without them.
_NO_TARGET = SPOILED & ~SourceFlag.SATURATED
#: On the sharpest frames, these percent of all, stars have the full width to judge by; with what pixels add to it.
_SHARPEST_PERCENT, _PIXEL_PX = 1.0, 1.2
#: A half-light radius below this share of that of stars is one of a pixel.
_SHARP_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """Which stars become targets.

    Attributes
    ----------
    catalog : str or None
        Reference catalog; None takes none.
    band : str or None
        Band of the faint limit; None takes that of the camera's first filter, or the first of the catalog.
    faint : float or None
        Magnitude of the faintest stars; None takes all.
    seen : int
        Frames on which a star that is not in the catalog must have been detected; 0 takes no such stars.
    share : float
        Share of the frames of its field on which it must have been detected.
    """

    catalog: str | None = None
    band: str | None = None
    faint: float | None = None
    seen: int = 3
    share: float = 0.1


@dataclass(slots=True)
class TargetReport:
    """The list that was made: its version, whether it is new, and how many targets of each kind it has.

    `n_fainter` counts stars of the catalog that were detected and are fainter than the limit: they are no targets.
    """

    camera: str
    version: int = 0
    is_new: bool = False
    n_targets: int = 0
    n_catalog: int = 0
    n_detections: int = 0
    n_fainter: int = 0

    @property
    def line(self) -> str:
        """The report as a sentence."""
        state = "made" if self.is_new else "unchanged"
        text = (
            f"targets {self.camera}: version {self.version} {state}, {self.n_targets} targets "
            f"({self.n_catalog} from the catalog, {self.n_detections} from detections)"
        )
        if self.n_fainter:
            text += f"; {self.n_fainter} detected stars of the catalog are fainter than --faint"
        return text


def make_targets(
    lake: Lake, camera: str, options: TargetOptions, workers: Workers, progress: Progress | None = None
) -> TargetReport:
    """Make the next version of the list of a camera, unless it would be the same as the last.

    Raises
    ------
    UsageError
        If nothing could be a target.
    CatalogError
        If the catalog cannot be read.
    LakeError
        If the lake cannot be read or written.
    """
    progress = progress or Silent()
    snapshot = lake.snapshot()
    good = (pc.field("camera") == camera) & (pc.field("status") == Status.OK.value)
    frames = snapshot.read("frames", _FRAME_COLUMNS, lambda part: part.camera == camera, good)
    if frames.num_rows == 0:
        held = sorted({part.camera for part in snapshot.parts("frames").values() if part.camera is not None})
        raise UsageError(
            f"{lake.root}: no frame of {camera} in the lake is good, so it is not known where its fields are; "
            f"`skylake ingest` some first (the lake has frames of {', '.join(held) or 'no camera'})"
        )
    scale = float(np.median(frames["pixel_scale_arcsec"].to_numpy()))
    clusters = _clusters(snapshot, camera, options, scale, _narrowest(frames), workers, progress)
    clusters = clusters.take(~are_artefacts(clusters, scale, _field_radius(frames)))
    stars, fainter = _catalog_stars(lake, camera, options, frames)
    left_out = np.zeros(len(clusters), bool)
    if stars is not None and fainter is not None:
        left_out = are_fainter_stars(clusters, stars, fainter, _MATCH_PX * scale)
    n_fainter = int(np.count_nonzero(left_out & (clusters.n_frames >= max(options.seen, 1))))
    rows = combine(stars, clusters.take(~left_out), _MATCH_PX * scale, _blend_px(frames) * scale)
    covering = count_frames(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy(), frames)
    rows, covering = _wanted(rows, covering, options)
    if rows.num_rows == 0:
        raise UsageError(
            f"{lake.root}: nothing is a target of {camera}; name a --catalog, a fainter --faint or a smaller --seen"
        )
    report = _publish(lake, snapshot, camera, options, rows, covering, _MATCH_PX * scale)
    report.n_fainter = n_fainter
    return report


def _blend_px(frames: pa.Table) -> float:
    """Return the distance within which two stars may be detected as one, pixels, by the widths of the frames."""
    widths = frames["fwhm_px"].drop_null().cast(pa.float64()).to_numpy()
    return _BLEND_WIDTHS * float(np.percentile(widths, _BLEND_PERCENT)) if widths.size else 2.0 * _MATCH_PX


def _field_radius(frames: pa.Table) -> float:
    """Return the half diagonal of the largest frame on the sky, degrees."""
    size = np.hypot(frames["width_px"].to_numpy(), frames["height_px"].to_numpy())
    return float(np.max(0.5 * size * frames["pixel_scale_arcsec"].to_numpy())) / 3600.0


def may_be_star(flags: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Return by its flags which detections may be stars; of a saturated one the centroid fails as a rule."""
    saturated = (flags & int(SourceFlag.SATURATED)) != 0
    forgiven = np.where(saturated, int(SourceFlag.CENTROID_FAILED), 0)
    return np.asarray((flags & int(_NO_TARGET) & ~forgiven) == 0)


def _narrowest(frames: pa.Table) -> float:
    """Return the half-light radius below which nothing is a star, pixels: a part of that on the sharpest frames."""
    widths = frames["fwhm_px"].drop_null().cast(pa.float64()).to_numpy()
    if widths.size == 0:
        return 0.0
    return 0.5 * _SHARP_SHARE * float(np.hypot(np.percentile(widths, _SHARPEST_PERCENT), _PIXEL_PX))


def _wanted(rows: pa.Table, covering: npt.NDArray[np.int64], options: TargetOptions) -> tuple[pa.Table, Any]:
    """Return the rows in fields of the camera that were seen often enough, if that is asked of them."""
    seen = rows["n_seen"].to_numpy()
    from_catalog = np.asarray(rows["ref_id"].is_valid())
    enough = (seen >= max(options.seen, 1)) & (seen >= options.share * covering)
    keep = np.where(from_catalog, covering > 0, enough & (options.seen > 0))
    return rows.filter(pa.array(keep)), covering[keep]


def _publish(
    lake: Lake,
    snapshot: Snapshot,
    camera: str,
    options: TargetOptions,
    rows: pa.Table,
    covering: npt.NDArray[np.int64],
    match_arcsec: float,
) -> TargetReport:
    held = parts_of(snapshot, camera)
    last = max(held, default=0)
    earlier = snapshot.read("targets", where=lambda part: part.camera == camera)
    star_id = identify(rows, pa.concat_tables([earlier, _objects(snapshot, camera)]), match_arcsec)
    table = targets_table(rows, star_id, covering, camera, last + 1)
    n_catalog = int(pc.sum(rows["ref_id"].is_valid()).as_py())
    report = TargetReport(camera, last, False, rows.num_rows, n_catalog, rows.num_rows - n_catalog)
    if last and _is_same(table, TargetList.of(snapshot, camera, last, held).rows()):
        return report
    report.version, report.is_new = last + 1, True
    configuration = {"targets": asdict(options), "camera": camera}
    name = part_name(camera, report.version)
    commit = Commit("targets", name, base=snapshot.number)
    commit.configure([configuration])
    with lake.stage("targets") as staging:
        inputs = {"configuration": config_sha256(configuration)}
        commit.replace(stage_part(table, "targets", name, staging, None, camera, None, inputs), staging)
        lake.commit(commit)
    return report


def _objects(snapshot: Snapshot, camera: str) -> pa.Table:
    """Return the objects of a camera as rows of a list before all others, so that targets have their identifiers."""
    names = ["_healpix_29", "camera", "object_id", "ra_deg", "dec_deg", "mjd_place", "catalog", "ref_id"]
    rows = snapshot.read(
        "objects", names, lambda part: part.camera == camera, pc.field("status") == "qualified"
    )
    zero = np.zeros(rows.num_rows, np.int32)
    columns = {name: rows[name] for name in ("_healpix_29", "camera", "ra_deg", "dec_deg", "ref_id")}
    columns |= {
        "version": zero,
        "star_id": rows["object_id"],
        "epoch": julian_epoch(rows["mjd_place"].to_numpy()),
        "origin": pc.fill_null(rows["catalog"], DETECTIONS),
        "n_seen": zero,
        "n_frames": zero,
    }
    schema = load("targets")
    return conform(pa.table({name: columns[name] for name in schema.names if name in columns}), schema)


def _is_same(new: pa.Table, old: pa.Table) -> bool:
    """Return whether two lists measure the same; how often something was seen does not count."""
    names = ["star_id", "ra_deg", "dec_deg", "epoch", "origin"]
    one, two = (table.sort_by("star_id").select(names).combine_chunks() for table in (new, old))
    return bool(one.equals(two))


def _clusters(
    snapshot: Snapshot,
    camera: str,
    options: TargetOptions,
    scale: float,
    narrow_px: float,
    workers: Workers,
    progress: Progress,
) -> Clusters:
    """Return what was detected at one place on enough frames; memory is bounded by a pixel of the lake."""
    by_pixel: dict[Pixel, list[Slice]] = {}
    version = snapshot.version("sources")
    for part in snapshot.parts("sources").values():
        if part.camera == camera:
            for file, piece in zip(part.files, version.slices_of(part), strict=True):
                if file.pixel is not None:
                    by_pixel.setdefault(file.pixel, []).append(piece)
    task = dask.delayed(cluster_pixel, pure=False)
    seen, link = max(options.seen, 1), _LINK_PX * scale
    makers = [
        (lambda pixel=pixel, slices=slices: task(pixel, slices, camera, link, seen, narrow_px))
        for pixel, slices in sorted(by_pixel.items())
    ]
    progress.begin("targets", len(makers))
    results = run_in_windows(workers, makers, lambda *_: progress.advance())
    progress.end()
    clusters = [
        value_of(result, "detections could not be read", "fix that and run again") for result in results
    ]
    return merge_clusters(Clusters.joined(clusters), link)


def cluster_pixel(
    pixel: Pixel, slices: Sequence[Slice], camera: str, link_arcsec: float, seen: int, narrow_px: float
) -> Clusters:
    """Return the clusters of one pixel that were seen often enough, or may be part of one beyond its edge.

    What the edge, a streak or a bad pixel spoils is not counted; half-light radii below `narrow_px` are those of no
    star.
    """
    rows = read_files("sources", slices, [*_NUMBERS, "frame_id", "flags"], pc.field("camera") == camera)
    rows = rows.filter(pa.array(may_be_star(rows["flags"].to_numpy())))
    ra, dec, flux, mjd, x, y, half_light = (rows[name].cast(pa.float64()).to_numpy() for name in _NUMBERS)
    clusters = cluster_detections(
        rows["frame_id"].to_numpy(), ra, dec, flux, mjd, link_arcsec, (x, y), half_light < narrow_px
    )
    few = np.flatnonzero(clusters.n_frames < seen)
    keep = np.ones(len(clusters), bool)
    keep[few] = _near_edge(*ra_dec(clusters.total[few]), pixel, 2.0 * link_arcsec)
    return clusters.take(keep)


def _near_edge(ra: Floats, dec: Floats, pixel: Pixel, distance_arcsec: float) -> npt.NDArray[np.bool_]:
    """Return which places are within a distance of the edge of their pixel."""
    near = np.zeros(len(ra), bool)
    for angle in (45.0, 135.0, 225.0, 315.0):
        around = offset(ra, dec, distance_arcsec / 3600.0, np.full(len(ra), angle))
        near |= healpix_index(*around, pixel[0]) != pixel[1]
    return near


def _catalog_stars(
    lake: Lake, camera: str, options: TargetOptions, frames: pa.Table
) -> tuple[CatalogStars | None, CatalogStars | None]:
    """Return the catalog's stars in the fields of the camera: to the faint limit, and beyond it if there is one."""
    if options.catalog is None:
        return None, None
    catalog = ReferenceCatalog.open(lake.layout.catalog(options.catalog))
    magnitude = _magnitude(lake, camera, options, catalog)
    columns = ["ref_id", "ra_deg", "dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr"]
    columns += [magnitude] if magnitude else []
    pieces = [catalog.cone(ra, dec, radius, columns) for ra, dec, radius in fields_of(frames)]
    rows = pa.concat_tables(pieces)
    _, first = np.unique(rows["ref_id"].to_numpy(), return_index=True)
    rows = rows.take(pa.array(np.sort(first)))

    def numbers(name: str | None) -> Floats:
        if name is None:
            return np.full(rows.num_rows, np.nan)
        return np.asarray(rows[name].cast(pa.float64()).to_numpy(), float)

    stars = CatalogStars(
        catalog.name,
        catalog.epoch,
        np.asarray(rows["ref_id"].to_numpy(), np.int64),
        numbers("ra_deg"),
        numbers("dec_deg"),
        np.nan_to_num(numbers("pm_ra_mas_yr")),
        np.nan_to_num(numbers("pm_dec_mas_yr")),
        numbers(magnitude),
    )
    if options.faint is None or magnitude is None:
        return stars, None
    return stars.take(stars.mag <= options.faint), stars.take(stars.mag > options.faint)


def _magnitude(lake: Lake, camera: str, options: TargetOptions, catalog: ReferenceCatalog) -> str | None:
    """Return the column of magnitudes that the faint limit refers to."""
    if options.band is not None and options.band not in catalog.bands:
        raise UsageError(
            f"the catalog {catalog.name} has no band {options.band!r}; it has {', '.join(catalog.bands) or 'none'}"
        )
    own = [band.band for band in lake.profile(camera).base.filters.values()]
    wanted = [options.band] if options.band else [*own, *catalog.bands]
    bands = [band for band in wanted if band in catalog.bands]
    if not bands and options.faint is not None:
        raise UsageError(f"the catalog {catalog.name} has no magnitudes; leave --faint out")
    return mag_column(bands[0]) if bands else None


def fields_of(frames: pa.Table) -> list[tuple[float, float, float]]:
    """Return circles, degrees, that cover all frames; frames of one field share one."""
    ra, dec = frames["ra_deg"].to_numpy(), frames["dec_deg"].to_numpy()
    size = np.hypot(frames["width_px"].to_numpy(), frames["height_px"].to_numpy())
    radius = 0.5 * size * frames["pixel_scale_arcsec"].to_numpy() / 3600.0
    fields: list[tuple[float, float, float]] = []
    left = np.ones(len(ra), bool)
    for place in range(len(ra)):
        if not left[place]:
            continue
        one = (float(ra[place]), float(dec[place]), float(radius[place]))
        near = separation_deg(one[0], one[1], ra, dec) + radius <= (1.0 + _SAME_FIELD) * one[2]
        left &= ~near
        fields.append((one[0], one[1], min((1.0 + _SAME_FIELD) * one[2], 180.0)))
    return fields


def count_frames(ra_deg: Floats, dec_deg: Floats, frames: pa.Table) -> npt.NDArray[np.int64]:
    """Return on how many frames each position falls, by their tangent planes."""
    from scipy.spatial import cKDTree

    count = np.zeros(len(ra_deg), np.int64)
    if len(ra_deg) == 0:
        return count
    places = unit_vectors(ra_deg, dec_deg)
    tree = cKDTree(places)
    for row in frames.to_pylist():
        scale = np.radians(row["pixel_scale_arcsec"] / 3600.0)
        half = 0.5 * np.array([row["width_px"], row["height_px"]])
        reach = min(float(np.hypot(*half)) * scale, 1.4)
        centre = unit_vectors(row["ra_deg"], row["dec_deg"])
        near = np.asarray(tree.query_ball_point(centre, 2.0 * np.sin(0.5 * reach)), np.intp)
        east, north = tangent_basis(row["ra_deg"], row["dec_deg"])
        depth = places[near] @ centre
        xi, eta = places[near] @ east / depth / scale, places[near] @ north / depth / scale
        angle = np.radians(row["rotation_deg"])
        up = xi * np.sin(angle) + eta * np.cos(angle)
        side = xi * np.cos(angle) - eta * np.sin(angle)
        count[near[(np.abs(up) <= half[1]) & (np.abs(side) <= half[0])]] += 1
    return count
