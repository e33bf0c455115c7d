"""One star detrended when its light curve is read: with the stars around it, or from a table of `skylake detrend`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.counted import counted
from skylake.core.flags import SPOILED, SourceFlag
from skylake.curves.curve_block import CurveBlock
from skylake.curves.decorrelation import signal_range
from skylake.curves.detrend_block import Detrended, joint_fit
from skylake.curves.found_signals import SignalOptions
from skylake.curves.signals import LEAST_TURNS, Boxes, Harmonics, figures_of
from skylake.errors import LakeError, UsageError
from skylake.flow.curves.curve_tables import DETREND, identity_of
from skylake.flow.curves.detrend_field import DetrendChoice, detrend_field, magnitudes
from skylake.flow.curves.field_blocks import (
    WANTED_STARS,
    CurveSource,
    FieldBlock,
    Points,
    gathered,
    read_points,
)
from skylake.flow.curves.frame_conditions import with_conditions
from skylake.lake import Snapshot
from skylake.lake.access.curve_rows import Measured
from skylake.sky.pixels import cone_ranges
from skylake.sky.sky_region import SkyRegion

Floats = npt.NDArray[np.float64]
Method = Literal["ensemble", "epd", "joint", "tfa", "sysrem"]
#: The table that is read where it has the star.
TABLE = "detrended"
#: How far stars are looked for at first and at most, degrees, how many more than wanted the next circle should have,
#: by how much it may be wider, and how few stars show nothing.
_FIRST_DEG, _FARTHEST_DEG = 0.05, 8.0
_MORE, _WIDER = 1.3, (1.3, 4.0)
_LEAST_STARS = 12
#: Stars around are enough where the error of what they say of a frame is this share of that of the star, or less;
#: noise that no star is without, magnitudes.
_MOST_NOISE, _LEAST_FLOOR = 0.5, 0.001
#: The best stars are chosen among so many times as many as are wanted, if these have no more measurements than this.
_MOST_CHOICE, _MOST_POINTS = 8, 1_000_000
#: Sines and cosines of a signal whose period is known.
_HARMONICS = 4
_SAME_DEG = 1.0 / 3600.0
_MJD_OF_JD0 = 2_400_000.5
#: What is said of magnitudes that are those of the ensemble, since the wave that was given is not seen.
_UNCOVERED = {
    "detrended": "ensemble",
    "reason": f"measurements do not span {LEAST_TURNS} periods and half of the phases of that wave, so joint cannot "
    "tell it from trends; name a transit by --epoch and --duration",
}
_SIGNAL = ("signal", "period_d", "epoch_bjd", "duration_d", "amplitude", "amplitude_err")
_REPLACED = ("mag", "zp", "mag_limit")


@dataclass(frozen=True, slots=True)
class KnownSignal:
    """A signal that is fitted with what is taken off.

    Attributes
    ----------
    period_d : float
    epoch_bjd : float or None
        Mid-transit, BJD (TDB); not needed for a wave.
    duration_d : float or None
        Of a transit, from first to last contact; None for a wave.
    """

    period_d: float
    epoch_bjd: float | None = None
    duration_d: float | None = None

    def shape(self) -> Harmonics | Boxes:
        """Return the signal of one star.

        Raises
        ------
        UsageError
            If a transit has no epoch.
        """
        if self.duration_d is None:
            return Harmonics(np.array([self.period_d]), _HARMONICS)
        if self.epoch_bjd is None:
            raise UsageError("a transit is fitted at its time; add --epoch, the BJD (TDB) of mid-transit")
        middle = np.array([self.epoch_bjd - _MJD_OF_JD0])
        return Boxes(np.array([self.period_d]), middle, np.array([self.duration_d]), 0.2)


@dataclass(frozen=True, slots=True)
class _Found:
    """Magnitudes of a star by frame, and what is known of them."""

    mag: Mapping[int, float]
    about: dict[str, Any]


def detrended_curve(
    snapshot: Snapshot, curve: dict[str, Any], method: Method, known: KnownSignal | None = None
) -> dict[str, Any]:
    """Return a light curve with detrended magnitudes; its points keep those before as ``mag_raw``.

    The table ``detrended`` is read where it has the star and is up to date. Otherwise the star is detrended with as
    many as 200 stars around it. Those around a target are targets too; where these are few or faint, as in a list of
    new sources alone, it is stars by their detections if they tell more: what a frame loses is a difference of
    calibrated magnitudes, the same in both. ``around`` is then detected. Points that cannot be detrended are left out:
    flagged ones, those without a magnitude, and those on frames with too few stars.

    Parameters
    ----------
    snapshot : Snapshot
    curve : dict
        As of :func:`skylake.report.curves.curve_of_object`.
    method : {'ensemble', 'epd', 'joint', 'tfa', 'sysrem'}
    known : KnownSignal or None
        Of the method joint; None takes the best sinusoid or dip of the star, where noise alone has none as good.
        Stars with few nights or measurements then get ensemble magnitudes, and ``reason`` says why.

    Raises
    ------
    LakeError
        If no point can be detrended.
    UsageError
        If a transit has no epoch, or a signal is given to a method that fits none.
    """
    if known is not None and known.duration_d is not None and method != "joint":
        raise UsageError(f"{method} fits no transit; leave out --duration, or name --detrend joint")
    points, bands = [], []
    used = {(band["band"], band.get("camera")): band.get("flux_used") for band in curve["bands"]}
    pairs = sorted({(str(one["camera"]), str(one["band"])) for one in curve["points"]})
    for camera, band in pairs:
        mine = [one for one in curve["points"] if (one["camera"], one["band"]) == (camera, band)]
        flux = next((name for key, name in used.items() if key[0] == band and name is not None), None)
        source = CurveSource(curve["measured"], flux or "calibrated", camera, band)
        found = None if known is not None else _in_table(snapshot, curve, source, method, mine)
        found = found or _computed(snapshot, curve, source, method, mine, known)
        points += [_moved(one, found.mag[one["frame_id"]]) for one in mine if one["frame_id"] in found.mag]
        bands.append({"camera": camera, "band": band, "detrended": method} | found.about)
    points.sort(key=lambda point: (point["mjd_mid"], point["frame_id"]))
    return curve | {"points": points, "detrended": bands}


def _moved(point: dict[str, Any], mag: float) -> dict[str, Any]:
    """Return a point with another magnitude."""
    step = mag - point["mag"]
    changed = {name: point[name] + step for name in _REPLACED if point.get(name) is not None}
    return point | changed | {"mag_raw": point["mag"]}


def _is_good(point: Mapping[str, Any]) -> bool:
    error = point.get("mag_random_err") or point["mag_err"]
    return point["mag"] is not None and bool(error) and not point["flags"] & int(SPOILED)


def _in_table(
    snapshot: Snapshot,
    curve: dict[str, Any],
    source: CurveSource,
    method: Method,
    points: list[dict[str, Any]],
) -> _Found | None:
    """Return what the table of detrended light curves has of a star; None if it lacks it, or is out of date."""
    part = snapshot.part(TABLE, DETREND) if TABLE in snapshot.tables else None
    if part is None or part.inputs["curves"] != identity_of(snapshot, source):
        return None
    rows = snapshot.cone(TABLE, curve["ra_deg"], curve["dec_deg"], _SAME_DEG)
    if "method_joint" not in rows.column_names:
        # An earlier skylake made it, whose joint magnitudes lost transits.
        return None
    key = {"object_id": curve["object_id"], "catalog": curve["catalog"], "camera": source.camera}
    key |= {"band": source.band, "measured": source.kind, "flux": source.flux}
    for row in rows.to_pylist():
        if any(row[name] != value for name, value in key.items()):
            continue
        inner = row["lightcurve"]
        pairs = zip(inner["frame_id"], inner[f"mag_{method}"], strict=True)
        mag = {frame: value for frame, value in pairs if value is not None}
        if mag and {one["frame_id"] for one in points if _is_good(one)} <= set(inner["frame_id"]):
            about = {"n_stars": row["n_stars"], "table": TABLE}
            return _Found(mag, about | (_signal_of(row) if method == "joint" else {}))
    return None


def _signal_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return what a row of the table says of the signal, or why there is none."""
    if row["method_joint"] == "ensemble":
        return _fell_back(row["n_nights"], row["n_points"])
    return {} if row["signal"] is None else {name: row[name] for name in _SIGNAL}


