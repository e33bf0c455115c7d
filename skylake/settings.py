"""Settings of a lake: the file ``skylake.toml`` at its root."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skylake.declared import read_toml
from skylake.durable import replace_durably
from skylake.errors import ConfigurationError

FILE_NAME = "skylake.toml"

_COMMENTS = {
    "default_catalog": "Reference catalog of calibrations; the first import sets it.",
    "mirror_url": "PostgreSQL to mirror into; empty keeps an embedded server inside the lake.",
    "cluster": "Where frames are processed: local, inline, slurm or the address tcp://host:port of a scheduler.",
    "workers": "Worker processes; 0 takes one per core.",
    "pixel_order": "HEALPix order of the pixels that a new table begins with. Each pixel is a folder.",
    "pixel_rows": "Rows above which compaction divides a pixel of a table into finer ones.",
    "map_order": "HEALPix order of the maps.",
    "keep_newest": "Snapshots that stay when old ones are thinned out: the newest so many …",
    "keep_days": "… the last of each of so many days …",
    "keep_months": "… and the last of each of so many months.",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a lake; the texts in ``skylake.toml`` say what each means."""

    default_catalog: str = ""
    mirror_url: str = ""
    cluster: str = "local"
    workers: int = 0
    pixel_order: int = 2
    pixel_rows: int = 4_000_000
    map_order: int = 7
    keep_newest: int = 20
    keep_days: int = 30
    keep_months: int = 12


def read_settings(path: Path) -> Settings:
    """Read a settings file.

    Raises
    ------
    ConfigurationError
        For a key that is unknown or a value of the wrong type.
    """
    data = read_toml(path)
    known = {field.name: type(field.default) for field in dataclasses.fields(Settings)}
    for key, value in data.items():
        if key not in known:
            raise ConfigurationError(
                f"{path}: there is no setting {key!r}; the settings are {', '.join(known)}"
            )
        if type(value) is not known[key]:
            raise ConfigurationError(f"{path}: {key} must be of type {known[key].__name__}")
    settings = Settings(**data)
    if not 0 <= settings.pixel_order <= 8:
        raise ConfigurationError(f"{path}: pixel_order must be between 0 and 8")
    if settings.pixel_rows < 1:
        raise ConfigurationError(f"{path}: pixel_rows is at least 1")
    if settings.keep_newest < 1 or settings.keep_days < 0 or settings.keep_months < 0:
        raise ConfigurationError(f"{path}: keep_newest is at least 1, keep_days and keep_months at least 0")
    if not 0 <= settings.map_order <= 13:
        raise ConfigurationError(f"{path}: map_order must be between 0 and 13")
    return settings


def write_settings(path: Path, settings: Settings) -> None:
    """Write a new settings file, with a comment on each setting."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment("Settings of this lake."))
    for field in dataclasses.fields(settings):
        document.add(tomlkit.nl())
        document.add(tomlkit.comment(_COMMENTS[field.name]))
        document.add(field.name, getattr(settings, field.name))
    replace_durably(path, tomlkit.dumps(document))


def change_setting(path: Path, name: str, value: Any) -> Settings:
    """Change one setting in a file and keep the rest, comments too, as it is."""
    import tomlkit

    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document[name] = value
    replace_durably(path, tomlkit.dumps(document))
    return read_settings(path)
