"""Changes of watched stars that have had an alert: which are still going on, and which nights they cover.

An episode begins with an alert of a star that became brighter or fainter or vanished, and ends with one that it
returned. Its nights do not count as the past of the star. So a star that stays changed has one alert, whatever the
number of nights, and is held against what it was before. What appeared has no past to return to: the nights since then
become its past.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.unlisted_stars import DETECTIONS
from skylake.lake.storage.watch_lists import WatchList
from skylake.table.alerts import APPEARED, BRIGHTER, FAINTER, RETURNED, VANISHED

Row = Mapping[str, Any]
#: A watch list, and a star in a band: its catalog, identifier and band.
Key = tuple[str, str, int, str]

#: Columns of ``alerts`` that episodes follow from.
COLUMNS = (
    "watch_list",
    "camera",
    "night",
    "band",
    "kind",
    "star",
    "catalog",
    "object_id",
    "ra_deg",
    "dec_deg",
    "separation_arcsec",
    "mag",
    "difference",
    "difference_err",
)
_STAR = ("catalog", "object_id", "band")
#: Columns of an alert that those which follow it share: who watches what.
NAMED_BY = ("watch_list", "star", "separation_arcsec", *_STAR, "ra_deg", "dec_deg")
#: The end of an episode that goes on.
_NEVER = 99_999_999


@dataclass(slots=True)
class Episodes:
    """Episodes of the watched stars of a camera.

    Attributes
    ----------
    going_on : dict
        The last alert of each episode that goes on.
    nights : list of tuple
        Catalog, identifier and band, the first night of an episode, and the night in which it had ended.
    places : dict
        Right ascension and declination of each star that has an episode, by catalog, identifier and band.
    appeared : dict
        The alerts of what appeared, or is there again, and has had no other alert since, by watch list, identifier and
        band. The catalog does not count: what no catalog has may have become a target.
    """

    going_on: dict[Key, Row] = field(default_factory=dict)
    nights: list[tuple[str, int, str, int, int]] = field(default_factory=list)
    places: dict[tuple[str, int, str], tuple[float, float]] = field(default_factory=dict)
    appeared: dict[tuple[str, int, str], Row] = field(default_factory=dict)

    @classmethod
    def of(cls, alerts: Iterable[Row], before: int) -> Episodes:
        """Return the episodes that follow from alerts of nights before one.

        Parameters
        ----------
        alerts : iterable of mapping
            Rows of ``alerts`` of a camera with :data:`COLUMNS`, in any order.
        before : int
            Night.
        """
        made, first = cls(), dict[Key, int]()
        earlier = [row for row in alerts if row["night"] < before]
        for row in sorted(earlier, key=lambda row: row["night"]):
            key = key_of(row)
            object_key = row["watch_list"], row["object_id"], row["band"]
            made.appeared.pop(object_key, None)
            if row["kind"] == APPEARED or (row["kind"], row["catalog"]) == (RETURNED, DETECTIONS):
                made.appeared[object_key] = row
            if row["kind"] in (BRIGHTER, FAINTER, VANISHED):
                first.setdefault(key, row["night"])
                made.places[key[1:]] = row["ra_deg"], row["dec_deg"]
                made.going_on[key] = row
            elif row["kind"] == RETURNED and key in first:
                made.nights.append((*key[1:], first.pop(key), row["night"]))
                del made.going_on[key]
        made.nights += [(*key[1:], night, _NEVER) for key, night in first.items()]
        return made

    def without(self, rows: pa.Table) -> pa.Table:
        """Return rows of stars and nights without those of episodes.

        Parameters
        ----------
        rows : pyarrow.Table
            With catalog, object_id, band and night.
        """
        if not self.nights or rows.num_rows == 0:
            return rows
        names = (*_STAR, "first", "end")
        types = (*(rows.schema.field(name).type for name in _STAR), pa.int32(), pa.int32())
        columns = zip(*self.nights, strict=True)
        episodes = pa.table(
            {name: pa.array(values, kind) for name, values, kind in zip(names, columns, types, strict=True)}
        )
        keys = rows.select([*_STAR, "night"]).append_column("row", pa.array(np.arange(rows.num_rows)))
        both = keys.join(episodes, list(_STAR), join_type="inner")
        inside = pc.and_(pc.greater_equal(both["night"], both["first"]), pc.less(both["night"], both["end"]))
        gone = both.filter(inside)["row"].to_numpy()
        return rows.filter(pa.array(~np.isin(np.arange(rows.num_rows), gone)))

    def further_nights(
        self, nights: npt.NDArray[np.int64], most: int
    ) -> dict[tuple[str, int, str], list[int]]:
        """Return the nights that stars lack which have had an episode in the last nights, by catalog, star and band.

        With these each has as many nights outside of its episodes as other stars have, if there were so many.

        Parameters
        ----------
        nights : ndarray of int, shape (n,)
            All nights of the camera, the last one at the end.
        most : int
            So many of the last ones are the past of other stars.
        """
        if len(nights) <= most:
            return {}
        recent, found = nights[-most], {}
        by_star = sorted(self.nights, key=lambda one: one[:3])
        for star, episodes in groupby(by_star, key=lambda one: one[:3]):
            spans = [one[3:] for one in episodes]
            if max(end for _, end in spans) <= recent:
                continue
            outside = np.ones(len(nights), bool)
            for first, end in spans:
                outside[np.searchsorted(nights, first) : np.searchsorted(nights, end)] = False
            kept = nights[outside][-most:]
            if len(kept) and kept[0] < recent:
                found[star] = kept[kept < recent].tolist()
        return found

    def is_news(self, row: Row, listed: WatchList) -> bool:
        """Return whether a star that differs from its past, or vanished, has not had this alert before."""
        last = self.going_on.get(key_of(row))
        if last is None:
            return True
        if row["kind"] == VANISHED:
            # How faint it is now is not known, but at least so much.
            is_fainter = row["difference"] - last["difference"] >= listed.by_mag
            return bool(last["kind"] != VANISHED and is_fainter)
        is_fainter = row["difference"] >= last["difference"]
        return not (last["kind"] == VANISHED and is_fainter) and _differ(row, last, listed)

    def has_returned(self, row: Row, listed: WatchList) -> bool:
        """Return whether a star that does not differ from its past has done so before, beyond chance."""
        last = self.going_on.get(key_of(row))
        return last is not None and (last["kind"] == VANISHED or _differ(row, last, listed))


def key_of(row: Row) -> Key:
    """Return which list watches which star in which band."""
    return row["watch_list"], row["catalog"], row["object_id"], row["band"]


def _differ(row: Row, last: Row, listed: WatchList) -> bool:
    """Return whether a star is brighter or fainter than in its last alert; both are held against the same past."""
    error = float(np.hypot(row["difference_err"], last.get("difference_err") or 0.0))
    return bool(abs(row["difference"] - last["difference"]) >= max(listed.by_mag, listed.sigma * error))
