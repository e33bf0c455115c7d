"""The point spread function: its kernels, what its stars show, and that sums of frames add up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.image.psf.psf_kernels import draw, draw_stamps
from skylake.image.psf.psf_model import (
    N_BASIS,
    N_FIELD,
    FramePsf,
    PsfModel,
    PsfQuality,
    PsfSums,
    Shape,
    field_terms,
    monomials,
    solve_psf,
    sum_stars,
)
from skylake.simulate import Moffat, render

Floats = npt.NDArray[np.float64]

SIZE = (400, 600)
HALF = 13
RADIUS = 12.0


def stars(
    n: int, seed: int, fwhm: float | Floats = 2.8, beta: float = 3.5, **options: float
) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Places on the image, and offsets and pixels of noiseless stars of flux 1."""
    random = np.random.default_rng(seed)
    x, y = random.uniform(0, SIZE[1] - 1, n), random.uniform(0, SIZE[0] - 1, n)
    phase = np.column_stack([x - np.rint(x), y - np.rint(y)])
    widths = np.broadcast_to(fwhm(x, y) if callable(fwhm) else fwhm, (n,))
    side = 2 * HALF + 1
    values = np.stack(
        [
            render((side, side), [HALF + a], [HALF + b], [1.0], Moffat(w, beta=beta, **options))
            for (a, b), w in zip(phase, widths, strict=True)
        ]
    )
    grid = np.arange(-HALF, HALF + 1.0)
    dx = np.broadcast_to(grid[None, None, :] - phase[:, :1, None], values.shape)
    dy = np.broadcast_to(grid[None, :, None] - phase[:, 1:, None], values.shape)
    flat = (n, side * side)
    return x, y, dx.reshape(flat), dy.reshape(flat), values.reshape(flat).astype(float)


def sums_of(n: int, seed: int, shape: Shape, **options: object) -> PsfSums:
    x, y, dx, dy, values = stars(n, seed, **options)  # type: ignore[arg-type]
    weights = np.where(np.hypot(dx, dy) <= RADIUS + 0.5, 1e6 / (1.0 + 1e3 * values), 0.0)
    return sum_stars(values, weights, dx, dy, x, y, shape, SIZE)


def drawn(psf: FramePsf, x: Floats, y: Floats) -> Floats:
    coefficients = psf.coefficients(x, y)
    dx, dy = (x - np.rint(x)).astype(np.float32), (y - np.rint(y)).astype(np.float32)
    side = 2 * HALF + 1
    return draw_stamps(dx, dy, coefficients, psf.inverse, HALF)[:, : side * side].astype(float)


#: Angular order, terms and parts of the functions.
ORDERS = ((0, 8, 1), (1, 3, 2), (2, 3, 2), (3, 2, 2), (4, 1, 2))


