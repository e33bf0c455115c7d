"""Settings of a lake: the file ``skylake.toml`` at its root, and what its user says of it in a file of their own.

A lake may be somebody else's. So it names no address with which skylake would connect: what answers there could have
it run anything.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skylake.declared import read_toml
from skylake.durable import replace_durably
from skylake.errors import ConfigurationError

FILE_NAME = "skylake.toml"

_COMMENTS = {
    "cluster": "Where frames are processed: local, inline or slurm.",
    "workers": "Worker processes; 0 takes one per core.",
    "pixel_order": "HEALPix order of the pixels that a new table begins with. Each pixel is a folder.",
    "pixel_rows": "Rows above which compaction divides a pixel of a table into finer ones.",
    "map_order": "HEALPix order of the maps.",
    "keep_newest": "Snapshots that stay when old ones are thinned out: those after the newest so many runs …",
    "keep_days": "… the last of each of so many days …",
    "keep_months": "… and the last of each of so many months.",
    "objects": "What a camera sees beside the stars of its catalog: an object is seen on at least least_detections "
    "frames and, unless it is bright, on the share least_share of those that cover it. It is forgotten if it is not "
    "seen for forget_nights nights before that. A list of targets grows by up to new_targets of them at a time; 0 "
    "adds none. Each nightly run measures them on up to backfill_frames earlier frames of each camera; 0 on none.",
    "catalog": "Reference catalogs: the one that solves frames, which the first import sets, and the one that "
    "calibrates them; if that is empty, the best one for each camera. [catalog] of a camera profile wins.",
}


#: What only the user says of a lake; see :func:`user_setting`. In the file of a lake they are not used.
_OF_USER = ("cluster", "mirror_url", "mirror_schema")
#: How an address begins that a lake of an older skylake may name.
_ADDRESSES = {"cluster": ("tls://", "tcp://", "ws://", "wss://", "ucx://"), "mirror_url": ("postgres",)}
#: Where frames are processed that needs no address.
_CLUSTERS = ("local", "inline", "slurm")
#: Where the user says what becomes of the alerts of watch lists, below the section of a lake …
_WATCH = "watch"
#: … and which addresses of catalogs that are used in place are right.
_CATALOGS = "catalogs"


@dataclass(frozen=True, slots=True)
class Catalogs:
    """Names of reference catalogs; empty for none."""

    solve: str = ""
    """Where frames point is found and checked by its stars, which should be many and need no colours."""
    calibrate: str = ""
    """Zeropoints come from its magnitudes and colours; the best one for a camera is chosen if it is empty."""

    def over(self, others: Catalogs) -> Catalogs:
        """Return these catalogs, with the others where none is named."""
        return Catalogs(self.solve or others.solve, self.calibrate or others.calibrate)

    def uses(self, name: str) -> list[str]:
        """Return what a catalog is in force for."""
        return [use for use, chosen in dataclasses.asdict(self).items() if chosen == name]


@dataclass(frozen=True, slots=True)
class Objects:
    """What becomes an object without a star of the catalog, and what a target."""

    least_detections: int = 3
    """Frames on which it is seen at least."""
    least_share: float = 0.25
    """Share of the frames that cover it on which it is seen at least, unless it is bright."""
    forget_nights: int = 10
    """Nights of the calendar after which something that was seen on fewer frames is forgotten."""
    new_targets: int = 1000
    """Objects that become targets at a time, at most; 0 for none."""
    backfill_frames: int = 200
    """Earlier frames of a camera that a nightly run measures at new targets, at most; 0 for none."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a lake; the texts in ``skylake.toml`` say what each means."""

    cluster: str = "local"
    workers: int = 0
    pixel_order: int = 2
    pixel_rows: int = 4_000_000
    map_order: int = 7
    keep_newest: int = 20
    keep_days: int = 365
    keep_months: int = 12
    catalog: Catalogs = Catalogs()
    objects: Objects = Objects()


