"""A PostgreSQL server of our own inside a folder, without root, without a TCP port, without configuration.

::

    postgres/                  mode 0700; delete it at any time, it is only a copy
        data/                  the data folder of PostgreSQL
        .s.PGSQL.5432          its socket, unless the path is too long
        log                    what the server says
        start.lock             held while someone starts or stops the server
        users.lock             shared by the processes that use the server
        server.lock            inherited, and so held, by the server as long as it lives
        stop-when-unused       the last process that used the server stops it
        stopping               someone has begun to stop it
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from skylake import logs
from skylake.errors import MirrorError
from skylake.mirror.binaries import bundled, inspect
from skylake.mirror.data_folder import (
    DATABASE,
    USER,
    WAIT_S,
    DataFolder,
    folder_fault,
    remove_socket_folder,
)
from skylake.mirror.locks import FileLock, is_held
from skylake.mirror.postmaster import PORT, Postmaster

_LOG = logs.get(__name__)


class EmbeddedServer:
    """A PostgreSQL server inside a folder, started when needed.

    Any number of processes of one user may use it at once: the first starts it, the last that leaves stops
    it, unless it was asked to keep running or was not started by skylake.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the server, conventionally ``LAKE/postgres``; its parent must exist.
    keep_running : bool
        Leave the server up on leaving the context; :meth:`stop`, in any process, ends it.
    binaries : pathlib.Path or None
        Folder of PostgreSQL's programs; None takes those that pip brings.

    Examples
    --------
    >>> with EmbeddedServer(lake / "postgres") as server:  # doctest: +SKIP
    ...     Mirror(server.url).prepare()
    """

    def __init__(self, folder: Path, *, keep_running: bool = False, binaries: Path | None = None) -> None:
        self.folder = Path(folder).absolute()
        self.keep_running = keep_running
        self._binaries = binaries
        self._start_lock = FileLock(self.folder / "start.lock")
        self._users_lock = FileLock(self.folder / "users.lock")
        self._server_lock = FileLock(self.folder / "server.lock")
        self._stop_when_unused = self.folder / "stop-when-unused"
        self._stopping = self.folder / "stopping"

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def running(self) -> bool:
        """Whether the server is up and takes connections."""
        postmaster = self._postmaster()
        return postmaster is not None and postmaster.answers()

    @property
    def url(self) -> str:
        """URL of the running server for SQLAlchemy; raises as :attr:`libpq_url` does."""
        return self.libpq_url.replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def libpq_url(self) -> str:
        """URL of the running server for psql and other clients of libpq.

        Raises
        ------
        MirrorError
            If the server does not run.
        """
        postmaster = self._postmaster()
        if postmaster is None or postmaster.socket_folder is None:
            raise MirrorError(f"the embedded PostgreSQL in {self.folder} does not run; start it")
        host = quote(str(postmaster.socket_folder), safe="/")
        return f"postgresql://{USER}@/{DATABASE}?host={host}&port={PORT}"

    @property
    def psql_command(self) -> str:
        """The command line that opens psql on the running server."""
        return shlex.join([self._data_folder.binaries.program("psql"), self.libpq_url])

    def start(self) -> str:
        """Start the server unless it runs, and return :attr:`url`.

        Raises
        ------
        MirrorError
            If the folder cannot be used, another user or another version of PostgreSQL made it, or the server does
            not start.
        """
        with self._folder_faults():
            self.folder.mkdir(mode=0o700, exist_ok=True)
            if self.folder.stat().st_mode & 0o077:
                self.folder.chmod(0o700)
            with self._start_lock.exclusive():
                self._data_folder.require_own()
                if self._stopping.exists():
                    # A killed process may have asked the server to stop, which then still answers for a moment.
                    self._stop()
                if not self._is_up():
                    self._launch()
                if self.keep_running:
                    self._stop_when_unused.unlink(missing_ok=True)
                self._users_lock.acquire(shared=True)
        return self.url

    def release(self) -> None:
        """Stop using the server; the last process that does so stops it if skylake started it for that.

        Raises
        ------
        MirrorError
            If the server does not stop.
        """
        if not self._users_lock.held:
            return
        with self._folder_faults(), self._start_lock.exclusive():
            last = self._users_lock.acquire(wait=False)
            self._users_lock.release()
            if last and self._stop_when_unused.exists():
                self._stop()

    def stop(self) -> None:
        """Stop the server, whoever started or uses it; do nothing if none runs.

        Raises
        ------
        MirrorError
            If the server does not stop, or another user made it.
        """
        if not self.folder.is_dir():
            return
        with self._folder_faults(), self._start_lock.exclusive():
            self._data_folder.require_own()
            self._users_lock.release()
            self._stop()

    @contextmanager
    def _folder_faults(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise folder_fault(self.folder, error) from error

    @cached_property
    def _data_folder(self) -> DataFolder:
        return DataFolder(self.folder, inspect(self._binaries) if self._binaries else bundled())

    def _postmaster(self) -> Postmaster | None:
        with self._folder_faults():
            return self._data_folder.postmaster()

    def _is_up(self) -> bool:
        """Return whether the server runs, after waiting for one that is just starting or ending."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            if self.running:
                return True
            if not is_held(self._server_lock.path):
                return False
            time.sleep(0.05)
        raise MirrorError(
            f"a server holds {self.folder} but does not answer, so it may run on another machine or in "
            f"another container; stop it there, or delete {self.folder}, which is only a copy"
        )

    def _launch(self) -> None:
        begin = time.perf_counter()
        self._data_folder.prepare()
        self._server_lock.acquire()
        # Before it starts: a process killed in between would leave a server that no other one stops.
        self._stop_when_unused.touch(mode=0o600)
        with ExitStack() as failed:
            failed.callback(self._stop_when_unused.unlink, missing_ok=True)
            try:
                self._data_folder.launch(self._server_lock.fileno())
            finally:
                self._server_lock.abandon()
            failed.pop_all()
        _LOG.info("PostgreSQL in %s started in %.2f s", self.folder, time.perf_counter() - begin)

    def _stop(self) -> None:
        postmaster = self._postmaster()
        if postmaster is not None and (postmaster.answers() or is_held(self._server_lock.path)):
            self._stopping.touch(mode=0o600)
            try:
                self._data_folder.shut_down()
            except MirrorError:
                # It may have ended by itself in the meantime.
                if self._is_up():
                    raise
        if postmaster is not None:
            remove_socket_folder(postmaster.socket_folder)
        self._stop_when_unused.unlink(missing_ok=True)
        self._stopping.unlink(missing_ok=True)