def _computed(
    snapshot: Snapshot,
    curve: dict[str, Any],
    source: CurveSource,
    method: Method,
    points: list[dict[str, Any]],
    known: KnownSignal | None,
) -> _Found:
    """Detrend a star with the stars around it."""
    good = [one for one in points if _is_good(one)]
    choice = DetrendChoice()
    least = choice.least_points if method == "epd" or (method == "joint" and known is not None) else 2
    if len(good) < 2:
        raise _too_few(curve, source, points, f"{method} needs {least}; leave out --detrend")
    field, kind = _field(snapshot, curve, source, good)
    if len(good) < least:
        advice = f"{method} needs {least}; `--detrend ensemble` works with them"
        raise _too_few(curve, source, points, advice)
    own = int(np.flatnonzero(field.is_wanted)[0])
    nothing = Harmonics(np.full(len(field.is_wanted), np.nan))
    made = detrend_field(field, choice, nothing)
    about: dict[str, Any] = {"n_stars": len(field.is_wanted)}
    about |= {"around": kind} if kind != source.kind else {}
    if method == "joint":
        values, signal = _joint(field, made, own, choice, known)
        about |= signal
    else:
        mag = magnitudes(made)[method]
        if mag is None:
            raise LakeError(
                f"{len(field.mjd)} frames with {about['n_stars']} stars show no trends for {method}, which needs 60; "
                + (
                    "`--detrend ensemble` works"
                    if np.isfinite(made.ensemble[own]).any()
                    else "leave out --detrend"
                )
            )
        values = mag[own]
    pairs = zip(field.block.frame_id.tolist(), values.tolist(), strict=True)
    found = {frame: value for frame, value in pairs if np.isfinite(value)}
    if not found:
        raise LakeError(
            f"no frame shows enough stars around the star {curve['object_id']} for {method} magnitudes; "
            "leave out --detrend"
        )
    return _Found(found, about)


