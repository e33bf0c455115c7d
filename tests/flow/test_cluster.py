from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pyarrow as pa
import pytest

from skylake.errors import LakeError, UsageError, WorkerError
from skylake.flow import cluster
from skylake.flow.aggregate import aggregate
from skylake.flow.calibrate import calibrate
from skylake.flow.catalogs import import_catalog
from skylake.flow.cluster import Distributed, Inline, workers
from skylake.flow.gather import for_tasks
from skylake.flow.ingest import ingest
from skylake.flow.progress import Silent
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
def test_a_task_that_fails_gives_its_error_and_the_others_their_results(error: BaseException) -> None:
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
    with pytest.raises(UsageError, match="use inline, local, slurm or tcp://host:port"), workers(where, 1):
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


def test_local_workers_are_started_by_the_first_task() -> None:
    """A run that finds nothing to do does not wait for them."""
    with workers("local", 1) as pool:
        before = children()
        assert (pool.count, pool.run([])) == (1, [])
        assert children() == before
        (worker,) = pool.run([dask.delayed(os.getpid)()])
        assert worker in children() - before
    assert worker not in children()


def test_an_interrupt_while_workers_start_comes_when_they_have() -> None:
    """Another thread may be the one that the system gives it to."""
    idle = threading.Event()
    other = threading.Thread(target=idle.wait)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt), cluster._interrupts_held() as heard:
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


def test_the_two_tasks_of_a_night_that_comes_alone_go_to_two_workers(local: Distributed) -> None:
    tree, task = for_tasks(PixelTree.uniform(1)), dask.delayed(place_of, pure=False)
    # From the second time on it is known how long they take.
    for _ in range(4):
        assert len(set(local.run([task(tree), task(tree)]))) == 2


def test_results_come_in_the_order_of_the_tasks_and_news_once_each(local: Distributed) -> None:
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


def test_a_scheduler_is_joined_by_its_address(local: Distributed) -> None:
    with workers(local.client.scheduler.address, 0) as joined:
        assert joined.count == 2
        assert joined.run(tasks_of(None)) == ["well"]
    assert local.run(tasks_of(None)) == ["well"], "who joins does not shut down"


def test_an_address_where_no_scheduler_can_be_is_an_error() -> None:
    with (
        pytest.raises(WorkerError, match="nonsense://here:1: no dask scheduler"),
        workers("nonsense://here:1", 0),
    ):
        pass


def test_two_clusters_live_beside_each_other(local: Distributed) -> None:
    """None of them insists on a port that another one has."""
    with workers("local", 1) as another:
        assert another.run(tasks_of(None)) == local.run(tasks_of(None)) == ["well"]


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


def test_a_task_that_kills_its_worker_gives_that_as_its_result_and_work_goes_on(local: Distributed) -> None:
    """Dask would try it on three more workers, and blame what waits for the same worker as well."""
    before = local.client.run_on_scheduler(allow_failures, 0)
    (result,) = local.run([dask.delayed(die)()])
    local.client.run_on_scheduler(allow_failures, before)
    assert type(result).__name__ == "KilledWorker"
    assert local.run(tasks_of(None, None, None)) == ["well"] * 3
