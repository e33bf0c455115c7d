"""Pictures of a calibration: zeropoints against what they may depend on, and how well stars repeat."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from skylake.calibration.extinction_line import extinction_prior
from skylake.core.counted import counted
from skylake.core.robust import MAD_TO_SIGMA
from skylake.report.style import (
    BLUE,
    GREY,
    RED,
    Floats,
    canvas,
    dates,
    dot_size,
    draw_note,
    label_times,
    legend_below,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours of bands and nights, in turn.
_COLOURS = (BLUE, RED, "#3b7d4f", "#7a4a9e", "#8a6d1c")
#: Bins of a running median, and values that one needs.
_BINS, _PER_BIN = 14, 8
#: Of fewer stars the median is that of one of them.
_STARS_PER_BIN = 5
#: The vertical axis shows so many robust standard deviations, and at least so much, mag.
_REACH, _LEAST_REACH = 6.0, 0.01
#: How far below the lines of extinction the picture reaches, mag.
_BELOW_LINES = 0.1
#: A level of a clear sky over a smaller part of the picture is drawn as a dash.
_SHORT = 0.01
#: Nights that the legend names one by one.
_MOST_NIGHTS = 12
#: Frames of a field are clear if they lie within so much, mag, of this quantile; and fields differ by no more than so
#: many times the error that their frames share.
_CLEAREST, _CLEAR_MAG, _MOST_SHARED = 0.8, 0.03, 4.0
#: An extinction whose error is a larger part of that of the prior rests on the prior.
_OF_PRIOR = 0.9


@dataclass(frozen=True, slots=True)
class StarZeropoint:
    """Zeropoints of single stars: of each match, what it alone would give; arrays of shape (n,).

    Attributes
    ----------
    offset : ndarray
        Zeropoint of the star less that of its frame, mag; NaN where it cannot be trusted.
    random_err : ndarray
        Random error of the offset: photon noise and the frame's own part of its zeropoint, mag.
    star : ndarray of int
        Number of the star in its catalog.
    """

    offset: Floats
    random_err: Floats
    star: npt.NDArray[np.int64]


def star_zeropoint(
    stars: StarZeropoint, against: Floats, label: str, title: str, slope: tuple[float, float] | None = None
) -> Figure:
    """Draw zeropoints of single stars against a quantity, with their running median and its error.

    Parameters
    ----------
    stars : StarZeropoint
    against : ndarray, shape (n,)
    label : str
        Of the horizontal axis, with its unit.
    title : str
    slope : (float, float) or None
        A straight line to draw: its slope, and where it is zero.
    """
    with canvas(title) as (figure, axes):
        known = np.isfinite(stars.offset) & np.isfinite(against)
        if not known.any():
            draw_note(axes, "no match of a calibrated frame can be drawn")
            return figure
        x, y = against[known], 1000.0 * stars.offset[known]
        reach = 1000.0 * max(
            _REACH * MAD_TO_SIGMA * float(np.median(np.abs(stars.offset[known]))), _LEAST_REACH
        )
        beyond = int(np.count_nonzero(np.abs(y) > reach))
        text = counted(x.size, "match", "matches") + (
            f", {beyond} of them beyond the picture" if beyond else ""
        )
        alpha = 0.5 if x.size < 3000 else 0.3
        axes.plot(
            x, y, ".", ms=dot_size(x.size), mew=0.0, color=BLUE, alpha=alpha, rasterized=True, label=text
        )
        _draw_running(axes, x, y, stars.star[known])
        if slope is not None:
            ends = np.array([x.min(), x.max()])
            axes.plot(
                ends, 1000.0 * slope[0] * (ends - slope[1]), "-", color=GREY, lw=1.5, label="colour term"
            )
        # Up is a star that appears brighter than the frame's zeropoint has it, as magnitudes point down.
        axes.set_ylim(-reach, reach)
        axes.set_xlabel(label)
        axes.set_ylabel("zeropoint of star - of frame [mmag]")
        legend_below(axes, 3)
        return figure


def _draw_running(axes: Axes, x: Floats, y: Floats, star: npt.NDArray[np.int64]) -> None:
    """Draw medians in bins of equal numbers, with their errors: those of stars, whose matches are not independent."""
    bins = min(_BINS, x.size // _PER_BIN, len(np.unique(star)) // _STARS_PER_BIN)
    if bins < 2:
        return
    pieces = np.array_split(np.argsort(x, kind="stable"), bins)
    middle = [float(np.median(x[one])) for one in pieces]
    median = np.array([float(np.median(y[one])) for one in pieces])
    scatter = np.array(
        [MAD_TO_SIGMA * float(np.median(np.abs(y[one] - np.median(y[one])))) for one in pieces]
    )
    number = np.array([len(np.unique(star[one])) for one in pieces])
    error = 1.25 * scatter / np.sqrt(number)
    axes.errorbar(
        middle,
        median,
        error,
        fmt="o",
        ms=5,
        color=RED,
        mec="white",
        mew=0.6,
        capsize=2,
        label="running median",
    )


@dataclass(frozen=True, slots=True)
class FrameZeropoints:
    """Zeropoints of frames; arrays of shape (n,).

    Attributes
    ----------
    mjd : ndarray
        Mid-exposure, UTC.
    zp, random_err : ndarray
        Mag; NaN for none.
    shared_err : float
        Error that all frames share, mag; NaN if not known.
    airmass : ndarray
    band : ndarray of str
    night : ndarray of int
    field : ndarray of int or None
        Number of the field of each frame; None for one field.
    """

    mjd: Floats
    zp: Floats
    random_err: Floats
    shared_err: float
    airmass: Floats
    band: npt.NDArray[np.object_]
    night: npt.NDArray[np.int64]
    field: npt.NDArray[np.intp] | None = None

    @property
    def fields(self) -> npt.NDArray[np.intp]:
        """Number of the field of each frame."""
        return np.zeros(len(self.zp), np.intp) if self.field is None else self.field

    @property
    def shared(self) -> str:
        """The error that all frames share, as a second line of a title."""
        if not np.isfinite(self.shared_err):
            return ""
        return f"\nerror bars are random; frames of one field share an error of {self.shared_err:.3f} mag"


def zeropoint_over_time(
    frames: FrameZeropoints, clear: dict[str, tuple[Floats, Floats]], title: str
) -> Figure:
    """Draw zeropoints of frames against time, with the level of clear nights; less transparent is down.

    Parameters
    ----------
    frames : FrameZeropoints
    clear : dict
        Of each band where it is known: times and zeropoints of a clear sky at the airmass of the frames.
    title : str
    """
    with canvas(f"{title}{frames.shared}") as (figure, axes):
        known = np.isfinite(frames.zp)
        if not known.any():
            draw_note(axes, "no frame has a zeropoint")
            return figure
        span = float(np.ptp(frames.mjd[known]))
        for name, colour in _bands(frames.band[known]).items():
            rows = known & (frames.band == name)
            axes.errorbar(
                dates(frames.mjd[rows]),
                frames.zp[rows],
                np.nan_to_num(frames.random_err[rows]),
                fmt="o",
                ms=3,
                lw=0.9,
                color=colour,
                label=f"{name}, {counted(int(rows.sum()), 'frame')}",
            )
            if name in clear:
                order = np.argsort(clear[name][0])
                mjd, level = clear[name][0][order], clear[name][1][order]
                # Days between nights are no part of the line.
                gaps = np.flatnonzero(np.diff(mjd) > 0.4) + 1
                axes.plot(
                    dates(np.insert(mjd, gaps, mjd[gaps])),
                    np.insert(level, gaps, np.nan),
                    "-",
                    lw=1.2,
                    color=colour,
                    alpha=0.6,
                    label=f"{name}, clear sky",
                )
                # A line of a single frame, or of some minutes among weeks, cannot be seen.
                short = [
                    one for one in np.split(np.arange(mjd.size), gaps) if np.ptp(mjd[one]) < _SHORT * span
                ]
                middle = (
                    [float(np.median(mjd[one])) for one in short],
                    [float(np.median(level[one])) for one in short],
                )
                axes.plot(dates(middle[0]), middle[1], "_", ms=14, mew=1.2, color=colour, alpha=0.6)
        label_times(axes)
        axes.set_ylabel("zeropoint [mag]")
        axes.set_xlabel("time of mid-exposure [UTC]")
        legend_below(axes, 4)
        return figure


def transparency_over_time(
    mjd: Floats,
    value: Floats,
    error: Floats,
    is_cloudy: npt.NDArray[np.bool_],
    shared_err: float,
    title: str,
    why_none: str = "not known",
) -> Figure:
    """Draw the transparency of frames against time.

    Parameters
    ----------
    mjd, value, error : ndarray, shape (n,)
        Mid-exposure (UTC), transparency, and the random part of its error; NaN where not known.
    is_cloudy : ndarray of bool, shape (n,)
    shared_err : float
        Error of the clear level, which all frames share.
    title : str
    why_none : str
        What to say where no transparency is known.
    """
    shared = (
        f"\nerror bars are random; the clear level is known to {shared_err:.3f}" if shared_err > 0.0 else ""
    )
    with canvas(f"{title}{shared}") as (figure, axes):
        known = np.isfinite(value)
        if not known.any():
            draw_note(axes, why_none)
            return figure
        for rows, colour, what in ((known & ~is_cloudy, BLUE, "clear"), (known & is_cloudy, RED, "cloudy")):
            if rows.any():
                axes.errorbar(
                    dates(mjd[rows]),
                    value[rows],
                    np.nan_to_num(error[rows]),
                    fmt="o",
                    ms=3,
                    lw=0.9,
                    color=colour,
                    label=counted(int(rows.sum()), f"{what} frame"),
                )
        axes.axhline(1.0, color=GREY, lw=0.8)
        axes.set_ylim(0.0, max(1.1, 1.05 * float(np.max(value[known]))))
        label_times(axes)
        axes.set_xlabel("time of mid-exposure [UTC]")
        axes.set_ylabel("transparency (clear nights: 1)")
        legend_below(axes, 2)
        return figure


def zeropoint_against_airmass(
    frames: FrameZeropoints, lines: dict[tuple[int, str], tuple[float, float, float]], title: str
) -> Figure:
    """Draw zeropoints of frames against airmass, with the line of extinction of each night and field.

    Parameters
    ----------
    frames : FrameZeropoints
    lines : dict
        By night and band: zeropoint at the zenith, extinction and its error, mag.
    title : str
    """
    with canvas(f"{title}{frames.shared}") as (figure, axes):
        known = np.isfinite(frames.zp) & np.isfinite(frames.airmass)
        if not known.any():
            draw_note(axes, "no frame with a zeropoint has a known airmass")
            return figure
        keys = sorted(set(zip(frames.night[known].tolist(), frames.band[known].tolist(), strict=True)))
        are_named = len(keys) <= _MOST_NIGHTS
        low = _lowest(frames, lines, known)
        for key, colour in zip(keys, _night_colours(len(keys)), strict=True):
            rows = known & (frames.night == key[0]) & (frames.band == key[1])
            line = lines.get(key)
            label = f"{key[0]} {key[1]}{_extinction(key[1], line)}" if are_named else None
            _draw_night(axes, frames, rows, line, low, (colour, label))
        if not are_named:
            text = (
                f"{counted(int(known.sum()), 'frame')} of {len(keys)} nights and bands{_extinctions(lines)}"
            )
            axes.plot([], [], "o", ms=3, color=GREY, label=text)
        if lines:
            axes.set_ylim(low, float(np.max(frames.zp[known])) + 0.02)
        if beyond := int(np.count_nonzero(frames.zp[known] < low)):
            text = f"{counted(beyond, 'cloudy frame')} below the picture"
            axes.plot([], [], "v", ms=4, mfc="none", color=GREY, label=text)
        axes.set_xlabel("airmass of the image centre")
        axes.set_ylabel("zeropoint [mag]")
        legend_below(axes, 2)
        return figure


def _lowest(
    frames: FrameZeropoints,
    lines: dict[tuple[int, str], tuple[float, float, float]],
    known: npt.NDArray[np.bool_],
) -> float:
    """Return where a picture with lines of extinction ends below; clouds would squeeze the lines."""
    if not lines:
        return -np.inf
    farthest = float(np.max(frames.airmass[known])) - 1.0
    lowest = min(zenith - extinction * farthest for zenith, extinction, _ in lines.values())
    return max(lowest - _BELOW_LINES, float(np.min(frames.zp[known])) - 0.02)


def _draw_night(
    axes: Axes,
    frames: FrameZeropoints,
    rows: npt.NDArray[np.bool_],
    line: tuple[float, float, float] | None,
    low: float,
    style: tuple[str, str | None],
) -> None:
    """Draw the frames of a night, those below the picture at its edge, and the line of each of its fields."""
    colour, label = style
    above, below = rows & (frames.zp >= low), rows & (frames.zp < low)
    error = np.nan_to_num(frames.random_err)
    points = frames.airmass[above], frames.zp[above], error[above]
    axes.errorbar(*points, fmt="o", ms=3, lw=0.9, color=colour, label=label)
    at_edge = np.full(int(below.sum()), low)
    axes.plot(frames.airmass[below], at_edge, "v", ms=4, mfc="none", color=colour, clip_on=False, zorder=3)
    if line is None:
        return
    zenith, extinction, _ = line
    for number in np.unique(frames.fields[rows]):
        mine = rows & (frames.fields == number)
        deviation = frames.zp[mine] - zenith + extinction * (frames.airmass[mine] - 1.0)
        ends = np.array([frames.airmass[mine].min(), frames.airmass[mine].max()])
        level = zenith + _offset_of_field(deviation, frames.shared_err)
        axes.plot(ends, level - extinction * (ends - 1.0), "-", lw=1.2, color=colour, alpha=0.7)


def _offset_of_field(deviation: Floats, shared_err: float) -> float:
    """Return how far clear frames of a field lie above the line of the night, which is the mean of its fields."""
    clearest = float(np.quantile(deviation, _CLEAREST))
    offset = float(np.median(deviation[deviation > clearest - _CLEAR_MAG]))
    # What is farther away than fields can differ by is behind clouds.
    return offset if abs(offset) <= _MOST_SHARED * np.nan_to_num(shared_err) else 0.0


def _extinction(band: str, line: tuple[float, float, float] | None) -> str:
    """Return the extinction of a night in words, with a note where it rests on the prior alone."""
    if line is None:
        return ""
    if line[2] > _OF_PRIOR * extinction_prior(band)[1]:
        return f": {line[1]:.2f} +- {line[2]:.2f} mag/airmass (prior)"
    return f": {line[1]:.3f} +- {line[2]:.3f} mag/airmass"


def _extinctions(lines: dict[tuple[int, str], tuple[float, float, float]]) -> str:
    """Return the range of extinctions in words."""
    values = [line[1] for line in lines.values()]
    return f", {min(values):.3f} to {max(values):.3f} mag/airmass" if values else ""


def _night_colours(number: int) -> list[str]:
    """Return a colour for each of some nights; of more than there are colours they change with time."""
    if number <= len(_COLOURS):
        return list(_COLOURS[:number])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    # The brightest colours of the scale are hard to see on white.
    return [to_hex(one) for one in colormaps["viridis"](np.linspace(0.0, 0.9, number))]


def _bands(names: npt.NDArray[np.object_]) -> dict[str, str]:
    """Return a colour for each band."""
    return dict(zip(sorted(set(names.tolist())), itertools.cycle(_COLOURS), strict=False))


def version_differences(
    mjd: Floats, zp: Floats, band: npt.NDArray[np.object_], only_one: tuple[int, int], title: str
) -> Figure:
    """Draw the differences of the zeropoints of two versions against time.

    Parameters
    ----------
    mjd, zp : ndarray, shape (n,)
        Mid-exposure, and second version minus first, mag; NaN where one of them has none.
    band : ndarray of str, shape (n,)
    only_one : (int, int)
        Frames that only the first and only the second version has.
    title : str
    """
    with canvas(title) as (figure, axes):
        known = np.isfinite(zp)
        for name, colour in _bands(band[known]).items():
            rows = known & (band == name)
            median = 1000.0 * float(np.median(zp[rows]))
            label = f"{name}, {counted(int(rows.sum()), 'frame')}, median {median:+.1f} mmag"
            axes.plot(
                dates(mjd[rows]), 1000.0 * zp[rows], "o", ms=3, mew=0.0, alpha=0.6, color=colour, label=label
            )
        if not known.any():
            draw_note(axes, "no frame has a zeropoint in the same band in both versions")
            return figure
        axes.axhline(0.0, color=GREY, lw=0.8)
        first, second = only_one
        if first or second:
            axes.plot(
                [],
                [],
                " ",
                label=f"{counted(first, 'frame')} in the first version only, {second} in the second only",
            )
        label_times(axes)
        axes.set_xlabel("time of mid-exposure [UTC]")
        axes.set_ylabel("difference of zeropoints [mmag]")
        legend_below(axes, 2)
        return figure
