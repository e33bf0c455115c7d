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

-- Variance that extinction brings at an altitude: the zeropoint is known best at the mean airmass of the stars of its fit.
CREATE MACRO extinction_variance(extinction_err, mean_airmass, altitude_deg) AS
    CASE WHEN extinction_err IS NULL OR mean_airmass IS NULL THEN 0.0
        ELSE pow(extinction_err * (airmass(altitude_deg) - mean_airmass), 2) END;

-- Variance of its noise that a star with a share in a zeropoint does not show, as the zeropoint follows it: at most the random
-- variance of the zeropoint.
CREATE MACRO cancelled_variance(share, flux, flux_err, floor_variance, zp_random_err) AS
    coalesce(least(2.0 * share * (coalesce(CASE WHEN flux > 0 THEN pow(1.0857362 * flux_err / flux, 2) END, 0.0)
        + floor_variance), pow(zp_random_err, 2)), 0.0);

-- Mean square distance from the pivot of the colour of a star that nobody knows, given the spread of the colours of n stars and
-- that of their mean from the pivot: those of usual fields count as four stars more, as in skylake.calibration.calibrated_matches.
CREATE MACRO unknown_offsets(spread, mean_offset, n) AS
    (4.0 * pow(0.45, 2) + n * (pow(spread, 2) + pow(mean_offset, 2))) / (4.0 + n);

-- What the zeropoint of a frame is more at a place on it: coefficients of products of Legendre polynomials, as in
-- skylake.core.position_terms; no solution has a higher degree than 6. Without coefficients it is 0.
CREATE MACRO field_coordinate(px, size) AS
    CASE WHEN size IS NOT NULL THEN greatest(-1.0, least(1.0, 2.0 * (px + 0.5) / size - 1.0)) END;
CREATE MACRO legendre2(x) AS (3 * x * x - 1) / 2;
CREATE MACRO legendre3(x) AS (5 * x * x - 3) * x / 2;
CREATE MACRO legendre4(x) AS ((35 * x * x - 30) * x * x + 3) / 8;
CREATE MACRO legendre5(x) AS ((63 * x * x - 70) * x * x + 15) * x / 8;
CREATE MACRO legendre6(x) AS (((231 * x * x - 315) * x * x + 105) * x * x - 5) / 16;
CREATE MACRO sum_of_terms(terms, u, v) AS
        coalesce(terms[1], 0.0) * u + coalesce(terms[2], 0.0) * v
        + coalesce(terms[3], 0.0) * legendre2(u) + coalesce(terms[4], 0.0) * u * v + coalesce(terms[5], 0.0) * legendre2(v)
        + coalesce(terms[6], 0.0) * legendre3(u) + coalesce(terms[7], 0.0) * legendre2(u) * v
        + coalesce(terms[8], 0.0) * u * legendre2(v) + coalesce(terms[9], 0.0) * legendre3(v)
        + coalesce(terms[10], 0.0) * legendre4(u) + coalesce(terms[11], 0.0) * legendre3(u) * v
        + coalesce(terms[12], 0.0) * legendre2(u) * legendre2(v) + coalesce(terms[13], 0.0) * u * legendre3(v)
        + coalesce(terms[14], 0.0) * legendre4(v)
        + coalesce(terms[15], 0.0) * legendre5(u) + coalesce(terms[16], 0.0) * legendre4(u) * v
        + coalesce(terms[17], 0.0) * legendre3(u) * legendre2(v) + coalesce(terms[18], 0.0) * legendre2(u) * legendre3(v)
        + coalesce(terms[19], 0.0) * u * legendre4(v) + coalesce(terms[20], 0.0) * legendre5(v)
        + coalesce(terms[21], 0.0) * legendre6(u) + coalesce(terms[22], 0.0) * legendre5(u) * v
        + coalesce(terms[23], 0.0) * legendre4(u) * legendre2(v) + coalesce(terms[24], 0.0) * legendre3(u) * legendre3(v)
        + coalesce(terms[25], 0.0) * legendre2(u) * legendre4(v) + coalesce(terms[26], 0.0) * u * legendre5(v)
        + coalesce(terms[27], 0.0) * legendre6(v);
CREATE MACRO position_offset(terms, x_px, y_px, width_px, height_px) AS
    CASE WHEN terms IS NULL THEN 0.0
        ELSE sum_of_terms(terms, field_coordinate(x_px, width_px), field_coordinate(y_px, height_px)) END;

-- The calibration in force: of each frame and catalog the row of the largest version.
CREATE VIEW zeropoints_in_force AS
SELECT *
FROM zeropoints
QUALIFY row_number() OVER (PARTITION BY frame_id, catalog ORDER BY version DESC) = 1;

