"""The picture of noise shows what the table repeatability says, by flux."""

import numpy as np
import pyarrow as pa
import pytest

from skylake.report.noise_plot import noise_against_magnitude
from skylake.schema import arrow_schema, conform, load


def rows(nights: int) -> pa.Table:
    low = np.arange(8.0, 12.0, 0.5)
    found = []
    for night in range(nights):
        for flux, factor in (("hybrid1", 1.0), ("hybrid2", 0.8)):
            for one in low:
                error = factor * 0.001 * 10 ** (0.3 * (one - 8.0))
                scatter = float(np.hypot(1.1 * error, 0.003)) * (1.0 + 0.1 * night)
                found.append(
                    {"camera": "c", "night": 20240401 + night, "band": "V", "flux": flux, "mag_low": one}
                    | {
                        "mag_high": one + 0.5,
                        "n_stars": 10,
                        "n_points": 60,
                        "n_frames": 6,
                        "scatter": scatter,
                    }
                    | {"scatter_err": 0.1 * scatter, "photon_err": error, "photon_scale": 1.1, "floor": 0.003}
                    | {f"scatter_p{p}": (0.5 + p / 100) * scatter for p in (2, 25, 75, 98)}
                    | {"is_recommended": (flux == "hybrid2") == (one >= 9.0), "scintillation": 0.002}
                )
    form = arrow_schema(load("repeatability"))
    table = pa.table({one.name: pa.array([row.get(one.name) for row in found], one.type) for one in form})
    return conform(table, load("repeatability"))


@pytest.mark.parametrize("nights", [1, 3])
def test_lines_are_those_of_the_table(nights: int) -> None:
    (axes,) = noise_against_magnitude(rows(nights), "title").axes
    assert axes.get_title(loc="left").endswith("points: hybrid1, hybrid2")
    lines = {line.get_label(): line for line in axes.lines}
    assert "hybrid1" in lines and "scintillation, 2.0 mmag" in lines
    model = lines["with fitted factor and floor"].get_ydata()
    low = np.arange(0, 4, 0.5)
    error = 10 ** (0.3 * low)
    np.testing.assert_allclose(model, np.hypot(1.1 * error * np.where(low < 1.0, 1.0, 0.8), 3.0), rtol=1e-6)
    # Of three nights the second is the median.
    other = lines["hybrid1"].get_ydata()
    night = 1.0 if nights == 1 else 1.1
    np.testing.assert_allclose(other, night * np.hypot(1.1 * error, 3.0), rtol=1e-6)


def test_no_rows_are_a_note() -> None:
    (axes,) = noise_against_magnitude(rows(1).slice(0, 0), "title").axes
    assert "five good measurements" in axes.texts[0].get_text()
