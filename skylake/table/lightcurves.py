"""The table ``lightcurves``: the measurements of each star in each band, nested, in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import (
    FRAME_COLUMNS,
    ZEROPOINT_COLUMNS,
    Photometry,
    calibrate_matches,
    column_floats,
)
from skylake.core.camera import Site
from skylake.core.ephemeris import barycentric_jd_at
from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.group_medians import group_medians
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import healpix_index
from skylake.schema import TableSchema, arrow_schema, conform, empty_table, load
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by_schema
from skylake.table.curve_points import CurvePoints, curve_points

Floats = npt.NDArray[np.float64]

_READ_BY_FINISH = {"lightcurve": ("mag", "flags")}
#: What a curve repeats of its last match.
_OF_STAR = ("catalog", "ra_deg", "dec_deg", "ref_mag", "ref_colour")
#: A detection whose aperture holds more light of others than this share of its own is a blend.
BLENDED_SHARE = 0.1


def lightcurves_table(matches: pa.Table, photometry: Photometry, sites: dict[str, Site]) -> pa.Table:
    """Gather the matches of some part of the sky into light curves, one per star of a catalog and band.

    Measurements on frames without a zeropoint are left out; a flux that is not positive stays, without
    a magnitude.

    Parameters
    ----------
    matches : pyarrow.Table
        Rows of ``matches``, of one catalog for each camera.
    photometry : Photometry
        Of the same rows.
    sites : dict
        Site of each camera, for barycentric times.
    """
    return finish(_gathered(matches, photometry, sites))


def _gathered(matches: pa.Table, photometry: Photometry, sites: dict[str, Site]) -> pa.Table:
    """Return light curves without median and scatter."""
    schema = load("lightcurves")
    calibrated = np.isfinite(photometry.flux) & np.isfinite(photometry.flux_err)
    if not calibrated.any():
        return empty_table(schema)
    points = curve_points(matches, "ref_id", [matches["band"], matches["catalog"]], calibrated)
    first, last = points.first, pa.array(points.last)
    mjd, of_star = matches["mjd_mid"].to_numpy(), {name: matches[name].take(last) for name in _OF_STAR}
    columns = {
        "_healpix_29": healpix_index(of_star["ra_deg"].to_numpy(), of_star["dec_deg"].to_numpy()),
        "object_id": matches["ref_id"].take(last),
        "band": pc.fill_null(matches["band"].take(last), ""),
        "version": photometry.version[points.last].astype(np.int32),
        **of_star,
        "n_points": points.counts.astype(np.int32),
        "mjd_first": mjd[first],
        "mjd_last": mjd[points.last],
        "lightcurve": _nest(matches, photometry, sites, points, schema),
        "lightcurve_errors": _nest_errors(photometry, points, schema),
    }
    return conform(pa.table(columns), schema)


def partial(given: Given) -> pa.Table:
    """Return the light curves of one night of one camera."""
    matches = given["matches"]
    measured = calibrate_matches(matches, given["frames"], given["zeropoints"])
    return _gathered(matches, measured, {given.camera: given.base.site})


def finish(rows: pa.Table) -> pa.Table:
    """Return light curves with median and robust scatter of their clean magnitudes."""
    return with_medians(rows)


def with_medians(rows: pa.Table, frames: pa.Array | None = None) -> pa.Table:
    """Return light curves with median and robust scatter of their clean magnitudes, of some frames or of all."""
    mag, flags = nested_values(rows, "lightcurve", _READ_BY_FINISH["lightcurve"])
    clean = np.isfinite(mag) & ((flags.astype(np.int64) & int(SPOILED)) == 0)
    if frames is not None:
        clean &= is_on_frames(rows, frames)
    mag, number = mag[clean], curve_numbers(rows)[clean]
    starts = starts_of(number, rows.num_rows)
    median = group_medians(mag, starts)
    deviation = group_medians(np.abs(mag - median[number]), starts)
    many = np.diff(starts) > 1
    return with_columns(
        rows, {"mag_median": median, "mag_scatter": np.where(many, MAD_TO_SIGMA * deviation, np.nan)}
    )


def is_on_frames(rows: pa.Table, frames: pa.Array) -> npt.NDArray[np.bool_]:
    """Return whether each point of light curves, curve after curve, is of one of some frames, by their identifiers."""
    of_point = pc.struct_field(rows["lightcurve"].combine_chunks(), "frame_id").flatten()
    return np.asarray(pc.is_in(of_point, frames).to_numpy(zero_copy_only=False), bool)


def nested_values(rows: pa.Table, column: str, names: Sequence[str]) -> list[Floats]:
    """Return all values of inner columns of a nested column, curve after curve; NaN for null."""
    nested = rows[column].combine_chunks()
    lists = [pc.struct_field(nested, name) for name in names]
    return [np.asarray(one.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)) for one in lists]


def curve_numbers(rows: pa.Table) -> npt.NDArray[np.intp]:
    """Return the number of the curve of each point."""
    return np.repeat(np.arange(rows.num_rows), rows["n_points"].to_numpy())


def starts_of(number: npt.NDArray[np.intp], n_curves: int) -> npt.NDArray[np.intp]:
    """Return where the points of each curve start, and the last end, given their curves in order."""
    return np.append(0, np.cumsum(np.bincount(number, minlength=n_curves))).astype(np.intp)


def with_columns(rows: pa.Table, values: Mapping[str, npt.NDArray[Any]]) -> pa.Table:
    """Return rows with other values in some columns, which stand at the end if they were not there; NaN is null."""
    for name, column in values.items():
        place = rows.schema.get_field_index(name)
        array = pa.array(column, from_pandas=True)
        if place < 0:
            rows = rows.append_column(name, array)
        else:
            rows = rows.set_column(place, rows.schema.field(place), array.cast(rows.schema.field(place).type))
    return rows


def _nest(
    matches: pa.Table,
    photometry: Photometry,
    sites: dict[str, Site],
    points: CurvePoints,
    schema: TableSchema,
) -> pa.StructArray:
    """Return the measurements as a struct of lists."""
    computed = {
        "bjd_tdb": barycentric(matches, sites, ("moved_ra_deg", "moved_dec_deg")),
        "flux": photometry.flux,
        "flux_err": photometry.flux_err,
        "mag": photometry.mag,
        "mag_err": photometry.mag_err,
        "flags": flags_of_matches(matches),
    }
    kind = arrow_schema(schema).field("lightcurve").type
    carried = {inner.name: matches[inner.name] for inner in kind if inner.name not in computed}
    return points.nested(computed | carried, kind)


def flags_of_matches(matches: pa.Table) -> npt.NDArray[np.int64]:
    """Return the flags of detections, with that of blends where others bring much of the light in the aperture.

    The catalog knows stars that detection has not told apart, less the light of stars that the sky took off; detection
    knows neighbours that the catalog lacks.
    """
    names = ("ref_crowding", "ref_sky_light", "crowding")
    listed, sky, detected = (np.nan_to_num(column_floats(matches, name)) for name in names)
    is_blend = (np.abs(listed - sky) > BLENDED_SHARE) | (detected > BLENDED_SHARE)
    flags = np.asarray(matches["flags"].to_numpy(), np.int64)
    return np.where(is_blend, flags | int(SourceFlag.BLENDED), flags)


def _nest_errors(photometry: Photometry, points: CurvePoints, schema: TableSchema) -> pa.StructArray:
    """Return the parts of the errors of the measurements as a struct of lists."""
    shared = photometry.zp_systematic_err
    values: dict[str, Floats | pa.ChunkedArray] = {
        "mag_random_err": np.sqrt(np.maximum(photometry.mag_err**2 - shared**2, 0.0)),
        "mag_systematic_err": shared,
        "zp_random_err": photometry.zp_random_err,
    }
    return points.nested(values, arrow_schema(schema).field("lightcurve_errors").type)


def barycentric(rows: pa.Table, sites: dict[str, Site], position: tuple[str, str]) -> Floats:
    """Return barycentric times of measurements at positions in two columns, camera by camera."""
    ra, dec = (rows[name].to_numpy() for name in position)
    # Many measurements share a frame, and so its instant.
    instants, cameras = (rows[name].combine_chunks().dictionary_encode() for name in ("mjd_mid", "camera"))
    mjd, instant, number = (
        one.to_numpy() for one in (instants.dictionary, instants.indices, cameras.indices)
    )
    times = np.zeros(len(ra))
    for one, name in enumerate(cameras.dictionary.to_pylist()):
        mine = slice(None) if len(cameras.dictionary) == 1 else np.flatnonzero(number == one)
        times[mine] = barycentric_jd_at(mjd, instant[mine], ra[mine], dec[mine], sites.get(name))
    return times


AGGREGATE = Aggregate(
    name="lightcurves",
    inputs=(
        Input("matches", is_needed=True),
        # Zeropoints change with whatever is read of frames.
        Input("frames", FRAME_COLUMNS, is_followed=False),
        Input("zeropoints", ZEROPOINT_COLUMNS, pc.field("zp").is_valid()),
    ),
    key=("catalog", "object_id", "band"),
    granularity=Granularity.OBJECT,
    partial=partial,
    merge=merged_by_schema("lightcurves"),
    finish=finish,
    finish_reads=_READ_BY_FINISH,
    profile=("site",),
    # Blends are marked since the second, and what is near saturation counts since the third.
    version="3",
)
