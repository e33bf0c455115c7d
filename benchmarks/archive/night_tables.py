"""A night of a camera as tables, without pixels: rows like those of an ingest and a calibration.

Frames, detections, matches and zeropoints agree with each other and with the catalog of
:func:`archive.field_stars.field_catalog`. Proper motions are left out, and a detection of no star
has no match, be there a faint star of the catalog beside it or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from archive.detections import Columns, detect, number_by_position
from archive.exposures import exposures
from archive.field_stars import FieldStars, field_stars, joined
from archive.frame_rows import Counts, FrameRows, file_stem, frame_rows
from archive.night_plan import NightPlan, plan_night
from archive.scenario import ArchiveScenario
from archive.season import season
from archive.zeropoints import MatchedLight, Zeropoints, fit_zeropoints, zeropoint_columns
from skylake.core.camera import FLUXES, N_PLAIN_CIRCLES
from skylake.core.flags import UNCLEAN, SourceFlag
from skylake.core.ids import content_id, frame_id
from skylake.core.sphere import healpix_index
from skylake.schema import conform, load
from skylake.schema.aperture_columns import nest_apertures
from skylake.simulate.random_streams import generator

#: What there is of each flux: how the names of the columns begin and end.
PHOTOMETRY = (("flux", ""), ("flux", "_err"), ("apcor_rel", ""))
#: Columns that detections bring along as they are; the others of ``sources`` belong to their frame.
_OWN = (
    "_healpix_29", "source_no", "ra_deg", "dec_deg", "x_px", "y_px", "x_err_px", "y_err_px", "edge_distance_px",
    "kron_radius", "crowding", "flux_max", "sky_adu", "sky_rms_adu", "n_pixels", "fwhm_px", "half_light_px", "a_px",
    "b_px", "theta_deg", "shape_s", "shape_d", "shape_k", "flags",
    *(f"{start}_{name}{end}" for name in FLUXES for start, end in PHOTOMETRY),
)  # fmt: skip
#: Columns of a detection that its match repeats.
_CARRIED = (
    "source_no", "x_px", "y_px", "crowding", "flags", "separation_arcsec",
    *(f"{start}_{name}{end}" for name in FLUXES for start, end in PHOTOMETRY),
)  # fmt: skip
#: What the catalog says of the star of a match: column of ``matches`` to attribute of the stars.
_OF_STAR = {
    "_healpix_29": "index", "ref_id": "ref_id", "ra_deg": "ra_deg", "dec_deg": "dec_deg", "ref_mag": "ref_mag",
    "ref_mag_err": "ref_mag_err", "ref_colour": "ref_colour", "ref_crowding": "crowding",
    "n_candidates": "n_candidates",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class NightTables:
    """The tables of a night, each under its schema and in its order."""

    frames: pa.Table
    sources: pa.Table
    matches: pa.Table
    zeropoints: pa.Table


@dataclass(frozen=True, slots=True)
class _Detections:
    """All detections of a night, with the stars that they are of; ``star`` and ``frame`` count through the night."""

    stars: FieldStars
    found: Columns


def night_tables(scenario: ArchiveScenario, night: int, catalog: str, version: int = 1) -> NightTables:
    """Return the tables of one night.

    Parameters
    ----------
    scenario : ArchiveScenario
        The camera, its nights and sky; ``nights`` does not matter.
    night : int
        YYYYMMDD of the local evening; any night, made without the others.
    catalog : str
        Name of the catalog in ``matches`` and ``zeropoints``.
    version : int
        Version of the zeropoints.

    Raises
    ------
    ConfigurationError
        If the profile of the camera cannot be simulated.
    UsageError
        If the night is too short for its frames, fields overlap or none is up.
    """
    plan = plan_night(scenario, night)
    detections = _detections(scenario, plan)
    ids = _frame_ids(scenario, plan)
    rows = frame_rows(scenario, plan, ids, _counts(detections.found, plan))
    matches, light = _matches(scenario, plan, rows, detections, catalog)
    fitted = fit_zeropoints(scenario, plan, rows, light)
    nest_apertures(rows.columns, load("frames"))
    return NightTables(
        frames=conform(pa.table(rows.columns), load("frames")),
        sources=_sources(scenario, plan, rows, detections.found),
        matches=matches,
        zeropoints=_zeropoints(scenario, plan, rows, fitted, catalog, version),
    )


def _detections(scenario: ArchiveScenario, plan: NightPlan) -> _Detections:
    """Return the detections of all fields, field by field, in the order of the fields' places on the sky."""
    fields = np.unique(plan.field).tolist()
    stars = {field: field_stars(scenario, field) for field in fields}
    fields.sort(key=lambda field: int(stars[field].index.min(initial=0)))
    pieces: list[Columns] = []
    before = 0
    for field in fields:
        which = np.flatnonzero(plan.field == field)
        random = generator(scenario.seed, "detections", plan.night, field)
        for piece in detect(stars[field], exposures(scenario, plan, which), scenario.tables, random):
            piece["frame"] = which.take(piece["frame"])
            piece["star"] = np.where(piece["star"] < 0, -1, piece["star"] + before)
            pieces.append(piece)
        before += len(stars[field])
    found = {name: np.concatenate([piece.pop(name) for piece in pieces]) for name in list(pieces[0])}
    found["_healpix_29"] = healpix_index(found["ra_deg"], found["dec_deg"])
    found["source_no"] = number_by_position(found["frame"], found["x_px"], found["y_px"])
    return _Detections(joined([stars[field] for field in fields]), found)


