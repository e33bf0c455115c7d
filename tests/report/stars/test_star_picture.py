from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.report.stars.star_picture import Fold, star_figure
from skylake.report.stars.time_bins import binned, with_phase

START, PERIOD = 2460000.0, 0.8


def curve(number: int = 7, depth: float = 0.03, band: str = "V") -> dict[str, Any]:
    """A star that loses light around phase 0, on two nights."""
    random = np.random.default_rng(number)
    bjd = START + np.concatenate([np.linspace(0.3, 0.7, 60), np.linspace(1.3, 1.7, 60)])
    phase = np.abs((bjd - START - 0.5) / PERIOD - np.rint((bjd - START - 0.5) / PERIOD))
    mag = 10.0 + depth * (phase < 0.05) + random.normal(0.0, 0.004, len(bjd))
    points = [
        {
            "camera": "cam", "frame_id": place, "band": band, "bjd_tdb": time, "mjd_mid": time - 2400000.5,
            "mag": value, "mag_err": 0.05, "mag_random_err": 0.004, "mag_systematic_err": 0.05, "flux": 1e4,
            "flux_err": 20.0, "flags": 0,
        }
        for place, (time, value) in enumerate(zip(bjd.tolist(), mag.tolist(), strict=True))
    ]  # fmt: skip
    star = {"object_id": number, "catalog": "c", "ra_deg": 1.0, "dec_deg": 2.0, "measured": "detected"}
    return star | {"points": points, "bands": [{"band": band, "n_points": len(points)}]}


def bins(of: dict[str, Any], fold: Fold | None) -> pa.Table:
    table = pa.Table.from_pylist(of["points"])
    if fold is None:
        return binned(table, 0.03)
    return binned(with_phase(table, fold.period_d, fold.epoch_bjd), 0.03, fold.period_d)


@pytest.mark.parametrize("fold", [None, Fold(PERIOD, START + 0.5)])
def test_a_picture_has_the_curve_its_residuals_and_a_check_star(fold: Fold | None) -> None:
    made = star_figure(curve(), fold, bins(curve(), fold), curve(8, 0.0))
    top, middle, bottom = made.axes
    assert all(axes.yaxis_inverted() for axes in made.axes), "bright is up"
    assert (top.get_ylabel(), middle.get_ylabel()) == ("V [mag]", "minus line\nof bins\n[mmag]")
    assert top.get_title("left").endswith("error bars are random; all points share an error of 0.050 mag")
    (legend,) = made.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[0] == "V, 120 detections" and texts[1].startswith("means of ")
    assert texts[2].startswith("check star 8 of c: ")
    assert bottom.get_xlabel().startswith(
        "BJD (TDB) - 2460000 [d]" if fold is None else "phase; period 0.8 d"
    )


def test_the_title_says_how_magnitudes_were_detrended() -> None:
    made = star_figure(curve() | {"detrended": [{"detrended": "joint"}]}, None, None, None)
    assert ", joint magnitudes" in made.axes[0].get_title("left")


def test_the_legend_covers_no_panel() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    made = star_figure(curve(), None, bins(curve(), None), curve(8, 0.0))
    FigureCanvasAgg(made).draw()
    box = made.legends[0].get_window_extent()
    assert not any(box.overlaps(axes.get_tightbbox()) for axes in made.axes)


def test_a_fold_brings_the_event_to_phase_0() -> None:
    fold = Fold(PERIOD, START + 0.5)
    top = star_figure(curve(), fold, bins(curve(), fold)).axes[0]
    drawn = next(one for one in top.containers if one.get_label().startswith("means of"))
    place, mag = drawn.lines[0].get_data()
    faint = np.asarray(place)[np.asarray(mag) > 10.02]
    assert len(faint) >= 2 and np.abs(faint - np.rint(faint)).max() < 0.07


def test_points_around_one_event_fill_the_picture() -> None:
    of = curve()
    of["points"] = [point for point in of["points"] if abs(point["bjd_tdb"] - START - 0.5) < 0.1]
    low, high = star_figure(of, Fold(PERIOD, START + 0.5)).axes[0].get_xlim()
    assert -0.2 < low < -0.1 and 0.1 < high < 0.2


def test_a_star_without_magnitudes_is_said_to_have_none() -> None:
    of = curve()
    of["points"] = [point | {"mag": None} for point in of["points"]]
    (axes,) = star_figure(of, Fold(PERIOD, START)).axes
    assert "no calibrated magnitude" in axes.texts[0].get_text()


def test_points_at_the_ends_of_the_phases_are_seen_whole() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    of = curve()
    phases = np.linspace(0.0, 0.999, len(of["points"]))
    of["points"] = [
        point | {"bjd_tdb": START + PERIOD * at} for point, at in zip(of["points"], phases, strict=True)
    ]
    fold = Fold(PERIOD, START)
    made = star_figure(of, fold, bins(of, fold))
    FigureCanvasAgg(made).draw()
    for axes in made.axes:
        for drawn in (one.lines[0] for one in axes.containers):
            x = axes.transData.transform(drawn.get_xydata())[:, 0]
            half = drawn.get_markersize() / 2.0 * made.dpi / 72.0
            assert x.min() - half > axes.bbox.x0 and x.max() + half < axes.bbox.x1
