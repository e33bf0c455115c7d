from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from skylake.errors import CatalogError, UsageError
from skylake.flow.ingest.table_rows import TableColumns, modified_julian_date, read_frames

SKY: dict[str, Any] = {"ra": "ra", "dec": "dec", "magnitude": "m", "error": 0.1}


def written(folder: Path, rows: str) -> Path:
    path = folder / "detections.csv"
    path.write_text("ra,dec,m,frame,band\n" + rows)
    return path


def test_a_frame_of_two_filters_is_refused(tmp_path: Path) -> None:
    columns = TableColumns(**SKY, filter="band", frame="frame")
    path = written(tmp_path, "1,2,12,a,V\n1,3,12,b,R\n1,4,12,a,V\n")
    frames, _ = read_frames(path, columns)
    assert [(frame.name, frame.filter, len(frame.flux)) for frame in frames] == [("a", "V", 2), ("b", "R", 1)]
    for other in ("R", ""):
        path = written(tmp_path, f"1,2,12,a,V\n1,3,12,b,R\n1,4,12,a,{other}\n")
        sentence = rf"'band' holds other filters .* check --frame \(data row 3: .*{other}.*, not V\)"
        with pytest.raises(CatalogError, match=sentence):
            read_frames(path, columns)
    # A row that is left out is in no frame.
    frames, n_left_out = read_frames(written(tmp_path, "1,2,12,a,V\n1,4,99,a,R\n"), columns)
    assert ([frame.filter for frame in frames], n_left_out) == (["V"], 1)


@pytest.mark.parametrize("time", [20240501.0, math.inf, -math.inf, math.nan, 5.0, -3.0, 1e5 + 1])
def test_a_number_that_is_no_time_is_refused(time: float) -> None:
    with pytest.raises(UsageError, match=f"--time {time:.12g} is no time between 1900 and 2132; write MJD"):
        TableColumns(**SKY, time=modified_julian_date(time))


def test_one_time_for_all_may_be_a_julian_date() -> None:
    assert modified_julian_date(2460431.25) == modified_julian_date(60430.75) == 60430.75
    assert TableColumns(**SKY, time=60430.75).time == 60430.75
