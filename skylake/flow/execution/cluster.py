"""Workers of a run: in this process, on local processes, or on a cluster.

The same ``dask.delayed`` tasks run on all of them. A task that fails, or whose worker dies, gives its
error as its result, so one bad task never stops the others.
"""

from __future__ import annotations

import os
import signal
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pyarrow.lib import ArrowException

from skylake import logs
from skylake.errors import SkylakeError, UsageError, WorkerError
from skylake.flow.execution.task_guard import cause_of
from skylake.schema import TableSchema
from skylake.schema.tables import register, registered

_log = logs.get(__name__)

Done = Callable[[int, Any], None]


class Workers(Protocol):
    """Something that runs delayed tasks."""

    count: int

    def run(self, tasks: Sequence[Any], done: Done | None = None) -> list[Any]:
        """Run tasks; return their results, or the exceptions that they ended with, in order.

        They begin in about this order. ``done`` is called with the number and result of each task as soon as it
        has ended.
        """


#: Tasks in flight per worker where there may be very many; a scheduler keeps every task in its memory.
WINDOW = 16


def run_in_windows(
    workers: Workers, makers: Sequence[Callable[[], Any]], done: Done | None = None
) -> list[Any]:
    """Run many tasks, some per worker at a time; each is made when its turn comes.

    ``done`` and the results are as in :meth:`Workers.run`.
    """
    results: list[Any] = []
    size = WINDOW * workers.count
    for start in range(0, len(makers), size):
        tasks = [make() for make in makers[start : start + size]]
        results += workers.run(tasks, _shifted(done, start))
    return results


def _shifted(done: Done | None, start: int) -> Done | None:
    return None if done is None else lambda number, result: done(start + number, result)


class Inline:
    """Tasks run in this process, one after the other."""

    count = 1

    def run(self, tasks: Sequence[Any], done: Done | None = None) -> list[Any]:
        """Run tasks; see :class:`Workers`."""
        results = []
        for number, task in enumerate(tasks):
            results.append(_outcome(task))
            if done is not None:
                done(number, results[-1])
        return results


def _outcome(task: Any) -> Any:
    try:
        return task.compute(scheduler="synchronous")
    except (SkylakeError, ArrowException, OSError, MemoryError) as error:
        return error


class Distributed:
    """Tasks run on the workers of a dask cluster, which may be started when the first ones come.

    Parameters
    ----------
    connect : callable
        Gives a client of the cluster, and is called once.
    count : int
        Number of workers.
    """

    def __init__(self, connect: Callable[[], Any], count: int) -> None:
        self._connect = connect
        self.count = count
        self._declared: tuple[TableSchema, ...] = ()

    @cached_property
    def client(self) -> Any:
        """The client of the cluster."""
        return self._connect()

    def _declare(self, client: Any) -> None:
        """Register the tables of users of this process on all workers, including those that start later."""
        schemas = registered()
        if schemas != self._declared:
            client.register_plugin(_plugin(schemas), name="skylake-tables-of-users")
            self._declared = schemas

    def run(self, tasks: Sequence[Any], done: Done | None = None) -> list[Any]:
        """Run tasks; see :class:`Workers`."""
        if not tasks:
            return []
        import dask
        from distributed import as_completed
        from distributed.scheduler import NoWorkerError

        # A client that connects has settings of its own, which are not to be mixed with these.
        client = self.client
        self._declare(client)
        # By default dask would begin them in the order of their names, which are random. Shared objects come first.
        turn = {task.key: -number for number, task in enumerate(tasks)}
        with dask.annotate(priority=lambda key: turn.get(key, 1)):
            futures = client.compute(list(tasks))
        numbers = {future.key: number for number, future in enumerate(futures)}
        results: list[Any] = [None] * len(futures)
        for future in as_completed(futures, loop=client.loop):
            number = numbers[future.key]
            results[number] = future.exception() if future.status != "finished" else future.result()
            if isinstance(results[number], NoWorkerError):
                raise WorkerError(
                    "no worker is left, as those that were started again ended at once; free memory for them, or give "
                    "--cluster inline, and run again"
                )
            if done is not None:
                done(number, results[number])
            future.release()
        return results


def _plugin(schemas: tuple[TableSchema, ...]) -> Any:
    """Return a plugin of workers that registers tables of users."""
    from distributed import WorkerPlugin

    class UserTablesPlugin(WorkerPlugin):  # type: ignore[misc]
        def setup(self, worker: Any) -> None:
            register(schemas)

    return UserTablesPlugin()


@contextmanager
def workers(where: str, count: int) -> Iterator[Workers]:
    """Start or join workers, and release them at the end.

    Local workers are started with the first tasks, since starting takes seconds.

    Parameters
    ----------
    where : str
        ``inline``, ``local``, ``slurm`` or the address of a scheduler, ``tls://host:port`` or ``tcp://host:port``.
    count : int
        Number of workers; 0 takes one per core.

    Raises
    ------
    UsageError
        If `where` is none of these.
    WorkerError
        If the workers cannot be started or reached; for local workers the first tasks raise it.
    """
    count = count or len(os.sched_getaffinity(0))
    if where == "inline":
        yield Inline()
    elif where == "local":
        with ExitStack() as started:
            yield Distributed(lambda: started.enter_context(_local(count)), count)
    elif where == "slurm":
        from skylake.flow.execution.slurm import slurm

        with slurm(count) as client:
            yield _joined(client)
    elif "://" in where:
        with _remote(where) as client:
            yield _joined(client)
    else:
        raise UsageError(f"there is no cluster {where!r}; use inline, local, slurm or tls://host:port")


