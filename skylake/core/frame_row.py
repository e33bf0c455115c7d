"""A row of ``frames`` while its frame is reduced.

Generated from ``schemas/frames.yaml`` by `make generated`; do not edit.
"""

from __future__ import annotations

from typing import Any, TypedDict


class FrameRow(TypedDict, total=False):
    """Columns of ``frames`` that are known of a frame; those that are missing become null.

    ``docs/schema.md`` gives the meaning and unit of each column.
    """

    frame_id: int
    camera: str
    night: int
    file: str
    extension: int
    file_bytes: int | None
    file_modified_ns: int | None
    status: str
    reason: str | None
    message: str | None
    gates_failed: str | None
    flags: int
    mjd_start: float | None
    mjd_mid: float | None
    mjd_end: float | None
    time_source: str | None
    night_source: str | None
    exposure_s: float | None
    filter: str | None
    band: str | None
    object: str | None
    width_px: int | None
    height_px: int | None
    gain_e_per_adu: float | None
    read_noise_e: float | None
    saturation_adu: float | None
    ccd_temperature_c: float | None
    ra_deg: float | None
    dec_deg: float | None
    pixel_scale_arcsec: float | None
    rotation_deg: float | None
    mirrored: bool | None
    s_region: str | None
    wcs_source: str | None
    wcs_catalog: str | None
    wcs_err_px: float | None
    wcs_neighbours: str | None
    wcs_matched: int | None
    wcs_expected: int | None
    wcs_offset_arcsec: float | None
    telescope_offset_arcsec: float | None
    telescope_rotation_deg: float | None
    wcs_log_odds: float | None
    wcs_lens: str | None
    wcs_geometry: str | None
    astrom_n: int | None
    astrom_rms_px: float | None
    astrom_rms_arcsec: float | None
    astrom_held_out_px: float | None
    astrom_completeness: float | None
    astrom_parameters: int | None
    astrom_wcs_px: float | None
    astrom_refraction: str | None
    astrom_field: str | None
    astrom_rms_ring1_px: float | None
    astrom_rms_ring2_px: float | None
    astrom_rms_ring3_px: float | None
    astrom_rms_ring4_px: float | None
    astrom_radial_ring1_px: float | None
    astrom_radial_ring2_px: float | None
    astrom_radial_ring3_px: float | None
    astrom_radial_ring4_px: float | None
    n_expected: int | None
    found_fraction: float | None
    altitude_deg: float | None
    azimuth_deg: float | None
    airmass: float | None
    sun_altitude_deg: float | None
    moon_altitude_deg: float | None
    moon_phase: float | None
    moon_separation_deg: float | None
    sky_adu: float | None
    sky_rms_adu: float | None
    sky_saturation: float | None
    n_detected: int | None
    n_sources: int | None
    n_saturated: int | None
    n_saturated_px: int | None
    n_masked_px: int | None
    threshold_sigma: float | None
    fwhm_px: float | None
    elongation: float | None
    elongation_max: float | None
    mean_ellipticity: float | None
    theta_kurtosis: float | None
    fwhm_cell1_px: float | None
    fwhm_cell2_px: float | None
    fwhm_cell3_px: float | None
    fwhm_cell4_px: float | None
    fwhm_cell5_px: float | None
    fwhm_cell6_px: float | None
    fwhm_cell7_px: float | None
    fwhm_cell8_px: float | None
    fwhm_cell9_px: float | None
    ellipticity_cell1: float | None
    ellipticity_cell2: float | None
    ellipticity_cell3: float | None
    ellipticity_cell4: float | None
    ellipticity_cell5: float | None
    ellipticity_cell6: float | None
    ellipticity_cell7: float | None
    ellipticity_cell8: float | None
    ellipticity_cell9: float | None
    n_uneven_cells: int | None
    flux_max: float | None
    n_streaks: int | None
    streak_length_px: float | None
    n_streak_sources: int | None
    aper1_radius_px: float | None
    aper2_radius_px: float | None
    aper3_radius_px: float | None
    apcor_aper1: float | None
    apcor_aper1_err: float | None
    apcor_aper2: float | None
    apcor_aper2_err: float | None
    apcor_aper3: float | None
    apcor_aper3_err: float | None
    apcor_kron: float | None
    apcor_kron_err: float | None
    n_apcor: int | None
    flux_limit: float | None
    flux_limit_cell1: float | None
    flux_limit_cell2: float | None
    flux_limit_cell3: float | None
    flux_limit_cell4: float | None
    flux_limit_cell5: float | None
    flux_limit_cell6: float | None
    flux_limit_cell7: float | None
    flux_limit_cell8: float | None
    flux_limit_cell9: float | None
    flux_limit_counts: float | None
    n_injected: int | None
    flux_limit_injected: float | None
    flux_limit_injected_err: float | None
    flux_limit_injected_cell1: float | None
    flux_limit_injected_cell2: float | None
    flux_limit_injected_cell3: float | None
    flux_limit_injected_cell4: float | None
    flux_limit_injected_cell5: float | None
    flux_limit_injected_cell6: float | None
    flux_limit_injected_cell7: float | None
    flux_limit_injected_cell8: float | None
    flux_limit_injected_cell9: float | None
    completeness: float | None
    completeness_width_mag: float | None
    targets_version: int | None
    n_targets: int | None
    targets_dx_px: float | None
    targets_dy_px: float | None
    psf_stars: int | None
    psf_chi2: float | None
    registered_to: int | None
    config_sha256: str
    software_version: str
    masters: str | None
    more_apertures: dict[str, Any] | None
