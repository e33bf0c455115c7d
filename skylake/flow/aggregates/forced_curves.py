"""Light curves of targets: one part per pixel, from forced measurements of all nights and the zeropoints in force."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dask
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.camera import FilterBand, Site
from skylake.core.ids import config_sha256
from skylake.core.sphere import INDEX_ORDER, healpix_centre, ra_dec, separation_deg, unit_vectors
from skylake.flow.aggregates.aggregate_plans import Calibrated, Planned, bind, cameras_of
from skylake.lake import Lake, Part, Snapshot, stage_part
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.pixels import Pixel, PixelTree, pixel_range
from skylake.table import calibrated_matches
from skylake.table.calibrated_forced import FORCED_FRAME_COLUMNS, calibrate_forced
from skylake.table.forced_lightcurves import TargetFacts, forced_lightcurves_table
from skylake.table.matches import catalog_values, reference_columns

Floats = npt.NDArray[np.float64]

_TARGET_COLUMNS = ["camera", "version", "star_id", "origin", "ref_id"]
_ZEROPOINT_COLUMNS = [*calibrated_matches.ZEROPOINT_COLUMNS, "band", "catalog", "colour"]
#: A catalog star is no farther than this from its target, which lies where it is seen.
_REACH_DEG = 60.0 / 3600.0


@dataclass(frozen=True, slots=True)
class Sky:
    """What the tasks of all pixels share: the division of the sky, sites, and catalogs by name."""

    tree: PixelTree
    sites: Mapping[str, Site]
    catalogs: Mapping[str, ReferenceCatalog]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Files that a pixel is made from.

    ``forced`` are those of the pixel, ``beyond`` those of other pixels in which some of its stars, ``strays``, were
    measured: a target keeps the pixel in which it first came in, wherever later lists put it.
    """

    forced: list[Slice]
    beyond: list[Slice]
    strays: tuple[int, ...]
    targets: list[Slice]
    frames: list[Slice]
    zeropoints: list[Slice]


def plan_forced_lightcurves(lake: Lake, calibrated: Calibrated) -> Iterable[Planned]:
    """Plan one part per pixel: a new night touches only the pixels that it saw."""
    snapshot = calibrated.snapshot
    measured = _files_by_pixel(snapshot)
    if not measured:
        return
    sites = {camera: lake.profile(camera).base.site for camera in cameras_of(snapshot)}
    configuration = calibrated.configuration(sites={name: asdict(site) for name, site in sites.items()})
    tree = lake.tree_of("forced_sources")
    lists = _lists(snapshot)
    listed = snapshot.read(
        "targets", ["star_id", "_healpix_29", "origin"], where=lambda part: part.name in lists
    )
    catalogs = _catalogs(snapshot, listed)
    sky = dask.delayed(Sky(tree, sites, catalogs), pure=False, traverse=False)
    task = dask.delayed(make_forced_lightcurves, pure=False)
    targets = calibrated.slices("targets", snapshot.parts("targets"))
    strays = _strays(listed, tree)
    for pixel in sorted(measured.keys() | strays.keys()):
        seats = {seat: stars for seat, stars in strays.get(pixel, {}).items() if seat in measured}
        found = [*measured.get(pixel, []), *(one for seat in seats for one in measured[seat])]
        if not found:
            continue
        batches = list(dict.fromkeys(one.batch for one in found))
        zeropoints = [one for one in map(calibrated.zeropoints, batches) if one is not None]
        # One digest for all nights: their number grows, and every description would have to name them again.
        inputs = {
            "forced_sources": config_sha256({f"{one.batch} {one.pixel}": one.digest for one in found}),
            "zeropoints": config_sha256({part.name: part.checksum for part in zeropoints}),
            "configuration": config_sha256(configuration),
            "catalog": config_sha256({name: one.checksum for name, one in catalogs.items()}),
        }
        files = Gathered(
            [one.slice for one in measured.get(pixel, [])],
            [one.slice for seat in seats for one in measured[seat]],
            tuple(star for stars in seats.values() for star in stars),
            targets,
            calibrated.slices("frames", batches),
            calibrated.slices("zeropoints", [part.name for part in zeropoints]),
        )
        name = f"Norder{pixel[0]}-Npix{pixel[1]}"
        made_from = tuple(("zeropoints", calibrated.zeropoints_name(batch)) for batch in batches)
        yield Planned(name, inputs, configuration, made_from, bind(task, name, pixel, inputs, files, sky))


@dataclass(frozen=True, slots=True)
class _Measured:
    """The rows of a batch in a pixel of ``forced_sources``."""

    batch: str
    pixel: Pixel
    slice: Slice
    digest: str


def _files_by_pixel(snapshot: Snapshot) -> dict[Pixel, list[_Measured]]:
    version = snapshot.version("forced_sources")
    found: dict[Pixel, list[_Measured]] = {}
    for part in snapshot.parts("forced_sources").values():
        for file, piece in zip(part.files, version.slices_of(part), strict=True):
            if file.pixel is not None:
                one = _Measured(part.name, file.pixel, piece, file.digest)
                found.setdefault(file.pixel, []).append(one)
    return found


def _lists(snapshot: Snapshot) -> frozenset[str]:
    """Return the parts of ``targets`` that something was measured with; a newer one changes nothing yet."""
    parts = snapshot.parts("forced_sources").values()
    return frozenset(
        one.partition(":")[0] for part in parts for one in part.inputs.get("targets", "").split()
    )


