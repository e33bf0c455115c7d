"""Match the detections of frames in a lake with catalog stars, for learning the distortion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.core.flags import SourceFlag
from skylake.core.reasons import Status
from skylake.core.sphere import separation_deg, unit_vectors
from skylake.image.distortion.follow_camera import MatchedFrame
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_fit import LensPrior
from skylake.image.wcs.lens_text import VIEW_MARK, lens_of_text
from skylake.image.wcs.refine_lens import refine
from skylake.image.wcs.star_matching import Sources
from skylake.lake import Snapshot
from skylake.lake.storage.slices import Slice, read_files
from skylake.sky.lake_catalogs import ReferenceCatalog, StarField

#: Frames of a night that are looked at, spread over it; stars of each, the brightest.
_FRAMES, _STARS = 24, 300
#: Nights whose rows are read together.
_NIGHTS = 64
#: With fewer stars a frame does not distinguish a change from noise.
_FEWEST_STARS = 20
#: How far stars may be from where the lens of their frame has them: distortion may have changed by as much.
_RADIUS_PX = 6.0
_MISPLACED = int(SourceFlag.STREAK | SourceFlag.BAD_PIXEL | SourceFlag.CENTROID_FAILED)
#: A source with more of its light in one pixel is a hot pixel or a hit by a particle.
_POINT = 0.8
_RANK_BITS = 20
_FRAME_COLUMNS = [
    "frame_id",
    "mjd_mid",
    "ra_deg",
    "dec_deg",
    "width_px",
    "height_px",
    "exposure_s",
    "wcs_lens",
]
_SOURCE_COLUMNS = ["frame_id", "x_px", "y_px", "x_err_px", "y_err_px", "flux_aper1", "flux_max", "flags"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DistortionFrame:
    """A frame that may show the distortion of its camera: when it was taken, its night and the size of its image."""

    frame_id: int
    mjd: float
    night: int
    shape: tuple[int, int]


def distortion_frames(snapshot: Snapshot, camera: str) -> list[DistortionFrame]:
    """Return frames of a camera that have a lens and enough stars, in the order of time.

    Of each night and size of the image there are some, spread over the night; which ones follows from their times
    alone. The rows of some nights are in memory at a time.
    """
    parts = [part for part in snapshot.parts("frames").values() if part.camera == camera]
    nights = sorted({part.night for part in parts if part.night is not None})
    frames: list[DistortionFrame] = []
    for first in range(0, len(nights), _NIGHTS):
        some = set(nights[first : first + _NIGHTS])
        frames += _spread_over_nights(_distortion_frames_of(snapshot, camera, some))
    return sorted(frames, key=lambda frame: (frame.mjd, frame.frame_id))


def _distortion_frames_of(snapshot: Snapshot, camera: str, nights: set[int]) -> list[DistortionFrame]:
    names = ["frame_id", "mjd_mid", "night", "height_px", "width_px"]
    wanted = (
        (pc.field("status") == Status.OK.value)
        & pc.field("wcs_lens").is_valid()
        # Frames of a camera that saw the whole sky before it got other optics.
        & ~pc.match_substring(pc.field("wcs_lens"), VIEW_MARK)
        & (pc.field("astrom_n") >= _FEWEST_STARS)
    )
    rows = snapshot.read("frames", names, lambda part: part.camera == camera and part.night in nights, wanted)
    return [
        DistortionFrame(frame, mjd, night, (height, width))
        for frame, mjd, night, height, width in zip(*(rows[name].to_pylist() for name in names), strict=True)
    ]


def _spread_over_nights(frames: Sequence[DistortionFrame]) -> list[DistortionFrame]:
    groups: dict[tuple[int, tuple[int, int]], list[DistortionFrame]] = {}
    for frame in frames:
        groups.setdefault((frame.night, frame.shape), []).append(frame)
    return [frame for some in groups.values() for frame in sorted(some, key=_rank)[:_FRAMES]]


def _rank(frame: DistortionFrame) -> tuple[int, float]:
    """Return the rank of a time of day: the digits in reverse order (van der Corput 1935) spread the first evenly."""
    ticks = int((frame.mjd % 1.0) * (1 << _RANK_BITS))
    return int(f"{ticks:0{_RANK_BITS}b}"[::-1], 2), frame.mjd


def read_seen(
    frames: Sequence[int],
    tables: tuple[Sequence[Slice], Sequence[Slice]],
    catalog: ReferenceCatalog,
    band: str | None,
) -> list[MatchedFrame]:
    """Return the matched stars of frames; those in which hardly a star matches are left out. Runs on a worker.

    Parameters
    ----------
    frames : sequence of int
        frame_id of frames of one night.
    tables : tuple
        Where the rows of ``frames`` and of ``sources`` of the night are.
    catalog : ReferenceCatalog
    band : str or None
        That stars are ranked by.
    """
    chosen = pc.field("frame_id").isin(pa.array(frames, pa.int64()))
    rows = read_files("frames", tables[0], _FRAME_COLUMNS, chosen).sort_by("mjd_mid").to_pylist()
    sources = read_files("sources", tables[1], _SOURCE_COLUMNS, chosen)
    stars = StarField(catalog, band)
    frames_seen = (
        _seen(row, sources.filter(pc.equal(sources["frame_id"], row["frame_id"])), stars) for row in rows
    )
    return [frame for frame in frames_seen if frame is not None]


def _seen(row: dict[str, Any], sources: pa.Table, stars: StarField) -> MatchedFrame | None:
    lens, shape = lens_of_text(row["wcs_lens"]), (row["height_px"], row["width_px"])
    ra, dec, mag = stars.at(row["ra_deg"], row["dec_deg"], _radius_deg(row, lens, shape), row["mjd_mid"])
    vectors = unit_vectors(ra, dec)
    if lens.bending is not None:
        # The distortion is that of the camera, without what the air does.
        vectors, lens = lens.bending.apparent(vectors), replace(lens, bending=None)
    known = LensPrior.default(lens, shape)
    better = refine(lens, vectors, mag, _usable(sources, row["exposure_s"] or 1.0), shape, _RADIUS_PX, known)
    if better is None or len(better.stars) < _FEWEST_STARS:
        return None
    # The list of matched stars begins with the brightest.
    pairs = better.pairs.taken(np.arange(min(len(better.stars), _STARS)))
    return MatchedFrame(row["frame_id"], row["mjd_mid"], better.lens, pairs)


def _usable(sources: pa.Table, exposure_s: float) -> Sources:
    """Return the sources of a frame that have their places, as ingest takes them to refine a frame."""
    x, y, x_err, y_err, flux, peak = (
        np.asarray(sources[name].cast(pa.float64()).to_numpy(zero_copy_only=False), float)
        for name in _SOURCE_COLUMNS[1:7]
    )
    good = (sources["flags"].to_numpy() & _MISPLACED) == 0
    good &= ~(peak > _POINT * flux * exposure_s)
    sigma = np.hypot(x_err, y_err) / np.sqrt(2.0)
    return Sources.ranked(x[good], y[good], sigma[good], flux[good])


def _radius_deg(row: dict[str, Any], lens: Lens, shape: tuple[int, int]) -> float:
    """Return the distance of the farthest corner from the centre of a frame."""
    from skylake.core.sphere import ra_dec

    x, y = np.array([0.0, shape[1], 0.0, shape[1]]), np.array([0.0, 0.0, shape[0], shape[0]])
    away = separation_deg(row["ra_deg"], row["dec_deg"], *ra_dec(lens.to_vectors(x, y)))
    return min(1.02 * float(np.nanmax(away)), 90.0) if np.isfinite(away).any() else 90.0
