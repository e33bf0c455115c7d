from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from skylake.core.ephemeris import barycentric_jd
from skylake.core.sphere import separation_deg
from skylake.simulate import (
    AtmosphereParams,
    HeaderParams,
    Scenario,
    ScheduleParams,
    SimulationResult,
    plan,
    simulate,
    simulate_frame,
)
from skylake.simulate.specials import TRANSIENT_ID
from skylake.simulate.variables import KIND_NAMES, magnitude_change
from skylake.simulate.world import world

Run = tuple[Scenario, SimulationResult]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def detections(result: SimulationResult):
    import pandas as pd

    return pd.concat([pq.read_table(path).to_pandas() for path in result.truth_detections], ignore_index=True)


def test_everything_is_where_the_result_says(small_run: Run) -> None:
    scenario, result = small_run
    frames = pq.read_table(result.truth_frames).to_pandas()
    assert [str(result.out / file) for file in frames.file] == [str(path) for path in result.frames]
    assert all(path.is_file() for path in (*result.frames, result.catalog, result.truth_transients))
    assert len(result.frames) == scenario.nights * scenario.frames_per_night
    assert [path.stem for path in result.truth_detections] == ["20240407", "20240408"]
    assert pq.read_table(result.truth_stars).num_rows == result.n_stars > result.n_catalog > 0
    table = detections(result)
    assert len(table) == result.n_detections == frames.n_stars.sum()
    assert (table.groupby("frame").file.first().to_numpy() == frames.file.to_numpy()).all()


@pytest.mark.slow
def test_several_processes_give_the_bytes_of_one(small_run: Run, tmp_path: Path) -> None:
    scenario, result = small_run
    seen: list[tuple[int, int]] = []
    simulate(scenario, tmp_path, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert digests(tmp_path) == digests(result.out)
    assert seen == [(i, 12) for i in range(1, 13)]


def test_frames_do_not_depend_on_the_order_they_are_made_in(small_run: Run, tmp_path: Path) -> None:
    scenario, result = small_run
    for frame in plan(scenario)[7:4:-1]:
        simulate_frame(frame, scenario, tmp_path)
        assert (tmp_path / frame.file).read_bytes() == (result.out / frame.file).read_bytes()


def test_another_seed_gives_other_bytes(small_run: Run, tmp_path: Path) -> None:
    scenario, result = small_run
    simulate(replace(scenario, nights=1, seed=2), tmp_path)
    mine, theirs = digests(tmp_path), digests(result.out)
    assert not {name for name in mine if mine[name] == theirs[name]}


def test_the_transient_is_true_and_not_in_the_catalog(small_run: Run) -> None:
    _, result = small_run
    catalog, transients = pq.read_table(result.catalog), pq.read_table(result.truth_transients).to_pylist()
    assert [row["star_id"] for row in transients] == [TRANSIENT_ID]
    new = transients[0]
    assert TRANSIENT_ID not in catalog["id"].to_pylist()
    far = separation_deg(new["ra_deg"], new["dec_deg"], catalog["ra"].to_numpy(), catalog["dec"].to_numpy())
    assert far.min() * 3600.0 > 8.0
    assert new["run_start_bjd"] < new["onset_bjd"] < new["peak_bjd"]
    seen = detections(result).query("star_id == @TRANSIENT_ID")
    assert 1 < len(seen) < 12 and 0 not in set(seen.frame)
    assert seen.mag.min() >= new["peak_mag"]


def test_magnitudes_follow_the_light_curves_that_are_reported(small_run: Run) -> None:
    scenario, result = small_run
    frames, table = pq.read_table(result.truth_frames).to_pandas(), detections(result)
    stars = pq.read_table(result.truth_stars).to_pandas().set_index("star_id")
    kinds = {name: kind for kind, name in KIND_NAMES.items()}
    site = world(scenario).observatory.profile.base.site
    checked = set()
    for star_id, rows in table.groupby("star_id"):
        star = stars.loc[star_id]
        if star.variable_class is None or star.variable_class != star.variable_class:
            assert np.allclose(rows.mag, star.mag_V)
            continue
        time = barycentric_jd(frames.mjd_mid[rows.frame].to_numpy(), star.ra_deg, star.dec_deg, site)
        change = magnitude_change(
            kinds[star.variable_class], star.period_d, star.amplitude_mag, star.epoch_bjd, time
        )
        np.testing.assert_allclose(rows.mag, star.mag_V + change, atol=1e-6)
        checked.add(star.variable_class)
    assert checked >= {"eclipsing", "rr_lyrae_ab", "transit", "transient"}


@pytest.fixture(scope="module")
def mixed_run(small_profile: str, small_scenario: Scenario, tmp_path_factory: pytest.TempPathFactory) -> Run:
    scenario = replace(
        small_scenario,
        frames_per_night=10,
        nights=1,
        file_form="fits.gz",
        streak_fraction=0.3,
        header=HeaderParams(wrong_wcs_fraction=0.2, absent_wcs_fraction=0.1, wrong_offset_arcmin=30.0),
        atmosphere=AtmosphereParams(cloudy_fraction=0.4),
        schedule=ScheduleParams(fields=3, target_fraction=0.4),
    )
    return scenario, simulate(scenario, tmp_path_factory.mktemp("mixed"))


def test_truth_shows_clouds_streaks_and_headers(mixed_run: Run) -> None:
    _, result = mixed_run
    frames = pq.read_table(result.truth_frames).to_pandas()
    assert frames.wcs.value_counts().to_dict() == {"good": 7, "wrong": 2, "absent": 1}
    assert (~frames.clear).sum() == 4 and ((frames.cloud_mag > 0.0) == ~frames.clear).all()
    assert frames.streak_x0_px.notna().sum() == 3
    assert all(file.endswith(".fits.gz") for file in frames.file)
    clear, cloudy = frames[frames.clear], frames[~frames.clear]
    assert clear.zp.min() > cloudy.zp.max()


def test_the_catalog_covers_all_fields_and_beyond(mixed_run: Run) -> None:
    scenario, result = mixed_run
    catalog, table = pq.read_table(result.catalog).to_pandas(), detections(result)
    assert len(set(catalog.id)) == len(catalog)
    bright = table[(table.mag < table.mag.max() - 1.0) & (table.star_id != TRANSIENT_ID)]
    assert len({int(number) for number in bright.star_id} - set(catalog.id)) == 0
    for field in world(scenario).fields:
        reach = separation_deg(field.ra_deg, field.dec_deg, catalog.ra, catalog.dec)
        near = reach[reach < 2.0]
        assert near.max() > world(scenario).observatory.half_diagonal_deg + 0.5


def test_flux_in_truth_is_that_of_the_zeropoint(mixed_run: Run) -> None:
    _, result = mixed_run
    frames, table = pq.read_table(result.truth_frames).to_pandas(), detections(result)
    colour = (
        pq.read_table(result.truth_stars)
        .to_pandas()
        .set_index("star_id")
        .colour_B_V[table.star_id]
        .to_numpy()
    )
    frame = frames.loc[table.frame].reset_index()
    zeropoint = (
        table.mag + 2.5 * np.log10(table.flux_adu_per_s) - frame.colour_term * (colour - frame.pivot_colour)
    )
    # Clouds have a gradient; the middle of the field has what is stated.
    difference = (zeropoint - frame.zp).groupby(table.frame).median()
    assert np.abs(difference[frames.clear]).max() < 0.002
    assert np.abs(difference[~frames.clear]).max() < 0.1
