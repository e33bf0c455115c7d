"""Stars that are brighter or fainter in a night than in the nights before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from skylake.core.group_medians import group_medians
from skylake.curves.night_changes import NightChanges, PastNights, night_changes
from skylake.flow.watching.episodes import Episodes
from skylake.flow.watching.night_tables import (
    DETECTED,
    KEY,
    LEAST_GOOD,
    NightStars,
    Source,
    past_nights,
    points_of,
    ranges_of,
    tonight,
)
from skylake.flow.watching.watched_stars import Watched, comparison_stars, nearest_of_each, watched_among
from skylake.lake import Snapshot
from skylake.lake.storage.slices import read_files
from skylake.lake.storage.watch_lists import WatchList
from skylake.table.alerts import BRIGHTER, FAINTER, RETURNED
from skylake.table.night_medians import NightMedians, night_medians

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.intp]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WatchedNight:
    """A night of a camera, and the lists that watch it.

    Attributes
    ----------
    snapshot : Snapshot
    parts : mapping
        Name of the part of the night by table: frames, zeropoints, matches, and of light curves that of frames.
    camera, night : str, int
    lists : tuple of WatchList
    episodes : Episodes
        Changes that have had an alert in earlier nights.
    """

    snapshot: Snapshot
    parts: Mapping[str, str]
    camera: str
    night: int
    lists: tuple[WatchList, ...]
    episodes: Episodes = field(default_factory=Episodes)

    @property
    def part(self) -> str:
        """Name of the parts of tables that have one for each night."""
        return self.parts["frames"]

    def read(self, table: str, columns: Sequence[str] | None, filter: Any = None) -> pa.Table:
        """Return the rows that a table has of the night."""
        version = self.snapshot.version(table)
        held = version.part(self.parts.get(table, self.part))
        return read_files(table, [] if held is None else version.slices_of(held), columns, filter)


@dataclass(frozen=True, slots=True)
class Judged:
    """The watched stars of a night that have a magnitude in one source; arrays of shape (n_rows,).

    Attributes
    ----------
    stars : NightStars
    watched : list of Watched
        By rows of `stars`.
    rows : ndarray of int
        The rows of `stars` that are watched, each once.
    medians : NightMedians
    changes : NightChanges
    n_compared_nights : ndarray
        Median number of earlier nights of the comparison stars.
    """

    stars: NightStars
    watched: list[Watched]
    rows: Places
    medians: NightMedians
    changes: NightChanges
    n_compared_nights: Floats


def judge(night: WatchedNight, source: Source) -> Judged:
    """Hold the watched stars of a night against their past."""
    stars = tonight(night.snapshot, source, night.part)
    watched = watched_among(night.lists, stars.floats("ra_deg"), stars.floats("dec_deg"))
    watched = nearest_of_each(watched, stars.star) if watched else []
    rows = np.unique(np.array([one.row for one in watched], np.intp))
    medians = _medians(night, source, stars, rows)
    own_nights = _nights_of(night, source, stars, rows, night.episodes)
    # A star in outburst is compared with stars that are as bright as it was.
    usual = np.asarray(group_medians(*_mags(past_of(own_nights, stars.rows.take(pa.array(rows))))))
    usual = np.where(np.isfinite(usual), usual, medians.mag)
    compared = comparison_stars(stars, stars.vectors[rows], usual, stars.band[rows])
    known = np.unique(np.concatenate([rows, compared[compared >= 0]]))
    nights = [own_nights, _nights_of(night, source, stars, np.setdiff1d(known, rows))]
    past = past_of(_once(pa.concat_tables(nights)), stars.rows.take(pa.array(known)))
    mag, err = stars.floats("mag")[known], stars.floats("err")[known]
    own = np.searchsorted(known, rows)
    mag[own], err[own] = medians.mag, medians.err
    places = np.where(compared >= 0, np.searchsorted(known, compared), -1)
    changes = night_changes(mag, err, past, own, places)
    counts = np.where(places >= 0, past.counts[places], np.nan) if len(known) else np.zeros(places.shape)
    return Judged(stars, watched, rows, medians, changes, _row_medians(counts))


def changed(judged: Judged, measured: str, episodes: Episodes) -> list[Row]:
    """Return the alerts of stars that are brighter or fainter, and of those that are as before again.

    A star that stays changed has had its alert.
    """
    found = []
    place = np.full(len(judged.stars), -1)
    place[judged.rows] = np.arange(len(judged.rows))
    changes = judged.changes
    for one in judged.watched:
        i = place[one.row]
        if judged.medians.n_good[i] < LEAST_GOOD or not np.isfinite(changes.significance[i]):
            continue
        is_far = abs(changes.significance[i]) >= one.listed.sigma
        is_far &= abs(changes.difference[i]) >= one.listed.by_mag
        row = described(judged, one, int(i)) | {
            "kind": FAINTER if changes.difference[i] > 0 else BRIGHTER,
            "measured": measured,
            "past_mag": changes.past_mag[i],
            "past_scatter": changes.past_scatter[i],
            "n_past_nights": changes.n_nights[i],
            "difference": changes.difference[i],
            "difference_err": changes.difference_err[i],
            "significance": changes.significance[i],
            "false_alarm": changes.false_alarm[i],
        }
        if is_far and episodes.is_news(row, one.listed):
            found.append(row)
        elif not is_far and episodes.has_returned(row, one.listed):
            found.append(row | {"kind": RETURNED})
    return found


def described(judged: Judged, one: Watched, i: int) -> Row:
    """Return what an alert says of a star and of its night."""
    medians = judged.medians
    return star_of(judged.stars.rows, one) | {
        "mag": medians.mag[i],
        "mag_random_err": medians.err[i],
        "n_comparison": judged.changes.n_comparison[i],
        "n_points": medians.n_points[i],
        "n_good": medians.n_good[i],
        "flags": medians.flags[i],
        "mjd_mid": medians.mjd_mid[i],
        "frame_id": medians.frame_id[i],
    }


def star_of(rows: pa.Table, one: Watched) -> Row:
    """Return what an alert says of who watches which star."""
    names = (*KEY, "ra_deg", "dec_deg")
    return {name: rows[name][one.row].as_py() for name in names} | {
        "watch_list": one.listed.name,
        "star": one.star,
        "separation_arcsec": one.separation_arcsec,
    }


def _medians(night: WatchedNight, source: Source, stars: NightStars, rows: Places) -> NightMedians:
    """Return the medians of some rows; those of forced photometry are of fluxes, which may be negative."""
    points = points_of(night.snapshot, source, night.part, stars.index[rows])
    points = _with_row(points, stars.rows.take(pa.array(rows)))
    columns = {
        name: points[name].to_numpy(zero_copy_only=False) if name in points.column_names else np.zeros(0)
        for name in ("row", "mag", "err", "flags", "mjd_mid", "frame_id")
    }
    star, flags, frame_id = (np.asarray(columns[name], np.int64) for name in ("row", "flags", "frame_id"))
    mag, err, mjd = (np.asarray(columns[name], float) for name in ("mag", "err", "mjd_mid"))
    found = night_medians(star, len(rows), mag, err, flags, mjd, frame_id)
    if source is DETECTED:
        return found
    n = np.maximum(stars.floats("n_good")[rows], 1.0)
    spread = np.fmax(stars.floats("err")[rows], stars.floats("mag_scatter")[rows] / np.sqrt(n))
    good = found.n_good >= LEAST_GOOD
    return NightMedians(
        np.where(good, np.where(stars.has_mean[rows], stars.floats("mag_median")[rows], np.nan), np.nan),
        np.where(good, np.sqrt(0.5 * np.pi) * spread, np.nan),
        found.n_points,
        found.n_good,
        found.flags,
        found.mjd_mid,
        found.frame_id,
    )


def _with_row(rows: pa.Table, stars: pa.Table) -> pa.Table:
    """Return rows of some stars with the number of the star, in the order of that."""
    keys = stars.select(list(KEY)).append_column("row", pa.array(np.arange(stars.num_rows)))
    return rows.join(keys, list(KEY), join_type="inner").sort_by("row")


def _nights_of(
    night: WatchedNight, source: Source, stars: NightStars, rows: Places, episodes: Episodes | None = None
) -> pa.Table:
    """Return the earlier nights of what lies at the places of some stars, without those of episodes."""
    ranges = ranges_of(np.unique(stars.index[rows]))
    return past_nights(night.snapshot, source, ranges, night.camera, night.night, episodes)


def _mags(past: PastNights) -> tuple[Floats, Places]:
    return past.mag, past.starts


def _once(rows: pa.Table) -> pa.Table:
    """Return rows of which those that were read twice, of stars at one place, are there once."""
    return (
        rows.group_by([*KEY, "night"])
        .aggregate([("mag", "max"), ("err", "max")])
        .rename_columns([*KEY, "night", "mag", "err"])
    )


def past_of(rows: pa.Table, stars: pa.Table) -> PastNights:
    """Return nights of some stars in the order of the stars."""
    rows = _with_row(rows.select([*KEY, "night", "mag", "err"]), stars)
    counts = np.bincount(rows["row"].to_numpy(), minlength=stars.num_rows)
    starts = np.append(0, np.cumsum(counts)).astype(np.intp)
    names = np.char.add(np.asarray(rows["night"]).astype(str), np.asarray(rows["band"].to_pylist(), str))
    night = np.unique(names, return_inverse=True)[1].reshape(-1).astype(np.intp)
    return PastNights(np.asarray(rows["mag"], float), np.asarray(rows["err"], float), starts, night)


def _row_medians(values: Floats) -> Floats:
    some = np.isfinite(values).any(axis=1) if values.size else np.zeros(len(values), bool)
    found = np.full(len(values), np.nan)
    found[some] = np.nanmedian(values[some], axis=1)
    return found


def names_of(rows: Sequence[Row]) -> set[tuple[str, str, int, str]]:
    """Return the lists, catalogs, stars and bands of some alerts."""
    return {(row["watch_list"], row["catalog"], row["object_id"], row["band"]) for row in rows}
