"""Light curves of targets: forced fluxes with the zeropoints of detections, held against what was simulated."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner
from scipy.stats import norm

from skylake import cameras
from skylake.cameras import Profile
from skylake.cli.lightcurves.lightcurve_command import lc
from skylake.core.robust import sigma_mad
from skylake.errors import LakeError
from skylake.flow.aggregates import aggregate, outdated
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.curves.detrend_star import detrended_curve
from skylake.flow.curves.field_blocks import CurveSource, read_points
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.staleness import Why
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Commit, Lake, stage_part
from skylake.report.curves import curve_at, curve_of_object
from skylake.report.stars.field_export import field_points
from skylake.settings import Settings
from skylake.simulate import (
    CatalogParams,
    OpticsParams,
    Scenario,
    ScheduleParams,
    SimulationResult,
    StarParams,
    simulate,
)
from skylake.sky.sky_region import SkyRegion

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("forced_curves")]

Run = Callable[..., Any]
FIRST, SECOND = "small-20241001", "small-20241002"
#: In the middle of the field pixels of this order meet.
PIXEL_ORDER, FIELD = 5, (0.0, -24.6243)
OPTIONS = TargetOptions("simcat", faint=20.0, seen=3)


PROFILE = """
like = "sim"
name = "small"
detector.width_px = 640
detector.height_px = 640
"""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """A camera with room for so many stars that zeropoints are good to some thousandths of a magnitude."""
    path = tmp_path_factory.mktemp("profiles") / "small.toml"
    path.write_text(PROFILE)
    return cameras.load(path)


@pytest.fixture(scope="module")
def truth(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    """Two nights of six frames, with a catalog so good that frames hardly share errors of zeropoints.

    The point spread function is the same all over the field: how well aperture corrections follow one that is not is
    a matter of the growth curves.
    """
    scenario = Scenario(
        camera=profile.source, first_night=20241001, frames_per_night=6, streak_fraction=0.0,
        stars=StarParams(per_frame=500.0, slope=0.2), schedule=ScheduleParams(target=FIELD),
        catalog=CatalogParams(mag_error=0.002, outlier_fraction=0.0), optics=OpticsParams(fwhm_edge=0.0),
    )  # fmt: skip
    return simulate(scenario, tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def forced_once(
    truth: SimulationResult, profile: Profile, columns: Any, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """A lake whose targets are all stars of the catalog, calibrated and aggregated. Tests do not change it."""
    root = tmp_path_factory.mktemp("forced") / "lake"
    lake = Lake.create(root, Settings(cluster="inline", pixel_order=PIXEL_ORDER))
    import_catalog(lake, "simcat", "table", [truth.catalog], columns)
    ingest(lake, profile, [truth.out / "frames"], Inline())
    make_targets(lake, "small", OPTIONS, Inline())
    ingest(lake, profile, [truth.out / "frames"], Inline(), IngestOptions(redo=True))
    calibrate(lake, Inline())
    aggregate(lake, [], Inline())
    return lake


@pytest.fixture
def forced(forced_once: Lake, tmp_path: Path) -> Lake:
    """A copy of it, to be changed."""
    return Lake(shutil.copytree(forced_once.root, tmp_path / "lake", symlinks=True))


@pytest.fixture(scope="module")
def points(forced_once: Lake, truth: SimulationResult) -> pd.DataFrame:
    """All points of stars of the catalog, with what is true of them."""
    with forced_once.snapshot().duckdb() as connection:
        return connection.sql(
            f"""SELECT p.*, t.mag AS true_mag, t.scintillation
                FROM forced_lightcurve_points AS p JOIN frames AS f USING (frame_id)
                JOIN '{truth.out}/truth/detections/*.parquet' AS t
                  ON t.star_id = p.ref_id AND parse_filename(t.file) = parse_filename(f.file)
                WHERE p.origin = 'simcat' AND NOT t.saturated"""
        ).df()


#: Stars that are not brighter are limited by noise, not by what model and flat field are wrong by.
BRIGHTEST_SNR = 100.0


@pytest.mark.parametrize("kind", ["flux", "flux_psf"])
def test_calibrated_fluxes_are_right_within_their_errors(points: pd.DataFrame, kind: str) -> None:
    """Stars are not chosen by contamination: as a share of the measured flux it is small where noise is positive."""
    clean = points[(points["flags"] == 0) & points.ref_colour.notna()]
    true = 10.0 ** (-0.4 * (clean.true_mag - clean.zp)) * clean.scintillation
    error = np.hypot(clean[f"{kind}_err"], clean[kind] * clean.zp_err / 1.0857)
    pull = ((clean[kind] - true) / error)[true < BRIGHTEST_SNR * error]
    assert len(pull) > 5000
    assert abs(pull.mean()) < 0.1
    assert 0.9 < sigma_mad(pull.to_numpy()) < 1.1
    faint = true < 3.0 * error
    assert faint.sum() > 300
    expected = norm.cdf(-(true / error)[faint]).sum()
    if expected > 5.0:
        assert (clean[kind][faint] < 0).sum() > 0, "noise makes some fluxes negative, and they stay"
    # The fit of the faintest stars is too bright by a quarter of its error: light of stars that no list has.
    assert abs(pull[faint].mean()) < (0.35 if kind == "flux_psf" else 0.15)


def test_magnitudes_are_right_within_their_errors(points: pd.DataFrame) -> None:
    true = points.true_mag - 2.5 * np.log10(points.scintillation)
    snr = 10.0 ** (-0.4 * (true - points.zp)) / points.flux_err
    chosen = (points["flags"] == 0) & (snr > 10.0) & (snr < BRIGHTEST_SNR)
    for mag, error in (("mag", "mag_err"), ("mag_psf", "mag_psf_err")):
        pull = ((points[mag] - true) / points[error])[chosen]
        assert len(pull) > 1000
        assert abs(pull.mean()) < 0.1
        assert 0.9 < sigma_mad(pull.to_numpy()) < 1.1


def test_magnitudes_and_limits_follow_from_fluxes(points: pd.DataFrame) -> None:
    positive = points.flux > 0
    assert points.mag[~positive].isna().all()
    assert points.mag[positive].to_numpy() == pytest.approx(
        (points.zp - 2.5 * np.log10(points.flux.where(positive)))[positive].to_numpy(), abs=1e-4
    )
    assert points.mag_limit.to_numpy() == pytest.approx(
        (points.zp - 2.5 * np.log10(5.0 * points.flux_err)).to_numpy(), abs=1e-4
    )


def test_the_view_says_the_same_of_stars_of_the_pivot_colour(forced_once: Lake) -> None:
    with forced_once.snapshot().duckdb() as connection:
        both = connection.sql(
            """SELECT c.total_flux, c.total_flux_err, c.zp, p.flux, p.flux_err, p.ref_colour, c.mag, c.mag_err,
                      c.mag_limit, c.mag_psf, p.mag AS m, p.mag_err AS me, p.mag_limit AS ml, p.mag_psf AS mp,
                      p.zp - z.colour_term * (coalesce(p.ref_colour, z.pivot_colour) - z.pivot_colour)
                          - position_offset(z.position_terms.coefficient, c.x_px, c.y_px, f.width_px, f.height_px)
                          AS at_pivot
               FROM calibrated_forced AS c JOIN forced_lightcurve_points AS p USING (frame_id, star_id)
               JOIN zeropoints AS z USING (frame_id) JOIN frames AS f USING (frame_id)"""
        ).df()
    assert len(both) > 5000
    for one, other in (("total_flux", "flux"), ("total_flux_err", "flux_err"), ("zp", "at_pivot")):
        assert both[one].to_numpy() == pytest.approx(both[other].to_numpy(), rel=1e-5, abs=1e-5)
    plain = both[both.ref_colour.isna()]
    assert len(plain) > 10
    for one, other in (("mag", "m"), ("mag_err", "me"), ("mag_limit", "ml"), ("mag_psf", "mp")):
        assert plain[one].to_numpy() == pytest.approx(plain[other].to_numpy(), rel=1e-5, nan_ok=True)


def test_a_star_below_every_limit_has_the_right_mean(forced_once: Lake, truth: SimulationResult) -> None:
    curves = forced_once.snapshot().pandas("forced_lightcurves")
    stars = pd.read_parquet(truth.out / "truth" / "stars.parquet").set_index("star_id")
    curves = (
        curves[(curves.origin == "simcat") & (curves.n_clean >= 10)]
        .set_index("ref_id")
        .join(stars[["mag_V"]])
    )
    hidden = curves[curves.n_detected == 0]
    # Chosen by what is true of them: chosen by what was measured, they would be those that noise has made bright.
    limit = hidden.mag_mean_limit.median()
    hidden = hidden[(hidden.mag_V > limit - 1.0) & (hidden.mag_V < limit)]
    assert len(hidden) >= 20
    true, mean = 10.0 ** (-0.4 * hidden.mag_V), 10.0 ** (-0.4 * hidden.mag_mean)
    error = 10.0 ** (-0.4 * hidden.mag_mean_limit) / 5.0
    pull = (mean - true) / error
    print(
        f"{len(pull)} stars: pulls {pull.mean():.2f} +- {pull.std():.2f}, ratio {mean.sum() / true.sum():.3f}"
    )
    assert abs(pull.median()) < 0.3
    assert 0.75 < sigma_mad(pull.to_numpy()) < 1.35
    assert mean.sum() / true.sum() == pytest.approx(1.0, abs=0.05)
    assert 0.7 < curves.chi2[curves.n_detected == 0].median() < 1.3


def test_a_light_curve_is_that_of_the_target_by_default(forced_once: Lake) -> None:
    snapshot = forced_once.snapshot()
    curves = snapshot.pandas("forced_lightcurves")
    star = curves[(curves.n_detected > 3) & (curves.origin == "simcat") & (curves.n_points == 12)].iloc[0]
    by_name = curve_of_object(snapshot, int(star.ref_id))
    assert (by_name["measured"], by_name["catalog"]) == ("forced", "simcat")
    assert len(by_name["points"]) == 12
    assert {point["camera"] for point in by_name["points"]} == {"small"}
    assert curve_of_object(snapshot, int(star.star_id)) == by_name
    assert curve_at(snapshot, star.ra_deg, star.dec_deg, 1.0)["points"] == by_name["points"]
    detected = curve_of_object(snapshot, int(star.ref_id), measured="detected")
    assert detected["measured"] == "detected"
    assert {"source_no"} <= detected["points"][0].keys()
    hidden = curves[(curves.n_detected == 0) & (curves.n_clean >= 6)].iloc[0]
    with pytest.raises(LakeError, match="there is no light curve of the star"):
        curve_of_object(snapshot, int(hidden.star_id), measured="detected")
    found = curve_of_object(snapshot, int(hidden.star_id))
    assert found["object_id"] in (hidden.ref_id, hidden.star_id)


def test_a_light_curve_can_be_read_in_any_flux(forced_once: Lake) -> None:
    snapshot = forced_once.snapshot()
    curves = snapshot.pandas("forced_lightcurves")
    star = int(curves[(curves.n_detected > 3) & (curves.n_points == 12)].iloc[0].star_id)
    calibrated, same, fit, circle = (
        curve_of_object(snapshot, star, flux=flux) for flux in ("calibrated", "hybrid2", "psf", "aper1")
    )
    assert "flux_used" not in calibrated["bands"][0]
    assert same["bands"][0].pop("flux_used") == "hybrid2"
    for name, value in calibrated["bands"][0].items():
        assert same["bands"][0][name] == (
            pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
        ), name
    with snapshot.duckdb() as connection:
        known = connection.sql(
            f"""SELECT p.frame_id, p.mag, p.mag_psf, p.mag_psf_err, p.zp, s.flux_aper1 * f.apcor_aper1
                    * coalesce(s.apcor_rel_aper1, 1) AS flux
                FROM forced_lightcurve_points AS p JOIN forced_sources AS s USING (frame_id, star_id)
                JOIN frames AS f USING (frame_id) WHERE p.star_id = {star}"""
        ).df()
    known = known.set_index("frame_id")
    for curve, magnitude in (
        (same, known.mag),
        (fit, known.mag_psf),
        (circle, known.zp - 2.5 * np.log10(known.flux)),
    ):
        points = pd.DataFrame(curve["points"]).set_index("frame_id")
        assert len(points) == 12
        assert points.mag.to_numpy() == pytest.approx(magnitude[points.index].to_numpy(), abs=2e-6)
    errors = pd.DataFrame(fit["points"]).set_index("frame_id").mag_err
    assert errors.to_numpy() == pytest.approx(known.mag_psf_err[errors.index].to_numpy(), rel=1e-4)
    # The best flux is that of one who names it, and says which it is.
    best = curve_of_object(snapshot, star, flux="best")
    used = best["bands"][0].get("flux_used", "calibrated")
    assert used in ("calibrated", "hybrid1", "hybrid3", "psf", "aper1", "aper2", "aper3")
    assert best == curve_of_object(snapshot, star, flux=used)


def test_a_flux_that_somebody_chose_is_not_called_the_best(forced_once: Lake) -> None:
    curves = forced_once.snapshot().pandas("forced_lightcurves")
    star = str(curves[(curves.n_detected > 3) & (curves.n_points == 12)].iloc[0].star_id)
    answer = CliRunner().invoke(lc, [str(forced_once.root), star, "--flux", "aper1"])
    assert (answer.exit_code, answer.stderr) == (0, "")


def test_the_version_in_force_may_be_named(forced_once: Lake) -> None:
    snapshot = forced_once.snapshot()
    curves = snapshot.pandas("forced_lightcurves")
    star = int(curves[(curves.n_detected > 3) & (curves.n_points == 12)].iloc[0].star_id)
    usual, named = (curve_of_object(snapshot, star, version=version) for version in (None, 1))
    for one, other in zip(usual["points"], named["points"], strict=True):
        assert {name: one[name] for name in ("frame_id", "mag", "flux")} == pytest.approx(
            {name: other[name] for name in ("frame_id", "mag", "flux")}, rel=1e-6
        )
    with pytest.raises(LakeError, match=r"no calibration of version 2 .* they have 1"):
        curve_of_object(snapshot, star, version=2)


def test_the_nearest_star_counts_although_another_one_is_a_target(forced_once: Lake) -> None:
    snapshot = forced_once.snapshot()
    target = snapshot.pandas("forced_lightcurves").iloc[0]
    curves = snapshot.pandas("lightcurves")
    others = curves[~curves.object_id.isin(snapshot.pandas("forced_lightcurves").ref_id)]
    assert len(others), "some stars are no targets"
    for star in others.head(5).itertuples():
        found = curve_at(snapshot, star.ra_deg, star.dec_deg, 3600.0)
        assert (found["object_id"], found["measured"]) == (star.object_id, "detected")
    assert curve_at(snapshot, target.ra_deg, target.dec_deg, 3600.0)["measured"] == "forced"


def test_a_field_has_each_star_once(forced_once: Lake) -> None:
    snapshot = forced_once.snapshot()
    whole = SkyRegion(np.array([[0, 12 << 58]]))
    points = pa.concat_tables(list(field_points(snapshot, whole))).to_pandas()
    forced, detected = (snapshot.pandas(name) for name in ("forced_lightcurves", "lightcurves"))
    assert (points.measured == "forced").sum() == forced.n_points.sum()
    others = detected[~detected.object_id.isin(forced.ref_id)]
    listed = points[points.catalog != "sources"]
    assert (listed.measured == "detected").sum() == others.n_points.sum()
    assert not set(points.object_id[points.catalog == "sources"]) & set(forced.star_id)
    kinds = points.groupby(["catalog", "object_id"]).measured.nunique()
    assert (kinds == 1).all()


@pytest.mark.parametrize("flux", ["best", "calibrated"])
def test_a_field_has_the_values_of_each_star(forced_once: Lake, flux: Any) -> None:
    snapshot, names = forced_once.snapshot(), ("frame_id", "mag", "mag_random_err", "flux", "mag_limit")
    points = pa.concat_tables(list(field_points(snapshot, SkyRegion.whole(), flux=flux))).to_pandas()
    stars = points.sort_values("mag").groupby(["catalog", "object_id"], sort=False)
    used = []
    for place, ((catalog, star), mine) in enumerate(stars):
        if place % 40:
            continue
        curve = curve_of_object(snapshot, int(star), str(catalog), flux=flux)
        used.append(curve["bands"][0].get("flux_used"))
        alone = pd.DataFrame(curve["points"]).sort_values("mjd_mid")
        for name in set(names) & set(alone):
            np.testing.assert_array_equal(mine.sort_values("mjd_mid")[name], alone[name].astype(float), name)
    assert len(used) > 10 and (len(set(used)) > 1) == (flux == "best"), used


@pytest.mark.parametrize("flux", ["psf", "hybrid1"])
def test_another_flux_of_a_field_is_that_of_each_star(forced_once: Lake, flux: str) -> None:
    snapshot, whole = forced_once.snapshot(), SkyRegion.whole()
    found = read_points(snapshot, CurveSource("forced", flux), whole.ranges, whole)
    rows = found.rows.to_pandas()
    assert len(rows) > 50
    for place in (0, 20, 40):
        curve = curve_of_object(snapshot, int(rows.object_id[place]), measured="forced", flux=flux)
        one = {point["frame_id"]: point for point in curve["points"]}
        mine = found.of(found.columns["curve"] == place).columns
        assert len(mine["frame_id"]) > 5
        for name, column in {"mag": "mag", "mag_random_err": "mag_err"}.items():
            expected = [one[frame][name] for frame in mine["frame_id"]]
            np.testing.assert_allclose(mine[column], expected, rtol=1e-5)


def test_a_target_is_detrended_with_the_targets_around(forced_once: Lake) -> None:
    snapshot = forced_once.snapshot()
    star = snapshot.pandas("forced_lightcurves").sort_values("mag_median").iloc[5]
    for flux in ("calibrated", "psf"):
        curve = curve_of_object(snapshot, int(star.ref_id), measured="forced", flux=flux)
        made = detrended_curve(snapshot, curve, "ensemble")
        (band,) = made["detrended"]
        assert band["n_stars"] > 50
        for point in made["points"]:
            # The zeropoint has moved with the magnitude, so that fluxes in bins are detrended too.
            assert point["zp"] - 2.5 * np.log10(point["flux"]) == pytest.approx(point["mag"], abs=1e-4)
            assert abs(point["mag"] - point["mag_raw"]) < 0.2


def test_means_are_the_same_read_without_the_other_columns_of_points(forced_once: Lake) -> None:
    snapshot = forced_once.snapshot()
    schema = snapshot.schema("forced_lightcurves")
    made = [name for name, how in schema.merging.items() if how == "finish"]
    columns, key = [*schema.primary_key, *made], [(name, "ascending") for name in schema.primary_key]
    some, every = (snapshot.merged(schema.name, names).select(columns) for names in (columns, None))
    assert some.num_rows > 100 and len(made) > 5
    assert some.sort_by(key).equals(every.sort_by(key))


def test_a_redo_of_a_night_makes_just_what_follows_stale(
    forced: Lake, truth: SimulationResult, profile: Profile
) -> None:
    assert not any(state.why for state in outdated(forced).values())
    before = {
        table: forced.snapshot().parts(table) for table in ("zeropoints", "lightcurves", "forced_lightcurves")
    }
    make_targets(forced, "small", replace(OPTIONS, faint=13.0), Inline())
    assert not any(state.why for state in outdated(forced).values()), "a list that nothing is measured with"
    night = IngestOptions(redo=True, first_night=20241002, last_night=20241002)
    ingest(forced, profile, [truth.out / "frames"], Inline(), night)
    found = {table: state.why for table, state in outdated(forced).items()}
    assert {name.rpartition("-simcat")[0] for name in found["matches"]} == {SECOND}
    assert set(found["nights"]) == set(found["maps"]) == {SECOND}
    assert set(found["forced_lightcurves"].values()) == {Why.INPUTS}
    calibrate(forced, Inline())
    # The detections are those that they were, and so are their zeropoints and light curves.
    found = {table: state.why for table, state in outdated(forced).items()}
    assert not found["lightcurves"] and not found["zeropoints"]
    report = aggregate(forced, [], Inline())
    assert (report.refreshed["lightcurves"], report.refreshed["nights"]) == (0, 1)
    assert report.refreshed["forced_lightcurves"] == len(found["forced_lightcurves"]) > 0
    after = {table: forced.snapshot().parts(table) for table in before}
    same = {table: [part.checksum for part in parts.values()] for table, parts in before.items()}
    assert [part.checksum for part in after["lightcurves"].values()] == same["lightcurves"]
    assert [part.checksum for part in after["forced_lightcurves"].values()] != same["forced_lightcurves"]
    assert not any(state.why for state in outdated(forced).values())


def test_a_star_that_moves_to_another_pixel_stays_one_curve(forced: Lake) -> None:
    """The pixel of a curve is that in which its star first came in, wherever it is measured later."""
    tree = forced.tree_of("forced_sources")
    snapshot = forced.snapshot()
    listed = snapshot.read("targets")
    star, there = listed["star_id"].to_numpy(), listed["_healpix_29"].to_numpy()
    homes = tree.assign(star)
    one = int(star[0])
    other = next(place for place in range(len(star)) if homes[place] != homes[0])
    ra, dec = listed["ra_deg"][other].as_py(), listed["dec_deg"][other].as_py()
    moved = {"_healpix_29": there[other], "ra_deg": ra, "dec_deg": dec}
    commit = Commit("test", "-")
    with forced.stage("test") as staging:
        for table in ("targets", "forced_sources"):
            for part in snapshot.parts(table).values():
                if table == "forced_sources" and part.name != SECOND:
                    continue
                rows = snapshot.read_part(table, part.name)
                mine = pc.equal(rows["star_id"], one)
                for name, value in moved.items():
                    column = pc.if_else(mine, pa.scalar(value, rows.schema.field(name).type), rows[name])
                    rows = rows.set_column(rows.schema.get_field_index(name), rows.schema.field(name), column)
                pixels = tree if table == "forced_sources" else None
                key = (part.camera, part.night)
                commit.replace(
                    stage_part(rows, table, part.name, staging / table, pixels, *key), staging / table
                )
        forced.commit(commit)
    before = snapshot.read("forced_lightcurves", filter=pc.field("star_id") == one).to_pylist()
    aggregate(forced, ["forced_lightcurves"], Inline())
    after = forced.snapshot().read("forced_lightcurves", filter=pc.field("star_id") == one).to_pylist()
    assert [row["n_points"] for row in after] == [row["n_points"] for row in before]
    assert tree.assign(np.array([row["_healpix_29"] for row in after])).tolist() == [homes[0]] * len(after)
