from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from archive.detections import number_by_position
from archive.exposures import Projection
from archive.field_stars import field_catalog, field_stars
from archive.night_plan import Fate, plan_night
from archive.night_tables import NightTables, night_tables
from archive.scenario import ArchiveScenario, TableParams
from archive.season import field_pointing, season
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from skylake.core.batch import night_of
from skylake.core.ellipses import shape_terms
from skylake.core.flags import UNCLEAN, SourceFlag
from skylake.core.sphere import healpix_index, separation_deg
from skylake.errors import UsageError
from skylake.schema import arrow_schema, load
from skylake.schema.aperture_columns import spread_apertures
from skylake.simulate import (
    AtmosphereParams,
    HeaderParams,
    OpticsParams,
    ScheduleParams,
    StarParams,
)
from skylake.simulate.optics import SimulatedPointing

NIGHT = 20240407
BAD = TableParams(trailed_fraction=0.08, failed_fraction=0.08)


@pytest.fixture(scope="module")
def scenario(small_profile: str) -> ArchiveScenario:
    return ArchiveScenario(
        camera=small_profile, nights=3, frames_per_night=60, stars=StarParams(per_frame=300.0, variable_fraction=0.0),
        schedule=ScheduleParams(fields=5), atmosphere=AtmosphereParams(cloudy_fraction=0.2), tables=BAD,
        header=HeaderParams(wrong_wcs_fraction=0.08, absent_wcs_fraction=0.08), optics=OpticsParams(distortion=0.01),
    )  # fmt: skip


@pytest.fixture(scope="module")
def night(scenario: ArchiveScenario) -> NightTables:
    return night_tables(scenario, NIGHT, "simcat")


@pytest.fixture(scope="module")
def next_night(scenario: ArchiveScenario) -> NightTables:
    return night_tables(scenario, NIGHT + 1, "simcat")


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False)


def by_id(frames: pa.Table, rows: pa.Table, name: str) -> np.ndarray:
    """A column of frames for each row of another table."""
    place = pc.index_in(rows["frame_id"], frames["frame_id"].combine_chunks())
    return frames[name].take(place).to_numpy(zero_copy_only=False)


@pytest.mark.parametrize("table", ["frames", "sources", "matches", "zeropoints"])
def test_rows_have_their_schema_their_order_and_a_key(night: NightTables, table: str) -> None:
    rows, schema = getattr(night, table), load(table)
    assert rows.schema.equals(arrow_schema(schema), check_metadata=True)
    assert rows.num_rows > 30
    assert rows.equals(rows.sort_by([(name, "ascending") for name in schema.layout.sort]))
    assert rows.group_by(list(schema.primary_key)).aggregate([]).num_rows == rows.num_rows


def test_detections_are_numbered_from_zero_by_y_then_x(night: NightTables) -> None:
    rows = night.sources.select(["frame_id", "source_no", "y_px", "x_px"])
    for frame in pc.unique(rows["frame_id"]).to_pylist():
        mine = rows.filter(pc.equal(rows["frame_id"], frame)).sort_by(
            [("y_px", "ascending"), ("x_px", "ascending")]
        )
        assert mine["source_no"].to_pylist() == list(range(mine.num_rows))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), unique=True, max_size=30))
def test_numbers_are_right_where_rows_are_equal(rows: list[tuple[int, int, int]]) -> None:
    frame, x, y = np.array(rows, int).reshape(-1, 3).T
    number = number_by_position(frame, x.astype(float), y.astype(float))
    wanted = {}
    for one in set(frame.tolist()):
        mine = sorted((item for item in rows if item[0] == one), key=lambda item: (item[2], item[1]))
        wanted |= {item: place for place, item in enumerate(mine)}
    assert number.tolist() == [wanted[item] for item in rows]


