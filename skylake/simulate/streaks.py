"""Trails of satellites."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skylake.simulate.stamps import Image

_SIGMA_PER_FWHM = 1.0 / (2.0 * np.sqrt(2.0 * np.log(2.0)))


@dataclass(frozen=True, slots=True)
class Streak:
    """A trail: both ends, which may lie outside the image, and its brightness along the way."""

    x0_px: float
    y0_px: float
    x1_px: float
    y1_px: float
    adu_per_px: float
    """Flux per pixel of its length."""


def draw_streak(random: np.random.Generator, shape: tuple[int, int], adu_per_px: float) -> Streak:
    """Return a random trail through an image; one of three begins or ends inside it."""
    height, width = shape
    through = random.uniform(0.2, 0.8, 2) * (width, height)
    angle = random.uniform(0.0, np.pi)
    long = 2.0 * np.hypot(height, width)
    back, ahead = np.where(random.random(2) < 1.0 / 6.0, random.uniform(0.05, 0.25, 2) * height, long)
    step = np.array([np.cos(angle), np.sin(angle)])
    start, end = through - back * step, through + ahead * step
    return Streak(float(start[0]), float(start[1]), float(end[0]), float(end[1]), adu_per_px)


def add_streak(image: Image, streak: Streak, fwhm_px: float) -> None:
    """Add a trail with a Gaussian cross-section to an image, in place."""
    from scipy.special import erf

    sigma = fwhm_px * _SIGMA_PER_FWHM
    run_x, run_y = streak.x1_px - streak.x0_px, streak.y1_px - streak.y0_px
    length = float(np.hypot(run_x, run_y))
    x = np.arange(image.shape[1], dtype=np.float32)[None, :] - np.float32(streak.x0_px)
    y = np.arange(image.shape[0], dtype=np.float32)[:, None] - np.float32(streak.y0_px)
    across = (y * np.float32(run_x / length) - x * np.float32(run_y / length)) / np.float32(sigma)
    near = np.nonzero(np.abs(across) < 6.0)
    along = ((x * np.float32(run_x / length) + y * np.float32(run_y / length))[near]) / sigma
    ends = 0.5 * (erf(along / np.sqrt(2.0)) - erf((along - length / sigma) / np.sqrt(2.0)))
    profile = np.exp(-0.5 * across[near].astype(float) ** 2) / (sigma * np.sqrt(2.0 * np.pi))
    image[near] += (streak.adu_per_px * profile * ends).astype(np.float32)


def clip_streak(streak: Streak, shape: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """Return both ends of the part of a trail inside an image; None if it misses (Liang & Barsky 1984)."""
    run_x, run_y = streak.x1_px - streak.x0_px, streak.y1_px - streak.y0_px
    first, last = 0.0, 1.0
    for run, start, top in ((run_x, streak.x0_px, shape[1]), (run_y, streak.y0_px, shape[0])):
        if run == 0.0:
            if not -0.5 <= start <= top - 0.5:
                return None
            continue
        low, high = sorted(((-0.5 - start) / run, (top - 0.5 - start) / run))
        first, last = max(first, low), min(last, high)
    if first >= last:
        return None
    return (
        streak.x0_px + first * run_x,
        streak.y0_px + first * run_y,
        streak.x0_px + last * run_x,
        streak.y0_px + last * run_y,
    )
