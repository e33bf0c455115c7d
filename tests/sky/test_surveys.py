from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.magnitude_sources import magnitude_source, read_colour
from skylake.core.sphere import apply_proper_motion
from skylake.errors import CatalogError, ConfigurationError, UsageError
from skylake.sky.catalog_files import read_header
from skylake.sky.catalog_rows import ImportReport, standardise
from skylake.sky.star_files import StarFiles
from skylake.sky.surveys import Form, find_columns, load_survey, survey_names

#: First lines of files as they are published, and what their first star is.
PUBLISHED: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "refcat2 tiles": (
        "refcat2",
        [
            (
                "28000001672,-1967818581,98,10,114,16,-1460,15,15884,1,16472,10,15137,1,4729,895,1,12"
                "34,50,50,155,16657,10,23,1f,15915,12,41,3f,15578,10,49,0f,15346,12,0,06,0,0,0,14105,"
                "53,13667,44"
            ),
            (
                "28000101672,-1967818581,98,10,114,16,-1460,15,15884,1,16472,10,15137,1,4729,895,2,12"
                "34,50,50,155,16657,10,23,1f,15915,12,41,3f,15578,10,49,0f,15346,12,0,06,0,14105,36,1"
                "4105,53,13667,44"
            ),
        ],
        {
            "ra_deg": 280.00001672,
            "dec_deg": -19.67818581,
            "pm_ra_mas_yr": 1.14,
            "pm_dec_mas_yr": -14.6,
            "mag_g": 16.657,
            "mag_g_err": 0.01,
            "mag_J": None,
            "mag_J_err": None,
            "mag_K_err": 0.044,
            "mag_Gaia_G": 15.884,
            "is_variable": True,
        },
    ),
    "tyc2.dat": (
        "tycho2",
        [
            (
                "0001 00008 1| |  2.31750494|  2.23184345|  -16.3|   -9.0| 68| 73| 1.7| 1.8|1958.89|1"
                "951.94| 4|1.0|1.0|0.9|1.0|12.146|0.158|12.146|0.223|999| |         |  2.31754222|  2"
                ".23186444|1.67|1.54| 88.0|100.8| |-0.2"
            ),
            (
                "0001 00013 1|X|            |            |       |       |   |   |    |    |       | "
                "      | 0|   |   |   |   |10.488|0.038| 8.670|0.015|999|T|         |  1.12558209|  2"
                ".26739400|1.79|1.50|  7.7|  8.4| |-0.2"
            ),
        ],
        {
            "name": "0001 00008 1",
            "ra_deg": 2.31750494,
            "dec_deg": 2.23184345,
            "pm_ra_mas_yr": -16.3,
            "mag_VT": 12.146,
            "mag_VT_err": 0.223,
            "mag_BT": 12.146,
        },
    ),
    "hip_main.dat": (
        "hipparcos",
        [
            (
                "H|           1| |00 00 00.22|+01 05 20.4| 9.10| |H|000.00091185|+01.08901332| |   3."
                "54|   -5.20|   -1.88|  1.32|  0.74|  1.39|  1.36|  0.81| 0.32|-0.07|-0.11|-0.24| 0.0"
                "9|-0.01| 0.10|-0.01| 0.01| 0.34|  0| 0.74|     1| 9.643|0.020| 9.130|0.019| | 0.482|"
                "0.025|T|0.55|0.03|L| | 9.2043|0.0020|0.017| 87| | 9.17| 9.24|       | | | |         "
                " | |  | 1| | | |  |   |       |     |     |    |S| | |224700|B+00 5077 |          | "
                "         |0.66|F5          |S"
            ),
        ],
        {
            "ref_id": 1,
            "name": None,
            "ra_deg": 0.00091185,
            "dec_deg": 1.08901332,
            "pm_ra_mas_yr": -5.2,
            "mag_V": 9.1,
            "mag_V_err": 0.02,
            "mag_BT": 9.643,
            "mag_Hp": 9.2043,
            "mag_Hp_err": 0.002,
            "colour_B_V": 0.482,
        },
    ),
    "psc files": (
        "2mass",
        [
            (
                "1.119851|-89.91861|0.13|0.12|95|00042876-8955069 |13.858|0.025|0.026|89.5|13.466|0.0"
                "28|0.028|71.7|13.382|0.037|0.037|38.9|AAU|222|111|0c0|666666|24.9|257|1329022634|0|0"
                "|1200000017|s|2000-09-24|109|302.951|-27.208|-165.5|2451811.7124|1.07|0.88|0.9|13.84"
                "8|0.026|13.462|0.032|13.397|0.054|5.4|-165.5|sw|1|1|0|\\N|\\N|\\N|\\N|0|\\N|59038|1357874"
                "|267"
            ),
        ],
        {
            "name": "00042876-8955069",
            "ra_deg": 1.119851,
            "dec_deg": -89.91861,
            "mag_J": 13.858,
            "mag_J_err": 0.026,
            "mag_H": None,
            "mag_H_err": None,
            "mag_K": None,
        },
    ),
    "vsx_csv.dat": (
        "vsx",
        [
            '37,"AG Peg",0,327.75817,12.62564,"ZAND+NC",,6.0,,V,,,9.4,,V,,,,816.5,,"WN6+M3III"',
            '38,"nothing",2,327.0,12.0,"CST",,9.0,,V,,,9.1,,V,,,,,,""',
        ],
        {
            "ref_id": 37,
            "name": "AG Peg",
            "ra_deg": 327.75817,
            "dec_deg": 12.62564,
            "mag_V": 6.0,
            "mag_V_err": None,
            "is_variable": True,
        },
    ),
    "VizieR, tab separated": (
        "ps1",
        [
            "#",
            "#   VizieR Astronomical Server",
            "#",
            "RAJ2000\tDEJ2000\tobjID\tNd\tQual\tgmag\te_gmag\trmag\te_rmag",
            "deg\tdeg\t\t\t\tmag\tmag\tmag\tmag",
            "---\t---\t---\t---\t---\t---\t---\t---\t---",
            "320.4688178\t-0.7608349\t107083204688297455\t12\t52\t21.4112\t0.0602\t       \t      ",
            "320.4704505\t-0.7497368\t107103204704410743\t1\t52\t23.2451\t0.1632\t23.5642\t0.1624",
            "320.4804505\t-0.7597368\t107103204704410799\t9\t180\t23.2451\t0.1632\t23.5642\t0.1624",
        ],
        {
            "ref_id": 107083204688297455,
            "ra_deg": 320.4688178,
            "mag_g": 21.4112,
            "mag_g_err": 0.0602,
            "mag_r": None,
        },
    ),
    "VizieR, names without signs": (
        "apass",
        [
            "RAJ2000,DEJ2000,Vmag,e_Vmag,Bmag,e_Bmag,g_mag,e_g_mag,r_mag,e_r_mag",
            "135.7,49.7,12.1,0.0,12.9,0.05,12.4,0.02,11.9,0.03",
        ],
        {"mag_V": 12.1, "mag_V_err": None, "mag_B_err": 0.05, "mag_g": 12.4, "mag_r_err": 0.03},
    ),
    "AAVSO": (
        "apass",
        [
            (
                'radeg,raerr("),decdeg,decerr("),number_of_Obs,Johnson_V,Verr,Johnson_B,Berr,Sloan_g,'
                "gerr,Sloan_z,zerr"
            ),
            "135.7,0.1,49.7,0.1,5,12.1,0.01,99.999,99.999,12.4,0.02,0.0,0.0",
        ],
        {"ra_deg": 135.7, "mag_V": 12.1, "mag_V_err": 0.01, "mag_B": None, "mag_g_err": 0.02, "mag_z": None},
    ),
    "Gaia archive": (
        "gaia",
        [
            (
                "source_id,ref_epoch,ra,dec,pmra,pmdec,phot_g_mean_flux_over_error,phot_g_mean_mag,ph"
                "ot_variable_flag"
            ),
            (
                "5853498713190525696,2015.5,217.3923214720088,-62.67607511676666,-3781.741008265163,7"
                "69.4650146478623,2461.9,8.984749,VARIABLE"
            ),
        ],
        {
            "ref_id": 5853498713190525696,
            "pm_ra_mas_yr": -3781.741,
            "mag_Gaia_G": 8.984749,
            "is_variable": True,
            "mag_Gaia_G_err": 2.5 / math.log(10) / 2461.9,
        },
    ),
    "USNO": (
        "usnob",
        [
            "USNO-B1.0|RAJ2000|DEJ2000|pmRA|pmDE|B1mag|R1mag|B2mag|R2mag|Imag",
            " |deg|deg|mas/yr|mas/yr|mag|mag|mag|mag|mag",
            "---|---|---|---|---|---|---|---|---|---",
            "1397-0183404|135.62886|+49.68559|6|-12|20.1|18.9|19.8||18.3",
        ],
        {
            "name": "1397-0183404",
            "mag_B": 19.8,
            "mag_R": None,
            "mag_R_err": None,
            "mag_I_err": 0.3,
            "mag_B1": 20.1,
        },
    ),
    "Bright Star": (
        "brightstar",
        [
            "HR\tRAJ2000\tDEJ2000\tVmag\tB-V\tU-B\tpmRA\tpmDE",
            '\t"h:m:s"\t"d:m:s"\tmag\tmag\tmag\tarcsec/yr\tarcsec/yr',
            "----\t----\t----\t----\t----\t----\t----\t----",
            "2491\t06 45 08.9\t-16 42 58\t-1.46\t0.00\t-0.05\t-0.553\t-1.205",
        ],
        {"ref_id": 2491, "ra_deg": 15 * (6 + 45 / 60 + 8.9 / 3600), "mag_V": -1.46, "pm_dec_mas_yr": -1205.0},
    ),
    "SkyMapper": (
        "skymapper",
        [
            ("object_id,raj2000,dej2000,flags,u_psf,e_u_psf,u_flags,v_psf,e_v_psf,g_psf,e_g_psf,g_flags"),
            "7,10.0,-20.0,0,15.1,0.01,4,14.9,0.02,13.5,0.005,0",
            "8,10.1,-20.0,4,15.1,0.01,0,14.9,0.02,13.5,0.005,0",
        ],
        {"ref_id": 7, "mag_u": None, "mag_SkyMapper_v": 14.9, "mag_g": 13.5, "mag_g_err": 0.005},
    ),
    "VHS": (
        "vhs",
        [
            (
                "sourceID,ra,dec,priOrSec,frameSetID,jAperMag3,jAperMag3Err,jppErrBits,ksAperMag3,ksA"
                "perMag3Err,ksppErrBits"
            ),
            "9,10.0,-20.0,5,5,15.1,0.01,16,-999999500,-999999500,0",
            "10,10.0,-20.0,5,6,15.1,0.01,0,14.0,0.1,65536",
        ],
        {"ref_id": 9, "mag_J": 15.1, "mag_K": None, "mag_K_err": None},
    ),
    "Hipparcos of 2007": (
        "hipparcos",
        [
            "HIP,RArad,DErad,pmRA,pmDE,Hpmag,e_Hpmag,B-V",
            "32349,1.7677953696,-0.2917512868,-546.01,-1223.07,-1.0876,0.0024,0.009",
        ],
        {"ra_deg": math.degrees(1.7677953696), "dec_deg": math.degrees(-0.2917512868), "mag_Hp": -1.0876},
    ),
}

