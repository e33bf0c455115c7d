"""Check plots of masters and bad pixels: a plane, and the distribution of its values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from skylake.core.flags import PixelFlag
from skylake.core.robust import sigma_mad
from skylake.report.style import BLUE, GREY, RED, Floats, canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Plane = npt.NDArray[np.float32]

#: Histograms reach to so many standard deviations of the middle of the values.
_REACH_SIGMA = 8.0
_BINS = 120
#: Pictures show the values between these percentiles.
_SHOWN = (1.0, 99.0)
_BAD = (
    (PixelFlag.HOT, "hot", RED),
    (PixelFlag.DEAD, "dead", BLUE),
    (PixelFlag.UNSTABLE, "unstable", "#c08a1e"),
)
#: Label of pixels that the noise of the sky does not explain.
_ABOVE = "above the curve are sources on the right, and on the left what was taken off too much"
_INCHES = 4.6
#: Distance of the neighbours of a pixel, pixels.
_NEAR_PX = 3
#: Sizes of the circles around odd pixels, and of those around so many and more, points.
_RING_POINTS, _DOT_POINTS, _MANY_ODD = 6.0, 2.0, 2000


def master_picture(
    pixels: Plane, error: Plane | None, label: str, title: str, bad: npt.NDArray[np.uint8] | None = None
) -> Figure:
    """Draw a master beside the histogram of its pixels with their usual error; odd pixels have circles.

    Parameters
    ----------
    pixels, error : ndarray of float32, shape (height, width)
        NaN where the master has no value.
    label : str
        What the values are, with the unit.
    title : str
    bad : ndarray of uint8, shape (height, width), or None
        Bits of :class:`~skylake.core.flags.PixelFlag` of the pixels that its frames show to be bad.
    """
    with canvas(title, (2.0 * _INCHES + 1.6, _panel_height(pixels.shape) + 0.5)) as (figure, axes):
        figure.delaxes(axes)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        picture, histogram = figure.subplots(1, 2)
        known = pixels[np.isfinite(pixels)]
        low, high = np.percentile(known, _SHOWN) if known.size else (0.0, 1.0)
        shown = picture.imshow(
            pixels,
            cmap="viridis",
            vmin=low,
            vmax=max(high, low + 1e-6),
            origin="lower",
            interpolation="nearest",
        )
        figure.colorbar(shown, ax=picture, label=label, shrink=0.85)
        _label_pixels(picture)
        _circle_odd(picture, pixels, bad)
        _draw_histogram(histogram, known, BLUE, "pixels")
        if error is not None and np.isfinite(error).any():
            middle = float(np.median(known)) if known.size else 0.0
            usual = float(np.nanmedian(error))
            band = f"usual error of a pixel: {_short(usual)}; what scatters more is structure"
            histogram.axvspan(middle - usual, middle + usual, color=GREY, alpha=0.3, label=band)
        histogram.set_xlabel(label)
        histogram.set_ylabel("pixels")
        for panel in (picture, histogram):
            if panel.get_legend_handles_labels()[0]:
                panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=8, frameon=False)
        return figure


def _circle_odd(axes: Axes, pixels: Plane, bad: npt.NDArray[np.uint8] | None) -> None:
    """Draw circles around pixels that are known as bad or differ by far from those near them: they are too small."""
    left = pixels - _near(pixels)
    known = left[np.isfinite(left)]
    sigma = float(sigma_mad(known)) if known.size else 0.0
    odd = (np.abs(left) > _REACH_SIGMA * sigma) & (sigma > 0.0)
    kinds = []
    if bad is not None:
        odd &= bad == 0
        kinds += [((bad & np.uint8(flag)) != 0, colour, name) for flag, name, colour in _BAD]
    kinds.append((odd, "black", f"others, more than {_REACH_SIGMA:g} x the scatter off those near them"))
    for chosen, colour, name in kinds:
        rows, columns = np.nonzero(chosen)
        if rows.size:
            size = _RING_POINTS if rows.size < _MANY_ODD else _DOT_POINTS
            # The rim makes them stand out from any colour of the picture.
            axes.plot(columns, rows, "o", ms=size, mfc="none", mec="white", mew=2.2)
            axes.plot(
                columns, rows, "o", ms=size, mfc="none", mec=colour, mew=1.1, label=f"{name}: {rows.size}"
            )


def _near(pixels: Plane) -> Plane:
    """Return the median of four pixels beside each, which single bad pixels do not reach; NaN if one has none."""
    wide = np.pad(pixels, _NEAR_PX, mode="reflect") if min(pixels.shape) > _NEAR_PX else None
    if wide is None:
        return np.full_like(pixels, np.nan)
    height, width = pixels.shape
    beside = [(0, _NEAR_PX), (2 * _NEAR_PX, _NEAR_PX), (_NEAR_PX, 0), (_NEAR_PX, 2 * _NEAR_PX)]
    four = np.sort(np.stack([wide[y : y + height, x : x + width] for y, x in beside]), axis=0)
    return np.asarray(0.5 * (four[1] + four[2]), np.float32)


def mask_picture(mask: npt.NDArray[np.uint8], title: str) -> Figure:
    """Draw a mask of bad pixels, each kind in its colour; single ones are drawn larger than they are.

    Parameters
    ----------
    mask : ndarray of uint8, shape (height, width)
        Bits of :class:`~skylake.core.flags.PixelFlag`.
    title : str
    """
    height, width = mask.shape
    with canvas(title, (_INCHES + 1.6, _panel_height(mask.shape))) as (figure, axes):
        for flag, name, colour in _BAD:
            rows, columns = np.nonzero(mask & np.uint8(flag))
            axes.plot(columns, rows, "s", ms=2.0, mew=0.0, color=colour, label=f"{name}: {rows.size}")
        axes.set_xlim(-0.5, width - 0.5)
        axes.set_ylim(-0.5, height - 0.5)
        axes.set_aspect("equal")
        _label_pixels(axes)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=3, fontsize=8, frameon=False, markerscale=3
        )
        return figure


def pixel_histogram(signal: Plane, rms: float, title: str) -> Figure:
    """Draw how the pixels of a frame minus its background are spread, beside the Gaussian of the noise of the sky.

    Pixels of the sky follow the curve; what lies above it on the right is light of sources, and on the left whatever
    was taken off too much.

    Parameters
    ----------
    signal : ndarray of float32, shape (height, width)
        ADU.
    rms : float
        Noise of the background per pixel, ADU.
    title : str
    """
    with canvas(title, (8.0, 4.8)) as (figure, axes):
        known = signal[np.isfinite(signal)]
        count, edges = _draw_histogram(axes, known, BLUE, "pixels minus background")
        middle = 0.5 * (edges[1:] + edges[:-1])
        if rms > 0.0 and count.size:
            curve = known.size * (edges[1] - edges[0]) / (rms * np.sqrt(2.0 * np.pi))
            expected = curve * np.exp(-0.5 * (middle / rms) ** 2)
            seen = expected > 0.5
            axes.plot(
                middle[seen],
                expected[seen],
                "-",
                color=RED,
                lw=1.2,
                label=f"noise of the sky: {rms:.4g} ADU; {_ABOVE}",
            )
        axes.set_xlabel("pixel minus background [ADU]")
        axes.set_ylabel("pixels")
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.12), fontsize=8, frameon=False)
        return figure


def _draw_histogram(axes: Axes, known: Plane, colour: str, label: str) -> tuple[Floats, Floats]:
    """Draw the histogram of values about their median, and state median and scatter; return counts and edges."""
    middle = float(np.median(known)) if known.size else 0.0
    sigma = float(sigma_mad(known)) if known.size else 0.0
    reach = _REACH_SIGMA * sigma if sigma > 0.0 else max(1.0, abs(middle))
    count, edges = np.histogram(known, _BINS, (middle - reach, middle + reach))
    beyond = known.size - int(count.sum())
    text = f"{label}: median {_short(middle)}, scatter {_short(sigma)}, {beyond} beyond this histogram"
    axes.stairs(count, edges, color=colour, fill=True, alpha=0.35)
    axes.stairs(count, edges, color=colour, label=text)
    if count.any():
        axes.set_yscale("log")
        axes.set_ylim(bottom=0.7)
    return np.asarray(count, float), np.asarray(edges, float)


def _short(value: float) -> str:
    """Return a value to about four digits, large ones without a power of ten."""
    return f"{value:.0f}" if abs(value) >= 1000.0 else f"{value:.4g}"


def _panel_height(shape: tuple[int, ...]) -> float:
    return float(np.clip(_INCHES * shape[0] / shape[1], 2.2, 2.0 * _INCHES)) + 0.8


def _label_pixels(axes: Axes) -> None:
    axes.grid(False)
    axes.set_xlabel("x [pixel]")
    axes.set_ylabel("y [pixel]")
