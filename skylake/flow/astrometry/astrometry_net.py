"""Solve a list of sources by `solve-field` of astrometry.net, where that is installed."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skylake.core.reasons import Reason
from skylake.current_folder import environment_of_user
from skylake.errors import FrameRejected, UsageError
from skylake.image.solving.solve_parameters import SolveParams
from skylake.image.solving.source_list import StarList
from skylake.scratch import scratch_folder

_PROGRAM = "solve-field"
#: Seconds of the processor that it may take, and of the clock.
_CPU_LIMIT, _LIMIT = 60, 180
#: From the middle of a picture of unknown scale to its corner, at most.
_CORNER_DEG = 40.0


#: Cards of a WCS with SIP polynomials.
_WCS_CARD = re.compile(
    r"(WCSAXES|RADESYS|EQUINOX|LONPOLE|LATPOLE|(CTYPE|CUNIT|CRVAL|CRPIX)[12]|CD[12]_[12]|[AB]P?_(ORDER|\d_\d))\Z"
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What `solve-field` found: figures, and the header that it wrote."""

    row: dict[str, Any]
    header: Any


def require_program() -> None:
    """Raise UsageError if `solve-field` is not installed."""
    if shutil.which(_PROGRAM) is None:
        raise UsageError(
            f"--solver astrometry.net needs the program {_PROGRAM}; install astrometry.net and index files, or leave "
            "the option out"
        )


def command_of(sources: Path, stars: StarList, params: SolveParams) -> list[str]:
    """Return the command line for a list of sources."""
    height, width = stars.shape
    command = [
        _PROGRAM,
        str(sources),
        "--no-plots",
        "--overwrite",
        "--cpulimit",
        str(_CPU_LIMIT),
        "--x-column",
        "X",
        "--y-column",
        "Y",
        "--sort-column",
        "FLUX",
        "--width",
        str(width),
        "--height",
        str(height),
    ]
    if params.scale_low and params.scale_high:
        low, high = f"{params.scale_low:.6g}", f"{params.scale_high:.6g}"
        command += ["--scale-units", "arcsecperpix", "--scale-low", low, "--scale-high", high]
    if params.centre is not None:
        ra, dec = (f"{value:.6f}" for value in params.centre)
        # It wants the asterism within the radius, which may lie in a corner of the picture.
        corner = _CORNER_DEG
        if params.scale_high:
            corner = 0.5 * math.hypot(width, height) * params.scale_high / 3600.0
        command += ["--ra", ra, "--dec", dec, "--radius", f"{min(params.radius_deg + corner, 180.0):.6g}"]
    return command


def _environment() -> dict[str, str]:
    """Return the environment without paths of Python: the program runs scripts of its own by another interpreter."""
    return {
        name: value
        for name, value in environment_of_user().items()
        if name not in ("PYTHONPATH", "PYTHONHOME")
    }


def solve_list(
    stars: StarList, params: SolveParams, indexes: Path | None = None, limit_s: float = _LIMIT
) -> Answered:
    """Solve a list of sources, with the index files of a folder or those that its configuration names.

    Parameters
    ----------
    stars : StarList
    params : SolveParams
    indexes : Path, optional
    limit_s : float
        Seconds of the clock after which it is given up.

    Raises
    ------
    FrameRejected
        ``no_wcs`` if it finds nothing.
    """
    from astropy.io import fits
    from astropy.table import Table

    began = _processor_s()
    order = np.argsort(-stars.flux, kind="stable")
    with scratch_folder("solve") as folder:
        sources = folder / "sources.fits"
        # Pixels of FITS begin at 1.
        columns = {"X": stars.x[order] + 1.0, "Y": stars.y[order] + 1.0, "FLUX": stars.flux[order]}
        Table(columns).write(sources)
        command = command_of(sources, stars, params)
        if indexes is not None:
            configuration = folder / "engine.cfg"
            configuration.write_text(
                f"cpulimit {_CPU_LIMIT}\nadd_path {indexes.resolve()}\nautoindex\n", encoding="utf-8"
            )
            command += ["--backend-config", str(configuration)]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=limit_s,
                check=False,
                # It runs scripts of Python, which are to find no modules of the current folder.
                cwd=folder,
                env=_environment(),
            )
        except subprocess.TimeoutExpired:
            raise FrameRejected(Reason.NO_WCS, f"{_PROGRAM} found nothing in {limit_s:g} s") from None
        answer = sources.with_suffix(".wcs")
        if not answer.exists():
            said = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise FrameRejected(Reason.NO_WCS, f"{_PROGRAM} found no solution ({' '.join(said)})")
        header = _cards(fits.getheader(answer))
    return Answered(_describe(header, stars, _processor_s() - began), header)


def _processor_s() -> float:
    """Return the time of the processor that ended programs which this process began have taken, seconds."""
    times = os.times()
    return times.children_user + times.children_system


def _cards(header: Any) -> Any:
    """Return the cards of a WCS, without the cards of its file, which do not fit another file."""
    return type(header)([card for card in header.cards if _WCS_CARD.match(card.keyword)])


def _describe(header: Any, stars: StarList, seconds: float) -> dict[str, Any]:
    from astropy.wcs import WCS

    wcs = WCS(header)
    height, width = stars.shape
    ra, dec = wcs.all_pix2world(0.5 * (width - 1), 0.5 * (height - 1), 0)
    scale = math.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600.0
    return {
        "n_sources": len(stars.x),
        "ra_deg": float(ra),
        "dec_deg": float(dec),
        "scale_arcsec": scale,
        "mirrored": bool(np.linalg.det(wcs.pixel_scale_matrix) > 0),
        "seconds": seconds,
    }
