"""Geometries of a camera of the whole sky over one night, one for each time that it was moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from skylake.errors import FrameRejected
from skylake.image.allsky.allsky_pointing import SkyScene, place_by_stars
from skylake.image.allsky.geometry_epochs import CHANGED_PX, Geometry, night_geometry
from skylake.image.allsky.refine_geometry import Refined, apart_px, follow, refine
from skylake.image.wcs.lens import Lens

#: A lens that shows a smaller share of the brightest stars is that of another geometry.
_HELD = 0.3
_BRIGHT = 50


@dataclass(slots=True)
class _Stretch:
    """Frames one after another that have a geometry in common: that of the first of them."""

    first: Refined
    scenes: list[SkyScene] = field(default_factory=list)

    @property
    def lens(self) -> Lens:
        return self.first.lens


def geometries_of_night(scenes: Sequence[SkyScene], known: Lens | None) -> list[Geometry]:
    """Return the geometries that the frames of a night show, in order of time.

    Parameters
    ----------
    scenes : sequence of SkyScene
        Frames of one size, in order of time.
    known : Lens or None
        That the camera had before. Where frames do not show it, their stars give theirs alone.

    Returns
    -------
    list of Geometry
        None from frames in which no geometry is recognised. A single frame that shows another one than the
        others of its night, or than they and the one before, begins none: its clock is wrong.
    """
    stretches: list[_Stretch] = []
    lens = known
    for scene in scenes:
        own = _own(scene, lens)
        if own is None:
            continue
        if not stretches or apart_px(stretches[-1].lens, own, scene.detected) > CHANGED_PX:
            stretches.append(_Stretch(own))
        stretches[-1].scenes.append(scene)
        lens = stretches[-1].lens
    several = [stretch for stretch in _united(stretches) if len(stretch.scenes) > 1]
    return [
        geometry
        for stretch in several or _credible(stretches, known)
        if (geometry := _geometry(stretch)) is not None
    ]


def _credible(stretches: Sequence[_Stretch], known: Lens | None) -> Sequence[_Stretch]:
    """Return the frames, no two of which agree, that have the previous geometry; all of them if none has."""
    if known is None:
        return stretches
    borne_out = [
        stretch
        for stretch in stretches
        if apart_px(known, stretch.first, stretch.scenes[0].detected) <= CHANGED_PX
    ]
    return borne_out or stretches


def _united(stretches: Sequence[_Stretch]) -> list[_Stretch]:
    """Return stretches without those of one frame, and those around one as one where they have one geometry."""
    united: list[_Stretch] = []
    for stretch in stretches:
        if len(stretch.scenes) == 1:
            continue
        if united:
            own = _own(stretch.scenes[0], united[-1].lens)
            if own is not None and apart_px(united[-1].lens, own, stretch.scenes[0].detected) <= CHANGED_PX:
                united[-1].scenes += stretch.scenes
                continue
        united.append(_Stretch(stretch.first, list(stretch.scenes)))
    return united


def _own(scene: SkyScene, known: Lens | None) -> Refined | None:
    """Return the geometry of one frame; None if it cannot be determined."""
    if known is not None:
        # A clock that is off, or a push, turns the camera by more than stars are looked for.
        held = follow(known, scene.detected, scene.above, scene.shape, scene.fwhm_px)
        own = None if held is None or not _is_held(held) else _refined(held.lens, scene)
        if own is not None:
            return own
    try:
        return _refined(place_by_stars(scene).view.lens, scene)
    except FrameRejected:
        return None


def _is_held(refined: Refined) -> bool:
    """Return whether bright stars are where a geometry has them."""
    brightest = np.argsort(refined.stars.mag, kind="stable")[:_BRIGHT]
    return bool(np.isin(brightest, refined.pairs.star).mean() >= _HELD)


def _refined(lens: Lens, scene: SkyScene) -> Refined | None:
    refined = refine(lens, [(scene.detected, scene.above)], scene.shape, scene.fwhm_px)
    return None if refined is None else refined[0]


def _geometry(stretch: _Stretch) -> Geometry | None:
    first = stretch.scenes[0]
    frames = [(scene.mjd, scene.detected, scene.above) for scene in stretch.scenes]
    fwhm = float(np.median([scene.fwhm_px for scene in stretch.scenes]))
    return night_geometry(stretch.lens, frames, first.shape, fwhm)
