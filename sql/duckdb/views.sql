-- Views for analysts, made on every connection of `skylake sql` beside the tables of the lake.

-- Altitude as refracted at sea level.
CREATE MACRO apparent_altitude(altitude_deg) AS
    least(90, altitude_deg::DOUBLE + 1.02 / 60.0 / tan(radians(altitude_deg::DOUBLE + 10.3 / (altitude_deg::DOUBLE + 5.11))));

-- Airmass at an altitude without refraction, null below the horizon (Pickering 2002, of the altitude as refracted by
-- Saemundsson 1986), as skylake.core.ephemeris.airmass has it.
CREATE MACRO airmass(altitude_deg) AS
    CASE WHEN altitude_deg >= 0 THEN 1 / sin(radians(least(90, apparent_altitude(altitude_deg)
        + 244.0 / (165.0 + 47.0 * pow(apparent_altitude(altitude_deg), 1.1))))) END;

-- What extinction takes from a star beyond what it takes at the zenith, magnitudes: 0 where a zeropoint has none, as that of
-- a camera that sees degrees.
CREATE MACRO extinction_mag(extinction, altitude_deg) AS
    CASE WHEN extinction IS NULL THEN 0.0 ELSE extinction * (airmass(altitude_deg) - 1) END;

-- Variance of a zeropoint at the mean airmass of the stars of its fit, where it is known best: what zp_err has of the
-- extinction is that at the zenith. And what extinction brings in at another altitude.
CREATE MACRO zp_variance(zp_err, zp_fit_err, extinction_err, mean_airmass) AS
    CASE WHEN extinction_err IS NULL OR mean_airmass IS NULL THEN pow(zp_err, 2)
        ELSE greatest(pow(zp_err, 2) - pow(extinction_err * (mean_airmass - 1), 2), pow(coalesce(zp_fit_err, 0), 2)) END;
CREATE MACRO extinction_variance(extinction_err, mean_airmass, altitude_deg) AS
    CASE WHEN extinction_err IS NULL OR mean_airmass IS NULL THEN 0.0
        ELSE pow(extinction_err * (airmass(altitude_deg) - mean_airmass), 2) END;

-- The calibration in force: of each frame and catalog the row of the largest version.
CREATE VIEW zeropoints_in_force AS
SELECT *
FROM zeropoints
QUALIFY row_number() OVER (PARTITION BY frame_id, catalog ORDER BY version DESC) = 1;

-- Frames with their zeropoint in force, if they have one. Their limits are magnitudes of stars of the pivot colour: at a
-- S/N of 5 (mag_limit), where the histogram of sources falls to its half, and where half of injected stars are found.
CREATE VIEW calibrated_frames AS
SELECT
    f.*, z.catalog, z.version, z.flux, z.zp, z.zp_err, z.mag_limit,
    z.zp - 2.5 * log10(nullif(f.flux_limit_counts, 0)) AS mag_limit_counts,
    z.zp - 2.5 * log10(nullif(f.flux_limit_injected, 0)) AS mag_limit_injected,
    z.colour_term, z.pivot_colour, z.n_used, z.rms
FROM frames AS f
LEFT JOIN zeropoints_in_force AS z USING (frame_id);

-- Every detection of a calibrated frame as a magnitude of a star of the pivot colour. Its colour is not known here:
-- the error counts how far the colours of the frame's stars are from the pivot.
-- A flux that is not positive has no magnitude; its flux and error remain.
CREATE VIEW calibrated_sources AS
SELECT
    t.* EXCLUDE (total_flux, total_flux_err, lost_mag, zero_variance),
    t.total_flux,
    t.total_flux_err,
    CASE WHEN t.total_flux > 0 THEN -2.5 * log10(t.total_flux) + t.zp - t.lost_mag END AS mag,
    CASE WHEN t.total_flux > 0
        THEN sqrt(pow(1.0857362 * t.total_flux_err / t.total_flux, 2) + t.zero_variance) END AS mag_err
