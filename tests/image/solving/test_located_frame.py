from __future__ import annotations

from itertools import permutations

import pytest

from skylake.core.camera import Camera, Gate
from skylake.core.frame_row import FrameRow
from skylake.core.frame_step import with_part
from skylake.core.reasons import GATE_REASONS
from skylake.errors import FrameRejected
from skylake.image.quality.frame_verdicts import apply_gates
from skylake.image.solving.located_frame import Located, require_right
from skylake.image.wcs.header_wcs import Pointing

GATES = {"sky_saturation": Gate(max=0.4), "found_fraction": Gate(min=0.2), "fwhm_px": Gate(max=6.0)}


@pytest.mark.parametrize("order", list(permutations(GATES)))
def test_a_frame_whose_stars_are_not_seen_has_the_reason_that_its_sentence_gives(
    order: tuple[str, ...],
) -> None:
    camera = Camera("lab", gates={name: GATES[name] for name in order})
    row: FrameRow = {"status": "ok", "flags": 0, "message": None, "n_detected": 3, "n_expected": 60}
    row |= {"sky_saturation": 0.9, "found_fraction": 0.0, "fwhm_px": 11.0}
    row = with_part(row, apply_gates(row, camera))
    pointing = Pointing(None, 83.0, 22.0, 1.0, 20.0, 0.0, False, None)
    located = Located(pointing, FrameRejected("bad_wcs", "no star of the catalog is where the WCS says"))
    with pytest.raises(FrameRejected) as raised:
        require_right(located, row, camera)
    assert raised.value.reason == GATE_REASONS[order[0]]
    assert str(raised.value).startswith(f"{order[0]} is ")
