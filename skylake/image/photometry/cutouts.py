"""Cutouts of images around sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Cutouts:
    """Squares of 2 reach + 1 pixels around the nearest pixels of n places.

    Attributes
    ----------
    row, column : ndarray of int, shape (n,)
        Their middles.
    reach : int
    shape : tuple of int
        Of the image; what lies outside repeats its edge.
    """

    row: npt.NDArray[np.intp]
    column: npt.NDArray[np.intp]
    reach: int
    shape: tuple[int, int]

    @classmethod
    def around(cls, x: Floats, y: Floats, reach: int, shape: tuple[int, int]) -> Cutouts:
        """Return the squares around places, in 0-based pixels of an image of some shape."""
        row, column = (np.rint(values).astype(np.intp) for values in (y, x))
        return cls(np.clip(row, 0, shape[0] - 1), np.clip(column, 0, shape[1] - 1), reach, shape)

    def cut(self, image: npt.NDArray[Any], wider: int = 0) -> npt.NDArray[Any]:
        """Return the pieces of an image, shape (n, side, side), `wider` pixels larger on each side."""
        row, column = self._pixels(wider)
        row, column = np.clip(row, 0, self.shape[0] - 1), np.clip(column, 0, self.shape[1] - 1)
        return np.asarray(image[row[:, :, None], column[:, None, :]])

    def inside(self) -> Masks:
        """Return which pixels are in the image, shape (n, side, side)."""
        row, column = self._pixels(0)
        in_row, in_column = (row >= 0) & (row < self.shape[0]), (column >= 0) & (column < self.shape[1])
        return np.asarray(in_row[:, :, None] & in_column[:, None, :])

    def foreign(self, segments: npt.NDArray[np.int32], own: npt.NDArray[np.int32], widen: int) -> Masks:
        """Return the pixels of other segments than the own, and those within `widen` pixels that are of none."""
        numbers = self.cut(segments, widen)
        other = (numbers > 0) & (numbers != own[:, None, None])
        size = 2 * self.reach + 1
        rows = np.zeros((len(own), size, numbers.shape[2]), bool)
        for shift in range(2 * widen + 1):
            rows |= other[:, shift : shift + size]
        near = np.zeros((len(own), size, size), bool)
        for shift in range(2 * widen + 1):
            near |= rows[:, :, shift : shift + size]
        inner = slice(widen, widen + size)
        return np.asarray(other[:, inner, inner] | (near & (numbers[:, inner, inner] == 0)))

    def _pixels(self, wider: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        offset = np.arange(-self.reach - wider, self.reach + wider + 1)
        return self.row[:, None] + offset, self.column[:, None] + offset
