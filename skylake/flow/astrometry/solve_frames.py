"""Solve frames with a catalog of the lake, by our own solver or by astrometry.net, and write the WCS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skylake.cameras import Profile, read_header
from skylake.core.camera import Camera
from skylake.core.reasons import Reason
from skylake.durable import replacing
from skylake.errors import FrameError, cannot_be_written
from skylake.flow.astrometry import astrometry_net
from skylake.flow.astrometry.refine_solutions import RefinedFrame, Refiner
from skylake.image.allsky.solve_allsky import AllSkySolution
from skylake.image.distortion.distortion_epochs import Epoch, epoch_at
from skylake.image.fitsio.read_fits import open_stored, read_file
from skylake.image.solving.pointing_hints import (
    SCALE_FACTOR,
    contradicted,
    in_turn,
    why_unsolved,
    with_nothing_known,
)
from skylake.image.solving.solution_header import wcs_header
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.solve_stars import Solution, Unsolved, solve
from skylake.image.solving.source_list import StarList, star_list
from skylake.lake import Snapshot
from skylake.revision import code_version
from skylake.sky.asterism_index import AsterismIndex, build_index, ensure_index
from skylake.sky.lake_catalogs import ReferenceCatalog

#: Cards of a header that another WCS may have left, and that a new one replaces.
_OLD_CARDS = (
    "CROTA?",
    "CDELT?",
    "PC?_?",
    "PC00?00?",
    "PV?_*",
    "CD?_?",
    "CPDIS?",
    "DP?",
    "D2IMDIS?",
    "CTYPE?",
    "CUNIT?",
    *(f"{name}_{what}" for name in ("A", "B", "AP", "BP") for what in ("ORDER", "DMAX", "?_?")),
    "CRVAL?",
    "CRPIX?",
    "LONPOLE",
    "LATPOLE",
    "RADESYS",
    "RADECSYS",
    "EQUINOX",
    "WCSAXES",
)


@dataclass(frozen=True, slots=True)
class SolvedFrame:
    """The result of solving one frame.

    Attributes
    ----------
    row : dict
        For people and programs.
    header : astropy.io.fits.Header or None
        The cards of its WCS, if it was solved.
    refined : RefinedFrame or None
        The lens, if stars allowed one.
    stars : StarList or None
        Its sources, if it was solved.
    all_sky : AllSkySolution or None
        Where a camera that sees the whole sky shows it.
    """

    row: dict[str, Any]
    header: Any = None
    refined: RefinedFrame | None = None
    stars: StarList | None = None
    all_sky: AllSkySolution | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image of the WCS of a solved frame."""
        if self.all_sky is not None:
            return self.all_sky.view.shape
        assert self.stars is not None
        return self.stars.shape

    @property
    def history(self) -> str:
        """One line for a header: which program found the WCS, by which stars and how well."""
        solver, catalog, number, rms = (
            self.row.get(name) for name in ("solver", "catalog", "n_matched", "rms_px")
        )
        parts = [
            f"WCS by skylake {code_version()}" + (f" after {solver}" if solver != "skylake" else ""),
            f"catalog {catalog}" if catalog else "",
            f"{number} stars" if number is not None else "",
            f"rms {rms:.3f} px" if rms is not None else "",
        ]
        return ", ".join(filter(None, parts))


@dataclass(frozen=True, slots=True)
class KnownSky:
    """What a lake knows of the sky.

    Attributes
    ----------
    index : AsterismIndex or None
        None where astrometry.net solves, by its own.
    refiner : Refiner or None
        None without a catalog: then solutions stay as rough as they are.
    catalog : str or None
        Its name.
    epochs : tuple of Epoch
        What was learned of the distortion of the camera.
    """

    index: AsterismIndex | None
    refiner: Refiner | None
    catalog: str | None = None
    epochs: tuple[Epoch, ...] = ()


def index_catalog(
    snapshot: Snapshot, name: str, band: str | None, narrowest_deg: float, widest_deg: float
) -> tuple[AsterismIndex, Path]:
    """Build the index of a catalog of a lake; return it with its file."""
    from skylake.sky.asterism_index import index_path

    catalog = ReferenceCatalog.open(snapshot.catalog(name))
    return build_index(catalog, band, narrowest_deg, widest_deg), index_path(catalog)


def known_sky(snapshot: Snapshot, name: str | None, indexed: bool, report: Callable[[str], None]) -> KnownSky:
    """Open a catalog of a lake, and its index if that is wanted; it is built where there is none that fits."""
    if name is None:
        return KnownSky(None, None)
    catalog = ReferenceCatalog.open(snapshot.catalog(name))
    index = ensure_index(catalog, report) if indexed else None
    # The depth of a frame is given in the magnitudes of the index.
    band = None if index is None else index.magnitude.removeprefix("mag_")
    return KnownSky(index, Refiner(catalog, band), name)


