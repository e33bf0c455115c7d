"""The data folder of an embedded PostgreSQL: created, started and stopped by PostgreSQL's programs.

There are no locks here; :mod:`skylake.mirror.embedded` lets one process at a time call this.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from skylake.durable import open_in_place
from skylake.errors import MirrorError
from skylake.inside import remove_tree
from skylake.mirror.binaries import Binaries
from skylake.mirror.identity import Identity, choose
from skylake.mirror.postmaster import PORT, Postmaster, end_servers_without_folder

USER = "skylake"
DATABASE = "postgres"

#: How long PostgreSQL may take to start or stop, in seconds.
WAIT_S = 60

_SOCKET_PREFIX = "skylake-postgres-"
_INITIALISING = "initialising-"
#: File in the data folder with the name of the file that the user who made it has beside their other ones.
_MARK = "skylake-mark"
_LOG_BYTES = 1_000_000

#: Longest path of a socket: 108 bytes on Linux and 104 elsewhere, with a zero at the end.
_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103

#: A list of folders in PostgreSQL's settings takes these for syntax.
_AWKWARD = re.compile(r"""[,"'\\\s]|^@""")

#: Small and quiet. A crash may lose the last transactions, but not the order: the next run copies them again.
#: Workers share memory through /dev/shm, which containers keep small, and the tables do not need them.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0600",
    "max_connections": "20",
    "shared_buffers": "32MB",
    "synchronous_commit": "off",
    "max_wal_size": "256MB",
    "max_parallel_workers": "0",
    "max_parallel_maintenance_workers": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_min_error_statement": "fatal",
}

_INITDB = (
    f"--username={USER}",
    "--auth-local=trust",
    "--auth-host=reject",
    "--locale=C",
    "--encoding=UTF8",
    "--wal-segsize=4",
    "--no-sync",
    "--no-instructions",
)

_ADVICE = {
    errno.ENOSPC: "free space on its disk",
    errno.EDQUOT: "free space in your quota",
    errno.EROFS: "put the lake on a disk that can be written",
    errno.EACCES: "run skylake as the user to whom it belongs",
    errno.EPERM: "run skylake as the user to whom it belongs",
}

#: Lines of a log with errors, and their prefix: time and process.
_WORST = re.compile("FATAL|PANIC|ERROR|error:")
_PREFIX = re.compile(r"^.*?\[\d+\] |^initdb: ")

_OR = "or give --to postgresql://… of another server"


def folder_fault(folder: Path, error: OSError) -> MirrorError:
    """Return the sentence for a folder that the system does not let us use."""
    advice = _ADVICE.get(error.errno or 0, "fix that")
    return MirrorError(
        f"the folder {folder} of the embedded PostgreSQL cannot be used "
        f"({error.strerror or error}: {error.filename or 'a file in it'}); {advice}, {_OR}"
    )


