"""Every command of skylake with arguments that work on a lake, so that each can be tried on a hostile one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from skylake.cli.main import cli

#: A place that the frames of the demo show, in degrees.
RA, DEC = "200.0", "-10.0"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a command is tried.

    Attributes
    ----------
    lake : str
    archive : Path
        Folder of the demo: `frames`, `catalog.parquet`.
    out : Path
        An empty folder of the user, for what commands write.
    """

    lake: str
    archive: Path
    out: Path

    @property
    def frame(self) -> str:
        """A frame of the demo."""
        return str(sorted((self.archive / "frames").rglob("*.fits"))[0])

    @property
    def master(self) -> str:
        """A master of the lake."""
        files = sorted(Path(self.lake).glob("calibrations/raw/*"))
        return files[0].name.partition(".")[0] if files else "master"

    @property
    def stars(self) -> str:
        """A list of stars, as a file of the user."""
        path = self.out / "stars.csv"
        path.write_text(f"ra,dec\n{RA},{DEC}\n")
        return str(path)

    @property
    def detections(self) -> str:
        """A table of detections, as a file of the user."""
        path = self.out / "detections.csv"
        rows = "".join(f"200.{i},-10.{i},2460400.7,10,{1000 + i},{10}\n" for i in range(10, 40))
        path.write_text("RA,DEC,JD,EXPTIME,flux,err\n" + rows)
        return str(path)


def every_command() -> Iterator[str]:
    """Yield the names of all commands, such as ``catalog import``."""
    yield from _below(cli, "")


def _below(command: click.Command, name: str) -> Iterator[str]:
    if isinstance(command, click.Group):
        for inner_name, inner in command.commands.items():
            yield from _below(inner, f"{name} {inner_name}".strip())
    else:
        yield name


def arguments(command: str, stage: Stage) -> list[str]:
    """Return the words after ``skylake`` with which a command is tried.

    Raises
    ------
    KeyError
        For a new command, which needs a line here.
    """
    lake, frame, out = stage.lake, stage.frame, str(stage.out)
    sim = ["--camera", "sim"]
    words: dict[str, list[str]] = {
        "demo": ["--frames", "4", f"{out}/demo"],
        "init": [lake],
        "camera check": [*sim, "--lake", lake, frame],
        "camera geometry": [lake, *sim],
        "camera learn": [lake, *sim],
        "camera list": [],
        "camera mosaic": [lake, *sim],
        "camera new": [frame],
        "camera show": ["sim"],
        "catalog box": [lake, "stars", "199", "201", "-11", "-9"],
        "catalog cone": [lake, "stars", RA, DEC, "3600"],
        "catalog coverage": [lake, "stars"],
        "catalog import": [
            lake, "more", "--format", "table", str(stage.archive / "catalog.parquet"), "--ra", "ra", "--dec", "dec",
            "--id", "id", "--mag", "V=V", "--mag-err", "V=V_err", "--no-index",
        ],
        "catalog index": [lake, "stars"],
        "catalog list": [lake],
        "catalog show": [lake, "stars"],
        "calib build": [lake, *sim, frame],
        "calib list": [lake],
        "calib show": [lake, stage.master],
        "targets": [lake, *sim],
        "backfill": [lake],
        "ingest": [lake, *sim, "--redo", "--workers", "1", frame],
        "ingest-table": [
            lake, "--camera", "sim-fisheye", stage.detections, "--ra", "RA", "--dec", "DEC", "--time", "JD",
            "--exposure", "EXPTIME", "--flux", "flux", "--flux-err", "err",
        ],
        "calibrate": [lake, "--catalog", "stars", "--workers", "1"],
        "aggregate": [lake],
        "watch add": [lake, "mine", stage.stars],
        "watch list": [lake],
        "watch remove": [lake, "novae"],
        "watch test": [lake, "novae"],
        "mirror": [lake],
        "run nightly": [lake, *sim, "--workers", "1", frame],
        "report": [lake, f"{out}/report"],
        "status": [lake],
        "sql": [lake, "SELECT count(*) FROM frames, parts, ledger"],
        "lc": [lake, f"{RA} {DEC}", "--radius", "3600"],
        "detrend": [lake, "-o", "flat"],
        "periods": [lake, "-o", "found_periods"],
        "statistics": [lake, "-o", "curve_numbers"],
        "cone": [lake, "sources", RA, DEC, "3600"],
        "path": [lake, "sources"],
        "map": [lake, "visits", "-o", f"{out}/map.fits"],
        "plot": [lake, *sim, "-o", f"{out}/pictures"],
        "crossmatch": [lake, "sources", "stars", "-o", "pairs"],
        "flags": ["18"],
        "reduce": [*sim, "--lake", lake, "--out", f"{out}/products", frame],
        "solve": ["--lake", lake, frame],
        "verify": [lake, "--deep"],
        "history": [lake],
        "rollback": [lake],
        "compact": [lake, "--all"],
        "forget": [lake, "--batch", "sim-20240407", "--yes"],
        "vacuum": [lake, "--keep", "1"],
        "publish": [lake, f"file://{out}/published"],
        "simulate": [f"{out}/simulated", "--nights", "1", "--frames", "1", "--stars", "20"],
    }  # fmt: skip
    return [*command.split(), *words[command]]
