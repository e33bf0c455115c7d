from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from skylake.cameras import Profile
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.zeropoints.calibrate_nights import Choice, calibrate
from skylake.flow.zeropoints.calibrated_nights import Method
from skylake.flow.zeropoints.calibration_outcome import nothing_calibrated
from skylake.flow.zeropoints.uncovered_fields import of_unmatched
from skylake.lake import Lake
from skylake.sky.lake_catalogs import ReferenceCatalog

pytestmark = pytest.mark.xdist_group("lsdb")


class Listening(Silent):
    """Keeps the lines of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_a_catalog_without_stars_in_the_field_is_named_with_the_fix(
    lake: Lake, archive: Any, columns: Any, profile: Profile, tmp_path: Path
) -> None:
    stars = pq.read_table(archive.catalog)
    away = stars.set_column(stars.schema.get_field_index("dec"), "dec", pc.add(stars["dec"], 30.0))
    pq.write_table(away, tmp_path / "away.parquet")
    import_catalog(lake, "away", "table", [tmp_path / "away.parquet"], columns)
    ingest(lake, profile, archive.frames[:2], Inline())
    heard, choice = Listening(), Choice(method=Method.GLOBAL)
    calibrate(lake, Inline(), progress=heard, choice=choice)
    assert not [line for line in heard.lines if "stars were measured on" in line]
    sentence = nothing_calibrated(lake, choice) or ""
    assert sentence.startswith(
        "no frame of 2 has a zeropoint (no_matches: 2); the catalog away has no star in the field of "
    )
    assert str(min(archive.frames[:2])) in sentence and "`skylake catalog import " in sentence
    messages = set(lake.snapshot().read("zeropoints")["message"].to_pylist())
    assert messages == {"no detection of the frame matches a star of the catalog away"}
    # The advice helps.
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    assert calibrate(lake, Inline(), catalog="simcat").n_zeropoints == 2


def test_where_there_are_stars_the_pointing_is_in_doubt(calibrated_once: Lake) -> None:
    snapshot = calibrated_once.snapshot()
    reference = ReferenceCatalog.open(snapshot.catalog("simcat"))
    frames = snapshot.read("frames", ["frame_id"])["frame_id"].combine_chunks()
    advice = of_unmatched(snapshot, "small", reference, frames)
    assert "the catalog simcat has " in advice and "check where the frame points" in advice
