"""Objects are what their clusters say, wherever on the sky, and a night needs nothing of the nights before it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.core.sphere import apply_proper_motion, healpix_index, offset, separation_deg
from skylake.resources import folder
from skylake.schema import conform, empty_table, load
from skylake.settings import Objects
from skylake.table.object_identities import identities
from skylake.table.object_inheritance import with_earlier_identifiers
from skylake.table.objects import Folded, NightSeen, fold

PLACES = st.sampled_from([(0.0, 0.0), (359.9999, 45.0), (0.0, 90.0), (77.0, -90.0), (200.0, -30.0)])
NO_TARGETS = empty_table(load("targets"))
WIDTH = 10.0
"""Arcseconds; so detections of one star are up to 5 arcseconds apart."""


def cluster(ra: float, dec: float, mjd: float = 60000.0, **columns: Any) -> dict[str, Any]:
    """A row of ``clusters``."""
    n = columns.get("n_detections", 5)
    row = {
        "ra_deg": ra % 360.0, "dec_deg": dec, "n_place": n, "scatter_arcsec": 0.5 if n > 1 else None,
        "n_detections": n, "n_frames": n, "n_frames_covered": 10, "mjd_first": mjd, "mjd_last": mjd + 0.1,
        "mjd_mean": mjd + 0.05, "n_matched": 0, "n_switched": 0, "n_flux": n, "flux_adu_per_s": 10.0,
        "flux_scatter": 1.0 if n > 1 else None, "snr": 9.0, "n_good": 0, "n_blended": 0, "n_saturated": 0,
        "n_edge": 0, "n_streak": 0, "fwhm_px": 2.0,
        "width_ratio": 1.0, "elongation": 1.1,
    }  # fmt: skip
    return row | columns


def star(ra: float, dec: float, ref_id: int, mjd: float = 60000.0, **columns: Any) -> dict[str, Any]:
    """A row of a star of the catalog, which is where it is seen unless `columns` say otherwise."""
    matched = {
        "n_matched": 5,
        "catalog": "cat",
        "ref_id": ref_id,
        "ref_ra_deg": ra % 360.0,
        "ref_dec_deg": dec,
    }
    return cluster(ra, dec, mjd, **(matched | columns))


def night(number: int, rows: list[dict[str, Any]], place: tuple[float, float] | None = None) -> NightSeen:
    """A night whose frames cover two degrees about a place, by default that of its first cluster."""
    columns = {name: [row.get(name) for row in rows] for name in load("clusters").names}
    columns["_healpix_29"] = healpix_index([row["ra_deg"] for row in rows], [row["dec_deg"] for row in rows])
    columns |= {
        "camera": ["lab"] * len(rows),
        "night": [number] * len(rows),
        "cluster_no": list(range(len(rows))),
    }
    place = place or (rows[0]["ra_deg"], rows[0]["dec_deg"])
    corners = offset(*place, 1.4, np.array([45.0, 135.0, 225.0, 315.0]))
    frame = {
        "ra_deg": place[0], "dec_deg": place[1], "pixel_scale_arcsec": 5.0, "width_px": 1440, "height_px": 1440,
        "fwhm_px": WIDTH / 5.0, "s_region": "POLYGON ICRS " + " ".join(map(str, np.column_stack(corners).ravel())),
    }  # fmt: skip
    clusters = conform(pa.table(columns), load("clusters")) if rows else empty_table(load("clusters"))
    return NightSeen(number, clusters, pa.table({name: [value] * 10 for name, value in frame.items()}))


def objects_of(
    nights: list[NightSeen], settings: Objects | None = None, targets: pa.Table = NO_TARGETS
) -> list[dict[str, Any]]:
    made = fold(Folded.nothing(), nights, targets, settings or Objects(), "lab")
    return list(made.objects.to_pylist())


@given(place=PLACES, seed=st.integers(0, 10_000), at=st.integers(0, 4))
def test_the_statistics_are_those_of_all_detections_and_nights_can_be_added_one_by_one(
    place: tuple[float, float], seed: int, at: int
) -> None:
    random = np.random.default_rng(seed)
    nights, all_flux, all_mag, all_err, all_off = [], [], [], [], []
    for number in range(4):
        n = int(random.integers(2, 9))
        flux, err = random.normal(50, 5, n), random.uniform(0.01, 0.05, n)
        mag, off = random.normal(12, 0.05, n), random.normal(0, 0.4, (2, n))
        mean = off.mean(axis=1)
        ra, dec = offset(*place, np.hypot(*mean) / 3600.0, np.degrees(np.arctan2(*mean)))
        weight = err**-2.0
        centre = np.average(mag, weights=weight)
        row = cluster(
            float(ra), float(dec), 60000.0 + number, n_detections=n, flux_adu_per_s=flux.mean(),
            flux_scatter=flux.std(ddof=1), band="V", version=1, n_good=n, mag_mean=centre,
            mag_random_err=weight.sum() ** -0.5, mag_systematic_err=0.01,
            mag_chi2=np.sum(weight * (mag - centre) ** 2),
            scatter_arcsec=np.sqrt(np.sum((off - mean[:, None]) ** 2) / (2 * (n - 1))),
        )  # fmt: skip
        nights.append(night(20240401 + number, [row]))
        for values, new in zip((all_flux, all_mag, all_err, all_off), (flux, mag, err, off.T), strict=True):
            values.append(new)
    (row,) = objects_of(nights)
    flux, mag, err = (np.concatenate(one) for one in (all_flux, all_mag, all_err))
    off, weight = np.concatenate(all_off), err**-2.0
    centre = np.average(mag, weights=weight)
    chi2 = np.sum(weight * (mag - centre) ** 2)
    of_nights = _chi2_of_nights(all_mag, all_err)
    expected = {
        "n_detections": len(flux), "flux_adu_per_s": flux.mean(), "flux_scatter": flux.std(ddof=1),
        "mag_mean": centre, "mag_chi2": chi2, "mag_systematic_err": 0.01, "n_good_nights": 4,
        "mag_chi2_nights": of_nights, "mag_random_err": (max(of_nights / 3, 1) / weight.sum()) ** 0.5,
        "mag_scatter": np.sqrt(chi2 / weight.sum() * len(mag) / (len(mag) - 1)),
        "scatter_arcsec": np.sqrt(np.sum((off - off.mean(axis=0)) ** 2) / (2 * (len(off) - 1))),
        "n_nights": 4, "n_nights_covered": 4, "n_frames_covered": 40, "mjd_first": 60000.0,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    mean = off.mean(axis=0)
    true = offset(*place, np.hypot(*mean) / 3600.0, np.degrees(np.arctan2(*mean)))
    assert separation_deg(row["ra_deg"], row["dec_deg"], *true) * 3600.0 < 1e-4
    first = fold(Folded.nothing(), nights[:at], NO_TARGETS, Objects(), "lab")
    assert fold(first, nights[at:], NO_TARGETS, Objects(), "lab").objects.to_pylist() == [row]


def test_a_star_of_large_proper_motion_stays_one_object_with_and_without_a_match() -> None:
    # Barnard's star, ten arcseconds a year, and a star without motion 30 arcseconds away.
    motion = (-800.0, 10300.0)
    nights = []
    for year in range(12):
        ra, dec = (float(one) for one in apply_proper_motion(269.45, 4.69, *motion, float(year)))
        mjd = 60000.0 + 365.25 * year
        moving = star(ra, dec, 7, mjd) if year in (0, 1, 2, 5, 9) else cluster(ra, dec, mjd)
        nights.append(night(20200401 + 10000 * year, [moving, cluster(269.45 - 30 / 3600.0, 4.69, mjd)]))
    rows = objects_of(nights)
    assert [row["n_nights"] for row in rows] == [12, 12]
    (moving,) = (row for row in rows if row["ref_id"] == 7)
    assert (moving["n_matched"], moving["catalog"]) == (25, "cat")
    assert (moving["pm_ra_mas_yr"], moving["pm_dec_mas_yr"]) == pytest.approx(motion, rel=1e-3)
    assert separation_deg(moving["ra_deg"], moving["dec_deg"], ra, dec) * 3600.0 < 0.1
    assert moving["scatter_arcsec"] < 0.6


def test_an_object_without_match_becomes_that_of_its_star() -> None:
    first = night(20240401, [cluster(10.0, 5.0)])
    second = night(20240402, [star(10.0, 5.0 + 1.0 / 3600.0, 3, 60001.0)])
    third = night(20240403, [star(10.0, 5.0 - 9.0 / 3600.0, 3, 60002.0)])
    (row,) = objects_of([first, second, third])
    assert (row["ref_id"], row["n_nights"], row["n_matched"]) == (3, 3, 10)
    assert row["object_id"] == healpix_index(10.0, 5.0)[0]


def test_what_is_seen_too_seldom_is_provisional_and_then_forgotten() -> None:
    noise = [cluster(10.0 + 0.1 * k, 5.0, 60000.0 + k, n_detections=1) for k in range(20)]
    nights = [night(20240401 + k, [star(10.0, 5.5, 1, 60000.0 + k), noise[k]]) for k in range(20)]
    rows = objects_of(nights)
    kinds = [row["status"] for row in rows]
    assert (kinds.count("qualified"), kinds.count("provisional")) == (1, 10)
    # Three bright detections in a few nights are an object, unless one was too long ago.
    seldom = [
        night(20240401 + k, [cluster(10.0, 5.0, 60000.0 + k, n_detections=1, snr=15.0)]) for k in (0, 4, 8)
    ]
    assert [(row["status"], row["n_frames"]) for row in objects_of(seldom)] == [("qualified", 3)]
    late = [replace(seldom[0], night=20240320), *seldom[1:]]
    assert [(row["status"], row["n_frames"]) for row in objects_of(late)] == [("provisional", 2)]


def light_curve(kind: str, random: np.random.Generator) -> np.ndarray[Any, Any]:
    """The ratio of signal to noise of a source on 30 frames of 12 nights; noise has that of faint light."""
    snr = np.full((12, 30), 3.0)
    if kind == "nova":
        snr[7:] = 40.0
    elif kind == "nova at the end of a night":
        snr[11, 26:] = 40.0
    elif kind == "weak nova":
        snr[7:] = 6.0
    elif kind == "eclipsing":
        snr[:] = np.where(random.random(snr.shape) < 0.4, 1.0, 6.0)
    elif kind == "variable":
        # Above the limit of detection for a third of each night.
        snr += 4.0 * (np.arange(30) % 15 < 5)
    return snr


@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        ("noise", 0.0, 0.03),
        ("nova", 1.0, 1.0),
        ("nova at the end of a night", 1.0, 1.0),
        ("weak nova", 1.0, 1.0),
        ("eclipsing", 1.0, 1.0),
        ("variable", 0.97, 1.0),
    ],
)
def test_what_is_on_a_share_of_frames_qualifies_and_noise_at_one_place_does_not(
    kind: str, least: float, most: float
) -> None:
    random = np.random.default_rng(8)
    places = [(10.0 + 0.05 * k, 5.0) for k in range(40)]
    nights = []
    snr = np.array([light_curve(kind, random) for _ in places]) + random.normal(size=(40, 12, 30))
    for k in range(12):
        rows = [star(10.0, 5.5, 1, 60000.0 + k)]
        for place, tonight in zip(places, snr[:, k], strict=True):
            seen = tonight[tonight > 5.0]
            if seen.size:
                rows.append(
                    cluster(*place, 60000.0 + k, n_detections=seen.size, n_frames_covered=30, snr=seen.mean())
                )
        frames = night(20240401 + k, rows, (10.9, 5.2))
        nights.append(replace(frames, frames=pa.concat_tables([frames.frames] * 3)))
    status = [row["status"] for row in objects_of(nights) if row["ref_id"] is None]
    assert least <= status.count("qualified") / len(places) <= most


def test_a_place_counts_the_nights_in_which_frames_covered_it_up_to_the_edges_of_a_drifting_field() -> None:
    # Each night looks a quarter of a degree farther east, at an image of two degrees.
    nights = []
    for k in range(7):
        centre = 10.0 + 0.25 * k
        stars = [star(centre + 0.3 * one, 5.0 + 0.2 * one, 10 * k + one + 5) for one in range(-3, 4)]
        if k == 6:
            stars += [cluster(10.53 + east, 5.6) for east in (0.0, 0.5, 1.15, 1.85)]
        nights.append(night(20240401 + k, stars, (centre, 5.0)))
    # A field that was not observed before.
    nights.append(night(20240408, [cluster(50.0, 5.0)]))
    new = [row for row in objects_of(nights) if row["ref_id"] is None]
    found = {
        round(row["ra_deg"], 2): (row["n_nights_before"], row["n_frames_before"], row["n_nights_covered"])
        for row in new
    }
    # The images end at 10.0 + 0.25 k + 1.004.
    assert found == {
        10.53: (6, 60, 1),
        11.03: (5, 50, 1),
        11.68: (3, 30, 1),
        12.38: (0, 0, 1),
        50.0: (0, 0, 1),
    }


def test_an_object_that_is_seen_in_two_bands_has_statistics_in_each() -> None:
    random = np.random.default_rng(4)
    nights, seen = [], {"V": [], "B": []}
    for k in range(6):
        # Some nights have both bands, most of one, and one has no magnitudes at all.
        used = [("B",), ("V", "B"), ("V",), (), ("B", "V"), ("B",)][k]
        kept: dict[str, dict[str, Any]] = {}
        for band in used:
            n = int(random.integers(3, 8))
            mag, err = random.normal(12.0 + (band == "B"), 0.05, n), random.uniform(0.01, 0.05, n)
            flux = 10.0 ** (-0.4 * (mag - 20.0))
            seen[band].append((mag, err, flux))
            kept[band] = band_columns(mag, err, flux)
        columns = kept[used[0]] | {"band": used[0]} if used else {"band": None, "n_flux": 0, "n_good": 0}
        more = [{"band": band} | kept[band] for band in used[1:]]
        nested = {name: [one[name] for one in more] for name in more[0]} if more else None
        nights.append(night(20240401 + k, [cluster(10.0, 5.0, 60000.0 + k, **columns, more_bands=nested)]))
    (row,) = objects_of(nights)
    assert row["band"] == "B" and row["more_bands"]["band"] == ["V"]
    for band, own in (("B", row), ("V", {name: values[0] for name, values in row["more_bands"].items()})):
        mag, err, flux = (np.concatenate(one) for one in zip(*seen[band], strict=True))
        of_nights = _chi2_of_nights(*([night[place] for night in seen[band]] for place in (0, 1)))
        expected = band_columns(mag, err, flux) | {"mag_chi2_nights": of_nights}
        expected["mag_random_err"] *= max(of_nights / (len(seen[band]) - 1), 1.0) ** 0.5
        assert {name: own[name] for name in expected} == pytest.approx(expected, rel=1e-9), band
    rows = object_bands(fold(Folded.nothing(), nights, NO_TARGETS, Objects(), "lab").objects)
    assert {one["band"]: one["mag_mean"] for one in rows} == {
        "B": row["mag_mean"],
        "V": row["more_bands"]["mag_mean"][0],
    }


def object_bands(objects: pa.Table) -> list[dict[str, Any]]:
    """Rows of the view of that name."""
    text = (folder("sql") / "duckdb" / "views.sql").read_text()
    views = text[
        text.index("CREATE VIEW objects_in_force") : text.index("-- Statistics of the good measurements")
    ]
    with duckdb.connect() as connection:
        connection.register("given", objects)
        connection.execute("CREATE TABLE objects AS FROM given")
        connection.execute(views)
        return list(connection.sql("FROM object_bands").to_arrow_table().to_pylist())


def _chi2_of_nights(mag: list[np.ndarray[Any, Any]], err: list[np.ndarray[Any, Any]]) -> float:
    weight = np.array([np.sum(one**-2.0) for one in err])
    mean = np.array([np.average(m, weights=e**-2.0) for m, e in zip(mag, err, strict=True)])
    return float(np.sum(weight * (mean - np.average(mean, weights=weight)) ** 2))


@pytest.mark.parametrize("from_night_to_night", [0.0, 0.01])
def test_the_error_of_a_mean_holds_where_nights_differ(from_night_to_night: float) -> None:
    random, n_stars = np.random.default_rng(4), 240
    nights = []
    for number in range(10):
        mag = 12.0 + np.hypot(from_night_to_night, 0.002) * random.standard_normal(n_stars)
        nights.append(
            night(
                20240401 + number,
                [
                    cluster(
                        10.0 + 0.1 * star, 5.0, 60000.0 + number, n_detections=5, band="V", version=1, n_good=5,
                        mag_mean=one, mag_random_err=0.002, mag_systematic_err=0.01, mag_chi2=4.0,
                        mag_scatter=0.005,
                    )
                    for star, one in enumerate(mag)
                ],
            )
        )  # fmt: skip
    rows = objects_of(nights)
    pulls = np.array([(row["mag_mean"] - 12.0) / row["mag_random_err"] for row in rows])
    # Ten nights tell their own scatter, so the pulls are Student's of nine degrees of freedom, of width 1.13.
    assert len(rows) == n_stars and abs(pulls.mean()) < 0.3 and 0.7 < pulls.std() < 1.4


def band_columns(
    mag: np.ndarray[Any, Any], err: np.ndarray[Any, Any], flux: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """What clusters and objects say of fluxes and magnitudes in a band."""
    weight = err**-2.0
    mean = np.average(mag, weights=weight)
    chi2, n = np.sum(weight * (mag - mean) ** 2), len(mag)
    return {
        "version": 1, "n_flux": n, "flux_adu_per_s": flux.mean(), "flux_scatter": flux.std(ddof=1), "n_good": n,
        "mag_mean": mean, "mag_random_err": weight.sum() ** -0.5, "mag_systematic_err": 0.01, "mag_chi2": chi2,
        "mag_scatter": np.sqrt(chi2 / weight.sum() * n / (n - 1)),
    }  # fmt: skip


def test_objects_that_nothing_separates_are_joined_and_pairs_that_are_seen_apart_are_not() -> None:
    # The second night has a poor place, so that a second object begins, which later nights move towards the first.
    nights = [night(20240401, [cluster(10.0, 5.0, n_detections=50)])]
    far = [cluster(10.0, 5.0 + 6.0 / 3600.0, 60001.0, n_detections=4)]
    nights.append(night(20240402, far))
    rows = objects_of(nights)
    first, second = sorted(rows, key=lambda row: row["night_first"])
    assert second["split_from"] == first["object_id"]
    assert first["split_from"] is None
    nights += [
        night(20240403 + k, [cluster(10.0, 5.0 + 3.2 / 3600.0, 60002.0 + k, n_detections=40)])
        for k in range(3)
    ]
    nights.append(night(20240406, [cluster(10.0, 5.0 + 1.0 / 3600.0, 60005.0, n_detections=400)]))
    rows = objects_of(nights)
    assert sorted(row["status"] for row in rows) == ["joined", "qualified"]
    (gone,), (kept,) = ([row for row in rows if row["status"] == one] for one in ("joined", "qualified"))
    assert gone["joined_to"] == kept["object_id"]
    assert kept["n_detections"] == 574
    pair = [night(20240401 + k, [cluster(10.0, 5.0), cluster(10.0, 5.0 + 5.5 / 3600.0)]) for k in range(4)]
    assert [row["n_nights"] for row in objects_of(pair)] == [4, 4]


def test_identifiers_are_those_of_targets_else_of_places_and_each_is_there_once() -> None:
    index = int(healpix_index(10.0, 5.0)[0])
    columns = {
        "_healpix_29": healpix_index([10.0, 20.0, 30.0], [5.1, 5.0, 5.0]), "camera": ["lab"] * 3, "version": [1] * 3,
        "star_id": [501, 502, index], "ra_deg": [10.0, 20.0, 30.0], "dec_deg": [5.1, 5.0, 5.0], "epoch": [2024.0] * 3,
        "origin": ["detections", "cat", "detections"], "ref_id": [None, 9, None], "n_seen": [1] * 3,
        "n_frames": [1] * 3,
    }  # fmt: skip
    targets = conform(pa.table(columns), load("targets"))
    seen = [cluster(10.0, 5.1 + 1.0 / 3600.0), star(20.0, 5.0 + 4.0 / 3600.0, 9), cluster(10.0, 5.0)]
    rows = objects_of([night(20240401, seen)], targets=targets)
    assert sorted(row["object_id"] for row in rows) == [501, 502, index + 1]
    assert {row["object_id"]: row["ref_id"] for row in rows}[502] == 9


def test_a_first_night_that_comes_late_leaves_identifiers_as_they_are() -> None:
    random = np.random.default_rng(0)
    nights = []
    for k in range(4):
        off = random.normal(0.0, 0.3, (3, 2)) / 3600.0
        rows = [star(10.0, 5.0, 7), cluster(10.1, 5.0), cluster(10.2, 5.0)]
        for row, (east, north) in zip(rows, off, strict=True):
            row |= {"ra_deg": row["ra_deg"] + east, "dec_deg": row["dec_deg"] + north}
        # The third begins with the late night.
        nights.append(night(20240401 + k, rows[: 3 if k == 0 else 2], (10.0, 5.0)))
    before, anew = (
        fold(Folded.nothing(), some, NO_TARGETS, Objects(), "lab").objects for some in (nights[1:], nights)
    )
    assert set(before["object_id"].to_pylist()).isdisjoint(anew["object_id"].to_pylist())
    made = with_earlier_identifiers(anew, before, NO_TARGETS, 0.5 * WIDTH)
    assert set(before["object_id"].to_pylist()) < set(made["object_id"].to_pylist())
    for old in before.to_pylist():
        (row,) = (row for row in made.to_pylist() if row["object_id"] == old["object_id"])
        assert row["ref_id"] == old["ref_id"]
        assert (row["n_nights"], old["n_nights"]) == (4, 3)


def test_a_night_out_of_order_is_refused() -> None:
    nights = [night(20240402, [cluster(10.0, 5.0)]), night(20240401, [cluster(10.0, 5.0)])]
    with pytest.raises(ValueError, match="night 20240401 comes after 20240402"):
        objects_of(nights)


def test_a_night_without_detections_counts_as_covered() -> None:
    rows = objects_of([night(20240401, [cluster(10.0, 5.0)]), night(20240402, [], (10.0, 5.0))])
    assert [(row["n_nights"], row["n_nights_covered"], row["n_frames_covered"]) for row in rows] == [
        (1, 2, 20)
    ]


def test_what_has_become_of_objects_is_counted() -> None:
    first = [star(10.0, 5.0, 1), cluster(10.1, 5.0, n_detections=50), cluster(10.2, 5.0)]
    # A star that is new, one beside another, and two detections that were matched with the neighbour.
    second = [
        star(10.0, 5.0, 1, 60001.0, n_switched=2), cluster(10.1, 5.0 + 6.0 / 3600.0, 60001.0, n_detections=4),
        star(10.3, 5.0, 2, 60001.0), cluster(10.4, 5.0, 60001.0, n_detections=1),
    ]  # fmt: skip
    # Of two at one place the younger has moved to the other.
    off = [(3.2, 40), (3.2, 40), (3.2, 40), (1.0, 400)]
    later = [
        [cluster(10.1, 5.0 + arcsec / 3600.0, 60002.0 + k, n_detections=n)]
        for k, (arcsec, n) in enumerate(off)
    ]
    nights = [night(20240401 + k, rows, (10.1, 5.0)) for k, rows in enumerate((first, second, *later))]
    states = [Folded.nothing()]
    for some in (nights[:1], nights[1:2], nights[2:]):
        states.append(fold(states[-1], some, NO_TARGETS, Objects(), "lab"))
    steps = [identities("lab", one.objects, other.objects, 1) for one, other in pairwise(states)]
    counts = [
        (one.n_objects, one.n_new, one.n_split, one.n_joined, one.n_detections, one.n_switched)
        for one in steps
    ]
    assert counts == [(3, 3, 0, 0, 60, 0), (5, 2, 1, 0, 14, 2), (4, 0, 0, 1, 520, 0)]
    assert steps[0].line == (
        "aggregate objects: lab has 3 objects, made from 1 night; 0 of 60 detections (0 %) are of another star"
    )
    assert steps[1].line.startswith(
        "aggregate objects: lab has 5 objects, 2 new, 1 of them began beside another; 2 of"
    )
    assert "4 objects, 0 new, 1 turned out to be another; 0 of 520" in steps[2].line
