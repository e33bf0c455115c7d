"""A lens as a text of one line, as the column ``wcs_lens`` of ``frames`` keeps it."""

from __future__ import annotations

import json
from dataclasses import replace

from skylake.image.bending import Bending
from skylake.image.lens import NAMES, Lens


def lens_text(lens: Lens) -> str:
    """Return a lens as JSON: projection, whether it is mirrored, its parameters that are not 0, and refraction."""
    numbers = {name: float(value) for name, value in zip(NAMES, lens.parameters(), strict=True) if value}
    air = {} if lens.bending is None else {"refraction": lens.bending.told()}
    return json.dumps({"projection": lens.projection, "mirrored": lens.mirrored, **numbers, **air})


def lens_of_text(text: str) -> Lens:
    """Return the lens of such a text, to the last digit.

    Raises
    ------
    ValueError
        If it is the text of no lens.
    """
    try:
        told = json.loads(text)
        lens = Lens.from_parameters(
            [told.get(name, 0.0) for name in NAMES], told["projection"], told["mirrored"]
        )
        return replace(lens, bending=Bending.of_told(told["refraction"])) if "refraction" in told else lens
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{text[:80]!r} is no lens") from error
