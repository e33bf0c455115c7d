"""Known variable stars among matches: those that a catalog of variables of the lake lists."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from skylake.core.sphere import unit_vectors
from skylake.lake import Snapshot
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.sky.match import nearest_within
from skylake.table.matches import VARIABLE

#: A star is a listed one within this distance: places of older variables are known to some arcseconds.
_SAME_ARCSEC = 3.0


def variable_catalogs(snapshot: Snapshot) -> tuple[ReferenceCatalog, ...]:
    """Return the catalogs of a lake that list variable stars alone, such as VSX."""
    opened = (ReferenceCatalog.open(snapshot.catalog(name)) for name in snapshot.catalogs())
    return tuple(catalog for catalog in opened if catalog.lists_variables)


def with_variables(matches: pa.Table, catalogs: Sequence[ReferenceCatalog]) -> pa.Table:
    """Return the matches of a night with ``is_variable`` true for stars that a catalog of variables lists.

    Parameters
    ----------
    matches : pyarrow.Table
        Rows of ``matches``.
    catalogs : sequence of ReferenceCatalog
        Without any, the column stays as it is; with one, it has no nulls.
    """
    if not catalogs or matches.num_rows == 0:
        return matches
    _, first, inverse = np.unique(matches["ref_id"].to_numpy(), return_index=True, return_inverse=True)
    ra, dec = (matches[name].to_numpy()[first] for name in ("ra_deg", "dec_deg"))
    stars = unit_vectors(ra, dec)
    listed = np.zeros(len(first), bool)
    for catalog in catalogs:
        rows = catalog.around(ra, dec, _SAME_ARCSEC, ["ra_deg", "dec_deg"])
        known = unit_vectors(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy())
        listed[nearest_within(stars, known, _SAME_ARCSEC)[0]] = True
    column = matches.schema.get_field_index(VARIABLE)
    stated = matches[VARIABLE].fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
    values = pa.array(stated | listed[inverse.reshape(-1)])
    return matches.set_column(column, matches.schema.field(column), values)
