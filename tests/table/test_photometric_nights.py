from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.calibration.extinction_line import NightFrames, extinction_prior, fit_line
from skylake.schema import arrow_schema, load
from skylake.table.photometric_nights import NIGHT_COLUMNS, photometric_nights_table

PRIOR = extinction_prior("V")


def night_number(day: int) -> int:
    when = date(2024, 4, 1) + timedelta(days=day)
    return when.year * 10000 + when.month * 100 + when.day


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    types = arrow_schema(load("nights"))
    return pa.table(
        {name: pa.array([row[name] for row in rows], types.field(name).type) for name in NIGHT_COLUMNS}
    )


def a_row(day: int, **values: Any) -> dict[str, Any]:
    """A steady, clear night."""
    return {
        "camera": "lab", "night": night_number(day), "band": "V", "mjd_first": 60401.0 + day,
        "mjd_last": 60401.25 + day, "catalog": "simcat", "version": 1, "n_zeropoints": 60, "intrinsic_mag": 0.02,
        "extinction": 0.15, "extinction_err": 0.01, "zp_zenith": 20.0, "zp_zenith_err": 0.01, "mean_airmass": 1.3,
        "zp_excess": 0.006, "n_cloudy": 0.1, "cloud_mag": 0.0, "p_steady": 0.97,
    } | values  # fmt: skip


def judged(rows: list[dict[str, Any]], day: int) -> dict[str, Any]:
    (row,) = photometric_nights_table(table_of(rows), night_number(day)).to_pylist()
    return dict(row)


