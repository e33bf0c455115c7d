"""Jobs of Slurm, with commands of our own: what they get is kept, and run where a test wants it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dask
import pytest

from skylake.errors import ConfigurationError, WorkerError
from skylake.flow.execution.cluster import workers
from skylake.lake import Lake

pytestmark = [
    pytest.mark.xdist_group("cluster"),
    # To import it here would change what Ctrl-C does in all tests of this process.
    pytest.mark.skipif(find_spec("dask_jobqueue") is None, reason="dask-jobqueue is not installed"),
]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """The settings of dask-jobqueue, before tests change some for a while."""
    handler = signal.getsignal(signal.SIGINT)
    import_module("dask_jobqueue")
    signal.signal(signal.SIGINT, handler)


SBATCH = """#!/bin/sh
number=$$
cp "$1" "$SLURM_LIKE/$number.sh"
case "$SLURM_DOES" in
refuse) echo "sbatch: error: invalid partition specified: normal" >&2; exit 1 ;;
run)
    setsid sh "$SLURM_LIKE/$number.sh" > "$SLURM_LIKE/$number.out" 2>&1 < /dev/null &
    echo $! > "$SLURM_LIKE/$number.pid" ;;
esac
echo "Submitted batch job $number"
"""
SCANCEL = """#!/bin/sh
echo "$1" >> "$SLURM_LIKE.cancelled"
test ! -f "$SLURM_LIKE/$1.pid" || kill -- "-$(cat "$SLURM_LIKE/$1.pid")"
"""


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the jobs that were submitted, and a user who has asked for jobs of one process."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_LIKE", str(tmp_path / "jobs"))
    monkeypatch.setenv("SLURM_DOES", "wait")
    monkeypatch.setattr(dask.config, "PATH", str(tmp_path / "dask"))
    # The addresses of this machine are not for tests, if it has any.
    asked = {
        "cores": 1, "processes": 1, "memory": "1GB", "shared-temp-directory": str(tmp_path / "home"),
        "scheduler-options": {"host": "127.0.0.1"},
    }  # fmt: skip
    with dask.config.set({f"jobqueue.slurm.{name}": value for name, value in asked.items()}):
        yield tmp_path / "jobs"
    assert list((tmp_path / "home").iterdir()) == [], "the certificates are gone"


def require_cancelled(queue: Path, count: int) -> None:
    submitted = {path.stem for path in queue.glob("*.sh")}
    assert len(submitted) == count
    assert set(queue.with_suffix(".cancelled").read_text().split()) == submitted


def test_without_a_jobs_file_the_sentence_says_how_to_make_one(queue: Path) -> None:
    nothing = {"jobqueue.slurm.cores": None, "jobqueue.slurm.memory": None}
    with dask.config.set(nothing), pytest.raises(ConfigurationError) as error, workers("slurm", 1):
        pass
    assert str(error.value).startswith(
        f"{queue.parent}/dask/jobqueue.yaml: jobqueue.slurm.cores and memory are missing"
    )
    command = re.findall("`(.*?)`", str(error.value))[0]
    subprocess.run(command, shell=True, check=True)
    (described,) = dask.config.collect_yaml([str(queue.parent / "dask")])
    assert described["jobqueue"]["slurm"]["cores"] and described["jobqueue"]["slurm"]["memory"]


IMPATIENT = """
from skylake.cli.main import main
from skylake.flow.execution import slurm
slurm._FIRST_NEWS, slurm._LATER_NEWS = 0.2, 0.4
main()
"""


def test_waiting_jobs_are_reported_and_interrupts_cancel_them(queue: Path) -> None:
    described = queue.parent / "jobqueue.yaml"
    asked = {
        name: dask.config.get(f"jobqueue.slurm.{name}")
        for name in ("cores", "memory", "shared-temp-directory", "scheduler-options")
    }
    described.write_text(json.dumps({"jobqueue": {"slurm": asked | {"processes": 1}}}))
    lake = Lake.create(queue.parent / "lake")
    command = [sys.executable, "-c", IMPATIENT, "verify", str(lake.root), "--deep"]
    options = ["--cluster", "slurm", "--workers", "2"]
    environment = os.environ | {"DASK_CONFIG": str(described)}
    run = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, env=environment)
    assert run.stderr is not None
    said = [run.stderr.readline() for _ in range(2)]
    assert all("2 jobs have been waiting for Slurm since" in one and "Ctrl-C cancels" in one for one in said)
    run.send_signal(signal.SIGINT)
    rest = run.communicate(timeout=900)[1]
    assert (run.returncode, rest.splitlines()[-1]) == (
        130,
        "skylake: interrupted; what was committed is safe",
    )
    assert "Traceback" not in rest
    require_cancelled(queue, 2)


def test_jobs_that_slurm_refuses_are_one_sentence(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_DOES", "refuse")
    refused = r"Slurm refuses the jobs \(sbatch: error: invalid partition specified: normal\); correct .*jobqueue.yaml"
    with pytest.raises(WorkerError, match=refused), workers("slurm", 2):
        pass


def test_where_there_is_no_slurm_the_sentence_says_so(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (queue.parent / "bin" / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(queue.parent / "bin"))
    with (
        pytest.raises(WorkerError, match="there is no command sbatch here; run this on"),
        workers("slurm", 1),
    ):
        pass


def test_jobs_take_no_modules_from_the_folder_that_they_begin_in(
    queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_DOES", "refuse")
    own = dask.config.set({"jobqueue.slurm.job-script-prologue": ["export OWN=1"]})
    with own, pytest.raises(WorkerError), workers("slurm", 1):
        pass
    (job,) = queue.glob("*.sh")
    text = job.read_text()
    assert "export OWN=1\n" in text
    (started,) = [line for line in text.splitlines() if " -m distributed" in line]
    job.write_text(text.replace(started, f"{sys.executable} -m dask.config"))
    (queue / "dask").mkdir()
    (queue / "dask" / "__init__.py").write_text("raise SystemExit('this folder is asked')\n")
    subprocess.run(["sh", str(job)], cwd=queue, check=True)


@pytest.mark.slow
def test_jobs_that_run_do_the_work_with_certificates(queue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_DOES", "run")
    with workers("slurm", 1) as pool:
        client: Any = pool.client  # type: ignore[attr-defined]
        assert pool.run([dask.delayed(os.getpid)()]) != [os.getpid()]
        assert client.scheduler.address.startswith("tls://")
        assert client.run(lambda dask_worker: (type(dask_worker).__name__, dask_worker.services)).popitem()[
            1
        ] == (
            "ClosedWorker",
            {},
        )
    require_cancelled(queue, 1)