-- Transparency of each frame relative to the clear nights around, 10^(-0.4 (zp_clear - zp)), and its error; a frame is cloudy
-- if by twice its error more than 5 % are lost. Zeropoints of cameras that see the whole sky are those of the zenith. As
-- skylake.calibration.transparency has it.
CREATE VIEW transparency AS
SELECT
    frame_id, camera, night, band, mjd_mid, catalog, version, zp, zp_clear, p_photometric,
    pow(10, -0.4 * lost_mag) AS transparency,
    pow(10, -0.4 * lost_mag) * ln(10) / 2.5 * lost_mag_err AS transparency_err,
    pow(10, -0.4 * lost_mag) * (1 + 2 * ln(10) / 2.5 * lost_mag_err) < 0.95 AS is_cloudy
FROM (
    SELECT
        *, zp_clear - extinction * beyond - zp AS lost_mag,
        sqrt(pow(zp_clear_err, 2) + pow(extinction_err * beyond, 2) + pow(coalesce(zp_fit_err, zp_err), 2)) AS lost_mag_err
    FROM (
        SELECT
            z.frame_id, z.camera, z.night, z.band, z.mjd_mid, z.catalog, z.version, z.zp, z.zp_err, z.zp_fit_err,
            p.zp_clear, p.zp_clear_err, p.extinction, p.extinction_err, p.p_photometric,
            CASE WHEN z.extinction IS NULL THEN f.airmass - 1 ELSE 0.0 END AS beyond
        FROM zeropoints_in_force AS z
        JOIN frames AS f USING (frame_id)
        JOIN photometric_nights AS p
            ON p.camera = z.camera AND p.night = z.night AND p.band = z.band AND p.catalog = z.catalog AND p.version = z.version
        WHERE z.zp IS NOT NULL
    )
);

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

-- The calibration in force as it enters magnitudes: star_zp_err is the error for a star of unknown colour, fit_variance and
-- colour_term_err are what it is made of. An error of the aperture correction is no part of it: flux and zp have it alike,
-- and the magnitude is the same. star_random_err is the part that is the frame's own. Beside these, magnitudes have the
-- scatter of bright stars from frame to frame (floor_variance) and the error of position_terms (place_variance), of which
-- the frame's own part (own_place_variance) is random.
CREATE VIEW zeropoints_of_stars AS
SELECT
    t.*,
    greatest(t.beside_terms - t.fit_variance, 0.0) AS aperture_variance,
    sqrt(t.fit_variance + t.pivot_variance + t.colour_variance) AS star_zp_err,
    least(coalesce(t.zp_random_err, 0.0), sqrt(t.fit_variance + t.pivot_variance + t.colour_variance)) AS star_random_err,
    pow(coalesce(t.floor_mag, 0.0), 2) AS floor_variance,
    pow(coalesce(t.position_err, 0.0), 2) AS place_variance,
    pow(coalesce(t.position_random_err, 0.0), 2) AS own_place_variance,
    coalesce(t.photon_scale, 1.0) AS flux_err_scale
FROM (
    SELECT
        p.*,
        greatest(pow(p.zp_err, 2) - p.pivot_variance - p.zenith_variance, 0.0) AS beside_terms,
        coalesce(pow(p.zp_fit_err, 2), greatest(pow(p.zp_err, 2) - p.pivot_variance - p.zenith_variance, 0.0)) AS fit_variance
    FROM (
        SELECT
            z.*,
            -- Of apertures beyond the third the place in more_apertures.
            try_cast(replace(z.flux, 'aper', '') AS INTEGER) - 3 AS later,
            coalesce(pow(z.colour_term_err * (z.mean_colour - z.pivot_colour), 2), 0.0) AS pivot_variance,
            coalesce(pow(z.extinction_err * (z.mean_airmass - 1), 2), 0.0) AS zenith_variance,
            CASE WHEN z.colour_term_err IS NULL OR z.mean_colour IS NULL OR z.pivot_colour IS NULL THEN 0.0
                ELSE pow(coalesce(z.colour_term, 0.0), 2)
                    * unknown_offsets(coalesce(z.colour_spread, 0), z.mean_colour - z.pivot_colour, z.n_used)
            END AS colour_variance
        FROM zeropoints_in_force AS z
        WHERE z.zp IS NOT NULL
    ) AS p
) AS t;

-- Every detection of a calibrated frame as a magnitude of a star of the pivot colour. Its colour is not known here:
-- zp_err, the error of the zp beside it for this star, counts how far the colours of the frame's stars are from the pivot,
-- and where these are few those of usual fields.
-- mag_random_err is the part of mag_err that is the frame's own, mag_systematic_err that which the frames of a star share.
-- A flux that is not positive has no magnitude; its flux and error remain.
-- Of matches the light of other stars of the catalog is taken off: neighbour_flux, what they bring into the aperture less
-- what the sky took off with them. It is 0 for detections without a match, and for matches made before it was known.
CREATE VIEW calibrated_sources AS
SELECT
    u.* EXCLUDE (lost_mag, place_mag),
    CASE WHEN u.total_flux > 0 THEN -2.5 * log10(u.total_flux) + u.zp - u.lost_mag + u.place_mag END AS mag,
    CASE WHEN u.total_flux > 0
        THEN sqrt(pow(1.0857362 * u.total_flux_err / u.total_flux, 2) + pow(u.zp_err, 2)
            + pow(1.0857362 * u.neighbour_flux_err / u.total_flux, 2)) END AS mag_err,
    CASE WHEN u.total_flux > 0
        THEN sqrt(pow(1.0857362 * u.total_flux_err / u.total_flux, 2) + pow(u.zp_random_err, 2)) END AS mag_random_err,
    sqrt(greatest(pow(u.zp_err, 2) - pow(u.zp_random_err, 2), 0.0)
        + CASE WHEN u.total_flux > 0 THEN pow(1.0857362 * u.neighbour_flux_err / u.total_flux, 2) ELSE 0.0 END)
        AS mag_systematic_err
