"""What noise that lasts from frame to frame does to the error of a fitted quantity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

#: A gap longer than this ends a run of frames, days; nights are apart by more.
LONGEST_GAP = 0.2
#: Share of the longest run up to which frames are held against each other.
_LONGEST_LAG = 0.5
#: Lags at which the shapes of a fit are held against themselves, and the largest share of slow noise they may take.
_LAGS_TRIED, _MOST_ABSORBED = 12, 0.6


def runs_of_frames(time: Floats, longest_gap: float = LONGEST_GAP) -> Integers:
    """Return the number of the run that each frame belongs to; a longer gap ends a run."""
    return np.concatenate([[0], np.cumsum(np.diff(time) > longest_gap)])[: len(time)].astype(np.int64)


def red_noise_factor(time: Floats, influence: Floats, pulls: Floats, fitted: Floats | None = None) -> Floats:
    """Return by how much errors of fitted quantities are larger than without correlation of frames.

    The correlation of pulls is measured over the whole curve at each lag within runs, and tapered from half of the
    longest lag on (Politis & Romano 1995, J. Time Series Anal. 16, 67). It is then propagated through what each frame
    brings to the quantity, so a transit of an hour and a sinusoid of a week have factors of their own. The correlation
    is that of the residuals: noise that lasts longer than a run is not seen.

    Parameters
    ----------
    time : ndarray, shape (n_frames,)
        Days, ascending; lags are counted in frames.
    influence : ndarray, shape (n_stars, n_columns, n_frames)
        What a pull of 1 in a frame brings to each quantity; 0 in gaps.
    pulls : ndarray, shape (n_stars, n_frames)
        Residuals over errors, without outliers; 0 in gaps.
    fitted : ndarray, shape (n_stars, n_terms, n_frames)
        Orthonormal shapes that the fit took off, in units of pulls: those that are slow took slow noise with them,
        which is made good.

    Returns
    -------
    ndarray, shape (n_stars, n_columns)
        At least 1: what a fit takes off leaves residuals that turn faster than the noise did.
    """
    run = runs_of_frames(time)
    length = int(np.bincount(run).max(initial=1))
    lags = max(int(_LONGEST_LAG * length), 1)
    place = np.arange(len(run)) - np.searchsorted(run, run)
    rows = run * 2 * length + place
    shape = (int(run[-1]) + 1 if len(run) else 1, 2 * length)

    def autocorrelation(values: Floats) -> Floats:
        laid = np.zeros((*values.shape[:-1], shape[0] * shape[1]))
        laid[..., rows] = values
        power = np.abs(np.fft.rfft(laid.reshape(*values.shape[:-1], *shape), axis=-1)) ** 2
        return np.asarray(np.fft.irfft(power.sum(axis=-2), n=shape[1], axis=-1)[..., : lags + 1])

    pairs = np.maximum(np.rint(autocorrelation((pulls != 0).astype(float))), 1.0)
    covariance = autocorrelation(pulls) / pairs
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = np.nan_to_num(covariance / covariance[:, :1])
    taper = np.minimum(2.0 - 2.0 * np.arange(lags + 1) / (lags + 1.0), 1.0)
    shared = autocorrelation(influence)
    with np.errstate(divide="ignore", invalid="ignore"):
        shared = np.nan_to_num(shared / shared[..., :1])
    factor = 1.0 + 2.0 * np.einsum("scl,sl->sc", shared[..., 1:], taper[1:] * correlation[:, 1:])
    if fitted is not None:
        absorbed = _absorbed(run, fitted, lags) / np.maximum((pulls != 0).sum(axis=1), 1)[:, None]
        share = 2.0 * np.einsum("scl,sl->sc", shared[..., 1:], taper[1:] * absorbed)
        factor = factor / (1.0 - np.clip(share, 0.0, _MOST_ABSORBED))
    return np.asarray(np.sqrt(np.maximum(factor, 1.0)))


def _absorbed(run: Integers, fitted: Floats, lags: int) -> Floats:
    """Return the sum over shapes of their products at each lag from 1 on; shape (n_stars, lags).

    It falls slowly, so some lags suffice.
    """
    chosen = np.unique(np.geomspace(1, lags, _LAGS_TRIED).astype(int))
    found = np.stack(
        [
            np.einsum("spt,spt->s", fitted[..., lag:] * (run[lag:] == run[:-lag]), fitted[..., :-lag])
            for lag in chosen
        ],
        axis=1,
    )
    every = np.arange(1, lags + 1)
    return np.stack([np.interp(every, chosen, one) for one in found])
