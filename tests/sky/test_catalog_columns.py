from __future__ import annotations

import dataclasses
import math
from typing import Any

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import Angle
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.ids import text_id
from skylake.core.sphere import healpix_index
from skylake.errors import CatalogError, UsageError
from skylake.schema import arrow_schema
from skylake.sky.catalog_columns import CatalogColumns, Cut, catalog_schema
from skylake.sky.catalog_rows import ImportReport, standardise
from skylake.sky.catalog_values import mixed_id, position_id

few = settings(max_examples=40, deadline=None)

COLUMNS = CatalogColumns(
    ra="ra",
    dec="dec",
    id="id",
    pm_ra="pmra",
    pm_dec="pmdec",
    magnitudes={"V": "V", "g": "g'mag"},
    magnitude_errors={"V": "e_V", "g": 0.05},
    colours={"B-V": "B-V"},
)
SENTINELS = [None, math.nan, math.inf, -math.inf, -999.0, -9999.0, 99.99, 99.0, -99.9, 90.0, -90.0]

ras = st.one_of(
    st.floats(-400, 800), st.sampled_from([None, math.nan, math.inf, -999.0, 0.0, -0.0, 360.0, -1e-20])
)
decs = st.one_of(st.floats(-95, 95), st.sampled_from([None, math.nan, 90.0, -90.0, -0.0]))
mags = st.one_of(st.floats(-2, 30), st.sampled_from(SENTINELS))
errors = st.one_of(st.floats(1e-3, 1), st.sampled_from([*SENTINELS, 0.0, -0.1]))
motions = st.one_of(st.floats(-11_000, 11_000), st.sampled_from([None, math.nan, -9999.0, 1e20, -999.0]))
stars = st.fixed_dictionaries(
    {"ra": ras, "dec": decs, "id": st.integers(0, 2**63 - 1), "pmra": motions, "pmdec": motions}
    | {"V": mags, "e_V": errors, "g'mag": mags, "B-V": mags}
)
tables = st.lists(stars, max_size=20)


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    types = {name: pa.float64() for name in COLUMNS.wanted} | {"id": pa.int64()}
    return pa.table({name: pa.array([row[name] for row in rows], kind) for name, kind in types.items()})


def one(**values: Any) -> pa.Table:
    """A table of one plain star, with some columns replaced."""
    plain = {name: [1.0] for name in COLUMNS.wanted} | {"id": [1]}
    return pa.table(plain | {name: [value] for name, value in values.items()})


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def measured(value: float | None) -> float | None:
    """The rule for magnitudes, for one number."""
    return float(np.float32(value)) if finite(value) and -90 < value < 90 else None


@few
@given(tables)
def test_rules_hold_row_by_row(rows: list[dict[str, Any]]) -> None:
    table, report = standardise(table_of(rows), COLUMNS)
    placed = [row for row in rows if finite(row["ra"]) and finite(row["dec"])]
    edge = 1e-4
    kept = [row for row in placed if -180 - edge <= row["ra"] <= 360 + edge and abs(row["dec"]) <= 90 + edge]
    assert report == ImportReport(len(rows), len(rows) - len(placed), len(placed) - len(kept))
    assert table.num_rows == len(kept)
    assert table.schema.equals(arrow_schema(COLUMNS.schema), check_metadata=True)
    for row, star in zip(kept, table.to_pylist(), strict=True):
        assert star["ref_id"] == row["id"]
        assert star["name"] is None
        assert 0 <= star["ra_deg"] < 360
        assert math.isclose(math.cos(math.radians(star["ra_deg"] - row["ra"])), 1, abs_tol=1e-12)
        assert star["dec_deg"] == min(max(row["dec"], -90.0), 90.0)
        assert star["mag_V"] == measured(row["V"])
        assert star["mag_g"] == measured(row["g'mag"])
        assert star["colour_B_V"] == measured(row["B-V"])
        error = measured(row["e_V"])
        known = measured(row["V"]) is not None and error is not None and error > 0
        assert star["mag_V_err"] == (error if known else None)
        assert star["mag_g_err"] == (None if star["mag_g"] is None else float(np.float32(0.05)))
        for component in ("pm_ra", "pm_dec"):
            motion = row[component.replace("_", "")]
            moving = finite(motion) and abs(motion) <= 20_000 and motion not in (-999, -9999)
            assert star[f"{component}_mas_yr"] == (float(np.float32(motion)) if moving else None)


