from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.core.camera import Calibration, Camera, FilterBand
from skylake.core.flags import SourceFlag
from skylake.core.sphere import offset, unit_vectors
from skylake.flow.zeropoints.choose_matches import choose_matches, frame_errors_arcsec, match_radius_arcsec
from skylake.sky.match import pairs_within

CAMERA = Camera("lab", filters={"V": FilterBand("V")}, default_filter="V")
EPOCH = 2000.0
SCALE = 5.0
ZEROPOINT = 20.0


def frames_of(n: int = 1, **columns: Any) -> pa.Table:
    values: dict[str, Any] = {
        "frame_id": np.arange(n) + 1,
        "filter": ["V"] * n,
        "pixel_scale_arcsec": np.full(n, SCALE),
        "astrom_rms_px": np.full(n, 0.2),
    }
    return pa.table(values | columns)


def pairs_of(
    sources: tuple[np.ndarray, np.ndarray], mags: np.ndarray, stars: tuple[np.ndarray, np.ndarray],
    star_mags: np.ndarray, **columns: Any,
) -> pa.Table:  # fmt: skip
    """All pairs within three pixels, as the join gives them; columns of sources are replaced by those given."""
    i, j, separation = pairs_within(unit_vectors(*sources), unit_vectors(*stars), 3.0 * SCALE)
    n = len(mags)
    flux = 10.0 ** (-0.4 * (mags - ZEROPOINT))
    own: dict[str, Any] = {"flux_aper2": flux, "flux_aper2_err": 0.01 * flux}
    own |= {"flags": np.zeros(n, np.int32), "x_err_px": np.full(n, 0.05), "y_err_px": np.full(n, 0.05)}
    own |= {"frame_id": np.ones(n, np.int64), "source_no": np.arange(n, dtype=np.int32)}
    own |= {"mjd_mid": np.full(n, 51544.5), "ra_deg": sources[0], "dec_deg": sources[1]}
    of_star = {
        "ref_id": np.arange(len(star_mags)) + 100, "ra_deg_ref": stars[0], "dec_deg_ref": stars[1],
        "mag_V": star_mags, "pm_ra_mas_yr": np.zeros(len(star_mags)),
    }  # fmt: skip
    ours, theirs = pa.table(own | columns).take(i), pa.table(of_star).take(j)
    for name in theirs.column_names:
        ours = ours.append_column(name, theirs[name])
    for name, values in (("separation_arcsec", separation), ("ref_crowding", np.zeros(len(i)))):
        ours = ours.append_column(name, pa.array(values))
    ours = ours.append_column("moved_ra_deg", ours["ra_deg_ref"])
    return ours.append_column("moved_dec_deg", ours["dec_deg_ref"])


def chosen(
    pairs: pa.Table, frames: pa.Table | None = None, camera: Camera = CAMERA
) -> dict[int, dict[str, Any]]:
    """Matches by the number of their source."""
    rows = choose_matches(pairs, frames_of() if frames is None else frames, EPOCH, camera.filters, camera)
    return {row["source_no"]: row for row in rows.to_pylist()}


def field(n: int = 30) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Stars far from each other, whose sources show what the zeropoint is."""
    return (10.0 + 0.1 * np.arange(n), np.zeros(n)), np.linspace(9.0, 13.0, n)


def beside(place: float, arcsec: float) -> tuple[float, float]:
    return place, arcsec / 3600.0


def with_more(
    few: list[tuple[float, float, float]], others: tuple[tuple[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Right ascension, distance to the north in arcseconds and magnitude of some rows before the others."""
    ra, north, mag = (np.array(column) for column in zip(*few, strict=True))
    places = np.concatenate([ra, others[0][0]]), np.concatenate([north / 3600.0, others[0][1]])
    return places, np.concatenate([mag, others[1]])


