"""Transformations of magnitudes between photometric systems, with errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Term:
    """A polynomial in a colour, without its constant.

    Attributes
    ----------
    blue, red : str
        The colour is the magnitude in the first band minus that in the second.
    coefficients : tuple of float
        Of the colour, its square, its cube …
    valid : (float, float)
        Colours for which the relation holds, magnitudes; both ends belong to it.
    """

    blue: str
    red: str
    coefficients: tuple[float, ...]
    valid: tuple[float, float]

    @property
    def colour(self) -> str:
        """Name of the colour."""
        return f"{self.blue}-{self.red}"

    def value(self, colour: Floats) -> Floats:
        """Return the polynomial at colours; shape as given."""
        return np.asarray(np.polynomial.polynomial.polyval(colour, (0.0, *self.coefficients)))

    def slope(self, colour: Floats) -> Floats:
        """Return its derivative at colours; shape as given."""
        steps = tuple(power * factor for power, factor in enumerate(self.coefficients, 1))
        return np.asarray(np.polynomial.polynomial.polyval(colour, steps))


@dataclass(frozen=True, slots=True)
class Relation:
    """A published relation: target = base + constant + terms in colours.

    Attributes
    ----------
    target, base : str
        Bands.
    constant : float
        Magnitudes.
    terms : tuple of Term
    scatter : float
        Standard deviation of single stars about the relation, magnitudes.
    source : str
        Paper, and equation or table in it.
    """

    target: str
    base: str
    constant: float
    terms: tuple[Term, ...]
    scatter: float
    source: str

    @property
    def inputs(self) -> tuple[str, ...]:
        """The bands that it needs, each once, the base first."""
        bands = [self.base, *(band for term in self.terms for band in (term.blue, term.red))]
        return tuple(dict.fromkeys(bands))

    @property
    def form(self) -> tuple[str, ...]:
        """What pieces of one relation share that hold for different colours."""
        return self.target, self.base, self.source, *(term.colour for term in self.terms)

    def apply(self, magnitudes: Mapping[str, Floats], errors: Mapping[str, Floats]) -> tuple[Floats, Floats]:
        """Return magnitudes in the target band and their errors, as :meth:`Transformation.apply` does."""
        value = magnitudes[self.base] + self.constant
        slopes = {band: np.zeros(value.shape) for band in self.inputs}
        slopes[self.base] += 1.0
        for term in self.terms:
            colour = magnitudes[term.blue] - magnitudes[term.red]
            value = np.where(
                (colour >= term.valid[0]) & (colour <= term.valid[1]), value + term.value(colour), np.nan
            )
            slope = term.slope(colour)
            slopes[term.blue] += slope
            slopes[term.red] -= slope
        # A magnitude that is in the colour too counts once, with the sum of its slopes.
        variance = sum(((slope * errors[band]) ** 2 for band, slope in slopes.items()), np.zeros(value.shape))
        error = np.sqrt(variance + self.scatter**2)
        return value, np.where(np.isfinite(value), error, np.nan)


@dataclass(frozen=True, slots=True)
class Transformation:
    """A relation, or pieces of one that hold for different colours, the first of which counts.

    Attributes
    ----------
    target : str
        The band that it gives.
    relations : tuple of Relation
    """

    target: str
    relations: tuple[Relation, ...]

    @property
    def inputs(self) -> tuple[str, ...]:
        """The bands that it needs, the base first."""
        return self.relations[0].inputs

    @property
    def scatter(self) -> float:
        """Largest scatter of its pieces, magnitudes."""
        return max(relation.scatter for relation in self.relations)

    @property
    def description(self) -> str:
        """The bands and the paper, in one line."""
        first = self.relations[0]
        colours = dict.fromkeys(term.colour for term in first.terms)
        return f"{self.target} from {', '.join([first.base, *colours])}: {first.source}"

    def apply(self, magnitudes: Mapping[str, Floats], errors: Mapping[str, Floats]) -> tuple[Floats, Floats]:
        """Return magnitudes in the target band, and their errors.

        Parameters
        ----------
        magnitudes, errors : mapping of str to ndarray, shape (n,)
            Of each of the bands :attr:`inputs`; NaN if unknown. Errors are those of different bands, one sigma, and
            independent.

        Returns
        -------
        magnitude : ndarray, shape (n,)
            NaN where a magnitude is unknown, or a colour outside the range for which the relation holds.
        error : ndarray, shape (n,)
            One sigma: the errors of the magnitudes and of the colour, with what they share, and the scatter of single
            stars about the relation. NaN where the magnitude is, or an error.
        """
        value, error = self.relations[0].apply(magnitudes, errors)
        for relation in self.relations[1:]:
            other, other_error = relation.apply(magnitudes, errors)
            missing = np.isnan(value)
            value, error = np.where(missing, other, value), np.where(missing, other_error, error)
        return value, error