@settings(max_examples=20, deadline=None)
@given(
    st.floats(0, 360),
    st.floats(-89, 89),
    st.floats(0, 360),
    st.floats(-0.02, 0.05),
    st.booleans(),
    st.integers(0, 99),
)
def test_the_fast_projection_is_the_projection(
    ra: float, dec: float, turn: float, distortion: float, mirrored: bool, seed: int
) -> None:
    pointings = [
        SimulatedPointing(ra, dec, turn + step, 20.0, (300, 400), distortion, mirrored)
        for step in (0.0, 30.0)
    ]
    fast = Projection.of(pointings)
    x, y = np.random.default_rng(seed).uniform(0, 300, (2, 20))
    for number, pointing in enumerate(pointings):
        places = fast.directions(np.full(20, number), x, y)
        sky = np.degrees(np.arctan2(places[:, 1], places[:, 0])), np.degrees(np.arcsin(places[:, 2]))
        assert separation_deg(*sky, *pointing.pixel_to_sky(x, y)).max() < 1e-9
        again = fast.pixels(places)
        assert np.abs(again[0][:, number] - x).max() < 1e-6
        assert np.abs(again[1][:, number] - y).max() < 1e-6


def test_positions_on_sky_and_image_are_those_of_the_wcs(
    night: NightTables, scenario: ArchiveScenario
) -> None:
    sources = night.sources
    assert (column(sources, "_healpix_29") == healpix_index(sources["ra_deg"], sources["dec_deg"])).all()
    assert column(sources, "x_px").min() >= -0.5 and column(sources, "x_px").max() <= 239.5
    assert column(sources, "y_px").min() >= -0.5 and column(sources, "y_px").max() <= 199.5
    ok = night.frames.filter(pc.equal(night.frames["status"], "ok")).to_pylist()
    for frame in ok[::10]:
        # An astrometric solution that another program reads, made of what the row of the frame says.
        pointing = SimulatedPointing(
            frame["ra_deg"], frame["dec_deg"], frame["rotation_deg"], frame["pixel_scale_arcsec"],
            (frame["height_px"], frame["width_px"]), scenario.optics.distortion, frame["mirrored"],
        )  # fmt: skip
        wcs = WCS(fits.Header(pointing.cards()))
        mine = sources.filter(pc.equal(sources["frame_id"], frame["frame_id"]))
        ra, dec = wcs.all_pix2world(column(mine, "x_px"), column(mine, "y_px"), 0)
        assert separation_deg(ra, dec, column(mine, "ra_deg"), column(mine, "dec_deg")).max() < 1e-6


def test_matches_repeat_their_detections(night: NightTables) -> None:
    keys = ["frame_id", "source_no"]
    matches, sources = (spread_apertures(rows) for rows in (night.matches, night.sources))
    both = matches.join(sources, keys, join_type="inner", right_suffix="_of_source")
    assert both.num_rows == night.matches.num_rows
    shared = [name.removesuffix("_of_source") for name in both.column_names if name.endswith("_of_source")]
    assert {"mjd_mid", "x_px", "flux_aper2_err", "flags", "camera", "night", "crowding"} <= set(shared)
    own = {"_healpix_29", "ra_deg", "dec_deg"}
    for name in set(shared) - own:
        assert both[name].equals(both[f"{name}_of_source"]), name
    assert both["source_ra_deg"].equals(both["ra_deg_of_source"])
    assert both["source_dec_deg"].equals(both["dec_deg_of_source"])
    places = (column(both, name) for name in ("ra_deg", "dec_deg", "source_ra_deg", "source_dec_deg"))
    apart = 3600.0 * separation_deg(*places)
    assert np.abs(apart - column(both, "separation_arcsec")).max() < 1e-6


def test_matches_are_with_stars_of_the_catalog_near_by(night: NightTables, scenario: ArchiveScenario) -> None:
    catalog = pa.concat_tables([field_catalog(scenario, field) for field in range(6)])
    place = pc.index_in(night.matches["ref_id"], catalog["id"].combine_chunks())
    assert place.null_count == 0
    for name, theirs in {"ra_deg": "ra", "dec_deg": "dec", "moved_ra_deg": "ra"}.items():
        assert (column(night.matches, name) == column(catalog.take(place), theirs)).all()
    for name, theirs in {"ref_mag": "V", "ref_mag_err": "V_err", "ref_colour": "B-V"}.items():
        assert (column(night.matches, name) == column(catalog.take(place), theirs).astype(np.float32)).all()
    index = healpix_index(night.matches["ra_deg"], night.matches["dec_deg"])
    assert (column(night.matches, "_healpix_29") == index).all()
    pixels = column(night.matches, "separation_arcsec") / 8.0
    assert 0.02 < np.median(pixels) < 0.3
    assert np.quantile(pixels, 0.999) < 1.5


