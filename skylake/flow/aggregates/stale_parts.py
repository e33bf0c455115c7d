"""Parts of a lake that are out of date: those that calibrate and aggregate would make by their plans."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from skylake.flow.aggregates.fold_objects import stale_objects
from skylake.flow.aggregates.plan import PlanSources, plan
from skylake.flow.aggregates.run import ALERTS, definition_of
from skylake.flow.aggregates.users import UserAggregate, user_aggregates
from skylake.flow.staleness import Why
from skylake.flow.watching.make_alerts import orphans as unwatched
from skylake.flow.watching.make_alerts import plan_alerts
from skylake.flow.zeropoints.calibrated_nights import Against, orphans, plan_nights
from skylake.flow.zeropoints.calibration_in_force import CalibrationInForce, calibration_in_force
from skylake.flow.zeropoints.season_plans import plan_seasons
from skylake.flow.zeropoints.star_solutions import STARS
from skylake.lake import Lake, Snapshot
from skylake.schema.tables import in_force
from skylake.sky.lake_catalogs import ReferenceCatalog
from skylake.table.aggregate import Aggregate, built_in
from skylake.table.objects import NAME as OBJECTS


@dataclass(slots=True)
class Outdated:
    """The state of a derived table.

    Attributes
    ----------
    n_current : int
        Parts that are up to date.
    why : dict
        Why each of the others has to be made anew, or removed, by name.
    nights : set of int
        The nights of those of the others that have one, and are not to be removed.
    """

    n_current: int = 0
    why: dict[str, Why] = field(default_factory=dict)
    nights: set[int] = field(default_factory=set)

    @property
    def counts(self) -> dict[str, int]:
        """Number of parts by reason, the most frequent first."""
        return {why.value: count for why, count in Counter(self.why.values()).most_common()}

    def note(self, name: str, why: Why | None) -> None:
        """Note the state of a part."""
        if why is None:
            self.n_current += 1
        else:
            self.why[name] = why


def outdated(lake: Lake, snapshot: Snapshot | None = None) -> dict[str, Outdated]:
    """Return the state of each derived table, by its name in the order in which they are made.

    The calibration is that which ``calibrate`` makes by default: of the catalogs in force and the largest version of
    each night.
    Light curves that the matches of a night will be new to are not known before the night is matched. Files of users
    that are no aggregates are passed over; :func:`user_aggregates` says what is wrong with them.

    Raises
    ------
    SkylakeError
        If a profile or the catalog cannot be read.
    """
    calibrated = calibration_in_force(lake, snapshot)
    found = _calibrations(lake, calibrated)
    stale = {(table, name) for table, state in found.items() for name in state.why}
    sources = PlanSources(lake, calibrated)
    known: dict[str, Aggregate | UserAggregate | None] = {
        **built_in(),
        OBJECTS: None,
        **user_aggregates()[0],
    }
    for table, one in known.items():
        found[table] = _objects(sources, stale) if one is None else _aggregate(one, sources, stale)
        stale |= {(table, name) for name in found[table].why}
    found[ALERTS] = _alerts(lake, calibrated, stale)
    return found


def uncalibrated(lake: Lake) -> int:
    """Return how many parts of matches and zeropoints are out of date, without plans of the tables made from them.

    Raises
    ------
    SkylakeError
        If a profile or the catalog cannot be read.
    """
    return sum(len(state.why) for state in _calibrations(lake, calibration_in_force(lake)).values())


def _calibrations(lake: Lake, calibrated: CalibrationInForce) -> dict[str, Outdated]:
    """Return the state of matches and zeropoints."""
    snapshot = calibrated.snapshot
    found = {"matches": Outdated(), "zeropoints": Outdated()}
    if not any(name for name, _ in calibrated.in_force.values()):
        return found
    against = {
        camera: Against(ReferenceCatalog.open(snapshot.catalog(name)))
        for camera, (name, _) in calibrated.in_force.items()
        if name
    }
    for night in plan_nights(snapshot, {camera: lake.profile(camera) for camera in against}, against):
        found["matches"].note(night.matches_name, night.why_matches)
        found["zeropoints"].note(night.zeropoints_name, night.why_zeropoints)
    for camera, one in against.items():
        for season in plan_seasons(snapshot, lake.profile(camera), one.reference):
            if season.held is not None:
                for solution in season.held.members:
                    found.setdefault(STARS, Outdated()).note(solution.key.name, season.why)
    for table, names in orphans(snapshot).items():
        if names:
            found.setdefault(table, Outdated()).why |= dict.fromkeys(names, Why.ORPHANED)
    return found


def _alerts(lake: Lake, calibrated: CalibrationInForce, stale: set[tuple[str, str]]) -> Outdated:
    """Return the state of the nights that watch lists watch, given the parts that are out of date."""
    version = calibrated.snapshot.version(ALERTS)
    held, lost = version.parts, version.lost()
    state = Outdated()
    for one in plan_alerts(lake, calibrated):
        why = one.why(held.get(one.night.part), lost)
        why = why or (None if stale.isdisjoint(one.made_from) else Why.UPSTREAM)
        state.note(one.night.part, why)
        if why is not None:
            state.nights.add(one.night.night)
    state.why |= dict.fromkeys(unwatched(calibrated.snapshot), Why.ORPHANED)
    return state


def _aggregate(
    made_by: Aggregate | UserAggregate, sources: PlanSources, stale: set[tuple[str, str]]
) -> Outdated:
    """Return the state of an aggregate, given the parts of tables made before it that are out of date."""
    definition, schema = definition_of(made_by)
    with in_force(schema):
        version = sources.snapshot.version(definition.name)
        held, lost, form = version.parts, version.lost(), schema.sha256
    state = Outdated()
    planned = set()
    for one in plan(definition, sources):
        why = one.why(held.get(one.name), form, lost)
        why = why or (None if stale.isdisjoint(one.made_from) else Why.UPSTREAM)
        state.note(one.name, why)
        if why is not None:
            state.nights.add(one.night)
        planned.add(one.name)
    state.why |= dict.fromkeys(held.keys() - planned, Why.ORPHANED)
    return state


def _objects(sources: PlanSources, stale: set[tuple[str, str]]) -> Outdated:
    """Return the state of the objects of all cameras."""
    state = Outdated()
    for name, (planned, why) in stale_objects(sources).items():
        if planned is not None and why is None and not stale.isdisjoint(planned.made_from):
            why = Why.UPSTREAM
        state.note(name, why)
    return state
