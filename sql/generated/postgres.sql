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
	config_sha256 VARCHAR(64) NOT NULL,
	software_version VARCHAR(32) NOT NULL,
	masters TEXT,
	PRIMARY KEY (frame_id)
);

COMMENT ON TABLE frames IS 'One row for every frame ever given to skylake, whatever became of it: how it was read, where it points, how good it is, and under which status and reason it is filed.';

COMMENT ON COLUMN frames.frame_id IS 'Identifier: the first 63 bits of the SHA-256 of camera, extension and decompressed bytes';

COMMENT ON COLUMN frames.camera IS 'Name of the camera';

COMMENT ON COLUMN frames.night IS 'Observing night, YYYYMMDD of the local evening; 0 where the time is unknown';

COMMENT ON COLUMN frames.file IS 'Path of the file when it was read';

COMMENT ON COLUMN frames.extension IS 'Index of the HDU that holds the image';

COMMENT ON COLUMN frames.file_bytes IS 'Size of the file [byte]';

COMMENT ON COLUMN frames.file_modified_ns IS 'Modification time of the file since 1970-01-01 UTC [ns]';

COMMENT ON COLUMN frames.status IS 'ok, skipped, rejected or failed';

COMMENT ON COLUMN frames.reason IS 'Code of the reason where the status is not ok, or where the targets could not be measured';

COMMENT ON COLUMN frames.message IS 'The reason as a sentence';

COMMENT ON COLUMN frames.gates_failed IS 'Quality gates that the frame did not pass, separated by blanks';

COMMENT ON COLUMN frames.flags IS 'Bits of the frame; see flags';

COMMENT ON COLUMN frames.mjd_start IS 'Start of exposure, Modified Julian Date, UTC [d]';

COMMENT ON COLUMN frames.mjd_mid IS 'Middle of exposure, Modified Julian Date, UTC [d]';

COMMENT ON COLUMN frames.mjd_end IS 'End of exposure, Modified Julian Date, UTC [d]';

COMMENT ON COLUMN frames.time_source IS 'Header cards that gave the time';

COMMENT ON COLUMN frames.night_source IS 'site where the night follows from the longitude of the site, utc where it runs from noon to noon UTC';

COMMENT ON COLUMN frames.exposure_s IS 'Exposure time [s]';

COMMENT ON COLUMN frames.filter IS 'Filter as named in the header or assumed';

COMMENT ON COLUMN frames.band IS 'Catalog band to which the filter is calibrated';

COMMENT ON COLUMN frames.object IS 'Target as named in the header';

COMMENT ON COLUMN frames.width_px IS 'Width of the image after trimming [pixel]';

COMMENT ON COLUMN frames.height_px IS 'Height of the image after trimming [pixel]';

COMMENT ON COLUMN frames.gain_e_per_adu IS 'Gain of a pixel of the reduced image: where it is the mean of two green pixels of a Bayer mosaic, twice that of one [electron/adu]';

COMMENT ON COLUMN frames.read_noise_e IS 'Read noise of a pixel of the reduced image, rms, in the electrons of gain_e_per_adu: where it is the mean of two raw pixels, that of their sum [electron]';

COMMENT ON COLUMN frames.saturation_adu IS 'Raw level from which a pixel counts as saturated [adu]';

COMMENT ON COLUMN frames.ccd_temperature_c IS 'Temperature of the detector [deg_C]';

COMMENT ON COLUMN frames.ra_deg IS 'Right ascension of the centre of the image, ICRS [deg]';

COMMENT ON COLUMN frames.dec_deg IS 'Declination of the centre of the image, ICRS [deg]';

COMMENT ON COLUMN frames.pixel_scale_arcsec IS 'Scale at the centre of the image per pixel [arcsec]';

COMMENT ON COLUMN frames.rotation_deg IS 'Position angle of the image''s +y axis at its centre, east of north [deg]';

COMMENT ON COLUMN frames.mirrored IS 'True where east is to the right when north is up';

COMMENT ON COLUMN frames.s_region IS 'Outline of the image on the sky, ICRS, as in ObsCore';

