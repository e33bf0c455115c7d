"""Lakes as somebody hostile would leave them: each attack changes a copy of a lake, and names the place it is after.

The victim's home holds a key and documents. An attack aims at them by a link, by a name in a table or JSON file, or
by an address that leads to a server of the attacker.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

#: What the key of the victim says; it may turn up nowhere else.
SECRET = "the key of the victim, 4d1f0c"


@dataclass(frozen=True, slots=True)
class Victim:
    """Whose files an attack is after.

    Attributes
    ----------
    home : Path
        Home of the user who runs skylake.
    port : int
        Port on this machine where the attacker listens.
    """

    home: Path
    port: int

    @property
    def key(self) -> Path:
        """A secret file."""
        return self.home / "keys" / "id_ed25519"

    @property
    def documents(self) -> Path:
        """A folder whose files may neither go nor change."""
        return self.home / "documents"


def make_home(home: Path) -> None:
    """Fill the home of a victim."""
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "id_ed25519").write_text(SECRET)
    (home / ".bashrc").write_text("# settings of the shell\n")
    (home / "documents" / "000001").mkdir(parents=True)
    for name in ("thesis.txt", "000001/part.parquet", "sim.json", "evil.json", "plan.toml"):
        (home / "documents" / name).write_text(SECRET)


Attack = Callable[[Path, Victim], None]


def link(inside: str, aim: str = "documents") -> Attack:
    """Put a link to the victim's documents, or to a file, in a place of the lake."""

    def attack(lake: Path, victim: Victim) -> None:
        path = lake / inside
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(victim.home / aim)

    return attack


def fifo(inside: str) -> Attack:
    """Put a named pipe, which a reader would wait for, in the place of a file."""

    def attack(lake: Path, victim: Victim) -> None:
        path = lake / inside
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(path)

    return attack


def catalog_address(address: str) -> Attack:
    """Let the catalog in place lead to an address."""

    def attack(lake: Path, victim: Victim) -> None:
        for path in (lake / "catalogs").glob("*/source.json"):
            source = json.loads(path.read_text())
            source["address"] = address.format(port=victim.port, home=victim.home)
            path.unlink()
            path.write_text(json.dumps(source))

    return attack


def setting(line: str) -> Attack:
    """Put a line at the top of the settings of the lake."""

    def attack(lake: Path, victim: Victim) -> None:
        path = lake / "skylake.toml"
        text = line.format(port=victim.port, home=victim.home) + "\n" + path.read_text()
        path.unlink()
        path.write_text(text)

    return attack


def master_file(name: str) -> Attack:
    """Let every master of the library be a file of another name."""

    def attack(lake: Path, victim: Victim) -> None:
        for path in (lake / "current" / "masters" / "dataset").rglob("*.parquet"):
            table = pq.read_table(path)
            names = [name.format(home=victim.home)] * len(table)
            index = table.schema.get_field_index("file")
            hostile = table.set_column(index, table.schema.field(index), pa.array(names))
            path.unlink()
            pq.write_table(hostile, path)

    return attack


def watch_list_name(name: str) -> Attack:
    """Give the watch list another name inside than outside."""

    def attack(lake: Path, victim: Victim) -> None:
        for path in (lake / "_watch").glob("*.json"):
            values = json.loads(path.read_text())
            if "places" in values:
                values["name"] = name.format(home=victim.home)
                path.unlink()
                path.write_text(json.dumps(values))

    return attack


def ledger_names(name: str) -> Attack:
    """Let the records of the ledger, and the descriptions of parts, name a part outside."""

    def attack(lake: Path, victim: Victim) -> None:
        hostile = name.format(home=victim.home)
        for path in [*lake.glob("_ledger/*.json"), *lake.glob("_versions/*/*/_parts/*.json")]:
            text = path.read_text()
            for part in ("sim-20240407", "sim-20240408"):
                text = text.replace(f'"{part}"', json.dumps(hostile))
            path.unlink()
            path.write_text(text)

    return attack


def object_names(name: str) -> Attack:
    """Let the lists of objects of the catalogs name a file outside."""

    def attack(lake: Path, victim: Victim) -> None:
        for path in lake.glob("catalogs/*/_objects.json"):
            text = path.read_text().replace("hats.properties", name.format(home=victim.home))
            path.unlink()
            path.write_text(text)

    return attack


#: A link in one place of a lake, where a command that writes or deletes would follow it.
LINKS: dict[str, Attack] = {
    "margins": link("_margins/zz"),
    "margin of a table": link("_margins/sources/000099"),
    "temporary settings": link(".skylake.toml.tmp", ".bashrc"),
    "settings": link("skylake.toml", "documents/plan.toml"),
    "staging": link("_staging"),
    "staging inside": link("_staging/zz"),
    "version": link("_versions/sources/000099"),
    "versions of a table": link("_versions/zz"),
    "snapshot": link("_snapshots/000001"),
    "record": link("_ledger/000001.json", "documents/sim.json"),
    "ledger": link("_ledger"),
    "configurations": link("_ledger/configurations"),
    "lock": link("_lock", ".bashrc"),
    "newest": link("_newest", ".bashrc"),
    "compacting": link("_compacting", ".bashrc"),
    "cameras": link("_cameras"),
    "profile": link("_cameras/sim.json", "documents/sim.json"),
    "memory of a camera": link("_cameras/sim.psf"),
    "seen profile": link("_cameras/sim.seen", ".bashrc"),
    "tried frames": link("_cameras/sim.tried", ".bashrc"),
    "unfilled targets": link("_cameras/sim.unfilled", ".bashrc"),
    "catalog": link("catalogs/zz"),
    "catalogs": link("catalogs"),
    "masters": link("calibrations"),
    "masters of a camera": link("calibrations/sim"),
    "watch lists": link("_watch"),
    "watch list": link("_watch/evil.json", "documents/evil.json"),
    "database": link("_postgres"),
    "folder of no known name": link("_future"),
    "report": link("report"),
    "current": link("current"),
}

#: Other attacks, which leave the lake's folders as they should be.
CONTENTS: dict[str, Attack] = {
    "lock is a pipe": fifo("_lock"),
    "newest is a pipe": fifo("_newest"),
    "profile is a pipe": fifo("_cameras/sim.json"),
    "settings are a pipe": fifo("skylake.toml"),
    "watch list is a pipe": fifo("_watch/novae.json"),
    "catalog at dask": catalog_address("dask://127.0.0.1:{port}/x::file:///x"),
    "catalog at http": catalog_address("http://127.0.0.1:{port}/catalog"),
    "catalog by a chain": catalog_address("simplecache::http://127.0.0.1:{port}/catalog"),
    "catalog among documents": catalog_address("{home}/documents"),
    "database elsewhere": setting('mirror_url = "postgresql://me@127.0.0.1:{port}/sky"'),
    "scheduler elsewhere": setting('cluster = "tcp://127.0.0.1:{port}"'),
    "master above": master_file("../home/keys/id_ed25519"),
    "master by a whole path": master_file("{home}/keys/id_ed25519"),
    "watch list above": watch_list_name("../../home/documents/evil"),
    "watch list by a whole path": watch_list_name("{home}/documents/evil"),
    "part above": ledger_names("../../../../../home/documents/thesis"),
    "object above": object_names("../../../home/keys/id_ed25519"),
}
