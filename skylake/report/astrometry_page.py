"""Plots of the residuals and the distortion of a lens: arrays in, figure out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skylake.core.robust import MAD_TO_SIGMA
from skylake.report.style import BLUE, GREY, RED, Floats, canvas, draw_medians, draw_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from skylake.image.wcs.lens import Lens
    from skylake.image.wcs.refine_lens import Refinement
    from skylake.image.wcs.residual_field import ResidualField

#: With more stars than this, arrows are medians of cells: cells along the shorter side, and least stars in a cell.
_MOST_ARROWS, _CELLS, _FEWEST = 120, 10, 3
#: The longest arrow, in cells.
_LONGEST = 2.0
#: Stars in a step of radius, about.
_PER_STEP = 12
#: Points of a distortion map, along the longer side; every so many-th has an arrow.
_POINTS, _ARROWS = 160, 16
#: Room that a label of a contour line needs around itself, as a share of the longer side.
_LABEL_ROOM = 0.035
_NICE = np.array([1.0, 2.0, 5.0, 10.0])
#: Fewer stars are drawn larger.
_FEW_STARS = 200


@dataclass(frozen=True, slots=True)
class FrameResiduals:
    """Matched stars of a frame; arrays of shape (n,), pixels.

    ``x``, ``y`` are 0-based places of sources, ``dx``, ``dy`` lead there from where the lens has the stars; ``used``
    says which the fit uses. ``scale_arcsec`` is that of a pixel.
    """

    x: Floats
    y: Floats
    dx: Floats
    dy: Floats
    used: Any
    shape: tuple[int, int]
    scale_arcsec: float

    @classmethod
    def of(cls, refinement: Refinement, shape: tuple[int, int], scale_arcsec: float) -> FrameResiduals:
        """Return the residuals of a refinement."""
        dx, dy = refinement.fit.residuals
        return cls(
            refinement.pairs.x, refinement.pairs.y, dx, dy, refinement.fit.weights > 0.0, shape, scale_arcsec
        )


def residual_quiver(residuals: FrameResiduals, title: str) -> Figure:
    """Residuals over the frame as arrows with a scale in arcsec: of each star, or medians where there are many."""
    from matplotlib.lines import Line2D

    with canvas(title, (8.0, 1.8 + 7.0 * _aspect(residuals.shape))) as (figure, axes):
        if len(residuals.x) == 0:
            draw_note(axes, "no star was matched")
            return figure
        (dots,) = axes.plot(residuals.x, residuals.y, ".", ms=2.5, color=GREY, rasterized=True)
        many = len(residuals.x) > _MOST_ARROWS
        x, y, dx, dy = (
            _cells(residuals) if many else np.array([residuals.x, residuals.y, residuals.dx, residuals.dy])
        )
        length = np.hypot(dx, dy)
        key = _round(float(np.median(length)) * residuals.scale_arcsec)
        # Nine of ten arrows are no longer than a cell, and none much longer; at the edges they show whole.
        most = max(float(np.percentile(length, 90)), float(length.max()) / _LONGEST, 1e-9)
        unit = most / (min(residuals.shape) / _CELLS)
        arrows = axes.quiver(
            x, y, dx, dy, angles="xy", scale_units="xy", scale=unit, color=RED, width=0.0025, clip_on=False
        )
        pixels = key / residuals.scale_arcsec
        axes.quiverkey(
            arrows, 0.06, -0.125, pixels, f'{key:g}" ({pixels:.2g} px)', labelpos="E", coordinates="axes"
        )
        _frame(axes, residuals.shape)
        text = f"medians of {_FEWEST} and more stars in a cell" if many else "from the lens to the source"
        axes.legend(
            [dots, Line2D([], [], color=RED)],
            [f"{len(residuals.x)} stars", text],
            loc="upper right",
            bbox_to_anchor=(1.0, -0.09),
            ncols=2,
            frameon=False,
            markerscale=3,
        )
        return figure


def stored_field(
    field: ResidualField | None, shape: tuple[int, int], scale_arcsec: float, n_frames: int, title: str
) -> Figure:
    """Mean residuals in cells of the image, as frames have stored them: arrows with a scale, on how long they are."""
    from matplotlib.lines import Line2D

    with canvas(title, (8.4, 1.4 + 6.6 * _aspect(shape))) as (figure, axes):
        if field is None or not field.number.any():
            draw_note(axes, "no frame has stored what is left of its stars")
            return figure
        rows, columns = field.number.shape
        x, y = np.meshgrid(
            (np.arange(columns) + 0.5) * shape[1] / columns - 0.5,
            (np.arange(rows) + 0.5) * shape[0] / rows - 0.5,
        )
        seen, length = field.number > 0, np.hypot(field.dx, field.dy)
        empty = _on_lengths(axes, np.where(seen, length, np.nan), shape)
        # Nine of ten arrows stay in their cells, and the longest hardly leaves its own.
        most = max(float(np.percentile(length[seen], 90)) / 0.8, float(length[seen].max()) / 1.2, 1e-9)
        arrows = axes.quiver(
            x[seen],
            y[seen],
            field.dx[seen],
            field.dy[seen],
            angles="xy",
            scale_units="xy",
            scale=most / (max(shape) / max(rows, columns)),
            color=RED,
            width=0.004,
            pivot="middle",
            clip_on=False,
        )
        key = _round(float(np.median(length[seen])) * scale_arcsec)
        axes.quiverkey(
            arrows,
            0.06,
            -0.14,
            key / scale_arcsec,
            f'{key:g}" ({key / scale_arcsec:.2g} px)',
            labelpos="E",
            coordinates="axes",
        )
        _frame(axes, shape)
        axes.grid(visible=False)
        frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
        axes.legend(
            [Line2D([], [], color=RED), empty],
            [f"means of {int(field.number.sum())} stars of {frames}", "no star"],
            loc="upper right",
            bbox_to_anchor=(1.0, -0.1),
            frameon=False,
            ncols=2,
        )
        return figure


def _on_lengths(axes: Axes, length: Floats, shape: tuple[int, int]) -> Patch:
    """Draw lengths (NaN where there is none) as grey cells; return what the legend shows for those without one."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    extent = (-0.5, shape[1] - 0.5, -0.5, shape[0] - 0.5)
    pale = ListedColormap(colormaps["Greys"](np.linspace(0.0, 0.45, 256)))
    image = axes.imshow(length, origin="lower", extent=extent, cmap=pale, vmin=0.0)
    axes.figure.colorbar(image, ax=axes, label="length of the mean residual [px]", shrink=0.9)
    # White means a residual of zero, so unknown cells are hatched.
    hatched: Any = {"hatch": "////", "facecolor": "white", "edgecolor": "#b9bec3", "linewidth": 0.0}
    axes.patch.set(**hatched)
    return Patch(**hatched)


