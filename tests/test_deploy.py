"""The files for timers and clusters are well formed, and call commands that exist."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from skylake.cli.main import cli
from skylake.resources import folder

DEPLOY = folder("pipelines") / "deploy"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / name, encoding="utf-8")
    return parser


def called(text: str) -> list[str]:
    """Return options of every skylake command in a text."""
    return re.findall(r"(--[a-z]+)", text)


def test_the_timer_starts_the_service_of_its_name_every_morning() -> None:
    assert unit("skylake-nightly.timer")["Timer"]["OnCalendar"]
    assert unit("skylake-nightly.timer")["Timer"]["Persistent"] == "true"
    assert (DEPLOY / "skylake-nightly.service").is_file()


def test_a_night_with_rejected_frames_is_no_service_failure() -> None:
    assert unit("skylake-nightly.service")["Service"]["SuccessExitStatus"] == "1"


@pytest.mark.parametrize("name", ["skylake-nightly.service", "skylake.sbatch"])
def test_the_command_has_these_options(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if "run nightly" in line)
    nightly = cli.get_command(None, "run").get_command(None, "nightly")  # type: ignore[arg-type,union-attr]
    known = {option for parameter in nightly.params for option in parameter.opts}
    assert called(line)
    assert set(called(line)) <= known


def test_the_batch_script_is_bash(tmp_path: Path) -> None:
    script = DEPLOY / "skylake.sbatch"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "usage: sbatch skylake.sbatch LAKE CAMERA FOLDER" in done.stderr


def test_rejected_frames_do_not_fail_the_job(tmp_path: Path) -> None:
    for status, expected in ((0, 0), (1, 0), (3, 3)):
        srun = tmp_path / "srun"
        srun.write_text(f"#!/bin/sh\nexit {status}\n", encoding="utf-8")
        srun.chmod(0o755)
        command = ["bash", str(DEPLOY / "skylake.sbatch"), "lake", "sim", "frames"]
        path = f"{tmp_path}:{Path(shutil.which('bash') or '/bin/bash').parent}:/usr/bin:/bin"
        assert subprocess.run(command, env={"PATH": path}, check=False).returncode == expected


def test_the_configuration_of_workers_is_that_of_dask_jobqueue() -> None:
    slurm = yaml.safe_load((DEPLOY / "jobqueue.yaml").read_text(encoding="utf-8"))["jobqueue"]["slurm"]
    assert slurm["processes"] == slurm["cores"]
    assert {"queue", "memory", "walltime"} <= set(slurm)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_timer(tmp_path: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "calendar", unit("skylake-nightly.timer")["Timer"]["OnCalendar"]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