def _too_few(
    curve: dict[str, Any], source: CurveSource, points: list[dict[str, Any]], advice: str
) -> LakeError:
    """Return the error of a star with too few good measurements, which says what is wrong with the others."""
    n_good = sum(map(_is_good, points))
    wrong = Counter(flag.name for one in points for flag in SourceFlag(one["flags"] & int(SPOILED)))
    said = [f"{count} with the flag {name}" for name, count in wrong.most_common()]
    n_dark = sum(one["mag"] is None for one in points)
    said += [f"{n_dark} without a magnitude"] if n_dark else []
    what = "detection" if source.kind == "detected" else "measurement"
    return LakeError(
        f"the star {curve['object_id']} has {counted(len(points), what)} by {source.camera} in {source.band}, "
        f"{n_good or 'none'} of them good" + (f" ({', '.join(said)})" if said else "") + f", and {advice}"
    )


def _joint(
    field: FieldBlock, made: Detrended, star: int, choice: DetrendChoice, known: KnownSignal | None
) -> tuple[Floats, dict[str, Any]]:
    """Return the magnitudes of a star whose signal was fitted with the effects, and the signal, if there is one."""
    one, options = slice(star, star + 1), choice.options(len(field.is_wanted))
    flat = CurveBlock(field.block.curves.time, made.ensemble[one], field.block.curves.mag_err[one])
    parameters = field.block.parameters.of(one)
    fit = joint_fit(flat, parameters, made.alone.of(one), None if known is None else known.shape(), options)
    if not fit.is_joint[0]:
        n_nights, n_points = int(fit.n_nights[0]), int(fit.joint.n_points[0])
        is_wave = known is not None and n_points >= choice.least_points
        return fit.joint.mag[0], _UNCOVERED if is_wave else _fell_back(n_nights, n_points)
    shown, size = figures_of(fit.signal), signal_range(flat, fit.signal, fit.joint)
    if shown.kind[0] is None or not np.isfinite(size[0][0]):
        return fit.joint.mag[0], {}
    found = {
        "period_d": shown.period[0],
        "epoch_bjd": shown.middle[0] + _MJD_OF_JD0,
        "duration_d": shown.duration[0],
        "amplitude": size[0][0],
        "amplitude_err": size[1][0],
    }
    about = {name: float(value) if np.isfinite(value) else None for name, value in found.items()}
    return fit.joint.mag[0], {"signal": shown.kind[0]} | about