FROM (
    SELECT
        t.* EXCLUDE (measured_flux, measured_flux_err, flux_err_scale, own_flux, neighbour_share, neighbour_share_err,
            zp_err, zp_random_err, own_share, floor_variance),
        -- A star that is too bright by chance makes the zeropoint fainter by its share of that.
        sqrt(pow(t.zp_err, 2) - cancelled_variance(t.own_share, t.measured_flux, t.measured_flux_err * t.flux_err_scale,
            t.floor_variance, t.zp_random_err)) AS zp_err,
        sqrt(pow(t.zp_random_err, 2) - cancelled_variance(t.own_share, t.measured_flux,
            t.measured_flux_err * t.flux_err_scale, t.floor_variance, t.zp_random_err)) AS zp_random_err,
        t.measured_flux - coalesce(t.own_flux * t.neighbour_share, 0.0) AS total_flux,
        t.measured_flux_err * t.flux_err_scale AS total_flux_err,
        coalesce(t.own_flux * t.neighbour_share, 0.0) AS neighbour_flux,
        coalesce(t.own_flux * t.neighbour_share_err, 0.0) AS neighbour_flux_err
    FROM (
        SELECT
            s.*,
            z.catalog,
            z.version,
            z.band,
            z.zp,
            z.flux_err_scale,
            z.floor_variance,
            coalesce(list_extract(z.shares.share, list_position(z.shares.ref_id, m.ref_id)), 0.0) AS own_share,
            extinction_mag(z.extinction, s.altitude_deg) AS lost_mag,
            position_offset(z.position_terms.coefficient, s.x_px, s.y_px, f.width_px, f.height_px) AS place_mag,
            sqrt(pow(z.star_zp_err, 2) + extinction_variance(z.extinction_err, z.mean_airmass, s.altitude_deg)
                + z.floor_variance + z.place_variance) AS zp_err,
            CASE WHEN extinction_variance(z.extinction_err, z.mean_airmass, s.altitude_deg) IS NOT NULL
                THEN sqrt(pow(z.star_random_err, 2) + z.floor_variance + z.own_place_variance) END AS zp_random_err,
            pow(10, 0.4 * (z.zp + coalesce(z.colour_term * (m.ref_colour - z.pivot_colour), 0)
                - extinction_mag(z.extinction, s.altitude_deg) + place_mag - m.ref_mag)) AS own_flux,
            m.ref_crowding - coalesce(z.sky_light_scale, 1) * m.ref_sky_light AS neighbour_share,
            sqrt(pow(m.ref_crowding_err, 2) + pow(coalesce(z.sky_light_scale_err, 0) * m.ref_sky_light, 2))
                AS neighbour_share_err,
            CASE z.flux
                WHEN 'aper1' THEN s.flux_aper1 * f.apcor_aper1 * coalesce(s.apcor_rel_aper1, 1)
                WHEN 'aper2' THEN s.flux_aper2 * f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)
                WHEN 'aper3' THEN s.flux_aper3 * f.apcor_aper3 * coalesce(s.apcor_rel_aper3, 1)
                WHEN 'kron' THEN s.flux_kron * f.apcor_kron * coalesce(s.apcor_rel_kron, 1)
                ELSE s.more_apertures.flux_aper[z.later] * f.more_apertures.apcor_aper[z.later]
                    * coalesce(s.more_apertures.apcor_rel_aper[z.later], 1)
            END AS measured_flux,
            CASE z.flux
                WHEN 'aper1' THEN s.flux_aper1_err * f.apcor_aper1 * coalesce(s.apcor_rel_aper1, 1)
                WHEN 'aper2' THEN s.flux_aper2_err * f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)
                WHEN 'aper3' THEN s.flux_aper3_err * f.apcor_aper3 * coalesce(s.apcor_rel_aper3, 1)
                WHEN 'kron' THEN s.flux_kron_err * f.apcor_kron * coalesce(s.apcor_rel_kron, 1)
                ELSE s.more_apertures.flux_aper_err[z.later] * f.more_apertures.apcor_aper[z.later]
                    * coalesce(s.more_apertures.apcor_rel_aper[z.later], 1)
            END AS measured_flux_err
        FROM sources AS s
        INNER JOIN frames AS f USING (frame_id)
        INNER JOIN zeropoints_of_stars AS z USING (frame_id)
        LEFT JOIN matches AS m
            ON m.frame_id = s.frame_id AND m.source_no = s.source_no AND m.catalog = z.catalog
    ) AS t
) AS u;

