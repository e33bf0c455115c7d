"""Place of a detector in the focal plane of its telescope: the section ``[place]`` of a camera profile.

The focal plane is seen as the sky is: at a position angle of 0 its y axis points to the north and its x axis to the
west, so that x runs to the right of an image that is not mirrored. Lengths are on the plane that touches the sky
at the axis of the telescope.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DetectorPlace:
    """A detector in the focal plane; the defaults are those of one on the axis, its y axis along that of the plane."""

    x_arcsec: float = 0.0
    y_arcsec: float = 0.0
    """Centre of the image, after trimming, from the axis of the telescope."""
    x_mm: float | None = None
    y_mm: float | None = None
    """The same as lengths, in place of angles; optics.plate_scale_arcsec_mm turns them."""
    angle_deg: float = 0.0
    """Position angle of the image's y axis where that of the focal plane is 0."""
    file: str | None = None
    """Regular expression that the names of this detector's files match, where each detector has files of its own."""
    card: str | None = None
    value: str | None = None
    """A card that names the detector, and what it says of this one, for such files."""
    mosaic: str = ""
    chip: str = ""
    """The camera whose block [[chip]] this is, and its name there; set by skylake."""

    @property
    def has_own_files(self) -> bool:
        """Whether the files of this detector are distinguished from those of others."""
        return self.file is not None or self.card is not None
