"""The reader gives the light curve that the command prints."""

from __future__ import annotations

import pytest
from astropy.table import QTable
from astropy.units import Unit

from skylake.errors import LakeError, UsageError
from skylake.reading.lightcurves import LightCurve
from skylake.reading.reader import LakeReader
from skylake.report.curves import curve_of_object
from skylake.schema import load


@pytest.fixture(scope="module")
def curve(lake: LakeReader) -> LightCurve:
    return lake.lightcurve(2)


def test_points(lake: LakeReader, curve: LightCurve) -> None:
    told = curve_of_object(lake._snapshot, 2)
    assert curve.arrow().to_pylist() == told["points"]
    assert curve.bands == told["bands"]
    assert (curve.object_id, curve.catalog, curve.measured) == (2, "simcat", "detected")
    assert (curve.ra_deg, curve.dec_deg, curve.separation_arcsec) == (told["ra_deg"], told["dec_deg"], None)
    assert f"{curve!r}".startswith("<LightCurve of star 2 of simcat at ")


def test_units(curve: LightCurve) -> None:
    frame = curve.pandas()
    assert frame.attrs["units"]["mag"] == "mag" and frame.attrs["units"]["bjd_tdb"] == "d"
    assert frame.attrs["units"]["flux"] == "adu/s"


def test_an_astropy_table_of_a_curve(curve: LightCurve) -> None:
    table, columns = curve.astropy(), load("lightcurves")["lightcurve"].columns
    assert len(table) == len(curve) and tuple(table.colnames) == curve.columns
    for column in columns:
        if column.name in table.colnames:
            assert table[column.name].description == column.description
            assert table[column.name].unit == (column.unit and Unit(column.unit))
    assert QTable(table)["mag"].unit == "mag"


def test_ways_to_name_a_star(lake: LakeReader, curve: LightCurve) -> None:
    ra, dec = curve.ra_deg + 0.001, curve.dec_deg
    for found in (
        lake.lightcurve("2"), lake.lightcurve(object_id=2), lake.lightcurve(ra, dec), lake.lightcurve(ra=ra, dec=dec),
        lake.lightcurve(ra, dec, radius_arcsec=10, measured="detected"),
    ):  # fmt: skip
        assert found.arrow().equals(curve.arrow())
    assert lake.lightcurve(ra, dec).separation_arcsec == pytest.approx(3.4, abs=0.3)


def test_no_star(lake: LakeReader) -> None:
    for star, named in (((), {}), ((1, 2, 3), {}), ((), {"ra": 1.0}), ((2,), {"ra": 1.0}), ((), {"star": 2})):
        with pytest.raises(UsageError, match=r"name one star: by its identifier, as in lake.lightcurve\(2\)"):
            lake.lightcurve(*star, **named)
    with pytest.raises(LakeError, match="there is no light curve of the star 99999999"):
        lake.lightcurve(99999999)
    with pytest.raises(LakeError, match=r"there is no light curve within 60 arcsec of 10\.0 80\.0"):
        lake.lightcurve(10.0, 80.0)
    with pytest.raises(UsageError, match="the dec is a number from -90 to 90 degrees, and not 100"):
        lake.lightcurve(10.0, 100.0)
    with pytest.raises(UsageError, match="the radius is a number from 0 to 648000 arcseconds, and not -5"):
        lake.lightcurve(10.0, 10.0, radius_arcsec=-5)
    with pytest.raises(UsageError, match="there is no measurement 'all'"):
        lake.lightcurve(2, measured="all")  # type: ignore[arg-type]
    with pytest.raises(LakeError, match=r"star 2 of simcat at .* has no forced light curve, only one of its"):
        lake.lightcurve(2, measured="forced")