def basis(u: Floats, v: Floats) -> Floats:
    """Return the basis functions at scaled offsets, shape (..., 26)."""
    h = 1.0 / (1.0 + u * u + v * v)
    t = 2.0 * h - 1.0
    radial = np.polynomial.chebyshev.chebvander(t, max(terms for _, terms, _ in ORDERS) - 1)
    found = []
    for order, terms, parts in ORDERS:
        harmonic = (u + 1j * v) ** order * h ** (2 + (order + 1) // 2)
        for angular in (harmonic.real, harmonic.imag)[:parts]:
            found.append(angular[..., None] * radial[..., :terms])
    return np.asarray(np.concatenate(found, axis=-1))


def test_sums_are_those_of_the_basis_functions() -> None:
    shape = Shape(2.4, 0.05, -0.1)
    x, y, dx, dy, values = stars(12, 11)
    weights = np.where(np.hypot(dx, dy) <= RADIUS, 1e6 / (1.0 + 1e3 * values), 0.0)
    sums = sum_stars(values, weights, dx, dy, x, y, shape, SIZE)
    u, v = np.tensordot(shape.inverse, np.stack([dx, dy]), axes=1)
    functions = basis(u, v) / np.linalg.det(shape.matrix)
    terms = np.einsum("nt,nmk->nmtk", field_terms(x, y, SIZE), functions).reshape(*values.shape, -1)
    matrix = np.einsum("nm,nmi,nmj->ij", weights, terms, terms, optimize=True)
    vector = np.einsum("nm,nmi,nm->i", weights, terms, values, optimize=True)
    scale = np.sqrt(np.diag(matrix))
    assert np.abs((sums.matrix - matrix) / np.outer(scale, scale)).max() < 1e-12
    assert np.abs((sums.vector - vector) / (scale * np.sqrt(sums.square))).max() < 1e-12


@dataclass(frozen=True, slots=True)
class Rounded:
    """A number, and what single precision makes it wrong by at most: half a unit of the last place in each operation.

    (Running error analysis: Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.3.)
    """

    value: float
    error: float

    #: So that numbers of NumPy leave operations to this class.
    __array_ufunc__: ClassVar[None] = None

    @classmethod
    def of(cls, value: float, error: float = 0.0) -> Rounded:
        return cls(float(value), error + 2.0**-24 * abs(float(value)))

    def __add__(self, other: Rounded | float) -> Rounded:
        b = exact(other)
        return Rounded.of(self.value + b.value, self.error + b.error)

    def __mul__(self, other: Rounded | float) -> Rounded:
        a, b = self, exact(other)
        wrong = abs(a.value) * b.error + abs(b.value) * a.error + a.error * b.error
        return Rounded.of(a.value * b.value, wrong)

    def __sub__(self, other: Rounded | float) -> Rounded:
        b = exact(other)
        return self + Rounded(-b.value, b.error)

    def __rsub__(self, other: float) -> Rounded:
        return exact(other) - self

    def __rtruediv__(self, other: float) -> Rounded:
        inverse = 1.0 / self.value
        return Rounded.of(inverse, inverse**2 * self.error / (1.0 - abs(inverse) * self.error)) * other

    __radd__, __rmul__ = __add__, __mul__


def exact(number: Rounded | float) -> Rounded:
    return number if isinstance(number, Rounded) else Rounded(float(number), 0.0)


rounded = np.frompyfunc(Rounded.of, 1, 1)


@given(
    seed=st.integers(0, 1000),
    width=st.floats(0.8, 6.0),
    plus=st.floats(-0.3, 0.3),
    cross=st.floats(-0.3, 0.3),
)
def test_the_kernel_draws_the_basis_functions(seed: int, width: float, plus: float, cross: float) -> None:
    random = np.random.default_rng(seed)
    model = PsfModel(random.normal(0, 0.2, (N_FIELD, N_BASIS)), SIZE, Shape(width, plus, cross), PsfQuality())
    psf = FramePsf(model, model.shape, RADIUS)
    raw = field_terms(np.array([77.0]), np.array([300.0]), SIZE) @ model.terms
    dx, dy = random.uniform(-9, 9, (2, 60))
    u, v = model.shape.inverse @ np.stack([dx, dy])
    wanted = basis(u, v) @ raw[0]
    coefficients = raw @ monomials()
    found = psf.values(coefficients.astype(np.float32), -dx, -dy)
    # The operations of the kernel one by one show what its precision lets be; sums of powers lose three digits of it.
    carried, nought = np.empty(len(dx), object), exact(0.0)
    draw.py_func(
        carried,
        rounded(dx),
        rounded(dy),
        nought,
        nought,
        rounded(model.shape.inverse),
        rounded(coefficients[0]),
    )
    values, errors = np.array([(one.value, one.error) for one in carried]).T
    assert (np.abs(found - wanted) <= errors).all()
    # Double precision, in which these values are, is finer by 2^29.
    assert (np.abs(values - wanted) <= 2.0**-26 * errors).all()


@pytest.mark.parametrize("beta", [2.5, 3.5, 4.7])
def test_stars_of_any_steepness_are_drawn_to_a_thousandth(beta: float) -> None:
    model = solve_psf(sums_of(40, 1, Shape.of_width(2.8), beta=beta))
    x, y, dx, dy, values = stars(30, 2, beta=beta)
    light = drawn(FramePsf(model, Shape.of_width(2.8), RADIUS), x, y)
    within = np.sum(values * (np.hypot(dx, dy) <= RADIUS), axis=1).mean()
    assert np.abs(light * within - values).max() < 1.5e-3 * values.max()
    assert model.quality.condition < 1e6


def test_a_star_within_the_total_radius_has_the_flux_one() -> None:
    model = solve_psf(sums_of(120, 3, Shape.of_width(2.8), fwhm=lambda x, y: 2.6 + 0.6 * x / SIZE[1]))
    x, y, dx, dy, _ = stars(40, 4)
    light = drawn(FramePsf(model, Shape(1.1 * model.shape.width), RADIUS), x, y)
    inside = np.clip(RADIUS + 0.5 - np.hypot(dx, dy), 0.0, 1.0)
    assert np.sum(light * inside, axis=1) == pytest.approx(1.0, abs=1e-3)


def test_the_form_follows_the_stars_over_the_field() -> None:
    def fwhm(x: Floats, y: Floats) -> Floats:
        return np.asarray(2.5 + 0.8 * ((x / SIZE[1] - 0.5) ** 2 + (y / SIZE[0]) ** 2))

    model = solve_psf(sums_of(150, 5, Shape.of_width(2.8), fwhm=fwhm))
    constant = solve_psf(sums_of(20, 5, Shape.of_width(2.8), fwhm=fwhm))
    assert (model.quality.field_order, constant.quality.field_order) == (2, 0)
    x, y, dx, dy, values = stars(60, 6, fwhm=fwhm)  # type: ignore[arg-type]
    scale = np.sum(values * (np.hypot(dx, dy) <= RADIUS), axis=1)[:, None]
    off = [
        np.abs(drawn(FramePsf(one, Shape.of_width(2.8), RADIUS), x, y) * scale - values).max(axis=1).mean()
        for one in (model, constant)
    ]
    assert off[0] < 0.01 * values.max()
    assert off[0] < 0.2 * off[1]


def test_a_constant_form_does_not_follow_the_noise_of_few_stars() -> None:
    """A dozen stars, each on many frames with an error of its own, bring no light to the corners."""
    random, n = np.random.default_rng(9), 12
    x, y, dx, dy, values = stars(n, 9)
    weights = np.where(np.hypot(dx, dy) <= RADIUS + 0.5, 1e6 / (1.0 + 1e3 * values), 0.0)
    noise = np.where(weights > 0.0, 1.0 / np.sqrt(np.maximum(weights, 1.0)), 0.0)
    shape, sums = Shape.of_width(2.8), []
    for _ in range(10):
        noisy = values + noise * random.standard_normal(values.shape)
        sums.append(sum_stars(noisy, weights, dx, dy, x, y, shape, SIZE))
    model = solve_psf(sum(sums[1:], sums[0]))
    assert model.quality.field_order == 2
    corners = np.array([0.0, SIZE[1] - 1.0]), np.array([0.0, SIZE[0] - 1.0])
    at, middle = (
        drawn(FramePsf(model, shape, RADIUS), *place)
        for place in (corners, (np.full(1, 300.0), np.full(1, 200.0)))
    )
    # The weight with which a fit takes the light of a star: its brightness with that of the middle.
    light = at @ middle[0] / (middle[0] @ middle[0])
    np.testing.assert_allclose(light, 1.0, atol=0.004)


def test_sums_of_frames_add_up_in_any_way() -> None:
    first, second = (sums_of(30, seed, Shape.of_width(2.8)) for seed in (7, 8))
    x, y, dx, dy, values = (np.concatenate(pair) for pair in zip(stars(30, 7), stars(30, 8), strict=True))
    weights = np.where(np.hypot(dx, dy) <= RADIUS + 0.5, 1e6 / (1.0 + 1e3 * values), 0.0)
    whole = sum_stars(values, weights, dx, dy, x, y, Shape.of_width(2.8), SIZE)
    both = first + second
    assert (both.n_stars, both.n_frames) == (60, 2)
    assert solve_psf(both).terms == pytest.approx(solve_psf(whole).terms, rel=1e-6, abs=1e-9)
    assert (second + first).matrix == pytest.approx(both.matrix)


def test_a_frame_that_is_wider_is_drawn_with_its_own_width() -> None:
    model = solve_psf(sums_of(60, 9, Shape.of_width(2.8)))
    x, y, dx, dy, values = stars(20, 10, fwhm=3.2)
    wider = FramePsf(model, Shape(Shape.of_width(2.8).width * 3.2 / 2.8), RADIUS)
    within = np.sum(values * (np.hypot(dx, dy) <= RADIUS), axis=1).mean()
    assert np.abs(drawn(wider, x, y) * within - values).max() < 0.02 * values.max()
    # A pixel adds its own width.
    assert wider.fwhm_px == pytest.approx(np.hypot(3.2, 1.0), rel=0.03)


def test_a_model_survives_its_bytes() -> None:
    model = solve_psf(sums_of(40, 11, Shape(2.0, 0.1, -0.05)))
    again = PsfModel.from_bytes(model.to_bytes())
    assert again.terms.tobytes() == model.terms.tobytes()
    assert (again.size, again.shape, again.quality) == (model.size, model.shape, model.quality)
