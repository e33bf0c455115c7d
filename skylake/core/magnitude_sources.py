"""Where the magnitudes of a catalog in a band come from: a column of it, or a transformation of others."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from skylake.core.bands import as_it_is, colour_column, mag_column, survey_band
from skylake.core.published_transformations import transformations_to
from skylake.core.transformations import Transformation

Floats = npt.NDArray[np.float64]
#: Returns a column of a catalog as numbers, NaN where it has none or there is no such column.
Read = Callable[[str], Floats]


@dataclass(frozen=True, slots=True)
class MagnitudeSource:
    """Where a catalog has its magnitudes in a band from.

    Attributes
    ----------
    inputs : tuple of (str, str)
        The bands that are read, with their names in the catalog; that which is closest to the wanted one first.
    transformation : Transformation or None
        What is applied to them; None if the first is taken as it is.
    """

    inputs: tuple[tuple[str, str], ...]
    transformation: Transformation | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [f"{mag_column(name)}{end}" for _, name in self.inputs for end in ("", "_err")]

    def read(self, column: Read, default_error: float) -> tuple[Floats, Floats]:
        """Return magnitudes and their errors, arrays of shape (n,); NaN if unknown.

        Parameters
        ----------
        column : callable
            Gives a column of the catalog.
        default_error : float
            Error of magnitudes where the catalog gives none.
        """
        magnitudes, errors = {}, {}
        for band, name in self.inputs:
            magnitudes[band], stated = column(mag_column(name)), column(f"{mag_column(name)}_err")
            errors[band] = np.where(np.isfinite(stated), stated, default_error)
        if self.transformation is not None:
            return self.transformation.apply(magnitudes, errors)
        band = self.inputs[0][0]
        return magnitudes[band], np.where(np.isfinite(magnitudes[band]), errors[band], np.nan)


def magnitude_source(band: str, columns: Collection[str], survey: str = "") -> MagnitudeSource | None:
    """Return where a catalog has its magnitudes in a band from; None if it has none.

    A column of the band is better than any transformation, and of those the first of the published ones is taken.

    Parameters
    ----------
    band : str
    columns : collection of str
        Those of the catalog.
    survey : str
        The survey in whose system it is, one of :data:`skylake.core.bands.SURVEYS`; empty if unknown.
    """
    names = bands_of(columns)
    plain = as_it_is(band, names, survey)
    if plain is not None:
        return MagnitudeSource(((survey_band(plain, survey), plain),))
    means = {survey_band(name, survey): name for name in names}
    found = transformations_to(band, means.keys())
    return MagnitudeSource(tuple((one, means[one]) for one in found[0].inputs), found[0]) if found else None


def bands_of(columns: Collection[str]) -> list[str]:
    """Return the bands in which a catalog has magnitudes, from its columns."""
    return [
        name.removeprefix("mag_") for name in columns if name.startswith("mag_") and not name.endswith("_err")
    ]


def colour_sources(colour: str, columns: Collection[str], survey: str = "") -> list[MagnitudeSource]:
    """Return where the two magnitudes of a colour come from; fewer where a catalog does not have them."""
    blue, _, red = colour.partition("-")
    found = (magnitude_source(band, columns, survey) for band in (blue, red))
    return [source for source in found if source is not None]


def read_colour(colour: str, columns: Collection[str], survey: str, column: Read) -> Floats:
    """Return a colour as a catalog gives it, else as the difference of two magnitudes; NaN where neither is known.

    Parameters
    ----------
    colour : str
        Such as ``B-V``.
    columns, survey
        As in :func:`magnitude_source`.
    column : callable
        Gives a column of the catalog.
    """
    given = column(colour_column(colour))
    sources = colour_sources(colour, columns, survey)
    if len(sources) < 2:
        return given
    blue, red = (source.read(column, 0.0)[0] for source in sources)
    return np.where(np.isfinite(given), given, blue - red)


def read_colour_error(colour: str, columns: Collection[str], survey: str, column: Read) -> Floats:
    """Return the error of a colour: of its own column, else of its two magnitudes; NaN where a catalog gives neither.

    Parameters
    ----------
    colour, columns, survey, column
        As in :func:`read_colour`.
    """
    given = column(f"{colour_column(colour)}_err")
    sources = colour_sources(colour, columns, survey)
    if len(sources) < 2:
        return given
    blue, red = (source.read(column, np.nan)[1] for source in sources)
    return np.where(np.isfinite(given), given, np.hypot(blue, red))