COMMENT ON COLUMN frames.wcs_source IS 'Where the WCS came from: header, or refined where a lens was fitted to the stars of the frame, solved where these told it alone, seeded where they were near to where the cards of the telescope put the detector, mosaic where other detectors of the exposure tell it, neighbours where few stars told it with the lens of frames before and after, interpolated where only these did, or geometry where nothing but the geometry of a camera of the whole sky tells it, no star of the frame';

COMMENT ON COLUMN frames.wcs_catalog IS 'Name of the reference catalog that the WCS was checked or made with';

COMMENT ON COLUMN frames.wcs_err_px IS 'Standard error of places by the lens of the frame, root mean square over the image, both coordinates together; null where the WCS is that of the header [pixel]';

COMMENT ON COLUMN frames.wcs_neighbours IS 'frame_id of the frames before and after that tell where a frame points which does not tell it alone, a hyphen for none, and a digest of what they tell';

COMMENT ON COLUMN frames.wcs_matched IS 'Bright catalog stars found where the WCS puts them';

COMMENT ON COLUMN frames.wcs_expected IS 'Bright catalog stars that should have been found';

COMMENT ON COLUMN frames.wcs_offset_arcsec IS 'Median distance between these stars and their sources [arcsec]';

COMMENT ON COLUMN frames.telescope_offset_arcsec IS 'Distance of the centre of the image from where the cards of the telescope and the place of the detector put it [arcsec]';

COMMENT ON COLUMN frames.telescope_rotation_deg IS 'Position angle of the image less that which the cards of the telescope tell, -180 to 180 [deg]';

COMMENT ON COLUMN frames.wcs_log_odds IS 'Natural logarithm of the odds against chance of a WCS that was solved, divided by the number of guesses';

COMMENT ON COLUMN frames.wcs_lens IS 'The lens that was fitted to the stars, as JSON: projection and parameters, from ICRS to pixels of the image after trimming; see astrometry';

COMMENT ON COLUMN frames.wcs_geometry IS 'Epoch, version and checksum of the distortion of the camera that the lens has, where it was learnt from other frames, or of the geometry of a camera of the whole sky; null for a lens that was fitted to the stars of the frame alone';

COMMENT ON COLUMN frames.astrom_n IS 'Stars that the lens was fitted to';

COMMENT ON COLUMN frames.astrom_rms_px IS 'Root mean square distance of these stars from where the lens puts them [pixel]';

COMMENT ON COLUMN frames.astrom_rms_arcsec IS 'The same on the sky [arcsec]';

COMMENT ON COLUMN frames.astrom_held_out_px IS 'The same for each star by a lens that was fitted to the others, by cross-validation [pixel]';

COMMENT ON COLUMN frames.astrom_completeness IS 'Share of the fifty brightest catalog stars in the image that have a source';

COMMENT ON COLUMN frames.astrom_parameters IS 'Parameters of the lens that were fitted';

COMMENT ON COLUMN frames.astrom_wcs_px IS 'Largest distance between the lens and the WCS with polynomials that stands for it [pixel]';

COMMENT ON COLUMN frames.astrom_refraction IS 'Whether what differs in refraction over the image was taken off the stars before the lens was fitted: applied; or why not: off in the profile, no_site, no_time, below_horizon';

COMMENT ON COLUMN frames.astrom_field IS 'What is left of the stars by their place, as JSON: rows and columns of square cells of the image from its first pixel, eight along the longer side; lists by rows of n, stars, and dx_px and dy_px, their mean residual (source minus lens, under the weights of the fit); null without a star';

COMMENT ON COLUMN frames.astrom_rms_ring1_px IS 'As astrom_rms_px, of stars in ring 1 of 4 of equal width from the middle of the image to its corners [pixel]';

COMMENT ON COLUMN frames.astrom_rms_ring2_px IS 'As astrom_rms_px, of stars in ring 2 of 4 of equal width from the middle of the image to its corners [pixel]';

COMMENT ON COLUMN frames.astrom_rms_ring3_px IS 'As astrom_rms_px, of stars in ring 3 of 4 of equal width from the middle of the image to its corners [pixel]';

