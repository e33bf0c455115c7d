"""The light of catalog stars in the apertures of matches, and what of it the sky took off again.

Frames of one night that see the same field about equally well share their numbers: those of one of them are computed
and hold for all. Stars move across cameras that see the whole sky, so there each frame is computed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from skylake.calibration.calibrated_matches import column_floats
from skylake.core.aperture_light import StarProfile, neighbour_light
from skylake.core.bands import BANDS, as_it_is, mag_column, survey_band
from skylake.core.camera import Camera
from skylake.core.ephemeris import airmass
from skylake.core.sphere import apply_proper_motion, julian_epoch, separation_deg, tangent_basis, unit_vectors
from skylake.image.photometry.sky_light import FrameSky, sky_light
from skylake.image.wcs.lens import Lens
from skylake.image.wcs.lens_text import VIEW_MARK, lens_of_text, view_of_text
from skylake.lake.storage.slices import Slice, read_files
from skylake.schema.aperture_columns import MORE, aperture_floats, aperture_value
from skylake.sky.lake_catalogs import MOST_STARS, ReferenceCatalog
from skylake.table.matches import LIGHT_COLUMNS

Floats = npt.NDArray[np.float64]

#: Frames share their numbers if their centres are nearer than this share of their size, and widths of stars and
#: numbers of detections differ by no larger shares.
_SAME_FIELD, _SAME_WIDTH, _SAME_NUMBER = 0.05, 0.06, 0.15
#: Frames of a group that are tried to stand for it.
_STANDING = 3
#: The width of stars is not known better at a place of the field.
_WIDTH_ERROR = 0.08
#: Stars this far outside the image still light it, pixels.
_BEYOND_PX = 100.0
#: A field of the catalog is read this much wider, so that it holds the next frames.
_SPARE = 1.2
#: From the centre of the sky above a horizon to its edge, with some of refraction.
_SKY_DEG = 92.0
_FRAME_COLUMNS = (
    "frame_id",
    "band",
    "mjd_mid",
    "exposure_s",
    "ra_deg",
    "dec_deg",
    "pixel_scale_arcsec",
    "rotation_deg",
    "mirrored",
    "wcs_lens",
    "width_px",
    "height_px",
    "fwhm_px",
    "n_detected",
    "sky_rms_adu",
    MORE,
    *(f"aper{number}_radius_px" for number in (1, 2, 3)),
    *(f"apcor_aper{number}{error}" for number in (1, 2, 3) for error in ("", "_err")),
)
_SOURCE_COLUMNS = ["frame_id", "x_px", "y_px", "n_pixels"]


@dataclass(frozen=True, slots=True)
class _Stars:
    """Stars of the catalog as one frame sees them; arrays of shape (n,) and (n, 2)."""

    ref_id: npt.NDArray[np.int64]
    places: Floats
    mag: Floats
    mag_err: Floats


class _Fields:
    """Reads stars around frames; the last field is kept."""

    def __init__(self, reference: ReferenceCatalog, magnitude: str) -> None:
        self.reference, self.magnitude = reference, magnitude
        self._field: tuple[float, float, float, pa.Table] | None = None

    def around(self, ra_deg: float, dec_deg: float, radius_deg: float) -> pa.Table:
        """Return the stars within a radius, and some more; the brightest where they are too many to hold."""
        if self._field is not None:
            ra, dec, radius, stars = self._field
            if float(separation_deg(ra, dec, ra_deg, dec_deg)) + radius_deg <= radius:
                return stars
        wide = min(_SPARE * radius_deg, 180.0)
        error = f"{self.magnitude}_err"
        columns = ["ref_id", "ra_deg", "dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr", self.magnitude]
        columns += [error] if error in self.reference.columns else []
        stars = self.reference.brightest((ra_deg, dec_deg, wide), columns, self.magnitude, MOST_STARS)
        # A star that is listed twice is no neighbour of itself.
        stars = stars.take(np.unique(stars["ref_id"].to_numpy(), return_index=True)[1])
        self._field = ra_deg, dec_deg, wide, stars
        return stars


def with_neighbour_light(
    matches: pa.Table, frames: pa.Table, slices: Sequence[Slice], camera: Camera, reference: ReferenceCatalog
) -> pa.Table:
    """Return matches with what neighbours bring into the aperture of calibrations, and what the sky took off.

    Parameters
    ----------
    matches : pyarrow.Table
        Rows of ``matches`` of one night.
    frames : pyarrow.Table
        Their rows of ``frames``, with the bands that are in force.
    slices : sequence of Slice
        Where their sources are.
    camera : Camera
    reference : ReferenceCatalog
        The catalog that they are matched with.

    Returns
    -------
    pyarrow.Table
        With ``ref_crowding``, ``ref_crowding_err``, ``ref_sky_light`` and ``ref_neighbours``, null where the catalog
        has no magnitude in the band, or a frame not what is needed.
    """
    values = {name: np.full(matches.num_rows, np.nan) for name in LIGHT_COLUMNS}
    groups = list(_groups(frames, camera)) if matches.num_rows else []
    standing = [row["frame_id"] for rows in groups for row in rows[:_STANDING]]
    chosen = pc.field("frame_id").isin(pa.array(standing, pa.int64()))
    sources = read_files("sources", slices, _SOURCE_COLUMNS, chosen)
    frame, ref_id = matches["frame_id"].to_numpy(), matches["ref_id"].to_numpy()
    fields: dict[str, _Fields] = {}
    for rows in groups:
        magnitude = light_column(rows[0]["band"], reference)
        mine = np.flatnonzero(np.isin(frame, [row["frame_id"] for row in rows]))
        if magnitude is None or mine.size == 0:
            continue
        field = fields.setdefault(magnitude, _Fields(reference, magnitude))
        wanted, inverse = np.unique(ref_id[mine], return_inverse=True)
        # One frame stands for its group: the first whose own matches say how bright its stars are.
        for row in rows[:_STANDING]:
            known = matches.filter(pa.array(frame == row["frame_id"]))
            found = _light_of_stars(row, known, sources, wanted, field, camera)
            if np.isfinite(found[0]).any():
                break
        for name, column in zip(LIGHT_COLUMNS, found, strict=True):
            values[name][mine] = column[inverse.reshape(-1)]
    for name, column in values.items():
        place = matches.schema.get_field_index(name)
        array = pa.array(column, from_pandas=True)
        matches = matches.set_column(
            place, matches.schema.field(place), array.cast(matches.schema.field(place).type)
        )
    return matches


def light_column(band: str | None, reference: ReferenceCatalog) -> str | None:
    """Return the column of a catalog with the magnitudes by which the light of neighbours is judged; None for none.

    It is that of the band, else of the one nearest in wavelength: what counts is how much brighter one star is than
    another, which differs little between such bands.
    """
    if band is None:
        return None
    name = as_it_is(band, reference.bands, reference.survey)
    if name is None and band in BANDS:
        wavelengths = {
            own: BANDS[means].wavelength_nm
            for own in reference.bands
            if (means := survey_band(own, reference.survey)) in BANDS
        }
        wanted = BANDS[band].wavelength_nm
        name = min(wavelengths, key=lambda own: (abs(wavelengths[own] - wanted), own), default=None)
    return None if name is None else mag_column(name)


def _groups(frames: pa.Table, camera: Camera) -> Iterator[list[dict[str, Any]]]:
    """Yield frames that share their numbers, those first that stand for the others."""
    rows = [row for row in frames.select(list(_FRAME_COLUMNS)).to_pylist() if _is_known(row)]
    if camera.astrometry.all_sky:
        yield from ([row] for row in rows)
        return
    groups: list[list[dict[str, Any]]] = []
    for row in rows:
        # The field of the last frame is most often that of this one.
        alike = next((group for group in reversed(groups) if _alike(group[0], row)), None)
        if alike is None:
            groups.append([row])
        else:
            alike.append(row)
    yield from groups


def _is_known(row: dict[str, Any]) -> bool:
    """Tell whether a frame has what the computation needs."""
    needed = ("ra_deg", "dec_deg", "pixel_scale_arcsec", "width_px", "height_px", "sky_rms_adu", "exposure_s")
    return all(row[name] is not None for name in needed) and row["exposure_s"] > 0


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two frames see the same field in the same way."""
    same = ("band", "width_px", "height_px", "aper1_radius_px", "aper2_radius_px", "aper3_radius_px")
    if any(one[name] != other[name] for name in same):
        return False
    for name, share in (("fwhm_px", _SAME_WIDTH), ("n_detected", _SAME_NUMBER)):
        first, second = one[name] or 0.0, other[name] or 0.0
        if abs(first - second) > share * max(first, second):
            return False
    apart = max(abs(one["dec_deg"] - other["dec_deg"]), 0.0)
    reach = _SAME_FIELD * max(one["width_px"], one["height_px"]) * one["pixel_scale_arcsec"] / 3600.0
    if apart > reach:
        return False
    centres = one["ra_deg"], one["dec_deg"], other["ra_deg"], other["dec_deg"]
    return bool(separation_deg(*centres) <= reach)


