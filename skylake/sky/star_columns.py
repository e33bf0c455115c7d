"""Which columns of a table from somebody else hold positions: by their UCDs, else by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Names in lower case, the first that a table has counts.
RA_NAMES = (
    *("ra_deg", "ra", "raj2000", "_raj2000", "ra_icrs", "radeg", "right ascension"),
    *("alphawin_j2000", "alpha_j2000"),
)
DEC_NAMES = (
    *("dec_deg", "dec", "dej2000", "_dej2000", "de_icrs", "dedeg", "declination"),
    *("deltawin_j2000", "delta_j2000"),
)


def first_named(names: Sequence[str], known: Sequence[str]) -> str | None:
    """Return the column with the first of some names that a table has, whatever the case; None without one."""
    folded = {name.strip().lower(): name for name in reversed(names)}
    return next((folded[name] for name in known if name in folded), None)


def position_columns(names: Sequence[str], ucds: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the columns of right ascension and declination; None if a table has none.

    Parameters
    ----------
    names : sequence of str
        The columns.
    ucds : mapping of str to str
        Column to UCD, where it has one: those of main positions come before names, and names before others.
    """
    words = {ucd.strip().lower(): name for name, ucd in reversed(list(ucds.items()))}
    found = [
        words.get(f"pos.eq.{axis};meta.main") or first_named(names, known) or words.get(f"pos.eq.{axis}")
        for axis, known in (("ra", RA_NAMES), ("dec", DEC_NAMES))
    ]
    return (found[0], found[1]) if found[0] and found[1] else None