def residuals_against_radius(residuals: FrameResiduals, title: str) -> Figure:
    """Residuals away from the middle of the frame, and across that, against the distance from there."""
    with canvas(title, (8.0, 4.8)) as (figure, axes):
        if len(residuals.x) == 0:
            draw_note(axes, "no star was matched")
            return figure
        x, y = residuals.x - 0.5 * (residuals.shape[1] - 1), residuals.y - 0.5 * (residuals.shape[0] - 1)
        radius = np.maximum(np.hypot(x, y), 1e-9)
        outward, around = (
            (residuals.dx * x + residuals.dy * y) / radius,
            (residuals.dy * x - residuals.dx * y) / radius,
        )
        # With few stars each one is shown.
        size, alpha = (7.0, 0.6) if len(radius) < _FEW_STARS else (3.0, 0.35)
        for colour, parts, name in ((BLUE, outward, "away from the middle"), (RED, around, "across that")):
            axes.plot(radius, parts, ".", ms=size, mew=0.0, color=colour, alpha=alpha, rasterized=True)
            spread = MAD_TO_SIGMA * float(np.median(np.abs(parts)))
            label = f"{name}: medians, scatter {spread:.2f} px"
            draw_medians(axes, _steps(radius, parts), 5.0, colour, label)
        axes.axhline(0.0, color=GREY, lw=0.8)
        both = np.abs(np.concatenate([outward, around])[np.concatenate([residuals.used, residuals.used])])
        limit = 1.1 * float(both.max()) if both.size else 1.0
        axes.set_ylim(-limit, limit)
        axes.set_xlim(0.0, None)
        axes.set_xlabel("distance from the middle of the frame [px]")
        axes.set_ylabel("residual [px]")
        _arcsec_beside(axes, residuals.scale_arcsec)
        axes.legend(loc="upper right", bbox_to_anchor=(1.0, -0.14), ncols=2, frameon=False)
        return figure