def test_a_few_detections_are_no_star(night: NightTables, scenario: ArchiveScenario) -> None:
    ok = by_id(night.frames, night.sources, "status") == "ok"
    unmatched = 1.0 - night.matches.num_rows / ok.sum()
    assert unmatched == pytest.approx(scenario.tables.spurious_fraction, abs=0.006)


def test_faint_stars_are_found_less_often(night: NightTables, scenario: ArchiveScenario) -> None:
    plan, here = plan_night(scenario, NIGHT), season(scenario)
    seen = (column(night.frames, "status") == "ok") & (plan.cloud_mag == 0.0)
    clear = night.frames.filter(pa.array(seen))["frame_id"].combine_chunks()
    edges = here.observatory.detection_limit + np.array([-4.0, -1.0, -0.1, 0.6])
    offered, inside = np.zeros(3), []
    for field in np.unique(plan.field).tolist():
        stars = field_stars(scenario, field)
        x, y = field_pointing(scenario, here, field).sky_to_pixel(stars.ra_deg, stars.dec_deg)
        stars = stars.take((np.abs(x - 119.5) < 110) & (np.abs(y - 99.5) < 90))
        inside.append(stars.ref_id)
        offered += seen[plan.field == field].sum() * np.histogram(stars.ref_mag, edges)[0]
    found = night.matches.filter(pc.is_in(night.matches["frame_id"], clear))
    found = found.filter(pc.is_in(found["ref_id"], pa.array(np.concatenate(inside))))
    bright, middle, faint = np.histogram(column(found, "ref_mag"), edges)[0] / offered
    assert bright == pytest.approx(1.0 - scenario.tables.missing_fraction, abs=0.005)
    assert bright > middle + 0.01 > faint + 0.2


def test_frames_end_as_they_were_meant_to(night: NightTables, scenario: ArchiveScenario) -> None:
    plan, frames = plan_night(scenario, NIGHT), night.frames
    assert set(plan.fate.tolist()) == set(Fate)
    reasons = {
        Fate.TRAILED: "trailed",
        Fate.WRONG_WCS: "bad_wcs",
        Fate.NO_WCS: "no_wcs",
        Fate.FAILED: "no_valid_pixels",
    }
    gate = plan.camera.gates["n_sources"].min
    assert gate is not None
    for fate, row in zip(plan.fate.tolist(), frames.to_pylist(), strict=True):
        few = row["n_sources"] is not None and row["n_sources"] < gate and fate <= Fate.TRAILED
        assert row["reason"] == ("too_few_sources" if few else reasons.get(fate))
        assert (row["ra_deg"] is None) == (fate == Fate.NO_WCS)
        assert (row["n_detected"] is None) == (row["apcor_aper2"] is None) == (fate == Fate.FAILED)
        assert (row["status"] == "ok") == (row["reason"] is None) == (row["message"] is None)
    spoiled = by_id(frames, night.sources, "status") == "rejected"
    assert spoiled.any()
    assert ((column(night.sources, "flags") & SourceFlag.FRAME_REJECTED > 0) == spoiled).all()
    assert set(by_id(frames, night.matches, "status")) == {"ok"}
    assert set(night.zeropoints["frame_id"].to_pylist()) == set(
        frames.filter(pc.equal(frames["status"], "ok"))["frame_id"].to_pylist()
    )


def test_frames_count_their_detections(night: NightTables) -> None:
    flags = column(night.sources, "flags") & ~int(SourceFlag.FRAME_REJECTED)
    ids = column(night.sources, "frame_id")
    for row in night.frames.to_pylist():
        mine = flags[ids == row["frame_id"]]
        if mine.size:
            clean = (mine & int(UNCLEAN)) == 0
            assert (row["n_detected"], row["n_sources"]) == (mine.size, clean.sum())


