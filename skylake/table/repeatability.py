"""The table ``repeatability``: how well stars repeat within a night by flux and magnitude, and which flux is best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_forced import FORCED_FRAME_COLUMNS, ForcedKind, calibrate_forced
from skylake.calibration.calibrated_matches import ZEROPOINT_COLUMNS, calibrate_matches
from skylake.calibration.ensemble_scatter import (
    ALIKE,
    LEAST_POINTS,
    LEAST_STARS,
    PERCENTILES,
    FluxScatter,
    Repeats,
    flux_scatters,
    is_better,
    scatter_bins,
)
from skylake.core.flags import SPOILED, SPOILED_OR_BLENDED
from skylake.core.group_medians import medians_of
from skylake.core.scintillation import Scintillation
from skylake.schema import arrow_schema, conform, load
from skylake.table.aggregate import Aggregate, Given, Granularity, Input, merged_by
from skylake.table.lightcurves import flags_of_matches

Floats = npt.NDArray[np.float64]

#: Fluxes of ``forced_sources`` without their prefix. Of those that are alike the first is recommended: the light of
#: neighbours is taken off in all but the last three.
FORCED_FLUXES = ("hybrid1", "hybrid2", "hybrid3", "psf", "aper1", "aper2", "aper3")
#: Apertures of detections that are compared.
DETECTED_FLUXES = ("aper1", "aper2", "aper3")
#: What stands before the name of a flux of detections.
DETECTED = "detected_"
BIN_MAG = 0.5
#: Bins are near a star if their middle is no farther away.
_NEAR_MAG = 0.5
_MAG = 2.5 / np.log(10.0)
#: Fainter stars have fluxes that noise makes negative, of which there are no magnitudes.
_LEAST_SNR = 5.0
#: More stars of a magnitude would not change what they show.
_MOST_STARS = 300
#: Columns from which :func:`recommended_flux` recommends.
RECOMMENDED_BY = ("camera", "band", "night", "flux", "mag_low", "mag_high", "n_stars", "ratio", "ratio_err")
_BATCH_KEY = ("camera", "night", "band")
_IDS = ("star_id", "frame_id")
#: What detections have of an aperture.
_OF_APERTURE = (("flux", ""), ("flux", "_err"), ("apcor_rel", ""))
#: Columns of ``matches`` that are needed.
_MATCH_COLUMNS = (
    "frame_id",
    "ref_id",
    "flags",
    "crowding",
    "altitude_deg",
    "x_px",
    "y_px",
    *(f"{start}_{name}{end}" for name in DETECTED_FLUXES for start, end in _OF_APERTURE),
    *("ref_mag", "ref_colour", "ref_colour_err", "ref_crowding", "ref_crowding_err", "ref_sky_light"),
)
_VALUES = tuple(f"{name}{end}" for name in FORCED_FLUXES for end in ("", "_err"))
_FORCED_COLUMNS = (
    "frame_id",
    "star_id",
    "flags",
    "sky_rms_adu",
    "altitude_deg",
    "x_px",
    "y_px",
    *(f"flux_{name}{end}" for name in FORCED_FLUXES for end in ("", "_err")),
    *(f"apcor_rel_aper{number}" for number in (1, 2, 3)),
)


def parts_of_flux(name: str) -> tuple[ForcedKind, str | None]:
    """Return the kind and the circle of a flux of ``forced_sources``; None for the flux of the fit."""
    if name == "psf":
        return "psf", None
    return ("hybrid" if name.startswith("hybrid") else "aper"), f"aper{name[-1]}"


def partial(given: Given) -> pa.Table:
    """Return the good magnitudes of a night in all fluxes, as lists of each band."""
    zeropoints = _with_photon_errors(given["zeropoints"])
    scintillation = _scintillation(given)
    rows = [*_of_targets(given, zeropoints), *_of_detections(given, zeropoints)]
    same = {"camera": given.camera, "night": given.night} | dict.fromkeys(_VALUES, ())
    rows = [same | row | {"scintillation": scintillation.get(row["band"])} for row in rows]
    return pa.Table.from_pylist(rows, _partial_schema())


def _of_targets(given: Given, zeropoints: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the magnitudes of targets in each band."""
    good = pc.equal(pc.bit_wise_and(given["forced_sources"]["flags"], int(SPOILED)), 0)
    forced = given["forced_sources"].filter(good)
    band, default = _of_frames(forced["frame_id"].to_numpy(), zeropoints, _hybrid_of)
    columns: dict[str, Any] = {name: forced[name].to_numpy() for name in _IDS}
    for name in FORCED_FLUXES:
        kind, circle = parts_of_flux(name)
        no_colour = np.full(forced.num_rows, np.nan)
        found = calibrate_forced(
            forced, no_colour, given["frames"], zeropoints, kind, circle=circle or "aper1"
        )
        columns |= _magnitudes(name, found.mag, found.flux, found.flux_err)
    for one in sorted(set(band[band != ""].tolist())):
        mine = np.flatnonzero((band == one) & (default != ""))
        if mine.size:
            lists = {name: values[mine] for name, values in columns.items()}
            yield {"measured": "forced", "band": one, "flux": max(default[mine])} | lists


