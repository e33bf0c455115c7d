"""Epochs of focal planes, and what is usual of angles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skylake import cameras
from skylake.cameras import Profile
from skylake.core.attitudes import attitude_of, matrix_of_place, place_of_matrix
from skylake.core.rotations import rotation_matrix, rotation_vector
from skylake.flow.astrometry.detector_frames import Frames
from skylake.flow.astrometry.learn_focal_plane import MosaicReport, _learn, _usual_angle, epochs_of
from skylake.image.solving.expected_pointing import frame_matrix, moved_to, placed_lens
from skylake.image.wcs.lens_text import lens_text

TWO = """
like = "sim"
name = "two"

[[chip]]
name = "C1"
header.extension = 1
place = { x_arcsec = -960.0, y_arcsec = 0.0 }

[[chip]]
name = "C2"
header.extension = 2
place = { x_arcsec = 960.0, y_arcsec = 0.0, angle_deg = 90.0 }

[[period]]
from = 2024-06-01
CHANGE
"""


@pytest.mark.parametrize(
    ("change", "count"),
    [
        ('chip = [{ name = "C2", place.angle_deg = 90.4 }]', 2),
        ('chip = [{ name = "C1", place.x_arcsec = -950.0 }]', 2),
        ('comment = "new mirrors"', 1),
    ],
)
def test_whichever_chip_is_moved_begins_an_epoch(tmp_path: Path, change: str, count: int) -> None:
    (tmp_path / "two.toml").write_text(TWO.replace("CHANGE", change))
    epochs = epochs_of(cameras.load_chips(tmp_path / "two.toml"))
    assert len(epochs) == count
    assert (epochs[0][0], epochs[-1][1]) == (-math.inf, math.inf)
    assert [end for _, end in epochs[:-1]] == [start for start, _ in epochs[1:]]


@pytest.mark.parametrize("usual", [-179.99, -40.0, 0.0, 179.98])
def test_the_usual_angle_is_that_of_most_of_very_many(usual: float) -> None:
    random = np.random.default_rng(4)
    turn = usual + random.normal(0.0, 0.02, 60_000)
    turn[::3] = random.uniform(-180.0, 180.0, 20_000)
    found = _usual_angle((turn + 180.0) % 360.0 - 180.0)
    assert abs((found - usual + 180.0) % 360.0 - 180.0) < 0.01


FOUR = """
like = "sim"
name = "four"
optics.pixel_scale_arcsec = 8.0
""" + "".join(
    f'[[chip]]\nname = "C{n}"\nheader.extension = {n}\nplace = {{ x_arcsec = {x}, y_arcsec = {y}, angle_deg = {a} }}\n'
    for n, x, y, a in (
        (1, -960.0, -960.0, 0.0),
        (2, 960.0, -960.0, 90.0),
        (3, -960.0, 960.0, 0.0),
        (4, 960.0, 960.0, 180.0),
    )
)
SHAPE, N_STARS, NOISE_PX, EXPOSURES = (200, 220), 40, 0.1, 5


def drawn_row(
    profile: Profile, place: np.ndarray, attitude: np.ndarray, random: np.random.Generator
) -> dict[str, Any]:
    """The row of a frame whose lens was fitted to stars that were seen with some noise."""
    base = placed_lens(profile.base, SHAPE)
    assert base is not None
    x, y = random.uniform(0.0, SHAPE[1], N_STARS), random.uniform(0.0, SHAPE[0], N_STARS)
    sky = moved_to(base, SHAPE, place @ attitude).to_vectors(x, y)
    x, y = (values + random.normal(0.0, NOISE_PX, N_STARS) for values in (x, y))
    # The rotation that leads directions of the sky to those that were seen best (Kabsch 1976).
    left, _, right = np.linalg.svd(base.to_vectors(x, y).T @ sky)
    lens = base.turned(left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right)
    off = np.array(lens.to_pixels(sky)) - [x, y]
    return {
        "file": "", "mjd_mid": 60000.0, "status": "ok", "reason": None, "wcs_source": "solved",
        "wcs_lens": lens_text(lens), "wcs_matched": N_STARS, "astrom_n": N_STARS, "pixel_scale_arcsec": 8.0,
        "astrom_rms_px": float(np.sqrt(np.mean(np.sum(off**2, axis=0)))), "width_px": SHAPE[1],
        "height_px": SHAPE[0],
    }  # fmt: skip


def test_places_are_learned_within_their_errors(tmp_path: Path) -> None:
    (tmp_path / "four.toml").write_text(FOUR)
    chips = cameras.load_chips(tmp_path / "four.toml")
    start = np.array([matrix_of_place(*one.base.place_arcsec, one.base.place.angle_deg) for one in chips])
    pulls: list[float] = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        turns = random.normal(0.0, 1.0, (len(chips), 3)) * np.radians([12.0 / 3600.0, 12.0 / 3600.0, 0.2])
        true = np.array([rotation_matrix(turn) @ one for turn, one in zip(turns, start, strict=True)])
        skies = [attitude_of(*one) for one in random.uniform((0, -80, 0), (360, 80, 360), (EXPOSURES, 3))]
        rows = [
            drawn_row(chip, place, sky, random)
            for sky in skies
            for chip, place in zip(chips, true, strict=True)
        ]
        chip = np.tile(np.arange(len(chips)), EXPOSURES)
        frames, report = Frames(rows, chip, np.repeat(np.arange(EXPOSURES), len(chips))), MosaicReport()
        found = _learn(frames, [one.base for one in chips], (-math.inf, math.inf), report)
        assert len(found) == len(chips) and report.apart == []
        for _ in range(9):
            moved = [rotation_vector(a.T @ b) for a, b in zip(start, true, strict=True)]
            true = true @ rotation_matrix(-np.mean(moved, axis=0))
        for told, matrix in zip(report.chips, true, strict=True):
            x, y, angle = place_of_matrix(matrix)
            turn = (told["angle_deg"] - angle + 180.0) % 360.0 - 180.0
            pulls += [
                (told["x_arcsec"] - x) / told["x_err_arcsec"], (told["y_arcsec"] - y) / told["y_err_arcsec"],
                turn / told["angle_err_deg"],
            ]  # fmt: skip
        assert np.allclose(frame_matrix(found[0].lens, SHAPE), true[0], atol=np.radians(0.05))
    assert len(pulls) == 240
    assert 0.8 < np.sqrt(np.mean(np.square(pulls))) < 1.25
    assert np.abs(pulls).max() < 4.5
