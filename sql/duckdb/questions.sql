-- Questions that analysts ask. Put one between quotes, without its comment, or into a file: `skylake sql LAKE @FILE`.

-- How many frames came of each night, and what became of them?
SELECT camera, night, status, reason, count(*) AS frames
FROM frames
GROUP BY ALL
ORDER BY ALL;

-- Which frames failed, and why?
SELECT parse_filename(file) AS file, reason, message
FROM frames
WHERE status = 'failed'
ORDER BY file;

-- Which nights were photometric, and why were others not?
SELECT camera, night, band, round(p_photometric, 2) AS p, round(transparency, 3) AS transparency, extinction, reason
FROM photometric_nights
ORDER BY camera, night, band;

-- How transparent was the sky on each frame, beside clear nights?
SELECT camera, night, band, mjd_mid, transparency, transparency_err, is_cloudy
FROM transparency
ORDER BY camera, mjd_mid;

-- How did the zeropoint run through each night, in steps of 15 minutes, below the best of the night?
SELECT camera, night, band, utc, zp - max(zp) OVER (PARTITION BY camera, night, band) AS transparency_mag, frames
FROM (
    SELECT
        camera, night, band, median(zp) AS zp, count(*) AS frames,
        time_bucket(INTERVAL 15 MINUTE, make_timestamp(CAST((mjd_mid - 40587) * 86400e6 AS BIGINT))) AS utc
    FROM calibrated_frames
    WHERE zp IS NOT NULL
    GROUP BY ALL
)
ORDER BY camera, band, utc;

-- Which frames were taken through clouds: more than 0.1 mag below the median of the night?
SELECT parse_filename(file) AS file, night, zp, zp - median(zp) OVER (PARTITION BY camera, night, band) AS difference
FROM calibrated_frames
WHERE zp IS NOT NULL
QUALIFY difference < -0.1
ORDER BY difference;

-- How bright was the sky, in magnitudes per square arcsecond, as the Moon rose?
SELECT
    night, round(moon_altitude_deg, -1) AS moon_altitude_deg,
    median(zp - 2.5 * log10(sky_adu / exposure_s / pixel_scale_arcsec ** 2)) AS sky_mag_per_arcsec2
FROM calibrated_frames
WHERE sky_adu > 0
GROUP BY ALL
ORDER BY ALL;

-- How does the width of stars depend on the altitude?
SELECT round(altitude_deg, -1) AS altitude_deg, median(fwhm_px) AS fwhm_px, count(*) AS frames
FROM frames
WHERE status = 'ok'
GROUP BY ALL
ORDER BY ALL;

-- How faint do frames go: at which magnitude is the signal five times the noise?
SELECT s.night, median(s.mag) AS mag_5_sigma, count(*) AS detections
FROM calibrated_sources AS s
WHERE s.total_flux BETWEEN 4 * s.total_flux_err AND 6 * s.total_flux_err
GROUP BY ALL
ORDER BY ALL;

-- How well does the camera reproduce catalog magnitudes, by magnitude?
SELECT floor(ref_mag) AS ref_mag, median(residual) AS median, 1.4826 * mad(residual) AS scatter, count(*) AS matches
FROM calibrated_matches
WHERE flags = 0
GROUP BY ALL
ORDER BY ALL;

-- Do stars come out fainter towards the edge of the field? In cells of 128 pixels:
SELECT 128 * floor(x_px / 128) AS left_px, 128 * floor(y_px / 128) AS bottom_px, median(residual) AS residual, count(*) AS matches
FROM calibrated_matches
WHERE flags = 0 AND ref_mag < 13
GROUP BY ALL
ORDER BY ALL;

-- Which stars vary: scatter far above that of stars of their brightness in the same band?
SELECT object_id, band, ra_deg, dec_deg, ref_mag, n_points, mag_scatter,
    mag_scatter / median(mag_scatter) OVER (PARTITION BY band, round(2 * ref_mag)) AS excess
FROM lightcurves
WHERE n_points >= 10
QUALIFY excess > 5
ORDER BY excess DESC
LIMIT 20;

-- What was detected that no catalog knows?
SELECT s.frame_id, s.source_no, s.ra_deg, s.dec_deg, s.mag, s.mag_err
FROM calibrated_sources AS s
ANTI JOIN matches AS m ON m.frame_id = s.frame_id AND m.source_no = s.source_no
WHERE s.flags = 0
ORDER BY s.mag
LIMIT 20;

-- How far off is the WCS of each night, from the stars that matched?
SELECT
    camera, night, median((source_ra_deg - moved_ra_deg) * cos(radians(dec_deg))) * 3600 AS ra_offset_arcsec,
    median(source_dec_deg - moved_dec_deg) * 3600 AS dec_offset_arcsec, median(separation_arcsec) AS separation_arcsec
FROM matches
GROUP BY ALL
ORDER BY ALL;

-- Which nights were made by which code, under which configuration, and from which files?
SELECT p.camera, p.night, p.table_name, p.rows, p.software_version, p.configuration_sha256, p.inputs->>'files' AS files
FROM parts AS p
WHERE p.table_name IN ('sources', 'zeropoints')
ORDER BY ALL;