COMMENT ON COLUMN frames.astrom_rms_ring4_px IS 'As astrom_rms_px, of stars in ring 4 of 4 of equal width from the middle of the image to its corners [pixel]';

COMMENT ON COLUMN frames.astrom_radial_ring1_px IS 'Mean residual away from the middle of the image (source minus lens, under the weights of the fit) in ring 1 of 4 [pixel]';

COMMENT ON COLUMN frames.astrom_radial_ring2_px IS 'Mean residual away from the middle of the image (source minus lens, under the weights of the fit) in ring 2 of 4 [pixel]';

COMMENT ON COLUMN frames.astrom_radial_ring3_px IS 'Mean residual away from the middle of the image (source minus lens, under the weights of the fit) in ring 3 of 4 [pixel]';

COMMENT ON COLUMN frames.astrom_radial_ring4_px IS 'Mean residual away from the middle of the image (source minus lens, under the weights of the fit) in ring 4 of 4 [pixel]';

COMMENT ON COLUMN frames.n_expected IS 'Brightest stars of the catalog in the image, which a clear frame shows';

COMMENT ON COLUMN frames.found_fraction IS 'Share of them that was found, weighted by brightness; small behind clouds';

COMMENT ON COLUMN frames.altitude_deg IS 'Altitude of the centre of the image at mid-exposure, without refraction [deg]';

COMMENT ON COLUMN frames.azimuth_deg IS 'Azimuth of the centre of the image at mid-exposure, east of north [deg]';

COMMENT ON COLUMN frames.airmass IS 'Airmass of the centre of the image (Pickering 2002)';

COMMENT ON COLUMN frames.sun_altitude_deg IS 'Altitude of the Sun at mid-exposure [deg]';

COMMENT ON COLUMN frames.moon_altitude_deg IS 'Altitude of the Moon at mid-exposure, topocentric [deg]';

COMMENT ON COLUMN frames.moon_phase IS 'Illuminated fraction of the Moon''s disc';

COMMENT ON COLUMN frames.moon_separation_deg IS 'Angle between the Moon and the centre of the image [deg]';

COMMENT ON COLUMN frames.sky_adu IS 'Median level of the background [adu]';

COMMENT ON COLUMN frames.sky_rms_adu IS 'Median noise of the background per pixel [adu]';

COMMENT ON COLUMN frames.sky_saturation IS 'Level of the background as a share of the saturation level; 1 where the sky itself is saturated';

COMMENT ON COLUMN frames.n_detected IS 'Detections';

COMMENT ON COLUMN frames.n_sources IS 'Detections without any flag that makes them unclean';

COMMENT ON COLUMN frames.n_saturated IS 'Detections with a saturated pixel';

COMMENT ON COLUMN frames.n_saturated_px IS 'Saturated pixels';

COMMENT ON COLUMN frames.n_masked_px IS 'Pixels without a valid value';

COMMENT ON COLUMN frames.threshold_sigma IS 'Detection threshold in units of the noise: of the filtered image for the engine skylake, of a pixel for sep';

COMMENT ON COLUMN frames.fwhm_px IS 'Median full width at half maximum of stars [pixel]';

COMMENT ON COLUMN frames.elongation IS 'Median ratio of major to minor axis of stars';

COMMENT ON COLUMN frames.elongation_max IS 'Largest ratio of major to minor axis among clean sources';

COMMENT ON COLUMN frames.mean_ellipticity IS 'Length of the mean ellipticity vector of stars: 0 where orientations are random, larger where images are trailed';

COMMENT ON COLUMN frames.theta_kurtosis IS 'Excess kurtosis of the orientations of clean sources: -1.2 where they are uniform, larger where images are trailed';