def _fell_back(n_nights: int, n_points: int) -> dict[str, str]:
    """Return what is said of magnitudes that are those of the ensemble."""
    nights, points = SignalOptions().least_nights, DetrendChoice().least_points
    reason = f"joint needs {nights} nights and {points} measurements to tell a signal from trends, and the star has "
    reason += f"{n_nights} and {n_points}"
    # A known signal needs as many measurements.
    if n_points >= points:
        reason += "; name a known signal by --period, a transit by --epoch and --duration too"
    return {"detrended": "ensemble", "reason": reason}


def _field(
    snapshot: Snapshot, curve: dict[str, Any], source: CurveSource, good: list[dict[str, Any]]
) -> tuple[FieldBlock, Measured]:
    """Return a star with those around it that share its frames, and how these were measured."""
    around, kind = _neighbours(snapshot, curve, source, good)
    count = around.rows.num_rows
    row = pa.table(
        {
            "object_id": [curve["object_id"]],
            "catalog": [curve["catalog"]],
            "ra_deg": [curve["ra_deg"]],
            "dec_deg": [curve["dec_deg"]],
            "ref_colour": pa.array([curve["bands"][0].get("ref_colour")], pa.float64()),
        }
    )
    rows = around.rows.select(row.column_names).cast(row.schema)
    names = ("frame_id", "mjd_mid", "bjd_tdb", "mag", "x_px", "y_px", "flags")
    own = {name: np.array([one[name] for one in good]) for name in names}
    own["mag_err"] = _errors(good)
    own["curve"] = np.full(len(good), count)
    own |= {
        name: np.full(len(good), value, object)
        for name, value in (("camera", source.camera), ("band", source.band))
    }
    columns = {name: np.concatenate([values, own[name]]) for name, values in around.columns.items()}
    both = Points(pa.concat_tables([rows, row]), columns)
    made = gathered(
        snapshot, both, str(source.camera), str(source.band), {(curve["catalog"], curve["object_id"])}
    )
    assert made is not None
    return with_conditions(snapshot, made), kind


def _errors(good: list[dict[str, Any]]) -> Floats:
    return np.array([one.get("mag_random_err") or one["mag_err"] for one in good], float)