@few
@given(tables)
def test_index_is_that_of_the_position(rows: list[dict[str, Any]]) -> None:
    table, _ = standardise(table_of(rows), COLUMNS)
    expected = healpix_index(table["ra_deg"].to_numpy(), table["dec_deg"].to_numpy())
    assert np.array_equal(table["_healpix_29"].to_numpy(), expected)


@few
@given(tables, st.integers(0, 20), st.booleans())
def test_batch_boundaries_change_nothing(rows: list[dict[str, Any]], cut: int, with_id: bool) -> None:
    columns = COLUMNS if with_id else CatalogColumns("ra", "dec", magnitudes={"V": "V"})
    whole, report = standardise(table_of(rows), columns)
    parts = [standardise(table_of(rows[:cut]), columns), standardise(table_of(rows[cut:]), columns)]
    assert pa.concat_tables([table for table, _ in parts]).equals(whole)
    assert parts[0][1] + parts[1][1] == report


@few
@given(tables, st.randoms(use_true_random=False))
def test_identifiers_from_positions_do_not_depend_on_order(rows: list[dict[str, Any]], random: Any) -> None:
    columns = CatalogColumns("ra", "dec")
    shuffled = random.sample(rows, len(rows))
    first, second = (standardise(table_of(some), columns)[0] for some in (rows, shuffled))
    key = [(name, "ascending") for name in first.column_names]
    assert first.sort_by(key).equals(second.sort_by(key))
    positions = set(zip(first["ra_deg"].to_pylist(), first["dec_deg"].to_pylist(), strict=True))
    assert len(set(first["ref_id"].to_pylist())) == len(positions)


def test_identifiers_from_positions_are_spread_and_stable() -> None:
    grid = np.linspace(0.0, 359.9, 300)
    ra, dec = (axis.ravel() for axis in np.meshgrid(grid, grid / 4 - 45))
    found = position_id(ra, dec)
    assert len(np.unique(found)) == len(found)
    assert found.min() >= 0
    # Half of all identifiers are above the middle of the range, within 5 standard deviations.
    assert abs(np.mean(found > 2**62) - 0.5) < 5 * 0.5 / math.sqrt(len(found))
    assert position_id(np.array([-0.0]), np.array([0.0])) == position_id(np.array([0.0]), np.array([-0.0]))


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1))
def test_mixed_identifiers_are_those_of_splitmix64(rows: list[tuple[int, int]]) -> None:
    """The identifiers stand in lakes, so they may never change: here they are again, in whole numbers."""

    def finalise(state: int) -> int:
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    expected = []
    for row in rows:
        state = 0
        for word in row:
            state = finalise((state + 0x9E3779B97F4A7C15) % 2**64 ^ word)
        expected.append(state >> 1)
    words = np.array(rows, np.uint64)
    assert mixed_id(words[:, 0], words[:, 1]).tolist() == expected
    ra, dec = (np.ascontiguousarray(column).view(np.float64) for column in words.T)
    plain = np.isfinite(ra) & np.isfinite(dec) & (ra != 0) & (dec != 0)
    assert position_id(ra[plain], dec[plain]).tolist() == np.array(expected)[plain].tolist()


@few
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=1))
def test_text_identifiers(names: list[str]) -> None:
    names = ["TYC " + name for name in names]
    batch = pa.table(
        {"ra": [1.0] * len(names), "dec": [2.0] * len(names), "id": [f" {name} " for name in names]}
    )
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        cast = batch.set_column(2, "id", batch["id"].cast(kind))
        table, _ = standardise(cast, CatalogColumns("ra", "dec", id="id"))
        assert table["ref_id"].to_pylist() == [text_id(name) for name in names]
        assert table["name"].to_pylist() == names


