"""Astrometric residuals of a frame over the image: in square cells and in rings."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

#: Cells along the longer side of the image.
_CELLS = 8
#: Rings of equal width about the middle of the image, out to its corners.
RINGS = 4
#: Digits that are kept of a residual in pixels.
_DIGITS = 4


@dataclass(frozen=True, slots=True)
class ResidualField:
    """Mean residuals, measured minus predicted, in square cells of an image.

    Attributes
    ----------
    dx, dy : ndarray, shape (rows, columns)
        Pixels; the first row is that of the first pixels. NaN in cells without a star.
    number : ndarray of int, shape (rows, columns)
        Stars behind them.
    """

    dx: Floats
    dy: Floats
    number: Counts

    @classmethod
    def of(
        cls, x: Floats, y: Floats, residuals: Floats, weights: Floats, shape: tuple[int, int]
    ) -> ResidualField:
        """Return the weighted means of residuals, shape (2, n), of stars at 0-based pixels."""
        side = max(shape) / _CELLS
        rows, columns = (max(1, round(length / side)) for length in shape)
        row = np.clip(((y + 0.5) * rows / shape[0]).astype(int), 0, rows - 1)
        column = np.clip(((x + 0.5) * columns / shape[1]).astype(int), 0, columns - 1)
        cell = row * columns + column
        total = np.bincount(cell, weights, minlength=rows * columns)
        # Cells that the lens does not show have no residual and no weight.
        sums = [
            np.bincount(cell, weights * np.nan_to_num(values), minlength=rows * columns)
            for values in residuals
        ]
        number = np.bincount(cell[weights > 0.0], minlength=rows * columns)
        dx, dy = (_mean(values, total).reshape(rows, columns) for values in sums)
        return cls(dx, dy, number.reshape(rows, columns))

    @classmethod
    def of_text(cls, text: str) -> ResidualField:
        """Return the field that :meth:`text` wrote.

        Raises
        ------
        ValueError
            If it is the text of no field.
        """
        try:
            content = json.loads(text)
            shape = content["rows"], content["columns"]
            dx, dy = (np.array(content[name], float).reshape(shape) for name in ("dx_px", "dy_px"))
            return cls(dx, dy, np.array(content["n"], np.int64).reshape(shape))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{text[:80]!r} is no field of residuals") from error

    @classmethod
    def together(cls, fields: Sequence[ResidualField]) -> ResidualField:
        """Return the mean of the fields of frames of one size: each star counts alike.

        Raises
        ------
        ValueError
            If there is none, or if they differ in shape.
        """
        if len({one.number.shape for one in fields}) != 1:
            raise ValueError("fields of residuals are averaged over images of one shape")
        number = np.sum([one.number for one in fields], axis=0)
        sums = [
            np.nansum([getattr(one, name) * one.number for one in fields], axis=0) for name in ("dx", "dy")
        ]
        dx, dy = (_mean(one, number) for one in sums)
        return cls(dx, dy, number)

    def text(self) -> str:
        """Return the field as JSON of one line: rows, columns, and lists by rows; null in cells without a star."""
        rows, columns = self.number.shape
        content = {"rows": rows, "columns": columns, "n": self.number.ravel().tolist()}
        return json.dumps(
            content | {"dx_px": _listed(self.dx), "dy_px": _listed(self.dy)}, separators=(",", ":")
        )


def rings(
    x: Floats, y: Floats, residuals: Floats, weights: Floats, shape: tuple[int, int]
) -> dict[str, float]:
    """Return what is left in rings about the middle of the image, as columns of ``frames``; NaN without a star.

    ``astrom_rms_ringN_px`` is the root mean square distance of all stars in a ring from their prediction;
    ``astrom_radial_ringN_px`` the mean residual away from the middle under the weights of the fit.
    """
    from_middle = np.array([x - 0.5 * (shape[1] - 1), y - 0.5 * (shape[0] - 1)])
    radius = np.hypot(*from_middle)
    ring = np.minimum((RINGS * radius / (0.5 * math.hypot(*shape))).astype(int), RINGS - 1)
    outward = np.sum(residuals * from_middle, axis=0) / np.maximum(radius, 1.0)
    seen = np.isfinite(outward)
    ring, outward, weights = ring[seen], outward[seen], weights[seen]

    def mean(values: Floats, share: Floats) -> Floats:
        return _mean(np.bincount(ring, share * values, RINGS), np.bincount(ring, share, RINGS))

    squares = mean(np.sum(residuals[:, seen] ** 2, axis=0), np.ones(len(ring)))
    columns: dict[str, float] = {}
    for number, (square, radial) in enumerate(zip(squares, mean(outward, weights), strict=True), 1):
        columns[f"astrom_rms_ring{number}_px"] = float(np.sqrt(square))
        columns[f"astrom_radial_ring{number}_px"] = float(radial)
    return columns


def _mean(total: npt.NDArray[Any], weight: npt.NDArray[Any]) -> Floats:
    return np.where(weight > 0.0, total / np.where(weight > 0.0, weight, 1.0), np.nan)


def _listed(values: Floats) -> list[float | None]:
    return [round(value, _DIGITS) if math.isfinite(value) else None for value in values.ravel().tolist()]
