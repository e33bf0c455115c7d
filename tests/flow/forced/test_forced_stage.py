"""Forced photometry that breaks costs a frame its targets, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.io import fits

from skylake.cameras import Profile
from skylake.cli.run_commands import _show_ingest
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.forced_stage import Forcing
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.forced.psf_pool import PsfKey, pool_psfs
from skylake.flow.forced.target_list import TargetList
from skylake.flow.ingest.chunk_rows import Chunk
from skylake.flow.ingest.frame_tasks import Reduction, peek_nights, reduce_chunk
from skylake.image.psf.psf_model import PsfModel, PsfQuality
from skylake.lake import Lake
from skylake.simulate import SimulationResult

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def listed_once(ingested_once: Lake, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A lake with a list of targets. Tests do not change it."""
    root = tmp_path_factory.mktemp("listed") / "lake"
    lake = Lake(shutil.copytree(ingested_once.root, root, symlinks=True))
    make_targets(lake, "small", TargetOptions("simcat", faint=15.0, seen=3), Inline())
    return lake


@pytest.fixture
def listed(listed_once: Lake, tmp_path: Path) -> Lake:
    return Lake(shutil.copytree(listed_once.root, tmp_path / "lake", symlinks=True))


def break_list(lake: Lake) -> None:
    """Let the file of the list hold something else than it should."""
    for file in lake.root.glob("_versions/targets/*/dataset/**/*.parquet"):
        file.unlink()
        file.write_bytes(b"PAR1 no table PAR1")


def forcing_of(lake: Lake, **psfs: Any) -> Forcing:
    targets = TargetList.in_force(lake.snapshot(), "small")
    assert targets is not None
    return Forcing(targets, **psfs)


def reduced(forcing: Forcing, archive: SimulationResult, profile: Profile, out: Path) -> Chunk:
    return reduce_chunk([str(archive.frames[0])], Reduction(profile, forcing=forcing), out / "chunk.arrow")


def without_form(size: tuple[int, int]) -> PsfModel:
    """A point spread function of which nothing is left but its size."""
    return replace(PsfModel.moffat(3.0, size), terms=np.zeros((0, 0)))


