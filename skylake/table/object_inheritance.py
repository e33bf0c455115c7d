"""Objects that are made anew keep the identifiers that they had.

Identifiers of new objects come from the places where they were first seen. A night that comes late or changes would
give most of them others, although whoever uses them has noted the old ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.sphere import chord, unit_vectors
from skylake.table.object_places import nearest_pairs
from skylake.table.object_status import JOINED, QUALIFIED

Integers = npt.NDArray[np.int64]

#: Columns of the objects before.
COLUMNS = ("object_id", "status", "ra_deg", "dec_deg", "catalog", "ref_id")
_REFERENCES = ("object_id", "joined_to", "split_from")


def with_earlier_identifiers(
    made: pa.Table, earlier: pa.Table, targets: pa.Table, link_arcsec: float
) -> pa.Table:
    """Return objects with the identifiers that the same ones had before: of the same star, else at the place.

    Parameters
    ----------
    made : pyarrow.Table
        Rows of ``objects``, made from all nights.
    earlier : pyarrow.Table
        :data:`COLUMNS` of the rows that they replace; only those that counted hand their identifiers on. Neither
        table need have an order.
    targets : pyarrow.Table
        ``star_id`` of the list in force: an object that has one of these keeps it.
    link_arcsec : float
        Places no farther apart are those of one object.

    Returns
    -------
    pyarrow.Table
        The rows of `made` in the order of their identifiers, each of which is there once.
    """
    made, earlier = made.sort_by("object_id"), earlier.sort_by("object_id")
    ids = np.asarray(made["object_id"], np.int64)
    of_targets = np.asarray(targets["star_id"], np.int64)
    is_free = ~np.isin(ids, of_targets) & np.asarray(pc.not_equal(made["status"], JOINED))
    earlier = earlier.filter(pc.equal(earlier["status"], QUALIFIED))
    earlier = earlier.filter(pa.array(~np.isin(np.asarray(earlier["object_id"], np.int64), of_targets)))
    free = np.flatnonzero(is_free)
    new, old = _same(made.take(pa.array(free)), earlier, link_arcsec)
    final = ids.copy()
    final[free[new]] = np.asarray(earlier["object_id"], np.int64)[old]
    inherited = np.zeros(len(ids), bool)
    inherited[free[new]] = True
    _make_unique(final, inherited, of_targets)
    order = np.argsort(ids)
    for name in _REFERENCES:
        known = pc.is_valid(made[name]).to_numpy()
        value = made[name].fill_null(0).to_numpy().astype(np.int64)
        place = (
            order[np.minimum(np.searchsorted(ids[order], value), max(len(ids) - 1, 0))] if len(ids) else value
        )
        renamed = np.where(ids[place] == value, final[place], value) if len(ids) else value
        made = made.set_column(
            made.schema.get_field_index(name), made.schema.field(name), pa.array(renamed, mask=~known)
        )
    return made.take(pa.array(np.argsort(final)))


def _same(made: pa.Table, earlier: pa.Table, link_arcsec: float) -> tuple[Integers, Integers]:
    """Return which objects are which earlier ones, one to one: by their star, and what is left by place.

    Stars of another catalog, or an object that has lost its star, say nothing against the place.
    """
    new, old = _of_one_star(made, earlier)
    left = np.setdiff1d(np.arange(made.num_rows), new)
    rest = np.setdiff1d(np.arange(earlier.num_rows), old)
    here, there = (
        unit_vectors(rows["ra_deg"].to_numpy()[which], rows["dec_deg"].to_numpy()[which])
        for rows, which in ((made, left), (earlier, rest))
    )
    mine, theirs = nearest_pairs(here, there, chord(link_arcsec))
    return np.append(new, left[mine]), np.append(old, rest[theirs])


def _of_one_star(made: pa.Table, earlier: pa.Table) -> tuple[Integers, Integers]:
    """Return which objects have the star of which earlier ones, one to one: of several the first."""
    star = pc.index_in(_star(made), _star(earlier)).fill_null(-1).to_numpy()
    of_star = np.where(np.asarray(made["ref_id"].is_valid()), star, -1)
    new = np.flatnonzero(of_star >= 0)
    old, first = np.unique(of_star[new], return_index=True)
    return new[first], old


def _star(rows: pa.Table) -> pa.Array:
    """Return the star of each object as a text that no other has; empty without one."""
    star = pc.binary_join_element_wise(rows["ref_id"].cast(pa.string()), rows["catalog"], " ")
    return pc.fill_null(star, "").combine_chunks()


def _make_unique(final: Integers, inherited: npt.NDArray[np.bool_], of_targets: Integers) -> None:
    """Give objects whose identifier another has inherited the next free one."""
    others = np.flatnonzero(~inherited)
    doubled = others[np.isin(final[others], final[inherited])]
    used = {*final.tolist(), *of_targets.tolist()} if doubled.size else set()
    for row in doubled.tolist():
        while int(final[row]) in used:
            final[row] += 1
        used.add(int(final[row]))
