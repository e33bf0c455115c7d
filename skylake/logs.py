"""Logging: one line per event on standard error, quiet third parties."""

from __future__ import annotations

import logging
import sys

_NOISY = ("distributed", "tornado", "asyncio", "matplotlib", "hats", "lsdb", "fsspec", "numba", "root")


def configure(verbosity: int = 0) -> None:
    """Send the records of skylake to standard error.

    Parameters
    ----------
    verbosity : int
        0 shows warnings, 1 adds one line per step, 2 adds debugging.
    """
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("skylake")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
    # Warnings of libraries mean nothing to those who use a command: with -vv they are shown.
    logging.captureWarnings(True)
    raw = logging.getLogger("py.warnings")
    raw.handlers[:], raw.propagate = [handler], False
    raw.setLevel(logging.WARNING if verbosity >= 2 else logging.ERROR)
    for name in _NOISY:
        logging.getLogger(None if name == "root" else name).setLevel(logging.ERROR)


def get(name: str) -> logging.Logger:
    """Return the logger of a module, below the ``skylake`` logger."""
    return logging.getLogger(name if name.startswith("skylake") else f"skylake.{name}")
