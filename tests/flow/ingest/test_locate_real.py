"""Real frames without their headers, with a catalog of bright stars: where they point is found, and how well."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from astropy.io import fits

from skylake import cameras
from skylake.flow.catalogs.import_catalogs import import_catalog, index_imported
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns

pytestmark = pytest.mark.skipif(
    "SKYLAKE_REAL_DATA" not in os.environ, reason="SKYLAKE_REAL_DATA names no folder of real frames"
)
#: The names of the files show the time.
WIDE = r"""
name = "wide"
like = "generic"
header.wcs = "none"
header.file_time = '(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)T(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)'
optics.pixel_scale_arcsec = 40.0
"""
#: Cards that show where a frame of SkyCamZ points.
WCS_CARDS = re.compile(r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)\d|(CD|PC)\d_\d|WCSAXES|RADE(CSYS|SYS)|EQUINOX")


def without_wcs(source: Path, folder: Path) -> None:
    """Write copies of frames without a WCS, and the last without the pointing of the telescope."""
    folder.mkdir()
    for number, path in enumerate(sorted(source.glob("*.fits.gz"))):
        with fits.open(path, do_not_scale_image_data=True) as file:
            header = file[0].header
            for card in [one for one in header if WCS_CARDS.fullmatch(one)]:
                header.remove(card, ignore_missing=True, remove_all=True)
            for card in ("RA", "DEC") if number == 6 else ():
                header.remove(card)
            file.writeto(folder / path.name.removesuffix(".gz"), output_verify="silentfix")


@pytest.mark.slow
def test_frames_behind_the_lens_of_their_time_are_accepted(tmp_path: Path) -> None:
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


@pytest.mark.slow
def test_frames_of_a_degree_and_of_eleven_are_solved_and_fitted(tmp_path: Path) -> None:
    """With the shipped profile, and the index that an import builds."""
    data = Path(os.environ["SKYLAKE_REAL_DATA"])
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=1))
    columns = CatalogColumns(
        ra="ra", dec="dec", pm_ra="pmra", pm_dec="pmdec", magnitudes={"V": "V"}, magnitude_errors={"V": 0.05}
    )  # fmt: skip
    index_imported(
        lake,
        import_catalog(lake, "stars", "table", [data / "catalogs" / "bigsky_v11.parquet"], columns),
    )
    (tmp_path / "wide.toml").write_text(WIDE, encoding="utf-8")
    without_wcs(data / "skycamz", tmp_path / "skycamz")
    for camera, folder in ((tmp_path / "wide.toml", data / "widefield"), ("skycam-z", tmp_path / "skycamz")):
        report = ingest(lake, cameras.load(camera), [folder], Inline())
        assert set(report.counts) == {"ok"}, report.problems
    frames = lake.snapshot().read("frames").to_pandas().set_index("camera")
    assert len(frames.loc["wide"]) == 3 and len(frames.loc["skycam-z"]) == 7
    assert set(frames.wcs_source) == {"solved"}
    assert (frames.loc["wide"].astrom_rms_px < 0.35).all() and (frames.loc["wide"].astrom_n > 100).all()
    assert (frames.loc["skycam-z"].astrom_rms_px < 0.25).all()
    assert (frames.wcs_matched >= 0.9 * frames.wcs_expected).all()
