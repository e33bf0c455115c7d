"""Solve frames with a catalog of the lake, by our own solver or by astrometry.net, and write what was found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skylake.cameras import Profile
from skylake.errors import FrameError, FrameRejected, LakeError, reason_of
from skylake.flow import astrometrynet
from skylake.image.read import open_stored, read_file
from skylake.image.solve import Solution, SolveParams, solve
from skylake.image.solvewcs import wcs_header
from skylake.image.starlist import StarList, star_list
from skylake.lake import Snapshot
from skylake.sky.asterism_index import AsterismIndex, build_index, ensure_index
from skylake.sky.catalogs import ReferenceCatalog

#: Cards of a header that another WCS may have left, and that a new one replaces.
_OLD_CARDS = (
    "CROTA?", "CDELT?", "PC?_?", "PC00?00?", "PV?_*", "CD?_?", "A_*", "B_*", "AP_*", "BP_*", "CTYPE?", "CUNIT?",
    "CRVAL?", "CRPIX?", "LONPOLE", "LATPOLE", "RADESYS", "RADECSYS", "EQUINOX", "WCSAXES",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SolvedFrame:
    """What became of one frame: a row for people and programs, and the cards of its WCS if it was solved."""

    row: dict[str, Any]
    header: Any = None


def index_catalog(
    snapshot: Snapshot, name: str, band: str | None, narrowest_deg: float, widest_deg: float
) -> tuple[AsterismIndex, Path]:
    """Build the index of a catalog of a lake; return it with its file."""
    from skylake.sky.asterism_index import index_path

    catalog = ReferenceCatalog.open(snapshot.catalog(name))
    return build_index(catalog, band, narrowest_deg, widest_deg), index_path(catalog)


def frame_index(snapshot: Snapshot, name: str, tell: Callable[[str], None]) -> AsterismIndex:
    """Open the index of a catalog of a lake, and build it where there is none that fits."""
    return ensure_index(ReferenceCatalog.open(snapshot.catalog(name)), tell)


def solve_frame(
    path: Path, profile: Profile, index: AsterismIndex | None, params: SolveParams
) -> SolvedFrame:
    """Solve one frame; without an index by astrometry.net."""
    row: dict[str, Any] = {"file": str(path), "status": "unsolved", "reason": None, "message": None}
    try:
        raw = open_stored(read_file(str(path)), profile.base.header.extension)
        found = star_list(raw, profile.base)
        if index is None:
            solved = astrometrynet.solve_list(found, params)
            return SolvedFrame(row | solved.row | {"status": "solved"}, solved.header)
        return _solve_list(row, found, index, params)
    except FrameError as error:
        return SolvedFrame(row | {"reason": error.reason, "message": str(error)})


def _solve_list(
    row: dict[str, Any], found: StarList, index: AsterismIndex, params: SolveParams
) -> SolvedFrame:
    solution = solve(index.bands, found.x, found.y, found.flux, found.shape, params)
    told = {
        "n_sources": len(found.x), "log_odds": solution.log_odds, "n_guesses": solution.n_guesses,
        "seconds": solution.seconds,
    }  # fmt: skip
    if not isinstance(solution, Solution):
        raised = FrameRejected(solution.reason, solution.message)
        return SolvedFrame(row | told | {"reason": raised.reason, "message": str(raised)})
    return SolvedFrame(row | told | _describe(solution) | {"status": "solved"}, wcs_header(solution))


def _describe(solution: Solution) -> dict[str, Any]:
    ra, dec = solution.centre
    height, width = solution.shape
    return {
        "ra_deg": ra,
        "dec_deg": dec,
        "scale_arcsec": solution.scale_arcsec,
        "rotation_deg": solution.rotation_deg,
        "mirrored": solution.parity > 0,
        "width_deg": math.degrees(2.0 * math.atan(0.5 * width / solution.focal_px)),
        "height_deg": math.degrees(2.0 * math.atan(0.5 * height / solution.focal_px)),
        "distortion_k1": solution.distortion[0],
        "distortion_k2": solution.distortion[1],
        "n_matched": len(solution.sources),
        "rms_px": solution.rms_px,
    }


def write_header(header: Any, path: Path) -> None:
    """Write the WCS alone, as a FITS file without pixels.

    Raises
    ------
    LakeError
        If it cannot be written.
    """
    from astropy.io import fits

    _replace(fits.HDUList([fits.PrimaryHDU(header=header)]), path)


def write_copy(frame: Path, profile: Profile, header: Any, path: Path) -> None:
    """Write a copy of a frame whose image has the WCS; all else stays as it is.

    Raises
    ------
    LakeError
        If it cannot be written.
    FrameError
        If the frame cannot be read.
    """
    from io import BytesIO

    from astropy.io import fits

    content = read_file(str(frame))
    extension = open_stored(content, profile.base.header.extension).extension
    with fits.open(
        BytesIO(content.data), do_not_scale_image_data=True, disable_image_compression=True
    ) as hdus:
        old = hdus[extension].header
        for pattern in _OLD_CARDS:
            for name in list(old[pattern]) if any(mark in pattern for mark in "?*") else [pattern]:
                old.remove(name, ignore_missing=True, remove_all=True)
        old.update(header)
        _replace(hdus, path)


def _replace(hdus: Any, path: Path) -> None:
    partial = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as stream:
            hdus.writeto(stream, output_verify="silentfix")
        partial.replace(path)
    except OSError as error:
        raise LakeError(f"{path}: it cannot be written ({reason_of(error)})") from error
