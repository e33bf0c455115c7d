"""Write pictures of the page, only where their content has changed.

A picture holds the digest of its values, the version of the code, and the code that draws. A whole file with the same
digest is kept, so that a night without frames costs no drawing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skylake.report.style import save
from skylake.revision import code_version

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The keyword of the digest in a PNG file, and how such a file begins and ends.
_KEYWORD = "Drawn of"
_BEGIN, _END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True, slots=True)
class PagePicture:
    """A picture of the page: its file beside the page, and what it shows."""

    file: str
    caption: str


def draw(folder: Path, file: str, caption: str, plot: Callable[..., Figure], *shown: Any) -> PagePicture:
    """Write a picture, unless the file already shows the same.

    Parameters
    ----------
    folder : Path
    file : str
        Name of a PNG file.
    caption : str
    plot : callable
        Makes the figure of `shown`.
    *shown
        Arrays, numbers, texts, and lists and dicts of them.

    Returns
    -------
    PagePicture

    Raises
    ------
    OSError
        If the file can be neither read nor written.
    """
    digest = _digest(plot, shown)
    if not _is_there(folder / file, digest):
        save(plot(*shown), folder / file, {_KEYWORD: digest})
    return PagePicture(file, caption)


def _digest(plot: Callable[..., Figure], shown: tuple[Any, ...]) -> str:
    content = hashlib.sha256(
        f"{code_version()} {code_of(Path(__file__).parent)} {plot.__module__}.{plot.__qualname__}".encode()
    )
    for value in shown:
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            content.update(f" {value.dtype.str} {value.shape} ".encode())
            content.update(value.tobytes())
        else:
            content.update(f" {value.tolist() if isinstance(value, np.ndarray) else value!r} ".encode())
    return content.hexdigest()


@cache
def code_of(folder: Path) -> str:
    """Return the digest of the modules in a folder, as they are, and of the version of matplotlib."""
    content = hashlib.sha256(version("matplotlib").encode())
    for path in sorted(folder.glob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()


def _is_there(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    content = path.read_bytes()
    return (
        content.startswith(_BEGIN)
        and content.endswith(_END)
        and f"tEXt{_KEYWORD}\0{digest}".encode() in content
    )
