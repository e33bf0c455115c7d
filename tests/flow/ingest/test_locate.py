"""Nights whose headers do not show where frames point, or show it wrongly."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from skylake.cameras import Profile
from skylake.core.camera import HeaderDialect
from skylake.core.sphere import separation_deg
from skylake.flow.astrometry.learn_distortion import learn
from skylake.flow.astrometry.star_patterns import Patterns
from skylake.flow.catalogs.import_catalogs import import_catalog, index_imported
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.frame_tasks import Reduction
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.ingest.known_files import inputs_by_reason
from skylake.image.masters.master_library import Master
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution
from skylake.image.wcs.lens_text import lens_of_text
from skylake.image.wcs.residual_field import ResidualField
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.simulate import Scenario, ScheduleParams, SimulationResult, StarParams, simulate
from skylake.sky.asterism_index import build_index
from skylake.sky.catalog_columns import CatalogColumns
from skylake.sky.lake_catalogs import ReferenceCatalog

SCALE = 8.0


@pytest.fixture(scope="module")
def slewing(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    """A night of six frames that turn about, with slews between two fields."""
    scenario = Scenario(
        camera=profile.source, nights=1, first_night=20241001, frames_per_night=6, streak_fraction=0.0,
        stars=StarParams(per_frame=300.0),
        schedule=ScheduleParams(target=(0.0, -24.6243), fields=1, rotation="random"),
    )  # fmt: skip
    return simulate(scenario, tmp_path_factory.mktemp("slewing"))


@pytest.fixture(scope="module")
def blind(profile: Profile) -> Profile:
    """The camera, whose headers are not to be believed."""
    header: HeaderDialect = replace(profile.base.header, wcs="none")
    return replace(profile, base=replace(profile.base, header=header))


@pytest.fixture(scope="module")
def empty(
    slewing: SimulationResult, columns: CatalogColumns, tmp_path_factory: pytest.TempPathFactory
) -> Lake:
    """A lake with a catalog and its patterns, and no frames. Tests do not change it."""
    lake = Lake.create(tmp_path_factory.mktemp("located") / "lake", Settings(cluster="inline", pixel_order=5))
    import_catalog(lake, "simcat", "table", [slewing.catalog], columns)
    build_index(ReferenceCatalog.open(lake.layout.catalog("simcat")), "V", 0.5, 2.0)
    return lake


@pytest.fixture
def lake(empty: Lake, tmp_path: Path) -> Lake:
    return Lake(shutil.copytree(empty.root, tmp_path / "lake", symlinks=True))


def rows_of(lake: Lake) -> pd.DataFrame:
    return lake.snapshot().read("frames").to_pandas().set_index("frame_id").sort_index()


def test_frames_without_headers_have_the_same_values(
    slewing: SimulationResult, profile: Profile, blind: Profile, lake: Lake, empty: Lake, tmp_path: Path
) -> None:
    other = Lake(shutil.copytree(empty.root, tmp_path / "other", symlinks=True))
    assert ingest(other, profile, slewing.frames, Inline()).counts == {"ok": 6}
    report = ingest(lake, blind, slewing.frames, Inline())
    assert report.counts == {"ok": 6}, report.problems
    told, found = rows_of(other), rows_of(lake)
    assert set(told.wcs_source) == {"header"} and set(found.wcs_source) == {"solved"}
    slew = separation_deg(told.ra_deg.iloc[0], told.dec_deg.iloc[0], told.ra_deg, told.dec_deg)
    assert slew.max() > 5.0
    away = separation_deg(told.ra_deg, told.dec_deg, found.ra_deg, found.dec_deg) * 3600.0 / SCALE
    # Some two hundred stars of 0.15 px show the centre to 0.02 px; what the header says is true.
    assert away.max() < 0.06
    turned = (told.rotation_deg - found.rotation_deg + 180.0) % 360.0 - 180.0
    # At a hundred pixels from the centre, as far as stars are: 0.02 px.
    assert abs(turned).max() < 0.015 and not found.mirrored.any()
    np.testing.assert_allclose(found.pixel_scale_arcsec, told.pixel_scale_arcsec, rtol=1e-3)
    # Distortion is fitted along with the scale at the centre, and takes some of it. Faint stars have 0.3 px of noise.
    assert (found.wcs_log_odds > 40.0).all() and (found.astrom_rms_px < 0.45).all()
    # It is stated like the rms: by a lens that has not seen them stars are little farther off. The last match, which
    # gives the rms, may have a star more or less.
    assert (found.astrom_held_out_px > 0.99 * found.astrom_rms_px).all()
    assert (found.astrom_held_out_px < 1.1 * found.astrom_rms_px).all()
    assert (found.astrom_rms_ring4_px < 0.6).all() and (found.astrom_radial_ring4_px.abs() < 0.1).all()
    fields = [ResidualField.of_text(text) for text in found.astrom_field]
    assert all(one.number.sum() > 100 and np.nanmedian(np.hypot(one.dx, one.dy)) < 0.2 for one in fields)
    assert (found.astrom_n > 150).all() and (found.astrom_completeness > 0.9).all()
    assert (found.wcs_catalog == "simcat").all() and (told.wcs_catalog == "simcat").all()
    assert found.wcs_neighbours.isna().all() and found.wcs_err_px.between(0.01, 0.15).all()
    names = ["airmass", "altitude_deg", "moon_separation_deg"]
    np.testing.assert_allclose(found[names], told[names], rtol=2e-6)
    # A star on the very edge may be within for one and not for the other.
    assert abs(found.found_fraction - told.found_fraction).max() < 0.012
    lens = lens_of_text(found.wcs_lens.iloc[0])
    assert lens.focal_px == pytest.approx(np.degrees(1.0) * 3600.0 / SCALE, rel=1e-3)
    both = [
        one.snapshot().read("sources").to_pandas().set_index(["frame_id", "source_no"])
        for one in (other, lake)
    ]
    pd.testing.assert_series_equal(both[0].flux_aper2.sort_index(), both[1].flux_aper2.sort_index())
    second = both[1].loc[both[0].index]
    off = separation_deg(both[0].ra_deg, both[0].dec_deg, second.ra_deg, second.dec_deg) * 3600.0 / SCALE
    assert np.median(off) < 0.03 and off.max() < 0.4


def test_a_frame_whose_header_is_wrong_is_solved(
    slewing: SimulationResult, profile: Profile, lake: Lake, tmp_path: Path
) -> None:
    path = Path(shutil.copy2(slewing.frames[0], tmp_path / "wrong.fits"))
    with fits.open(path, mode="update") as file:
        right = file[0].header["CRVAL2"]
        file[0].header["CRVAL2"] = right + 0.25
    assert ingest(lake, profile, [path], Inline()).counts == {"ok": 1}
    row = rows_of(lake).iloc[0]
    # The card is that of the centre of the image.
    assert row.wcs_source == "solved" and abs(row.dec_deg - right) * 3600.0 < 0.06 * SCALE
    assert row.wcs_matched > 0.9 * row.wcs_expected


def test_a_profile_that_is_wrong_costs_time_and_is_reported(
    slewing: SimulationResult, blind: Profile, lake: Lake
) -> None:
    way = replace(blind.base.astrometry, mirrored=True, seconds=60.0)
    optics = replace(blind.base.optics, pixel_scale_arcsec=0.5 * SCALE)
    wrong = replace(blind, base=replace(blind.base, optics=optics, astrometry=way))
    report = ingest(lake, wrong, slewing.frames[:1], Inline())
    assert report.counts == {"ok": 1} and report.problems == []
    row = rows_of(lake).iloc[0]
    assert row.wcs_source == "solved" and row.pixel_scale_arcsec == pytest.approx(SCALE, rel=1e-3)
    (told,) = report.contradicting
    assert told.startswith(str(slewing.frames[0])) and "the profile is wrong" in told
    assert "the scale is 8" in told and "3.333 to 4.8 was given" in told and "is not mirrored" in told


def test_a_picture_too_narrow_for_the_index_names_the_command(lake: Lake) -> None:
    x, y = np.random.default_rng(1).uniform(0.0, 255.0, (2, 30))
    narrow = SolveParams(scale_low=0.1, scale_high=0.12, seconds=0.1)
    patterns = Patterns(ReferenceCatalog.open(lake.layout.catalog("simcat")))
    found = patterns(x, y, np.arange(30.0, 0.0, -1.0), (256, 256), narrow)
    assert not isinstance(found, Solution)
    assert f"`skylake catalog index {lake.root} simcat --scales " in found.message


def test_without_patterns_the_sentence_says_how_to_make_them(
    slewing: SimulationResult, blind: Profile, lake: Lake
) -> None:
    lake.layout.catalog("simcat").with_name("simcat.asterisms").unlink()
    # Of a scale that is given there would be a second attempt without it.
    told = replace(
        blind, base=replace(blind.base, optics=replace(blind.base.optics, pixel_scale_arcsec=SCALE))
    )
    report = ingest(lake, told, slewing.frames[:1], Inline())
    assert report.counts == {"rejected": 1}
    assert report.problems[0]["reason"] == "no_wcs"
    assert f"skylake catalog index {lake.root} simcat" in report.problems[0]["message"]
    assert "nor does one" not in report.problems[0]["message"]


def test_frames_that_lacked_a_catalog_are_tried_again(
    slewing: SimulationResult, blind: Profile, columns: CatalogColumns, tmp_path: Path
) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=5))
    frames = slewing.frames[:2]

    def again() -> tuple[dict[str, int], int]:
        report = ingest(lake, blind, frames, Inline())
        return report.counts, report.n_known

    assert again() == ({"rejected": 2}, 0)
    assert again() == ({}, 2), "nothing is new"
    imported = import_catalog(lake, "simcat", "table", [slewing.catalog], columns)
    report = ingest(lake, blind, frames, Inline())
    assert (report.counts, report.n_known) == ({"rejected": 2}, 0)
    told = {problem["message"] for problem in report.problems}
    assert all(f"run `skylake catalog index {lake.root} simcat`" in sentence for sentence in told)
    assert again() == ({}, 2)
    # What the sentence asks for.
    index_imported(lake, imported)
    assert again() == ({"ok": 2}, 0)
    assert again() == ({}, 2)


def test_an_unchecked_wcs_is_checked_by_the_next_run(
    slewing: SimulationResult, profile: Profile, columns: CatalogColumns, tmp_path: Path
) -> None:
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=5))
    path = Path(shutil.copy2(slewing.frames[0], tmp_path / "rough.fits"))
    with fits.open(path, mode="update") as file:
        file[0].header["CRPIX1"] += 60.0
    frames = [path, slewing.frames[1]]
    assert ingest(lake, profile, frames, Inline()).counts == {"ok": 2}
    assert ingest(lake, profile, frames, Inline()).n_known == 2, "there is nothing to check it with"
    index_imported(lake, import_catalog(lake, "simcat", "table", [slewing.catalog], columns))
    report = ingest(lake, profile, frames, Inline())
    assert (report.counts, report.n_known) == ({"ok": 2}, 0)
    assert ingest(lake, profile, frames, Inline()).n_known == 2
    rows = lake.snapshot().read("frames", ["file", "wcs_source", "wcs_matched"]).to_pylist()
    assert {row["wcs_source"] for row in rows if row["file"] == str(path)} == {"solved"}
    assert all(row["wcs_matched"] > 0 for row in rows)


def test_a_hopeless_frame_is_tried_again_only_after_a_change(
    slewing: SimulationResult, blind: Profile, lake: Lake, tmp_path: Path
) -> None:
    path = Path(shutil.copy2(slewing.frames[0], tmp_path / "points.fits"))
    with fits.open(path, mode="update") as file:
        random = np.random.default_rng(3)
        y, x = np.mgrid[-6:7, -6:7]
        pixels = random.normal(1000.0, 10.0, file[0].data.shape)
        for row, column in random.integers(10, 245, (40, 2)):
            pixels[row - 6 : row + 7, column - 6 : column + 7] += 4000.0 * np.exp(-(x**2 + y**2) / 4.0)
        file[0].data = np.clip(pixels, 0, 65535).astype(np.uint16)
    frames = [path, slewing.frames[1]]
    assert ingest(lake, blind, frames, Inline()).counts == {"ok": 1, "rejected": 1}
    assert ingest(lake, blind, frames, Inline()).n_known == 2
    asked = ingest(lake, blind, frames, Inline(), IngestOptions(retry=frozenset({"no_wcs", "cloudy"})))
    assert (asked.counts, asked.n_known) == ({"rejected": 1}, 1)
    assert ingest(lake, blind, frames, Inline(), IngestOptions(retry=frozenset({"trailed"}))).n_known == 2
    # A change of the profile may be what the sentence asks for.
    way = replace(blind.base.astrometry, seconds=1.0)
    other = replace(blind, base=replace(blind.base, astrometry=way))
    assert other.sha256 != blind.sha256
    for n_known in (1, 2):
        assert ingest(lake, other, frames, Inline()).n_known == n_known
    # An index for other pictures, and the same one made anew.
    catalog = ReferenceCatalog.open(lake.layout.catalog("simcat"))
    for narrowest, n_known in ((0.4, 1), (0.4, 2)):
        build_index(catalog, "V", narrowest, 2.0)
        assert ingest(lake, other, frames, Inline()).n_known == n_known
    # A memory that cannot be read costs one try.
    (lake.layout.profile(other.name).with_suffix(".tried")).write_text("{")
    for n_known in (1, 2):
        assert ingest(lake, other, frames, Inline()).n_known == n_known


def test_another_geometry_or_master_is_something_new(
    slewing: SimulationResult, blind: Profile, lake: Lake
) -> None:
    assert ingest(lake, blind, slewing.frames, Inline()).counts == {"ok": 6}
    before = Reduction.in_force(lake, lake.snapshot(), blind)
    assert learn(lake, blind.name, Inline()).made
    after = Reduction.in_force(lake, lake.snapshot(), blind)
    first, second = inputs_by_reason(before), inputs_by_reason(after)
    assert {reason for reason in first if first[reason] != second[reason]} == {"no_wcs", "bad_wcs"}
    # It is learned anew from more frames now and then, which helps no frame that it has not helped.
    newer = replace(after, epochs=tuple(replace(one, version=one.version + 1) for one in after.epochs))
    assert inputs_by_reason(newer) == second
    master = Master("flat-1", "flat", "flat-1.fits", "0" * 64, 0, "1x1")
    assert before.library is not None
    library = replace(before.library, masters=(*before.library.masters, master))
    third = inputs_by_reason(replace(after, library=library))
    assert {reason for reason in third if third[reason] != second[reason]} == {"no_master"}


@pytest.mark.parametrize("absent", [False, True])
def test_headers_off_by_sixty_pixels_or_missing_cost_no_frame(
    slewing: SimulationResult, profile: Profile, lake: Lake, tmp_path: Path, absent: bool
) -> None:
    (tmp_path / "rough").mkdir()
    for path in slewing.frames[:3]:
        with fits.open(shutil.copy2(path, tmp_path / "rough" / path.name), mode="update") as file:
            header = file[0].header
            if absent:
                for card in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "RA", "DEC"):
                    header.remove(card, ignore_missing=True)
            else:
                header["CRPIX1"] += 48.0
                header["CRPIX2"] -= 36.0
    report = ingest(lake, profile, [tmp_path / "rough"], Inline())
    assert report.counts == {"ok": 3}, report.problems
    rows = rows_of(lake)
    assert set(rows.wcs_source) == {"solved"} and (rows.wcs_matched >= 0.9 * rows.wcs_expected).all()


def test_what_was_tried_already_is_no_advice(
    slewing: SimulationResult, blind: Profile, lake: Lake, tmp_path: Path
) -> None:
    """A header without a WCS is to be solved, but not once its stars were asked and are too few."""
    path = Path(shutil.copy2(slewing.frames[0], tmp_path / "few.fits"))
    with fits.open(path, mode="update") as file:
        pixels = np.random.default_rng(2).normal(1000.0, 10.0, file[0].data.shape)
        y, x = np.mgrid[-6:7, -6:7]
        for place in (60, 120, 180):
            pixels[place - 6 : place + 7, place - 6 : place + 7] += 8000.0 * np.exp(-(x**2 + y**2) / 4.0)
        file[0].data = np.clip(pixels, 0, 65535).astype(np.uint16)
        del file[0].header["CTYPE1"], file[0].header["CTYPE2"]
    dialect = replace(blind.base.header, wcs="header")
    asked = replace(blind, base=replace(blind.base, header=dialect, gates={}))
    (problem,) = ingest(lake, asked, [path], Inline()).problems
    assert problem["reason"] == "no_wcs"
    assert re.match(
        r"the header has no celestial WCS \(CTYPE1 and CTYPE2\); \d usable sources are too few .* of detection\Z",
        problem["message"],
    )


def test_clouds_and_hot_pixels_are_soon_given_up(
    slewing: SimulationResult, blind: Profile, lake: Lake, tmp_path: Path
) -> None:
    random = np.random.default_rng(2)
    for name in ("warm.fits", "hot.fits", "clouds.fits"):
        path = Path(shutil.copy2(slewing.frames[0], tmp_path / name))
        with fits.open(path, mode="update") as file:
            shape = file[0].data.shape
            pixels = random.normal(1000.0, 10.0, shape)
            if name != "clouds.fits":
                y, x = random.integers(5, 250, (2, 80))
                pixels[y, x] += 10.0 ** random.uniform(2.5, 4.3, 80)
                if name == "warm.fits":  # so warm that neighbours see them: they look like sharp stars
                    pixels[y + 1, x] += 0.4 * (pixels[y, x] - 1000.0)
                    pixels[y, x + 1] += 0.4 * (pixels[y, x] - 1000.0)
            file[0].data = np.clip(pixels, 0, 65535).astype(np.uint16)
    began = time.thread_time()
    report = ingest(lake, blind, [tmp_path], Inline())
    assert time.thread_time() - began < 3 * 2.5
    assert report.counts == {"rejected": 3}
    reasons = {Path(row["file"]).name: row["reason"] for row in report.problems}
    assert set(reasons.values()) <= {"no_wcs", "no_sources"}
    assert reasons["warm.fits"] == "no_wcs"
    assert all(len(row["message"]) > 20 for row in report.problems)
