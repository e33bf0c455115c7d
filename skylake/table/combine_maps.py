"""Maps from map sums: added up over nights, bands and cameras, then divided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MapKind:
    """A map that can be made: its unit, a label for people, and its UCD."""

    unit: str
    label: str


#: Maps by name.
MAPS: dict[str, MapKind] = {
    "visits": MapKind("", "visits [frames]"),
    "exposure": MapKind("s", "exposure [s]"),
    "matches": MapKind("", "matches"),
    "residual": MapKind("mag", "zeropoint residual [mag]"),
    "residual_err": MapKind("mag", "error of the zeropoint residual [mag]"),
    "limit": MapKind("mag", "limiting magnitude at S/N 5 [mag]"),
    "half_limit": MapKind("mag", "magnitude of half the completeness [mag]"),
    "completeness": MapKind("", "share of bright stars that is found"),
}


#: Maps that are a mean: their sum, and the number that it is divided by.
_MEANS = {
    "limit": ("limit_sum", "n_limits"),
    "half_limit": ("half_limit_sum", "n_completeness"),
    "completeness": ("completeness_sum", "n_completeness"),
}


@dataclass(frozen=True, slots=True)
class SkyMap:
    """Values of NESTED pixels of one order."""

    order: int
    pixels: npt.NDArray[np.int64]
    values: Floats

    def full(self) -> Floats:
        """Return the map of the whole sky, NaN where there is no value; shape (12 * 4**order,)."""
        sky = np.full(12 * 4**self.order, np.nan)
        sky[self.pixels] = self.values
        return sky


def combine(rows: pa.Table, name: str) -> SkyMap:
    """Add up rows of ``maps`` of one order and return a map.

    The residual is the weighted mean of catalog minus calibrated magnitude; its error follows from the
    scatter within the pixel, or from the weights where that is larger.

    Raises
    ------
    KeyError
        If there is no map of that name.
    """
    if name not in MAPS:
        raise KeyError(name)
    order = int(rows["healpix_order"][0].as_py()) if rows.num_rows else 0
    pixels, inverse = np.unique(rows["healpix_pixel"].to_numpy(), return_inverse=True)

    def total(column: str) -> Floats:
        # Rows that an earlier skylake made tell nothing of what came later.
        values = pc.fill_null(rows[column], 0).to_numpy().astype(float)
        return np.asarray(np.bincount(inverse, values, len(pixels)), float)

    with np.errstate(divide="ignore", invalid="ignore"):
        if name in ("visits", "matches"):
            values = total(f"n_{name}")
        elif name == "exposure":
            values = total("exposure_s")
        elif name in _MEANS:
            amount, number = (total(column) for column in _MEANS[name])
            values = np.where(number > 0, amount / number, np.nan)
        else:
            weight, count = total("weight_sum"), total("n_matches")
            mean = total("residual_sum") / weight
            variance = total("residual_square_sum") / weight - mean**2
            scatter = np.sqrt(np.maximum(variance, 0.0) / np.maximum(count - 1, 1))
            values = mean if name == "residual" else np.maximum(scatter, np.sqrt(1.0 / weight))
            values = np.where(count > 0, values, np.nan)
    seen = np.isfinite(values) & ((values != 0) | (name not in ("visits", "exposure", "matches")))
    return SkyMap(order, pixels[seen], values[seen])
