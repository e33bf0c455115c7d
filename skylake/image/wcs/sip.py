"""SIP headers: a lens as a zenithal projection with SIP polynomials.

SIP (Shupe et al. 2005, ASP Conf. 347, 491) adds polynomials to pixels before a linear WCS. Fitted to stars, such
polynomials of high order run away between them; fitted to a lens that is known everywhere they are a small linear
problem, as exact as their order allows. Pixels of FITS count from 1: the centre of the first pixel is 1, its edge 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from skylake.core.sphere import ra_dec, tangent_basis
from skylake.image.wcs.projections import PROJECTIONS, LensProjection

Floats = npt.NDArray[np.float64]

#: SIP allows no more.
MAX_ORDER = 9
#: Points along each side of the image at which polynomials follow the lens, the densest at the edges, and along the
#: rim of what it shows; and those at which polynomials are judged.
_POINTS, _RIM_POINTS = 20, 90
_JUDGED, _RIM, _RINGS = 41, 401, 13
#: The rim is sought by so many halvings.
_HALVINGS = 18
#: To this angle from its centre a gnomonic projection is no hindrance, and all programs read it.
_PLANE_RAD = math.radians(50.0)
#: Beyond this angle it is not tried.
_WIDEST_PLANE_RAD = math.radians(70.0)
#: Of the image the lens must show that much for a polynomial.
_LEAST_SHOWN = 0.1


class Imaging(Protocol):
    """What shows ICRS directions in pixels: a :class:`~skylake.image.wcs.lens.Lens`, or a view of the sky."""

    @property
    def x0(self) -> float:
        """The pixel of the optical axis, 0-based."""

    @property
    def y0(self) -> float:
        """The pixel of the optical axis, 0-based."""

    @property
    def axis(self) -> Floats:
        """The direction of the optical axis, shape (3,)."""

    @property
    def projection(self) -> str:
        """The ideal lens that is near."""

    def to_vectors(self, x: npt.ArrayLike, y: npt.ArrayLike) -> Floats:
        """Return the directions of pixels, shape (..., 3); NaN where nothing is shown."""


@dataclass(frozen=True, slots=True)
class SipHeader:
    """A WCS and how well it represents the lens.

    Attributes
    ----------
    header : astropy.io.fits.Header
        Only the cards of the WCS.
    order : int
        Of the polynomials; 1 for none.
    residual_px : float
        Largest distance between where the lens and where the WCS puts a pixel on the sky, in pixels, at places that
        the fit did not know: all over the image, and along the rim of what the lens shows.
    inverse_px : float
        Largest distance of pixels from where the inverse polynomials put their positions, in pixels; at the same ones.
    """

    header: Any
    order: int
    residual_px: float
    inverse_px: float


def to_sip(
    lens: Imaging, shape: tuple[int, int], tolerance_px: float = 0.01, order: int | None = None
) -> SipHeader:
    """Return the WCS of a lens whose directions are ICRS.

    Parameters
    ----------
    lens : Lens or SkyView
    shape : tuple of int
        Height and width of the image.
    tolerance_px : float
        The smallest order that comes nearer than this everywhere is taken; else the best.
    order : int, optional
        Take this one instead, 1 to 9.

    Raises
    ------
    ValueError
        If the lens shows hardly any of the image.
    """
    kinds = _kinds(lens, shape)
    judged = _judged(lens, shape)
    trials = [_SipTrial.of(lens, shape, kind, judged) for kind in kinds]
    orders = range(1, MAX_ORDER + 1) if order is None else (order,)
    best: tuple[float, _SipTrial, _Polynomials] | None = None
    for number in orders:
        for trial in trials:
            polynomials = trial.fitted(number)
            worst = max(polynomials.residual, polynomials.inverse_residual)
            if best is None or worst < best[0]:
                best = worst, trial, polynomials
        if best is not None and best[0] <= tolerance_px:
            break
    assert best is not None
    _, trial, polynomials = best
    return SipHeader(
        trial.header(polynomials), polynomials.order, polynomials.residual, polynomials.inverse_residual
    )


def _kinds(lens: Imaging, shape: tuple[int, int]) -> list[LensProjection]:
    """Return the projections to try, the most widely read first."""
    x, y = _grid(shape)
    vectors = lens.to_vectors(x, y)
    shown = np.isfinite(vectors).all(axis=1)
    if shown.mean() < _LEAST_SHOWN:
        raise ValueError("the lens shows hardly any of the image")
    widest = float(np.arccos(np.clip(np.min(vectors[shown] @ lens.axis), -1.0, 1.0)))
    plane, own = PROJECTIONS["rectilinear"], PROJECTIONS[lens.projection]
    if widest <= _PLANE_RAD:
        return [plane]
    # SIN shows nothing beyond ninety degrees, and little just before.
    wide = [PROJECTIONS[name] for name in ("equidistant", "equisolid", "stereographic")]
    kinds = [own, *(kind for kind in wide if kind is not own)] if own in wide else wide
    return [plane, *kinds] if widest <= _WIDEST_PLANE_RAD else kinds


def _grid(shape: tuple[int, int]) -> tuple[Floats, Floats]:
    """Return 0-based places all over the image, edges included, dense there as polynomials need it (Chebyshev)."""
    node = 0.5 - 0.5 * np.cos(np.pi * np.arange(_POINTS) / (_POINTS - 1))
    y, x = np.meshgrid(node * shape[0] - 0.5, node * shape[1] - 0.5, indexing="ij")
    return x.ravel(), y.ravel()


def _judged(lens: Imaging, shape: tuple[int, int]) -> Floats:
    """Return places all over the image, along the rim of what the lens shows, and on its near side; shape (2, n)."""
    y, x = np.meshgrid(*(np.linspace(-0.5, n - 0.5, _JUDGED) for n in shape), indexing="ij")
    rim, within = _rim(lens, shape, _RIM)
    # There polynomials of a high order swing fastest.
    share = 1.0 - 0.4 * np.linspace(0.0, 1.0, _RINGS)[1:] ** 2
    middle = _middle(lens, shape)
    near = middle[..., None] + (rim[:, within] - middle)[..., None] * share
    return np.concatenate([[x.ravel(), y.ravel()], rim, near.reshape(2, -1)], axis=1)


def _middle(lens: Imaging, shape: tuple[int, int]) -> Floats:
    """Return the place on the image that is nearest to the optical axis, shape (2, 1)."""
    return np.clip([[lens.x0], [lens.y0]], 0.0, [[shape[1] - 1.0], [shape[0] - 1.0]])


def _rim(lens: Imaging, shape: tuple[int, int], number: int) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return where rays from the middle leave what the lens shows, shape (2, n), and which do so within the image."""
    height, width = shape
    turn = 2.0 * np.pi * np.arange(number) / number
    rays = np.array([np.cos(turn), np.sin(turn)])
    middle = _middle(lens, shape)
    room = np.where(rays > 0.0, np.array([[width - 0.5], [height - 0.5]]) - middle, middle + 0.5)
    with np.errstate(divide="ignore"):
        far = np.min(room / np.abs(rays), axis=0)
    within = np.isnan(np.sum(lens.to_vectors(*(middle + far * rays)), axis=-1))
    inner, outer = np.where(within, 0.0, far), far
    for _ in range(_HALVINGS if within.any() else 0):
        half = 0.5 * (inner + outer)
        seen = np.isfinite(lens.to_vectors(*(middle + half * rays))).all(axis=-1)
        inner, outer = np.where(seen, half, inner), np.where(seen, outer, half)
    return middle + inner * rays, within


