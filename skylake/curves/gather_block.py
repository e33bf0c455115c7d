"""Measurements in rows, as tables have them, made matrices of stars and frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from skylake.curves.curve_block import CurveBlock
from skylake.curves.detrend_block import Stars
from skylake.curves.external_parameters import ExternalParameters

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GatheredBlock:
    """Light curves of stars that share frames, with what :func:`skylake.curves.detrend_block.detrend_block` needs.

    Attributes
    ----------
    star_id : ndarray of int64, shape (n_stars,)
        In ascending order.
    frame_id : ndarray of int64, shape (n_frames,)
        In the order of time.
    curves : CurveBlock
    parameters : ExternalParameters
    stars : Stars
    """

    star_id: Integers
    frame_id: Integers
    curves: CurveBlock
    parameters: ExternalParameters
    stars: Stars


def gather_block(
    columns: Mapping[str, npt.NDArray[np.generic]],
    frames: Mapping[str, npt.NDArray[np.generic]] | None = None,
) -> GatheredBlock:
    """Put measurements of stars of a camera and band into matrices.

    These have a place for each star on each frame, so give stars of one field, not of half the sky.

    Parameters
    ----------
    columns : mapping of str to array_like, shape (n,), or DataFrame
        ``star_id``, ``frame_id``, ``mjd_mid``, ``mag``, ``mag_err`` (random errors), ``x_px`` and ``y_px`` of each
        measurement, in any order; leave out those that are not good. ``colour`` if it is known, and attributes of
        :class:`ExternalParameters` that each measurement has of its own. NaN is no value.
    frames : mapping of str to array_like, shape (n_frames,), or DataFrame
        ``frame_id``, and attributes of :class:`ExternalParameters` that all stars of a frame share.

    Raises
    ------
    ValueError
        If a star has two measurements on a frame, or `frames` lacks a frame.
    """
    star_id, star = np.unique(np.asarray(columns["star_id"], np.int64), return_inverse=True)
    ids, first, frame = np.unique(
        np.asarray(columns["frame_id"], np.int64), return_index=True, return_inverse=True
    )
    time = np.asarray(columns["mjd_mid"], float)[first]
    order = np.argsort(time, kind="stable")
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    cell = star * len(ids) + place[frame]
    if len(np.unique(cell)) < len(cell):
        raise ValueError("a star has two measurements on a frame: give those of one camera and band")

    def matrix(name: str) -> Floats:
        values = np.full(len(star_id) * len(ids), np.nan)
        values[cell] = np.asarray(columns[name], float)
        return values.reshape(len(star_id), len(ids))

    curves = CurveBlock(time[order], matrix("mag"), matrix("mag_err"))
    known: dict[str, Floats] = {} if frames is None else _of_frames(frames, ids[order])
    known |= {one.name: matrix(one.name) for one in fields(ExternalParameters) if one.name in columns}
    middles = {name: _mean(known[name]) for name in ("x_px", "y_px")}
    colour = _mean(matrix("colour")) if "colour" in columns else None
    return GatheredBlock(
        star_id,
        ids[order],
        curves,
        ExternalParameters(**known),
        Stars(middles["x_px"], middles["y_px"], colour),
    )


def _of_frames(frames: Mapping[str, npt.ArrayLike], wanted: Integers) -> dict[str, Floats]:
    """Return what all stars of a frame share, in the order of the frames."""
    if "frame_id" not in frames:
        return {}
    ids = np.asarray(frames["frame_id"], np.int64)
    order = np.argsort(ids)
    at = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)] if len(ids) else order
    if len(ids) == 0 or not np.array_equal(ids[at], wanted):
        raise ValueError("a measurement is of a frame that is not among the frames")
    names = [one.name for one in fields(ExternalParameters) if one.name in frames]
    return {name: np.asarray(frames[name], float)[at] for name in names}


def _mean(values: Floats) -> Floats:
    """Return the mean of the finite values of each star, NaN without any."""
    known = np.isfinite(values)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan)
