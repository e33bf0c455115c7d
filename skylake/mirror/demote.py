"""Run one command as an ordinary user; a script that root starts, not a module to import.

PostgreSQL refuses to run as root. ``python demote.py MODE UID GID FOLDER COMMAND…`` gives up root, enters
FOLDER and becomes COMMAND. MODE is

``namespace``
    enter a new user namespace in which the caller, root or a user without a name, is the user UID. Files keep
    their owner, and the system outside does not change;
``user``
    become the user UID for good.

It runs in a process of its own, because a namespace can only be entered by a process with one thread, and
without imports of skylake, so that it starts in some 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000

#: Exit status that says: the command was not started.
REFUSED = 120


def _enter_namespace(uid: int, gid: int) -> None:
    outside_uid, outside_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        raise OSError("this system has no user namespaces")
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(f"user namespaces are forbidden here ({os.strerror(ctypes.get_errno())})")
    # The kernel takes a map of groups from an ordinary user only once setgroups is given up.
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{uid} {outside_uid} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{gid} {outside_gid} 1", encoding="ascii")


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main(arguments: list[str]) -> int:
    """Give up root and become the command; return only where that fails."""
    mode, uid, gid, folder, *command = arguments
    try:
        (_enter_namespace if mode == "namespace" else _become)(int(uid), int(gid))
        os.chdir(folder)
        os.execv(command[0], command)
    except OSError as error:
        sys.stderr.write(f"{error}\n")
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
