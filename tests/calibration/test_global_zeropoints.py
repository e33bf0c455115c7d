from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, ZEROPOINT_COLUMNS, calibrate_matches
from skylake.calibration.frame_solution import CameraResponse
from skylake.calibration.global_zeropoints import calibrated_frames
from skylake.calibration.match_selection import Band
from skylake.calibration.star_reference import StarReference
from skylake.core.camera import Calibration, FilterBand
from skylake.core.position_terms import field_coordinates, position_offset, sum_of_terms

V = Band(FilterBand("V", "B-V", 0.7), "aper2", Calibration(min_stars=5, colour_range=(-0.5, 2.5)))
SIZE = 1000
ILLUMINATION = np.array([0.05, -0.03, 0.04, 0.02, -0.02])
N_STARS = 60


def changed(table: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        place = table.column_names.index(name)
        kind = table.schema.field(name)
        table = table.set_column(place, kind, pa.array(values, kind.type, from_pandas=True))
    return table


@pytest.fixture
def night(make_night: Callable[..., Any]) -> tuple[Any, StarReference]:
    """Frames of a camera whose field is unevenly lit, a catalog that is off by 0.2 mag, and the stars as they are."""
    random = np.random.default_rng(8)
    made = make_night(5, n_frames=6, n_stars=N_STARS, catalog_error=1e-4, intrinsic=0.0, apcor_error=0.0)
    x, y = (random.uniform(0, SIZE, made.matches.num_rows) for _ in range(2))
    offset = position_offset(ILLUMINATION, *field_coordinates(x, y, SIZE, SIZE))
    flux = made.matches["flux_aper2"].to_numpy() * 10.0 ** (0.4 * offset)
    mag = np.zeros(N_STARS)
    mag[made.star] = made.matches["ref_mag"].to_numpy()
    wrong = random.normal(0.0, 0.2, N_STARS)[made.star]
    matches = changed(
        made.matches,
        x_px=x,
        y_px=y,
        flux_aper2=flux,
        ref_mag=mag[made.star] + wrong,
        ref_mag_err=np.full(len(x), 0.2),
    )
    frames = changed(made.frames, width_px=np.full(6, SIZE), height_px=np.full(6, SIZE))
    camera = CameraResponse(ILLUMINATION, np.full(5, 0.001), 0.12, 0.002, 1.0, 0.001)
    shared = np.full(N_STARS, 0.004)
    reference = StarReference(7, np.arange(N_STARS), mag, np.full(N_STARS, 0.001), shared, camera, 0.2, 1)
    return replace(made, frames=frames, matches=matches), reference


def test_frames_are_calibrated_with_the_stars_and_not_with_the_catalog(night: Any) -> None:
    made, reference = night
    rows = calibrated_frames(made.frames, made.matches, {"V": V}, {"V": reference}, "simcat", 3).to_pandas()
    assert rows["method"].eq("global").all() and rows["reference_version"].eq(7).all()
    assert rows["frame_id"].tolist() == made.frames["frame_id"].to_pylist()
    off = rows["zp"] - made.zp
    assert np.abs(off / rows["zp_random_err"]).max() < 4.0 and np.abs(off).max() < 0.01
    assert rows["zp_fit_err"].between(0.004, 0.01).all() and (rows["zp_fit_err"] <= rows["zp_err"]).all()
    assert rows["n_matched"].eq(N_STARS).all() and rows["n_used"].gt(0.8 * N_STARS * 0.6).all()
    assert rows["chi2"].between(0.3, 2.0).all() and rows["intrinsic_mag"].eq(0.2).all()
    assert (np.abs(rows["colour_term"] - 0.12) < 4.0 * rows["colour_term_err"]).all() and rows[
        "mean_colour"
    ].between(0.6, 1.0).all()
    assert rows["version"].eq(3).all() and rows["colour"].eq("B-V").all() and rows["flux"].eq("aper2").all()
    for row in rows["position_terms"]:
        np.testing.assert_allclose(row["coefficient"], ILLUMINATION, atol=0.01)


def test_a_night_has_a_colour_term_of_its_own(night: Any) -> None:
    """As through more air, or out of focus: red stars are brighter by 40 mmag a magnitude than in other nights."""
    made, reference = night
    colour = made.matches["ref_colour"].to_numpy() - V.band.pivot_colour
    flux = made.matches["flux_aper2"].to_numpy() * 10.0 ** (0.4 * 0.04 * colour)
    matches = changed(made.matches, flux_aper2=flux)
    rows = calibrated_frames(made.frames, matches, {"V": V}, {"V": reference}, "simcat", 3)
    term, error = (rows[name].to_numpy() for name in ("colour_term", "colour_term_err"))
    assert (np.abs(term - 0.16) < 4.0 * error).all() and (error < 0.005).all()
    assert np.all(np.abs(rows["zp"].to_numpy() - made.zp) < 4.0 * rows["zp_random_err"].to_numpy())
    found = calibrate_matches(matches, made.frames.select(FRAME_COLUMNS), rows.select(ZEROPOINT_COLUMNS))
    off = found.mag - reference.mag[made.star]
    assert abs(np.polyfit(colour, off, 1)[0]) < 0.01


def test_magnitudes_are_those_of_the_stars_wherever_they_are_on_the_frame(night: Any) -> None:
    made, reference = night
    rows = calibrated_frames(made.frames, made.matches, {"V": V}, {"V": reference}, "simcat", 3)
    found = calibrate_matches(made.matches, made.frames.select(FRAME_COLUMNS), rows.select(ZEROPOINT_COLUMNS))
    off = found.mag - reference.mag[made.star]
    random = np.sqrt(found.mag_err**2 - found.zp_systematic_err**2)
    pulls = off / random
    assert abs(pulls.mean()) < 0.5 and 0.8 < pulls.std() < 1.2
    assert (found.zp_systematic_err >= 0.004).all()


def test_points_of_few_comparison_stars_have_the_scatter_of_their_errors(
    frame_rows: Callable[..., pa.Table], match_rows: Callable[..., pa.Table]
) -> None:
    """Where a star is a fifth of its own comparison, the zeropoint follows its noise, and its points scatter less."""
    random, n_frames, mag = np.random.default_rng(12), 400, np.linspace(9.0, 12.0, 12)
    error = 0.003 * 10 ** (0.25 * (mag - 9.0))
    sigma = np.hypot(error, 0.002)
    frame, star = (one.ravel() for one in np.mgrid[:n_frames, :12])
    flux = 10 ** (-0.4 * (mag[star] - 20.0 + sigma[star] * random.normal(size=len(star))))
    frames = frame_rows(n_frames)
    matches = match_rows(
        len(star), frame_id=frame + 1, ref_id=star, source_no=star, ref_mag=mag[star],
        flux_aper2=flux, flux_aper2_err=error[star] / 1.0857 * flux,
    )  # fmt: skip
    camera = CameraResponse(np.zeros(0), np.zeros(0), 0.0, 0.0, 1.0, 0.002)
    none = np.zeros(12)
    reference = StarReference(7, np.arange(12), mag, none + 1e-5, none, camera, 0.0, 0)
    plain = replace(V, band=FilterBand("V", None, 0.0))
    zeropoints = calibrated_frames(frames, matches, {"V": plain}, {"V": reference}, "simcat", 1)
    found = calibrate_matches(matches, frames.select(FRAME_COLUMNS), zeropoints.select(ZEROPOINT_COLUMNS))
    pulls = (found.mag - mag[star]) / np.sqrt(found.mag_err**2 - found.zp_systematic_err**2)
    widths = np.sqrt(np.mean(pulls.reshape(n_frames, 12) ** 2, axis=0))
    assert zeropoints["shares"][0].as_py()["share"][0] > 0.15
    # Each width has an error of 0.035; without the shares that of the first star would be 0.77.
    np.testing.assert_allclose(widths, 1.0, atol=0.17)


def test_a_frame_of_other_stars_is_calibrated_with_the_catalog_and_the_camera(night: Any) -> None:
    made, reference = night
    star = np.where(made.frame == 2, made.star + 1000, made.star)
    matches = changed(made.matches, ref_id=star)
    rows = calibrated_frames(made.frames, matches, {"V": V}, {"V": reference}, "simcat", 3)
    rows = rows.sort_by("frame_id").to_pandas()
    assert rows["method"].tolist() == ["global"] * 2 + ["frame"] + ["global"] * 3
    assert rows["reference_version"].isna().tolist() == [False] * 2 + [True] + [False] * 3
    assert rows["position_terms"][2]["coefficient"].tolist() == ILLUMINATION.tolist()
    assert rows["floor_mag"][2] == 0.001 and rows["photon_scale"][2] == 1.0
    assert abs(rows["zp"][2] - made.zp[2]) < 4.0 * rows["zp_err"][2]


def test_without_star_magnitudes_all_is_as_against_the_catalog(night: Any) -> None:
    made, _ = night
    rows = calibrated_frames(made.frames, made.matches, {"V": V}, {}, "simcat", 3).to_pandas()
    assert rows["method"].eq("frame").all()
    for name in ("reference_version", "photon_scale"):
        assert rows[name].isna().all()
    # Without its illumination the camera shows constant stars that differ from frame to frame.
    assert rows["floor_mag"].between(0.01, 0.1).all()
    # A catalog that is off by 0.2 mag does not show how unevenly the field is lit, or once by chance.
    assert rows["position_terms"].notna().sum() <= 1
    assert rows["position_err"].notna().equals(rows["position_terms"].notna())


def test_a_gradient_of_a_frame_adds_to_the_illumination(night: Any) -> None:
    made, reference = night
    own = np.array([0.1, -0.08])
    place = field_coordinates(*(made.matches[name].to_numpy() for name in ("x_px", "y_px")), SIZE, SIZE)
    flux = made.matches["flux_aper2"].to_numpy() * 10.0 ** (0.4 * position_offset(own, *place))
    matches = changed(
        made.matches,
        flux_aper2=flux,
        ref_id=made.star + 1000,
        ref_mag=reference.mag[made.star],
        ref_mag_err=np.full(len(flux), 0.005),
    )
    rows = calibrated_frames(made.frames, matches, {"V": V}, {"V": reference}, "simcat", 3).to_pandas()
    assert rows["method"].eq("frame").all() and rows["position_err"].between(0.001, 0.02).all()
    for row in rows["position_terms"]:
        np.testing.assert_allclose(row["coefficient"], sum_of_terms(ILLUMINATION, own), atol=0.02)


def test_variable_stars_and_others_do_not_move_zeropoints(night: Any) -> None:
    made, reference = night
    plain = calibrated_frames(made.frames, made.matches, {"V": V}, {"V": reference}, "simcat", 3)
    # Six stars are half a magnitude fainter, on three frames.
    fainter = (made.star < 6) & (made.frame < 3)
    flux = made.matches["flux_aper2"].to_numpy() * np.where(fainter, 0.6, 1.0)
    matches = changed(made.matches, flux_aper2=flux)
    moved = calibrated_frames(made.frames, matches, {"V": V}, {"V": reference}, "simcat", 3)
    assert np.abs(moved["zp"].to_numpy() - plain["zp"].to_numpy()).max() < 0.003
    with_less = replace(
        reference, star=reference.star[6:], mag=reference.mag[6:], mag_err=reference.mag_err[6:],
        mag_systematic_err=reference.mag_systematic_err[6:],
    )  # fmt: skip
    without = calibrated_frames(made.frames, matches, {"V": V}, {"V": with_less}, "simcat", 3)
    assert np.abs(without["zp"].to_numpy() - plain["zp"].to_numpy()).max() < 0.003