FROM (
    SELECT
        s.*,
        z.catalog,
        z.version,
        z.band,
        z.zp,
        z.zp_err,
        extinction_mag(z.extinction, s.altitude_deg) AS lost_mag,
        zp_variance(z.zp_err, z.zp_fit_err, z.extinction_err, z.mean_airmass)
        + extinction_variance(z.extinction_err, z.mean_airmass, s.altitude_deg)
        + CASE WHEN z.colour_term_err IS NULL OR z.mean_colour IS NULL THEN 0.0
            ELSE pow(z.colour_term, 2) * (pow(coalesce(z.colour_spread, 0), 2) + pow(z.mean_colour - z.pivot_colour, 2))
        END AS zero_variance,
        CASE z.flux
            WHEN 'aper1' THEN s.flux_aper1 * f.apcor_aper1 * coalesce(s.apcor_rel_aper1, 1)
            WHEN 'aper2' THEN s.flux_aper2 * f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)
            WHEN 'aper3' THEN s.flux_aper3 * f.apcor_aper3 * coalesce(s.apcor_rel_aper3, 1)
            WHEN 'kron' THEN s.flux_kron * f.apcor_kron * coalesce(s.apcor_rel_kron, 1)
        END AS total_flux,
        CASE z.flux
            WHEN 'aper1' THEN s.flux_aper1_err * f.apcor_aper1 * coalesce(s.apcor_rel_aper1, 1)
            WHEN 'aper2' THEN s.flux_aper2_err * f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)
            WHEN 'aper3' THEN s.flux_aper3_err * f.apcor_aper3 * coalesce(s.apcor_rel_aper3, 1)
            WHEN 'kron' THEN s.flux_kron_err * f.apcor_kron * coalesce(s.apcor_rel_kron, 1)
        END AS total_flux_err
    FROM sources AS s
    INNER JOIN frames AS f USING (frame_id)
    INNER JOIN zeropoints_in_force AS z USING (frame_id)
    WHERE z.zp IS NOT NULL
) AS t;

-- Matches with the calibrated magnitude of the detection and its residual, catalog minus calibrated.
-- The error of zp + colour_term x (colour - pivot_colour): what zp_err holds of the colour term is that at the pivot,
-- colour_term_err x (mean_colour - pivot_colour); at the star's colour it is colour_term_err x (colour - mean_colour).
CREATE VIEW calibrated_matches AS
SELECT
    m.frame_id, m.source_no, m.catalog, c.version, m.ref_id, m.camera, m.night, m.mjd_mid, m.band,
    m.ra_deg, m.dec_deg, m.source_ra_deg, m.source_dec_deg, m.x_px, m.y_px, m.separation_arcsec, m.crowding, m.ref_mag, m.ref_mag_err, m.ref_colour,
    c.mag + coalesce(z.colour_term * (m.ref_colour - z.pivot_colour), 0) AS mag,
    CASE WHEN m.ref_colour IS NULL OR c.mag IS NULL THEN c.mag_err
        ELSE sqrt(
            pow(1.0857362 * c.total_flux_err / c.total_flux, 2)
            + greatest(
                zp_variance(z.zp_err, z.zp_fit_err, z.extinction_err, z.mean_airmass)
                - coalesce(pow(z.colour_term_err * (z.mean_colour - z.pivot_colour), 2), 0),
                pow(coalesce(z.zp_fit_err, 0), 2)
            )
            + coalesce(pow(z.colour_term_err * (m.ref_colour - z.mean_colour), 2), 0)
            + extinction_variance(z.extinction_err, z.mean_airmass, c.altitude_deg)
        )
    END AS mag_err,
    m.ref_mag - (c.mag + coalesce(z.colour_term * (m.ref_colour - z.pivot_colour), 0)) AS residual,
    m.flags
FROM matches AS m
INNER JOIN calibrated_sources AS c
    ON c.frame_id = m.frame_id AND c.source_no = m.source_no AND c.catalog = m.catalog
INNER JOIN zeropoints_in_force AS z ON z.frame_id = m.frame_id AND z.catalog = m.catalog;

-- One row per measurement of a light curve.
CREATE VIEW lightcurve_points AS
SELECT
    catalog, object_id, band, version, ref_mag, ref_colour,
    unnest(lightcurve.frame_id) AS frame_id,
    unnest(lightcurve.source_no) AS source_no,
    unnest(lightcurve.camera) AS camera,
    unnest(lightcurve.mjd_mid) AS mjd_mid,
    unnest(lightcurve.bjd_tdb) AS bjd_tdb,
    unnest(lightcurve.flux) AS flux,
    unnest(lightcurve.flux_err) AS flux_err,
    unnest(lightcurve.mag) AS mag,
    unnest(lightcurve.mag_err) AS mag_err,
    unnest(lightcurve.flags) AS flags
FROM lightcurves;