def test_a_source_of_another_magnitude_does_not_win_over_that_of_the_star() -> None:
    """A star of V 10.9 whose source is at 4 arcsec; at 1 arcsec lies a faint source of a faint star."""
    stars = with_more([(5.0, 0.0, 10.9), (5.0, 3.0, 15.5)], field())
    sources = with_more([(5.0, 1.0, 15.5), (5.0, -4.0, 10.9)], field())
    found = chosen(pairs_of(*sources, *stars))
    assert {number: found[number]["ref_id"] for number in (0, 1)} == {0: 101, 1: 100}
    assert not any(row["is_discrepant"] for row in found.values())
    assert found[0]["second_separation_arcsec"] == pytest.approx(1.0, abs=1e-3)


def test_a_star_without_rival_that_has_another_magnitude_is_kept_and_marked() -> None:
    stars = with_more([(5.0, 0.0, 10.9)], field())
    found = chosen(pairs_of(*with_more([(5.0, 1.0, 14.0)], field()), *stars))
    assert found[0]["ref_id"] == 100 and found[0]["is_discrepant"]
    assert sum(row["is_discrepant"] for row in found.values()) == 1
    # Saturated light says nothing of a magnitude, nor do four stars of what is common.
    flags = np.array([int(SourceFlag.SATURATED)] + [0] * 30, np.int32)
    sources = with_more([(5.0, 1.0, 14.0)], field())
    assert not chosen(pairs_of(*sources, *stars, flags=flags))[0]["is_discrepant"]
    stars, sources = (with_more([(5.0, north, mag)], field(3)) for north, mag in ((0.0, 10.9), (1.0, 14.0)))
    assert not any(row["is_discrepant"] for row in chosen(pairs_of(*sources, *stars)).values())


def test_what_is_as_likely_is_ambiguous_and_what_is_far_is_not() -> None:
    stars = with_more([(5.0, 0.0, 11.0), (6.0, 0.0, 11.0), (7.0, 0.0, 11.0)], field())
    rivals = with_more([(5.0, 1.2, 11.1), (6.0, 8.0, 11.1), (7.0, 1.2, 18.0)], stars)
    found = chosen(pairs_of(*stars, *rivals))
    assert [found[number]["is_ambiguous"] for number in range(4)] == [True, False, False, False]
    assert [found[number]["n_candidates"] for number in range(4)] == [2, 1, 2, 1]
    second = [found[number]["second_separation_arcsec"] for number in range(4)]
    assert second[:3] == pytest.approx([1.2, 8.0, 1.2], abs=1e-3) and second[3] is None


@pytest.mark.parametrize(
    ("columns", "radius"),
    [
        ({"astrom_rms_px": [0.01]}, 5.0),
        ({"astrom_rms_px": [0.5]}, 4 * np.sqrt(2.5**2 + 0.125 + 0.04)),
        ({"astrom_rms_px": [2.0]}, 15.0),
        ({"astrom_rms_px": [0.2], "astrom_rms_ring4_px": [0.5]}, 4 * np.sqrt(2.5**2 + 0.125 + 0.04)),
        ({"astrom_rms_px": [None], "wcs_offset_arcsec": [2.0]}, 4 * np.sqrt(2.4022**2 + 0.125 + 0.04)),
        ({"astrom_rms_px": [None], "wcs_err_px": [0.6]}, 4 * np.sqrt(9.0 + 0.125 + 0.04)),
        ({"astrom_rms_px": [None]}, 15.0),
    ],
)
def test_the_radius_follows_the_errors_between_one_and_three_pixels(
    columns: dict[str, list[float | None]], radius: float
) -> None:
    frames = frames_of(**{name: pa.array(values, pa.float64()) for name, values in columns.items()})
    near, far = (with_more([(5.0, factor * radius, 11.0)], field()) for factor in (0.999, 1.001))
    stars = with_more([(5.0, 0.0, 11.0)], field())
    assert 0 in chosen(pairs_of(*near, *stars), frames)
    assert 0 not in chosen(pairs_of(*far, *stars), frames)
    assert match_radius_arcsec(frames, CAMERA) == 15.0
    given = replace(CAMERA, calibration=Calibration(match_radius_arcsec=2.0))
    for distance, is_match in ((1.99, True), (2.01, False)):
        pairs = pairs_of(*with_more([(5.0, distance, 11.0)], field()), *stars)
        assert (0 in chosen(pairs, frames, given)) == is_match
    assert match_radius_arcsec(frames, given) == 2.0