@few
@given(st.lists(st.integers(0, 2**63 - 1), min_size=1))
def test_an_integer_is_the_same_identifier_however_it_is_stored(numbers: list[int]) -> None:
    columns = CatalogColumns("ra", "dec", id="id")
    here = {"ra": [1.0] * len(numbers), "dec": [2.0] * len(numbers)}
    for ids in (
        pa.array(numbers, pa.uint64()),
        pa.array(numbers),
        pa.array([str(number) for number in numbers]),
    ):
        table, _ = standardise(pa.table(here | {"id": ids}), columns)
        assert table["ref_id"].to_pylist() == numbers
        assert table["name"].null_count == len(numbers)
    small = [number % 2**53 for number in numbers]
    table, _ = standardise(pa.table(here | {"id": pa.array(small, pa.float64())}), columns)
    assert table["ref_id"].to_pylist() == small


def test_a_text_that_only_resembles_an_integer_stays_a_text() -> None:
    names = ["007", "12", "9223372036854775807", "9223372036854775808", "1e3", "4049-1234-1"]
    batch = pa.table({"ra": [1.0] * 6, "dec": [2.0] * 6, "id": names})
    table, _ = standardise(batch, CatalogColumns("ra", "dec", id="id"))
    expected = [text_id("007"), 12, 2**63 - 1, *map(text_id, names[3:])]
    assert table["ref_id"].to_pylist() == expected
    assert table["name"].to_pylist() == ["007", None, None, *names[3:]]


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([5, -1]),
        pa.array([5, 2**63], pa.uint64()),
        pa.array([5.0, 5.5]),
        pa.array([5.0, 2.0**60]),
        pa.array(["5", "-7"]),
    ],
)
def test_an_identifier_that_cannot_be_one_names_column_and_row(ids: pa.Array) -> None:
    # A row that is dropped before it does not shift the number of the row.
    padded = pa.concat_arrays([ids.slice(1), ids])
    batch = pa.table({"ra": [math.nan, 1.0, 2.0], "dec": [0.0, 1.0, 2.0], "objID": padded})
    with pytest.raises(CatalogError, match=r"stars\.csv: the column 'objID' .*data row 1003\)"):
        standardise(batch, CatalogColumns("ra", "dec", id="objID"), source="stars.csv", first_row=1000)


@given(st.floats(0, 359.999), st.floats(-89.999, 89.999), st.sampled_from([":", " ", "hms"]))
def test_sexagesimal_text(ra: float, dec: float, separator: str) -> None:
    hours = Angle(ra, u.deg).to_string(u.hourangle, sep=separator, precision=6, pad=True)
    degrees = Angle(dec, u.deg).to_string(
        u.deg, sep="dms" if separator == "hms" else separator, precision=6, alwayssign=True
    )
    table, _ = standardise(pa.table({"ra": [hours], "dec": [degrees]}), CatalogColumns("ra", "dec"))
    assert math.isclose(math.cos(math.radians(table["ra_deg"][0].as_py() - ra)), 1, abs_tol=1e-15)
    assert abs(table["ra_deg"][0].as_py() - ra) < 1e-8 or abs(table["ra_deg"][0].as_py() - ra) > 359
    assert abs(table["dec_deg"][0].as_py() - dec) < 1e-9


def test_small_negative_declinations_keep_their_sign() -> None:
    table, _ = standardise(one(ra="00:00:01", dec="-00:00:01"), COLUMNS)
    assert table["dec_deg"][0].as_py() == pytest.approx(-1 / 3600)
    assert table["ra_deg"][0].as_py() == pytest.approx(15 / 3600)


