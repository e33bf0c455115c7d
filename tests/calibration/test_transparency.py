from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import skylake
from skylake.calibration.transparency import frame_transparency
from skylake.schema import arrow_schema, load

VIEWS = Path(skylake.__file__).parents[1] / "sql" / "duckdb" / "views.sql"


def rows_of(table: str, rows: list[dict[str, Any]]) -> pa.Table:
    schema = arrow_schema(load(table))
    return pa.table({item.name: pa.array([row.get(item.name) for row in rows], item.type) for item in schema})


def a_lake() -> dict[str, pa.Table]:
    """A clear frame, one behind a cloud, one of the whole sky, one of a night that is not known, one uncalibrated."""
    common = {
        "camera": "lab",
        "band": "V",
        "catalog": "cat",
        "version": 1,
        "mjd_mid": 60408.0,
        "flux": "aper2",
    }
    known = common | {"night": 20240407, "zp_err": 0.02, "zp_fit_err": 0.01}
    zeropoints = [
        known | {"frame_id": 1, "zp": 17.9},
        known | {"frame_id": 2, "zp": 17.55},
        known | {"frame_id": 3, "zp": 18.0, "extinction": 0.2, "zp_fit_err": None},
        known | {"frame_id": 4, "zp": 18.0, "night": 20240408},
        known | {"frame_id": 5, "zp": None},
    ]
    frames = [{"frame_id": i, "camera": "lab", "night": 20240407, "airmass": 1.5} for i in range(1, 6)]
    judged = common | {
        "night": 20240407, "zp_clear": 18.0, "zp_clear_err": 0.006, "extinction": 0.2, "extinction_err": 0.02,
        "p_photometric": 0.9,
    }  # fmt: skip
    unknown = common | {"night": 20240408, "extinction": 0.2, "extinction_err": 0.02}
    return {
        "zeropoints": rows_of("zeropoints", zeropoints),
        "frames": rows_of("frames", frames),
        "photometric_nights": rows_of("photometric_nights", [judged, unknown]),
    }


def test_transparency_is_relative_to_clear_nights_at_the_airmass_of_the_frame() -> None:
    tables = a_lake()
    found = frame_transparency(tables["zeropoints"], tables["frames"], tables["photometric_nights"])
    assert found.value[:3] == pytest.approx([1.0, 10 ** (-0.4 * 0.35), 1.0])
    assert np.isnan(found.value[3:]).all() and np.isnan(found.error[3:]).all()
    of_k = 0.02 * 0.5
    relative = np.array([np.sqrt(0.006**2 + of_k**2 + 0.01**2), np.hypot(0.006, 0.02)]) / 1.0857362
    assert found.error[0] == pytest.approx(relative[0], rel=1e-5)
    assert found.error[2] == pytest.approx(relative[1], rel=1e-5), "the whole sky: no error of the extinction"
    assert found.is_cloudy.tolist() == [False, True, False, False, False]


def test_the_view_has_the_same() -> None:
    tables = a_lake()
    found = frame_transparency(tables["zeropoints"], tables["frames"], tables["photometric_nights"])
    text = VIEWS.read_text()
    start = text.index("CREATE VIEW transparency")
    with duckdb.connect() as connection:
        for name, rows in tables.items():
            connection.register(name, rows)
        connection.execute("CREATE VIEW zeropoints_in_force AS SELECT * FROM zeropoints")
        connection.execute(text[start : text.index(";", start)])
        rows = connection.sql("SELECT * FROM transparency ORDER BY frame_id").to_arrow_table().to_pylist()
    assert [row["frame_id"] for row in rows] == [1, 2, 3, 4]
    for i, row in enumerate(rows[:3]):
        assert row["transparency"] == pytest.approx(found.value[i])
        assert row["transparency_err"] == pytest.approx(found.error[i])
        assert row["is_cloudy"] == found.is_cloudy[i]
    assert rows[3]["transparency"] is None and rows[3]["is_cloudy"] is None
