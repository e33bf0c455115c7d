"""What the reduction of a frame needs besides its file and its camera: what a lake knows, and what is made with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from skylake.core.frame_step import Step
from skylake.image.detrend.frame_conditions import SkyFinder
from skylake.image.masters.master_library import Library
from skylake.image.psf.default_growth import UsualCorrections
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.reduction.detection_cache import Keeper
from skylake.image.solving.measured_field import Reference

#: What is done with a frame whose sources are measured and whose WCS is right, such as forced photometry.
Finisher = Callable[[Extracted], Step[Any]]


@dataclass(frozen=True, slots=True)
class ReduceParams:
    """What the frames of a camera are reduced with.

    Attributes
    ----------
    reference : Reference or None
        Stars, a solver, distortion and expected pointing; None leaves the WCS unchecked.
    library : Library or None
        The masters from which those that the camera's steps need are chosen.
    sky : callable or None
        Gives the sky of a frame from its neighbours, for cameras whose steps take it off.
    finish : callable or None
        Is called once the sources are measured and the WCS is right; what it gives is kept.
    unplaced : bool
        Whether `finish` is called for a frame too of which nobody knows where it points.
    keeper : Keeper or None
        Keeps what is found on frames, and knows what was found on those that were reduced before in the same way.
    usual : callable or None
        Gives the aperture corrections of a frame, for which those of its night stand in where it has few stars.
    """

    reference: Reference | None = None
    library: Library | None = None
    sky: SkyFinder | None = None
    finish: Finisher | None = None
    unplaced: bool = False
    keeper: Keeper | None = None
    usual: UsualCorrections | None = None


#: A reduction that knows nothing but the profile of the camera.
PLAIN = ReduceParams()