-- Matches with the calibrated magnitude of the detection and its residual, catalog minus calibrated.
-- The error of zp + colour_term x (colour - pivot_colour) holds colour_term_err x (colour - mean_colour), as the fit knows
-- the magnitude best of a star of the mean colour of its stars; that of the colour itself comes on top.
CREATE VIEW calibrated_matches AS
SELECT
    t.*,
    sqrt(greatest(pow(t.mag_err, 2) - pow(t.mag_random_err, 2), 0.0)) AS mag_systematic_err
FROM (
    SELECT
        m.frame_id, m.source_no, m.catalog, c.version, m.ref_id, m.camera, m.night, m.mjd_mid, m.band,
        m.ra_deg, m.dec_deg, m.source_ra_deg, m.source_dec_deg, m.x_px, m.y_px, m.separation_arcsec, m.crowding, m.ref_mag, m.ref_mag_err, m.ref_colour,
        c.mag + coalesce(z.colour_term * (m.ref_colour - z.pivot_colour), 0) AS mag,
        CASE WHEN m.ref_colour IS NULL OR c.mag IS NULL THEN c.mag_err
            ELSE sqrt(
                pow(1.0857362 * c.total_flux_err / c.total_flux, 2)
                + z.fit_variance + z.place_variance
                -- With the scatter of bright stars, and without what cancels of a star's own noise.
                + greatest(coalesce(pow(c.zp_random_err, 2) - pow(z.star_random_err, 2) - z.own_place_variance, z.floor_variance),
                    -z.fit_variance)
                + extinction_variance(z.extinction_err, z.mean_airmass, c.altitude_deg)
                + coalesce(pow(z.colour_term_err * (m.ref_colour - z.mean_colour), 2), 0)
                + coalesce(pow(z.colour_term * m.ref_colour_err, 2), 0)
                + coalesce(pow(1.0857362 * c.neighbour_flux_err / c.total_flux, 2), 0)
            )
        END AS mag_err,
        c.mag_random_err,
        m.ref_mag - (c.mag + coalesce(z.colour_term * (m.ref_colour - z.pivot_colour), 0)) AS residual,
        m.flags
    FROM matches AS m
    INNER JOIN calibrated_sources AS c
        ON c.frame_id = m.frame_id AND c.source_no = m.source_no AND c.catalog = m.catalog
    INNER JOIN zeropoints_of_stars AS z ON z.frame_id = m.frame_id AND z.catalog = m.catalog
) AS t;

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
    unnest(lightcurve_errors.mag_random_err) AS mag_random_err,
    unnest(lightcurve_errors.mag_systematic_err) AS mag_systematic_err,
    unnest(lightcurve.flags) AS flags
FROM blocks.lightcurves;

-- The number of the aperture of targets that goes with the zeropoint of a frame: the largest where the Kron flux was calibrated.
CREATE VIEW circles_of_targets AS
SELECT
    z.frame_id,
    z.catalog,
    CASE WHEN z.flux <> 'kron' THEN z.later + 3
        ELSE coalesce(3 + nullif(len(f.more_apertures.aper_radius_px), 0),
            CASE WHEN f.aper3_radius_px IS NOT NULL THEN 3 WHEN f.aper2_radius_px IS NOT NULL THEN 2 ELSE 1 END)
    END AS circle
FROM zeropoints_of_stars AS z
INNER JOIN frames AS f USING (frame_id);

-- Every forced measurement of a calibrated frame as magnitudes of a star of the pivot colour: of the hybrid flux in the
-- aperture of calibrations (the largest circle where the Kron flux was calibrated), and of the fit. The colour of a star is
-- not known here: zp_err counts how far the colours of the frame's stars are from the pivot. With their colours,
-- measurements are in forced_lightcurve_points. mag_limit is the magnitude of a flux of five times its error.
CREATE VIEW calibrated_forced AS
SELECT
    t.* EXCLUDE (lost_mag, flux_err_scale),
    CASE WHEN t.total_flux > 0 THEN -2.5 * log10(t.total_flux) + t.zp - t.lost_mag END AS mag,
    CASE WHEN t.total_flux > 0
        THEN sqrt(pow(1.0857362 * t.total_flux_err / t.total_flux, 2) + pow(t.zp_err, 2)) END AS mag_err,
    CASE WHEN t.total_flux > 0
        THEN sqrt(pow(1.0857362 * t.total_flux_err / t.total_flux, 2) + pow(t.zp_random_err, 2)) END AS mag_random_err,
    sqrt(greatest(pow(t.zp_err, 2) - pow(t.zp_random_err, 2), 0.0)) AS mag_systematic_err,
    CASE WHEN t.total_flux_err > 0 THEN -2.5 * log10(5 * t.total_flux_err) + t.zp - t.lost_mag END AS mag_limit,
    CASE WHEN t.flux_psf > 0 THEN -2.5 * log10(t.flux_psf) + t.zp - t.lost_mag END AS mag_psf,
    CASE WHEN t.flux_psf > 0
        THEN sqrt(pow(1.0857362 * t.flux_err_scale * t.flux_psf_err / t.flux_psf, 2) + pow(t.zp_err, 2)) END AS mag_psf_err,
    CASE WHEN t.flux_psf > 0
        THEN sqrt(pow(1.0857362 * t.flux_err_scale * t.flux_psf_err / t.flux_psf, 2) + pow(t.zp_random_err, 2)) END AS mag_psf_random_err
