"""Which code runs: the version, and the commit where it runs from a checkout."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

VERSION = "0.1.0"
_COMMIT = re.compile(r"[0-9a-f]{40,64}\Z")
#: Digits of a commit in a version; as many as git shows.
_DIGITS = 7


@cache
def code_version() -> str:
    """Return the version of skylake, as ``0.1.0+g1a2b3c4`` where the code is a git checkout.

    A wheel has the plain version. Changes that are not committed do not show in the version.
    """
    commit = checked_out(Path(__file__).parents[1])
    return f"{VERSION}+g{commit[:_DIGITS]}" if commit else VERSION


def checked_out(root: Path) -> str | None:
    """Return the commit that a folder has checked out; None if it is no checkout of its own."""
    try:
        folder = _git_folder(root / ".git")
        head = _line(folder / "HEAD")
        found = _resolve(folder, head.removeprefix("ref: ")) if head.startswith("ref: ") else head
    except (OSError, UnicodeDecodeError):
        return None
    return found if found and _COMMIT.match(found) else None


def _git_folder(path: Path) -> Path:
    """Return the folder of git; in a work tree beside others a file leads there."""
    return path if path.is_dir() else path.parent / _line(path).removeprefix("gitdir: ")


def _resolve(folder: Path, name: str) -> str | None:
    """Return the commit of a branch, which lies in a file of its own or in a list of all."""
    shared = folder / "commondir"
    folders = [folder, folder / _line(shared)] if shared.is_file() else [folder]
    for place in folders:
        if (place / name).is_file():
            return _line(place / name)
    for place in folders:
        packed = place / "packed-refs"
        lines = packed.read_text(encoding="utf-8").splitlines() if packed.is_file() else []
        for line in lines:
            commit, _, branch = line.partition(" ")
            if branch == name:
                return commit
    return None


def _line(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
