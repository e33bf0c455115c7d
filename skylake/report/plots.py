"""Plots of zeropoints, light curves, residuals and maps: arrays in, figure out."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skylake.core.counted import counted
from skylake.core.robust import MAD_TO_SIGMA
from skylake.report.fields import separate_fields
from skylake.report.style import (
    BLUE,
    GREY,
    RED,
    Floats,
    canvas,
    dates,
    draw_note,
    faint_down,
    label_times,
    legend_below,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_FIELD_BINS = 24
#: A map of so many cells along a side has their values written upon it.
_WRITTEN_BINS = 3
#: Colours of bands, in the order of their names; grey is for what is flagged.
BAND_COLOURS = (BLUE, RED, "#3b7d4f", "#7a4a9e", "#8a6d1c")
#: Up to such a range the scale of counts has ticks at whole numbers only.
_FEW_COUNTS = 20
#: Colour of cells that nothing is known of.
_NOTHING = "#dddddd"
#: Matches per cell of a residual picture, at least on average.
_PER_CELL = 8
#: Stars per cell, at least on average, where each has many matches.
_STARS_PER_CELL = 3
#: Up to so many matches each is a dot that can be seen alone.
_FEW_MATCHES = 2000
#: Steps of right ascension in a panel, at most, by the number of panels beside each other.
_PANEL_TICKS = {1: 8, 2: 4, 3: 2}
#: Height of a panel of a field, the least and the most.
_PANEL_INCHES = (1.8, 3.6)
#: An axis shows at least so much about the median on either side, as a part of it: less is no change that matters.
_LEAST_SPAN = 0.05


def zeropoint_against_time(
    mjd: Floats, zp: Floats, zp_err: Floats, band: npt.NDArray[np.object_], camera: str
) -> Figure:
    """Zeropoints of frames with their errors; transparency falls downwards."""
    title = f"{camera}: zeropoint of total flux, ADU/s"
    with canvas(title) as (figure, axes):
        known = np.isfinite(zp)
        if not known.any():
            draw_note(axes, "no frame has a zeropoint yet")
            return figure
        for name, colour in zip(sorted(set(band[known])), itertools.cycle(BAND_COLOURS), strict=False):
            rows = known & (band == name)
            axes.errorbar(
                dates(mjd[rows]),
                zp[rows],
                zp_err[rows],
                fmt="o",
                ms=3.5,
                lw=0.9,
                color=colour,
                label=f"{name}, {counted(int(rows.sum()), 'frame')}, median {np.median(zp[rows]):.3f} mag",
            )
        label_times(axes)
        axes.set_ylabel("zeropoint [mag]")
        axes.set_xlabel("time of mid-exposure [UTC]")
        axes.legend(loc="best")
        return figure


def residuals_over_field(
    x: Floats,
    y: Floats,
    residual: Floats,
    width: int,
    height: int,
    camera: str,
    n_stars: int | None = None,
) -> Figure:
    """Median residual of matches, catalog minus calibrated magnitude, in cells of the detector.

    With `n_stars` cells have some stars each; without, some matches, which are those of few stars where fields repeat.
    """
    from matplotlib.patches import Patch

    what = "residuals over the field (catalog - calibrated)"
    title = f"{camera}: {what}" if n_stars is None else f"{what.capitalize()}\n{camera}"
    with canvas(title, (6.6, 5.6)) as (figure, axes):
        known = np.isfinite(residual)
        if not known.any():
            draw_note(axes, _no_matches(len(residual), "measured well enough"))
            return figure
        number = known.sum() / _PER_CELL if n_stars is None else n_stars / _STARS_PER_CELL
        bins = int(np.clip(np.sqrt(number), 2, _MAX_FIELD_BINS))
        cells = _cell_medians(x[known], y[known], 1000.0 * residual[known], width, height, bins)
        limit = float(np.nanpercentile(np.abs(cells), 98)) or 1.0
        image = axes.imshow(
            cells,
            origin="lower",
            extent=(-0.5, width - 0.5, -0.5, height - 0.5),
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            interpolation="nearest",
        )
        figure.colorbar(image, ax=axes, label="median residual, above 0 too bright [mmag]")
        # Cells without a match are distinguished from those without a residual, and the legend hides none.
        axes.set_facecolor(_NOTHING)
        if bins <= _WRITTEN_BINS:
            _write_values(axes, cells, width / bins, height / bins)
        text = f"{counted(int(known.sum()), 'match', 'matches')} in {bins} x {bins} cells"
        some_empty = bool(np.isnan(cells).any())
        swatch = Patch(
            facecolor=_NOTHING if some_empty else "none",
            edgecolor="#999999" if some_empty else "none",
            label=text + "; without any:" * some_empty,
        )
        axes.legend(
            handles=[swatch], loc="upper right", bbox_to_anchor=(1.0, -0.1), frameon=False, markerfirst=False
        )
        axes.set_xlabel("x [px]")
        axes.set_ylabel("y [px]")
        axes.grid(visible=False)
        return figure


def _write_values(axes: Axes, cells: Floats, width: float, height: float) -> None:
    """Write the values of few cells into them, since their colours alone say little."""
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            axes.text(
                (column + 0.5) * width - 0.5,
                (row + 0.5) * height - 0.5,
                f"{value:+.1f}",
                ha="center",
                va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 2.0},
            )


def _no_matches(number: int, wanted: str) -> str:
    return f"no match of {number} is {wanted}" if number else "no calibrated matches yet"


def _cell_medians(x: Floats, y: Floats, values: Floats, width: int, height: int, bins: int) -> Floats:
    column = np.clip((x + 0.5) / width * bins, 0, bins - 1).astype(int)
    row = np.clip((y + 0.5) / height * bins, 0, bins - 1).astype(int)
    cell = row * bins + column
    order = np.lexsort((values, cell))
    starts = np.searchsorted(cell[order], np.arange(bins * bins))
    counts = np.bincount(cell, minlength=bins * bins)
    result = np.full(bins * bins, np.nan)
    some = counts > 0
    ordered = values[order]
    low, high = starts[some] + (counts[some] - 1) // 2, starts[some] + counts[some] // 2
    result[some] = 0.5 * (ordered[low] + ordered[high])
    return result.reshape(bins, bins)


def residuals_against_magnitude(mag: Floats, residual: Floats, catalog: str) -> Figure:
    """Residuals of matches against catalog magnitude, with their running scatter."""
    title = f"Residuals against magnitude (catalog {catalog} - calibrated)"
    with canvas(title) as (figure, axes):
        known = np.isfinite(residual) & np.isfinite(mag)
        if not known.any():
            draw_note(axes, _no_matches(len(residual), "clean and of a calibrated frame"))
            return figure
        m, r = mag[known], residual[known]
        limit = float(np.clip(6 * MAD_TO_SIGMA * np.median(np.abs(r)), 0.05, 2.0))
        beyond = int(np.count_nonzero(np.abs(r) > limit))
        label = f"{counted(len(m), 'match', 'matches')}" + (
            f", {beyond} of them beyond the picture" if beyond else ""
        )
        size, alpha = (5.0, 0.6) if len(m) < _FEW_MATCHES else (2.0, 0.25)
        axes.plot(m, r, ".", ms=size, mew=0.0, color=BLUE, alpha=alpha, rasterized=True, label=label)
        edges = np.arange(np.floor(m.min() * 2) / 2, m.max() + 0.5, 0.5)
        which = np.digitize(m, edges)
        groups = [(m[which == i], r[which == i]) for i in range(1, len(edges) + 1)]
        groups = [group for group in groups if len(group[0]) >= 5]
        if groups:
            centre = [float(np.median(mags)) for mags, _ in groups]
            middle = np.array([np.median(values) for _, values in groups])
            spread = np.array([MAD_TO_SIGMA * np.median(np.abs(v - np.median(v))) for _, v in groups])
            axes.errorbar(
                centre, middle, spread, fmt="o", color=RED, ms=4, capsize=2, label="median and robust scatter"
            )
        axes.set_ylim(limit, -limit)
        axes.set_xlabel("catalog magnitude [mag]")
        axes.set_ylabel("residual [mag]")
        legend_below(axes)
        return figure


def lightcurve(
    bjd: Floats,
    mag: Floats,
    mag_err: Floats,
    spoiled: npt.NDArray[np.bool_],
    band: npt.NDArray[np.object_],
    title: str,
    limit: Floats | None = None,
    measured: str = "measurements",
) -> Figure:
    """Magnitudes of one star against time, each band in a colour of its own; bright is up.

    `limit` gives the magnitude that the star is fainter than where it was not detected, NaN elsewhere; `measured` says
    what the points are.
    """
    with canvas(title) as (figure, axes):
        hidden = np.zeros(len(mag), bool) if limit is None else np.isfinite(limit)
        known = np.isfinite(mag) & ~hidden
        if not (known | hidden).any():
            draw_note(axes, "the star has no calibrated magnitude")
            return figure
        start = float(np.floor(bjd[known | hidden].min()))
        shown = Magnitudes(bjd - start, mag, mag_err, spoiled, band, limit, measured)
        names = draw_magnitudes(axes, shown)
        axes.set_xlabel(f"BJD (TDB) - {start:.0f} [d]")
        axes.set_ylabel(f"{', '.join(names)} [mag]")
        legend_below(axes)
        return figure


@dataclass(frozen=True, slots=True)
class Magnitudes:
    """Measurements to be drawn; arrays of shape (n,).

    Attributes
    ----------
    place : ndarray
        Where they are on the horizontal axis.
    mag, mag_err : ndarray
        NaN for those that are not drawn.
    spoiled : ndarray of bool
        Drawn in grey.
    band : ndarray of object
        Each has a colour of its own.
    limit : ndarray or None
        The magnitude that the star is fainter than where it was not detected, NaN elsewhere.
    measured : str
        What the points are.
    """

    place: Floats
    mag: Floats
    mag_err: Floats
    spoiled: npt.NDArray[np.bool_]
    band: npt.NDArray[np.object_]
    limit: Floats | None = None
    measured: str = "measurements"


def draw_magnitudes(axes: Axes, points: Magnitudes, alpha: float = 1.0, has_labels: bool = True) -> list[str]:
    """Draw measurements with their errors into axes, bright ones up, and return the names of their bands."""
    hidden = np.zeros(len(points.mag), bool) if points.limit is None else np.isfinite(points.limit)
    known = np.isfinite(points.mag) & ~hidden
    names = sorted(set(points.band[known | hidden].tolist()))
    colours = dict(zip(names, itertools.cycle(BAND_COLOURS), strict=False))
    shown = [
        (known & ~points.spoiled & (points.band == name), colour, f"{name}, ", points.measured)
        for name, colour in colours.items()
    ]
    style: Any = {"fmt": "o", "ms": 3.5, "lw": 0.9, "alpha": alpha}
    for rows, colour, name, label in (*shown, (known & points.spoiled, GREY, "", "flagged")):
        if rows.any():
            values = points.place[rows], points.mag[rows], points.mag_err[rows]
            text = f"{name}{rows.sum()} {label}" if has_labels else None
            axes.errorbar(*values, **style, color=colour, label=text)
    for name, colour in colours.items():
        rows = hidden & ~points.spoiled & (points.band == name)
        if points.limit is not None and rows.any():
            text = f"{name}, {rows.sum()} non-detections, fainter than this" if has_labels else None
            below = points.place[rows], points.limit[rows]
            axes.plot(*below, "v", ms=4, mfc="none", color=colour, alpha=alpha, label=text)
    faint_down(axes)
    return names


def sky_and_seeing(mjd: Floats, sky: Floats, fwhm: Floats, camera: str) -> Figure:
    """Background rate and width of stars against time."""
    with canvas(f"{camera}: sky background and width of stars") as (figure, axes):
        if not np.isfinite(sky).any():
            draw_note(axes, "no frame was measured yet")
            return figure
        axes.plot(dates(mjd), sky, "o", ms=3.5, color=BLUE, label="sky (left)")
        axes.set_ylabel("sky per pixel [ADU/s]")
        axes.set_xlabel("time of mid-exposure [UTC]")
        right = axes.twinx()
        right.plot(dates(mjd), fwhm, "x", ms=4, color=RED, label="FWHM (right)")
        right.set_ylabel("FWHM [px]")
        right.grid(visible=False)
        for side, values in ((axes, sky), (right, fwhm)):
            _widen(side, values)
        label_times(axes)
        handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
        # Above the picture: the search for an empty corner ignores the right axis.
        axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=2, frameon=False)
        return figure


def _widen(axes: Axes, values: Floats) -> None:
    """Widen an axis about the median, so that small changes look small."""
    known = values[np.isfinite(values)]
    if known.size:
        middle, (low, high) = float(np.median(known)), axes.get_ylim()
        reach = _LEAST_SPAN * abs(middle)
        axes.set_ylim(min(low, middle - reach), max(high, middle + reach))


def sky_map(pixels: npt.NDArray[np.int64], values: Floats, order: int, label: str, title: str) -> Figure:
    """Draw a map: the region that was seen, or the whole sky in Mollweide projection where that is wide.

    A few fields that are small against their distances have a picture each, side by side, with one scale of colours.
    """
    from matplotlib.patches import Patch

    with canvas(title, (8.0, 4.8)) as (figure, axes):
        if len(pixels) == 0:
            draw_note(axes, "the map has no pixel yet")
            return figure
        text = f"{counted(len(pixels), 'pixel')} of order {order}"
        fields = separate_fields(pixels, order)
        if len(fields) > 1:
            figure.delaxes(axes)
            figure.suptitle(f"{title}, {text}", x=0.01, ha="left", fontsize=11, fontweight="bold")
            across = len(fields) if len(fields) < 4 else -(-len(fields) // 2)
            down = -(-len(fields) // across)
            tallest = max(_tallness(pixels[rows], order) for rows in fields)
            # A panel as tall as the tallest field needs it, beside labels and scale.
            tall = float(np.clip(tallest * (6.7 / across - 0.75), *_PANEL_INCHES))
            figure.set_size_inches(8.0, down * (tall + 0.6) + 0.4)
            panels = figure.subplots(down, across, squeeze=False).ravel()
            steps = _PANEL_TICKS[min(across, 3)]
            shapes = [
                _on_a_plane(panel, pixels[rows], order, steps)
                for panel, rows in zip(panels, fields, strict=False)
            ]
            for panel in panels[len(fields) :]:
                figure.delaxes(panel)
            parts = [values[rows] for rows in fields]
            _draw_pixels(figure, list(panels[: len(fields)]), shapes, parts, label)
            return figure
        east, dec, middle = _outlines(pixels, order)
        wide = bool(np.ptp(east) > 120.0 or np.ptp(dec) > 90.0)
        if wide:
            figure.delaxes(axes)
            axes = figure.add_subplot(projection="mollweide")
            # Clear of the labels of the declinations, which are outside the ellipse.
            axes.set_title(title, loc="left", pad=18.0)
            # A pixel across the edge of the map would be drawn across all of it.
            whole = np.ptp(east, axis=1) < 180.0
            drawn, shown = np.radians(np.stack([-east, dec], axis=-1))[whole], values[whole]
            _label_right_ascensions(axes, middle)
        else:
            drawn, shown = _on_a_plane(axes, pixels, order), values
        _draw_pixels(figure, [axes], [drawn], [shown], label)
        # Beside the map: inside it the legend would hide some. It has no colour, as that would be one of the map.
        note = Patch(facecolor="none", edgecolor="none", label=text)
        axes.legend(
            handles=[note], loc="upper right", bbox_to_anchor=(1.0, -0.11), frameon=False, handlelength=0.0
        )
        return figure


def _label_right_ascensions(axes: Axes, middle: float) -> None:
    """Label a map of the whole sky about a right ascension by round values, legible upon the pixels too."""
    from matplotlib.patheffects import withStroke

    ra = np.arange(0, 360, 30)
    east = (ra - middle + 180.0) % 360.0 - 180.0
    # At the edge a label would be cut off.
    shown = np.abs(east) <= 155.0
    # Every other one has a label, so that they hide little.
    labels = [f"{value}°" if value % 60 == 0 else "" for value in ra[shown]]
    axes.set_xticks(np.radians(-east[shown]), labels)
    for text in axes.get_xticklabels():
        text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
        text.set_zorder(5)


def _on_a_plane(axes: Axes, pixels: npt.NDArray[np.int64], order: int, steps: int | None = None) -> Floats:
    """Prepare axes for a region of the sky, and return the corners of its pixels on them.

    `steps` of right ascension are shown at most: panels may be narrow, and the labels are long.
    """
    from matplotlib.ticker import MaxNLocator

    if steps is not None:
        axes.xaxis.set_major_locator(MaxNLocator(steps, steps=[1, 2, 2.5, 5, 10]))
        axes.tick_params(labelsize=8)
    east, dec, middle = _outlines(pixels, order)
    axes.margins(0.05)
    axes.xaxis.set_inverted(True)
    # More sky is shown around fields that would else be a thin strip.
    axes.set_aspect(1.0 / max(float(np.cos(np.radians(dec.mean()))), 0.05), adjustable="datalim")
    # A region across RA 0 is drawn beyond 360 or below 0, and labelled as is usual.
    axes.xaxis.set_major_formatter(lambda value, _: f"{round(value, 6) % 360:g}")
    # Beyond a pole there is no sky.
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{round(value, 6):g}".replace("-", "\N{MINUS SIGN}") if abs(value) <= 90.0 else ""
    )
    return np.stack([middle + east, dec], axis=-1)


def _tallness(pixels: npt.NDArray[np.int64], order: int) -> float:
    """Return how many times as high as wide a region of the sky is."""
    east, dec, _ = _outlines(pixels, order)
    return float(np.ptp(dec) / (np.ptp(east) * max(np.cos(np.radians(dec.mean())), 0.05)))


def _outlines(pixels: npt.NDArray[np.int64], order: int) -> tuple[Floats, Floats, float]:
    """Return the corners of pixels, east of a middle right ascension without a jump, shape (n, 4) each."""
    import healpy

    from skylake.core.sphere import ra_dec

    ra, dec = ra_dec(np.moveaxis(healpy.boundaries(2**order, pixels, nest=True), 1, 2))
    angle = np.radians(ra[:, 0])
    middle = float(np.degrees(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean())) % 360.0)
    east = (ra - middle + 180.0) % 360.0 - 180.0
    # Corners of one pixel stay together, also on the far side.
    east = east[:, :1] + (east - east[:, :1] + 180.0) % 360.0 - 180.0
    return east, dec, middle


def _norm(values: Floats) -> Any:
    """Return how values become colours: by their logarithm where counts span decades, without outliers else.

    Values of both signs have their zero in the middle.
    """
    from matplotlib.colors import LogNorm, Normalize

    if _has_both_signs(values):
        most = float(np.nanpercentile(np.abs(values), 98))
        return Normalize(-most, most)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if low > 0 and high > 10.0 * float(np.nanmedian(values)):
        return LogNorm(low, high)
    low, high = (low, high) if low >= 0 else tuple(float(np.nanpercentile(values, q)) for q in (2, 98))
    return Normalize(low, high) if high > low else Normalize(low - 0.5, high + 0.5)


def _has_both_signs(values: Floats) -> bool:
    return bool(np.nanmin(values) < 0.0 < np.nanmax(values))


def _draw_pixels(
    figure: Figure, panels: list[Axes], shapes: list[Floats], values: list[Floats], label: str
) -> None:
    """Draw pixels into axes, all by one scale of colours."""
    from matplotlib.collections import PolyCollection
    from matplotlib.ticker import MaxNLocator

    every = np.concatenate(values)
    colours, norm = "RdBu_r" if _has_both_signs(every) else "viridis", _norm(every)
    for axes, corners, some in zip(panels, shapes, values, strict=True):
        outlines, place = _drawn_outlines(axes, corners)
        drawn = PolyCollection(
            list(outlines),
            array=some,
            cmap=colours,
            norm=norm,
            edgecolors="face",
            linewidths=0.2,
            transform=place,
        )
        axes.add_collection(drawn, autolim=place is axes.transData)
        axes.autoscale_view()
        axes.set_xlabel("right ascension [deg]")
        axes.set_ylabel("declination [deg]")
    bar = figure.colorbar(drawn, ax=panels, label=label, shrink=0.85)
    if np.array_equal(every, np.rint(every)) and np.ptp(every) < _FEW_COUNTS:
        bar.locator = MaxNLocator(integer=True)
        bar.update_ticks()


def _drawn_outlines(axes: Axes, corners: Floats) -> tuple[Floats, Any]:
    """Return outlines as they are to be drawn, and the transformation from there to the picture.

    An outline that matplotlib projects itself takes it a millisecond, twice; all of them at once take nothing.
    """
    if axes.name != "mollweide":
        return corners, axes.transData
    whole_sky: Any = axes
    projected = whole_sky.transProjection.transform(corners.reshape(-1, 2)).reshape(corners.shape)
    return projected, whole_sky.transAffine + axes.transAxes