FROM (
    SELECT
        s.*,
        z.catalog,
        z.version,
        z.band,
        z.zp,
        z.flux_err_scale,
        extinction_mag(z.extinction, s.altitude_deg)
            - position_offset(z.position_terms.coefficient, s.x_px, s.y_px, f.width_px, f.height_px) AS lost_mag,
        -- In another aperture than the calibrated one errors of aperture corrections do not cancel.
        sqrt(pow(z.star_zp_err, 2) + extinction_variance(z.extinction_err, z.mean_airmass, s.altitude_deg)
            + CASE z.flux WHEN 'kron' THEN z.aperture_variance ELSE 0.0 END + z.floor_variance + z.place_variance) AS zp_err,
        CASE WHEN extinction_variance(z.extinction_err, z.mean_airmass, s.altitude_deg) IS NOT NULL
            THEN sqrt(pow(z.star_random_err, 2) + CASE z.flux WHEN 'kron' THEN z.aperture_variance ELSE 0.0 END
                + z.floor_variance + z.own_place_variance) END AS zp_random_err,
        CASE c.circle
            WHEN 1 THEN s.flux_hybrid1 * f.apcor_aper1 * coalesce(s.apcor_rel_aper1, 1)
            WHEN 2 THEN s.flux_hybrid2 * f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)
            WHEN 3 THEN s.flux_hybrid3 * f.apcor_aper3 * coalesce(s.apcor_rel_aper3, 1)
            ELSE s.more_apertures.flux_hybrid[c.circle - 3] * f.more_apertures.apcor_aper[c.circle - 3]
                * coalesce(s.more_apertures.apcor_rel_aper[c.circle - 3], 1)
        END AS total_flux,
        z.flux_err_scale * CASE c.circle
            WHEN 1 THEN s.flux_hybrid1_err * f.apcor_aper1 * coalesce(s.apcor_rel_aper1, 1)
            WHEN 2 THEN s.flux_hybrid2_err * f.apcor_aper2 * coalesce(s.apcor_rel_aper2, 1)
            WHEN 3 THEN s.flux_hybrid3_err * f.apcor_aper3 * coalesce(s.apcor_rel_aper3, 1)
            ELSE s.more_apertures.flux_hybrid_err[c.circle - 3] * f.more_apertures.apcor_aper[c.circle - 3]
                * coalesce(s.more_apertures.apcor_rel_aper[c.circle - 3], 1)
        END AS total_flux_err
    FROM forced_sources AS s
    INNER JOIN frames AS f USING (frame_id)
    INNER JOIN zeropoints_of_stars AS z USING (frame_id)
    INNER JOIN circles_of_targets AS c USING (frame_id, catalog)
) AS t;

-- One row per measurement of a light curve of a target, detected or not. The magnitudes of the fit are those of flux_psf.
CREATE VIEW forced_lightcurve_points AS
SELECT
    p.*,
    CASE WHEN p.flux_psf > 0 THEN -2.5 * log10(p.flux_psf) + p.zp END AS mag_psf,
    CASE WHEN p.flux_psf > 0
        THEN sqrt(pow(1.0857362 * p.flux_psf_err / p.flux_psf, 2) + pow(p.zp_err, 2)) END AS mag_psf_err,
    CASE WHEN p.flux_psf > 0
        THEN sqrt(pow(1.0857362 * p.flux_psf_err / p.flux_psf, 2) + pow(p.zp_random_err, 2)) END AS mag_psf_random_err
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
        unnest(lightcurve_errors.mag_random_err) AS mag_random_err,
        unnest(lightcurve_errors.mag_systematic_err) AS mag_systematic_err,
        unnest(lightcurve_errors.zp_random_err) AS zp_random_err,
        unnest(lightcurve.mag_limit) AS mag_limit,
        unnest(lightcurve.contamination) AS contamination,
        unnest(lightcurve.x_px) AS x_px,
        unnest(lightcurve.y_px) AS y_px,
        unnest(lightcurve.flags) AS flags
    FROM blocks.forced_lightcurves
) AS p;

