"""Where the cameras of a lake stand."""

from __future__ import annotations

from collections.abc import Iterable

from skylake.core.camera import Site
from skylake.lake.layout import Layout


def sites_of(layout: Layout, cameras: Iterable[str]) -> dict[str, Site]:
    """Return the site of each camera; without a profile one of which nothing is known."""
    from skylake.cameras.profile_json import from_json

    profiles = {name: layout.profile(name) for name in set(cameras)}
    return {name: from_json(path).base.site if path.is_file() else Site() for name, path in profiles.items()}
