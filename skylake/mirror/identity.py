"""The user as whom the programs of PostgreSQL run, since they refuse to run as root.

The order of choice, the first that can reach the programs and the folder as permissions stand::

    not root                              the caller
    root, the folder belongs to a user    that user
    root                                  root outside, an ordinary user inside a user namespace
    root, namespaces are forbidden        the user postgres or nobody

The permissions of a parent folder are never changed; only the folder of the server itself changes its owner.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from skylake.errors import MirrorError

_SCRIPT = Path(__file__).with_name("demote.py")
_INSIDE = ("postgres", "nobody", "daemon")
_FALLBACK = ("postgres", "nobody")
_ADVICE = "run skylake as an ordinary user, or give --to postgresql://… of another server"


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a program runs.

    Attributes
    ----------
    mode : {'caller', 'namespace', 'user'}
        As the caller, as the caller with the identity `uid` in a user namespace, or as the user `uid`.
    uid, gid : int
        The user and group that the program sees.
    """

    mode: Literal["caller", "namespace", "user"]
    uid: int
    gid: int

    def command(self, folder: Path, arguments: Sequence[str]) -> list[str]:
        """Return the command that runs a program in `folder` under this identity."""
        if self.mode == "caller":
            return list(arguments)
        script = [sys.executable, "-I", "-S", str(_SCRIPT)]
        return [*script, self.mode, str(self.uid), str(self.gid), str(folder), *arguments]

    def own(self, folder: Path) -> None:
        """Give `folder` and all in it to the identity, where root holds it for another.

        The folder itself comes last, so that its owner shows whether all below it has been changed.
        """
        if os.geteuid() != 0:
            return
        uid, gid = (self.uid, self.gid) if self.mode == "user" else (os.geteuid(), os.getegid())
        moved = folder.stat().st_uid != uid
        for path in (*(folder.rglob("*") if moved else folder.iterdir()), folder):
            if path.lstat().st_uid != uid:
                os.chown(path, uid, gid, follow_symlinks=False)


def choose(folder: Path, program: str) -> Identity:
    """Return the identity under which `program` can work in `folder`.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the server; it need not exist, but its parent must.
    program : str
        A program of PostgreSQL, run with ``--version`` as a trial.

    Raises
    ------
    MirrorError
        If there is none.
    """
    uid = os.geteuid()
    if uid != 0 and _has_name(uid):
        return Identity("caller", uid, os.getegid())
    refusals = []
    for identity, name in _candidates(folder):
        refusal = _refusal(identity, folder.parent, program)
        if refusal is None:
            return identity
        refusals.append(f"as {name}: {refusal}")
    raise MirrorError(
        f"PostgreSQL runs neither as root nor as a user without a name, and cannot run in {folder} otherwise "
        f"({'; '.join(refusals) or 'there is no user postgres or nobody'}); {_ADVICE}"
    )


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _users(names: Sequence[str]) -> list[pwd.struct_passwd]:
    return [entry for entry in pwd.getpwall() if entry.pw_name in names and entry.pw_uid != 0]


def _candidates(folder: Path) -> Iterator[tuple[Identity, str]]:
    fallback = sorted(_users(_FALLBACK), key=lambda entry: _FALLBACK.index(entry.pw_name))
    if os.geteuid() == 0 and folder.exists() and (owner := folder.stat()).st_uid != 0:
        yield Identity("user", owner.st_uid, owner.st_gid), f"its owner, the user {owner.st_uid}"
        if owner.st_uid not in {entry.pw_uid for entry in fallback}:
            return
    inside = sorted(_users(_INSIDE), key=lambda entry: _INSIDE.index(entry.pw_name))
    for entry in inside[:1]:
        yield Identity("namespace", entry.pw_uid, entry.pw_gid), "root in a user namespace"
    if os.geteuid() == 0:
        for entry in fallback:
            yield Identity("user", entry.pw_uid, entry.pw_gid), f"the user {entry.pw_name}"


def _refusal(identity: Identity, folder: Path, program: str) -> str | None:
    """Try a program; return None if it runs and enters the folder, else why not."""
    command = identity.command(folder, [program, "--version"])
    try:
        trial = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if trial.returncode == 0 else " ".join(trial.stderr.split()) or f"status {trial.returncode}"