@pytest.mark.parametrize(
    ("ra", "ra_unit", "units", "expected"),
    [
        (12.5, "hours", {}, 187.5),
        (12.5, None, {"ra": "hourangle"}, 187.5),
        (12.5, None, {"ra": "h"}, 187.5),
        (12.5, "hours", {"ra": "hours"}, 187.5),
        (math.pi / 2, None, {"ra": "rad"}, 90.0),
        (12.5, "degrees", {"ra": "deg"}, 12.5),
        ("+12.5", None, {"ra": "degrees"}, 12.5),
        ("12:30:00", None, {"ra": '"h:m:s"'}, 187.5),
        ("187:30:00", "degrees", {"ra": "deg"}, 187.5),
        ("187d30m00s", None, {}, 187.5),
        ("187°30'00\"", None, {}, 187.5),
        ("12:30:00", "hours", {}, 187.5),
    ],
)
def test_units_of_right_ascension(ra: Any, ra_unit: Any, units: dict[str, str], expected: float) -> None:
    table, _ = standardise(one(ra=ra), CatalogColumns("ra", "dec", ra_unit=ra_unit), units=units)
    assert table["ra_deg"][0].as_py() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("ra", "ra_unit", "units"),
    [
        ("187:30:00", None, {}),
        ("24:00:00", None, {}),
        ("-01:00:00", None, {}),
        ("12:30:00", None, {"ra": "deg"}),
        ("12h30m00s", "degrees", {}),
        ("12d30m00s", "hours", {}),
        ("12:60:00", None, {}),
        ("12:30", None, {}),
        ("somewhere", None, {}),
        (12.5, "hours", {"ra": "deg"}),
        (12.5, "degrees", {"ra": "rad"}),
        (12.5, None, {"ra": "km"}),
        (12.5, None, {"ra": "florins"}),
    ],
)
def test_ambiguous_right_ascensions_are_refused(ra: Any, ra_unit: Any, units: dict[str, str]) -> None:
    with pytest.raises(CatalogError, match="'ra'"):
        standardise(one(ra=ra), CatalogColumns("ra", "dec", ra_unit=ra_unit), units=units)


def test_a_declination_in_hours_is_refused() -> None:
    with pytest.raises(CatalogError, match="declination in hours"):
        standardise(one(dec="12h30m00s"), COLUMNS)


@given(
    st.floats(-5000, 5000),
    st.floats(-80, 80),
    st.sampled_from(["mas/yr", "arcsec/yr", "deg/yr", "mas yr-1", "rad/yr"]),
)
def test_units_of_proper_motion(motion: float, dec: float, unit: str) -> None:
    value = (motion * u.mas / u.yr).to_value(unit)
    coordinate = CatalogColumns("ra", "dec", pm_ra="pmra", pm_dec="pmdec", pm_ra_is_coordinate=True)
    batch = one(dec=dec, pmra=value, pmdec=value)
    for columns, factor in ((COLUMNS, 1.0), (coordinate, math.cos(math.radians(dec)))):
        star = standardise(batch, columns, units={"pmra": unit, "pmdec": unit})[0].to_pylist()[0]
        if motion not in (-999.0,):
            assert star["pm_ra_mas_yr"] == pytest.approx(motion * factor, rel=1e-6, abs=1e-30)
            assert star["pm_dec_mas_yr"] == pytest.approx(motion, rel=1e-6, abs=1e-30)


@pytest.mark.parametrize(
    ("unit", "factor"), [("mag", 1), ("", 1), ("mag(AB)", 1), ("mag(Vega)", 1), ("mmag", 0.001)]
)
def test_units_of_magnitudes(unit: str, factor: float) -> None:
    star = standardise(one(V=12.5 / factor, e_V=0.02 / factor), COLUMNS, units={"V": unit, "e_V": unit})[0]
    assert star["mag_V"][0].as_py() == pytest.approx(12.5)
    assert star["mag_V_err"][0].as_py() == pytest.approx(0.02)
    missing = standardise(one(V=-999.0), COLUMNS, units={"V": unit})[0]
    assert missing["mag_V"].null_count == missing["mag_V_err"].null_count == 1


