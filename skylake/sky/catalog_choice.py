"""Which reference catalog is the best to calibrate a camera with, judged by what its frames saw.

Catalogs differ in bands, depth, saturation and coverage. All of it comes down to one number: the error that zeropoints
would have. In the fields of some frames the stars are counted that a frame shows well enough, and that the catalog has
with a magnitude in the band, as a column or by a transformation, and with a colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from skylake.core.bands import colour_column, mag_column
from skylake.core.camera import Calibration, FilterBand
from skylake.core.magnitude_sources import colour_sources, magnitude_source, read_colour
from skylake.sky.lake_catalogs import ReferenceCatalog

Floats = npt.NDArray[np.float64]

#: So many of the sources of a frame are looked at, in a part of its field; in one wider than this fewer will do.
_SOURCES, _FEW_SOURCES, _WIDE_DEG = 300.0, 40.0, 5.0
#: Stars per square degree of all the sky brighter than magnitude 6, and by how much their logarithm grows per
#: magnitude (0.12 at 6, 8 at 10, 1000 at 15). Stars fainter by the last number than a frame shows are not read: fields
#: have less than a hundredth of the mean nowhere.
_DENSITY, _GROWTH, _SPARE_MAG = 0.12, 0.44, 6.0
#: Stars that are measured well enough are so much brighter than the faintest that are found: from S/N 5 to 20.
_BRIGHTER_MAG = 1.5
#: What stars of a catalog scatter beyond their errors, and by how much published transformations are off as a whole.
_FLOOR_MAG, _OFFSET_MAG = 0.02, 0.02
#: Error of a zeropoint that cannot be had, magnitudes.
NONE_MAG = 1.0


@dataclass(frozen=True, slots=True)
class FieldOfFrame:
    """What one frame saw.

    Attributes
    ----------
    ra_deg, dec_deg, radius_deg : float
        Its centre, and the radius of a circle of the same area.
    n_sources, n_saturated : int
        How many sources it shows, and how many of them are saturated.
    band : FilterBand
    """

    ra_deg: float
    dec_deg: float
    radius_deg: float
    n_sources: int
    n_saturated: int
    band: FilterBand

    @property
    def cone_deg(self) -> float:
        """Radius of the part of the field that is looked at."""
        usual, least = (
            self.radius_deg * min(math.sqrt(count / max(self.n_sources, 1)), 1.0)
            for count in (_SOURCES, _FEW_SOURCES)
        )
        return max(min(usual, _WIDE_DEG), least)

    @property
    def faintest_mag(self) -> float:
        """A magnitude that is surely fainter than what it shows."""
        density = max(self.n_sources, 1) / (math.pi * self.radius_deg**2)
        return 6.0 + math.log10(density / _DENSITY) / _GROWTH + _SPARE_MAG

    @property
    def share(self) -> float:
        """Area of that part as a fraction of the frame's."""
        return (self.cone_deg / self.radius_deg) ** 2


@dataclass(frozen=True, slots=True)
class Suitability:
    """How well a catalog calibrates a camera.

    Attributes
    ----------
    name : str
        Of the catalog.
    error_mag : float
        Error of a zeropoint that is expected, the mean over the fields; 1 for fields without any.
    n_fields, n_covered : int
        Fields that were looked at, and those with enough stars.
    n_stars : int
        Median of the stars that a frame can be calibrated with.
    how : str
        By which columns or transformations it has the bands; empty if it does not have them.
    """

    name: str
    error_mag: float
    n_fields: int
    n_covered: int
    n_stars: int
    how: str

    @property
    def text(self) -> str:
        """What it is good for, as a part of a sentence."""
        if not self.how:
            return "has not the bands"
        if not self.n_fields:
            return self.how
        return f"{self.how}; {self.n_covered} of {self.n_fields} fields, {self.n_stars} stars a frame"


def rank_catalogs(
    catalogs: Sequence[ReferenceCatalog],
    bands: Sequence[FilterBand],
    fields: Sequence[FieldOfFrame],
    calibration: Calibration,
) -> list[Suitability]:
    """Return how well each catalog calibrates a camera, the best first.

    Parameters
    ----------
    catalogs : sequence of ReferenceCatalog
    bands : sequence of FilterBand
        Those of the camera.
    fields : sequence of FieldOfFrame
        Of some of its frames. Without frames, catalogs are compared by their bands and numbers of stars.
    calibration : Calibration
        Which stars take part.

    Raises
    ------
    CatalogError
        If a file of a catalog is missing or damaged.
    """
    seen = [[_stars(catalog, field, calibration) for catalog in catalogs] for field in fields]
    ranked = []
    for number, catalog in enumerate(catalogs):
        counts, errors = [], []
        for field, found in zip(fields, seen, strict=True):
            count, error = _zeropoint(found[number], _limits(field, found), field, calibration)
            counts.append(count)
            errors.append(error)
        usable = [count for count, error in zip(counts, errors, strict=True) if error < NONE_MAG]
        has = [_how(catalog, band) for band in dict.fromkeys(bands)]
        how = ", ".join(dict.fromkeys(text for text in has if text)) if all(has) else ""
        mean = (
            float(np.mean(errors)) if errors else (NONE_MAG if not how else _OFFSET_MAG * (" from " in how))
        )
        typical = round(float(np.median(usable))) if usable else 0
        ranked.append(Suitability(catalog.name, mean, len(fields), len(usable), typical, how))
    n_rows = {catalog.name: catalog.n_rows for catalog in catalogs}
    return sorted(ranked, key=lambda one: (round(one.error_mag, 4), not one.how, -n_rows[one.name], one.name))