-- Light curves of frames that no catalog places: their stars are the detections on the base of their field (star_no, its
-- source_no there), and magnitudes are relative to the ensemble of these stars, by filter. The zeropoint of a frame is the
-- median over clean stars of S/N above 20 of their distance from their own medians; null for less than five. Errors have
-- a floor, by filter: what the points of the brightest quarter of these stars scatter beyond photons and zeropoints.
CREATE VIEW relative_lightcurve_points AS
WITH kept AS (
    SELECT
        s.frame_id, s.source_no, s.camera, s.night, s.mjd_mid, s.filter, s.ra_deg, s.dec_deg,
        coalesce(f.registered_to, f.frame_id) AS base_frame_id,
        f.pixel_scale_arcsec / 3600 AS scale,
        s.flux_aper2 * coalesce(s.apcor_rel_aper2, 1) AS flux,
        s.flux_aper2_err * coalesce(s.apcor_rel_aper2, 1) AS flux_err,
        CASE WHEN s.flux_aper2 > 0 THEN -2.5 * log10(s.flux_aper2 * coalesce(s.apcor_rel_aper2, 1)) END AS mag_inst,
        CASE WHEN s.flux_aper2 > 0 THEN 1.0857362 * s.flux_aper2_err / s.flux_aper2 END AS photon_err,
        len(source_flags(s.flags)) = CASE WHEN list_contains(source_flags(s.flags), 'FRAME_REJECTED') THEN 1 ELSE 0 END AS is_clean,
        s.x_px, s.y_px, s.flags
    FROM sources AS s
    INNER JOIN frames AS f USING (frame_id)
    WHERE f.wcs_source IN ('cards', 'registered')
),
stars AS (
    SELECT
        frame_id AS base_frame_id, source_no AS star_no, ra_deg AS star_ra_deg, dec_deg AS star_dec_deg, scale AS star_scale,
        unnest([-1, 0, 1]) + floor(dec_deg / (2 * scale)) AS band_of_sky
    FROM kept
    WHERE frame_id = base_frame_id
),
pairs AS (
    SELECT
        k.*, b.* EXCLUDE (base_frame_id, band_of_sky),
        2 * degrees(asin(sqrt(pow(sin(radians(k.dec_deg - b.star_dec_deg) / 2), 2)
            + cos(radians(k.dec_deg)) * cos(radians(b.star_dec_deg))
            * pow(sin(radians(k.ra_deg - b.star_ra_deg) / 2), 2)))) AS separation
    FROM kept AS k
    INNER JOIN stars AS b
        ON b.base_frame_id = k.base_frame_id AND b.band_of_sky = floor(k.dec_deg / (2 * b.star_scale))
    WHERE separation <= 2 * b.star_scale
    QUALIFY row_number() OVER (PARTITION BY k.frame_id, k.source_no ORDER BY separation) = 1
        AND row_number() OVER (PARTITION BY k.frame_id, b.star_no ORDER BY separation) = 1
),
good AS (
    SELECT *, is_clean AND photon_err < 0.05 AND mag_inst IS NOT NULL AS is_ensemble FROM pairs
),
first_zeros AS (
    SELECT g.frame_id, median(b.mag_inst - g.mag_inst) AS zp
    FROM good AS g
    INNER JOIN good AS b ON b.frame_id = g.base_frame_id AND b.star_no = g.star_no AND b.is_ensemble
    WHERE g.is_ensemble
    GROUP BY g.frame_id
),
levels AS (
    SELECT base_frame_id, star_no, filter, median(mag_inst + zp) AS level
    FROM good
    INNER JOIN first_zeros USING (frame_id)
    WHERE is_ensemble
    GROUP BY ALL
),
zeros AS (
    SELECT
        frame_id, count(*) AS n_ensemble,
        median(level - mag_inst) AS zp,
        1.2533 * 1.4826 * mad(level - mag_inst) / sqrt(count(*)) AS zp_err
    FROM good
    INNER JOIN levels AS l
        ON l.base_frame_id = good.base_frame_id AND l.star_no = good.star_no AND l.filter IS NOT DISTINCT FROM good.filter
    WHERE is_ensemble
    GROUP BY frame_id
    HAVING count(*) >= 5
),
residuals AS (
    SELECT
        base_frame_id, filter, photon_err, zp_err, count(*) OVER of_star AS n,
        mag_inst + zp - median(mag_inst + zp) OVER of_star AS residual
    FROM good
    INNER JOIN zeros USING (frame_id)
    WHERE is_ensemble
    WINDOW of_star AS (PARTITION BY base_frame_id, star_no, filter)
),
bright_residuals AS (
    SELECT * FROM residuals
    WHERE n >= 5
    QUALIFY photon_err <= quantile_cont(photon_err, 0.25) OVER (PARTITION BY base_frame_id, filter)
),
floors AS (
    -- The median of squares of normal values is 0.4549 of their variance, and one of n degrees of freedom goes to the median.
    SELECT
        base_frame_id, filter,
        greatest(median(pow(residual, 2) * n / (n - 1)) / 0.4549 - median(pow(photon_err, 2) + pow(zp_err, 2)), 0) AS variance
    FROM bright_residuals
    GROUP BY ALL
)
SELECT
    g.camera, g.base_frame_id, g.star_no, g.star_ra_deg AS ra_deg, g.star_dec_deg AS dec_deg, g.filter, g.frame_id,
    g.source_no, g.night, g.mjd_mid, z.n_ensemble,
    g.mag_inst + z.zp AS mag,
    sqrt(pow(g.photon_err, 2) + pow(z.zp_err, 2) + coalesce(f.variance, 0)) AS mag_err,
    g.flags, g.flux, g.flux_err, g.x_px, g.y_px, z.zp_err
