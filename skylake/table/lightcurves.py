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
from skylake.core.ephemeris import barycentric_jd
from skylake.core.flags import SPOILED, SourceFlag
from skylake.core.group_means import medians_of
from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import healpix_index
from skylake.schema import TableSchema, arrow_schema, conform, empty_table, load
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by_schema

Floats = npt.NDArray[np.float64]

_READ_BY_FINISH = {"lightcurve": ("mag", "flags")}
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
    schema = load("lightcurves")
    calibrated = np.isfinite(photometry.flux) & np.isfinite(photometry.flux_err)
    if not calibrated.any():
        return empty_table(schema)
    star, mjd = matches["ref_id"].to_numpy(), matches["mjd_mid"].to_numpy()
    bands, band = np.unique(
        pc.fill_null(matches["band"], "").to_numpy(zero_copy_only=False).astype(str), return_inverse=True
    )
    catalog = matches["catalog"].combine_chunks().dictionary_encode().indices.to_numpy()
    order = np.lexsort((matches["frame_id"].to_numpy(), mjd, catalog, band, star))
    order = order[calibrated[order]]
    fresh = (np.diff(star[order]) != 0) | (np.diff(band[order]) != 0) | (np.diff(catalog[order]) != 0)
    starts = np.flatnonzero(np.concatenate([[True], fresh]))
    ends = np.append(starts[1:], len(order))
    last = order[ends - 1]
    ra, dec = matches["ra_deg"].to_numpy(), matches["dec_deg"].to_numpy()
    columns = {
        "_healpix_29": healpix_index(ra[last], dec[last]),
        "object_id": star[last],
        "catalog": matches["catalog"].take(pa.array(last)),
        "band": pa.array(bands[band[last]].tolist(), pa.string()),
        "version": photometry.version[last].astype(np.int32),
        "ra_deg": ra[last],
        "dec_deg": dec[last],
        "ref_mag": matches["ref_mag"].take(pa.array(last)),
        "ref_colour": matches["ref_colour"].take(pa.array(last)),
        "n_points": (ends - starts).astype(np.int32),
        "mjd_first": mjd[order[starts]],
        "mjd_last": mjd[last],
        "lightcurve": _nest(matches, photometry, sites, order, starts, schema),
        "lightcurve_errors": _nest_errors(photometry, order, starts, schema),
    }
    return finish(conform(pa.table(columns), schema))


def partial(given: Given) -> pa.Table:
    """Return the light curves of one night of one camera."""
    matches = given["matches"]
    measured = calibrate_matches(matches, given["frames"], given["zeropoints"])
    return lightcurves_table(matches, measured, {given.camera: given.base.site})


def finish(rows: pa.Table) -> pa.Table:
    """Return light curves with median and robust scatter of their clean magnitudes."""
    mag, flags = nested_values(rows, "lightcurve", _READ_BY_FINISH["lightcurve"])
    number = curve_numbers(rows)
    clean = np.isfinite(mag) & ((flags.astype(np.int64) & int(SPOILED)) == 0)
    median = medians_of(mag[clean], number[clean], rows.num_rows)
    deviation = medians_of(np.abs(mag[clean] - median[number[clean]]), number[clean], rows.num_rows)
    many = np.bincount(number[clean], minlength=rows.num_rows) > 1
    return with_columns(
        rows, {"mag_median": median, "mag_scatter": np.where(many, MAD_TO_SIGMA * deviation, np.nan)}
    )


def nested_values(rows: pa.Table, column: str, names: Sequence[str]) -> list[Floats]:
    """Return all values of inner columns of a nested column, curve after curve; NaN for null."""
    nested = rows[column].combine_chunks()
    lists = [pc.struct_field(nested, name) for name in names]
    return [np.asarray(one.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)) for one in lists]


def curve_numbers(rows: pa.Table) -> npt.NDArray[np.intp]:
    """Return the number of the curve of each point."""
    return np.repeat(np.arange(rows.num_rows), rows["n_points"].to_numpy())


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
    order: npt.NDArray[np.intp],
    starts: npt.NDArray[np.intp],
    schema: TableSchema,
) -> pa.StructArray:
    """Return the measurements as a struct of lists."""
    rows = matches.take(pa.array(order))
    computed = {
        "bjd_tdb": barycentric(rows, sites, ("moved_ra_deg", "moved_dec_deg")),
        "flux": photometry.flux[order],
        "flux_err": photometry.flux_err[order],
        "mag": photometry.mag[order],
        "mag_err": photometry.mag_err[order],
        "flags": flags_of_matches(rows),
    }
    offsets = pa.array(np.append(starts, len(order)), pa.int32())
    kind = arrow_schema(schema).field("lightcurve").type
    lists = []
    for field in kind:
        inner = field.type.value_type
        if field.name in computed:
            values = pa.array(computed[field.name], pa.float64(), from_pandas=True).cast(inner)
        else:
            values = rows[field.name].combine_chunks().cast(inner)
        lists.append(pa.ListArray.from_arrays(offsets, values, type=field.type))
    return pa.StructArray.from_arrays(lists, fields=list(kind))


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


def _nest_errors(
    photometry: Photometry, order: npt.NDArray[np.intp], starts: npt.NDArray[np.intp], schema: TableSchema
) -> pa.StructArray:
    """Return the parts of the errors of the measurements as a struct of lists."""
    shared = photometry.zp_systematic_err[order]
    values = {
        "mag_random_err": np.sqrt(np.maximum(photometry.mag_err[order] ** 2 - shared**2, 0.0)),
        "mag_systematic_err": shared,
        "zp_random_err": photometry.zp_random_err[order],
    }
    return nest_floats(values, np.append(starts, len(order)), "lightcurve_errors", schema)


def nest_floats(
    values: dict[str, Floats], offsets: npt.NDArray[np.intp], column: str, schema: TableSchema
) -> pa.StructArray:
    """Return arrays of all measurements as a nested column, null for NaN; `offsets` tell where each curve starts."""
    kind = arrow_schema(schema).field(column).type
    lists = [
        pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()),
            pa.array(values[field.name], pa.float64(), from_pandas=True).cast(field.type.value_type),
            type=field.type,
        )
        for field in kind
    ]
    return pa.StructArray.from_arrays(lists, fields=list(kind))


def barycentric(rows: pa.Table, sites: dict[str, Site], position: tuple[str, str]) -> Floats:
    """Return barycentric times of measurements at positions in two columns, camera by camera."""
    mjd, ra, dec = (rows[name].to_numpy() for name in ("mjd_mid", *position))
    cameras = np.asarray(rows["camera"].to_pylist(), object)
    times = np.zeros(len(mjd))
    for name in set(cameras.tolist()):
        mine = np.flatnonzero(cameras == name)
        times[mine] = barycentric_jd(mjd[mine], ra[mine], dec[mine], sites.get(name))
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
    # Blends are marked since the second.
    version="2",
)
