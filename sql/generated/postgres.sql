-- Generated from schemas/*.yaml by `make generated`; do not edit.

CREATE TABLE frames (
	frame_id BIGINT NOT NULL,
	camera VARCHAR(64) NOT NULL,
	night INTEGER NOT NULL,
	file TEXT NOT NULL,
	extension INTEGER NOT NULL,
	file_bytes BIGINT,
	file_modified_ns BIGINT,
	status VARCHAR(8) NOT NULL,
	reason VARCHAR(32),
	message TEXT,
	gates_failed TEXT,
	flags INTEGER NOT NULL,
	mjd_start DOUBLE PRECISION,
	mjd_mid DOUBLE PRECISION,
	mjd_end DOUBLE PRECISION,
	time_source VARCHAR(64),
	night_source VARCHAR(8),
	exposure_s DOUBLE PRECISION,
	filter VARCHAR(64),
	band VARCHAR(16),
	object TEXT,
	width_px INTEGER,
	height_px INTEGER,
	gain_e_per_adu REAL,
	read_noise_e REAL,
	saturation_adu REAL,
	ccd_temperature_c REAL,
	ra_deg DOUBLE PRECISION,
	dec_deg DOUBLE PRECISION,
	pixel_scale_arcsec DOUBLE PRECISION,
	rotation_deg DOUBLE PRECISION,
	mirrored BOOLEAN,
	s_region TEXT,
	wcs_source VARCHAR(16),
	wcs_catalog VARCHAR(64),
	wcs_err_px REAL,
	wcs_neighbours TEXT,
	wcs_matched INTEGER,
	wcs_expected INTEGER,
	wcs_offset_arcsec DOUBLE PRECISION,
	telescope_offset_arcsec DOUBLE PRECISION,
	telescope_rotation_deg DOUBLE PRECISION,
	wcs_log_odds REAL,
	wcs_lens TEXT,
	wcs_geometry VARCHAR(32),
	astrom_n INTEGER,
	astrom_rms_px DOUBLE PRECISION,
	astrom_rms_arcsec DOUBLE PRECISION,
	astrom_held_out_px DOUBLE PRECISION,
	astrom_completeness DOUBLE PRECISION,
	astrom_parameters INTEGER,
	astrom_wcs_px DOUBLE PRECISION,
	astrom_refraction VARCHAR(16),
	astrom_field TEXT,
	astrom_rms_ring1_px REAL,
	astrom_rms_ring2_px REAL,
	astrom_rms_ring3_px REAL,
	astrom_rms_ring4_px REAL,
	astrom_radial_ring1_px REAL,
	astrom_radial_ring2_px REAL,
	astrom_radial_ring3_px REAL,
	astrom_radial_ring4_px REAL,
	n_expected INTEGER,
	found_fraction REAL,
	altitude_deg DOUBLE PRECISION,
	azimuth_deg DOUBLE PRECISION,
	airmass DOUBLE PRECISION,
	sun_altitude_deg DOUBLE PRECISION,
	moon_altitude_deg DOUBLE PRECISION,
	moon_phase DOUBLE PRECISION,
	moon_separation_deg DOUBLE PRECISION,
	sky_adu REAL,
	sky_rms_adu REAL,
	sky_saturation REAL,
	n_detected INTEGER,
	n_sources INTEGER,
	n_saturated INTEGER,
	n_saturated_px INTEGER,
	n_masked_px INTEGER,
	threshold_sigma REAL,
	fwhm_px REAL,
	elongation REAL,
	elongation_max REAL,
	mean_ellipticity REAL,
	theta_kurtosis REAL,
	fwhm_cell1_px REAL,
	fwhm_cell2_px REAL,
	fwhm_cell3_px REAL,
	fwhm_cell4_px REAL,
	fwhm_cell5_px REAL,
	fwhm_cell6_px REAL,
	fwhm_cell7_px REAL,
	fwhm_cell8_px REAL,
	fwhm_cell9_px REAL,
	ellipticity_cell1 REAL,
	ellipticity_cell2 REAL,
	ellipticity_cell3 REAL,
	ellipticity_cell4 REAL,
	ellipticity_cell5 REAL,
	ellipticity_cell6 REAL,
	ellipticity_cell7 REAL,
	ellipticity_cell8 REAL,
	ellipticity_cell9 REAL,
	n_uneven_cells INTEGER,
	flux_max REAL,
	n_streaks INTEGER,
	streak_length_px REAL,
	n_streak_sources INTEGER,
	aper1_radius_px REAL,
	aper2_radius_px REAL,
	aper3_radius_px REAL,
	apcor_aper1 REAL,
	apcor_aper1_err REAL,
	apcor_aper2 REAL,
	apcor_aper2_err REAL,
	apcor_aper3 REAL,
	apcor_aper3_err REAL,
	apcor_kron REAL,
	apcor_kron_err REAL,
	n_apcor INTEGER,
	flux_limit REAL,
	flux_limit_cell1 REAL,
	flux_limit_cell2 REAL,
	flux_limit_cell3 REAL,
	flux_limit_cell4 REAL,
	flux_limit_cell5 REAL,
	flux_limit_cell6 REAL,
	flux_limit_cell7 REAL,
	flux_limit_cell8 REAL,
	flux_limit_cell9 REAL,
	flux_limit_counts REAL,
	n_injected INTEGER,
	flux_limit_injected REAL,
	flux_limit_injected_err REAL,
	flux_limit_injected_cell1 REAL,
	flux_limit_injected_cell2 REAL,
	flux_limit_injected_cell3 REAL,
	flux_limit_injected_cell4 REAL,
	flux_limit_injected_cell5 REAL,
	flux_limit_injected_cell6 REAL,
	flux_limit_injected_cell7 REAL,
	flux_limit_injected_cell8 REAL,
	flux_limit_injected_cell9 REAL,
	completeness REAL,
	completeness_width_mag REAL,
	targets_version INTEGER,
	n_targets INTEGER,
	targets_dx_px DOUBLE PRECISION,
	targets_dy_px DOUBLE PRECISION,
	psf_stars INTEGER,
	psf_chi2 REAL,
	registered_to BIGINT,
	config_sha256 VARCHAR(64) NOT NULL,
	software_version VARCHAR(32) NOT NULL,
	masters TEXT,
	PRIMARY KEY (frame_id)
);

COMMENT ON TABLE frames IS 'One row per frame ever given to skylake, whatever its status: how it was read, where it points, how good it is, and why it was rejected or failed.';

COMMENT ON COLUMN frames.frame_id IS 'Identifier: first 63 bits of the SHA-256 of camera, extension and decompressed bytes, or detections of an ingested table';

COMMENT ON COLUMN frames.camera IS 'Name of the camera';

COMMENT ON COLUMN frames.night IS 'Observing night, date of the local evening as YYYYMMDD; 0 if the time is unknown';

COMMENT ON COLUMN frames.file IS 'Path of the file when it was read; with # and the name of the frame if it is a table of several';

COMMENT ON COLUMN frames.extension IS 'Index of the HDU of the image';

COMMENT ON COLUMN frames.file_bytes IS 'Size of the file [byte]';

COMMENT ON COLUMN frames.file_modified_ns IS 'Modification time of the file since 1970-01-01 (UTC) [ns]';

COMMENT ON COLUMN frames.status IS 'ok, skipped, rejected or failed';

COMMENT ON COLUMN frames.reason IS 'Code of the reason for a status other than ok, or targets_failed';

COMMENT ON COLUMN frames.message IS 'The reason as a sentence';

COMMENT ON COLUMN frames.gates_failed IS 'Quality gates that the frame failed, separated by spaces';

COMMENT ON COLUMN frames.flags IS 'Flag bits of the frame; `skylake flags` explains them';

COMMENT ON COLUMN frames.mjd_start IS 'Start of exposure, MJD (UTC) [d]';

COMMENT ON COLUMN frames.mjd_mid IS 'Mid-exposure, MJD (UTC) [d]';

COMMENT ON COLUMN frames.mjd_end IS 'End of exposure, MJD (UTC) [d]';

COMMENT ON COLUMN frames.time_source IS 'Header cards that the time was read from';

COMMENT ON COLUMN frames.night_source IS 'site: the night follows from the longitude of the site; utc: it runs from noon to noon UTC';

COMMENT ON COLUMN frames.exposure_s IS 'Exposure time [s]';

COMMENT ON COLUMN frames.filter IS 'Filter from the header, or the default of the profile';

COMMENT ON COLUMN frames.band IS 'Catalog band to which the filter is calibrated';

COMMENT ON COLUMN frames.object IS 'Object name from the header';

COMMENT ON COLUMN frames.width_px IS 'Width of the image after trimming [pixel]';

COMMENT ON COLUMN frames.height_px IS 'Height of the image after trimming [pixel]';

COMMENT ON COLUMN frames.gain_e_per_adu IS 'Gain of a pixel of the reduced image; twice that of a raw pixel for the mean of two green pixels [electron/adu]';

COMMENT ON COLUMN frames.read_noise_e IS 'Read noise of a pixel of the reduced image (rms), in the electrons of gain_e_per_adu; that of the sum of two raw pixels for their mean [electron]';

COMMENT ON COLUMN frames.saturation_adu IS 'Raw level from which a pixel counts as saturated [adu]';

COMMENT ON COLUMN frames.ccd_temperature_c IS 'Temperature of the detector [deg_C]';

COMMENT ON COLUMN frames.ra_deg IS 'Right ascension of the image centre, ICRS [deg]';

COMMENT ON COLUMN frames.dec_deg IS 'Declination of the image centre, ICRS [deg]';

COMMENT ON COLUMN frames.pixel_scale_arcsec IS 'Pixel scale at the image centre, arcsec per pixel [arcsec]';

COMMENT ON COLUMN frames.rotation_deg IS 'Position angle of the +y axis at the image centre, east of north [deg]';

COMMENT ON COLUMN frames.mirrored IS 'True if east is to the right when north is up';

COMMENT ON COLUMN frames.s_region IS 'Outline of the image on the sky, ICRS, as in ObsCore';

COMMENT ON COLUMN frames.wcs_source IS 'Origin of the WCS. header; refined: lens fitted to a frame with a right header; solved: from stars alone; seeded: solved near the place that the telescope cards predict; mosaic: from other chips of the exposure; neighbours: from few stars and the frames before and after; interpolated: from those frames only; geometry: from the geometry of an all-sky camera only; table: from the positions of an ingested table. Of rejected frames whose sources are kept for relative photometry, cards: about where the telescope cards say; registered: on the places of frame registered_to';

COMMENT ON COLUMN frames.wcs_catalog IS 'Reference catalog that verified or made the WCS';

COMMENT ON COLUMN frames.wcs_err_px IS 'Standard error of positions by the lens: rms over the image, both coordinates together; null for a WCS from the header [pixel]';

COMMENT ON COLUMN frames.wcs_neighbours IS 'frame_id of the frames before and after that placed this one, a hyphen for none, and a digest of their values';

COMMENT ON COLUMN frames.wcs_matched IS 'Number of bright catalog stars with a source where the WCS predicts them';

COMMENT ON COLUMN frames.wcs_expected IS 'Number of bright catalog stars looked for';

COMMENT ON COLUMN frames.wcs_offset_arcsec IS 'Median distance of the matched stars from their sources [arcsec]';

COMMENT ON COLUMN frames.telescope_offset_arcsec IS 'Distance of the image centre from the place predicted by the telescope cards and the place of the chip [arcsec]';

COMMENT ON COLUMN frames.telescope_rotation_deg IS 'Position angle of the image minus that of the telescope cards, -180 to 180 [deg]';

COMMENT ON COLUMN frames.wcs_log_odds IS 'Natural logarithm of the odds of a solution against chance, corrected for the number of attempts';

COMMENT ON COLUMN frames.wcs_lens IS 'Lens as JSON: projection and parameters, from ICRS to pixels of the trimmed image; see the page on astrometry';

COMMENT ON COLUMN frames.wcs_geometry IS 'Epoch, version and checksum of the learned distortion of the lens, or of the geometry of an all-sky camera; null if the lens comes from this frame alone';

COMMENT ON COLUMN frames.astrom_n IS 'Number of stars in the lens fit';

COMMENT ON COLUMN frames.astrom_rms_px IS 'Rms distance of these stars from the lens, both coordinates together [pixel]';

COMMENT ON COLUMN frames.astrom_rms_arcsec IS 'astrom_rms_px on the sky [arcsec]';

COMMENT ON COLUMN frames.astrom_held_out_px IS 'astrom_rms_px by cross-validation: each star against a fit without it [pixel]';

COMMENT ON COLUMN frames.astrom_completeness IS 'Fraction of the fifty brightest catalog stars in the image that have a source';

COMMENT ON COLUMN frames.astrom_parameters IS 'Number of fitted lens parameters';

COMMENT ON COLUMN frames.astrom_wcs_px IS 'Largest distance between the lens and its WCS with SIP polynomials [pixel]';

COMMENT ON COLUMN frames.astrom_refraction IS 'applied if differential refraction was removed before the lens fit, else why not: off (in the profile), no_site, no_time, below_horizon';

COMMENT ON COLUMN frames.astrom_field IS 'Mean residuals by place, as JSON: rows and columns of square cells from the first pixel, eight along the longer side, and row by row the lists n (stars), dx_px and dy_px (weighted mean of source minus lens; null without a star)';

COMMENT ON COLUMN frames.astrom_rms_ring1_px IS 'astrom_rms_px in ring 1 of 4 of equal width, from the image centre to the corners [pixel]';

COMMENT ON COLUMN frames.astrom_rms_ring2_px IS 'astrom_rms_px in ring 2 of 4 of equal width, from the image centre to the corners [pixel]';

COMMENT ON COLUMN frames.astrom_rms_ring3_px IS 'astrom_rms_px in ring 3 of 4 of equal width, from the image centre to the corners [pixel]';

COMMENT ON COLUMN frames.astrom_rms_ring4_px IS 'astrom_rms_px in ring 4 of 4 of equal width, from the image centre to the corners [pixel]';

COMMENT ON COLUMN frames.astrom_radial_ring1_px IS 'Weighted mean residual away from the image centre (source minus lens) in ring 1 of 4 [pixel]';

COMMENT ON COLUMN frames.astrom_radial_ring2_px IS 'Weighted mean residual away from the image centre (source minus lens) in ring 2 of 4 [pixel]';

COMMENT ON COLUMN frames.astrom_radial_ring3_px IS 'Weighted mean residual away from the image centre (source minus lens) in ring 3 of 4 [pixel]';

COMMENT ON COLUMN frames.astrom_radial_ring4_px IS 'Weighted mean residual away from the image centre (source minus lens) in ring 4 of 4 [pixel]';

COMMENT ON COLUMN frames.n_expected IS 'Number of brightest catalog stars in the image that a clear frame shows';

COMMENT ON COLUMN frames.found_fraction IS 'Fraction of n_expected found, weighted by brightness; small under clouds';

COMMENT ON COLUMN frames.altitude_deg IS 'Altitude of the image centre at mid-exposure, without refraction [deg]';

COMMENT ON COLUMN frames.azimuth_deg IS 'Azimuth of the image centre at mid-exposure, east of north [deg]';

COMMENT ON COLUMN frames.airmass IS 'Airmass of the image centre (Pickering 2002)';

COMMENT ON COLUMN frames.sun_altitude_deg IS 'Altitude of the Sun at mid-exposure [deg]';

COMMENT ON COLUMN frames.moon_altitude_deg IS 'Topocentric altitude of the Moon at mid-exposure [deg]';

COMMENT ON COLUMN frames.moon_phase IS 'Illuminated fraction of the Moon';

COMMENT ON COLUMN frames.moon_separation_deg IS 'Angle between the Moon and the image centre [deg]';

COMMENT ON COLUMN frames.sky_adu IS 'Median background [adu]';

COMMENT ON COLUMN frames.sky_rms_adu IS 'Median background noise per pixel (rms) [adu]';

COMMENT ON COLUMN frames.sky_saturation IS 'Background as a fraction of the saturation level; 1 if the sky is saturated';

COMMENT ON COLUMN frames.n_detected IS 'Number of sources';

COMMENT ON COLUMN frames.n_sources IS 'Number of clean sources, without any flag that excludes them';

COMMENT ON COLUMN frames.n_saturated IS 'Number of sources with a saturated pixel';

COMMENT ON COLUMN frames.n_saturated_px IS 'Number of saturated pixels';

COMMENT ON COLUMN frames.n_masked_px IS 'Number of pixels without a valid value';

COMMENT ON COLUMN frames.threshold_sigma IS 'Detection threshold in units of the noise: of the filtered image (engine skylake) or of a pixel (sep)';

COMMENT ON COLUMN frames.fwhm_px IS 'Median FWHM of stars [pixel]';

COMMENT ON COLUMN frames.elongation IS 'Median axis ratio a/b of stars';

COMMENT ON COLUMN frames.elongation_max IS 'Largest axis ratio a/b of clean sources';

COMMENT ON COLUMN frames.mean_ellipticity IS 'Length of the mean ellipticity vector of stars: 0 for random orientations, larger for trailed images';

COMMENT ON COLUMN frames.theta_kurtosis IS 'Excess kurtosis of the orientations of clean sources: -1.2 if uniform, larger for trailed images';

COMMENT ON COLUMN frames.fwhm_cell1_px IS 'Median FWHM of stars in cell 1 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell2_px IS 'Median FWHM of stars in cell 2 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell3_px IS 'Median FWHM of stars in cell 3 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell4_px IS 'Median FWHM of stars in cell 4 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell5_px IS 'Median FWHM of stars in cell 5 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell6_px IS 'Median FWHM of stars in cell 6 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell7_px IS 'Median FWHM of stars in cell 7 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell8_px IS 'Median FWHM of stars in cell 8 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell9_px IS 'Median FWHM of stars in cell 9 of 3 x 3, counted along x, then y [pixel]';

COMMENT ON COLUMN frames.ellipticity_cell1 IS 'mean_ellipticity in cell 1 of 3 x 3';

COMMENT ON COLUMN frames.ellipticity_cell2 IS 'mean_ellipticity in cell 2 of 3 x 3';

COMMENT ON COLUMN frames.ellipticity_cell3 IS 'mean_ellipticity in cell 3 of 3 x 3';

COMMENT ON COLUMN frames.ellipticity_cell4 IS 'mean_ellipticity in cell 4 of 3 x 3';

COMMENT ON COLUMN frames.ellipticity_cell5 IS 'mean_ellipticity in cell 5 of 3 x 3';

COMMENT ON COLUMN frames.ellipticity_cell6 IS 'mean_ellipticity in cell 6 of 3 x 3';

COMMENT ON COLUMN frames.ellipticity_cell7 IS 'mean_ellipticity in cell 7 of 3 x 3';

COMMENT ON COLUMN frames.ellipticity_cell8 IS 'mean_ellipticity in cell 8 of 3 x 3';

COMMENT ON COLUMN frames.ellipticity_cell9 IS 'mean_ellipticity in cell 9 of 3 x 3';

COMMENT ON COLUMN frames.n_uneven_cells IS 'Number of cells whose FWHM or ellipticity is significantly above the mean of the cells, by more than their standard deviation, or far above the best cell';

COMMENT ON COLUMN frames.flux_max IS 'Largest pixel value of a clean source above the background [adu]';

COMMENT ON COLUMN frames.n_streaks IS 'Number of trails of satellites and aircraft';

COMMENT ON COLUMN frames.streak_length_px IS 'Length of these trails within the image [pixel]';

COMMENT ON COLUMN frames.n_streak_sources IS 'Number of sources on trails (flag STREAK)';

COMMENT ON COLUMN frames.aper1_radius_px IS 'Radius of the first aperture [pixel]';

COMMENT ON COLUMN frames.aper2_radius_px IS 'Radius of the second aperture [pixel]';

COMMENT ON COLUMN frames.aper3_radius_px IS 'Radius of the third aperture [pixel]';

COMMENT ON COLUMN frames.apcor_aper1 IS 'Factor from flux_aper1 to total flux';

COMMENT ON COLUMN frames.apcor_aper1_err IS 'Standard error of apcor_aper1';

COMMENT ON COLUMN frames.apcor_aper2 IS 'Factor from flux_aper2 to total flux';

COMMENT ON COLUMN frames.apcor_aper2_err IS 'Standard error of apcor_aper2';

COMMENT ON COLUMN frames.apcor_aper3 IS 'Factor from flux_aper3 to total flux';

COMMENT ON COLUMN frames.apcor_aper3_err IS 'Standard error of apcor_aper3';

COMMENT ON COLUMN frames.apcor_kron IS 'Factor from flux_kron to total flux';

COMMENT ON COLUMN frames.apcor_kron_err IS 'Standard error of apcor_kron';

COMMENT ON COLUMN frames.n_apcor IS 'Number of stars that the aperture corrections were measured on; 0 if assumed';

COMMENT ON COLUMN frames.flux_limit IS 'Total flux of a star at S/N 5 in the calibration aperture, at the median background noise [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell1 IS 'flux_limit at the median background noise in cell 1 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell2 IS 'flux_limit at the median background noise in cell 2 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell3 IS 'flux_limit at the median background noise in cell 3 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell4 IS 'flux_limit at the median background noise in cell 4 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell5 IS 'flux_limit at the median background noise in cell 5 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell6 IS 'flux_limit at the median background noise in cell 6 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell7 IS 'flux_limit at the median background noise in cell 7 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell8 IS 'flux_limit at the median background noise in cell 8 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell9 IS 'flux_limit at the median background noise in cell 9 of 3 x 3, counted along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_counts IS 'Total flux at which the magnitude histogram of clean sources (bins of 0.1 mag) falls to half its maximum; null for fewer than 50 [adu/s]';

COMMENT ON COLUMN frames.n_injected IS 'Number of artificial stars injected to measure completeness; null if the profile asks for none';

COMMENT ON COLUMN frames.flux_limit_injected IS 'Total flux at which injected stars are found half as often as bright ones [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_err IS 'Standard error of flux_limit_injected [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell1 IS 'flux_limit_injected in cell 1 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell2 IS 'flux_limit_injected in cell 2 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell3 IS 'flux_limit_injected in cell 3 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell4 IS 'flux_limit_injected in cell 4 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell5 IS 'flux_limit_injected in cell 5 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell6 IS 'flux_limit_injected in cell 6 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell7 IS 'flux_limit_injected in cell 7 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell8 IS 'flux_limit_injected in cell 8 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell9 IS 'flux_limit_injected in cell 9 of 3 x 3, counted along x, then y, with completeness_width_mag of the whole image [adu/s]';

COMMENT ON COLUMN frames.completeness IS 'Fraction of bright injected stars found';

COMMENT ON COLUMN frames.completeness_width_mag IS 'Width of the drop of completeness: standard deviation of a normal distribution in magnitude [mag]';

COMMENT ON COLUMN frames.targets_version IS 'Version of the target list for this frame';

COMMENT ON COLUMN frames.n_targets IS 'Number of measured targets; 0 if the field has none, or the WCS is contradicted or too uncertain; null if forced photometry failed';

COMMENT ON COLUMN frames.targets_dx_px IS 'Common shift of all targets from the positions by the WCS [pixel]';

COMMENT ON COLUMN frames.targets_dy_px IS 'Common shift of all targets from the positions by the WCS [pixel]';

COMMENT ON COLUMN frames.psf_stars IS 'Number of stars behind the PSF of the night, counted once per frame; 0 for a Moffat profile';

COMMENT ON COLUMN frames.psf_chi2 IS 'Median reduced chi-square of bright isolated stars of this frame against the PSF of the night at the width of the frame';

COMMENT ON COLUMN frames.registered_to IS 'frame_id of the frame on whose places the sources of this one lie, where no catalog places them; null for others';

COMMENT ON COLUMN frames.config_sha256 IS 'SHA-256 of the camera profile used';

COMMENT ON COLUMN frames.software_version IS 'Version of skylake that wrote the row';

COMMENT ON COLUMN frames.masters IS 'Names of the masters used for the frame, separated by spaces; see masters';

CREATE TABLE nights (
	camera VARCHAR(64) NOT NULL,
	night INTEGER NOT NULL,
	band VARCHAR(16) NOT NULL,
	n_frames INTEGER NOT NULL,
	n_ok INTEGER NOT NULL,
	n_rejected INTEGER NOT NULL,
	n_failed INTEGER NOT NULL,
	n_skipped INTEGER NOT NULL,
	mjd_first DOUBLE PRECISION,
	mjd_last DOUBLE PRECISION,
	exposure_s DOUBLE PRECISION,
	n_sources BIGINT NOT NULL,
	n_matched BIGINT NOT NULL,
	sky_adu_per_s DOUBLE PRECISION,
	fwhm_px DOUBLE PRECISION,
	catalog VARCHAR(64),
	version INTEGER,
	n_zeropoints INTEGER NOT NULL,
	zp_median DOUBLE PRECISION,
	zp_median_err DOUBLE PRECISION,
	zp_scatter DOUBLE PRECISION,
	colour_term DOUBLE PRECISION,
	colour_term_err DOUBLE PRECISION,
	intrinsic_mag DOUBLE PRECISION,
	extinction DOUBLE PRECISION,
	extinction_err DOUBLE PRECISION,
	zp_zenith DOUBLE PRECISION,
	zp_zenith_err DOUBLE PRECISION,
	mean_airmass DOUBLE PRECISION,
	zp_excess DOUBLE PRECISION,
	n_cloudy DOUBLE PRECISION,
	cloud_mag DOUBLE PRECISION,
	p_steady DOUBLE PRECISION,
	PRIMARY KEY (camera, night, band)
);

COMMENT ON TABLE nights IS 'One row per camera, night and band: counts and medians of the night.';

COMMENT ON COLUMN nights.camera IS 'Name of the camera';

COMMENT ON COLUMN nights.night IS 'Observing night, date of the local evening as YYYYMMDD; 0 if the time is unknown';

COMMENT ON COLUMN nights.band IS 'Band; empty for frames of unknown band';

COMMENT ON COLUMN nights.n_frames IS 'Number of frames';

COMMENT ON COLUMN nights.n_ok IS 'Number of frames with status ok';

COMMENT ON COLUMN nights.n_rejected IS 'Number of frames with status rejected';

COMMENT ON COLUMN nights.n_failed IS 'Number of frames with status failed';

COMMENT ON COLUMN nights.n_skipped IS 'Number of frames with status skipped';

COMMENT ON COLUMN nights.mjd_first IS 'Mid-exposure of the first frame, MJD (UTC) [d]';

COMMENT ON COLUMN nights.mjd_last IS 'Mid-exposure of the last frame, MJD (UTC) [d]';

COMMENT ON COLUMN nights.exposure_s IS 'Sum of the exposure times of ok frames [s]';

COMMENT ON COLUMN nights.n_sources IS 'Number of sources on ok frames';

COMMENT ON COLUMN nights.n_matched IS 'Number of matches with the catalog of the zeropoints';

COMMENT ON COLUMN nights.sky_adu_per_s IS 'Median background per pixel of ok frames [adu/s]';

COMMENT ON COLUMN nights.fwhm_px IS 'Median FWHM of ok frames [pixel]';

COMMENT ON COLUMN nights.catalog IS 'Reference catalog of the zeropoints';

COMMENT ON COLUMN nights.version IS 'Version of the calibration';

COMMENT ON COLUMN nights.n_zeropoints IS 'Number of frames with a zeropoint';

COMMENT ON COLUMN nights.zp_median IS 'Median zeropoint [mag]';

COMMENT ON COLUMN nights.zp_median_err IS 'Standard error of zp_median, from the scatter of frames and the error that all frames share [mag]';

COMMENT ON COLUMN nights.zp_scatter IS 'Robust scatter of the zeropoints [mag]';

COMMENT ON COLUMN nights.colour_term IS 'Colour term of the night';

COMMENT ON COLUMN nights.colour_term_err IS 'Standard error of colour_term';

COMMENT ON COLUMN nights.intrinsic_mag IS 'Intrinsic scatter: that of the night''s stars beyond their stated errors; clouds with structure make it large [mag]';

COMMENT ON COLUMN nights.extinction IS 'Extinction per airmass, from zeropoints against airmass and the published extinction of sites in the band; of all-sky cameras as zeropoints have it. Null where the airmass of frames is not known [mag]';

COMMENT ON COLUMN nights.extinction_err IS 'Standard error of extinction [mag]';

COMMENT ON COLUMN nights.zp_zenith IS 'Zeropoint at the zenith of frames without passing clouds, the mean of the fields of the night; clouds that stay the same all night lower it too [mag]';

COMMENT ON COLUMN nights.zp_zenith_err IS 'Standard error of zp_zenith: what frames and fields do not share; without what all fields and nights share [mag]';

COMMENT ON COLUMN nights.mean_airmass IS 'Airmass at which the errors of zeropoint and extinction have nothing to do with each other';

COMMENT ON COLUMN nights.zp_excess IS 'Scatter of zeropoints about the line of extinction beyond their random errors, without frames that clouds lower; at most 0.02; null for a single frame [mag]';

COMMENT ON COLUMN nights.n_cloudy IS 'Expected number of frames that clouds lower below the line of extinction; null for a single frame';

COMMENT ON COLUMN nights.cloud_mag IS 'How far the median frame lies below the line of extinction of its field: the light that passing clouds take from it, about 0 in a clear night, whatever the number of fields; null for a single frame [mag]';

COMMENT ON COLUMN nights.p_steady IS 'Probability that all frames but a few stray ones lie on one line of extinction; null for a single frame, through which any line goes';

CREATE TABLE photometric_nights (
	camera VARCHAR(64) NOT NULL,
	night INTEGER NOT NULL,
	band VARCHAR(16) NOT NULL,
	catalog VARCHAR(64),
	version INTEGER,
	n_frames INTEGER NOT NULL,
	n_nights INTEGER NOT NULL,
	extinction DOUBLE PRECISION,
	extinction_err DOUBLE PRECISION,
	zp_zenith DOUBLE PRECISION,
	zp_zenith_err DOUBLE PRECISION,
	zp_clear DOUBLE PRECISION,
	zp_clear_err DOUBLE PRECISION,
	transparency DOUBLE PRECISION,
	transparency_err DOUBLE PRECISION,
	p_steady DOUBLE PRECISION,
	p_clear DOUBLE PRECISION,
	p_photometric DOUBLE PRECISION,
	reason TEXT NOT NULL,
	PRIMARY KEY (camera, night, band)
);

COMMENT ON TABLE photometric_nights IS 'One row per camera, night and band with zeropoints: how transparent the sky was beside the nights around it (20 before and 20 after, at most 60 days away, as soon as there are so many), and how probable it is that the night was photometric. Null means not known.';

COMMENT ON COLUMN photometric_nights.camera IS 'Name of the camera';

COMMENT ON COLUMN photometric_nights.night IS 'Observing night, date of the local evening as YYYYMMDD';

COMMENT ON COLUMN photometric_nights.band IS 'Band';

COMMENT ON COLUMN photometric_nights.catalog IS 'Reference catalog of the zeropoints';

COMMENT ON COLUMN photometric_nights.version IS 'Version of the calibration';

COMMENT ON COLUMN photometric_nights.n_frames IS 'Number of frames with a zeropoint';

COMMENT ON COLUMN photometric_nights.n_nights IS 'Number of nights that were compared, this one included';

COMMENT ON COLUMN photometric_nights.extinction IS 'Extinction per airmass, from the zeropoints of the night, those of the nights around it, and the published extinction of sites [mag]';

COMMENT ON COLUMN photometric_nights.extinction_err IS 'Standard error of extinction [mag]';

COMMENT ON COLUMN photometric_nights.zp_zenith IS 'Zeropoint of the clearest frames at the zenith with this extinction [mag]';

COMMENT ON COLUMN photometric_nights.zp_zenith_err IS 'Standard error of zp_zenith [mag]';

COMMENT ON COLUMN photometric_nights.zp_clear IS 'Clear level: zeropoint at the zenith of clear nights around this one; null with fewer than three nights, or where they do not tell it [mag]';

COMMENT ON COLUMN photometric_nights.zp_clear_err IS 'Standard error of zp_clear [mag]';

COMMENT ON COLUMN photometric_nights.transparency IS 'Transparency of the median frame relative to clear nights, 10^(-0.4 (zp_clear - zp)) at its airmass; dimensionless';

COMMENT ON COLUMN photometric_nights.transparency_err IS 'Standard error of transparency';

COMMENT ON COLUMN photometric_nights.p_steady IS 'Probability that zeropoints lie on one line of extinction; null for a single frame';

COMMENT ON COLUMN photometric_nights.p_clear IS 'Probability that this line is at the clear level';

COMMENT ON COLUMN photometric_nights.p_photometric IS 'Probability that the night was photometric while its frames were taken: no clouds deeper than 0.03 mag; null if not known';

COMMENT ON COLUMN photometric_nights.reason IS 'What the probability rests on';

CREATE TABLE zeropoints (
	frame_id BIGINT NOT NULL,
	camera VARCHAR(64) NOT NULL,
	night INTEGER NOT NULL,
	mjd_mid DOUBLE PRECISION NOT NULL,
	band VARCHAR(16),
	catalog VARCHAR(64) NOT NULL,
	version INTEGER NOT NULL,
	flux VARCHAR(8) NOT NULL,
	zp DOUBLE PRECISION,
	zp_err DOUBLE PRECISION,
	zp_fit_err DOUBLE PRECISION,
	zp_random_err DOUBLE PRECISION,
	mag_limit DOUBLE PRECISION,
	colour VARCHAR(16),
	pivot_colour DOUBLE PRECISION,
	colour_term DOUBLE PRECISION,
	colour_term_err DOUBLE PRECISION,
	mean_colour DOUBLE PRECISION,
	colour_spread DOUBLE PRECISION,
	n_matched INTEGER NOT NULL,
	n_used INTEGER NOT NULL,
	rms DOUBLE PRECISION,
	chi2 DOUBLE PRECISION,
	intrinsic_mag DOUBLE PRECISION,
	reason VARCHAR(32),
	extinction DOUBLE PRECISION,
	extinction_err DOUBLE PRECISION,
	mean_airmass DOUBLE PRECISION,
	message TEXT,
	transformation TEXT,
	sky_light_scale DOUBLE PRECISION,
	sky_light_scale_err DOUBLE PRECISION,
	bright_limit DOUBLE PRECISION,
	method VARCHAR(16),
	reference_version INTEGER,
	position_err DOUBLE PRECISION,
	position_random_err DOUBLE PRECISION,
	floor_mag DOUBLE PRECISION,
	photon_scale DOUBLE PRECISION,
	PRIMARY KEY (frame_id, catalog, version)
);

COMMENT ON TABLE zeropoints IS 'One row per frame, catalog and version: m_ref = -2.5 log10(total flux) + zp + colour_term x (colour - pivot_colour) + the offset of position_terms at its place, with total flux in ADU/s. For all-sky cameras extinction x (airmass - 1) is subtracted, so zp applies at the zenith. If a frame could not be calibrated, zp is null and reason says why.';

COMMENT ON COLUMN zeropoints.frame_id IS 'Frame';

COMMENT ON COLUMN zeropoints.camera IS 'Name of the camera';

COMMENT ON COLUMN zeropoints.night IS 'Observing night, date of the local evening as YYYYMMDD';

COMMENT ON COLUMN zeropoints.mjd_mid IS 'Mid-exposure, MJD (UTC) [d]';

COMMENT ON COLUMN zeropoints.band IS 'Band of the zeropoint';

COMMENT ON COLUMN zeropoints.catalog IS 'Name of the reference catalog';

COMMENT ON COLUMN zeropoints.version IS 'Version of the calibration; the largest is in force';

COMMENT ON COLUMN zeropoints.flux IS 'Calibrated flux column without its prefix, such as aper2 for flux_aper2';

COMMENT ON COLUMN zeropoints.zp IS 'Zeropoint for total flux in ADU/s at the pivot colour; null if the frame could not be calibrated [mag]';

COMMENT ON COLUMN zeropoints.zp_err IS 'Standard error of zp at the pivot colour, from the scatter of the stars, the colour term and the aperture correction [mag]';

COMMENT ON COLUMN zeropoints.zp_fit_err IS 'Part of zp_err from the scatter of the stars; frames of one field differ by at most this much [mag]';

COMMENT ON COLUMN zeropoints.zp_random_err IS 'Random part of zp_fit_err: photon noise, other differences from frame to frame, and the catalog errors of stars that are not on all frames of the field. Frames of one field share the rest; null in older calibrations, where all of it counts as shared [mag]';

COMMENT ON COLUMN zeropoints.mag_limit IS 'Magnitude of a star of the pivot colour at S/N 5, from frames.flux_limit [mag]';

COMMENT ON COLUMN zeropoints.colour IS 'Colour of the colour term, such as B-V';

COMMENT ON COLUMN zeropoints.pivot_colour IS 'Colour at which zp is quoted [mag]';

COMMENT ON COLUMN zeropoints.colour_term IS 'Colour term of camera, band and night';

COMMENT ON COLUMN zeropoints.colour_term_err IS 'Standard error of colour_term';

COMMENT ON COLUMN zeropoints.mean_colour IS 'Mean colour of the stars used [mag]';

COMMENT ON COLUMN zeropoints.colour_spread IS 'Standard deviation of the colours of the stars used [mag]';

COMMENT ON COLUMN zeropoints.n_matched IS 'Number of matches of the frame';

COMMENT ON COLUMN zeropoints.n_used IS 'Number of stars used: in the fit, with at least half their weight';

COMMENT ON COLUMN zeropoints.rms IS 'Scatter of the stars about the fit, as that of a Gaussian: each star counts with the weight that it kept. In older calibrations that of the stars with at least half their weight [mag]';

COMMENT ON COLUMN zeropoints.chi2 IS 'Reduced chi-square of the stars, weighted as rms; their errors include the intrinsic scatter';

COMMENT ON COLUMN zeropoints.intrinsic_mag IS 'Intrinsic scatter: that of the night''s stars beyond their stated errors [mag]';

COMMENT ON COLUMN zeropoints.reason IS 'Why there is no zeropoint: unknown_filter, no_matches, no_band or no_colour (no such catalog column for these stars), too_few_stars, no_aperture_correction';

COMMENT ON COLUMN zeropoints.extinction IS 'Extinction per airmass of camera, band and night, including vignetting that varies with airmass; all-sky cameras only, else null. For others zp applies at the altitude of the frame [mag]';

COMMENT ON COLUMN zeropoints.extinction_err IS 'Standard error of extinction [mag]';

COMMENT ON COLUMN zeropoints.mean_airmass IS 'Mean airmass of the stars used, if extinction is fitted';

COMMENT ON COLUMN zeropoints.message IS 'The reason as a sentence; if too few stars are left: matches removed by each cut, and the value that the remaining stars give; null in some older calibrations';

COMMENT ON COLUMN zeropoints.transformation IS 'If magnitudes or colours of the catalog were transformed from other bands: the bands and the papers; null if none were, and in older calibrations';

COMMENT ON COLUMN zeropoints.sky_light_scale IS 'Scale of matches.ref_sky_light, of camera, band and night; 1 if no star shows it';

COMMENT ON COLUMN zeropoints.sky_light_scale_err IS 'Standard error of sky_light_scale; 0 where the sky takes off no light of stars';

COMMENT ON COLUMN zeropoints.bright_limit IS 'Brighter stars are left out of the fit, as fluxes of camera, band and night depart from the catalog there; null if none do, and in older calibrations [mag]';

COMMENT ON COLUMN zeropoints.method IS 'What the stars of the fit were compared with: frame (magnitudes of the catalog) or global (star_magnitudes, the camera''s own); null in older calibrations, which are frame';

COMMENT ON COLUMN zeropoints.reference_version IS 'Version of star_magnitudes and global_solutions that was used, with those of the same base before it; null for method frame';

COMMENT ON COLUMN zeropoints.position_err IS 'Standard error of the offset of position_terms, rms over the frame; null means 0 [mag]';

COMMENT ON COLUMN zeropoints.position_random_err IS 'Part of position_err from the terms that the frame has of its own, which averages down with the number of frames; null means 0 [mag]';

COMMENT ON COLUMN zeropoints.floor_mag IS 'Scatter of bright constant stars from frame to frame beyond photon noise and zeropoint; part of the random errors of magnitudes; null if not known [mag]';

COMMENT ON COLUMN zeropoints.photon_scale IS 'Factor on the errors of fluxes by which repeated measurements of stars differ from them; null if not known, which counts as 1';
