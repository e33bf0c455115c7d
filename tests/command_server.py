"""Runs commands of skylake, each in a forked process of an interpreter that has imported what they use.

A line of JSON on standard input names the arguments, the folder, the environment and the files for standard output
and standard error; the line that is answered is the exit status. What a command sees is what it sees in an
interpreter of its own; only the second that importing takes is spent once.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

#: What nearly all commands import. None of it starts a thread that would not survive a fork.
IMPORTED = [
    "skylake.cli.main",
    "skylake.flow.aggregates",
    "skylake.flow.zeropoints.calibrate_nights",
    "skylake.flow.catalogs.import_catalogs",
    "skylake.flow.ingest.multi_detector",
    "skylake.flow.maintenance.verify_lake",
    "skylake.lake",
    "skylake.lake.access.open_table",
    "skylake.report.style",
    "skylake.simulate",
    "astropy.wcs",
    "duckdb",
    "pyarrow.dataset",
]

#: Threads that begin anew in a forked process: the memory of Arrow is given back by one.
HEIRS = {"jemalloc_bg_thd"}
#: Seconds after which a command is ended.
PATIENCE = 300


def main() -> None:
    """Answer until standard input ends; in a forked process, return with the command that it is to run."""
    for name in IMPORTED:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        threads = [(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]
        assert len(set(threads) - HEIRS) == 1, threads
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            answers.close()
            become(wanted)
            return
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(status, file=answers, flush=True)
    os._exit(0)


def become(wanted: dict[str, Any]) -> None:
    """Take the folder, the environment, the streams and the arguments of a command."""
    for descriptor, path in enumerate((os.devnull, wanted["out"], wanted["err"])):
        opened = os.open(path, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = ["skylake", *wanted["words"]]
    signal.alarm(PATIENCE)


def run() -> int:
    """Run the command of the arguments; return its exit status."""
    from skylake.cli.main import main as command_line

    try:
        command_line()
    except SystemExit as end:
        assert end.code is None or isinstance(end.code, int), end.code
        return end.code or 0
    return 0


if __name__ == "__main__":
    main()
    status = run()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # Libraries that were loaded before the fork would end threads that are not theirs, now and then by an abort.
    os._exit(status)
