"""What of a camera profile a calibration depends on, so that other edits leave published ones alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from skylake.cameras import Profile
from skylake.core.bands import colour_column
from skylake.core.batch import UNDATED, night_span
from skylake.core.camera import Camera, FilterBand
from skylake.core.ids import config_sha256
from skylake.core.magnitude_sources import MagnitudeSource, colour_sources, magnitude_source
from skylake.core.transformations import Transformation
from skylake.lake import Part
from skylake.sky.lake_catalogs import ReferenceCatalog


@dataclass(frozen=True, slots=True)
class CalibrationInputs:
    """What ``matches`` and ``zeropoints`` of the nights of a camera are made from.

    What nights have in common is found once, as there may be thousands of them.

    Attributes
    ----------
    catalog : ReferenceCatalog
    profile : Profile
    variables : sequence of ReferenceCatalog
        Catalogs of variable stars.
    """

    catalog: ReferenceCatalog
    profile: Profile
    variables: Sequence[ReferenceCatalog] = ()
    _known: dict[tuple[Any, ...], dict[str, str]] = field(default_factory=dict)

    def of(self, frames: Part, sources: Part, night: int) -> dict[str, str]:
        """Return the inputs of a night: names to checksums.

        The coefficients with which magnitudes of the catalog are transformed are among them where any are, and so are
        catalogs of variable stars.
        """
        same = periods_of(self.profile, night)
        if same not in self._known:
            self._known[same] = self._of_parameters(night)
        return {"frames": frames.checksum, "sources": sources.checksum, **self._known[same]}

    def _of_parameters(self, night: int) -> dict[str, str]:
        """Return the inputs that are not of the night alone."""
        configuration = calibration_configuration(self.profile, night)
        periods = [configuration["first"], *(values for _, values in configuration["later"])]
        bands = [FilterBand(**band) for values in periods for band in values["filters"].values()]
        inputs = {"catalog": self.catalog.checksum, "configuration": config_sha256(configuration)}
        used = {one.description: asdict(one) for one in transformations_of(bands, self.catalog)}
        inputs |= {"transformations": config_sha256(used)} if used else {}
        variables = " ".join(one.checksum for one in self.variables)
        return inputs | ({"variables": variables} if variables else {})


def transformations_of(bands: Iterable[FilterBand], catalog: ReferenceCatalog) -> list[Transformation]:
    """Return what gives those magnitudes and colours of some bands that a catalog does not have as they are."""
    sources: list[MagnitudeSource | None] = []
    for band in bands:
        sources.append(magnitude_source(band.band, catalog.columns, catalog.survey))
        if band.colour is not None and colour_column(band.colour) not in catalog.columns:
            sources += colour_sources(band.colour, catalog.columns, catalog.survey)
    found = [source.transformation for source in sources if source is not None and source.transformation]
    return list(dict.fromkeys(found))


def calibration_configuration(profile: Profile, night: int) -> dict[str, Any]:
    """Return the values with which a night is matched and calibrated.

    These are the filters, the table ``calibration``, the flux that is calibrated, and how the sky is taken off, since
    the light of catalog stars in it follows from that, in each period of the camera that touches the night. What was
    measured with other values, such as radii of apertures, is in the frames, and their checksum shows when it
    changes.
    """
    used: list[tuple[float, dict[str, Any]]] = []
    for instant in _instants(profile, night):
        values = _values(_camera_at(profile, night, instant))
        if not used or used[-1][1] != values:
            used.append((instant, values))
    # Only where values change within the night does it matter when.
    return {"first": used[0][1], "later": used[1:]}


def periods_of(profile: Profile, night: int) -> tuple[Any, ...]:
    """Return what two nights of a profile share if, and only if, the same periods of the camera touch them.

    Nights in which a period begins or ends share it with no other.
    """
    first, *later = _instants(profile, night)
    # The profile holds its cameras, so that no other one has the same identity.
    return (id(_camera_at(profile, night, first)), *later)


def _instants(profile: Profile, night: int) -> list[float]:
    """Return when a night begins, and when a period of the camera begins or ends in it."""
    if night == UNDATED:
        return [0.0]
    first, last = night_span(night, profile.base.site.longitude_deg)
    bounds = {bound for period in profile.periods for bound in (period.start, period.end)}
    return sorted({first} | {bound for bound in bounds if first < bound < last})


def _camera_at(profile: Profile, night: int, instant: float) -> Camera:
    """Return the camera at an instant of a night; nights without a date have the base."""
    return profile.base if night == UNDATED else profile.at(instant)


def camera_of_frames(profile: Profile, frames: pa.Table) -> Camera:
    """Return the camera as it was in the middle of the frames of a night; without frames the base."""
    return profile.at(float(np.mean(frames["mjd_mid"].to_numpy())) if frames.num_rows else None)


def _values(camera: Camera) -> dict[str, Any]:
    return {
        "filters": {name: asdict(band) for name, band in camera.filters.items()},
        "calibration": asdict(camera.calibration),
        "flux": camera.apertures.flux,
        "sky": {
            "background_mesh_px": camera.extraction.background_mesh_px,
            "sky_annulus_px": camera.apertures.sky_annulus_px,
        },
    }
