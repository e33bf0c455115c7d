"""Real frames without their headers, with a catalog of bright stars: where they point is found, and how well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skylake import cameras
from skylake.flow.catalogs import import_catalog
from skylake.flow.cluster import Inline
from skylake.flow.ingest import ingest
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.sky.asterism_index import build_index
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.catalogs import ReferenceCatalog

pytestmark = pytest.mark.skipif(
    "SKYLAKE_REAL_DATA" not in os.environ, reason="SKYLAKE_REAL_DATA names no folder of real frames"
)
#: The names of the files tell the time.
WIDE = r"""
name = "wide"
like = "generic"
header.wcs = "none"
header.file_time = '(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)T(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)'
optics.pixel_scale_arcsec = 40.0
"""
NARROW = 'name = "narrow"\nlike = "skycam-z"\nheader.wcs = "none"\n'


@pytest.mark.slow
def test_frames_behind_the_lens_of_their_time_are_taken_as_they_are(tmp_path: Path) -> None:
    data = Path(os.environ["SKYLAKE_REAL_DATA"])
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=1))
    columns = CatalogColumns(
        ra="ra", dec="dec", pm_ra="pmra", pm_dec="pmdec", magnitudes={"V": "V"}, magnitude_errors={"V": 0.05}
    )  # fmt: skip
    import_catalog(lake, "bright", "table", [data / "catalogs" / "bigsky_v11.parquet"], columns)
    report = ingest(lake, cameras.load("skycam-t"), [data / "skycamt"], Inline())
    assert report.counts == {"ok": 12} and report.contradictions == [], report.problems
    frames = lake.snapshot().read("frames").to_pandas()
    assert (frames.wcs_matched > 0.8 * frames.wcs_expected).all() and (frames.n_sources > 3000).all()


def test_frames_of_a_degree_and_of_eleven_are_solved_and_fitted(tmp_path: Path) -> None:
    data = Path(os.environ["SKYLAKE_REAL_DATA"])
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=1))
    columns = CatalogColumns(
        ra="ra", dec="dec", pm_ra="pmra", pm_dec="pmdec", magnitudes={"V": "V"}, magnitude_errors={"V": 0.05}
    )  # fmt: skip
    import_catalog(lake, "stars", "table", [data / "catalogs" / "bigsky_v11.parquet"], columns)
    build_index(ReferenceCatalog.open(lake.layout.catalog("stars")), "V", 0.9, 15.0)
    for name, text in (("widefield", WIDE), ("skycamz", NARROW)):
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
        report = ingest(lake, cameras.load(tmp_path / f"{name}.toml"), [data / name], Inline())
        assert set(report.counts) == {"ok"}, report.problems
    frames = lake.snapshot().read("frames").to_pandas().set_index("camera")
    assert len(frames.loc["wide"]) == 3 and len(frames.loc["narrow"]) == 7
    assert set(frames.wcs_source) == {"solved"}
    assert (frames.loc["wide"].astrom_rms_px < 0.35).all() and (frames.loc["wide"].astrom_n > 100).all()
    assert (frames.loc["narrow"].astrom_rms_px < 0.25).all()
    assert (frames.wcs_matched >= 0.9 * frames.wcs_expected).all()
