"""The scheduler, workers and nannies that a run starts on this machine.

They differ from those of dask in two ways: they serve no HTTP, which dask does not protect with certificates; and a
worker that is killed while it starts is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from distributed import Nanny, Scheduler, Status, Worker

#: Times in a row that a worker may be killed while it starts.
STARTS = 3


class ClosedScheduler(Scheduler):  # type: ignore[misc]
    """A scheduler without HTTP."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "dashboard": False})

    def start_http_server(self, *arguments: Any, **options: Any) -> None:
        """Serve nothing."""


class ClosedWorker(Worker):  # type: ignore[misc]
    """A worker without HTTP."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{**options, "dashboard": False})

    def start_http_server(self, *arguments: Any, **options: Any) -> None:
        """Serve nothing."""


class PatientNanny(Nanny):  # type: ignore[misc]
    """Starts a worker again, also one that is killed before it is up, a few times in a row.

    Parameters
    ----------
    *arguments
        Those of a nanny.
    on_failure : callable
        Called when a worker that was up cannot be brought up again.
    **options
        Those of a nanny.
    """

    def __init__(self, *arguments: Any, on_failure: Callable[[], None], **options: Any) -> None:
        super().__init__(*arguments, worker_class=ClosedWorker, **options)
        self._on_failure = on_failure
        self._turn = asyncio.Lock()
        self._n_killed = 0

    async def instantiate(self) -> Status:
        """Start the worker; see :class:`Nanny`."""
        # Each death calls this again, also that of a worker which is being started.
        async with self._turn:
            while self._n_killed < STARTS:
                status = await super().instantiate()
                if status == Status.running:
                    self._n_killed = 0
                    return status
                self._n_killed += 1
                if self._n_killed == STARTS and self.status == Status.running:
                    self._on_failure()
        raise RuntimeError(f"a worker process ended {STARTS} times in a row while it started")
