"""The pictures of a calibration, read from a snapshot: see :mod:`skylake.report.zeropoint_plots`."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import FRAME_COLUMNS, ZEROPOINT_COLUMNS, calibrate_matches
from skylake.calibration.transparency import RELATIVE_PER_MAG, frame_transparency
from skylake.core.counted import counted
from skylake.core.flags import NO_STANDARD
from skylake.errors import UsageError
from skylake.lake import Lake, Snapshot
from skylake.report.collect import MAX_MATCHES, floats, in_force
from skylake.report.noise_plot import noise_against_magnitude, repeats_to_draw
from skylake.report.plots import residuals_over_field
from skylake.report.repeatability_plot import repeatability
from skylake.report.style import Floats
from skylake.report.zeropoint_plots import (
    FrameZeropoints,
    StarZeropoint,
    star_zeropoint,
    transparency_over_time,
    zeropoint_against_airmass,
    zeropoint_over_time,
)
from skylake.table.matches import matches_name
from skylake.table.nights import fields_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Where frames point, and how much of the sky they see.
_PLACE = ("ra_deg", "dec_deg", "pixel_scale_arcsec", "width_px", "height_px")
#: Stars measured better than this, mag, and with no larger share of light from neighbours, show small effects.
_BRIGHT_MAG_ERR, _MAX_CROWDING = 0.03, 0.05


@dataclass(frozen=True, slots=True)
class CalibrationChoice:
    """What is drawn.

    Attributes
    ----------
    camera : str
    night : int or None
        YYYYMMDD; None for all.
    band : str or None
        None for each.
    catalog : str or None
        None for the one that calibrates the camera.
    version : int or None
        None for the one in force of each frame.
    """

    camera: str
    night: int | None = None
    band: str | None = None
    catalog: str | None = None
    version: int | None = None

    def takes(self, part_camera: str | None, part_night: int | None) -> bool:
        """Return whether the rows of a batch are drawn."""
        return part_camera == self.camera and self.night in (None, part_night)


@dataclass(frozen=True, slots=True)
class _Calibration:
    """What the pictures of one band are drawn from.

    Attributes
    ----------
    title : str
        Camera, nights, band, catalog and version.
    zeropoints, frames, matches, nights, repeats : pyarrow.Table
        Of the band; `nights` are rows of ``photometric_nights``, `repeats` of ``repeatability``. All frames.
    """

    title: str
    band: str
    zeropoints: pa.Table
    frames: pa.Table
    matches: pa.Table
    nights: pa.Table
    repeats: pa.Table


def calibration_pictures(
    snapshot: Snapshot, choice: CalibrationChoice, names: Sequence[str]
) -> Iterator[tuple[str, Figure]]:
    """Yield pictures of a calibration, each with its name: the band and what it shows.

    Parameters
    ----------
    snapshot : Snapshot
    choice : CalibrationChoice
    names : sequence of str
        Of ``magnitude``, ``colour``, ``position``, ``airmass``, ``time``, ``transparency``, ``map``,
        ``repeatability`` and ``noise``.

    Raises
    ------
    UsageError
        If the lake has no such zeropoints.
    """
    catalog = choice.catalog or Lake(snapshot.layout.root).calibrating_catalog(choice.camera)
    wanted = pc.field("catalog") == catalog
    if choice.version is not None:
        wanted &= pc.field("version") == choice.version
    columns = [*ZEROPOINT_COLUMNS, "camera", "night", "band", "catalog", "mjd_mid"]
    rows = in_force(
        snapshot.read("zeropoints", columns, lambda part: choice.takes(part.camera, part.night), wanted)
    )
    rows = rows.filter(pc.is_valid(rows["zp"]))
    bands = sorted(
        set(rows["band"].to_pylist()) & ({choice.band} if choice.band else set(rows["band"].to_pylist()))
    )
    if not bands:
        raise UsageError(_why_none(snapshot, choice.camera))
    frames = snapshot.read(
        "frames",
        list(dict.fromkeys([*FRAME_COLUMNS, "airmass", *_PLACE])),
        lambda part: choice.takes(part.camera, part.night),
    )
    matches = (
        _matches(snapshot, choice, catalog)
        if set(names) - {"time", "airmass", "transparency", "noise"}
        else None
    )
    judged, repeats = (
        snapshot.read(table, where=lambda part: choice.takes(part.camera, part.night))
        for table in ("photometric_nights", "repeatability")
    )
    for band in bands:
        mine = rows.filter(pc.equal(rows["band"], band))
        versions = sorted(set(mine["version"].to_pylist()))
        nights = sorted(set(mine["night"].to_pylist()))
        when = f"{nights[0]}" if len(nights) == 1 else f"{nights[0]} to {nights[-1]}"
        which = f"version {', '.join(map(str, versions))}"
        drawn = _Calibration(
            f"{choice.camera}, {band}, {when}, {catalog} {which}",
            band,
            mine,
            frames,
            rows.slice(0, 0)
            if matches is None
            else matches.filter(pc.is_in(matches["frame_id"], mine["frame_id"].combine_chunks())),
            judged.filter(pc.and_(pc.equal(judged["band"], band), pc.equal(judged["catalog"], catalog))),
            repeats.filter(pc.equal(repeats["band"], band)),
        )
        for name in names:
            yield f"{band}-{name}", _PICTURES[name](drawn)


def _why_none(snapshot: Snapshot, camera: str) -> str:
    """Return why nothing can be drawn: a camera that is not calibrated, or options that fit no zeropoint."""
    columns = ["night", "band", "catalog", "version"]
    known = snapshot.read(
        "zeropoints", columns, lambda part: part.camera == camera, pc.field("zp").is_valid()
    )
    if known.num_rows == 0:
        command = f"`skylake calibrate {shlex.quote(str(snapshot.layout.root))}`"
        if any(part.camera == camera for part in snapshot.parts("zeropoints").values()):
            return f"no frame of {camera} has a zeropoint; {command} says why"
        return f"no frame of {camera} is calibrated yet; {command} does that"
    there = {name: sorted(set(known[name].to_pylist())) for name in columns}
    versions, bands, catalogs = (", ".join(map(str, there[name])) for name in ("version", "band", "catalog"))
    nights = there["night"]
    return (
        f"there are no zeropoints of {camera} for these options; there are those of version {versions} from "
        f"{catalogs}, in {bands}, of {counted(len(nights), 'night')} from {nights[0]} to {nights[-1]}"
    )


def _matches(snapshot: Snapshot, choice: CalibrationChoice, catalog: str) -> pa.Table:
    """Return matches of the newest nights, as many as a picture needs."""
    parts = snapshot.parts("frames").values()
    batches = [part.name for part in parts if choice.takes(part.camera, part.night)]
    known = snapshot.parts("matches")
    names = [name for name in (matches_name(batch, catalog) for batch in batches) if name in known]
    chosen: set[str] = set()
    n_rows = 0
    for name in sorted(names, key=lambda name: -(known[name].night or 0)):
        if n_rows < MAX_MATCHES:
            chosen.add(name)
            n_rows += known[name].n_rows
    return snapshot.read("matches", where=lambda part: part.name in chosen)


@dataclass(frozen=True, slots=True)
class _Stars:
    """Matches with their zeropoints, and what these are drawn against; arrays of shape (n,)."""

    zeropoint: StarZeropoint
    mag: Floats
    colour: Floats
    x: Floats
    y: Floats
    term: Floats
    pivot: Floats

    @property
    def bright(self) -> StarZeropoint:
        """The zeropoints of stars that are measured well."""
        good = self.zeropoint.random_err <= _BRIGHT_MAG_ERR
        return replace(self.zeropoint, offset=np.where(good, self.zeropoint.offset, np.nan))


def _stars(of: _Calibration) -> _Stars:
    matches = of.matches
    photometry = calibrate_matches(matches, of.frames, of.zeropoints)
    crowding = np.fmax(floats(matches, "crowding"), floats(matches, "ref_crowding"))
    good = (matches["flags"].to_numpy() & int(NO_STANDARD)) == 0
    good &= np.nan_to_num(crowding) <= _MAX_CROWDING
    random = np.sqrt(np.maximum(photometry.mag_err**2 - photometry.zp_systematic_err**2, 0.0))
    found = pc.index_in(matches["frame_id"], of.zeropoints["frame_id"])
    term, pivot = (
        np.nan_to_num(np.array(of.zeropoints[name].take(found).to_numpy(), float))
        for name in ("colour_term", "pivot_colour")
    )
    star = StarZeropoint(
        np.where(good, photometry.residual, np.nan), random, matches["ref_id"].to_numpy().astype(np.int64)
    )
    colour, mag = floats(matches, "ref_colour"), floats(matches, "ref_mag")
    return _Stars(star, mag, colour, floats(matches, "x_px"), floats(matches, "y_px"), term, pivot)


def _magnitude(of: _Calibration) -> Figure:
    stars = _stars(of)
    return star_zeropoint(
        stars.zeropoint, stars.mag, "catalog magnitude [mag]", f"Zeropoint against magnitude\n{of.title}"
    )


def _colour(of: _Calibration) -> Figure:
    stars = _stars(of)
    shift = stars.term * (stars.colour - stars.pivot)
    with_term = replace(stars.bright, offset=stars.bright.offset + shift)
    slope = (float(np.median(stars.term)), float(np.median(stars.pivot))) if stars.term.size else None
    return star_zeropoint(
        with_term,
        stars.colour,
        "catalog colour [mag]",
        f"Zeropoint without colour term against colour\n{of.title}",
        slope,
    )


def _position(of: _Calibration) -> Figure:
    stars = _stars(of)
    width, height = _size(of)
    radius = np.hypot(stars.x - 0.5 * (width - 1), stars.y - 0.5 * (height - 1))
    return star_zeropoint(
        stars.bright, radius, "distance from the centre [px]", f"Zeropoint against position\n{of.title}"
    )


def _size(of: _Calibration) -> tuple[int, int]:
    return pc.max(of.frames["width_px"]).as_py() or 1, pc.max(of.frames["height_px"]).as_py() or 1


def _map(of: _Calibration) -> Figure:
    stars = _stars(of)
    offset = stars.bright.offset
    n_stars = len(np.unique(stars.zeropoint.star[np.isfinite(offset)]))
    return residuals_over_field(stars.x, stars.y, offset, *_size(of), of.title, n_stars)


def _repeatability(of: _Calibration) -> Figure:
    stars = _stars(of)
    found = pc.index_in(of.matches["frame_id"], of.zeropoints["frame_id"])
    floor = np.array(of.zeropoints["floor_mag"].take(found).to_numpy(zero_copy_only=False), float)
    return repeatability(stars.zeropoint, stars.mag, floor, f"Repeatability\n{of.title}")


def _noise(of: _Calibration) -> Figure:
    rows, measured = repeats_to_draw(of.repeats)
    return noise_against_magnitude(rows, f"Noise of {measured}\n{of.title}")


def _frames(of: _Calibration) -> FrameZeropoints:
    rows = of.zeropoints
    found = pc.index_in(rows["frame_id"], of.frames["frame_id"])
    airmass = np.array(of.frames["airmass"].take(found).to_numpy(), float)
    error, random = floats(rows, "zp_err"), floats(rows, "zp_random_err")
    shared = np.sqrt(np.maximum(error**2 - random**2, 0.0))
    known = shared[np.isfinite(shared)]
    return FrameZeropoints(
        floats(rows, "mjd_mid"),
        floats(rows, "zp"),
        np.where(np.isfinite(random), random, error),
        float(np.median(known)) if known.size else float("nan"),
        airmass,
        np.array(rows["band"].to_pylist(), object),
        rows["night"].to_numpy().astype(np.int64),
        _fields(of.frames.take(found)),
    )


def _fields(frames: pa.Table) -> npt.NDArray[np.intp]:
    """Return the number of the field of each frame."""
    ra, dec, scale, width, height = (floats(frames, name) for name in _PLACE)
    return fields_of(ra, dec, np.hypot(width, height) * scale / 3600.0)


def _of_nights(of: _Calibration, frames: FrameZeropoints, names: Sequence[str]) -> list[Floats]:
    """Return columns of the nights of frames, NaN where there is none."""
    place = {night: number for number, night in enumerate(of.nights["night"].to_pylist())}
    rows = np.array([place.get(night, -1) for night in frames.night.tolist()], np.intp)
    return [np.where(rows >= 0, np.append(floats(of.nights, name), np.nan)[rows], np.nan) for name in names]


def _time(of: _Calibration) -> Figure:
    frames = _frames(of)
    clear, extinction = _of_nights(of, frames, ("zp_clear", "extinction"))
    fitted = np.isfinite(floats(of.zeropoints, "extinction"))
    level = clear - extinction * np.where(fitted, 0.0, frames.airmass - 1.0)
    known = np.isfinite(level)
    lines = {of.band: (frames.mjd[known], level[known])} if known.any() else {}
    return zeropoint_over_time(frames, lines, f"Zeropoint over time\n{of.title}")


def _transparency(of: _Calibration) -> Figure:
    frames = _frames(of)
    found = frame_transparency(of.zeropoints, of.frames, of.nights)
    level_err = floats(of.nights, "zp_clear_err")
    known = level_err[np.isfinite(level_err)]
    shared = float(np.median(known)) * RELATIVE_PER_MAG if np.isfinite(found.value).any() else 0.0
    random = found.value * frames.random_err * RELATIVE_PER_MAG
    shown = (frames.mjd, found.value, random, found.is_cloudy, shared)
    return transparency_over_time(*shown, f"Transparency\n{of.title}", _why_not_known(of))


def _why_not_known(of: _Calibration) -> str:
    """Return why no frame has a transparency."""
    compared = of.nights.filter(pc.is_in(of.nights["version"], pc.unique(of.zeropoints["version"])))
    if compared.num_rows == 0:
        return "not known: these zeropoints were not compared with other nights yet, which `skylake aggregate` does"
    return str(Counter(compared["reason"].to_pylist()).most_common(1)[0][0])


def _airmass(of: _Calibration) -> Figure:
    frames = _frames(of)
    columns = ("night", "zp_zenith", "extinction", "extinction_err")
    rows = zip(*(of.nights[name].to_pylist() for name in columns), strict=True)
    # Zeropoints of cameras that see the whole sky are those of the zenith already.
    fitted = np.isfinite(floats(of.zeropoints, "extinction")).any()
    lines = {
        (night, of.band): (zenith, extinction, error)
        for night, zenith, extinction, error in rows
        if zenith is not None and not fitted
    }
    return zeropoint_against_airmass(frames, lines, f"Zeropoint against airmass\n{of.title}")


_PICTURES: dict[str, Callable[[_Calibration], Figure]] = {
    "magnitude": _magnitude,
    "colour": _colour,
    "position": _position,
    "airmass": _airmass,
    "time": _time,
    "transparency": _transparency,
    "map": _map,
    "repeatability": _repeatability,
    "noise": _noise,
}
