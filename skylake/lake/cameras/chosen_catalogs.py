"""Which catalog calibrates a camera for which nobody named one: a small JSON file beside its profile."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from skylake.durable import text_of
from skylake.errors import LakeError
from skylake.lake.layout import Layout
from skylake.settings import Catalogs, read_settings


@dataclass(frozen=True, slots=True)
class ChosenCatalog:
    """A catalog that was chosen to calibrate a camera, and why."""

    calibrate: str
    reason: str


def choice_file(layout: Layout, camera: str) -> Path:
    """Return the file of the choice for a camera."""
    return layout.profile(camera).with_suffix(".catalog")


def read_choice(layout: Layout, camera: str) -> ChosenCatalog | None:
    """Return the choice for a camera; None if none was made.

    Raises
    ------
    LakeError
        If the file is there and cannot be read.
    """
    path = choice_file(layout, camera)
    try:
        if not path.is_file():
            return None
        values = json.loads(text_of(path))
        return ChosenCatalog(str(values["calibrate"]), str(values["reason"]))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise LakeError(
            f"{path}: the choice of a catalog cannot be read ({error}); remove the file, and run `skylake calibrate`"
        ) from error


def choice_text(chosen: ChosenCatalog) -> str:
    """Return a choice as the content of its file."""
    return json.dumps(asdict(chosen), indent=1, ensure_ascii=False) + "\n"


def named_catalog(layout: Layout, camera: str) -> str:
    """Return the catalog that calibrates a camera by its profile, the settings or the choice; empty if none does."""
    from skylake.cameras.profile_json import from_json

    path = layout.profile(camera)
    own = from_json(path).base.catalog if path.is_file() else Catalogs()
    if named := own.over(read_settings(layout.settings_file).catalog).calibrate:
        return named
    chosen = read_choice(layout, camera)
    return "" if chosen is None else chosen.calibrate
