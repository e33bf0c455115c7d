"""Verdicts and trails as a lake has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from skylake.cameras import Profile
from skylake.core.flags import SourceFlag
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.image.streaks.trails import Trail
from skylake.lake import Lake
from skylake.settings import Settings
from skylake.simulate import Scenario, ScheduleParams, StarParams, simulate


def test_good_frames_pass_all_gates_and_have_the_values(ingested_once: Lake) -> None:
    frames = ingested_once.snapshot().read("frames").to_pandas()
    assert frames.gates_failed.isna().all() and set(frames.status) == {"ok"}
    assert (frames.found_fraction > 0.9).all() and (frames.n_expected == 100).all()
    assert (frames.mean_ellipticity < 0.15).all() and frames.sky_saturation.between(0.0, 0.1).all()
    assert (frames.n_streaks == 0).all() and (frames.n_streak_sources == 0).all()


def test_simulated_trails_are_found_once_and_flag_their_stars(profile: Profile, tmp_path: Path) -> None:
    scenario = Scenario(
        camera=profile.source, first_night=20241001, nights=1, frames_per_night=20, streak_fraction=1.0,
        stars=StarParams(per_frame=300.0), schedule=ScheduleParams(target=(0.0, -24.6243)),
    )  # fmt: skip
    archive = simulate(scenario, tmp_path / "archive")
    lake = Lake.create(tmp_path / "lake", Settings(cluster="inline", pixel_order=5))
    report = ingest(lake, profile, [archive.out / "frames"], Inline())
    assert report.counts == {"ok": 20}
    frames = lake.snapshot().read("frames").to_pandas()
    frames.index = pd.Index([Path(file).name for file in frames.file])
    truth = pq.read_table(archive.truth_frames).to_pandas()
    truth.index = pd.Index([Path(file).name for file in truth.file])
    truth = truth.loc[frames.index]
    length = np.hypot(truth.streak_x1_px - truth.streak_x0_px, truth.streak_y1_px - truth.streak_y0_px)
    assert (frames.n_streaks == 1).all()
    assert (abs(frames.streak_length_px - length) < 40.0).all()
    sources = lake.snapshot().read("sources", ["flags", "frame_id", "x_px", "y_px"]).to_pandas()
    flagged = sources[(sources["flags"] & int(SourceFlag.STREAK)) != 0]
    counted = frames.set_index("frame_id").n_streak_sources
    assert flagged.groupby("frame_id").size().to_dict() == counted[counted > 0].to_dict()
    reach = max(profile.base.apertures.radii_px) + 1.5
    for name, one in truth.iterrows():
        trail = Trail(one.streak_x0_px, one.streak_y0_px, one.streak_x1_px, one.streak_y1_px, 3.0)
        mine = flagged[flagged.frame_id == frames.frame_id[name]]
        all_of_it = sources[sources.frame_id == frames.frame_id[name]]
        crossed = (trail.distance(all_of_it.x_px.to_numpy(), all_of_it.y_px.to_numpy()) <= reach).sum()
        assert 0.8 * crossed - 2 <= len(mine) <= 1.2 * crossed + 2
        # Ends are known to a piece or two.
        assert np.median(trail.distance(mine.x_px.to_numpy(), mine.y_px.to_numpy())) < 8.0
        assert (trail.distance(mine.x_px.to_numpy(), mine.y_px.to_numpy()) < 45.0).all()