@few
@given(st.floats(-2, 28), st.floats(0.001, 0.5), st.sampled_from(["nJy", "uJy", "mJy", "Jy", "nanomaggies"]))
def test_fluxes_become_ab_magnitudes(magnitude: float, error: float, unit: str) -> None:
    scale = {"nJy": 1e-9, "uJy": 1e-6, "mJy": 1e-3, "Jy": 1.0, "nanomaggies": 3631e-9}[unit]
    flux = 3631.0 * 10 ** (-0.4 * magnitude) / scale
    columns = CatalogColumns("ra", "dec", magnitudes={"g": "f"}, magnitude_errors={"g": "e"})
    spread = flux * error * math.log(10) / 2.5
    batch = pa.table({"ra": [1.0] * 4, "dec": [2.0] * 4, "f": [flux, -flux, 0.0, -999.0], "e": [spread] * 4})
    # The error has the unit of the flux where it has none of its own.
    for units in ({"f": unit}, {"f": unit, "e": unit}):
        for stated in (columns, dataclasses.replace(columns, units=units)):
            table, _ = standardise(batch, stated, units=units if stated is columns else {})
            assert table["mag_g"].to_pylist() == [pytest.approx(magnitude, abs=1e-5), None, None, None]
            assert table["mag_g_err"].to_pylist() == [pytest.approx(error, rel=1e-5), None, None, None]


def test_fluxes_of_a_vega_band_and_other_units_are_refused() -> None:
    with pytest.raises(CatalogError, match=r"AB magnitudes, and V is a band of the Vega system.*V_AB"):
        standardise(one(), COLUMNS, units={"V": "Jy"})
    with pytest.raises(CatalogError, match=r"the unit 'km' of the column 'V'.*--unit V=UNIT"):
        standardise(one(), COLUMNS, units={"V": "km"})


@few
@given(st.floats(0, 360), st.floats(-90, 90), st.floats(-9000, 9000))
def test_units_that_the_user_states_come_first(ra: float, dec: float, motion: float) -> None:
    columns = dataclasses.replace(COLUMNS, units={"ra": "rad", "dec": "arcmin", "pmra": "rad/yr"})
    per_year = math.radians(motion / 3.6e6)
    batch = one(ra=math.radians(ra), dec=60 * dec, pmra=per_year)
    table, _ = standardise(batch, columns, units={"ra": "deg", "dec": "deg", "pmra": "mas/yr"})
    star = table.to_pylist()[0]
    assert math.isclose(math.cos(math.radians(star["ra_deg"] - ra)), 1.0, abs_tol=1e-12)
    assert star["dec_deg"] == pytest.approx(dec, abs=1e-10)
    assert star["pm_ra_mas_yr"] == pytest.approx(motion, rel=1e-6, abs=1e-6)


@few
@given(st.lists(st.integers(1, 10**6) | st.none(), min_size=1, max_size=20), st.booleans())
def test_rows_without_an_identifier_have_that_of_their_position(ids: list[int | None], as_text: bool) -> None:
    ra = np.arange(len(ids)) * 1.5
    column = (
        pa.array([None if one is None else f"A{one}" for one in ids], pa.string())
        if as_text
        else pa.array(ids, pa.int64())
    )
    batch = pa.table({"ra": ra, "dec": ra / 2, "id": column})
    table, report = standardise(batch, CatalogColumns("ra", "dec", id="id"))
    own = position_id(ra, ra / 2)
    expected = [
        int(own[at]) if given is None else text_id(f"A{given}") if as_text else given
        for at, given in enumerate(ids)
    ]
    assert table["ref_id"].to_pylist() == expected
    assert report.without_id == ids.count(None)
    assert [name is None for name in table["name"].to_pylist()] == [not as_text or one is None for one in ids]


def test_identifiers_of_several_columns() -> None:
    batch = pa.table({"ra": [1.0, 2.0], "dec": [0.0, 0.0], "a": [4049, None], "b": [12, 3], "c": ["1", "2"]})
    table, report = standardise(batch, CatalogColumns("ra", "dec", id=("a", "b", "c")))
    assert table["name"].to_pylist() == ["4049-12-1", None]
    assert (table["ref_id"][0].as_py(), report.without_id) == (text_id("4049-12-1"), 1)