def test_a_star_that_the_catalog_lists_twice_is_one_star() -> None:
    stars = with_more([(5.0, 0.0, 11.0), (5.0, 0.0, 11.0), (6.0, 0.0, 11.0), (6.0, 4.0, 11.0)], field())
    sources = with_more([(5.0, 0.5, 11.0), (6.0, 0.5, 11.0), (6.0, 3.5, 11.0)], field())
    pairs = pairs_of(*sources, *stars)
    same = {101: 100, 103: 102}
    numbers = pa.array([same.get(number, number) for number in pairs["ref_id"].to_pylist()])
    pairs = pairs.set_column(pairs.schema.get_field_index("ref_id"), "ref_id", numbers)
    found = chosen(pairs)
    assert found[0]["ref_id"] == 100
    assert [number for number in (1, 2) if number in found] == [1] and found[1]["ref_id"] == 102


def test_a_lens_that_is_uncertain_adds_to_the_scatter_of_its_stars() -> None:
    frames = frames_of(2, astrom_rms_px=[0.3, None], wcs_err_px=[0.4, None])
    assert frame_errors_arcsec(frames) == pytest.approx([2.5, np.nan], nan_ok=True)


def test_crowded_fields_have_fewer_false_matches_than_nearest_neighbours_and_lose_none() -> None:
    random = np.random.default_rng(5)
    n, frames = 1500, 4
    ra, dec = random.uniform(10.0, 10.6, n), random.uniform(-0.3, 0.3, n)
    mag = 16.0 - random.exponential(1.2, n)
    truth, sources, mags, frame = [], [], [], []
    for number in range(frames):
        # Of each star but the faint ones a source, with errors of 0.3 pixels, and a few that are nothing.
        seen = np.flatnonzero(random.uniform(0, 1, n) < np.where(mag < 15.0, 0.97, 0.6))
        angle, away = (
            random.uniform(0, 360, len(seen)),
            random.rayleigh(0.3 * SCALE / np.sqrt(2.0), len(seen)),
        )
        place = offset(ra[seen], dec[seen], away / 3600.0, angle)
        noise = random.uniform(10.0, 10.6, 50), random.uniform(-0.3, 0.3, 50)
        sources.append([np.concatenate(pair) for pair in zip(place, noise, strict=True)])
        mags.append(
            np.concatenate([mag[seen] + random.normal(0, 0.05, len(seen)), random.uniform(14.0, 16.0, 50)])
        )
        truth.append(np.concatenate([seen, np.full(50, -1)]))
        frame.append(np.full(len(seen) + 50, number + 1))
    place = tuple(np.concatenate(column) for column in zip(*sources, strict=True))
    truth, number = np.concatenate(truth), np.concatenate(frame)
    source_no = np.concatenate([np.arange(len(one)) for one in frame]).astype(np.int32)
    pairs = pairs_of(place, np.concatenate(mags), (ra, dec), mag, frame_id=number, source_no=source_no)
    of_source = {
        (f, s): t for f, s, t in zip(number.tolist(), source_no.tolist(), truth.tolist(), strict=True)
    }

    def share(calibration: Calibration, rms: float) -> tuple[float, float]:
        camera = replace(CAMERA, calibration=calibration)
        rows = choose_matches(
            pairs, frames_of(frames, astrom_rms_px=[rms] * frames), EPOCH, camera.filters, camera
        )
        right = [
            of_source[f, s] == r - 100
            for f, s, r in zip(
                *(rows[name].to_pylist() for name in ("frame_id", "source_no", "ref_id")), strict=True
            )
        ]
        return sum(right) / np.count_nonzero(truth >= 0), 1.0 - np.mean(right)

    found, false = share(Calibration(), 0.3)
    found_wide, false_wide = share(Calibration(match_radius_arcsec=3.0 * SCALE), 0.3)
    assert found > 0.985 and found >= found_wide - 1e-3
    assert false < 0.03 and false < 0.6 * false_wide
