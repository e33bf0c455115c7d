"""Plots of the residuals of an all-sky geometry: arrays in, figure out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skylake.core.robust import MAD_TO_SIGMA
from skylake.core.sphere import ARCSEC_PER_RADIAN
from skylake.report.astrometry_page import FrameResiduals, residual_histogram
from skylake.report.style import BLUE, GREY, RED, Floats, canvas, draw_medians, draw_note

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from skylake.image.allsky.geometry_epochs import Geometry
    from skylake.image.allsky.solve_allsky import AllSkySolution

#: Cells of the shorter side of the image in which arrows are medians, and the fewest stars of one.
_CELLS, _FEWEST = 12, 5
#: The longest arrow, in cells.
_LONGEST = 1.5
#: Steps of zenith distance and azimuth in which medians are drawn, degrees.
_ZENITH_STEP, _AZIMUTH_STEP = 7.5, 30.0
_NICE = np.array([1.0, 2.0, 5.0])


def residual_arrows(solution: AllSkySolution, title: str) -> Figure:
    """Median residuals over the image as arrows, with a scale in arcsec, and each star as a dot."""
    from matplotlib.lines import Line2D

    residuals, shape = solution.residuals, solution.view.shape
    with canvas(title, (8.4, 6.6)) as (figure, axes):
        if len(residuals.x) == 0:
            draw_note(axes, "no star was matched")
            return figure
        (dots,) = axes.plot(residuals.x, residuals.y, ".", ms=1.5, color=GREY, rasterized=True)
        x, y, dx, dy = _cells(solution)
        px_arcsec = float(
            np.median(residuals.arcsec / np.maximum(np.hypot(residuals.dx_px, residuals.dy_px), 1e-9))
        )
        length = np.hypot(dx, dy)
        # A key as long as the longer arrows can be read.
        key = _round(float(np.percentile(length, 90)) * px_arcsec) if len(length) else px_arcsec
        side = min(shape) / _CELLS
        # Nine of ten arrows are no longer than a cell, and none much longer: heads stay in the picture.
        most = max(float(np.percentile(length, 90)), float(length.max()) / _LONGEST) if len(length) else 1.0
        unit = max(most, 1e-9) / side
        arrows = axes.quiver(x, y, dx, dy, angles="xy", scale_units="xy", scale=unit, color=RED, width=0.0025)
        axes.quiverkey(
            arrows,
            0.72,
            -0.138,
            key / px_arcsec,
            f'{key:g}" ({key / px_arcsec:.2f} px)',
            labelpos="E",
            coordinates="axes",
        )
        _frame(axes, shape)
        axes.legend(
            [dots, Line2D([], [], color=RED)],
            [f"{len(residuals.x)} stars", f"medians of {_FEWEST} and more in a cell"],
            loc="upper left",
            bbox_to_anchor=(0.0, -0.1),
            ncols=2,
            frameon=False,
            markerscale=4,
        )
        return figure


def _cells(solution: AllSkySolution) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the middle and the median residual of cells."""
    residuals = solution.residuals
    side = min(solution.view.shape) / _CELLS
    cell = np.floor(residuals.x / side) * 10000 + np.floor(residuals.y / side)
    rows = []
    for cell_number in np.unique(cell):
        here = cell == cell_number
        if here.sum() >= _FEWEST:
            values = (residuals.x, residuals.y, residuals.dx_px, residuals.dy_px)
            rows.append([float(np.median(value[here])) for value in values])
    table = np.array(rows).reshape(-1, 4)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def _round(value: float) -> float:
    """Return the number 1, 2 or 5 times a power of ten that is nearest."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-9)))
    choices = np.append(_NICE * power, 10.0 * power)
    return float(choices[np.argmin(np.abs(np.log(choices / max(value, 1e-9))))])


def _frame(axes: Axes, shape: tuple[int, int]) -> None:
    axes.set_xlim(-0.5, shape[1] - 0.5)
    axes.set_ylim(-0.5, shape[0] - 0.5)
    axes.set_aspect("equal")
    axes.set_xlabel("x [px]")
    axes.set_ylabel("y [px]")


def residuals_against_zenith_distance(solution: AllSkySolution, title: str) -> Figure:
    """Residuals towards the horizon, and along it, against the distance from the zenith."""
    return _against(
        90.0 - solution.residuals.altitude_deg,
        solution,
        _ZENITH_STEP,
        "apparent zenith distance [deg]",
        title,
    )


def residuals_against_azimuth(solution: AllSkySolution, title: str) -> Figure:
    """Residuals towards the horizon, and along it, against azimuth."""
    return _against(
        solution.residuals.azimuth_deg, solution, _AZIMUTH_STEP, "azimuth, north through east [deg]", title
    )


def _against(values: Floats, solution: AllSkySolution, step: float, label: str, title: str) -> Figure:
    with canvas(title, (8.6, 4.5)) as (figure, axes):
        if len(values) == 0:
            draw_note(axes, "no star was matched")
            return figure
        outward, around = _components(solution)
        limit = 5.0 * MAD_TO_SIGMA * float(np.median(np.abs(np.concatenate([outward, around]))))
        for offset, colour, parts, name in (
            (-0.12, BLUE, outward, "away from the zenith"),
            (0.12, RED, around, "along the horizon"),
        ):
            axes.plot(values, parts, ".", ms=2.0, color=colour, alpha=0.3, rasterized=True)
            middle, median, error = _steps(values, parts, step)
            spread = MAD_TO_SIGMA * float(np.median(np.abs(parts)))
            label = f"{name}: medians, scatter {spread:.2f} px"
            draw_medians(axes, (middle + offset * step, median, error), 4.5, colour, label)
        axes.axhline(0.0, color=GREY, lw=0.8)
        axes.set_ylim(-limit, limit)
        axes.set_xlabel(label)
        axes.set_ylabel("residual [px]")
        axes.legend(loc="upper right", bbox_to_anchor=(1.0, -0.12), ncols=2, frameon=False)
        return figure


def _components(solution: AllSkySolution) -> tuple[Floats, Floats]:
    """Return residuals away from the zenith and across that, pixels."""
    residuals = solution.residuals
    x, y = solution.view.lens.to_pixels(np.array([0.0, 0.0, 1.0]))
    dx, dy = residuals.x - x, residuals.y - y
    distance = np.maximum(np.hypot(dx, dy), 1e-9)
    return (residuals.dx_px * dx + residuals.dy_px * dy) / distance, (
        residuals.dy_px * dx - residuals.dx_px * dy
    ) / distance


def _steps(values: Floats, parts: Floats, step: float) -> tuple[Floats, Floats, Floats]:
    """Return middle, median and its error in steps with stars enough."""
    which = np.floor(values / step).astype(int)
    rows = []
    for kind in np.unique(which):
        here = parts[which == kind]
        if len(here) >= _FEWEST:
            # The median has 1.25 times the error of the mean.
            spread = MAD_TO_SIGMA * np.median(np.abs(here - np.median(here)))
            rows.append([(kind + 0.5) * step, np.median(here), 1.25 * spread / np.sqrt(len(here))])
    table = np.array(rows).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def residual_spread(solution: AllSkySolution, title: str) -> Figure:
    """How residuals along x and y are distributed, and the Gaussian of their robust scatter."""
    residuals = solution.residuals
    used, scale = np.ones(len(residuals.x), bool), ARCSEC_PER_RADIAN / solution.view.lens.focal_px
    places = (residuals.x, residuals.y, residuals.dx_px, residuals.dy_px)
    return residual_histogram(FrameResiduals(*places, used, solution.view.shape, scale), title)


def sky_chart(solution: AllSkySolution, title: str) -> Figure:
    """Draw the sky above the site as seen when looking up, each star coloured by its residual."""
    residuals = solution.residuals
    with canvas(title, (7.2, 6.2)) as (figure, axes):
        if len(residuals.x) == 0:
            draw_note(axes, "no star was matched")
            return figure
        figure.delaxes(axes)
        polar: Any = figure.add_subplot(projection="polar")
        polar.set_title(title, loc="left")
        size = np.hypot(residuals.dx_px, residuals.dy_px)
        area = np.clip(3.0 + 4.0 * (5.5 - residuals.mag), 3.0, 40.0)
        order = np.argsort(size)
        dots = polar.scatter(
            np.radians(residuals.azimuth_deg[order]),
            90.0 - residuals.altitude_deg[order],
            s=area[order],
            c=size[order],
            cmap="viridis",
            vmin=0.0,
            vmax=float(np.percentile(size, 95)),
            linewidths=0.0,
            rasterized=True,
        )
        # Looking up with north at the top, east is to the left.
        polar.set_theta_zero_location("N")
        polar.set_thetagrids(range(0, 360, 45), ["N", "NE", "E", "SE", "S", "SW", "W", "NW"])
        polar.set_rlim(0.0, 90.0)
        polar.set_rgrids([30.0, 60.0], ["60°", "30°"], angle=112.0)
        polar.grid(color=GREY, lw=0.6, alpha=0.6)
        figure.colorbar(dots, ax=polar, label="residual [px]", extend="max", pad=0.1, shrink=0.85)
        text = f"{len(size)} stars; dots grow with brightness; circles are altitudes"
        polar.text(0.5, -0.12, text, ha="center", transform=polar.transAxes, color=GREY)
        return figure


def horizon_grid(geometry: Geometry, title: str) -> Figure:
    """Draw circles of altitude and lines of azimuth where a camera that stands still shows them in its image."""
    from skylake.core.horizon import horizontal_vectors

    lens, turn = geometry.lens, np.linspace(0.0, 360.0, 361)
    with canvas(title, (7.4, 6.6)) as (figure, axes):
        for altitude, style in ((0.0, "-"), (15.0, ":"), (30.0, "--"), (60.0, "--")):
            x, y = lens.to_pixels(horizontal_vectors(np.full(turn.shape, altitude), turn))
            colour = RED if altitude == 0.0 else GREY
            axes.plot(x, y, style, color=colour, lw=1.2, label="horizon" if altitude == 0.0 else None)
            _label(axes, lens.to_pixels(horizontal_vectors(altitude, 22.5)), f"{altitude:g}°", geometry.shape)
        for azimuth, name in zip(
            range(0, 360, 45), ("N", "NE", "E", "SE", "S", "SW", "W", "NW"), strict=True
        ):
            x, y = lens.to_pixels(horizontal_vectors(np.linspace(0.0, 88.0, 45), np.full(45, float(azimuth))))
            axes.plot(x, y, color=GREY, lw=0.6)
            _label(axes, lens.to_pixels(horizontal_vectors(8.0, azimuth)), name, geometry.shape, bold=True)
        x, y = lens.to_pixels(np.array([0.0, 0.0, 1.0]))
        axes.plot(x, y, "+", ms=10, color=BLUE, label="zenith")
        axes.plot(lens.x0, lens.y0, "x", ms=7, color=RED, label="optical axis", ls="none")
        _frame(axes, geometry.shape)
        frames = "1 frame" if geometry.n_frames == 1 else f"{geometry.n_frames} frames"
        legend = f"{frames}, {geometry.n_stars} stars, {geometry.rms_px:.2f} px root mean square"
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.1), ncols=3, frameon=False, title=legend)
        return figure


def _label(
    axes: Axes, place: tuple[Floats, Floats], text: str, shape: tuple[int, int], bold: bool = False
) -> None:
    """Write a label at a place of the image; none beside it."""
    x, y = float(place[0]), float(place[1])
    if 0.0 < x < shape[1] and 0.0 < y < shape[0]:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
        weight = "bold" if bold else "normal"
        axes.text(x, y, text, ha="center", va="center", fontsize=8, fontweight=weight, bbox=box)
