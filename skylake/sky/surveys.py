"""Surveys as data: which columns, units and flags the published files of a survey have.

Each survey is one file ``skylake/surveys/NAME.toml`` with the forms in which it is published, such as that of its
archive and that of VizieR. Users have files of their own, in ``~/.config/skylake/surveys`` or anywhere; they stay
theirs, since a lake keeps nothing that names files of one machine.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from skylake.core.bands import System
from skylake.declared import build, read_toml
from skylake.errors import CatalogError, ConfigurationError, UsageError
from skylake.settings import user_file
from skylake.sky.catalog_columns import BandSum, CatalogColumns, Cut, near

_FOLDER = Path(__file__).resolve().parents[1] / "surveys"
_ODD = re.compile(r"[^A-Za-z0-9]+")
#: A number as a file without a header has it where it begins.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
#: Years by which two epochs of one release may differ.
_SAME_EPOCH = 0.01

Names = str | tuple[str, ...]
"""A column, or the names that it may have, the first that a file has being the one."""


@dataclass(frozen=True, slots=True)
class CutColumns:
    """A condition as a survey states it; see :class:`skylake.sky.catalog_columns.Cut`."""

    column: Names
    at_least: float | None = None
    at_most: float | None = None
    one_of: tuple[str, ...] | tuple[float, ...] = ()
    character: int | None = None
    without_bits: int = 0
    or_same_as: Names = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class BandColumns:
    """A magnitude of a form: its column or columns, or the bands that it is a sum of."""

    magnitude: Names = ()
    error: Names | float = ()
    signal_to_noise: Names = ()
    system: System | None = None
    keep: tuple[CutColumns, ...] = ()
    sum: dict[str, float] = field(default_factory=dict)
    scatter: float = 0.0
    colour: dict[str, float] = field(default_factory=dict)
    colour_limits: tuple[float, float] = (-99.0, 99.0)


@dataclass(frozen=True, slots=True)
class Form:
    """One form in which a survey is published; see :class:`skylake.sky.catalog_columns.CatalogColumns`.

    Attributes
    ----------
    columns, delimiter
        Of a text file without a header: all its columns in order, and what separates them.
    marks : tuple of str
        Columns of which a file of this form has at least one; empty if it need not.
    star_name
        The name by which people know a star, where `id` is another.
    release : str
        Release of the survey, one of :attr:`Survey.releases`; empty if files leave it open.
    position_unit, motion_unit, magnitude_unit : str
        Units where the file gives none: degrees, mas/yr and magnitudes if empty.
    """

    name: str
    ra: Names
    dec: Names
    bands: dict[str, BandColumns]
    columns: tuple[str, ...] = ()
    delimiter: str = ","
    marks: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()
    id: Names = ()
    id_parts: tuple[str, ...] = ()
    star_name: Names = ()
    pm: tuple[Names, ...] = ()
    pm_ra_is_coordinate: bool = False
    release: str = ""
    epoch: float | None = None
    row_epoch: Names = ()
    position_unit: str = ""
    motion_unit: str = ""
    magnitude_unit: str = ""
    missing: tuple[float, ...] = ()
    keep_rows: tuple[CutColumns, ...] = ()
    keep_magnitudes: tuple[CutColumns, ...] = ()
    variable: CutColumns | None = None
    colours: dict[str, Names] = field(default_factory=dict)

    @property
    def names(self) -> Iterator[str]:
        """The names that the columns of a file of this form may have."""
        groups: list[Names] = [
            self.ra,
            self.dec,
            self.id,
            self.id_parts,
            self.star_name,
            *self.pm,
            *self.colours.values(),
        ]
        for band in self.bands.values():
            groups += [band.magnitude, band.signal_to_noise]
            groups += [band.error] if not isinstance(band.error, float | int) else []
        for group in [*groups, self.marks]:
            yield from _each(group)


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey and the forms in which it is published.

    Attributes
    ----------
    title : str
    epoch : float
        Julian year of its positions, where a form has no other.
    form : tuple of Form
    name : str
        As ``--format`` takes it.
    variables : bool
        Whether all that it lists are variable stars. Such a catalog neither solves nor calibrates.
    releases : dict
        Releases with passbands of their own: name to the epoch of their positions.
    """

    title: str
    epoch: float
    form: tuple[Form, ...]
    name: str = ""
    variables: bool = False
    releases: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that columns of its files may have."""
        return tuple(dict.fromkeys(name for form in self.form for name in form.names))


@dataclass(frozen=True, slots=True)
class Found:
    """Columns found in a file of a survey.

    Attributes
    ----------
    columns : CatalogColumns
    form : str
        Name of the form.
    absent : tuple of str
        Conditions that cannot be checked, as the file has no such column.
    """

    columns: CatalogColumns
    form: str
    absent: tuple[str, ...]


def survey_names() -> list[str]:
    """Return the names of the surveys that come with skylake, and of those in the user's own folder."""
    folders = (_FOLDER, user_folder())
    return sorted({path.stem for folder in folders for path in folder.glob("*.toml")})


