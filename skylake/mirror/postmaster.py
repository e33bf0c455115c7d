"""The state of a PostgreSQL server, from its folder and its socket."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: The number in the name of the socket; nothing listens on the TCP port of this number.
PORT = 5432

#: The shortest question of the protocol, "do you speak SSL?": its length and its code.
_SSL_REQUEST = struct.pack(">ii", 8, 80877103)
_ANSWER_S = 5

#: How long a server may take to end at once, in seconds; after that it is killed.
_END_S = 5.0


@dataclass(frozen=True, slots=True)
class Postmaster:
    """The content of ``postmaster.pid``, which a server writes.

    Attributes
    ----------
    process : int
        Number of its process.
    socket_folder : pathlib.Path or None
        Folder of its socket, once it has one.
    ready : bool
        Whether it says that it takes connections.
    """

    process: int
    socket_folder: Path | None
    ready: bool

    @classmethod
    def read(cls, path: Path) -> Postmaster | None:
        """Read the file; None where there is none."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return None
        lines += [""] * (8 - len(lines))
        process = int(lines[0]) if lines[0].strip().isdigit() else 0
        return cls(process, Path(lines[4]) if lines[4] else None, lines[7].strip() == "ready")

    def answers(self) -> bool:
        """Return whether a server answers on the socket; one that is being killed still accepts connections."""
        if not self.ready or self.socket_folder is None:
            return False
        with socket.socket(socket.AF_UNIX) as trial, suppress(OSError):
            trial.settimeout(_ANSWER_S)
            trial.connect(str(self.socket_folder / f".s.PGSQL.{PORT}"))
            trial.sendall(_SSL_REQUEST)
            return trial.recv(1) != b""
        return False


def end_servers_without_folder(data: Path) -> None:
    """End the servers that still run in a data folder which was deleted.

    Such a server finds out within a minute and ends by itself, but removes its socket by its path then, which may be
    that of a server that was started in the same place since. Only where ``/proc`` says so; elsewhere nothing
    happens.

    Parameters
    ----------
    data : pathlib.Path
        Where the data folder was.
    """
    for number, last in ((signal.SIGQUIT, False), (signal.SIGKILL, True)):
        deadline = time.monotonic() + _END_S
        for process in _without_folder(data):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, number)
        while _without_folder(data) and time.monotonic() < deadline and not last:
            time.sleep(0.01)


def _without_folder(data: Path) -> list[int]:
    """Return the processes at work in a folder that is gone, without those that another of them has started."""
    gone = f"{os.path.realpath(data)} (deleted)"
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if str(path.readlink()) == gone:
                stat = (path.parent / "stat").read_text(encoding="ascii", errors="replace")
                state, parent = stat.rpartition(")")[2].split()[:2]
                if state not in "ZX":
                    parents[int(path.parent.name)] = int(parent)
    return [process for process, parent in parents.items() if parent not in parents]
