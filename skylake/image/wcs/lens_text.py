"""A lens as a text of one line, as the column ``wcs_lens`` of ``frames`` keeps it.

The lens of a camera that sees the whole sky knows directions above the horizon; its text has the horizon too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from skylake.core.horizon import Horizon
from skylake.core.refraction import Refraction
from skylake.image.wcs.field_refraction import Bending
from skylake.image.wcs.lens import NAMES, Lens
from skylake.image.wcs.sky_view import SkyView

_HORIZON = "horizon"
#: What only texts of a view of the whole sky contain.
VIEW_MARK = f'"{_HORIZON}"'
_AXES = ("east", "north", "up")


def lens_text(lens: Lens) -> str:
    """Return a lens as JSON: projection, whether it is mirrored, its parameters that are not 0, and refraction."""
    return json.dumps(_told_of_lens(lens))


def lens_of_text(text: str) -> Lens:
    """Return the lens of such a text, to the last digit.

    Raises
    ------
    ValueError
        If it is the text of no lens, or of a view of the whole sky.
    """
    told = _told_of_text(text)
    if _HORIZON in told:
        raise ValueError(f"{text[:80]!r} is a view of the whole sky; read it with view_of_text")
    return _lens_of_told(told, text)


def view_text(view: SkyView) -> str:
    """Return the lens and the horizon of a view as JSON.

    The horizon is its axes ``east``, ``north`` and ``up`` in the ICRS, the ``velocity`` of the observer in units of
    that of light, and the coefficients of ``refraction``.
    """
    horizon = view.horizon
    axes = {name: axis.tolist() for name, axis in zip(_AXES, horizon.axes, strict=True)}
    air = {"velocity": horizon.velocity.tolist(), "refraction": list(horizon.refraction.coefficients)}
    return json.dumps({**_told_of_lens(view.lens), _HORIZON: {**axes, **air}})


def view_of_text(text: str, shape: tuple[int, int]) -> SkyView:
    """Return the view of such a text, to the last digit: pixels to altitude and azimuth, to the ICRS, and back.

    Parameters
    ----------
    text : str
        ``wcs_lens`` of a frame of a camera that sees the whole sky.
    shape : tuple of int
        Height and width of its image: ``height_px`` and ``width_px``.

    Raises
    ------
    ValueError
        If it is the text of no view of the whole sky.
    """
    told = _told_of_text(text)
    try:
        horizon = told[_HORIZON]
        axes = np.array([horizon[name] for name in _AXES], float).reshape(3, 3)
        velocity = np.array(horizon["velocity"], float).reshape(3)
        refraction = Refraction(tuple(float(one) for one in horizon["refraction"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{text[:80]!r} is no view of the whole sky") from error
    return SkyView(_lens_of_told(told, text), Horizon(axes, velocity, refraction), shape)


def _told_of_lens(lens: Lens) -> dict[str, Any]:
    numbers = {name: float(value) for name, value in zip(NAMES, lens.parameters(), strict=True) if value}
    air = {} if lens.bending is None else {"refraction": lens.bending.told()}
    return {"projection": lens.projection, "mirrored": lens.mirrored, **numbers, **air}


def _told_of_text(text: str) -> dict[str, Any]:
    told = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError(f"{text[:80]!r} is no lens")
    return told


def _lens_of_told(told: dict[str, Any], text: str) -> Lens:
    try:
        lens = Lens.from_parameters(
            [told.get(name, 0.0) for name in NAMES], told["projection"], told["mirrored"]
        )
        return replace(lens, bending=Bending.of_told(told["refraction"])) if "refraction" in told else lens
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{text[:80]!r} is no lens") from error