def _catalogs(snapshot: Snapshot, listed: pa.Table) -> dict[str, ReferenceCatalog]:
    """Return the catalogs that targets are from, of those that the lake still has."""
    names = sorted(set(pc.unique(listed["origin"]).to_pylist()) & set(snapshot.catalogs()))
    return {name: ReferenceCatalog.open(snapshot.catalog(name)) for name in names}


def _strays(listed: pa.Table, tree: PixelTree) -> dict[Pixel, dict[Pixel, tuple[int, ...]]]:
    """Return the stars that some list puts into another pixel than their own: own pixel, other pixel, stars."""
    star, index = (listed[name].to_numpy() for name in ("star_id", "_healpix_29"))
    homes, seats = tree.assign(star), tree.assign(index)
    away = np.flatnonzero(homes != seats)
    found: dict[Pixel, dict[Pixel, set[int]]] = {}
    for place in away.tolist():
        home, seat = tree.pixels[homes[place]], tree.pixels[seats[place]]
        found.setdefault(home, {}).setdefault(seat, set()).add(int(star[place]))
    return {
        home: {seat: tuple(sorted(stars)) for seat, stars in sorted(by_seat.items())}
        for home, by_seat in found.items()
    }


def make_forced_lightcurves(
    name: str, pixel: Pixel, inputs: dict[str, str], files: Gathered, sky: Sky, staging: Path
) -> Part:
    """Make the light curves of the targets of one pixel; runs on a worker."""
    forced = _read_forced(pixel, files)
    zeropoints = read_files("zeropoints", files.zeropoints, _ZEROPOINT_COLUMNS, pc.field("zp").is_valid())
    facts = _facts(forced, zeropoints, files.targets, sky.catalogs)
    frames = read_files("frames", files.frames, FORCED_FRAME_COLUMNS)
    rows = forced_lightcurves_table(
        forced, calibrate_forced(forced, facts.colour, frames, zeropoints), facts, dict(sky.sites)
    )
    return stage_part(rows, "forced_lightcurves", name, staging, sky.tree, inputs=inputs)


def _read_forced(pixel: Pixel, files: Gathered) -> pa.Table:
    """Return the measurements of the stars of a pixel; those made beyond it are put where the star first came in."""
    start, end = pixel_range(*pixel)
    star = pc.field("star_id")
    own = read_files("forced_sources", files.forced, filter=(star >= start) & (star < end))
    if not files.strays:
        return own
    beyond = read_files("forced_sources", files.beyond, filter=star.isin(pa.array(files.strays, pa.int64())))
    ra, dec = healpix_centre(beyond["star_id"].to_numpy(), INDEX_ORDER)
    for column, values in (("ra_deg", ra), ("dec_deg", dec)):
        beyond = beyond.set_column(beyond.schema.get_field_index(column), column, pa.array(values))
    return pa.concat_tables([own, beyond.cast(own.schema)])


def _facts(
    forced: pa.Table, zeropoints: pa.Table, targets: Sequence[Slice], catalogs: Mapping[str, ReferenceCatalog]
) -> TargetFacts:
    """Return what lists, catalogs and zeropoints say of the target and band of each measurement."""
    keys = ["camera", "targets_version", "star_id"]
    stars = pa.array(np.unique(forced["star_id"].to_numpy()))
    listed = read_files("targets", targets, _TARGET_COLUMNS, pc.field("star_id").isin(stars))
    listed = listed.rename_columns({"version": "targets_version"})
    place = pa.array(np.arange(forced.num_rows))
    joined = forced.select([*keys, "frame_id", "ra_deg", "dec_deg"]).append_column("place", place)
    joined = joined.join(listed, keys, join_type="left outer")
    zeros = zeropoints.select(["frame_id", "band", "catalog", "colour"])
    joined = joined.join(zeros, "frame_id", join_type="left outer").sort_by("place")
    origin, band, catalog = (
        np.asarray(joined[name].to_pylist(), object) for name in ("origin", "band", "catalog")
    )
    ref_id = pc.fill_null(joined["ref_id"], -1).to_numpy()
    mag, colours = np.full(len(ref_id), np.nan), np.full(len(ref_id), np.nan)
    for name, reference in catalogs.items():
        rows = np.flatnonzero((origin == name) & (ref_id >= 0))
        if rows.size:
            mag[rows], colours[rows] = _of_catalog(reference, joined.take(pa.array(rows)))
    return TargetFacts(origin, ref_id, mag, colours, band, catalog)


def _of_catalog(reference: ReferenceCatalog, stars: pa.Table) -> tuple[Floats, Floats]:
    """Return magnitudes and colours of the stars of measurements, in the bands of their frames."""
    ra, dec = (stars[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    ref_id = stars["ref_id"].to_numpy()
    used = set(zip(stars["band"].to_pylist(), stars["colour"].to_pylist(), strict=True))
    bands = [FilterBand(band, colour) for band, colour in used if band is not None]
    columns = reference_columns(bands, reference.columns)
    middle = unit_vectors(ra, dec).mean(axis=0)
    ra0, dec0 = (float(value) for value in ra_dec(middle))
    radius = min(float(separation_deg(ra0, dec0, ra, dec).max()) + _REACH_DEG, 180.0)
    wanted = pc.field("ref_id").isin(pa.array(np.unique(ref_id)))
    found = reference.cone(ra0, dec0, radius, columns, wanted)
    mag, colours = np.full(len(ref_id), np.nan), np.full(len(ref_id), np.nan)
    names = np.asarray(stars["band"].to_pylist(), object), np.asarray(stars["colour"].to_pylist(), object)
    for one in bands:
        rows = np.flatnonzero((names[0] == one.band) & (names[1] == one.colour))
        mag[rows], colours[rows] = catalog_values(found, ref_id[rows], one.band, one.colour)
    return mag, colours
