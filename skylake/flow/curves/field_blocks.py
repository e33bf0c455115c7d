"""Stars of a field and their measurements, read from the light curves of a lake and put into matrices.

A piece of a table of light curves is a pixel with as many measurements as fit into memory. Its stars of one camera and
band are detrended together, in groups that share frames. Where a piece has few stars, those around it are read too:
they show what the stars of the piece lose, and have no row of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.flags import SPOILED
from skylake.core.sphere import IntArray, healpix_centre, separation_deg, tangent_basis, unit_vectors
from skylake.curves.gather_block import GatheredBlock, gather_block
from skylake.errors import LakeError
from skylake.flow.curves.other_fluxes import in_flux
from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import TABLES, Measured, curve_rows, frames_of_nights, points_of
from skylake.lake.access.rows_in import rows_in, stored_rows
from skylake.lake.access.unlisted_curves import unlisted_curves
from skylake.sky.pixels import Pixel, grown_ranges, merge_ranges, pixel_range
from skylake.sky.sky_region import SkyRegion

Floats = npt.NDArray[np.float64]
#: Measurements that are read at a time, and places of a matrix of stars and frames.
MOST_POINTS, MOST_PLACES = 2_000_000, 4_000_000
_TOO_MANY_PLACES = 5 * MOST_PLACES
#: Stars that are detrended together, where there are so many around.
WANTED_STARS = 200
#: A star with fewer measurements by a camera in a band is left out.
LEAST_MEASUREMENTS = 5
#: How far around a piece stars are looked for, degrees.
_MARGINS_DEG = (1.0, 3.0, 9.0)
#: So many times as many stars as are wanted are read, as not all of them share frames.
_CANDIDATES = 3
_MJD_OF_JD0 = 2_400_000.5


@dataclass(frozen=True, slots=True)
class CurveSource:
    """Which light curves are read.

    Attributes
    ----------
    kind : {'forced', 'detected', 'relative'}
    flux : str
        ``calibrated``, or a flux by its name, such as aper1 or psf.
    camera, band : str or None
        Only these.
    first_night, last_night : int or None
        Only frames of these nights and those between, YYYYMMDD.
    detrended : str or None
        A table of `skylake detrend` whose mag_joint is read in their place.
    """

    kind: Measured
    flux: str = "calibrated"
    camera: str | None = None
    band: str | None = None
    first_night: int | None = None
    last_night: int | None = None
    detrended: str | None = None

    @property
    def table(self) -> str:
        """The table that has the light curves."""
        return self.detrended or TABLES[self.kind][0]


@dataclass(frozen=True, slots=True)
class FieldBlock:
    """Stars of one camera and band that share frames.

    Attributes
    ----------
    camera, band : str
    rows : pyarrow.Table
        Of the stars, in the order of the matrices: object_id, catalog, ra_deg, dec_deg and others.
    is_wanted : ndarray of bool, shape (n_stars,)
        False for a star that only shows what others lose.
    block : GatheredBlock
        Its times are barycentric, BJD (TDB) less 2400000.5, at the middle of the field; places are offsets on the sky,
        degrees.
    mjd : ndarray, shape (n_frames,)
    bjd : ndarray, shape (n_stars, n_frames)
        Of each measurement, NaN in gaps.
    """

    camera: str
    band: str
    rows: pa.Table
    is_wanted: npt.NDArray[np.bool_]
    block: GatheredBlock
    mjd: Floats
    bjd: Floats


@dataclass(frozen=True, slots=True)
class Points:
    """Good measurements of stars.

    Attributes
    ----------
    rows : pyarrow.Table
        Of the light curves.
    columns : dict of ndarray, shape (n,)
        ``curve`` is the number of the row.
    """

    rows: pa.Table
    columns: dict[str, npt.NDArray[Any]]

    def of(self, chosen: npt.NDArray[np.bool_]) -> Points:
        """Return some of the measurements."""
        return Points(self.rows, {name: values[chosen] for name, values in self.columns.items()})


def read_points(snapshot: Snapshot, source: CurveSource, ranges: IntArray, region: SkyRegion) -> Points:
    """Return the good measurements in ranges of the index, of stars with five or more.

    They are unflagged, and have a magnitude and a random error. Among detected stars are the objects in force that no
    catalog has.

    Raises
    ------
    LakeError
        If there is no such flux, or a file is missing or damaged.
    """
    rows, columns = (_stored if source.detrended is None else _detrended)(snapshot, source, ranges, region)
    chosen = _is_good(columns) & _is_chosen(columns, source)
    frames = frames_of_nights(snapshot, source.first_night, source.last_night)
    if frames is not None:
        chosen &= np.isin(columns["frame_id"], frames.to_numpy())
    points = Points(rows, columns).of(chosen)
    pair = points.columns["curve"], points.columns["camera"].astype(str)
    _, which, counts = np.unique(
        np.char.add(pair[0].astype(str), pair[1]), return_inverse=True, return_counts=True
    )
    return points.of(counts[which] >= LEAST_MEASUREMENTS)


def _stored(
    snapshot: Snapshot, source: CurveSource, ranges: IntArray, region: SkyRegion
) -> tuple[pa.Table, dict[str, npt.NDArray[Any]]]:
    """Return light curves as they are, or in another flux, and all of their measurements."""
    rows = curve_rows(snapshot, source.kind, ranges, region)
    if source.flux != "calibrated" and rows.num_rows:
        rows = in_flux(snapshot, rows, source.kind, source.flux, ranges)
        rows = rows.filter(pa.array(region.holds(*(rows[name].to_numpy() for name in ("ra_deg", "dec_deg")))))
    if source.kind == "detected":
        flux = None if source.flux == "calibrated" else source.flux
        unlisted = unlisted_curves(snapshot, ranges, region, flux)
        rows = pa.concat_tables([rows, unlisted.select(rows.column_names).cast(rows.schema)])
    found = points_of(rows)
    names = ("curve", "frame_id", "mjd_mid", "bjd_tdb", "mag", "x_px", "y_px", "flags")
    columns = {name: found[name].to_numpy(zero_copy_only=False) for name in names}
    random = found.get("mag_random_err", found["mag_err"]).to_numpy(zero_copy_only=False)
    columns["mag_err"] = np.asarray(random, float)
    columns["camera"] = np.asarray(found["camera"].to_pylist(), object)
    columns["band"] = np.asarray(rows["band"].to_pylist(), object)[columns["curve"]]
    return rows, columns


def _detrended(
    snapshot: Snapshot, source: CurveSource, ranges: IntArray, region: SkyRegion
) -> tuple[pa.Table, dict[str, npt.NDArray[Any]]]:
    """Return detrended light curves, and all of their measurements."""
    rows = rows_in(snapshot, source.table, ranges)
    rows = rows.filter(pa.array(region.holds(*(rows[name].to_numpy() for name in ("ra_deg", "dec_deg")))))
    nested = rows["lightcurve"].combine_chunks()
    inner = {"mag": "mag_joint", "mag_err": "mag_random_err"}
    inner |= {name: name for name in ("frame_id", "mjd_mid", "bjd_tdb")}
    columns = {
        name: pc.struct_field(nested, column).flatten().to_numpy(zero_copy_only=False)
        for name, column in inner.items()
    }
    columns["curve"] = np.repeat(np.arange(rows.num_rows), rows["n_points"].to_numpy())
    nothing = np.zeros(len(columns["curve"]))
    columns |= {"x_px": nothing, "y_px": nothing, "flags": nothing.astype(np.int32)}
    for name in ("camera", "band"):
        columns[name] = np.asarray(rows[name].to_pylist(), object)[columns["curve"]]
    rows = rows.append_column("ref_colour", pa.nulls(rows.num_rows, pa.float64()))
    return rows, columns


def _is_good(columns: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    mag, error = (np.asarray(columns[name], float) for name in ("mag", "mag_err"))
    clean = (columns["flags"].astype(np.int64) & int(SPOILED)) == 0
    with np.errstate(invalid="ignore"):
        return np.asarray(clean & np.isfinite(mag) & (error > 0.0))


def _is_chosen(columns: dict[str, npt.NDArray[Any]], source: CurveSource) -> npt.NDArray[np.bool_]:
    kept = np.ones(len(columns["curve"]), bool)
    kept &= True if source.camera is None else columns["camera"] == source.camera
    kept &= True if source.band is None else columns["band"] == source.band
    return kept


def field_blocks(
    snapshot: Snapshot, source: CurveSource, pixel: Pixel, region: SkyRegion, least_stars: int = WANTED_STARS
) -> Iterator[FieldBlock]:
    """Yield the stars of a piece in blocks that fit into memory.

    Parameters
    ----------
    snapshot : Snapshot
    source : CurveSource
    pixel : (int, int)
        The piece.
    region : SkyRegion
        Only its stars are wanted.
    least_stars : int
        Blocks with fewer get stars from around the piece.
    """
    inside = region.inside(pixel)
    own = read_points(snapshot, source, inside, region)
    for camera, band in _pairs(own):
        mine = own.of(_of_pair(own, camera, band))
        if len(np.unique(mine.columns["curve"])) < least_stars:
            wanted = _names(mine.rows, np.unique(mine.columns["curve"]))
            only = replace(source, camera=camera, band=band)
            mine = _with_more(snapshot, only, pixel, mine, least_stars)
        else:
            wanted = None
        for part in _split(mine):
            made = gathered(snapshot, part, camera, band, wanted)
            if made is not None:
                yield made


def _pairs(points: Points) -> list[tuple[str, str]]:
    """Return the cameras and bands of measurements."""
    return sorted(set(zip(points.columns["camera"], points.columns["band"], strict=True)))


def _of_pair(points: Points, camera: str, band: str) -> npt.NDArray[np.bool_]:
    return np.asarray((points.columns["camera"] == camera) & (points.columns["band"] == band))


def _names(rows: pa.Table, chosen: npt.NDArray[np.intp]) -> set[tuple[str, int]]:
    some = rows.take(pa.array(chosen))
    return set(zip(some["catalog"].to_pylist(), some["object_id"].to_pylist(), strict=True))


def _with_more(snapshot: Snapshot, source: CurveSource, pixel: Pixel, own: Points, count: int) -> Points:
    """Return measurements on the same frames of the stars of a piece and those around it, as many as wanted."""
    frames, found, before = np.unique(own.columns["frame_id"]), own, 0
    mine = _names(own.rows, np.unique(own.columns["curve"]))
    for margin in _MARGINS_DEG:
        around = _nearest_stars(snapshot, source, pixel, margin, _CANDIDATES * count)
        found = read_points(snapshot, source, around, SkyRegion(around))
        found = found.of(np.isin(found.columns["frame_id"], frames))
        n_stars = len(np.unique(found.columns["curve"]))
        if n_stars >= count or n_stars == before:
            break
        before = n_stars
    return _chosen_stars(found, mine, count)


def _nearest_stars(
    snapshot: Snapshot, source: CurveSource, pixel: Pixel, margin_deg: float, count: int
) -> IntArray:
    """Return ranges of the index that hold a pixel, and of the stars around it the nearest.

    A dense field beside the pixel may have more measurements than fit into memory, so few columns are read to choose.
    """
    around = grown_ranges(pixel, margin_deg * 3600.0)
    rows = (
        curve_rows(snapshot, "relative", around, SkyRegion.whole())
        if source.kind == "relative" and source.detrended is None
        else stored_rows(snapshot, source.table, around, ["ra_deg", "dec_deg", "band"])
    )
    rows = rows.filter(pc.equal(rows["band"], source.band))
    index, first = np.unique(rows["_healpix_29"].to_numpy(), return_index=True)
    centre = healpix_centre([pixel[1]], pixel[0])
    places = (rows[name].to_numpy()[first] for name in ("ra_deg", "dec_deg"))
    distance = separation_deg(float(centre[0][0]), float(centre[1][0]), *places)
    nearest = index[np.argsort(distance, kind="stable")[:count]]
    own = np.array([pixel_range(*pixel)], np.int64)
    return merge_ranges(np.concatenate([own, np.column_stack([nearest, nearest + 1])]))


def _chosen_stars(points: Points, mine: set[tuple[str, int]], count: int) -> Points:
    """Return some stars, and of the others those with the most measurements, as many as wanted together."""
    curves, counts = np.unique(points.columns["curve"], return_counts=True)
    rows = points.rows.take(pa.array(curves))
    names = zip(rows["catalog"].to_pylist(), rows["object_id"].to_pylist(), strict=True)
    is_mine = np.array([name in mine for name in names], bool)
    order = np.lexsort((curves, -counts, ~is_mine))
    chosen = curves[order[: max(count, int(is_mine.sum()))]]
    return points.of(np.isin(points.columns["curve"], chosen))


def _split(points: Points) -> Iterator[Points]:
    """Yield measurements in halves of the sky until their matrix fits into memory, or they have few stars."""
    curves, which = np.unique(points.columns["curve"], return_inverse=True)
    n_frames = len(np.unique(points.columns["frame_id"]))
    if len(curves) * n_frames <= MOST_PLACES or len(curves) < 2 * WANTED_STARS:
        if len(curves) * n_frames > _TOO_MANY_PLACES:
            raise LakeError(
                f"light curves on {n_frames} frames do not fit into memory with those of {len(curves)} stars around; "
                "name fewer nights by --from and --to"
            )
        yield points
        return
    vectors = unit_vectors(*(points.rows[name].to_numpy()[curves] for name in ("ra_deg", "dec_deg")))
    widest = int(np.argmax(np.ptp(vectors, axis=0)))
    is_low = np.argsort(np.argsort(vectors[:, widest], kind="stable"), kind="stable") < len(curves) // 2
    for half in (is_low, ~is_low):
        yield from _split(points.of(half[which]))


def gathered(
    snapshot: Snapshot, points: Points, camera: str, band: str, wanted: set[tuple[str, int]] | None
) -> FieldBlock | None:
    """Return the measurements of one camera and band as matrices; None where no star is wanted.

    Parameters
    ----------
    snapshot : Snapshot
    points : Points
    camera, band : str
    wanted : set of (str, int) or None
        Catalogs and identifiers of stars; None for all.
    """
    curves, star = np.unique(points.columns["curve"], return_inverse=True)
    rows = points.rows.take(pa.array(curves))
    names = list(zip(rows["catalog"].to_pylist(), rows["object_id"].to_pylist(), strict=True))
    is_wanted = np.array([wanted is None or name in wanted for name in names], bool)
    if not is_wanted.any():
        return None
    ra, dec = (rows[name].to_numpy() for name in ("ra_deg", "dec_deg"))
    columns = points.columns | {"star_id": star, "colour": _floats(rows, "ref_colour")[star]}
    block = gather_block(columns)
    bjd = gather_block(columns | {"mag": points.columns["bjd_tdb"]}).curves.mag
    mjd = block.curves.time
    with np.errstate(all="ignore"):
        time = np.nanmedian(bjd, axis=0) - _MJD_OF_JD0
    place = on_the_sky(ra, dec)
    block = replace(
        block,
        curves=replace(block.curves, time=time),
        stars=replace(block.stars, x=place[0], y=place[1]),
    )
    return FieldBlock(camera, band, rows, is_wanted, block, mjd, bjd)


def on_the_sky(ra_deg: Floats, dec_deg: Floats) -> tuple[Floats, Floats]:
    """Return offsets of stars from their middle to the east and north, degrees: sines, so a hemisphere has places."""
    vectors = unit_vectors(ra_deg, dec_deg)
    middle = vectors.mean(axis=0)
    ra = float(np.degrees(np.arctan2(middle[1], middle[0])))
    dec = float(np.degrees(np.arctan2(middle[2], np.hypot(middle[0], middle[1]))))
    east, north = tangent_basis(ra, dec)
    return np.degrees(vectors @ east), np.degrees(vectors @ north)


def _floats(rows: pa.Table, name: str) -> Floats:
    return np.asarray(rows[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)
