"""How `solve-field` is called."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from skylake.errors import FrameRejected
from skylake.flow.astrometry.astrometry_net import command_of, solve_list
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.source_list import StarList

SOURCES = StarList(*np.array([[1.0, 200.0], [5.0, 90.0], [10.0, 20.0], [0.1, 0.1]]), (300, 400))


def test_an_asterism_in_a_corner_is_within_the_radius() -> None:
    params = SolveParams(scale_low=30.0, scale_high=36.0, centre=(10.0, -5.0), radius_deg=1.0)
    command = command_of(Path("sources.fits"), SOURCES, params)
    # Half the diagonal are 250 pixels of at most 36 arcsec.
    assert float(command[command.index("--radius") + 1]) == pytest.approx(1.0 + 2.5)
    assert command[command.index("--ra") + 1] == "10.000000"


def test_modules_of_ours_are_not_taken_for_those_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "solve-field"
    program.write_text('#!/bin/sh\necho "path: $PYTHONPATH, there: $(ls)."\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    (tmp_path / "current").mkdir()
    (tmp_path / "current" / "astrometry").mkdir()
    monkeypatch.chdir(tmp_path / "current")
    with pytest.raises(FrameRejected, match=r"path: , there: sources.fits\.\)"):
        solve_list(SOURCES, SolveParams())


def test_seconds_are_those_of_the_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that answers after a sleep has taken no longer than it worked."""
    answer = fits.Header(
        {
            "WCSAXES": 2, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": -5.0, "CRPIX1": 200.5,
            "CRPIX2": 150.5, "CD1_1": -0.01, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.01,
        }
    )  # fmt: skip
    fits.PrimaryHDU(header=answer).writeto(tmp_path / "answer.fits")
    program = tmp_path / "solve-field"
    program.write_text(
        f'#!/bin/sh\nfor one; do case "$one" in *sources.fits) cp {tmp_path}/answer.fits "${{one%.fits}}.wcs";; '
        "esac; done\nsleep 0.6\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    before, began = os.times(), time.perf_counter()
    row = solve_list(SOURCES, SolveParams()).row
    worked = (
        (os.times().children_user + os.times().children_system)
        - before.children_user
        - before.children_system
    )
    assert row["ra_deg"] == pytest.approx(10.0) and row["dec_deg"] == pytest.approx(-5.0)
    assert row["seconds"] == pytest.approx(worked, abs=0.02)
    assert row["seconds"] < time.perf_counter() - began - 0.5
