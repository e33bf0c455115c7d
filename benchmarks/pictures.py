"""Pictures of what benchmarks measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

COLOURS = {"skylake": "#1b6ca8", "Source Extractor": "#c44e52", "photutils": "#8c8c8c"}
_FLUXES = {"aper1": "o", "aper2": "s", "aper3": "^", "kron": "D"}


def plot(
    path: Path, tallies: Mapping[str, Mapping[str, Any]], limits: Mapping[str, np.ndarray], edges: np.ndarray
) -> None:
    """Draw completeness, centroids and pulls by magnitude, a column for each renderer."""
    middle = 0.5 * (edges[1:] + edges[:-1])
    figure, axes = plt.subplots(
        4, len(tallies), figsize=(4.6 * len(tallies), 11.0), sharex=True, sharey="row", layout="constrained"
    )
    rows = (
        "found [%]",
        "scatter of centroids / bound",
        "mean pull of detected stars",
        "width of these pulls",
    )
    for column, (name, found) in zip(np.transpose(np.atleast_2d(axes)), tallies.items(), strict=True):
        _completeness(column[0], middle, found)
        _centroids(column[1], middle, found)
        _pulls(column[2:], middle, found)
        _signal_to_noise(column[0], middle, limits[name][1])
        column[0].set_title(name)
        column[-1].set_xlabel("magnitude")
    for axis, label in zip(np.atleast_2d(axes)[:, 0], rows, strict=True):
        axis.set_ylabel(label)
    axes.flat[0].legend(fontsize=8, loc="lower left")
    handles = [
        plt.Line2D([], [], marker=mark, linestyle="", color="black", label=flux)
        for flux, mark in _FLUXES.items()
    ]
    np.atleast_2d(axes)[2, 0].legend(handles=handles, fontsize=8, ncols=2, loc="upper left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _completeness(axis: Any, middle: np.ndarray, found: Mapping[str, Any]) -> None:
    for program, tally in found.items():
        share, low, high = 100.0 * tally.completeness
        label = f"{program}, {np.mean(tally.false):.1f} false per frame"
        axis.errorbar(middle, share, (share - low, high - share), color=COLOURS[program], label=label)


def _centroids(axis: Any, middle: np.ndarray, found: Mapping[str, Any]) -> None:
    axis.axhline(1.0, color="black", linewidth=0.8)
    for number, (program, tally) in enumerate(found.items()):
        counts = np.array([one.size for one in tally.in_bins(tally.off)])
        ratio = tally.scatter / tally.bound
        error = ratio / np.sqrt(2.0 * np.maximum(counts, 1))
        shift = 0.08 * (number - 1)
        axis.errorbar(
            middle + shift, ratio, error, color=COLOURS[program], linestyle="", marker="o", markersize=3
        )


def _pulls(axes: Sequence[Any], middle: np.ndarray, found: Mapping[str, Any]) -> None:
    """Draw mean and width of pulls; the grey band is where they should be."""
    axes[0].axhspan(-0.1, 0.1, color="0.9")
    axes[1].axhspan(0.9, 1.1, color="0.9")
    for number, (program, tally) in enumerate(found.items()):
        for place, (flux, mark) in enumerate(_FLUXES.items()):
            bins = tally.in_bins(tally.pulls[flux])
            enough = np.array([one.size > 10 for one in bins])
            at = (middle + 0.24 * (number - 1) + 0.05 * (place - 1.5))[enough]
            bins = [one for one in bins if one.size > 10]
            count = np.sqrt([one.size for one in bins])
            mean, width = (np.array([f(one) for one in bins]) for f in (np.mean, np.std))
            style = {
                "color": COLOURS[program],
                "marker": mark,
                "markersize": 3,
                "linestyle": "",
                "linewidth": 0.8,
            }
            axes[0].errorbar(at, mean, width / count, **style)
            axes[1].errorbar(at, width, width / count / np.sqrt(2.0), **style)
    axes[0].set_ylim(-0.75, 1.0)
    axes[1].set_ylim(0.6, 1.4)


def _signal_to_noise(axis: Any, middle: np.ndarray, snr: np.ndarray) -> None:
    for x, value in zip(middle, snr, strict=True):
        axis.annotate(f"{value:.0f}", (x, 103.0), ha="center", fontsize=7)
    axis.annotate("S/N", (middle[0] - 0.65, 103.0), ha="center", fontsize=7)
    axis.set_ylim(0.0, 109.0)