-- Every forced measurement of a calibrated frame as magnitudes of a star of the pivot colour: of the hybrid flux in the
-- aperture of calibrations (the largest circle where the Kron flux was calibrated), and of the fit. The colour of a star is
-- not known here: the error counts how far the colours of the frame's stars are from the pivot. With their colours,
-- measurements are in forced_lightcurve_points. mag_limit is the magnitude of a flux of five times its error.
CREATE VIEW calibrated_forced AS
SELECT
    t.* EXCLUDE (lost_mag, zero_variance),
    CASE WHEN t.total_flux > 0 THEN -2.5 * log10(t.total_flux) + t.zp - t.lost_mag END AS mag,
    CASE WHEN t.total_flux > 0
        THEN sqrt(pow(1.0857362 * t.total_flux_err / t.total_flux, 2) + t.zero_variance) END AS mag_err,
    CASE WHEN t.total_flux_err > 0 THEN -2.5 * log10(5 * t.total_flux_err) + t.zp - t.lost_mag END AS mag_limit,
    CASE WHEN t.flux_psf > 0 THEN -2.5 * log10(t.flux_psf) + t.zp - t.lost_mag END AS mag_psf,
    CASE WHEN t.flux_psf > 0
        THEN sqrt(pow(1.0857362 * t.flux_psf_err / t.flux_psf, 2) + t.zero_variance) END AS mag_psf_err
FROM (
    SELECT
        s.*,
        z.catalog,
        z.version,
        z.band,
        z.zp,
        z.zp_err,
        extinction_mag(z.extinction, s.altitude_deg) AS lost_mag,
        zp_variance(z.zp_err, z.zp_fit_err, z.extinction_err, z.mean_airmass)
        + extinction_variance(z.extinction_err, z.mean_airmass, s.altitude_deg)
        + CASE WHEN z.colour_term_err IS NULL OR z.mean_colour IS NULL THEN 0.0
            ELSE pow(z.colour_term, 2) * (pow(coalesce(z.colour_spread, 0), 2) + pow(z.mean_colour - z.pivot_colour, 2))
        END AS zero_variance,
        CASE WHEN z.flux = 'aper1' OR (z.flux = 'kron' AND f.aper2_radius_px IS NULL)
            THEN s.flux_hybrid1 * f.apcor_aper1 * coalesce(s.apcor_rel_aper1, 1)
            WHEN z.flux = 'aper2' OR (z.flux = 'kron' AND f.aper3_radius_px IS NULL)
            THEN s.flux_hybrid2 * f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)
            ELSE s.flux_hybrid3 * f.apcor_aper3 * coalesce(s.apcor_rel_aper3, 1)
        END AS total_flux,
        CASE WHEN z.flux = 'aper1' OR (z.flux = 'kron' AND f.aper2_radius_px IS NULL)
            THEN s.flux_hybrid1_err * f.apcor_aper1 * coalesce(s.apcor_rel_aper1, 1)
            WHEN z.flux = 'aper2' OR (z.flux = 'kron' AND f.aper3_radius_px IS NULL)
            THEN s.flux_hybrid2_err * f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)
            ELSE s.flux_hybrid3_err * f.apcor_aper3 * coalesce(s.apcor_rel_aper3, 1)
        END AS total_flux_err
    FROM forced_sources AS s
    INNER JOIN frames AS f USING (frame_id)
    INNER JOIN zeropoints_in_force AS z USING (frame_id)
    WHERE z.zp IS NOT NULL
) AS t;

-- One row per measurement of a light curve of a target, detected or not. The magnitudes of the fit are those of flux_psf.
CREATE VIEW forced_lightcurve_points AS
SELECT
    p.*,
    CASE WHEN p.flux_psf > 0 THEN -2.5 * log10(p.flux_psf) + p.zp END AS mag_psf,
    CASE WHEN p.flux_psf > 0
        THEN sqrt(pow(1.0857362 * p.flux_psf_err / p.flux_psf, 2) + pow(p.zp_err, 2)) END AS mag_psf_err
FROM (
    SELECT
        camera, star_id, band, catalog, version, origin, ref_id, ref_mag, ref_colour,
        unnest(lightcurve.frame_id) AS frame_id,
        unnest(lightcurve.mjd_mid) AS mjd_mid,
        unnest(lightcurve.bjd_tdb) AS bjd_tdb,
        unnest(lightcurve.flux) AS flux,
        unnest(lightcurve.flux_err) AS flux_err,
        unnest(lightcurve.flux_psf) AS flux_psf,
        unnest(lightcurve.flux_psf_err) AS flux_psf_err,
        unnest(lightcurve.zp) AS zp,
        unnest(lightcurve.zp_err) AS zp_err,
        unnest(lightcurve.mag) AS mag,
        unnest(lightcurve.mag_err) AS mag_err,
        unnest(lightcurve.mag_limit) AS mag_limit,
        unnest(lightcurve.contamination) AS contamination,
        unnest(lightcurve.x_px) AS x_px,
        unnest(lightcurve.y_px) AS y_px,
        unnest(lightcurve.flags) AS flags
    FROM forced_lightcurves
) AS p;
