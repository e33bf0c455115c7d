"""Simulations of a camera of several chips: each is simulated by itself, and exposures are put together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skylake.cameras import Profile, load_chips
from skylake.errors import UsageError
from skylake.simulate.scenario import Scenario
from skylake.simulate.write_nights import Progress, SimulationResult, simulate


def simulate_camera(
    scenario: Scenario, out: str | Path, workers: int = 1, progress: Progress | None = None
) -> SimulationResult:
    """Make the frames of a scenario, of all chips where its camera has several.

    Chips whose profiles name one HDU each share a file for each exposure; others have files of their own. The
    truth is that of all chips, with the name of each as its camera. Parameters and errors are those of
    :func:`skylake.simulate.write_nights.simulate`.

    Raises
    ------
    UsageError
        If the files of chips of one exposure are to be compressed: only plain ones are put together.
    """
    chips, folder = load_chips(scenario.camera), Path(out)
    if len(chips) == 1:
        return simulate(scenario, folder, workers, progress)
    together = len({str(one.base.header.extension) for one in chips}) == len(chips)
    if together and scenario.file_form != "fits":
        raise UsageError("the simulation cannot be made: chips of one file take the form fits")
    made = [
        simulate(
            replace(scenario, camera=f"{scenario.camera}:{one.base.place.chip}"),
            folder / ".chips" / one.base.place.chip,
            workers,
            progress,
        )
        for one in chips
    ]
    frames = _joined(chips, made, folder) if together else _gathered(made, folder)
    tables = _truth(made, folder)
    shutil.rmtree(folder / ".chips")
    return SimulationResult(
        folder,
        tuple(frames),
        (),
        folder / "catalog.parquet",
        tables[0],
        tables[1],
        tables[2],
        tuple(tables[3:]),
        made[0].n_stars,
        made[0].n_catalog,
        sum(one.n_detections for one in made),
    )


def _gathered(made: Sequence[SimulationResult], folder: Path) -> list[Path]:
    """Move the files of all chips into one folder."""
    found = []
    for one in made:
        for file in one.frames:
            target = folder / file.relative_to(one.out)
            target.parent.mkdir(parents=True, exist_ok=True)
            found.append(Path(shutil.move(file, target)))
    return sorted(found)


def _joined(chips: Sequence[Profile], made: Sequence[SimulationResult], folder: Path) -> list[Path]:
    """Write one file for each exposure, with an image for each chip behind a header without one."""
    from astropy.io import fits

    name = chips[0].base.place.mosaic
    order = sorted(range(len(chips)), key=lambda n: str(chips[n].base.header.extension))
    found = []
    for number, first in enumerate(made[0].frames):
        target = folder / first.relative_to(made[0].out)
        target = target.with_name(target.name.replace(chips[0].name, name, 1))
        target.parent.mkdir(parents=True, exist_ok=True)
        whole = fits.HDUList([fits.PrimaryHDU()])
        for chip in order:
            extension = chips[chip].base.header.extension
            name_of_chip = extension if isinstance(extension, str) else chips[chip].base.place.chip
            whole.append(_image(made[chip].frames[number], name_of_chip))
        whole.writeto(target, overwrite=True)
        found.append(target)
    return found


def _image(path: Path, name: str) -> Any:
    """Return the image of a file as an extension with a name, its numbers as they are stored."""
    from astropy.io import fits

    with fits.open(path, do_not_scale_image_data=True, memmap=False) as file:
        unit = next(one for one in file if one.data is not None)
        image = fits.ImageHDU(unit.data, unit.header, name, do_not_scale_image_data=True)
        # astropy takes the scale away with the primary header.
        for card in ("BSCALE", "BZERO"):
            if card in unit.header:
                image.header[card] = unit.header[card]
    return image


def _truth(made: Sequence[SimulationResult], folder: Path) -> list[Path]:
    """Write the truth of all chips, and what they share, once; return the tables of truth."""
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    first = made[0]
    shutil.copyfile(first.catalog, folder / "catalog.parquet")
    tables = [folder / "truth" / name for name in ("frames.parquet", "stars.parquet", "transients.parquet")]
    pq.write_table(
        pa.concat_tables([pq.read_table(one.truth_frames) for one in made]), tables[0], compression="zstd"
    )
    shutil.copyfile(first.truth_stars, tables[1])
    shutil.copyfile(first.truth_transients, tables[2])
    for one in made:
        for file in one.truth_detections:
            target = folder / "truth" / "detections" / one.out.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            tables.append(Path(shutil.copyfile(file, target)))
    return tables
