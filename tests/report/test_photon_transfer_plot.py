"""The picture of a photon transfer shows its points, its fit and what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skylake.report.photon_transfer_plot import transfer_picture
from skylake.report.style import save

GAIN, READ_E, C2 = 1.5, 9.0, 2e-6
LEVEL = np.array([2000.0, 8000.0, 8010.0, 30000.0])
ROW: dict[str, Any] = {
    "gain_e_per_adu": GAIN, "gain_err": 0.012, "read_noise_e": READ_E, "read_noise_err": 0.06,
    "linearity_c2": C2, "linearity_c2_err": 3e-8,
}  # fmt: skip
FIT = LEVEL / GAIN + (READ_E / GAIN) ** 2
TILES = {"LEVEL": LEVEL, "VARIANCE": 1.02 * FIT, "VARIANCE_ERR": 0.01 * FIT, "FIT": FIT}
PAIRS = {"LEVEL": LEVEL[::-1], "VARIANCE": 1.02 * FIT[::-1]}
RATIO = 1.0 / (1.0 + C2 * LEVEL)
RESPONSE = {"LEVEL": LEVEL, "RATIO": RATIO - 1e-3, "RATIO_ERR": np.full(4, 1e-3), "FIT": RATIO}


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def curve(axes: Any) -> tuple[np.ndarray, np.ndarray]:
    (line,) = [line for line in axes.lines if len(line.get_xdata()) > 100]
    return line.get_data()


def test_noise_and_response_stand_side_by_side_with_residuals(tmp_path: Path) -> None:
    tables = {"TRANSFER": PAIRS, "TILES": TILES, "LINEARITY": RESPONSE}
    figure = transfer_picture(ROW, tables, "lab: a transfer")
    noise, response, noise_left, response_left = figure.axes
    assert "gain 1.500 ± 0.012 electrons/ADU\nread noise 9.000 ± 0.060 electrons" in texts(noise)
    assert "c2 (2.000 ± 0.030) $10^{-6}$ per ADU" in texts(response)
    x, y = curve(noise)
    assert (x[0], y[0], x[-1]) == pytest.approx((0.0, (READ_E / GAIN) ** 2, 30000.0))
    assert y == pytest.approx(x / GAIN + (READ_E / GAIN) ** 2, rel=1e-3)
    x, y = curve(response)
    assert y == pytest.approx(1.0 / (1.0 + C2 * x), rel=1e-3)
    assert noise_left.lines[1].get_ydata() == pytest.approx(2.0)
    assert response_left.lines[1].get_ydata() == pytest.approx(-0.1 / RATIO)
    assert noise.get_ylabel() == "variance of a pixel [ADU$^2$]"
    assert noise_left.get_xlabel() == response_left.get_xlabel() == "signal above bias [ADU]"
    assert figure.get_suptitle() == "lab: a transfer"
    save(figure, tmp_path / "transfer.png")
    assert (tmp_path / "transfer.png").stat().st_size > 10000


def test_an_older_file_is_drawn_by_its_pairs_and_gain(tmp_path: Path) -> None:
    figure = transfer_picture(ROW, {"TRANSFER": PAIRS}, "lab: an old transfer")
    noise, left = figure.axes
    assert "pairs of flats" in texts(noise)
    x, y = curve(noise)
    assert y == pytest.approx(x / GAIN + (READ_E / GAIN) ** 2, rel=1e-3)
    assert left.lines[1].get_ydata() == pytest.approx(2.0)
    save(figure, tmp_path / "transfer.png")


def test_a_read_noise_that_nobody_knows_is_not_drawn(tmp_path: Path) -> None:
    row = ROW | {"read_noise_e": None, "read_noise_err": None}
    figure = transfer_picture(row, {"TILES": TILES}, "lab: without bias frames")
    x, _ = curve(figure.axes[0])
    assert x[0] == LEVEL[0] and "read noise" not in " ".join(texts(figure.axes[0]))
    one = {name: values[:1] for name, values in TILES.items()}
    save(transfer_picture(row, {"TILES": one}, "lab: one group"), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 5000


@pytest.mark.parametrize("odd", [-0.5, 0.0, np.nan])
def test_levels_without_light_are_no_part_of_the_curve(odd: float, tmp_path: Path) -> None:
    level = np.array([odd, *LEVEL[1:]])
    figure = transfer_picture(ROW, {"TILES": TILES | {"LEVEL": level}}, "lab: unlit corners")
    x, y = curve(figure.axes[0])
    assert (x[0], x[-1]) == (0.0, LEVEL[-1]) and np.isfinite(y).all()
    save(figure, tmp_path / "transfer.png")
    assert (tmp_path / "transfer.png").stat().st_size > 10000