@dataclass(frozen=True, slots=True)
class _Polynomials:
    """A matrix (degrees per pixel), and the terms of SIP by their powers: for u and v, and for the way back."""

    order: int
    matrix: Floats
    powers: list[tuple[int, int]]
    forward: Floats
    inverse_powers: list[tuple[int, int]]
    inverse: Floats
    residual: float
    inverse_residual: float


@dataclass(frozen=True, slots=True)
class _SipTrial:
    """Pixels about a reference pixel, and where they are in a plane about its direction (degrees)."""

    kind: LensProjection
    reference: tuple[float, float]
    direction: Floats
    scale: float
    pixels: Floats
    plane: Floats
    judged_pixels: Floats
    judged_plane: Floats

    @classmethod
    def of(cls, lens: Imaging, shape: tuple[int, int], kind: LensProjection, judged: Floats) -> _SipTrial:
        """Project directions all over the image, and at places where polynomials are judged, shape (2, n)."""
        x0, y0 = lens.x0, lens.y0
        if not (0.0 <= x0 <= shape[1] - 1.0 and 0.0 <= y0 <= shape[0] - 1.0):
            x0, y0 = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
        direction = lens.to_vectors(x0, y0)
        ra, dec = ra_dec(direction)
        east, north = tangent_basis(ra, dec)
        both = []
        rim, within = _rim(lens, shape, _RIM_POINTS)
        for x, y in (np.concatenate([_grid(shape), rim[:, within]], axis=1), judged):
            vectors = lens.to_vectors(x, y)
            across, upward, depth = vectors @ east, vectors @ north, vectors @ direction
            sine = np.hypot(across, upward)
            shown = np.isfinite(depth) & (depth > math.cos(kind.limit))
            ratio = kind.spread(sine[shown], depth[shown])[0]
            plane = np.degrees(ratio * np.array([across[shown], upward[shown]]))
            both += [np.array([x[shown] - x0, y[shown] - y0]), plane]
        return cls(kind, (x0, y0), direction, 0.5 * max(shape), *both)

    def fitted(self, order: int) -> _Polynomials:
        """Fit polynomials of an order both ways."""
        powers = [(p, n - p) for n in range(1, order + 1) for p in range(n, -1, -1)]
        # In units of half of the image all terms are alike.
        design = _terms(self.pixels / self.scale, powers)
        solution = _solved(design, self.plane.T)
        units = self.scale ** -np.array([p + q for p, q in powers], float)
        coefficients = solution.T * units
        matrix = coefficients[:, :2]
        places = self.judged_pixels / self.scale
        missed = self.judged_plane - (_terms(places, powers) @ solution).T
        # Towards the rim a plane of another kind than the lens is of another scale than in the middle.
        local = np.stack([_slopes(places, powers, axis) @ solution for axis in (0, 1)], axis=-1) / self.scale
        off = np.linalg.solve(local, missed.T[..., None])[..., 0].T
        forward = np.asarray(np.linalg.solve(matrix, coefficients[:, 2:]), float)
        inverse_powers = [(0, 0), *powers] if order > 1 else []
        inverse, back = self._undone(matrix, inverse_powers)
        residual = float(np.hypot(*off).max())
        return _Polynomials(
            order,
            matrix,
            powers[2:],
            forward,
            inverse_powers,
            inverse,
            residual,
            residual if order == 1 else back,
        )

    def _undone(self, matrix: Floats, powers: list[tuple[int, int]]) -> tuple[Floats, float]:
        """Fit the polynomials that lead back to pixels; return them and how far off they are."""
        if not powers:
            return np.zeros((2, 0)), 0.0
        linear = np.asarray(np.linalg.solve(matrix, self.plane), float)
        solution = _solved(_terms(linear / self.scale, powers), (self.pixels - linear).T)
        judged = np.asarray(np.linalg.solve(matrix, self.judged_plane), float)
        off = self.judged_pixels - judged - (_terms(judged / self.scale, powers) @ solution).T
        units = self.scale ** -np.array([p + q for p, q in powers], float)
        return np.asarray(solution.T * units), float(np.hypot(*off).max())

    def header(self, polynomials: _Polynomials) -> Any:
        """Return the cards of polynomials about the reference."""
        from astropy.io import fits

        suffix = "-SIP" if polynomials.order > 1 else ""
        ra, dec = ra_dec(self.direction)
        cards: list[tuple[str, Any]] = [
            ("WCSAXES", 2),
            ("CTYPE1", f"RA---{self.kind.code}{suffix}"),
            ("CTYPE2", f"DEC--{self.kind.code}{suffix}"),
            ("CUNIT1", "deg"),
            ("CUNIT2", "deg"),
            ("CRVAL1", float(ra)),
            ("CRVAL2", float(dec)),
            ("CRPIX1", self.reference[0] + 1.0),
            ("CRPIX2", self.reference[1] + 1.0),
        ]
        cards += [(f"CD{i + 1}_{j + 1}", float(polynomials.matrix[i, j])) for i in (0, 1) for j in (0, 1)]
        # At the poles the default is another.
        cards += [("LONPOLE", 180.0), ("RADESYS", "ICRS")]
        if polynomials.order > 1:
            for names, powers, terms in (
                (("A", "B"), polynomials.powers, polynomials.forward),
                (("AP", "BP"), polynomials.inverse_powers, polynomials.inverse),
            ):
                for name, values in zip(names, terms, strict=True):
                    cards.append((f"{name}_ORDER", polynomials.order))
                    cards += [
                        (f"{name}_{p}_{q}", float(value))
                        for (p, q), value in zip(powers, values, strict=True)
                    ]
        # All at once: a header looks at all its cards for each that is added.
        return fits.Header(cards)


def _terms(places: Floats, powers: list[tuple[int, int]]) -> Floats:
    """Return the products of powers of two coordinates, shape (n, terms)."""
    most = max((max(power) for power in powers), default=0)
    # Products of products: a power for each term would take ten times as long.
    u, v = (np.cumprod(np.vstack([np.ones_like(axis), np.tile(axis, (most, 1))]), axis=0) for axis in places)
    return np.column_stack([u[p] * v[q] for p, q in powers])


def _slopes(places: Floats, powers: list[tuple[int, int]], axis: int) -> Floats:
    """Return the derivatives of such products with one of the coordinates, shape (n, terms)."""
    factors = np.array([power[axis] for power in powers], float)
    step = np.array([axis == 0, axis == 1], int)
    lower = [(max(p - step[0], 0), max(q - step[1], 0)) for p, q in powers]
    return np.asarray(_terms(places, lower) * factors)


def _solved(design: Floats, values: Floats) -> Floats:
    """Return the least squares, by orthogonal columns."""
    columns, triangle = np.linalg.qr(design)
    return np.asarray(np.linalg.solve(triangle, columns.T @ values), float)