def _of_detections(given: Given, zeropoints: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the magnitudes of some stars of each band by their detections.

    The stars are chosen before they are calibrated: a night has many more.
    """
    flags = flags_of_matches(given["matches"])
    matches = given["matches"].filter(pa.array((flags & int(SPOILED_OR_BLENDED)) == 0))
    band, default = _of_frames(matches["frame_id"].to_numpy(), zeropoints, _aperture_of)
    for one in sorted(set(band[band != ""].tolist())):
        mine = np.flatnonzero((band == one) & (default != ""))
        if mine.size == 0:
            continue
        usual = max(default[mine])
        rows = matches.take(pa.array(mine))
        ids = {"star_id": rows["ref_id"].to_numpy(), "frame_id": rows["frame_id"].to_numpy()}
        flux, error = (rows[f"flux_{usual}{end}"].to_numpy().astype(float) for end in ("", "_err"))
        with np.errstate(divide="ignore", invalid="ignore"):
            raw = -2.5 * np.log10(np.where(flux > 0, flux, np.nan))
        order = np.lexsort((ids["frame_id"], ids["star_id"]))
        lists = ids | _magnitudes(usual, raw, flux, error)
        order = _some_stars({name: values[order] for name, values in lists.items()}, order, usual)
        rows = rows.take(pa.array(order))
        columns: dict[str, Any] = {name: values[order] for name, values in ids.items()}
        for name in DETECTED_FLUXES:
            found = calibrate_matches(rows, given["frames"], zeropoints, name)
            columns |= _magnitudes(name, found.mag, found.flux, found.flux_err)
        yield {"measured": "detected", "band": one, "flux": usual} | columns


def _magnitudes(name: str, mag: Floats, flux: Floats, flux_err: Floats) -> dict[str, Floats]:
    """Return the columns of a flux: magnitudes, and what the errors of the flux make of theirs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: mag, f"{name}_err": np.where(flux > 0, _MAG * flux_err / flux, np.nan)}


def _scintillation(given: Given) -> dict[str, float]:
    """Return the scintillation of the median frame of each band, where the aperture of the telescope is known."""
    telescope = Scintillation.of(given.base)
    if telescope is None:
        return {}
    frames = given["frames"].select(["frame_id", "airmass", "exposure_s"])
    known = frames.join(given["zeropoints"].select(["frame_id", "band"]), "frame_id", join_type="inner")
    noise = telescope.of_table(known)
    bands = np.asarray(pc.fill_null(known["band"], "").to_pylist(), object)
    good = np.isfinite(noise)
    return {one: float(np.median(noise[good & (bands == one)])) for one in set(bands[good].tolist())}


def _with_photon_errors(zeropoints: pa.Table) -> pa.Table:
    """Return zeropoints under which errors of fluxes stay those of photometry, which the scatter is held against."""
    place = zeropoints.schema.get_field_index("photon_scale")
    field = zeropoints.schema.field(place)
    return zeropoints.set_column(place, field, pa.nulls(zeropoints.num_rows, field.type))


