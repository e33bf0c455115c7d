"""Camera profiles as JSON, which a lake stores for the frames that it has reduced."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from skylake.cameras.profile import Profile
from skylake.core.camera import Camera
from skylake.declared import adapter
from skylake.durable import content_of
from skylake.errors import ConfigurationError


def to_json(profile: Profile) -> str:
    """Return a resolved profile, with all its dated blocks, as JSON."""
    return adapter(Profile).dump_json(profile, indent=1).decode() + "\n"


def camera_to_json(camera: Camera) -> str:
    """Return a camera as it is in one period of its life as JSON."""
    return adapter(Camera).dump_json(camera, indent=1).decode() + "\n"


def to_stored_text(profile: Profile) -> str:
    """Return a profile as a lake keeps it: its JSON, whose first value is the SHA-256 of the rest."""
    text = to_json(profile)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return f'{{\n "sha256": "{sha256}",\n' + text.removeprefix("{\n")


#: How a kept profile begins; those of an older skylake have no checksum. Both may be damaged.
_SEAL = re.compile(rb'\{\n "(.{6})": "(.{64})",\n', re.DOTALL)


def from_json(path: Path) -> Profile:
    """Return the profile in a JSON file.

    Raises
    ------
    ConfigurationError
        If the file cannot be read as a profile, or has changed since it was written.
    """
    from pydantic import ValidationError

    try:
        content = content_of(path)
        if seal := _SEAL.match(content):
            content = b"{\n" + content[seal.end() :]
            if seal[1] != b"sha256" or hashlib.sha256(content).hexdigest().encode() != seal[2]:
                raise ConfigurationError(
                    f"{path}: the kept profile has changed since it was written; ingest a frame of the camera again"
                )
        profile = adapter(Profile).validate_json(content)
        if profile.name != path.stem:
            raise ConfigurationError(
                f"{path}: this is the profile of {profile.name!r} inside; ingest a frame of the camera again"
            )
        return profile
    except (OSError, ValidationError) as error:
        raise ConfigurationError(
            f"{path}: the kept profile cannot be read; ingest a frame of the camera again"
        ) from error