COMMENT ON COLUMN frames.fwhm_cell1_px IS 'Median full width at half maximum of stars in cell 1 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell2_px IS 'Median full width at half maximum of stars in cell 2 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell3_px IS 'Median full width at half maximum of stars in cell 3 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell4_px IS 'Median full width at half maximum of stars in cell 4 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell5_px IS 'Median full width at half maximum of stars in cell 5 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell6_px IS 'Median full width at half maximum of stars in cell 6 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell7_px IS 'Median full width at half maximum of stars in cell 7 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell8_px IS 'Median full width at half maximum of stars in cell 8 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.fwhm_cell9_px IS 'Median full width at half maximum of stars in cell 9 of 3 x 3, counted from the first pixel along x, then y [pixel]';

COMMENT ON COLUMN frames.ellipticity_cell1 IS 'Length of the mean ellipticity vector of stars in cell 1 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.ellipticity_cell2 IS 'Length of the mean ellipticity vector of stars in cell 2 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.ellipticity_cell3 IS 'Length of the mean ellipticity vector of stars in cell 3 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.ellipticity_cell4 IS 'Length of the mean ellipticity vector of stars in cell 4 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.ellipticity_cell5 IS 'Length of the mean ellipticity vector of stars in cell 5 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.ellipticity_cell6 IS 'Length of the mean ellipticity vector of stars in cell 6 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.ellipticity_cell7 IS 'Length of the mean ellipticity vector of stars in cell 7 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.ellipticity_cell8 IS 'Length of the mean ellipticity vector of stars in cell 8 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.ellipticity_cell9 IS 'Length of the mean ellipticity vector of stars in cell 9 of 3 x 3, as mean_ellipticity';

COMMENT ON COLUMN frames.n_uneven_cells IS 'Cells whose width or ellipticity is above the mean of all by more than their standard deviation, and clearly, or far above the best cell';

COMMENT ON COLUMN frames.flux_max IS 'Largest pixel of a clean source above the background [adu]';

COMMENT ON COLUMN frames.n_streaks IS 'Trails of satellites and aircraft';

COMMENT ON COLUMN frames.streak_length_px IS 'Length of these trails within the image [pixel]';

COMMENT ON COLUMN frames.n_streak_sources IS 'Detections on trails, which have the flag STREAK';

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

COMMENT ON COLUMN frames.n_apcor IS 'Stars behind the aperture corrections';

COMMENT ON COLUMN frames.flux_limit IS 'Total flux of a star at five times its error in the aperture of calibrations, over the median noise of the background [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell1 IS 'flux_limit over the median noise of the background in cell 1 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell2 IS 'flux_limit over the median noise of the background in cell 2 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell3 IS 'flux_limit over the median noise of the background in cell 3 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell4 IS 'flux_limit over the median noise of the background in cell 4 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell5 IS 'flux_limit over the median noise of the background in cell 5 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell6 IS 'flux_limit over the median noise of the background in cell 6 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell7 IS 'flux_limit over the median noise of the background in cell 7 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell8 IS 'flux_limit over the median noise of the background in cell 8 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_cell9 IS 'flux_limit over the median noise of the background in cell 9 of 3 x 3, counted from the first pixel along x, then y [adu/s]';

COMMENT ON COLUMN frames.flux_limit_counts IS 'Total flux where a histogram of the magnitudes of clean sources, in bins of 0.1 mag, falls to half of its maximum; null for fewer than 50 [adu/s]';

COMMENT ON COLUMN frames.n_injected IS 'Stars that were put into the frame to see which are found; null where the profile asks for none';

