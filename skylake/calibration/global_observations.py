"""What the global solution takes: observations of stars on frames, the catalog's magnitudes, and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from skylake.calibration.global_kernels import Layout, grouped

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]

#: So many stars of the camera's own tie a group to the others; fewer might all be variables.
_FEWEST_OWN = 5


@dataclass(frozen=True)
class Observations:
    """Measurements of stars on the frames of one camera in one band; all arrays of shape (n,), in any order.

    float32 and int32 suffice, and save memory. An observation with a value that is not finite, or with an error
    that is not positive, is left out and has no weight.

    Attributes
    ----------
    frame, star, night : ndarray of int
        Numbers from 0 on. All observations of a frame have the same night.
    magnitude : ndarray
        -2.5 log10(total flux in ADU/s), without the light of neighbours.
    error : ndarray
        Photon error, magnitudes.
    u, v : ndarray
        Place on the frame, as of :func:`skylake.core.position_terms.field_coordinates`.
    airmass : ndarray
        Airmass of the star minus that of reference; 0 where extinction is part of the zeropoint. Any other property
        may stand in its place whose factor each night has of its own, as minus the colour.
    """

    frame: Any
    star: Any
    night: Any
    magnitude: Any
    error: Any
    u: Any
    v: Any
    airmass: Any

    def __post_init__(self) -> None:
        for name in ("star", "night", "magnitude", "error", "u", "v", "airmass"):
            if len(getattr(self, name)) != len(self.frame):
                raise ValueError(f"{name} has {len(getattr(self, name))} values, frame {len(self.frame)}")
        for name in ("frame", "star", "night"):
            if len(self.frame) and getattr(self, name).min() < 0:
                raise ValueError(f"{name} has negative numbers")


@dataclass(frozen=True)
class References:
    """Magnitudes of stars that are known beforehand; all arrays of shape (n_stars,).

    Attributes
    ----------
    magnitude, error : ndarray
        In the system of the catalog; NaN for stars without a magnitude.
    colour, colour_error : ndarray
        Colour minus that of the pivot; NaN where it is not known.
    is_own : ndarray of bool, or None
        Whether the magnitude is one that the camera has measured: an error of the colour or of the colour term is then
        no error of it. None if the catalog has given them all.
    """

    magnitude: Any
    error: Any
    colour: Any
    colour_error: Any
    is_own: Any = None

    def __post_init__(self) -> None:
        if self.is_own is None:
            object.__setattr__(self, "is_own", np.zeros(len(self.magnitude), bool))
        for name in ("error", "colour", "colour_error", "is_own"):
            if len(getattr(self, name)) != len(self.magnitude):
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} values, magnitude {len(self.magnitude)}"
                )

    def own_groups(self, group: Groups, n_groups: int) -> npt.NDArray[np.bool_]:
        """Tell of each connected group whether magnitudes of the camera's own tie it, shape (n_groups,).

        Parameters
        ----------
        group : ndarray of int, shape (n_stars,)
            Connected group of each star; -1 for none.
        n_groups : int
        """
        own = self._usable(group) & self.is_own
        return np.asarray(np.bincount(group[own], minlength=n_groups) >= _FEWEST_OWN)

    def tying(self, group: Groups, n_groups: int) -> npt.NDArray[np.intp]:
        """Return the stars that tie their group, given as for :meth:`own_groups`: of each those of one kind."""
        # The group -1 takes the last value.
        by_own = np.append(self.own_groups(group, n_groups), False)[group]
        return np.flatnonzero(self._usable(group) & (self.is_own == by_own))

    def _usable(self, group: Groups) -> npt.NDArray[np.bool_]:
        return np.asarray(np.isfinite(self.magnitude) & np.isfinite(self.error) & (group >= 0))

    def spread_of_colour(self, unknown: float) -> Floats:
        """Return the error of each colour, `unknown` for those that are not known; shape (n_stars,).

        It is 0 where it does not matter, as for magnitudes of the camera's own.
        """
        spread = np.where(np.isfinite(self.colour), np.nan_to_num(self.colour_error), unknown)
        return np.asarray(np.where(self.is_own, 0.0, spread), float)

    def natural(self, colour_term: float) -> Floats:
        """Return the magnitudes that the camera would see: without its colour term."""
        return np.asarray(self.magnitude - colour_term * np.nan_to_num(self.colour), float)


@dataclass(frozen=True)
class GlobalOptions:
    """How to solve.

    Attributes
    ----------
    illumination_degree : int
        Of the polynomial over the frame that all frames share; 0 for none.
    frame_degree : int
        Largest degree of a frame's own polynomial. Cross-validation chooses the degree of each frame.
    has_extinction : bool
        Fit extinction per night; needs airmasses, or what stands in their place, that differ within frames.
    extinction : (float, float)
        Its prior, magnitudes per airmass: mean and error.
    colour_term : (float, float)
        Prior of the colour term: mean and error.
    colour_spread : float
        Error of the colour of stars whose colour is not known, magnitudes.
    illumination_error : float
        Prior error of each coefficient of the illumination about 0 at most, magnitudes. The solution makes it as small
        as the coefficients are that repeats know well.
    frame_error : float
        Prior error of each coefficient of a frame's own polynomial about 0, magnitudes.
    n_rounds : int
        Rounds of robust reweighting at most.
    max_iterations : int
        Of LSMR in each round.
    accuracy : float
        Of LSMR: its gradient relative to the norms of matrix and residuals.
    tolerance : float
        Change of stars from round to round, in units of their errors, with which rounds end.
    """

    illumination_degree: int = 4
    frame_degree: int = 1
    has_extinction: bool = False
    extinction: tuple[float, float] = (0.25, 0.25)
    colour_term: tuple[float, float] = (0.0, 1.0)
    colour_spread: float = 0.45
    illumination_error: float = 0.3
    frame_error: float = 0.1
    n_rounds: int = 10
    max_iterations: int = 100
    accuracy: float = 3e-5
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.frame_degree <= self.illumination_degree:
            raise ValueError(
                f"frame_degree {self.frame_degree} is not within 0 and illumination_degree {self.illumination_degree}"
            )


@dataclass(frozen=True)
class Sorted:
    """Observations that can be used, sorted by frame and star.

    Attributes
    ----------
    layout : Layout
    magnitude, error : ndarray of float32, shape (n_used,)
    mean_airmass : ndarray, shape (n_frames,)
        What was taken off the airmasses of each frame. An extinction that moved the zeropoints of its night with it
        would be found slowly.
    rows : ndarray of int, shape (n_used,), or slice
        Which observation each is.
    n_given : int
    """

    layout: Layout
    magnitude: Any
    error: Any
    mean_airmass: Floats
    rows: Any
    n_given: int

    def in_given_order(self, values: Any) -> Any:
        """Return values of used observations at their places among all that were given; 0 elsewhere."""
        found = np.zeros(self.n_given, values.dtype)
        found[self.rows] = values
        return found


def sort(observations: Observations, n_stars: int, known: npt.NDArray[np.bool_] | None = None) -> Sorted:
    """Leave out observations that cannot be used, and sort the others.

    Parameters
    ----------
    observations : Observations
    n_stars : int
    known : ndarray of bool, shape (n_stars,), or None
        Stars whose observations can be used; None for all.

    Raises
    ------
    ValueError
        If a star is beyond `n_stars`.
    """
    frame, star = (np.asarray(keys, np.int32) for keys in (observations.frame, observations.star))
    n = len(frame)
    n_frames = int(frame.max(initial=-1)) + 1
    if n and star.max() >= n_stars:
        raise ValueError(f"star {star.max()} is beyond the {n_stars} stars given")
    night_of_frame = np.zeros(n_frames, np.int32)
    night_of_frame[frame] = observations.night
    usable = np.asarray(observations.error) > 0.0
    for values in (
        observations.magnitude,
        observations.error,
        observations.u,
        observations.v,
        observations.airmass,
    ):
        usable &= np.isfinite(values)
    if known is not None:
        usable &= known[star]
    change = np.diff(frame)
    rows: Any = slice(None)
    if not usable.all() or np.any((change < 0) | ((change == 0) & (np.diff(star) < 0))):
        by_star = grouped(star, n_stars)[1]
        rows = by_star[grouped(frame[by_star], n_frames)[1]]
        rows = rows[usable[rows]]
    starts = np.concatenate([[0], np.cumsum(np.bincount(frame[usable], minlength=n_frames))])
    values = [
        np.asarray(column, np.float32)[rows]
        for column in (
            observations.u,
            observations.v,
            observations.airmass,
            observations.magnitude,
            observations.error,
        )
    ]
    count = np.diff(starts)
    of_frame = np.repeat(np.arange(n_frames, dtype=np.int32), count)
    mean = np.bincount(of_frame, values[2], n_frames) / np.maximum(count, 1)
    centred = values[2] - mean.astype(np.float32)[of_frame]
    layout = Layout(starts.astype(np.int64), star[rows], values[0], values[1], centred, night_of_frame)
    return Sorted(layout, values[3], values[4], mean.astype(np.float32).astype(float), rows, n)
