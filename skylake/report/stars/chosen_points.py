"""Points of a light curve between two times and in a band, folded with a period and in bins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.errors import LakeError
from skylake.report.stars.left_out import LeftOut, left_out_rows
from skylake.report.stars.night_errors import NightErrors
from skylake.report.stars.star_picture import Fold
from skylake.report.stars.time_bins import binned, is_in_bins, with_phase

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
        columns = _columns(curve["points"])
        marks = self._marks(columns)
        kept = _all_of(marks, len(curve["points"]))
        points = [point for point, is_kept in zip(curve["points"], kept, strict=True) if is_kept]
        if not points:
            there = _There()
            there.add(columns, marks)
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
            marks = self._marks(piece)
            if _all_of(marks, piece.num_rows).any():
                n_chosen += 1
                yield piece
            elif not n_chosen:
                there.add(piece, marks)
        if not n_chosen and there.n_points:
            raise LakeError(f"no point of the stars there is left; they have {there}")

    def n_lost(self, of_version: dict[str, Any], in_force: dict[str, Any]) -> int:
        """Return how many chosen points a light curve of one version of the calibration lacks."""
        there = {point["frame_id"] for point in of_version["points"] if point["flux"] is not None}
        lost = [
            point
            for point in in_force["points"]
            if point["flux"] is not None and point["frame_id"] not in there
        ]
        return int(self.rows(_columns(lost)).num_rows)

    def rows(self, points: pa.Table) -> pa.Table:
        """Return the chosen rows of a table of measurements; there may be none."""
        return points.filter(pa.array(_all_of(self._marks(points), points.num_rows)))

    def _marks(self, points: pa.Table) -> dict[str, npt.NDArray[np.bool_]]:
        """Return which points meet each of the choices, by the options that make it."""
        times = points["mjd_mid"].to_numpy()
        marks = {}
        if self.start_mjd is not None:
            marks["--from"] = times >= self.start_mjd
        if self.end_mjd is not None:
            marks["--to"] = times < self.end_mjd
        for name in _NAMES:
            if (wanted := getattr(self, name)) is not None:
                marks[f"--{name} {wanted}"] = np.asarray(points[name].to_pylist(), object) == wanted
        if self.frames is not None:
            marks["--from or --to"] = np.asarray(pc.is_in(points["frame_id"], self.frames))
        return marks

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

    def left_out(self, points: pa.Table) -> LeftOut:
        """Return which points of a star are in no bin, and why; without bins all are written."""
        return Counter() if self.width_d is None else left_out_rows(points, is_in_bins(points))


def _columns(points: list[dict[str, Any]]) -> pa.Table:
    """Return what points are chosen by."""
    types = {"mjd_mid": pa.float64(), "frame_id": pa.int64()} | dict.fromkeys(_NAMES, pa.string())
    return pa.table({name: pa.array([one[name] for one in points], kind) for name, kind in types.items()})


def _all_of(marks: dict[str, npt.NDArray[np.bool_]], n_points: int) -> npt.NDArray[np.bool_]:
    """Return which points meet all choices."""
    kept = np.ones(n_points, bool)
    for mark in marks.values():
        kept &= mark
    return kept


class _There:
    """When, in which bands and by which cameras measurements were made that are not chosen."""

    def __init__(self) -> None:
        self.n_points = 0
        self._times: list[float] = []
        self._names: dict[str, set[str]] = {name: set() for name in _NAMES}
        self._is_met: dict[str, bool] = {}

    def add(self, points: pa.Table, marks: dict[str, npt.NDArray[np.bool_]]) -> None:
        if not points.num_rows:
            return
        self.n_points += points.num_rows
        times = pc.min_max(points["mjd_mid"]).as_py()
        self._times = [min([*self._times, times["min"]]), max([*self._times, times["max"]])]
        for name, known in self._names.items():
            known.update(map(str, pc.unique(points[name]).to_pylist()))
        for choice, mark in marks.items():
            self._is_met[choice] = self._is_met.get(choice, False) or bool(mark.any())

    def __str__(self) -> str:
        """Return what there is, and which choice excludes it, to follow "it has"."""
        bands, cameras = (", ".join(sorted(known)) for known in self._names.values())
        unmet = [choice for choice, is_met in self._is_met.items() if not is_met]
        by = " and ".join(unmet) if unmet else f"{' and '.join(self._is_met)} together"
        return (
            f"{self.n_points} from MJD {self._times[0]:.4f} to {self._times[1]:.4f} in {bands} by {cameras}, all "
            f"excluded by {by}"
        )