COMMENT ON COLUMN frames.flux_limit_injected IS 'Total flux of which half as many of these stars are found as of bright ones [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_err IS 'Standard error of flux_limit_injected [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell1 IS 'flux_limit_injected in cell 1 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell2 IS 'flux_limit_injected in cell 2 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell3 IS 'flux_limit_injected in cell 3 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell4 IS 'flux_limit_injected in cell 4 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell5 IS 'flux_limit_injected in cell 5 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell6 IS 'flux_limit_injected in cell 6 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell7 IS 'flux_limit_injected in cell 7 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell8 IS 'flux_limit_injected in cell 8 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.flux_limit_injected_cell9 IS 'flux_limit_injected in cell 9 of 3 x 3, counted from the first pixel along x, then y, the fall being as wide as in the whole image [adu/s]';

COMMENT ON COLUMN frames.completeness IS 'Share of bright injected stars that is found';

COMMENT ON COLUMN frames.completeness_width_mag IS 'Standard deviation of the fall of completeness, a normal distribution in magnitudes [mag]';

COMMENT ON COLUMN frames.targets_version IS 'Version of the list of targets that the frame was to be measured with';

COMMENT ON COLUMN frames.n_targets IS 'Targets that were measured; 0 where the field holds none, or they are not where the WCS puts them, or that is known too badly; null where measuring them failed';

COMMENT ON COLUMN frames.targets_dx_px IS 'Shift of all targets from where the WCS puts them [pixel]';

COMMENT ON COLUMN frames.targets_dy_px IS 'Shift of all targets from where the WCS puts them [pixel]';

COMMENT ON COLUMN frames.psf_stars IS 'Stars behind the form of the point spread function of the night, each counted in every frame; 0 for a plain Moffat profile';

COMMENT ON COLUMN frames.psf_chi2 IS 'Reduced chi-square of the pixels of bright lonely stars of this frame in the form of the night at the width of the frame, the median over them';

COMMENT ON COLUMN frames.config_sha256 IS 'SHA-256 of the camera profile in force';

COMMENT ON COLUMN frames.software_version IS 'Version of skylake that wrote the row';

COMMENT ON COLUMN frames.masters IS 'Names of the masters that the frame was reduced with, separated by blanks; see masters';

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
	PRIMARY KEY (camera, night, band)
);

COMMENT ON TABLE nights IS 'One row per camera, night and band with the counts and medians of the night.';

COMMENT ON COLUMN nights.camera IS 'Name of the camera';

COMMENT ON COLUMN nights.night IS 'Observing night, YYYYMMDD of the local evening; 0 where the time is unknown';

COMMENT ON COLUMN nights.band IS 'Band; empty for frames of no known band';

COMMENT ON COLUMN nights.n_frames IS 'Frames';

COMMENT ON COLUMN nights.n_ok IS 'Frames with status ok';

COMMENT ON COLUMN nights.n_rejected IS 'Frames with status rejected';

COMMENT ON COLUMN nights.n_failed IS 'Frames with status failed';

COMMENT ON COLUMN nights.n_skipped IS 'Frames with status skipped';

COMMENT ON COLUMN nights.mjd_first IS 'Middle of the first exposure, MJD, UTC [d]';

COMMENT ON COLUMN nights.mjd_last IS 'Middle of the last exposure, MJD, UTC [d]';

COMMENT ON COLUMN nights.exposure_s IS 'Sum of the exposures of frames that are ok [s]';

COMMENT ON COLUMN nights.n_sources IS 'Detections on frames that are ok';

COMMENT ON COLUMN nights.n_matched IS 'Matches with the catalog of the zeropoints';

COMMENT ON COLUMN nights.sky_adu_per_s IS 'Median background per pixel of frames that are ok [adu/s]';

COMMENT ON COLUMN nights.fwhm_px IS 'Median full width at half maximum of frames that are ok [pixel]';

COMMENT ON COLUMN nights.catalog IS 'Reference catalog of the zeropoints';

COMMENT ON COLUMN nights.version IS 'Version of the calibration';

COMMENT ON COLUMN nights.n_zeropoints IS 'Frames with a zeropoint';

COMMENT ON COLUMN nights.zp_median IS 'Median zeropoint [mag]';

COMMENT ON COLUMN nights.zp_median_err IS 'Standard error of zp_median: that of the scatter of frames, and what all frames share [mag]';

COMMENT ON COLUMN nights.zp_scatter IS 'Robust scatter of the zeropoints of frames [mag]';

COMMENT ON COLUMN nights.colour_term IS 'Colour term of the night';

COMMENT ON COLUMN nights.colour_term_err IS 'Standard error of colour_term';

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
	PRIMARY KEY (frame_id, catalog, version)
);