def user_folder() -> Path:
    """Return the folder in which users keep surveys of their own."""
    return user_file().parent / "surveys"


def load_survey(name: str) -> Survey:
    """Return a survey by its name or the path of its file; the user's own come before those of skylake.

    Raises
    ------
    UsageError
        If there is no such survey.
    ConfigurationError
        If its file cannot be read, or has a key or value that means nothing.
    """
    path = Path(name).expanduser()
    if path.suffix != ".toml" and "/" not in name:
        places = [folder / f"{name}.toml" for folder in (user_folder(), _FOLDER)]
        path = next((place for place in places if place.is_file()), places[0])
    if not path.is_file():
        known = ", ".join(["table", "hats", *survey_names()])
        raise UsageError(f"there is no format {name!r}; give one of {known}, or the path of a TOML file")
    try:
        survey = build(Survey, {**read_toml(path), "name": path.stem}, str(path))
    except OSError as error:
        raise ConfigurationError(
            f"{path}: the file cannot be read ({error.strerror}); correct that"
        ) from error
    for form in survey.form:
        _check(form, survey.releases, str(path))
    return survey


def of_release(survey: Survey, columns: CatalogColumns, row_epoch: float) -> CatalogColumns:
    """Return columns at the epoch of the release whose rows have such an epoch; as they are if none does."""
    for release, epoch in survey.releases.items():
        if math.isclose(epoch, row_epoch, abs_tol=_SAME_EPOCH):
            return replace(columns, epoch=epoch, survey=release)
    return columns


def _check(form: Form, releases: Collection[str], place: str) -> None:
    """Refuse a form that cannot be meant."""
    if form.release and form.release not in releases:
        raise ConfigurationError(f"{place}: {form.name}: {form.release!r} is none of the releases")
    if len(form.pm) not in (0, 2) or len(form.otherwise) not in (0, 2):
        raise ConfigurationError(f"{place}: {form.name}: pm and otherwise name two columns, or none")
    for name, band in form.bands.items():
        if bool(band.magnitude) == bool(band.sum):
            raise ConfigurationError(f"{place}: {form.name}: {name}: give either magnitude or sum")
        for term in (*band.sum, *band.colour):
            if term not in form.bands or form.bands[term].sum:
                raise ConfigurationError(
                    f"{place}: {form.name}: {name}: {term} is no band with a magnitude here"
                )


def find_columns(survey: Survey, available: Sequence[str], source: str, first_line: str = "") -> Found:
    """Return which columns of a file hold what, by the form of the survey that fits it best.

    Parameters
    ----------
    survey : Survey
    available : sequence of str
        Columns of the file.
    source : str
        The file, for the message.
    first_line : str
        First line of a text file: a row where it has no header.

    Raises
    ------
    CatalogError
        If no form fits; the sentence names the columns that are missing and those near them.
    """
    attempts = [_Attempt(survey, form, available, first_line) for form in survey.form]
    fitting = [attempt for attempt in attempts if not attempt.missing]
    if not fitting:
        # Of a file without a header, forms with one have nothing to say.
        nearest = max(attempts, key=lambda attempt: (attempt.n_found, -len(attempt.missing)))
        wanted = "; ".join(nearest.missing)
        raise CatalogError(
            f"{source}: the file has no form of {survey.name}; for the nearest, {nearest.form.name!r}, it lacks "
            f"{wanted}; {near(nearest.wanted_name, available)}; for other names use --format table, or a TOML file of "
            "your own"
        )
    best = max(fitting, key=lambda attempt: (attempt.n_found, bool(attempt.form.marks)))
    return best.found()


