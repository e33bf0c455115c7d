"""Points of a light curve between two times and in a band, folded with a period and in bins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.errors import LakeError
from skylake.report.stars.night_errors import NightErrors
from skylake.report.stars.star_picture import Fold
from skylake.report.stars.time_bins import binned, with_phase

#: What points are chosen by whose name is given.
_NAMES = ("band", "camera")


@dataclass(frozen=True, slots=True)
class PointChoice:
    """Which points of a light curve are wanted, and how.

    Attributes
    ----------
    start_mjd, end_mjd : float or None
        Times of mid-exposure, MJD (UTC): from the first up to, but without, the second.
    frames : pyarrow.Array or None
        Identifiers of frames, as those of :func:`skylake.lake.access.curve_rows.frames_of_nights`.
    band, camera : str or None
    width_d : float or None
        Width of bins, days.
    period_d : float or None
        Adds the phase; bins are then those of the phase.
    epoch_bjd : float or None
        Time of phase 0, BJD (TDB); None takes the first point.
    nights : NightErrors or None
        Scatter from night to night, for the errors of bins.
    """

    start_mjd: float | None = None
    end_mjd: float | None = None
    frames: pa.Array | None = None
    band: str | None = None
    width_d: float | None = None
    period_d: float | None = None
    epoch_bjd: float | None = None
    nights: NightErrors | None = None
    camera: str | None = None

    def chosen(self, curve: dict[str, Any]) -> dict[str, Any]:
        """Return a light curve with the chosen points.

        Raises
        ------
        LakeError
            If none is left.
        """
        names = ("mjd_mid", "frame_id", *_NAMES)
        columns = {name: [point[name] for point in curve["points"]] for name in names}
        kept = self._kept(pa.table(columns))
        points = [point for point, is_kept in zip(curve["points"], kept, strict=True) if is_kept]
        if not points:
            there = _There()
            there.add(pa.table(columns))
            raise LakeError(f"no point of the star {curve['object_id']} is left; it has {there}")
        bands = [
            band
            for band in curve["bands"]
            if self.band in (None, band["band"])
            and (band.get("camera") is None or self.camera in (None, band["camera"]))
        ]
        return curve | {"points": points, "bands": bands}

    def of_pieces(self, pieces: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield those of some tables of measurements that have chosen rows.

        Raises
        ------
        LakeError
            If there are measurements, and none is chosen.
        """
        n_chosen, there = 0, _There()
        for piece in pieces:
            if (self._kept(piece)).any():
                n_chosen += 1
                yield piece
            elif not n_chosen:
                there.add(piece)
        if not n_chosen and there.n_points:
            raise LakeError(f"no point of the stars there is left; they have {there}")

    def rows(self, points: pa.Table) -> pa.Table:
        """Return the chosen rows of a table of measurements; there may be none."""
        return points.filter(pa.array(self._kept(points)))

    def _kept(self, points: pa.Table) -> npt.NDArray[np.bool_]:
        times = points["mjd_mid"].to_numpy()
        kept = np.ones(points.num_rows, bool)
        kept &= True if self.start_mjd is None else times >= self.start_mjd
        kept &= True if self.end_mjd is None else times < self.end_mjd
        for name in _NAMES:
            if (wanted := getattr(self, name)) is not None:
                kept &= np.asarray(points[name].to_pylist(), object) == wanted
        if self.frames is not None:
            kept &= np.asarray(pc.is_in(points["frame_id"], self.frames))
        return kept

    def fold(self, curve: dict[str, Any]) -> Fold | None:
        """Return the period and the time of phase 0; None without a period."""
        if self.period_d is None:
            return None
        first = min(point["bjd_tdb"] for point in curve["points"])
        return Fold(self.period_d, first if self.epoch_bjd is None else self.epoch_bjd)

    def table(self, points: pa.Table) -> pa.Table:
        """Return the points of a star with their phase, if there is a period, and in bins, if these have a width."""
        if self.period_d is not None:
            epoch = pc.min(points["bjd_tdb"]).as_py() if self.epoch_bjd is None else self.epoch_bjd
            points = with_phase(points, self.period_d, epoch)
        return points if self.width_d is None else binned(points, self.width_d, self.period_d, self.nights)


class _There:
    """When, in which bands and by which cameras measurements were made that are not chosen."""

    def __init__(self) -> None:
        self.n_points = 0
        self._times: list[float] = []
        self._names: dict[str, set[str]] = {name: set() for name in _NAMES}

    def add(self, points: pa.Table) -> None:
        if not points.num_rows:
            return
        self.n_points += points.num_rows
        times = pc.min_max(points["mjd_mid"]).as_py()
        self._times = [min([*self._times, times["min"]]), max([*self._times, times["max"]])]
        for name, known in self._names.items():
            known.update(map(str, pc.unique(points[name]).to_pylist()))

    def __str__(self) -> str:
        """Return what there is, to follow "it has"."""
        bands, cameras = (", ".join(sorted(known)) for known in self._names.values())
        return (
            f"{self.n_points} from MJD {self._times[0]:.4f} to {self._times[1]:.4f} in {bands} by {cameras}"
        )