FROM good AS g
LEFT JOIN zeros AS z USING (frame_id)
LEFT JOIN floors AS f ON f.base_frame_id = g.base_frame_id AND f.filter IS NOT DISTINCT FROM g.filter;

-- Objects as they are now: without those that were seen on too few frames so far, and without those that turned out to be
-- another one.
CREATE VIEW objects_in_force AS
SELECT * EXCLUDE (status, joined_to) FROM objects WHERE status = 'qualified';

-- Fluxes and magnitudes of objects in each band, one row per camera, object and band.
CREATE VIEW object_bands AS
SELECT
    camera, object_id, ra_deg, dec_deg, band, version, n_flux, flux_adu_per_s, flux_scatter, n_good, n_good_nights, mag_mean,
    mag_random_err, mag_systematic_err, mag_chi2, mag_chi2_nights, mag_scatter
FROM objects_in_force
UNION ALL
SELECT
    camera, object_id, ra_deg, dec_deg, nullif(unnest(more_bands.band), '') AS band, unnest(more_bands.version),
    unnest(more_bands.n_flux), unnest(more_bands.flux_adu_per_s), unnest(more_bands.flux_scatter), unnest(more_bands.n_good),
    unnest(more_bands.n_good_nights), unnest(more_bands.mag_mean), unnest(more_bands.mag_random_err),
    unnest(more_bands.mag_systematic_err), unnest(more_bands.mag_chi2), unnest(more_bands.mag_chi2_nights),
    unnest(more_bands.mag_scatter)
FROM objects_in_force;

-- Statistics of the good measurements of each star, camera and band, from the sums of its nights. chi2 is reduced, about the
-- weighted mean, with random errors; chi2_nights is that of the means of nights. mag_mean_random_err is larger by its root where
-- nights differ by more than these errors. eta is von Neumann's, of successive measurements of a night: 2 for noise, less for a
-- smooth curve. stetson_i is the mean product of successive residuals over their errors (Welch & Stetson 1993, AJ 105, 1813): 0
-- for noise. excess_scatter is what random errors do not explain. Objects that no catalog has are of the catalog sources: their
-- statistics come from objects, without those of successive measurements, and mag_stddev is weighted by random errors.
CREATE VIEW star_variability AS
SELECT
    camera, catalog, object_id, band, version, ra_deg, dec_deg, ref_mag, n_points, n_good, n_outliers, n_nights, n_pairs,
    mjd_first, mjd_last, mag_brightest, mag_faintest,
    sum_weight_mag / sum_weight AS mag_mean,
    sqrt(greatest(coalesce(nights_square / (n_nights - 1), 1), 1) / sum_weight) AS mag_mean_random_err,
    sqrt(variance) AS mag_stddev,
    CASE WHEN n_good > 2 AND variance > 0
        THEN sqrt(n_good * (n_good - 1.0)) / (n_good - 2.0)
            * (sum_mag3 / n_good - 3 * mean * sum_mag2 / n_good + 2 * pow(mean, 3))
            / pow(variance * (n_good - 1.0) / n_good, 1.5) END AS skewness,
    CASE WHEN n_good > 1 THEN chi_square / (n_good - 1) END AS chi2,
    nights_square / (n_nights - 1) AS chi2_nights,
    CASE WHEN n_pairs > 0 AND variance > 0 THEN sum_step2 / n_pairs / variance END AS eta,
    CASE WHEN n_pairs > 0 THEN (sum_pair_mag2 - mean_weighted * sum_pair_mag + pow(mean_weighted, 2) * sum_pair) / n_pairs
        END AS stetson_i,
    CASE WHEN n_good > 1
        THEN sqrt(greatest(chi_square - (n_good - 1), 0) / (sum_weight - sum_weight2 / sum_weight)) END AS excess_scatter,
    sqrt(n_good / sum_weight) AS mag_random_err
FROM (
    SELECT
        *,
        sum_mag / n_good AS mean,
        sum_weight_mag / sum_weight AS mean_weighted,
        CASE WHEN n_good > 1 THEN greatest(sum_mag2 - pow(sum_mag, 2) / n_good, 0) / (n_good - 1) END AS variance,
        greatest(sum_weight_mag2 - pow(sum_weight_mag, 2) / sum_weight, 0) AS chi_square,
        CASE WHEN n_nights > 1
            THEN greatest(sum_night_mag2 - pow(sum_weight_mag, 2) / sum_weight, 0) END AS nights_square
    FROM star_statistics
    WHERE n_good > 0
)
UNION ALL BY NAME
SELECT
    b.camera, 'sources' AS catalog, b.object_id, b.band, b.version, b.ra_deg, b.dec_deg, b.n_flux AS n_points, b.n_good,
    b.n_good_nights AS n_nights, b.mag_mean, b.mag_random_err AS mag_mean_random_err, b.mag_scatter AS mag_stddev,
    b.mag_chi2 / nullif(b.n_good - 1, 0) AS chi2,
    b.mag_chi2_nights / nullif(b.n_good_nights - 1, 0) AS chi2_nights,
    -- The error of the mean is larger where nights differ.
    b.mag_random_err * sqrt(b.n_good / greatest(coalesce(b.mag_chi2_nights / nullif(b.n_good_nights - 1, 0), 1), 1))
        AS mag_random_err,
    o.mjd_first, o.mjd_last