def read_settings(path: Path) -> Settings:
    """Read a settings file.

    Raises
    ------
    ConfigurationError
        For a key that is unknown or a value that cannot be.
    """
    if path.exists() and not path.is_file():
        raise ConfigurationError(f"{path}: this is no file; remove it, and restore skylake.toml from a copy")
    return _settings_in(read_toml(path), path)


def _settings_in(data: dict[str, Any], path: Path) -> Settings:
    """Return the settings in the content of a settings file."""
    for name, protocols in _ADDRESSES.items():
        if _is_address(data.get(name), protocols):
            del data[name]
    if data.pop("mirror_url", ""):
        raise ConfigurationError(
            f"{path}: mirror_url is no address such as postgresql://host/database, and no setting of a lake; delete it"
        )
    if data.get("cluster", "local") not in _CLUSTERS:
        raise ConfigurationError(f"{path}: cluster must be one of {', '.join(_CLUSTERS)}")
    catalog = _read_catalogs(data, path)
    objects = _read_objects(data, path)
    known = {field.name: type(field.default) for field in dataclasses.fields(Settings)}
    for key, value in data.items():
        if key not in known:
            raise ConfigurationError(
                f"{path}: there is no setting {key!r}; the settings are {', '.join(known)}"
            )
        if type(value) is not known[key]:
            raise ConfigurationError(f"{path}: {key} must be of type {known[key].__name__}")
    settings = Settings(**data, catalog=catalog, objects=objects)
    if not 0 <= settings.pixel_order <= 8:
        raise ConfigurationError(f"{path}: pixel_order must be between 0 and 8")
    if settings.workers < 0:
        raise ConfigurationError(f"{path}: workers must be 0, for one per core, or more")
    if settings.pixel_rows < 1:
        raise ConfigurationError(f"{path}: pixel_rows is at least 1")
    if settings.keep_newest < 1 or settings.keep_days < 0 or settings.keep_months < 0:
        raise ConfigurationError(f"{path}: keep_newest is at least 1, keep_days and keep_months at least 0")
    if not 0 <= settings.map_order <= 13:
        raise ConfigurationError(f"{path}: map_order must be between 0 and 13")
    return settings


def user_file() -> Path:
    """Return the file in which users say what belongs to their lakes."""
    folder = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(folder) / "skylake" / "config.toml"


def user_setting(lake: Path, name: str) -> str:
    """Return what the user's own file says of a lake; empty if it says nothing.

    Parameters
    ----------
    lake : Path
        Folder of the lake.
    name : {'cluster', 'mirror_url', 'mirror_schema'}
        Which setting.

    Raises
    ------
    ConfigurationError
        If the file cannot be used.
    """
    _, sections = _of_user(lake)
    return str(next((section[name] for section in sections if name in section), ""))


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where the alerts of a watch list go: one of both is empty.

    Attributes
    ----------
    command : str
        A command with its arguments, which is run without a shell.
    webhook : str
        URL, http or https.
    """

    command: str = ""
    webhook: str = ""


def user_delivery(lake: Path, name: str) -> Delivery | None:
    """Return where the user has the alerts of a watch list sent; None if the user's own file does not say.

    Parameters
    ----------
    lake : Path
        Folder of the lake.
    name : str
        Of the watch list.

    Raises
    ------
    ConfigurationError
        If the file cannot be used.
    """
    path, sections = _of_user(lake)
    for section in sections:
        found = section.get(_WATCH, {}).get(name)
        if found is not None:
            return _delivery(path, name, found)
    return None


def set_user_delivery(lake: Path, name: str, delivery: Delivery | None) -> None:
    """Write into the user's own file where the alerts of a watch list go; None removes that.

    Raises
    ------
    ConfigurationError
        If the file cannot be used.
    """
    given = delivery and {key: value for key, value in dataclasses.asdict(delivery).items() if value}
    _write_of_user(lake, _WATCH, name, given)


def is_confirmed(lake: Path, name: str, address: str) -> bool:
    """Return whether the user's own file says that a catalog which a lake uses in place is at an address.

    Parameters
    ----------
    lake : Path
        Folder or URL of the lake.
    name : str
        Of the catalog.
    address : str
        Path or URL of the catalog, as the lake has it.

    Raises
    ------
    ConfigurationError
        If the file cannot be used.
    """
    _, sections = _of_user(lake)
    return any(section.get(_CATALOGS, {}).get(name) == address for section in sections)


def confirm(lake: Path, name: str, address: str) -> None:
    """Write into the user's own file at which address a catalog is that a lake uses in place.

    Raises
    ------
    ConfigurationError
        If the file cannot be used.
    """
    _write_of_user(lake, _CATALOGS, name, address)


def how_to_confirm(lake: Path, name: str, address: str) -> str:
    """Return what a user adds to the own file for :func:`is_confirmed`, and where."""
    line = f"{json.dumps(name)} = {json.dumps(address, ensure_ascii=False)}"
    return f"{line} below [{_key(lake)}.{_CATALOGS}] in {user_file()}"


def _of_user(lake: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Return the user's own file, and what it says of a lake."""
    path = user_file()
    return path, _sections(path, read_toml(path) if path.is_file() else {}, lake)