#: Rows that stay of a file with more than one.
KEPT = {"vsx_csv.dat": 1, "VizieR, tab separated": 2, "VHS": 1}


def text_of(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def imported(survey: str, path: Path) -> tuple[pa.Table, ImportReport]:
    known = load_survey(survey)
    header = read_header(path, known.names)
    columns = find_columns(known, header.names, str(path), header.first_line).columns
    files = StarFiles([path], columns)
    return pa.concat_tables(list(files)), files.report


@pytest.mark.parametrize("form", PUBLISHED)
def test_files_as_they_are_published(form: str, tmp_path: Path) -> None:
    survey, lines, expected = PUBLISHED[form]
    path = tmp_path / "download"
    path.write_text(text_of(lines))
    table, report = imported(survey, path)
    first = table.slice(0, 1).to_pylist()[0]
    for name, value in expected.items():
        if isinstance(value, float):
            assert first[name] == pytest.approx(value, abs=1e-6 * max(1.0, abs(value))), name
        else:
            assert first[name] == value, name
    n_rows = sum(line[:1].isdigit() or line[:2] in (" 0", "H|") for line in lines)
    assert (table.num_rows, report.rows_read) == (KEPT.get(form, n_rows), n_rows)


def test_what_the_published_rows_beyond_the_first_say(tmp_path: Path) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for form, (survey, lines, _) in PUBLISHED.items():
        path = tmp_path / "download"
        path.write_text(text_of(lines))
        table, report = imported(survey, path)
        found[form] = table.to_pylist()
        if form in KEPT:
            assert sum(report.cut.values()) == report.rows_read - KEPT[form] == 1
    # Without a mean position a star of Tycho-2 is where it was seen.
    other = found["tyc2.dat"][1]
    assert (other["ra_deg"], other["dec_deg"], other["pm_ra_mas_yr"]) == (1.12558209, 2.267394, None)
    assert other["mag_VT"] == pytest.approx(8.670)
    assert found["refcat2 tiles"][1]["mag_J"] == pytest.approx(14.105, abs=1e-6)
    assert found["refcat2 tiles"][1]["is_variable"] is False
    # Poor in the stack: the star stays, its magnitudes do not.
    assert [row["mag_g"] is None for row in found["VizieR, tab separated"]] == [False, True]
    assert [row["mag_g"] is None for row in found["SkyMapper"]] == [False, True]


def test_v_and_b_of_tycho_are_those_of_mamajek(tmp_path: Path) -> None:
    """Not those of the linear relations, which are off by 9 mmag in V and 40 in B for stars like the Sun."""
    path = tmp_path / "tycho.csv"
    path.write_text(
        "TYC1,TYC2,TYC3,RAmdeg,DEmdeg,BTmag,e_BTmag,VTmag,e_VTmag\n1,8,1,2.3,2.2,9.7,0.02,9.0,0.02\n"
    )
    stars = imported("tycho2", path)[0]

    def read(name: str) -> np.ndarray:
        return stars[name].to_numpy().astype(float) if name in stars.column_names else np.full(1, np.nan)

    sources = [magnitude_source(band, stars.column_names, "tycho2") for band in "VB"]
    (v, v_err), (b, _) = (source.read(read, 0.05) for source in sources if source is not None)
    # Mamajek, Meyer & Liebert (2002), equations of their appendix for BT - VT = 0.7.
    assert v[0] - 9.0 == pytest.approx(0.00097 - 0.1334 * 0.7 + 0.05486 * 0.7**2 - 0.01998 * 0.7**3, abs=1e-5)
    b_v = 0.7 - (0.007813 * 0.7 + 0.1489 * 0.7**2 - 0.03384 * 0.7**3)
    assert b[0] - v[0] == pytest.approx(b_v, abs=1e-5)
    assert read_colour("B-V", stars.column_names, "tycho2", read)[0] == pytest.approx(b_v, abs=1e-5)
    assert 0.02 < v_err[0] < 0.04


def test_a_survey_of_the_user_may_have_sums_of_magnitudes(tmp_path: Path) -> None:
    path = tmp_path / "sums.toml"
    path.write_text(
        """title = "Sums"
        epoch = 2000.0
        [[form]]
        name = "one"
        ra = "ra"
        dec = "dec"
        [form.bands]
        g = { magnitude = "g", error = 0.03 }
        r = { magnitude = "r", error = 0.04 }
        V = { sum = { g = 0.5, r = 0.5 }, scatter = 0.01, colour = { g = 1, r = -1 }, colour_limits = [0, 1] }
        """
    )
    stars = tmp_path / "stars.csv"
    stars.write_text("ra,dec,g,r\n1,2,12,11.5\n1,3,12,10\n1,4,12,\n")
    table, _ = imported(str(path), stars)
    assert table["mag_V"].to_pylist() == [11.75, None, None]
    assert table["mag_V_err"][0].as_py() == pytest.approx(math.hypot(0.015, 0.02, 0.01))


def test_positions_of_another_epoch_are_moved(tmp_path: Path) -> None:
    path = tmp_path / "gaia.csv"
    path.write_text(text_of(PUBLISHED["Gaia archive"][1]))
    star = imported("gaia", path)[0].to_pylist()[0]
    moved = apply_proper_motion(
        217.3923214720088, -62.67607511676666, -3781.741008265163, 769.4650146478623, 0.5
    )
    assert (star["ra_deg"], star["dec_deg"]) == pytest.approx((float(moved[0]), float(moved[1])), abs=1e-12)


def _value(form: Form, name: str) -> str:
    """A number that a column of a form may hold, as text."""
    scale = {"1e-8 deg": 1e8, "rad": math.radians(1)}.get(form.position_unit, 1.0)
    if name in (form.ra, *form.ra, *form.otherwise[:1]):
        return repr(100.0 * scale)
    if name in (form.dec, *form.dec, *form.otherwise[1:]):
        return repr(-30.0 * scale)
    return "15" if not form.magnitude_unit else "15000"


@pytest.mark.parametrize("survey", survey_names())
def test_every_form_is_recognised_by_all_spellings_of_its_columns(survey: str) -> None:
    known = load_survey(survey)
    assert known.title and 1900 < known.epoch < 2030
    for form in known.form:
        if form.columns:
            line = form.delimiter.join(_value(form, name) for name in form.columns)
            found = find_columns(known, line.split(form.delimiter), "f", line)
            assert (found.form, found.columns.names) == (form.name, form.columns)
            continue
        every = list(dict.fromkeys(form.names))
        found = find_columns(known, every, "f")
        assert found.form == form.name
        if survey == "tycho2" and form.marks:
            continue
        shouted = find_columns(known, [name.upper() for name in every], "f") if survey == "2mass" else found
        assert shouted.form == form.name
        bands = {band for band, of in form.bands.items() if of.magnitude or set(of.sum) <= set(form.bands)}
        assert set(found.columns.bands) == bands
        batch = pa.table({name: [_value(form, name)] for name in found.columns.wanted})
        assert standardise(batch, found.columns)[0].column_names == list(found.columns.schema.names)


@pytest.mark.parametrize(
    ("own", "form", "epoch"),
    [
        ("RUWE VarFlag A0 o_Gmag E(BP-RP) b_E(BP-RP) Dup", "VizieR DR3", 2016.0),
        ("o_Gmag E(BP-RP)", "VizieR", 2016.0),
        ("", "VizieR", 2016.0),
        ("Dup o_Gmag E(BP-RP) Rad Lum", "VizieR DR2", 2015.5),
        ("Var", "VizieR DR2", 2015.5),
        # DR3 with a radius from its table of astrophysical parameters.
        ("RUWE VarFlag A0 Rad", "VizieR DR3", 2016.0),
    ],
)
def test_releases_of_gaia_at_vizier_are_told_apart(own: str, form: str, epoch: float) -> None:
    common = "RA_ICRS DE_ICRS Source pmRA pmDE Gmag e_Gmag BPmag e_BPmag RPmag e_RPmag BP-RP"
    found = find_columns(load_survey("gaia"), [*common.split(), *own.split()], "f")
    assert (found.form, found.columns.epoch) == (form, epoch)
    assert set(found.columns.bands) == {"Gaia_G", "Gaia_BP", "Gaia_RP"}


@pytest.mark.parametrize("name", ["RArad", "DErad"])
def test_degrees_under_columns_in_radians_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hip2.csv"
    second = "100.5,0.7" if name == "RArad" else "1.5,-19.49883745"
    path.write_text(
        f"HIP,RArad,DErad,Hpmag,e_Hpmag\n1,0.00091185,1.08901332,9.2,0.002\n2,{second},9.4,0.002\n"
    )
    with pytest.raises(CatalogError, match=rf"{name}.*--unit RArad=deg --unit DErad=deg \(data row 2\)"):
        imported("hipparcos", path)
    columns = find_columns(load_survey("hipparcos"), read_header(path, ()).names, "f").columns
    stated = replace(columns, units={"RArad": "deg", "DErad": "deg"})
    stars = pa.concat_tables(list(StarFiles([path], stated)))
    assert (stars["ra_deg"][0].as_py(), stars["dec_deg"][0].as_py()) == (0.00091185, 1.08901332)
    # A value that is none in any unit is left out.
    path.write_text("HIP,RArad,DErad,Hpmag,e_Hpmag\n1,1.5,0.5,9.2,0.002\n2,-999,-999,9.4,0.002\n")
    assert imported("hipparcos", path)[0].num_rows == 1


def test_a_file_of_another_survey_is_one_clear_sentence() -> None:
    survey = load_survey("gaia")
    with pytest.raises(
        CatalogError, match=r"^f\.csv: .*'archive'.* right ascension \(ra\).*did you mean 'raa'"
    ) as error:
        find_columns(survey, ["source_id", "raa", "dec", "pmra", "pmdec", "phot_g_mean_mag"], "f.csv")
    assert "declination" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_survey_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
title = "Mine"
epoch = 2005.5
[[form]]
name = "only"
ra = "alpha"
dec = "delta"
position_unit = "rad"
[form.bands]
W = { magnitude = "flux", error = "flux_error", system = "AB" }
"""
    folder = tmp_path / "skylake" / "surveys"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(text)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert "mine" in survey_names()
    for name in ("mine", str(folder / "mine.toml")):
        columns = find_columns(load_survey(name), ["alpha", "delta", "flux", "flux_error"], "f").columns
        table, _ = standardise(
            pa.table({"alpha": [1.0], "delta": [-1.0], "flux": [3631.0], "flux_error": [36.31]}),
            columns,
            units={"flux": "nJy", "flux_error": "nJy"},
        )
        star = table.to_pylist()[0]
        assert star["ra_deg"] == pytest.approx(math.degrees(1.0))
        assert star["mag_W"] == pytest.approx(22.5) and star["mag_W_err"] == pytest.approx(
            0.0108574, rel=1e-4
        )
    (folder / "mine.toml").write_text(text.replace("magnitude =", "magnitud ="))
    with pytest.raises(ConfigurationError, match=r"mine\.toml: form\[0\]\.bands\.W\.magnitud: .*magnitude"):
        load_survey("mine")
    with pytest.raises(UsageError, match=r"there is no format 'min'; give one of table, .*gaia.*mine"):
        load_survey("min")


def real(name: str) -> Path:
    folder = os.environ.get("SKYLAKE_REAL_DATA")
    if not folder:
        pytest.skip("SKYLAKE_REAL_DATA is not set")
    return Path(folder) / "catalogs" / name


@pytest.mark.parametrize(
    ("survey", "name", "n_rows", "bands"),
    [
        ("apass", "apass_dr9_vizier_sample.ecsv", 54, {"V": (9, 19), "B": (9, 20), "r": (9, 18)}),
        ("refcat2", "refcat2_vizier_sample.ecsv", 187, {"g": (6, 25), "J": (5, 19), "Gaia_G": (6, 22)}),
        ("ps1", "ps1_dr2_mean_sample.csv.gz", 10_000, {"g": (7, 29), "y": (7, 28)}),
    ],
)  # fmt: skip
def test_real_samples(survey: str, name: str, n_rows: int, bands: dict[str, tuple[float, float]]) -> None:
    table, report = imported(survey, real(name))
    assert (table.num_rows, report.dropped, report.without_id) == (n_rows, {}, 0)
    for band, (brightest, faintest) in bands.items():
        magnitudes = table[f"mag_{band}"].drop_null().to_numpy()
        assert len(magnitudes) > n_rows / 4
        assert brightest < np.min(magnitudes) and np.max(magnitudes) < faintest