COMMENT ON TABLE zeropoints IS 'The zeropoint of every calibrated frame: m_ref = -2.5 log10(total flux) + zp + colour_term x (colour - pivot_colour), with the total flux in ADU/s; of a camera that sees the whole sky less extinction x (airmass - 1), so that zp is that of the zenith. One row per frame, catalog and version; a null zp says that the frame could not be calibrated, and reason says why.';

COMMENT ON COLUMN zeropoints.frame_id IS 'Frame';

COMMENT ON COLUMN zeropoints.camera IS 'Name of the camera';

COMMENT ON COLUMN zeropoints.night IS 'Observing night, YYYYMMDD of the local evening';

COMMENT ON COLUMN zeropoints.mjd_mid IS 'Middle of exposure, Modified Julian Date, UTC [d]';

COMMENT ON COLUMN zeropoints.band IS 'Band of the zeropoint';

COMMENT ON COLUMN zeropoints.catalog IS 'Name of the reference catalog';

COMMENT ON COLUMN zeropoints.version IS 'Version of the calibration; the largest is in force';

COMMENT ON COLUMN zeropoints.flux IS 'Flux column that was calibrated, without its prefix: aper2 for flux_aper2';

COMMENT ON COLUMN zeropoints.zp IS 'Zeropoint of total flux in ADU/s, at the pivot colour [mag]';

COMMENT ON COLUMN zeropoints.zp_err IS 'Standard error of zp, from the scatter of the stars, the colour term and the aperture correction; at another colour the share of the colour term is another [mag]';

COMMENT ON COLUMN zeropoints.zp_fit_err IS 'The part of zp_err from the scatter of the stars alone; frames of one field differ by this much or less [mag]';

COMMENT ON COLUMN zeropoints.zp_random_err IS 'The part of zp_fit_err that is the frame''s own: photons of its stars, and what else they differ by from frame to frame. The rest of it frames of one field share; null in older calibrations, for which all of it counts as shared [mag]';

COMMENT ON COLUMN zeropoints.mag_limit IS 'Magnitude of a star of the pivot colour at five times the error of its flux, from frames.flux_limit [mag]';

COMMENT ON COLUMN zeropoints.colour IS 'Colour of the colour term';

COMMENT ON COLUMN zeropoints.pivot_colour IS 'Colour at which zp is quoted [mag]';

COMMENT ON COLUMN zeropoints.colour_term IS 'Colour term of camera band and night';

COMMENT ON COLUMN zeropoints.colour_term_err IS 'Standard error of colour_term';

COMMENT ON COLUMN zeropoints.mean_colour IS 'Mean colour of the stars used [mag]';

COMMENT ON COLUMN zeropoints.colour_spread IS 'Standard deviation of the colours of the stars used about their mean [mag]';

COMMENT ON COLUMN zeropoints.n_matched IS 'Matches of the frame';

COMMENT ON COLUMN zeropoints.n_used IS 'Stars that entered the fit and kept at least half their weight';

COMMENT ON COLUMN zeropoints.rms IS 'Standard deviation of the stars used about the fit [mag]';

COMMENT ON COLUMN zeropoints.chi2 IS 'Reduced chi-square of the stars used, with the intrinsic scatter in their errors';

COMMENT ON COLUMN zeropoints.intrinsic_mag IS 'Scatter of the night''s stars beyond their stated errors [mag]';

COMMENT ON COLUMN zeropoints.reason IS 'Why there is no zeropoint: unknown_filter, no_matches, no_band or no_colour (the catalog has no such column for these stars), too_few_stars, no_aperture_correction';

COMMENT ON COLUMN zeropoints.extinction IS 'Extinction per airmass of camera, band and night, with the vignetting that goes along with it; of cameras that see the whole sky, null for others, whose zp is that of the altitude of the frame [mag]';

COMMENT ON COLUMN zeropoints.extinction_err IS 'Standard error of extinction [mag]';

COMMENT ON COLUMN zeropoints.mean_airmass IS 'Mean airmass of the stars used where there is an extinction';

COMMENT ON COLUMN zeropoints.message IS 'Where too few stars are left for a zeropoint, which cut took how many matches and what the stars that are left give; null in calibrations of before';