def residual_histogram(residuals: FrameResiduals, title: str) -> Figure:
    """How residuals along x and y are distributed, and the Gaussian of their robust scatter."""
    with canvas(title, (8.0, 4.8)) as (figure, axes):
        if len(residuals.x) == 0:
            draw_note(axes, "no star was matched")
            return figure
        both = np.concatenate([residuals.dx, residuals.dy])
        sigma = max(MAD_TO_SIGMA * float(np.median(np.abs(both))), 1e-6)
        limit = max(4.0 * sigma, float(np.abs(both).max()))
        edges = np.linspace(-limit, limit, 2 * int(np.clip(np.sqrt(len(residuals.x)), 5, 20)) + 2)
        for colour, parts, name in ((BLUE, residuals.dx, "x"), (RED, residuals.dy, "y")):
            rms = float(np.sqrt(np.mean(parts**2)))
            axes.hist(
                parts,
                edges.tolist(),
                histtype="step",
                lw=1.6,
                color=colour,
                label=f"along {name}, rms {rms:.3f} px",
            )
        at = np.linspace(-limit, limit, 300)
        peak = len(residuals.x) * (edges[1] - edges[0]) / (sigma * np.sqrt(2.0 * np.pi))
        axes.plot(
            at,
            peak * np.exp(-0.5 * (at / sigma) ** 2),
            "--",
            color=GREY,
            label=f'Gaussian of {sigma:.3f} px = {_two_digits(sigma * residuals.scale_arcsec)}"',
        )
        axes.set_xlabel("residual of a coordinate [px]")
        axes.set_ylabel("stars")
        axes.legend(loc="upper right", bbox_to_anchor=(1.0, -0.14), ncols=3, frameon=False)
        return figure