@given(st.lists(st.one_of(st.floats(-80, 80), st.sampled_from(["", "--", " NaN ", "null"])), min_size=1))
def test_numbers_as_text_are_the_same_numbers(values: list[float | str]) -> None:
    texts = [f" {value:+}" if isinstance(value, float) else value for value in values]
    plain = [value if isinstance(value, float) else None for value in values]
    columns = CatalogColumns("ra", "dec", magnitudes={"V": "V"})
    here = {"ra": [1.0] * len(values), "dec": [2.0] * len(values)}
    from_text, _ = standardise(pa.table(here | {"V": texts}), columns)
    from_numbers, _ = standardise(pa.table(here | {"V": pa.array(plain, pa.float64())}), columns)
    assert from_text.equals(from_numbers)


@pytest.mark.parametrize(
    "kind", [pa.int16(), pa.uint8(), pa.float32(), pa.decimal128(12, 3), pa.string(), pa.null()]
)
def test_types_of_columns(kind: pa.DataType) -> None:
    value = None if pa.types.is_null(kind) else 12
    column = pa.nulls(1) if value is None else pa.array([value], pa.int16()).cast(kind)
    star = standardise(one().set_column(COLUMNS.wanted.index("V"), "V", column), COLUMNS)[0]
    assert star["mag_V"][0].as_py() == value


@pytest.mark.parametrize("value", ["bright", [1.0], True])
def test_a_value_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(CatalogError, match=r"stars\.fits: the column 'V' holds"):
        standardise(one(V=value), COLUMNS, source="stars.fits")


def test_a_missing_column_names_near_ones() -> None:
    batch = one().rename_columns({"g'mag": "GPMAG", "dec": "DEC"})
    with pytest.raises(CatalogError, match=r"stars\.csv: there is no column 'dec'; did you mean 'DEC'"):
        standardise(batch, COLUMNS, source="stars.csv")
    with pytest.raises(CatalogError, match="its columns are 'ra', 'DEC'"):
        standardise(batch, CatalogColumns("x_coordinate", "DEC"))


def test_schema_of_bands_and_colours() -> None:
    schema = catalog_schema(("V", "Gaia_G"), ("B-V",))
    assert schema.names[-5:] == ("mag_V", "mag_V_err", "mag_Gaia_G", "mag_Gaia_G_err", "colour_B_V")
    assert (schema["mag_V"].unit, schema["mag_V"].ucd) == ("mag", "phot.mag;em.opt.V")
    assert schema["mag_V_err"].ucd == "stat.error;phot.mag"
    assert schema["colour_B_V"].ucd == "phot.color;em.opt.B;em.opt.V"


@pytest.mark.parametrize(
    ("bands", "colours"),
    [
        (("g", "G"), ()),
        (("V", "V"), ()),
        (("V", "v_err"), ()),
        (("V", "V_err"), ()),
        ((), ("B-V", "b_v")),
        (("g'",), ()),
        (("",), ()),
        (("V band",), ()),
        ((), ("B-V-R",)),
        ((), ("B/V",)),
    ],
)
def test_names_that_databases_confuse_are_refused(bands: tuple[str, ...], colours: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        catalog_schema(bands, colours)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pm_ra": "pmra"},
        {"pm_dec": "pmdec"},
        {"epoch": math.nan},
        {"ra_unit": "turns"},
        {"magnitude_errors": {"V": "e_V"}},
        {"magnitudes": {"V": "V"}, "magnitude_errors": {"V": 0.0}},
        {"magnitudes": {"V": "V"}, "magnitude_errors": {"V": math.nan}},
        {"magnitudes": {"g": "g", "G": "G"}},
    ],
)
def test_columns_that_do_not_go_together_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CatalogColumns("ra", "dec", **wrong)


