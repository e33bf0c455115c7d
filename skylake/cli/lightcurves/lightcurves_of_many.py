"""Write the light curves of a list of stars, or of all stars of a part of the sky."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from skylake.cli import show
from skylake.cli.lightcurves.lightcurve_of_star import (
    curve_of,
    file_of,
    lost_of_version,
    say_what_is_left_out,
    write_curve,
    written_form,
)
from skylake.cli.lightcurves.lightcurve_options import DATABASES, LightCurveOptions
from skylake.core.counted import counted

if TYPE_CHECKING:
    import pyarrow as pa

    from skylake.errors import SkylakeError
    from skylake.lake import Snapshot
    from skylake.report.stars.chosen_points import PointChoice
    from skylake.report.stars.star_list import ListedStar
    from skylake.sky.sky_region import SkyRegion


def export_stars(snapshot: Snapshot, stars: list[ListedStar], options: LightCurveOptions) -> int:
    """Write the light curves of several stars, and return how many cannot be given."""
    import pyarrow as pa

    from skylake.cli.output import write_table
    from skylake.errors import LakeError, StarError, UsageError
    from skylake.report.stars.which_star import (
        RELATIVE_NOTE,
        doubt_about_star,
        found_at_position,
        unknown_identifiers,
    )

    if options.plot is not None:
        raise UsageError("--plot draws one star; name one")
    one_each = options.out is not None and options.out.is_dir()
    if options.form in DATABASES and not one_each:
        raise UsageError(f"--format {options.form} is a file for each star; name a folder, as in -o curves/")
    if not stars:
        raise UsageError(f"{options.stars_file}: the file names no star; write one on each line")
    left_out, lines, tables, by_place, is_relative = _LeftOut(), [], [], list[str](), False
    for listed in stars:
        try:
            curve, star = curve_of(snapshot, listed, options)
            made, points_left_out = written_form(snapshot, curve, listed.called, options)
        except (LakeError, StarError) as error:
            if len(stars) == 1:
                raise
            left_out.add(error)
            lines.append(f"left out: {listed.called}, because {error}")
            continue
        left_out.points += points_left_out
        is_relative |= curve["measured"] == "relative"
        if star != (listed.object_id or star):
            by_place.append(listed.object_id)
        if one_each:
            curve |= {"left_out": points_left_out}
            write_curve(made, curve, listed.called, options, file_of(star, options))
        else:
            tables.append(_with_star(made, curve, star))
        if doubt := doubt_about_star(curve):
            show.complain(f"{found_at_position(curve)}; {doubt}")
    if left_out.n == len(stars):
        raise left_out.as_one(f"the {len(stars)} stars", options)
    for line in lines:
        show.complain(line)
    say_what_is_left_out(left_out.points)
    if is_relative:
        click.echo(RELATIVE_NOTE, err=True)
    if by_place:
        n_identifiers = sum(bool(one.object_id) for one in stars)
        show.complain(unknown_identifiers(by_place, n_identifiers, options.radius))
    if tables:
        write_table(pa.concat_tables(tables, promote_options="permissive"), options.out, options.form)
    return left_out.n


@dataclasses.dataclass(slots=True)
class _LeftOut:
    """Stars that cannot be given, and why, and points of others that are not written.

    Errors themselves are not kept: what they come from holds tables.
    """

    n: int = 0
    first: str = ""
    kinds: set[type[SkylakeError]] = dataclasses.field(default_factory=set)
    points: Counter[str] = dataclasses.field(default_factory=Counter)

    def add(self, error: SkylakeError) -> None:
        """Count a star."""
        self.first = self.first or str(error)
        self.kinds.add(type(error))
        self.n += 1

    def as_one(self, stars: str, options: LightCurveOptions) -> SkylakeError:
        """Return the error that says of all stars what was said of each."""
        from skylake.errors import LakeError, StarError
        from skylake.report.curves import FluxOfTargets

        if self.kinds == {FluxOfTargets}:
            why = (
                "--measured detected leaves out what is measured of targets"
                if options.curve_choice.measured == "detected"
                else f"none of {stars} is a target"
            )
            return FluxOfTargets(
                f"the flux {options.flux} is measured of targets only, and {why}; leave out --flux, or name aper1, "
                "aper2 or aper3"
            )
        kind = StarError if all(issubclass(one, StarError) for one in self.kinds) else LakeError
        return kind(f"none of {stars} can be given; the first not, because {self.first}")


def _with_star(points: pa.Table, curve: dict[str, Any], star: str | None = None) -> pa.Table:
    """Return points with columns that say whose they are, in front, and as what the star was asked for."""
    import pyarrow as pa

    n = points.num_rows
    own = {} if star is None else {"star": pa.array([star] * n, pa.string())}
    for name in ("object_id", "catalog", "ra_deg", "dec_deg", "measured"):
        own[name] = pa.array([curve[name]] * n)
    for number, (name, values) in enumerate(own.items()):
        points = points.add_column(number, name, values)
    return points


def export_field(snapshot: Snapshot, options: LightCurveOptions) -> int:
    """Write the light curves of all stars of a part of the sky, some at a time; return how many cannot be given."""
    from skylake.cli.stream_tables import write_each_star, write_stream
    from skylake.errors import UsageError

    if options.detrend is not None:
        raise UsageError(
            "--all exports measurements as they are; `skylake detrend` makes a table of all stars"
        )
    if options.plot is not None:
        raise UsageError(
            "--plot draws one star, not a field; leave out --plot, or name the star in place of --all and the field"
        )
    if options.form in DATABASES:
        raise UsageError(
            f"--format {options.form} is a file for each star, and --all writes tables; list the stars in a file "
            "(--stars) and name a folder by -o, or leave out --format"
        )
    region = options.region()
    if options.out is None:
        raise UsageError("--all writes files; name one, or a folder, by -o")
    left_out = _LeftOut()
    tables = _tables_of_field(snapshot, region, options, left_out)
    if options.out.is_dir():
        write_each_star(tables, options.out, options.form or "csv")
    else:
        write_stream(tables, options.out, options.form)
    say_what_is_left_out(left_out.points)
    if left_out.n:
        show.complain(
            f"left out: {counted(left_out.n, 'star')} of the field; the first, because {left_out.first}"
        )
    return left_out.n


def _tables_of_field(
    snapshot: Snapshot, region: SkyRegion, options: LightCurveOptions, left_out: _LeftOut
) -> Iterator[pa.Table]:
    """Yield the points of all stars of a region, some at a time; of rare choices star by star."""
    from skylake.cli.stream_tables import in_one_schema
    from skylake.errors import LakeError
    from skylake.report.stars.field_export import field_points, field_stars

    choice, points = options.curve_choice, options.point_choice(snapshot)
    if options.version is None and choice.flux in ("best", "calibrated"):
        pieces = field_points(snapshot, region, choice.measured, choice.flux)
    else:
        pieces = _star_by_star(snapshot, field_stars(snapshot, region, choice.measured), options, left_out)
    n_tables = 0
    for table in in_one_schema(_written_pieces(points.of_pieces(pieces), points, left_out)):
        n_tables += 1
        yield table
    if not n_tables and choice.measured and any(field_stars(snapshot, region)):
        raise LakeError(
            f"no star there has a light curve of {choice.measured} measurements; leave out --measured"
        )


def _written_pieces(
    pieces: Iterable[pa.Table], choice: PointChoice, left_out: _LeftOut
) -> Iterator[pa.Table]:
    """Yield what is written of some tables of measurements, and count what is not."""
    from skylake.report.stars.field_export import star_tables
    from skylake.report.stars.which_star import RELATIVE_NOTE

    is_said = False
    for piece in pieces:
        if not is_said and "relative" in piece["measured"].unique().to_pylist():
            click.echo(RELATIVE_NOTE, err=True)
            is_said = True
        table, points_left_out = star_tables(piece, choice)
        left_out.points += points_left_out
        yield table


def _star_by_star(
    snapshot: Snapshot,
    stars: Iterable[tuple[str, int, str]],
    options: LightCurveOptions,
    left_out: _LeftOut,
) -> Iterator[pa.Table]:
    """Yield the points of each star; count the stars that cannot be given."""
    from skylake.errors import LakeError, StarError
    from skylake.reading.lightcurves import points_table
    from skylake.report.curves import require_flux_of_detections
    from skylake.report.stars.star_curves import star_curve
    from skylake.report.stars.star_list import ListedStar

    choice, n_given = options.curve_choice, 0
    for catalog, star, kind in stars:
        try:
            if kind == "detected":
                require_flux_of_detections(choice.flux)  # before its curve is read
            curve = star_curve(snapshot, f"{catalog}:{star}", choice)
        except (LakeError, StarError) as error:
            left_out.add(error)
            continue
        n_given += 1
        listed = ListedStar(f"{star}", f"{catalog}:{star}")
        left_out.points += lost_of_version(snapshot, listed, curve, options)
        yield _with_star(points_table(curve), curve)
    if left_out.n and not n_given:
        raise left_out.as_one("the stars of the field", options)