def test_times_are_dark_hours_of_the_night(night: NightTables) -> None:
    for row in night.frames.to_pylist():
        assert night_of(row["mjd_start"], -70.4) == night_of(row["mjd_end"], -70.4) == row["night"] == NIGHT
        assert row["sun_altitude_deg"] < -14.9
        assert row["altitude_deg"] is None or row["altitude_deg"] > 30.0


def test_calibrated_magnitudes_scatter_as_they_say(night: NightTables) -> None:
    matches, zero = night.matches, night.zeropoints
    flux = column(matches, "flux_aper2") * by_id(night.frames, matches, "apcor_aper2")
    flux *= column(matches, "apcor_rel_aper2")
    flux /= 1.0 + column(matches, "crowding")
    used = (flux > 0) & (column(matches, "flags") == 0) & (column(matches, "crowding") < 0.3)
    zp, term, pivot, zp_err = (
        by_id(zero, matches, name) for name in ("zp", "colour_term", "pivot_colour", "zp_err")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        mag = -2.5 * np.log10(flux) + zp + term * (column(matches, "ref_colour") - pivot)
        noise = 1.0857 * column(matches, "flux_aper2_err") / column(matches, "flux_aper2")
    error = np.sqrt(noise**2 + column(matches, "ref_mag_err") ** 2 + zp_err**2)
    used &= np.isfinite(mag) & (noise < 0.1)
    pull = ((column(matches, "ref_mag") - mag) / error)[used]
    assert pull.size > 1000
    low, middle, high = np.quantile(pull, [0.1587, 0.5, 0.8413])
    assert abs(middle) < 0.15
    assert 0.5 * (high - low) == pytest.approx(1.0, abs=0.15)


def test_corrections_grow_outwards_and_fluxes_lack_them(night: NightTables) -> None:
    matches = night.matches
    x, y = (column(matches, name) - middle for name, middle in (("x_px", 119.5), ("y_px", 99.5)))
    square = (x**2 + y**2) / (120.0**2 + 100.0**2)
    first, second = (column(matches, f"apcor_rel_aper{number}") for number in (1, 2))
    np.testing.assert_allclose(first, 1.0 + 0.02 * square, atol=1e-5)
    assert ((second <= first) & (second >= 1.0)).all()
    ratio = column(matches, "flux_aper1") / column(matches, "flux_aper3")
    ratio *= by_id(night.frames, matches, "apcor_aper1") / by_id(night.frames, matches, "apcor_aper3")
    bright = column(matches, "flux_aper1") > 60.0 * column(matches, "flux_aper1_err")
    bright &= (column(matches, "flags") == 0) & (column(matches, "crowding") < 0.01)
    slope = np.polyfit(square[bright], ratio[bright], 1, w=1.0 / column(matches, "flux_aper1_err")[bright])[0]
    assert slope == pytest.approx(-0.018, abs=0.012)


def test_every_metric_is_filled_where_frames_have_pixels(night: NightTables) -> None:
    frames = night.frames.filter(pc.not_equal(night.frames["status"], "failed"))
    names = ["sky_saturation", "mean_ellipticity", "flux_limit", "n_streaks", "n_uneven_cells", "n_detected"]
    assert {name: frames[name].null_count for name in names} == dict.fromkeys(names, 0)
    seen = frames.filter(pc.is_valid(frames["ra_deg"]))
    assert seen["found_fraction"].null_count == seen["n_expected"].null_count == 0
    ok = pc.equal(seen["status"], "ok")
    assert column(seen.filter(ok), "found_fraction").min() > 0.3
    assert column(seen.filter(pc.equal(seen["reason"], "bad_wcs")), "found_fraction").max() < 0.3
    trailed = pc.equal(frames["reason"], "trailed")
    assert column(frames.filter(trailed), "mean_ellipticity").min() > 0.3
    assert column(frames.filter(pc.equal(frames["status"], "ok")), "mean_ellipticity").max() < 0.3
    limits = night.zeropoints.filter(pc.is_valid(night.zeropoints["zp"]))
    assert limits["mag_limit"].null_count == 0
    half, width = column(night.sources, "half_light_px"), column(night.sources, "fwhm_px")
    assert (half / width > 0.5).all() and (half / width < 0.8).all()
    shape = shape_terms(*(column(night.sources, name) for name in ("fwhm_px", "a_px", "b_px", "theta_deg")))
    for name, values in zip("sdk", shape, strict=True):
        np.testing.assert_allclose(column(night.sources, f"shape_{name}"), values, rtol=1e-4, atol=1e-5)


def test_zeropoints_are_near_the_truth(night: NightTables, scenario: ArchiveScenario) -> None:
    plan = plan_night(scenario, NIGHT)
    truth = dict(zip(column(night.frames, "frame_id").tolist(), plan.zeropoint.tolist(), strict=True))
    rows = [row for row in night.zeropoints.to_pylist() if row["zp"] is not None]
    pulls = np.array([(row["zp"] - truth[row["frame_id"]]) / row["zp_err"] for row in rows])
    assert len(pulls) > 20
    assert np.median(np.abs(pulls)) < 1.5
    assert abs(rows[0]["colour_term"] - scenario.atmosphere.colour_term) < 4 * rows[0]["colour_term_err"]
    # Thicker air and clouds make zeropoints fainter.
    assert np.corrcoef([row["zp"] for row in rows], [truth[row["frame_id"]] for row in rows])[0, 1] > 0.9


def test_a_star_is_the_same_star_in_every_night(night: NightTables, next_night: NightTables) -> None:
    def stars(tables: NightTables) -> pa.Table:
        return tables.matches.group_by("ref_id").aggregate([("ra_deg", "min"), ("source_ra_deg", "mean")])

    both = stars(night).join(stars(next_night), "ref_id", join_type="inner", right_suffix="_next")
    assert both.num_rows > 0.3 * stars(night).num_rows
    assert both["ra_deg_min"].equals(both["ra_deg_min_next"])
    moved = column(both, "source_ra_deg_mean") - column(both, "source_ra_deg_mean_next")
    assert np.quantile(np.abs(moved), 0.95) * 3600.0 < 4.0
    shared = set(night.frames["frame_id"].to_pylist()) & set(next_night.frames["frame_id"].to_pylist())
    assert not shared


def test_a_night_follows_from_its_date_and_the_seed_alone(
    night: NightTables, scenario: ArchiveScenario
) -> None:
    field_stars.cache_clear()
    again = night_tables(replace(scenario, nights=300), NIGHT, "simcat")
    other = night_tables(replace(scenario, seed=2), NIGHT, "simcat")
    for table in ("frames", "sources", "matches", "zeropoints"):
        assert getattr(again, table).equals(getattr(night, table))
        assert not getattr(other, table).equals(getattr(night, table))


def test_more_survey_fields_than_fit_are_refused(scenario: ArchiveScenario) -> None:
    crowd = replace(scenario, schedule=ScheduleParams(fields=500))
    with pytest.raises(UsageError, match=r"fewer with schedule\.fields"):
        night_tables(crowd, NIGHT, "simcat")


def test_a_night_without_a_field_is_refused(scenario: ArchiveScenario) -> None:
    alone = replace(scenario, schedule=ScheduleParams(target=(0.0, 85.0)))
    with pytest.raises(UsageError, match="no field rises"):
        night_tables(alone, NIGHT, "simcat")


def test_a_camera_without_a_site_has_nights_all_the_same(tmp_path: Path) -> None:
    camera = tmp_path / "plain.toml"
    camera.write_text(
        'name = "plain"\n[detector]\nwidth_px = 200\nheight_px = 200\n[optics]\npixel_scale_arcsec = 10.0\n'
        '[filters.r]\nband = "r"\n'
    )
    plain = ArchiveScenario(camera=str(camera), frames_per_night=5, stars=StarParams(per_frame=100.0))
    tables = night_tables(plain, NIGHT, "simcat")
    assert tables.sources.num_rows > 100
    assert tables.frames["altitude_deg"].null_count == tables.frames["sun_altitude_deg"].null_count == 5
    assert tables.zeropoints["colour_term"].null_count == tables.zeropoints.num_rows