def test_a_column_may_serve_twice() -> None:
    columns = CatalogColumns("ra", "dec", magnitudes={"V": "mag", "R": "mag"}, colours={"V-R": "ra"})
    assert columns.wanted == ("ra", "dec", "mag")


def test_dropped_rows_are_told_by_reason() -> None:
    assert ImportReport(5).dropped == {}
    assert ImportReport(5, 1, 2).dropped == {"no position": 1, "position outside the sphere": 2}


@given(st.integers(1, 5))
def test_a_table_in_several_chunks_is_read_as_one(n_chunks: int) -> None:
    batch = table_of(
        [
            {"ra": 1.0, "dec": 2.0, "id": k, "V": 3.0} | dict.fromkeys(COLUMNS.wanted[3:], 1.0)
            for k in range(9)
        ]
    )
    chunked = pa.concat_tables(
        [batch.slice(k * 9 // n_chunks, (k + 1) * 9 // n_chunks - k * 9 // n_chunks) for k in range(n_chunks)]
    )
    assert standardise(chunked, COLUMNS)[0].equals(standardise(batch, COLUMNS)[0])


@pytest.mark.parametrize("cut", [Cut("flag", one_of=("VARIABLE",)), Cut("flag", one_of=(1.0, 5.0))])
def test_a_star_without_a_flag_is_not_variable(cut: Cut) -> None:
    values = ["", " ", None, "variable ", "constant"] if cut.is_of_text else [math.nan, None, 0.0, 5.0, 2.0]
    batch = pa.table({"ra": [1.0] * 5, "dec": [2.0] * 5, "flag": values})
    stars, _ = standardise(batch, CatalogColumns("ra", "dec", variable=cut))
    assert stars["is_variable"].to_pylist() == [False, False, False, True, False]


def with_flag(values: Any) -> pa.Table:
    rows = {"ra": [1.0] * len(values), "dec": [2.0] * len(values), "H": [9.0] * len(values), "flag": values}
    cut = Cut("flag", one_of=("0",), character=2)
    columns = CatalogColumns("ra", "dec", magnitudes={"H": "H"}, keep_magnitudes={"H": (cut,)})
    return standardise(pa.table(rows), columns)[0]


@pytest.mark.parametrize(
    "values", [["000", "0c0"], [0, None], [0.0, math.nan], ["0", "0c0"], ["0.0", ""], ["c0 ", "cc0"]]
)
def test_flags_of_several_characters_may_have_become_numbers(values: list[Any]) -> None:
    missing = values[1] in (None, "") or values[1] != values[1]
    assert with_flag(values)["mag_H"].to_pylist() == [9.0, 9.0 if missing else None]


@pytest.mark.parametrize("values", [[0, 20], [0.0, 20.0], ["000", "2"]])
def test_flags_that_may_have_lost_zeros_are_refused(values: list[Any]) -> None:
    with pytest.raises(CatalogError, match=r"'flag' holds .* store the column as text \(data row 2\)"):
        with_flag(values)


@pytest.mark.parametrize("digits", [6, 8, 10, 12])
def test_positions_that_rounding_puts_beyond_the_edge_are_kept(digits: int) -> None:
    ra, dec = [math.tau, -math.pi, 1.0, 1.0], [0.0, 0.0, math.pi / 2, -math.pi / 2]
    # The next larger number of so many digits.
    up = [[math.copysign(math.ceil(abs(x) * 10**digits) / 10**digits, x) for x in some] for some in (ra, dec)]
    batch = pa.table({"ra": up[0], "dec": up[1]})
    stars, report = standardise(batch, CatalogColumns("ra", "dec", usual_units={"ra": "rad", "dec": "rad"}))
    assert report.dropped == {}
    assert stars["ra_deg"].to_pylist() == pytest.approx([0.0, 180.0, *[math.degrees(1.0)] * 2], abs=1e-4)
    assert stars["dec_deg"].to_pylist() == pytest.approx([0.0, 0.0, 90.0, -90.0], abs=0)