def find_survey(available: Sequence[str], source: str) -> tuple[Survey, Found]:
    """Return the survey whose columns a file has, and which of them hold what.

    Raises
    ------
    CatalogError
        If it has those of no survey.
    """
    best: tuple[int, Survey, Found] | None = None
    for survey in map(load_survey, survey_names()):
        for form in survey.form:
            attempt = _Attempt(survey, form, available, "")
            if not attempt.missing and (best is None or attempt.n_found > best[0]):
                best = attempt.n_found, survey, attempt.found()
    if best is None:
        shown = ", ".join(map(repr, available[:20])) + (" …" if len(available) > 20 else "")
        raise CatalogError(
            f"{source}: the columns are those of no survey ({shown}); name them with --ra, --dec, --mag and the like"
        )
    return best[1:]


class _Attempt:
    """An attempt to read a file as one form of a survey."""

    def __init__(self, survey: Survey, form: Form, available: Sequence[str], first_line: str) -> None:
        self.survey, self.form = survey, form
        self.is_bare = bool(form.columns) and _is_bare(form, first_line)
        if form.columns:
            available = form.columns if self.is_bare else ()
        self._names = _NameIndex(available, set(form.names))
        self._absent: list[str] = []
        ra, dec = self._names.find(form.ra), self._names.find(form.dec)
        self.magnitudes = {
            band: name for band, of in form.bands.items() if (name := self._names.find(of.magnitude))
        }
        wanted = [("right ascension", form.ra, ra), ("declination", form.dec, dec)]
        if not self.magnitudes:
            every = tuple(name for band in form.bands.values() for name in _each(band.magnitude))
            wanted.append(("a magnitude", every, None))
        if form.marks and self._names.find(form.marks) is None:
            wanted.append(("this form alone", form.marks, None))
        lacking = [(what, names) for what, names, found in wanted if not found]
        self.missing = [f"{what} ({_either(names)})" for what, names in lacking]
        self.wanted_name = next((_each(names)[0] for _, names in lacking), "")
        self.n_found = sum(self._names.find(name) is not None for name in dict.fromkeys(form.names))
        self._ra, self._dec = ra or "", dec or ""

    def found(self) -> Found:
        """Return the columns."""
        form, names = self.form, self._names
        sums = {band: of for band, of in form.bands.items() if of.sum and set(of.sum) <= set(self.magnitudes)}
        motion = [names.find(name) for name in form.pm]
        moving = len(motion) == 2 and all(motion)
        otherwise = [name for name in map(names.find, form.otherwise) if name]
        is_fallback = len(otherwise) == 2 and otherwise != [self._ra, self._dec]
        columns = CatalogColumns(
            ra=self._ra,
            dec=self._dec,
            id=self._identifier(),
            pm_ra=motion[0] if moving else None,
            pm_dec=motion[1] if moving else None,
            pm_ra_is_coordinate=form.pm_ra_is_coordinate,
            epoch=self._epoch(),
            survey=form.release or self.survey.name,
            row_epoch=names.find(form.row_epoch),
            otherwise=(otherwise[0], otherwise[1]) if is_fallback else None,
            magnitudes=self.magnitudes,
            magnitude_errors=self._errors(),
            signal_to_noise=self._of_bands("signal_to_noise"),
            sums={
                band: BandSum(of.sum, of.scatter, of.colour, of.colour_limits) for band, of in sums.items()
            },
            colours={colour: name for colour, some in form.colours.items() if (name := names.find(some))},
            systems={band: of.system for band, of in form.bands.items() if of.system is not None},
            missing=form.missing,
            keep_rows=self._cuts(form.keep_rows),
            keep_magnitudes={
                band: cuts
                for band in self.magnitudes
                if (cuts := self._cuts((*form.keep_magnitudes, *form.bands[band].keep)))
            },
            variable=self._variable(),
            names=form.columns if self.is_bare else (),
            delimiter=form.delimiter,
            star_name=names.find(form.star_name),
        )
        return Found(_with_units(columns, form), form.name, tuple(dict.fromkeys(self._absent)))

    def _epoch(self) -> float:
        if self.form.epoch is not None:
            return self.form.epoch
        return self.survey.releases.get(self.form.release, self.survey.epoch)

    def _identifier(self) -> str | tuple[str, ...] | None:
        parts = tuple(name for name in map(self._names.find, self.form.id_parts) if name)
        if self.form.id_parts and len(parts) == len(self.form.id_parts):
            return parts
        return self._names.find(self.form.id)

    def _of_bands(self, kind: str) -> dict[str, str]:
        """Return bands with the column that they have of one kind."""
        found = {band: self._names.find(getattr(self.form.bands[band], kind)) for band in self.magnitudes}
        return {band: name for band, name in found.items() if name}

    def _errors(self) -> dict[str, str | float]:
        errors: dict[str, str | float] = {}
        for band in self.magnitudes:
            error = self.form.bands[band].error
            if isinstance(error, float | int):
                errors[band] = float(error)
            elif name := self._names.find(error):
                errors[band] = name
        return errors

    def _cuts(self, cuts: Iterable[CutColumns]) -> tuple[Cut, ...]:
        return tuple(cut for stated in cuts if (cut := self._cut(stated)))

    def _cut(self, stated: CutColumns) -> Cut | None:
        name = self._names.find(stated.column)
        if name is None:
            self._absent.append(_each(stated.column)[0])
            return None
        return Cut(
            name,
            stated.at_least,
            stated.at_most,
            stated.one_of,
            stated.character,
            stated.without_bits,
            self._names.find(stated.or_same_as),
            stated.why,
        )

    def _variable(self) -> Cut | bool | None:
        if self.survey.variables:
            return True
        stated = self.form.variable
        if stated is None or self._names.find(stated.column) is None:
            return None
        return self._cut(stated)


