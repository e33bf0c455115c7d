"""Detections of a night in groups: of one star each, wherever they are on the sky, with errors that are true."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skylake.calibration.calibrated_matches import Photometry
from skylake.core.flags import SourceFlag
from skylake.core.sphere import healpix_index, offset, separation_deg, unit_vectors
from skylake.schema import conform, empty_table, load
from skylake.table.cluster_magnitudes import good_magnitudes
from skylake.table.clusters import clusters_table, link_arcsec, with_stars
from skylake.table.detection_groups import NONE, count_switched, group_detections

Floats = npt.NDArray[np.float64]
FrameRows = Callable[..., pa.Table]
LINK = 10.0
NOISE = 1.0
#: The seam of right ascension, the poles, and a usual place.
PLACES = st.sampled_from(
    [(0.0, 0.0), (359.999, 45.0), (120.0, 89.995), (0.0, 90.0), (77.0, -90.0), (200.0, -30.0)]
)


def detections(
    place: tuple[float, float], n_stars: int, n_frames: int, seed: int, apart: float = 40.0
) -> dict[str, npt.NDArray[Any]]:
    """Detections of stars in a row through a place, one a frame, with noise on both axes."""
    random = np.random.default_rng(seed)
    star, frame = np.tile(np.arange(n_stars), n_frames), np.repeat(np.arange(n_frames), n_stars)
    along = apart / 3600.0 * (np.arange(n_stars) - 0.5 * n_stars)
    ra, dec = offset(np.full(n_stars, place[0]), np.full(n_stars, place[1]), along, np.full(n_stars, 30.0))
    off = NOISE / 3600.0 * random.standard_normal((2, star.size))
    seen = offset(ra[star], dec[star], np.hypot(*off), np.degrees(np.arctan2(*off)))
    order = random.permutation(star.size)
    return {
        "star": star[order], "frame": frame[order], "ra": seen[0][order], "dec": seen[1][order],
        "true_ra": ra, "true_dec": dec,
    }  # fmt: skip


@given(place=PLACES, seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.4, 1.0]))
def test_groups_are_the_stars_whether_matched_or_not(
    place: tuple[float, float], seed: int, share: float
) -> None:
    found = detections(place, 6, 8, seed)
    is_matched = np.random.default_rng(seed + 1).random(48) < share
    ref_id = np.where(is_matched, 100 + found["star"], NONE)
    vectors = unit_vectors(found["ra"], found["dec"])
    groups = group_detections(found["frame"], vectors, (found["ra"], found["dec"]), ref_id, LINK)
    assert len(groups) == 6
    for star in range(6):
        (number,) = set(groups.number[found["star"] == star].tolist())
        assert groups.ref_id[number] == (100 + star if is_matched[found["star"] == star].any() else NONE)
    assert count_switched(groups, vectors, ref_id, LINK).sum() == 0


def test_stars_in_a_chain_are_separated_by_the_frames_that_show_them_at_once() -> None:
    found = detections((10.0, 5.0), 4, 30, 3, apart=8.0)
    vectors = unit_vectors(found["ra"], found["dec"])
    ref_id = np.full(120, NONE)
    groups = group_detections(found["frame"], vectors, (found["ra"], found["dec"]), ref_id, LINK)
    assert len(groups) == 4
    of_star = [np.bincount(groups.number[found["star"] == star], minlength=4) for star in range(4)]
    assert min(counts.max() for counts in of_star) >= 29
    # A stray detection beside a star on few frames is no second star.
    one = detections((10.0, 5.0), 1, 30, 4)
    ra, dec = np.append(one["ra"], one["ra"][:3]), np.append(one["dec"], one["dec"][:3] + 4.0 / 3600.0)
    frame = np.append(one["frame"], one["frame"][:3])
    assert len(group_detections(frame, unit_vectors(ra, dec), (ra, dec), np.full(33, NONE), LINK)) == 1


def test_a_detection_without_match_joins_its_star_unless_the_star_is_on_the_same_frame() -> None:
    found = detections((10.0, 5.0), 1, 10, 5)
    ref_id = np.where(found["frame"] < 8, 7, NONE)
    ra, dec = np.append(found["ra"], found["ra"][0]), np.append(found["dec"], found["dec"][0] + 6.0 / 3600.0)
    frame = np.append(found["frame"], 0)
    groups = group_detections(frame, unit_vectors(ra, dec), (ra, dec), np.append(ref_id, NONE), LINK)
    assert groups.ref_id.tolist() == [7, NONE]
    assert np.bincount(groups.number).tolist() == [10, 1]


def test_detections_that_were_matched_with_a_neighbour_are_counted_as_switched() -> None:
    found = detections((10.0, 5.0), 2, 20, 6, apart=20.0)
    ref_id = 100 + found["star"]
    swapped = (found["frame"] < 3) & (found["star"] == 0)
    ref_id[swapped] = 101
    ref_id[(found["frame"] < 3) & (found["star"] == 1)] = NONE
    vectors = unit_vectors(found["ra"], found["dec"])
    groups = group_detections(found["frame"], vectors, (found["ra"], found["dec"]), ref_id, LINK)
    assert count_switched(groups, vectors, ref_id, LINK)[groups.ref_id == 100] == [3]


def rows_of(found: dict[str, npt.NDArray[Any]], **columns: Any) -> pa.Table:
    """Rows of ``sources`` of a night."""
    n = len(found["frame"])
    made: dict[str, Any] = {
        "_healpix_29": healpix_index(found["ra"], found["dec"]), "frame_id": found["frame"] + 1,
        "source_no": np.arange(n, dtype=np.int32), "camera": pa.repeat("lab", n),
        "night": np.full(n, 20240407, np.int32), "mjd_mid": 60408.1 + 0.001 * found["frame"],
        "ra_deg": found["ra"], "dec_deg": found["dec"], "x_px": np.zeros(n), "y_px": np.zeros(n),
        "edge_distance_px": np.full(n, 50, np.float32), "flux_aper2": np.full(n, 100, np.float32),
        "flux_aper2_err": np.full(n, 2, np.float32), "fwhm_px": np.full(n, 2.4, np.float32),
        "a_px": np.full(n, 1.2, np.float32), "b_px": np.full(n, 1.0, np.float32), "flags": np.zeros(n, np.int32),
    }  # fmt: skip
    return conform(pa.table(made | columns), load("sources"))


def clusters_of(rows: pa.Table, frames: pa.Table, zeropoints: pa.Table | None = None) -> list[dict[str, Any]]:
    stars = with_stars(rows, empty_table(load("matches")))
    table = clusters_table(stars, frames, zeropoints or empty_table(load("zeropoints")), "aper2")
    n = table.num_rows
    table = table.append_column("camera", pa.repeat("lab", n))
    table = table.append_column("night", pa.array([20240407] * n, pa.int32()))
    return list(conform(table, load("clusters")).to_pylist())


@pytest.fixture
def frames(frame_rows: FrameRows) -> pa.Table:
    """Thirty frames of a degree about RA 10, Dec 5."""
    return frame_rows(
        30, ra_deg=10.0, dec_deg=5.0, width_px=360, height_px=360, pixel_scale_arcsec=10.0, fwhm_px=2.0,
        s_region="POLYGON ICRS 9.5 4.5 10.5 4.5 10.5 5.5 9.5 5.5",
    )  # fmt: skip


def test_places_motions_and_counts_are_those_of_the_detections(frames: pa.Table) -> None:
    assert link_arcsec(frames) == 10.0
    found = detections((10.0, 5.0), 40, 30, 8)
    # Every other star moves by five arcseconds in 0.029 days.
    found["dec"] += np.where(found["star"] % 2, 5.0 / 3600.0 * found["frame"] / 29.0, 0.0)
    flags = np.where((found["frame"] == 2) & (found["star"] == 4), int(SourceFlag.EDGE), 0)
    found["ra"][flags > 0] += 5.0 / 3600.0
    rows = clusters_of(rows_of(found, flags=flags.astype(np.int32)), frames)
    assert [row["n_detections"] for row in rows] == [30] * 40
    assert {row["n_frames_covered"] for row in rows} == {30}
    assert sorted(row["n_edge"] for row in rows)[-2:] == [0, 1]
    assert {row["n_place"] for row in rows if row["n_edge"]} == {29}
    still = [row for row in rows if abs(row["rate_dec_arcsec_d"]) < 80.0]
    assert len(still) == 20
    for row in still:
        away = separation_deg(row["ra_deg"], row["dec_deg"], found["true_ra"], found["true_dec"]) * 3600.0
        assert away.min() < 5.0 * NOISE / np.sqrt(30)
    scatter = np.sqrt(np.mean([row["scatter_arcsec"] ** 2 for row in still]))
    assert scatter == pytest.approx(NOISE, rel=4.0 / np.sqrt(2 * 2 * 29 * 20))
    shapes = np.array([(row["width_ratio"], row["elongation"]) for row in rows])
    assert shapes == pytest.approx(np.full((40, 2), 1.2))


def test_motions_have_true_errors(frames: pa.Table) -> None:
    found = detections((10.0, 5.0), 80, 30, 9)
    rows = clusters_of(rows_of(found), frames)
    pulls = np.array([
        row[name] / row["rate_err_arcsec_d"] for row in rows for name in ("rate_ra_arcsec_d", "rate_dec_arcsec_d")
    ])  # fmt: skip
    assert abs(pulls.mean()) < 4.0 / np.sqrt(160)
    assert pulls.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(320))


def test_mean_magnitudes_have_true_errors_where_some_measurements_are_far_off() -> None:
    random = np.random.default_rng(10)
    n_stars, n = 300, 20
    group, mjd = np.repeat(np.arange(n_stars), n), np.tile(np.arange(n) * 0.01, n_stars)
    err = random.uniform(0.01, 0.04, group.size)
    mag = 12.0 + err * random.standard_normal(group.size)
    mag[5::40] -= 1.0
    shared = np.full(group.size, 0.005)
    photometry = Photometry(
        mag, mag, mag, np.hypot(err, shared), mag, np.ones(group.size, int), shared, shared
    )
    order = random.permutation(group.size)
    photometry = Photometry(*(getattr(photometry, name)[order] for name in photometry.__slots__))
    is_clean = random.random(group.size) < 0.9
    found = good_magnitudes(photometry, is_clean, mjd[order], group[order], n_stars)
    pulls = (found["mag_mean"] - 12.0) / found["mag_random_err"]
    assert abs(pulls.mean()) < 4.0 / np.sqrt(n_stars)
    assert pulls.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(2 * n_stars))
    assert found["mag_systematic_err"] == pytest.approx(np.full(n_stars, 0.005))
    freedom = np.sum(found["n_good"] - 1)
    assert np.sum(found["mag_chi2"]) == pytest.approx(freedom, abs=4.0 * np.sqrt(2 * freedom))


def test_a_night_in_two_bands_has_fluxes_and_magnitudes_in_each(frames: pa.Table) -> None:
    random = np.random.default_rng(12)
    found = detections((10.0, 5.0), 40, 30, 11)
    # Of three frames one is in B; the last three have no zeropoint, and the very last no band either.
    band = np.where(np.arange(30) % 3 == 2, "B", "V").astype(object)
    band[29] = None
    frames = frames.set_column(frames.schema.get_field_index("band"), "band", pa.array(band, pa.string()))
    true = {"V": 100.0, "B": 60.0, None: 80.0}
    flux = np.array([true[band[one]] for one in found["frame"]])
    flux = (flux + 2.0 * random.standard_normal(flux.size)).astype(np.float32)
    zero = {"V": 20.0, "B": 19.0}
    zeros = {
        "frame_id": np.arange(1, 28), "camera": ["lab"] * 27, "night": [20240407] * 27, "mjd_mid": [60408.1] * 27,
        "catalog": ["cat"] * 27, "version": [3] * 27, "flux": ["aper2"] * 27, "n_matched": [50] * 27,
        "n_used": [50] * 27, "band": band[:27], "zp": [zero[one] for one in band[:27]], "zp_err": [0.002] * 27,
        "zp_fit_err": [0.002] * 27, "zp_random_err": [0.002] * 27, "colour_term": [0.0] * 27,
        "pivot_colour": [0.0] * 27,
    }  # fmt: skip
    rows = clusters_of(rows_of(found, flux_aper2=flux), frames, conform(pa.table(zeros), load("zeropoints")))
    assert {row["band"] for row in rows} == {"V"}
    off: list[float] = []
    for row in rows:
        more = row["more_bands"]
        assert more["band"] == ["", "B"] and more["n_good"][0] == 0 and more["n_flux"][0] == 1
        both = {"V": row, "B": {name: values[1] for name, values in more.items()}}
        for name, own in both.items():
            on, good = (np.count_nonzero(some == name) for some in (band, band[:27]))
            assert (own["n_flux"], own["n_good"], own["version"]) == (on, good, 3)
            off.append((own["flux_adu_per_s"] - true[name]) / (2.0 / np.sqrt(on)))
            assert own["mag_mean"] == pytest.approx(zero[name] - 2.5 * np.log10(true[name]), abs=0.06)
            assert own["mag_chi2"] / (good - 1) < 4.0
    assert abs(np.mean(off)) < 4.0 / np.sqrt(80) and np.std(off) == pytest.approx(1.0, abs=4.0 / np.sqrt(160))
