-- What speaks against an object that no catalog star explains being a new star, null where nothing does: most detections
-- are at the edge of the image, on a trail, or blended; it began within a width of stars of another object, or lies within
-- ten widths of a saturated one; it is narrower than any star; it moves by more than a quarter of a width, and five times
-- the error; or it is on less than a third of the frames of its nights, as noise and stars at the limit are. Objects that
-- nothing speaks against become targets (skylake/flow/forced/extend_targets.py).
CREATE VIEW object_vetoes AS
WITH widths AS (
    SELECT camera, median(fwhm_px * pixel_scale_arcsec) AS width_arcsec FROM frames WHERE status = 'ok' GROUP BY camera
),
unexplained AS (
    SELECT
        o.camera, o.object_id, o.ra_deg, o.dec_deg, o.n_detections, o.n_edge, o.n_streak, o.n_blended, o.split_from,
        o.width_ratio, o.n_frames, o.n_frames_possible, o.rate_err_arcsec_d, w.width_arcsec,
        sqrt(pow(o.rate_ra_arcsec_d, 2) + pow(o.rate_dec_arcsec_d, 2)) AS rate_arcsec_d,
        least(o.mjd_last - o.mjd_first, 0.5) AS moved_d
    FROM objects AS o
    LEFT JOIN widths AS w ON w.camera = o.camera
    WHERE o.status = 'qualified' AND o.ref_id IS NULL
),
-- Saturated objects, each in the strip of declination, ten widths high, in which it lies and in those beside it.
saturated AS (
    SELECT
        o.camera, o.object_id, o.ra_deg, o.dec_deg,
        floor(o.dec_deg / (w.width_arcsec / 360)) + unnest([-1, 0, 1]) AS strip
    FROM objects AS o
    INNER JOIN widths AS w ON w.camera = o.camera
    WHERE 2 * o.n_saturated > o.n_detections AND w.width_arcsec > 0
),
bright AS (
    SELECT u.camera, u.object_id
    FROM unexplained AS u
    INNER JOIN saturated AS s ON s.camera = u.camera AND s.strip = floor(u.dec_deg / (u.width_arcsec / 360))
        AND s.object_id <> u.object_id
    WHERE 2 * degrees(asin(sqrt(pow(sin(radians(s.dec_deg - u.dec_deg) / 2), 2)
        + cos(radians(s.dec_deg)) * cos(radians(u.dec_deg)) * pow(sin(radians(s.ra_deg - u.ra_deg) / 2), 2))))
        < 10 * u.width_arcsec / 3600
    GROUP BY ALL
)
SELECT
    u.camera, u.object_id, u.n_frames, u.n_frames_possible, u.width_arcsec, u.rate_arcsec_d,
    b.object_id IS NOT NULL AS has_saturated_neighbour,
    nullif(concat_ws(', ',
        CASE WHEN 2 * u.n_edge >= u.n_detections THEN 'edge' END,
        CASE WHEN 2 * u.n_streak >= u.n_detections THEN 'streak' END,
        CASE WHEN b.object_id IS NOT NULL THEN 'saturated neighbour' END,
        CASE WHEN 2 * u.n_blended >= u.n_detections OR u.split_from IS NOT NULL THEN 'blend' END,
        CASE WHEN u.width_ratio < 0.6 THEN 'narrow' END,
        CASE WHEN u.rate_arcsec_d > 5 * u.rate_err_arcsec_d
            AND u.rate_arcsec_d * u.moved_d > 0.25 * u.width_arcsec THEN 'moves' END,
        CASE WHEN 3 * u.n_frames < u.n_frames_possible THEN 'seldom' END
    ), '') AS reason
FROM unexplained AS u
LEFT JOIN bright AS b ON b.camera = u.camera AND b.object_id = u.object_id;