class _NameIndex:
    """The columns of a file, found by name: as it is, else without regard to case and signs where one column fits.

    Services write the same name as ``r'mag``, ``r_mag`` or ``RMAG``.
    """

    def __init__(self, available: Sequence[str], wanted: set[str]) -> None:
        self._exact = set(available)
        self._folded: dict[str, set[str]] = {}
        # A column whose own name is asked for is no other spelling of another.
        for name in available:
            if name not in wanted:
                self._folded.setdefault(_folded(name), set()).add(name)

    def find(self, names: Names) -> str | None:
        """Return the column that one of the names means, the first that there is; None if there is none."""
        for name in _each(names):
            if name in self._exact:
                return name
        for name in _each(names):
            alike = self._folded.get(_folded(name), set())
            if len(alike) == 1:
                return next(iter(alike))
        return None


def _folded(name: str) -> str:
    return _ODD.sub("_", name).strip("_").casefold()


def _each(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _either(names: Names) -> str:
    some = _each(names)
    return " or ".join(some[:4]) + (" …" if len(some) > 4 else "")


def _is_bare(form: Form, first_line: str) -> bool:
    """Return whether a first line is a row of a form without a header."""
    cells = next(csv.reader([first_line], delimiter=form.delimiter), [])
    if len(cells) != len(form.columns):
        return False
    row = dict(zip(form.columns, cells, strict=True))
    return all(_NUMBER.match(row[_each(name)[0]].strip()) for name in (form.ra, form.dec))


def _with_units(columns: CatalogColumns, form: Form) -> CatalogColumns:
    """Return columns with the units of the form."""
    errors = [name for name in columns.magnitude_errors.values() if isinstance(name, str)]
    groups: list[tuple[str, list[str | None]]] = [
        (form.position_unit, [columns.ra, columns.dec, *(columns.otherwise or ())]),
        (form.motion_unit, [columns.pm_ra, columns.pm_dec]),
        (form.magnitude_unit, [*columns.magnitudes.values(), *errors]),
    ]
    units = {name: unit for unit, names in groups if unit for name in names if name}
    return replace(columns, usual_units=units)
