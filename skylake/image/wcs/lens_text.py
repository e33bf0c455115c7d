"""Text form of a lens: the column ``wcs_lens`` of ``frames``.

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
    return json.dumps(_values_of_lens(lens))


def lens_of_text(text: str) -> Lens:
    """Return the lens of such a text, to the last digit.

    Raises
    ------
    ValueError
        If it is the text of no lens, or of a view of the whole sky.
    """
    values = _parsed(text)
    if _HORIZON in values:
        raise ValueError(f"{text[:80]!r} is a view of the whole sky; read it with view_of_text")
    return _lens_of_values(values, text)


def view_text(view: SkyView) -> str:
    """Return the lens and the horizon of a view as JSON.

    The horizon is its axes ``east``, ``north`` and ``up`` in the ICRS, the ``velocity`` of the observer in units of
    that of light, and the coefficients of ``refraction``.
    """
    horizon = view.horizon
    axes = {name: axis.tolist() for name, axis in zip(_AXES, horizon.axes, strict=True)}
    air = {"velocity": horizon.velocity.tolist(), "refraction": list(horizon.refraction.coefficients)}
    return json.dumps({**_values_of_lens(view.lens), _HORIZON: {**axes, **air}})


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
    values = _parsed(text)
    try:
        horizon = values[_HORIZON]
        axes = np.array([horizon[name] for name in _AXES], float).reshape(3, 3)
        velocity = np.array(horizon["velocity"], float).reshape(3)
        refraction = Refraction(tuple(float(number) for number in horizon["refraction"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{text[:80]!r} is no view of the whole sky") from error
    return SkyView(_lens_of_values(values, text), Horizon(axes, velocity, refraction), shape)


def _values_of_lens(lens: Lens) -> dict[str, Any]:
    numbers = {name: float(value) for name, value in zip(NAMES, lens.parameters(), strict=True) if value}
    air = {} if lens.bending is None else {"refraction": lens.bending.values()}
    return {"projection": lens.projection, "mirrored": lens.mirrored, **numbers, **air}


def _parsed(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"{text[:80]!r} is no lens")
    return values


def _lens_of_values(values: dict[str, Any], text: str) -> Lens:
    try:
        lens = Lens.from_parameters(
            [values.get(name, 0.0) for name in NAMES], values["projection"], values["mirrored"]
        )
        return (
            replace(lens, bending=Bending.from_values(values["refraction"]))
            if "refraction" in values
            else lens
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{text[:80]!r} is no lens") from error
