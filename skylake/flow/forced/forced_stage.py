"""The step of ingest that measures targets with the point spread functions of their nights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from skylake.core.camera import Camera
from skylake.core.flags import FrameFlag
from skylake.core.reasons import Reason
from skylake.errors import FrameError
from skylake.flow.execution.task_guard import guard
from skylake.flow.forced.psf_pool import PsfKey, psf_for
from skylake.flow.forced.target_list import TargetList
from skylake.image.photometry.growth_curves import ApertureCorrections
from skylake.image.psf.default_growth import corrections_of
from skylake.image.psf.extracted_frame import Extracted
from skylake.image.psf.forced_photometry import ForcedMeasurements, force_targets
from skylake.image.psf.psf_model import PsfModel
from skylake.image.psf.targets_on_frame import TargetFinder
from skylake.image.reduction.reduce_frame import Finisher

#: What is not known of a frame whose targets were not measured.
_OF_TARGETS = ("n_targets", "targets_dx_px", "targets_dy_px", "psf_stars", "psf_chi2")


@dataclass(frozen=True, slots=True)
class Forcing:
    """What forced photometry needs: the targets, and the point spread functions of the nights."""

    targets: TargetList
    psfs: Mapping[PsfKey, PsfModel] = field(default_factory=dict)

    def usual(self, extracted: Extracted) -> PsfModel | None:
        """Return the point spread function of the night of a frame; None where it is not known."""
        row, (height, width) = extracted.row, extracted.signal.shape
        called = extracted.camera.called_filter(row.get("filter"))
        return psf_for(self.psfs, PsfKey(int(row["night"]), called, (height, width)))

    def corrections(self, extracted: Extracted) -> ApertureCorrections:
        """Return the aperture corrections of a frame, those of its night where its own stars are too few.

        A form that cannot be drawn leaves those that were assumed: it spoils the targets, which say why, but not the
        detections.
        """
        own = guard(lambda: corrections_of(extracted, self.usual(extracted)))
        return extracted.corrections if isinstance(own, FrameError) else own

    def finisher(self, find_targets: TargetFinder) -> Finisher:
        """Return what measures the targets of a frame."""

        def finish(extracted: Extracted) -> ForcedMeasurements | None:
            row = extracted.row
            if too_uncertain(row, extracted.camera):
                row.update(_frame_row(self.targets.version, None))
                return None
            psf = self.usual(extracted)
            forced = guard(partial(force_targets, extracted, find_targets, psf))
            if isinstance(forced, FrameError):
                row["targets_version"] = self.targets.version
                note_failure(row, forced)
                return None
            row.update(_frame_row(self.targets.version, forced))
            return forced

        return finish


def too_uncertain(row: Mapping[str, Any], camera: Camera) -> bool:
    """Return whether a frame was placed by interpolation, and not well enough to measure targets on it."""
    if not row["flags"] & FrameFlag.WCS_INTERPOLATED:
        return False
    most = camera.astrometry.interpolated_targets * camera.apertures.calibrated_radius_px
    return not row["wcs_err_px"] <= most


def note_failure(row: dict[str, Any], error: FrameError) -> None:
    """Let the row of a frame say that its targets were not measured; its detections are as good as ever."""
    sentence = f"its targets were not measured: {error}"
    row["message"] = "; ".join(part for part in (row.get("message"), sentence) if part)
    row["reason"] = row.get("reason") or Reason.TARGETS_FAILED.value
    row.update(dict.fromkeys(_OF_TARGETS))


def _frame_row(version: int, forced: ForcedMeasurements | None) -> dict[str, Any]:
    """Return what ``frames`` says of the targets of a frame."""
    row: dict[str, Any] = {"targets_version": version, "n_targets": 0 if forced is None else len(forced)}
    if forced is not None:
        row |= {"targets_dx_px": forced.shift_px[0], "targets_dy_px": forced.shift_px[1]}
        row |= {"psf_stars": forced.quality.n_stars, "psf_chi2": forced.psf_chi2}
    return row
