"""Profiles as JSON: a lake keeps those under which its frames were reduced."""

from __future__ import annotations

from pathlib import Path

from skylake.cameras.profile import Profile
from skylake.declared import adapter
from skylake.errors import ConfigurationError


def to_json(profile: Profile) -> str:
    """Return a resolved profile, with all its dated blocks, as JSON."""
    return adapter(Profile).dump_json(profile, indent=1).decode() + "\n"


def from_json(path: Path) -> Profile:
    """Return the profile in a JSON file.

    Raises
    ------
    ConfigurationError
        If the file cannot be read as a profile.
    """
    from pydantic import ValidationError

    try:
        return adapter(Profile).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise ConfigurationError(
            f"{path}: the kept profile cannot be read; ingest a frame of the camera again"
        ) from error