@dataclass(frozen=True, slots=True)
class _Stars:
    """Stars of a catalog in a field; arrays of shape (n,), sorted by magnitude."""

    mag: Floats
    error: Floats
    usable: npt.NDArray[np.bool_]
    is_transformed: bool

    def at_rank(self, rank: float) -> float:
        """Return the magnitude of the star of a rank; infinite if there are fewer."""
        return float(self.mag[math.ceil(rank) - 1]) if 0 < math.ceil(rank) <= self.mag.size else math.inf


def _stars(catalog: ReferenceCatalog, field: FieldOfFrame, calibration: Calibration) -> _Stars | None:
    """Return the stars of a catalog in a field; None if it does not have the band."""
    band = field.band
    source = magnitude_source(band.band, catalog.columns, catalog.survey)
    if source is None:
        return None
    wanted = list(source.columns)
    if band.colour is not None:
        colours = colour_sources(band.colour, catalog.columns, catalog.survey)
        wanted += [
            colour_column(band.colour),
            *(mag_column(name) for one in colours for _, name in one.inputs),
        ]
    columns = [name for name in dict.fromkeys(wanted) if name in catalog.columns]
    bright = pc.field(mag_column(source.inputs[0][1])) < field.faintest_mag
    rows = catalog.cone(field.ra_deg, field.dec_deg, field.cone_deg, columns, bright)

    def read(name: str) -> Floats:
        if name not in rows.column_names:
            return np.full(rows.num_rows, np.nan)
        return np.asarray(rows[name].to_numpy(), float)

    mag, error = source.read(read, calibration.catalog_mag_err)
    usable = (mag >= calibration.mag_range[0]) & (mag <= calibration.mag_range[1]) & np.isfinite(error)
    if band.colour is not None:
        colour = read_colour(band.colour, catalog.columns, catalog.survey, read)
        usable &= (colour >= calibration.colour_range[0]) & (colour <= calibration.colour_range[1])
    order = np.argsort(mag)
    order = order[np.isfinite(mag[order])]
    return _Stars(mag[order], error[order], usable[order], source.transformation is not None)


def _limits(field: FieldOfFrame, found: Sequence[_Stars | None]) -> tuple[float, float]:
    """Return between which magnitudes a frame shows stars well: those of its first and of its last by rank.

    A catalog without the bright stars, or with few stars, has fainter ones at the same rank; so the brightest counts.
    """
    known = [stars for stars in found if stars is not None]
    saturated, seen = field.n_saturated * field.share, field.n_sources * field.share
    faint = min((stars.at_rank(seen) for stars in known), default=math.inf) - _BRIGHTER_MAG
    bright = min((stars.at_rank(saturated) for stars in known), default=-math.inf)
    # Bad pixels may count as saturated too: what leaves no star between the two says nothing.
    says_nothing = saturated < 1.0 or (math.isfinite(faint) and bright >= faint)
    return (-math.inf if says_nothing else bright), faint


def _zeropoint(
    stars: _Stars | None, limits: tuple[float, float], field: FieldOfFrame, calibration: Calibration
) -> tuple[int, float]:
    """Return how many stars a frame can be calibrated with, and the error of its zeropoint."""
    if stars is None:
        return 0, NONE_MAG
    chosen = stars.usable & (stars.mag > limits[0]) & (stars.mag < limits[1])
    count = round(float(chosen.sum()) / field.share)
    if count < max(calibration.min_stars, 1):
        return count, NONE_MAG
    weight = float(np.sum(1.0 / (stars.error[chosen] ** 2 + _FLOOR_MAG**2))) / field.share
    return count, min(math.hypot(weight**-0.5, _OFFSET_MAG * stars.is_transformed), NONE_MAG)


def _how(catalog: ReferenceCatalog, band: FilterBand) -> str:
    """Return by what a catalog has a band and its colour; empty if it does not have them."""
    source = magnitude_source(band.band, catalog.columns, catalog.survey)
    given = band.colour is None or colour_column(band.colour) in catalog.columns
    if source is None or not (
        given or len(colour_sources(str(band.colour), catalog.columns, catalog.survey)) == 2
    ):
        return ""
    transformed = source.transformation
    return band.band if transformed is None else f"{band.band} from {', '.join(transformed.inputs)}"