def test_a_psf_that_cannot_be_drawn_leaves_the_detections(
    listed_once: Lake, archive: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    whole = reduced(forcing_of(listed_once), archive, profile, tmp_path / "whole")
    night, size = whole.frames["night"][0].as_py(), (256, 256)
    psfs = {PsfKey(night, whole.frames["filter"][0].as_py(), size): without_form(size)}
    broken = reduced(forcing_of(listed_once, psfs=psfs), archive, profile, tmp_path / "broken")
    assert whole.forced is not None
    assert broken.forced is None
    assert whole.sources is not None
    assert broken.sources is not None
    assert broken.sources.read_bytes() == whole.sources.read_bytes()
    (row,) = broken.frames.to_pylist()
    assert (row["status"], row["reason"]) == ("ok", Reason.TARGETS_FAILED)
    assert "targets were not measured" in row["message"]
    assert (row["n_targets"], row["targets_version"], row["psf_stars"]) == (None, 1, None)


def test_detections_of_few_stars_are_kept_without_a_psf(
    listed_once: Lake, archive: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    """Its aperture corrections would be those of the night."""
    cloudy = str(behind_clouds(archive.frames[0], tmp_path / "cloudy.fits", 0.02))
    found = {}
    for name in ("plain", "broken"):
        psfs: dict[PsfKey, PsfModel] = {}
        if name == "broken":
            (row,) = found["plain"].frames.to_pylist()
            psfs = {PsfKey(row["night"], row["filter"], (256, 256)): without_form((256, 256))}
        reduction = Reduction(profile, forcing=forcing_of(listed_once, psfs=psfs))
        found[name] = reduce_chunk([cloudy], reduction, tmp_path / f"{name}.arrow")
    plain, broken = ((one.frames.to_pylist()[0], one.sources) for one in found.values())
    assert plain[1] is not None and broken[1] is not None
    assert plain[1].read_bytes() == broken[1].read_bytes()
    for name in ("status", "n_detected", "apcor_aper2"):
        assert plain[0][name] == broken[0][name]
    assert broken[0]["flags"] & FrameFlag.APCOR_ASSUMED
    assert "targets were not measured" in broken[0]["message"]


def behind_clouds(path: Path, out: Path, share: float) -> Path:
    """A frame of which a share of the light of the stars is left, and all of the noise of the sky."""
    with fits.open(path) as units:
        unit = next(one for one in units if one.data is not None)
        pixels, header = np.asarray(unit.data, np.float64), unit.header
        level = float(np.median(pixels))
        noise = 1.4826 * float(np.median(np.abs(pixels - level)))
        lost = np.random.default_rng(5).normal(0.0, noise * np.sqrt(1.0 - share**2), pixels.shape)
        clouded = level + share * (pixels - level) + lost
        fits.PrimaryHDU(clouded.astype(np.float32), header).writeto(out)
    return out


def test_a_frame_of_few_stars_takes_corrections_of_its_night(
    listed_once: Lake, archive: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    clear, files = archive.frames[0], [str(path) for path in archive.frames[:6]]
    cloudy = behind_clouds(clear, tmp_path / "cloudy.fits", 0.02)
    (night,) = peek_nights([str(clear)], profile)
    alone = forcing_of(listed_once)
    told = forcing_of(listed_once, psfs=pool_psfs({night: files}, profile, Inline()))

    def row_of(path: Path, forcing: Forcing) -> dict[str, Any]:
        chunk = reduce_chunk([str(path)], Reduction(profile, forcing=forcing), tmp_path / "chunk.arrow")
        (row,) = chunk.frames.to_pylist()
        return dict(row)

    true, before, after = row_of(clear, told), row_of(cloudy, alone), row_of(cloudy, told)
    assert true["n_apcor"] > 0 and not true["flags"] & FrameFlag.APCOR_ASSUMED
    for row in (before, after):
        assert row["n_apcor"] == 0 and row["flags"] & FrameFlag.APCOR_ASSUMED
    for name in ("apcor_aper1", "apcor_aper2", "apcor_aper3"):
        assert abs(after[name] - true[name]) < 3.0 * np.hypot(after[f"{name}_err"], true[f"{name}_err"])
        assert after[f"{name}_err"] < 0.6 * before[f"{name}_err"]


def test_a_frame_uses_the_psf_of_its_filter_by_any_name(
    listed_once: Lake, archive: SimulationResult, profile: Profile, tmp_path: Path
) -> None:
    """That of another filter has more stars, and would stand in for one that is not found."""
    plain = reduced(forcing_of(listed_once), archive, profile, tmp_path / "plain")
    night, name, size = plain.frames["night"][0].as_py(), plain.frames["filter"][0].as_py(), (256, 256)
    band = profile.base.filters[name]
    filters = {"other": band, "own": replace(band, aliases=(name,))}
    renamed = replace(profile, base=replace(profile.base, filters=filters, default_filter="own"))
    other = replace(without_form(size), quality=PsfQuality(n_stars=9))
    psfs = {PsfKey(night, "own", size): PsfModel.moffat(3.0, size), PsfKey(night, "other", size): other}
    found = reduced(forcing_of(listed_once, psfs=psfs), archive, renamed, tmp_path / "renamed")
    (row,) = found.frames.to_pylist()
    assert (row["status"], row["reason"], row["filter"]) == ("ok", None, name)
    assert found.forced is not None and row["n_targets"] > 20


def test_a_broken_list_is_reported_and_measured_once_fixed(
    listed: Lake, frames: list[Path], run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = Path(shutil.copytree(listed.root, tmp_path / "kept", symlinks=True))
    break_list(listed)
    report = run(listed, frames[:1], redo=True)
    assert report.counts == {"ok": 1}
    assert [(one["status"], one["reason"]) for one in report.problems] == [("ok", Reason.TARGETS_FAILED)]
    file = str(frames[0])
    _show_ingest(report, listed)
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == "ingest: 1 ok, targets of 1 not measured" and not report.all_well
    assert f"{file}: ok/targets_failed: its targets were not measured" in told.err

    def rows(table: str) -> Any:
        found = listed.snapshot().read(table)
        frame = listed.snapshot().read("frames", filter=pc.field("file") == file)["frame_id"]
        return found.filter(pc.is_in(found["frame_id"], frame.combine_chunks()))

    assert rows("sources").num_rows > 20
    assert rows("forced_sources").num_rows == 0
    for sound in kept.glob("_versions/targets/*/dataset/**/*.parquet"):
        shutil.copy2(sound, listed.root / sound.relative_to(kept))
    again = run(listed, frames[:1])
    assert (again.n_known, again.counts, again.problems, again.all_well) == (0, {"ok": 1}, [], True)
    assert rows("forced_sources").num_rows > 20
    assert rows("frames")["reason"].to_pylist() == [None]
