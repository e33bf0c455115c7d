"""Lakes for trials of faults: small, of real frames and of simulated tables, made once and copied for every trial."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from archive.make_archive import make_archive
from archive.scenario import ArchiveScenario

from skylake import cameras
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.compaction.compact_tables import compact
from skylake.flow.execution.cluster import Inline
from skylake.flow.forced.make_targets import TargetOptions, make_targets
from skylake.flow.ingest.ingest_frames import ingest
from skylake.flow.ingest.ingest_report import IngestOptions
from skylake.flow.zeropoints.calibrate_nights import calibrate
from skylake.lake import Lake, publish_snapshot
from skylake.lake.cameras.stored_geometries import read_geometries, write_geometries
from skylake.mirror.mirror_lake import mirror_lake
from skylake.settings import Settings
from skylake.simulate import MosaicParams, Scenario, ScheduleParams, StarParams, simulate, simulate_camera
from skylake.simulate.fisheye_nights import FisheyeNights, simulate_fisheye
from skylake.sky.catalog_columns import CatalogColumns

SMALL = """
like = "sim"
name = "small"
detector.width_px = 256
detector.height_px = 256
gates.n_sources.min = 20
astrometry.refine = "always"
"""
#: The same camera, but choosier: other frames are rejected, and their detections carry a flag.
CHOOSY = SMALL + "gates.fwhm_px.max = 2.6\n"
#: A camera of two chips of that size, side by side.
PAIR = (
    SMALL.replace('"small"', '"pair"')
    + """
[[chip]]
name = "east"
header.extension = 1
place = { x_arcsec = -1300.0, y_arcsec = 0.0 }

