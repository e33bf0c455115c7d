"""A whole simulation: frames, truth and catalog into a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skylake.simulate.calibrations import PlannedCalibration, plan_calibrations, simulate_calibration
from skylake.simulate.catalog import reference_catalog
from skylake.simulate.planning import PlannedFrame, plan
from skylake.simulate.population import StarPopulation, joined
from skylake.simulate.scenario import Scenario
from skylake.simulate.simulated_frame import simulate_frame
from skylake.simulate.truth import DETECTION_SCHEMA, FrameTruth, frame_table, star_table, transient_table
from skylake.simulate.world import field_stars, world

#: Called after each frame with the number of frames made and to be made.
Progress = Callable[[int, int], None]

#: The catalog goes so much deeper than the detection limit where the scenario does not say.
_CATALOG_DEPTH_MAG = 1.0


@dataclass(frozen=True, slots=True)
class SimulationResult:
    """The result of a simulation.

    Attributes
    ----------
    out : Path
        The folder.
    frames, calibrations : tuple of Path
        Frames of the sky in the order of time, and calibration frames.
    catalog : Path
        The reference catalog.
    truth_frames, truth_stars, truth_transients : Path
        Truth tables.
    truth_detections : tuple of Path
        Truth of every star in every frame, one table a night.
    n_stars, n_catalog, n_detections : int
        Rows of stars, catalog and detections.
    """

    out: Path
    frames: tuple[Path, ...]
    calibrations: tuple[Path, ...]
    catalog: Path
    truth_frames: Path
    truth_stars: Path
    truth_transients: Path
    truth_detections: tuple[Path, ...]
    n_stars: int
    n_catalog: int
    n_detections: int


def simulate(
    scenario: Scenario, out: str | Path, workers: int = 1, progress: Progress | None = None
) -> SimulationResult:
    """Make the frames of a scenario with truth tables and reference catalog.

    Parameters
    ----------
    scenario : Scenario
        What to make.
    out : str or Path
        Folder; files of the same names are overwritten, others stay.
    workers : int
        Processes. More than one must be started from a module that can be imported again
        (``if __name__ == "__main__":``). The bytes do not depend on it.
    progress : callable, optional
        Called after each frame.

    Raises
    ------
    ConfigurationError
        If the profile of the camera cannot be simulated.
    UsageError
        If the timetable is impossible.
    """
    folder = Path(out)
    planned, calibrations = plan(scenario), plan_calibrations(scenario)
    (folder / "truth" / "detections").mkdir(parents=True, exist_ok=True)
    n_stars, n_catalog = _write_sky(scenario, folder)
    with _mapper(workers) as mapped:
        truths = mapped(partial(_frame_task, scenario, folder), planned)
        tables, n_detections = _write_truth(truths, planned, folder, progress)
        for _ in mapped(partial(_calibration_task, scenario, folder), calibrations):
            pass
    return SimulationResult(
        out=folder,
        frames=tuple(folder / frame.file for frame in planned),
        calibrations=tuple(folder / item.file for item in calibrations),
        catalog=folder / "catalog.parquet",
        truth_frames=folder / "truth" / "frames.parquet",
        truth_stars=folder / "truth" / "stars.parquet",
        truth_transients=folder / "truth" / "transients.parquet",
        truth_detections=tuple(tables),
        n_stars=n_stars,
        n_catalog=n_catalog,
        n_detections=n_detections,
    )


def _frame_task(scenario: Scenario, folder: Path, frame: PlannedFrame) -> FrameTruth:
    return simulate_frame(frame, scenario, folder)


def _calibration_task(scenario: Scenario, folder: Path, item: PlannedCalibration) -> None:
    simulate_calibration(item, scenario, folder)


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[FrameTruth]]]:
    """Give a function like the built-in map, over one process or several."""
    if workers <= 1:
        yield map
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Fresh processes: forked ones may inherit locks of threads that do not exist in them.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield pool.map


def _write_truth(
    truths: Iterable[FrameTruth], planned: list[PlannedFrame], folder: Path, progress: Progress | None
) -> tuple[list[Path], int]:
    """Write the truth of frames as they are made; return the tables of detections and their rows."""
    rows: list[dict[str, object]] = []
    tables: list[Path] = []
    n_detections = 0
    with ExitStack() as open_table:
        for frame, truth in zip(planned, truths, strict=True):
            if not rows or frame.night != rows[-1]["night"]:
                open_table.close()
                tables.append(folder / "truth" / "detections" / f"{frame.night:08d}.parquet")
                writer = pq.ParquetWriter(
                    tables[-1], DETECTION_SCHEMA, compression="zstd", write_page_checksum=True
                )
                open_table.enter_context(writer)
            writer.write_table(truth.detections)
            rows.append(truth.frame)
            n_detections += truth.detections.num_rows
            if progress is not None:
                progress(len(rows), len(planned))
    _write(frame_table(rows), folder / "truth" / "frames.parquet")
    return tables, n_detections


def _write_sky(scenario: Scenario, folder: Path) -> tuple[int, int]:
    """Write stars, transients and catalog; return the numbers of stars and of catalog stars."""
    here = world(scenario)
    stars = _all_stars(scenario)
    limit = scenario.catalog.limit_mag
    catalog = reference_catalog(
        scenario, stars, here.observatory.v_limit + _CATALOG_DEPTH_MAG if limit is None else limit
    )
    _write(catalog, folder / "catalog.parquet")
    _write(star_table(stars), folder / "truth" / "stars.parquet")
    transients = transient_table(scenario, here.observatory, here.specials, here.slots[0].mjd_start)
    _write(transients, folder / "truth" / "transients.parquet")
    return len(stars), catalog.num_rows


def _all_stars(scenario: Scenario) -> StarPopulation:
    """Return the stars of all fields, each once, in the order of their identifiers.

    They reach out farther than the images, by what a wrong header may be off.
    """
    beyond = scenario.header.wrong_offset_arcmin / 60.0 if scenario.header.wrong_wcs_fraction else 0.0
    fields = range(len(world(scenario).fields))
    stars = joined([field_stars(scenario, field, beyond) for field in fields])
    _, first = np.unique(stars.star_id, return_index=True)
    return stars.take(first)


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", write_page_checksum=True)