def nights(n: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(6)
    return [a_row(day, zp_zenith=20.0 + random.normal(0.0, 0.012)) for day in range(n)]


def test_a_grey_cloud_that_lasts_all_night_does_not_pass_as_clear() -> None:
    rows = nights(12)
    rows[5]["zp_zenith"] -= 0.35
    found = judged(rows, 5)
    assert found["p_photometric"] < 0.01 and found["p_steady"] == pytest.approx(0.97)
    assert found["transparency"] == pytest.approx(10 ** (-0.4 * 0.35), abs=3 * found["transparency_err"])
    assert "mag below the level of clear nights" in found["reason"]
    clear = judged(rows, 6)
    assert clear["p_photometric"] > 0.85 and clear["transparency"] == pytest.approx(1.0, abs=0.04)
    assert clear["reason"].startswith("zeropoints scatter by 0.006 mag beyond their errors, at ")
    assert clear["reason"].endswith("(60 frames in 6.0 h, 12 nights compared)")


def test_one_night_or_two_are_not_known() -> None:
    for n, words in ((1, "1 night cannot"), (2, "2 nights cannot")):
        found = judged(nights(n), 0)
        assert found["p_photometric"] is None and found["zp_clear"] is None and found["transparency"] is None
        assert found["reason"].startswith("not known: ") and words in found["reason"]
        assert found["extinction"] == pytest.approx(0.15, abs=0.01)


def test_a_night_of_one_frame_is_judged_by_its_level_alone() -> None:
    rows, alone = nights(12), dict.fromkeys(("zp_excess", "n_cloudy", "cloud_mag", "p_steady"))
    rows[5] |= alone | {"n_zeropoints": 1, "mjd_last": rows[5]["mjd_first"]}
    found = judged(rows, 5)
    assert found["p_steady"] is None and found["p_photometric"] == found["p_clear"] > 0.85
    assert found["transparency"] == pytest.approx(1.0, abs=0.04)
    assert found["reason"].startswith("its only frame is at ")
    assert found["reason"].endswith("(1 frame in 0.0 h, 12 nights compared)")
    rows[5]["zp_zenith"] -= 0.35
    assert judged(rows, 5)["p_photometric"] < 0.01
    assert judged(rows, 6)["p_photometric"] > 0.85


def test_nights_that_all_differ_give_no_level() -> None:
    rows = [a_row(day, zp_zenith=20.0 - 0.7 * day, zp_zenith_err=0.3) for day in range(3)]
    found = judged(rows, 1)
    assert found["p_photometric"] is None and "do not agree on a clear level" in found["reason"]


def test_a_camera_without_a_site_is_told_what_is_lacking() -> None:
    rows = [
        a_row(day, extinction=None, extinction_err=None, zp_zenith=None, zp_zenith_err=None)
        for day in range(4)
    ]
    found = judged(rows, 1)
    assert found["p_photometric"] is None and "give the site in the profile" in found["reason"]


def test_each_reason_is_in_words() -> None:
    rows = nights(9)
    rows[3] |= {"p_steady": 0.001, "n_cloudy": 12.4, "cloud_mag": 0.1}
    assert "clouds lower about 12 of 60 frames" in judged(rows, 3)["reason"]
    rows[4] |= {"p_steady": 0.2, "zp_excess": 0.02, "n_cloudy": 0.0}
    assert "zeropoints scatter by 0.020 mag or more" in judged(rows, 4)["reason"]
    even, rows[5]["intrinsic_mag"] = judged(rows, 5)["p_photometric"], 0.06
    uneven = judged(rows, 5)
    assert "stars scatter about their frame 3.0 times as much" in uneven["reason"]
    assert uneven["p_photometric"] < even - 0.05


def test_other_versions_and_bands_are_not_compared() -> None:
    rows = nights(8)
    other = [
        row | {"version": 2, "zp_zenith": 25.0, "night": night_number(20 + i)} for i, row in enumerate(rows)
    ]
    red = [row | {"band": "R", "zp_zenith": 15.0} for row in rows]
    found = photometric_nights_table(table_of([*rows, *other, *red]), night_number(3)).to_pylist()
    assert [(row["band"], row["n_nights"]) for row in found] == [("R", 8), ("V", 8)]
    assert found[1]["p_photometric"] == pytest.approx(judged(rows, 3)["p_photometric"])


def test_a_short_night_takes_the_extinction_of_its_neighbours() -> None:
    rows = nights(10)
    rows[4] |= {"extinction": PRIOR[0], "extinction_err": PRIOR[1]}
    found = judged(rows, 4)
    assert found["extinction"] == pytest.approx(0.15, abs=0.01) and found["extinction_err"] < 0.04
    # The zeropoint at the zenith follows, as it rests on the mean airmass.
    assert found["zp_zenith"] == pytest.approx(rows[4]["zp_zenith"] + 0.3 * (found["extinction"] - PRIOR[0]))


def simulated(random: np.random.Generator, n: int) -> tuple[list[dict[str, Any]], list[bool]]:
    """Nights of which some have clouds that pass, that stay, or that are everywhere; and which are photometric."""
    share, depth, haze = (
        random.uniform(0.25, 0.8),
        random.choice([0.2, 0.4, 0.8]),
        random.uniform(0.003, 0.02),
    )
    rows, truth = [], []
    for day in range(n):
        n_frames = int(random.integers(4, 20))
        mjd = np.sort(random.uniform(0.0, 0.3, n_frames))
        beyond = random.uniform(0.0, 0.3) + random.uniform(0.2, 0.8) * np.abs(2.0 * mjd / 0.3 - 1.0)
        kind = random.choice(4, p=[share, *(1.0 - share) * np.array([0.4, 0.3, 0.3])])
        inside = np.abs(mjd - random.uniform(0.0, 0.3)) < random.uniform(0.02, 0.1)
        patchy = random.exponential(depth, n_frames)
        grey = random.exponential(depth)
        cloud = [np.zeros(n_frames), np.where(inside, patchy, 0.0), np.full(n_frames, grey), patchy + 0.05][
            kind
        ]
        truth.append(bool((cloud > 0.03).mean() < 0.05))
        zp = 20.0 + random.normal(0.0, haze) - random.normal(0.17, 0.03) * beyond - cloud
        zp += random.normal(0.0, 0.008, n_frames)
        zp += np.where(random.random(n_frames) < 0.01, random.normal(0.0, 0.4, n_frames), 0.0)
        error, field = np.full(n_frames, 0.005), np.zeros(n_frames, int)
        line = fit_line(NightFrames(zp, error, error, beyond, 60401.0 + day + mjd, field), PRIOR)
        rows.append(
            a_row(
                day, n_zeropoints=n_frames, extinction=line.extinction, extinction_err=line.extinction_err,
                zp_zenith=line.zenith, zp_zenith_err=line.zenith_err, mean_airmass=line.mean_airmass,
                zp_excess=line.scatter, n_cloudy=line.n_cloudy, cloud_mag=line.depth, p_steady=line.p_steady,
            )
        )  # fmt: skip
    return rows, truth


def test_probabilities_are_frequencies() -> None:
    random = np.random.default_rng(12)
    probability, truth = [], []
    for _ in range(9):
        rows, real = simulated(random, 16)
        probability += [judged(rows, day)["p_photometric"] for day in range(16)]
        truth += real
    p, t = np.array(probability), np.array(truth)
    for low, high in ((0.0, 0.1), (0.1, 0.9), (0.9, 1.001)):
        some = (p >= low) & (p < high)
        expected, n = float(p[some].mean()), int(some.sum())
        assert n >= 8, (low, n)
        assert t[some].mean() == pytest.approx(
            expected, abs=0.1 + 2.0 * np.sqrt(expected * (1 - expected) / n)
        )
    brier = float(np.mean((p - t) ** 2))
    assert brier < 0.06, "0.022 with a scatter of 0.008 from draw to draw; a constant guess has 0.25"
