"""Variation of growth curves over the field: polynomials of an order that cross-validation chooses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: A polynomial of an order needs so many stars for each of its terms.
_STARS_PER_TERM = 5
_MAX_ORDER = 2
#: Parts into which stars are divided; each is predicted from the others.
_FOLDS = 5
#: Deviations beyond so many standard deviations count no more than that.
_CAP = 3.0
#: A polynomial must predict better than the mean by so many standard errors.
_SIGNIFICANT = 3.0


@dataclass(frozen=True, slots=True)
class FieldPlace:
    """Places in the field, -1 to 1 between the edges of the image, and the box in which they are known.

    Attributes
    ----------
    u, v : ndarray, shape (n,)
    shape : tuple of int
        Height and width of the image, pixels.
    """

    u: Floats
    v: Floats
    shape: tuple[int, ...]

    @classmethod
    def of(cls, x: Floats, y: Floats, shape: tuple[int, ...]) -> FieldPlace:
        """Return places given as 0-based pixels."""
        height, width = shape[0], shape[1]
        return cls((2.0 * x + 1.0) / width - 1.0, (2.0 * y + 1.0) / height - 1.0, shape)

    def design(self, order: int) -> Floats:
        """Return the terms 1, u, v, u^2, uv, v^2 up to an order, shape (n, terms)."""
        u, v = self.u, self.v
        terms = [np.ones_like(u), u, v, u * u, u * v, v * v]
        return np.column_stack(terms[: _terms(order)])

    def held(self, x: Floats, y: Floats) -> FieldPlace:
        """Return other places of the image, moved into the box that these span."""
        other = FieldPlace.of(x, y, self.shape)
        u, v = (np.clip(new, old.min(), old.max()) for new, old in ((other.u, self.u), (other.v, self.v)))
        return FieldPlace(u, v, self.shape)


@dataclass(frozen=True, slots=True)
class FieldTerms:
    """Factors to total flux as quotients of polynomials.

    Attributes
    ----------
    place : FieldPlace
        Where they are known.
    order : int
    parts : dict of str to (ndarray, ndarray), each of shape (terms,)
        Coefficients of the total flux and of the flux in a column, in the same unit.
    """

    place: FieldPlace
    order: int
    parts: dict[str, tuple[Floats, Floats]]

    def factors(self, name: str, x: Floats, y: Floats) -> Floats:
        """Return the factor of a column at places; beyond the outermost stars, that at their edge."""
        design = self.place.held(x, y).design(self.order)
        total, held = self.parts[name]
        return np.asarray((design @ total) / (design @ held))


def _terms(order: int) -> int:
    return (order + 1) * (order + 2) // 2


def choose_order(place: FieldPlace, values: Floats, spread: Floats) -> int:
    """Return the order of the polynomial that predicts stars which it has not seen best; 0 unless that is significant.

    Parameters
    ----------
    place : FieldPlace
        Of n stars.
    values, spread : ndarray, shape (rings, n)
        What is to be predicted, and its standard deviations; infinite where a value is unknown.
    """
    n = values.shape[1]
    constant = _losses(place.design(0), values, spread)
    best, order = float(constant.mean()), 0
    for candidate in range(1, _MAX_ORDER + 1):
        if n < _STARS_PER_TERM * _terms(candidate):
            break
        losses = _losses(place.design(candidate), values, spread)
        gain = constant - losses
        significant = gain.mean() > _SIGNIFICANT * gain.std(ddof=1) / np.sqrt(n)
        if significant and losses.mean() < best:
            best, order = float(losses.mean()), candidate
    return order


def _losses(design: Floats, values: Floats, spread: Floats) -> Floats:
    """Return, of each star, the sum over rings of the capped squares of its deviations from the others' polynomial."""
    n = values.shape[1]
    fold = np.arange(n) % min(_FOLDS, n)
    weight = np.where(np.isfinite(spread), 1.0 / spread**2, 0.0)
    middle = np.median(values, axis=1, keepdims=True)
    # What is far off the middle is no star alone, and may not lead.
    weight = np.where(np.abs(values - middle) > 2.0 * _CAP * spread, 0.0, weight)
    losses, pairs = np.zeros(n), design[:, :, None] * design[:, None, :]
    for part in range(int(fold.max()) + 1):
        seen, unseen = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        left = np.tensordot(weight[:, seen], pairs[seen], axes=1)
        right = (weight[:, seen] * values[:, seen]) @ design[seen]
        coefficients = np.einsum("rij,rj->ri", np.linalg.pinv(left, hermitian=True), right)
        deviation = (values[:, unseen] - coefficients @ design[unseen].T) / spread[:, unseen]
        losses[unseen] = np.minimum(deviation**2, _CAP**2).sum(axis=0)
    return losses
