from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skylake.lake import Lake
from skylake.report.files import write_healpix_fits
from skylake.table.combine_maps import MAPS, combine


@settings(max_examples=20, deadline=None)
@given(values=arrays(float, 12 * 4**2, elements=st.floats(-1e6, 1e6) | st.just(np.nan)))
def test_healpy_reads_the_map_that_was_written(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("maps") / "map.fits"
    write_healpix_fits(path, values, 2, "residual", "mag", [])
    read, header = healpy.read_map(path, nest=None, h=True, dtype=np.float32)
    cards = dict(header)
    assert (cards["ORDERING"], cards["NSIDE"], cards["COORDSYS"], cards["INDXSCHM"]) == (
        "NESTED", 4, "C", "IMPLICIT",
    )  # fmt: skip
    known = np.isfinite(values)
    assert np.array_equal(read[known], values[known].astype(np.float32))
    assert (read[~known] == np.float32(healpy.UNSEEN)).all()


def test_astropy_reads_it_with_its_unit_and_cards(tmp_path: Path) -> None:
    from astropy import units
    from astropy.io import fits
    from astropy.table import QTable

    path = tmp_path / "new" / "map.fits"
    write_healpix_fits(
        path, np.arange(48.0), 1, "exposure", "s", [("CATALOG", "simcat", "reference catalog")]
    )
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "EXPOSURE"]
        header = hdus[1].header
        assert (header["PIXTYPE"], header["CATALOG"]) == ("HEALPIX", "simcat")
        assert header.comments["CATALOG"] == "reference catalog"
        assert (header["FIRSTPIX"], header["LASTPIX"]) == (0, 47)
    table = QTable.read(path, hdu=1)
    assert table["EXPOSURE"].unit == units.s
    assert np.array_equal(table["EXPOSURE"].value, np.arange(48.0))


def test_a_map_without_a_unit_has_no_unit(tmp_path: Path) -> None:
    from astropy.io import fits

    write_healpix_fits(tmp_path / "map.fits", np.zeros(12), 0, "visits", "", [])
    assert "TUNIT1" not in fits.getheader(tmp_path / "map.fits", 1)


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        write_healpix_fits(tmp_path / "map.fits", np.full(12, value), 0, "visits", "", [])
    assert healpy.read_map(tmp_path / "map.fits", nest=True).tolist() == [2.0] * 12


@pytest.mark.xdist_group("lsdb")
@pytest.mark.parametrize("name", MAPS)
def test_maps_of_a_lake_go_through_the_file_unchanged(lake: Lake, tmp_path: Path, name: str) -> None:
    made = combine(lake.snapshot().read("maps"), name)
    write_healpix_fits(tmp_path / "map.fits", made.full(), made.order, name, MAPS[name].unit, [])
    read = healpy.read_map(tmp_path / "map.fits", nest=True, dtype=np.float32)
    seen = np.flatnonzero(read != np.float32(healpy.UNSEEN))
    assert np.array_equal(seen, made.pixels)
    assert np.array_equal(read[seen], made.values.astype(np.float32))
    ra, _ = healpy.pix2ang(2**made.order, seen, nest=True, lonlat=True)
    assert len(seen) > 3
    assert np.abs((ra + 180.0) % 360.0 - 180.0).max() < 1.0