def _light_of_stars(
    row: dict[str, Any],
    matches: pa.Table,
    sources: pa.Table,
    wanted: npt.NDArray[np.int64],
    fields: _Fields,
    camera: Camera,
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the columns :data:`LIGHT_COLUMNS` of stars as one frame sees them; NaN where they are not known."""
    nothing = np.full(len(wanted), np.nan)
    circle, radius = camera.apertures.calibrated_circle, _aperture_radius_px(row, camera)
    zp = _rough_zeropoint(row, matches, circle)
    stars = _stars(row, fields, camera)
    if not math.isfinite(zp) or len(stars.ref_id) == 0:
        return nothing, nothing, nothing, nothing
    profile = _profile(row, camera, radius)
    flux = np.nan_to_num(10.0 ** (-0.4 * (stars.mag - zp)))
    flux_err = flux * stars.mag_err * np.log(10.0) / 2.5
    place = np.minimum(np.searchsorted(stars.ref_id, wanted), len(stars.ref_id) - 1)
    known = stars.ref_id[place] == wanted
    found = neighbour_light(stars.places, flux, flux_err, place, radius, profile, _WIDTH_ERROR)
    sky = _sky(row, sources, camera)
    level = sky_light(sky, stars.places, flux, profile, stars.places[place])
    # Of its own light an aperture has only what it holds.
    area = np.pi * radius**2 / float(profile.within(radius))
    own = np.where(known & (flux[place] > 0), flux[place], np.nan)
    unlisted = _unlisted_variance(stars, flux, sky.shape) * area * float(profile.within(radius))
    error = np.hypot(found.error, np.sqrt(unlisted) / own)
    shares = (found.share, error, area * level / own, np.minimum(found.number, 32767))
    crowding, error, taken, number = (np.where(np.isfinite(own), share, np.nan) for share in shares)
    return crowding, error, taken, number


def _aperture_radius_px(row: dict[str, Any], camera: Camera) -> float:
    """Return the radius of the calibrated aperture in which a frame was measured; the profile may say another since.

    For the Kron flux it is that of the largest circle.
    """
    measured = aperture_value(row, f"{camera.apertures.calibrated_circle}_radius_px")
    return camera.apertures.calibrated_radius_px if measured is None else float(measured)


def _rough_zeropoint(row: dict[str, Any], matches: pa.Table, circle: str) -> float:
    """Return the median zeropoint of the matches of a frame; NaN without any."""
    factor = aperture_value(row, f"apcor_{circle}")
    flux, mag = aperture_floats(matches, f"flux_{circle}"), column_floats(matches, "ref_mag")
    good = np.flatnonzero((flux > 0) & np.isfinite(mag)) if matches.num_rows else np.zeros(0, np.intp)
    if good.size == 0 or factor is None or not factor > 0:
        return math.nan
    return float(np.median(mag[good] + 2.5 * np.log10(flux[good] * factor)))


def _profile(row: dict[str, Any], camera: Camera, radius: float) -> StarProfile:
    """Return the profile of the stars of a frame, by their width and their growth curve."""
    growth = {}
    for name in camera.apertures.circles:
        values = [aperture_value(row, f"{name}_radius_px")]
        values += [aperture_value(row, f"apcor_{name}{error}") for error in ("", "_err")]
        if None not in values:
            growth[float(values[0] or 0.0)] = float(values[1] or 0.0), float(values[2] or 0.0)
    return StarProfile.of_growth(row["fwhm_px"] or 0.5 * radius, growth)


def _stars(row: dict[str, Any], fields: _Fields, camera: Camera) -> _Stars:
    """Return the stars that light a frame, and as much of the sky around."""
    size = math.hypot(row["width_px"], row["height_px"]) / 2.0 + _BEYOND_PX
    lens = _lens(row)
    radius = (
        _SKY_DEG
        if lens is None
        else math.degrees(math.atan(math.radians(size * row["pixel_scale_arcsec"] / 3600)))
    )
    table = fields.around(row["ra_deg"], row["dec_deg"], radius)
    ra, dec, pm_ra, pm_dec, mag = (
        column_floats(table, name)
        for name in ("ra_deg", "dec_deg", "pm_ra_mas_yr", "pm_dec_mas_yr", fields.magnitude)
    )
    error = f"{fields.magnitude}_err"
    stated = column_floats(table, error) if error in table.column_names else np.full(len(mag), np.nan)
    mag_err = np.where(np.isfinite(stated), stated, camera.calibration.catalog_mag_err)
    years = float(julian_epoch(row["mjd_mid"])) - fields.reference.epoch
    vectors = unit_vectors(*apply_proper_motion(ra, dec, np.nan_to_num(pm_ra), np.nan_to_num(pm_dec), years))
    ref_id = table["ref_id"].to_numpy()
    if table.num_rows == 0:
        return _Stars(ref_id, np.zeros((0, 2)), mag[:0], mag_err[:0])
    if lens is not None:
        return _Stars(ref_id, np.stack(lens.to_pixels(vectors), axis=1), mag, mag_err)
    view = view_of_text(row["wcs_lens"], (row["height_px"], row["width_px"]))
    places = np.stack(view.to_pixels(vectors), axis=1)
    altitude = np.degrees(np.arcsin(np.clip(vectors @ view.horizon.axes[2], -1.0, 1.0)))
    band = BANDS.get(row["band"])
    lost = 0.0 if band is None else band.extinction * np.nan_to_num(airmass(altitude) - 1.0)
    return _Stars(ref_id, places, mag + lost, mag_err)


def _lens(row: dict[str, Any]) -> Lens | None:
    """Return the lens of a frame from the ICRS, without distortion where it is not known; None for the whole sky."""
    text = row["wcs_lens"]
    if text is not None:
        return None if VIEW_MARK in text else lens_of_text(text)
    east, north = tangent_basis(row["ra_deg"], row["dec_deg"])
    angle = math.radians(row["rotation_deg"] or 0.0)
    focal = 1.0 / math.radians(row["pixel_scale_arcsec"] / 3600.0)
    centre = (row["width_px"] - 1) / 2.0, (row["height_px"] - 1) / 2.0
    up = math.cos(angle) * north + math.sin(angle) * east
    return Lens.aimed(
        unit_vectors(row["ra_deg"], row["dec_deg"]), up, focal, centre, mirrored=bool(row["mirrored"])
    )


def _sky(row: dict[str, Any], sources: pa.Table, camera: Camera) -> FrameSky:
    """Return how the sky of a frame was estimated."""
    mine = sources.filter(pc.equal(sources["frame_id"], row["frame_id"]))
    x, y, n_pixels = (column_floats(mine, name)[: mine.num_rows] for name in _SOURCE_COLUMNS[1:])
    return FrameSky(
        shape=(row["height_px"], row["width_px"]),
        x=x,
        y=y,
        n_pixels=np.nan_to_num(n_pixels).astype(np.int32),
        noise=row["sky_rms_adu"] / row["exposure_s"],
        mesh_px=camera.extraction.background_mesh_px,
        annulus_px=camera.apertures.sky_annulus_px,
    )


def _unlisted_variance(stars: _Stars, flux: Floats, shape: tuple[int, int]) -> float:
    """Return the variance per pixel of the light of stars that are too faint for the catalog.

    Their number grows with the magnitude as 10^(0.4 m), so that the sum of their squares is about that of the stars of
    the last magnitude of the catalog.
    """
    inside = ((stars.places >= 0) & (stars.places < np.array(shape)[::-1])).all(axis=1)
    inside &= np.isfinite(stars.mag)
    if not inside.any():
        return 0.0
    last = stars.mag[inside] > stars.mag[inside].max() - 1.0
    return float(np.sum(flux[inside][last] ** 2) / (shape[0] * shape[1]))
