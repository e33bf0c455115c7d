"""Plots of the distortion of a camera, and of the residuals of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skylake.image.allsky.geometry_epochs import Geometry
    from skylake.image.distortion.distortion_epochs import Epoch
    from skylake.lake import Lake, Snapshot


def draw_epoch(lake: Lake, camera: str, epoch: Epoch, folder: Path) -> list[str]:
    """Draw an epoch of a camera into a folder; return the files."""
    from skylake.core.sphere import ARCSEC_PER_RADIAN
    from skylake.flow.astrometry.learn_distortion import stars_of_epoch
    from skylake.flow.astrometry.residual_fields import field_of_epoch
    from skylake.flow.execution.cluster import Inline
    from skylake.report import astrometry_page

    model = epoch.distortion.model
    stars = stars_of_epoch(lake, camera, epoch, Inline())
    scale = ARCSEC_PER_RADIAN / model.focal_px
    residuals = astrometry_page.FrameResiduals(*stars, epoch.shape, scale)
    field, n_frames = field_of_epoch(lake.snapshot(), camera, epoch)
    name = f"{camera}, epoch {epoch.number}"
    figures = {
        "distortion": astrometry_page.distortion_map(model, epoch.shape, f"{name}: distortion"),
        "residuals": astrometry_page.residual_quiver(residuals, f"{name}: residuals"),
        "radius": astrometry_page.residuals_against_radius(residuals, f"{name}: residuals against radius"),
        "histogram": astrometry_page.residual_histogram(residuals, f"{name}: spread of residuals"),
        "field": astrometry_page.stored_field(
            field, epoch.shape, scale, n_frames, f"{name}: residuals as stored"
        ),
    }
    return _saved(figures, folder, f"{camera}-{epoch.number}.{epoch.version}")


def draw_sky_geometry(snapshot: Snapshot, geometry: Geometry, camera: str, folder: Path) -> list[str]:
    """Draw a geometry of a camera of the whole sky into a folder; return the files.

    Where it shows altitudes and azimuths, its distortion, and what is left of the stars of its frames.
    """
    from skylake.core.sphere import ARCSEC_PER_RADIAN
    from skylake.flow.astrometry.residual_fields import field_of_geometry
    from skylake.report import astrometry_page
    from skylake.report.geometry_page import horizon_grid

    name, lens, shape = f"{camera}, geometry {geometry.name}", geometry.lens, geometry.shape
    field, n_frames = field_of_geometry(snapshot, camera, geometry)
    scale = ARCSEC_PER_RADIAN / lens.focal_px
    figures = {
        "horizon": horizon_grid(geometry, name),
        "distortion": astrometry_page.distortion_map(lens, shape, f"{name}: distortion", whole_sky=True),
        "field": astrometry_page.stored_field(field, shape, scale, n_frames, f"{name}: residuals as stored"),
    }
    return _saved(figures, folder, f"{camera}-{geometry.name}")


def _saved(figures: Mapping[str, Figure], folder: Path, stem: str) -> list[str]:
    """Save figures by what they show; return the files."""
    from skylake.cli.output import writing
    from skylake.report.style import save

    paths = {what: folder / f"{stem}-{what}.png" for what in figures}
    for what, figure in figures.items():
        with writing(paths[what]):
            save(figure, paths[what])
    return [str(path) for path in paths.values()]
