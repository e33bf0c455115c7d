from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from skylake.core.flags import SourceFlag
from skylake.errors import UsageError
from skylake.report.stars.chosen_points import PointChoice
from skylake.report.stars.left_out import left_out_in_words
from skylake.report.stars.submissions import (
    FrameFacts,
    Submission,
    aavso_text,
    etd_text,
    exotic_text,
)

APASS = FrameFacts(None, "V", "apass", "apass", True)
ABOUT = Submission("RR Lyr", "ABC", {0: replace(APASS, airmass=1.25), 1: APASS}, "117", {0: 11.5, 1: 11.51})


def point(number: int, mag: float | None, **more: Any) -> dict[str, Any]:
    times = {"mjd_mid": 60000.25 + number, "bjd_tdb": 2460000.751 + number}
    flux = {"flux": 100.0, "flux_err": 1.0, "mag": mag, "mag_err": 0.05, "mag_random_err": 0.01}
    return {"frame_id": number, "camera": "cam", "band": "V", "flags": 0} | times | flux | more


def curve(*points: dict[str, Any], **more: Any) -> dict[str, Any]:
    star = {"catalog": "apass", "object_id": 7, "ra_deg": 10.0, "dec_deg": -5.0}
    return star | {"points": list(points)} | more


def aavso(written: tuple[str, Any]) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Read the format as its description says: parameters, then fields named by the last line of these."""
    lines = written[0].splitlines()
    assert all(lines), "the AAVSO takes no blank lines"
    parameters = dict(line[1:].split("=") for line in lines if line.startswith("#") and "=" in line)
    names = next(line for line in lines if line.startswith("#NAME"))[1:].split(",")
    rows = csv.reader(io.StringIO("\n".join(line for line in lines if not line.startswith("#"))))
    return parameters, [dict(zip(names, row, strict=True)) for row in rows]


def test_the_aavso_gets_calibrated_magnitudes_with_an_ensemble() -> None:
    parameters, rows = aavso(aavso_text(curve(point(0, 9.1234), point(1, 9.5)), ABOUT))
    assert list(parameters) == ["TYPE", "OBSCODE", "SOFTWARE", "DELIM", "DATE", "OBSTYPE"]
    assert (parameters["TYPE"], parameters["OBSCODE"], parameters["DATE"]) == ("EXTENDED", "ABC", "JD")
    first, second = rows
    assert first == {
        "NAME": "RR Lyr", "DATE": "2460000.750000", "MAG": "9.123", "MERR": "0.050", "FILT": "V", "TRANS": "YES",
        "MTYPE": "STD", "CNAME": "ENSEMBLE", "CMAG": "na", "KNAME": "117", "KMAG": "11.500", "AMASS": "1.250",
        "GROUP": "na", "CHART": "apass", "NOTES": "calibrated with all stars of apass on the frame; camera cam",
    }  # fmt: skip
    assert (second["AMASS"], second["KMAG"]) == ("na", "11.510")
    limits = {"NAME": 30, "DATE": 16, "MAG": 8, "MERR": 6, "KNAME": 20, "KMAG": 8, "AMASS": 7, "NOTES": 100}
    assert all(len(row[name]) <= most for row in rows for name, most in limits.items())


def test_flagged_points_are_no_measurements_and_faint_ones_are_limits() -> None:
    flagged = point(0, 9.0, flags=int(SourceFlag.SATURATED))
    faint = point(1, None, flux=-2.0, mag_limit=15.25)
    weak = point(2, 16.0, flux=3.0, mag_limit=15.5)
    clear = point(3, 9.0, flux=100.0, mag_limit=15.0)
    lost = point(4, None, flux=-2.0)
    _, rows = aavso(aavso_text(curve(flagged, faint, weak, clear, lost), ABOUT))
    assert [(row["MAG"], row["MERR"]) for row in rows] == [
        ("<15.250", "na"), ("<15.500", "na"), ("9.000", "0.050"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("about", "band", "words"),
    [
        (Submission("x"), "V", "--observer ABC"),
        (Submission("x", "A,B"), "V", "--observer ABC"),
        (Submission("a star, mine", "ABC"), "V", "a star, mine: the AAVSO takes names up to 30 letters"),
        (Submission("x" * 31, "ABC"), "V", "up to 30 letters; give one by --name"),
        (Submission("2", "ABC"), "V", "2: the AAVSO wants a name of the star, .* as in --name"),
        (Submission("x", "ABC", {}, "y" * 21), "V", "check stars up to 20 letters"),
        (Submission("x", "ABC"), "L", "no filter for the band L; choose the points of another by --band"),
    ],
)
def test_what_the_aavso_would_refuse_is_refused_here(about: Submission, band: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        aavso_text(curve(point(0, 9.0, band=band)), about)


@pytest.mark.parametrize("catalog", ["sources", "detections", "gaia"])
def test_the_chart_is_the_catalog_of_the_comparison_stars_not_of_the_star(catalog: str) -> None:
    _, (first, second) = aavso(aavso_text(curve(point(0, 9.0), point(8, 9.0), catalog=catalog), ABOUT))
    assert first["CHART"] == "apass"
    assert first["NOTES"] == "calibrated with all stars of apass on the frame; camera cam"
    assert (second["CHART"], second["NOTES"]) == ("na", "camera cam")


def test_notes_say_what_the_fields_do_not() -> None:
    facts = {0: FrameFacts(filter_name="clear", catalog="a_catalog_with_a_long_name")}
    detrended = [{"camera": "cam", "band": "V", "detrended": "ensemble"}]
    _, (row,) = aavso(aavso_text(curve(point(0, 9.0), detrended=detrended), Submission("X", "ABC", facts)))
    assert row["CHART"] == "a_catalog_with_a_lon"
    assert row["NOTES"].endswith(
        "of a_catalog_with_a_long_name on the frame; camera cam; band V; detrended (ensemble)"
    )


@pytest.mark.parametrize("is_transformed", [True, False])
def test_only_measurements_through_a_filter_are_transformed(is_transformed: bool) -> None:
    facts = {
        0: FrameFacts(filter_name="V", is_transformed=is_transformed),
        1: FrameFacts(filter_name="clear", is_transformed=is_transformed),
    }
    _, rows = aavso(aavso_text(curve(point(0, 9.0), point(1, 9.0)), Submission("X", "ABC", facts)))
    assert [(row["FILT"], row["TRANS"]) for row in rows] == [
        ("V", "YES" if is_transformed else "NO"), ("CV", "NO"),
    ]  # fmt: skip


SEEN = Submission("X", "", {number: FrameFacts(1.0 + 0.25 * number) for number in range(3)})


def test_transits_are_given_with_random_errors_and_barycentric_times() -> None:
    mags = [9.0, 9.0, 9.03]
    of = curve(
        *(point(number, mag) for number, mag in enumerate(mags)), point(9, 5.0, flags=int(SourceFlag.EDGE))
    )
    etd = np.loadtxt(io.StringIO(etd_text(of, SEEN)[0]))
    assert etd.shape == (3, 3)
    assert etd[:, 0] == pytest.approx([2460000.751, 2460001.751, 2460002.751], abs=1e-6)
    assert etd[:, 1] == pytest.approx(mags) and etd[:, 2] == pytest.approx([0.01] * 3)
    exotic = np.loadtxt(io.StringIO(exotic_text(of, SEEN)[0]), delimiter=",")
    assert exotic[:, 1] == pytest.approx([1.0, 1.0, 10 ** (-0.4 * 0.03)], abs=1e-6)
    assert exotic[:, 2] == pytest.approx(exotic[:, 1] * 0.01 / 1.0857362, abs=1e-6)
    assert exotic[:, 3].tolist() == [1.0, 1.25, 1.5]


@pytest.mark.parametrize("write", [etd_text, exotic_text])
@pytest.mark.parametrize(("name", "other"), [("band", "B"), ("camera", "another")])
def test_a_transit_is_of_one_band_and_camera(write: Any, name: str, other: str) -> None:
    flagged = point(2, 9.0, flags=int(SourceFlag.EDGE)) | {name: other}
    assert write(curve(point(0, 9.0), flagged), SEEN)[0].count("\n") == 3
    first, second = sorted(["V" if name == "band" else "cam", other])
    two = curve(point(0, 9.0), point(1, 9.5) | {name: other}, bands=[])
    words = f"this star has 2, of the {name}s {first} and {second}; .*--{name} {first}"
    with pytest.raises(UsageError, match=words):
        write(two, SEEN)
    chosen = PointChoice(**{name: first}).chosen(two)
    assert write(chosen, SEEN)[0].count("\n") == 2


def test_exotic_gets_no_point_whose_airmass_is_not_known() -> None:
    of = curve(point(0, 9.0), point(1, 9.0), point(7, 9.0), point(8, None))
    assert np.loadtxt(io.StringIO(exotic_text(of, SEEN)[0]), delimiter=",")[:, 3].tolist() == [1.0, 1.25]
    with pytest.raises(UsageError, match=r"no frame of the star has one; give site\.longitude_deg"):
        exotic_text(of, Submission("X", "", {0: FrameFacts(float("nan"))}))


@pytest.mark.parametrize(
    ("write", "reasons"),
    [
        (aavso_text, {"with the flag EDGE": 2, "with the flags SATURATED and EDGE": 1}),
        (etd_text, {"with the flag EDGE": 2, "with the flags SATURATED and EDGE": 1, "without a magnitude": 1}),
        (
            exotic_text,
            {
                "with the flag EDGE": 2, "with the flags SATURATED and EDGE": 1, "without a magnitude": 1,
                "on frames without an airmass": 1,
            },
        ),
    ],
)  # fmt: skip
def test_points_that_are_left_out_are_counted_with_the_reason(write: Any, reasons: dict[str, int]) -> None:
    edge, blend = int(SourceFlag.EDGE), int(SourceFlag.BLENDED)
    of = curve(
        point(0, 9.0), point(1, 9.0, flags=blend), point(7, 9.0), point(2, None, flux=-2.0, mag_limit=15.0),
        point(8, 9.0, flags=edge | blend), point(9, None, flags=edge),
        point(10, 9.0, flags=edge | int(SourceFlag.SATURATED)),
    )  # fmt: skip
    airmass = {number: FrameFacts(1.0) for number in (0, 1, 2, 8, 9, 10)}
    text, left_out = write(of, Submission("X", "ABC", airmass))
    assert left_out == reasons
    lines = text.splitlines()
    comments = [line for line in lines if line.startswith("# left out: ")]
    assert comments == [f"# {left_out_in_words(left_out)}"]
    assert len([line for line in lines if not line.startswith("#")]) + left_out.total() == len(of["points"])
    # What was lost before, as by another version of the calibration, is in the same sentence.
    lost = of | {
        "points": of["points"][:1],
        "left_out": {"of frames without version 2 of the calibration": 3},
    }
    text, _ = write(lost, Submission("X", "ABC", airmass))
    assert "# left out: 3 points of frames without version 2 of the calibration\n" in text
    assert "left out" not in write(curve(point(0, 9.0)), Submission("X", "ABC", airmass))[0]
