"""Other plate solvers, where they are installed, on lists of sources of ours."""

from __future__ import annotations

import importlib.util
import resource
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from skylake.errors import FrameRejected
from skylake.flow.astrometry import astrometry_net
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.source_list import StarList

ToSky = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
#: Gives CPU seconds, and how pixels lead to the sky, if that was found.
Solver = Callable[[StarList, SolveParams], tuple[float, ToSky | None]]
#: The package is given so many of the brightest sources, of which the first make its asterisms.
MOST_SOURCES, MOST_LEADING = 200, 80
#: What the package says where its index files are for pictures of other scales.
NO_FILES = "index files do not overlap"
#: Seconds of the clock for `solve-field`, whose own limit is one of the processor: others may use the machine too.
BUSY_S = 3600.0


def peers(folder: Path) -> dict[str, Solver]:
    """Return the peers that are installed, with the index files of a folder; say which are left out."""
    files = sorted(folder.glob("index-*.fits"))
    if not files:
        print(f"{folder}: there are no index files (Debian's astrometry-data-tycho2): the peers are left out")
        return {}
    found: dict[str, Solver] = {}
    if importlib.util.find_spec("astrometry"):
        found["astrometry (PyPI)"] = _package(files)
    else:
        print("the package astrometry is not installed (pip install astrometry): it is left out")
    if shutil.which("solve-field"):
        found["solve-field"] = partial(_program, folder)
    else:
        print("solve-field is not installed (Debian's astrometry.net): it is left out")
    return found


def _package(files: list[Path]) -> Solver:
    """Return a function that solves by the package `astrometry`, whose pixels begin at 1."""
    import astrometry

    solver = astrometry.Solver(files)

    def run(sources: StarList, params: SolveParams) -> tuple[float, ToSky | None]:
        order = np.argsort(-sources.flux)
        stars = np.column_stack([sources.x, sources.y])[order][:MOST_SOURCES] + 1.0
        near = None
        if params.centre is not None:
            # It wants the asterism within the radius, which may lie in a corner of the picture.
            corner = 0.5 * np.hypot(*sources.shape) * params.scale_high / 3600.0
            near = astrometry.PositionHint(*params.centre, min(params.radius_deg + corner, 180.0))
        began = time.process_time()
        try:
            answer = solver.solve(
                stars=stars, size_hint=astrometry.SizeHint(params.scale_low, params.scale_high), position_hint=near,
                solution_parameters=astrometry.SolutionParameters(
                    logodds_callback=lambda _: astrometry.Action.STOP,
                    slices_generator=lambda n: [(0, min(n, MOST_LEADING))],
                ),
            )  # fmt: skip
        except TypeError as error:
            # It says so in this way where none of its files is for such a scale.
            if NO_FILES not in str(error):
                raise
            print(f"astrometry (PyPI): not solved: {error}")
            return time.process_time() - began, None
        seconds = time.process_time() - began
        if not answer.has_match():
            return seconds, None
        wcs = answer.best_match().astropy_wcs()
        return seconds, lambda x, y: wcs.all_pix2world(x, y, 0)

    return run


def _program(folder: Path, sources: StarList, params: SolveParams) -> tuple[float, ToSky | None]:
    """Solve by `solve-field`."""
    from astropy.wcs import WCS

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        answered = astrometry_net.solve_list(sources, params, folder, BUSY_S)
    except FrameRejected:
        answered = None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, None if answered is None else (lambda x, y: WCS(answered.header).all_pix2world(x, y, 0))