[[chip]]
name = "west"
header.extension = 2
place = { x_arcsec = 1300.0, y_arcsec = 0.0, angle_deg = 90.0 }
"""
)
#: Pixels of this order meet at the middle of the field.
_PIXEL_ORDER, _FIELD = 5, (0.0, -24.6243)
#: More than twice the radius of matches with pixels of a third of a degree.
_SKY_MARGIN_ARCSEC = 4000.0
_COLUMNS = CatalogColumns(
    ra="ra", dec="dec", id="id", pm_ra="pmra", pm_dec="pmdec",
    magnitudes={"V": "V", "B": "B"}, magnitude_errors={"V": "V_err", "B": "B_err"}, colours={"B-V": "B-V"},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trials:
    """Frames, profiles and lakes for trials; each lake is made when it is first asked for.

    ====================  =================================================================
    ``new``               the catalog of the real frames, and none of them
    ``half``              half of the nights, calibrated and aggregated
    ``ingested``          all nights, not calibrated
    ``calibrated``        all nights, calibrated, not aggregated
    ``complete``          ``half``, and then the other nights
    ``mirrored``          the same; the mirror inside it still shows ``half``
    ``tables``            nights that were simulated as tables, a snapshot each
    ``empty``             nothing but the catalog and profile of ``tables``
    ``compacted``         ``ingested``, its nights merged
    ``merged``            ``tables``, its nights merged
    ``published``         ``tables``, its sources merged after it was published to a folder inside
    ``mosaic``            a night of a camera of two chips
    ``sky``               the catalog of the nights of a camera of the whole sky, and none of them
    ``begun``             the catalog of the real frames, four of them, and their stars as targets
    ``skies``             these nights, between which the camera was moved, with a geometry that is not theirs
    ====================  =================================================================

    Attributes
    ----------
    root : Path
        Folder for all of it.
    nights, frames : int
        Nights of real frames, and frames in each.
    table_nights : int
        Nights as tables.
    """

    root: Path
    nights: int = 4
    frames: int = 4
    table_nights: int = 16

    @property
    def profile(self) -> Path:
        """Profile of the camera."""
        return self._profile("small", SMALL)

    @property
    def choosy(self) -> Path:
        """Profile of the same camera with another gate."""
        return self._profile("choosy", CHOOSY)

    @property
    def pair(self) -> Path:
        """Profile of a camera of two chips."""
        return self._profile("pair", PAIR)

    def _profile(self, name: str, text: str) -> Path:
        path = self.root / f"{name}.toml"
        if not path.exists():
            path.write_text(text, encoding="utf-8")
        return path

    @property
    def archive(self) -> Path:
        """Folder with the real frames and their catalog."""
        folder = self.root / "archive"
        if not folder.exists():
            scenario = Scenario(
                camera=str(self.profile), first_night=20241001, nights=self.nights, frames_per_night=self.frames,
                streak_fraction=0.0, stars=StarParams(per_frame=250.0), schedule=ScheduleParams(target=_FIELD),
            )  # fmt: skip
            simulate(scenario, folder)
        return folder

    @property
    def mosaics(self) -> Path:
        """Folder with frames of the camera of two chips."""
        folder = self.root / "mosaics"
        if not folder.exists():
            scenario = Scenario(
                camera=str(self.pair), first_night=20241001, nights=1, frames_per_night=self.frames,
                streak_fraction=0.0, stars=StarParams(per_frame=250.0),
                schedule=ScheduleParams(target=_FIELD, dither_px=30.0), mosaic=MosaicParams(offset_arcsec=10.0),
            )  # fmt: skip
            simulate_camera(scenario, folder)
        return folder

    @property
    def skies(self) -> Path:
        """Folder with two nights of a camera of the whole sky, which is moved between them."""
        folder = self.root / "skies"
        if not folder.exists():
            simulate_fisheye(FisheyeNights(nights=2, frames_per_night=2, moved_after=1), folder)
        return folder

    def lake(self, name: str) -> Path:
        """Return a prepared lake, not to be changed."""
        path = self.root / "lakes" / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            _RECIPES[name](self, path)
        return path

    def copy(self, name: str, target: Path) -> Lake:
        """Copy a prepared lake, with the hard links in it, to a folder that is not there."""
        subprocess.run(["cp", "-a", str(self.lake(name)), str(target)], check=True)
        return Lake(target)

    def ingest(self, lake: Lake, last: int | None = None) -> None:
        """Ingest the real frames, until a night."""
        ingest(
            lake,
            cameras.load(str(self.profile)),
            [self.archive / "frames"],
            Inline(),
            IngestOptions(last_night=last),
        )

    def new(self, target: Path) -> Lake:
        """Make a lake for the real frames, with their catalog."""
        lake = Lake.create(target, Settings(cluster="inline", workers=2, pixel_order=_PIXEL_ORDER))
        import_catalog(lake, "simcat", "table", [self.archive / "catalog.parquet"], _COLUMNS)
        return lake

    def mosaic(self, target: Path) -> None:
        """Make a lake with the frames of the camera of two chips, whose places are not learned yet."""
        lake = Lake.create(target, Settings(cluster="inline", workers=2, pixel_order=_PIXEL_ORDER))
        import_catalog(lake, "simcat", "table", [self.mosaics / "catalog.parquet"], _COLUMNS)
        for chip in cameras.load_chips(str(self.pair)):
            ingest(lake, chip, [self.mosaics / "frames"], Inline(), IngestOptions())


def _sky(trials: Trials, target: Path) -> None:
    lake = Lake.create(target, Settings(cluster="inline", workers=2, pixel_order=0))
    columns = replace(_COLUMNS, magnitudes={"V": "V"}, magnitude_errors={"V": "V_err"})
    import_catalog(
        lake, "sky", "table", [trials.skies / "catalog.parquet"], columns, margin_arcsec=_SKY_MARGIN_ARCSEC
    )


def _skies(trials: Trials, target: Path) -> None:
    lake, profile = trials.copy("sky", target), cameras.load("sim-fisheye")
    ingest(lake, profile, [trials.skies / "frames"], Inline(), IngestOptions())
    # So that to learn anew changes something.
    known = read_geometries(lake.layout, profile.name)
    write_geometries(lake.layout, profile.name, [replace(one, rms_px=9.0) for one in known])


def _begun(trials: Trials, target: Path) -> None:
    lake = trials.new(target)
    some = sorted((trials.archive / "frames").rglob("*.fits"))[:4]
    ingest(lake, cameras.load(str(trials.profile)), some, Inline(), IngestOptions())
    make_targets(lake, "small", TargetOptions("simcat", seen=0), Inline())


def _half(trials: Trials, target: Path) -> None:
    nights = sorted({int(path.name) for path in (trials.archive / "frames").iterdir()})
    lake = trials.new(target)
    trials.ingest(lake, nights[len(nights) // 2 - 1])
    calibrate(lake, Inline())
    aggregate(lake, [], Inline())


def _ingested(trials: Trials, target: Path) -> None:
    trials.ingest(trials.new(target))


def _calibrated(trials: Trials, target: Path) -> None:
    calibrate(trials.copy("ingested", target), Inline())


def _complete(trials: Trials, target: Path) -> None:
    _finish(trials, trials.copy("half", target))


def _mirrored(trials: Trials, target: Path) -> None:
    lake = trials.copy("half", target)
    mirror_lake(lake)
    _finish(trials, lake)


def _finish(trials: Trials, lake: Lake) -> None:
    trials.ingest(lake)
    calibrate(lake, Inline())
    aggregate(lake, [], Inline())


def _tables(trials: Trials, target: Path) -> None:
    table_archive(target, trials.table_nights, 6)


def _compacted(trials: Trials, target: Path) -> None:
    compact(trials.copy("ingested", target), Inline(), everything=True)


def _merged(trials: Trials, target: Path) -> None:
    compact(trials.copy("tables", target), Inline(), everything=True)


def _published(trials: Trials, target: Path) -> None:
    lake = trials.copy("tables", target)
    publish_snapshot(lake.snapshot(), store_of(target))
    compact(lake, Inline(), ["sources"], everything=True)


def store_of(lake: Path) -> str:
    """Return the URL of the folder in a lake to which it is published."""
    return (lake / "published").as_uri()


def table_archive(target: Path, nights: int, frames: int) -> Lake:
    """Make a lake with nights that are simulated as tables."""
    scenario = ArchiveScenario(
        nights=nights, first_night=20240101, frames_per_night=frames, stars=StarParams(per_frame=300.0),
        schedule=ScheduleParams(fields=3, target_fraction=0.0),
    )  # fmt: skip
    lake = Lake.create(target, of_tables())
    make_archive(lake, scenario, Inline())
    return lake


def _empty(trials: Trials, target: Path) -> None:
    tables, empty = Lake(trials.lake("tables")), Lake.create(target, of_tables())
    shutil.copytree(tables.layout.catalogs, empty.layout.catalogs, dirs_exist_ok=True)
    shutil.copytree(tables.layout.profile("sim").parent, empty.layout.profile("sim").parent)
    for use, name in dataclasses.asdict(tables.settings.catalog).items():
        empty.set(f"catalog.{use}", name)


def of_tables() -> Settings:
    """Return the settings of lakes for such nights."""
    return Settings(cluster="inline", pixel_order=2, keep_newest=60)


def _new(trials: Trials, target: Path) -> None:
    trials.new(target)


def _mosaic(trials: Trials, target: Path) -> None:
    trials.mosaic(target)


_RECIPES: dict[str, Callable[[Trials, Path], None]] = {
    "new": _new,
    "half": _half, "ingested": _ingested, "calibrated": _calibrated, "complete": _complete, "mirrored": _mirrored,
    "tables": _tables, "compacted": _compacted, "merged": _merged, "published": _published,
    "begun": _begun, "empty": _empty, "mosaic": _mosaic, "sky": _sky, "skies": _skies,
}  # fmt: skip