def _write_of_user(lake: Path, table: str, name: str, value: Any) -> None:
    """Write a value into a table that a lake has in the user's own file; None removes it."""
    import tomlkit

    path, _ = _of_user(lake)
    document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.is_file() else tomlkit.document()
    keys = [key for key in document if _same_lake(key, lake)]
    for key in keys:
        document[key].get(table, {}).pop(name, None)
    if value is not None:
        section = document.setdefault(keys[0] if keys else json.loads(_key(lake)), tomlkit.table())
        section.setdefault(table, tomlkit.table())[name] = value
    if value is not None or keys:
        path.parent.mkdir(parents=True, exist_ok=True)
        # It may hold secrets: URLs of webhooks, and passwords.
        mode = path.stat().st_mode & 0o777 if path.is_file() else 0o600
        replace_durably(path, tomlkit.dumps(document), mode)


def _delivery(path: Path, name: str, given: Any) -> Delivery:
    known = {field.name for field in dataclasses.fields(Delivery)}
    texts = isinstance(given, dict) and all(isinstance(one, str) and one for one in given.values())
    if not texts or len(given) != 1 or not known.issuperset(given):
        raise ConfigurationError(
            f"{path}: the watch list {name} has either command or webhook, as a text; write one of them"
        )
    made = Delivery(**given)
    if made.webhook and not made.webhook.startswith(("http://", "https://")):
        raise ConfigurationError(f"{path}: the webhook of {name} is no URL with http:// or https://")
    return made


def _sections(path: Path, data: dict[str, Any], lake: Path) -> list[dict[str, Any]]:
    """Return what the user's own file says of a lake, after a check of all that it says."""
    for key, section in data.items():
        if not isinstance(section, dict):
            raise ConfigurationError(
                f'{path}: {key} is of no lake; write it below the folder of one, as ["/data/lake"]'
            )
        for one, value in section.items():
            if one in (_WATCH, _CATALOGS) and isinstance(value, dict):
                continue
            if one not in _OF_USER or not isinstance(value, str):
                raise ConfigurationError(
                    f"{path}: {one} cannot be set for a lake here; the settings are {', '.join(_OF_USER)}, as texts"
                )
    return [data[key] for key in data if _same_lake(key, lake)]


def _same_lake(key: str, lake: Path) -> bool:
    """Return whether a section of the user's own file is that of a lake."""
    if "://" in key or "://" in str(lake):
        return key.rstrip("/") == str(lake).rstrip("/")
    return Path(key).expanduser().resolve() == lake.resolve()


def _key(lake: Path) -> str:
    """Return the name of the section that a lake has in the user's own file, in quotes."""
    name = str(lake).rstrip("/") if "://" in str(lake) else str(lake.resolve())
    return json.dumps(name, ensure_ascii=False)