def _of_frames(
    frame_id: npt.NDArray[np.int64], zeropoints: pa.Table, name_of: Callable[[str], str]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the band of each measurement, and the name of its flux in light curves; empty where there is none."""
    ids = zeropoints["frame_id"].to_numpy()
    if len(ids) == 0:
        return np.full(len(frame_id), "", object), np.full(len(frame_id), "", object)
    order = np.argsort(ids)
    place = order[np.minimum(np.searchsorted(ids, frame_id, sorter=order), len(ids) - 1)]
    bands = np.asarray(pc.fill_null(zeropoints["band"], "").to_pylist(), object)
    usual = np.asarray([name_of(flux) for flux in zeropoints["flux"].to_pylist()], object)
    return np.where(ids[place] == frame_id, bands[place], ""), usual[place]


def _hybrid_of(flux: str) -> str:
    """Return the flux of light curves where `flux` was calibrated; empty for circles that have no column here."""
    name = flux.replace("aper", "hybrid")
    if name == "kron":
        return "hybrid3"
    return name if name in FORCED_FLUXES else ""


def _aperture_of(flux: str) -> str:
    """Return the flux of light curves of detections where `flux` was calibrated; empty if it is not compared."""
    return flux if flux in DETECTED_FLUXES else ""


def _partial_schema() -> pa.Schema:
    plain = [arrow_schema(load("repeatability")).field(name) for name in (*_BATCH_KEY, "flux")]
    ids = [pa.field(name, pa.list_(pa.int64())) for name in _IDS]
    plain += [pa.field("measured", pa.string()), pa.field("scintillation", pa.float64())]
    return pa.schema(plain + ids + [pa.field(name, pa.list_(pa.float64())) for name in _VALUES])


def finish(rows: pa.Table) -> pa.Table:
    """Return the scatter of each flux and magnitude bin of each band."""
    schema = load("repeatability")
    found: list[dict[str, Any]] = []
    for place in range(rows.num_rows):
        row = rows.slice(place, 1)
        batch = {name: row[name][0].as_py() for name in (*_BATCH_KEY, "scintillation")}
        lists = {
            name: row[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            for name in (*_IDS, *_VALUES)
        }
        prefix = DETECTED if row["measured"][0].as_py() == "detected" else ""
        found += [
            batch | one | {"flux": prefix + one["flux"]} for one in _of_band(lists, row["flux"][0].as_py())
        ]
    arrays = {
        item.name: pa.array([row[item.name] for row in found], item.type, from_pandas=True)
        for item in arrow_schema(schema)
    }
    return conform(pa.table(arrays), schema)


def _of_band(lists: dict[str, npt.NDArray[Any]], default: str) -> list[dict[str, Any]]:
    """Return the rows of one band of a night; lists of fluxes that were not measured have no elements."""
    order = np.lexsort((lists["frame_id"], lists["star_id"]))
    if order.size == 0:
        return []
    lists = {name: values[order] for name, values in lists.items() if len(values)}
    chosen = _some_stars(lists, np.arange(len(order)), default)
    if chosen.size == 0:
        return []
    lists = {name: values[chosen] for name, values in lists.items()}
    _, star = np.unique(lists["star_id"], return_inverse=True)
    _, frame = np.unique(lists["frame_id"], return_inverse=True)
    values = {name: np.asarray(lists[name], float) for name in _VALUES if name in lists}
    level = medians_of(values[default], star, int(star.max()) + 1)
    fluxes = {name: values[name] for name in FORCED_FLUXES if np.isfinite(values.get(name, np.nan)).any()}
    errors = {name: values[f"{name}_err"] for name in fluxes}
    scatters = flux_scatters(Repeats(star.astype(np.int64), frame.astype(np.int64), level, fluxes, errors))
    n_frames = int(frame.max()) + 1
    return [
        _row(one, scatters[one.flux], n_frames) for one in scatter_bins(level, scatters, default, BIN_MAG)
    ]


def _some_stars(
    lists: dict[str, npt.NDArray[Any]], order: npt.NDArray[np.intp], default: str
) -> npt.NDArray[np.intp]:
    """Return the rows of stars that are bright enough and seen often enough, and not too many of a magnitude."""
    ids, star = np.unique(lists["star_id"], return_inverse=True)
    values, errors = (np.asarray(lists[name], float) for name in (default, f"{default}_err"))
    level, error = (medians_of(one, star, len(ids)) for one in (values, errors))
    count = np.bincount(star[np.isfinite(values)], minlength=len(ids))
    chosen = (count >= LEAST_POINTS) & (error < _MAG / _LEAST_SNR)
    for place in np.unique(np.floor(level[chosen] / BIN_MAG)):
        inside = np.flatnonzero(chosen & (np.floor(level / BIN_MAG) == place))
        # By digits of their numbers: the same stars each time, and no part of the sky before others.
        chosen[inside[np.argsort((ids[inside] * 2654435761) % 4294967291)][_MOST_STARS:]] = False
    return np.asarray(order[chosen[star]])


def _row(one: Any, found: FluxScatter, n_frames: int) -> dict[str, Any]:
    names = (
        "flux",
        "mag_low",
        "mag_high",
        "n_stars",
        "n_points",
        "scatter",
        "scatter_err",
        "tie",
        "ratio",
        "ratio_err",
    )
    model = ("photon_scale", "photon_scale_err", "floor", "floor_err")
    row: dict[str, Any] = {name: getattr(one, name) for name in (*names, "is_recommended")}
    row |= {name: getattr(found, name) for name in model}
    row |= {f"scatter_p{percent}": value for percent, value in zip(PERCENTILES, one.percentiles, strict=True)}
    return row | {"photon_err": one.predicted, "n_frames": n_frames}


def recommended_flux(rows: pa.Table, magnitude: float, fluxes: Sequence[str] = FORCED_FLUXES) -> str | None:
    """Return the flux that the nights of a camera and band recommend for a star together.

    The ratios of all nights, and of bins within half a magnitude, are combined by their errors; a flux is recommended
    as in a single bin.

    Parameters
    ----------
    rows : pyarrow.Table
        Rows of ``repeatability`` of one camera and band: :data:`RECOMMENDED_BY`.
    magnitude : float
        Of the star.
    fluxes : sequence of str
        Those to choose from; of some that are alike the first is recommended.

    Returns
    -------
    str or None
        None where its default flux is best, or no night has stars of its magnitude.
    """
    middle = 0.5 * (rows["mag_low"].to_numpy() + rows["mag_high"].to_numpy())
    near = np.abs(middle - magnitude) <= _NEAR_MAG
    rows = rows.filter(pa.array(near & (rows["n_stars"].to_numpy() >= LEAST_STARS)))
    flux, ratio, error = (
        rows[name].to_numpy(zero_copy_only=False) for name in ("flux", "ratio", "ratio_err")
    )
    n_stars = rows["n_stars"].to_numpy()
    nights = len(np.unique(rows["night"].to_numpy()))
    means: dict[str, float] = {}
    for name in fluxes:
        mine = np.flatnonzero((flux == name) & (ratio > 0))
        # One that some nights lack is not better in the others.
        if mine.size < nights or nights == 0:
            continue
        logs, spread = np.log(ratio[mine]), np.maximum(error[mine] / ratio[mine], 1e-3)
        mean = float(np.exp(np.average(logs, weights=spread**-2)))
        n_free = int(np.sum(n_stars[mine] - 1))
        if is_better(mean, mean * float(np.sum(spread**-2) ** -0.5), n_free):
            means[name] = mean
    if not means:
        return None
    return next(name for name, mean in means.items() if mean <= (1.0 + ALIKE) * min(means.values()))


def recommended_fluxes(
    rows: pa.Table, magnitudes: Floats, fluxes: Sequence[str] = FORCED_FLUXES
) -> list[str | None]:
    """Return for each star what :func:`recommended_flux` does, with the same parameters."""
    if not len(magnitudes):
        return []
    middle = 0.5 * (rows["mag_low"].to_numpy() + rows["mag_high"].to_numpy())
    near = np.abs(middle - magnitudes[:, np.newaxis]) <= _NEAR_MAG
    # Stars near the same bins have the same flux.
    _, first, group = np.unique(near, axis=0, return_index=True, return_inverse=True)
    names = [recommended_flux(rows, float(magnitudes[one]), fluxes) for one in first]
    return [names[one] for one in group.reshape(-1)]


_MERGE = merged_by(
    (*_BATCH_KEY, "measured"),
    {"flux": "max", "scintillation": "max"} | dict.fromkeys((*_IDS, *_VALUES), "concat"),
)
AGGREGATE = Aggregate(
    name="repeatability",
    inputs=(
        # Targets can be calibrated only where stars are matched.
        Input("matches", _MATCH_COLUMNS, is_needed=True),
        Input("forced_sources", _FORCED_COLUMNS),
        # Zeropoints change with whatever is read of frames.
        Input("frames", (*FORCED_FRAME_COLUMNS, "airmass"), is_followed=False),
        Input("zeropoints", (*ZEROPOINT_COLUMNS, "band", "catalog", "colour"), pc.field("zp").is_valid()),
    ),
    key=("camera", "night", "band", "flux", "mag_low"),
    granularity=Granularity.BATCH,
    partial=partial,
    merge=_MERGE,
    finish=finish,
    profile=("optics", "site"),
    # Bins are of half a magnitude since the second, 5 measurements enough since the third, stars without others on
    # their frames left out since the fourth, and detections compared since the fifth,
    # and stars near saturation count since the sixth.
    version="6",
)