def distortion_map(lens: Lens, shape: tuple[int, int], title: str, whole_sky: bool = False) -> Figure:
    """How far from their places under the ideal projection of the lens stars are seen.

    The lens of a camera that sees the whole sky leads from directions above the horizon, and shows nothing below it.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    with canvas(title, (8.4, 1.2 + 6.6 * _aspect(shape))) as (figure, axes):
        x, y, dx, dy = _distortion(lens, shape, whole_sky)
        size = np.hypot(dx, dy)
        if not np.isfinite(size).any():
            draw_note(axes, "the lens shows nothing there")
            return figure
        image = axes.imshow(
            size, origin="lower", extent=(-0.5, shape[1] - 0.5, -0.5, shape[0] - 0.5), cmap="viridis"
        )
        figure.colorbar(image, ax=axes, label=f"distance from the {lens.projection} place [px]", shrink=0.9)
        if float(np.nanmax(size)) > 1e-3:
            lines = axes.contour(x, y, size, colors="white", linewidths=0.7)
            places = _label_places(lines.allsegs, np.isfinite(size), shape)
            if places:
                axes.clabel(lines, fmt="%g", fontsize=8, manual=places)
        every = max(1, len(x[0]) // _ARROWS)
        part = np.s_[every // 2 :: every, every // 2 :: every]
        axes.quiver(x[part], y[part], dx[part], dy[part], angles="xy", color=RED, width=0.002)
        _frame(axes, shape)
        axes.grid(visible=False)
        axes.legend(
            [
                Line2D([], [], color=RED),
                (Patch(color=image.cmap(0.4)), Line2D([], [], color="white", lw=1.2)),
            ],
            ["where to, arrows not to scale", "equal distance [px]"],
            loc="upper right",
            bbox_to_anchor=(1.0, -0.09),
            ncols=2,
            frameon=False,
        )
        return figure


def _label_places(
    lines: Sequence[Sequence[Floats]], known: npt.NDArray[np.bool_], shape: tuple[int, int]
) -> list[tuple[float, float]]:
    """Return where labels of contour lines have room: away from the edges of the image, and of what is known.

    Parameters
    ----------
    lines : sequence of sequence of ndarray, shape (n, 2)
        Pieces of the lines of each level, pixels.
    known : ndarray of bool, shape (rows, columns)
        Points, evenly over the image, at which there is something to draw on.
    shape : tuple of int
        Height and width of the image.
    """
    from scipy.ndimage import binary_erosion

    room = max(1, round(_LABEL_ROOM * max(known.shape)))
    free = binary_erosion(known, np.ones((2 * room + 1, 2 * room + 1), bool))
    step = (np.array(shape[::-1]) - 1.0) / (np.array(known.shape[::-1]) - 1.0)
    places: list[tuple[float, float]] = []
    for piece in (piece for level in lines for piece in level):
        columns, rows = np.rint(piece / step).astype(int).T
        inside = piece[free[rows, columns]]
        if len(inside) == 0 or float(np.ptp(piece, axis=0).max()) < 2.0 * _LABEL_ROOM * max(shape):
            continue
        # As far as can be from the labels that are there, and not all in one corner at the start.
        taken = np.array(places or [piece.mean(axis=0)])
        apart = np.hypot(*(inside[:, None, :] - taken).T).min(axis=0)
        x, y = inside[int(np.argmax(apart))]
        places.append((float(x), float(y)))
    return places


def _distortion(lens: Lens, shape: tuple[int, int], whole_sky: bool) -> tuple[Floats, Floats, Floats, Floats]:
    """Return places of pixels and how far the lens has moved them, shape (rows, columns) each."""
    step = max(shape) / _POINTS
    rows, columns = (max(2, round(length / step)) for length in shape)
    y, x = np.meshgrid(
        np.linspace(0.0, shape[0] - 1.0, rows), np.linspace(0.0, shape[1] - 1.0, columns), indexing="ij"
    )
    bare = replace(lens, radial=(0.0, 0.0, 0.0), decentring=(0.0, 0.0), stretch=(0.0, 0.0))
    vectors = lens.to_vectors(x.ravel(), y.ravel())
    if whole_sky:
        vectors = np.where(vectors[:, 2:] > 0.0, vectors, np.nan)
    ideal = bare.to_pixels(vectors)
    there = [np.asarray(one).reshape(x.shape) for one in ideal]
    return x, y, x - there[0], y - there[1]


def _cells(residuals: FrameResiduals) -> Floats:
    """Return the middle and the median residual of cells, shape (4, cells)."""
    side = min(residuals.shape) / _CELLS
    columns = int(np.ceil(residuals.shape[1] / side))
    cell = np.floor((residuals.y + 0.5) / side).astype(int) * columns + np.floor(
        (residuals.x + 0.5) / side
    ).astype(int)
    numbers, counts = np.unique(cell, return_counts=True)
    cells = numbers[counts >= _FEWEST]
    values = (residuals.x, residuals.y, residuals.dx, residuals.dy)
    rows = [[float(np.median(value[cell == number])) for value in values] for number in cells]
    return np.array(rows).reshape(-1, 4).T


def _steps(radius: Floats, parts: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the mean radius, the median residual and its error in steps of equally many stars."""
    order = np.argsort(radius, kind="stable")
    pieces = np.array_split(order, max(1, min(len(order) // _PER_STEP, 12)))
    # The median has 1.25 times the error of the mean.
    rows = [
        (
            radius[piece].mean(),
            np.median(parts[piece]),
            1.25
            * MAD_TO_SIGMA
            * np.median(np.abs(parts[piece] - np.median(parts[piece])))
            / np.sqrt(len(piece)),
        )
        for piece in pieces
    ]
    middle, median, error = np.array(rows).T
    return middle, median, error


def _round(value: float) -> float:
    """Return the number 1, 2, 5 or 10 times a power of ten that is nearest."""
    choices = _NICE * 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    return float(choices[np.argmin(np.abs(np.log(choices / max(value, 1e-9))))])


def _two_digits(arcsec: float) -> str:
    """Return a number with two digits, or all that are before the point."""
    return f"{arcsec:.0f}" if arcsec >= 100.0 else f"{arcsec:.2g}"


def _aspect(shape: tuple[int, int]) -> float:
    return float(np.clip(shape[0] / shape[1], 0.3, 1.5))


def _arcsec_beside(axes: Axes, scale: float) -> None:
    """Label the scale of y in arcsec at the right."""

    def to_arcsec(values: Any) -> Any:
        return np.asarray(values) * scale

    def to_pixels(values: Any) -> Any:
        return np.asarray(values) / scale

    right = axes.secondary_yaxis("right", functions=(to_arcsec, to_pixels))
    right.set_ylabel("residual [arcsec]")


def _frame(axes: Axes, shape: tuple[int, int]) -> None:
    axes.set_xlim(-0.5, shape[1] - 0.5)
    axes.set_ylim(-0.5, shape[0] - 0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("x [px]")
    axes.set_ylabel("y [px]")