def misplaced(lake: Path, name: str) -> str | None:
    """Return what to do about an address in the settings of a lake, which is not used; None if there is none."""
    path = lake / FILE_NAME
    if not path.is_file() or not _is_address(read_toml(path).get(name), _ADDRESSES[name]):
        return None
    return (
        f"{path}: {name} is not taken from a lake, which may be somebody else's; move that line below "
        f"{user_section(lake)}, or delete it"
    )


def user_section(lake: Path) -> str:
    """Return where in the user's own file a lake has its settings."""
    return f"[{_key(lake)}] in {user_file()}"


def _is_address(value: object, protocols: tuple[str, ...]) -> bool:
    return isinstance(value, str) and "://" in value and value.startswith(protocols)


def _read_catalogs(data: dict[str, Any], path: Path) -> Catalogs:
    """Take the catalogs out of the content of a settings file; one `default_catalog` stands for both."""
    default = data.pop("default_catalog", "")
    table = data.pop("catalog", {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: catalog must be a table, [catalog], with solve and calibrate")
    names = {"default_catalog": default} | {f"catalog.{key}": value for key, value in table.items()}
    for key, value in names.items():
        if key not in ("default_catalog", "catalog.solve", "catalog.calibrate"):
            raise ConfigurationError(
                f"{path}: there is no setting {key!r}; the settings below [catalog] are solve and calibrate"
            )
        if not isinstance(value, str):
            raise ConfigurationError(f"{path}: {key} must be of type str")
        if value.startswith(".") or "/" in value or "\0" in value:
            raise ConfigurationError(f"{path}: {key} is the name of a catalog, and {value!r} is none")
    if default and any(value != default for value in table.values()):
        raise ConfigurationError(
            f"{path}: default_catalog = {json.dumps(default)} and [catalog] differ; delete the line "
            "default_catalog, and name solve and calibrate below [catalog]"
        )
    return Catalogs(table.get("solve", default), table.get("calibrate", default))


def _read_objects(data: dict[str, Any], path: Path) -> Objects:
    """Take the table of objects out of the content of a settings file."""
    table = data.pop("objects", {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: objects must be a table, [objects]")
    known = {field.name: int(field.name == "least_detections") for field in dataclasses.fields(Objects)}
    for key, value in table.items():
        if key not in known:
            raise ConfigurationError(
                f"{path}: there is no setting 'objects.{key}'; the settings below [objects] are {', '.join(known)}"
            )
        if key == "least_share":
            if type(value) not in (int, float) or not 0 <= value <= 1:
                raise ConfigurationError(f"{path}: objects.least_share is a number from 0 to 1")
        elif type(value) is not int or value < known[key]:
            raise ConfigurationError(f"{path}: objects.{key} is a whole number, at least {known[key]}")
    return Objects(**table)


def write_settings(path: Path, settings: Settings) -> None:
    """Write a new settings file, with a comment on each setting."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment("Settings of this lake."))
    for field in dataclasses.fields(settings):
        document.add(tomlkit.nl())
        document.add(tomlkit.comment(_COMMENTS[field.name]))
        value = getattr(settings, field.name)
        is_table = isinstance(value, Catalogs | Objects)
        document.add(field.name, dataclasses.asdict(value) if is_table else value)
    replace_durably(path, tomlkit.dumps(document))


def change_setting(path: Path, name: str, value: Any) -> Settings:
    """Change one setting, such as ``workers`` or ``catalog.solve``, and keep the rest of the file as it is."""
    import tomlkit

    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    table, _, key = name.rpartition(".")
    if table and table not in document:
        document[table] = tomlkit.table()
    if table == "catalog" and (default := document.pop("default_catalog", "")):
        document[table] = dict.fromkeys(("solve", "calibrate"), default) | dict(document[table])
    (document[table] if table else document)[key] = value
    changed = _settings_in(document.unwrap(), path)
    replace_durably(path, tomlkit.dumps(document))
    return changed
