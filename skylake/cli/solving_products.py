"""Write the products of ``skylake solve``: a WCS or a copy of the frame, and plots."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from skylake.cameras import Profile
    from skylake.flow.astrometry.solve_frames import SolvedFrame


def write_wcs(solved: SolvedFrame, path: Path, profile: Profile, stem: Path, copy: bool) -> str | None:
    """Write the WCS of a solved frame, or a copy of the frame with it; return the file."""
    from skylake.flow.astrometry.solve_frames import write_copy, write_header

    if solved.header is None:
        return None
    target = stem.with_name(f"{stem.name}.solved.fits" if copy else f"{stem.name}.wcs")
    if copy:
        write_copy(path, profile, solved.header, target, solved.history)
    else:
        write_header(solved.header, target, solved.shape, solved.history)
    return str(target)


def draw(solved: SolvedFrame, stem: Path) -> list[str]:
    """Draw how well the lens of a frame shows its stars; return the files, none for one without a lens."""
    from skylake.cli.output import writing
    from skylake.report.style import save

    paths = []
    for name, figure in _figures(solved, stem.name).items():
        path = stem.with_name(f"{stem.name}.{name}.png")
        with writing(path):
            save(figure, path)
        paths.append(str(path))
    return paths


def _figures(solved: SolvedFrame, name: str) -> dict[str, Figure]:
    from skylake.report import astrometry_page, geometry_page

    if solved.all_sky is not None:
        whole = solved.all_sky
        return {
            "residuals": geometry_page.residual_arrows(whole, f"{name}: residuals"),
            "zenith": geometry_page.residuals_against_zenith_distance(
                whole, f"{name}: residuals against zenith distance"
            ),
            "azimuth": geometry_page.residuals_against_azimuth(whole, f"{name}: residuals against azimuth"),
            "sky": geometry_page.sky_chart(whole, f"{name}: the sky"),
            "histogram": geometry_page.residual_spread(whole, f"{name}: spread of residuals"),
            "distortion": astrometry_page.distortion_map(
                whole.view.lens, whole.view.shape, f"{name}: distortion", whole_sky=True
            ),
        }
    if solved.refined is None or solved.stars is None:
        return {}
    shape, better = solved.stars.shape, solved.refined.pointing
    residuals = astrometry_page.FrameResiduals.of(
        better.refinement, shape, better.pointing.pixel_scale_arcsec
    )
    return {
        "residuals": astrometry_page.residual_quiver(residuals, f"{name}: residuals"),
        "radius": astrometry_page.residuals_against_radius(residuals, f"{name}: residuals against radius"),
        "histogram": astrometry_page.residual_histogram(residuals, f"{name}: spread of residuals"),
        "distortion": astrometry_page.distortion_map(better.refinement.lens, shape, f"{name}: distortion"),
    }
