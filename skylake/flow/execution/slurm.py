"""Workers on Slurm: submit their jobs, wait for them and cancel them."""

from __future__ import annotations

import logging
import shlex
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from skylake import logs, resources
from skylake.current_folder import SAFE_PATH
from skylake.errors import ConfigurationError, WorkerError
from skylake.flow.execution.task_guard import cause_of

_log = logs.get(__name__)

#: Seconds after which a run says for the first time, and then again, that it waits for jobs.
_FIRST_NEWS, _LATER_NEWS = 10.0, 600.0


@contextmanager
def slurm(count: int) -> Iterator[Any]:
    """Ask Slurm for workers, wait for the first of them, and cancel their jobs at the end.

    Parameters
    ----------
    count : int
        Number of workers.

    Yields
    ------
    distributed.Client

    Raises
    ------
    ConfigurationError
        If the user's dask configuration does not say what to ask for.
    WorkerError
        If Slurm refuses the jobs, or is not available.
    """
    import dask
    from distributed import Client

    handler = signal.getsignal(signal.SIGINT)
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise WorkerError(
            "slurm needs the package dask-jobqueue; run `pip install dask-jobqueue` in the environment of skylake"
        ) from error
    from skylake.flow.execution.servers import ClosedScheduler

    # With the handler that dask-jobqueue sets, an interrupted run would end as if it had succeeded.
    signal.signal(signal.SIGINT, handler)
    # Cores, memory, queue and walltime come from the user's dask configuration (jobqueue.slurm).
    asked = dask.config.get("jobqueue.slurm")
    if not (asked["cores"] and asked["memory"]):
        template = shlex.quote(str(resources.folder("pipelines") / "deploy" / "jobqueue.yaml"))
        own = shlex.quote(str(_jobqueue_file().parent))
        raise ConfigurationError(
            f"{_jobqueue_file()}: jobqueue.slurm.cores and memory are missing, which --cluster slurm needs; "
            f"run `mkdir -p {own} && cp {template} {own}` and write your queue into the copy"
        )
    shared = Path(asked["shared-temp-directory"] or "~").expanduser()
    with ExitStack() as stack:
        try:
            certificates = stack.enter_context(
                tempfile.TemporaryDirectory(prefix=".skylake-slurm-", dir=shared)
            )
            cluster = SLURMCluster(
                security=_security(Path(certificates)),
                scheduler_cls=ClosedScheduler,
                # Jobs begin in the folder that they were submitted from.
                job_script_prologue=[*asked["job-script-prologue"], f"export {SAFE_PATH}=1"],
                worker_extra_args=[
                    *asked["worker-extra-args"],
                    "--worker-class",
                    "skylake.flow.execution.servers.ClosedWorker",
                ],
            )
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            raise WorkerError(
                f"the jobs of --cluster slurm cannot be described ({cause_of(error)}); correct {_jobqueue_file()}"
            ) from error
        stack.enter_context(cluster)
        client = stack.enter_context(Client(cluster, set_as_default=False))
        _submit(cluster, count)
        _await_jobs(cluster, client)
        yield client


def _security(folder: Path) -> Any:
    """Return certificates of this run, in a folder that only the user and the jobs of the user can read."""
    from distributed.security import Security

    files = {}
    for kind, content in Security.temporary().get_tls_config_for_role("worker").items():
        if content:
            files[kind] = str(folder / kind)
            (folder / kind).write_text(content, encoding="ascii")
    roles = {
        f"tls_{role}_{kind}": files[kind]
        for role in ("client", "scheduler", "worker")
        for kind in ("cert", "key")
    }
    return Security(require_encryption=True, tls_ca_file=files["ca_file"], **roles)


def _jobqueue_file() -> Path:
    """Return where the user's dask configuration says what to ask Slurm for."""
    import dask

    return Path(dask.config.PATH).expanduser() / "jobqueue.yaml"


def _submit(cluster: Any, count: int) -> None:
    """Submit the jobs of some workers.

    Raises
    ------
    WorkerError
        If Slurm refuses them, or there is none.
    """
    from distributed import Status

    async def submit() -> None:
        cluster.scale(count)
        # A task that is not awaited would fail without a message.
        await cluster

    # It would print a traceback of what is reported here.
    logging.getLogger("tornado.application").setLevel(logging.CRITICAL)
    try:
        cluster.sync(submit)
    except (FileNotFoundError, RuntimeError) as error:
        for job in cluster.workers.values():
            # Without this the cluster cannot be closed, which cancels the other jobs.
            job.status = Status.failed
        raise _refusal(error) from error


def _refusal(error: BaseException) -> WorkerError:
    """Return the sentence for jobs that could not be submitted."""
    if isinstance(error, FileNotFoundError):
        return WorkerError(
            f"there is no command {error.filename} here; run this on a machine that submits jobs to Slurm, or give "
            "--cluster local"
        )
    refusal = str(error).rpartition("stderr:")[2]
    return WorkerError(f"Slurm refuses the jobs ({' '.join(refusal.split())}); correct {_jobqueue_file()}")


def _await_jobs(cluster: Any, client: Any) -> None:
    """Wait for the first worker, and say now and then that this is so."""
    began, patience = time.strftime("%H:%M"), _FIRST_NEWS
    while True:
        try:
            client.wait_for_workers(1, timeout=patience)
        except TimeoutError:
            _log.warning(
                "%s been waiting for Slurm since %s; `squeue --me` says why, Ctrl-C cancels",
                "1 job has" if len(cluster.workers) == 1 else f"{len(cluster.workers)} jobs have",
                began,
            )
            patience = _LATER_NEWS
        else:
            return
