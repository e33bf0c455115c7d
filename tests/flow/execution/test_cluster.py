from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import psutil
import pyarrow as pa
import pytest

from skylake.errors import LakeError, UsageError, WorkerError
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution import cluster, servers
from skylake.flow.execution.cluster import Distributed, Inline, workers
from skylake.flow.execution.run_progress import Silent
from skylake.flow.ingest.gather_night import for_tasks
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake
from skylake.sky.pixels import PixelTree

pytestmark = pytest.mark.xdist_group("cluster")

TABLES = ("frames", "sources", "matches", "zeropoints", "nights", "lightcurves", "maps")


def fail_with(error: BaseException | None) -> str:
    if error is not None:
        raise error
    return "well"


def tasks_of(*errors: BaseException | None) -> list[Any]:
    task = dask.delayed(fail_with, pure=False)
    return [task(dask.delayed(error, traverse=False)) for error in errors]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def threads_of_libraries() -> list[str | None]:
    return [os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")]


@pytest.mark.parametrize(
    "error",
    [LakeError("the disk is full"), OSError(28, "No space left"), MemoryError(), pa.ArrowInvalid("damaged")],
    ids=lambda error: type(error).__name__,
)
def test_a_task_that_fails_gives_its_error_and_others_results(error: BaseException) -> None:
    seen: list[tuple[int, Any]] = []
    results = Inline().run(tasks_of(None, error, None), lambda *news: seen.append(news))
    assert (results[0], results[2]) == ("well", "well")
    assert type(results[1]) is type(error)
    assert str(results[1]) == str(error)
    assert seen == list(enumerate(results))


def test_an_error_of_the_program_is_not_hidden_in_this_process() -> None:
    with pytest.raises(ZeroDivisionError):
        Inline().run(tasks_of(ZeroDivisionError()))


@pytest.mark.parametrize("where", ["", "locally", "remote:8786"])
def test_a_cluster_of_no_known_kind_is_wrong_use(where: str) -> None:
    with pytest.raises(UsageError, match="use inline, local, slurm or tls://host:port"), workers(where, 1):
        pass


def test_inline_is_this_process() -> None:
    with workers("inline", 4) as inline:
        assert inline.count == 1
        assert inline.run([dask.delayed(os.getpid)()]) == [os.getpid()]


@pytest.fixture(scope="module")
def local() -> Iterator[Distributed]:
    """Two worker processes."""
    with workers("local", 2) as found:
        assert isinstance(found, Distributed)
        yield found


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_local_workers_are_started_by_the_first_task(local: Distributed) -> None:
    """A run that finds nothing to do does not wait for them, and another cluster does not mind."""
    assert local.run(tasks_of(None)) == ["well"]
    with workers("local", 1) as pool:
        before = children()
        assert (pool.count, pool.run([])) == (1, [])
        assert children() == before
        (worker,) = pool.run([dask.delayed(os.getpid)()])
        assert worker in children() - before
        assert local.run(tasks_of(None)) == ["well"], "neither insists on a port that the other has"
    assert worker not in children()


def test_an_interrupt_while_workers_start_comes_when_they_have() -> None:
    """Another thread may be the one that the system gives it to."""
    idle = threading.Event()
    other = threading.Thread(target=idle.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt), cluster._interrupts_deferred() as heard:
            signal.pthread_kill(other.ident or 0, signal.SIGINT)
            time.sleep(0.1)
            reached = True
            heard()
    finally:
        idle.set()
        other.join()
    assert reached
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_workers_are_not_profiled(local: Distributed) -> None:
    """Looking at all threads blocks a worker for ever when it meets the start of another (CPython 3.11)."""
    callbacks = local.client.run(lambda dask_worker: list(dask_worker.periodic_callbacks))
    assert len(callbacks) == 2
    assert all("heartbeat" in names and "profile" not in names for names in callbacks.values())


def test_local_workers_are_processes_of_one_thread(local: Distributed) -> None:
    assert local.count == 2
    found = local.client.run(os.getpid)
    assert len(set(found.values()) - {os.getpid()}) == 2
    assert set(local.client.nthreads().values()) == {1}
    assert list(local.client.run(threads_of_libraries).values()) == [["1", "1", "1"]] * 2


def place_of(tree: PixelTree) -> int:
    time.sleep(0.05)
    return os.getpid()


def test_two_tasks_of_a_single_night_go_to_two_workers(local: Distributed) -> None:
    tree, task = for_tasks(PixelTree.uniform(1)), dask.delayed(place_of, pure=False)
    # From the second time on it is known how long they take.
    for _ in range(4):
        assert len(set(local.run([task(tree), task(tree)]))) == 2


def test_results_come_in_order_and_news_once_each(local: Distributed) -> None:
    errors = [None, LakeError("full"), ZeroDivisionError("what"), None]
    seen: dict[int, Any] = {}
    results = local.run(tasks_of(*errors), lambda number, result: seen.update({number: result}))
    assert [str(result) for result in results] == ["well", "full", "what", "well"]
    assert [type(result) for result in results] == [str, LakeError, ZeroDivisionError, str]
    assert [seen[number] for number in range(4)] == results


def note(number: int, diary: Path) -> None:
    with diary.open("a") as file:
        file.write(f"{number}\n")


def test_tasks_begin_in_their_order(tmp_path: Path) -> None:
    """The first time, when the worker is started by them, and later."""
    task = dask.delayed(note, pure=False)
    with workers("local", 1) as pool:
        for turn in range(3):
            diary = tmp_path / str(turn)
            pool.run([task(number, diary) for number in range(30)])
            begun = [int(line) for line in diary.read_text().splitlines()]
            assert max(abs(number - place) for place, number in enumerate(begun)) <= 3


@pytest.fixture
def certificates(local: Distributed, tmp_path: Path) -> Iterator[None]:
    """The dask configuration of a user who has the certificates of the local workers."""
    own = local.client.security.get_tls_config_for_role("client")
    for kind in ("ca_file", "cert", "key"):
        (tmp_path / kind).write_text(own[kind])
    names = {"ca-file": "ca_file", "client.cert": "cert", "client.key": "key"}
    with dask.config.set(
        {f"distributed.comm.tls.{name}": str(tmp_path / file) for name, file in names.items()}
    ):
        yield


@pytest.mark.usefixtures("certificates")
def test_a_scheduler_is_joined_by_its_address(local: Distributed) -> None:
    with workers(local.client.scheduler.address, 0) as joined:
        assert joined.count == 2
        assert joined.run(tasks_of(None)) == ["well"]
    assert local.run(tasks_of(None)) == ["well"], "who joins does not shut down"


def test_tls_without_certificates_is_one_sentence(local: Distributed) -> None:
    address = local.client.scheduler.address
    with (
        pytest.raises(WorkerError, match=f"{address}: the certificates of tls:// are missing; .*ca-file"),
        workers(address, 0),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "warned"),
    [("tcp://192.0.2.1:8786", True), ("tcp://127.0.0.1:8786", False), ("tcp://localhost:8786", False)],
)
def test_a_remote_scheduler_without_certificate_is_warned_of(
    address: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    cluster._warn_of(address)
    assert [address in record.message for record in caplog.records] == [True] * warned


#: Tries, as another user, to have each port that processes listen on run something, and prints what was run.
ATTACK = """
import asyncio, os, ssl, sys, urllib.request
from distributed import Client
from distributed.core import rpc
from distributed.protocol.pickle import dumps
from distributed.security import Security

OWN = Security.temporary()
os.setgroups([]), os.setgid(65534), os.setuid(65534)

def who():
    return os.getuid()

async def as_client(address, security):
    async with Client(address, timeout=3, set_as_default=False, security=security, asynchronous=True) as client:
        return await client.run_on_scheduler(who)

async def of_worker(address, security):
    arguments = {} if security is None else {"connection_args": security.get_connection_args("client")}
    async with rpc(address, timeout=3, **arguments) as server:
        return (await server.run(function=dumps(who), args=dumps(()), kwargs=dumps({})))["result"]

async def over_http(address, security):
    scheme, context = ("http", None) if security is None else ("https", ssl._create_unverified_context())
    url = f"{scheme}://{address.partition('://')[2]}/health"
    return await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=3, context=context).read())

async def attack(port):
    for address, security in ((f"tcp://127.0.0.1:{port}", None), (f"tls://127.0.0.1:{port}", OWN)):
        for way in (as_client, of_worker, over_http):
            try:
                print(port, way.__name__, await asyncio.wait_for(way(address, security), 5), flush=True)
            except BaseException as error:
                print(port, way.__name__, repr(error), file=sys.stderr, flush=True)

async def main():
    await asyncio.gather(*(attack(int(port)) for port in sys.argv[1:]))

asyncio.run(main())
os._exit(0)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_use_the_processes_of_a_run(local: Distributed) -> None:
    local.run(tasks_of(None))
    # Other tests may have left servers of their own beside those of dask.
    children = psutil.Process().children(recursive=True)
    of_dask = [child for child in children if "multiprocessing" in " ".join(child.cmdline())]
    processes = [psutil.Process(), *of_dask]
    sockets = [socket for process in processes for socket in process.net_connections()]
    ports = {str(socket.laddr.port) for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert len(ports) == 5, "of the scheduler, two nannies and two workers"
    command = [sys.executable, "-c", ATTACK, *ports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
    assert done.stdout == ""
    assert done.stderr.count("Error(") >= 6 * len(ports)
    assert local.run(tasks_of(None)) == ["well"]


def test_nobody_else_enters_the_folders_of_workers(local: Distributed) -> None:
    for folder in map(Path, local.client.run(lambda dask_worker: dask_worker.local_directory).values()):
        assert folder.parent.stat().st_mode & 0o777 == folder.stat().st_mode & 0o777 == 0o700
    assert [path for path in sys.path if "dask-scratch" in path and Path(path).stat().st_mode & 0o077] == []


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_folder_that_others_have_made_for_workers_is_not_used(mode: int, tmp_path: Path) -> None:
    """Python would import what they put into it."""
    with dask.config.set({"temporary-directory": str(tmp_path)}):
        own = Path(cluster._scratch_folder())
        assert own.parent == tmp_path
        assert cluster._scratch_folder() == str(own), (
            "so that what a killed run has left is removed by the next"
        )
        own.chmod(mode)
        another = Path(cluster._scratch_folder())
        assert (another != own, another.parent, another.stat().st_mode & 0o777) == (True, tmp_path, 0o700)


@contextmanager
def killing(most: int) -> Iterator[list[int]]:
    """Kill the first so many processes that are started for workers, at once."""
    killed: list[int] = []
    over = threading.Event()
    before = children()

    def kill() -> None:
        while not over.wait(0.01) and len(killed) < most:
            for process in psutil.Process().children():
                with suppress(psutil.Error):
                    if process.pid not in before and "spawn_main" in str(process.cmdline()):
                        before.add(process.pid)
                        process.kill()
                        killed.append(process.pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_a_worker_killed_while_starting_is_started_again() -> None:
    with killing(1) as killed, workers("local", 1) as pool:
        assert pool.run(tasks_of(None, None)) == ["well", "well"]
    assert len(killed) == 1


def test_workers_killed_repeatedly_while_starting_end_the_run() -> None:
    with (
        killing(100) as killed,
        pytest.raises(
            WorkerError,
            match=r"local workers cannot be started \(.*ended 3 times in a row while it started.*; free memory",
        ),
        workers("local", 1) as pool,
    ):
        pool.run(tasks_of(None))
    assert len(killed) == servers.STARTS


def test_workers_that_cannot_be_started_again_end_the_run() -> None:
    with workers("local", 1) as pool:
        (worker,) = pool.run([dask.delayed(os.getpid)()])
        with killing(100) as killed, pytest.raises(WorkerError, match=r"no worker is left.*; free memory"):
            os.kill(worker, signal.SIGKILL)
            pool.run([dask.delayed(time.sleep, pure=False)(0.2) for _ in range(20)])
        assert len(killed) == servers.STARTS


def test_an_address_where_no_scheduler_can_be_is_an_error() -> None:
    with (
        pytest.raises(WorkerError, match="nonsense://here:1: no dask scheduler"),
        workers("nonsense://here:1", 0),
    ):
        pass


def everything(lake: Lake, profile: Any, archive: Any, columns: Any, where: Any) -> Lake:
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    report = ingest(lake, profile, [archive.out / "frames"], where)
    assert report.counts == {"ok": 12}
    calibrate(lake, where)
    aggregate(lake, [], where)
    return lake


def test_a_cluster_makes_the_same_bytes_as_this_process(
    lake: Lake,
    calibrated_once: Lake,
    profile: Any,
    archive: Any,
    columns: Any,
    local: Distributed,
    digests: Callable[[Path], dict[str, str]],
) -> None:
    """Only the order in which nights are committed may differ, and with it the numbers of versions."""
    everything(lake, profile, archive, columns, local)
    assert lake.snapshot().number == calibrated_once.snapshot().number
    for table in TABLES:
        expected = digests(calibrated_once.snapshot().folder(table))
        assert digests(lake.snapshot().folder(table)) == expected, table
        assert any(name.endswith(".parquet") for name in expected), table
    assert digests(lake.layout.catalogs) == digests(calibrated_once.layout.catalogs)


class Killer(Silent):
    """Kills a worker as soon as the first frames are done."""

    def __init__(self, workers: Distributed) -> None:
        self.workers = workers
        self.what = ""
        self.killed: int | None = None

    def begin(self, what: str, total: int) -> None:
        self.what = what

    def advance(self, steps: int = 1) -> None:
        if self.what == "frames" and self.killed is None:
            self.killed = sorted(self.workers.client.run(os.getpid).values())[0]
            os.kill(self.killed, signal.SIGKILL)


def test_a_lake_is_complete_although_a_worker_was_killed(
    lake: Lake,
    ingested_once: Lake,
    profile: Any,
    archive: Any,
    columns: Any,
    local: Distributed,
    checksums: Callable[..., Any],
) -> None:
    import_catalog(lake, "simcat", "table", [archive.catalog], columns)
    killer = Killer(local)
    report = ingest(lake, profile, [archive.out / "frames"], local, progress=killer)
    assert killer.killed is not None
    with pytest.raises(ProcessLookupError):
        os.kill(killer.killed, 0)
    assert report.counts == {"ok": 12}
    assert checksums(lake, "frames", "sources") == checksums(ingested_once, "frames", "sources")


def allow_failures(number: int, dask_scheduler: Any) -> int:
    before: int = dask_scheduler.allowed_failures
    dask_scheduler.allowed_failures = number
    return before


@pytest.mark.slow
def test_a_task_that_kills_its_worker_is_its_own_result(local: Distributed) -> None:
    """Dask would try it on three more workers, and blame what waits for the same worker as well."""
    before = local.client.run_on_scheduler(allow_failures, 0)
    (result,) = local.run([dask.delayed(die)()])
    local.client.run_on_scheduler(allow_failures, before)
    assert type(result).__name__ == "KilledWorker"
    assert local.run(tasks_of(None, None, None)) == ["well"] * 3