def _joined(client: Any) -> Distributed:
    return Distributed(lambda: client, max(len(client.scheduler_info(n_workers=-1)["workers"]), 1))


@contextmanager
def _local(count: int) -> Iterator[Any]:
    import dask
    from distributed import Client
    from distributed.security import Security

    # One thread per worker: sep holds the interpreter lock, and numpy must not start threads of its own.
    threads = {"distributed.nanny.pre-spawn-environ": dict.fromkeys(_THREAD_VARIABLES, "1")}
    # The profiler of dask, which is not used here, samples all threads a hundred times a second; a thread that starts
    # at that moment can block the worker for ever (CPython 3.11). The nannies look after workers that are lost.
    settings = threads | {
        "distributed.worker.daemon": False,
        "distributed.worker.profile.enabled": False,
        "distributed.deploy.lost-worker-timeout": "1 day",
    }
    # Whoever connects to a scheduler or worker of dask can run code there. So they listen on this machine only, where
    # everybody else is kept out by certificates that only the memory of these processes holds.
    security = Security.temporary()
    with dask.config.set(settings), _interrupts_deferred() as heard:
        try:
            cluster = _local_cluster(count, security)
        except (OSError, RuntimeError, TimeoutError) as error:
            raise WorkerError(
                f"local workers cannot be started ({cause_of(error)}); free memory for them, or give --cluster inline"
            ) from error
        with cluster:
            heard()
            with Client(cluster, set_as_default=False) as client:
                yield client


def _local_cluster(count: int, security: Any) -> Any:
    from distributed import SpecCluster
    from distributed.system import MEMORY_LIMIT

    from skylake.flow.execution.servers import ClosedScheduler, PatientNanny

    lost: list[bool] = []

    def on_failure() -> None:
        lost.append(True)
        if len(lost) == count:
            # Tasks would wait for a worker for ever; so they end (NoWorkerError) as soon as the scheduler looks.
            cluster.scheduler.no_workers_timeout = 0.1

    here = {"host": "127.0.0.1", "protocol": "tls://", "security": security}
    of_worker = here | {
        "nthreads": 1,
        "memory_limit": MEMORY_LIMIT // count,
        "local_directory": _scratch_folder(),
        "silence_logs": 50,
        "on_failure": on_failure,
    }
    cluster = SpecCluster(
        scheduler={"cls": ClosedScheduler, "options": here | {"port": 0}},
        workers={number: {"cls": PatientNanny, "options": of_worker} for number in range(count)},
        security=security,
        silence_logs=50,
    )
    return cluster


def _scratch_folder() -> str:
    """Return a folder for the files of workers, which nobody else has made or can enter.

    The default folder of dask may belong to another user, and Python looks for modules in it.
    """
    import dask

    folder = Path(dask.config.get("temporary-directory") or tempfile.gettempdir())
    own = folder / f"skylake-dask-scratch-space-{os.geteuid()}"
    with suppress(FileExistsError):
        own.mkdir(mode=0o700, parents=True)
    state = own.lstat()
    is_ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & 0o077
    return str(own) if is_ours else tempfile.mkdtemp(prefix=f"{own.name}-", dir=folder)


_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@contextmanager
def _interrupts_deferred() -> Iterator[Callable[[], None]]:
    """Start processes that leave Ctrl-C to this one, which ends them in good order.

    They inherit the mask of signals. An interrupt of any thread waits in the meantime, and is raised by the function
    that is given, or at the end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    waiting: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler = signal.signal(signal.SIGINT, lambda number, _: waiting.append(number))

    @cache
    def release() -> None:
        signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if waiting:
            waiting.clear()
            signal.raise_signal(signal.SIGINT)

    try:
        yield release
    finally:
        release()


@contextmanager
def _remote(address: str) -> Iterator[Any]:
    from distributed import Client

    _warn_of(address)
    try:
        client = Client(address, timeout="20s", set_as_default=False)
    except (FileNotFoundError, TypeError) as error:
        raise WorkerError(
            f"{address}: the certificates of tls:// are missing; your dask configuration names their files as "
            "distributed.comm.tls.ca-file, client.cert and client.key, as docs/operating.md shows"
        ) from error
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkerError(f"{address}: no dask scheduler answers there ({error})") from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise WorkerError(
                f"{address}: the scheduler has no workers; start some with `dask worker {address}`"
            )
        yield client


def _warn_of(address: str) -> None:
    """Warn of a scheduler of another machine that asks for no certificate."""
    place = urlsplit(address)
    host = place.hostname or ""
    if place.scheme == "tcp" and not (host in ("localhost", "::1") or host.startswith("127.")):
        _log.warning(
            "%s: tcp:// asks nobody for a certificate, so everybody who reaches that scheduler can run code as you; "
            "use tls://, as docs/operating.md shows",
            address,
        )
