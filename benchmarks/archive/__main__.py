"""Fill a lake, new or not, with nights of simulated tables: millions of rows in seconds.

``python -m archive LAKE --nights 300``, in the folder ``benchmarks``. Nights that the lake has stay: more --nights of
the same scenario are added, and another scenario is refused. Where the scenario does not say otherwise, there are 12
fields around the sky, so that every night of the year has some, and a tenth of the frames is behind clouds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from archive.make_archive import ArchiveReport, make_archive
from archive.night_plan import plan_night
from archive.scenario import ArchiveScenario
from skylake.cli.progress_bar import progress
from skylake.declared import build, read_toml
from skylake.errors import SkylakeError
from skylake.flow.execution.cluster import workers
from skylake.lake import Lake
from skylake.settings import FILE_NAME as SETTINGS_FILE
from skylake.simulate.schedule import nights_of


def main(arguments: list[str] | None = None) -> None:
    """Fill the lake that the command line names, and print what was made."""
    parser = argparse.ArgumentParser(prog="python -m archive", description=__doc__.splitlines()[0])
    parser.add_argument("lake", type=Path, help="a lake, or a folder that becomes one")
    parser.add_argument("--nights", type=int, help="nights; 2 by default")
    parser.add_argument("--scenario", type=Path, metavar="FILE.toml", help="keys of archive.scenario")
    parser.add_argument("--workers", type=int, metavar="N", help="processes; one per core by default")
    options = parser.parse_args(arguments)
    try:
        made = fill(options.lake, scenario_of(options.scenario, options.nights), options.workers)
    except (SkylakeError, OSError) as error:
        sys.exit(f"archive: {error}")
    print(f"archive: {made.n_nights} nights, {made.rows['sources']} sources in {options.lake}")


def scenario_of(path: Path | None, nights: int | None) -> ArchiveScenario:
    """Return the scenario of a file, with a number of nights, if one is given, and the defaults of archives."""
    data: dict[str, Any] = {} if path is None else read_toml(path)
    data.setdefault("schedule", {}).setdefault("fields", 11)
    data.setdefault("atmosphere", {}).setdefault("cloudy_fraction", 0.1)
    if nights is not None:
        data["nights"] = nights
    return build(ArchiveScenario, data, str(path or "the options"))


def fill(root: Path, scenario: ArchiveScenario, count: int | None) -> ArchiveReport:
    """Make the nights of a scenario in a lake, which is made where there is none."""
    # Before a lake is made: a scenario that is impossible leaves nothing behind.
    plan_night(scenario, nights_of(scenario)[0])
    lake = Lake(root) if (root / SETTINGS_FILE).is_file() else Lake.create(root)
    count = count or lake.settings.workers
    with workers("inline" if count == 1 else lake.settings.cluster, count) as pool, progress() as shown:
        return make_archive(lake, scenario, pool, shown)


if __name__ == "__main__":
    main()
