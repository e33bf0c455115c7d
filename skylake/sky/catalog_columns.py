"""Which columns of a user's table hold what, and the schema of the catalog that they make."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from skylake.core.bands import BANDS, System, colour_column, mag_column
from skylake.errors import CatalogError, UsageError
from skylake.schema import Column, TableSchema, load
from skylake.sky.catalog_values import RaUnit

_WORD = re.compile(r"[A-Za-z0-9_]+\Z")
_COLOUR = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)?\Z")

#: Magnitudes and errors as far from 0 as this mean "not measured": -999, -99.99, 99.99, 999 …
NO_MAGNITUDE = 90.0

#: Words of UCD1+ for bands, each with the wavelength, nm, up to which it holds.
_UCD_LIMITS = (
    (400.0, "em.opt.U"),
    (500.0, "em.opt.B"),
    (600.0, "em.opt.V"),
    (750.0, "em.opt.R"),
    (1000.0, "em.opt.I"),
    (1500.0, "em.IR.J"),
    (2000.0, "em.IR.H"),
    (3000.0, "em.IR.K"),
)
#: Whether the survey marks a star as variable, where it does so.
_VARIABLE = Column(
    "is_variable", "boolean", "Whether the survey marks the star as variable", ucd="meta.code;src.var"
)


@dataclass(frozen=True, slots=True)
class Cut:
    """A condition that the value of a column must meet; a missing value meets it.

    Attributes
    ----------
    column : str
    at_least, at_most : float or None
        Limits, included.
    one_of : tuple
        Values that meet it: numbers, or texts whose case does not count.
    character : int or None
        Only this character of a text counts, from 1.
    without_bits : int
        Bits of an integer that must not be set.
    or_same_as : str or None
        A value that is not among `one_of` meets it if it equals that of this other column.
    why : str
        Why a row that does not meet it is dropped, for people.
    """

    column: str
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[str, ...] | tuple[float, ...] = ()
    character: int | None = None
    without_bits: int = 0
    or_same_as: str | None = None
    why: str = ""

    @property
    def is_of_text(self) -> bool:
        """Whether values are compared as texts, not as numbers."""
        return bool(self.one_of) and isinstance(self.one_of[0], str)


@dataclass(frozen=True, slots=True)
class BandSum:
    """A magnitude that is a sum of others, such as V = 1.09 VT - 0.09 BT.

    Attributes
    ----------
    terms : mapping of str to float
        Band to factor.
    scatter : float
        Error of the relation itself, mag.
    colour : mapping of str to float
        The same for the colour within whose limits the relation holds; empty if it always does.
    colour_limits : (float, float)
    """

    terms: Mapping[str, float]
    scatter: float = 0.0
    colour: Mapping[str, float] = field(default_factory=dict)
    colour_limits: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class CatalogColumns:
    """Which column of a table holds what.

    Attributes
    ----------
    ra, dec : str
        Columns of the position, ICRS. Numbers are degrees, unless the file or `ra_unit` says otherwise; texts
        such as ``12:34:56.7`` are hours in right ascension and degrees in declination.
    id : str or tuple of str or None
        Column of the identifier, integer or text, or columns whose texts make one; None derives it from the
        position, as for a row where it is missing.
    star_name : str or None
        Column of the name by which people know a star, where it is not the identifier.
    pm_ra, pm_dec : str or None
        Columns of the proper motion; mas/yr unless the file gives a unit.
    pm_ra_is_coordinate : bool
        Whether `pm_ra` is the change of the coordinate, without the factor cos(dec).
    epoch : float
        Julian year of the positions.
    row_epoch : str or None
        Column with the Julian year of the position of each row, from which it is moved to `epoch`.
    otherwise : (str, str) or None
        Columns of the position for rows where `ra` or `dec` is missing.
    magnitudes : mapping of str to str
        Band to column, of magnitudes or, by its unit, of fluxes: those become AB magnitudes.
    magnitude_errors : mapping of str to str or float
        Band to column, or to a number for all stars (mag, 1 sigma).
    signal_to_noise : mapping of str to str
        Band to a column of flux over its error, from which the error of the magnitude follows.
    sums : mapping of str to BandSum
        Further bands, made from those of `magnitudes`.
    colours : mapping of str to str
        Colour such as ``B-V`` to column.
    systems : mapping of str to str
        Band to ``Vega`` or ``AB``, where it is not that of :data:`skylake.core.bands.BANDS`.
    ra_unit : {'degrees', 'hours'} or None
        Unit of right ascension, where the file does not give one or its text leaves it open.
    units : mapping of str to str
        Column to unit, whatever the file says.
    usual_units : mapping of str to str
        Column to unit, where the file gives none.
    missing : tuple of float
        Values of magnitudes, as they are in the file, that mean "not measured".
    keep_rows : tuple of Cut
        Rows that do not meet them are dropped.
    keep_magnitudes : mapping of str to tuple of Cut
        Band to conditions; a magnitude that does not meet them is null.
    variable : Cut or bool or None
        Which rows are variable stars; None if nothing says so.
    survey : str
        Survey, or release of one, that the magnitudes are of; empty if unknown.
    names, delimiter
        Columns of a text file without a header, and what separates them.

    Raises
    ------
    UsageError
        If bands or colours cannot be names of columns, or the parts do not go together.
    """

    ra: str
    dec: str
    id: str | tuple[str, ...] | None = None
    pm_ra: str | None = None
    pm_dec: str | None = None
    pm_ra_is_coordinate: bool = False
    epoch: float = 2000.0
    row_epoch: str | None = None
    otherwise: tuple[str, str] | None = None
    magnitudes: Mapping[str, str] = field(default_factory=dict)
    magnitude_errors: Mapping[str, str | float] = field(default_factory=dict)
    signal_to_noise: Mapping[str, str] = field(default_factory=dict)
    sums: Mapping[str, BandSum] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)
    systems: Mapping[str, System] = field(default_factory=dict)
    ra_unit: RaUnit = None
    units: Mapping[str, str] = field(default_factory=dict)
    usual_units: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[float, ...] = ()
    keep_rows: tuple[Cut, ...] = ()
    keep_magnitudes: Mapping[str, tuple[Cut, ...]] = field(default_factory=dict)
    variable: Cut | bool | None = None
    survey: str = ""
    names: tuple[str, ...] = ()
    delimiter: str = ","
    star_name: str | None = None

    def __post_init__(self) -> None:
        _ = self.schema
        if (self.pm_ra is None) != (self.pm_dec is None):
            raise UsageError("proper motion needs two columns, in right ascension and in declination")
        if not math.isfinite(self.epoch):
            raise UsageError(f"the epoch {self.epoch} is no Julian year such as 2000 or 2015.5")
        if self.ra_unit not in (None, "degrees", "hours"):
            raise UsageError(f"right ascension is in 'degrees' or 'hours', not in {self.ra_unit!r}")
        for band, error in self.magnitude_errors.items():
            if band not in self.magnitudes:
                raise UsageError(f"the band {band!r} has an error but no magnitude; name its column as well")
            if not isinstance(error, str) and not 0 < error < NO_MAGNITUDE:
                raise UsageError(
                    f"the error {error} of the band {band!r} must be a positive number of magnitudes"
                )

    def require_stated_units(self) -> None:
        """Refuse units of columns that are not read.

        Raises
        ------
        UsageError
            Names the column, and one that may be meant.
        """
        for name in self.units:
            if name not in self.wanted:
                raise UsageError(f"--unit {name}: the column {name!r} is not read; {near(name, self.wanted)}")

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of the catalog, those that follow from others last."""
        return (*self.magnitudes, *self.sums)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The columns to read, each once."""
        errors = [error for error in self.magnitude_errors.values() if isinstance(error, str)]
        ids = (self.id,) if isinstance(self.id, str) else self.id or ()
        single = [self.ra, self.dec, *(self.otherwise or ()), *ids, self.star_name]
        single += [self.pm_ra, self.pm_dec, self.row_epoch]
        cuts = [*self.keep_rows, *(cut for some in self.keep_magnitudes.values() for cut in some)]
        cuts += [self.variable] if isinstance(self.variable, Cut) else []
        others = [name for cut in cuts for name in (cut.column, cut.or_same_as)]
        measured = [*self.magnitudes.values(), *errors, *self.signal_to_noise.values()]
        names = [*single, *measured, *self.colours.values(), *others]
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def schema(self) -> TableSchema:
        """The schema of the catalog that these columns make."""
        return catalog_schema(self.bands, tuple(self.colours), self.systems, self.variable is not None)


def system_of(band: str, systems: Mapping[str, System]) -> System | None:
    """Return the photometric system of a band: as stated, else that of its name; None if neither is known."""
    return systems.get(band) or (BANDS[band].system if band in BANDS else None)


def catalog_schema(
    bands: Sequence[str],
    colours: Sequence[str],
    systems: Mapping[str, System] | None = None,
    with_variable: bool = False,
) -> TableSchema:
    """Return the schema of a reference catalog with these bands and colours.

    Parameters
    ----------
    bands : sequence of str
        Photometric bands such as ``V``; each adds ``mag_<band>`` and ``mag_<band>_err``.
    colours : sequence of str
        Colours such as ``B-V``; each adds ``colour_<name>``.
    systems : mapping of str to str, optional
        Photometric systems of bands that are not those of their names.
    with_variable : bool
        Whether there is a column ``is_variable``.

    Raises
    ------
    UsageError
        If a name is no plain word, or two columns would differ only by case: SQL engines fold case.
    """
    for name, pattern in [(band, _WORD) for band in bands] + [(colour, _COLOUR) for colour in colours]:
        if not pattern.match(name):
            raise UsageError(
                f"{name!r} cannot name a column; use letters, digits and _ (a colour is like B-V)"
            )
    columns = [column for band in bands for column in _magnitude_columns(band, systems or {})]
    columns += [_colour_column(colour) for colour in colours]
    columns += [_VARIABLE] if with_variable else []
    seen: dict[str, str] = {}
    for column in columns:
        folded = column.name.casefold()
        if folded in seen:
            raise UsageError(
                f"the columns {seen[folded]!r} and {column.name!r} cannot be in one table, since "
                "databases do not distinguish upper from lower case; rename one, as in Gaia_G"
            )
        seen[folded] = column.name
    return load("catalog").extended("catalog", tuple(columns))


def _spectral_word(band: str) -> str | None:
    if band not in BANDS:
        return None
    return next((word for limit, word in _UCD_LIMITS if BANDS[band].wavelength_nm < limit), None)


def _magnitude_columns(band: str, systems: Mapping[str, System]) -> tuple[Column, Column]:
    system = f", {known}" if (known := system_of(band, systems)) else ""
    name, word = mag_column(band), _spectral_word(band)
    error = Column(f"{name}_err", "float", f"Error of {name}, 1 sigma", unit="mag", ucd="stat.error;phot.mag")
    ucd = f"phot.mag;{word}" if word else "phot.mag"
    return Column(name, "float", f"Magnitude in {band}{system}", unit="mag", ucd=ucd), error


def _colour_column(colour: str) -> Column:
    words = [word for word in map(_spectral_word, colour.split("-")) if word]
    ucd = ";".join(["phot.color", *dict.fromkeys(words)])
    return Column(colour_column(colour), "float", f"Colour {colour}", unit="mag", ucd=ucd)


def require_columns(available: Sequence[str], wanted: Iterable[str], source: str) -> None:
    """Refuse a table that lacks a wanted column or has it twice.

    Raises
    ------
    CatalogError
        Names the file, the column and the columns with a similar name.
    """
    counts = Counter(available)
    for name in wanted:
        if counts[name] > 1:
            raise CatalogError(
                f"{source}: the column {name!r} occurs {counts[name]} times; rename all but one"
            )
        if not counts[name]:
            raise CatalogError(f"{source}: there is no column {name!r}; {near(name, available)}")


def near(name: str, available: Sequence[str]) -> str:
    """Return a clause that names the columns nearest to one that is missing, or else all there are."""
    # Of a damaged FITS table a column may have no name.
    folded = {column.casefold(): column for column in reversed(available) if column}
    alike = [folded[match] for match in difflib.get_close_matches(name.casefold(), folded, 3)]
    if alike:
        return f"did you mean {' or '.join(map(repr, alike))}?"
    shown = ", ".join(repr(column) for column in available[:20])
    return f"its columns are {shown}{' …' if len(available) > 20 else ''}"
