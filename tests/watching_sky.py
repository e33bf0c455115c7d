"""Nights of drawn stars in a lake, in which some stars change, vanish or appear."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from skylake import cameras
from skylake.core.flags import SourceFlag
from skylake.core.sphere import healpix_index
from skylake.flow.aggregates import aggregate
from skylake.flow.catalogs.import_catalogs import import_catalog
from skylake.flow.execution.cluster import Inline
from skylake.flow.zeropoints.calibrated_nights import zeropoints_name
from skylake.lake import Lake, Snapshot
from skylake.lake.storage.watch_lists import WatchedPlace, WatchList, add_watch_list
from skylake.schema import arrow_schema, conform, load
from skylake.settings import Settings
from skylake.sky.catalog_columns import CatalogColumns
from skylake.table.matches import matches_name

CENTRE = (120.0, -25.0)
FRAMES = 5
#: Nights in which nothing happens, and the one after.
NIGHTS, LAST = range(20240401, 20240406), 20240406
ZERO = 20.0
#: What alerts are made of.
MADE_BEFORE = ("lightcurves", "forced_lightcurves", "star_statistics")
NEW = (120.011, -25.013)
#: A star of the catalog that nothing is matched with.
UNSEEN = (119.973, -24.981)
_FIRST_MJD = 60408.1


@dataclass(frozen=True, slots=True)
class Change:
    """What is different in a night: magnitudes added by star, stars that are not detected, new places, and flags.

    Frames have `bands` one after the other, and stars of `in_band` are different in one of them only.
    """

    stars: Mapping[int, float] = field(default_factory=dict)
    bands: tuple[str, ...] = ("V",) * FRAMES
    in_band: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    gone: tuple[int, ...] = ()
    new: tuple[tuple[float, float, float], ...] = ()
    new_flags: int = 0
    new_frames: int = FRAMES
    shift: float = 0.0


@dataclass(slots=True)
class Sky:
    """A lake whose nights are drawn: stars of 10 to 13 mag on a grid."""

    lake: Lake
    put_night: Callable[[Lake, int, Change], None]
    ra: np.ndarray
    dec: np.ndarray
    mag: np.ndarray

    def night(self, night: int, change: Change | None = None) -> None:
        """Add a night, or replace it."""
        self.put_night(self.lake, night, change or Change())

    def watch(self, *stars: int | tuple[float, float], name: str = "mine", **options: Any) -> WatchList:
        """Add a list of stars and places."""
        at = [(self.ra[one], self.dec[one]) if isinstance(one, int) else one for one in stars]
        places = tuple(
            WatchedPlace(str(one), float(ra), float(dec)) for one, (ra, dec) in zip(stars, at, strict=True)
        )
        values = {
            "moc": "",
            "from_night": 0,
            "radius_arcsec": 5.0,
            "by_mag": 0.1,
            "sigma": 5.0,
            "source": "x",
        }
        made = WatchList(name, places, **(values | options))
        add_watch_list(self.lake.layout, made)
        return made

    def aggregate(self, *names: str) -> None:
        """Refresh what alerts need, and alerts."""
        aggregate(self.lake, names or (*MADE_BEFORE, "alerts"), Inline())

    def alerts(self) -> list[dict[str, Any]]:
        """Return all alerts."""
        return list(self.lake.snapshot().read("alerts").sort_by("mjd_mid").to_pylist())


@pytest.fixture(scope="session")
def quiet_lake(
    tmp_path_factory: pytest.TempPathFactory,
    frame_rows: Callable[..., pa.Table],
    match_rows: Callable[..., pa.Table],
    put: Callable[..., Snapshot],
) -> Sky:
    """A lake with a catalog, a camera and quiet nights. Tests do not change it."""
    folder = tmp_path_factory.mktemp("watched")
    return _quiet(folder, 0.4, NIGHTS, Putting(frame_rows, match_rows, put, 3.0))


@pytest.fixture(scope="session")
def quiet_fisheye(
    tmp_path_factory: pytest.TempPathFactory,
    frame_rows: Callable[..., pa.Table],
    match_rows: Callable[..., pa.Table],
    put: Callable[..., Snapshot],
) -> Sky:
    """The same with a camera that sees the whole sky, whose frames have no outline."""
    folder = tmp_path_factory.mktemp("fisheye")
    return _quiet(folder, 60.0, NIGHTS[-3:], Putting(frame_rows, match_rows, put, 280.0))


@dataclass(frozen=True, slots=True)
class Putting:
    """What puts rows into a lake, and arcseconds per pixel."""

    frame_rows: Callable[..., pa.Table]
    match_rows: Callable[..., pa.Table]
    put: Callable[..., Snapshot]
    scale: float


def _quiet(folder: Path, size_deg: float, nights: range, putting: Putting) -> Sky:
    """Make a lake of quiet nights of stars on a grid of some degrees."""
    profile = folder / "lab.toml"
    profile.write_text('name = "lab"\nlike = "generic"\ndefault_filter = "V"\nreduction.steps = ["trim"]\n')
    lake = Lake.create(folder / "lake", Settings(cluster="inline"))
    lake.keep_profile(cameras.load(profile))
    side = np.linspace(-0.5 * size_deg, 0.5 * size_deg, 8)
    east, north = (one.ravel() for one in np.meshgrid(side, side))
    ra, dec = CENTRE[0] + east / np.cos(np.radians(CENTRE[1])), CENTRE[1] + north
    mag = np.random.default_rng(5).uniform(10.0, 13.0, len(ra))
    table = folder / "stars.csv"
    stars = [*zip(range(len(ra)), ra, dec, mag, strict=True), (999, *UNSEEN, 12.0)]
    table.write_text("id,ra,dec,V\n" + "".join(f"{i},{r:.6f},{d:.6f},{m:.3f}\n" for i, r, d, m in stars))
    columns = CatalogColumns(ra="ra", dec="dec", id="id", magnitudes={"V": "V"})
    import_catalog(lake, "simcat", "table", [table], columns)
    made = Sky(lake, partial(_put_night, (ra, dec, mag), putting), ra, dec, mag)
    for night in nights:
        made.night(night)
    made.aggregate(*MADE_BEFORE)
    return made


@pytest.fixture
def sky(quiet_lake: Sky, copy_lake: Callable[[Path, Path], Path], tmp_path: Path) -> Sky:
    """A copy of the lake with quiet nights, to be changed."""
    return replace(quiet_lake, lake=Lake(copy_lake(quiet_lake.lake.root, tmp_path / "lake")))


@pytest.fixture
def fisheye(quiet_fisheye: Sky, copy_lake: Callable[[Path, Path], Path], tmp_path: Path) -> Sky:
    """A copy of the lake of a fisheye with quiet nights, to be changed."""
    return replace(quiet_fisheye, lake=Lake(copy_lake(quiet_fisheye.lake.root, tmp_path / "lake")))


def _put_night(stars: Any, putting: Putting, lake: Lake, night: int, change: Change) -> None:
    random = np.random.default_rng([night, 3])
    ra, dec, mag = stars
    day = night - 20240400
    frame_id = night * 100 + np.arange(FRAMES)
    mjd = _FIRST_MJD + day + 0.001 * np.arange(FRAMES)
    seen = np.setdiff1d(np.arange(len(ra)), change.gone)
    frame, star = (one.ravel() for one in np.meshgrid(np.arange(FRAMES), seen, indexing="ij"))
    true = mag[star] + np.array([change.stars.get(int(one), 0.0) for one in star]) + change.shift
    by_frame = [change.in_band.get(band, {}) for band in change.bands]
    true += np.array([by_frame[k].get(int(one), 0.0) for k, one in zip(frame, star, strict=True)])
    nightly = random.normal(0.0, 0.005, len(ra))[star]
    err = 0.01 * 10.0 ** (0.2 * (mag[star] - 10.0))
    flux = 10.0 ** (-0.4 * (true + nightly + random.normal(0.0, err) - ZERO))
    given: dict[str, Any] = {
        "frame_id": frame_id[frame], "source_no": star, "ref_id": star, "mjd_mid": mjd[frame], "night": night,
        "ra_deg": ra[star], "dec_deg": dec[star], "flux_aper2": flux, "flux_aper2_err": err * flux / 1.0857,
        "ref_mag": mag[star], "ref_mag_err": 0.01,
    }  # fmt: skip
    of_frame = np.array(change.bands)
    matches = putting.match_rows(len(star), **given, band=of_frame[frame].tolist())
    sources = [_sources(given, 0)]
    for number, (new_ra, new_dec, new_mag) in enumerate(change.new):
        n = change.new_frames
        light = np.full(n, 10.0 ** (-0.4 * (new_mag - ZERO)))
        detected = {
            "frame_id": frame_id[:n], "source_no": np.full(n, 500 + number), "mjd_mid": mjd[:n], "night": night,
            "ra_deg": new_ra + random.normal(0, 2e-5, n), "dec_deg": new_dec + random.normal(0, 2e-5, n),
            "flux_aper2": light, "flux_aper2_err": 0.01 * light,
        }  # fmt: skip
        sources.append(_sources(detected, change.new_flags))
    corners = [(-0.3, -0.25), (-0.3, 0.25), (0.3, 0.25), (0.3, -0.25)]
    polygon = " ".join(f"{CENTRE[0] + one:.4f} {CENTRE[1] + other:.4f}" for one, other in corners)
    limit = 10.0 ** (-0.4 * (15.5 - ZERO))
    outline = f"POLYGON ICRS {polygon}" if putting.scale < 100 else None
    frames = putting.frame_rows(
        FRAMES, band=list(change.bands), frame_id=frame_id.tolist(), night=night, mjd_mid=mjd.tolist(),
        flux_limit=limit,
        s_region=outline, fwhm_px=2.0, pixel_scale_arcsec=putting.scale, width_px=2000, height_px=1800,
        ra_deg=CENTRE[0], dec_deg=CENTRE[1],
    )  # fmt: skip
    zeros = conform(
        pa.table(
            {
                "frame_id": frame_id, "camera": ["lab"] * FRAMES, "night": np.full(FRAMES, night, np.int32),
                "mjd_mid": mjd, "catalog": ["simcat"] * FRAMES, "version": np.ones(FRAMES, np.int32),
                "flux": ["aper2"] * FRAMES, "n_matched": np.full(FRAMES, len(ra), np.int32), "band": of_frame,
                "n_used": np.full(FRAMES, len(ra), np.int32), "zp": np.full(FRAMES, ZERO),
                "zp_err": np.full(FRAMES, 0.002), "zp_fit_err": np.full(FRAMES, 0.002),
                "zp_random_err": np.full(FRAMES, 0.002), "colour_term": np.zeros(FRAMES),
                "pivot_colour": np.zeros(FRAMES),
            }
        ),
        load("zeropoints"),
    )  # fmt: skip
    name = f"lab-{night}"
    putting.put(
        lake,
        ("frames", name, frames),
        ("sources", name, pa.concat_tables(sources)),
        ("matches", matches_name(name, "simcat"), matches),
        ("zeropoints", zeropoints_name(name, "simcat", 1), zeros),
        camera="lab",
        night=night,
    )


def _sources(given: Mapping[str, Any], flags: int) -> pa.Table:
    n = len(given["ra_deg"])
    values = {name: one for name, one in given.items() if name in load("sources").names}
    values |= {
        "_healpix_29": healpix_index(given["ra_deg"], given["dec_deg"]), "camera": ["lab"] * n,
        "x_px": np.full(n, 100.0), "y_px": np.full(n, 100.0), "edge_distance_px": np.full(n, 90.0),
        "flags": np.full(n, flags),
    }  # fmt: skip
    schema = arrow_schema(load("sources"))
    columns = {
        name: pa.array(np.broadcast_to(one, n) if np.ndim(one) == 0 else one).cast(schema.field(name).type)
        for name, one in values.items()
    }
    return conform(pa.table(columns), load("sources"))


#: Flags of what is no new star.
JUNK = [SourceFlag.EDGE, SourceFlag.STREAK, SourceFlag.SATURATED, SourceFlag.BLENDED]
