"""Processes to be killed: they start at once, from one that has imported everything, and die with all their kin."""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

#: What a command would import first; a kill is to hit the work, not the imports.
_PRELOADED = [
    "skylake.cli.main",
    "skylake.cli.nightly_command",
    "skylake.flow.catalogs.import_catalogs",
    "skylake.sky.join",
    "skylake.image.reduction.reduce_frame",
    "skylake.mirror.mirror_lake",
    "skylake.report.collect",
    "distributed",
    "lsdb",
    "duckdb",
    "sep",
    "psycopg",
    "astropy.io.fits",
]
_LONG_S = 400.0
_POLL_S = 0.0001
#: Workers that lost the process which leads them may go on for a moment.
_LATER_S = 0.5

Work = Callable[[], int]


def command(arguments: list[str]) -> int:
    """Run a command of skylake in this process; return its exit status."""
    from skylake.cli.main import main

    try:
        main(arguments)
    except SystemExit as end:
        return int(end.code or 0)


@functools.cache
def forks() -> ForkServerContext:
    """Return what makes processes that have imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


#: System calls that change what is on disk, or force it there.
_CALLS = "rename,renameat2,unlink,unlinkat,rmdir,mkdir,symlink,link,linkat,fsync,syncfs"


def _live(work: Work, log: str, ready: Connection) -> None:
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    ready.send(True)
    ready.recv()
    raise SystemExit(work())


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run went: its exit status, None if it was killed, how long it took, and what it said."""

    status: int | None
    seconds: float
    said: str


@dataclass(frozen=True, slots=True)
class Blow:
    """When to kill: so many seconds after the start or after the first change of what matches a pattern, or at a call.

    The pattern is of paths below the lake; an entry that comes or goes, or a link that moves, is a change. The call is
    a system call, and which one of its name.
    """

    seconds: float
    pattern: str | None = None
    call: tuple[str, int] | None = None


class Victim:
    """A process with a session of its own, that does some work on a lake."""

    def __init__(self, work: Work, log: Path, strace: list[str] | None = None) -> None:
        self._log = log
        log.unlink(missing_ok=True)
        mine, its = forks().Pipe()
        self._process: BaseProcess = forks().Process(target=_live, args=(work, str(log), its))
        self._process.start()
        its.close()
        with mine:
            if not mine.poll(_LONG_S):
                raise RuntimeError("the process did not start")
            mine.recv()
            self._watcher = None if strace is None else _watch(self.pid, strace)
            self.begin = time.perf_counter()
            mine.send(True)

    @property
    def pid(self) -> int:
        """Its number, and that of its session."""
        return int(self._process.pid or 0)

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    def wait(self) -> Ended:
        """Wait for its end."""
        self._process.join(_LONG_S)
        seconds = time.perf_counter() - self.begin
        self._unwatch()
        if self._process.exitcode is None:
            self.kill()
            raise RuntimeError(f"a run did not end within {_LONG_S:.0f} s: {self._said()}")
        return Ended(self._process.exitcode, seconds, self._said())

    def kill(self, alone: bool = False) -> bool:
        """Kill it and all its kin at once, or alone, and them a little later; tell whether it lived until then."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL) if alone else os.killpg(self.pid, signal.SIGKILL)
        self._process.join(_LONG_S)
        self._unwatch()
        lived = self._process.exitcode == -signal.SIGKILL
        time.sleep(_LATER_S if alone else 0.0)
        deadline = time.monotonic() + _LONG_S
        while kin := list(session(self.pid)):
            for one in kin:
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise RuntimeError(f"the processes {kin} do not die")
            time.sleep(0.01)
        return lived

    def strike(self, lake: Path, blow: Blow) -> bool:
        """Kill it at a moment; tell whether it lived until then."""
        if blow.call is not None:
            self._process.join(_LONG_S)
        elif blow.pattern is not None:
            before = _seen(lake, blow.pattern)
            while self.alive and _seen(lake, blow.pattern) == before:
                time.sleep(_POLL_S)
            time.sleep(blow.seconds)
        else:
            time.sleep(max(0.0, self.begin + blow.seconds - time.perf_counter()))
        return self.kill()

    def _unwatch(self) -> None:
        if self._watcher is not None:
            self._watcher.communicate(timeout=_LONG_S)

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace").strip() if self._log.exists() else ""


#: Names the file to which workers add a line for each frame that they begin to reduce.
COUNTED = "SKYLAKE_TRIAL_FRAMES"


def count_frames(file: Path) -> None:
    """Let the workers of all processes that are started from now on tell a file which frames they reduce."""
    os.environ[COUNTED] = str(file)
    os.environ["DASK_DISTRIBUTED__WORKER__PRELOAD"] = repr([__file__])


def dask_setup(worker: Any) -> None:
    """Be called by a worker of dask that begins, as its configuration asks."""
    from skylake.flow.ingest import frame_tasks

    reduce, descriptor = frame_tasks.reduce_frame, os.open(os.environ[COUNTED], os.O_WRONLY | os.O_APPEND)

    def counted(content: Any, *values: Any, **options: Any) -> Any:
        os.write(descriptor, f"{content.path}\n".encode())
        return reduce(content, *values, **options)

    frame_tasks.reduce_frame = counted


def _watch(process: int, options: list[str]) -> subprocess.Popen[str]:
    """Let strace follow a process, and wait until it does."""
    command = ["strace", "-f", "-e", f"trace={_CALLS}", *options, "-p", str(process)]
    watcher = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert watcher.stderr is not None
    line = watcher.stderr.readline()
    if "attached" not in line:
        raise RuntimeError(f"strace cannot follow a process: {line}")
    return watcher


@functools.cache
def can_follow() -> bool:
    """Tell whether strace is there and may follow processes."""
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode
        == 0
    )


def killing(call: tuple[str, int]) -> list[str]:
    """Return the options with which strace kills a process as it makes a system call for the so-many-th time."""
    return ["-o", "/dev/null", "-e", f"inject={call[0]}:signal=SIGKILL:when={call[1]}"]


def calls_of(work: Work, log: Path, lake: Path) -> dict[str, list[tuple[str, int]]]:
    """Let some work run to its end, and return its system calls, by the folder of the lake that they change.

    What lies in few files would hardly ever be hit otherwise.
    """
    trace = log.with_suffix(".trace")
    victim = Victim(work, log, ["-y", "-s", "0", "-o", str(trace)])
    victim.wait()
    counts: Counter[str] = Counter()
    found: dict[str, list[tuple[str, int]]] = {}
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(rf"{victim.pid} +(\w+)\((.*)", line)
        if match:
            counts[match[1]] += 1
            # Of a move, the folder that it ends in.
            folders = re.findall(re.escape(str(lake)) + r"/([\w.]+)", match[2])
            found.setdefault(folders[-1] if folders else "", []).append((match[1], counts[match[1]]))
    return found


def _seen(lake: Path, pattern: str) -> set[str]:
    """Return the entries that match a pattern below a folder, and where the links among them lead."""
    with suppress(OSError):
        found = list(lake.glob(pattern))
        return {f"{path} {path.readlink() if path.is_symlink() else ''}" for path in found}
    return set()


def session(leader: int) -> Iterator[int]:
    """Yield the living processes of a session."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in "ZX":
                yield int(path.parent.name)


def run(work: Work, log: Path) -> Ended:
    """Let some work run to its end."""
    return Victim(work, log).wait()


def kin_of(root: int) -> list[int]:
    """Return a process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found = [root]
    for one in found:
        found += children.get(one, [])
    return found
