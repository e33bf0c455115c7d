"""Exposures that last beyond the start of the next frame are reported at the end of an ingest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skylake import cameras
from skylake.cameras import Profile
from skylake.cli.run_commands import _show_ingest
from skylake.flow.execution.cluster import Inline
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestReport
from skylake.lake import Lake

Draw = Callable[[Sequence[tuple[str, float]]], list[Path]]


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """A function that writes small frames of noise, each with its start and exposure card."""

    def go(told: Sequence[tuple[str, float]]) -> list[Path]:
        paths = []
        for number, (start, exposure) in enumerate(told):
            noise = np.random.default_rng(number).normal(100.0, 5.0, (40, 40)).astype(np.float32)
            header = fits.Header({"DATE-OBS": start, "EXPTIME": exposure, "FILTER": "V"})
            paths.append(tmp_path / f"frame-{number}.fits")
            fits.PrimaryHDU(noise, header).writeto(paths[-1])
        return paths

    return go


def minutes(exposure: float) -> list[tuple[str, float]]:
    return [(f"2024-04-07T03:0{minute}:00", exposure) for minute in range(3)]


def test_milliseconds_without_a_unit_name_the_key_to_set(
    lake: Lake, draw: Draw, plain_profile: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ingest(lake, plain_profile, draw(minutes(20000.0)), Inline())
    (told,) = report.overlapping
    assert told.startswith(
        "plain: 2 of 2 exposures last beyond the start of the next frame, so the exposure (EXPTIME, "
    )
    assert "frame-0.fits: 20000 s, and the next begins 60 s later" in told
    assert "header.exposure.scale = 0.001" in told and plain_profile.call_name in told
    _show_ingest(report, lake)
    assert capsys.readouterr().err.splitlines()[-1].endswith(told)
    mended = tmp_path / "mended.toml"
    mended.write_text(f"like = '{plain_profile.call_name}'\nheader.exposure.scale = 0.001\n")
    assert _of_all(lake, cameras.load(mended), tmp_path).overlapping == []


def _of_all(lake: Lake, profile: Profile, folder: Path) -> IngestReport:
    from skylake.flow.ingest.ingest_report import IngestOptions

    return ingest(lake, profile, sorted(folder.glob("frame-*.fits")), Inline(), IngestOptions(redo=True))


def test_single_frames_are_compared_with_their_night(lake: Lake, draw: Draw, plain_profile: Profile) -> None:
    told = [ingest(lake, plain_profile, [path], Inline()).overlapping for path in draw(minutes(20000.0))]
    assert [len(one) for one in told] == [0, 0, 1]


@pytest.mark.parametrize(
    "told",
    [
        [("2024-04-07T01:00:00", 7000.0), ("2024-04-07T03:00:00", 7000.0), ("2024-04-07T05:00:00", 7000.0)],
        [(start, 20.5) for start, _ in minutes(0.0)]
        + [("2024-04-07T03:00:20", 20.5), ("2024-04-07T03:00:40", 20.5)],
        [("2024-04-07T03:00:00", 0.2)] * 3
        + [("2024-04-07T03:00:01", 0.2)] * 3
        + [("2024-04-07T03:00:02", 0.2)],
        [("2024-04-07T03:00:00", 3000.0), ("2024-04-07T03:01:00", 50.0), ("2024-04-07T03:02:00", 50.0)],
        [(start, -1.0) for start, _ in minutes(0.0)],
    ],
    ids=["long", "rounded times", "faster than the clock", "one broken off", "assumed"],
)
def test_exposures_that_can_be_are_not_reported(
    lake: Lake, draw: Draw, plain_profile: Profile, told: list[tuple[str, float]]
) -> None:
    assert ingest(lake, plain_profile, draw(told), Inline()).overlapping == []
