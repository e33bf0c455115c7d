"""The distortion of a camera: learned from the frames of a lake, used for later ones, and followed when it changes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skylake.cameras import Profile
from skylake.core.sphere import separation_deg
from skylake.flow.astrometry.learn_distortion import learn
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.execution.run_progress import Silent
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.image.distortion.distortion_epochs import in_force
from skylake.lake import Lake
from skylake.lake.cameras.stored_distortions import distortions_file, read_epochs
from skylake.settings import Settings
from skylake.simulate import Scenario, ScheduleParams, SimulationResult, StarParams, simulate
from skylake.simulate.scenario import OpticsParams
from skylake.sky.catalog_columns import CatalogColumns

SCALE = 8.0


@pytest.fixture(scope="module")
def always(profile: Profile) -> Profile:
    """The camera, whose frames all get a lens."""
    astrometry = replace(profile.base.astrometry, refine="always")
    return replace(profile, base=replace(profile.base, astrometry=astrometry))


def nights(profile: Profile, folder: Path, first: int, number: int, distortion: float) -> SimulationResult:
    """Nights of six frames that turn about."""
    scenario = Scenario(
        camera=profile.source, nights=number, first_night=first, frames_per_night=6, streak_fraction=0.0,
        stars=StarParams(per_frame=120.0), optics=OpticsParams(distortion=distortion),
        schedule=ScheduleParams(target=(0.0, -24.6243), rotation="random"),
    )  # fmt: skip
    return simulate(scenario, folder)


@pytest.fixture(scope="module")
def early(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> SimulationResult:
    return nights(profile, tmp_path_factory.mktemp("early"), 20241001, 2, 0.01)


@pytest.fixture(scope="module")
def learned_once(
    early: SimulationResult,
    always: Profile,
    columns: CatalogColumns,
    tmp_path_factory: pytest.TempPathFactory,
) -> Lake:
    """A lake with two nights, from which the distortion was learned. Tests do not change it."""
    lake = Lake.create(tmp_path_factory.mktemp("learned") / "lake", Settings(cluster="inline", pixel_order=5))
    import_catalog(lake, "simcat", "table", [early.catalog], columns)
    assert ingest(lake, always, early.frames, Inline()).counts == {"ok": 12}
    report = learn(lake, always.name, Inline())
    assert report.n_frames == 12 and report.changes == [] and len(report.made) == 1
    return lake


@pytest.fixture
def lake(learned_once: Lake, tmp_path: Path) -> Lake:
    return Lake(shutil.copytree(learned_once.root, tmp_path / "lake", symlinks=True))


class Matched(Silent):
    """Counts the nights of which stars are matched."""

    def __init__(self) -> None:
        self.nights = 0

    def begin(self, what: str, total: int) -> None:
        self.nights += total if what == "stars" else 0


def rows_of(lake: Lake) -> pd.DataFrame:
    return lake.snapshot().read("frames").to_pandas().set_index("frame_id").sort_index()


@pytest.mark.slow
def test_a_run_without_new_frames_changes_no_byte(lake: Lake, always: Profile) -> None:
    path = distortions_file(lake.layout, always.name)
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert learn(lake, always.name, Inline()).made == []
    assert learn(lake, always.name, Inline(), anew=True).made == []
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


@pytest.mark.slow
def test_an_epoch_shows_where_it_comes_from_and_how_good_it_is(lake: Lake, always: Profile) -> None:
    (epoch,) = read_epochs(lake.layout, always.name)
    assert epoch.shape == (256, 256) and epoch.catalog == "simcat" and epoch.n_seen == 12
    rows = rows_of(lake)
    assert (epoch.first_mjd, epoch.last_mjd) == (rows.mjd_mid.min(), rows.mjd_mid.max())
    assert epoch.valid_from == -np.inf and epoch.valid_to == np.inf
    assert 0.05 < epoch.rms_px < 0.5 and epoch.held_out_px < 1.2 * epoch.rms_px


def test_later_frames_have_the_distortion_and_fewer_parameters(
    lake: Lake, always: Profile, early: SimulationResult
) -> None:
    before = rows_of(lake)
    assert before.wcs_geometry.isna().all()
    parts = lake.snapshot().parts("frames")
    assert not any("geometries" in part.inputs for part in parts.values())
    assert ingest(lake, always, early.frames, Inline(), IngestOptions(redo=True)).counts == {"ok": 12}
    after = rows_of(lake)
    (epoch,) = read_epochs(lake.layout, always.name)
    assert set(after.wcs_geometry) == {epoch.name}
    assert after.astrom_parameters.max() <= 6 and after.astrom_held_out_px.median() < 0.5
    parts = lake.snapshot().parts("frames")
    assert {part.inputs["geometries"] for part in parts.values()} == {epoch.name}
    # Once more is the same.
    number = lake.snapshot().number
    ingest(lake, always, early.frames, Inline(), IngestOptions(redo=True))
    assert lake.snapshot().number == number
    away = separation_deg(before.ra_deg, before.dec_deg, after.ra_deg, after.dec_deg) * 3600.0 / SCALE
    assert away.max() < 0.2


@pytest.mark.slow
def test_late_older_frames_join_the_first_epoch_or_differ(
    lake: Lake, profile: Profile, always: Profile, tmp_path: Path
) -> None:
    (before,) = read_epochs(lake.layout, always.name)
    older = nights(profile, tmp_path / "older", 20240928, 1, 0.01)
    assert ingest(lake, always, older.frames, Inline()).counts == {"ok": 6}
    report = learn(lake, always.name, Inline())
    (epoch,) = in_force(read_epochs(lake.layout, always.name))
    assert report.n_frames == 6 and report.sentences == [] and report.n_older == 0
    assert epoch.number == before.number and epoch.n_seen == 18
    assert epoch.first_mjd == rows_of(lake).mjd_mid.min() < before.first_mjd
    assert learn(lake, always.name, Inline()).n_frames == 0
    oldest = nights(profile, tmp_path / "oldest", 20240920, 1, -0.005)
    assert ingest(lake, always, oldest.frames, Inline()).counts == {"ok": 6}
    told = learn(lake, always.name, Inline())
    assert 4 <= told.n_older <= 6 and told.changes == []
    sentence = told.sentences[0]
    assert "frames are older than its first epoch" in sentence and "--anew" in sentence
    matched = Matched()
    anew = learn(lake, always.name, Inline(), anew=True, progress=matched)
    assert (anew.n_older, anew.n_frames) == (0, 24)
    # Of the newer epoch there are many more frames than began it; these are learned from, and not matched, again.
    assert max(one.distortion.n_frames for one in in_force(read_epochs(lake.layout, always.name))) > 12
    assert matched.nights == 4


@pytest.mark.slow
def test_a_change_begins_an_epoch_and_lists_nights_to_redo(
    lake: Lake, profile: Profile, always: Profile, tmp_path: Path
) -> None:
    late = nights(profile, tmp_path / "late", 20241005, 1, -0.005)
    assert ingest(lake, always, late.frames, Inline()).counts == {"ok": 6}
    report = learn(lake, always.name, Inline())
    assert len(report.changes) == 1 and "2024-10-0" in report.changes[0]
    before = rows_of(lake).query("night < 20241005").mjd_mid.max()
    old, new = in_force(read_epochs(lake.layout, always.name))
    held = rows_of(lake).query("night == 20241005")
    assert before == old.last_mjd < new.valid_from == old.valid_to < held.mjd_mid.min()
    # Frames whose stars contradict the old distortion were fitted by themselves.
    assert held.wcs_geometry.isna().all() == (report.nights == [])
    assert learn(lake, always.name, Inline()).made == []
    ingest(lake, always, late.frames, Inline(), IngestOptions(redo=True))
    assert set(rows_of(lake).query("night == 20241005").wcs_geometry) == {new.name}
    assert learn(lake, always.name, Inline()).nights == []
