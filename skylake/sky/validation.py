"""Validate a catalog with the hats package."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pyarrow as pa


class _WarningCollector(logging.Handler):
    """Collects what is logged as a warning or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(" ".join(record.getMessage().split()))


def validate(root: Path) -> str | None:
    """Ask ``hats.io.validation.is_valid_catalog`` strictly about a catalog or collection.

    Returns
    -------
    str or None
        What it complains of; None for a valid catalog.
    """
    from hats.io.validation import is_valid_catalog

    # hats says why in the log of the root, where nobody else should see it.
    logger, complaints = logging.getLogger(), _WarningCollector()
    held, logger.handlers = logger.handlers, [complaints]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_valid = is_valid_catalog(root, strict=True)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError, pa.ArrowException) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        logger.handlers = held
    return None if is_valid else "; ".join(complaints.texts) or "it is not valid"
