"""Why a part of a derived table is out of date, from what it was made from and what it would be made from now."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from skylake.lake import Part


class Why(StrEnum):
    """Why a part has to be made anew."""

    NEW = "new"
    """The lake does not have it yet."""
    INPUTS = "inputs"
    """The rows that it was made from have changed."""
    CATALOG = "catalog"
    """The reference catalog has changed."""
    PARAMETERS = "parameters"
    """The resolved configuration has changed."""
    METHOD = "method"
    """It is to be made by another method of calibration."""
    STAR_MAGNITUDES = "star_magnitudes"
    """The camera's own magnitudes of stars have changed."""
    SCHEMA = "schema"
    """It was written under another version of the schema."""
    UPSTREAM = "upstream"
    """What it was made from is itself out of date."""
    LOST = "lost"
    """A file of it is missing, or has not the size with which it was written."""
    ORPHANED = "orphaned"
    """What it was made from is gone."""


def why_stale(held: Part | None, inputs: Mapping[str, str], schema_sha256: str | None = None) -> Why | None:
    """Return why a part has to be made anew; None if it is up to date.

    Parameters
    ----------
    held : Part or None
        As the lake holds it.
    inputs : mapping
        What it would be made from now.
    schema_sha256 : str or None
        Schema that it has to have; None accepts any.
    """
    if held is None:
        return Why.NEW
    if schema_sha256 not in (None, held.schema_sha256):
        return Why.SCHEMA
    names = held.inputs.keys() | inputs.keys()
    changed = {name for name in names if held.inputs.get(name) != inputs.get(name)}
    if not changed:
        return None
    # What has changed may bring along what follows here: star magnitudes of another catalog or profile are not used,
    # and a method takes those of the camera or of the catalog.
    causes = {
        "catalog": Why.CATALOG,
        "configuration": Why.PARAMETERS,
        "method": Why.METHOD,
        "star_magnitudes": Why.STAR_MAGNITUDES,
    }
    if not changed <= causes.keys() | {"transformations"}:
        return Why.INPUTS
    return next((why for name, why in causes.items() if name in changed), Why.INPUTS)
