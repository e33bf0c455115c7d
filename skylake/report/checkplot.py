"""Plots of one frame: its sources, its background, its completeness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from skylake.core.flags import NO_STANDARD, UNCLEAN, SourceFlag
from skylake.report.style import BLUE, GREY, RED, Floats, canvas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = npt.NDArray[np.float32]

#: Pixels are shown from so many standard deviations of the sky below it to so many above.
_SHOWN_SIGMA = (-3.0, 20.0)
_SAMPLE_PX = 4
_INCHES = 9.0
_OCHRE, _PURPLE = "#c08a1e", "#8e3fa8"


def annotated_frame(
    signal: Pixels,
    rms: float,
    x: Floats,
    y: Floats,
    flags: npt.NDArray[np.int32],
    radius_px: float,
    title: str,
    trails: Sequence[tuple[float, float, float, float]] = (),
) -> Figure:
    """Draw a frame minus its background with a circle around every source, by what its flags say.

    Clean sources are those that ``n_sources`` of ``frames`` counts, also in a frame that was rejected.

    Parameters
    ----------
    signal : ndarray, shape (height, width)
        ADU.
    rms : float
        Noise of the background, ADU.
    x, y : ndarray, shape (n,)
        Pixels, 0-based.
    flags : ndarray of int32, shape (n,)
    radius_px : float
        Radius of the circles.
    title : str
    trails : sequence of tuple
        Both ends of trails of satellites, as far as they are known: x and y of the first and of the second, pixels.
    """
    height, width = signal.shape
    with canvas(title, (_INCHES, _INCHES * height / width * 0.86 + 0.6)) as (figure, axes):
        low, high = (sigma * rms for sigma in _SHOWN_SIGMA)
        shown = axes.imshow(
            signal,
            cmap="gray_r",
            vmin=low,
            vmax=high,
            origin="lower",
            interpolation="nearest",
            rasterized=True,
        )
        figure.colorbar(shown, ax=axes, label="pixel minus background [ADU]", shrink=0.85)
        places = np.column_stack([x, y])
        for label, chosen, colour in _kinds(flags):
            _circle(axes, places[chosen], radius_px, label, colour)
        for x0, y0, x1, y1 in trails:
            axes.plot([x0, x1], [y0, y1], "--", lw=0.8, color=_PURPLE)
        _label_pixels(axes)
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(-0.5, height - 0.5)
        # Outside the picture, where it hides no source.
        figure.legend(loc="outside lower left", ncols=4, fontsize=8, frameon=False)
        return figure


def _kinds(flags: npt.NDArray[np.int32]) -> list[tuple[str, npt.NDArray[np.bool_], str]]:
    """Return groups of sources by their flags: a label, which sources, and a colour."""
    # The verdict on the frame says nothing about a source.
    flags = flags & ~int(SourceFlag.FRAME_REJECTED)
    spoiled, clean = flags & int(NO_STANDARD) != 0, flags & int(UNCLEAN) == 0
    trailed = flags & int(SourceFlag.STREAK) != 0
    kinds = [
        ("clean", clean, BLUE),
        ("blended", ~clean & ~spoiled, _OCHRE),
        ("spoiled: saturated, bad pixel, edge …", spoiled & ~trailed, RED),
    ]
    return [*kinds, ("on a trail", trailed, _PURPLE)] if trailed.any() else kinds


def _circle(axes: Axes, places: Floats, radius_px: float, label: str, colour: str) -> None:
    """Draw circles around places, with a line in the legend that counts them."""
    from matplotlib.collections import EllipseCollection

    size = np.full(len(places), 2.0 * radius_px)
    axes.add_collection(
        EllipseCollection(
            size,
            size,
            np.zeros(size.size),
            units="xy",
            offsets=places,
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=colour,
            linewidths=0.7,
        )
    )
    axes.plot([], [], "o", mfc="none", mec=colour, label=f"{label}: {size.size}")


def background_maps(level: Pixels, rms: Pixels, title: str) -> Figure:
    """Draw the level of the background; contours show its noise."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    height, width = level.shape
    with canvas(title, (_INCHES, _INCHES * height / width * 0.86 + 0.6)) as (figure, axes):
        some = np.asarray(level[::_SAMPLE_PX, ::_SAMPLE_PX], float)
        shown = axes.imshow(
            some, cmap="viridis", origin="lower", extent=(-0.5, width - 0.5, -0.5, height - 0.5)
        )
        figure.colorbar(shown, ax=axes, label="background [ADU]", shrink=0.85)
        noise = np.asarray(rms[::_SAMPLE_PX, ::_SAMPLE_PX], float)
        if float(np.ptp(noise)) > 0.0:
            place = np.arange(0, width, _SAMPLE_PX), np.arange(0, height, _SAMPLE_PX)
            lines = axes.contour(*place, noise, levels=5, colors="white", linewidths=0.8)
            axes.clabel(lines, fmt="%.3g", fontsize=8)
            # Outside the map, where it hides none, with the white of the lines on a colour of the map.
            swatch: Any = Patch(color=shown.cmap(0.4)), Line2D([], [], color="white", lw=1.2)
            label = "noise per pixel [ADU]"
            figure.legend([swatch], [label], loc="outside lower left", fontsize=8, frameon=False)
        _label_pixels(axes)
        return figure


def _label_pixels(axes: Axes) -> None:
    axes.grid(False)
    axes.set_xlabel("x [pixel]")
    axes.set_ylabel("y [pixel]")


def completeness_curve(
    flux: Floats,
    fraction: Floats,
    low: Floats,
    high: Floats,
    limits: dict[str, tuple[float, float]],
    title: str,
    zeropoint: float | None = None,
) -> Figure:
    """Draw the share of injected stars that is found against total flux; faint stars are on the right.

    Parameters
    ----------
    flux, fraction, low, high : ndarray, shape (n,)
        Total flux (ADU/s), share, and its interval.
    limits : dict
        Label to flux and its error (NaN for none), shown as lines.
    title : str
    zeropoint : float or None
        Makes magnitudes of fluxes; they are instrumental where there is none.
    """
    zero = 0.0 if zeropoint is None else zeropoint
    with canvas(title) as (figure, axes):
        mag = zero - 2.5 * np.log10(flux)
        error = np.vstack([fraction - low, high - fraction])
        axes.errorbar(
            mag, fraction, np.clip(error, 0.0, None), fmt="o-", ms=4, color=BLUE, label="injected stars"
        )
        for (label, (value, value_err)), colour in zip(limits.items(), (RED, GREY), strict=False):
            if np.isfinite(value):
                place = zero - 2.5 * np.log10(value)
                text = f"{label}: {place:.2f}"
                if np.isfinite(value_err):
                    text += f" ± {1.0857 * value_err / value:.2f}"
                axes.axvline(place, color=colour, lw=1.2, ls="--", label=f"{text} mag")
        axes.set_ylim(-0.03, 1.05)
        kind = "instrumental magnitude -2.5 log10(total flux in ADU/s)" if zeropoint is None else "magnitude"
        axes.set_xlabel(f"{kind} [mag]")
        axes.set_ylabel("share of stars that is found")
        # Outside the picture: a curve may go anywhere in it.
        figure.legend(loc="outside lower left", ncols=3, fontsize=8, frameon=False)
        return figure
