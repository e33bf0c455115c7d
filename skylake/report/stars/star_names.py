"""Where a star is that is known by a name: from the catalogs of the lake, or from the network if that is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.ids import text_id
from skylake.errors import LakeError
from skylake.lake import Snapshot
from skylake.sky.lake_catalogs import ReferenceCatalog

Place = tuple[float, float]
_COLUMNS = ["name", "ra_deg", "dec_deg"]


def place_in_catalogs(snapshot: Snapshot, star: str) -> tuple[Place, str] | None:
    """Return the position of a star that a catalog of the lake names, and the name of the catalog; None if none does.

    Catalogs that list variable stars, such as VSX, come first. In these neither case, blanks nor the zeros of
    ``V0376 Peg`` count.

    Parameters
    ----------
    snapshot : Snapshot
    star : str
        Name or identifier.
    """
    return places_in_catalogs(snapshot, [star]).get(star)


def places_in_catalogs(snapshot: Snapshot, stars: Sequence[str]) -> dict[str, tuple[Place, str]]:
    """Return the positions of stars as :func:`place_in_catalogs` does; each catalog is read once at most."""
    opened = [ReferenceCatalog.open(snapshot.catalog(name)) for name in snapshot.catalogs()]
    found: dict[str, tuple[Place, str]] = {}
    for catalog in sorted(opened, key=lambda one: not one.lists_variables):
        left = [star for star in stars if star not in found]
        # A catalog that is used in place lies on a server, where a name cannot be looked for.
        if left and catalog.in_place is None:
            found |= {star: (place, catalog.name) for star, place in _listed(catalog, left).items()}
    return found


def _listed(catalog: ReferenceCatalog, stars: Sequence[str]) -> dict[str, Place]:
    numbers = {int(star) if re.fullmatch(r"[0-9]{1,18}", star) else text_id(star): star for star in stars}
    by_name = catalog.lists_variables and "name" in catalog.columns
    names = {normal_name(star): star for star in stars} if by_name else {}
    columns = [*_COLUMNS, "ref_id"] if by_name else ["ref_id", *_COLUMNS[1:]]
    wanted = pa.array(list(numbers), pa.int64()), pa.array(list(names), pa.string())
    found: dict[str, Place] = {}
    for batch in catalog.batches(columns):
        same = pc.is_in(batch["ref_id"], wanted[0])
        if by_name:
            same = pc.or_(same, pc.fill_null(pc.is_in(_normal_names(batch["name"]), wanted[1]), False))
        for row in pa.table({name: batch[name] for name in columns}).filter(same).to_pylist():
            named = names.get(normal_name(row["name"])) if by_name and row["name"] is not None else None
            found.setdefault(named or numbers[row["ref_id"]], (float(row["ra_deg"]), float(row["dec_deg"])))
        if len(found) == len(stars):
            break
    return found


def normal_name(name: str) -> str:
    """Return the name of a star in the form in which names are compared."""
    text: str = _normal_names(pa.array([name]))[0].as_py()
    return text


def _normal_names(names: pa.Array) -> pa.Array:
    plain = pc.utf8_lower(pc.replace_substring_regex(names, r"\s+", ""))
    return pc.replace_substring_regex(plain, r"^v0+", "v")


def place_by_sesame(star: str) -> Place:
    """Return the position that the name service Sesame of the CDS has for a star, through the network.

    Raises
    ------
    LakeError
        If the service does not know it, or cannot be reached.
    """
    from astropy.coordinates import SkyCoord
    from astropy.coordinates.name_resolve import NameResolveError

    try:
        found = SkyCoord.from_name(star)
    except NameResolveError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise LakeError(
            f"{star}: Sesame gives no position ({reason}); name the star by its position"
        ) from error
    return float(found.ra.deg), float(found.dec.deg)