def solve_frame(path: Path, profile: Profile, sky: KnownSky, params: SolveParams) -> SolvedFrame:
    """Solve one frame, without an index by astrometry.net, and refine it by the stars of the catalog."""
    row: dict[str, Any] = {
        "file": str(path),
        "status": "unsolved",
        "reason": None,
        "message": None,
        "catalog": sky.catalog,
        "solver": "astrometry.net" if sky.index is None else "skylake",
    }
    try:
        raw = open_stored(read_file(str(path)), profile.base.header.extension)
        reading = read_header(raw.header, profile, path.name)
        stars, mjd = star_list(raw, reading.camera), reading.mjd_mid
        params = _with_profile(params, reading.camera)
        epoch = None if mjd is None else epoch_at(sky.epochs, mjd, stars.image_shape)
        if sky.index is None:
            answered = astrometry_net.solve_list(stars, params)
            rough, solution = SolvedFrame(row | answered.row, answered.header, None, stars), None
        else:
            rough, solution = _solve_list(row, stars, sky.index, params)
    except FrameError as error:
        return SolvedFrame(row | {"reason": error.reason, "message": str(error)})
    if rough.header is None:
        return rough
    solved = rough.row | {"status": "solved", "refined": False}
    better = (
        None
        if sky.refiner is None
        else sky.refiner.refine(rough.header, stars, mjd, solution, epoch, reading.camera, reading.band)
    )
    if better is None:
        return replace(rough, row=solved)
    return SolvedFrame(solved | better.row(), better.pointing.written.header, better, stars)


def _with_profile(params: SolveParams, camera: Camera) -> SolveParams:
    """Return parameters with scale and parity of a profile where these are not given."""
    scale, mirrored = camera.optics.pixel_scale_arcsec, camera.astrometry.mirrored
    if params.scale_low is None and params.scale_high is None and scale is not None:
        params = replace(params, scale_low=scale / SCALE_FACTOR, scale_high=scale * SCALE_FACTOR)
    if params.parity is None and mirrored is not None:
        params = replace(params, parity=1 if mirrored else -1)
    return params


def _solve_list(
    row: dict[str, Any], stars: StarList, index: AsterismIndex, params: SolveParams
) -> tuple[SolvedFrame, Solution | None]:
    places = stars.x, stars.y, stars.flux, stars.shape
    answers: list[Solution | Unsolved] = []
    guesses = with_nothing_known(params)
    for _, answer in in_turn(guesses, lambda one: solve(index.bands, *places, one, index.called)):
        answers.append(answer)
        if isinstance(answer, Solution) or answer.reason == Reason.TOO_FEW_SOURCES:
            break
    best = max(answer.log_odds for answer in answers)
    figures: dict[str, Any] = {
        "n_sources": len(stars.x),
        "n_guesses": sum(answer.n_guesses for answer in answers),
        "seconds": sum(answer.seconds for answer in answers),
        "log_odds": best if math.isfinite(best) else None,
    }
    solution = answers[-1]
    if not isinstance(solution, Solution):
        return SolvedFrame(
            row | figures | {"reason": solution.reason, "message": why_unsolved(answers, params)}
        ), None
    figures["log_odds"], figures["message"] = solution.log_odds, contradicted(params, solution)
    return SolvedFrame(row | figures | _describe(solution), wcs_header(solution), None, stars), solution


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


def write_header(header: Any, path: Path, shape: tuple[int, int], history: str) -> None:
    """Write the WCS alone, as a FITS file without pixels.

    Parameters
    ----------
    header : astropy.io.fits.Header
    path : Path
    shape : tuple of int
        Height and width of the image, which IMAGEH and IMAGEW give as those of astrometry.net do: a file without
        pixels may have no NAXIS1 and NAXIS2 (FITS standard 4.0, section 4.4.1).
    history : str
        What the WCS was made of.

    Raises
    ------
    LakeError
        If it cannot be written.
    """
    from astropy.io import fits

    cards = header.copy()
    cards["IMAGEW"] = shape[1], "[pix] width of the image"
    cards["IMAGEH"] = shape[0], "[pix] height of the image"
    cards.add_history(history)
    _replace(fits.HDUList([fits.PrimaryHDU(header=cards)]), path)


def write_copy(frame: Path, profile: Profile, header: Any, path: Path, history: str) -> None:
    """Write a copy of a frame whose image has the WCS; all else stays as it is, and HISTORY says how it was found.

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
        old.add_history(history)
        _replace(hdus, path)


def _replace(hdus: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as stream:
            hdus.writeto(stream, output_verify="silentfix")
    except OSError as error:
        raise cannot_be_written(path, error, "it") from error