def _frame_ids(scenario: ArchiveScenario, plan: NightPlan) -> npt.NDArray[np.int64]:
    """Return identifiers as those of an ingest: a frame has no bytes, so seed and name stand in for them."""
    name = season(scenario).observatory.profile.name
    contents = [f"{scenario.seed} {file_stem(name, plan.night, number)}" for number in plan.number.tolist()]
    return np.array([frame_id(name, "first", str(content_id(content))) for content in contents], np.int64)


def _counts(found: Columns, plan: NightPlan) -> Counts:
    """Return what frames count of their detections."""
    frame, flags, count = found["frame"], found["flags"], len(plan)
    clean = np.flatnonzero((flags & int(UNCLEAN)) == 0)
    saturated = frame[(flags & int(SourceFlag.SATURATED)) != 0]
    brightest = np.full(count, np.nan, np.float32)
    np.fmax.at(brightest, frame.take(clean), found["flux_max"].take(clean))
    return Counts(
        np.bincount(frame, minlength=count),
        np.bincount(frame.take(clean), minlength=count),
        np.bincount(saturated, minlength=count),
        brightest,
    )


def _sources(scenario: ArchiveScenario, plan: NightPlan, rows: FrameRows, found: Columns) -> pa.Table:
    """Return the detections of frames with positions, in the order of position and time.

    Takes the columns out of `found` as it goes.
    """
    kept = np.flatnonzero(rows.placed.take(found["frame"]))
    # Rows of one star come in the order of time, which a stable sort keeps.
    order = kept[np.argsort(found["_healpix_29"].take(kept), kind="stable")]
    frame = found["frame"].take(order)
    found["flags"] |= rows.source_flags.take(found["frame"])
    own = (*_OWN, *_of_later_apertures(plan))
    columns: dict[str, Any] = {name: found.pop(name).take(order) for name in own if name in found}
    nest_apertures(columns, load("sources"))
    columns |= _of_frame(scenario, plan, rows, frame)
    columns["filter"] = pa.repeat(season(scenario).observatory.filter_name, frame.size)
    return conform(pa.table(columns), load("sources"))


def _of_later_apertures(plan: NightPlan) -> list[str]:
    """Return the columns of the apertures that are nested."""
    circles = plan.camera.apertures.circles[N_PLAIN_CIRCLES:]
    return [f"{start}_{name}{end}" for name in circles for start, end in PHOTOMETRY]


def _of_frame(
    scenario: ArchiveScenario, plan: NightPlan, rows: FrameRows, frame: npt.NDArray[np.intp]
) -> dict[str, Any]:
    """Return the columns that detections and matches have from their frame."""
    return {
        "frame_id": rows.ids.take(frame),
        "camera": pa.repeat(season(scenario).observatory.profile.name, frame.size),
        "night": np.full(frame.size, plan.night, np.int32),
        "mjd_mid": plan.mjd_mid.take(frame),
    }


def _matches(
    scenario: ArchiveScenario, plan: NightPlan, rows: FrameRows, detections: _Detections, catalog: str
) -> tuple[pa.Table, MatchedLight]:
    """Return the matches of frames that are ok, in the order of the stars' positions and time."""
    place, found, stars = season(scenario).observatory, detections.found, detections.stars
    catalogued = np.append(stars.catalogued, False)
    chosen = np.flatnonzero(catalogued.take(found["star"], mode="wrap") & rows.ok.take(found["frame"]))
    index = stars.index.take(found["star"].take(chosen))
    if (index[1:] < index[:-1]).any():
        # Each field is in order, but their places on the sky's curve are interlaced.
        chosen = chosen[np.argsort(index, kind="stable")]
    star, frame = found["star"].take(chosen), found["frame"].take(chosen)
    columns: dict[str, Any] = {
        name: getattr(stars, attribute).take(star) for name, attribute in _OF_STAR.items()
    }
    carried = (*_CARRIED, *_of_later_apertures(plan))
    columns |= {name: found[name].take(chosen) for name in carried if name in found}
    columns |= {f"moved_{name}": columns[name] for name in ("ra_deg", "dec_deg")}
    columns |= {f"source_{name}": found[name].take(chosen) for name in ("ra_deg", "dec_deg")}
    light = MatchedLight.of(frame, columns, place, plan.camera)
    nest_apertures(columns, load("matches"))
    columns |= _of_frame(scenario, plan, rows, frame)
    columns |= {
        "catalog": pa.repeat(catalog, frame.size),
        "band": pa.repeat(place.filter_band.band, frame.size),
    }
    return conform(pa.table(columns), load("matches")), light


def _zeropoints(
    scenario: ArchiveScenario,
    plan: NightPlan,
    rows: FrameRows,
    fitted: Zeropoints,
    catalog: str,
    version: int,
) -> pa.Table:
    """Return the zeropoints of frames that are ok, in the order of time."""
    columns = zeropoint_columns(scenario, plan, fitted, rows.columns["flux_limit"])
    count = len(plan)
    columns |= {
        "frame_id": rows.ids,
        "camera": [season(scenario).observatory.profile.name] * count,
        "night": np.full(count, plan.night, np.int32),
        "mjd_mid": plan.mjd_mid,
        "catalog": [catalog] * count,
        "version": np.full(count, version, np.int32),
    }
    return conform(pa.table(columns).filter(pa.array(rows.ok)), load("zeropoints"))
