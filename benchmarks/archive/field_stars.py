"""The stars of a field as tables need them: where they are, what the catalog says of them, and who is near."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from archive.night_plan import TURN_RMS_DEG
from archive.scenario import ArchiveScenario
from archive.season import Season, field_pointing, season
from skylake.core.aperture_crowding import crowding_by_magnitude
from skylake.core.ids import content_id
from skylake.core.sphere import arcsec_of_chord, chord, healpix_index, unit_vectors
from skylake.simulate.catalog import reference_catalog
from skylake.simulate.colours import magnitude
from skylake.simulate.population import StarPopulation, stars_of_disc

_Array = npt.NDArray[np.float64]
_Float32 = npt.NDArray[np.float32]
_Mask = npt.NDArray[np.bool_]

#: Fields whose stars a process remembers; a night has about as many.
_REMEMBERED_FIELDS = 32
#: Stars so much fainter than the detection limit are never found, but for lucky noise.
_HOPELESS_MAG = 0.6
#: The catalog goes so much deeper than the detection limit where the scenario does not say.
_CATALOG_DEPTH_MAG = 1.0
#: Of two stars nearer than the first the fainter is not seen; nearer than the second they are blended, in FWHM.
_HIDDEN_FWHM, _BLENDED_FWHM = 1.0, 2.0
#: A star that has so many times its own light from neighbours in its aperture is lost in their glare.
_GLARE = 10.0
#: Radius of the match, in pixels, where the profile gives none.
_MATCH_PX = 3.0


@dataclass(frozen=True, slots=True)
class FieldStars:
    """Stars of a field that may be detected, in the order of the sky's space-filling curve; shape (stars,).

    Attributes
    ----------
    ref_id, index : ndarray of int64
        Identifier, and order-29 HEALPix index of the position in the catalog.
    catalogued : ndarray of bool
        Whether the catalog holds the star; `index`, `ra_deg` and `dec_deg` are the true ones of those that it
        does not.
    ra_deg, dec_deg : ndarray
        Position in the catalog.
    place : ndarray, shape (stars, 3)
        Unit vector to the true position.
    catalog_place : ndarray, shape (stars, 3)
        Unit vector to the position in the catalog.
    flux : ndarray
        10^(-0.4 (m - c (colour - pivot))): times 10^(0.4 zp) it is the flux in ADU/s.
    ref_mag, ref_mag_err, ref_colour : ndarray of float32
        What the catalog says in the band of the camera; NaN for no colour.
    crowding : ndarray of float32
        Light of neighbours in the aperture of calibrations, as a share of the star's own.
    n_candidates : ndarray of int16
        Catalog stars within the match radius, itself included.
    blended : ndarray of bool
    kind, period_d, amplitude_mag, epoch_bjd : ndarray
        As in :class:`skylake.simulate.population.StarPopulation`.
    """

    ref_id: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    catalogued: _Mask
    ra_deg: _Array
    dec_deg: _Array
    place: _Array
    catalog_place: _Array
    flux: _Array
    ref_mag: _Float32
    ref_mag_err: _Float32
    ref_colour: _Float32
    crowding: _Float32
    n_candidates: npt.NDArray[np.int16]
    blended: _Mask
    kind: npt.NDArray[np.int8]
    period_d: _Array
    amplitude_mag: _Array
    epoch_bjd: _Array

    def __len__(self) -> int:
        return self.ref_id.size

    def take(self, which: npt.NDArray[Any] | slice) -> FieldStars:
        """Return some of the stars."""
        return FieldStars(*(getattr(self, name.name)[which] for name in fields(self)))


def joined(parts: Sequence[FieldStars]) -> FieldStars:
    """Return the stars of all parts in one value."""
    return FieldStars(
        *(np.concatenate([getattr(part, name.name) for part in parts]) for name in fields(FieldStars))
    )


def field_catalog(scenario: ArchiveScenario, field: int) -> pa.Table:
    """Return what the reference catalog says of the stars of a field; see :func:`reference_catalog`."""
    return _field_catalog(scenario, field, _population(scenario, season(scenario), field))


def _field_catalog(scenario: ArchiveScenario, field: int, stars: StarPopulation) -> pa.Table:
    # Each field has errors of its own, whatever other fields there are.
    alone = replace(scenario, seed=content_id(str(scenario.seed), "catalog of field", str(field)))
    return reference_catalog(alone, stars, _catalog_limit(scenario, season(scenario)))


def _catalog_limit(scenario: ArchiveScenario, here: Season) -> float:
    limit = scenario.catalog.limit_mag
    return here.observatory.v_limit + _CATALOG_DEPTH_MAG if limit is None else limit


def _population(scenario: ArchiveScenario, here: Season, field: int) -> StarPopulation:
    """Return all stars of a field that matter, brightest first."""
    deepest = max(_catalog_limit(scenario, here), here.observatory.v_limit + _HOPELESS_MAG)
    law = replace(here.law, faint_mag=min(here.law.faint_mag, deepest))
    centre = here.fields[field]
    return stars_of_disc(
        field, centre.ra_deg, centre.dec_deg, here.radius_deg, law, scenario.stars, scenario.seed
    )


@lru_cache(maxsize=_REMEMBERED_FIELDS)
def field_stars(scenario: ArchiveScenario, field: int) -> FieldStars:
    """Return the stars of a field that may be detected."""
    here = season(scenario)
    place, band = here.observatory, here.observatory.filter_band
    stars = _population(scenario, here, field)
    catalog = _field_catalog(scenario, field, stars)
    known, n_known = stars.v_mag < _catalog_limit(scenario, here), catalog.num_rows

    def told(name: str, otherwise: npt.ArrayLike = np.nan) -> _Array:
        """Return a column of the catalog for all stars; those in it come first."""
        values = np.array(np.broadcast_to(np.asarray(otherwise, float), len(stars)))
        values[:n_known] = catalog[name].to_numpy()
        return values

    ra, dec = told("ra", stars.ra_deg), told("dec", stars.dec_deg)
    mag = magnitude(band.band, stars.v_mag, stars.b_minus_v)
    true_place = unit_vectors(stars.ra_deg, stars.dec_deg)
    crowding, n_candidates, blended, hidden = _neighbours(scenario, here, true_place, mag, known)
    term = scenario.atmosphere.colour_term * place.colour_offset(stars.b_minus_v)
    chosen = FieldStars(
        ref_id=stars.star_id,
        index=healpix_index(ra, dec),
        catalogued=known,
        ra_deg=ra,
        dec_deg=dec,
        place=true_place,
        catalog_place=unit_vectors(ra, dec),
        flux=10.0 ** (-0.4 * (mag - term)),
        ref_mag=told(band.band).astype(np.float32),
        ref_mag_err=told(f"{band.band}_err").astype(np.float32),
        ref_colour=_colour(band.colour, told, len(stars)),
        crowding=crowding.astype(np.float32),
        n_candidates=n_candidates,
        blended=blended,
        kind=stars.kind,
        period_d=stars.period_d,
        amplitude_mag=stars.amplitude_mag,
        epoch_bjd=stars.epoch_bjd,
    )
    hopeful = ~hidden & (crowding < _GLARE) & (stars.v_mag < place.v_limit + _HOPELESS_MAG)
    rows = np.flatnonzero(hopeful & _on_image(scenario, here, field, stars))
    return chosen.take(rows[np.argsort(chosen.index[rows])])


def _on_image(scenario: ArchiveScenario, here: Season, field: int, stars: StarPopulation) -> _Mask:
    """Tell which stars may be on the image, wherever the camera is dithered and turned to."""
    pointing = field_pointing(scenario, here, field)
    x, y = pointing.sky_to_pixel(stars.ra_deg, stars.dec_deg)
    turned = np.radians(6.0 * TURN_RMS_DEG) * pointing.half_diagonal_px
    margin = 1.5 * scenario.schedule.dither_px + turned + 2.0
    height, width = pointing.shape
    return np.asarray((x > -margin) & (x < width + margin) & (y > -margin) & (y < height + margin))


def _colour(colour: str | None, told: Any, count: int) -> _Float32:
    if colour is None:
        return np.full(count, np.nan, np.float32)
    if colour == "B-V":
        return np.asarray(told(colour), np.float32)
    blue, red = colour.split("-")
    return np.asarray(told(blue), np.float32) - np.asarray(told(red), np.float32)


def _neighbours(
    scenario: ArchiveScenario, here: Season, place: _Array, mag: _Array, known: _Mask
) -> tuple[_Array, npt.NDArray[np.int16], _Mask, _Mask]:
    """Return crowding and match candidates of each star, and whether it is blended with or hidden by another."""
    from scipy.spatial import cKDTree

    camera, scale = here.observatory.profile.base, here.observatory.scale_arcsec
    fwhm = scenario.optics.fwhm_px * scale
    given = camera.calibration.match_radius_arcsec
    match = _MATCH_PX * scale if given is None else given
    reach = max(match, _BLENDED_FWHM * fwhm)
    pairs = cKDTree(place).query_pairs(chord(reach), output_type="ndarray")
    first, second = pairs.T
    distance = arcsec_of_chord(np.linalg.norm(place[first] - place[second], axis=-1))
    count = len(mag)
    n_candidates = np.ones(count, np.int16)
    near = distance <= match
    for one, other in ((first, second), (second, first)):
        n_candidates += np.bincount(one[near & known[other]], minlength=count).astype(np.int16)
    fainter = np.where(mag[first] > mag[second], first, second)
    hidden, blended = np.zeros(count, bool), np.zeros(count, bool)
    hidden[fainter[distance < _HIDDEN_FWHM * fwhm]] = True
    seen = ~hidden & (mag < here.observatory.detection_limit)
    together = (distance < _BLENDED_FWHM * fwhm) & seen[first] & seen[second]
    blended[first[together]] = blended[second[together]] = True
    aperture = camera.apertures.calibrated_radius_px * scale
    share = crowding_by_magnitude(place, mag, chord(aperture), chord(fwhm), np.arange(count))
    return share, n_candidates, blended, hidden