def _neighbours(
    snapshot: Snapshot, curve: dict[str, Any], source: CurveSource, good: list[dict[str, Any]]
) -> tuple[Points, Measured]:
    """Return the measurements of the stars around one, and which they are: targets as it is, or their detections.

    Raises
    ------
    LakeError
        If there are too few.
    """
    frames = np.array([one["frame_id"] for one in good], np.int64)
    enough = float(_MOST_NOISE * np.hypot(np.median(_errors(good)), _LEAST_FLOOR))
    found, kind = _around(snapshot, curve, source, frames, enough), source.kind
    noise = _offset_noise(found, len(good))
    if kind == "forced" and noise > enough:
        # A hybrid flux is an aperture less the light of neighbours, and loses by frame what the aperture does.
        flux = source.flux.replace("hybrid", "aper").replace("psf", "calibrated")
        seen = _around(snapshot, curve, replace(source, kind="detected", flux=flux), frames, enough)
        if _offset_noise(seen, len(good)) < noise:
            found, kind = seen, "detected"
    if _n_stars(found) < _LEAST_STARS:
        raise LakeError(
            f"{counted(_n_stars(found), 'star')} around the star {curve['object_id']} share its frames, and "
            f"detrending needs {_LEAST_STARS}; leave out --detrend"
        )
    return found, kind


def _n_stars(around: Points) -> int:
    return len(np.unique(around.columns["curve"]))


def _offset_noise(around: Points, n_frames: int) -> float:
    """Return the typical error of what stars tell of a frame at a place, magnitudes; infinite for too few stars."""
    n_stars = _n_stars(around)
    if n_stars < _LEAST_STARS:
        return np.inf
    degree = DetrendChoice().options(n_stars).degree
    # Products of powers of two coordinates, and the colour.
    n_terms = (degree + 1) * (degree + 2) // 2 + 1
    weight = np.sum(1.0 / (around.columns["mag_err"] ** 2 + _LEAST_FLOOR**2))
    return float(np.sqrt(n_terms * n_frames / weight))


def _around(
    snapshot: Snapshot,
    curve: dict[str, Any],
    source: CurveSource,
    frames: npt.NDArray[np.int64],
    enough: float,
) -> Points:
    """Return the measurements on some frames of the stars around one, as many as are wanted; not its own.

    Of the stars in a circle those that say most of the frames are taken: bright ones, that most frames show. The
    circle grows until what they say of a frame is known to `enough` magnitudes.
    """
    ra, dec = curve["ra_deg"], curve["dec_deg"]
    radius, before, wanted = _FIRST_DEG, 0, WANTED_STARS
    while True:
        region = SkyRegion(cone_ranges(ra, dec, radius), (ra, dec, radius))
        others = _others(read_points(snapshot, source, region.ranges, region), curve, frames)
        n_stars = _n_stars(others)
        chosen = _most_telling(others)
        is_all = n_stars == before >= _LEAST_STARS
        if is_all or radius == _FARTHEST_DEG:
            return chosen
        if n_stars >= WANTED_STARS:
            is_much = n_stars >= _MOST_CHOICE * WANTED_STARS or len(others.columns["curve"]) > _MOST_POINTS
            if is_much or _offset_noise(chosen, len(frames)) <= enough:
                return chosen
            wanted = 2 * n_stars
        # As wide as the density of stars asks for.
        step = float(np.clip(np.sqrt(_MORE * wanted / max(n_stars, 1)), *_WIDER))
        radius, before = min(step * radius, _FARTHEST_DEG), n_stars


def _most_telling(around: Points) -> Points:
    """Return the measurements of the stars with the greatest weight, as many as are wanted."""
    stars, number = np.unique(around.columns["curve"], return_inverse=True)
    weight = np.bincount(number, 1.0 / (around.columns["mag_err"] ** 2 + _LEAST_FLOOR**2), len(stars))
    best = stars[np.argsort(-weight, kind="stable")[:WANTED_STARS]]
    return around.of(np.isin(around.columns["curve"], best))


def _others(points: Points, curve: dict[str, Any], frames: npt.NDArray[np.int64]) -> Points:
    """Return the measurements on some frames of all stars but one."""
    same = pc.and_(
        pc.equal(points.rows["object_id"], curve["object_id"]),
        pc.equal(points.rows["catalog"], curve["catalog"]),
    )
    mine = np.flatnonzero(same.to_numpy(zero_copy_only=False))
    columns = points.columns
    return points.of(np.isin(columns["frame_id"], frames) & ~np.isin(columns["curve"], mine))
