"""Point spread function of a camera over a night: many frames give its form, each frame its own width.

A star is drawn in scaled offsets (u, v) = S^-1 (pixel - centre), where the matrix S holds the width and elongation
of one frame. With h = 1 / (1 + u^2 + v^2), the brightness is

    h^2 [ P0(t) + h (u P1c(t) + v P1s(t)) + h ((u^2 - v^2) P2c(t) + 2 u v P2s(t)) + h^2 (... third ... fourth) ]

with polynomials P in t = 2 h - 1: a Moffat profile (1969, A&A 3, 455) of any steepness and what real optics add to
it, angular order by angular order. It is the brightness of whole pixels (Anderson & King 2000, PASP 112, 1360), a
smooth function that is known wherever a star falls between pixels; there are no bins that could be empty. Each
coefficient is a polynomial in the position on the detector. All are found by linear least squares, whose sums over
stars can be added up over frames.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.image.psf.psf_kernels import draw, light_of_terms, star_coefficients
from skylake.image.psf.psf_sum_kernels import star_equations

Floats = npt.NDArray[np.float64]
Single = npt.NDArray[np.float32]

#: Polynomials of each angular order: (order, terms, parts); the round part has no sine.
_ORDERS = ((0, 8, 1), (1, 3, 2), (2, 3, 2), (3, 2, 2), (4, 1, 2))
N_BASIS = sum(terms * parts for _, terms, parts in _ORDERS)
#: Terms of a polynomial of second order in the position: 1, x, y, x^2, x y, y^2.
N_FIELD = 6
_TERMS_OF_ORDER = (1, 3, 6)
#: Stars that are needed before the form may vary over the field linearly, and quadratically.
_STARS_FOR_ORDER = (1, 30, 90)
#: Variation over the field of each coefficient that may be expected, as a share of the round part.
_VARIATIONS = (0.3, 0.1, 0.03, 0.01, 0.003, 0.0003)
#: Logarithms of evidence that differ by less speak for none of two sizes.
_AS_LIKELY = 3.0
#: Each term of a polynomial varies by half as much as the one before: widths vary more than fine detail.
_SHARES = np.concatenate([np.tile(0.5 ** np.arange(terms), parts) for _, terms, parts in _ORDERS])
_RIDGE = 1e-8
#: Exponent of the Moffat profile that stands in where nothing else is known.
_BETA = 3


@dataclass(frozen=True, slots=True)
class Shape:
    """Width and elongation of the stars of one frame: S = width [[1 + plus, cross], [cross, 1 - plus]], pixels."""

    width: float
    plus: float = 0.0
    cross: float = 0.0

    @property
    def matrix(self) -> Floats:
        """From scaled offsets to pixels."""
        return self.width * np.array([[1.0 + self.plus, self.cross], [self.cross, 1.0 - self.plus]])

    @property
    def inverse(self) -> Floats:
        """From pixels to scaled offsets."""
        plus, cross = self.plus, self.cross
        whole = self.width * (1.0 - plus**2 - cross**2)
        return np.array([[1.0 - plus, -cross], [-cross, 1.0 + plus]]) / whole

    @classmethod
    def of_width(cls, fwhm_px: float) -> Shape:
        """Return the round shape of a Moffat profile with a full width."""
        return cls(0.5 * fwhm_px / np.sqrt(2.0 ** (1.0 / _BETA) - 1.0))


@dataclass(frozen=True, slots=True)
class PsfQuality:
    """How well the stars agree with the model.

    Attributes
    ----------
    n_stars, n_frames : int
        Stars, each counted in every frame, and frames behind it.
    field_order : int
        Order of its variation over the field.
    chi2 : float
        Reduced chi-square of the pixels of the stars; NaN where nothing was fitted.
    condition : float
        Condition number of the normal equations.
    """

    n_stars: int = 0
    n_frames: int = 0
    field_order: int = 0
    chi2: float = float("nan")
    condition: float = 1.0


@dataclass(frozen=True, slots=True)
class PsfModel:
    """Form of the point spread function, without the width of a frame.

    Attributes
    ----------
    terms : ndarray, shape (6, 26)
        Coefficients of Chebyshev polynomials, for each term of the polynomial in position.
    size : tuple of int
        Height and width of the image, to which positions are scaled.
    shape : Shape
        Mean of the frames.
    quality : PsfQuality
    """

    terms: Floats
    size: tuple[int, int]
    shape: Shape
    quality: PsfQuality

    @classmethod
    def moffat(cls, fwhm_px: float, size: tuple[int, int]) -> PsfModel:
        """Return a plain Moffat profile that is the same all over the field."""
        terms = np.zeros((N_FIELD, N_BASIS))
        # h^3 = h^2 (1 + t) / 2.
        terms[0, :2] = 0.5
        return cls(terms, size, Shape.of_width(fwhm_px), PsfQuality())

    def to_bytes(self) -> bytes:
        """Return the model as the content of an .npz file."""
        buffer = io.BytesIO()
        quality, shape = self.quality, self.shape
        np.savez(
            buffer,
            terms=self.terms,
            size=np.array(self.size),
            shape=np.array([shape.width, shape.plus, shape.cross]),
            counts=np.array([quality.n_stars, quality.n_frames, quality.field_order]),
            figures=np.array([quality.chi2, quality.condition]),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> PsfModel:
        """Return the model from the content of an .npz file."""
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            height, width = (int(value) for value in held["size"])
            counts, figures = held["counts"], held["figures"]
            quality = PsfQuality(
                int(counts[0]), int(counts[1]), int(counts[2]), float(figures[0]), float(figures[1])
            )
            return cls(held["terms"], (height, width), Shape(*map(float, held["shape"])), quality)


@dataclass(frozen=True, slots=True)
class PsfSums:
    """What the stars of some frames say of the model: sums that add up.

    Attributes
    ----------
    matrix, vector : ndarray, shape (156, 156) and (156,)
        Normal equations.
    square : float
        Weighted sum of the squares of the data.
    n_pixels, n_stars, n_frames : int
    shape : ndarray, shape (3,)
        Sum over frames of width, plus and cross.
    size : tuple of int
        Height and width of the images.
    """

    matrix: Floats
    vector: Floats
    square: float
    n_pixels: int
    n_stars: int
    n_frames: int
    shape: Floats
    size: tuple[int, int]

    def __add__(self, other: PsfSums) -> PsfSums:
        return PsfSums(
            self.matrix + other.matrix,
            self.vector + other.vector,
            self.square + other.square,
            self.n_pixels + other.n_pixels,
            self.n_stars + other.n_stars,
            self.n_frames + other.n_frames,
            self.shape + other.shape,
            self.size,
        )


def sum_stars(
    values: Floats,
    weights: Floats,
    dx: Floats,
    dy: Floats,
    x: Floats,
    y: Floats,
    shape: Shape,
    size: tuple[int, int],
) -> PsfSums:
    """Return the sums of the stars of one frame.

    Parameters
    ----------
    values, weights : ndarray, shape (n, m)
        Pixels of each star divided by its flux, and their inverse variances; 0 where a pixel is of no use.
    dx, dy : ndarray, shape (n, m)
        Offsets of the pixels from the centre of their star.
    x, y : ndarray, shape (n,)
        Positions of the stars.
    shape : Shape
        Of the frame.
    size : tuple of int
        Height and width of the image.
    """
    scale = 1.0 / float(np.linalg.det(shape.matrix))
    given = (np.ascontiguousarray(some, float) for some in (values, weights, dx, dy))
    squares, products = star_equations(*given, shape.inverse, scale)
    field = field_terms(x, y, size)
    n_terms = N_FIELD * N_BASIS
    pairs = (field[:, :, None] * field[:, None, :]).reshape(len(x), -1)
    matrix = pairs.T @ squares.reshape(len(x), -1)
    matrix = (
        matrix.reshape(N_FIELD, N_FIELD, N_BASIS, N_BASIS).transpose(0, 2, 1, 3).reshape(n_terms, n_terms)
    )
    return PsfSums(
        # Rounding makes the halves of a symmetric matrix differ, of which one alone may be kept.
        0.5 * (matrix + matrix.T),
        np.einsum("nt,nk->tk", field, products).reshape(n_terms),
        float(np.sum(weights * values**2)),
        int(np.count_nonzero(weights)),
        len(x),
        1,
        np.array([shape.width, shape.plus, shape.cross]),
        size,
    )


def solve_psf(sums: PsfSums, most_order: int = 2) -> PsfModel:
    """Return the model that fits the stars of some frames best.

    Its variation over the field is of `most_order` where there are enough stars. How much it varies at all, the stars
    tell themselves: its prior is that of the largest evidence (MacKay 1992, Neural Computation 4, 415), or a few dozen
    stars would find variation in their noise, and bring percents of light to the corners.
    """
    order = min(int(np.searchsorted(_STARS_FOR_ORDER, sums.n_stars, side="right")) - 1, most_order)
    used = np.arange(_TERMS_OF_ORDER[order] * N_BASIS)
    matrix, vector = sums.matrix[np.ix_(used, used)], sums.vector[used]
    solved = [_solved(matrix, vector, sizes) for sizes in _priors(order)]
    # Of sizes that are as likely, the first lets stars say most.
    likely = max(evidence for _, evidence, _ in solved) - _AS_LIKELY
    solution, _, scaled = next(one for one in solved if one[1] >= likely)
    terms = np.zeros(N_FIELD * N_BASIS)
    terms[used] = solution
    left = sums.square - 2.0 * vector @ solution + solution @ matrix @ solution
    quality = PsfQuality(
        sums.n_stars,
        sums.n_frames,
        order,
        float(left / max(sums.n_pixels - len(used), 1)),
        float(np.linalg.cond(scaled)),
    )
    return PsfModel(terms.reshape(N_FIELD, N_BASIS), sums.size, Shape(*(sums.shape / sums.n_frames)), quality)


def _priors(order: int) -> list[tuple[float, ...]]:
    """Return the sizes of variation to try: of linear terms, and of quadratic ones."""
    return list(product(_VARIATIONS, repeat=order))


def _solved(matrix: Floats, vector: Floats, sizes: tuple[float, ...]) -> tuple[Floats, float, Floats]:
    """Return coefficients under a prior of the variation, the logarithm of its evidence, and the equations."""
    precision = np.zeros(len(vector))
    for number, size in enumerate(sizes):
        terms = slice(_TERMS_OF_ORDER[number] * N_BASIS, _TERMS_OF_ORDER[number + 1] * N_BASIS)
        precision[terms] = np.tile(
            (size * _SHARES) ** -2, _TERMS_OF_ORDER[number + 1] - _TERMS_OF_ORDER[number]
        )
    scale = 1.0 / np.sqrt(np.diag(matrix) + precision + _RIDGE * np.diag(matrix).max())
    scaled = scale[:, None] * (matrix + np.diag(precision)) * scale + _RIDGE * np.eye(len(vector))
    solution = scale * np.linalg.solve(scaled, scale * vector)
    log_determinant = 2.0 * np.sum(np.log(np.diag(np.linalg.cholesky(scaled))) - np.log(scale))
    evidence = vector @ solution + np.sum(np.log(precision[precision > 0.0])) - log_determinant
    return solution, float(0.5 * evidence), scaled


@dataclass(frozen=True, slots=True)
class FramePsf:
    """The point spread function of one frame.

    Attributes
    ----------
    model : PsfModel
    shape : Shape
        Width and elongation of this frame.
    total_radius_px : float
        The light within this radius is the whole star.
    chi2 : float
        Reduced chi-square of the bright lonely stars of this frame, the median over them; NaN where there are too few.
    width_err : float
        Relative error of the width, where so few stars give it that it matters; else 0.
    """

    model: PsfModel
    shape: Shape
    total_radius_px: float
    chi2: float = float("nan")
    width_err: float = 0.0

    @property
    def fwhm_px(self) -> float:
        """Full width at half maximum in the middle of the image, mean over directions."""
        height, width = self.model.size
        middle = self.coefficients(np.array([0.5 * (width - 1)]), np.array([0.5 * (height - 1)]))
        radius = np.linspace(0.0, 4.0 * self.shape.width, 400)
        angle = np.arange(8) * np.pi / 8
        dx, dy = -radius[None] * np.cos(angle)[:, None], -radius[None] * np.sin(angle)[:, None]
        values = self.values(middle, dx.reshape(-1), dy.reshape(-1)).reshape(dx.shape).mean(axis=0)
        below = np.flatnonzero(values < 0.5 * values[0])
        return float(2.0 * radius[below[0]]) if below.size else float(2.0 * radius[-1])

    def values(self, coefficients: Single, dx: Floats, dy: Floats) -> Floats:
        """Return the brightness of the first star of some coefficients in pixels that lie at -dx, -dy from it."""
        stamp, none = np.empty(len(dx), np.float32), np.float32(0.0)
        columns, rows = (-dx).astype(np.float32), (-dy).astype(np.float32)
        draw(stamp, columns, rows, none, none, self.inverse, coefficients[0])
        return stamp.astype(float)

    @property
    def inverse(self) -> Single:
        """Matrix from pixels to scaled offsets."""
        return np.ascontiguousarray(self.shape.inverse, np.float32)

    def coefficients(self, x: Floats, y: Floats) -> Single:
        """Return what the kernels draw stars of flux 1 from, for positions on the image; shape (n, 26)."""
        height, width = self.model.size
        terms = self.model.terms @ monomials()
        whole = terms @ self.light_of_terms(*_disc(self.total_radius_px))[0]
        return np.asarray(
            star_coefficients(np.ascontiguousarray(x), np.ascontiguousarray(y), height, width, terms, whole)
        )

    def light_of_terms(self, x: Floats, y: Floats, weights: Single) -> Floats:
        """Return the light that belongs to each coefficient, in pixels at offsets x and y with weights (m, n)."""
        return np.asarray(light_of_terms(x, y, weights, self.inverse))


@lru_cache(maxsize=8)
def _disc(radius: float) -> tuple[Floats, Floats, Single]:
    """Return the pixels of a disc, and how much of each belongs to it."""
    half = int(np.ceil(radius))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].reshape(2, -1).astype(float)
    return x, y, np.clip(radius + 0.5 - np.hypot(x, y), 0.0, 1.0).astype(np.float32)[None]


def field_terms(x: Floats, y: Floats, size: tuple[int, int]) -> Floats:
    """Return 1, x, y, x^2, x y, y^2 of positions scaled to -1 ... 1 over the image; shape (n, 6)."""
    height, width = size
    s, t = 2.0 * x / max(width - 1, 1) - 1.0, 2.0 * y / max(height - 1, 1) - 1.0
    return np.stack([np.ones_like(s), s, t, s * s, s * t, t * t], axis=-1)


@cache
def monomials() -> Any:
    """Return the matrix that turns coefficients of Chebyshev polynomials into those of powers, shape (26, 26)."""
    matrix = np.zeros((N_BASIS, N_BASIS))
    start = 0
    for _, terms, parts in _ORDERS:
        for _ in range(parts):
            for term in range(terms):
                powers = np.polynomial.chebyshev.cheb2poly(np.eye(terms)[term])
                matrix[start + term, start : start + len(powers)] = powers
            start += terms
    return matrix