@dataclass(frozen=True)
class DataFolder:
    """The folder of a server and the programs that work on it.

    Attributes
    ----------
    folder : pathlib.Path
        Folder that holds the data folder, the log and the socket.
    binaries : Binaries
        The programs of PostgreSQL.
    """

    folder: Path
    binaries: Binaries

    @property
    def data(self) -> Path:
        """The data folder of PostgreSQL."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The file into which the server writes."""
        return self.folder / "log"

    @cached_property
    def identity(self) -> Identity:
        """The user as whom the programs run."""
        return choose(self.folder, self.binaries.program("postgres"))

    def postmaster(self) -> Postmaster | None:
        """Return the state file of the server; None if none has been started."""
        return Postmaster.read(self.data / "postmaster.pid")

    def require_own(self) -> None:
        """Require that an existing server was made in this place by the user as whom it will run.

        Whoever makes the data folder of a PostgreSQL can let it run any program, by a setting or by a trigger on a
        table. So can whoever changes a copy of it and gives it back.

        Raises
        ------
        MirrorError
            If it came with a lake of another user, or from another place.
        """
        if not self.data.exists() or self.identity.mode == "user":
            return
        mark = self.data / _MARK
        name = mark.read_text(encoding="ascii", errors="replace") if mark.is_file() else ""
        noted = _marks() / name
        if not (name.isalnum() and noted.is_file() and noted.read_bytes() == _note(self.data)):
            raise MirrorError(
                f"{self.folder}: nothing shows that you made this database here, and a database runs whatever its "
                f"maker likes; delete the folder, which is only a copy, and run the command again, {_OR}"
            )

    def prepare(self) -> None:
        """Clear up after a killed server or a killed start, and make the data folder where it is missing.

        Raises
        ------
        MirrorError
            If the data folder cannot be made, or another version of PostgreSQL made it.
        """
        end_servers_without_folder(self.data)
        for unfinished in self.folder.glob(f"{_INITIALISING}*"):
            remove_tree(unfinished, self.folder)
        self._clear_stale_postmaster()
        if not self.data.exists():
            self._initialise()
        version = self.data / "PG_VERSION"
        version_text = version.read_text(encoding="ascii").strip() if version.exists() else "unknown"
        if version_text != str(self.binaries.major):
            raise MirrorError(
                f"{self.data} was made by PostgreSQL of version {version_text}, and version {self.binaries.major} "
                f"is installed; delete {self.folder}, which is only a copy, and run the command again"
            )

    def launch(self, descriptor: int) -> None:
        """Start the server, which inherits the descriptor `descriptor`.

        Raises
        ------
        MirrorError
            If it does not start; the sentence ends with what its log says.
        """
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.unlink()
        socket_folder = self._make_socket_folder()
        settings = {**_SETTINGS, "unix_socket_directories": str(socket_folder)}
        options = " ".join(shlex.quote(f"--{name}={value}") for name, value in settings.items())
        self.identity.own(self.folder)
        complaint = self._control(["start", "-o", options], descriptor)
        if complaint is not None:
            self._control(["stop", "--mode=immediate"])
            remove_socket_folder(socket_folder)
            raise self._failure("does not start", complaint)

    def shut_down(self) -> None:
        """Stop the server, with its sessions.

        Raises
        ------
        MirrorError
            If it does not stop.
        """
        if self._control(["stop", "--mode=fast"]) is None:
            return
        complaint = self._control(["stop", "--mode=immediate"])
        if complaint is not None:
            raise self._failure("does not stop", complaint, "end its process")

    def _clear_stale_postmaster(self) -> None:
        """Remove the files of a server that was killed.

        PostgreSQL does so itself, but not where its number now belongs to another process of the same user,
        or to its own remains that nobody has waited for, as happens in containers.
        """
        postmaster = self.postmaster()
        if postmaster is not None:
            if self._is_home_of(postmaster.process):
                return
            remove_socket_folder(postmaster.socket_folder)
        for stale in (self.data / "postmaster.pid", *self.folder.glob(".s.PGSQL.*")):
            stale.unlink(missing_ok=True)

    def _is_home_of(self, process: int) -> bool:
        """Return whether a process works in the data folder; where the system does not say, it may."""
        try:
            return Path(f"/proc/{process}/cwd").samefile(self.data)
        except OSError:
            return not Path("/proc/self/cwd").exists()

    def _initialise(self) -> None:
        """Make the data folder beside its place and rename it, so that it is never there half-made."""
        name = _new_mark(self.data)
        fresh = Path(tempfile.mkdtemp(prefix=_INITIALISING, dir=self.folder))
        self.identity.own(self.folder)
        arguments = [self.binaries.program("initdb"), f"--pgdata={fresh}", *_INITDB]
        made = subprocess.run(
            self.identity.command(self.folder, arguments),
            env=self._environment(),
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if made.returncode != 0:
            shutil.rmtree(fresh)
            raise self._failure("cannot be set up", made.stderr.splitlines())
        (fresh / _MARK).write_text(name, encoding="ascii")
        self.identity.own(fresh)
        fresh.rename(self.data)

    def _make_socket_folder(self) -> Path:
        if _socket_fits(self.folder):
            return self.folder
        for parent in (tempfile.gettempdir(), "/tmp"):
            path = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir=parent))
            if _socket_fits(path):
                self.identity.own(path)
                return path
            path.rmdir()
        raise MirrorError(
            f"the path of {self.folder} is too long for the socket of PostgreSQL, and so is that of "
            f"{tempfile.gettempdir()}; set TMPDIR to a shorter one, {_OR}"
        )

    def _environment(self) -> dict[str, str]:
        foreign = ("PG", "LC_", "LANG")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**inherited, "LC_ALL": "C", "PGDATA": str(self.data)}

    def _control(self, arguments: Sequence[str], *descriptors: int) -> list[str] | None:
        """Run pg_ctl, which writes to the log as its server does; return what they wrote if it fails."""
        tool = [self.binaries.program("pg_ctl"), "--silent", "--wait", f"--timeout={WAIT_S}", *arguments]
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        with os.fdopen(open_in_place(self.log, flags), "a+b") as log:
            begin = log.seek(0, os.SEEK_END)
            done = subprocess.run(
                self.identity.command(self.folder, tool),
                env=self._environment(),
                check=False,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            log.seek(begin)
            return None if done.returncode == 0 else log.read().decode(errors="replace").splitlines()

    def _failure(self, what: str, lines: Sequence[str], otherwise: str | None = None) -> MirrorError:
        """Return the sentence for a program that failed, with the worst line of its output."""
        worst = [line for line in lines if _WORST.search(line)] or [line for line in lines if line.strip()]
        text = " / ".join(_PREFIX.sub("", line).strip() for line in worst[-4:]) or "it says nothing"
        known = (
            advice for code, advice in _ADVICE.items() if any(os.strerror(code) in line for line in lines)
        )
        otherwise = otherwise or f"delete {self.folder}, which is only a copy, and run the command again"
        advice = next(known, otherwise)
        return MirrorError(f"the embedded PostgreSQL in {self.folder} {what} ({text}); {advice}, {_OR}")


def _marks() -> Path:
    """Return the folder in which users note the servers that they have made."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "skylake" / "servers"


def _note(data: Path) -> bytes:
    """Return the note of the user about a server: the resolved path where it was made."""
    return os.fsencode(data.resolve()) + b"\n"


def _new_mark(data: Path) -> str:
    """Note a server that is about to be made, under a name that nobody can guess."""
    marks, name = _marks(), secrets.token_hex(16)
    try:
        marks.mkdir(mode=0o700, parents=True, exist_ok=True)
        (marks / name).write_bytes(_note(data))
    except OSError as error:
        raise MirrorError(
            f"{marks}: the server cannot be noted ({error.strerror}); set XDG_STATE_HOME to a folder of yours, {_OR}"
        ) from error
    return name


def remove_socket_folder(path: Path | None) -> None:
    """Remove the folder of a socket if it was made for that alone."""
    parents = (Path(tempfile.gettempdir()), Path("/tmp"))
    if path is not None and path.name.startswith(_SOCKET_PREFIX) and path.parent in parents:
        shutil.rmtree(path, ignore_errors=True)


def _socket_fits(folder: Path) -> bool:
    path = str(folder / f".s.PGSQL.{PORT}")
    return len(os.fsencode(path)) <= _SOCKET_PATH_BYTES and not _AWKWARD.search(str(folder))
