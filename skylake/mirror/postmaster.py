"""What a PostgreSQL server tells of itself, in its folder and on its socket."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

#: The number in the name of the socket; nothing listens on the TCP port of this number.
PORT = 5432

#: The shortest question of the protocol, "do you speak SSL?": its length and its code.
_SSL_REQUEST = struct.pack(">ii", 8, 80877103)
_ANSWER_S = 5


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a server writes into ``postmaster.pid``.

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
        """Tell whether a server answers on the socket; one that is being killed still accepts connections."""
        if not self.ready or self.socket_folder is None:
            return False
        with socket.socket(socket.AF_UNIX) as trial, suppress(OSError):
            trial.settimeout(_ANSWER_S)
            trial.connect(str(self.socket_folder / f".s.PGSQL.{PORT}"))
            trial.sendall(_SSL_REQUEST)
            return trial.recv(1) != b""
        return False