FROM object_bands AS b
INNER JOIN objects AS o ON o.camera = b.camera AND o.object_id = b.object_id
WHERE b.n_good > 0 AND b.band IS NOT NULL AND o.ref_id IS NULL;

-- Stars that scatter more than others of their magnitude, camera and band by more than chance: of ten cameras and bands at most
-- one is expected to have a false star. expected_scatter is that of a constant star of this magnitude, noise_excess what has to be added to it
-- in quadrature, false_alarm the chance that a constant star scatters so much, and n_judged the number of stars of the camera
-- and band that were judged. Stars with less than five good measurements are not, nor are objects without a catalog star that
-- something speaks against, as object_vetoes has it, or that are on less than half of the frames of their nights.
CREATE VIEW variable_stars AS
SELECT v.*, j.expected_scatter, j.noise_excess, j.significance, j.false_alarm, j.n_judged
FROM (
    SELECT
        camera, band, unnest(catalogs) AS catalog, unnest(object_ids) AS object_id, len(object_ids) AS n_judged,
        unnest(judge_scatter(magnitudes, scatters, counts, errors), recursive := true)
    FROM (
        SELECT
            s.camera, s.band,
            list(s.catalog ORDER BY s.catalog, s.object_id) AS catalogs,
            list(s.object_id ORDER BY s.catalog, s.object_id) AS object_ids,
            list(s.mag_mean ORDER BY s.catalog, s.object_id) AS magnitudes,
            list(sqrt(s.chi2) * s.mag_random_err ORDER BY s.catalog, s.object_id) AS scatters,
            list(CAST(s.n_good AS BIGINT) ORDER BY s.catalog, s.object_id) AS counts,
            list(s.mag_random_err ORDER BY s.catalog, s.object_id) AS errors
        FROM star_variability AS s
        LEFT JOIN object_vetoes AS u ON s.catalog = 'sources' AND u.camera = s.camera AND u.object_id = s.object_id
        WHERE s.n_good >= 5
            AND (s.catalog <> 'sources' OR u.reason IS NULL AND 2 * u.n_frames >= u.n_frames_possible)
        GROUP BY s.camera, s.band
    )
) AS j
JOIN star_variability AS v USING (camera, band, catalog, object_id)
WHERE j.false_alarm * j.n_judged < 0.1;

-- Objects that no catalog star explains, first seen in the last ten nights of their camera although frames had covered the
-- place and all around it in at least three nights before, and so often that it would have been on six frames. nights_ago
-- counts the camera's nights since; SET VARIABLE new_nights = 30 shows more. reason says what speaks against a new source, as
-- object_vetoes has it; null where nothing does.
CREATE VIEW new_objects AS
WITH nights AS (
    SELECT camera, night, row_number() OVER (PARTITION BY camera ORDER BY night DESC) - 1 AS nights_ago
    FROM (SELECT DISTINCT camera, night FROM frames)
)
SELECT
    o.* EXCLUDE (status, catalog, ref_id, ref_ra_deg, ref_dec_deg, pm_ra_mas_yr, pm_dec_mas_yr, joined_to, n_matched),
    n.nights_ago, v.width_arcsec, v.rate_arcsec_d, v.has_saturated_neighbour, v.reason
FROM objects AS o
INNER JOIN nights AS n ON n.camera = o.camera AND n.night = o.night_first
INNER JOIN object_vetoes AS v ON v.camera = o.camera AND v.object_id = o.object_id
WHERE o.n_nights_before >= 3
    AND o.n_frames_before * o.n_frames >= 6 * o.n_frames_possible
    AND n.nights_ago < coalesce(getvariable('new_nights'), 10);

-- What may be worth a look: kind is variable for stars that scatter more than others, as variable_stars has them, and new for
-- objects that were not there before and that nothing speaks against.
CREATE VIEW candidates AS
SELECT 'variable' AS kind, * FROM variable_stars
UNION ALL BY NAME
SELECT
    'new' AS kind, camera, band, 'sources' AS catalog, object_id, ra_deg, dec_deg, n_detections AS n_points, n_good, n_nights,
    mjd_first, mjd_last, mag_mean, mag_random_err AS mag_mean_random_err, mag_scatter AS mag_stddev, version, night_first,
    nights_ago, n_frames, n_frames_possible, n_nights_before, n_frames_before, n_nights_covered, flux_adu_per_s, snr
FROM new_objects
WHERE reason IS NULL;

-- Targets that new frames are measured at: the newest list of each camera, with the lists that it extends. version is that of
-- the list that added each.
CREATE VIEW targets_in_force AS
SELECT t.*
FROM targets AS t
INNER JOIN (SELECT camera, max(coalesce(base_version, version)) AS base FROM targets GROUP BY camera) AS l
    ON l.camera = t.camera AND t.version >= l.base;
