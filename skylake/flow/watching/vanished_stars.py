"""What was well seen in earlier nights, and is fainter than the limit of all frames of a night."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.sphere import chord, unit_vectors
from skylake.curves.night_changes import LEAST_COMPARISON, LEAST_NIGHTS, PastNights
from skylake.flow.watching.changed_stars import Judged, Row, WatchedNight, described, past_of, star_of
from skylake.flow.watching.episodes import NAMED_BY, Episodes
from skylake.flow.watching.night_frames import SURELY_MAG, NightDetections, NightFrames
from skylake.flow.watching.night_tables import DETECTED, KEY, LEAST_GOOD, TARGETS, NightStars, past_nights
from skylake.flow.watching.watched_stars import Watched, comparison_stars, nearest_of_each, watched_among
from skylake.sky.pixels import merge_ranges
from skylake.table.alerts import VANISHED

Floats = npt.NDArray[np.float64]

#: A star that would surely be found on a frame would be so even if it were fainter by so many times its scatter.
_SURELY_SCATTER = 3.0
#: A detection nearer than so many widths of stars may be the star and another one together.
_BLEND_WIDTHS = 1.5
#: Comparison stars are on at least this share of the frames, or there are clouds.
_LEAST_SHARE = 0.5
#: Frames that show the place.
_LEAST_FRAMES = 2


def vanished_from_frames(
    night: WatchedNight,
    frames: NightFrames,
    detections: NightDetections,
    stars: NightStars,
    measured: Collection[tuple[str, int, str]],
) -> list[Row]:
    """Return the alerts of stars that were detected in earlier nights, and are on no frame of this one.

    Parameters
    ----------
    night : WatchedNight
    frames : NightFrames
    detections : NightDetections
    stars : NightStars
        Those that were detected.
    measured : collection of (str, int, str)
        Catalog, identifier and band of stars that forced photometry judges.
    """
    ranges = merge_ranges(np.concatenate([one.ranges for one in night.lists]))
    rows = past_nights(night.snapshot, DETECTED, ranges, night.camera, night.night, night.episodes)
    known = _each_once(rows)
    if not len(known) or not len(frames):
        return []
    watched = watched_among(night.lists, known.floats("ra_deg"), known.floats("dec_deg"))
    watched = nearest_of_each(watched, known.star) if watched else []
    seen = {*_keys(stars.rows), *measured}
    names = _keys(known.rows)
    watched = [one for one in watched if names[one.row] not in seen]
    past = past_of(rows, known.rows)
    found = []
    for one in watched:
        expected = _expected(one, known, past)
        unseen = None if expected is None else _unseen(expected, one.listed.by_mag, frames, detections, stars)
        row = None if unseen is None else star_of(known.rows, one) | unseen
        if row is not None and night.episodes.is_news(row, one.listed):
            found.append(row)
    return found


def vanished_by_force(judged: Judged, episodes: Episodes) -> list[Row]:
    """Return the alerts of targets whose forced measurements have no significant flux any more."""
    stars, changes = judged.stars, judged.changes
    place = np.full(len(stars), -1)
    place[judged.rows] = np.arange(len(judged.rows))
    snr, limit = (stars.floats(name) if len(stars) else np.zeros(0) for name in ("snr", "limit"))
    found = []
    for one in judged.watched:
        i, row = place[one.row], one.row
        if judged.medians.n_good[i] < LEAST_GOOD or changes.n_nights[i] < LEAST_NIGHTS:
            continue
        scatter = np.nan_to_num(changes.past_scatter[i])
        expected = 10.0 ** (0.4 * (limit[row] - changes.past_mag[i])) * 5.0
        # In units of the error of the mean flux, of which the limit is five times.
        significance = (expected - snr[row]) / np.hypot(1.0, expected * scatter * 0.4 * np.log(10.0))
        fainter = limit[row] - changes.past_mag[i]
        if stars.has_mean[row] or not (significance >= one.listed.sigma and fainter >= one.listed.by_mag):
            continue
        alert = (
            described(judged, one, int(i))
            | _against(changes.past_mag[i], scatter, int(changes.n_nights[i]), float(limit[row]))
            | {"kind": VANISHED, "measured": "forced", "mag": None, "significance": significance}
        )
        if episodes.is_news(alert, one.listed):
            found.append(alert)
    return found


def vanished_since(
    night: WatchedNight,
    frames: NightFrames,
    detections: NightDetections,
    stars: NightStars,
    measured: Collection[tuple[str, int, str]],
) -> list[Row]:
    """Return the alerts of what appeared in an earlier night, has had no alert since, and is on no frame of this one.

    The parameters are those of :func:`vanished_from_frames`.
    """
    if not len(frames):
        return []
    lists = {one.name: one for one in night.lists}
    seen, found = {*_keys(stars.rows), *measured}, []
    for row in night.episodes.appeared.values():
        listed = lists.get(row["watch_list"])
        names = {(catalog, row["object_id"], row["band"]) for catalog in (row["catalog"], TARGETS)}
        if listed is None or row["mag"] is None or names & seen:
            continue
        expected = _Expected(row["ra_deg"], row["dec_deg"], row["band"], row["mag"], 0.0, 1)
        unseen = _unseen(expected, listed.by_mag, frames, detections, stars)
        if unseen is not None:
            # One night has no scatter.
            unknown = {"past_scatter": None, "difference_err": None}
            found.append({name: row[name] for name in NAMED_BY} | unseen | unknown)
    return found


@dataclass(frozen=True, slots=True)
class _Expected:
    """A star that would be seen if it were as it was: its place, band, and magnitudes of earlier nights."""

    ra_deg: float
    dec_deg: float
    band: str
    level: float
    scatter: float
    n_nights: int


def _expected(one: Watched, known: NightStars, past: PastNights) -> _Expected | None:
    """Return what is known of a star from earlier nights; None if these are too few."""
    mags = past.mag[past.starts[one.row] : past.starts[one.row + 1]]
    if len(mags) < LEAST_NIGHTS:
        return None
    ra, dec, band = (known.rows[name][one.row].as_py() for name in ("ra_deg", "dec_deg", "band"))
    return _Expected(ra, dec, band, float(np.median(mags)), float(np.std(mags, ddof=1)), len(mags))


def _unseen(
    star: _Expected,
    by_mag: float,
    frames: NightFrames,
    detections: NightDetections,
    stars: NightStars,
) -> Row | None:
    """Return what an alert says of a star that was not detected; None if that need not mean that it is fainter."""
    band, level, scatter = star.band, star.level, star.scatter
    ra, dec = np.array([star.ra_deg]), np.array([star.dec_deg])
    shown = frames.showing(ra, dec)[:, 0] & (frames.band == band) & np.isfinite(frames.limit)
    if shown.sum() < _LEAST_FRAMES:
        return None
    limits = frames.limit[shown]
    if level + _SURELY_SCATTER * scatter + SURELY_MAG > limits.min():
        return None
    vector = unit_vectors(ra, dec)[0]
    near = _seen_near(stars, vector, level, band, int(shown.sum()))
    if not near or _is_blend(vector, detections, frames):
        return None
    limit = float(limits.max()) - SURELY_MAG
    if limit - level < by_mag:
        return None
    rows = np.flatnonzero(shown)
    return _against(level, scatter, star.n_nights, limit) | {
        "kind": VANISHED,
        "measured": "detected",
        "n_comparison": near,
        "n_points": len(rows),
        "n_good": 0,
        "flags": 0,
        "mjd_mid": float(np.median(frames.frames["mjd_mid"].to_numpy()[rows])),
        "frame_id": int(frames.frames["frame_id"].to_numpy()[rows[np.argmax(limits)]]),
    }


def _against(level: float, scatter: float, n_nights: int, limit: float) -> Row:
    return {
        "past_mag": level,
        "past_scatter": scatter,
        "n_past_nights": n_nights,
        "mag_limit": limit,
        "difference": limit - level,
        "difference_err": scatter,
    }


def _is_blend(vector: Floats, detections: NightDetections, frames: NightFrames) -> bool:
    """Return whether anything was detected so near to a star that it may be part of that."""
    reach = chord(_BLEND_WIDTHS * frames.fwhm_arcsec)
    return bool((np.linalg.norm(detections.vectors - vector, axis=1) <= reach).any())


def _seen_near(stars: NightStars, vector: Floats, mag: float, band: str, n_frames: int) -> int:
    """Return the number of stars near a place that are no brighter, 0 if most frames do not show them either."""
    own_band = np.array([band], object)
    near = comparison_stars(stars, vector[None, :], np.array([mag]), own_band, or_fainter=True)[0]
    near = near[near >= 0]
    if len(near) < LEAST_COMPARISON:
        return 0
    are_seen = np.median(stars.floats("n_points")[near]) >= _LEAST_SHARE * n_frames
    return len(near) if are_seen else 0


def _each_once(rows: pa.Table) -> NightStars:
    """Return the stars of some nights, each once in each band."""
    values = [(name, "max") for name in ("_healpix_29", "ra_deg", "dec_deg")]
    stars = rows.group_by(list(KEY)).aggregate(values)
    names = {f"{name}_max": name for name, _ in values}
    return NightStars(stars.rename_columns([names.get(name, name) for name in stars.column_names]))


def _keys(rows: pa.Table) -> list[tuple[str, int, str]]:
    return list(zip(*(rows[name].to_pylist() for name in KEY), strict=True))
