"""The truth of a simulation, as tables."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.ephemeris import barycentric_jd
from skylake.simulate.colours import SIMULATED_BANDS, magnitude
from skylake.simulate.observatory import Observatory
from skylake.simulate.planning import PlannedFrame
from skylake.simulate.population import StarPopulation
from skylake.simulate.scenario import Scenario
from skylake.simulate.streaks import clip_streak
from skylake.simulate.variables import KIND_NAMES, Kind
from skylake.simulate.world import world

_Array = npt.NDArray[np.float64]

#: Columns of ``frames.parquet``. Positions are ICRS degrees, pixels 0-based, times MJD (UTC).
FRAME_SCHEMA = pa.schema(
    [
        ("frame", pa.int32()),
        ("file", pa.string()),
        ("camera", pa.string()),
        ("night", pa.int32()),
        ("number", pa.int32()),
        ("field", pa.int32()),
        ("object", pa.string()),
        ("filter", pa.string()),
        ("band", pa.string()),
        ("mjd_start", pa.float64()),
        ("mjd_mid", pa.float64()),
        ("exposure_s", pa.float64()),
        ("ra_deg", pa.float64()),
        ("dec_deg", pa.float64()),
        ("rotation_deg", pa.float64()),
        ("airmass", pa.float64()),
        ("zp", pa.float64()),
        ("colour_term", pa.float64()),
        ("pivot_colour", pa.float64()),
        ("cloud_mag", pa.float64()),
        ("clear", pa.bool_()),
        ("scintillation", pa.float64()),
        ("fwhm_px", pa.float64()),
        ("sky_adu", pa.float64()),
        ("gain_e_per_adu", pa.float64()),
        ("read_noise_e", pa.float64()),
        ("wcs", pa.string()),
        ("n_stars", pa.int32()),
        ("streak_x0_px", pa.float64()),
        ("streak_y0_px", pa.float64()),
        ("streak_x1_px", pa.float64()),
        ("streak_y1_px", pa.float64()),
    ]
)

#: Columns of the files below ``detections/``, one file a night.
DETECTION_SCHEMA = pa.schema(
    [
        ("frame", pa.int32()),
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("star_id", pa.int64()),
        ("x_px", pa.float64()),
        ("y_px", pa.float64()),
        ("mag", pa.float64()),
        ("flux_adu_per_s", pa.float64()),
        ("scintillation", pa.float32()),
        ("saturated", pa.bool_()),
    ]
)


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """The truth of one frame: a row of :data:`FRAME_SCHEMA` and a table of :data:`DETECTION_SCHEMA`."""

    frame: dict[str, object]
    detections: pa.Table


@dataclass(frozen=True, slots=True)
class DetectionColumns:
    """The stars of one frame as arrays: see :class:`skylake.simulate.simulated_frame.VisibleStars`."""

    star_id: npt.NDArray[np.int64]
    x_px: _Array
    y_px: _Array
    mag: _Array
    flux_adu_per_s: _Array
    scintillation: _Array
    saturated: npt.NDArray[np.bool_]


def frame_row(frame: PlannedFrame, scenario: Scenario, n_stars: int) -> dict[str, object]:
    """Return what is true of a frame as a whole, by the names of :data:`FRAME_SCHEMA`."""
    place = world(scenario).observatory
    detector = place.profile.at(frame.mjd_start).detector
    streak = clip_streak(frame.streak, place.shape) if frame.streak else None
    ends = streak or (None, None, None, None)
    row: dict[str, object] = {
        "frame": frame.index,
        "camera": place.profile.name,
        "filter": place.filter_name,
        "band": place.filter_band.band,
        "mjd_mid": frame.mjd_mid,
        "ra_deg": frame.pointing.ra_deg,
        "dec_deg": frame.pointing.dec_deg,
        "rotation_deg": frame.pointing.rotation_deg,
        "zp": frame.zeropoint,
        "colour_term": scenario.atmosphere.colour_term if place.filter_band.colour else 0.0,
        "pivot_colour": place.filter_band.pivot_colour,
        "cloud_mag": frame.clouds.mag,
        "clear": frame.clouds.clear,
        "sky_adu": _level(frame, scenario, detector.gain_e_per_adu),
        "gain_e_per_adu": detector.gain_e_per_adu,
        "read_noise_e": detector.read_noise_e,
        "n_stars": n_stars,
    }
    row |= dict(zip(("streak_x0_px", "streak_y0_px", "streak_x1_px", "streak_y1_px"), ends, strict=True))
    return {name: row[name] if name in row else getattr(frame, name) for name in FRAME_SCHEMA.names}


def _level(frame: PlannedFrame, scenario: Scenario, gain: float) -> float:
    """Return the level without stars at the centre of the image, as stored."""
    sky = frame.sky_adu_per_s * frame.exposure_s
    if not scenario.raw:
        return sky + scenario.detector.pedestal_adu
    return sky + scenario.detector.bias_adu + scenario.detector.dark_e_per_s * frame.exposure_s / gain


def detection_table(columns: DetectionColumns, frame: PlannedFrame) -> pa.Table:
    """Return the truth of the stars of a frame."""
    count = columns.star_id.size
    arrays = {name.name: pa.array(getattr(columns, name.name)) for name in fields(columns)}
    arrays["scintillation"] = arrays["scintillation"].cast(pa.float32())
    arrays["frame"] = pa.array(np.full(count, frame.index, np.int32))
    arrays["file"] = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(count, np.int32)), pa.array([frame.file])
    )
    return pa.table([arrays[name] for name in DETECTION_SCHEMA.names], schema=DETECTION_SCHEMA)


def frame_table(rows: list[dict[str, object]]) -> pa.Table:
    """Return the truth of frames as a table."""
    return pa.Table.from_pylist(rows, schema=FRAME_SCHEMA)


def star_table(stars: StarPopulation) -> pa.Table:
    """Return the true properties of stars.

    Positions are of epoch 2000, periods in days, epochs BJD (TDB). What period, amplitude and epoch mean
    for each class is described in :mod:`skylake.simulate.variables`; they are null for constant stars.
    """
    constant = stars.kind == Kind.CONSTANT
    name_of = {int(kind): name for kind, name in KIND_NAMES.items()}
    names = [name_of.get(kind) for kind in stars.kind.tolist()]
    columns = {
        "star_id": pa.array(stars.star_id),
        "ra_deg": pa.array(stars.ra_deg),
        "dec_deg": pa.array(stars.dec_deg),
        "pm_ra_mas_yr": pa.array(stars.pm_ra_mas_yr),
        "pm_dec_mas_yr": pa.array(stars.pm_dec_mas_yr),
        **{
            f"mag_{band}": pa.array(magnitude(band, stars.v_mag, stars.b_minus_v)) for band in SIMULATED_BANDS
        },
        "colour_B_V": pa.array(stars.b_minus_v),
        "variable_class": pa.array(names, pa.string()),
        "period_d": pa.array(stars.period_d, mask=constant),
        "amplitude_mag": pa.array(stars.amplitude_mag, mask=constant),
        "epoch_bjd": pa.array(stars.epoch_bjd, mask=constant),
    }
    return pa.table(columns).replace_schema_metadata({"epoch": "2000.0"})


def transient_table(
    scenario: Scenario, place: Observatory, stars: StarPopulation, first_mjd: float
) -> pa.Table:
    """Return the new stars: position, peak magnitude in the band of the frames, and when (BJD, TDB).

    The flux rises linearly from the onset to the peak, and decays by a factor e in each `decay_d`.
    """
    new = stars.take(stars.kind == Kind.TRANSIENT)
    site = place.profile.base.site
    mag = magnitude(place.filter_band.band, new.v_mag, new.b_minus_v)
    columns = {
        "star_id": pa.array(new.star_id),
        "ra_deg": pa.array(new.ra_deg),
        "dec_deg": pa.array(new.dec_deg),
        "peak_mag": pa.array(mag),
        "colour_B_V": pa.array(new.b_minus_v),
        "onset_bjd": pa.array(new.epoch_bjd - new.period_d / 3.0),
        "peak_bjd": pa.array(new.epoch_bjd),
        "decay_d": pa.array(new.period_d),
        "run_start_bjd": pa.array(
            barycentric_jd(np.full(len(new), first_mjd), new.ra_deg, new.dec_deg, site)
        ),
    }
    return pa.table(columns)
